// Short messages at the foot of the page, which go by themselves; one may have an answer.

import { h } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN = 6000; // ms
const ANSWERED = 12000;

export class Toasts {
  element = h("div.toasts", { role: "status", "aria-live": "polite" });

  // `action`: {label, run}. What takes the message away sooner.
  tell(words, { action, kind = "" } = {}) {
    const toast = h(
      `div.toast${kind && `.${kind}`}`,
      {},
      h("span", {}, words),
      action && h("button.plain", { type: "button", onclick: () => (gone(), action.run()) }, action.label),
      h("button.plain", { type: "button", "aria-label": "Dismiss", onclick: () => gone() }, icon("close")),
    );
    let timer;
    const gone = () => {
      clearTimeout(timer);
      toast.remove();
    };
    const wait = () => (timer = setTimeout(gone, action || kind ? ANSWERED : SHOWN));
    toast.addEventListener("pointerenter", () => clearTimeout(timer));
    toast.addEventListener("pointerleave", wait);
    this.element.append(toast);
    while (this.element.children.length > 4) this.element.firstChild.remove();
    wait();
    return gone;
  }

  // What did not work. What was cancelled was wanted so.
  failed(what, error) {
    if (error.code === "cancelled") return;
    const action = error.code === "part" ? { label: "Reload", run: () => location.reload() } : undefined;
    this.tell(`${what}: ${error.message}`, { kind: "error", action });
  }
}
