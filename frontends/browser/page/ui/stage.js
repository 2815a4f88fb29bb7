// The file that is open, over the list: text in an editor, an image, or numbers.

import { h } from "./dom.js";
import { iconOf, RASTER, size } from "./format.js";
import { icon } from "./icons.js";
import { hexView } from "./hex.js";
import { endingOf, nameOf } from "./paths.js";
import { Paper } from "./paper.js";
import { IMAGE_MAX, rasterOf, TEXT_MAX, textOf } from "./content.js";

export class Stage {
  paper = null;
  path = null;
  #url = null;
  #turn = 0; // of what was opened or closed last

  // `on`: close(), download(path), info()
  constructor(explorer, on) {
    this.explorer = explorer;
    this.client = explorer.client;
    this.title = h("h2", {});
    this.state = h("span.state", { role: "status" });
    this.saver = h("button.main", { type: "button", title: "Save (Ctrl+S)", hidden: true, onclick: () => this.paper.save() }, "Save");
    this.body = h("div.body", {});
    this.notice = h("div.notice", { role: "alert", hidden: true });
    const tool = (words, name, run) => h("button.plain", { type: "button", "aria-label": words, title: words, onclick: run }, icon(name));
    this.element = h(
      "section.stage",
      { hidden: true, "aria-label": "Open file" },
      h(
        "header",
        {},
        this.title,
        this.state,
        this.saver,
        tool("Download", "download", () => on.download(this.path)),
        tool("Details", "info", on.info),
        tool("Close (Esc)", "close", on.close),
      ),
      this.notice,
      this.body,
    );
  }

  // Show a file; Failure where it cannot be.
  async open(path, layer) {
    this.close();
    const turn = this.#turn;
    const entry = await this.#found(path, layer);
    if (turn !== this.#turn) return;
    this.path = path;
    const name = nameOf(path);
    this.title.replaceChildren(icon(iconOf({ kind: "file", ...entry, name })), name);
    this.state.textContent = size(entry?.size ?? 0);
    this.body.replaceChildren(h("div.note", {}, "Reading…"));
    this.element.hidden = false;
    if (entry === null) {
      await this.#text(path, layer, null, "");
      return;
    }
    const image = endingOf(name) in RASTER && entry.size <= IMAGE_MAX;
    if (!image && entry.size > TEXT_MAX) {
      this.#numbers(entry.size, path, layer);
      return;
    }
    const { result, data } = await this.client.ask("read", { path, layer });
    if (turn !== this.#turn) return;
    const type = rasterOf(name, data);
    const text = type ? null : textOf(data);
    if (type) this.#image(new Blob([data], { type }), name);
    else if (text === null) this.#numbers(data.byteLength, path, layer);
    else await this.#text(path, layer, result, text);
  }

  // Its attributes; null where it is gone, but for edits that were not saved.
  async #found(path, layer) {
    try {
      return await this.client.told("stat", { path, layer });
    } catch (error) {
      if (error.code !== "ENOENT" || !this.explorer.drafted(path, layer)) throw error;
      return null;
    }
  }

  get isOpen() {
    return this.path !== null;
  }

  #image(blob, name) {
    this.#url = URL.createObjectURL(blob);
    const image = h("img", { alt: name, src: this.#url });
    image.addEventListener("load", () => (this.state.textContent = `${image.naturalWidth} × ${image.naturalHeight} · ${size(blob.size)}`));
    image.addEventListener("error", () => this.body.replaceChildren(h("div.note", {}, "This image cannot be drawn.")));
    this.body.replaceChildren(h("div.picture", {}, image));
  }

  #numbers(total, path, layer) {
    const read = async (offset, length) => (await this.client.ask("read", { path, layer, offset, length })).data;
    const view = hexView(total, read);
    this.body.replaceChildren(view);
    view.focus();
  }

  async #text(path, layer, attributes, text) {
    const readOnly = layer !== null || this.explorer.tenant.readOnly;
    const paper = new Paper(this.explorer, path, attributes, {
      state: (words, kind) => {
        this.state.textContent = words;
        this.element.dataset.state = kind;
      },
      notice: (words, actions = []) => {
        this.notice.hidden = words === null;
        this.notice.replaceChildren(
          h("span", {}, words ?? ""),
          ...actions.map(({ label, run }) => h("button", { type: "button", onclick: run }, label)),
        );
      },
    });
    this.paper = paper;
    this.saver.hidden = readOnly;
    await paper.open(text, readOnly);
    if (this.paper !== paper) return;
    this.body.replaceChildren(paper.element);
    paper.editor.focus();
  }

  // Whether nothing is lost when it closes.
  async leave() {
    return this.paper === null || (await this.paper.leave());
  }

  close() {
    this.#turn++;
    this.paper?.close();
    this.paper = this.path = null;
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = null;
    this.saver.hidden = this.notice.hidden = true;
    delete this.element.dataset.state;
    this.body.replaceChildren();
    this.element.hidden = true;
  }
}
