// Rows of equal height, of which only those in sight are in the document; each has the same place in it for as long as it is in sight.

import { h } from "./dom.js";

const SPARE = 8; // rows beyond each edge

export class Rows {
  #slots = [];
  #drawn = false;

  // `height()` of a row in px; `make()` an empty row; `fill(row, index)`.
  constructor({ height, make, fill, label, role }) {
    Object.assign(this, { height, make, fill });
    this.count = 0;
    this.space = h("div.space", { role: "presentation" });
    this.element = h("div.rows", { tabindex: "0", role, "aria-label": label }, this.space);
    this.element.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  // All anew, at the next frame.
  draw() {
    if (this.#drawn) return;
    this.#drawn = true;
    requestAnimationFrame(() => {
      this.#drawn = false;
      this.drawNow();
    });
  }

  drawNow() {
    const height = this.height();
    this.space.style.height = `${this.count * height}px`;
    const first = Math.max(0, Math.floor(this.element.scrollTop / height) - SPARE);
    const seen = Math.ceil(this.element.clientHeight / height) + 2 * SPARE;
    while (this.#slots.length < seen) this.#slots.push(this.space.appendChild(this.make(this.#slots.length)));
    const slots = this.#slots.length;
    for (let index = first; index < first + slots; index++) {
      const row = this.#slots[index % slots];
      row.hidden = index >= this.count;
      if (row.hidden) continue;
      row.style.transform = `translateY(${index * height}px)`;
      row.dataset.index = index;
      this.fill(row, index);
    }
  }

  rowOf(index) {
    return this.#slots.find((row) => !row.hidden && Number(row.dataset.index) === index);
  }

  // How many fit.
  get page() {
    return Math.max(1, Math.floor(this.element.clientHeight / this.height()) - 1);
  }

  reveal(index) {
    const height = this.height();
    const top = index * height;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + height > scrollTop + clientHeight) this.element.scrollTop = top + height - clientHeight;
    this.drawNow();
  }
}
