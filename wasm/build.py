"""Build the WASI guest into the package that runs it: CPython for WASI, and the core compiled for it.

`python wasm/build.py` does nothing when what lies there was built from what lies here; `nox -s wasm` runs it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from archive import ROOT, archive, modules, version
from packages import BuildError, fetch, unpack

HERE: Final = Path(__file__).resolve().parent
INPUTS: Final = HERE / "inputs.toml"
BUNDLE: Final = ROOT / "frontends/wasi/tarbox_wasi/bundle"
LICENSES: Final = HERE / "licenses"
MANIFEST: Final = "manifest.json"  # what the bundle was built from, and the sha256 of each of its files


def build(bundle: Path = BUNDLE, inputs: Path = INPUTS) -> bool:
    """Bring the bundle up to date; whether anything was to do. BuildError leaves it as it was."""
    with inputs.open("rb") as pins:
        fcntl.flock(pins, fcntl.LOCK_EX)  # one build at a time
        python: dict[str, Any] = tomllib.load(pins)["python"]
        parts = (name.encode() + b"\0" + source.read_bytes() for name, source in [*modules(), *_tools()])
        sources = _digest([version().encode(), *parts])
        there = _intact(bundle)
        if there.get("python") == python and there.get("sources") == sources:
            return False
        bundle.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=bundle.parent, prefix=".bundle-") as made:
            new, work = Path(made, "new"), Path(made, "work")
            new.mkdir()
            work.mkdir()
            if there.get("python") == python:
                for name in python["files"].values():
                    (new / name).hardlink_to(bundle / name)
            else:
                unpack(fetch(python["package"], python["version"], python["sha512"], Path(made)), python["files"], new)
            for text in LICENSES.iterdir():
                (new / f"LICENSE.{text.stem}").write_bytes(text.read_bytes())
            (new / "core.zip").write_bytes(archive(new / "python.wasm", work))
            _write_manifest(new, python, sources)
            _replace(bundle, new, Path(made, "old"))
        return True


def _tools() -> list[tuple[str, Path]]:
    """What else decides how the bundle comes out."""
    own = [HERE / name for name in ("archive.py", "build.py", "packages.py")]
    return [(path.relative_to(ROOT).as_posix(), path) for path in [*own, *sorted(LICENSES.iterdir())]]


def _digest(parts: Iterable[bytes]) -> str:
    """One sha256 over the hashes of parts."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir()) if path.name != MANIFEST}


def _intact(bundle: Path) -> dict[str, Any]:
    """What the bundle says it was built from; nothing where it is missing or its files are not those that were built."""
    try:
        manifest: dict[str, Any] = json.loads((bundle / MANIFEST).read_bytes())
        return manifest if manifest["files"] == _hashes(bundle) else {}
    except (OSError, ValueError, KeyError):
        return {}


def _write_manifest(folder: Path, python: dict[str, Any], sources: str) -> None:
    content = {"python": python, "sources": sources, "files": _hashes(folder)}
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n")


def _replace(bundle: Path, new: Path, old: Path) -> None:
    if bundle.exists():
        bundle.rename(old)
    new.rename(bundle)


def main() -> int:
    try:
        changed = build()
    except BuildError as error:
        print(f"wasm/build.py: {error}", file=sys.stderr)
        return 1
    print(f"{BUNDLE.relative_to(ROOT)}: {'built' if changed else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
