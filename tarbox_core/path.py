"""Paths: from the root along names and symbolic links to an inode. Absolute bytes paths; "." and ".." as the kernel has them.

Where a session has a scope, a path begins with exactly its names, and so does the target of each absolute link; none of them may be
a link, and from there no ".." leads up (ScopeError). Each walk finds the scope's directory anew.
"""

from __future__ import annotations

import errno

from tarbox_core import access
from tarbox_core import statements as sql
from tarbox_core.effects import Op, run
from tarbox_core.errors import FsError, ScopeError
from tarbox_core.inode import ATTR_FIELDS, found
from tarbox_core.session import Session
from tarbox_core.types import NAME_MAX, PATH_MAX, ROOT_INO, SYMLOOP_MAX, X_OK, Attr, Caller


class Reserved(Exception):
    """A walk came to a name that leads from the root out of the tree; `rest` is what follows it, which is in no scope yet."""

    def __init__(self, rest: list[bytes]) -> None:
        self.rest = rest


def split(path: bytes, whole: bytes) -> list[bytes]:
    """The names of a path, without ".". ENAMETOOLONG, EINVAL (NUL); `whole` is what the error names."""
    if len(path) >= PATH_MAX:
        raise FsError(errno.ENAMETOOLONG, whole)
    if b"\0" in path:
        raise FsError(errno.EINVAL, whole)
    names = [name for name in path.split(b"/") if name and name != b"."]
    if any(len(name) > NAME_MAX for name in names):
        raise FsError(errno.ENAMETOOLONG, whole)
    return names


def resolve(s: Session, caller: Caller, path: bytes, *, follow: bool = True, reserved: bytes = b"") -> Op[Attr]:
    """The inode a path leads to. ENOENT, ENOTDIR, ELOOP (over 40 links), EACCES, ENAMETOOLONG, EINVAL (NUL); ScopeError.

    A path that ends in "/" must lead to a directory, and its last symbolic link is followed. Reserved is raised where it
    leads through the `reserved` name in the root.
    """
    if not path:
        raise FsError(errno.ENOENT, path)
    must_be_dir = path.endswith((b"/", b"/.", b"/.."))
    trail = yield from _walk(s, caller, path, follow=follow or must_be_dir, reserved=reserved)
    if must_be_dir and not trail[-1].is_dir:
        raise FsError(errno.ENOTDIR, path)
    return s.current(trail[-1])


def resolve_parent(s: Session, caller: Caller, path: bytes) -> Op[tuple[Attr, bytes]]:
    """The directory of a path and its last name, which need not exist. EINVAL where there is no last name ("/", "..")."""
    directory, last = split_last(path)
    trail = yield from _walk(s, caller, directory, follow=True)
    if not trail[-1].is_dir:
        raise FsError(errno.ENOTDIR, path)
    return trail[-1], last


def split_last(path: bytes) -> tuple[bytes, bytes]:
    """The path of the directory, and the last name. EINVAL where there is none ("/", "..")."""
    names = split(path, path)
    last = path.rstrip(b"/").rpartition(b"/")[2]
    if not names or last in (b".", b".."):
        raise FsError(errno.EINVAL if path else errno.ENOENT, path)
    return path.rstrip(b"/")[: -len(last)] or b"/", last


def _walk(s: Session, caller: Caller, path: bytes, *, follow: bool, reserved: bytes = b"") -> Op[list[Attr]]:
    """The inodes from the root to the end of the path, ".." and links taken."""
    names = split(path, path)
    if not (reserved and names[:1] == [reserved]):
        require(s, names, path)
    rows = yield from run(sql.WALK(*s.key, ROOT_INO, plain(names)))
    trail = [found(rows[0], path)]
    fresh = [Attr._make(row) for row in rows[0][1:]]
    links = 0
    while names:
        here = trail[-1]
        if not here.is_dir:
            raise FsError(errno.ENOTDIR, path)
        if s.enforce:
            access.require(caller, here, X_OK, path)
        name = names.pop(0)
        if name == reserved and here.ino == ROOT_INO:
            raise Reserved(names)
        if name == b"..":
            if s.scope and len(trail) <= len(s.scope) + 1:
                raise ScopeError(errno.EACCES, path)
            if len(trail) > 1:
                trail.pop()
            fresh = []
            continue
        if not fresh:
            rows = yield from run(sql.WALK(*s.key, here.ino, plain([name, *names])))
            fresh = [Attr._make(row) for row in rows[0][1:]]
            if not fresh:
                raise FsError(errno.ENOENT, path)
        child = fresh.pop(0)
        s.names.saw(child.ino, here.ino, name)
        if len(trail) <= len(s.scope) and not child.is_dir:
            raise ScopeError(errno.EACCES, path)
        if child.is_symlink and (names or follow):
            links += 1
            if links > SYMLOOP_MAX:
                raise FsError(errno.ELOOP, path)
            rows = yield from run(sql.INODE_FULL(*s.key, child.ino))
            target = bytes(rows[0][0][ATTR_FIELDS + 1])
            inside = split(target, path)
            if target.startswith(b"/"):
                require(s, inside, path)
                trail = trail[:1]
            names = inside + names
            fresh = []
            continue
        trail.append(child)
    return trail


def require(s: Session, names: list[bytes], path: bytes) -> None:
    """Refuse names from the root that do not begin with the session's scope."""
    if tuple(names[: len(s.scope)]) != s.scope:
        raise ScopeError(errno.EACCES, path)


def true_names(s: Session, caller: Caller, path: bytes) -> Op[list[bytes]]:
    """The names from the root to the directory that a path leads to, with no link and no ".." among them. ENOTDIR."""
    trail = yield from _walk(s, caller, path, follow=True)
    if not trail[-1].is_dir:
        raise FsError(errno.ENOTDIR, path)
    places = [s.names.of(attr.ino) for attr in trail[1:]]
    return [place[1] for place in places if place is not None]


def plain(names: list[bytes]) -> list[bytes]:
    """The names before the first ".."."""
    return names[: names.index(b"..")] if b".." in names else names
