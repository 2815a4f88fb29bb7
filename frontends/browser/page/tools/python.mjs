// node python.mjs SCRIPT FOLDER: run a Python script by the very Python that is built for the browser, with the folder as /sources.
// It calls `main` with all of standard input, and prints what that gives.
import { readFileSync } from "node:fs";
import { loadPyodide } from "pyodide";

const [script, folder] = process.argv.slice(2);
const python = await loadPyodide({ env: { PYTHONHASHSEED: "0" } });
python.mountNodeFS("/sources", folder);
try {
  python.runPython(readFileSync(script, "utf8"));
  process.stdout.write(python.globals.get("main")(readFileSync(0, "utf8")));
} catch (error) {
  console.error(error.message.trim().split("\n").at(-1));
  process.exitCode = 1;
}
