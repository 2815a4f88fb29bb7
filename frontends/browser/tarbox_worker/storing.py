"""Putting whole files into the tree: from the page, or from another place or layer of the tree. Nobody sees half a file.

What is short goes in one operation. What is long is written beside its place, piece by piece, each an operation that may be
run again when the connection was lost, and then takes the place.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from tarbox_core.client.opening import Mode, opened
from tarbox_core.client.visit import Visit
from tarbox_core.effects import Op, within
from tarbox_core.errors import FsError
from tarbox_core.file import OpenFile
from tarbox_core.types import RENAME_NOREPLACE, Attr
from tarbox_worker.door import Door
from tarbox_worker.trees import PIECE, about
from tarbox_worker.values import Conflict, raw, version

NEW_FILE: Final = 0o666

Progress = Callable[[int, int], None]  # bytes done, of how many


class Source(Protocol):
    """Bytes that are read piece by piece."""

    @property
    def size(self) -> int: ...
    async def read(self, offset: int, length: int) -> bytes: ...


class Marks(NamedTuple):
    """What a file gets beside its content; None: as new files do."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime: int | None = None  # ns


def marks_of(attr: Attr) -> Marks:
    return Marks(attr.mode & 0o7777, attr.uid, attr.gid, attr.mtime)


def beside(path: str) -> str:
    """A name that nobody else uses, in the same directory."""
    return f"{path.rstrip('/').rpartition('/')[0]}/.tarbox-{random.getrandbits(64):016x}"


async def whole(source: Source) -> bytes:
    """All that a source has."""
    return b"".join([await source.read(offset, min(PIECE, source.size - offset)) for offset in range(0, source.size, PIECE)])


async def save(door: Door, path: str, data: bytes, seen: str | None, replace: bool) -> Attr:
    """Make a file's content this, and the file where there is none. `seen`: the version that it must be of (Conflict);
    without `replace` there must be none (EEXIST)."""
    where = raw(path)
    with about(path):
        try:
            return await door.sure(lambda v: _save(v, where, data, seen, replace), lambda v: _holding(v, where, data))
        except Conflict:  # or it was asked for before, and nobody heard that it was done
            held = await door.read(lambda v: _holding(v, where, data))
            if held is None:
                raise
            return held


def _save(v: Visit, path: bytes, data: bytes, seen: str | None, replace: bool) -> Op[Attr]:
    handle = yield from opened(v, path, Mode(write=True, make=seen is None, exclusive=not replace and seen is None, binary=True))
    if seen is not None:
        if isinstance(handle, OpenFile):
            yield from handle.look_again()  # from here on nobody else changes it
        if version(handle.attr()) != seen:
            raise Conflict(f"{path.decode('utf-8', 'replace')}: changed since it was read")
    if handle.attr().size:
        yield from within(handle.truncate(v.caller, 0))
    yield from _written(v, handle.ino, handle.write(v.caller, 0, data), len(data))
    yield from within(handle.release(v.caller))
    return (yield from v.fs.getattr(handle.ino))


def _written(v: Visit, ino: int, write: Op[int], size: int) -> Op[None]:
    if (yield from within(write)) < size:
        raise FsError(errno.EFBIG, ino)


def _holding(v: Visit, path: bytes, data: bytes) -> Op[Attr | None]:
    """A file's attributes where it has this content: what nobody was told the outcome of took effect."""
    there = yield from present(v, path, follow=True)
    if there is None or not there.is_reg:
        return None
    handle = yield from opened(v, path, Mode(read=True, binary=True))
    content = yield from handle.read(v.caller, 0, len(data) + 1, final=False)
    yield from within(handle.release(v.caller))
    return there if content == data else None


async def store(door: Door, path: str, source: Source, marks: Marks, *, replace: bool, progress: Progress) -> None:
    """Make a file of a source. Without `replace` there must be nothing (EEXIST)."""
    size = source.size
    with about(path):
        if size <= PIECE:
            data = await source.read(0, size)
            await door.sure(lambda v: _whole(v, raw(path), data, marks, replace), lambda v: _holding(v, raw(path), data))
            progress(size, size)
            return
        scratch = beside(path)
        ino = (await door.sure(lambda v: _begin(v, raw(path), raw(scratch), marks, replace), lambda v: present(v, raw(scratch)))).ino
        try:
            for offset in range(0, size, PIECE):
                progress(offset, size)
                data = await source.read(offset, min(PIECE, size - offset))
                await door.change(lambda v: _piece(v, raw(scratch), offset, data), again=True)  # noqa: B023
            if marks.mtime is not None:
                await door.change(lambda v: _marked(v, ino, Marks(mtime=marks.mtime)), again=True)
            await moved(door, scratch, path, ino, 0 if replace else RENAME_NOREPLACE)
        except BaseException:
            await door.clear(lambda: door.change(lambda v: unlink(v, raw(scratch)), again=True))
            raise
        progress(size, size)


def _whole(v: Visit, path: bytes, data: bytes, marks: Marks, replace: bool) -> Op[Attr]:
    mode = Mode(write=True, make=True, truncate=True, exclusive=not replace, binary=True)
    handle = yield from opened(v, path, mode, NEW_FILE if marks.mode is None else marks.mode)
    yield from _written(v, handle.ino, handle.write(v.caller, 0, data), len(data))
    yield from within(handle.release(v.caller))
    if any(mark is not None for mark in marks):
        return (yield from _marked(v, handle.ino, marks))
    return handle.attr()


def _marked(v: Visit, ino: int, marks: Marks) -> Op[Attr]:
    return v.fs.setattr(v.caller, ino, mode=marks.mode, uid=marks.uid, gid=marks.gid, mtime=marks.mtime)


def _begin(v: Visit, path: bytes, scratch: bytes, marks: Marks, replace: bool) -> Op[Attr]:
    """An empty file beside the place, with the marks of what it is to replace where it is given none."""
    there = yield from present(v, path)
    if there is not None:
        if there.is_dir or not replace:
            raise FsError(errno.EISDIR if there.is_dir and replace else errno.EEXIST, path)
        if marks.mode is None and there.is_reg:
            marks = marks._replace(mode=there.mode & 0o7777, uid=there.uid, gid=there.gid)
    handle = yield from opened(v, scratch, Mode(write=True, make=True, exclusive=True, binary=True))
    yield from within(handle.release(v.caller))
    marks = marks._replace(mtime=None)  # writing sets it
    if any(mark is not None for mark in marks):
        return (yield from _marked(v, handle.ino, marks))
    return handle.attr()


def present(v: Visit, path: bytes, *, follow: bool = False) -> Op[Attr | None]:
    """What stands at a path, if anything."""
    try:
        return (yield from within(v.attr(path, follow=follow)))
    except FsError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def _piece(v: Visit, path: bytes, offset: int, data: bytes) -> Op[None]:
    handle = yield from opened(v, path, Mode(write=True, binary=True))
    yield from _written(v, handle.ino, handle.write(v.caller, offset, data), len(data))
    yield from handle.release(v.caller)


async def moved(door: Door, source: str, target: str, ino: int, flags: int) -> None:
    """Rename what has this number."""

    def seen(v: Visit) -> Op[Attr | None]:
        there = yield from present(v, raw(target))
        return there if there is not None and there.ino == ino else None

    await door.sure(lambda v: _rename(v, raw(source), raw(target), flags), seen)


def _rename(v: Visit, source: bytes, target: bytes, flags: int) -> Op[Attr | None]:
    here, there = (yield from v.place(source)), (yield from v.place(target))
    yield from v.fs.rename(v.caller, *here, *there, flags)
    return None


def unlink(v: Visit, path: bytes) -> Op[None]:
    where = yield from v.place(path)
    yield from v.fs.unlink(v.caller, *where)
