"""Blocks on their way into the store."""

from __future__ import annotations

from tarbox_core import statements as sql
from tarbox_core.effects import Query
from tarbox_core.hashing import digests
from tarbox_core.session import Session

PUT_AT_ONCE = 4 << 20  # bytes of blocks in one statement
KEPT = 1 << 20  # bytes of them that stay in memory


def puts(s: Session, blocks: dict[int, bytes]) -> tuple[list[Query], dict[int, bytes]]:
    """The statements that store blocks (by place), at least one, and the blocks' hashes.

    Sorted by hash, so that two files with the same blocks do not wait for each other in a circle.
    """
    hashes = dict(zip(blocks, digests(list(blocks.values())), strict=True))
    unique = sorted({h: blocks[n] for n, h in hashes.items()}.items())
    at_once = max(1, PUT_AT_ONCE // s.block_size)
    groups = [unique[i : i + at_once] for i in range(0, len(unique), at_once)]
    for digest, data in unique[-KEPT // s.block_size :]:
        s.blocks.put(digest, data, len(data))
    return [sql.BLOCK_PUT(s.tenant, [h for h, _ in group], [d for _, d in group]) for group in groups], hashes
