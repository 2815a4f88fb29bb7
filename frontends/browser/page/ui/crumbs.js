// The path at the top: its parts to go to, or as text to be edited.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { nameOf, resolved, within } from "./paths.js";

export class Crumbs {
  #path;

  // `top`: above which nothing is shown; `go(path)`
  constructor(top, go) {
    Object.assign(this, { top, go });
    this.#path = top;
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
    const { top } = this;
    const crumbs = this.#trail(path).map(({ here, name }) => {
      const first = here === top;
      const words = first ? [icon("archive"), nameOf(top)] : name;
      const marks = { "data-path": here, "aria-current": here === path ? "page" : null, title: first && top !== "/" ? top : null };
      const button = h("button", { type: "button", ...marks, onclick: () => this.go(here) }, words);
      if (first && top === "/") button.setAttribute("aria-label", "Root");
      return h("li", {}, !first && icon("chevron"), button);
    });
    this.parts.replaceChildren(...crumbs);
    this.parts.scrollLeft = this.parts.scrollWidth;
  }

  // From the top to a path: what each part is called, and where it is. A path that is elsewhere is one part.
  #trail(path) {
    const { top } = this;
    if (!within(path, top)) return [{ here: top }, { here: path, name: path }];
    const names = path.split("/").slice(top === "/" ? 1 : top.split("/").length);
    const above = top === "/" ? "" : top;
    const below = names.filter(Boolean).map((name, at) => ({ here: `${above}/${names.slice(0, at + 1).join("/")}`, name }));
    return [{ here: top }, ...below];
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
