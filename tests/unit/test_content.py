"""How a file's bytes fall into blocks and chunks, against plain bytearrays."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tarbox_core.content import Pieces, chunk_of, hash_at, inline_max, stored_bytes, with_hashes
from tarbox_core.statements import CHUNK_BLOCKS
from tarbox_core.types import HASH_SIZE, HOLE

BLOCK = 16
LIMIT = 5 * BLOCK
offsets = st.integers(0, LIMIT)
digests = st.sampled_from([HOLE, *(bytes([n]) * HASH_SIZE for n in range(1, 5))])


class PiecesMachine(RuleBasedStateMachine):
    """Pieces beside one list with a byte for each place written and None where what is stored shows."""

    @initialize(stored=st.binary(max_size=LIMIT))
    def begin(self, stored: bytes) -> None:
        self.pieces = Pieces(BLOCK)
        self.base = {n: stored[n * BLOCK : (n + 1) * BLOCK] for n in range(-(-len(stored) // BLOCK))}
        self.stored = stored.ljust(2 * LIMIT, b"\0")
        self.written: list[int | None] = [None] * (2 * LIMIT)
        self.end = 0

    @rule(offset=offsets, data=st.binary(min_size=1, max_size=3 * BLOCK))
    def write(self, offset: int, data: bytes) -> None:
        self.pieces.write(offset, memoryview(bytearray(data)))
        self.written[offset : offset + len(data)] = data
        self.end = max(self.end, offset + len(data))

    @rule(start=offsets, length=st.integers(1, LIMIT))
    def erase(self, start: int, length: int) -> None:
        self.pieces.erase(start, start + length)
        end = min(start + length, len(self.written))
        self.written[start:end] = [None] * (end - start)

    @rule(size=offsets)
    def cut(self, size: int) -> None:
        self.pieces.cut(size)
        self.written[size:] = [None] * (len(self.written) - size)
        self.end = max((i + 1 for i, byte in enumerate(self.written) if byte is not None), default=0)

    @rule()
    def clear(self) -> None:
        self.pieces.clear()
        self.written = [None] * len(self.written)
        self.end = 0

    @rule(start=offsets, length=st.integers(1, LIMIT))
    def read(self, start: int, length: int) -> None:
        expected = bytes(self.stored[i] if (byte := self.written[i]) is None else byte for i in range(start, start + length))
        assert self.pieces.read(start, start + length, self.base) == expected
        needed = self.pieces.uncovered(start, start + length)
        assert needed == sorted({i // BLOCK for i in range(start, start + length) if self.written[i] is None})
        assert self.pieces.read(start, start + length, {n: self.base[n] for n in needed if n in self.base}) == expected

    @invariant()
    def holds_the_blocks_written_to(self) -> None:
        assert list(self.pieces) == sorted({i // BLOCK for i, byte in enumerate(self.written) if byte is not None})
        assert len(self.pieces) == len(list(self.pieces)) and bool(self.pieces) == (len(self.pieces) > 0)
        assert self.pieces.end == self.end
        for index in self.pieces:
            piece = self.pieces.get(index)
            assert piece is not None
            assert piece.ranges == sorted(piece.ranges) and len(piece.data) == piece.ranges[-1][1]
            assert all(a[1] < b[0] for a, b in zip(piece.ranges, piece.ranges[1:], strict=False))


TestPieces = PiecesMachine.TestCase
TestPieces.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


@given(st.lists(digests, max_size=CHUNK_BLOCKS), st.dictionaries(st.integers(0, CHUNK_BLOCKS - 1), digests), st.integers(0, 3))
def test_hashes_of_a_chunk_are_replaced_by_place(old: list[bytes], changes: dict[int, bytes], chunk: int) -> None:
    new = with_hashes(b"".join(old), {chunk * CHUNK_BLOCKS + n: digest for n, digest in changes.items()})
    expected = dict(enumerate(old)) | changes
    assert len(new) <= CHUNK_BLOCKS * HASH_SIZE and new[-HASH_SIZE:] != HOLE
    for n in range(CHUNK_BLOCKS):
        assert hash_at({chunk: new}, chunk * CHUNK_BLOCKS + n) == expected.get(n, HOLE)
    assert hash_at({chunk: new}, (chunk + 1) * CHUNK_BLOCKS) == HOLE
    assert chunk_of((chunk + 1) * CHUNK_BLOCKS - 1) == chunk and chunk_of((chunk + 1) * CHUNK_BLOCKS) == chunk + 1


@given(st.dictionaries(st.integers(0, 3), st.lists(digests, max_size=CHUNK_BLOCKS)), st.integers(0, 5 * CHUNK_BLOCKS * BLOCK))
def test_stored_bytes_count_each_byte_of_a_block_that_is_in_the_file(chunks: dict[int, list[bytes]], size: int) -> None:
    chunk_rows = {c: b"".join(hashes) for c, hashes in chunks.items()}
    expected = sum(hash_at(chunk_rows, byte // BLOCK) != HOLE for byte in range(size))
    assert stored_bytes(chunk_rows.items(), size, BLOCK) == expected


def test_inline_content_never_exceeds_a_block() -> None:
    assert [inline_max(size) for size in (4096, 8192, 65536)] == [4096, 8192, 8192]
