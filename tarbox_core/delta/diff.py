"""What differs between two texts, as ranges of bytes that begin and end with lines.

Equal text is compared as memory and never split into lines. Where two long texts part, a window of each is looked at,
and made larger until they are seen to run together again; what lies before that place is aligned line by line.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from tarbox_core.delta.align import Budget, align
from tarbox_core.delta.anchors import anchors
from tarbox_core.delta.ends import common_prefix, common_suffix
from tarbox_core.delta.hunk import Counts, Hunk, slide
from tarbox_core.delta.text import begins_line, count_lines, line_end, split_lines

BUDGET: Final = 10_000_000  # steps: about three seconds
_SMALL: Final = 1 << 20  # bytes of both texts that are aligned without looking for windows
_WINDOW: Final = 4 << 10  # bytes of each text in the first window; then four times as many each time
_NEAR: Final = 64  # places where a few lines may differ before windows are looked at
_PARTED: Final = 4  # lines in a row that may differ there
_TRUSTED: Final = 16 << 10  # bytes of equal text that are trusted after windows of any size
_PATIENCE: Final = 1 << 20  # bytes by which windows may exceed the text that they led through


def diff(old: bytes, new: bytes, budget: int = BUDGET) -> list[Hunk]:
    """The hunks that make `new` of `old`, none where they are equal. Any bytes will do.

    `budget` bounds the work that is not linear; what it does not reach becomes one coarse hunk. The same arguments give
    the same hunks, always.
    """
    steps = Budget(budget)
    i = j = start = _equal_lines(old, new, 0, 0, len(old), len(new))
    old_end, new_end = _before_equal_lines(old, new, start)
    hunks: list[Hunk] = []
    looked = 0
    while i < old_end or j < new_end:
        met = (old_end, new_end)
        if i < old_end and j < new_end and old_end - i + new_end - j > _SMALL and looked <= i + j - 2 * start + _PATIENCE:
            near = _meeting_near(old, new, i, j, old_end, new_end)
            if near:
                met = near
            else:
                met, seen = _meeting(old, new, i, j, old_end, new_end)
                looked += seen
        hunks += _aligned(old, new, Hunk(i, met[0], j, met[1]), steps)
        equal = _equal_lines(old, new, *met, old_end, new_end)
        i, j = met[0] + equal, met[1] + equal
    return slide(old, new, hunks)


def count(old: bytes, new: bytes, hunks: Sequence[Hunk] | None = None) -> Counts:
    """How many lines differ; by `hunks`, where they are known already."""
    added = deleted = modified = 0
    for hunk in diff(old, new) if hunks is None else hunks:
        gone, come = count_lines(old, hunk.old_start, hunk.old_end), count_lines(new, hunk.new_start, hunk.new_end)
        both = min(gone, come)
        added, deleted, modified = added + come - both, deleted + gone - both, modified + both
    return Counts(added, deleted, modified)


def _equal_lines(old: bytes, new: bytes, i: int, j: int, old_end: int, new_end: int) -> int:
    """Bytes of the lines that are equal from i and j on."""
    equal = common_prefix(old, new, i, j, min(old_end - i, new_end - j))
    if i + equal == old_end and j + equal == new_end:
        return equal
    return max(0, old.rfind(b"\n", i, i + equal) + 1 - i)


def _before_equal_lines(old: bytes, new: bytes, start: int) -> tuple[int, int]:
    """Where the lines begin with which both texts end; not before `start`, up to which they are equal."""
    equal = common_suffix(old, new, min(len(old), len(new)) - start)
    i, j = len(old) - equal, len(new) - equal
    if equal and not (begins_line(old, i) and begins_line(new, j)):
        rest = line_end(old, i, len(old)) - i
        i, j = i + rest, j + rest
    return i, j


def _meeting_near(old: bytes, new: bytes, i: int, j: int, old_end: int, new_end: int) -> tuple[int, int] | None:
    """Where two texts that part at i and j run together again for a window's length, if but a few lines here and there differ before."""
    parted = 0
    for _ in range(_NEAR):
        i_next, j_next = line_end(old, i, old_end), line_end(new, j, new_end)
        best = (0, i_next, j_next)
        for x, y in ((i_next, j_next), (i, j_next), (i_next, j)):
            equal = _equal_lines(old, new, x, y, min(x + _WINDOW, old_end), min(y + _WINDOW, new_end))
            if equal == _WINDOW:
                return x, y
            if equal > best[0]:
                best = (equal, x + equal, y + equal)
        equal, i, j = best
        parted = 0 if equal else parted + 1
        if parted == _PARTED:
            break
    return None


def _meeting(old: bytes, new: bytes, i: int, j: int, old_end: int, new_end: int) -> tuple[tuple[int, int], int]:
    """Where two texts that part at i and j run together again, at the latest at their ends; and the bytes looked at for it.

    They do where lines that are unique in both windows begin a stretch of equal text as long as a window: what is
    repeated within a record or a function is shorter than the windows in which it would no longer be unique. They also
    do where such lines are half of a large window.
    """
    window, looked = _WINDOW, 0
    while 4 * window <= max(old_end - i, new_end - j):
        old_lines, old_at = _lines(old, i, line_end(old, min(i + window, old_end) - 1, old_end))
        new_lines, new_at = _lines(new, j, line_end(new, min(j + window, new_end) - 1, new_end))
        looked += old_at[-1] - i + new_at[-1] - j
        trusted = min(window, _TRUSTED)
        pairs = anchors(old_lines, new_lines)
        tried = i
        for x, y in pairs:
            if old_at[x] < tried:
                continue
            while x and y and old_lines[x - 1] == new_lines[y - 1]:
                x, y = x - 1, y - 1
            room = min(old_end - old_at[x], new_end - new_at[y], trusted)
            equal = common_prefix(old, new, old_at[x], new_at[y], room)
            if equal == trusted:
                return (old_at[x], new_at[y]), looked
            tried = old_at[x] + equal
        if window > _TRUSTED and 2 * len(pairs) > min(len(old_lines), len(new_lines)):
            x, y = pairs[len(pairs) * 3 // 4]
            return (old_at[x], new_at[y]), looked
        window *= 4
    return (old_end, new_end), looked


def _lines(text: bytes, start: int, end: int) -> tuple[list[bytes], list[int]]:
    """The lines of text[start:end], and where each begins; behind the last, the end."""
    lines = split_lines(text[start:end])
    begins = list(accumulate((len(line) + 1 for line in lines), initial=start))
    begins[-1] = end  # a last line without its newline is as long as if it had one
    return lines, begins


def _aligned(old: bytes, new: bytes, whole: Hunk, steps: Budget) -> list[Hunk]:
    """The hunks within one, which replaces everything."""
    if whole.old_start == whole.old_end or whole.new_start == whole.new_end:
        return [whole]
    old_lines, new_lines = split_lines(old[whole.old_start : whole.old_end]), split_lines(new[whole.new_start : whole.new_end])
    hunks = []
    x, i, j = 0, whole.old_start, whole.new_start
    for change in align(old_lines, new_lines, steps):
        equal = _size(old_lines, x, change.a_start)
        old_size, new_size = _size(old_lines, change.a_start, change.a_end), _size(new_lines, change.b_start, change.b_end)
        i, j = i + equal, j + equal
        # A last line without its newline was measured longer than it is.
        hunk = Hunk(i, min(i + old_size, whole.old_end), j, min(j + new_size, whole.new_end))
        hunks.append(hunk)
        x, i, j = change.a_end, hunk.old_end, hunk.new_end
    return hunks


def _size(lines: list[bytes], start: int, end: int) -> int:
    """Bytes of the lines together, newlines included."""
    return sum(map(len, lines[start:end])) + end - start
