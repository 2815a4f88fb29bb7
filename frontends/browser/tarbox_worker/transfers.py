"""Content on its way out of the tree: a file, or directories as a zip archive. What goes in is `storing`'s."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Awaitable, Callable, Sized
from typing import Final, Protocol

from tarbox_core.types import Attr
from tarbox_worker.door import Door
from tarbox_worker.storing import Progress
from tarbox_worker.trees import PIECE, File, Found, find
from tarbox_worker.values import Refused, shown


class Sink(Protocol):
    """Where bytes go."""

    def sink(self, data: bytes) -> None: ...
    async def ready(self) -> None:
        """Returns when there is room for more."""
        ...


NAMES_MAX: Final = 200_000  # in an archive
_LEVEL: Final = 3  # of compression: more costs a WebAssembly build more time than it saves
_FIRST: Final = 315532800  # 1980, before which an archive knows no times
_LAST: Final = 4354819198  # the end of 2107, after which it knows none


async def download(door: Door, path: str, layer: str | None, out: Sink, progress: Progress) -> int:
    """The content of a file; its size. Conflict where it changes meanwhile."""
    found = await find(door, path, layer)
    async with found.opened(found.attr) as file:
        await _pour(file, out.sink, out.ready, lambda done: progress(done, file.size))
        return file.size


async def _pour(file: File, write: Callable[[bytes], object], ready: Callable[[], Awaitable[None]], progress: Callable[[int], None]) -> None:
    for offset in range(0, file.size, PIECE):
        progress(offset)
        write(await file.read(offset, PIECE))
        await ready()
    progress(file.size)


async def archive(door: Door, paths: list[str], layer: str | None, out: Sink, progress: Progress) -> int:
    """A zip archive of files and directories with all below them, each under its last name; how many bytes of content."""
    wanted: list[tuple[str, Found, str, Attr]] = []  # names in the archive, what was found, where it is in there
    for path in paths:
        found = await find(door, path, layer, follow=False)
        name = path.rstrip("/").rpartition("/")[2]
        if name:
            wanted.append((name, found, "", found.attr))
        if found.attr.is_dir:
            async for below, attr in found.below():
                wanted.append((f"{name}/{below}".lstrip("/"), found, below, attr))
                _require_few(wanted)
        _require_few(wanted)
    total = sum(attr.size for *_, attr in wanted if attr.is_reg)
    done = 0
    with zipfile.ZipFile(_Out(out), "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as made:
        for name, found, below, attr in wanted:
            member = _member(name, attr)
            made.NameToInfo.clear()  # it would warn of a name that comes twice, as those may whose bytes are no text
            if attr.is_reg:
                async with found.opened(attr, below) as file:
                    with made.open(member, "w", force_zip64=attr.size >= 1 << 31) as inside:
                        await _pour(file, inside.write, out.ready, lambda part: progress(done + part, total))  # noqa: B023
                done += attr.size
            elif attr.is_dir:
                made.writestr(member, b"")
            elif attr.is_symlink:
                made.writestr(member, await found.target(attr.ino))
            await out.ready()
    return total


def _require_few(wanted: Sized) -> None:
    """An archive is made with all its names in memory, however often a path was asked for."""
    if len(wanted) > NAMES_MAX:
        raise Refused(f"more than {NAMES_MAX} names for one archive")


def _member(name: str, attr: Attr) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(shown(name) + "/" * attr.is_dir, time.gmtime(min(max(attr.mtime // 10**9, _FIRST), _LAST))[:6])
    made.create_system = 3  # Unix, for the mode
    made.external_attr = attr.mode << 16 | 0x10 * attr.is_dir
    made.compress_type = zipfile.ZIP_DEFLATED if attr.is_reg else zipfile.ZIP_STORED
    return made


class _Out:
    """A file that is only written."""

    def __init__(self, out: Sink) -> None:
        self._out = out

    def write(self, data: bytes, /) -> int:
        if data:
            self._out.sink(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Nothing is to be closed."""
