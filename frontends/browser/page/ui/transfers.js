// What takes long: uploads, downloads, copies, each with its progress and a button that ends it.

import { h } from "./dom.js";
import { size } from "./format.js";
import { icon } from "./icons.js";

const QUICK = 400; // ms that may pass before it is shown

class Job {
  #stop = new AbortController();
  #began = performance.now();

  constructor(label) {
    this.words = h("span.words", {}, label);
    this.bar = h("progress", { max: "1", "aria-label": label });
    const end = h(
      "button.plain",
      { type: "button", "aria-label": `Cancel: ${label}`, title: "Cancel", onclick: () => this.#stop.abort() },
      icon("close"),
    );
    this.amount = h("span.amount", {});
    this.element = h("li.job", {}, this.words, end, this.bar, this.amount);
    this.signal = this.#stop.signal;
    // Takes a verb's events.
    this.tell = ({ event, done, total }) => event === "progress" && this.progress(done, total);
  }

  progress(done, total) {
    if (!total) return;
    this.bar.value = done / total;
    const seconds = (performance.now() - this.#began) / 1000;
    const speed = seconds > 1 ? ` · ${size(Math.round(done / seconds))}/s` : "";
    this.amount.textContent = `${size(done)} of ${size(total)}${speed}`;
  }
}

export class Transfers {
  #jobs = new Set();

  constructor(toasts) {
    this.toasts = toasts;
    this.jobs = h("ul", {});
    this.element = h("section.transfers", { "aria-label": "Transfers", hidden: true }, this.jobs);
  }

  get busy() {
    return this.#jobs.size > 0;
  }

  // As `watch`, but undefined where it failed, which is told.
  async run(label, work) {
    try {
      return await this.watch(label, work);
    } catch (error) {
      this.toasts.failed(label, error);
      return undefined;
    }
  }

  // Do `work(job)`, whose `signal` and `tell` go along with what it asks. Its result.
  async watch(label, work) {
    const job = new Job(label);
    this.#jobs.add(job);
    const later = setTimeout(() => {
      this.jobs.append(job.element);
      this.element.hidden = false;
    }, QUICK);
    try {
      return await work(job);
    } finally {
      clearTimeout(later);
      this.#jobs.delete(job);
      job.element.remove();
      this.element.hidden = this.jobs.children.length === 0;
    }
  }
}
