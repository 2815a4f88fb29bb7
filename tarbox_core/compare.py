"""What changed between two trees of a tenant, each a sealed layer's or the head's: by path, with renames found.

Two trees differ by rows that one of them sees and the other does not, so the work grows with what changed and not with
the tree. Names are compared by directory and name, whatever path leads there: a renamed directory is one change, and
what lies in it is unchanged.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from tarbox_core import compare_statements as sql
from tarbox_core import layer, path
from tarbox_core import statements as tree
from tarbox_core.delta.format import TEXT_MAX
from tarbox_core.effects import Op, Row, run
from tarbox_core.errors import FsError, LayerError
from tarbox_core.file import OpenFile
from tarbox_core.inode import ATTR_FIELDS, FileRow, file_row, found
from tarbox_core.pairing import Item, Pair, State, Unpaired, alike, by_content, by_inode, by_path, differ
from tarbox_core.session import Ranges, Session
from tarbox_core.types import ROOT_INO, Attr, Caller

Key = tuple[int, int, Ranges]  # tenant, layer, the stamps it sees

NOBODY: Final = Caller()
_PIECE: Final = 8 << 20  # bytes read at once


class Change(NamedTuple):
    """A path and what became of it.

    A added, D deleted, R renamed (and perhaps changed), T of another type, M of another content, m of another mode, owner
    or time of modification only, or with other extended attributes or links. Times of directories do not count: they follow
    their entries'.
    """

    status: str
    path: bytes  # in the newer tree; of what was deleted, in the older one
    old_path: bytes | None  # in the older tree, also where only a directory above was renamed; None: it was not there
    old: Attr | None
    new: Attr | None
    content: bool  # the content differs, or there is none on one side


class Side(NamedTuple):
    """One of two trees: what people call it, and what statements do."""

    label: str
    key: Key


def between(s: Session, older: str | None, newer: str = layer.HEAD) -> Op[Comparison]:
    """Two layers, by word; without the first, against the layer that the second was begun on (the last checkpoint, for
    the head), or nothing where it is the first of all. ENOENT, EINVAL (ambiguous)."""
    old = None if older is None else (yield from layer.find(s, older))
    new = yield from layer.find(s, newer)
    if older is None and new.parent_id is not None:
        old = yield from layer.find(s, new.parent_id)
    before = Side("nothing", (s.tenant, 0, ())) if old is None else (yield from side(s, old))
    return Comparison(s, before, (yield from side(s, new)))


def side(s: Session, of: layer.Layer) -> Op[Side]:
    ranges = yield from layer.visible(s, of)
    return Side(of.label, (s.tenant, of.stamp, ranges))


def apart(a: Ranges, b: Ranges) -> Ranges:
    """The stamps that are in one of the two and not in the other."""
    edges = sorted(edge for ranges in (a, b) for edges in ranges for edge in edges)
    inside = [(lo, hi) for lo, hi in pairwise(edges) if lo < hi and _holds(a, lo) != _holds(b, lo)]
    return tuple(inside)


def _holds(ranges: Ranges, stamp: int) -> bool:
    return any(lo <= stamp < hi for lo, hi in ranges)


class Comparison:
    """Two trees, side by side. Each method is an operation."""

    def __init__(self, s: Session, old: Side, new: Side) -> None:
        self._s = s
        self.old = old
        self.new = new

    def changes(self, below: bytes | None = None, *, files: bool = False) -> Op[list[Change]]:
        """All changes by path, or those of a path and what is below it. `files`: as programs that know only regular files
        and symbolic links see them, so a renamed directory is every file in it. ENOENT where neither tree has the path."""
        only = None if below is None else (yield from self._place(below))
        difference = yield from _difference(self._s, self.old.key, self.new.key, files)
        changes = yield from self._classify(difference, files)
        if only is not None:
            changes = [c for c in changes if _is_below(c.path, only) or (c.old_path is not None and _is_below(c.old_path, only))]
        return sorted(changes, key=lambda c: (c.path, c.status != "D"))

    def contents(self, change: Change) -> Op[tuple[bytes | None, bytes | None]]:
        """The two contents of a changed file, or targets of a link; none is b"", None what is longer than any text."""
        old = b"" if change.old is None else (yield from self._content(False, change.old))
        new = b"" if change.new is None else (yield from self._content(True, change.new))
        return old, new

    def _content(self, newer: bool, attr: Attr, limit: int = TEXT_MAX) -> Op[bytes | None]:
        _, stamp, ranges = (self.new if newer else self.old).key
        return (yield from content(self._s.beside(stamp, ranges), attr, limit))

    # --- paths

    def _place(self, word: bytes) -> Op[bytes]:
        """The path as the trees know it, without links and dots."""
        for at in (self.new, self.old):
            s = self._s.beside(*at.key[1:])
            known = yield from canonical(s, word)
            if known is not None and (yield from exists(s, known)):
                return known
        shown = word.decode("utf-8", "backslashreplace")
        raise LayerError(errno.ENOENT, f"{shown}: neither in {self.old.label} nor in {self.new.label}")

    # --- classifying

    def _classify(self, d: _Difference, files: bool) -> Op[list[Change]]:
        folders, others = Unpaired(_folders(d.gone), _folders(d.come)), Unpaired(_others(d.gone), _others(d.come))
        folders.match(by_inode)
        folders.match(by_path)
        kept = d.kept + folders.pairs
        if files:
            folders = Unpaired((), ())
            everywhere = [pair for pair in (*d.kept, *d.carried) if pair[1].state.is_plain]
            kept = [pair for pair in everywhere if pair[0].path == pair[1].path]
            moved = [pair for pair in everywhere if pair[0].path != pair[1].path]
            gone, come = ([item for item in side if item.state.is_plain] for side in (others.gone, others.come))
            others = Unpaired(gone + [old for old, _ in moved], come + [new for _, new in moved])
        others.match(by_path)
        # To git apply, a renamed link is one that is still there: what becomes a directory in its place would be refused.
        others.match(lambda item: None if files and item.state.attr.is_symlink else by_inode(item))
        others.match(by_content)
        pairs = others.candidates()
        others.take(alike(pairs, (yield from self._read(pairs))))
        changes = [Change("D", item.path, item.path, item.state.attr, None, True) for item in (*folders.gone, *others.gone)]
        changes += [Change("A", item.path, None, None, item.state.attr, True) for item in (*folders.come, *others.come)]
        named = {(item.path, item.ino) for item in d.come}  # the rest moved only with a directory above
        for old, new in [*kept, *others.pairs]:
            change = yield from self._pair(old, new, renamed=old.path != new.path and (files or (new.path, new.ino) in named))
            if change is not None:
                changes.append(change)
        return changes

    def _pair(self, old: Item, new: Item, *, renamed: bool) -> Op[Change | None]:
        """What became of a file that is there on both sides, if anything."""
        a, b = old.state.attr, new.state.attr
        differs = differ(old.state, new.state)
        if differs is None:
            differs = (yield from self._content(False, a, a.size)) != (yield from self._content(True, b, b.size))
        if a.kind != b.kind:
            status = "T"
        elif renamed:
            status = "R"
        elif differs:
            status = "M"
        elif described(a) != described(b) or old.state.xattrs != new.state.xattrs:
            status = "m"
        else:
            return None
        return Change(status, new.path, old.path, a, b, differs)

    def _read(self, pairs: Iterable[Pair]) -> Op[dict[tuple[bool, bytes], bytes]]:
        """The contents of these files, by side and path."""
        read: dict[tuple[bool, bytes], bytes] = {}
        for newer, side in enumerate((self.old, self.new)):
            items = {pair[newer].path: pair[newer] for pair in pairs}
            s = self._s.beside(*side.key[1:])
            rows = yield from run(*(tree.INODE_FULL(*side.key, item.ino) for item in items.values()))
            for item, row in zip(items.values(), rows, strict=True):
                if row:  # else it went from the head meanwhile
                    read[bool(newer), item.path] = yield from _whole(s, file_row(row, item.ino))
        return read


def _folders(items: Iterable[Item]) -> Iterator[Item]:
    return (item for item in items if item.state.attr.is_dir)


def _others(items: Iterable[Item]) -> Iterator[Item]:
    return (item for item in items if not item.state.attr.is_dir)


def described(attr: Attr) -> tuple[int, ...]:
    """What a change of is worth telling, beside the content."""
    if attr.is_dir:
        return attr.mode, attr.uid, attr.gid
    return attr.mode, attr.uid, attr.gid, attr.mtime, attr.nlink


def _is_below(path: bytes, folder: bytes) -> bool:
    return folder == b"/" or path == folder or path.startswith(folder + b"/")


# --- what differs


class _Names:
    """The names of inodes in one tree, up to the root."""

    def __init__(self, row: Row) -> None:
        self._names: dict[int, list[tuple[int, bytes]]] = {}
        if row[0] is not None:
            for ino, parent, name in zip(*row, strict=True):
                self._names.setdefault(ino, []).append((parent, name))
        self._folders: dict[int, bytes | None] = {ROOT_INO: b""}

    def of(self, ino: int) -> list[tuple[int, bytes]]:
        return self._names.get(ino, [])

    def path(self, parent: int, name: bytes) -> bytes | None:
        """None for what is in no directory that a name leads to."""
        climbed = []
        at = parent
        while at not in self._folders:
            climbed.append(at)
            self._folders[at] = None  # until more is known: in a damaged tree it may come again
            at = self._names[at][0][0] if at in self._names else 0
            if at == 0:
                self._folders[0] = None
        for ino in reversed(climbed):
            above = self._folders[at]
            self._folders[ino] = None if above is None else above + b"/" + self._names[ino][0][1]
            at = ino
        folder = self._folders[parent]
        return None if folder is None else folder + b"/" + name


class _Tree(NamedTuple):
    """What is known of one of two trees."""

    states: dict[int, State]
    names: _Names

    def item(self, parent: int, name: bytes, ino: int) -> Item | None:
        state, path = self.states.get(ino), self.names.path(parent, name)
        return None if state is None or path is None else Item(path, state)


class _Difference(NamedTuple):
    """Of two trees."""

    gone: list[Item]  # names that stand for nothing or for another inode now
    come: list[Item]  # names that stood for nothing or for another inode
    kept: list[Pair]  # names that stand for the inode they stood for, of which something may have changed
    carried: list[Pair]  # those below renamed directories of which nothing changed; only where asked for


def _difference(s: Session, old: Key, new: Key, files: bool) -> Op[_Difference]:
    between = apart(old[2], new[2])
    lows, highs = [lo for lo, _ in between], [hi for _, hi in between]
    rows = yield from run(sql.MOVED(*old, *new[1:], lows, highs), sql.TOUCHED(s.tenant, lows, highs))
    moved, touched = _rows(rows[0][0]), rows[1][0][0] or []
    inside: list[Row] = []
    if files:
        folders = {row[2] for row in moved} & {row[3] for row in moved if row[3]}
        inside = _rows((yield from run(sql.BELOW(*new, sorted(folders))))[0][0])
    wanted = sorted({*touched, *(ino for row in moved for ino in row[2:] if ino), *(row[2] for row in inside)})
    folders = {row[0] for row in moved}
    rows = yield from run(sql.STATES(*old, wanted), sql.STATES(*new, wanted), sql.NAMES(*new, sorted(folders | set(wanted))))
    names = _Names(rows[2][0])
    # A name that did not move is the same in the older tree, so there only the directories are looked for.
    folders |= {parent for ino in wanted for parent, _ in names.of(ino)}
    above = yield from run(sql.NAMES(*old, sorted(folders)))
    a, b = _Tree(states(rows[0][0]), _Names(above[0][0])), _Tree(states(rows[1][0]), names)
    gone = [item for parent, name, was, _ in moved if (item := a.item(parent, name, was)) is not None]
    come = [item for parent, name, _, now in moved if (item := b.item(parent, name, now)) is not None]
    elsewhere = {(parent, name) for parent, name, _, _ in moved}
    seen = {ino for ino in touched if ino in a.states and ino in b.states and a.states[ino].attr.layer != b.states[ino].attr.layer}
    kept = [(a.item(*key, ino), b.item(*key, ino)) for ino in seen for key in names.of(ino) if key not in elsewhere]
    if ROOT_INO in seen:
        kept.append((Item(b"/", a.states[ROOT_INO]), Item(b"/", b.states[ROOT_INO])))
    carried = [(a.item(*row), b.item(*row)) for row in inside if row[:2] not in elsewhere and row[2] not in seen]
    return _Difference(gone, come, _both(kept), _both(carried))


def _rows(columns: Row) -> list[Row]:
    """From one row of arrays."""
    return [] if columns[0] is None else list(zip(*columns, strict=True))


def _both(pairs: Iterable[tuple[Item | None, Item | None]]) -> list[Pair]:
    return [(old, new) for old, new in pairs if old is not None and new is not None]


def states(row: Row) -> dict[int, State]:
    """The inodes of an answer to STATES."""
    if row[0] is None:
        return {}
    attrs = map(Attr._make, zip(*row[:ATTR_FIELDS], strict=True))
    return {attr.ino: State(attr, mark, xattrs) for attr, mark, xattrs in zip(attrs, *row[ATTR_FIELDS:], strict=True)}


# --- reading in the midst of an operation, from a session beside the door's own


def content(s: Session, attr: Attr, limit: int) -> Op[bytes | None]:
    """A regular file's content or a symbolic link's target; b"" of anything else, None where it is longer than `limit`."""
    if not attr.is_reg and not attr.is_symlink:
        return b""
    rows = yield from run(tree.INODE_FULL(*s.key, attr.ino))
    if attr.is_symlink:
        found(rows[0], attr.ino)
        return bytes(rows[0][0][ATTR_FIELDS + 1])
    row = file_row(rows[0], attr.ino)
    return (yield from _whole(s, row)) if row.attr.size <= limit else None


def _whole(s: Session, row: FileRow) -> Op[bytes]:
    file = OpenFile(s, s.at.generation, row)
    parts = []
    for offset in range(0, row.attr.size, _PIECE):
        parts.append((yield from file.read(NOBODY, offset, _PIECE, final=False)))
    return b"".join(parts)


def canonical(s: Session, word: bytes) -> Op[bytes | None]:
    """The path without dots and symbolic links, but for the last name's; None where its directory is not there."""
    bare = word.rstrip(b"/")
    if not bare:
        return b"/"
    try:
        if bare.rpartition(b"/")[2] in (b".", b".."):
            folder, name = (yield from path.resolve(s, NOBODY, bare)), b""
        else:
            folder, name = yield from path.resolve_parent(s, NOBODY, bare)
    except FsError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    rows = yield from run(sql.NAMES(*s.key, [folder.ino]))
    known = _Names(rows[0][0]).path(folder.ino, name)
    return known if known is None or name else known.rstrip(b"/") or b"/"


def exists(s: Session, known: bytes) -> Op[Attr | None]:
    """What stands at a canonical path."""
    names = [name for name in known.split(b"/") if name]
    rows = yield from run(tree.WALK(*s.key, ROOT_INO, names))
    return Attr._make(rows[0][-1]) if len(rows[0]) == len(names) + 1 else None

