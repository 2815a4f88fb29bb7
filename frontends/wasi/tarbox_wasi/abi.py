"""The numbers and layouts of WASI preview1, and bounds-checked access to a guest's memory. No policy, no I/O.

Source: wasi_snapshot_preview1.witx and its typenames. Pointers and lengths are unsigned 32-bit numbers; whatever lies outside of
the memory is FAULT.
"""

from __future__ import annotations

import errno as host
from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from tarbox_core.types import Attr


class Errno(IntEnum):
    """What a call answers."""

    SUCCESS = 0
    TOOBIG = 1  # "2BIG"
    ACCES = 2
    ADDRINUSE = 3
    ADDRNOTAVAIL = 4
    AFNOSUPPORT = 5
    AGAIN = 6
    ALREADY = 7
    BADF = 8
    BADMSG = 9
    BUSY = 10
    CANCELED = 11
    CHILD = 12
    CONNABORTED = 13
    CONNREFUSED = 14
    CONNRESET = 15
    DEADLK = 16
    DESTADDRREQ = 17
    DOM = 18
    DQUOT = 19
    EXIST = 20
    FAULT = 21
    FBIG = 22
    HOSTUNREACH = 23
    IDRM = 24
    ILSEQ = 25
    INPROGRESS = 26
    INTR = 27
    INVAL = 28
    IO = 29
    ISCONN = 30
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    MSGSIZE = 35
    MULTIHOP = 36
    NAMETOOLONG = 37
    NETDOWN = 38
    NETRESET = 39
    NETUNREACH = 40
    NFILE = 41
    NOBUFS = 42
    NODEV = 43
    NOENT = 44
    NOEXEC = 45
    NOLCK = 46
    NOLINK = 47
    NOMEM = 48
    NOMSG = 49
    NOPROTOOPT = 50
    NOSPC = 51
    NOSYS = 52
    NOTCONN = 53
    NOTDIR = 54
    NOTEMPTY = 55
    NOTRECOVERABLE = 56
    NOTSOCK = 57
    NOTSUP = 58
    NOTTY = 59
    NXIO = 60
    OVERFLOW = 61
    OWNERDEAD = 62
    PERM = 63
    PIPE = 64
    PROTO = 65
    PROTONOSUPPORT = 66
    PROTOTYPE = 67
    RANGE = 68
    ROFS = 69
    SPIPE = 70
    SRCH = 71
    STALE = 72
    TIMEDOUT = 73
    TXTBSY = 74
    XDEV = 75
    NOTCAPABLE = 76


#: The host's numbers of what both have. Where the host has two names for one number, either will do.
_FROM_HOST: Final = {getattr(host, f"E{code.name}"): code for code in Errno if hasattr(host, f"E{code.name}")} | {
    host.E2BIG: Errno.TOOBIG,
    host.EOPNOTSUPP: Errno.NOTSUP,
}


def from_host(number: int) -> Errno:
    """What an errno of the host is to the guest; IO for one that WASI does not know."""
    return _FROM_HOST.get(number, Errno.IO)


class Refused(Exception):
    """A call that is answered with an errno other than SUCCESS."""

    def __init__(self, code: Errno) -> None:
        self.code = code
        super().__init__(code.name)


# --- rights

FD_DATASYNC: Final = 1 << 0
FD_READ: Final = 1 << 1
FD_SEEK: Final = 1 << 2
FD_FDSTAT_SET_FLAGS: Final = 1 << 3
FD_SYNC: Final = 1 << 4
FD_TELL: Final = 1 << 5
FD_WRITE: Final = 1 << 6
FD_ADVISE: Final = 1 << 7
FD_ALLOCATE: Final = 1 << 8
PATH_CREATE_DIRECTORY: Final = 1 << 9
PATH_CREATE_FILE: Final = 1 << 10
PATH_LINK_SOURCE: Final = 1 << 11
PATH_LINK_TARGET: Final = 1 << 12
PATH_OPEN: Final = 1 << 13
FD_READDIR: Final = 1 << 14
PATH_READLINK: Final = 1 << 15
PATH_RENAME_SOURCE: Final = 1 << 16
PATH_RENAME_TARGET: Final = 1 << 17
PATH_FILESTAT_GET: Final = 1 << 18
PATH_FILESTAT_SET_SIZE: Final = 1 << 19
PATH_FILESTAT_SET_TIMES: Final = 1 << 20
FD_FILESTAT_GET: Final = 1 << 21
FD_FILESTAT_SET_SIZE: Final = 1 << 22
FD_FILESTAT_SET_TIMES: Final = 1 << 23
PATH_SYMLINK: Final = 1 << 24
PATH_REMOVE_DIRECTORY: Final = 1 << 25
PATH_UNLINK_FILE: Final = 1 << 26
POLL_FD_READWRITE: Final = 1 << 27

_EVERY_FILE: Final = FD_FDSTAT_SET_FLAGS | FD_SYNC | FD_DATASYNC | FD_FILESTAT_GET | FD_FILESTAT_SET_TIMES
#: What can be done with a directory, with a regular file, and with a stream of bytes.
DIRECTORY_RIGHTS: Final = (
    _EVERY_FILE | FD_READDIR | PATH_CREATE_DIRECTORY | PATH_CREATE_FILE | PATH_LINK_SOURCE | PATH_LINK_TARGET | PATH_OPEN | PATH_READLINK
    | PATH_RENAME_SOURCE | PATH_RENAME_TARGET | PATH_FILESTAT_GET | PATH_FILESTAT_SET_SIZE | PATH_FILESTAT_SET_TIMES | PATH_SYMLINK
    | PATH_REMOVE_DIRECTORY | PATH_UNLINK_FILE
)  # fmt: skip
FILE_RIGHTS: Final = _EVERY_FILE | FD_READ | FD_SEEK | FD_TELL | FD_WRITE | FD_ADVISE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE | POLL_FD_READWRITE
STREAM_RIGHTS: Final = FD_READ | FD_WRITE | FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | POLL_FD_READWRITE

# --- flags and tags

APPEND: Final = 1  # fdflags
DSYNC: Final = 2
NONBLOCK: Final = 4
RSYNC: Final = 8
SYNC: Final = 16
FDFLAGS: Final = APPEND | DSYNC | NONBLOCK | RSYNC | SYNC

CREAT: Final = 1  # oflags
DIRECTORY: Final = 2
EXCL: Final = 4
TRUNC: Final = 8
OFLAGS: Final = CREAT | DIRECTORY | EXCL | TRUNC

SYMLINK_FOLLOW: Final = 1  # lookupflags

ATIM: Final = 1  # fstflags
ATIM_NOW: Final = 2
MTIM: Final = 4
MTIM_NOW: Final = 8

SEEK_SET: Final = 0  # whence
SEEK_CUR: Final = 1
SEEK_END: Final = 2

ADVICES: Final = 6

EVENT_CLOCK: Final = 0
EVENT_FD_READ: Final = 1
EVENT_FD_WRITE: Final = 2
CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
SUBSCRIPTION_ABSTIME: Final = 1
HANGUP: Final = 1


class Filetype(IntEnum):
    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


_KINDS: Final = {
    2: Filetype.CHARACTER_DEVICE, 4: Filetype.DIRECTORY, 6: Filetype.BLOCK_DEVICE, 8: Filetype.REGULAR_FILE, 10: Filetype.SYMBOLIC_LINK,
    12: Filetype.SOCKET_STREAM,
}  # fmt: skip


def filetype(kind: int) -> Filetype:
    """The type of a directory entry's kind (d_type). WASI has no word for a FIFO."""
    return _KINDS.get(kind, Filetype.UNKNOWN)


INT_MAX: Final = (1 << 63) - 1  # of sizes, offsets and times that the core takes

# --- layouts

SIZE: Final = Struct("<I")
SIZES: Final = Struct("<II")
FILESIZE: Final = Struct("<Q")
IOVEC: Final = Struct("<II")  # address, length
FDSTAT: Final = Struct("<BxHxxxxQQ")  # filetype, flags, base, inheriting
FILESTAT: Final = Struct("<QQB7xQQQQQ")  # device, inode, filetype, links, size, atim, mtim, ctim
PRESTAT: Final = Struct("<B3xI")  # tag, length of the name
DIRENT: Final = Struct("<QQIB3x")  # next cookie, inode, length of the name, filetype
SUBSCRIPTION: Final = Struct("<QB7x32s")  # userdata, tag, what is subscribed to
SUBSCRIPTION_CLOCK: Final = Struct("<I4xQQH6x")  # clock, timeout, precision, flags
SUBSCRIPTION_FD: Final = Struct("<I28x")
EVENT: Final = Struct("<QHB5xQH6x")  # userdata, errno, tag, bytes, flags


class Filestat(NamedTuple):
    """What stat tells, in the order of its layout. Times in ns since the epoch."""

    dev: int
    ino: int
    filetype: int
    nlink: int
    size: int
    atim: int = 0
    mtim: int = 0
    ctim: int = 0


TREE_DEVICE: Final = 1  # the number of the tenant's tree


def filestat(attr: Attr) -> Filestat:
    """Of an inode of the tree. There are no times before the epoch."""
    times = max(0, attr.atime), max(0, attr.mtime), max(0, attr.ctime)
    return Filestat(TREE_DEVICE, attr.ino, filetype(attr.kind), attr.nlink, attr.size, *times)


# --- memory

IOV_MAX: Final = 1024  # further ones are not looked at: a call may do less than it was asked
TEXT_MAX: Final = 1 << 16
AT_ONCE: Final = 8 << 20  # bytes moved by one call at most


def require(memory: memoryview, address: int, size: int) -> None:
    if address + size > len(memory):
        raise Refused(Errno.FAULT)


def put(memory: memoryview, address: int, data: bytes) -> None:
    require(memory, address, len(data))
    memory[address : address + len(data)] = data


def store(layout: Struct, memory: memoryview, address: int, *values: int) -> None:
    require(memory, address, layout.size)
    layout.pack_into(memory, address, *values)


def text(memory: memoryview, address: int, size: int) -> bytes:
    """A string: a path or a link's target. ILSEQ where it is not UTF-8 or holds a NUL, NAMETOOLONG for what is no path by any measure."""
    require(memory, address, size)
    if size > TEXT_MAX:
        raise Refused(Errno.NAMETOOLONG)
    data = bytes(memory[address : address + size])
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            raise Refused(Errno.ILSEQ) from None
    if b"\0" in data:
        raise Refused(Errno.ILSEQ)
    return data


def buffers(memory: memoryview, address: int, count: int) -> list[memoryview]:
    """The parts of the memory that a list of vectors names, as many bytes as one call moves; empty ones are left out."""
    count = min(count, IOV_MAX)
    require(memory, address, count * IOVEC.size)
    parts = []
    left = AT_ONCE
    for at, size in IOVEC.iter_unpack(memory[address : address + count * IOVEC.size]):
        require(memory, at, size)
        if size and left:
            part = memory[at : at + min(size, left)]
            left -= len(part)
            parts.append(part)
    return parts


def scatter(parts: Sequence[memoryview], data: bytes) -> None:
    """Fill the parts with data, which fits."""
    done = 0
    for part in parts:
        piece = data[done : done + len(part)]
        if not piece:
            return
        part[: len(piece)] = piece
        done += len(piece)
