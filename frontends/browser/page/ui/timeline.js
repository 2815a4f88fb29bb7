// The time line: every layer, the newest first, what can be done with each, and the branches.

import { asked, confirmed, question } from "./dialog.js";
import { h, present } from "./dom.js";
import { fullTime, layerOf, time } from "./format.js";
import { icon } from "./icons.js";
import { openChanges } from "./changes.js";
import { LINE, openMenu } from "./menu.js";

export class Timeline {
  constructor(explorer) {
    this.explorer = explorer;
    this.client = explorer.client;
    this.element = h("div.timeline", {});
  }

  async refresh() {
    try {
      const told = await this.client.told("layers");
      this.explorer.layers = told.layers;
      this.#draw(told);
    } catch (error) {
      this.element.replaceChildren(h("p.note", {}, error.message));
    }
  }

  #draw({ layers, branches, head }) {
    const { mayWrite, place, seen } = this.explorer;
    const compare = h("button", { type: "button", onclick: () => openChanges(this.explorer) }, icon("diff"), "Compare layers");
    const seal = mayWrite && h("button.main", { type: "button", onclick: () => this.checkpoint() }, icon("plus"), "Checkpoint");
    const select = h("select", { "aria-label": "Branch", onchange: (event) => this.#enter(event.target.value) });
    select.append(...branches.map(({ name }) => h("option", { value: name, selected: name === head }, name)));
    const items = [...layers]
      .sort((a, b) => b.createdAt - a.createdAt)
      .map((layer) => this.#item(layer, place.layer ? layer.id === seen?.id : layer.current));
    const choice = branches.length > 1 && h("label.field.branches", {}, h("span", {}, "Branch"), select);
    this.element.replaceChildren(...present([h("div.tools", {}, seal, compare), choice, h("ol.layers", {}, items)]));
  }

  #item(layer, seen) {
    const open = layer.sealedAt === null;
    const name = open ? (layer.current ? "Now" : `${layer.branch ?? "Head"}, now`) : layer.label;
    const place = layer.current ? "here" : layer.beneath ? "beneath" : "aside";
    const more = h("button.plain", { type: "button", "aria-label": `Actions of ${name}`, "aria-haspopup": "menu" }, icon("more"));
    more.addEventListener("click", () => {
      const { left, bottom } = more.getBoundingClientRect();
      openMenu(this.#menu(layer, name), left, bottom);
    });
    const view = () => this.explorer.seeLayer(layer.current ? null : layer);
    const when = layer.sealedAt ?? layer.createdAt;
    const about = [layer.branch && !open && h("span.tag", {}, layer.branch), h("time", { title: fullTime(when) }, time(when))];
    const lines =
      open || layer.name || !layer.message
        ? [[h("strong", {}, name), about], [layer.message]]
        : [[h("strong", {}, layer.message)], [name, about]]; // an id tells people less
    return h(
      "li",
      { "data-place": place, "aria-current": seen ? "true" : null },
      h(
        "button.layer",
        { type: "button", title: layer.current ? "The tree as it is now" : "See the whole tree as of this layer", onclick: view },
        h("span.line", {}, lines[0]),
        lines[1][0] && h("span.line.dim", {}, lines[1]),
      ),
      (!layer.current || this.explorer.mayWrite) && more,
    );
  }

  #menu(layer, name) {
    const items = [];
    if (!layer.current) items.push({ label: "See the tree as of it", icon: "eye", run: () => this.explorer.seeLayer(layer) });
    if (!layer.current) items.push({ label: "Compare with now", icon: "diff", run: () => openChanges(this.explorer, { older: layer.id }) });
    if (layer.parent)
      items.push({
        label: "What changed in it",
        icon: "diff",
        run: () => openChanges(this.explorer, { older: layer.parent, newer: layerOf(layer) ?? "head" }),
      });
    if (!this.explorer.mayWrite) return items;
    items.push({ label: "Begin a branch here…", icon: "branch", run: () => this.branch(layer, name) });
    if (layerOf(layer)) items.push({ label: "Message…", icon: "pencil", run: () => this.#describe(layer) });
    if (!layer.current && layerOf(layer)) items.push(LINE, { label: "Switch to it…", icon: "restore", run: () => this.switch(layer, name) });
    return items;
  }

  async checkpoint() {
    const label = { label: "Checkpoint", value: "yes", kind: "main" };
    const choices = [{ label: "Cancel", value: "", kind: "quiet" }, label];
    const answer = await question({
      title: "Checkpoint",
      text: "Seals the tree as it is now, so that it can be seen and come back to.",
      field: { label: "Name" },
      choices,
    });
    if (!answer) return;
    await this.#do("The checkpoint", async () => {
      await this.client.told("checkpoint", { name: answer.text });
      this.explorer.toasts.tell(`Checkpoint “${answer.text}” made`);
    });
    await this.#shown();
  }

  async switch(layer, name) {
    const words = "The whole tree will be as it was then. What stands there now is sealed first, so that you can come back to it.";
    if (!(await confirmed(`Switch to “${name}”?`, words, "Switch"))) return;
    if (!(await this.explorer.leaveFile())) return;
    await this.#do("Switching", async () => {
      const { left } = await this.client.told("switch", { layer: layer.id });
      this.explorer.actions.forget();
      const back = left && { label: "Go back", run: () => this.#back(left) };
      this.explorer.toasts.tell(`The tree is as of “${name}”`, { action: back });
      await this.explorer.moved();
    });
  }

  async #back(left) {
    await this.#do("Switching", async () => {
      await this.client.told("switch", { layer: left.id });
      await this.explorer.moved();
    });
  }

  async branch(layer, name) {
    const chosen = await asked(`Begin a branch at “${name}”`, "Name of the branch", "", "Begin");
    if (!chosen || !(await this.explorer.leaveFile())) return;
    await this.#do("The branch", async () => {
      await this.client.told("branch", { name: chosen, layer: layerOf(layer) ?? "head" });
      await this.explorer.entered(chosen);
    });
  }

  async #enter(branch) {
    if (!(await this.explorer.leaveFile())) {
      await this.refresh();
      return;
    }
    await this.#do(`Entering ${branch}`, async () => {
      await this.client.told("enter", { branch });
      await this.explorer.entered(branch);
    });
  }

  async #describe(layer) {
    const message = await asked("Message of the layer", "Message", layer.message, "Save");
    if (message === undefined) return;
    await this.#do("The message", () => this.client.told("describe", { layer: layer.id, message }));
    await this.#shown();
  }

  async #do(what, work) {
    try {
      await work();
    } catch (error) {
      this.explorer.toasts.failed(what, error);
    }
  }

  // A layer more, or another word for one: shown where the time line is.
  async #shown() {
    if (this.explorer.panel.layersShown) await this.refresh();
    else this.explorer.panel.show("layers");
  }
}
