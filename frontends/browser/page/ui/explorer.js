// The explorer: where it is, what it shows there, and its parts, which know of each other through it.

import { Actions } from "./actions.js";
import { Banners } from "./banner.js";
import { bindDragging } from "./drag.js";
import { bindKeys } from "./keys.js";
import { Commands } from "./commands.js";
import { Crumbs } from "./crumbs.js";
import { Drafts } from "./drafts.js";
import { h, settled } from "./dom.js";
import { count, size } from "./format.js";
import { icon } from "./icons.js";
import { join, nameOf, parentOf, within } from "./paths.js";
import { layOut } from "./layout.js";
import { List } from "./list.js";
import { openSearch } from "./search.js";
import { Panel } from "./panel.js";
import { readFolder } from "./listing.js";
import { readPlace, writePlace } from "./place.js";
import { Stage } from "./stage.js";
import { Toasts } from "./toasts.js";
import { Transfers } from "./transfers.js";
import { Tree } from "./tree.js";

const SOON = 150; // ms in which changes by others are gathered

// What stands in an empty list.
function blank(name, words) {
  return [icon(name), h("p", {}, words)];
}

export class Explorer {
  place; // {path, layer, branch}, of the folder
  layers = []; // as they were told last
  folder = null; // its attributes
  #file = null; // the path of the one that is open
  #opening = 0; // counts the files that were wanted
  #reading = new AbortController();
  #failed = false; // the folder could not be read
  #turns = 0; // counts its readings anew
  #turn = 0; // the one that is shown

  // `tenant`: what the worker tells of it; `tenants`: all that the session opens.
  constructor(client, tenant, tenants) {
    this.client = client;
    this.tenant = tenant;
    this.top = tenant.path ?? "/"; // above which a token opens nothing
    this.place = { path: this.top, layer: null, branch: null };
    this.toasts = new Toasts();
    this.transfers = new Transfers(this.toasts);
    this.drafts = new Drafts(tenant.name);
    this.actions = new Actions(this);
    this.crumbs = new Crumbs(this.top, (path) => this.go(path), () => this.list.focus());
    this.tree = new Tree(client, this.top, { go: (path) => this.go(path) });
    this.list = new List({ open: (entry) => this.open(entry), select: () => this.#selected(), menu: (...where) => this.commands.menu(...where) });
    this.commands = new Commands(this);
    this.panel = new Panel(this);
    this.stage = new Stage(this, {
      close: () => this.closeFile(),
      download: (path) => this.actions.download([{ name: nameOf(path), kind: "file" }], parentOf(path)),
      info: () => this.panel.show("properties"),
    });
    this.banners = new Banners({ now: () => this.seeLayer(null), switchTo: (layer) => this.panel.timeline.switch(layer, layer.label) });
    this.layout = layOut(this, tenants);
    this.element = this.layout.element;
    bindKeys(this);
    bindDragging(this);
    this.refreshSoon = settled(SOON, () => this.refresh());
    this.treeSoon = settled(SOON, () => this.tree.refresh());
    client.on("changed", (what) => this.#changed(what));
    addEventListener("popstate", () => this.#visit(this.#addressed(), {}));
    addEventListener("beforeunload", (event) => {
      if (this.stage.paper?.dirty || this.transfers.busy) event.preventDefault();
    });
    addEventListener("pagehide", () => this.stage.paper?.keep());
  }

  get mayWrite() {
    return !this.tenant.readOnly;
  }

  get writable() {
    return this.mayWrite && this.place.layer === null && within(this.place.path, this.top) && !this.#failed;
  }

  // Whether edits of a file were not saved, and still can be.
  drafted(path, layer) {
    return this.mayWrite && layer === null && this.drafts.has(path);
  }

  // Whether the whole tenant is opened. Who has a path alone has no layers, branches, or records.
  get whole() {
    return this.tenant.path === null;
  }

  // The folder above, where it is opened; from outside back to the top.
  get above() {
    const { path } = this.place;
    if (path === this.top) return null;
    return within(path, this.top) ? parentOf(path) : this.top;
  }

  // The layer that is seen, where it is not now.
  get seen() {
    const { layer } = this.place;
    if (layer === null) return null;
    return this.layers.find(({ id, name }) => [id, name].includes(layer)) ?? this.layers.find(({ id }) => id.startsWith(layer)) ?? null;
  }

  // --- going about

  async begin() {
    const place = this.#addressed();
    if (place.branch && place.branch !== this.tenant.head) {
      try {
        await this.client.told("enter", { branch: place.branch });
        this.layout.branch(place.branch);
      } catch (error) {
        this.toasts.failed(`Branch ${place.branch}`, error);
        place.branch = null;
      }
    }
    await this.#visit(place, { again: true });
    this.list.focus();
  }

  // Where the address leads.
  #addressed() {
    const place = readPlace(this.top);
    if (this.whole || !(place.layer || place.branch)) return place;
    this.toasts.tell(`This token is for ${this.top} as it is now: it opens no layers and no branches`);
    const now = { ...place, layer: null, branch: null };
    writePlace(now, true);
    return now;
  }

  // To a path, a folder or a file; in the same layer unless another is named.
  go(path, { layer = this.place.layer } = {}) {
    return this.#visit({ ...this.place, path, layer }, { write: true });
  }

  async open(entry) {
    const path = join(this.place.path, entry.name);
    if (entry.kind === "file") await this.#openFile(path);
    else if (entry.kind === "directory" || entry.kind === "link") await this.go(path);
    else this.toasts.tell(`“${entry.name}” is neither a file nor a folder: there is nothing to open`);
  }

  // The tree as of a layer, or as it is now.
  seeLayer(layer) {
    return this.#visit({ ...this.place, layer: layer?.id ?? null }, { write: true });
  }

  // Whether no edit is lost; the file is closed then.
  async leaveFile() {
    if (!(await this.stage.leave())) return false;
    if (this.#file !== null) {
      this.#file = null;
      this.#opening++;
      this.stage.close();
      this.#fileShown();
    }
    return true;
  }

  #fileShown() {
    this.crumbs.show(this.#file ?? this.place.path);
    this.element.dataset.open = String(this.#file !== null);
    this.describe();
  }

  async closeFile() {
    if (!(await this.leaveFile())) return;
    writePlace(this.place);
    this.list.focus();
    this.refresh();
  }

  async #visit(place, { write = false, again = false, select = [] }) {
    if (!(await this.leaveFile())) {
      writePlace({ ...this.place, path: this.#file });
      return;
    }
    const same = place.layer === this.place.layer;
    if (place.layer && !same) await this.#learnLayers();
    this.#reading.abort();
    const { signal } = (this.#reading = new AbortController());
    const before = this.place;
    this.place = place;
    if (write) writePlace(place);
    let first = true;
    this.layout.busy(true);
    try {
      await readFolder(this.client, place.path, place.layer, signal, (folder, entries, whole) => {
        this.folder = folder;
        this.#failed = false;
        this.list.show(entries, { keep: !first, note: entries.length ? "" : blank("folder", "This folder is empty") });
        if (first) this.#arrived(before, select);
        first = false;
        this.layout.busy(!whole);
      });
    } catch (error) {
      if (signal.aborted) return;
      const left = error.code === "ENOENT" && this.drafted(place.path, place.layer);
      if ((left || error.code === "ENOTDIR") && place.path !== this.top) {
        await this.#visit({ ...place, path: parentOf(place.path) }, { select: [nameOf(place.path)] });
        await this.#openFile(place.path, { again: again || write });
        return;
      }
      this.folder = null;
      const unknown = place.layer && this.layers.length && !this.seen;
      this.#unread(unknown ? new Error(`There is no layer ${place.layer}`) : error);
      this.#arrived(before, []);
    } finally {
      if (!signal.aborted) this.layout.busy(false);
    }
  }

  #arrived(before, select) {
    const { path, layer } = this.place;
    document.title = `${nameOf(path) || this.tenant.name} · Tarbox`;
    this.crumbs.show(path);
    this.tree.show(path, layer);
    this.banners.seen(layer ? (this.seen ?? { label: layer }) : null, this.mayWrite);
    this.markCut();
    if (select.length) this.list.choose(select);
    else if (before.path !== path && within(before.path, path))
      this.list.choose([before.path.slice(path === "/" ? 1 : path.length + 1).split("/")[0]]);
    this.describe();
    if (before.layer !== layer && this.panel.layersShown) this.panel.draw();
  }

  async #openFile(path, { again = false } = {}) {
    this.#file = path;
    const turn = ++this.#opening;
    try {
      writePlace({ ...this.place, path }, again);
      await this.stage.open(path, this.place.layer);
      if (turn === this.#opening) this.#fileShown();
    } catch (error) {
      if (turn !== this.#opening) return; // another one was wanted since
      this.stage.close();
      this.#file = null;
      this.#fileShown();
      writePlace(this.place, true);
      this.toasts.failed(nameOf(path), error);
    }
  }

  async #learnLayers() {
    try {
      this.layers = (await this.client.told("layers")).layers;
    } catch {
      this.layers = []; // the folder cannot be read either, which is told
    }
  }

  // --- what is shown

  #selected() {
    const { entries } = this.list;
    const chosen = this.list.selection.entries;
    const bytes = chosen.reduce((sum, each) => sum + (each.kind === "file" ? each.size : 0), 0);
    const words = chosen.length ? `${count(chosen.length, "item")} selected${bytes ? `, ${size(bytes)}` : ""}` : count(entries.length, "item");
    this.layout.status(words);
    this.commands.renew();
    this.describeSoon ??= settled(SOON, () => this.describe());
    this.describeSoon();
  }

  deselect() {
    this.list.selection.none();
    this.list.rows.draw();
    this.#selected();
  }

  // Let the panel tell of the file that is open, what is selected, or the folder.
  describe() {
    const chosen = this.list.selection.entries;
    const open = this.#file && this.list.entries.find(({ name }) => name === nameOf(this.#file));
    const entry = open || (chosen.length === 1 ? chosen[0] : null);
    if (entry) this.panel.about(join(this.place.path, entry.name), entry);
    else this.panel.about(this.place.path, this.folder && { ...this.folder, name: nameOf(this.place.path) });
  }

  markCut() {
    const { clipboard } = this.actions;
    const here = clipboard?.cut ? clipboard.paths.filter((path) => parentOf(path) === this.place.path) : [];
    this.list.cut(here.map(nameOf));
    this.commands.renew();
  }

  do(command) {
    this.commands.do(command);
  }

  search() {
    openSearch(this.client, this.place, (path, entry) => {
      if (entry.kind === "directory") this.go(path);
      else this.#visit({ ...this.place, path: parentOf(path) }, { write: true, select: [nameOf(path)] }).then(() => this.list.focus());
    });
  }

  // --- what changes

  // Read the folder anew, keeping what is selected and where the list stands.
  async refresh(select = []) {
    const { signal } = this.#reading;
    const { path, layer } = this.place;
    const turn = ++this.#turns;
    try {
      await readFolder(this.client, path, layer, signal, (folder, entries, whole) => {
        if (!whole || signal.aborted || path !== this.place.path || layer !== this.place.layer) return;
        if (turn < this.#turn) return; // what was read later is shown already
        this.#turn = turn;
        this.folder = folder;
        this.#failed = false;
        this.list.show(entries, { keep: true, note: entries.length ? "" : blank("folder", "This folder is empty") });
        if (select.length) this.list.choose(select);
        this.describe();
      });
    } catch (error) {
      if (signal.aborted || error.code === "cancelled") return;
      this.#unread(error);
    }
  }

  // The folder cannot be read: why, and the way back where it is not ours.
  #unread(error) {
    const lead = () => h("button", { type: "button", onclick: () => this.go(this.top) }, `Go to ${this.top}`);
    this.#failed = true;
    this.list.show([], { note: [...blank("unread", error.message), ...(within(this.place.path, this.top) ? [] : [lead()])] });
  }

  // We changed what is in these folders.
  async touched(folders, { select = [] } = {}) {
    this.treeSoon();
    if (folders.includes(this.place.path)) await this.refresh(select);
    if (this.panel.layersShown) this.panel.draw();
  }

  // We changed the attributes of what stands at a path.
  async touchedAt(path) {
    await this.refresh();
    if (path === this.place.path) this.panel.draw();
  }

  // Another tree stands here now.
  async moved() {
    this.actions.forget();
    await this.#learnLayers();
    if (this.place.layer) await this.seeLayer(null);
    else await this.refresh();
    this.treeSoon();
    if (this.panel.layersShown) this.panel.draw();
  }

  // On another branch.
  async entered(branch) {
    this.place = { ...this.place, branch, layer: null };
    writePlace(this.place);
    this.layout.branch(branch);
    await this.moved();
    this.toasts.tell(`You are on branch ${branch}`);
  }

  // Another door changed something.
  #changed({ inos, moved, lost }) {
    const all = moved || lost;
    const touched = new Set(inos);
    this.stage.paper?.look();
    if (moved && this.panel.layersShown) this.panel.draw();
    if (this.place.layer) return; // the past stays as it is
    if (all || this.#failed || touched.has(this.folder?.ino) || this.list.entries.some(({ ino }) => touched.has(ino))) this.refreshSoon();
    if (all || inos.some((ino) => this.tree.pathOf(ino) !== null)) this.treeSoon();
  }
}
