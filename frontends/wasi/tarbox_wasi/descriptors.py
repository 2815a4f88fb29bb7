"""What a guest's file descriptors stand for: the table of numbers, what every descriptor answers, and the host's standard streams.

The tenant's files and directories are `tree`'s, those that are no tenant's `extras`'. A descriptor's methods raise Refused or
FsError; whether the guest has the right to call them was asked before (`Table.get`).
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import select
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, Filestat, Filetype, Refused
from tarbox_wasi.waiting import READABLE, WRITABLE

if TYPE_CHECKING:
    from tarbox_wasi.world import World

FIRST: Final = 3  # behind the standard streams
OPEN_MAX: Final = 16384
STREAM_AT_ONCE: Final = 1 << 16  # bytes read from a stream at most
POLLED_ROOM: Final = 1 << 16  # bytes that poll says can be written where there is no end to it

_DIRECTORY_ONLY: Final = abi.DIRECTORY_RIGHTS & ~abi.FILE_RIGHTS
_POSITION: Final = abi.FD_SEEK | abi.FD_TELL | abi.FD_ADVISE | abi.FD_ALLOCATE


class Entry(NamedTuple):
    """One name of a directory; `cookie` continues after it."""

    cookie: int
    ino: int
    filetype: int
    name: bytes


class Descriptor:
    """Refuses everything; what a kind of file can do it says itself. `base` and `inheriting` are rights, `flags` fdflags."""

    rights: ClassVar[int] = 0  # those that apply to what this is
    filetype: Filetype = Filetype.UNKNOWN
    preopen: bytes | None = None  # the name that the guest knows it by from the start
    position = 0

    def __init__(self, base: int, inheriting: int = 0, flags: int = 0) -> None:
        self.base = base & self.rights
        self.inheriting = inheriting
        self.flags = flags

    def unfit(self, right: int) -> Errno:
        """Why nobody could have this right to what this is."""
        if right & _DIRECTORY_ONLY:
            return Errno.NOTDIR
        return Errno.SPIPE if right & _POSITION else Errno.INVAL

    def stat(self) -> Filestat:
        raise Refused(Errno.NOTSUP)

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        raise Refused(Errno.ROFS)

    def set_size(self, size: int) -> None:
        raise Refused(Errno.ROFS)

    def allocate(self, offset: int, length: int) -> None:
        raise Refused(Errno.ROFS)

    def read(self, size: int) -> bytes:
        """At most so many bytes from the position on, which moves; none at the end."""
        raise Refused(Errno.NOTSUP)

    def pread(self, size: int, offset: int) -> bytes:
        raise Refused(Errno.SPIPE)

    def write(self, data: bytes | memoryview) -> int:
        """Write at the position, which moves, or at the end with the flag APPEND; how much was taken."""
        raise Refused(Errno.ROFS)

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        raise Refused(Errno.SPIPE)

    def size(self) -> int:
        """Where SEEK_END counts from."""
        return self.stat().size

    def sync(self) -> None:
        """Harden what was written."""

    def ready(self, write: bool) -> int | None:
        """How many bytes can be read or written without waiting; None where the host's `stream` knows."""
        raise Refused(Errno.NOTSUP)

    @property
    def stream(self) -> int:
        raise Refused(Errno.NOTSUP)

    def close(self) -> None:
        """What the number stood for is let go, whatever this raises."""


class Directory(Descriptor, ABC):
    """A directory: names below it that may not lead out of it. Changing them is refused unless a kind of directory allows it."""

    rights = abi.DIRECTORY_RIGHTS
    filetype = Filetype.DIRECTORY

    def unfit(self, right: int) -> Errno:
        return Errno.ISDIR

    @abstractmethod
    def open(self, path: bytes, *, follow: bool, oflags: int, base: int, inheriting: int, flags: int) -> Descriptor: ...

    @abstractmethod
    def entries(self, cookie: int, count: int) -> Sequence[Entry]:
        """At most so many from a cookie on; none at the end. 0 begins, and looks afresh."""

    @abstractmethod
    def stat_at(self, path: bytes, *, follow: bool) -> Filestat: ...

    def set_times_at(self, path: bytes, atime: int | None, mtime: int | None, *, follow: bool) -> None:
        raise Refused(Errno.ROFS)

    def readlink(self, path: bytes) -> bytes:
        raise Refused(Errno.INVAL)

    def mkdir(self, path: bytes) -> None:
        raise Refused(Errno.ROFS)

    def rmdir(self, path: bytes) -> None:
        raise Refused(Errno.ROFS)

    def unlink(self, path: bytes) -> None:
        raise Refused(Errno.ROFS)

    def symlink(self, target: bytes, path: bytes) -> None:
        raise Refused(Errno.ROFS)

    def link(self, path: bytes, to: Directory, new: bytes) -> None:
        raise Refused(Errno.XDEV if type(to) is not type(self) else Errno.ROFS)

    def rename(self, path: bytes, to: Directory, new: bytes) -> None:
        raise Refused(Errno.XDEV if type(to) is not type(self) else Errno.ROFS)


def _regular(host: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(host).st_mode)
    except OSError:  # closed
        return False


class Stdio(Descriptor):
    """A stream of the host: standard input, output or error. Whoever reads or writes it waits without the world's lock."""

    rights = abi.STREAM_RIGHTS

    def __init__(self, world: World, host: int, right: int) -> None:
        super().__init__(abi.STREAM_RIGHTS & ~(abi.FD_READ | abi.FD_WRITE) | right)
        self._world = world
        self._host = host
        self.filetype = Filetype.CHARACTER_DEVICE if os.isatty(host) else Filetype.UNKNOWN
        self._regular = _regular(host)

    def stat(self) -> Filestat:
        return Filestat(0, self._host, self.filetype, 1, 0)

    def read(self, size: int) -> bytes:
        while True:
            with self._wait(READABLE), contextlib.suppress(BlockingIOError):
                return os.read(self._host, min(size, STREAM_AT_ONCE))

    def write(self, data: bytes | memoryview) -> int:
        rest = memoryview(data)
        while rest:
            try:
                with self._wait(WRITABLE), contextlib.suppress(BlockingIOError):
                    # Of a larger piece a pipe may take a part and wait in the middle, where nobody can call it off.
                    rest = rest[os.write(self._host, rest if self._regular else rest[: select.PIPE_BUF]) :]
            except Refused:
                if len(rest) == len(data):
                    raise
                break
        return len(data) - len(rest)

    @contextlib.contextmanager
    def _wait(self, event: int) -> Iterator[None]:
        try:
            with self._world.unlocked():
                if self._world.waiter.wait({self._host: event}) is None:
                    raise Refused(Errno.INTR)
                yield
        except OSError as error:
            raise Refused(abi.from_host(error.errno or errno.EIO)) from error

    def ready(self, write: bool) -> int | None:
        return None

    @property
    def stream(self) -> int:
        return self._host


class Table:
    """The numbers that are in use, and what they stand for."""

    def __init__(self) -> None:
        self._open: dict[int, Descriptor] = {}
        self._free: list[int] = []
        self._next = FIRST

    def get(self, number: int, right: int = 0) -> Descriptor:
        """BADF; where a right is missing NOTCAPABLE, or why nobody could have it (NOTDIR, ISDIR, SPIPE, INVAL)."""
        found = self._open.get(number)
        if found is None:
            raise Refused(Errno.BADF)
        if right & ~found.base:
            raise Refused(found.unfit(right) if right & ~found.rights else Errno.NOTCAPABLE)
        return found

    def directory(self, number: int, right: int = 0) -> Directory:
        found = self.get(number, right)
        if not isinstance(found, Directory):
            raise Refused(Errno.NOTDIR)
        return found

    def put(self, number: int, descriptor: Descriptor) -> None:
        self._open[number] = descriptor

    def require_room(self) -> None:
        if len(self._open) >= OPEN_MAX:
            raise Refused(Errno.MFILE)

    def add(self, descriptor: Descriptor) -> int:
        """The lowest number that is free, beginning behind the standard streams."""
        if self._free:
            number = heapq.heappop(self._free)
        else:
            number, self._next = self._next, self._next + 1
        self._open[number] = descriptor
        return number

    def remove(self, number: int) -> Descriptor:
        descriptor = self._open.pop(number)
        if number >= FIRST:
            heapq.heappush(self._free, number)
        return descriptor

    def numbers(self) -> list[int]:
        return list(self._open)
