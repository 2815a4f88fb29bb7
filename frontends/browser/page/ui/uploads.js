// Files and folders from the user's computer: what was chosen or dropped, and putting it into the tree.

import { count } from "./format.js";
import { join, parentOf } from "./paths.js";
import { Collisions } from "./collisions.js";

const TOGETHER = 2;
const ENDS = new Set(["cancelled", "connection"]); // errors after which no other file has a better chance

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

// Put all into a folder: {names, made}, the names at its top that are there then, and how many of the files. What cannot be put there
// does not keep the others away.
export async function upload({ client, explorer, transfers }, { files, folders }, into) {
  const names = new Set();
  let made = 0;
  const label = files.length === 1 ? `Uploading ${files[0].file.name}` : `Uploading ${count(files.length, "file")}`;
  await transfers.run(label, async (job) => {
    for (const path of folders) {
      await client.told("mkdir", { path: join(into, path), parents: true }, { signal: job.signal });
      names.add(path.split("/")[0]);
    }
    const total = files.reduce((sum, { file }) => sum + file.size, 0);
    const done = new Map();
    const collisions = new Collisions(client, files.length > 1, explorer.whole);
    const failures = [];
    const over = () => job.signal.aborted || failures.some(({ code }) => ENDS.has(code));

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
      const name = await collisions.settle(folder, path.slice(path.lastIndexOf("/") + 1), attempt);
      if (!name) return;
      made++;
      names.add(path.includes("/") ? path.split("/")[0] : name);
    }

    const left = files.values();
    const work = async () => {
      for (const each of left) {
        if (over()) return;
        await put(each).catch((error) => failures.push(error));
      }
    };
    await Promise.all(Array.from({ length: TOGETHER }, work));
    const [first, ...others] = failures;
    if (others.length && !over()) throw new Error(`${first.message}, and ${count(others.length, "other")}`);
    if (first) throw failures.find(({ code }) => ENDS.has(code)) ?? first;
  });
  return { names: [...names], made };
}
