// The panel at the side: what is to be known about one file or folder, in tabs; or the time line of layers.

import { h, keep, phone, recall, roving } from "./dom.js";
import { icon } from "./icons.js";
import { nameOf } from "./paths.js";
import { showAudit } from "./audit.js";
import { showHistory } from "./history.js";
import { showPreview } from "./preview.js";
import { showProperties } from "./properties.js";
import { Timeline } from "./timeline.js";

const TABS = [
  ["preview", "Preview", showPreview],
  ["properties", "Properties", showProperties],
  ["history", "History", showHistory],
  ["audit", "Audit", showAudit],
];
const OF_LAYERS = new Set(["history", "audit"]); // not for a token with a path
const KEY = "tarbox-panel";

export class Panel {
  #tab = "preview";
  #about = null; // {path, entry}; no entry where nothing can be read
  #ends = new AbortController();

  constructor(explorer) {
    this.explorer = explorer;
    this.timeline = new Timeline(explorer);
    this.title = h("h2", {});
    this.kinds = TABS.filter(([name]) => explorer.whole || !OF_LAYERS.has(name));
    this.tabs = this.kinds.map(([name, label]) =>
      h("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "tabpanel", onclick: () => this.show(name) }, label),
    );
    this.tablist = h(
      "div.tabs",
      { role: "tablist", "aria-label": "About the file", onkeydown: (event) => roving(event, this.tabs, "ArrowRight", "ArrowLeft") },
      this.tabs,
    );
    this.body = h("div.body", { role: "tabpanel", id: "tabpanel", tabindex: "0" });
    const close = h("button.plain", { type: "button", "aria-label": "Close the panel", onclick: () => this.hide() }, icon("close"));
    this.element = h("aside.panel", { "aria-label": "Details" }, h("header", {}, this.title, close), this.tablist, this.body);
    const kept = recall(localStorage, KEY);
    this.element.hidden = phone.matches || kept === "hidden";
  }

  get layersShown() {
    return !this.element.hidden && this.#tab === "layers";
  }

  hide() {
    this.element.hidden = true;
    this.#remember();
    this.explorer.list.focus();
  }

  toggle(name) {
    if (!this.element.hidden && (name === "layers" ? this.#tab === "layers" : this.#tab !== "layers")) this.hide();
    else this.show(name);
  }

  #remember() {
    if (!phone.matches) keep(localStorage, KEY, this.element.hidden ? "hidden" : "shown");
  }

  show(name) {
    this.#tab = name;
    this.element.hidden = false;
    this.#remember();
    this.draw();
  }

  // What it is about from now on.
  about(path, entry) {
    const same = this.#about?.path === path && this.#about.entry?.version === entry?.version && this.#about.layer === this.explorer.place.layer;
    this.#about = { path, entry, layer: this.explorer.place.layer };
    if (!this.element.hidden && !same && this.#tab !== "layers") this.draw();
  }

  async draw() {
    this.#ends.abort();
    this.#ends = new AbortController();
    const layers = this.#tab === "layers";
    this.tablist.hidden = layers || !this.#about?.entry;
    this.element.dataset.tab = this.#tab;
    for (const [at, [name]] of this.kinds.entries()) {
      this.tabs[at].setAttribute("aria-selected", String(name === this.#tab));
      this.tabs[at].tabIndex = name === this.#tab ? 0 : -1;
    }
    this.body.setAttribute("aria-label", layers ? "Layers" : TABS.find(([name]) => name === this.#tab)[1]);
    if (layers) {
      this.title.textContent = "Time line";
      this.body.replaceChildren(this.timeline.element);
      await this.timeline.refresh();
    } else if (this.#about) {
      const { path, entry } = this.#about;
      this.title.textContent = nameOf(path) || this.explorer.tenant.name;
      if (!entry) {
        this.body.replaceChildren();
        return;
      }
      const { signal } = this.#ends;
      const content = h("div", {});
      try {
        await TABS.find(([name]) => name === this.#tab)[2](content, this.explorer, path, entry, signal);
      } catch (error) {
        content.replaceChildren(h("p.note", {}, error.message));
      }
      if (!signal.aborted) this.body.replaceChildren(content);
    }
  }
}
