"""Longest common subsequences of two sequences of lines, exactly, in two ways that are fast on different inputs.

Both return the matching positions as pairs (x, y) with a[x] == b[y], ascending in both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from typing import Final

Pairs = list[tuple[int, int]]

_MEMORY: Final = 1 << 27  # bits of rows that by_bits keeps at a time


def equal_front(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """How many elements at the front are equal; by slices, which compare faster than a loop does."""
    length = min(len(a), len(b))
    done, step = 0, 1
    while done < length and a[done : done + step] == b[done : done + step]:
        done += step
        step *= 4
    while done < length and step:
        if done + step <= length and a[done : done + step] == b[done : done + step]:
            done += step
        else:
            step //= 2
    return min(done, length)


def by_pairs(a: Sequence[Hashable], b: Sequence[Hashable]) -> Pairs:
    """Over all pairs of equal elements, as Hunt and Szymanski do (CACM 20:5): for sequences of mostly unlike elements.

    Time grows with the number of such pairs and the logarithm of the answer's length.
    """
    where = _positions(a)
    xs: list[int] = []
    ys: list[int] = []
    before: list[int] = []  # of a pair: the pair that precedes it in the longest subsequence ending with it, or -1
    ends: list[int] = []  # by length - 1: the smallest x at which a subsequence of that length can end
    pairs: list[int] = []  # and the pair that it ends with
    for y, element in enumerate(b):
        for x in reversed(where.get(element, ())):  # descending: no two pairs of one y follow each other
            if not ends or x > ends[-1]:
                length = len(ends)
                ends.append(x)
                pairs.append(len(xs))
            else:
                length = bisect_left(ends, x)
                if ends[length] == x:
                    continue
                ends[length] = x
                pairs[length] = len(xs)
            before.append(pairs[length - 1] if length else -1)
            xs.append(x)
            ys.append(y)
    found: Pairs = []
    pair = pairs[-1] if pairs else -1
    while pair >= 0:
        found.append((xs[pair], ys[pair]))
        pair = before[pair]
    found.reverse()
    return found


def by_bits(a: Sequence[Hashable], b: Sequence[Hashable]) -> Pairs:
    """Bit-parallel dynamic programming (Hyyrö 2004): for sequences in which elements repeat.

    Time grows with len(a) * len(b), a machine word of cells at once. Row y is an integer whose bit x is 0 where
    a[: x + 1] has a longer common subsequence with b[:y] than a[:x] has.
    """
    if len(a) < len(b):  # the shorter one is walked, the longer one lies in the integers
        return [(x, y) for y, x in by_bits(b, a)]
    if not b:
        return []
    masks = {element: _mask(positions) for element, positions in _positions(a).items()}
    full = (1 << len(a)) - 1

    def rows(row: int, first: int, last: int) -> list[int]:
        """Row `first`, which is `row`, to row `last`."""
        kept = [row]
        for y in range(first, last):
            hits = row & masks.get(b[y], 0)
            row = (row + hits | row - hits) & full
            kept.append(row)
        return kept

    # Rows are kept for a stretch of b at a time; the way back makes those of each stretch anew from its first.
    stretch = max(1, _MEMORY // (len(a) + 1))
    starts = list(range(0, len(b), stretch))
    first_rows = [full]
    for start in starts[:-1]:
        first_rows.append(rows(first_rows[-1], start, start + stretch)[-1])
    found: Pairs = []
    x = len(a)
    for start, first_row in zip(reversed(starts), reversed(first_rows), strict=True):
        y = min(start + stretch, len(b))
        kept = rows(first_row, start, y)
        while y > start:
            x = (~kept[y - start] & (1 << x) - 1).bit_length()
            if x == 0:
                break
            while y > start and not kept[y - start - 1] >> x - 1 & 1:
                y -= 1
            if y > start:
                x, y = x - 1, y - 1
                found.append((x, y))
    found.reverse()
    return found


def _positions(a: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Where each element occurs, ascending."""
    where: dict[Hashable, list[int]] = {}
    for x, element in enumerate(a):
        where.setdefault(element, []).append(x)
    return where


def _mask(positions: list[int]) -> int:
    """The number with these bits, in time that grows with the highest and not with highest times their number."""
    bits = bytearray(positions[-1] // 8 + 1)
    for x in positions:
        bits[x >> 3] |= 1 << (x & 7)
    return int.from_bytes(bits, "little")
