// The path at the top: its parts to go to, or as text to be edited.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { resolved } from "./paths.js";

export class Crumbs {
  #path = "/";

  // `go(path)`
  constructor(go) {
    this.go = go;
    this.parts = h("ol.parts", {});
    this.input = h("input", { type: "text", "aria-label": "Path", spellcheck: "false", autocomplete: "off", hidden: true });
    this.pencil = h(
      "button.plain",
      { type: "button", "aria-label": "Edit the path", title: "Edit the path (Ctrl+L)", onclick: () => this.edit() },
      icon("pencil"),
    );
    this.element = h("nav.crumbs", { "aria-label": "Path" }, this.parts, this.input, this.pencil);
    this.parts.addEventListener("click", (event) => {
      if (event.target === this.parts) this.edit();
    });
    this.input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") {
        const path = resolved(this.input.value.trim() || "/", this.#path);
        this.#close();
        this.go(path);
      } else if (event.key === "Escape") {
        this.#close();
      }
    });
    this.input.addEventListener("blur", () => this.#close());
  }

  show(path) {
    this.#path = path;
    const names = path === "/" ? [] : path.slice(1).split("/");
    const crumbs = ["", ...names].map((name, at) => {
      const here = `/${names.slice(0, at).join("/")}`;
      const last = at === names.length;
      const words = at ? name : icon("archive");
      const button = h("button", { type: "button", "data-path": here, "aria-current": last ? "page" : null, onclick: () => this.go(here) }, words);
      if (!at) button.setAttribute("aria-label", "Root");
      return h("li", {}, at > 0 && icon("chevron"), button);
    });
    this.parts.replaceChildren(...crumbs);
    this.parts.scrollLeft = this.parts.scrollWidth;
  }

  edit() {
    this.parts.hidden = this.pencil.hidden = true;
    this.input.hidden = false;
    this.input.value = this.#path;
    this.input.focus();
    this.input.select();
  }

  #close() {
    this.input.hidden = true;
    this.parts.hidden = this.pencil.hidden = false;
  }
}
