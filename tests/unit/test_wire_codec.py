"""Binary formats without a server: what is refused before anything is sent, and messages byte by byte."""

from __future__ import annotations

from typing import Any

import pytest

from tarbox_core import binary
from tarbox_core.binary import OIDS
from tarbox_core.drivers.codec import Plan, accepts, row_decoder
from tarbox_core.effects import Statement


def bound(type_name: str, value: Any) -> bytes:
    parts: list[bytes] = []
    Plan(Statement("s", "select $1", (type_name,))).bind((value,), parts)
    return b"".join(parts)


def test_bind_and_execute_byte_by_byte() -> None:
    assert bound("int4", 258) == (
        b"B" b"\0\0\0\x19"  # Bind, 25 bytes
        b"\0" b"s\0"  # the unnamed portal, of the statement s
        b"\0\x01\0\x01"  # one format for all parameters: binary
        b"\0\x01" b"\0\0\0\x04" b"\0\0\x01\x02"  # one parameter of 4 bytes
        b"\0\x01\0\x01"  # one format for all results: binary
        b"E" b"\0\0\0\x09" b"\0" b"\0\0\0\0"  # Execute the unnamed portal, no limit of rows
    )


def test_parse_carries_the_types_and_asks_for_the_results() -> None:
    plan = Plan(Statement("s", "select $1", ("int8",), ("int8",)))
    assert plan.parse == b"P\0\0\0\x16" b"s\0select $1\0" b"\0\x01" b"\0\0\0\x14" b"D\0\0\0\x07" b"Ss\0"


def test_message_lengths_count_what_is_there() -> None:
    for name in OIDS:
        if name.endswith("[]"):
            message = bound(name, [None, None])
            assert int.from_bytes(message[1:5]) + 1 + 10 == len(message)


@pytest.mark.parametrize(("type_name", "value", "kind"), [
    ("int2", 1 << 15, ValueError), ("int2", -(1 << 15) - 1, ValueError),
    ("int4", 1 << 31, ValueError), ("int8", 1 << 63, ValueError), ("int8", -(1 << 63) - 1, ValueError),
    ("int8", "1", TypeError), ("int8", 1.0, TypeError), ("bool", 1, TypeError), ("text", b"x", TypeError), ("text", "a\0b", ValueError),
    ("text", "\ud800", ValueError), ("bytea", "x", TypeError), ("float8", "1", TypeError), pytest.param("float8", 10**400, ValueError, id="float8-huge"),
    ("timestamptz", 1.5, TypeError), ("timestamptz", 1 << 80, ValueError), ("jsonb", {1, 2}, TypeError), ("jsonb", float("nan"), ValueError),
    ("int8multirange", 5, TypeError), ("int8multirange", ((3, 1),), ValueError), ("int8multirange", ((1, 1 << 63),), ValueError),
    ("int8multirange", ((1, "2"),), TypeError), ("int8multirange", ((1, 2, 3),), ValueError),
    ("int8[]", 5, TypeError), ("int8[]", [1, "2"], TypeError), ("int8[]", [1] * 9 + [1 << 63], ValueError), ("int8[]", [1] * 9 + ["x"], TypeError),
    ("int8[]", b"12", TypeError), ("text[]", "ab", TypeError), ("bytea[]", ["x"], TypeError), ("bool[]", [1], TypeError),
    ("bytea", memoryview(b"abcdef")[::2], ValueError),
])
def test_a_value_that_does_not_fit_is_refused_by_name(type_name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind) as raised:
        bound(type_name, value)
    assert f"statement s, parameter $1 ({type_name})" in str(raised.value)


def test_the_number_of_parameters_is_checked() -> None:
    plan = Plan(Statement("s", "select $1", ("int8",)))
    with pytest.raises(TypeError, match="statement s: takes 1 parameters, not 2"):
        plan.bind((1, 2), [])


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(TypeError, match=r"statement s: .*'int16'"):
        Plan(Statement("s", "select $1", ("int16",)))


def test_a_multirange_is_encoded_once_for_the_same_tuple_and_anew_for_a_list() -> None:
    ranges = ((1, 5), (7, 9))
    assert bound("int8multirange", ranges) == bound("int8multirange", ranges)
    growing = [(1, 5)]
    first = bound("int8multirange", growing)
    growing.append((7, 9))
    assert bound("int8multirange", growing) != first
    for start in range(2000):  # ids are used again once a tuple is gone
        assert bound("int8multirange", ((start, start + 1),))[-34:-26] == start.to_bytes(8)


def test_long_multiranges_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be a stranger's, who could fill the memory with them."""
    known: dict[int, Any] = {}
    monkeypatch.setattr(binary, "_known_ranges", known)
    for length in (1, 100_000):
        bound("int8multirange", tuple((n, n + 1) for n in range(length)))
    assert len(known) == 1


def data_row(*columns: bytes | None) -> memoryview:
    body = len(columns).to_bytes(2)
    for column in columns:
        body += b"\xff\xff\xff\xff" if column is None else len(column).to_bytes(4) + column
    return memoryview(b"D" + (len(body) + 4).to_bytes(4) + body)


def test_rows_of_fixed_width_with_and_without_null() -> None:
    decode = row_decoder(("int8", "int4", "bool"))
    full, holed = data_row((5).to_bytes(8), (6).to_bytes(4), b"\1"), data_row((5).to_bytes(8), None, b"\0")
    assert decode(full, 0, len(full)) == (5, 6, True)
    assert decode(holed, 0, len(holed)) == (5, None, False)


def test_runs_of_fixed_width_among_others() -> None:
    decode = row_decoder(("bytea", "int8", "int8", "int4", "text", "int8"))
    words = [n.to_bytes(8) for n in (1, 2, 3)]
    full = data_row(b"ab", words[0], words[1], (9).to_bytes(4), b"t", words[2])
    assert decode(full, 0, len(full)) == (b"ab", 1, 2, 9, "t", 3)
    for hole in range(6):
        columns: list[bytes | None] = [b"ab", words[0], words[1], (9).to_bytes(4), b"t", words[2]]
        columns[hole] = None
        expected: list[Any] = [b"ab", 1, 2, 9, "t", 3]
        expected[hole] = None
        row = data_row(*columns)
        assert decode(row, 0, len(row)) == tuple(expected)
    # The last message of the buffer: a run with NULLs is shorter than its struct, and nothing lies behind.
    empty = data_row(None, None, None, None, None, None)
    assert decode(empty, 0, len(empty)) == (None,) * 6


def test_names_and_varchars_are_text() -> None:
    assert accepts("text", 25) and accepts("text", 19) and accepts("text", 1043) and not accepts("text", 17)
    assert accepts("int8", 20) and not accepts("int8", 23)
