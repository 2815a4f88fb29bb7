// A directory's entries as they come, a screenful first; in the order that is asked for.

import { kindOf } from "./format.js";

const FIRST = 200; // entries
const NEXT = 10_000;

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

const ORDERS = {
  name: () => 0,
  size: (a, b) => a.size - b.size,
  mtime: (a, b) => a.mtime - b.mtime,
  kind: (a, b) => collator.compare(kindOf(a), kindOf(b)),
  mode: (a, b) => a.mode - b.mode,
};

// Directories first, whatever the order; equals by name.
export function sorted(entries, { by, down }) {
  const order = ORDERS[by];
  const way = down ? -1 : 1;
  const compare = (a, b) => {
    const folders = (b.kind === "directory") - (a.kind === "directory");
    return folders || way * (order(a, b) || collator.compare(a.name, b.name) || (a.name < b.name ? -1 : 1));
  };
  return entries.sort(compare);
}

// Read a whole directory; `show(folder, entries, whole)` after each part, with all entries until then. Nothing comes after `signal`.
export async function readFolder(...asked) {
  for (;;) {
    try {
      return await readOnce(...asked);
    } catch (error) {
      if (error.code !== "stale") throw error; // else it begins anew
    }
  }
}

async function readOnce(client, path, layer, signal, show) {
  let entries = [];
  let answer = await client.told("list", { path, layer, limit: FIRST }, { signal });
  const folder = answer;
  for (;;) {
    if (signal.aborted) return;
    entries = entries.concat(answer.entries);
    show(folder, entries, answer.cursor === null);
    if (answer.cursor === null) return;
    answer = await client.told("more", { cursor: answer.cursor, limit: NEXT }, { signal });
  }
}
