"""What every driver offers, and the rules they share: what a transaction is, when to retry, which error reaches whom.

`conduct` is those rules, as a generator without I/O: a driver plays it, with its own way to wait. Not here: connections.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from tarbox_core.effects import Op, Query, Rows
from tarbox_core.errors import ConnectionLost, DiskFullError, FsError, RetryableError, SqlError

R = TypeVar("R")

RETRIES: Final = 12  # of one operation, after deadlocks and serialization failures
DEADLOCK: Final = "40P01"
FIRST_PAUSE: Final = 0.002  # seconds; doubled each time
LONGEST_PAUSE: Final = 0.25
POOL_SIZE: Final = 20
CONNECTION_TIMEOUT: Final = 30.0  # seconds to wait for a connection of an exhausted pool


class Driver(Protocol):
    """Runs operations. Thread-safe: each call takes a connection of the pool for its one transaction."""

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        """Run a fresh operation to its end in one transaction.

        The operation is started before a connection is taken; one that never yields costs none. Reads, too, should
        end with a `final` batch (`effects.finish`): otherwise the commit is one more trip.

        `durable`: commit synchronously, which also hardens everything committed before; `finish()` without a query is
        the operation that does only this.

        Raises what the operation raises, after rolling back. A refused statement is thrown into the operation as
        SqlError; it may raise something better or return, and in either case all it did is rolled back. A full disk
        that the operation does not handle is FsError(ENOSPC). Raises RetryableError when retries are spent,
        ConnectionLost (a connection lost before the commit was sent is retried once, on a fresh one), ConnectError,
        and RuntimeError for an operation that yields after its final batch or after a refused statement.
        """
        ...

    def close(self) -> None: ...


class Trip(NamedTuple):
    """Send these queries, opening a transaction before them and committing it after them as told; answer with the rows.

    With `begin` a connection is taken, which is kept for the trips that follow without it.
    """

    queries: Sequence[Query]
    begin: bool
    commit: bool


class Pause(NamedTuple):
    """Give the connection back, rolled back; go on after so many seconds. The answer is []."""

    seconds: float


def conduct(
    factory: Callable[[], Op[R]], random: Callable[[], float], *, durable: bool = False, reading: bool = False, inside: bool = False
) -> Generator[Trip | Pause, list[Rows], R]:
    """The life of one operation. The player throws in what a trip raised, and rolls back what is open at the end.

    `random` gives numbers from [0, 1). `reading`: the operation takes no locks and changes nothing that may not be changed
    twice, so each of its trips is a transaction, which spares a commit and can be repeated whenever a connection is lost.
    `inside`: of a transaction of several operations, whose locks it does not let go, so that a deadlock cannot be helped.
    """
    retries = 0
    reconnected = False
    while True:
        try:
            return (yield from _once(factory(), durable, reading))
        except RetryableError as error:
            retries += 1
            if retries > RETRIES or (inside and error.sqlstate == DEADLOCK):
                raise
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (retries - 1)) * (0.5 + random())
        except ConnectionLost as error:
            if (error.committing and not reading) or reconnected:
                raise
            reconnected = True
            pause = 0.0
        except DiskFullError as error:
            raise FsError(errno.ENOSPC) from error
        yield Pause(pause)


def _once(op: Op[R], durable: bool, reading: bool) -> Generator[Trip | Pause, list[Rows], R]:
    begun = committed = False
    failure: SqlError | None = None
    try:
        batch = next(op)
        while True:
            if committed:
                raise RuntimeError("an operation went on after its final batch")
            if failure is not None:
                raise RuntimeError("an operation went on after a refused statement; its transaction can only be rolled back") from failure
            if not batch.queries and not batch.final:
                batch = op.send([])
                continue
            try:
                if reading and batch.queries:
                    rows = yield Trip(batch.queries, True, True)
                elif batch.queries or begun or durable:
                    rows = yield Trip(batch.queries, not begun, batch.final)
                else:
                    rows = []
            except RetryableError:
                raise
            except SqlError as error:
                failure = error
                batch = op.throw(error)
            else:
                begun, committed = not reading, batch.final and not reading
                batch = op.send(rows)
    except StopIteration as end:
        result: R = end.value
    finally:
        op.close()
    if begun and not committed and failure is None:
        yield Trip((), False, True)
    return result
