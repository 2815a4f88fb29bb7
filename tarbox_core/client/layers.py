"""Verbs of layers, and what they tell. A word is a layer's name, the beginning of its id, or "head"."""

from __future__ import annotations

import stat
from typing import NamedTuple

from tarbox_core import layer as core
from tarbox_core.client.failures import naming
from tarbox_core.client.names import Path, absolute, text
from tarbox_core.client.verbs import reads
from tarbox_core.client.visit import Visit
from tarbox_core.compare import Change as Difference
from tarbox_core.compare import Comparison
from tarbox_core.delta.hunk import Counts
from tarbox_core.delta.text import is_text
from tarbox_core.delta.unified import unified
from tarbox_core.effects import Op
from tarbox_core.layer import HEAD, Layer
from tarbox_core.types import Attr


class Change(NamedTuple):
    """A path and what became of it: A added, D deleted, R renamed, T of another type, M of another content, m otherwise."""

    status: str
    path: str
    old_path: str | None


class Version(NamedTuple):
    """What a layer made of a file. `size` is None where it was deleted, `lines` and `counts` where there is no text."""

    layer: Layer
    status: str
    path: str
    old_path: str | None
    size: int | None
    lines: int | None
    counts: Counts | None


@reads
def layers(v: Visit) -> Op[list[Layer]]:
    """All layers, the newest first."""
    return v.fs.layers()


@reads
def branches(v: Visit) -> Op[list[core.Branch]]:
    """All branches by name."""
    return v.fs.branches()


@reads
def changes(v: Visit, older: str | None = None, newer: str = HEAD, path: Path | None = None) -> Op[list[Change]]:
    """What differs between two layers, at a path and below; without `older`, since the last checkpoint before `newer`."""
    _, found = yield from _compared(v, older, newer, path)
    return [Change(one.status, text(one.path), None if one.old_path is None else text(one.old_path)) for one in found]


@reads
def diff(v: Visit, older: str | None = None, newer: str = HEAD, path: Path | None = None, context: int = 3) -> Op[str]:
    """The same as unified text whose headers name the layers; a line for what has no lines to show."""
    comparison, found = yield from _compared(v, older, newer, path)
    parts: list[bytes] = []
    for one in found:
        parts += yield from _shown(comparison, one, context)
    return text(b"".join(parts))


@reads
def history(v: Visit, path: Path, limit: int | None = None) -> Op[list[Version]]:
    """The layers in which what stands at a path changed, the newest first."""
    with naming(path):
        found = yield from v.fs.history(absolute(path), limit)
    return [
        Version(
            one.layer, one.status, text(one.path), None if one.old_path is None else text(one.old_path),
            None if one.attr is None else one.attr.size, one.lines, one.counts,
        )
        for one in found
    ]  # fmt: skip


def _compared(v: Visit, older: str | None, newer: str, path: Path | None) -> Op[tuple[Comparison, list[Difference]]]:
    comparison = yield from v.fs.compare(older, newer)
    if path is None:
        return comparison, (yield from comparison.changes())
    with naming(path):
        return comparison, (yield from comparison.changes(absolute(path)))


def _shown(comparison: Comparison, change: Difference, context: int) -> Op[list[bytes]]:
    """A changed path's lines, headers included."""
    old_name = _header(change.old_path if change.old is not None else None, comparison.old.label)
    new_name = _header(change.path if change.new is not None else None, comparison.new.label)
    what = [b"%s %s%s\n" % (change.status.encode(), change.old_path + b" -> " if change.status == "R" and change.old_path else b"", change.path)]
    words = what if change.status == "R" else []
    if not change.content or not (_has_content(change.old) and _has_content(change.new)):
        return what
    old, new = yield from comparison.contents(change)
    if old is None or new is None or not (is_text(old) and is_text(new)):
        return [*words, b"Binary files %s and %s differ\n" % (old_name, new_name)]
    lines = list(unified(old, new, context=context))
    return [*words, b"--- %s\n+++ %s\n" % (old_name, new_name), *lines] if lines else what


def _has_content(attr: Attr | None) -> bool:
    return attr is None or stat.S_ISREG(attr.mode) or stat.S_ISLNK(attr.mode)


def _header(path: bytes | None, label: str) -> bytes:
    return b"/dev/null" if path is None else b"%s (%s)" % (path, label.encode())
