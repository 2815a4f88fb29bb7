"""Which of the files that went and of those that came are one file: by path, by inode, by equal or by similar content.

What stood at a path is matched with what stands there now before anything else, because editors write a new file and
rename it over the old one. Pure functions; what must be read for it is read by `compare`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Final, NamedTuple

from tarbox_core.delta.text import is_text, split_lines
from tarbox_core.types import Attr

ALIKE: Final = 0.6  # of the bytes of the larger one lie in lines that both have: then it was renamed and changed
_SIZE_MAX: Final = 1 << 20  # bytes; larger files are not compared for likeness
_PAIRS_MAX: Final = 2500  # pairs that are compared; where there would be more, only those of one name are
_BYTES_MAX: Final = 32 << 20  # bytes that are read for it


class State(NamedTuple):
    """An inode in one tree. Marks as in `compare_statements.STATES`."""

    attr: Attr
    mark: bytes
    xattrs: bytes

    @property
    def is_plain(self) -> bool:
        """What programs know that know only files."""
        return self.attr.is_reg or self.attr.is_symlink


class Item(NamedTuple):
    """A file or directory where it stands in one tree."""

    path: bytes
    state: State

    @property
    def ino(self) -> int:
        return self.state.attr.ino

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]


Pair = tuple[Item, Item]


def differ(old: State, new: State) -> bool | None:
    """Whether the contents differ; None where that cannot be told without reading them."""
    a, b = old.attr, new.attr
    if a.mode >> 12 != b.mode >> 12 or a.rdev != b.rdev:
        return True
    if a.is_reg and a.size != b.size:
        return True
    if old.mark[:1] != new.mark[:1] and a.size:
        return None
    return old.mark != new.mark and (a.size > 0 or not a.is_reg)


class Unpaired:
    """What went and what came, and the pairs found so far."""

    def __init__(self, gone: Iterable[Item], come: Iterable[Item]) -> None:
        self.gone = sorted(gone)
        self.come = sorted(come)
        self.pairs: list[Pair] = []

    def match(self, key: Callable[[Item], Hashable | None]) -> None:
        """Pair what has one key; None has no partner. Among several, first by name, then in the order of their paths."""
        for same_name in (True, False):
            waiting: dict[Hashable, list[Item]] = {}
            for item in self.gone:
                if (wanted := _key(key, item, same_name)) is not None:
                    waiting.setdefault(wanted, []).append(item)
            found = []
            for item in self.come:
                there = waiting.get(_key(key, item, same_name))
                if there:
                    found.append((there.pop(0), item))
            self.take(found)

    def take(self, pairs: Iterable[Pair]) -> None:
        """These belong together."""
        found = list(pairs)
        if found:
            gone, come = ({item.path for item in side} for side in zip(*found, strict=True))
            self.gone = [item for item in self.gone if item.path not in gone]
            self.come = [item for item in self.come if item.path not in come]
            self.pairs += found

    def candidates(self) -> list[Pair]:
        """Pairs of texts that may be alike, by their size; not many, whatever happened."""
        gone, come = ([item for item in side if item.state.attr.is_reg and 0 < item.state.attr.size <= _SIZE_MAX] for side in (self.gone, self.come))
        every = len(gone) * len(come) <= _PAIRS_MAX
        by_name: dict[bytes, list[Item]] = {}
        for item in come:
            by_name.setdefault(b"" if every else item.name, []).append(item)
        found, size = [], 0
        for old in gone:
            for new in by_name.get(b"" if every else old.name, ()):
                small, large = sorted((old.state.attr.size, new.state.attr.size))
                if small >= ALIKE * large:
                    found.append((old, new))
            size += old.state.attr.size
            if size > _BYTES_MAX or len(found) > _PAIRS_MAX:
                break
        return found


def _key(key: Callable[[Item], Hashable | None], item: Item, same_name: bool) -> Hashable | None:
    wanted = key(item)
    return None if wanted is None else (wanted, item.name) if same_name else wanted


def by_path(item: Item) -> Hashable:
    return item.path


def by_inode(item: Item) -> Hashable:
    return item.ino


def by_content(item: Item) -> Hashable | None:
    attr = item.state.attr
    return (attr.size, item.state.mark) if attr.is_reg and attr.size else None


def alike(pairs: Iterable[Pair], read: dict[tuple[bool, bytes], bytes]) -> list[Pair]:
    """Of the candidates those that are, the most alike first, each file once. `read`: contents by (newer, path)."""
    lines = {key: Counter(split_lines(data)) for key, data in read.items() if is_text(data)}
    who: dict[bytes, list[bytes]] = {}  # which older files have a line
    for (newer, path), counts in lines.items():
        if not newer:
            for line in counts:
                who.setdefault(line, []).append(path)
    common: Counter[tuple[bytes, bytes]] = Counter()  # bytes of the lines that two files have in common
    for (newer, path), counts in lines.items():
        if newer:
            for line, count in counts.items():
                for other in who.get(line, ()):
                    common[other, path] += (len(line) + 1) * min(count, lines[False, other][line])
    rated = []
    for pair in pairs:
        old, new = pair
        likeness = common[old.path, new.path] / max(old.state.attr.size, new.state.attr.size)
        if likeness > ALIKE:
            rated.append(((-likeness, old.name != new.name, old.path, new.path), pair))
    used: set[tuple[bool, bytes]] = set()
    chosen = []
    for _, (old, new) in sorted(rated):
        if (False, old.path) not in used and (True, new.path) not in used:
            used |= {(False, old.path), (True, new.path)}
            chosen.append((old, new))
    return chosen
