"""A hunk: a range of bytes of one text replaced by a range of another; where its lines are, how many, and where it looks best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tarbox_core.delta.text import count_lines, line_end

_FARTHEST: Final = 100  # lines that a hunk is slid up or down


class Hunk(NamedTuple):
    """old[old_start:old_end] replaced by new[new_start:new_end]; one of the two may be empty.

    Each of the four is where a line begins or the text ends. Hunks of one diff ascend, with an equal line or more between them.
    """

    old_start: int
    old_end: int
    new_start: int
    new_end: int


class Span(NamedTuple):
    """A hunk in lines: the first is line 0."""

    old_line: int
    old_lines: int
    new_line: int
    new_lines: int


class Counts(NamedTuple):
    """Lines added, deleted and modified: of n lines replaced by m, min(n, m) are modified, the rest added or deleted."""

    added: int
    deleted: int
    modified: int

    @property
    def insertions(self) -> int:
        """As diffstat and git count: a modified line is one deleted and one inserted."""
        return self.added + self.modified

    @property
    def deletions(self) -> int:
        return self.deleted + self.modified


def spans(old: bytes, new: bytes, hunks: Sequence[Hunk]) -> list[Span]:
    """Where the hunks are in lines. Only newlines are counted, and only once where the texts are equal."""
    found = []
    at = old_line = new_line = 0
    for hunk in hunks:
        equal = old.count(b"\n", at, hunk.old_start)
        old_lines, new_lines = count_lines(old, hunk.old_start, hunk.old_end), count_lines(new, hunk.new_start, hunk.new_end)
        span = Span(old_line + equal, old_lines, new_line + equal, new_lines)
        found.append(span)
        at, old_line, new_line = hunk.old_end, span.old_line + old_lines, span.new_line + new_lines
    return found


def slide(old: bytes, new: bytes, hunks: Sequence[Hunk]) -> list[Hunk]:
    """The same hunks, each of pure insertion or deletion where it reads best among the places that mean the same.

    Of `}` + `void f() {` + `}` inserted after a `}`, the last two lines and the brace that was there could be called new as
    well. It is to begin with the least indented line, not with an empty one, and otherwise as late as it can.
    """
    slid: list[Hunk] = []
    for number, hunk in enumerate(hunks):
        if hunk.old_start == hunk.old_end or hunk.new_start == hunk.new_end:
            side = 2 if hunk.old_start == hunk.old_end else 0  # where Hunk has the range that is not empty
            low = slid[-1][side + 1] if slid else -1
            high = hunks[number + 1][side] if number + 1 < len(hunks) else len(old) + len(new)
            start = _best(new if side else old, hunk[side], hunk[side + 1], low, high)
            hunk = Hunk(*(at + start - hunk[side] for at in hunk))
        slid.append(hunk)
    return slid


def _best(text: bytes, start: int, end: int, low: int, high: int) -> int:
    """Where text[start:end] is to begin; it stays above `low` and below `high`, so that it touches no other hunk."""
    starts = [start]
    s, e = start, end
    for _ in range(_FARTHEST):
        up, last = text.rfind(b"\n", 0, max(0, s - 1)) + 1, text.rfind(b"\n", 0, e - 1) + 1
        if s == 0 or up <= low or text[up:s] != text[last:e]:
            break
        s, e = up, last
        starts.append(s)
    s, e = start, end
    for _ in range(_FARTHEST):
        down, following = line_end(text, s, e), line_end(text, e, len(text))
        if e == len(text) or following >= high or text[s:down] != text[e:following]:
            break
        s, e = down, following
        starts.append(s)
    if len(starts) == 1:
        return start
    return min(starts, key=lambda at: (*_indent(text[at : line_end(text, at, len(text))]), -at))


def _indent(line: bytes) -> tuple[bool, int]:
    """Whether a line is empty, and the bytes of its indentation."""
    bare = line.lstrip(b" \t")
    return not bare.strip(), len(line) - len(bare)
