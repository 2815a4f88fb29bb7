"""A guest's side of the calls without a guest: a memory, and a World that is called on it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, Filestat
from tarbox_wasi.world import World

ROOT_FD = 3
READ = abi.FD_READ | abi.FD_SEEK | abi.FD_TELL | abi.FD_FILESTAT_GET | abi.POLL_FD_READWRITE
WRITE = abi.FILE_RIGHTS
ALL = abi.DIRECTORY_RIGHTS | abi.FILE_RIGHTS


class Failed(Exception):
    def __init__(self, code: Errno) -> None:
        self.code = code
        super().__init__(code.name)


class Fdstat(NamedTuple):
    filetype: int
    flags: int
    base: int
    inheriting: int


class Entry(NamedTuple):
    cookie: int
    ino: int
    filetype: int
    name: bytes


class Guest:
    """Calls as a C library would make them: raising Failed, and with results taken out of the memory."""

    def __init__(self, world: World, size: int = 1 << 20) -> None:
        self.world = world
        self.memory = memoryview(bytearray(size))
        self._next = 1024

    def call(self, name: str, *args: int) -> None:
        code = Errno(self.world.call(name, self.memory, args))
        if code:
            raise Failed(code)

    def put(self, data: bytes) -> tuple[int, int]:
        """Address and length of data in the memory."""
        if self._next + len(data) > len(self.memory):
            self._next = 1024
        at = self._next
        self.memory[at : at + len(data)] = data
        self._next += len(data) + 8
        return at, len(data)

    def room(self, size: int) -> int:
        return self.put(bytes(size))[0]

    def number(self, at: int, layout: str = "<I") -> int:
        value: int = struct.unpack_from(layout, self.memory, at)[0]
        return value

    def answer(self, name: str, *args: int, layout: str = "<I") -> int:
        """A call whose last argument is the address of its result."""
        at = self.room(8)
        self.call(name, *args, at)
        return self.number(at, layout)

    # --- descriptors

    def open(self, path: bytes, oflags: int = 0, *, rights: int = READ, inheriting: int = ALL, flags: int = 0, lookup: int = 1, fd: int = ROOT_FD) -> int:
        return self.answer("path_open", fd, lookup, *self.put(path), oflags, rights, inheriting, flags)

    def create(self, path: bytes, content: bytes = b"", *, oflags: int = abi.CREAT, flags: int = 0, fd: int = ROOT_FD) -> None:
        made = self.open(path, oflags, rights=WRITE, flags=flags, fd=fd)
        if content:
            self.write(made, content)
        self.close(made)

    def content(self, path: bytes) -> bytes:
        fd = self.open(path)
        try:
            return self.read(fd, 1 << 19)
        finally:
            self.close(fd)

    def close(self, fd: int) -> None:
        self.call("fd_close", fd)

    def _vectors(self, *parts: tuple[int, int]) -> tuple[int, int]:
        at, size = self.put(b"".join(struct.pack("<II", *part) for part in parts))
        return at, size // 8

    def read(self, fd: int, *sizes: int) -> bytes:
        return self._read("fd_read", fd, sizes)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return self._read("fd_pread", fd, (size,), offset)

    def _read(self, name: str, fd: int, sizes: tuple[int, ...], *more: int) -> bytes:
        parts = [(self.room(size), size) for size in sizes]
        count = self.answer(name, fd, *self._vectors(*parts), *more)
        return b"".join(bytes(self.memory[at : at + size]) for at, size in parts)[:count]

    def write(self, fd: int, *parts: bytes) -> int:
        return self.answer("fd_write", fd, *self._vectors(*map(self.put, parts)))

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return self.answer("fd_pwrite", fd, *self._vectors(self.put(data)), offset)

    def seek(self, fd: int, offset: int, whence: int = abi.SEEK_SET) -> int:
        return self.answer("fd_seek", fd, offset & (1 << 64) - 1, whence, layout="<Q")

    def fdstat(self, fd: int) -> Fdstat:
        at = self.room(24)
        self.call("fd_fdstat_get", fd, at)
        return Fdstat(*struct.unpack_from("<BxHxxxxQQ", self.memory, at))

    def _stat(self, name: str, *args: int) -> Filestat:
        at = self.room(64)
        self.call(name, *args, at)
        return Filestat(*struct.unpack_from("<QQB7xQQQQQ", self.memory, at))

    def fstat(self, fd: int) -> Filestat:
        return self._stat("fd_filestat_get", fd)

    def entries(self, fd: int, cookie: int = 0, size: int = 65536) -> list[Entry]:
        """Those that one call gives, whole ones."""
        at = self.room(size)
        used = self.answer("fd_readdir", fd, at, size, cookie)
        data = bytes(self.memory[at : at + used])
        found = []
        while len(data) >= 24:
            following, ino, length, filetype = struct.unpack_from("<QQIB", data)
            if len(data) < 24 + length:
                break
            found.append(Entry(following, ino, filetype, data[24 : 24 + length]))
            data = data[24 + length :]
        return found

    def names(self, path: bytes = b".") -> list[bytes]:
        fd = self.open(path, abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS)
        try:
            return [entry.name for entry in self.entries(fd)]
        finally:
            self.close(fd)

    # --- paths

    def stat(self, path: bytes, *, lookup: int = 1, fd: int = ROOT_FD) -> Filestat:
        return self._stat("path_filestat_get", fd, lookup, *self.put(path))

    def mkdir(self, path: bytes, fd: int = ROOT_FD) -> None:
        self.call("path_create_directory", fd, *self.put(path))

    def rmdir(self, path: bytes, fd: int = ROOT_FD) -> None:
        self.call("path_remove_directory", fd, *self.put(path))

    def unlink(self, path: bytes, fd: int = ROOT_FD) -> None:
        self.call("path_unlink_file", fd, *self.put(path))

    def symlink(self, target: bytes, path: bytes, fd: int = ROOT_FD) -> None:
        self.call("path_symlink", *self.put(target), fd, *self.put(path))

    def readlink(self, path: bytes, size: int = 4096, fd: int = ROOT_FD) -> bytes:
        at = self.room(size)
        return bytes(self.memory[at : at + self.answer("path_readlink", fd, *self.put(path), at, size)])

    def link(self, path: bytes, new: bytes, *, lookup: int = 0, fd: int = ROOT_FD, to: int = ROOT_FD) -> None:
        self.call("path_link", fd, lookup, *self.put(path), to, *self.put(new))

    def rename(self, path: bytes, new: bytes, *, fd: int = ROOT_FD, to: int = ROOT_FD) -> None:
        self.call("path_rename", fd, *self.put(path), to, *self.put(new))


def refused(call: Callable[..., object], *args: Any, **more: Any) -> Errno:
    """Why a call is refused; SUCCESS where it is not."""
    try:
        call(*args, **more)
    except Failed as failed:
        return failed.code
    return Errno.SUCCESS
