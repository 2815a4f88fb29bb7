"""Open control files: texts that are read, and commands that are written. Which there are is `control_nodes`'."""

from __future__ import annotations

import errno
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

from tarbox_core.effects import Op
from tarbox_core.errors import FsError, LayerError
from tarbox_core.filesystem import Filesystem
from tarbox_core.types import SEEK_DATA, SEEK_HOLE, Attr, Caller, Entry

COMMAND_MAX: Final = 8192  # bytes
_SHOWN_ID: Final = re.compile(r"[0-9a-f]{8,12}")


class ControlFile:
    """What all of them have in common: nothing is ever stored."""

    direct = True
    moves_head = False
    keep_cache = False
    stale = False
    dirty = False

    def __init__(self, attr: Attr) -> None:
        self._attr = attr
        self.ino = attr.ino

    def attr(self) -> Attr:
        return self._attr

    def read(self, caller: Caller, offset: int, size: int, *, final: bool = True) -> Op[bytes]:
        raise FsError(errno.EACCES, self.ino)

    def write(self, caller: Caller, offset: int, data: bytes | memoryview, *, append: bool = False, kill_suid: bool = False) -> Op[int]:
        raise FsError(errno.EACCES, self.ino)

    def truncate(self, caller: Caller, size: int, *, kill_suid: bool = False) -> Op[None]:
        raise FsError(errno.EACCES, self.ino)

    def fallocate(self, caller: Caller, mode: int, offset: int, length: int) -> Op[None]:
        raise FsError(errno.EOPNOTSUPP, self.ino)

    def seek(self, caller: Caller, offset: int, whence: int) -> Op[int]:
        """All there is is data."""
        if whence not in (SEEK_DATA, SEEK_HOLE):
            raise FsError(errno.EINVAL, self.ino)
        if not 0 <= offset < self._attr.size:
            raise FsError(errno.ENXIO, self.ino)
        return _answer(offset if whence == SEEK_DATA else self._attr.size)

    def flush(self, caller: Caller) -> Op[None]:
        return _nothing()

    def fsync(self, caller: Caller) -> Op[None]:
        return _nothing()

    def release(self, caller: Caller) -> Op[None]:
        return _nothing()


def _nothing() -> Op[None]:
    yield from ()


def _answer(value: int) -> Op[int]:
    yield from ()
    return value


class TextFile(ControlFile):
    """A text as it was when the file was opened."""

    def __init__(self, attr: Attr, text: bytes) -> None:
        super().__init__(attr._replace(size=len(text)))
        self._text = text

    def read(self, caller: Caller, offset: int, size: int, *, final: bool = True) -> Op[bytes]:
        yield from ()
        return self._text[offset : offset + size]


class CommandFile(ControlFile, ABC):
    """What is written is a command, and is carried out by the write, which answers with its errno; `refused` is told why.

    A shell's printf writes line by line, so a write that goes on where the last one ended is the rest of that command.
    """

    moves_head = True

    def __init__(self, attr: Attr, fs: Filesystem, refused: Callable[[Exception], None]) -> None:
        super().__init__(attr)
        self._fs = fs
        self.refused = refused  # also for a door that could not even begin
        self._taken = b""  # what was carried out
        self._end = 0  # the offset behind it

    def write(self, caller: Caller, offset: int, data: bytes | memoryview, *, append: bool = False, kill_suid: bool = False) -> Op[int]:
        goes_on = bool(self._taken) and (append or offset == self._end)
        whole = self._taken + bytes(data) if goes_on else bytes(data)
        try:
            if self._taken and not goes_on and offset:
                raise LayerError(errno.EINVAL, "a command begins at the start of the file, and goes on where it ended")
            if len(whole) > COMMAND_MAX:
                raise LayerError(errno.EINVAL, f"a command has at most {COMMAND_MAX} bytes")
            if goes_on and b"\n" not in self._taken:
                raise LayerError(errno.EINVAL, "the first line of a command is written in one piece")
            try:
                lines = whole.decode().split("\n")
            except UnicodeDecodeError:
                raise LayerError(errno.EINVAL, "a command is UTF-8 text") from None
            first, rest = lines[0].strip(), "\n".join(lines[1:]).strip()
            if goes_on:
                yield from self._more(caller, rest)
            else:
                yield from self._command(caller, first, rest)
        except (LayerError, FsError) as error:
            self.refused(error)
            raise FsError(error.errno, self.ino) from error
        self._taken, self._end = whole, offset + len(data)
        return len(data)

    def truncate(self, caller: Caller, size: int, *, kill_suid: bool = False) -> Op[None]:
        return _nothing()

    @abstractmethod
    def _command(self, caller: Caller, first: str, rest: str) -> Op[None]:
        """Carry it out: the first line, and what follows it."""

    @abstractmethod
    def _more(self, caller: Caller, rest: str) -> Op[None]:
        """What follows the first line has grown."""


class NewLayer(CommandFile):
    """layers/new: the first line names a checkpoint (or does not), what follows is its message."""

    _made = ""  # the layer's id

    def _command(self, caller: Caller, first: str, rest: str) -> Op[None]:
        layer = yield from self._fs.checkpoint(caller, first or None, rest)
        if layer is not None:
            self._made = layer.id

    def _more(self, caller: Caller, rest: str) -> Op[None]:
        yield from self._fs.describe(caller, self._made, rest)


class SwitchLayer(CommandFile):
    """layers/switch: the first line is a word for a layer, or begins with its id, as that of layers/current does."""

    def _command(self, caller: Caller, first: str, rest: str) -> Op[None]:
        if not first:
            raise LayerError(errno.EINVAL, 'to which layer? write a name, the beginning of an id, or "-"')
        yield from self._fs.switch(caller, (yield from self._word(first)))

    def _word(self, line: str) -> Op[str]:
        ident, blank, _ = line.partition(" ")
        if not blank or not _SHOWN_ID.fullmatch(ident):
            return line
        try:
            return (yield from self._fs.layer(line)).id  # a name may begin so
        except LayerError:
            return ident

    def _more(self, caller: Caller, rest: str) -> Op[None]:
        yield from ()


class ControlDir:
    """An open directory of control files: what was in it when it was opened."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self.ino = entries[0].ino

    def read(self, caller: Caller, offset: int, limit: int, *, plus: bool = True) -> Op[Sequence[Entry]]:
        yield from ()
        return self._entries[offset : offset + limit]
