"""Packing: text of old layers becomes lines that changed. docs/layers.md, "Text deltas", tells what and when.

A step is two operations. `look` reads some versions that no head sees and decides how to store them, without a lock;
`store` does it in one short transaction, and takes only what is still as it was found. So a checkpoint or a switch may
wait for a store and never for a diff, and who dies between the two has changed nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tarbox_core import packing_statements as sql
from tarbox_core import statements as tree
from tarbox_core import texts
from tarbox_core.cache import Lru
from tarbox_core.check_statements import WHOLE
from tarbox_core.content import chunk_of, hash_at
from tarbox_core.delta.codec import encode, pack_whole
from tarbox_core.delta.diff import diff
from tarbox_core.delta.text import count_lines, is_text, suits_deltas
from tarbox_core.effects import Op, finish, many, run
from tarbox_core.errors import DeltaError
from tarbox_core.hashing import digest, digests
from tarbox_core.session import Ranges, Session
from tarbox_core.texts import Chain
from tarbox_core.types import HOLE

DEPTH_MAX: Final = 64  # deltas between a text and its keyframe
REBUILD_MAX: Final = 64 << 20  # depth times size of a text
SHARE: Final = 0.6  # of what the text would take as a keyframe: a delta takes at most so much
ROW: Final = 256  # bytes that a text's row and its entries in indexes take beside its data
STEPS: Final = 1_000_000  # of a diff: a third of a second
AT_ONCE: Final = 64  # versions of one step, at most
READ_AT_ONCE: Final = 4 << 20  # bytes of blocks in one trip
REMEMBERED: Final = 16 << 20  # bytes of texts, of which the next may be a change


class Packed(NamedTuple):
    """What was stored: versions of files that are texts now, bytes of their content, and bytes of texts that were new."""

    versions: int = 0
    size: int = 0
    stored: int = 0

    def plus(self, other: Packed) -> Packed:
        return Packed(*(a + b for a, b in zip(self, other, strict=True)))


class Stats(NamedTuple):
    """What content takes. Bytes of texts are those of all different ones, as they read."""

    blocks: int
    blocks_stored: int  # bytes
    keyframes: int
    deltas: int
    texts_size: int  # bytes
    texts_stored: int  # bytes of keyframes and deltas
    packed: int  # versions of files whose content is a text

    @property
    def saved(self) -> int:
        """Bytes that the texts would take more, if each was stored as it reads."""
        return self.texts_size - self.texts_stored


class LayerStats(NamedTuple):
    """Of the regular files that a layer wrote, as far as they are its own still: how many are packed, and how."""

    layer: int  # its stamp
    files: int
    size: int  # bytes
    keyframes: int
    deltas: int
    texts_size: int  # bytes of the content of these
    texts_stored: int  # and what is stored for it, which other layers may lean on as well


class _Version(NamedTuple):
    """A version of a file that may be packed. `before`: the one before it; `other`: the file that had its name before."""

    ino: int
    layer: int
    size: int
    visible: Ranges
    inline: bytes | None
    before_layer: int | None
    before_text: bytes | None
    other_ino: int | None
    other_layer: int | None
    other_text: bytes | None


class _Text(NamedTuple):
    name: bytes
    content: bytes
    base: bytes | None
    data: bytes


class _Cursor(NamedTuple):
    """How far packing has come: behind this version of this inode, among those that a layer replaced, or among all."""

    ino: int = 0
    version: int = 0
    layer: int | None = None
    all: bool = False


@dataclass(slots=True)
class _Work:
    """What a step is about to store, and where the next one goes on."""

    then: _Cursor | None = None
    new: dict[bytes, _Text] = field(default_factory=dict)
    chains: dict[bytes, Chain] = field(default_factory=dict)  # of the new ones
    packed: dict[tuple[int, int], tuple[bytes, int]] = field(default_factory=dict)  # (ino, layer) -> text, size
    plain: list[tuple[int, int]] = field(default_factory=list)  # versions that stay as they are
    done: list[int] = field(default_factory=list)  # layers for which nothing is left to do


class Packer:
    """Packs what newly sealed layers replaced, and then, with `whole`, whatever else no head sees.

    `look` and `store` take turns until `look` says that nothing is left; one thread at a time.
    """

    def __init__(self, s: Session, *, whole: bool) -> None:
        self._s = s
        self._whole = whole
        self._at: _Cursor | None = _Cursor()
        self._work = _Work()
        self._texts: Lru[bytes, bytes] = Lru(REMEMBERED)  # the session's memory is for what is read

    def look(self, budget: int) -> Op[bool]:
        """Decide on the next versions, with about `budget` bytes of content; whether there is work for `store`."""
        s, at = self._s, self._at
        if at is not None and at.layer is None and not at.all:
            layer = (yield from many(sql.NEXT_LAYER(s.tenant)))[0][0]
            at = _Cursor(layer=layer, all=layer is None)
        if at is None or (at.all and not self._whole):
            self._texts.clear()
            return False
        if at.layer is None:
            rows = yield from many(sql.UNPACKED(s.tenant, at.ino, at.version, AT_ONCE))
        else:
            rows = yield from many(sql.REPLACED(s.tenant, at.ino, at.version, AT_ONCE, at.layer))
        work = _Work()
        for number, row in enumerate(rows, 1):
            version = _Version(*row)
            yield from _decide(s, version, work, self._texts)
            budget -= version.size
            if number == AT_ONCE or (budget <= 0 and number < len(rows)):
                work.then = at._replace(ino=version.ino, version=version.layer)
                break
        if work.then is None and at.layer is not None:
            work.then, work.done = _Cursor(), [at.layer]
        self._work = work
        return True

    def store(self) -> Op[Packed]:
        """Store what was looked at. What a head sees again, what somebody else has packed, and what leans on a text that is
        gone stays as it is."""
        s, work = self._s, self._work
        if not (work.packed or work.plain or work.done):
            self._at = work.then
            return Packed()
        yield from s.begin()
        yield from run(*(sql.TEXT_PUT(s.tenant, t.name, len(t.content), count_lines(t.content), t.base, t.data) for t in work.new.values()))
        inos, layers = [ino for ino, _ in work.packed], [layer for _, layer in work.packed]
        rows = yield from many(sql.PACK(s.tenant, inos, layers, [name for name, _ in work.packed.values()]))
        yield from finish(
            sql.EXTENTS_DROP(s.tenant, sorted({ino for ino, _ in rows})),
            sql.LEAVE(s.tenant, [ino for ino, _ in work.plain], [layer for _, layer in work.plain]),
            sql.LAYERS_DONE(s.tenant, work.done),
        )
        self._at = work.then
        sizes = [work.packed[ino, layer][1] for ino, layer in rows]
        return Packed(len(rows), sum(sizes), sum(len(t.data) for t in work.new.values()))


def stats(s: Session) -> Op[tuple[Stats, list[LayerStats]]]:
    """What the tenant stores, in all and by layer."""
    rows = yield from finish(WHOLE(), sql.STATS(s.tenant), sql.STATS_BY_LAYER(s.tenant))
    return Stats(*rows[1][0]), [LayerStats(*row) for row in rows[2]]


def _decide(s: Session, version: _Version, work: _Work, known: Lru[bytes, bytes]) -> Op[None]:
    """How a version is to be stored. One that cannot be read now is left for later, or for fsck."""
    content = yield from _content(s, version)
    key = version.ino, version.layer
    if content is None:
        return
    if not suits_deltas(content):
        work.plain.append(key)
        return
    name = digest(content)
    base = _base(version, work)
    if name not in work.new:
        same, chain = yield from run(sql.CHAIN(s.tenant, name), sql.CHAIN(s.tenant, base or b""))
        if same:
            if not _sound(name, texts.chain(same, name), known):
                return
        else:
            below = None if base is None else work.chains.get(base) or texts.chain(chain, base)
            text, stored = _stored(name, content, below, known)
            if len(text.data) + ROW >= version.size:
                work.plain.append(key)
                return
            work.new[name], work.chains[name] = text, stored
    known.put(name, content, len(content))
    work.packed[key] = name, version.size


def _sound(name: bytes, stored: Chain | None, known: Lru[bytes, bytes]) -> bool:
    """Whether a text that is stored already can be relied on."""
    return known.get(name) is not None or (stored is not None and _text(stored, known) is not None)


def _base(version: _Version, work: _Work) -> bytes | None:
    """The text to lean on: what the file was before, or the file that had its name; in this step, or before it."""
    before, other = (work.packed.get((ino or 0, layer or 0)) for ino, layer in ((version.ino, version.before_layer), (version.other_ino, version.other_layer)))
    found = (before and before[0]) or version.before_text or (other and other[0]) or version.other_text
    return found or None


def _content(s: Session, version: _Version) -> Op[bytes | None]:
    """The content of a version; of one that is no text its beginning will do. None where a block is lost, damaged or gone
    by now."""
    if version.inline is not None:
        return version.inline
    key = s.tenant, version.layer, version.visible
    size = s.block_size
    count = (version.size - 1) // size + 1
    step = max(1, READ_AT_ONCE // size)
    parts: list[bytes] = []
    for group in (range(1), *(range(n, min(n + step, count)) for n in range(1, count, step))):
        extents, blocks = yield from run(
            tree.EXTENTS(*key, version.ino, sorted({chunk_of(n) for n in group})), tree.BLOCKS_AT(*key, version.ino, list(group))
        )
        chunks: dict[int, bytes] = dict(extents)
        found = {n: data for n, _, data in blocks}
        for n, name in zip(group, digests([found.get(n, b"") for n in group]), strict=True):
            if hash_at(chunks, n) not in (HOLE, name):
                return None
            parts.append(found.get(n, b"").ljust(min(size, version.size - n * size), b"\0"))
        if len(parts) == 1 and not is_text(parts[0]):
            break
    return b"".join(parts)


def _stored(name: bytes, content: bytes, below: Chain | None, known: Lru[bytes, bytes]) -> tuple[_Text, Chain]:
    """A text as a delta to another one, or to the keyframe that one leans on, or as a keyframe."""
    while below is not None:
        whole = len(below.keyframe) * len(content) // max(1, below.keyframe_size)  # what it would take as a keyframe, about
        delta = None
        if below.depth < DEPTH_MAX and (below.depth + 1) * len(content) <= REBUILD_MAX:
            delta = _delta(below, content, known)
        if delta is not None and len(delta) <= SHARE * whole and below.weight + len(delta) <= whole:
            return _Text(name, content, below.hashes[0], delta), below.above(name, len(content), delta)
        below = below.foot if below.deltas else None
    data = pack_whole(content)
    return _Text(name, content, None, data), Chain((name,), len(content), 0, data, len(content), ())


def _delta(base: Chain, content: bytes, known: Lru[bytes, bytes]) -> bytes | None:
    """None where the base is damaged."""
    text = _text(base, known)
    return None if text is None else encode(text, content, diff(text, content, STEPS))


def _text(stored: Chain, known: Lru[bytes, bytes]) -> bytes | None:
    """None where it is damaged."""
    text = known.get(stored.hashes[0])
    if text is None:
        try:
            text = texts.rebuilt(stored)
        except DeltaError:
            return None
        known.put(stored.hashes[0], text, len(text))
    return text
