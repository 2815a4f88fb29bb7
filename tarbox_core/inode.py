"""Attributes of one inode: reading them, changing them, symbolic links' targets. Sizes are `file`'s, names `directory`'s."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tarbox_core import access
from tarbox_core import statements as sql
from tarbox_core.effects import Op, Query, Rows, finish
from tarbox_core.errors import FsError
from tarbox_core.session import Session
from tarbox_core.types import NOW, S_IFIFO, S_IFMT, W_OK, Attr, Caller

ATTR_FIELDS = len(Attr._fields)  # a row may have more columns behind them


def getattr(s: Session, ino: int) -> Op[Attr]:
    """The inode's attributes as stored. ENOENT where there is none."""
    rows = yield from finish(sql.INODE(*s.key, ino))
    return found(rows[0], ino)


def found(rows: Rows, subject: int | bytes) -> Attr:
    if not rows:
        raise FsError(errno.ENOENT, subject)
    return Attr._make(rows[0][:ATTR_FIELDS])


class FileRow(NamedTuple):
    """What a regular file's row holds. Where there is neither, the content is in extents."""

    attr: Attr
    inline: bytes | None = None  # the content of a small file
    packed: bytes | None = None  # the hash of the text that is the content


def file_row(rows: Rows, subject: int | bytes) -> FileRow:
    """The row of INODE_FULL. ENOENT where there is none."""
    return FileRow(found(rows, subject), rows[0][ATTR_FIELDS], rows[0][ATTR_FIELDS + 2])


def copied_up(s: Session, attrs: Iterable[Attr]) -> list[Query]:
    """What makes the rows of these inodes the head's own, where an older layer wrote them."""
    return [sql.INODE_COPY_UP(*s.key, ino) for ino in sorted({a.ino for a in attrs if a.layer != s.layer})]


def readlink(s: Session, caller: Caller, ino: int) -> Op[bytes]:
    """The target of a symbolic link. EINVAL for anything else."""
    rows = yield from finish(sql.INODE_FULL(*s.key, ino))
    if not rows[0]:
        raise FsError(errno.ENOENT, ino)
    target = rows[0][0][ATTR_FIELDS + 1]
    if target is None:
        raise FsError(errno.EINVAL, ino)
    s.note(caller, "readlink", ino, s.names.path(ino))
    return bytes(target)


def check_access(s: Session, caller: Caller, ino: int, mask: int) -> Op[None]:
    """access(2). EACCES; EROFS for writing in a read-only session."""
    attr = yield from getattr(s, ino)
    if mask & W_OK and s.read_only and attr.mode & S_IFMT not in (S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR):
        raise FsError(errno.EROFS, ino)
    access.require(caller, attr, mask)


@dataclass(frozen=True, slots=True)
class Change:
    """What chmod, chown and utimens change; what is None stays. Times in ns or NOW."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime: int | None = None
    mtime: int | None = None
    ctime: int | None = None
    kill_suid: bool = False

    @property
    def operation(self) -> str:
        if self.uid is not None or self.gid is not None:
            return "chown"
        return "chmod" if self.mode is not None else "utimens"


def setattr(s: Session, caller: Caller, ino: int, change: Change) -> Op[Attr]:
    """chmod, chown and utimens in one. EPERM, EACCES, EROFS."""
    rows = yield from s.begin(sql.INODE(*s.key, ino), exclusive=(s.inode_lock(ino),))
    attr = found(rows[0], ino)
    after = changed(s, caller, attr, change)
    yield from finish(
        *copied_up(s, (attr,)),
        sql.INODE_SET(s.tenant, s.layer, ino, after.mode, after.uid, after.gid, after.atime, after.mtime, after.ctime, None),
        *s.tell(ino),
        *s.record(caller, change.operation, ino, s.names.path(ino), metadata=_changes(attr, after)),
    )
    return after


def changed(s: Session, caller: Caller, attr: Attr, change: Change) -> Attr:
    """The attributes after a change that the caller may make; EPERM or EACCES where not.

    A new owner takes set-uid (and set-gid of an executable) from anything but a directory, as on ext4, unless a mode is
    given with it.
    """
    now = s.clock()
    if s.enforce:
        _check_setattr(caller, attr, change)
    mode = attr.mode if change.mode is None else attr.mode & ~0o7777 | change.mode & 0o7777
    if change.mode is not None and s.enforce and caller.uid != 0 and not attr.is_dir and not caller.in_group(attr.gid):
        mode &= ~stat.S_ISGID
    if change.mode is None and not attr.is_dir and (change.uid is not None or change.gid is not None or change.kill_suid):
        mode = access.without_suid(mode)
    atime, mtime, ctime = (now if t == NOW else t for t in (change.atime, change.mtime, change.ctime))
    return attr._replace(
        mode=mode,
        uid=attr.uid if change.uid is None else change.uid,
        gid=attr.gid if change.gid is None else change.gid,
        atime=attr.atime if atime is None else atime,
        mtime=attr.mtime if mtime is None else mtime,
        ctime=now if ctime is None else ctime,
        layer=s.layer,
    )


def _check_setattr(caller: Caller, attr: Attr, change: Change) -> None:
    uid, gid, times = change.uid, change.gid, (change.atime, change.mtime)
    if change.mode is not None:
        access.require_owner(caller, attr)
    if caller.uid != 0:
        if uid is not None and (uid != attr.uid or caller.uid != attr.uid):
            raise FsError(errno.EPERM, attr.ino)
        if gid is not None and (caller.uid != attr.uid or (gid != attr.gid and not caller.in_group(gid))):
            raise FsError(errno.EPERM, attr.ino)
    if times == (NOW, NOW):
        if caller.uid != attr.uid:
            access.require(caller, attr, W_OK)
    elif times != (None, None):
        access.require_owner(caller, attr)


def _changes(before: Attr, after: Attr) -> dict[str, object]:
    """For the audit: each changed attribute's old and new value; modes as octal digits."""
    changes: dict[str, object] = {}
    for field in ("mode", "uid", "gid", "atime", "mtime"):
        old, new = before[Attr._fields.index(field)], after[Attr._fields.index(field)]
        if old != new:
            changes[field] = [oct(old)[2:], oct(new)[2:]] if field == "mode" else [old, new]
    return changes
