"""Files whose stored content is a text (docs/layers.md, "Text deltas"): reading it, and storing it plainly before a change.

Which versions are packed, and how, is `packing`'s.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple

from tarbox_core import blocks
from tarbox_core import packing_statements as sql
from tarbox_core import statements as tree
from tarbox_core.content import chunk_of, inline_max, with_hashes
from tarbox_core.delta.codec import rebuild, unpack_whole
from tarbox_core.effects import Op, Query, Rows, run
from tarbox_core.errors import DeltaError, FsError
from tarbox_core.hashing import digest
from tarbox_core.inode import copied_up, file_row
from tarbox_core.session import Session
from tarbox_core.types import Attr

CACHED = 4  # texts of this part of the cache's size and smaller are kept in it


class Chain(NamedTuple):
    """A text as it is stored: deltas, the nearest first, down to a keyframe."""

    hashes: tuple[bytes, ...]  # the text's first, the keyframe's last
    size: int  # of the text
    weight: int  # bytes of the deltas
    keyframe: bytes
    keyframe_size: int  # of its text
    deltas: tuple[bytes, ...]

    @property
    def depth(self) -> int:
        return len(self.deltas)

    @property
    def foot(self) -> Chain:
        """The keyframe by itself."""
        return Chain(self.hashes[-1:], self.keyframe_size, 0, self.keyframe, self.keyframe_size, ())

    def above(self, name: bytes, size: int, delta: bytes) -> Chain:
        """The chain of a text that leans on this one."""
        return Chain((name, *self.hashes), size, self.weight + len(delta), self.keyframe, self.keyframe_size, (delta, *self.deltas))


def chain(rows: Rows, name: bytes) -> Chain | None:
    """A text's chain from the rows of CHAIN; None where a link is missing."""
    if not rows or rows[0][0] != name or len(rows) != rows[0][2] + 1 or rows[-1][2] != 0:
        return None
    hashes = tuple(row[0] for row in rows)
    return Chain(hashes, rows[0][1], rows[0][3], rows[-1][4], rows[-1][1], tuple(row[4] for row in rows[:-1]))


def rebuilt(stored: Chain) -> bytes:
    """The text. DeltaError where it cannot be rebuilt, or is not what its name says."""
    text = rebuild(unpack_whole(stored.keyframe), stored.deltas[::-1])
    if digest(text) != stored.hashes[0]:
        raise DeltaError("the text does not match its hash")
    return text


def read(s: Session, name: bytes, subject: int, send: Callable[..., Op[list[Rows]]] = run) -> Op[bytes]:
    """The text of that name. EIO, naming the subject, where it is lost or damaged."""
    text = s.blocks.get(name)
    if text is None:
        rows = (yield from send(sql.CHAIN(s.tenant, name)))[0]
        stored = chain(rows, name)
        if stored is None:
            raise FsError(errno.EIO, subject)
        try:
            text = rebuilt(stored)
        except DeltaError:
            raise FsError(errno.EIO, subject) from None
        keep(s, name, text)
    return text


def keep(s: Session, name: bytes, text: bytes) -> None:
    """Remember a text, where that does not crowd out everything else."""
    if len(text) * CACHED <= s.blocks.limit:
        s.blocks.put(name, text, len(text))


def begin(s: Session, ino: int, *queries: Query) -> Op[list[Rows]]:
    """Start a change of a file's content, under its lock: its row, in full, and what the queries read of its content,
    which is inline or in extents when this returns."""
    first = tree.INODE_FULL(*s.key, ino)
    rows = yield from s.begin(first, *queries, exclusive=(s.inode_lock(ino),))
    if rows[0]:
        attr, _, packed = file_row(rows[0], ino)
        if packed is not None:
            yield from _unpack(s, attr, packed)
            rows = yield from run(first, *queries)
    return rows


def _unpack(s: Session, attr: Attr, packed: bytes) -> Op[None]:
    """Store the content of a packed file plainly in the head's layer. Extents of older layers, which mean nothing to a
    packed version, must not show through."""
    text = yield from read(s, packed, attr.ino)
    hidden = (*copied_up(s, (attr,)), tree.EXTENT_CUT(*s.key, attr.ino, 0))
    if len(text) <= inline_max(s.block_size):
        yield from run(*hidden, tree.INODE_UNPACK(s.tenant, s.layer, attr.ino, text))
        return
    size = s.block_size
    puts, hashes = blocks.puts(s, {n: text[n * size : (n + 1) * size] for n in range((len(text) - 1) // size + 1)})
    chunks: dict[int, dict[int, bytes]] = {}
    for n, name in hashes.items():
        chunks.setdefault(chunk_of(n), {})[n] = name
    for put in puts:
        yield from run(put)
    yield from run(
        *hidden,
        tree.EXTENT_PUT(s.tenant, s.layer, attr.ino, list(chunks), [with_hashes(b"", changes) for changes in chunks.values()]),
        tree.INODE_UNPACK(s.tenant, s.layer, attr.ino, None),
    )
