"""Opening regular files: what a mode like "r+b" asks for, and the operation that answers it."""

from __future__ import annotations

import errno
from typing import Final, NamedTuple

from tarbox_core.client.visit import Visit
from tarbox_core.effects import Op, within
from tarbox_core.errors import FsError, LayerError
from tarbox_core.handles import FileHandle
from tarbox_core.types import SYMLOOP_MAX, Attr

NEW_FILE: Final = 0o666
NEWLINES: Final = (None, "", "\n", "\r", "\r\n")


class Mode(NamedTuple):
    """What is to be done with a file. `make`: if there is none; `exclusive`: only if there is none."""

    read: bool = False
    write: bool = False
    append: bool = False
    make: bool = False
    exclusive: bool = False
    truncate: bool = False
    binary: bool = False


READ: Final = Mode(read=True, binary=True)
REPLACE: Final = Mode(write=True, make=True, truncate=True, binary=True)


def parse(mode: str) -> Mode:
    """As builtins.open takes it. ValueError."""
    letters = set(mode)
    if letters - set("rwaxbt+") or len(letters) != len(mode):
        raise ValueError(f"invalid mode: {mode!r}")
    if {"b", "t"} <= letters:
        raise ValueError("can't have text and binary mode at once")
    kind = letters & set("rwax")
    if len(kind) != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    both = "+" in letters
    return Mode(
        read="r" in kind or both, write="r" not in kind or both, append="a" in kind, make="r" not in kind, exclusive="x" in kind,
        truncate="w" in kind, binary="b" in letters,
    )  # fmt: skip


def opened(v: Visit, path: bytes, mode: Mode, bits: int = NEW_FILE) -> Op[FileHandle]:
    """The file at a path, made and cut to nothing as the mode has it. A link that leads nowhere leads to the new file."""
    for _ in range(SYMLOOP_MAX):
        if not mode.exclusive:
            try:
                attr = yield from v.attr(path)
            except FsError as error:
                if error.errno != errno.ENOENT or not mode.make:
                    raise
            else:
                return (yield from _there(v, attr, mode))
        parent, name = yield from v.place(path, errno.EEXIST if mode.exclusive else errno.EISDIR)
        if path.endswith(b"/"):
            raise FsError(errno.EISDIR, path)
        try:
            _, handle = yield from within(v.fs.create(v.caller, parent, name, v.mode(bits), exclusive=mode.exclusive))
        except FsError as error:
            if error.errno != errno.ELOOP:
                raise
        else:
            if mode.truncate and handle.attr().size:  # another made it meanwhile
                yield from within(handle.truncate(v.caller, 0))
            return _taken(handle, mode)
        link = yield from within(v.fs.lookup(v.caller, parent, name))
        target = yield from within(v.fs.readlink(v.caller, link.ino))
        path = target if target.startswith(b"/") else path.rpartition(b"/")[0] + b"/" + target
    raise FsError(errno.ELOOP, path)


def _there(v: Visit, attr: Attr, mode: Mode) -> Op[FileHandle]:
    handle = yield from within(v.fs.open(v.caller, attr.ino, read=mode.read, write=mode.write, truncate=mode.truncate, kill_suid=False))
    return _taken(handle, mode)


def _taken(handle: FileHandle, mode: Mode) -> FileHandle:
    if mode.write and handle.moves_head:
        raise LayerError(errno.EPERM, "control files take no commands here: use checkpoint() and switch()")
    return handle
