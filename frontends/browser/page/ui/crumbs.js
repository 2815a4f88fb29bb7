// The path at the top: its parts to go to, or as text to be edited.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { join, nameOf, resolved, within } from "./paths.js";

export class Crumbs {
  #path;

  // `top`: above which nothing is shown; `go(path)`; `leave()`: the keys are no longer here
  constructor(top, go, leave) {
    Object.assign(this, { top, go, leave });
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
        this.leave();
        this.go(path);
      } else if (event.key === "Escape") {
        this.#close();
        this.leave();
      }
    });
    this.input.addEventListener("blur", () => this.#close());
  }

  show(path) {
    this.#path = path;
    const { top } = this;
    const crumbs = this.#trail(path).map(({ here, name }, at) => {
      const first = here === top;
      const words = first ? [icon("archive"), nameOf(top)] : name;
      const marks = { "data-path": here, "aria-current": here === path ? "page" : null, title: first && top !== "/" ? top : null };
      const button = h("button", { type: "button", ...marks, onclick: () => this.go(here) }, words);
      if (first && top === "/") button.setAttribute("aria-label", "Root");
      return h("li", {}, at > 0 && icon("chevron"), button);
    });
    this.parts.replaceChildren(...crumbs);
    this.parts.scrollLeft = this.parts.scrollWidth;
  }

  // From the top to a path: what each part is called, and where it is. A path that is elsewhere stands alone.
  #trail(path) {
    const { top } = this;
    if (!within(path, top)) return [{ here: path, name: path }];
    const trail = [{ here: top }];
    for (const name of path.slice(top.length).split("/").filter(Boolean)) trail.push({ here: join(trail.at(-1).here, name), name });
    return trail;
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
