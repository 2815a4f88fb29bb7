// A text file that is open: whether it was changed here or elsewhere, saving it, and what to do when both happened.

import { compareTexts } from "./compare.js";
import { question } from "./dialog.js";
import { h, settled } from "./dom.js";
import { nameOf } from "./paths.js";
import { part } from "./part.js";
import { textOf } from "./content.js";

const DRAFT = 500; // ms after the last change

export class Paper {
  #saving = null;
  #closed = false;
  #stale = false; // somebody else changed it since

  // `attributes`: of the file; null where it is gone, and a draft of it left. `on`: state(words, kind) tells what is to be seen of it, notice(words, actions) a line above it, or null.
  constructor(explorer, path, attributes, on) {
    Object.assign(this, { client: explorer.client, toasts: explorer.toasts, drafts: explorer.drafts, path, on });
    this.explorer = explorer;
    this.version = attributes?.version ?? null;
    this.ino = attributes?.ino ?? null;
    this.name = nameOf(path);
    this.element = h("div.editor", {});
    this.keepDraft = settled(DRAFT, () => this.keep());
  }

  async open(text, readOnly) {
    const { editText } = await part(() => import("./editor.js"));
    if (this.#closed) return;
    this.editor = editText(this.element, { text, name: this.name, readOnly, changed: () => this.#changed(), save: () => readOnly || this.save() });
    this.readOnly = readOnly;
    const draft = readOnly ? null : this.drafts.find(this.path);
    if (draft && (draft.text !== text || this.version === null)) {
      this.editor.edit(draft.text);
      this.#stale = draft.version !== this.version;
      const gone = this.version === null;
      this.version = draft.version;
      if (gone) this.on.notice("Your unsaved edits are here again; the file was moved or deleted.", [{ label: "Save it anew", run: () => this.save(true) }]);
      else
        this.on.notice(this.#stale ? "Your unsaved edits are here again; the file was changed since." : "Your unsaved edits are here again.", [
          { label: "Compare", run: () => this.compare() },
          { label: "Discard them", run: () => this.reload() },
        ]);
    }
    this.#tell();
  }

  get dirty() {
    return !this.readOnly && this.editor !== undefined && this.editor.dirty;
  }

  #changed() {
    this.#tell();
    this.keepDraft();
  }

  // Keep what is not saved as a draft, now.
  keep() {
    if (this.#closed || this.readOnly || this.editor === undefined) return;
    if (this.dirty) this.drafts.put(this.path, this.editor.text, this.version);
    else this.drafts.drop(this.path);
  }

  #tell() {
    if (this.#closed) return;
    if (this.readOnly) this.on.state("Read-only", "");
    else if (this.#saving) this.on.state("Saving…", "busy");
    else this.on.state(this.dirty ? "Not saved" : "Saved", this.dirty ? "dirty" : "");
  }

  // Whether it is saved. Only over the version that was read, unless `over`.
  save(over = false) {
    this.#saving ??= this.#save(over).finally(() => {
      this.#saving = null;
      this.#tell();
      this.look(); // nobody looked meanwhile
    });
    this.#tell();
    return this.#saving;
  }

  async #save(over) {
    const { mark, text } = this.editor;
    const data = new TextEncoder().encode(text).buffer;
    try {
      const made = await this.client.told("write", { path: this.path, ifVersion: over ? null : this.version }, { data });
      this.explorer.touched([this.explorer.place.path]);
      if (this.#closed) return true;
      this.version = made.version;
      this.ino = made.ino;
      this.#stale = false;
      this.editor.kept(mark);
      this.keep();
      this.on.notice(null);
      return true;
    } catch (error) {
      if (this.#closed) {
        this.toasts.failed(`${this.name} is not saved`, error);
        return false;
      }
      this.keep();
      if (error.code === "conflict") return this.#conflict();
      if (error.code === "ENOENT" && !over) return this.#gone();
      this.toasts.failed(`${this.name} is not saved`, error);
      return false;
    }
  }

  async #conflict() {
    this.on.state("Not saved", "dirty");
    const answer = await question({
      title: `“${this.name}” was changed elsewhere`,
      text: "Since you opened it, somebody else has saved it. Your edits are still here.",
      choices: [
        { label: "Cancel", value: "", kind: "quiet" },
        { label: "Reload theirs", value: "reload" },
        { label: "Overwrite with mine", value: "over" },
        { label: "Compare", value: "compare", kind: "main" },
      ],
    });
    if (answer === "reload") await this.reload();
    if (answer === "compare") await this.compare();
    return answer === "over" && this.#save(true);
  }

  async #gone() {
    this.on.state("Not saved", "dirty");
    const choices = [
      { label: "Cancel", value: "", kind: "quiet" },
      { label: "Save it anew", value: "over", kind: "main" },
    ];
    const answer = await question({
      title: `“${this.name}” is no longer there`,
      text: "It was moved or deleted. Your edits are still here.",
      choices,
    });
    return answer === "over" && this.#save(true);
  }

  async #theirs() {
    const { result, data } = await this.client.ask("read", { path: this.path });
    return { attributes: result, text: textOf(data) };
  }

  // What the file has now, instead of what is here; `kindly` only where nothing was edited here by then.
  async reload(kindly = false) {
    const { version } = this;
    try {
      const { attributes, text } = await this.#theirs();
      if (this.#closed) return;
      if (kindly && (this.dirty || version !== this.version)) {
        this.look();
        return;
      }
      if (text === null) throw new Error("it is no text any more");
      this.version = attributes.version;
      this.ino = attributes.ino;
      this.#stale = false;
      this.editor.replace(text);
      this.drafts.drop(this.path);
      this.on.notice(null);
      this.#tell();
    } catch (error) {
      if (!this.#closed) this.toasts.failed(`Reloading ${this.name}`, error);
    }
  }

  async compare() {
    try {
      const { text } = await this.#theirs();
      await compareTexts(this.name, { label: "In the file", text: text ?? "" }, { label: "Here, not saved", text: this.editor.text });
    } catch (error) {
      this.toasts.failed(`Comparing ${this.name}`, error);
    }
  }

  // Another door may have changed the file: its new content where nothing is edited here, else a line that says so.
  async look() {
    if (this.readOnly || this.#saving || this.#stale || this.#closed) return;
    let version = null;
    try {
      ({ version } = await this.client.told("stat", { path: this.path }));
    } catch (error) {
      if (error.code !== "ENOENT") return;
    }
    if (version === this.version || this.#saving || this.#closed) return;
    if (version !== null && !this.dirty) {
      await this.reload(true);
      return;
    }
    this.#stale = true;
    if (version === null)
      this.on.notice("The file was moved or deleted elsewhere. What you see is still here.", [{ label: "Save it anew", run: () => this.save(true) }]);
    else
      this.on.notice("The file was changed elsewhere.", [
        { label: "Compare", run: () => this.compare() },
        { label: "Reload theirs", run: () => this.reload() },
      ]);
  }

  // Whether it may be closed.
  async leave() {
    if (!this.dirty) return true;
    const answer = await question({
      title: `Save “${this.name}”?`,
      text: "It has edits that are not saved.",
      choices: [
        { label: "Keep editing", value: "", kind: "quiet" },
        { label: "Discard", value: "discard", kind: "danger" },
        { label: "Save", value: "save", kind: "main" },
      ],
    });
    if (answer === "discard") this.drafts.drop(this.path);
    if (answer !== "save") return answer === "discard";
    while (this.dirty) {
      if (!(await this.save())) return false; // one that was on its way has what was typed until then
    }
    return true;
  }

  close() {
    this.#closed = true;
    this.editor?.close();
    this.editor = undefined;
  }
}
