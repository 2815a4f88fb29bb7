"""What an operation may ask of its driver: the whole vocabulary, and the only bare `yield`s of the core.

An operation is a generator. It yields a `Batch` of named statements with parameters, is sent one list of rows per
statement, and returns its result. It holds no connection and knows no clock. One operation is one transaction: the
driver begins it with the first batch and commits when the generator returns, or together with a batch marked `final`,
which saves a round trip. After a final batch an operation must not yield again and must not fail: what it did is
committed, so there it brings its own memory up to date.

An operation that returns without yielding costs no transaction at all.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

R = TypeVar("R")

Row = tuple[Any, ...]
Rows = list[Row]


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """A named SQL text with native $1 placeholders, prepared once per connection.

    `params` and `returns` are PostgreSQL type names (int8, int4, int2, bool, bytea, text, timestamptz, jsonb, float8,
    int8multirange, and arrays as "bytea[]"); drivers move them in binary. A text array of a result may hold None.
    `safe` marks what a client without a database password may send through the gateway, which binds the first parameter
    itself where that is the `tenant`.
    """

    name: str
    sql: str
    params: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()
    safe: bool = False
    tenant: bool = True

    def __call__(self, *values: Any) -> Query:
        return Query(self, values)


class Query(NamedTuple):
    statement: Statement
    values: tuple[Any, ...]


class Batch(NamedTuple):
    """Statements that travel in one round trip, in order. `final`: commit with them."""

    queries: Sequence[Query]
    final: bool = False


Op = Generator[Batch, list[Rows], R]


def run(*queries: Query) -> Op[list[Rows]]:
    """Send several statements in one trip; the rows of each."""
    return (yield Batch(queries))


def finish(*queries: Query) -> Op[list[Rows]]:
    """The last trip of an operation: the statements and the commit together."""
    return (yield Batch(queries, True))


def many(query: Query) -> Op[Rows]:
    """All rows of one statement."""
    return (yield Batch((query,)))[0]


def maybe(query: Query) -> Op[Row | None]:
    """The one row of a statement, or None."""
    rows = (yield Batch((query,)))[0]
    return rows[0] if rows else None


def one(query: Query) -> Op[Row]:
    """The one row of a statement that always has one."""
    return (yield Batch((query,)))[0][0]


def within(op: Op[R]) -> Op[R]:
    """The operation as a part of another, which goes on after it: its last trip does not commit."""
    try:
        batch = next(op)
        while True:
            try:
                rows = yield Batch(batch.queries)
            except Exception as error:
                batch = op.throw(error)
            else:
                batch = op.send(rows)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        op.close()
