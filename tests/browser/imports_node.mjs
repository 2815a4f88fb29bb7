// node imports_node.mjs STATIC PYODIDE: import every module of the core's archive with the standard library that the page has; one
// line of JSON with what failed. The second folder has pyodide.mjs, which the page's code has in it.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, pyodide] = process.argv.slice(2);
const { entries } = JSON.parse(readFileSync(`${folder}/manifest.json`));
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`).href);
const python = await loadPyodide({
  indexURL: `${folder}/${entries.pyodide}`,
  lockFileContents: JSON.parse(readFileSync(`${pyodide}/pyodide-lock.json`)),
  env: { HOME: "/", PYTHONPATH: "/core.zip" },
  fsInit: async (files) => files.writeFile("/core.zip", readFileSync(`${folder}/${entries.core}`)),
});
console.log(
  python.runPython(`
import importlib, json, zipfile
failed = {}
for name in zipfile.ZipFile("/core.zip").namelist():
    module = name.removesuffix(".pyc").replace("/", ".").removesuffix(".__init__")
    try:
        importlib.import_module(module)
    except Exception as error:
        failed[module] = repr(error)
json.dumps(failed)
`),
);
