"""How a file's bytes fall into blocks, chunks and not yet written pieces. Pure arithmetic on bytes; no operation here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tarbox_core.statements import CHUNK_BLOCKS
from tarbox_core.types import HASH_SIZE, HOLE

INLINE_MAX = 8192


def inline_max(block_size: int) -> int:
    """A regular file up to this size lies in its inode row, a larger one in blocks; never both."""
    return min(INLINE_MAX, block_size)


class Piece:
    """The written parts of one block: a buffer and the sorted, disjoint ranges of it that were written."""

    __slots__ = ("data", "ranges")

    def __init__(self) -> None:
        self.data: bytes | bytearray = b""
        self.ranges: list[tuple[int, int]] = []

    def write(self, offset: int, data: memoryview, block_size: int) -> None:
        end = offset + len(data)
        if offset == 0 and end >= len(self.data):
            self.data = bytes(data)  # the usual case: a block written whole, or from its start
            self.ranges = [(0, end)]
            return
        if not isinstance(self.data, bytearray):
            self.data = bytearray(self.data)
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))
        self.data[offset:end] = data
        if self.ranges and self.ranges[-1][1] == offset:
            self.ranges[-1] = (self.ranges[-1][0], end)  # appended to
        else:
            self.ranges = _merged([*self.ranges, (offset, end)])

    def covers(self, start: int, end: int) -> bool:
        return any(lo <= start and end <= hi for lo, hi in self.ranges) or start >= end

    def over(self, base: bytes, length: int) -> bytes:
        """The block's first `length` bytes: what was written, over what was there; zeros where nothing was."""
        if self.covers(0, length):
            return bytes(self.data[:length])
        block = bytearray(base[:length])
        block.extend(bytes(length - len(block)))
        for lo, hi in self.ranges:
            hi = min(hi, length)
            if lo < hi:
                block[lo:hi] = self.data[lo:hi]
        return bytes(block)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    ranges.sort()
    merged = [ranges[0]]
    for lo, hi in ranges[1:]:
        if lo <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
        else:
            merged.append((lo, hi))
    return merged


class Pieces:
    """What was written to a file and not flushed yet, by block."""

    __slots__ = ("_blocks", "block_size", "end")

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.end = 0  # just behind the last byte written
        self._blocks: dict[int, Piece] = {}

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def __len__(self) -> int:
        """Blocks held."""
        return len(self._blocks)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._blocks))

    def get(self, index: int) -> Piece | None:
        return self._blocks.get(index)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        size = self.block_size
        self.end = max(self.end, offset + len(view))
        done = 0
        while done < len(view):
            index, start = divmod(offset + done, size)
            part = view[done : done + size - start]
            piece = self._blocks.get(index)
            if piece is None:
                piece = self._blocks[index] = Piece()
            piece.write(start, part, size)
            done += len(part)

    def clear(self) -> None:
        self._blocks.clear()
        self.end = 0

    def cut(self, size: int) -> None:
        """Forget what was written at and behind `size`, to which the file was just cut or extended."""
        if self.end > size:
            self.erase(size, self.end)
        last = max(self._blocks, default=None)
        self.end = 0 if last is None else last * self.block_size + self._blocks[last].ranges[-1][1]

    def erase(self, start: int, end: int) -> None:
        """Forget what was written to a range, so that what is stored shows again."""
        size = self.block_size
        for index in [i for i in self._blocks if start // size <= i <= (end - 1) // size]:
            piece = self._blocks[index]
            lo, hi = start - index * size, end - index * size
            kept = [r for a, b in piece.ranges for r in ((a, min(b, lo)), (max(a, hi), b)) if r[0] < r[1]]
            if kept:
                piece.ranges = kept
                piece.data = piece.data[: kept[-1][1]]
            else:
                del self._blocks[index]

    def read(self, start: int, end: int, base: dict[int, bytes]) -> bytes:
        """The bytes of a range. `base` holds the stored blocks below; what neither has is zeros."""
        size = self.block_size
        parts = []
        for index in range(start // size, (end - 1) // size + 1):
            lo, hi = max(start - index * size, 0), min(end - index * size, size)
            piece = self._blocks.get(index)
            block = base.get(index, b"") if piece is None else piece.over(base.get(index, b""), hi)
            part = block[lo:hi]
            parts.append(part if len(part) == hi - lo else part + bytes(hi - lo - len(part)))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def uncovered(self, start: int, end: int) -> list[int]:
        """The blocks of a range whose stored content a reader needs."""
        size = self.block_size
        needed = []
        for index in range(start // size, (end - 1) // size + 1):
            piece = self._blocks.get(index)
            if piece is None or not piece.covers(max(start - index * size, 0), min(end - index * size, size)):
                needed.append(index)
        return needed


def chunk_of(index: int) -> int:
    return index // CHUNK_BLOCKS


def hash_at(chunks: dict[int, bytes], index: int) -> bytes:
    """The hash of a block by its place in the file; HOLE where there is none."""
    start = index % CHUNK_BLOCKS * HASH_SIZE
    return chunks.get(chunk_of(index), b"")[start : start + HASH_SIZE] or HOLE


def with_hashes(old: bytes, changes: dict[int, bytes]) -> bytes:
    """A chunk's hashes with those of some blocks (by place in the file) replaced; holes at its end are left off."""
    hashes = bytearray(old)
    for index in changes:
        start = index % CHUNK_BLOCKS * HASH_SIZE
        if len(hashes) < start + HASH_SIZE:
            hashes.extend(bytes(start + HASH_SIZE - len(hashes)))
        hashes[start : start + HASH_SIZE] = changes[index]
    while hashes and hashes[-HASH_SIZE:] == HOLE:
        del hashes[-HASH_SIZE:]
    return bytes(hashes)


def stored_bytes(chunks: Iterable[tuple[int, bytes]], size: int, block_size: int) -> int:
    """Bytes that the blocks of these chunks hold in a file of that size: what st_blocks counts."""
    total = 0
    for chunk, hashes in chunks:
        for n in range(len(hashes) // HASH_SIZE):
            if hashes[n * HASH_SIZE : (n + 1) * HASH_SIZE] != HOLE:
                total += max(0, min(block_size, size - (chunk * CHUNK_BLOCKS + n) * block_size))
    return total
