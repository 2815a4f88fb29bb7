"""New inodes under new names, in one round trip: the locks, and a statement that checks and writes.

Also new files that wait. A file that was just created, under a name just seen to be free, is held in memory until it is
flushed, and then stored with its content in that same one trip. Until then this session alone knows it, so whatever else
may meet it stores it first (`settling`), in its own transaction.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tarbox_core import access
from tarbox_core import statements as sql
from tarbox_core.effects import Op, Query, Row, finish, run
from tarbox_core.errors import FsError, RetryableError
from tarbox_core.lines import Changes
from tarbox_core.session import Session, check_name
from tarbox_core.types import W_OK, X_OK, Attr, Caller

if TYPE_CHECKING:
    from tarbox_core.file import OpenFile

R = TypeVar("R")

TARGET_MAX = 4095
_MADE = {4: "mkdir", 8: "create", 10: "symlink"}


@dataclass(frozen=True, slots=True)
class New:
    """A name to be, and who makes it. `inherit`: a set-gid directory gives its group."""

    caller: Caller
    parent: int
    name: bytes
    inherit: bool = True


def made_by(mode: int) -> str:
    """What the audit calls the making of an inode."""
    return _MADE.get(mode >> 12, "mknod")


def queries(
    s: Session, new: New, attr: Attr, *, target: bytes | None, inline: bytes | None, written: int = 0, also: Sequence[str] = (),
    changes: Changes | None = None,
) -> tuple[Query, ...]:  # fmt: skip
    """The locks and the statement, whose row tells how it went. For the audit: `written` bytes of content came with it, which changed
    these lines, and it saw these operations `also`."""
    operations = [made_by(attr.mode), *also] if s.audit else []
    sizes = [0] * len(operations)
    if operations and written:
        operations.append("write")
        sizes.append(written)
    checked = new.caller.uid if s.enforce else 0
    lock = s.locks(shared=(s.dir_lock(new.parent),), exclusive=(s.name_lock(new.parent, new.name),))
    make = sql.MAKE(
        *s.key, s.head, new.parent, new.name, attr.ino, attr.mode, attr.uid, attr.gid, attr.rdev, attr.ctime, target, inline,
        new.inherit, checked, [new.caller.gid, *new.caller.groups], attr.atime, attr.mtime,
        operations, sizes, s.names.path(new.parent, new.name), new.caller.uid, new.caller.pid, changes,
    )  # fmt: skip
    return lock, make, *s.tell(new.parent)


def made(s: Session, new: New, attr: Attr, row: Row) -> Attr:
    """The attributes of what was made; the FsError for why it was not."""
    stands, layer, visible, epoch, up_mode, up_uid, up_gid, up_links, there, mode, gid, _ = row
    if mode is not None:
        s.names.saw(attr.ino, new.parent, new.name)
        attr = attr._replace(mode=mode, gid=gid, layer=layer)
        s.folders.added(new.parent, attr.ctime, int(attr.is_dir))
        if attr.is_dir:
            s.folders.saw(attr, attr.ctime)
        return attr
    s.stands_at(stands, layer, visible, epoch)
    if up_mode is None:
        raise FsError(errno.ENOENT, new.name)
    if not stat.S_ISDIR(up_mode):
        raise FsError(errno.ENOTDIR, new.name)
    if up_links == 0:
        raise FsError(errno.ENOENT, new.name)
    up = attr._replace(ino=new.parent, mode=up_mode, uid=up_uid, gid=up_gid)
    if s.enforce:
        access.require(new.caller, up, X_OK, new.name)
    if there is not None:
        raise FsError(errno.EEXIST, new.name)
    access.require(new.caller, up, W_OK | X_OK, new.name)
    raise RetryableError("40001", "a name came and went")


def stored_before(row: Row) -> bool:
    """Whether another thread had stored the inode, under whatever name it may have by now."""
    return bool(row[11])


def make(
    s: Session, caller: Caller, parent: int, name: bytes, mode: int, *, rdev: int = 0, target: bytes | None = None, final: bool = True
) -> Op[Attr]:
    """A new inode of any type under a new name. `mode` carries the type.

    In a set-gid directory it gets the directory's group, and a directory the bit too. EEXIST, ENOENT (no parent, or
    one that was removed), ENOTDIR, EACCES, ENAMETOOLONG, EROFS. `final`: the transaction ends with it.
    """
    check_name(name)
    if target is not None and not 0 < len(target) <= TARGET_MAX:
        raise FsError(errno.ENAMETOOLONG if target else errno.ENOENT, name)
    attr = yield from _fresh(s, caller, parent, name, mode, rdev)
    if target is not None:
        attr = attr._replace(size=len(target))
    new = New(caller, parent, name)
    inline = b"" if attr.is_reg else None
    rows = yield from (finish if final else run)(*queries(s, new, attr, target=target, inline=inline))
    return made(s, new, attr, rows[1][0])


def _fresh(s: Session, caller: Caller, parent: int, name: bytes, mode: int, rdev: int = 0) -> Op[Attr]:
    if s.read_only:  # before the number, which a gateway's reader may not take
        raise FsError(errno.EROFS, name)
    ino = yield from s.take_number()
    now = s.clock()
    is_dir = stat.S_ISDIR(mode)
    return Attr(ino, mode, caller.uid, caller.gid, 2 if is_dir else 1, 0, 0, rdev, now, now, now, s.layer, parent if is_dir else 0)


# --- new files that wait


def may_wait(s: Session, parent: int, name: bytes) -> bool:
    """Whether a file of that name can be made in memory: the name was just seen to be free in a known directory, and no
    other door that may do the same is there."""
    return s.defer and s.alone and not s.read_only and s.absent(parent, name) and s.folders.last(parent) is not None


def postpone(s: Session, caller: Caller, parent: int, name: bytes, mode: int) -> Op[tuple[Attr, New]]:
    """A file that is not stored yet. Its group is what the directory's bits, as last seen, give it."""
    check_name(name)
    attr = yield from _fresh(s, caller, parent, name, mode)
    folder = s.folders.last(parent)
    if folder is not None and folder.mode & stat.S_ISGID:
        attr = attr._replace(gid=folder.gid)
    s.names.saw(attr.ino, parent, name)
    return attr, New(caller, parent, name, inherit=False)


def may_forget(s: Session, parent: int, name: bytes) -> OpenFile | None:
    """The file of that name, if it was closed and was never stored, so that nobody else can know of it."""
    file = s.waiting.get((parent, name))
    return file if file is not None and file.closing and file.lingers and not file.tried and not s.enforce else None


def forget(s: Session, caller: Caller, file: OpenFile) -> Op[None]:
    """Take away a file that was closed and never stored. What was done to it is recorded; its directory shows nothing of it."""
    new = file.new
    assert new is not None
    path = s.names.path(new.parent, new.name)
    for operation in ("create", *file.operations):
        s.note(new.caller, operation, file.ino, path)
    if file.written:
        s.note(file.writer or caller, "write", file.ino, path, size=file.written)
    s.note(caller, "unlink", file.ino, path)
    file.pieces.clear()
    file.settled()
    s.closed(file)
    s.names.drop(file.ino)
    s.saw_absent(new.parent, new.name)
    yield from ()  # no trip at all


def settling(s: Session, op: Op[R], *, ino: int = 0, folder: int = 0, names: Sequence[tuple[int, bytes]] = (), every: bool = False) -> Op[R]:
    """Store the new files that an operation may meet, then run it, in one transaction. It may meet an inode, whatever is
    in a directory, certain names, or every file."""
    if not s.waiting:
        return (yield from op)
    met = [f for (up, name), f in list(s.waiting.items()) if every or f.ino == ino or up == folder or (up, name) in names]
    stored = yield from _settle(s, met)
    result = yield from op
    for file, attr in stored:
        file.settled(attr)
    return result


def _settle(s: Session, files: Sequence[OpenFile]) -> Op[list[tuple[OpenFile, Attr]]]:
    """Store new files without their content. One that cannot be stored goes on waiting: its own flush will tell."""
    stored = []
    for file in files:
        new, then = file.new, file.stored
        if new is None:
            continue
        attr = file.attr()._replace(size=0, blocks=0)
        file.tried = True
        rows = yield from run(*queries(s, new, attr, target=None, inline=b"", also=file.operations))
        if file.new is not new:  # another thread has stored it, and may have removed it since
            raise RetryableError("40001", "the file was stored meanwhile")
        try:
            if not stored_before(rows[1][0]):
                made(s, new, attr, rows[1][0])
        except FsError:
            continue
        stored.append((file, then))
    return stored
