// Lines across the page: that the connection is lost, and that what is seen is the past.

import { h, present } from "./dom.js";
import { fullTime, layerName, sentence } from "./format.js";

export class Banners {
  #timer;

  // `on`: now(), switchTo(layer)
  constructor(on) {
    this.on = on;
    this.connection = h("div.banner.connection", { role: "status", hidden: true });
    this.past = h("div.banner.past", { role: "status", hidden: true });
    this.element = h("div.banners", {}, this.connection, this.past);
  }

  // `message`: why it is refused.
  connected(state, message) {
    clearTimeout(this.#timer);
    const { hidden } = this.connection;
    this.connection.dataset.state = state;
    if (state === "open") {
      this.connection.textContent = "Connected again.";
      this.#timer = setTimeout(() => (this.connection.hidden = true), hidden ? 0 : 2000);
    } else {
      this.connection.textContent = state === "lost" ? "The connection is lost. Trying again; nothing you edit is lost." : sentence(message);
      this.connection.hidden = false;
    }
  }

  broken(words) {
    this.connection.textContent = `The explorer could not start: ${words}`;
    this.connection.hidden = false;
  }

  // `layer`: null is now; one that is not known has a label alone. `may`: whether it can be switched to.
  seen(layer, may) {
    this.past.hidden = layer === null;
    if (layer === null) return;
    const at = layer.sealedAt ?? layer.createdAt;
    const words = [h("strong", {}, layerName(layer)), at === undefined ? "" : `, ${fullTime(at)}`, ": read-only"];
    const change = may && layer.sealedAt && h("button", { type: "button", onclick: () => this.on.switchTo(layer) }, "Switch to it…");
    const back = h("button", { type: "button", onclick: this.on.now }, "Back to now");
    this.past.replaceChildren(...present([h("span", {}, "The tree as of ", words), change, back]));
  }
}
