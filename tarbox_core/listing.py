"""Layers, changes and histories as lines of text and as values for JSON: one layout for the control files and the command line.

Not here: colours, a terminal's width, local time (who has a time zone hands in `when`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from tarbox_core.columns import some, table
from tarbox_core.compare import Change
from tarbox_core.history import Version
from tarbox_core.layer import Layer

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def utc(time: int) -> str:
    """A time in ns as "2031-05-01T12:00:00Z"."""
    return (_EPOCH + timedelta(seconds=time // 10**9)).strftime("%Y-%m-%dT%H:%M:%SZ")


def exact(time: int) -> str:
    """A time in ns as "2031-05-01T12:00:00.123456789Z"."""
    return f"{utc(time)[:-1]}.{time % 10**9:09d}Z"


def line_to(layers: Iterable[Layer], stamp: int) -> list[Layer]:
    """A layer and those it rests on, directly or not; the first of all comes last. Empty where another door just dropped it."""
    by_stamp = {layer.stamp: layer for layer in layers}
    found = []
    at = by_stamp.get(stamp)
    while at is not None:
        found.append(at)
        at = by_stamp.get(at.parent or 0)
    return found


def layer_rows(layers: Sequence[Layer], standing: int, when: Callable[[int], str] = utc) -> list[tuple[str, ...]]:
    """Layers in the order they were begun, the last first: mark, id, name, time, branch, first line of the message.

    "*" marks the layer that a tree is written to, or the sealed one that it shows (its stamp is `standing`); "|" those that
    this one rests on.
    """
    ours = {layer.stamp for layer in line_to(layers, standing)[1:]}
    return [_row(layer, "*" if layer.stamp == standing else "|" if layer.stamp in ours else "", when) for layer in reversed(layers)]


def _row(layer: Layer, mark: str, when: Callable[[int], str]) -> tuple[str, ...]:
    if layer.sealed_at is None:
        return mark, layer.short, "(open)", when(layer.created_at), layer.branch or "", ""
    return mark, layer.short, name_shown(layer), when(layer.sealed_at), "", headline(layer.message)


def name_shown(layer: Layer) -> str:
    """What stands in a column of names for a sealed layer."""
    return layer.name or ("(automatic)" if layer.automatic else "-")


def headline(message: str) -> str:
    """The first line of a message, fit for a terminal: what is not printable is escaped."""
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode() for ch in message.partition("\n")[0])


def layer_value(layer: Layer) -> dict[str, object]:
    """A layer for JSON. `sealed_at` is None, and `branch` named, while a branch writes to it."""
    return {
        "id": layer.id, "name": layer.name, "message": layer.message, "parent": layer.parent_id, "created_at": exact(layer.created_at),
        "sealed_at": None if layer.sealed_at is None else exact(layer.sealed_at), "automatic": layer.automatic, "branch": layer.branch,
    }  # fmt: skip


def layer_values(layers: Sequence[Layer], standing: int) -> list[dict[str, object]]:
    """Layers for JSON, in the order they were begun, marked as in `layer_rows`: `current` and `beneath`."""
    ours = {layer.stamp for layer in line_to(layers, standing)[1:]}
    return [layer_value(layer) | {"current": layer.stamp == standing, "beneath": layer.stamp in ours} for layer in layers]


def name_status(changes: Iterable[Change]) -> list[str]:
    """Changes, one a line: status, tab, path; of what was renamed the old path comes first, then a tab."""
    return ["\t".join((change.status, *(shown(path) for path in (_renamed(change), change.path) if path is not None))) for change in changes]


def _renamed(change: Change | Version) -> bytes | None:
    return change.old_path if change.status == "R" else None


def history(versions: Iterable[Version], when: Callable[[int], str] = utc) -> list[str]:
    """The versions of a file, one a line: layer, time, status, size, lines, (+added -deleted ~modified), old name if renamed."""
    return table(_version(version, when) for version in versions)


def _version(version: Version, when: Callable[[int], str]) -> tuple[str, ...]:
    attr, lines, counts, old = version.attr, version.lines, version.counts, _renamed(version)
    return (
        version.layer.label,
        when(version.layer.sealed_at or (attr.ctime if attr is not None else version.layer.created_at)),
        version.status,
        "-" if attr is None else some(attr.size, "byte"),
        "-" if lines is None else some(lines, "line"),
        "" if counts is None else f"(+{counts.added} -{counts.deleted} ~{counts.modified})",
        "" if old is None else f"from {shown(old)}",
    )


def shown(path: bytes) -> str:
    return quoted(path).decode()


def quoted(path: bytes) -> bytes:
    """A path as git shows it: as it is where it is printable UTF-8, else in quotation marks with C's escapes."""
    try:
        plain = path.decode().isprintable() and not set(path) & set(b'"\\')
    except UnicodeDecodeError:
        plain = False
    return path if plain else b'"' + b"".join(_escaped(byte) for byte in path) + b'"'


_ESCAPES: Final = {7: b"\\a", 8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}


def _escaped(byte: int) -> bytes:
    return _ESCAPES.get(byte) or (bytes((byte,)) if 32 <= byte < 127 else b"\\%03o" % byte)
