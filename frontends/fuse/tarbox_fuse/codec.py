"""Bytes of the kernel's FUSE protocol to request tuples, and results to bytes of replies. Pure: no descriptor, no clock.

`decode` gives `(opcode, unique, nodeid, uid, gid, pid, body)` or raises ProtocolError, whatever the bytes. Bodies are
plain tuples, by opcode, as the decoders below say; data of a write stays a view of the caller's buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from struct import error as StructError
from typing import Any, Final, NamedTuple

from tarbox_core.types import Attr, Entry, StatFs
from tarbox_fuse import abi
from tarbox_fuse.kernel import BEYOND

Body = tuple[Any, ...]
Request = tuple[int, int, int, int, int, int, Body]
Decoder = Callable[[memoryview], Body]

_SECOND: Final = 1_000_000_000
_REGULAR: Final = 8  # the type of regular files, as in a mode
_BLKSIZE: Final = 65536  # st_blksize: what stdio and cp take as a good size for one request


class ProtocolError(Exception):
    """Bytes that are no request. `unique` is the request to answer, or 0 when not even that can be read."""

    def __init__(self, message: str, unique: int = 0) -> None:
        self.unique = unique
        super().__init__(message)


class Timeouts(NamedTuple):
    """How long the kernel may keep names, attributes and absent names, in seconds."""

    entry: float = 1.0
    attr: float = 1.0
    negative: float = 0.0


DEFAULT_TIMEOUTS: Final = Timeouts()
LONG_TIMEOUTS: Final = Timeouts(entry=10.0, attr=10.0)  # where changes by other doors are heard of


# --- requests

_header = abi.IN_HEADER.unpack_from
_HEADER_SIZE: Final = abi.IN_HEADER.size


def decode(buffer: memoryview, size: int) -> Request:
    """The request in the first `size` bytes of `buffer`. An unknown opcode has an empty body."""
    if size < _HEADER_SIZE:
        raise ProtocolError(f"{size} bytes are no request header")
    length, opcode, unique, nodeid, uid, gid, pid, extlen, _ = _header(buffer)
    if length != size:
        raise ProtocolError(f"a request of {length} bytes came as {size}", unique)
    end = size - (extlen << 3)
    if end < _HEADER_SIZE:
        raise ProtocolError("extensions longer than the request", unique)
    decoder = _DECODERS.get(opcode)
    if decoder is None:
        return opcode, unique, nodeid, uid, gid, pid, ()
    try:
        return opcode, unique, nodeid, uid, gid, pid, decoder(buffer[_HEADER_SIZE:end])
    except StructError:
        raise ProtocolError(f"request {opcode} is too short: {size} bytes", unique) from None
    except ProtocolError as error:
        error.unique = unique
        raise


def _nothing(body: memoryview) -> Body:
    return ()


def _fixed(layout: Struct) -> Decoder:
    unpack = layout.unpack_from
    return lambda body: unpack(body)


def _name(body: memoryview) -> Body:
    """(name,): one string that ends with the body."""
    raw = body.tobytes()
    if not raw or raw.find(0) != len(raw) - 1:
        raise ProtocolError("a name must end, once, with NUL")
    return (raw[:-1],)


def _two_names(body: memoryview) -> Body:
    parts = body.tobytes().split(b"\0")
    if len(parts) != 3 or parts[2]:
        raise ProtocolError("expected two names, each ended with NUL")
    return parts[0], parts[1]


def _then_name(layout: Struct) -> Decoder:
    """A layout followed by one name: its fields, then the name."""
    unpack, size = layout.unpack_from, layout.size
    return lambda body: unpack(body) + _name(body[size:])


def _then_two_names(layout: Struct) -> Decoder:
    unpack, size = layout.unpack_from, layout.size
    return lambda body: unpack(body) + _two_names(body[size:])


def _write(body: memoryview) -> Body:
    """(fh, offset, write_flags, flags of open(2), data)"""
    fh, offset, size, write_flags, _owner, flags = abi.WRITE_IN.unpack_from(body)
    data = body[abi.WRITE_IN.size :]
    if len(data) != size:
        raise ProtocolError(f"a write of {size} bytes came with {len(data)}")
    return fh, offset, write_flags, flags, data


def _setattr(body: memoryview) -> Body:
    """(valid, fh, size, atime, mtime, ctime, mode, uid, gid), times in ns"""
    valid, fh, size, _owner, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns, mode, uid, gid = abi.SETATTR_IN.unpack_from(body)
    return valid, fh, size, atime * _SECOND + atime_ns, mtime * _SECOND + mtime_ns, ctime * _SECOND + ctime_ns, mode, uid, gid


def _setxattr(body: memoryview) -> Body:
    """(name, value, flags)"""
    size, flags = abi.SETXATTR_IN.unpack_from(body)
    name, nul, value = body[abi.SETXATTR_IN.size :].tobytes().partition(b"\0")
    if not nul or len(value) != size:
        raise ProtocolError("an attribute's name or value is cut short")
    return name, value, flags


def _init(body: memoryview) -> Body:
    """(major, minor, max_readahead, flags), flags with the bits of flags2 from 32 on"""
    major, minor, readahead, flags = abi.INIT_IN.unpack_from(body)
    if flags & abi.INIT_EXT and len(body) >= abi.INIT_IN_EXT.size:
        flags |= abi.INIT_IN_EXT.unpack_from(body)[4] << 32
    return major, minor, readahead, flags


def _batch_forget(body: memoryview) -> Body:
    """((nodeid, nlookup), ...)"""
    (count,) = abi.BATCH_FORGET_IN.unpack_from(body)
    pairs = body[abi.BATCH_FORGET_IN.size :]
    if len(pairs) < count * abi.FORGET_ONE.size:
        raise ProtocolError(f"a batch of {count} forgets is cut short")
    return tuple(abi.FORGET_ONE.iter_unpack(pairs[: count * abi.FORGET_ONE.size]))


_DECODERS: Final[dict[int, Decoder]] = {
    abi.LOOKUP: _name,
    abi.FORGET: _fixed(abi.FORGET_IN),
    abi.GETATTR: _fixed(abi.GETATTR_IN),
    abi.SETATTR: _setattr,
    abi.READLINK: _nothing,
    abi.SYMLINK: _two_names,  # (name, target)
    abi.MKNOD: _then_name(abi.MKNOD_IN),
    abi.MKDIR: _then_name(abi.MKDIR_IN),
    abi.UNLINK: _name,
    abi.RMDIR: _name,
    abi.RENAME: _then_two_names(abi.RENAME_IN),
    abi.LINK: _then_name(abi.LINK_IN),
    abi.OPEN: _fixed(abi.OPEN_IN),
    abi.READ: _fixed(abi.READ_IN),
    abi.WRITE: _write,
    abi.STATFS: _nothing,
    abi.RELEASE: _fixed(abi.RELEASE_IN),
    abi.FSYNC: _fixed(abi.FSYNC_IN),
    abi.SETXATTR: _setxattr,
    abi.GETXATTR: _then_name(abi.GETXATTR_IN),
    abi.LISTXATTR: _fixed(abi.GETXATTR_IN),
    abi.REMOVEXATTR: _name,
    abi.FLUSH: _fixed(abi.FLUSH_IN),
    abi.INIT: _init,
    abi.OPENDIR: _fixed(abi.OPEN_IN),
    abi.READDIR: _fixed(abi.READ_IN),
    abi.RELEASEDIR: _fixed(abi.RELEASE_IN),
    abi.FSYNCDIR: _fixed(abi.FSYNC_IN),
    abi.ACCESS: _fixed(abi.ACCESS_IN),
    abi.CREATE: _then_name(abi.CREATE_IN),
    abi.INTERRUPT: _fixed(abi.INTERRUPT_IN),
    abi.DESTROY: _nothing,
    abi.IOCTL: _fixed(abi.IOCTL_IN),
    abi.BATCH_FORGET: _batch_forget,
    abi.FALLOCATE: _fixed(abi.FALLOCATE_IN),
    abi.READDIRPLUS: _fixed(abi.READ_IN),
    abi.RENAME2: _then_two_names(abi.RENAME2_IN),
    abi.LSEEK: _fixed(abi.LSEEK_IN),
    abi.COPY_FILE_RANGE: _fixed(abi.COPY_FILE_RANGE_IN),
    abi.SYNCFS: _nothing,
}

# --- replies

encode_header = abi.OUT_HEADER.pack  # (16 + length of the payload, -errno, unique)
encode_write = abi.WRITE_OUT.pack  # (size, 0)
encode_lseek = abi.LSEEK_OUT.pack  # (offset,)
encode_xattr_size = abi.GETXATTR_OUT.pack  # (size, 0)
encode_open = abi.OPEN_OUT.pack  # (fh, open flags, 0)


def _split(seconds: float) -> tuple[int, int]:
    whole = int(seconds)
    return whole, int((seconds - whole) * _SECOND)


class Encoder:
    """Replies that carry attributes, hence timeouts; the timeouts are split once, here. `tree` is what kernel.tree_of gave
    before the attributes were read. What is beyond the tree itself the kernel shall not keep."""

    def __init__(self, timeouts: Timeouts) -> None:
        entry, entry_ns = _split(timeouts.entry)
        attr, attr_ns = _split(timeouts.attr)
        self._valid = entry, attr, entry_ns, attr_ns
        negative, negative_ns = _split(timeouts.negative)
        #: The reply to a lookup of an absent name, or None when the kernel shall not remember it.
        self.absent: bytes | None = None
        if timeouts.negative:
            self.absent = abi.ENTRY_OUT.pack(0, 0, negative, 0, negative_ns, *(0,) * 17)

    def _entry_fields(self, attr: Attr, tree: int) -> tuple[int, ...]:
        ino, mode, uid, gid, nlink, size, blocks, rdev, atime, mtime, ctime, _, _ = attr
        at, at_ns = divmod(atime, _SECOND)
        mt, mt_ns = divmod(mtime, _SECOND)
        ct, ct_ns = divmod(ctime, _SECOND)
        if ino < BEYOND:
            node = ino | tree if mode >> 12 == _REGULAR else ino
            valid = self._valid
        else:
            node, valid = ino, (0, 0, 0, 0)
        return (
            node, 0, *valid,
            ino, size, (blocks + 511) >> 9, at, mt, ct, at_ns, mt_ns, ct_ns, mode, nlink, uid, gid, rdev, _BLKSIZE, 0,
        )  # fmt: skip

    def entry(self, attr: Attr, tree: int) -> bytes:
        return abi.ENTRY_OUT.pack(*self._entry_fields(attr, tree))

    def attr(self, attr: Attr) -> bytes:
        fields = self._entry_fields(attr, 0)
        return abi.ATTR_OUT.pack(fields[3], fields[5], 0, *fields[6:])

    def create(self, attr: Attr, tree: int, fh: int, open_flags: int) -> bytes:
        return abi.CREATE_OUT.pack(*self._entry_fields(attr, tree), fh, open_flags, 0)

    def entries(self, entries: Iterable[Entry], room: int) -> bytes:
        """As many READDIR records as fit into `room` bytes."""
        out = []
        for name, ino, kind, offset, _ in entries:
            length = len(name)
            padded = (length + 7) & ~7
            room -= 24 + padded
            if room < 0:
                break
            out.append(abi.DIRENT.pack(ino, offset, length, kind))
            out.append(name.ljust(padded, b"\0"))
        return b"".join(out)

    def entries_plus(self, entries: Iterable[Entry], tree: int, room: int) -> bytes:
        """As many READDIRPLUS records as fit into `room` bytes. "." and ".." carry node 0: the kernel counts no
        lookup for them."""
        out = []
        for name, ino, kind, offset, attr in entries:
            length = len(name)
            padded = (length + 7) & ~7
            room -= 152 + padded
            if room < 0:
                break
            fields = _NO_ENTRY if attr is None or name == b"." or name == b".." else self._entry_fields(attr, tree)
            out.append(abi.DIRENTPLUS.pack(*fields, ino, offset, length, kind))
            out.append(name.ljust(padded, b"\0"))
        return b"".join(out)


_NO_ENTRY: Final = (0,) * 22


def encode_statfs(st: StatFs) -> bytes:
    block = st.block_size
    free = st.free // block
    return abi.STATFS_OUT.pack(st.total // block, free, free, st.files, st.files_free, block, st.name_max, block, 0)


def encode_init(minor: int, max_readahead: int, flags: int, max_background: int, max_pages: int) -> bytes:
    """`flags` with the bits of flags2 from 32 on. Writes are as long as `max_pages` allow."""
    return abi.INIT_OUT.pack(
        abi.MAJOR, minor, max_readahead, flags & 0xFFFFFFFF, max_background, max_background * 3 // 4,
        max_pages * abi.PAGE, 1, max_pages, 0, flags >> 32,
    )  # fmt: skip
