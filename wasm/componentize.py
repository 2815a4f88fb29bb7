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
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from archive import PACKAGES
from packages import BuildError

HERE: Final = Path(__file__).resolve().parent
OURS: Final = HERE / "component"
REQUIREMENTS: Final = OURS / "requirements.txt"
DIST: Final = HERE / "dist"
COMPONENT: Final = DIST / "component.wasm"

# Doors to the host that a component does not have: its mounts, its engines, its shells.
OUTSIDE: Final = frozenset(f"tarbox_cli/{name}.py" for name in ("__main__", "completion", "guest", "mounting", "wasi"))
DRIVERS: Final = frozenset(
    f"tarbox_core/drivers/{name}.py" for name in ("__init__", "base", "codec", "dsn", "migrate", "packing", "presence", "refusals", "sockets", "sync", "wire")
)
# What is imported somewhere, and is not in a component.
ABSENT: Final = frozenset(("blake3", "fcntl", "grp", "pwd", "signal", "subprocess", "fuse"))
# What the standard library itself imports late: for host names, help texts, times and errors.
LATE: Final = ("encodings.idna", "shutil", "_colorize", "_strptime", "textwrap", "traceback")
_RUN: Final = "from componentize_py import script; raise SystemExit(script())"


def build(out: Path = COMPONENT) -> bool:
    """Bring the component up to date; whether anything was to do. BuildError leaves it as it was."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with REQUIREMENTS.open("rb") as pins:
        fcntl.flock(pins, fcntl.LOCK_EX)  # one build at a time
        sources = _digest()
        stamp = out.with_suffix(".json")
        if _stamped(out, stamp) == sources:
            return False
        tools = install(REQUIREMENTS)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".component-") as made:
            new = Path(made, "component.wasm")
            _componentize(tools, _stage(Path(made, "stage")), new)
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
            raise BuildError(f"{requirements.relative_to(HERE)} cannot be installed: {said[0]}")
        Path(made, "new").rename(folder)
    return folder


def modules() -> Iterator[tuple[str, Path]]:
    """(path in the component, source) of our own packages, sorted; the schema, too."""
    for package, folder in sorted(PACKAGES.items()):
        for source in sorted([*folder.rglob("*.py"), *folder.rglob("*.sql")]):
            name = f"{package}/{source.relative_to(folder).as_posix()}"
            if name not in OUTSIDE and (name in DRIVERS or not name.startswith("tarbox_core/drivers/")):
                yield name, source


def _inputs() -> Iterator[tuple[str, Path]]:
    yield from modules()
    for path in (Path(__file__), *sorted(OURS.rglob("*"))):
        if path.is_file() and path.suffix != ".pyc":
            yield path.relative_to(HERE).as_posix(), path


def _digest() -> str:
    """One sha256 over names and contents of all that decides how the component comes out."""
    return hashlib.sha256(b"".join(hashlib.sha256(name.encode() + b"\0" + path.read_bytes()).digest() for name, path in _inputs())).hexdigest()


def _stamped(out: Path, stamp: Path) -> str:
    """What the component was built from; "" where it is missing or is not the one that was built."""
    try:
        content: dict[str, str] = json.loads(stamp.read_bytes())
        return content["sources"] if content["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest() else ""
    except (OSError, ValueError, KeyError):
        return ""


def _stage(folder: Path) -> Path:
    """The folder filled with all Python code of ours that goes in."""
    folder.mkdir()
    for source in OURS.glob("*.py"):
        shutil.copy(source, folder)
    wanted: set[str] = set(LATE)
    for name, source in modules():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
        if source.suffix == ".py":
            wanted.add(_module(name))
            wanted |= {name for name in imported(source.read_text()) if not name.startswith("tarbox_")}
    names = ["no_tls", *sorted(wanted - ABSENT)]
    (folder / "everything.py").write_text("".join(f"import {name}\n" for name in names))
    return folder


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported(source: str) -> set[str]:
    """The modules that a source imports anywhere, in functions, too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


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
    print(f"{COMPONENT.relative_to(HERE.parent)}: {'built' if changed else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
