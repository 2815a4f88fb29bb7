"""Build the WASI 0.2 component: the command line and the core, with CPython 3.14 and pg8000 inside.

`python wasm/componentize.py` does nothing when what lies in dist/ was built from what lies here; `nox -s wasm` runs it.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Container
from pathlib import Path
from typing import Final, NamedTuple

import archive
from archive import PACKAGES, ROOT
from packages import BuildError

HERE: Final = Path(__file__).resolve().parent
OURS: Final = HERE / "component"
PROJECT: Final = ROOT / "pyproject.toml"  # which says the version
REQUIREMENTS: Final = OURS / "requirements.txt"
DIST: Final = HERE / "dist"
COMPONENT: Final = DIST / "component.wasm"

# Commands whose work is on the host's own files, processes and mounts.
OUTSIDE: Final = archive.OUTSIDE - {"completion.py", "tenants.py"}
# What is imported somewhere, and is not in a component.
ABSENT: Final = frozenset((
    "asyncio", "blake3", "fcntl", "grp", "pwd", "signal", "subprocess", "tarbox_core.client.async_tree", "tarbox_core.client.tree",
    "tarbox_core.drivers.embedded", "tarbox_core.drivers.postgres_wheel",
))  # fmt: skip
# What the standard library itself imports late: for host names, help texts, times and errors.
LATE: Final = ("encodings.idna", "shutil", "_colorize", "_strptime", "textwrap", "traceback")
_RUN: Final = "from componentize_py import script; raise SystemExit(script())"


def build(out: Path = COMPONENT) -> bool:
    """Bring the component up to date; whether anything was to do. BuildError leaves it as it was."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with REQUIREMENTS.open("rb") as pins:
        fcntl.flock(pins, fcntl.LOCK_EX)  # one build at a time
        inside = contents()
        sources = _digest(inside)
        stamp = out.with_suffix(".json")
        if _stamped(out, stamp) == sources:
            return False
        tools = install(REQUIREMENTS)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".component-") as made:
            new = Path(made, "component.wasm")
            _componentize(tools, _stage(inside, Path(made, "stage")), new)
            content = {"sources": sources, "sha256": hashlib.sha256(new.read_bytes()).hexdigest()}
            stamp.unlink(missing_ok=True)
            new.rename(out)
            stamp.write_text(json.dumps(content) + "\n")
        return True


def install(requirements: Path) -> Path:
    """A folder with the packages of a file of pinned requirements, for PYTHONPATH; made when it is not there."""
    folder = DIST / f"packages-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    DIST.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DIST, prefix=".packages-") as made:
        command = ["-m", "pip", "--disable-pip-version-check", "install", "-q", "--require-hashes", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([sys.executable, *command, "--target", f"{made}/new", "-r", requirements], capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "error" in line.lower()] or [f"pip ended with {done.returncode}"]
            raise BuildError(f"{requirements.name} cannot be installed: {said[0]}")
        Path(made, "new").rename(folder)
    return folder


class Contents(NamedTuple):
    """What goes into a component."""

    files: dict[str, Path]  # our sources, by their path in it
    imports: list[str]  # every module that they import anywhere


def contents() -> Contents:
    """All that the command line may ever import."""
    roots = sorted(PACKAGES.values())
    sources = {root: [path for path in root.rglob("*.py") if root.name != "tarbox_cli" or path.name not in OUTSIDE] for root in roots}
    ours = {_module(path.relative_to(root.parent)): path for root, paths in sources.items() for path in paths}
    found: set[str] = set()
    left = {name for name in ours if name.startswith("tarbox_cli")}
    while left:
        name = left.pop()
        found.add(name)
        if name in ours:
            left |= {inner for inner in imported(ours[name].read_text(), ours) if inner in ours or not inner.startswith("tarbox_")} - found - ABSENT
    files = sorted({ours[name] for name in found & ours.keys()}.union(*(root.rglob("*.sql") for root in roots)))
    return Contents({path.relative_to(root.parent).as_posix(): path for root in roots for path in files if root in path.parents}, sorted(found))


def imported(source: str, ours: Container[str] = ()) -> set[str]:
    """The modules that a source imports anywhere, in functions, too. `ours`: modules that may be imported from their package by name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(inner for alias in node.names if (inner := f"{node.module}.{alias.name}") in ours)}
    return names


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _digest(inside: Contents) -> str:
    """One sha256 over names and contents of all that decides how the component comes out."""
    ours = [Path(__file__), PROJECT, *(path for path in sorted(OURS.rglob("*")) if path.is_file() and path.suffix != ".pyc")]
    parts = inside.files | {path.relative_to(ROOT).as_posix(): path for path in ours}
    return hashlib.sha256(b"".join(hashlib.sha256(name.encode() + b"\0" + path.read_bytes()).digest() for name, path in parts.items())).hexdigest()


def _stamped(out: Path, stamp: Path) -> str:
    """What the component was built from; "" where it is missing or is not the one that was built."""
    try:
        content: dict[str, str] = json.loads(stamp.read_bytes())
        return content["sources"] if content["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest() else ""
    except (OSError, ValueError, KeyError):
        return ""


def _stage(inside: Contents, folder: Path) -> Path:
    """The folder filled with all Python code of ours that goes in."""
    folder.mkdir()
    for source in OURS.glob("*.py"):
        shutil.copy(source, folder)
    for name, source in inside.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    (folder / "everything.py").write_text("".join(f"import {name}\n" for name in ("no_tls", *LATE, *inside.imports)))
    project = tomllib.loads(PROJECT.read_text())["project"]
    (folder / "tarbox.dist-info").mkdir()
    (folder / "tarbox.dist-info/METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    return folder


def _componentize(tools: Path, stage: Path, out: Path) -> None:
    options = ["-q", "-d", str(OURS / "world.wit"), "-w", "command", "componentize", "-p", str(stage), "-p", str(tools), "-o", str(out)]
    done = subprocess.run([sys.executable, "-S", "-c", _RUN, *options, "command"], env={"PYTHONPATH": str(tools)}, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"componentize-py ended with {done.returncode}:\n{done.stderr.strip() or done.stdout.strip()}")


def main() -> int:
    try:
        changed = build()
    except BuildError as error:
        print(f"wasm/componentize.py: {error}", file=sys.stderr)
        return 1
    print(f"{COMPONENT.relative_to(ROOT)}: {'built' if changed else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
