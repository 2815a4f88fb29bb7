"""Text in columns of a terminal: how wide it is there, padded to a width, as a table.

Not here: what is shown.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

WIDTH: Final = 40  # that a column of a table is filled up to at most


def width(text: str) -> int:
    """How many columns a text takes: ideographs two, marks that join the letter before them none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(ch) else 2 if unicodedata.east_asian_width(ch) in "WF" else 1 for ch in text)


def padded(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, each column but the last as wide as its widest cell, at most WIDTH."""
    cells = [[*row] for row in rows]
    if not cells:
        return []
    widths = [min(WIDTH, max(map(width, column))) for column in zip(*cells, strict=True)]
    return ["  ".join(map(padded, row, widths)).rstrip() for row in cells]


def some(number: int, word: str) -> str:
    """A count with its noun: "1 layer", "2 layers"."""
    return f"{number} {word}" + ("" if number == 1 else "s")
