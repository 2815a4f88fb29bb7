"""Build what the explorer's page is made of into the package that serves it: Pyodide, the core compiled for it, the page's own code.

`python wasm/browser.py` does nothing when what lies there was built from what lies here; `nox -s browser-build` runs it. Packages
come by npm, each checked against the hash in package-lock.json. Names of files that the page asks for have a hash in them, so
that browsers keep them for ever. The same inputs give the same files.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from packages import BuildError

ROOT: Final = Path(__file__).resolve().parents[1]
BROWSER: Final = ROOT / "frontends/browser"
PAGE: Final = BROWSER / "page"
STATIC: Final = BROWSER / "tarbox_browser/static"
MODULES: Final = PAGE / "node_modules"
LOCK: Final = PAGE / "package-lock.json"
PYODIDE: Final = MODULES / "pyodide"
MANIFEST: Final = "manifest.json"  # what it was built from, the sha256 of each file, and what the entries are called

# Of the page: what esbuild begins at, by the name that the manifest has for it.
ENTRIES: Final = {"worker": "worker/worker.js", "verbs": "worker/verbs.js", "page": "ui/main.js", "style": "ui/style.css"}
DOCUMENT: Final = "index.html"  # of which {entry} is what an entry is called
# Of the core: what runs in a page. Its other drivers need sockets, its interface for programs those drivers.
PACKAGES: Final = {"tarbox_core": ROOT / "tarbox_core", "tarbox_worker": BROWSER / "tarbox_worker"}
DRIVERS: Final = frozenset(("__init__.py", "base.py", "remote.py"))
CLIENT: Final = frozenset(("__init__.py", "failures.py", "names.py", "opening.py", "visit.py"))
# What Pyodide starts with, and what the standard library imports late: for errors, times and tasks.
ALSO: Final = (
    "_pyodide._base", "_pyodide._core_docs", "_pyodide._future_helper", "_pyodide._importhook", "_pyodide.jsbind", "_pyodide.docs_argspec", "pyodide.code",
    "pyodide.console", "pyodide.ffi", "pyodide.ffi.wrappers", "pyodide.http", "pyodide.webloop", "pyodide._package_loader", "pyodide._state",
    "site", "encodings.utf_8", "encodings.ascii", "encodings.latin_1", "encodings.cp437", "encodings.idna", "encodings.aliases", "zipimport",
    "traceback", "linecache", "tokenize", "textwrap", "_strptime", "_colorize", "logging", "asyncio.staggered", "collections.abc", "importlib.resources",
)  # fmt: skip
FILES: Final = ("pyodide.asm.mjs", "pyodide.asm.wasm")  # as they are; pyodide.mjs is bundled
NOT_SHIPPED: Final = frozenset(("node_modules/ws", "node_modules/@types/emscripten"))  # what Pyodide has for Node alone
WHOLE: Final = ("_pyodide/", "pyodide/")  # packages of which everything is there
_DATE: Final = (1980, 1, 1, 0, 0, 0)  # of every member of an archive
_DIGITS: Final = 12  # of a hash in a name


def build(static: Path = STATIC) -> bool:
    """Bring the files up to date; whether anything was to do. BuildError leaves them as they were."""
    with LOCK.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build at a time
        _install()
        sources = _digest(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() for path in _sources())
        there = intact(static)
        if there.get("sources") == sources:
            return False
        static.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=static.parent, prefix=".static-") as made:
            new, work = Path(made, "new"), Path(made, "work")
            new.mkdir()
            python = _python(new, work, static)
            core = _core(new, work)
            info = json.loads((PYODIDE / "pyodide-lock.json").read_bytes())["info"]
            entries, later = _bundle(new, {"pyodide": f"{python}/", "core": core, "info": info})
            _document(new, entries)
            _licenses(new)
            _compress(new)
            content = {"sources": sources, "entries": {**entries, "core": core, "pyodide": python}, "later": later, "files": _hashes(new)}
            (new / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")
            if static.exists():
                static.rename(Path(made, "old"))
            new.rename(static)
        return True


def _sources() -> list[Path]:
    """All that decides how the files come out."""
    own = [Path(__file__), Path(__file__).with_name("packages.py"), LOCK, PAGE / "package.json"]
    page = [path for path in PAGE.rglob("*") if path.is_file() and MODULES not in path.parents and path not in own]
    return [*own, *sorted(page), *(path for _, path in modules())]


def modules() -> Iterable[tuple[str, Path]]:
    """(path in the archive, source) of everything of ours that is in it, sorted."""
    for package, folder in sorted(PACKAGES.items()):
        for source in sorted(folder.rglob("*.py")):
            at = source.relative_to(folder)
            inside = {"drivers": DRIVERS, "client": CLIENT}.get(at.parts[0])
            if inside is None or at.name in inside:
                yield f"{package}/{at.as_posix()}", source


def _digest(parts: Iterable[bytes]) -> str:
    """One sha256 over the hashes of parts."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def intact(static: Path) -> dict[str, Any]:
    """The manifest; nothing where it is missing or the files are not those that were built."""
    try:
        manifest: dict[str, Any] = json.loads((static / MANIFEST).read_bytes())
        return manifest if manifest["files"] == _hashes(static) else {}
    except (OSError, ValueError, KeyError):
        return {}


def _run(*command: str | Path, text: str = "") -> str:
    """What a program prints, run in the page's folder. BuildError: it failed, or is not there."""
    try:
        done = subprocess.run(command, cwd=PAGE, input=text, capture_output=True, text=True)
    except FileNotFoundError:
        raise BuildError(f"{command[0]} is not installed: install Node.js with npm") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()[-1:] or [f"ended with {done.returncode}"]
        raise BuildError(f"{Path(command[0]).name} {' '.join(map(str, command[1:2]))}: {said[0]}")
    return done.stdout


def _install() -> None:
    """The packages of the lock file, anew where it is another one."""
    stamp = MODULES / ".tarbox"
    wanted = _digest([LOCK.read_bytes()])
    if not (stamp.exists() and stamp.read_text() == wanted):
        _run("npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund")
        stamp.write_text(wanted)


# --- Python


def _python(new: Path, work: Path, static: Path) -> str:
    """The folder of Pyodide with its standard library compiled, or the one of the last build."""
    library = _library(work / "all")
    tools = [LOCK, *sorted((PAGE / "tools").iterdir())]
    inputs = [*(path.read_bytes() for path in tools), *(name.encode() + b"\0" + data for name, data in library.items())]
    folder = f"pyodide-{_digest(inputs)[:_DIGITS]}"
    if (static / folder).is_dir() and intact(static):
        shutil.copytree(static / folder, new / folder, copy_function=lambda old, copy: Path(copy).hardlink_to(old))
        return folder
    (new / folder).mkdir()
    for name in FILES:
        shutil.copyfile(PYODIDE / name, new / folder / name)
    (new / folder / "python_stdlib.zip").write_bytes(_archive(library, work / "library"))
    return folder


def _library(folder: Path) -> dict[str, bytes]:
    """The files of the standard library that are needed, by path."""
    with zipfile.ZipFile(PYODIDE / "python_stdlib.zip") as archive:
        archive.extractall(folder)
        files = {name: archive.read(name) for name in sorted(archive.namelist()) if not name.endswith("/")}
    library = {_module(name): name for name in files if name.endswith(".py")}
    also = [*ALSO, *(module for module, name in library.items() if name.startswith(WHOLE))]
    programs = []
    for name, source in modules():
        programs.append(f"ours/{name}")
        (folder / programs[-1]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / programs[-1])
    asked = json.dumps({"library": library, "programs": programs, "also": also})
    wanted = set(_run("node", "tools/python.mjs", "tools/closure.py", folder, text=asked).split())
    return {name: data for name, data in files.items() if (_module(name) in wanted if name.endswith(".py") else name.startswith(WHOLE))}


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def _core(new: Path, work: Path) -> str:
    packed = _archive({name: source.read_bytes() for name, source in modules()}, work / "core")
    name = f"core-{_digest([packed])[:_DIGITS]}.zip"
    (new / name).write_bytes(packed)
    return name


def _archive(files: Mapping[str, bytes], folder: Path) -> bytes:
    """An archive of files, of Python modules what they compile to."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    _run("node", "tools/python.mjs", "tools/compile.py", folder, text="\n".join(name for name in files if name.endswith(".py")))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # stored: it is compressed as a whole on its way
        for name in files:
            inside = f"{name}c" if name.endswith(".py") else name
            member = zipfile.ZipInfo(inside, _DATE)
            member.external_attr = 0o644 << 16
            archive.writestr(member, (folder / inside).read_bytes())
    return packed.getvalue()


# --- the page


def _bundle(new: Path, assets: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Bundle the entries; what each is called, and the files that none of them asks for when it starts."""
    options = [
        "--bundle", "--format=esm", "--splitting", "--minify", "--target=es2022", "--entry-names=[name]-[hash]", "--chunk-names=[name]-[hash]",
        "--asset-names=[name]-[hash]", "--external:node:*", "--external:ws", "--legal-comments=none", "--log-level=error",
    ]  # fmt: skip
    meta = new / "meta.json"
    told = [f"--outdir={new}", f"--metafile={meta}", f"--define:ASSETS={json.dumps(assets)}"]
    _run(MODULES / ".bin/esbuild", *ENTRIES.values(), *options, *told)
    outputs = json.loads(meta.read_text())["outputs"]
    meta.unlink()
    names = {each["entryPoint"]: output for output, each in outputs.items() if "entryPoint" in each}
    left = [names[entry] for entry in ENTRIES.values()]
    first: set[str] = set()
    while left:
        output = left.pop()
        first.add(output)
        asked = {each["path"] for each in outputs[output]["imports"] if each["kind"] == "import-statement"}
        left += [path for path in asked if path in outputs and path not in first]
    later = sorted(Path(output).name for output in outputs if output not in first)
    return {name: Path(names[entry]).name for name, entry in ENTRIES.items()}, later


def _document(new: Path, entries: Mapping[str, str]) -> None:
    """The one document, which names the entries."""
    text = (PAGE / DOCUMENT).read_text()
    for entry, name in entries.items():
        text = text.replace(f"{{{entry}}}", name)
    (new / DOCUMENT).write_text(text)


def _licenses(new: Path) -> None:
    """The licences of what is shipped, in one text: each package's own, and those that Pyodide's package leaves out."""
    parts = []
    locked = json.loads(LOCK.read_text())["packages"]
    for path, package in sorted(locked.items()):
        if path and not package.get("dev") and path not in NOT_SHIPPED:
            name = path.removeprefix("node_modules/")
            texts = [*sorted((PAGE / path).glob("LICEN[CS]E*")), PAGE / "licenses" / name]
            if not texts[0].exists():
                raise BuildError(f"{name} has no licence: put it into {PAGE.relative_to(ROOT)}/licenses")
            parts.append((f"{name} {package['version']}", texts[0]))
    parts.append(("Python, in pyodide", Path(__file__).parent / "licenses/PYTHON-3.12.txt"))
    (new / "licenses.txt").write_text("\n\n".join(f"{title}\n{'=' * len(title)}\n\n{text.read_text().strip()}\n" for title, text in parts))


def _compress(new: Path) -> None:
    """Siblings for servers to send. What is as in the last build keeps its own."""
    plain = [path for path in sorted(new.rglob("*")) if path.is_file() and path.suffix not in (".br", ".gz") and not Path(f"{path}.br").exists()]
    _run("node", "tools/compress.mjs", text="\n".join(map(str, plain)))


def transfer(static: Path) -> int:
    """How many bytes a first visit moves, compressed, until a file is opened."""
    manifest: dict[str, Any] = json.loads((static / MANIFEST).read_bytes())
    names = manifest["files"]
    plain = [name for name in names if not name.endswith((".br", ".gz")) and name not in ("licenses.txt", *manifest["later"])]
    return sum((static / (f"{name}.br" if f"{name}.br" in names else name)).stat().st_size for name in plain)


def main() -> int:
    try:
        changed = build()
    except BuildError as error:
        print(f"wasm/browser.py: {error}", file=sys.stderr)
        return 1
    print(f"{STATIC.relative_to(ROOT)}: {'built' if changed else 'up to date'}; a first visit moves {transfer(STATIC):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
