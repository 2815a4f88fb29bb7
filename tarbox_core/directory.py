"""Names: finding, making, removing, renaming and listing them. What they name is `inode`'s and `file`'s."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from tarbox_core import access, making
from tarbox_core import statements as sql
from tarbox_core.effects import Op, Query, finish, many, run
from tarbox_core.errors import FsError
from tarbox_core.inode import copied_up, found
from tarbox_core.session import Session, check_name
from tarbox_core.types import (
    LINK_MAX,
    NAME_MAX,
    R_OK,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    ROOT_INO,
    W_OK,
    X_OK,
    Attr,
    Caller,
    Entry,
)

PAGE = 1024  # names fetched at once


def lookup(s: Session, caller: Caller, parent: int, name: bytes) -> Op[Attr]:
    """What a name stands for. ENOENT, ENOTDIR, EACCES, ENAMETOOLONG; "." and ".." are understood."""
    waiting = s.waiting.get((parent, name))
    if waiting is not None:
        return waiting.attr()
    if len(name) > NAME_MAX:
        raise FsError(errno.ENAMETOOLONG, name)
    queries = [sql.CHILD(*s.key, parent, name)]
    if s.enforce or name in (b".", b".."):
        queries.append(sql.INODE(*s.key, parent))
    rows = yield from (run if name == b".." else finish)(*queries)
    if len(rows) > 1:
        up = found(rows[1], parent)
        if not up.is_dir:
            raise FsError(errno.ENOTDIR, name)
        if s.enforce:
            access.require(caller, up, X_OK, name)
        if name == b".":
            return up
        if name == b"..":
            rows = yield from run(sql.INODE(*s.key, up.parent))
            return found(rows[0], name)
    if not rows[0]:
        s.saw_absent(parent, name)
        raise FsError(errno.ENOENT, name)
    child = Attr._make(rows[0][0])
    s.absent(parent, name)  # no longer
    s.names.saw(child.ino, parent, name)
    if child.is_dir:
        s.folders.saw(child, s.clock())
    return s.current(child)


def _parent(s: Session, caller: Caller, rows: Sequence[tuple[object, ...]], ino: int, name: bytes) -> Attr:
    """The directory that a name is to be added to or taken from, checked."""
    up = found(list(rows), ino)
    if not up.is_dir:
        raise FsError(errno.ENOTDIR, name)
    if up.nlink == 0:
        raise FsError(errno.ENOENT, name)
    if s.enforce:
        access.require(caller, up, X_OK, name)  # before anything tells whether the name is there
    return up


def link(s: Session, caller: Caller, ino: int, parent: int, name: bytes) -> Op[Attr]:
    """Another name for a file. EPERM for a directory, ENOENT for a file already without names, EEXIST, EMLINK."""
    check_name(name)
    rows = yield from s.begin(
        sql.INODE(*s.key, parent),
        sql.CHILD(*s.key, parent, name),
        sql.INODE(*s.key, ino),
        shared=(s.dir_lock(parent),),
        exclusive=(s.name_lock(parent, name), s.inode_lock(ino)),
    )
    up = _parent(s, caller, rows[0], parent, name)
    attr = found(rows[2], ino)
    if attr.is_dir:
        raise FsError(errno.EPERM, name)
    if attr.nlink == 0:
        raise FsError(errno.ENOENT, name)
    if rows[1]:
        raise FsError(errno.EEXIST, name)
    if attr.nlink >= LINK_MAX:
        raise FsError(errno.EMLINK, name)
    if s.enforce:
        access.require(caller, up, W_OK | X_OK, name)
    now = s.clock()
    # The last name may be going at this moment: the count tells when the row is ours.
    counted = yield from run(*copied_up(s, (up, attr)), sql.INODE_LINKS(s.tenant, s.layer, ino, now, 1))
    if not counted[-1] or counted[-1][0][0] < 2:
        raise FsError(errno.ENOENT, name)
    yield from finish(
        sql.DENTRY_PUT(s.tenant, s.layer, parent, name, ino, attr.kind),
        sql.INODE_TOUCH(s.tenant, s.layer, parent, now, 0),
        *s.tell(parent, ino),
        *s.record(caller, "link", ino, s.names.path(parent, name)),
    )
    s.folders.changed(parent)
    opened = s.opened(ino)
    if opened is not None:
        opened.counts(counted[-1][0][0])
    return s.current(attr._replace(nlink=counted[-1][0][0], ctime=now, layer=s.layer))


def _unnamed(s: Session, attr: Attr, now: int) -> list[Query]:
    """An inode loses a name; with the last one it goes, unless someone has it open."""
    queries = [sql.INODE_LINKS(s.tenant, s.layer, attr.ino, now, -attr.nlink if attr.is_dir else -1)]
    if attr.is_dir or (s.alone and s.opened(attr.ino) is None):
        queries.append(sql.INODE_REAP(*s.key, attr.ino))
    return queries


def unlink(s: Session, caller: Caller, parent: int, name: bytes) -> Op[None]:
    """Take away a name of anything but a directory. ENOENT, EISDIR, EACCES, EPERM (sticky), ENOTDIR."""
    if len(name) > NAME_MAX:
        raise FsError(errno.ENAMETOOLONG, name)
    rows = yield from s.begin(
        sql.INODE(*s.key, parent),
        sql.CHILD(*s.key, parent, name),
        shared=(s.dir_lock(parent),),
        exclusive=(s.name_lock(parent, name),),
    )
    up = _parent(s, caller, rows[0], parent, name)
    child = found(rows[1], name)
    if s.enforce:
        access.require_removal(caller, up, child, name)
    if child.is_dir:
        raise FsError(errno.EISDIR, name)
    now = s.clock()
    yield from finish(
        *copied_up(s, (up, child)),
        sql.DENTRY_DROP(*s.key, parent, name),
        *_unnamed(s, child, now),
        sql.INODE_TOUCH(s.tenant, s.layer, parent, now, 0),
        *s.tell(parent, child.ino, names=True),
        *s.record(caller, "unlink", child.ino, s.names.path(parent, name)),
    )
    s.folders.changed(parent)
    s.forget_name(child)


def rmdir(s: Session, caller: Caller, parent: int, name: bytes) -> Op[None]:
    """Remove an empty directory. ENOENT, ENOTDIR, ENOTEMPTY, EACCES, EPERM (sticky), EINVAL for "."."""
    if name in (b".", b".."):
        raise FsError(errno.EINVAL if name == b"." else errno.ENOTEMPTY, name)
    if len(name) > NAME_MAX:
        raise FsError(errno.ENAMETOOLONG, name)
    rows = yield from s.begin(
        sql.INODE(*s.key, parent),
        sql.CHILD(*s.key, parent, name),
        shared=(s.dir_lock(parent),),
        exclusive=(s.name_lock(parent, name),),
    )
    up = _parent(s, caller, rows[0], parent, name)
    child = found(rows[1], name)
    if s.enforce:
        access.require_removal(caller, up, child, name)
    if not child.is_dir:
        raise FsError(errno.ENOTDIR, name)
    yield from _require_empty(s, child.ino, name)
    now = s.clock()
    yield from finish(
        *copied_up(s, (up, child)),
        sql.DENTRY_DROP(*s.key, parent, name),
        *_unnamed(s, child, now),
        sql.INODE_TOUCH(s.tenant, s.layer, parent, now, -1),
        *s.tell(parent, child.ino, names=True),
        *s.record(caller, "rmdir", child.ino, s.names.path(parent, name)),
    )
    s.folders.changed(parent, child.ino)
    s.names.drop(child.ino)


def _require_empty(s: Session, ino: int, name: bytes) -> Op[None]:
    """Keep names from being added to a directory, and make sure that it has none."""
    rows = yield from run(sql.LOCK([], [s.dir_lock(ino)]), sql.DIR_USED(*s.key, ino))
    if rows[1][0][0] or any(up == ino for up, _ in list(s.waiting)):
        raise FsError(errno.ENOTEMPTY, name)


def rename(
    s: Session, caller: Caller, parent: int, name: bytes, newparent: int, newname: bytes, flags: int = 0
) -> Op[None]:
    """Move a name, replacing what the new name stood for; or with RENAME_EXCHANGE swap two names.

    ENOENT, EEXIST (NOREPLACE), ENOTDIR, EISDIR, ENOTEMPTY, EINVAL (into itself, bad flags), EACCES, EPERM, EBUSY ("." or "..").
    Two names of one inode are left as they are, as POSIX has it.
    """
    if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
        raise FsError(errno.EINVAL, newname)
    if name in (b".", b"..") or newname in (b".", b".."):
        raise FsError(errno.EBUSY, name)
    check_name(newname)
    if len(name) > NAME_MAX:
        raise FsError(errno.ENAMETOOLONG, name)
    rows = yield from s.begin(
        sql.INODE(*s.key, parent),
        sql.CHILD(*s.key, parent, name),
        sql.INODE(*s.key, newparent),
        sql.CHILD(*s.key, newparent, newname),
        shared=(s.dir_lock(parent), s.dir_lock(newparent)),
        exclusive=(s.name_lock(parent, name), s.name_lock(newparent, newname)),
    )
    up = _parent(s, caller, rows[0], parent, name)
    newup = _parent(s, caller, rows[2], newparent, newname)
    child = found(rows[1], name)
    victim = Attr._make(rows[3][0]) if rows[3] else None
    if s.enforce:
        _check_rename(caller, up, child, name, newup, victim, newname, exchange=bool(flags & RENAME_EXCHANGE))
    if victim is None and flags & RENAME_EXCHANGE:
        raise FsError(errno.ENOENT, newname)
    if victim is not None and flags & RENAME_NOREPLACE:
        raise FsError(errno.EEXIST, newname)
    if victim is not None and victim.ino == child.ino:
        return
    if victim is not None and not flags:
        if child.is_dir and not victim.is_dir:
            raise FsError(errno.ENOTDIR, newname)
        if victim.is_dir and not child.is_dir:
            raise FsError(errno.EISDIR, newname)
    yield from _require_no_loop(s, parent, newparent, child, victim if flags else None, name)
    if victim is not None and victim.is_dir and not flags:
        yield from _require_empty(s, victim.ino, newname)
    if flags & RENAME_EXCHANGE and victim is not None:
        yield from _exchange(s, caller, up, child, name, newup, victim, newname)
    else:
        yield from _move(s, caller, up, child, name, newup, victim, newname)


def _check_rename(
    caller: Caller, up: Attr, child: Attr, name: bytes, newup: Attr, victim: Attr | None, newname: bytes, *, exchange: bool
) -> None:
    access.require_removal(caller, up, child, name)
    if victim is not None:
        access.require_removal(caller, newup, victim, newname)
    else:
        access.require(caller, newup, W_OK | X_OK, newname)
    if up.ino != newup.ino:  # the moved directory's ".." changes
        if child.is_dir:
            access.require(caller, child, W_OK, name)
        if exchange and victim is not None and victim.is_dir:
            access.require(caller, victim, W_OK, newname)


def _require_no_loop(s: Session, parent: int, newparent: int, child: Attr, swapped: Attr | None, name: bytes) -> Op[None]:
    """A directory must not be moved below itself. Only one such move at a time, so that two cannot make a loop together."""
    if parent == newparent or not (child.is_dir or (swapped is not None and swapped.is_dir)):
        return
    rows = yield from run(
        sql.LOCK([], [s.rename_lock()]),
        sql.ANCESTORS(*s.key, newparent),
        sql.ANCESTORS(*s.key, parent),
    )
    if child.is_dir and child.ino in rows[1][0][0]:
        raise FsError(errno.EINVAL, name)
    if swapped is not None and swapped.is_dir and swapped.ino in rows[2][0][0]:
        raise FsError(errno.EINVAL, name)


def _touched(s: Session, now: int, *changes: tuple[int, int]) -> list[Query]:
    """The directories' times and link counts, each directory once and in the order of their numbers."""
    links: dict[int, int] = {}
    for ino, delta in changes:
        links[ino] = links.get(ino, 0) + delta
    return [sql.INODE_TOUCH(s.tenant, s.layer, ino, now, links[ino]) for ino in sorted(links)]


def _moved(s: Session, attr: Attr, now: int, newparent: int) -> Query:
    parent = newparent if attr.is_dir else None
    return sql.INODE_SET(s.tenant, s.layer, attr.ino, None, None, None, None, None, now, parent)


def _move(
    s: Session, caller: Caller, up: Attr, child: Attr, name: bytes, newup: Attr, victim: Attr | None, newname: bytes
) -> Op[None]:
    now = s.clock()
    is_dir = int(child.is_dir)
    lost = int(victim is not None and victim.is_dir)
    old_path, new_path = s.names.path(up.ino, name), s.names.path(newup.ino, newname)
    yield from finish(
        *copied_up(s, (up, newup, child) if victim is None else (up, newup, child, victim)),
        sql.DENTRY_DROP(*s.key, up.ino, name),
        sql.DENTRY_PUT(s.tenant, s.layer, newup.ino, newname, child.ino, child.kind),
        _moved(s, child, now, newup.ino),
        *(() if victim is None else _unnamed(s, victim, now)),
        *_touched(s, now, (up.ino, -is_dir), (newup.ino, is_dir - lost)),
        *s.tell(up.ino, newup.ino, child.ino, *(() if victim is None else (victim.ino,)), names=True),
        *s.record(caller, "rename", child.ino, old_path, metadata={"to": new_path}),
    )
    s.folders.changed(up.ino, newup.ino, child.ino)
    s.names.saw(child.ino, newup.ino, newname)
    if victim is not None:
        s.forget_name(victim)
        s.folders.changed(victim.ino)


def _exchange(
    s: Session, caller: Caller, up: Attr, child: Attr, name: bytes, newup: Attr, victim: Attr, newname: bytes
) -> Op[None]:
    now = s.clock()
    gained = int(victim.is_dir) - int(child.is_dir)
    old_path, new_path = s.names.path(up.ino, name), s.names.path(newup.ino, newname)
    yield from finish(
        *copied_up(s, (up, newup, child, victim)),
        sql.DENTRY_PUT(s.tenant, s.layer, up.ino, name, victim.ino, victim.kind),
        sql.DENTRY_PUT(s.tenant, s.layer, newup.ino, newname, child.ino, child.kind),
        _moved(s, child, now, newup.ino),
        _moved(s, victim, now, up.ino),
        *_touched(s, now, (up.ino, gained), (newup.ino, -gained)),
        *s.tell(up.ino, newup.ino, child.ino, victim.ino, names=True),
        *s.record(caller, "rename", child.ino, old_path, metadata={"to": new_path, "exchange": True}),
    )
    s.folders.changed(up.ino, newup.ino, child.ino, victim.ino)
    s.names.saw(child.ino, newup.ino, newname)
    s.names.saw(victim.ino, up.ino, name)


class OpenDir:
    """An open directory. Names come in byte order, so whatever is made or removed meanwhile, a name that stays is seen
    exactly once. A cookie is an entry's number; what the handle keeps is the name at which each page begins."""

    def __init__(self, s: Session, attr: Attr) -> None:
        self._s = s
        self.ino = attr.ino
        self._attr = attr
        self._generation = s.at.generation
        self._starts = [(2, b"")]  # the number of a page's first entry, and the name it follows
        self._page: tuple[int, list[Entry]] | None = None

    def read(self, caller: Caller, offset: int, limit: int, *, plus: bool = True) -> Op[Sequence[Entry]]:
        """At most `limit` entries from the cookie on, "." and ".." first; none at the end. Offset 0 looks afresh."""
        if offset == 0:
            self._starts, self._page = [(2, b"")], None
        if offset < 2:
            up = self._attr.parent or ROOT_INO
            dots = [Entry(b".", self.ino, 4, 1, None), Entry(b"..", up, 4, 2, None)]
            return dots[offset : offset + limit]
        if self._generation != self._s.at.generation:  # another tree: go on behind the last name seen
            self._generation, self._page = self._s.at.generation, None
        if self._page is None or not self._page[0] <= offset < self._page[0] + len(self._page[1]):
            yield from making.settling(self._s, self._fetch(offset, plus), folder=self.ino)
        if self._page is None:
            return []
        first, entries = self._page
        return entries[offset - first : offset - first + limit]

    def _fetch(self, offset: int, plus: bool) -> Op[None]:
        """Make the page that holds entry number `offset` the current one, walking forward from the nearest start known."""
        first, after = max(start for start in self._starts if start[0] <= offset)
        while True:
            entries = yield from _page(self._s, self.ino, after, first, plus)
            self._page = (first, entries) if entries else None
            if not entries:
                return
            following = (first + len(entries), entries[-1].name)
            if following not in self._starts:
                self._starts.append(following)
            if offset < following[0]:
                return
            first, after = following


def _page(s: Session, ino: int, after: bytes, first: int, plus: bool) -> Op[list[Entry]]:
    statement = sql.DIR_PAGE if plus else sql.DIR_NAMES
    rows = yield from many(statement(*s.key, ino, after, PAGE))
    names = rows[0][0]
    if not names:
        return []
    offsets = range(first + 1, first + 1 + len(names))
    if not plus:
        return [Entry(*entry, None) for entry in zip(names, rows[0][1], rows[0][2], offsets, strict=True)]
    attrs = [Attr._make(values) for values in zip(*rows[0][1:], strict=True)]
    now = s.clock()
    for name, attr in zip(names, attrs, strict=True):
        if attr.is_dir:
            s.names.saw(attr.ino, ino, name)
            s.folders.saw(attr, now)
    return [Entry(name, a.ino, a.kind, offset, s.current(a)) for name, a, offset in zip(names, attrs, offsets, strict=True)]


def opendir(s: Session, caller: Caller, ino: int) -> Op[OpenDir]:
    """ENOTDIR, ENOENT, EACCES."""
    rows = yield from finish(sql.INODE(*s.key, ino))
    attr = found(rows[0], ino)
    if not attr.is_dir:
        raise FsError(errno.ENOTDIR, ino)
    if s.enforce:
        access.require(caller, attr, R_OK)
    s.note(caller, "readdir", ino, s.names.path(ino))
    return OpenDir(s, attr)
