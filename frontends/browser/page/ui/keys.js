// Keys that work wherever the focus is, unless text is typed there.

import { takesText } from "./dom.js";
import { openHelp } from "./help.js";

export function bindKeys(explorer) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open], .menu")) return;
    const name =
      (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + (event.altKey ? "Alt+" : "") + (event.key.length === 1 ? event.key.toLowerCase() : event.key);
    const run = takesText(event.target)
      ? TYPING[name]
      : explorer.stage.isOpen
        ? OPEN[name]
        : (ANYWHERE[name] ?? (inTree(event) ? undefined : LISTED[name]));
    if (run && run(explorer) !== false) event.preventDefault();
    else if (!run && !takesText(event.target) && !explorer.stage.isOpen && inList(event) && explorer.list.key(event)) event.preventDefault();
  });
}

const inTree = (event) => event.target.closest(".tree") !== null;
const inList = (event) => event.target === document.body || event.target.closest(".list .rows") !== null;

const up = (explorer) => explorer.above !== null && explorer.go(explorer.above);
const close = (explorer) => explorer.closeFile();
const path = (explorer) => explorer.crumbs.edit();

const TYPING = { "Ctrl+l": path, Escape: (explorer) => explorer.stage.isOpen && close(explorer) };
const OPEN = { "Ctrl+l": path, "Ctrl+s": (explorer) => explorer.stage.paper?.save(), Escape: close, "Alt+ArrowUp": close, "?": openHelp };
const ANYWHERE = { "Ctrl+l": path, "/": (explorer) => explorer.search(), "?": openHelp, Backspace: up, "Alt+ArrowUp": up };

// What is done with what is selected.
const LISTED = {
  "Ctrl+a": (explorer) => explorer.list.selectAll(),
  "Ctrl+c": (explorer) => explorer.do("copy"),
  "Ctrl+x": (explorer) => explorer.do("cut"),
  "Ctrl+v": (explorer) => explorer.do("paste"),
  "Ctrl+z": (explorer) => explorer.do("undo"),
  Delete: (explorer) => explorer.do("remove"),
  F2: (explorer) => explorer.do("rename"),
  Escape: (explorer) => explorer.deselect(),
};
