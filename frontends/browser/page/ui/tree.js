// The tree of folders: each reads what is in it when it is opened first.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { join, nameOf, parentOf, within } from "./paths.js";
import { sorted } from "./listing.js";

const SHOWN = 2000; // folders of one folder

export class Tree {
  #nodes = new Map(); // by path: {item, row, group, level, open, leaf, ino, turn}
  #layer = null;
  #turns = 0; // counts what is read
  #path;

  // `top`: the path of its root; `on`: go(path)
  constructor(client, top, on) {
    Object.assign(this, { client, top, on });
    this.#path = top;
    this.element = h("ul.tree", { role: "tree", "aria-label": "Folders" });
    this.element.addEventListener("click", (event) => this.#clicked(event));
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  // The tree as of a layer, with a path in it open as far as it is there.
  async show(path, layer) {
    this.#path = path;
    if (layer !== this.#layer || !this.#nodes.size) {
      this.#layer = layer;
      this.#nodes.clear();
      this.element.replaceChildren(this.#node(this.top, 1));
      await this.#open(this.top);
    }
    const names = within(path, this.top) ? path.split("/") : [];
    const first = this.top === "/" ? 2 : this.top.split("/").length + 1;
    for (let at = first; at < names.length; at++) await this.#open(names.slice(0, at).join("/"));
    if (path === this.#path) this.#mark();
  }

  // Read folders anew that are open: those at `paths`, or all.
  async refresh(paths) {
    const open = [...this.#nodes.keys()].filter((path) => this.#nodes.get(path).open && (!paths || paths.includes(path)));
    for (const path of open) if (this.#nodes.has(path)) await this.#read(path);
    this.#mark();
  }

  pathAt(event) {
    return event.target.closest?.(".branch")?.dataset.path ?? null;
  }

  // The open folder with an inode's number, if any.
  pathOf(ino) {
    for (const [path, node] of this.#nodes) if (node.ino === ino && node.open) return path;
    return null;
  }

  #node(path, level) {
    const name = nameOf(path) || "Root";
    const twist = h("span.twist", {}, icon("chevron"));
    const row = h(
      "div.branch",
      { "data-path": path },
      twist,
      icon(path === this.top ? "archive" : "folder"),
      h("span.name", {}, name),
    );
    row.style.paddingLeft = `${(level - 1) * 16 + 8}px`;
    const group = h("ul", { role: "group", hidden: true });
    const item = h(
      "li",
      { role: "treeitem", "aria-expanded": "false", "aria-level": level, tabindex: "-1", "aria-label": name },
      row,
      group,
    );
    this.#nodes.set(path, { item, row, group, level, open: false, leaf: false, ino: null, turn: 0 });
    return item;
  }

  async #open(path) {
    const node = this.#nodes.get(path);
    if (!node || node.open) return;
    node.open = true;
    await this.#read(path);
    node.group.hidden = false;
    this.#twisted(node);
  }

  #twisted({ item, open, leaf }) {
    item.classList.toggle("leaf", leaf);
    if (leaf) item.removeAttribute("aria-expanded");
    else item.setAttribute("aria-expanded", String(open));
  }

  #close(path) {
    const node = this.#nodes.get(path);
    node.open = false;
    node.group.hidden = true;
    this.#twisted(node);
  }

  async #read(path) {
    const node = this.#nodes.get(path);
    const layer = this.#layer;
    const turn = ++this.#turns;
    const folders = [];
    try {
      let answer = await this.client.told("list", { path, layer });
      node.ino = answer.ino;
      for (;;) {
        folders.push(...answer.entries.filter(({ kind }) => kind === "directory"));
        if (answer.cursor === null || folders.length >= SHOWN) break;
        answer = await this.client.told("more", { cursor: answer.cursor, limit: 10_000 });
      }
    } catch {
      return; // it is gone, or the connection is: both are told elsewhere
    }
    if (this.#nodes.get(path) !== node || turn < node.turn) return; // what was read later is shown already
    node.turn = turn;
    const names = sorted(folders, { by: "name", down: false }).map(({ name }) => name);
    const there = new Set(names.map((name) => join(path, name)));
    for (const old of [...this.#nodes.keys()]) {
      if (old !== path && within(old, path) && ![...there].some((each) => within(old, each))) this.#nodes.delete(old);
    }
    const focused = node.group.contains(document.activeElement) ? document.activeElement : null;
    node.group.replaceChildren(...names.map((name) => this.#nodes.get(join(path, name))?.item ?? this.#node(join(path, name), node.level + 1)));
    focused?.focus({ preventScroll: true }); // it was out of the document for a moment
    node.leaf = !names.length;
    this.#twisted(node);
  }

  #mark() {
    for (const { item } of this.#nodes.values()) {
      item.setAttribute("aria-selected", "false");
      item.tabIndex = -1;
    }
    let path = this.#path;
    while (!this.#nodes.has(path)) path = path === "/" ? this.top : parentOf(path);
    const { item, row } = this.#nodes.get(path);
    item.tabIndex = 0;
    if (path === this.#path) item.setAttribute("aria-selected", "true");
    for (const part of [row.firstChild, row.lastChild]) part.scrollIntoView({ block: "nearest" }); // the name, and what is before it if there is room
  }

  async #toggle(path) {
    if (this.#nodes.get(path).open) this.#close(path);
    else await this.#open(path);
  }

  #clicked(event) {
    const path = this.pathAt(event);
    if (path === null) return;
    if (event.target.closest(".twist")) this.#toggle(path);
    else this.on.go(path);
  }

  async #key(event) {
    const item = event.target.closest("[role=treeitem]");
    if (!item || event.ctrlKey || event.altKey || event.metaKey) return;
    const path = item.querySelector(".branch").dataset.path;
    const shown = [...this.element.querySelectorAll("[role=treeitem]")].filter((each) => each.offsetParent !== null);
    const at = shown.indexOf(item);
    const { open, leaf } = this.#nodes.get(path);
    const to = { ArrowDown: shown[at + 1], ArrowUp: shown[at - 1], Home: shown[0], End: shown.at(-1) }[event.key];
    if (to) to.focus();
    else if (event.key === "ArrowRight" && !open) this.#open(path);
    else if (event.key === "ArrowRight" && !leaf) shown[at + 1]?.focus();
    else if (event.key === "ArrowLeft" && open && !leaf) this.#close(path);
    else if (event.key === "ArrowLeft" && path !== this.top) this.#nodes.get(parentOf(path)).item.focus();
    else if (event.key === "Enter" || event.key === " ") this.on.go(path);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
