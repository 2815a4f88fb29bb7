// Edits that are not saved yet, kept for as long as this tab lives: a reload or an ended session loses none.

import { keep, recall } from "./dom.js";

const LARGEST = 2 << 20; // characters; what is larger is only in the editor

export class Drafts {
  constructor(tenant) {
    this.tenant = tenant;
  }

  #key(path) {
    return `tarbox-draft:${this.tenant}:${path}`;
  }

  // {text, version} or null
  find(path) {
    const words = recall(sessionStorage, this.#key(path));
    return words === null ? null : JSON.parse(words);
  }

  has(path) {
    return recall(sessionStorage, this.#key(path)) !== null;
  }

  put(path, text, version) {
    if (text.length <= LARGEST) keep(sessionStorage, this.#key(path), JSON.stringify({ text, version }));
  }

  drop(path) {
    keep(sessionStorage, this.#key(path), null);
  }
}
