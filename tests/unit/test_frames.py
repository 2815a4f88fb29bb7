"""The gateway's frames, without a gateway: what goes in comes out, and bytes of a stranger give a value or one named error."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tarbox_core import frames
from tarbox_core.binary import DECODERS, ENCODERS
from tarbox_core.effects import Query, Statement
from tarbox_core.errors import (
    ConnectError,
    ConnectionLost,
    DiskFullError,
    FsError,
    GatewayError,
    LayerError,
    RetryableError,
    SqlError,
    TarboxError,
)
from tarbox_core.gateway import DOUBTFUL

INT8 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
JSON = st.recursive(st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner))
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int2": st.integers(-(1 << 15), (1 << 15) - 1),
    "int4": st.integers(-(1 << 31), (1 << 31) - 1),
    "int8": INT8,
    "float8": st.floats(allow_nan=False),
    "text": TEXT,
    "bytea": st.binary(),
    "timestamptz": st.integers(-(10**15), 10**15).map(lambda us: us * 1000),
    "jsonb": JSON,
    "int8multirange": st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, 9))).map(lambda found: tuple((lo, lo + size) for lo, size in found)),
}
VALUES = {name: SCALARS[name] if name in SCALARS else st.lists(st.none() | SCALARS[name.removesuffix("[]")]) for name in DECODERS}


@st.composite
def queries(draw: st.DrawFn, tenant: bool) -> Query:
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=6))
    values = [draw(st.none() | VALUES[name]) for name in names]
    first = ("int8",) if tenant else ()
    return Statement("toy", "", (*first, *names), tenant=tenant)(*(42 for _ in first), *values)


def sent(frame: bytes) -> frames.Trip:
    number, request = frames.read_request(frame)
    assert number == 7 and isinstance(request, frames.Trip)
    return request


@settings(max_examples=60)
@given(st.lists(queries(True) | queries(False), max_size=4), st.booleans(), st.booleans(), st.booleans(), st.integers(0, (1 << 32) - 1))
def test_a_batch_comes_out_as_it_went_in_but_for_the_tenant(given_: list[Query], begin: bool, commit: bool, durable: bool, transaction: int) -> None:
    trip = sent(frames.batch(7, transaction, given_, begin=begin, commit=commit, durable=durable))
    assert (trip.transaction, trip.begin, trip.commit, trip.durable) == (transaction, begin, commit, durable)
    assert [each.name for each in trip.statements] == ["toy"] * len(given_)
    for each, (statement, values) in zip(trip.statements, given_, strict=True):
        types, own = frames.own(statement, values)
        assert frames.values(types, each.values) == tuple(own)
        assert 42 not in own[:1] or not statement.tenant


def test_a_batch_byte_by_byte() -> None:
    frame = frames.batch(258, 3, [Statement("s", "", ("int8", "int4", "text"))(42, 5, None)], begin=True, commit=False, durable=True)
    assert frame == (
        b"\0\0\0\x1c" b"\x02" b"\0\0\x01\x02"  # 28 bytes follow; a batch; number 258
        b"\0\0\0\x03" b"\x05" b"\0\x01"  # transaction 3; begin and durable; one statement
        b"\x01s" b"\0\x02"  # called s; two values: the tenant is not among them
        b"\0\0\0\x04\0\0\0\x05" b"\xff\xff\xff\xff"  # 5; NULL
    )


@settings(max_examples=60)
@given(st.data(), st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=5))
def test_rows_come_out_as_they_went_in(data: st.DataObject, returns: list[str]) -> None:
    statement = Statement("toy", "", returns=tuple(returns))
    rows = data.draw(st.lists(st.tuples(*(st.none() | VALUES[name] for name in returns)), max_size=4))
    answer = frames.read_answer(frames.rows(9, [statement, statement], [rows, []]), frames.ROWS)
    assert answer.number == 9
    assert frames.read_rows(answer, [statement, statement]) == [rows, []]


def test_the_small_frames_come_out_as_they_went_in() -> None:
    assert frames.read_request(frames.hello(1, "prog")) == (1, frames.Hello(frames.VERSION, "prog"))
    assert frames.read_request(frames.undo(2, 77)) == (2, frames.Undo(77))
    assert frames.read_request(frames.digest(3, [b"one", b""])) == (3, frames.Digest([memoryview(b"one"), memoryview(b"")]))
    assert frames.read_digests(frames.read_answer(frames.digests(3, [bytes(32), b"x" * 32]), frames.DIGESTS), 2) == [bytes(32), b"x" * 32]
    assert frames.read_answer(frames.done(4), frames.DONE).number == 4
    assert frames.read_welcome(frames.read_answer(frames.welcome(5, {"a": [1]}), frames.WELCOME)) == {"a": [1]}


@pytest.mark.parametrize("error", [
    SqlError("23505", "duplicate", "s"), RetryableError("40001", "again", "s"), DiskFullError("53100", "full"), LayerError(errno.EBUSY, "busy"),
    FsError(errno.ENOENT), ConnectionLost("gone", True), ConnectionLost("gone"), ConnectError("no"), GatewayError("foreign", "no"), TarboxError("other"),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_an_error_arrives_as_what_it_was(error: TarboxError) -> None:
    with pytest.raises(type(error)) as raised:
        frames.read_answer(frames.error(1, error), frames.ROWS)
    told = raised.value
    assert type(told) is type(error) and str(told) == str(error)
    for name in ("sqlstate", "statement", "errno", "committing", "code"):
        assert getattr(told, name, None) == getattr(error, name, None)


# --- strangers


VALID = [
    frames.hello(1, "prog"), frames.undo(2, 77), frames.digest(3, [b"one", b"two"]),
    frames.batch(7, 1, [Statement("s", "", ("int8", "int8[]", "jsonb", "int8multirange"))(1, [1, 2, 3, 4, 5, 6], {"a": 1}, ((1, 5),))], begin=True, commit=True,
                 durable=False),
]  # fmt: skip
ANSWERS = [
    frames.rows(1, [Statement("s", "", returns=("int8", "text"))], [[(1, "x"), (2, None)]]), frames.done(1), frames.welcome(1, {}),
    frames.digests(1, [bytes(32)]), frames.error(1, SqlError("23505", "duplicate", "s")),
]  # fmt: skip


@st.composite
def disturbed(draw: st.DrawFn, valid: list[bytes]) -> bytes:
    """A frame with some bytes changed, cut out or put in, and mostly with the length that it says it has."""
    frame = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(frame)))
        frame[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=5))
    if draw(st.integers(0, 3)) and len(frame) >= 4:
        frame[:4] = (len(frame) - 4).to_bytes(4)
    return bytes(frame)


def only(expected: type[Exception], read: Callable[[], object]) -> None:
    try:
        read()
    except expected:
        pass


@settings(max_examples=500)
@given(st.binary(max_size=200) | disturbed(VALID))
@example(b"")
@example(b"\0\0\0\x05\x02\0\0\0\x01")
def test_bytes_of_a_stranger_are_a_request_or_one_error(frame: bytes) -> None:
    assert 0 <= frames.number_of(frame) < 1 << 32
    only(GatewayError, lambda: frames.read_request(frame))


@settings(max_examples=500)
@given(st.binary(max_size=200) | disturbed(ANSWERS), st.sampled_from([frames.ROWS, frames.DONE, frames.WELCOME, frames.DIGESTS]))
def test_bytes_of_a_stranger_are_an_answer_or_an_error_of_ours(frame: bytes, expected: int) -> None:
    def read() -> None:
        answer = frames.read_answer(frame, expected)
        statement = Statement("s", "", returns=("int8", "text"))
        only(GatewayError, lambda: frames.read_rows(answer, [statement]))
        only(GatewayError, lambda: frames.read_welcome(answer))
        only(GatewayError, lambda: frames.read_digests(answer, 1))

    only(TarboxError, read)


@settings(max_examples=400)
@given(st.sampled_from(sorted(VALUES)), st.data())
def test_bytes_of_a_stranger_are_a_value_or_one_error(name: str, data: st.DataObject) -> None:
    good = data.draw(VALUES[name].filter(lambda value: value is not None))
    whole = frames.batch(1, 1, [Statement("s", "", (name,), tenant=False)(good)], begin=True, commit=True, durable=False)
    _, request = frames.read_request(whole)
    assert isinstance(request, frames.Trip) and request.statements[0].values[0] is not None
    spoiled = bytearray(request.statements[0].values[0])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(spoiled)))
        spoiled[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    try:
        (value,) = frames.values((name,), [memoryview(bytes(spoiled))])
    except GatewayError:
        return
    if name not in DOUBTFUL:  # those the gateway looks at once more
        ENCODERS[name](value, lambda data: None)


@pytest.mark.parametrize("frame", [
    b"\0\0\0\x05\x63\0\0\0\x01",  # no request has that kind
    b"\0\0\0\x06\x03\0\0\0\x01\0",  # ends too early
    b"\0\0\0\x0a" + frames.undo(1, 1)[4:] + b"\0",  # a byte too many
    b"\0\0\0\x08" + frames.undo(1, 1)[4:],  # another length than it says
    frames.hello(1, "x").replace(b"version", b"nothing"),
    b"\0\0\0\x0c\x02\0\0\0\x01\0\0\0\x01\x08\0\0",  # an unknown flag
    b"\0\0\0\x14\x02\0\0\0\x01\0\0\0\x01\0\0\x01\x01s\0\x01\xff\xff\xff\xfe",  # a value of -2 bytes
])  # fmt: skip
def test_what_is_no_request_is_a_protocol_error(frame: bytes) -> None:
    with pytest.raises(GatewayError) as raised:
        frames.read_request(frame)
    assert raised.value.code == "protocol"


def test_frames_beyond_the_limits_are_too_large() -> None:
    many = b"\0\0\0\x10\x02\0\0\0\x01\0\0\0\x01\0\0\x01\x01s\0\x41"  # 65 values
    for frame in (b"\0" * (frames.REQUEST_MAX + 1), b"\0\0\0\x0c\x02\0\0\0\x01\0\0\0\x01\0\x01\x01", many, frames.hello(1, "x" * 5000)):
        with pytest.raises(GatewayError) as raised:
            frames.read_request(frame)
        assert raised.value.code == "too-large"
    with pytest.raises(ValueError, match="too many for one batch"):
        frames.batch(1, 1, [Statement("s", "", ("bytea",), tenant=False)(bytes(frames.REQUEST_MAX))], begin=True, commit=True, durable=False)


def test_no_rows_come_of_a_statement_that_gives_none() -> None:
    answer = frames.read_answer(b"\0\0\0\x0b\x82\0\0\0\x01\0\x01\xff\xff\xff\xff", frames.ROWS)
    with pytest.raises(GatewayError, match="4294967295 rows of statement s, which gives none"):
        frames.read_rows(answer, [Statement("s", "", (), tenant=False)])


@given(st.lists(st.integers(0, 30), max_size=5), st.data())
def test_a_stream_is_split_into_its_frames(sizes: list[int], data: st.DataObject) -> None:
    whole = [frames.undo(number, number) for number in sizes]
    rest = frames.undo(1, 1)[: data.draw(st.integers(0, 12))]
    stream = bytearray(b"".join(whole) + rest)
    assert list(frames.split(stream, 1000)) == whole
    assert bytes(stream) == rest


def test_a_stream_with_a_frame_beyond_the_limit_ends() -> None:
    with pytest.raises(GatewayError, match="4294967299 bytes; 1000 is the limit"):
        list(frames.split(bytearray(b"\xff\xff\xff\xff"), 1000))
