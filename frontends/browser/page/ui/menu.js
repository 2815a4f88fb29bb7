// A menu at a place of the screen. Items: {label, icon, keys, run, danger, checked}, or null for a line.

import { h, roving } from "./dom.js";
import { icon } from "./icons.js";

let close = () => {};

export function openMenu(items, x, y) {
  close();
  const before = document.activeElement;
  const entries = items.map((item) => (item ? entryOf(item) : h("hr", { role: "separator" })));
  const element = h("div.menu", { role: "menu", popover: "manual" }, entries);
  const buttons = entries.filter((entry) => entry.matches("button"));
  const outside = (event) => {
    if (!element.contains(event.target)) close();
  };
  close = () => {
    close = () => {};
    element.remove();
    removeEventListener("pointerdown", outside, true);
    removeEventListener("blur", close);
    if (document.activeElement === document.body) before?.focus({ preventScroll: true });
  };
  element.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape" || event.key === "Tab") {
      event.preventDefault();
      close();
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

function entryOf({ label, icon: drawn, keys, run, danger, checked }) {
  const role = checked === undefined ? "menuitem" : "menuitemradio";
  const take = () => {
    close();
    run();
  };
  const shown = checked ? "check" : drawn;
  return h(
    "button",
    { type: "button", role, tabindex: "-1", "aria-checked": checked === undefined ? null : String(checked), class: danger ? "danger" : "", onclick: take },
    shown ? icon(shown) : h("span.icon"),
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
