"""Our BLAKE3 gives what the wheel gives, on every length; known answers hold for both."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tarbox_core import hashing
from tarbox_core.types import HASH_SIZE

EDGES = (0, 1, 63, 64, 65, 127, 128, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 3073, 4096, 5121, 65535, 65536, 65537, 70000)
POOL = random.Random(1).randbytes(1 << 21)


@pytest.fixture(params=["wheel", "pure"])
def digest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[hashing.Data], bytes]:
    if request.param == "pure":
        monkeypatch.setattr(hashing, "_wheel", None)
    return hashing.digest


def test_known_answers(digest: Callable[[hashing.Data], bytes]) -> None:
    assert digest(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest(b"abc").hex() == "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"


def test_every_kind_of_bytes(digest: Callable[[hashing.Data], bytes]) -> None:
    for size in (0, 5, 1024, 5000):
        data = POOL[:size]
        answers = {digest(data), digest(bytearray(data)), digest(memoryview(data)), digest(memoryview(POOL)[:size])}
        assert len(answers) == 1
        assert len(answers.pop()) == HASH_SIZE


def test_digests_keeps_the_order(digest: Callable[[hashing.Data], bytes]) -> None:
    blocks = [POOL[i : i + 1500] for i in range(0, 15000, 1500)]
    assert hashing.digests(blocks) == [digest(block) for block in blocks]
    assert hashing.digests([]) == []


def test_somebody_else_hashes_where_there_is_no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def elsewhere(blocks: Sequence[hashing.Data]) -> list[bytes]:
        asked.append(len(blocks))
        return [blake3(block).digest() for block in blocks]

    blocks = [b"a", b"", POOL[:5000]]
    expected = hashing.digests(blocks)
    hashing.use(elsewhere)
    try:
        assert hashing.digests(blocks) == expected
        assert asked == []  # the wheel is there
        monkeypatch.setattr(hashing, "_wheel", None)
        assert hashing.digests(iter(blocks)) == expected
        assert hashing.digest(b"a") == expected[0]
        assert asked == [3, 1]
    finally:
        hashing.use(None)
    assert hashing.digests(blocks) == expected
    assert asked == [3, 1]


@pytest.mark.parametrize("size", EDGES)
def test_pure_equals_the_wheel_at_the_edges(size: int) -> None:
    for data in (POOL[:size], b"\xff" * size, bytes(size)):
        assert hashing.blake3_pure(data) == blake3(data).digest()


# Whole batches, and trees of several batches with every shape of remainder.
@pytest.mark.parametrize("size", [hashing.BATCH * 1024 + extra for extra in (-1024, -1, 0, 1, 1024, 1025, 5000)] + [(1 << 21) - 1, 1 << 21])
def test_pure_equals_the_wheel_over_batches(size: int) -> None:
    assert hashing.blake3_pure(POOL[:size]) == blake3(POOL[:size]).digest()


@given(size=st.integers(0, 70_000), seed=st.integers(0, 1 << 20))
def test_pure_equals_the_wheel_on_every_length(size: int, seed: int) -> None:
    data = POOL[seed : seed + size]
    assert hashing.blake3_pure(data) == blake3(data).digest()


@given(st.binary(max_size=3000))
def test_pure_equals_the_wheel_on_any_bytes(data: bytes) -> None:
    assert hashing.blake3_pure(data) == blake3(data).digest()
