"""How a file came to be what it is: the layers on the way to a head in which it changed, followed through renames.

A path is looked at where something on it changed, and its inode where a row of it was written; between those nothing
can have happened. Where it came by a rename, the way back goes on with the old path.
"""

from __future__ import annotations

import errno
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from tarbox_core import compare_statements as sql
from tarbox_core import layer
from tarbox_core import statements as tree
from tarbox_core.compare import Comparison, Key, Side, canonical, content, described, states
from tarbox_core.delta.diff import count
from tarbox_core.delta.format import TEXT_MAX
from tarbox_core.delta.hunk import Counts
from tarbox_core.delta.text import count_lines, is_text
from tarbox_core.effects import Op, Query, Rows, run
from tarbox_core.errors import LayerError
from tarbox_core.layer import Layer
from tarbox_core.pairing import State, differ
from tarbox_core.session import Session
from tarbox_core.types import ROOT_INO, Attr

_AT_ONCE: Final = 64  # statements in one trip


class Version(NamedTuple):
    """What a layer made of a file. The status as in `compare.Change`."""

    layer: Layer
    status: str
    path: bytes  # in that layer; of what was deleted, before
    old_path: bytes | None  # the one it was renamed from
    attr: Attr | None  # None: deleted
    lines: int | None  # None: no text, or one too long to look at
    counts: Counts | None  # lines that differ from the version before; None where one of the two is no text


def history(s: Session, word: bytes, limit: int | None = None) -> Op[list[Version]]:
    """The versions of what stands at a path, or stood there last, the newest first; at most `limit`. ENOENT where nothing
    ever did."""
    descent = yield from _descend(s)
    known = yield from canonical(s.beside(*descent.key(0)[1:]), word)
    path = b"/" + b"/".join(name for name in word.split(b"/") if name not in (b"", b".")) if known is None else known
    steps = yield from _steps(s, descent, path)
    if not steps:
        raise LayerError(errno.ENOENT, f"{path.decode('utf-8', 'backslashreplace')}: nothing ever stood there in the layers that lead to this tree")
    versions: list[Version] = []
    texts = _Texts(s, descent)
    for step, before in pairwise([*steps, None]):
        if step is None or len(versions) == limit:
            break
        version = yield from _version(descent, texts, step, before)
        if version is not None:
            versions.append(version)
    return versions


# --- the line of descent


class _Descent:
    """A layer and what it rests on, the newest first; a layer is called by its place in this line."""

    def __init__(self, layers: list[Layer], newest: Key) -> None:
        self.layers = layers
        self._newest = newest
        self._stamps = [layer.stamp for layer in reversed(layers)]

    def key(self, at: int) -> Key:
        """What a layer sees is what the newest sees of it and older ones, whose stamps are smaller."""
        stamp = self.layers[at].stamp
        return self._newest[0], stamp, tuple((lo, min(hi, stamp + 1)) for lo, hi in self._newest[2] if lo <= stamp)

    def place(self, stamp: int) -> int:
        """The layer that holds rows of this stamp: its own, or what it was squashed into."""
        return len(self.layers) - 1 - bisect_left(self._stamps, stamp)


def _descend(s: Session) -> Op[_Descent]:
    newest = yield from layer.current(s)
    ranges = yield from layer.visible(s, newest)
    by_stamp = {layer.stamp: layer for layer in (yield from layer.listing(s))}
    line = [newest]
    while (parent := by_stamp.get(line[-1].parent or 0)) is not None:
        line.append(parent)
    return _Descent(line, (s.tenant, newest.stamp, ranges))


# --- the states of a path


class _Step(NamedTuple):
    """What stood at a path from a layer on. `state` None: nothing."""

    at: int
    path: bytes
    state: State | None
    renamed: bool = False  # in this layer: the step before is at another path


def _steps(s: Session, descent: _Descent, path: bytes) -> Op[list[_Step]]:
    """From the newest back to where the file first came; what stood at the path before there was nothing, too."""
    steps: list[_Step] = []
    newest, last = 0, len(descent.layers) - 1
    while True:
        found = yield from _steps_of_path(s, descent, path, newest)
        for number, step in enumerate(found):
            born = step.state is not None and (number + 1 == len(found) or found[number + 1].state is None)
            if born and step.at < last and (origin := (yield from _origin(s, descent, step.at, path))) is not None:
                steps += [*found[:number], step._replace(renamed=True)]
                path, newest = origin, step.at + 1
                break
        else:
            return steps + found


def _origin(s: Session, descent: _Descent, at: int, path: bytes) -> Op[bytes | None]:
    """The path that a file, or a directory above it, was renamed from in a layer."""
    both = Comparison(s, Side("", descent.key(at + 1)), Side("", descent.key(at)))
    renamed = {change.path: change.old_path for change in (yield from both.changes()) if change.status == "R"}
    above = path
    while above:
        old = renamed.get(above)
        if old is not None:
            return old + path[len(above) :]
        above = above.rpartition(b"/")[0]
    return None


def _steps_of_path(s: Session, descent: _Descent, path: bytes, newest: int) -> Op[list[_Step]]:
    """As long as the path is this one; the newest first, and at the end the first thing that stood there."""
    names = [name for name in path.split(b"/") if name]
    rows = yield from run(sql.STEPS(*descent.key(newest), names))
    turns = sorted({descent.place(stamp) for stamp in rows[0][0][0] or []}) if names else [len(descent.layers) - 1]
    walks = yield from _many([tree.WALK(*descent.key(at), ROOT_INO, names) for at in turns])
    inos = [walk[-1][0] if len(walk) == len(names) + 1 else 0 for walk in walks]
    while inos and not inos[-1]:
        inos.pop()
    written = yield from _many([sql.VERSIONS(*descent.key(newest), ino) for ino in inos])
    places: list[tuple[int, int]] = []
    first = newest
    for at, ino, stamps in zip(turns, inos, written, strict=False):
        within = {place for stamp in stamps[0][0] or [] if first <= (place := descent.place(stamp)) <= at} if ino else set()
        places += [(place, ino) for place in sorted(within | {at})]
        first = at + 1
    answers = yield from _many([sql.STATES(*descent.key(at), [ino]) for at, ino in places])
    return [_Step(at, path, states(rows[0]).get(ino)) for (at, ino), rows in zip(places, answers, strict=True)]


def _many(queries: Sequence[Query]) -> Op[list[Rows]]:
    found: list[Rows] = []
    for at in range(0, len(queries), _AT_ONCE):
        found += yield from run(*queries[at : at + _AT_ONCE])
    return found


# --- what made a version of a state


class _Texts:
    """The contents of steps, read when they are asked for; the last two are kept, since each is compared twice."""

    def __init__(self, s: Session, descent: _Descent) -> None:
        self._s = s
        self._descent = descent
        self._kept: dict[_Step, bytes | None] = {}

    def read(self, step: _Step) -> Op[bytes | None]:
        if step not in self._kept and step.state is not None:
            data = yield from content(self._s.beside(*self._descent.key(step.at)[1:]), step.state.attr, TEXT_MAX)
            while len(self._kept) > 1:
                del self._kept[next(iter(self._kept))]
            self._kept[step] = data
        return self._kept.get(step, b"")

    def text(self, step: _Step | None) -> Op[bytes | None]:
        """None where it is none. Of nothing, the empty one."""
        if step is None or step.state is None:
            return b""
        data = (yield from self.read(step)) if step.state.attr.is_reg else None
        return data if data is not None and is_text(data) else None


def _version(descent: _Descent, texts: _Texts, step: _Step, before: _Step | None) -> Op[Version | None]:
    """None where a row was written and nothing that counts is different."""
    now, then = step.state, None if before is None else before.state
    if now is None and then is None:
        return None
    differs = True if now is None or then is None else differ(then, now)
    if differs is None and before is not None:
        differs = (yield from texts.read(before)) != (yield from texts.read(step))
    if now is None:
        status = "D"
    elif then is None:
        status = "A"
    elif then.attr.kind != now.attr.kind:
        status = "T"
    elif step.renamed:
        status = "R"
    elif differs:
        status = "M"
    elif described(then.attr) != described(now.attr) or then.xattrs != now.xattrs:
        status = "m"
    else:
        return None
    text = yield from texts.text(step)
    old = text if not differs else (yield from texts.text(before))
    return Version(
        descent.layers[step.at], status, step.path, before.path if step.renamed and before is not None else None, None if now is None else now.attr,
        None if now is None or text is None else count_lines(text), None if text is None or old is None else count(old, text),
    )  # fmt: skip
