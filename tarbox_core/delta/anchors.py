"""Lines by which two sequences can be pinned together before anything is computed: those that occur once in each.

Where single lines say too little (few different lines, each often), runs of 2, 4, 8... lines are taken as one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import compress, count
from typing import Final

from tarbox_core.delta.lcs import Pairs, by_pairs, equal_front

_WIDEST: Final = 64  # lines of a run
ENOUGH: Final = 64  # one anchor for so many lines says that the sequences belong together


def anchors(a: Sequence[Hashable], b: Sequence[Hashable]) -> Pairs:
    """The longest ascending chain of pairs (x, y), a[x] == b[y], each beginning a run that is unique in both; maybe none."""
    wanted = min(len(a), len(b)) / ENOUGH
    best: Pairs = []
    width = 1
    while True:
        chain = _unique(a, b)
        if len(chain) > len(best):
            best = chain
        if width == _WIDEST or len(best) >= wanted or not set(a).intersection(b):
            return best
        a, b = _doubled(a, b, width)
        width *= 2


def _unique(a: Sequence[Hashable], b: Sequence[Hashable]) -> Pairs:
    once = _once(a) & _once(b)
    a_once, b_once = list(map(once.__contains__, a)), list(map(once.__contains__, b))
    left, right = list(compress(a, a_once)), list(compress(b, b_once))
    # Both hold the same elements: what is not moved is equal as a whole, and needs no search.
    head = equal_front(left, right)
    tail = equal_front(left[head:][::-1], right[head:][::-1])
    size = len(left)
    moved = by_pairs(left[head : size - tail], right[head : size - tail])
    xs, ys = list(compress(count(), a_once)), list(compress(count(), b_once))
    middle = [(xs[head + x], ys[head + y]) for x, y in moved]
    return [*zip(xs[:head], ys[:head], strict=True), *middle, *zip(xs[size - tail :], ys[size - tail :], strict=True)]


def _once(elements: Sequence[Hashable]) -> set[Hashable]:
    """Those that occur once."""
    last = dict(zip(elements, count()))
    if len(last) == len(elements):
        return set(last)
    size = len(elements)
    first = dict(zip(reversed(elements), range(size - 1, -1, -1), strict=True))
    return {element for element, x in last.items() if first[element] == x}


def _doubled(a: Sequence[Hashable], b: Sequence[Hashable], width: int) -> tuple[list[int], list[int]]:
    """Numbers for runs of 2 * width lines, out of those for runs of `width`."""
    numbers: dict[tuple[Hashable, Hashable], int] = {}
    return (
        [numbers.setdefault(pair, len(numbers)) for pair in zip(a, a[width:])],  # noqa: B905 (as long as the shorter)
        [numbers.setdefault(pair, len(numbers)) for pair in zip(b, b[width:])],  # noqa: B905
    )
