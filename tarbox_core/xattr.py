"""Extended attributes: bytes by name, in the namespaces user., trusted. and security.

system. ones are no bytes to keep: access control lists would have to be enforced. Refused, so that cp and tar fall back
to the mode.
"""

from __future__ import annotations

import errno
import stat

from tarbox_core import access
from tarbox_core import statements as sql
from tarbox_core.effects import Op, Query, finish
from tarbox_core.errors import ENODATA, FsError
from tarbox_core.inode import copied_up, found
from tarbox_core.session import Session
from tarbox_core.types import NAME_MAX, R_OK, W_OK, XATTR_CREATE, XATTR_REPLACE, Attr, Caller

NAMESPACES = (b"user.", b"trusted.", b"security.")
VALUE_MAX = 65536  # XATTR_SIZE_MAX
LIST_MAX = 65536  # XATTR_LIST_MAX


def get(s: Session, caller: Caller, ino: int, name: bytes) -> Op[bytes]:
    """ENODATA where the inode has no such attribute."""
    rows = yield from finish(sql.XATTR(*s.key, ino, name), sql.INODE(*s.key, ino))
    attr = found(rows[1], ino)
    if s.enforce:
        _check(caller, attr, name, R_OK)
    if not rows[0] or rows[0][0][0] is None:
        raise FsError(ENODATA, name)
    s.note(caller, "getxattr", ino, s.names.path(ino))
    return bytes(rows[0][0][0])


def names(s: Session, caller: Caller, ino: int) -> Op[list[bytes]]:
    """The names, sorted. trusted. ones are root's to see."""
    rows = yield from finish(sql.XATTRS(*s.key, ino), sql.INODE(*s.key, ino))
    found(rows[1], ino)
    return [name for name, _ in rows[0] if caller.uid == 0 or not name.startswith(b"trusted.")]


def put(s: Session, caller: Caller, ino: int, name: bytes, value: bytes, flags: int = 0) -> Op[None]:
    """EEXIST with XATTR_CREATE, ENODATA with XATTR_REPLACE, E2BIG, ERANGE (name), ENOSPC when an inode has too many,
    EOPNOTSUPP for a namespace that is not kept."""
    if not name or len(name) > NAME_MAX or b"\0" in name:
        raise FsError(errno.ERANGE, name)
    if not name.startswith(NAMESPACES):
        raise FsError(errno.EOPNOTSUPP, name)
    if len(value) > VALUE_MAX:
        raise FsError(errno.E2BIG, name)
    rows = yield from s.begin(
        sql.INODE(*s.key, ino),
        sql.XATTR(*s.key, ino, name),
        sql.XATTRS(*s.key, ino),
        exclusive=(s.inode_lock(ino),),
    )
    attr = found(rows[0], ino)
    if s.enforce:
        _check(caller, attr, name, W_OK)
    there = bool(rows[1]) and rows[1][0][0] is not None
    if there and flags & XATTR_CREATE:
        raise FsError(errno.EEXIST, name)
    if not there and flags & XATTR_REPLACE:
        raise FsError(ENODATA, name)
    if not there and sum(len(n) + 1 for n, _ in rows[2]) + len(name) + 1 > LIST_MAX:
        raise FsError(errno.ENOSPC, name)
    yield from _finish(s, caller, attr, "setxattr", name, sql.XATTR_PUT(s.tenant, s.layer, ino, name, value), len(value))


def drop(s: Session, caller: Caller, ino: int, name: bytes) -> Op[None]:
    """ENODATA where there is none."""
    rows = yield from s.begin(sql.INODE(*s.key, ino), sql.XATTR(*s.key, ino, name), exclusive=(s.inode_lock(ino),))
    attr = found(rows[0], ino)
    if s.enforce:
        _check(caller, attr, name, W_OK)
    if not rows[1] or rows[1][0][0] is None:
        raise FsError(ENODATA, name)
    yield from _finish(s, caller, attr, "removexattr", name, sql.XATTR_DROP(*s.key, ino, name), 0)


def _finish(s: Session, caller: Caller, attr: Attr, operation: str, name: bytes, change: Query, size: int) -> Op[None]:
    metadata: dict[str, object] = {"name": name.decode("utf-8", "backslashreplace")}
    yield from finish(
        *copied_up(s, (attr,)),
        change,
        sql.INODE_SET(s.tenant, s.layer, attr.ino, None, None, None, None, None, s.clock(), None),
        *s.tell(attr.ino),
        *s.record(caller, operation, attr.ino, s.names.path(attr.ino), size=size, metadata=metadata),
    )
    s.folders.changed(attr.ino)


def _check(caller: Caller, attr: Attr, name: bytes, mask: int) -> None:
    """xattr(7): who may read and write which namespace."""
    if name.startswith(b"trusted."):
        if caller.uid != 0:
            raise FsError(errno.EPERM if mask & W_OK else ENODATA, name)
    elif name.startswith(b"security."):
        if mask & W_OK:
            access.require_owner(caller, attr)
    else:
        if not (attr.is_reg or attr.is_dir):
            raise FsError(errno.EPERM if mask & W_OK else ENODATA, name)
        if attr.is_dir and attr.mode & stat.S_ISVTX and mask & W_OK:
            access.require_owner(caller, attr)
        access.require(caller, attr, mask)
