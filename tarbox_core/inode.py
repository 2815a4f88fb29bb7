"""Attributes of one inode: reading them, changing them, symbolic links' targets. Sizes are `file`'s, names `directory`'s."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterable

from tarbox_core import access
from tarbox_core import statements as sql
from tarbox_core.effects import Op, Query, Rows, finish
from tarbox_core.errors import FsError
from tarbox_core.session import Session
from tarbox_core.types import NOW, W_OK, Attr, Caller


def getattr(s: Session, ino: int) -> Op[Attr]:
    """The inode's attributes as stored. ENOENT where there is none."""
    rows = yield from finish(sql.INODE(*s.key, ino))
    return found(rows[0], ino)


def found(rows: Rows, subject: int | bytes) -> Attr:
    if not rows:
        raise FsError(errno.ENOENT, subject)
    return Attr._make(rows[0])


def copied_up(s: Session, attrs: Iterable[Attr]) -> list[Query]:
    """What makes the rows of these inodes the head's own, where an older layer wrote them."""
    return [sql.INODE_COPY_UP(*s.key, ino) for ino in sorted({a.ino for a in attrs if a.layer != s.layer})]


def readlink(s: Session, caller: Caller, ino: int) -> Op[bytes]:
    """The target of a symbolic link. EINVAL for anything else."""
    rows = yield from finish(sql.INODE_FULL(*s.key, ino))
    if not rows[0]:
        raise FsError(errno.ENOENT, ino)
    target = rows[0][0][14]
    if target is None:
        raise FsError(errno.EINVAL, ino)
    s.note(caller, "readlink", ino, s.names.path(ino))
    return bytes(target)


def check_access(s: Session, caller: Caller, ino: int, mask: int) -> Op[None]:
    """access(2). EACCES; EROFS for writing in a read-only session."""
    attr = yield from getattr(s, ino)
    if mask & W_OK and s.read_only and not (stat.S_ISFIFO(attr.mode) or stat.S_ISSOCK(attr.mode) or stat.S_ISCHR(attr.mode)):
        raise FsError(errno.EROFS, ino)
    access.require(caller, attr, mask)


def setattr(
    s: Session,
    caller: Caller,
    ino: int,
    mode: int | None,
    uid: int | None,
    gid: int | None,
    atime: int | None,
    mtime: int | None,
    ctime: int | None,
    kill_suid: bool,
) -> Op[Attr]:
    """chmod, chown and utimens in one: what is None stays. Times in ns or NOW. EPERM, EACCES, EROFS.

    Changing an owner takes set-uid (and set-gid of an executable) from a file, as on ext4.
    """
    rows = yield from s.begin(sql.INODE(*s.key, ino), exclusive=(s.inode_lock(ino),))
    attr = found(rows[0], ino)
    now = s.clock()
    if s.enforce:
        _check_setattr(caller, attr, mode, uid, gid, atime, mtime)
    new_mode = None if mode is None else attr.mode & ~0o7777 | mode & 0o7777
    if new_mode is not None and s.enforce and caller.uid != 0 and not attr.is_dir and not caller.in_group(attr.gid):
        new_mode &= ~stat.S_ISGID
    if (uid is not None or gid is not None or kill_suid) and attr.is_reg:
        new_mode = access.without_suid(attr.mode if new_mode is None else new_mode)
    times = [now if t == NOW else t for t in (atime, mtime)]
    after = attr._replace(
        mode=attr.mode if new_mode is None else new_mode,
        uid=attr.uid if uid is None else uid,
        gid=attr.gid if gid is None else gid,
        atime=attr.atime if times[0] is None else times[0],
        mtime=attr.mtime if times[1] is None else times[1],
        ctime=now if ctime is None or ctime == NOW else ctime,
        layer=s.layer,
    )
    operation = "chown" if uid is not None or gid is not None else "chmod" if mode is not None else "utimens"
    yield from finish(
        *copied_up(s, (attr,)),
        sql.INODE_SET(s.tenant, s.layer, ino, after.mode, after.uid, after.gid, after.atime, after.mtime, after.ctime, None),
        *s.record(caller, operation, ino, s.names.path(ino), metadata=_changes(attr, after)),
    )
    return after


def _check_setattr(
    caller: Caller, attr: Attr, mode: int | None, uid: int | None, gid: int | None, atime: int | None, mtime: int | None
) -> None:
    if mode is not None:
        access.require_owner(caller, attr)
    if caller.uid != 0:
        if uid is not None and (uid != attr.uid or caller.uid != attr.uid):
            raise FsError(errno.EPERM, attr.ino)
        if gid is not None and (caller.uid != attr.uid or (gid != attr.gid and not caller.in_group(gid))):
            raise FsError(errno.EPERM, attr.ino)
    if atime is not None or mtime is not None:
        if atime in (None, NOW) and mtime in (None, NOW) and caller.uid not in (0, attr.uid):
            access.require(caller, attr, W_OK)
        elif atime not in (None, NOW) or mtime not in (None, NOW):
            access.require_owner(caller, attr)


def _changes(before: Attr, after: Attr) -> dict[str, object]:
    """For the audit: each changed attribute's old and new value; modes as octal digits."""
    changes: dict[str, object] = {}
    for field in ("mode", "uid", "gid", "atime", "mtime"):
        old, new = before[Attr._fields.index(field)], after[Attr._fields.index(field)]
        if old != new:
            changes[field] = [oct(old)[2:], oct(new)[2:]] if field == "mode" else [old, new]
    return changes
