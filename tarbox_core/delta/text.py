"""Which contents are text, and where their lines begin and end.

A line ends behind its newline, 0x0A and nothing else: a carriage return belongs to the line. The last line may lack its
newline, and then equals no line that has one. Positions are byte offsets.
"""

from __future__ import annotations

from typing import Final

from tarbox_core.delta.format import TEXT_MAX

NEWLINE: Final = 0x0A
LINE_MAX: Final = 64 << 10  # bytes of a line, its newline not counted
MEAN_MAX: Final = 4 << 10  # bytes of the average line
_SNIFFED: Final = 8000  # bytes that are looked at for a NUL, as git does


def is_text(data: bytes) -> bool:
    """Whether people would read it by lines: no NUL among the first 8,000 bytes. An empty content is text."""
    return data.find(0, 0, _SNIFFED) < 0


def suits_deltas(data: bytes) -> bool:
    """Whether it is worth storing by lines: a text of at most TEXT_MAX bytes, no line above LINE_MAX, the mean at most MEAN_MAX."""
    if not is_text(data) or len(data) > TEXT_MAX or len(data) > MEAN_MAX * max(1, count_lines(data)):
        return False
    at = 0
    while len(data) - at > LINE_MAX:
        at = data.rfind(b"\n", at, at + LINE_MAX + 1) + 1
        if at == 0:
            return False
    return True


def count_lines(data: bytes, start: int = 0, end: int | None = None) -> int:
    """Lines in data[start:end]; a last one without its newline counts."""
    end = len(data) if end is None else end
    return data.count(b"\n", start, end) + (start < end and data[end - 1] != NEWLINE)


def begins_line(data: bytes, at: int) -> bool:
    return at == 0 or data[at - 1] == NEWLINE


def line_end(data: bytes, at: int, end: int) -> int:
    """Where the line that holds the byte at `at` ends, at most at `end`."""
    return data.find(b"\n", at, end) + 1 or end


def split_lines(data: bytes) -> list[bytes]:
    """The lines without their newlines. One that has none begins with a newline instead, so that it equals no other."""
    lines = data.split(b"\n")
    last = lines.pop()
    if last:
        lines.append(b"\n" + last)
    return lines
