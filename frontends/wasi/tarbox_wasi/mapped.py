"""Our own modules as machine code in a file of the user's, which is mapped: a millisecond, where wasmtime's own cache takes
170 to unpack.

It counts only where nobody else can have put it (`caching`). Not for programs of others: their number has no bound, and
wasmtime's cache cleans up after itself.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from wasmtime import Engine, Module, WasmtimeError

from tarbox_wasi.caching import cache_folder, sheltered
from tarbox_wasi.engine import Source, load


def load_mapped(source: Source, engine: Engine, name: str) -> Module:
    """As engine.load, for a file. One that is changed, another wasmtime or another machine has it compiled anew."""
    assert not isinstance(source, bytes)
    place = _place(Path(source))
    if place is not None:
        with suppress(OSError, WasmtimeError):  # no such file, or made by another wasmtime
            if sheltered(place) and place.stat().st_uid == os.geteuid():
                return Module.deserialize_file(engine, str(place))
    module = load(source, engine, name)
    if place is not None:
        with suppress(OSError):
            _keep(module, place)
    return module


def _place(source: Path) -> Path | None:
    """Where the machine code of a file is kept. The name's first half stands for the path, the second for what it is now."""
    folder = cache_folder()
    try:
        now = source.stat()
    except OSError:
        return None
    if folder is None:
        return None
    halves = str(source.resolve()), f"{now.st_size} {now.st_mtime_ns} {now.st_ino}"
    return folder / "tarbox" / "wasm" / ("-".join(hashlib.sha256(half.encode()).hexdigest()[:16] for half in halves) + ".cwasm")


def _keep(module: Module, place: Path) -> None:
    for folder in (place.parents[1], place.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    if not sheltered(place.parent):
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
