"""Several operations in one transaction: each is whole or undone by itself, and all of them count when it is committed.

What is sent for that, on a wire that is handed in; the drivers wait. A transaction begins with its first trip. An
operation is a savepoint; one that fails before any other has succeeded takes the transaction back to its beginning, so
that it can be tried anew like any other.
"""

from __future__ import annotations

from tarbox_core.drivers.base import Trip
from tarbox_core.drivers.framing import RELEASE, SAVEPOINT, UNDO
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Rows
from tarbox_core.errors import ConnectionLost, SqlError, TransactionError


class Nested:
    """One transaction. `durable`: its commit waits for the disk."""

    def __init__(self, durable: bool) -> None:
        self._durable = durable
        self._begun = False
        self._holds = False  # what an operation did
        self._inside = False  # an operation
        self._over = False
        self._lost: SqlError | ConnectionLost | None = None  # why it can only be rolled back

    @property
    def blank(self) -> bool:
        """Nothing was done in it, so it can begin anew on another wire."""
        return not (self._begun or self._holds)

    def execute(self, wire: Wire, trip: Trip) -> list[Rows]:
        """One trip of an operation. Raises TransactionError where the transaction cannot go on, ConnectionLost where it is lost."""
        self._require(wire)
        steps = [*trip.queries]
        if trip.begin:
            steps.insert(0, SAVEPOINT)
        if trip.commit:
            steps.append(RELEASE)
        begin, self._begun = not self._begun, True
        self._inside = True
        rows = wire.execute(steps, begin=begin, durable=self._durable)
        if trip.commit:
            self._inside, self._holds = False, True
        first = int(trip.begin)
        return rows[first : first + len(trip.queries)]

    def undo(self, wire: Wire) -> None:
        """Take back what the operation at hand did; nothing between operations."""
        if not self._inside:
            return
        self._inside = False
        if not self._holds:
            wire.rollback()
            self._begun = False
            return
        if wire.closed:
            return
        try:
            wire.execute((UNDO, RELEASE))
        except (SqlError, ConnectionLost) as error:
            self._lost = error

    def commit(self, wire: Wire) -> None:
        """Raises ConnectionLost, whose `committing` tells whether it may have taken effect, and TransactionError."""
        self._require(wire)
        self._over = True
        if self._begun:
            wire.execute((), commit=True)

    def require_open(self) -> None:
        """TransactionError where the transaction has ended."""
        if self._over:
            raise TransactionError("this transaction has ended: what was opened in it cannot be used any more")

    def _require(self, wire: Wire) -> None:
        self.require_open()
        if wire.closed and self._begun:
            raise ConnectionLost("the connection was lost, and this transaction with it: nothing of it was done")
        if self._lost is not None:
            raise TransactionError(f"this transaction can only be rolled back: {self._lost}") from self._lost

    def end(self) -> None:
        """It is rolled back; nothing more can be run in it."""
        self._over = True
