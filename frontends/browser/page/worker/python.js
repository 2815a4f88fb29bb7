// Pyodide, with the standard library and the core as the build compiled them. Everything comes from this origin.

import { loadPyodide } from "pyodide";

const base = new URL(".", import.meta.url);

async function bytes(name) {
  const answer = await fetch(new URL(name, base));
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

// The module tarbox_worker.main. `ASSETS` is the build's: Pyodide's folder and what its lock file tells of it, and the name
// of the core's archive.
export async function startPython() {
  const core = bytes(ASSETS.core);
  const folder = new URL(ASSETS.pyodide, base).href;
  const python = await loadPyodide({
    indexURL: folder,
    packageBaseUrl: folder, // no package is ever loaded; were one asked for, this origin would have to have it
    lockFileContents: { info: ASSETS.info, packages: {} },
    env: { HOME: "/", PYTHONPATH: "/core.zip" },
    fsInit: async (files) => files.writeFile("/core.zip", await core),
  });
  return python.pyimport("tarbox_worker.main");
}
