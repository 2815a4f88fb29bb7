// node inside_node.mjs PYODIDE REPOSITORY SITE HYPOTHESIS: tests/wasi/inside.py in Pyodide, whose modules are in the first folder.
// What it prints ends with its line of JSON.
import { pathToFileURL } from "node:url";

const [pyodide, repository, site, hypothesis] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`).href);
const python = await loadPyodide({ env: { HOME: "/tmp", PYTEST_DISABLE_PLUGIN_AUTOLOAD: "1" }, args: [] });
for (const [inside, folder] of [["/repo", repository], ["/site", site], ["/hypothesis", hypothesis]]) {
  python.FS.mkdirTree(inside);
  python.mountNodeFS(inside, folder);
}
python.FS.writeFile("/pytest.ini", "[pytest]\n");
process.exitCode = python.runPython(`
import runpy
runpy.run_path("/repo/tests/wasi/inside.py")["run_tests"]()
`);
