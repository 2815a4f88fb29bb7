// What can be done with what is selected: by key, from the menus, and on the bar above the list. Nothing is offered that cannot be done.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { join } from "./paths.js";
import { LINE, menuButton, openMenu } from "./menu.js";
import { chosen } from "./uploads.js";
import { openChanges } from "./changes.js";
import { layerName } from "./format.js";

export class Commands {
  constructor(explorer) {
    this.explorer = explorer;
    const button = (label, name, run, kind = "") =>
      h(`button${kind}`, { type: "button", onclick: run, title: label, "aria-label": label }, icon(name), h("span.label", {}, label));
    this.files = h("input", {
      type: "file",
      multiple: true,
      hidden: true,
      "aria-label": "Files to upload",
      onchange: (event) => this.#take(event.target),
    });
    this.folders = h("input", {
      type: "file",
      webkitdirectory: true,
      hidden: true,
      "aria-label": "Folder to upload",
      onchange: (event) => this.#take(event.target),
    });
    this.writing = h(
      "div.group",
      {},
      menuButton({ class: "main", "aria-label": "New" }, [icon("plus"), h("span.label", {}, "New")], () => [
        { label: "Folder…", icon: "folder", run: () => this.explorer.actions.make("folder") },
        { label: "File…", icon: "file", run: () => this.explorer.actions.make("file") },
      ]),
      menuButton({ "aria-label": "Upload" }, [icon("upload"), h("span.label", {}, "Upload")], () => [
        { label: "Files…", icon: "file", run: () => this.files.click() },
        { label: "A folder…", icon: "folder", run: () => this.folders.click() },
      ]),
      this.files,
      this.folders,
    );
    this.paste = button("Paste", "paste", () => this.do("paste"));
    this.chosen = h(
      "div.group",
      {},
      button("Download", "download", () => this.do("download")),
      (this.remove = button("Delete", "trash", () => this.do("remove"))),
      (this.restore = button("Restore", "restore", () => this.do("restore"))),
      button("More", "more", (event) => this.#under(event.currentTarget)),
    );
    this.element = h("div.commands", { role: "toolbar", "aria-label": "Files" }, this.writing, this.paste, this.chosen);
  }

  get #entries() {
    return this.explorer.list.selection.entries;
  }

  get #paths() {
    return this.#entries.map(({ name }) => join(this.explorer.place.path, name));
  }

  // After the selection, or the place, is another.
  renew() {
    const { writable, mayWrite, place, actions } = this.explorer;
    this.writing.hidden = !writable;
    this.paste.hidden = !writable || !actions.clipboard;
    this.chosen.hidden = !this.explorer.list.selection.names.size;
    this.remove.hidden = !writable;
    this.restore.hidden = !mayWrite || !place.layer;
  }

  do(name) {
    const { explorer } = this;
    const { actions, place } = explorer;
    const some = this.#entries.length > 0;
    if (name === "copy" && some) actions.copy(this.#paths);
    else if (name === "download" && some) actions.download(this.#entries, place.path);
    else if (name === "restore" && some && explorer.mayWrite && place.layer) this.#restore();
    else if (!explorer.writable) return;
    else if (name === "cut" && some) actions.cut(this.#paths);
    else if (name === "paste") actions.paste(place.path);
    else if (name === "remove" && some) actions.remove(this.#paths);
    else if (name === "rename" && explorer.list.focused) actions.rename(explorer.list.focused);
    else if (name === "undo") actions.undo();
  }

  async #restore() {
    const { actions, place, seen } = this.explorer;
    for (const path of this.#paths) await actions.restore(path, place.layer, layerName(seen));
  }

  #take(input) {
    const found = chosen(input);
    input.value = "";
    this.explorer.actions.upload(found, this.explorer.place.path);
  }

  #under(button) {
    const { left, bottom } = button.getBoundingClientRect();
    const entries = this.#entries;
    this.menu(entries[0] ?? null, left, bottom + 4);
  }

  // The menu for an entry that is selected, or for the folder that is shown.
  menu(entry, x, y, dismissed) {
    openMenu(entry ? this.#forEntry(entry) : this.#forFolder(), x, y, dismissed);
  }

  #forEntry(entry) {
    const { explorer } = this;
    const { writable, mayWrite, whole, place, actions, panel } = explorer;
    const one = this.#entries.length === 1;
    const inside = writable && one && entry.kind === "directory" && actions.clipboard;
    const path = join(place.path, entry.name);
    const about = (name) => () => {
      explorer.describe();
      panel.show(name);
    };
    return [
      one && { label: "Open", icon: "eye", keys: "Enter", run: () => explorer.open(entry) },
      { label: one && entry.kind === "file" ? "Download" : "Download as zip", icon: "download", run: () => this.do("download") },
      LINE,
      { label: "Copy", icon: "copy", keys: "Ctrl+C", run: () => this.do("copy") },
      writable && { label: "Cut", icon: "scissors", keys: "Ctrl+X", run: () => this.do("cut") },
      inside && { label: "Paste into it", icon: "paste", run: () => actions.paste(path) },
      writable && one && { label: "Rename", icon: "pencil", keys: "F2", run: () => actions.rename(entry) },
      writable && { label: "Delete", icon: "trash", keys: "Del", danger: true, run: () => this.do("remove") },
      mayWrite && place.layer && { label: "Restore", icon: "restore", run: () => this.do("restore") },
      one && LINE,
      one && whole && { label: "History", icon: "clock", run: about("history") },
      one && whole && { label: "Audit", icon: "list", run: about("audit") },
      one && { label: "Properties", icon: "info", run: about("properties") },
    ];
  }

  #forFolder() {
    const { explorer } = this;
    const { writable, place, actions, panel } = explorer;
    return [
      writable && { label: "New folder…", icon: "folder", run: () => actions.make("folder") },
      writable && { label: "New file…", icon: "file", run: () => actions.make("file") },
      writable && { label: "Upload files…", icon: "upload", run: () => this.files.click() },
      writable && actions.clipboard && { label: "Paste", icon: "paste", keys: "Ctrl+V", run: () => this.do("paste") },
      writable && LINE,
      { label: "Download as zip", icon: "download", run: () => actions.download(explorer.list.entries, place.path) },
      explorer.whole && { label: "Compare layers", icon: "diff", run: () => openChanges(explorer) },
      { label: "Properties", icon: "info", run: () => panel.show("properties") },
    ];
  }
}
