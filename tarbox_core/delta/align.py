"""Which lines of two lists stay: exactly where that is affordable, otherwise around anchors, and within a budget of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import compress
from operator import not_
from typing import Final, NamedTuple

from tarbox_core.delta.anchors import ENOUGH, anchors
from tarbox_core.delta.lcs import Pairs, by_bits, by_pairs, equal_front

_CELLS: Final = 2048  # cells of by_bits that cost one step
_SMALL: Final = 1 << 16  # cells that are not worth weighing first
_EXACT: Final = 150_000  # steps that one exact answer may cost
_ANCHORS: Final = 4  # steps for one line, where anchors are looked for
_SIDE: Final = 8192  # lines of each text in a block, where nothing else is left
_SURE: Final = _SIDE * 3 // 4  # lines of a block whose partners cannot be much beyond it


class Budget:
    """The work that may still be done, in steps. One is about what it costs to look at one line, 0.3 us.

    Work is counted, not timed, so that the same texts always give the same answer.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def spend(self, steps: int) -> bool:
        """Take them; false, and nothing taken, where fewer are left."""
        if steps > self.steps:
            return False
        self.steps -= steps
        return True


class Change(NamedTuple):
    """Lines a[a_start:a_end] replaced by lines b[b_start:b_end]; one of the two may be empty."""

    a_start: int
    a_end: int
    b_start: int
    b_end: int


def align(a: Sequence[bytes], b: Sequence[bytes], budget: Budget) -> list[Change]:
    """The changes that make b of a, in order, with an equal line or more between them. What the budget does not reach is one change."""
    common = set(a).intersection(b)
    a_stays, b_stays = bytearray(map(common.__contains__, a)), bytearray(map(common.__contains__, b))
    # An item is what may be paired between two pairs that are settled: lines of a and of b, and the numbers of each.
    # Its lines count as staying until it is worked through.
    pending = [(list(compress(a, a_stays)), list(compress(b, b_stays)), list(compress(range(len(a)), a_stays)), list(compress(range(len(b)), b_stays)))]
    while pending:
        left, right, xs, ys = pending.pop()
        head = equal_front(left, right)
        tail = equal_front(left[head:][::-1], right[head:][::-1])
        left, xs = left[head : len(left) - tail], xs[head : len(xs) - tail]
        right, ys = right[head : len(right) - tail], ys[head : len(ys) - tail]
        common = set(left).intersection(right)
        left, xs = _divide(left, xs, common, a_stays)
        right, ys = _divide(right, ys, common, b_stays)
        pairs, settled = _pair(left, right, budget) if common else ([], True)
        i = j = 0
        for x, y in [*pairs, (len(xs), len(ys))]:
            if not settled and x > i and y > j:
                if left[i:x] != right[j:y]:
                    pending.append((left[i:x], right[j:y], xs[i:x], ys[j:y]))
            elif x > i or y > j:
                for number in xs[i:x]:
                    a_stays[number] = 0
                for number in ys[j:y]:
                    b_stays[number] = 0
            i, j = x + 1, y + 1
    return _changes(a_stays, b_stays)


def _divide(lines: list[bytes], numbers: list[int], common: set[bytes], stays: bytearray) -> tuple[list[bytes], list[int]]:
    """The lines that are common, and their numbers; the others do not stay."""
    chosen = list(map(common.__contains__, lines))
    for number in compress(numbers, map(not_, chosen)):
        stays[number] = 0
    return list(compress(lines, chosen)), list(compress(numbers, chosen))


def _pair(a: list[bytes], b: list[bytes], budget: Budget) -> tuple[Pairs, bool]:
    """Pairs of equal lines, and whether that is all; if not, more may be found between them."""
    cells = len(a) * len(b)
    by_cells = cells // _CELLS + len(a) + len(b)
    if cells <= _SMALL:
        return (by_bits(a, b) if budget.spend(by_cells) else []), True
    times = Counter(b)
    by_count = len(a) + len(b) + sum(n * times[line] for line, n in Counter(a).items())
    cost = min(by_cells, by_count)
    if cost <= _EXACT and budget.spend(cost):
        return (by_pairs if by_count < by_cells else by_bits)(a, b), True
    if budget.spend(_ANCHORS * (len(a) + len(b))):
        pairs = anchors(a, b)
        if ENOUGH * len(pairs) >= min(len(a), len(b)):
            return pairs, False
    return _slide(a, b, budget), True


def _slide(a: list[bytes], b: list[bytes], budget: Budget) -> Pairs:
    """Exact within blocks, each of which begins behind the last pair that was sure in the one before."""
    found: Pairs = []
    i = j = 0
    while i < len(a) and j < len(b) and budget.spend(_SIDE * _SIDE // _CELLS):
        pairs = by_bits(a[i : i + _SIDE], b[j : j + _SIDE])
        if i + _SIDE < len(a) or j + _SIDE < len(b):
            pairs = [pair for pair in pairs if max(pair) < _SURE] or pairs
        found += [(i + x, j + y) for x, y in pairs]
        x, y = pairs[-1] if pairs else (_SIDE, _SIDE)
        i, j = i + x + 1, j + y + 1
    return found


def _changes(a_stays: bytearray, b_stays: bytearray) -> list[Change]:
    """Out of flags, 1 for a line that stays: as many of a stay as of b, and the k-th of a is the k-th of b."""
    found: list[Change] = []
    x = y = 0
    while True:
        a_next, b_next = a_stays.find(0, x), b_stays.find(0, y)
        equal = min((a_next if a_next >= 0 else len(a_stays)) - x, (b_next if b_next >= 0 else len(b_stays)) - y)
        x, y = x + equal, y + equal
        if x == len(a_stays) and y == len(b_stays):
            return found
        a_end, b_end = a_stays.find(1, x), b_stays.find(1, y)
        change = Change(x, a_end if a_end >= 0 else len(a_stays), y, b_end if b_end >= 0 else len(b_stays))
        found.append(change)
        x, y = change.a_end, change.b_end
