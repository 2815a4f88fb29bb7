"""Our own modules as machine code in a file of the user's, which is mapped: a millisecond, where wasmtime's own cache takes
170 to unpack.

Machine code is trusted as a program is, so it counts only in a folder and a file that are this user's and that nobody else
may write to. Not for programs of others: their number has no bound, and wasmtime's cache cleans up after itself.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from wasmtime import Engine, Module, WasmtimeError

from tarbox_wasi.engine import Source, load


def load_mapped(source: Source, engine: Engine, name: str) -> Module:
    """As engine.load, for a file. One that is changed, another wasmtime or another machine has it compiled anew."""
    assert not isinstance(source, bytes)
    try:
        kept = _place(Path(source))
        if _ours(kept.parent) and _ours(kept):
            return Module.deserialize_file(engine, str(kept))
    except (OSError, RuntimeError, WasmtimeError):  # no such file, no home, or made by another wasmtime
        pass
    module = load(source, engine, name)
    with suppress(OSError, RuntimeError):
        _keep(module, _place(Path(source)))
    return module


def _place(source: Path) -> Path:
    """Where the machine code of a file is kept. The name's first half stands for the path, the second for what it is now."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    now = source.stat()
    halves = str(source.resolve()), f"{now.st_size} {now.st_mtime_ns} {now.st_ino}"
    return folder / "tarbox" / "wasm" / ("-".join(hashlib.sha256(half.encode()).hexdigest()[:16] for half in halves) + ".cwasm")


def _ours(path: Path) -> bool:
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _keep(module: Module, place: Path) -> None:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _ours(place.parent):
        return
    number, made = tempfile.mkstemp(dir=place.parent)
    try:
        with open(number, "wb") as file:
            file.write(module.serialize())
        os.replace(made, place)
    except BaseException:
        os.unlink(made)
        raise
    for old in place.parent.glob(f"{place.name.partition('-')[0]}-*"):
        if old != place:
            old.unlink(missing_ok=True)
