"""Walking from a directory along a relative path that may not leave it: absolute paths, ".." above the start, and links that lead out are EPERM.

What doors use whose callers hold a directory and no root (WASI). Nothing here says who may do what beyond that; names and links are the
facade's, so /.tarbox and the sealed layers in it are walked as through every door.
"""

from __future__ import annotations

import errno

from tarbox_core import access, path
from tarbox_core import statements as sql
from tarbox_core.cache import Content
from tarbox_core.control import ControlledFilesystem
from tarbox_core.control_nodes import NAME
from tarbox_core.effects import Op, finish
from tarbox_core.errors import FsError
from tarbox_core.file import SeenFile
from tarbox_core.inode import ATTR_FIELDS, FileRow, file_row, found
from tarbox_core.types import ROOT_INO, SYMLOOP_MAX, X_OK, Attr, Caller
from tarbox_core.viewing import VIEWS


def split_last(relative: bytes) -> tuple[bytes, bytes, bool]:
    """The directory's path, the last name, and whether a slash follows it. ENOENT (empty), EPERM (absolute), ENAMETOOLONG, EINVAL."""
    _names(relative)
    stripped = relative.rstrip(b"/")
    directory, _, last = stripped.rpartition(b"/")
    return directory, last, len(stripped) < len(relative)


class Walk:
    """A walk in progress. Each `step` is an operation of one trip at most; it is run until it answers True. A path without links
    and ".." takes one. Where the session keeps directories in mind for a moment, names in the midst may cost none.

    Then `attr` is what the path leads to, or None where only its last name is missing, and `parent` and `name` are the directory
    and name that this is or would be; the start itself has no `name`. `is_folder` says that the path asks for a directory: it ends in a slash
    or a dot. Steps raise ENOENT (a name in the midst), ENOTDIR, ELOOP (over 40 links), EPERM, EACCES, ENAMETOOLONG.

    `opening`: `seen` may hold the file's row, for `Filesystem.open_seen`. `passing`: it is for a verb that looks at the directory
    itself, so the end, too, may be one that was seen a moment ago.
    """

    def __init__(
        self, fs: ControlledFilesystem, caller: Caller, start: int, relative: bytes, *, follow: bool = True, opening: bool = False, passing: bool = False
    ) -> None:
        self._fs = fs
        self._caller = caller
        self._path = relative
        self._names = _names(relative)
        self._links = 0
        self._link: Attr | None = None  # to be followed next
        self._start = start
        self._trail: list[tuple[Attr, bytes]] = []  # from the start on: inodes, and under which name each was found
        self._missed = b""
        self._follow = follow
        self._opening = opening
        self._passing = passing
        self.seen: SeenFile | None = None
        self.is_folder = _asks_for_folder(relative)
        self.attr: Attr | None = None

    @property
    def parent(self) -> Attr:
        return self._trail[-1 if self.attr is None else -2][0]

    @property
    def name(self) -> bytes:
        return self._missed if self.attr is None else self._trail[-1][1]

    def step(self) -> Op[bool]:
        """Go on as far as one trip leads; whether the end is reached. A step may be run again until it has ended."""
        if self._link is not None:
            target = yield from self._target(self._link)
            return self._bend(target)
        s = self._fs.session
        if s.defer:
            now = s.clock()
            if self._remember(now):
                return self._advance([], 0)
            end = self._heard_of(now)
            if end is not None:
                return self._advance([end], 1, heard=True)
        here = self._trail[-1][0].ino if self._trail else self._start
        if here >= VIEWS or (self._names and here == ROOT_INO and self._names[0] == NAME):
            return (yield from self._one(here))
        if len(self._names) == 1 and self._names[0] != b"..":
            return (yield from self._last(here, self._names[0]))
        names = path.plain(self._names)
        rows = yield from finish(sql.WALK(*s.key, here, names))
        attrs = [Attr._make(row) for row in rows[0]]
        start = found(rows[0], self._path)
        if not self._trail:
            self._begin(start)
        return self._advance(attrs[1:], len(names))

    def _begin(self, start: Attr) -> None:
        self._saw(start, None)
        self._trail.append((start, b""))

    def _remember(self, now: int) -> bool:
        """Take the directories that were seen a moment ago; whether that is all there is to do."""
        folders = self._fs.session.folders
        if not self._trail:
            start = folders.now(self._start, now) if self._names or self._passing else None
            if start is None:
                return False
            self._trail.append((start, b""))
        while len(self._names) > (0 if self._passing else 1):
            here, name = self._trail[-1][0], self._names[0]
            child = None if name == b".." else folders.below(here.ino, name, now)
            if child is None:
                return False
            self._require_search(here)
            self._names.pop(0)
            self._trail.append((child, name))
        return not self._names

    def _heard_of(self, now: int) -> Attr | None:
        """What the last name stands for, where the session would have heard if it were otherwise."""
        s = self._fs.session
        leaves = s.leaves
        if leaves is None or not self._trail or len(self._names) != 1:
            return None
        place = self._trail[-1][0].ino, self._names[0]
        generation = s.at.generation
        end = leaves.below(*place, now)
        if self._opening and end is not None and end.is_reg:
            content = leaves.content(end.ino)
            if content is None:
                return None
            self.seen = SeenFile(generation, FileRow(end, *content))
        return end or s.folders.below(*place, now)

    def _last(self, here: int, name: bytes) -> Op[bool]:
        """The last name: cheaper than by a walk."""
        s = self._fs.session
        generation, key = s.at.generation, s.key
        child = (sql.CHILD_FULL if self._opening else sql.CHILD)(*key, here, name)
        rows = yield from (finish(child) if self._trail else finish(child, sql.INODE(*key, here)))
        if not self._trail:
            self._begin(found(rows[1], self._path))
        if not rows[0]:
            return self._advance([], 1)
        if not self._opening:
            return self._advance([found(rows[0], self._path)], 1)
        row = file_row(rows[0], self._path)
        if row.attr.is_reg:
            self.seen = SeenFile(generation, row)
        return self._advance([row.attr], 1)

    def _one(self, here: int) -> Op[bool]:
        """A step beyond the tree, or to there: one name at a time."""
        if not self._trail:
            start = yield from self._fs.getattr(here)
            self._trail.append((start, b""))
            return self._advance([], 0)
        name = self._names[0]
        if name == b"..":
            return self._advance([], 0)
        try:
            child = yield from self._fs.lookup(self._caller, here, name)
        except FsError as error:
            if error.errno != errno.ENOENT:
                raise
            return self._advance([], 1)
        return self._advance([child], 1)

    def _advance(self, ahead: list[Attr], asked: int, *, heard: bool = False) -> bool:
        """Take the names whose inodes are known. `ahead` are the first of the `asked` names, as far as they are there; `heard`: they
        come from what is kept in mind."""
        s = self._fs.session
        while self._names:
            here, name = self._trail[-1][0], self._names[0]
            if not here.is_dir:
                raise FsError(errno.ENOTDIR, self._path)
            self._require_search(here)
            if name == b"..":
                if len(self._trail) == 1:
                    raise FsError(errno.EPERM, self._path)
                self._trail.pop()
                self._names.pop(0)
                ahead, asked = [], 0
                continue
            waiting = s.waiting.get((here.ino, name)) if s.waiting else None
            if waiting is not None:
                ahead, asked, self.seen, heard = [waiting.attr()], 1, None, True
            if not ahead:
                if asked:
                    return self._missing(here, name)
                return False
            child = ahead.pop(0)
            asked -= 1
            self._names.pop(0)
            if child.is_symlink and (self._names or self._follow or self.is_folder):
                self._link = child
                return False
            self._reached(here, name, child, heard)
        end = self._trail[-1][0]
        if self.is_folder and not end.is_dir:
            raise FsError(errno.ENOTDIR, self._path)
        self.attr = s.current(end) if end.ino < VIEWS else end
        return True

    def _reached(self, here: Attr, name: bytes, child: Attr, heard: bool) -> None:
        s = self._fs.session
        if here.ino < VIEWS and child.ino < VIEWS and not heard:
            s.names.saw(child.ino, here.ino, name)
            s.absent(here.ino, name)  # no longer
            self._saw(child, (here.ino, name))
        self._trail.append((child, name))

    def _saw(self, attr: Attr, place: tuple[int, bytes] | None) -> None:
        s = self._fs.session
        seen = s.folders if attr.is_dir else s.leaves
        if s.defer and seen is not None:
            row = self.seen.row if self.seen is not None and self.seen.row.attr is attr else None
            seen.saw(attr, s.clock(), place, None if row is None else Content(row.inline, row.packed))

    def _require_search(self, here: Attr) -> None:
        if self._fs.session.enforce and here.ino < VIEWS:
            access.require(self._caller, here, X_OK, self._path)

    def _missing(self, here: Attr, name: bytes) -> bool:
        """A name that is not there ends the walk where it is the last one."""
        if len(self._names) > 1:
            raise FsError(errno.ENOENT, self._path)
        if here.ino < VIEWS:
            self._fs.session.saw_absent(here.ino, name)
        self._missed = name
        return True

    def _target(self, link: Attr) -> Op[bytes]:
        if link.ino >= VIEWS:
            return (yield from self._fs.readlink(self._caller, link.ino))
        rows = yield from finish(sql.INODE_FULL(*self._fs.session.key, link.ino))
        target = rows[0][0][ATTR_FIELDS + 1] if rows[0] else None
        if target is None:
            raise FsError(errno.ENOENT, self._path)
        return bytes(target)

    def _bend(self, target: bytes) -> bool:
        """Go on along a link's target, from the directory that the link is in."""
        if self._links == SYMLOOP_MAX:
            raise FsError(errno.ELOOP, self._path)
        names = _names(target)
        self._link = None
        self._links += 1
        if not self._names:
            self.is_folder = self.is_folder or _asks_for_folder(target)
        self._names = names + self._names
        return self._advance([], 0)


def _names(relative: bytes) -> list[bytes]:
    if not relative:
        raise FsError(errno.ENOENT, relative)
    if relative.startswith(b"/"):
        raise FsError(errno.EPERM, relative)
    return path.split(relative, relative)


def _asks_for_folder(relative: bytes) -> bool:
    return relative.endswith((b"/", b"/.", b"/..")) or relative in (b".", b"..")
