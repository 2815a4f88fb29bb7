// What becomes of a name that is taken: asked once, or once for all.

import { question } from "./dialog.js";
import { nextName } from "./paths.js";

export class Collisions {
  #answer = null;
  #asking = Promise.resolve(); // one question at a time

  // `many`: whether others may follow, for which the answer may hold, too; `whole`: whether the user has the layers.
  constructor(many, whole) {
    Object.assign(this, { many, whole });
  }

  // Do `attempt(name, replace)`; where the name is taken, what the user chooses. The name it has got; null where it was skipped.
  async settle(name, attempt) {
    if (await free(() => attempt(name, false))) return name;
    const choice = await (this.#asking = this.#asking.then(() => this.#answer ?? this.#ask(name)));
    if (choice === "skip") return null;
    if (choice === "replace") {
      await attempt(name, true);
      return name;
    }
    return beside(name, attempt);
  }

  async #ask(name) {
    const answer = await question({
      title: `“${name}” is there already`,
      text: this.whole ? "What is replaced stays in the layers that have it." : "What is replaced cannot be brought back from here.",
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
