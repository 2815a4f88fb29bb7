"""Deltas: what was encoded is made again, along chains as well, and readers return a text or raise DeltaError, nothing else."""

from __future__ import annotations

import contextlib
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarbox_core.delta import codec
from tarbox_core.delta.format import CONTROL_MAX, DICTIONARY_MAX, RAW_DEFLATE
from tarbox_core.delta.hunk import Hunk
from tarbox_core.errors import DeltaError
from tests.unit import texts


@given(texts.pairs)
@settings(max_examples=300, deadline=None)
def test_what_was_encoded_is_made_again(pair: tuple[bytes, bytes]) -> None:
    old, new = pair
    assert codec.apply(old, codec.encode(old, new)) == new
    assert codec.unpack_whole(codec.pack_whole(new)) == new


@given(st.lists(texts.plain, min_size=1, max_size=12), st.sampled_from([1, 5, 4096]))
@settings(deadline=None)
def test_a_chain_leads_to_its_last_text(chain: list[bytes], pieces: int) -> None:
    deltas = [codec.encode(old, new) for old, new in pairwise(chain)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_PIECES_MAX", pieces)
        for length in range(len(chain)):
            assert codec.rebuild(chain[0], deltas[:length]) == chain[length]


def test_a_line_changed_in_each_of_64_layers_takes_a_few_bytes_each() -> None:
    lines = texts.csv(25_000)
    first = b"".join(lines)
    text, deltas = first, []
    for n in range(64):
        lines[n * 371] = lines[n * 371].replace(b",", b";", 1)
        before, text = text, b"".join(lines)
        deltas.append(codec.encode(before, text))
    assert max(map(len, deltas)) < 40
    assert codec.rebuild(first, deltas) == text


@pytest.mark.parametrize("size", [DICTIONARY_MAX - 1, DICTIONARY_MAX, DICTIONARY_MAX + 1, 5 * DICTIONARY_MAX + 7])
def test_removed_text_helps_to_store_what_replaces_it(size: int) -> None:
    """Every line changed a little: much smaller than by itself, in one group or in several."""
    old = b"".join(texts.csv(size // 30))[:size]
    new = b"".join(b"+" + line for line in old.splitlines(keepends=True))
    delta = codec.encode(old, new)
    assert len(delta) < len(zlib.compress(new)) * 0.5
    assert codec.apply(old, delta) == new


def test_what_has_too_many_hunks_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control part has a bound; beyond it the delta is coarse, and still right."""
    monkeypatch.setattr(codec, "CONTROL_MAX", 300)
    count = 101
    old, new = b"a\nb\n" * count, b"a\nc\n" * count
    hunks = [Hunk(at, at + 2, at, at + 2) for at in range(2, len(old), 4)]
    coarse = codec.encode(old, new, hunks)
    assert codec.apply(old, coarse) == new
    assert coarse == codec.encode(old, new, [Hunk(0, len(old), 0, len(new))])
    old, new = old[:-4], new[:-4]
    fine = codec.encode(old, new, hunks[:-1])
    assert codec.apply(old, fine) == new
    assert fine != codec.encode(old, new, [Hunk(0, len(old), 0, len(new))])


def test_deltas_of_another_text_or_beyond_the_limit_are_refused() -> None:
    old, new = b"a\nb\n" * 10, b"a\nc\n" * 10
    delta = codec.encode(old, new)
    with pytest.raises(DeltaError, match="another size"):
        codec.apply(old + b"x", delta)
    assert codec.apply(old, delta, limit=len(new)) == new
    with pytest.raises(DeltaError, match="more than 39"):
        codec.apply(old, delta, limit=len(new) - 1)
    assert codec.unpack_whole(codec.pack_whole(new), limit=len(new)) == new
    with pytest.raises(DeltaError, match="longer than 39"):
        codec.unpack_whole(codec.pack_whole(new), limit=len(new) - 1)


def test_every_part_that_is_cut_off_or_added_is_noticed() -> None:
    old, new = b"".join(texts.csv(50)), b"".join(texts.change_lines(texts.csv(50), 0.3))
    delta, whole = codec.encode(old, new), codec.pack_whole(new)
    for length in range(len(delta)):
        with pytest.raises(DeltaError):
            codec.apply(old, delta[:length])
    for length in range(len(whole)):
        with pytest.raises(DeltaError):
            codec.unpack_whole(whole[:length])
    for more in (b"\0", b"more"):
        with pytest.raises(DeltaError):
            codec.apply(old, delta + more)
        with pytest.raises(DeltaError):
            codec.unpack_whole(whole + more)


def number(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def deflated(content: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, RAW_DEFLATE)
    data = deflate.compress(content) + deflate.flush()
    return number(len(data) << 1 | 1) + data


def plain(content: bytes) -> bytes:
    return number(len(content) << 1) + content


# A text of 4 bytes, "abcd", and what no writer says of it.
@pytest.mark.parametrize(
    ("delta", "words"),
    [
        (b"", "cut off within a number"),
        (b"\x84", "cut off within a number"),
        (b"\x84" + b"\x80" * 9 + b"\1", "too large"),
        (number(4) + number(1 << 40) + plain(b""), "more than"),
        (number(4) + number(4) + plain(b"\1\1"), "within a step"),
        (number(4) + number(4) + plain(b"\1\1\x80"), "cut off within a number"),
        (number(4) + number(4) + number(9 << 1) + b"abc", "cut off within a section"),
        (number(4) + number(4) + plain(b"\3\2\1") + plain(b"x"), "do not fit"),
        (number(4) + number(4) + plain(b"\1\1\2") + plain(b"xy"), "do not fit"),
        (number(4) + number(4) + plain(b"\1\2\2") + plain(b"x"), "less text"),
        (number(4) + number(4) + plain(b"\1\2\2") + plain(b"xyz"), "more than 2"),
        (number(4) + number(4) + plain(b"\1\2\2") + deflated(b"x" * (1 << 24)), "longer than 2"),
        (number(4) + number(4) + deflated(bytes(CONTROL_MAX + 3)), "longer than"),
        (number(4) + number(4) + plain(b"\1\2\2") + number(3 << 1 | 1) + b"\xff\xff\xff", "cannot be read"),
        (number(4) + number(4) + plain(b"") + b"x", "1 bytes follow"),
    ],
)
def test_what_no_writer_says(delta: bytes, words: str) -> None:
    with pytest.raises(DeltaError, match=words):
        codec.apply(b"abcd", delta)


def test_what_a_writer_could_say() -> None:
    assert codec.apply(b"abcd", number(4) + number(4) + plain(b"\1\2\2") + plain(b"xy")) == b"axyd"
    assert codec.apply(b"abcd", number(4) + number(4) + plain(b"\0\0\0" * 9) + b"") == b"abcd"


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A text, and a delta for it with some bytes changed, taken out or put in."""
    old, new = draw(texts.pairs)
    delta = bytearray(codec.encode(old, new))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(delta)))
        delta[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return old, bytes(delta)


@given(st.one_of(damaged(), st.tuples(st.binary(max_size=50), st.binary(max_size=80))))
@settings(max_examples=500, deadline=None)
def test_readers_return_a_text_or_raise_one_error(case: tuple[bytes, bytes]) -> None:
    old, delta = case
    with contextlib.suppress(DeltaError):
        assert len(codec.apply(old, delta, limit=1000)) <= 1000
    with contextlib.suppress(DeltaError):
        assert len(codec.unpack_whole(delta, limit=1000)) <= 1000
