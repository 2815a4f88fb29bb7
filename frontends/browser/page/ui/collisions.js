// What becomes of a name that is taken: asked once, or once for all.

import { question } from "./dialog.js";
import { join, nextName } from "./paths.js";

export class Collisions {
  #answer = null;
  #asking = Promise.resolve(); // one question at a time
  #kept = null; // a promise of the layer that has what is replaced
  replaced = []; // paths

  // `many`: whether others may follow, for which the answer may hold, too; `whole`: whether the user has the layers.
  constructor(client, many, whole) {
    Object.assign(this, { client, many, whole });
  }

  // Bring back what was replaced, where nothing stands now.
  async restore() {
    if (this.replaced.length) await this.client.told("undo", { layer: await this.#kept, paths: this.replaced });
  }

  // Do `attempt(name, replace)` in a folder; where the name is taken, what the user chooses, behind a checkpoint where that replaces
  // something. The name it has got; null where it was skipped.
  async settle(folder, name, attempt) {
    if (await free(() => attempt(name, false))) return name;
    const choice = await (this.#asking = this.#asking.then(() => this.#answer ?? this.#ask(name)));
    if (choice === "skip") return null;
    if (choice === "replace") {
      const path = join(folder, name);
      this.#kept ??= this.client.told("keep", { path }).then(({ layer }) => layer);
      await this.#kept;
      await attempt(name, true);
      this.replaced.push(path);
      return name;
    }
    return beside(name, attempt);
  }

  async #ask(name) {
    const answer = await question({
      title: `“${name}” is there already`,
      text: this.whole ? "A checkpoint is made first, so that what is replaced stays in a layer." : "What is replaced cannot be brought back from here.",
      mark: this.many ? { label: "The same for all others" } : undefined,
      choices: [
        { label: "Skip", value: "skip", kind: "quiet" },
        { label: "Replace", value: "replace" },
        { label: "Keep both", value: "both", kind: "main" },
      ],
    });
    const value = answer?.value ?? answer ?? "skip";
    if (answer?.marked) this.#answer = value;
    return value;
  }
}

// Under the first name like this one that is free.
export async function beside(name, attempt) {
  for (let other = nextName(name); ; other = nextName(other)) {
    if (await free(() => attempt(other, false))) return other;
  }
}

async function free(attempt) {
  try {
    await attempt();
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    return false;
  }
}
