"""A client of the gateway that may say anything, and a host that answers as a small tree would. No database."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import Any

import pytest

from tarbox_core import frames
from tarbox_core import layer_statements as layer
from tarbox_core import statements as tree
from tarbox_core.effects import Query, Rows, Statement
from tarbox_core.errors import GatewayError
from tarbox_core.gateway import Gateway, Grant, Step
from tarbox_core.session import lock_key
from tarbox_core.types import TenantInfo

SECOND = 10**9
T = 7
BELOW = ((1 << 32, (1 << 32) + 5),)
SEALED = (1 << 32) + 4
OPEN = 3 << 32 | 2
SEES = (*BELOW, (3 << 32, OPEN + 1))
KEY = T, OPEN, SEES
INFO = TenantInfo(T, "demo", "", "secret_role", 4096, 1 << 20, 0, "main", OPEN, SEES, 5)
LOCK = lock_key(T, "T", 0)
WRITE = Grant()
NUMBER = 100  # an inode number that the client was given


def name_lock(parent: int, name: bytes) -> int:
    return lock_key(T, "N", parent, name)


DIR, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644
MODES = {1: DIR, 2: DIR, 3: DIR, 4: DIR, 10: FILE, 11: stat.S_IFLNK | 0o777, 12: FILE}
PARENTS = {1: 1, 2: 1, 3: 2, 4: 9}  # 9 is gone
NAMES = {(1, b"d"): 2, (2, b"below"): 3, (1, b"f"): 10, (1, b"l"): 11}


def attr(ino: int) -> tuple[Any, ...]:
    """The inode 12 is one that a sealed layer wrote."""
    return (ino, MODES[ino], 0, 0, 2, 0, 0, 0, 0, 0, 0, SEALED if ino == 12 else OPEN, PARENTS.get(ino, 0))


def about(stamp: int) -> tuple[Any, ...]:
    return (stamp, "id", None, "", SEALED if stamp == OPEN else 1, "id", 0, None if stamp == OPEN else 5, False, None)


def answer(query: Query) -> Rows:
    """What the database of the small tree says."""
    statement, values = query
    if statement is tree.HEAD:
        return [(OPEN, SEES, 5)] if values[1] == "main" else []
    if statement is layer.STANDING:
        return [(OPEN, SEES, 5, None, True, 3)] if values[1] == "main" else [((2 << 32) + 1, BELOW, 1, None, False, 3)]
    if statement is layer.LAYER:
        return [about(values[1])]
    if statement is layer.BELOW:
        return [(BELOW if values[1] == 3 else (),)]
    if statement in (tree.INODE, tree.INODE_FULL):
        return [(*attr(values[3]), None, None, None)[: len(statement.returns)]] if values[3] in MODES else []
    if statement is tree.CHILD:
        return [attr(NAMES[values[3:5]])] if values[3:5] in NAMES else []
    if statement is tree.ANCESTORS:
        return [({1: [1], 2: [2, 1], 3: [3, 2, 1], 4: [4, 9]}.get(values[3], [values[3]]),)]
    if statement is tree.PRESENCES:
        return [(0,)]
    if statement is tree.NUMBERS:
        return [(list(range(NUMBER, NUMBER + values[0])),)]
    if statement is tree.MAKE:
        return [(True, OPEN, SEES, 5, MODES[1], 0, 0, 2, None, 0o100644, 0, False)]
    return []


class Client:
    """A client that may say anything, and the host that runs its steps. Its transactions are numbered from 1."""

    def __init__(self, grant: Grant = WRITE, **more: Any) -> None:
        self.now = 10_000 * SECOND
        self.gateway = Gateway(INFO, grant, lambda: self.now, **more)
        self.ran: list[Query] = []
        self.step: Step | None = None
        self.count = 0

    def send(self, *queries: Query, transaction: int = 1, begin: bool = False, commit: bool = False) -> list[Rows]:
        """The rows; raises the error that the gateway tells."""
        return self.ask(frames.batch(5, transaction, queries, begin=begin, commit=commit, durable=False), [query.statement for query in queries])

    def ask(self, frame: bytes, statements: Sequence[Statement] = ()) -> list[Rows]:
        told = self.gateway.receive(frame)
        if isinstance(told, Step):
            self.step = told
            self.ran += told.queries
            told = self.gateway.done(told, [answer(query) for query in told.queries])
        return frames.read_rows(frames.read_answer(told.frame, frames.ROWS), statements)

    def begin(self, *queries: Query, exclusive: Sequence[int] = (), transaction: int = 1) -> None:
        """As an honest mutation begins."""
        self.send(tree.LOCK([LOCK], list(exclusive)), tree.HEAD(T, "main"), *queries, transaction=transaction, begin=True)

    def begin_move(self, *queries: Query) -> None:
        self.send(layer.PATIENCE("8000ms"), tree.LOCK([], [LOCK]), layer.STANDING(T, "main"), *queries, begin=True)

    def numbered(self) -> None:
        self.send(tree.NUMBERS(8), transaction=99, begin=True, commit=True)

    def refused(self, code: str, *queries: Query, **how: Any) -> GatewayError:
        with pytest.raises(GatewayError) as raised:
            self.send(*queries, **how)
        assert raised.value.code == code, raised.value
        assert 1 not in self.gateway.open
        return raised.value


def make(**changed: Any) -> Query:
    """A new file, as an honest client makes it; parameters by their numbers, as p6."""
    values: list[Any] = [
        *KEY, "main", 1, b"new", NUMBER, stat.S_IFREG | 0o644, 0, 0, 0, 5, None, b"", True, 0, [0], 5, 5, ["create"], [0], "/new", 0, 0, None,
    ]  # fmt: skip
    for place, value in changed.items():
        values[int(place[1:]) - 1] = value
    return tree.MAKE(*values)


def record(operation: str = "write", **changed: Any) -> Query:
    values: list[Any] = [T, OPEN, operation, 10, "/f", 1234, 4321, 0, 0, None]
    for place, value in changed.items():
        values[int(place[1:]) - 1] = value
    return tree.AUDIT(*values)


def content(**changed: Any) -> Query:
    values: list[Any] = [T, OPEN, 10, 5, 5, b"hello", None, 5, 5]
    for place, value in changed.items():
        values[int(place[1:]) - 1] = value
    return tree.INODE_CONTENT(*values)


def inode_set(**changed: Any) -> Query:
    values: list[Any] = [T, OPEN, 10, None, None, None, None, None, 5, None]
    for place, value in changed.items():
        values[int(place[1:]) - 1] = value
    return tree.INODE_SET(*values)


def put(hashes: bytes, chunk: int = 0) -> Query:
    return tree.EXTENT_PUT(T, OPEN, 10, [chunk], [hashes])


# --- moves of layers


NEXT = (*BELOW, (3 << 32, OPEN + 2))
LINE = 4 << 32 | 1
FORKED = (*BELOW, (4 << 32, LINE + 1))
ADVANCE = [layer.SEAL(T, OPEN, "name", "", False), layer.OPEN(T, OPEN + 1, OPEN), layer.HEAD_MOVE(T, "main", OPEN + 1, NEXT, None)]
FORK = [layer.LINE_OPEN(T, 4, SEALED, BELOW), layer.OPEN(T, LINE, SEALED)]
SWITCH = [layer.SEAL(T, OPEN, None, "", True), *FORK, layer.HEAD_MOVE(T, "main", LINE, FORKED, OPEN)]
BRANCH = [*FORK, layer.HEAD_MAKE(T, "side", LINE, FORKED)]
END = [layer.DROP(T, [2 << 32 | 1]), layer.HEAD_DROP(T, "side")]
READ = [layer.LAYER(T, OPEN), layer.LAYER(T, SEALED), layer.BELOW(T, 1)]
READ_SIDE = [layer.STANDING(T, "side"), tree.PRESENCES(lock_key(T, "B", 0, b"side"))]
