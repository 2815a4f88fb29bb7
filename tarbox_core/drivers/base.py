"""What every driver offers, and the rules they share: retries, and which SQLSTATE is whose fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from tarbox_core.effects import Op

R = TypeVar("R")


class Driver(Protocol):
    """Runs operations. Thread-safe: each call takes a connection of the pool for its one transaction."""

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        """Run a fresh operation to its end in one transaction.

        `durable`: commit synchronously, which also hardens everything committed before. Raises what the operation
        raises (after rolling back), RetryableError when retries are spent, ConnectionLost, DiskFullError.
        """
        ...

    def close(self) -> None: ...
