// Files and folders from the user's computer: what was chosen or dropped, and putting it into the tree.

import { count } from "./format.js";
import { join, parentOf } from "./paths.js";
import { Collisions } from "./collisions.js";

const TOGETHER = 2;

// Files with their paths below where they go, and folders, of what was dropped. To be called before the event is over.
export function dropped(items) {
  const entries = [...items].filter(({ kind }) => kind === "file").map((item) => item.webkitGetAsEntry() ?? item.getAsFile());
  return (async () => {
    const found = { files: [], folders: [] };
    for (const entry of entries) {
      if (entry instanceof File) found.files.push({ path: entry.name, file: entry });
      else await collect(entry, "", found);
    }
    return found;
  })();
}

async function collect(entry, above, found) {
  const path = above + entry.name;
  if (entry.isFile) {
    found.files.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
    return;
  }
  found.folders.push(path);
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
    if (!some.length) return;
    for (const each of some) await collect(each, `${path}/`, found);
  }
}

// The same of what a file input has.
export function chosen(input) {
  const files = [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
  const folders = new Set();
  for (const { path } of files) {
    for (let above = path.lastIndexOf("/"); above > 0; above = path.lastIndexOf("/", above - 1)) folders.add(path.slice(0, above));
  }
  return { files, folders: [...folders].sort() };
}

// Put all into a folder; the names at its top that are there then.
export async function upload({ client, explorer, transfers }, { files, folders }, into) {
  const names = new Set();
  const label = files.length === 1 ? `Uploading ${files[0].file.name}` : `Uploading ${count(files.length, "file")}`;
  await transfers.run(label, async (job) => {
    for (const path of folders) {
      await client.told("mkdir", { path: join(into, path), parents: true }, { signal: job.signal });
      names.add(path.split("/")[0]);
    }
    const total = files.reduce((sum, { file }) => sum + file.size, 0);
    const done = new Map();
    const collisions = new Collisions(files.length > 1, explorer.whole);

    async function put({ path, file }) {
      const folder = path.includes("/") ? join(into, parentOf(path)) : into;
      const attempt = async (name, replace) => {
        const tell = ({ event, done: part }) => {
          if (event !== "progress") return;
          done.set(file, part);
          job.progress(
            [...done.values()].reduce((sum, each) => sum + each, 0),
            total,
          );
        };
        await client.told("upload", { path: join(folder, name), replace, mtime: file.lastModified }, { file, signal: job.signal, tell });
      };
      const made = await collisions.settle(path.slice(path.lastIndexOf("/") + 1), attempt);
      if (made) names.add(path.includes("/") ? path.split("/")[0] : made);
    }

    const left = files.values();
    const work = async () => {
      for (const each of left) {
        job.signal.throwIfAborted();
        await put(each);
      }
    };
    await Promise.all(Array.from({ length: TOGETHER }, work));
  });
  return [...names];
}
