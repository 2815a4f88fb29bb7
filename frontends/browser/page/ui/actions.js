// What can be done with files and folders. Each does it, shows what came of it, and remembers how it is undone.

import { asked } from "./dialog.js";
import { beside, Collisions } from "./collisions.js";
import { count } from "./format.js";
import { join, nameOf, parentOf, within } from "./paths.js";
import { upload } from "./uploads.js";

const KEPT_URL = 60_000; // ms until a download has surely begun

export class Actions {
  #undos = [];
  #undoing = Promise.resolve();
  clipboard = null; // {cut, paths, layer}

  constructor(explorer) {
    this.explorer = explorer;
    this.client = explorer.client;
    this.toasts = explorer.toasts;
    this.transfers = explorer.transfers;
  }

  // --- making

  async make(kind) {
    const folder = this.explorer.place.path;
    const words = kind === "folder" ? "New folder" : "New file";
    const name = await asked(words, "Name", kind === "folder" ? "New folder" : "New file.txt", "Create", kind === "folder" ? undefined : [0, 8]);
    if (!name || !this.#may(name)) return;
    const path = join(folder, name);
    await this.#try(`${words} “${name}”`, async () => {
      if (kind === "folder") await this.client.told("mkdir", { path });
      else await this.client.told("write", { path, replace: false }, { data: new ArrayBuffer(0) });
      this.#undoable(`making “${name}”`, () => this.client.told("remove", { paths: [path] }), [folder]);
      await this.explorer.touched([folder], { select: [name] });
    });
  }

  // Whether something can be called so; says why not.
  #may(name) {
    const may = !name.includes("/") && name !== "." && name !== "..";
    if (!may) this.toasts.tell(`“${name}” is no name: it is “.” or “..”, or has a “/” in it`, { kind: "error" });
    return may;
  }

  async rename(entry) {
    const folder = this.explorer.place.path;
    const name = await this.explorer.list.rename(entry);
    if (name === null || !this.#may(name)) return;
    const [source, target] = [join(folder, entry.name), join(folder, name)];
    await this.#try(`Renaming “${entry.name}”`, async () => {
      await this.client.told("rename", { source, target });
      this.#undoable(`renaming “${entry.name}”`, () => this.client.told("rename", { source: target, target: source }), [folder]);
      await this.explorer.touched([folder], { select: [name] });
    });
  }

  // --- taking away

  async remove(paths) {
    const words = paths.length === 1 ? `“${nameOf(paths[0])}”` : count(paths.length, "item");
    const folders = [...new Set(paths.map(parentOf))];
    let kept = null; // what brings it back, told before anything goes
    const answer = await this.transfers.run(`Deleting ${words}`, (job) => {
      const tell = (told) => (told.event === "kept" ? (kept = told.undo) : job.tell(told));
      return this.client.told("remove", { paths }, { signal: job.signal, tell });
    });
    await this.explorer.touched(folders);
    if (!kept) return;
    const undo = () => this.transfers.watch(`Bringing back ${words}`, (job) => this.client.told("undo", kept, job));
    const undoing = this.#undoable(`deleting ${words}`, undo, folders, paths.map(nameOf));
    const came = answer ? `${words} deleted` : `${words}: what was deleted until then can be brought back`;
    this.#offer(came, undoing);
  }

  // --- moving and copying

  cut(paths) {
    this.#clip({ cut: true, paths, layer: null });
  }

  copy(paths) {
    this.#clip({ cut: false, paths, layer: this.explorer.place.layer });
  }

  #clip(clipboard) {
    this.clipboard = clipboard;
    this.explorer.markCut();
    const words = count(clipboard.paths.length, "item");
    this.toasts.tell(`${words} ready to be pasted`);
  }

  async paste(folder) {
    const { clipboard } = this;
    if (!clipboard) return;
    if (clipboard.cut) this.clipboard = null;
    this.explorer.markCut();
    if (clipboard.cut) await this.move(clipboard.paths, folder);
    else await this.copyTo(clipboard.paths, folder, clipboard.layer);
  }

  async move(paths, folder) {
    const wanted = paths.filter((path) => parentOf(path) !== folder && !within(folder, path));
    if (!wanted.length) return;
    const moved = [];
    const collisions = new Collisions(this.client, wanted.length > 1, this.explorer.whole);
    await this.#try(`Moving to ${folder}`, async () => {
      for (const source of wanted) {
        const rename = (name, replace) => this.client.told("rename", { source, target: join(folder, name), replace });
        const name = await collisions.settle(folder, nameOf(source), rename);
        if (name) moved.push({ source, target: join(folder, name) });
      }
    });
    const folders = [folder, ...new Set(moved.map(({ source }) => parentOf(source)))];
    if (moved.length) {
      const undo = async () => {
        for (let last = moved.at(-1); last; last = moved.at(-1)) {
          await this.client.told("rename", { source: last.target, target: last.source });
          moved.pop();
        }
        await collisions.restore();
      };
      const undoing = this.#undoable(`moving ${count(moved.length, "item")}`, undo, folders);
      this.#offer(`${count(moved.length, "item")} moved to ${folder}`, undoing);
    }
    await this.explorer.touched(folders, { select: moved.map(({ target }) => nameOf(target)) });
  }

  async copyTo(paths, folder, layer) {
    const made = [];
    const collisions = new Collisions(this.client, paths.length > 1, this.explorer.whole);
    await this.transfers.run(`Copying ${count(paths.length, "item")}`, async (job) => {
      for (const source of paths) {
        const attempt = (name, replace) => this.client.told("copy", { source, target: join(folder, name), layer, replace }, job);
        const same = parentOf(source) === folder && layer === null;
        const name = same ? await beside(nameOf(source), attempt) : await collisions.settle(folder, nameOf(source), attempt);
        if (name) made.push(join(folder, name));
      }
    });
    const undo = async () => {
      if (made.length) await this.client.told("remove", { paths: made.splice(0) });
      await collisions.restore();
    };
    const names = made.map(nameOf);
    if (made.length) this.#undoable(`copying ${count(made.length, "item")}`, undo, [folder]);
    await this.explorer.touched([folder], { select: names });
  }

  // --- in and out

  async upload(found, folder) {
    await this.#try("Uploading", async () => {
      const all = await found;
      if (!all.files.length && !all.folders.length) return;
      const { names, made } = await upload(this, all, folder);
      await this.explorer.touched([folder], { select: names });
      const some = made < all.files.length ? `${made} of ` : "";
      if (made && all.files.length > 1) this.toasts.tell(`${some}${count(all.files.length, "file")} uploaded to ${folder}`);
    });
  }

  async download(entries, folder) {
    const { layer } = this.explorer.place;
    const single = entries.length === 1 && entries[0].kind === "file" ? entries[0] : null;
    const name = single?.name ?? `${entries.length === 1 ? entries[0].name : nameOf(folder) || this.explorer.tenant.name}.zip`;
    const answer = await this.transfers.run(`Downloading ${name}`, (job) => {
      if (single) return this.client.ask("download", { path: join(folder, single.name), layer }, job);
      return this.client.ask("archive", { paths: entries.map((entry) => join(folder, entry.name)), layer }, job);
    });
    if (answer) save(answer.file, name);
  }

  // --- bringing back

  async restore(path, layer, name) {
    const answer = await this.transfers.run(`Restoring ${nameOf(path)}`, (job) => this.client.told("restore", { path, layer }, job));
    if (!answer) return;
    const before = answer.kept.id;
    const undo = async () => {
      try {
        await this.client.told("restore", { path, layer: before });
      } catch (error) {
        if (error.code !== "ENOENT") throw error;
        await this.client.told("remove", { paths: [path] }); // nothing was there
      }
    };
    const undoing = this.#undoable(`restoring “${nameOf(path)}”`, undo, [parentOf(path)]);
    this.#offer(`“${nameOf(path)}” is as of ${name} again`, undoing);
    await this.explorer.touched([parentOf(path)]);
  }

  // --- undoing

  // One after the other: what was done last is undone before what it rests on.
  undo(wanted) {
    return (this.#undoing = this.#undoing.then(() => this.#undo(wanted)));
  }

  async #undo(wanted = this.#undos.at(-1)) {
    if (!wanted || !this.#undos.includes(wanted)) {
      this.toasts.tell("There is nothing to undo");
      return;
    }
    this.#undos = this.#undos.filter((each) => each !== wanted);
    wanted.withdraw?.();
    try {
      await wanted.run();
      this.toasts.tell(`Undone: ${wanted.words}`);
    } catch (error) {
      if (!error.errno) this.#undos.push(wanted); // nothing in the tree forbids it: it can be tried again
      this.toasts.failed(`Undoing ${wanted.words}`, error);
    }
    await this.explorer.touched(wanted.folders, { select: wanted.names });
  }

  // Another tree stands here now: what was done before is nothing of it.
  forget() {
    for (const each of this.#undos) each.withdraw?.();
    this.#undos = [];
  }

  #undoable(words, run, folders, names = []) {
    const undoing = { words, run, folders, names };
    this.#undos.push(undoing);
    return undoing;
  }

  // Says what was done, with a button to undo it until that is done, too.
  #offer(words, undoing) {
    undoing.withdraw = this.toasts.tell(words, { action: { label: "Undo", run: () => this.undo(undoing) } });
  }

  async #try(what, work) {
    try {
      await work();
    } catch (error) {
      this.toasts.failed(what, error);
    }
  }
}

export function save(file, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT_URL);
}
