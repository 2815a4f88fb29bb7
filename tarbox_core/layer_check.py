"""Whether layers, lines and branches agree with each other and with the stamps of the rows: fsck's part of `layer`.

That ids and names are unique is the tables' own affair. Not here: what a layer's tree looks like; that is `check`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tarbox_core import layer_check_statements as sql
from tarbox_core import layer_statements as verbs
from tarbox_core.effects import Op, Query, many
from tarbox_core.layer import sees
from tarbox_core.session import Ranges, Session


class Trouble(NamedTuple):
    """Something that is not as it should be; `repair` makes it so where that is safe, `repaired` says what that does."""

    kind: str
    text: str
    repaired: str = ""
    repair: tuple[Query, ...] = ()


class _Standing(NamedTuple):
    """A layer, and the branch that writes to it; either may be missing."""

    stamp: int
    id: str | None
    parent: int | None
    sealed: bool
    branch: str | None
    visible: Ranges | None
    previous: int | None

    @property
    def name(self) -> str:
        return f"layer {self.id[:8]}" if self.id else f"layer {stamp_text(self.stamp)}"


def stamp_text(stamp: int) -> str:
    """A stamp as people read it: line and number in it."""
    return f"{stamp >> 32}.{stamp & 0xFFFFFFFF}"


def look(s: Session) -> Op[list[Trouble]]:
    """All that is wrong with the layers of the tenant."""
    standings = [_Standing(*row) for row in (yield from many(sql.STANDING(s.tenant)))]
    lines = {line: (fork, below) for line, fork, below in (yield from many(sql.LINES(s.tenant)))}
    true = {line: _below(line, lines) for line in lines}
    troubles = [*_lines(s, lines, true), *_branches(s, standings, true), *_parents(s, standings, true)]
    for stamp, rows in (yield from many(sql.LOST_ROWS(s.tenant))):
        text = f"{rows} rows of layer {stamp_text(stamp)}, which no layer and no branch sees"
        troubles.append(Trouble("lost-rows", text, "removed them", (sql.LOST_ROWS_DROP(s.tenant, stamp),)))
    return troubles


def _below(line: int, lines: Mapping[int, tuple[int | None, Ranges]]) -> Ranges | None:
    """What a line's fork sees, from the forks alone; None where they lead nowhere."""
    forks: list[int] = []
    while (fork := lines[line][0]) is not None:
        if not 0 < fork >> 32 < line or fork >> 32 not in lines:
            return None
        forks.append(fork)
        line = fork >> 32
    below: Ranges = ()
    for fork in reversed(forks):
        below = sees(below, fork)
    return below


def _lines(s: Session, lines: Mapping[int, tuple[int | None, Ranges]], true: Mapping[int, Ranges | None]) -> Iterator[Trouble]:
    for line, (_, below) in sorted(lines.items()):
        expected = true[line]
        if expected is None:
            yield Trouble("line-fork", f"line {line} grew on a layer of a line that is not there, or not older")
        elif below != expected:
            repair = (sql.LINE_SEES(s.tenant, line, expected),)
            yield Trouble("line-below", f"line {line} does not see what the layer sees that it grew on", "corrected what it sees", repair)


def _branches(s: Session, standings: list[_Standing], true: Mapping[int, Ranges | None]) -> Iterator[Trouble]:
    sealed = {at.stamp for at in standings if at.sealed}
    writers: dict[int, str] = {}
    for at in standings:
        if at.branch is None:
            if not at.sealed:
                seal = verbs.SEAL(s.tenant, at.stamp, None, "found open by fsck, without a branch", True)
                yield Trouble("open-layer", f"{at.name} is open, and no branch writes to it", "sealed it", (seal,))
            continue
        if at.id is None:
            below = [stamp for stamp in sealed if stamp < at.stamp and any(lo <= stamp < hi for lo, hi in at.visible or ())]
            repair = (verbs.OPEN(s.tenant, at.stamp, max(below, default=None)),)
            yield Trouble("lost-layer", f"branch {at.branch} writes to {at.name}, which does not exist", "made it again", repair)
        elif at.sealed:
            yield Trouble("sealed-head", f"branch {at.branch} writes to {at.name}, which is sealed")
        if at.stamp in writers:
            yield Trouble("shared-layer", f"branches {writers[at.stamp]} and {at.branch} both write to {at.name}")
        writers[at.stamp] = at.branch
        below_line = true.get(at.stamp >> 32)
        if below_line is None:
            yield Trouble("lost-line", f"branch {at.branch} writes to {at.name}, whose line does not exist or leads nowhere")
        elif at.visible != sees(below_line, at.stamp):
            repair = (sql.HEAD_SEES(s.tenant, at.branch, sees(below_line, at.stamp)),)
            yield Trouble("head-sees", f"branch {at.branch} does not see what {at.name} sees", "corrected what it sees", repair)
        if at.previous is not None and at.previous not in sealed:
            repair = (verbs.HEAD_FORGET(s.tenant, [at.previous], None),)
            text = f"the last switch of branch {at.branch} left layer {stamp_text(at.previous)}, which does not exist or is not sealed"
            yield Trouble("head-previous", text, "forgot it", repair)


def _parents(s: Session, standings: list[_Standing], true: Mapping[int, Ranges | None]) -> Iterator[Trouble]:
    sealed = sorted(at.stamp for at in standings if at.sealed)
    for at in standings:
        below_line = true.get(at.stamp >> 32)
        if at.id is None:
            continue
        if below_line is None:
            if at.branch is None:
                yield Trouble("lost-line", f"{at.name} belongs to a line that does not exist or leads nowhere")
            continue
        seen = [stamp for stamp in sealed if stamp < at.stamp and any(lo <= stamp < hi for lo, hi in sees(below_line, at.stamp))]
        expected = max(seen, default=None)
        if at.parent != expected:
            stands = "nothing" if at.parent is None else f"layer {stamp_text(at.parent)}"
            should = "nothing" if expected is None else f"layer {stamp_text(expected)}"
            repair = (verbs.REBASE(s.tenant, at.stamp, expected),)
            yield Trouble("layer-parent", f"{at.name} says that it rests on {stands}, and rests on {should}", "corrected it", repair)
