"""Open files as io objects: a raw file of ours, under the standard library's buffers and text.

What a raw file is written is stored when `write` returns, for every door to see; the buffer above gathers what is small.
Which driver runs its operations it is given: one of this thread, or a bridge to an event loop (`async_tree`).
"""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from typing import IO, Any, Final, Protocol, TypeVar

from tarbox_core.client.door import Door, Scope
from tarbox_core.client.failures import failure, naming
from tarbox_core.client.names import Path, absolute, given
from tarbox_core.client.opening import NEWLINES, Mode, opened
from tarbox_core.client.visit import Visit
from tarbox_core.effects import Op, finish, within
from tarbox_core.errors import FsError, TarboxError, TransactionError
from tarbox_core.file import OpenFile
from tarbox_core.handles import FileHandle

R = TypeVar("R")

LARGE: Final = 1 << 20  # bytes of a buffer for what is written, and at most for what is read
SMALL: Final = 8 << 10
_ALL: Final = 1 << 62


class Dropped(TarboxError):
    """Nobody waits for what is to be done with a file."""


class Runner(Protocol):
    """A driver, or a transaction of one, that blocks. Its `run` may raise Dropped."""

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False, reading: bool = False) -> R: ...


class RawFile(io.RawIOBase):
    """A regular file, unbuffered. `name` is the path it was opened by. Used by one thread at a time; others wait.

    What other doors write is seen where a read meets the end of the file as this one knew it, and after an open. Appended is
    at the end of the file as it is then, whoever else appends.
    """

    def __init__(self, runner: Runner, visit: Visit, handle: FileHandle, mode: Mode, name: Path, durable: bool) -> None:
        super().__init__()
        self._runner = runner
        self._visit = visit
        self._handle = handle
        self._mode = mode
        self._durable = durable
        self._turn = threading.RLock()
        self._at = handle.attr().size if mode.append else 0
        self._wrote = False
        self.name = given(name)
        self.mode = ("x" if mode.exclusive else "a" if mode.append else "w" if mode.truncate else "r") + "b" + "+" * (mode.read and mode.write)

    def _run(self, op: Callable[[], Op[R]], *, reading: bool = False, durable: bool = False) -> R:
        def factory() -> Op[R]:
            with naming(self.name):
                return (yield from op())

        self._require_open()
        try:
            return self._runner.run(factory, reading=reading, durable=durable)
        except FsError as error:
            raise failure(error, self.name) from error

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def readable(self) -> bool:
        self._require_open()
        return self._mode.read

    def writable(self) -> bool:
        self._require_open()
        return self._mode.write

    def seekable(self) -> bool:
        self._require_open()
        return True

    def size(self) -> int:
        """As this file knows it."""
        return self._handle.attr().size

    # --- reading

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._read(_ALL)

    def _read(self, size: int) -> bytes:
        if not self._mode.read:
            raise io.UnsupportedOperation("not readable")
        with self._turn:
            data = self._run(lambda: self._visit.looking(self._part(self._at, size)), reading=True)
            self._at += len(data)
        return data

    def _part(self, offset: int, size: int) -> Op[bytes]:
        if offset >= self.size():
            self._visit.fs.changed_elsewhere((self._handle.ino,))  # perhaps: look again
        return self._handle.read(self._visit.caller, offset, size)

    # --- writing

    def write(self, data: Any) -> int:
        if not self._mode.write:
            raise io.UnsupportedOperation("not writable")
        view = memoryview(data).cast("B")
        with self._turn:
            if not view:
                return 0
            written, end = self._run(lambda: self._stored(view))
            self._wrote = True
            self._at = end
        return written

    def _stored(self, data: memoryview) -> Op[tuple[int, int]]:
        """How much was written, and where it ends."""
        caller, handle = self._visit.caller, self._handle
        assert isinstance(handle, OpenFile)  # what is opened for writing is stored
        handle.forget()  # what a write that failed has left
        end = yield from handle.look_again()
        offset = end if self._mode.append else self._at
        written = yield from within(handle.write(caller, offset, data))
        yield from handle.flush(caller)
        return written, offset + written

    def truncate(self, size: int | None = None) -> int:
        if not self._mode.write:
            raise io.UnsupportedOperation("truncate")
        with self._turn:
            length = self._at if size is None else size
            self._run(lambda: self._cut(length))
            self._wrote = True
        return length

    def _cut(self, length: int) -> Op[None]:
        assert isinstance(self._handle, OpenFile)
        yield from self._handle.look_again()
        yield from self._handle.truncate(self._visit.caller, length)

    # --- the place, and the end

    def tell(self) -> int:
        self._require_open()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._require_open()
        with self._turn:
            if whence == os.SEEK_END:
                attr = self._run(lambda: self._visit.fs.getattr(self._handle.ino), reading=True)
                base = attr.size
            elif whence in (os.SEEK_SET, os.SEEK_CUR):
                base = self._at if whence == os.SEEK_CUR else 0
            else:
                raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
            if base + offset < 0:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
            self._at = base + offset
        return self._at

    def close(self) -> None:
        """What was written is durable when this returns, where the tree is; what was read is in the audit."""
        if self.closed:
            return
        try:
            with self._turn:
                self._run(self._released, durable=self._durable and self._wrote)
        except Dropped:
            pass  # what was flushed is stored, and of the rest `write` has told
        except TransactionError:
            if self._wrote:
                raise
        finally:
            super().close()

    def _released(self) -> Op[None]:
        yield from within(self._handle.release(self._visit.caller))
        if self._visit.settled:
            yield from finish()
        else:
            yield from self._visit.fs.sync(self._visit.caller)

    def __repr__(self) -> str:
        return f"<tarbox_core file name={self.name!r} mode={self.mode!r}>"


def check(mode: Mode, buffering: int, encoding: str | None, errors: str | None, newline: str | None) -> None:
    """What builtins.open refuses. ValueError."""
    if mode.binary:
        for what, value in (("an encoding", encoding), ("an errors", errors), ("a newline", newline)):
            if value is not None:
                raise ValueError(f"binary mode doesn't take {what} argument")
    elif buffering == 0:
        raise ValueError("can't have unbuffered text I/O")
    if newline not in NEWLINES:
        raise ValueError(f"illegal newline value: {newline!r}")


def buffered(raw: RawFile, mode: Mode, buffering: int, encoding: str | None, errors: str | None, newline: str | None) -> IO[Any]:
    """A raw file with the buffer and the text that were asked for. Text is UTF-8 where nothing else is said."""
    if mode.binary and buffering == 0:
        return raw  # type: ignore[return-value]
    size = buffering if buffering > 1 else min(LARGE, max(SMALL, raw.size() + 1)) if not mode.write else LARGE
    buffer: io.BufferedReader | io.BufferedWriter | io.BufferedRandom
    if mode.read and mode.write:
        buffer = io.BufferedRandom(raw, size)
    else:
        buffer = io.BufferedWriter(raw, size) if mode.write else io.BufferedReader(raw, size)
    if mode.binary:
        return buffer
    stream = io.TextIOWrapper(buffer, encoding or "utf-8", errors, newline, line_buffering=buffering == 1)
    return stream


def open_file(door: Door, runner: Runner, scope: Scope | None, path: Path, mode: Mode) -> RawFile:
    """A file of the tree, opened."""
    visit = door.visit(scope)

    def factory() -> Op[FileHandle]:
        nonlocal visit
        visit = door.visit(scope)
        with naming(path):
            return (yield from visit.looking(opened(visit, absolute(path), mode)))

    try:
        handle = runner.run(factory, reading=not mode.write)
    except FsError as error:
        raise failure(error, path) from error
    return RawFile(runner, visit, handle, mode, path, door.plan.durable)
