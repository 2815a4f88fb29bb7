"""The rules of a transaction (base.conduct) played by hand: no server, no clock."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from typing import Any

import pytest

from tarbox_core.drivers.base import LONGEST_PAUSE, RETRIES, Pause, Trip, conduct
from tarbox_core.effects import Batch, Op, Rows, Statement, finish, one, run
from tarbox_core.errors import ConnectError, ConnectionLost, DiskFullError, FsError, RetryableError, SqlError

S = Statement("s", "select 1", (), ("int4",))
ROWS: list[Rows] = [[(1,)]]


def played(factory: Callable[[], Op[Any]], *answers: Any, durable: bool = False) -> tuple[list[Trip | Pause], Any]:
    """The commands that came, with these answers, and the result."""
    script: Generator[Trip | Pause, list[Rows], Any] = conduct(factory, lambda: 0.5, durable=durable)
    commands: list[Trip | Pause] = []
    left = list(answers)
    try:
        command = next(script)
        while True:
            commands.append(command)
            if isinstance(command, Pause):
                command = script.send([])
                continue
            answer = left.pop(0)
            command = script.throw(answer) if isinstance(answer, Exception) else script.send(answer)
    except StopIteration as end:
        assert not left
        return commands, end.value


def two_trips() -> Op[int]:
    yield from one(S())
    return (yield from one(S()))[0]


def test_an_operation_that_never_yields_needs_nothing() -> None:
    def op() -> Op[int]:
        return 5
        yield from one(S())  # type: ignore[unreachable]

    assert played(op) == ([], 5)


def test_the_first_trip_begins_and_the_return_commits() -> None:
    commands, result = played(two_trips, ROWS, ROWS, [])
    assert commands == [Trip((S(),), True, False), Trip((S(),), False, False), Trip((), False, True)]
    assert result == 1


def test_a_final_batch_commits_along() -> None:
    def op() -> Op[list[Rows]]:
        yield from run(S())
        return (yield from finish(S(), S()))

    commands, result = played(op, ROWS, ROWS * 2)
    assert [(c.begin, c.commit) for c in commands if isinstance(c, Trip)] == [(True, False), (False, True)]
    assert result == ROWS * 2


def test_empty_batches_cost_nothing_but_commit_and_harden() -> None:
    def op() -> Op[list[Rows]]:
        yield Batch(())
        return (yield Batch((), True))

    assert played(op) == ([], [])
    commands, _ = played(op, [], durable=True)
    assert commands == [Trip((), True, True)]


def test_a_yield_after_the_final_batch_is_a_bug() -> None:
    def op() -> Op[None]:
        yield from finish(S())
        yield from run(S())

    with pytest.raises(RuntimeError, match="final"):
        played(op, ROWS)


def test_a_refused_statement_ends_the_transaction_whatever_the_operation_makes_of_it() -> None:
    def swallow() -> Op[str]:
        try:
            yield from run(S())
        except SqlError as error:
            return error.sqlstate
        return ""

    def go_on() -> Op[None]:
        try:
            yield from run(S())
        except SqlError:
            yield from run(S())

    commands, result = played(swallow, SqlError("23505", "duplicate", "s"))
    assert (len(commands), result) == (1, "23505")  # no commit
    with pytest.raises(RuntimeError, match="refused") as raised:
        played(go_on, SqlError("23505", "duplicate", "s"))
    assert isinstance(raised.value.__cause__, SqlError)


def test_deadlocks_are_run_again_afresh_with_growing_pauses_and_a_limit() -> None:
    error = RetryableError("40P01", "deadlock", "s")
    runs = []

    def op() -> Op[int]:
        runs.append(1)
        return (yield from two_trips())

    commands, _ = played(op, ROWS, error, error, ROWS, ROWS, [])
    assert len(runs) == 3
    pauses = [c.seconds for c in commands if isinstance(c, Pause)]
    assert pauses == [0.002, 0.004]
    with pytest.raises(RetryableError):
        played(op, *[error] * (RETRIES + 1))
    assert len(runs) == 3 + RETRIES + 1
    assert max(pauses) <= LONGEST_PAUSE * 1.5


def test_a_failure_of_the_commit_itself_is_retried_too() -> None:
    commands, result = played(two_trips, ROWS, ROWS, RetryableError("40001", "serialization", "commit"), ROWS, ROWS, [])
    assert result == 1
    assert len(commands) == 7


def test_a_lost_connection_is_replaced_once_unless_a_commit_was_under_way() -> None:
    lost, committing = ConnectionLost("gone"), ConnectionLost("gone", committing=True)
    _, result = played(two_trips, ROWS, lost, ROWS, ROWS, [])
    assert result == 1
    with pytest.raises(ConnectionLost):
        played(two_trips, lost, ROWS, lost)
    with pytest.raises(ConnectionLost) as raised:
        played(two_trips, ROWS, ROWS, committing)
    assert raised.value.committing


def test_a_retried_operation_is_closed_before_the_next_one_starts() -> None:
    log = []

    def op() -> Op[None]:
        log.append("start")
        try:
            yield from run(S())
        finally:
            log.append("end")

    played(op, RetryableError("40001", "x"), ROWS, [])
    assert log == ["start", "end", "start", "end"]


def test_neither_lost_connections_nor_connect_errors_are_thrown_into_operations() -> None:
    seen = []

    def op() -> Op[None]:
        try:
            yield from run(S())
        except Exception as error:
            seen.append(error)
            raise

    for error in (ConnectError("refused"), ConnectionLost("gone", committing=True), TypeError("bad value")):
        with pytest.raises(type(error)):
            played(op, error)
    assert seen == []


def test_a_full_disk_is_enospc_for_the_caller_and_an_sqlerror_for_the_operation() -> None:
    seen = []

    def op() -> Op[None]:
        try:
            yield from run(S())
        except SqlError as error:
            seen.append(type(error))
            raise

    with pytest.raises(FsError) as raised:
        played(op, DiskFullError("53100", "no space", "s"))
    assert raised.value.errno == errno.ENOSPC
    assert seen == [DiskFullError]
