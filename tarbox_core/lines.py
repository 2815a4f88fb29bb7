"""How many lines of a text a write changed: what its record in the audit trail tells. docs/layers.md, "Text deltas".

Only blocks that changed are compared, so what it costs grows with the change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tarbox_core import statements as sql
from tarbox_core.content import hash_at
from tarbox_core.delta.diff import count, diff
from tarbox_core.delta.hunk import Counts
from tarbox_core.delta.text import count_lines, is_text
from tarbox_core.effects import Op, run
from tarbox_core.session import Session
from tarbox_core.types import HOLE

OLD_MAX: Final = 1 << 20  # bytes of blocks that were replaced; lines of more are not counted
STEPS: Final = 100_000  # of a diff: 30 ms

Changes = dict[str, object]


class Was(NamedTuple):
    """What a file held before a write. `whole`: the write replaces all of it, because the file was cut to nothing first."""

    size: int
    inline: bytes | None
    chunks: dict[int, bytes]
    base: dict[int, bytes]  # blocks that are at hand
    whole: bool = False


def of_new(content: bytes) -> Changes:
    """The changes by writing a content to an empty file."""
    return _told(is_text(content), Counts(count_lines(content), 0, 0) if content else None)


def changed(s: Session, was: Was, blocks: Mapping[int, bytes], hashes: Mapping[int, bytes]) -> Op[Changes]:
    """The changes by writing blocks (by place, as they are now), whose hashes are given where they are known. Lines are
    left out where too much was replaced, or it is gone by now."""
    size = s.block_size
    beginning = blocks.get(0) or was.base.get(0) or s.blocks.get(hash_at(was.chunks, 0)) or next(iter(blocks.values()))
    if not is_text(beginning):
        return _told(False, None)
    places = {*blocks, *(range(-(-was.size // size)) if was.whole else ())}
    if was.inline is None:
        places = {n for n in places if n not in hashes or hashes[n] != hash_at(was.chunks, n)}
    old = yield from _old(s, was, places)
    if old is None:
        return _told(True, None)
    total = Counts(0, 0, 0)
    for stretch in _stretches(sorted(places)):
        before, after = (b"".join([side.get(n, b"") for n in stretch]) for side in (old, blocks))
        total = Counts(*(a + b for a, b in zip(total, count(before, after, diff(before, after, STEPS)), strict=True)))
    return _told(True, total)


def _told(text: bool, counts: Counts | None) -> Changes:
    told: Changes = {"is_text_file": text}
    if text and counts is not None:
        told |= {"lines_added": counts.added, "lines_deleted": counts.deleted, "lines_modified": counts.modified}
    return {"text_changes": told}


def _old(s: Session, was: Was, places: set[int]) -> Op[dict[int, bytes] | None]:
    """The blocks that were at these places; None where they are too many, or one is lost."""
    size = s.block_size
    if was.inline is not None:
        return {n: was.inline[n * size : (n + 1) * size] for n in places}
    there = {n: digest for n in places if (digest := hash_at(was.chunks, n)) != HOLE}
    if len(there) * size > OLD_MAX:
        return None
    old: dict[int, bytes] = {}
    for n, digest in there.items():
        data = was.base.get(n) or s.blocks.get(digest)
        if data is not None:
            old[n] = data
    lacking = {digest for n, digest in there.items() if n not in old}
    if lacking:
        rows = yield from run(sql.BLOCKS(s.tenant, sorted(lacking)))
        found: dict[bytes, bytes] = dict(rows[0])
        if len(found) < len(lacking):
            return None
        old |= {n: found[digest] for n, digest in there.items() if n not in old}
    return {n: data[: max(0, was.size - n * size)] for n, data in old.items()}


def _stretches(places: list[int]) -> list[range]:
    """Places that follow one another, together."""
    found: list[range] = []
    for place in places:
        if found and found[-1].stop == place:
            found[-1] = range(found[-1].start, place + 1)
        else:
            found.append(range(place, place + 1))
    return found
