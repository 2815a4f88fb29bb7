// Finding by name: finds come while one types, below the folder that is shown.

import { openWindow } from "./dialog.js";
import { h, settled } from "./dom.js";
import { count, iconOf } from "./format.js";
import { icon } from "./icons.js";
import { parentOf } from "./paths.js";

const SHOWN = 300;
const PAUSE = 200; // ms after a key

// `choose(path, entry)`
export function openSearch(client, { path, layer }, choose) {
  let stop = new AbortController();
  let at = -1;
  const finds = h("div.finds", { role: "listbox", id: "finds", "aria-label": "Found" });
  const state = h("p.dim", { role: "status" }, "Parts of a name, or a pattern with * and ?");
  const input = h("input", {
    type: "text",
    role: "combobox",
    "aria-controls": "finds",
    "aria-expanded": "true",
    "aria-label": "Search by name",
    spellcheck: "false",
    autocomplete: "off",
    placeholder: path === "/" ? "Search all names" : `Search names in ${path}`,
  });

  function mark(to) {
    const options = finds.children;
    options[at]?.setAttribute("aria-selected", "false");
    at = options.length ? (to + options.length) % options.length : -1;
    options[at]?.setAttribute("aria-selected", "true");
    options[at]?.scrollIntoView({ block: "nearest" });
    if (at >= 0) input.setAttribute("aria-activedescendant", options[at].id);
  }

  function add(entry) {
    const option = h(
      "button",
      { type: "button", role: "option", id: `find-${finds.children.length}`, tabindex: "-1", "aria-selected": "false" },
      icon(iconOf(entry)),
      h("span.name", {}, entry.name),
      h("span.dim", {}, parentOf(entry.path)),
    );
    option.addEventListener("click", () => {
      window.close();
      choose(entry.path, entry);
    });
    finds.append(option);
  }

  function clear() {
    finds.replaceChildren();
    at = -1;
  }

  const begin = settled(PAUSE, async () => {
    stop.abort();
    const { signal } = (stop = new AbortController());
    const words = input.value.trim();
    clear();
    if (!words) return;
    state.textContent = "Searching…";
    const tell = ({ event, entries }) => {
      if (signal.aborted) return;
      if (event === "again") clear();
      if (event !== "found") return;
      for (const entry of entries) add(entry);
      if (at < 0) mark(0);
    };
    try {
      const { complete } = await client.told("search", { path, words, layer, limit: SHOWN }, { signal, tell });
      state.textContent = complete ? `${count(finds.children.length, "name")} found` : `The first ${SHOWN}; there are more`;
    } catch (error) {
      if (error.code !== "cancelled") state.textContent = error.message;
    }
  });

  input.addEventListener("input", begin);
  input.addEventListener("keydown", (event) => {
    const to = { ArrowDown: at + 1, ArrowUp: at - 1 }[event.key];
    if (to === undefined && event.key !== "Enter") return;
    event.preventDefault();
    if (to !== undefined) mark(to);
    else finds.children[at]?.click();
  });
  const window = openWindow({ title: "Search", kind: "search", content: [input, state, finds], close: () => stop.abort() });
  input.focus();
}
