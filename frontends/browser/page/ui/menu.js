// A menu at a place of the screen. Items: {label, icon, keys, run, danger}, LINE, or anything false, which is left out.

import { h, roving } from "./dom.js";
import { icon } from "./icons.js";

export const LINE = Symbol("line");

let close = () => {};

// `dismissed` is called where it is closed and nothing is taken.
export function openMenu(items, x, y, dismissed = () => {}) {
  close();
  const before = document.activeElement;
  const entries = items.filter(Boolean).map((item) => (item === LINE ? h("hr", { role: "separator" }) : entryOf(item)));
  const element = h("div.menu", { role: "menu", popover: "manual" }, entries);
  const buttons = entries.filter((entry) => entry.matches("button"));
  const outside = (event) => {
    if (!element.contains(event.target)) dismiss();
  };
  close = () => {
    close = () => {};
    element.remove();
    removeEventListener("pointerdown", outside, true);
    removeEventListener("blur", close);
    if (document.activeElement === document.body) before?.focus({ preventScroll: true });
  };
  const dismiss = () => {
    close();
    dismissed();
  };
  element.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape" || event.key === "Tab") {
      event.preventDefault();
      dismiss();
    } else if (event.key.length === 1 && event.key !== " ") {
      const named = buttons.filter((button) => button.textContent.toLowerCase().startsWith(event.key.toLowerCase()));
      (named[named.indexOf(document.activeElement) + 1] ?? named[0])?.focus();
    } else {
      roving(event, buttons, "ArrowDown", "ArrowUp");
    }
  });
  document.body.append(element);
  element.showPopover();
  const { width, height } = element.getBoundingClientRect();
  element.style.left = `${Math.max(8, Math.min(x, innerWidth - width - 8))}px`;
  element.style.top = `${Math.max(8, Math.min(y, innerHeight - height - 8))}px`;
  addEventListener("pointerdown", outside, true);
  addEventListener("blur", close);
  buttons[0]?.focus({ preventScroll: true });
}

function entryOf({ label, icon: drawn, keys, run, danger }) {
  const take = () => {
    close();
    run();
  };
  return h(
    "button",
    { type: "button", role: "menuitem", tabindex: "-1", class: danger ? "danger" : null, onclick: take },
    icon(drawn),
    h("span.label", {}, label),
    keys && h("kbd", {}, keys),
  );
}

// A button that opens a menu under itself; `items` gives them.
export function menuButton(attributes, children, items) {
  const button = h("button", { type: "button", "aria-haspopup": "menu", ...attributes }, children);
  button.addEventListener("click", () => {
    const { left, bottom } = button.getBoundingClientRect();
    button.focus();
    openMenu(items(), left, bottom + 4);
  });
  return button;
}
