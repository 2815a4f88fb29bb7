"""Deadlocks thrown into operations on purpose, so that tests see that what is run twice does not do its work twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tarbox_core.effects import Op
from tarbox_core.errors import RetryableError

R = TypeVar("R")


def disturbed(factory: Callable[[], Op[R]], trip: int | None) -> Callable[[], Op[R]]:
    """A factory whose first operation meets a deadlock in that trip."""
    first = [trip]

    def run() -> Op[R]:
        fail_at, first[0] = first[0], None
        op = factory()
        try:
            batch = next(op)
            while True:
                if fail_at == 0:
                    batch = op.throw(RetryableError("40P01", "a deadlock, for the test"))
                    raise AssertionError("an operation must not go on after a deadlock")
                if fail_at is not None:
                    fail_at -= 1
                batch = op.send((yield batch))
        except StopIteration as end:
            result: R = end.value
            return result

    return run
