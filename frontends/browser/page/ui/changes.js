// What differs between two layers: the paths, and the chosen one side by side.

import { drawSides, sideOf } from "./compare.js";
import { openWindow } from "./dialog.js";
import { h, roving } from "./dom.js";
import { count, layerName, STATUS, time } from "./format.js";
import { icon } from "./icons.js";

const NOW = "head";
const SHOWN = 2000; // paths

// A window for two layers, by their ids; without them what changed since the last checkpoint.
export async function openChanges(explorer, { older, newer = NOW } = {}) {
  let layers;
  try {
    ({ layers } = await explorer.client.told("layers"));
  } catch (error) {
    explorer.toasts.failed("Comparing layers", error);
    return;
  }
  const sealed = layers.filter(({ sealedAt }) => sealedAt !== null);
  if (!sealed.length) {
    explorer.toasts.tell("There is no layer to compare with yet: make a checkpoint");
    return;
  }
  const current = layers.find((layer) => layer.current);
  const view = new Changes(explorer, layers, older ?? current.parent ?? sealed[0].id, newer);
  openWindow({ title: "Compare layers", kind: "wide", tools: view.tools, content: view.element, close: () => view.close() });
  await view.read();
}

class Changes {
  #end = () => {};
  #reading = 0;

  constructor(explorer, layers, older, newer) {
    this.explorer = explorer;
    this.client = explorer.client;
    this.layers = layers;
    this.older = this.#select("Older layer", older);
    this.newer = this.#select("Newer layer", newer);
    const swap = h("button.plain", { type: "button", "aria-label": "Swap the layers", title: "Swap", onclick: () => this.#swap() }, icon("swap"));
    this.tools = [this.older, swap, this.newer];
    this.paths = h("div.paths", {
      role: "listbox",
      "aria-label": "What changed",
      onkeydown: (event) => roving(event, [...this.paths.children], "ArrowDown", "ArrowUp"),
    });
    this.sides = h("div.sides", {});
    this.element = h("div.changes", {}, this.paths, this.sides);
  }

  #select(label, value) {
    const options = [...this.layers]
      .sort((a, b) => b.createdAt - a.createdAt)
      .filter((layer) => layer.sealedAt !== null || layer.current)
      .map((layer) => ({ value: layer.current ? NOW : layer.id, words: layer.current ? "Now" : `${layerName(layer)} · ${time(layer.sealedAt)}` }));
    return h(
      "select",
      { "aria-label": label, onchange: () => this.read() },
      options.map((option) => h("option", { value: option.value, selected: option.value === value }, option.words)),
    );
  }

  #swap() {
    [this.older.value, this.newer.value] = [this.newer.value, this.older.value];
    this.read();
  }

  async read() {
    const reading = ++this.#reading;
    this.#end();
    this.#end = () => {};
    this.sides.replaceChildren();
    this.paths.replaceChildren(h("p.note", {}, "Comparing…"));
    try {
      const { changes } = await this.client.told("diff", { older: this.older.value, newer: this.newer.value });
      if (reading !== this.#reading) return;
      this.#draw(changes);
    } catch (error) {
      if (reading === this.#reading) this.paths.replaceChildren(h("p.note", {}, error.message));
    }
  }

  #draw(changes) {
    this.sides.replaceChildren(
      h("p.note", {}, changes.length ? `${count(changes.length, "path")} ${changes.length === 1 ? "differs" : "differ"}` : "Nothing differs"),
    );
    const options = changes.slice(0, SHOWN).map((change) => {
      const words = change.oldPath && change.path !== change.oldPath ? `${change.oldPath} → ${change.path}` : change.path;
      const status = h("span.status", { "data-status": change.status, title: STATUS[change.status] }, change.status);
      return h(
        "button",
        { type: "button", role: "option", "aria-selected": "false", onclick: (event) => this.#choose(event.currentTarget, change) },
        status,
        h("span", {}, h("bdi", {}, words)),
      );
    });
    if (changes.length > SHOWN) options.push(h("p.note", {}, `and ${count(changes.length - SHOWN, "more path", "more paths")}`));
    this.paths.replaceChildren(...options);
    const first = changes.findIndex((change) => change.content && isFile(change));
    if (first >= 0 && first < SHOWN) options[first].click();
  }

  async #choose(option, change) {
    for (const each of this.paths.children) each.setAttribute("aria-selected", String(each === option));
    this.#end();
    this.#end = () => {};
    const layer = (select) => (select.value === NOW ? null : select.value);
    const name = (select) => select.selectedOptions[0].textContent;
    try {
      if (!isFile(change)) {
        this.sides.replaceChildren(h("p.note", {}, STATUS[change.status]));
        return;
      }
      const sides = await Promise.all([
        sideOf(this.client, { label: name(this.older), path: change.old ? (change.oldPath ?? change.path) : null, layer: layer(this.older) }),
        sideOf(this.client, { label: name(this.newer), path: change.new ? change.path : null, layer: layer(this.newer) }),
      ]);
      if (option.getAttribute("aria-selected") === "true" && option.isConnected) this.#end = await drawSides(this.sides, change.path, ...sides);
    } catch (error) {
      this.sides.replaceChildren(h("p.note", {}, error.message));
    }
  }

  close() {
    this.#end();
  }
}

function isFile({ old, new: made }) {
  return [old, made].every((attributes) => attributes === null || attributes.kind === "file");
}
