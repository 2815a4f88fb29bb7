"""Moves of layers through the gateway: those that the core makes pass, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from tarbox_core import layer_statements as layer
from tarbox_core import statements as tree
from tarbox_core.effects import Query
from tarbox_core.errors import GatewayError
from tests.lying import (
    ADVANCE,
    BELOW,
    BRANCH,
    END,
    FORK,
    KEY,
    LINE,
    LOCK,
    OPEN,
    READ,
    READ_SIDE,
    SEALED,
    SEES,
    SWITCH,
    Client,
    T,
    content,
    record,
)


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.mark.parametrize(("operation", "queries"), [
    ("checkpoint", ADVANCE), ("switch", SWITCH), ("branch", BRANCH), ("branch_delete", END), ("layer_describe", [layer.DESCRIBE(T, SEALED, "words")]),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_moves_pass_as_they_are_made(client: Client, operation: str, queries: list[Query]) -> None:
    client.begin_move(*READ, *READ_SIDE)
    client.send(*queries, record(operation), commit=True)
    assert client.ran[-1].statement is tree.AUDIT


def test_a_branch_of_what_was_changed_is_two_moves(client: Client) -> None:
    client.begin_move(*READ, layer.BELOW(T, 3))
    forked = (*BELOW, (3 << 32, OPEN + 1), (4 << 32, LINE + 1))
    client.send(*ADVANCE, layer.LINE_OPEN(T, 4, OPEN, SEES), layer.OPEN(T, LINE, OPEN), layer.HEAD_MAKE(T, "side", LINE, forked), commit=True)


def swapped(queries: list[Query], place: int, **changed: Any) -> list[Query]:
    values = list(queries[place].values)
    for name, value in changed.items():
        values[int(name[1:]) - 1] = value
    return [*queries[:place], queries[place].statement(*values), *queries[place + 1 :]]


@pytest.mark.parametrize("queries", [
    ADVANCE[:2], ADVANCE[1:], ADVANCE[2:], [ADVANCE[1], ADVANCE[0], ADVANCE[2]], [ADVANCE[0], tree.HEAD(T, "main"), *ADVANCE[1:]],
    swapped(ADVANCE, 0, p2=SEALED), swapped(ADVANCE, 0, p3="head"), swapped(ADVANCE, 0, p4="x" * 5000), swapped(ADVANCE, 0, p5=None),
    swapped(ADVANCE, 1, p2=OPEN + 2), swapped(ADVANCE, 1, p3=SEALED), swapped(ADVANCE, 2, p2="side"), swapped(ADVANCE, 2, p3=OPEN),
    swapped(ADVANCE, 2, p4=((0, 1 << 62),)), swapped(ADVANCE, 2, p5=OPEN), swapped(ADVANCE, 2, p2=None),
    swapped(SWITCH, 1, p2=5), swapped(SWITCH, 1, p3=OPEN), swapped(SWITCH, 1, p3=9), swapped(SWITCH, 1, p3=None), swapped(SWITCH, 1, p4=SEES),
    swapped(SWITCH, 2, p2=LINE + 1), swapped(SWITCH, 3, p4=SEES), swapped(SWITCH, 3, p5=None), swapped(SWITCH, 3, p5=SEALED),
    [layer.DROP(T, [OPEN]), *SWITCH[1:]], [layer.DROP(T, [SEALED]), *SWITCH[1:]],
    swapped(BRANCH, 2, p2="list"), swapped(BRANCH, 2, p2="a b"), swapped(BRANCH, 2, p3=OPEN), swapped(BRANCH, 2, p4=SEES), FORK,
    swapped(END, 0, p2=[SEALED]), swapped(END, 0, p2=[2 << 32 | 1, SEALED]), swapped(END, 1, p2="main"), swapped(END, 1, p2=None),
    [layer.SEAL(T, 2 << 32 | 1, None, "", True), END[1]], [layer.HEAD_DROP(T, "side")], [layer.DROP(T, [SEALED])],
    [layer.DESCRIBE(T, OPEN, "x")], [layer.DESCRIBE(T, SEALED, "x" * 5000)], [layer.DESCRIBE(T, 77, "x")] * 2, [layer.DESCRIBE(T, SEALED, None)],
    [layer.DESCRIBE(T, SEALED, "x")] * 9,
    [*ADVANCE, content()],  # what was sealed just now
])  # fmt: skip
def test_heads_and_lines_become_nothing_else(client: Client, queries: list[Query]) -> None:
    client.begin_move(*READ, *READ_SIDE, tree.INODE(*KEY, 10))
    with pytest.raises(GatewayError) as raised:
        client.send(*queries, commit=True)
    assert raised.value.code in ("not-allowed", "too-large")
    assert not client.gateway.open


def test_a_move_rests_on_what_this_transaction_has_read(client: Client) -> None:
    client.begin_move()
    client.refused("not-allowed", *SWITCH)
    client.begin_move(*READ)
    client.refused("not-allowed", *END)  # whether it is mounted was not asked
    client.send(tree.LOCK([], [LOCK]), begin=True)
    client.send(layer.STANDING(T, "main"))  # too late for the host to keep others quiet
    client.refused("not-allowed", *ADVANCE)
    client.begin(layer.STANDING(T, "main"))
    client.refused("not-allowed", *ADVANCE)


def test_a_layer_that_was_written_to_is_not_dropped(client: Client) -> None:
    client.begin_move(*READ_SIDE, tree.INODE(T, 2 << 32 | 1, BELOW, 10))
    client.refused("not-allowed", content(p2=2 << 32 | 1), *END, commit=True)
