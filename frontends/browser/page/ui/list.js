// The list of a folder: a grid of rows with columns to sort by, selected by mouse, keys and touch, and named in place.

import { coarse, h, phone } from "./dom.js";
import { fullTime, iconOf, kindOf, rights, size, time } from "./format.js";
import { icon } from "./icons.js";
import { sorted } from "./listing.js";
import { Rows } from "./rows.js";
import { Selection } from "./selection.js";
import { split } from "./paths.js";

const COLUMNS = [
  ["name", "Name"],
  ["size", "Size"],
  ["mtime", "Modified"],
  ["kind", "Kind"],
  ["mode", "Rights"],
];
const TYPED = 800; // ms within which letters make one word

export class List {
  selection = new Selection();
  entries = [];
  #order = { by: "name", down: false };
  #typed = { words: "", at: 0 };
  #naming = null; // {name, input, done}
  #cut = new Set();

  // `on`: open(entry), select(), menu(event, entry or null)
  constructor(on) {
    this.on = on;
    this.rows = new Rows({
      height: () => (phone.matches ? 52 : 32),
      make: (slot) => this.#make(slot),
      fill: (row, index) => this.#fill(row, index),
      label: "Files",
      role: "grid",
    });
    this.rows.element.setAttribute("aria-multiselectable", "true");
    this.heads = COLUMNS.map(([by, label]) => this.#head(by, label));
    this.note = h("div.note", { role: "status" });
    this.element = h("div.list", {}, h("div.heads", { role: "presentation" }, this.heads), this.rows.element, this.note);
    this.rows.element.addEventListener("click", (event) => this.#clicked(event));
    this.rows.element.addEventListener("dblclick", (event) => this.#opened(event));
    this.rows.element.addEventListener("contextmenu", (event) => this.#menu(event));
    phone.addEventListener("change", () => this.rows.draw());
    this.#mark();
  }

  // Show entries. `keep`: it is the same folder, which changed; `note`: text or elements over it.
  show(entries, { keep = false, note = "" } = {}) {
    this.entries = sorted(entries, this.#order);
    this.rows.count = entries.length;
    this.selection.renew(this.entries, keep);
    this.note.replaceChildren(...[note].flat());
    if (!keep) this.rows.element.scrollTop = 0;
    this.#changed();
  }

  cut(names) {
    this.#cut = new Set(names);
    this.rows.draw();
  }

  get focused() {
    return this.entries[this.selection.focus];
  }

  focus() {
    this.rows.element.focus({ preventScroll: true });
  }

  // Select by name, and show it.
  choose(names) {
    this.selection.choose(names);
    if (coarse.matches) this.selection.none(); // where a touch selects once something is selected
    if (this.selection.focus >= 0) this.rows.reveal(this.selection.focus);
    this.#changed();
  }

  selectAll() {
    this.selection.all();
    this.#changed();
  }

  // What an event happened on.
  entryAt(event) {
    const row = event.target.closest?.(".row");
    return row && this.rows.element.contains(row) ? this.entries[row.dataset.index] : null;
  }

  // Ask for another name in the row; null where it stays.
  rename(entry) {
    const index = this.entries.indexOf(entry);
    this.rows.reveal(index);
    return new Promise((resolve) => {
      const input = h("input.naming", { type: "text", "aria-label": `New name of ${entry.name}`, ".value": entry.name, spellcheck: "false" });
      const done = (name) => {
        if (this.#naming?.input !== input) return;
        this.#naming = null;
        this.rows.drawNow();
        this.focus();
        resolve(name && name !== entry.name ? name : null);
      };
      input.addEventListener("keydown", (event) => {
        event.stopPropagation();
        if (event.key === "Enter") done(input.value);
        else if (event.key === "Escape") done(null);
      });
      input.addEventListener("blur", () => done(input.value));
      this.#naming = { name: entry.name, input };
      this.rows.drawNow();
      input.focus();
      input.setSelectionRange(0, entry.kind === "directory" ? entry.name.length : split(entry.name)[0].length);
    });
  }

  // Whether a key was for the list.
  key(event) {
    const { focus } = this.selection;
    const page = this.rows.page;
    const to = { ArrowDown: focus + 1, ArrowUp: focus - 1, PageDown: focus + page, PageUp: focus - page, Home: 0, End: this.entries.length - 1 }[
      event.key
    ];
    if (to !== undefined && !event.altKey) this.#go(to, event);
    else if (event.key === "Enter" && this.focused) this.on.open(this.focused);
    else if (event.key === " " && !this.#typing() && focus >= 0) this.#do(() => this.selection.toggle(focus));
    else if (event.key === "ContextMenu" || (event.key === "F10" && event.shiftKey)) this.#menuAtFocus();
    else if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) this.#type(event.key);
    else return false;
    return true;
  }

  #go(to, { shiftKey, ctrlKey, metaKey }) {
    if (!this.entries.length) return;
    const index = Math.max(0, Math.min(this.entries.length - 1, to));
    this.#do(() => {
      if (shiftKey) this.selection.extend(index);
      else if (ctrlKey || metaKey) this.selection.move(index);
      else this.selection.only(index);
    });
    this.rows.reveal(index);
  }

  #typing() {
    return performance.now() - this.#typed.at < TYPED;
  }

  #type(letter) {
    const words = ((this.#typing() ? this.#typed.words : "") + letter).toLowerCase();
    this.#typed = { words, at: performance.now() };
    const same = words.split("").every((each) => each === words[0]); // one letter again and again: from one to the next
    const begin = Math.max(0, this.selection.focus) + (same ? 1 : 0);
    const wanted = same ? words[0] : words;
    for (let step = 0; step < this.entries.length; step++) {
      const index = (begin + step) % this.entries.length;
      if (this.entries[index].name.toLowerCase().startsWith(wanted)) {
        this.#go(index, {});
        return;
      }
    }
  }

  #do(change) {
    change();
    this.#changed();
  }

  #changed() {
    this.rows.draw();
    const { focus } = this.selection;
    this.rows.element.setAttribute("aria-rowcount", this.entries.length);
    requestAnimationFrame(() => {
      const row = this.rows.rowOf(focus);
      if (row) this.rows.element.setAttribute("aria-activedescendant", row.id);
      else this.rows.element.removeAttribute("aria-activedescendant");
    });
    this.on.select();
  }

  #head(by, label) {
    return h(
      `button.head.col-${by}`,
      { type: "button", onclick: () => this.#sort({ by, down: this.#order.by === by && !this.#order.down }) },
      label,
      icon("chevron"),
    );
  }

  #sort(order) {
    this.#order = order;
    this.#mark();
    this.show(this.entries, { keep: true, note: [...this.note.childNodes] });
  }

  #mark() {
    const order = this.#order;
    for (const [at, [by, label]] of COLUMNS.entries()) {
      const way = by === order.by ? (order.down ? "descending" : "ascending") : "none";
      this.heads[at].dataset.sorted = way;
      this.heads[at].setAttribute("aria-label", way === "none" ? `Sort by ${label.toLowerCase()}` : `${label}, ${way}`);
    }
  }

  #make(slot) {
    const more = h(
      "button.more",
      { type: "button", tabindex: "-1", "aria-label": "Actions", onclick: (event) => this.#menuUnder(event) },
      icon("more"),
    );
    const cells = COLUMNS.slice(1).map(([by]) => h(`span.col-${by}`, { role: "gridcell" }));
    const name = h("span.col-name", { role: "gridcell" }, h("span.picture"), h("span.names", {}, h("span.name"), h("span.sub")), more);
    return h("div.row", { role: "row", id: `row-${slot}`, draggable: "true" }, name, cells);
  }

  #fill(row, index) {
    const entry = this.entries[index];
    const selected = this.selection.names.has(entry.name);
    row.setAttribute("aria-rowindex", index + 1);
    row.setAttribute("aria-selected", String(selected));
    row.classList.toggle("focused", index === this.selection.focus);
    row.classList.toggle("cut", this.#cut.has(entry.name));
    const naming = this.#naming?.name === entry.name ? this.#naming.input : null;
    row.draggable = naming === null && !coarse.matches;
    const [first, ...cells] = row.children;
    const [picture, names] = first.children;
    const shape = selected && coarse.matches ? "check" : iconOf(entry);
    if (picture.dataset.shape !== shape) {
      picture.dataset.shape = shape;
      picture.replaceChildren(icon(shape));
    }
    const name = names.firstChild;
    if (naming) {
      if (!name.contains(naming)) name.replaceChildren(naming);
    } else if (name.textContent !== entry.name || name.firstElementChild) {
      name.textContent = entry.name;
      name.title = entry.name;
    }
    const length = entry.kind === "file" ? size(entry.size) : "";
    const when = time(entry.mtime);
    names.lastChild.textContent = phone.matches ? (length ? `${length} · ${when}` : when) : "";
    for (const [at, words] of [length, when, kindOf(entry), rights(entry.mode)].entries()) cells[at].textContent = words;
    cells[1].title = fullTime(entry.mtime);
  }

  #clicked(event) {
    if (event.target.closest(".more, .naming")) return;
    const entry = this.entryAt(event);
    const index = this.entries.indexOf(entry);
    const touched = coarse.matches && !event.ctrlKey && !event.shiftKey;
    if (!entry) this.#do(() => this.selection.none());
    else if (touched && !event.target.closest(".picture") && !this.selection.names.size) this.on.open(entry);
    else if (touched || event.ctrlKey || event.metaKey) this.#do(() => this.selection.toggle(index));
    else if (event.shiftKey) this.#do(() => this.selection.extend(index));
    else this.#do(() => this.selection.only(index));
  }

  #opened(event) {
    const entry = this.entryAt(event);
    if (entry && !coarse.matches && !event.target.closest(".more, .naming")) this.on.open(entry);
  }

  #menu(event) {
    if (event.target.closest(".naming")) return;
    event.preventDefault();
    this.#menuFor(this.entryAt(event), event.clientX, event.clientY);
  }

  #menuUnder(event) {
    const { left, bottom } = event.currentTarget.getBoundingClientRect();
    this.#menuFor(this.entryAt(event), left, bottom);
  }

  #menuAtFocus() {
    const row = this.rows.rowOf(this.selection.focus);
    const { left, bottom } = (row ?? this.rows.element).getBoundingClientRect();
    this.#menuFor(row ? this.focused : null, left + 32, row ? bottom : 80);
  }

  #menuFor(entry, x, y) {
    const none = () => this.#do(() => this.selection.none());
    const chosen = entry && !this.selection.names.has(entry.name);
    if (!entry) none();
    else if (chosen) this.#do(() => this.selection.only(this.entries.indexOf(entry)));
    this.on.menu(entry, x, y, chosen && coarse.matches ? none : undefined); // else the next touch would choose, and not open
  }
}
