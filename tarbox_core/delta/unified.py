"""Hunks in the unified format, as git, patch and people read it. The headers that name the files are the caller's.

The format is described in the manual of GNU diffutils, section "Detailed Description of Unified Format".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from tarbox_core.delta.diff import diff
from tarbox_core.delta.hunk import Hunk, Span, spans
from tarbox_core.delta.text import count_lines, line_end

_NO_NEWLINE = b"\\ No newline at end of file\n"


def unified(old: bytes, new: bytes, *, context: int = 3, hunks: Sequence[Hunk] | None = None) -> Iterator[bytes]:
    """The lines of the diff, each with its newline, from the first `@@` on; none where the texts are equal.

    `hunks` are those of diff(old, new), where they are known already. `context` equal lines are shown around each.
    """
    known = diff(old, new) if hunks is None else hunks
    numbered = list(zip(known, spans(old, new, known), strict=True))
    groups: list[list[tuple[Hunk, Span]]] = []
    for hunk, span in numbered:
        if groups:
            before = groups[-1][-1][1]
            if span.old_line - before.old_line - before.old_lines <= 2 * context:
                groups[-1].append((hunk, span))
                continue
        groups.append([(hunk, span)])
    return chain.from_iterable(_group(old, new, context, group) for group in groups)


def _group(old: bytes, new: bytes, context: int, group: list[tuple[Hunk, Span]]) -> list[bytes]:
    """The lines of hunks that are shown together."""
    (first, first_span), (last, last_span) = group[0], group[-1]
    start, stop = _back(old, first.old_start, context), _forth(old, last.old_end, context)
    above, below = count_lines(old, start, first.old_start), count_lines(old, last.old_end, stop)
    ranges = (
        (first_span.old_line, last_span.old_line + last_span.old_lines),
        (first_span.new_line, last_span.new_line + last_span.new_lines),
    )
    old_range, new_range = (_range(begin - above, end + below) for begin, end in ranges)
    shown = [b"@@ -%b +%b @@\n" % (old_range, new_range)]
    at = start
    for hunk, _ in group:
        shown += _marked(b" ", old, at, hunk.old_start)
        shown += _marked(b"-", old, hunk.old_start, hunk.old_end)
        shown += _marked(b"+", new, hunk.new_start, hunk.new_end)
        at = hunk.old_end
    return shown + _marked(b" ", old, at, stop)


def _range(first: int, end: int) -> bytes:
    """Lines first to end - 1, counted from 0, as a header gives them: from 1, and an empty range by the line before it."""
    lines = end - first
    if lines == 1:
        return b"%d" % (first + 1)
    return b"%d,%d" % (first + 1 if lines else first, lines)


def _marked(mark: bytes, text: bytes, start: int, end: int) -> list[bytes]:
    """The lines of text[start:end], each behind its mark."""
    lines = text[start:end].split(b"\n")
    last = lines.pop()
    marked = [mark + line + b"\n" for line in lines]
    if last:
        marked += [mark + last + b"\n", _NO_NEWLINE]
    return marked


def _back(text: bytes, at: int, lines: int) -> int:
    """Where the line begins that is so many lines before the one that begins at `at`."""
    for _ in range(lines):
        if at == 0:
            break
        at = text.rfind(b"\n", 0, at - 1) + 1
    return at


def _forth(text: bytes, at: int, lines: int) -> int:
    """Where the line ends that is so many lines behind `at`."""
    for _ in range(lines):
        at = line_end(text, at, len(text))
    return at
