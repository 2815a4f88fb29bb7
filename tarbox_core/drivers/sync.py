"""The driver for threads: a pool of Wires, and the player of `base.conduct` that blocks. Not here: the rules themselves."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from copy import copy
from types import TracebackType
from typing import Self, TypeVar

from tarbox_core.drivers.base import CONNECTION_TIMEOUT, POOL_SIZE, Pause, Trip, conduct
from tarbox_core.drivers.dsn import Dsn, parse_url
from tarbox_core.drivers.nested import Nested
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Op, Rows
from tarbox_core.errors import ConnectError, TarboxError

R = TypeVar("R")


class Pool:
    """At most `size` Wires, made when needed, the last used first. Thread-safe.

    A process forked off forgets the wires of its parent.
    """

    def __init__(self, make: Callable[[], Wire], size: int, timeout: float) -> None:
        if size < 1:
            raise ValueError("a pool holds at least one connection")
        self._make = make
        self._size = size
        self._timeout = timeout
        self._reset()

    def _reset(self) -> None:
        self._idle: deque[Wire] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._spare = 0  # of the idle, how many were never needed since the last trim
        self._count = 0
        self._waiting = 0
        self._closed = False
        self._pid = os.getpid()

    def take(self) -> Wire:
        """A wire that was alive a moment ago. Raises ConnectError: none can be made, or all were busy too long."""
        if self._pid != os.getpid():
            inherited = self._idle
            self._reset()
            for wire in inherited:
                wire.close()
        while True:
            try:
                wire = self._idle.pop()
            except IndexError:
                found = self._new_or_next()
                if found is None:
                    return self._made()
                wire = found
            self._spare = min(self._spare, len(self._idle))
            try:
                if wire.alive():
                    return wire
            except BaseException:
                self.give(wire)
                raise
            self._dropped()

    def give(self, wire: Wire) -> None:
        """Take a wire back: rolled back if it must be, forgotten if it is closed."""
        try:
            wire.rollback()
        finally:
            if self._closed:
                wire.close()
            if wire.closed:
                self._dropped()
            else:
                self._idle.append(wire)
                # Whoever waits has counted itself before it looked at the idle wires for the last time.
                if self._waiting:
                    with self._changed:
                        self._changed.notify()
                if self._closed:  # meanwhile
                    self._close_idle()

    @property
    def count(self) -> int:
        """How many wires there are, in use or idle."""
        return self._count

    def trim(self) -> None:
        """Close the idle wires that were not needed since the last call."""
        for _ in range(self._spare):
            with contextlib.suppress(IndexError):
                self._idle.popleft().close()
                self._dropped()
        self._spare = len(self._idle)

    def close(self) -> None:
        """Close all wires; those in use, when they are given back."""
        self._closed = True
        with self._changed:
            self._changed.notify_all()
        self._close_idle()

    def _new_or_next(self) -> Wire | None:
        """An idle wire, or None for leave to make one."""
        deadline = time.monotonic() + self._timeout
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    if self._closed:
                        raise ConnectError("the driver is closed")
                    with contextlib.suppress(IndexError):
                        return self._idle.pop()
                    if self._count < self._size:
                        self._count += 1
                        return None
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise ConnectError(f"all {self._size} connections of the pool were busy for {self._timeout:g} s")
                    self._changed.wait(left)
            finally:
                self._waiting -= 1

    def _made(self) -> Wire:
        try:
            return self._make()
        except BaseException:
            self._dropped()
            raise

    def _dropped(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify()

    def _close_idle(self) -> None:
        while True:
            try:
                wire = self._idle.pop()
            except IndexError:
                return
            wire.close()
            self._dropped()


class SyncDriver:
    """Runs operations on threads (see base.Driver).

    `dsn` may be a URL. `role`: the role every session works under. `synchronous`: every commit waits for the disk.
    `connection_timeout` is in seconds. No connection is made before the first operation needs one. `pooled`: nothing is left
    to sessions, so it works through pgbouncer in transaction mode, and for several roles (`under`).
    """

    def __init__(
        self, dsn: Dsn | str, role: str | None = None, *, pool_size: int = POOL_SIZE, connection_timeout: float = CONNECTION_TIMEOUT,
        synchronous: bool = False, pooled: bool = False,
    ) -> None:
        self.dsn = parse_url(dsn) if isinstance(dsn, str) else dsn
        self.role = role
        self._pooled = pooled
        self._pool = Pool(lambda: Wire(self.dsn, role, synchronous=synchronous, pooled=pooled), pool_size, connection_timeout)

    def under(self, role: str) -> SyncDriver:
        """The same connections, for operations under another role. Of a `pooled` driver; closing one closes both."""
        if not self._pooled:
            raise ValueError("connections that keep their role are for that role alone")
        other = copy(self)
        other.role = role
        return other

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False, reading: bool = False) -> R:
        """Run a fresh operation to its end in one transaction; see base.Driver.run, and base.conduct for `reading`."""
        wire: Wire | None = None

        def trip(wanted: Trip) -> list[Rows]:
            nonlocal wire
            if wire is None:
                wire = self._take()
            return wire.execute(wanted.queries, begin=wanted.begin, commit=wanted.commit, durable=durable)

        def rest() -> None:
            nonlocal wire
            if wire is not None:
                given, wire = wire, None
                self._pool.give(given)

        return _play(conduct(factory, random.random, durable=durable, reading=reading), trip, rest)

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[Transaction]:
        """Several operations as one transaction, which is committed at the end of the block, or rolled back by an exception."""
        transaction = Transaction(self._take, self._pool.give, durable)
        try:
            yield transaction
            transaction.commit()
        finally:
            transaction.end()

    def _take(self) -> Wire:
        wire = self._pool.take()
        if self._pooled:
            wire.assume(self.role)
        return wire

    @contextlib.contextmanager
    def wire(self) -> Iterator[Wire]:
        """A connection for oneself: LISTEN, migrations. Rolled back at the end; session settings made on it stay."""
        wire = self._pool.take()
        try:
            yield wire
        finally:
            self._pool.give(wire)

    def script(self, sql: str) -> None:
        """Run several statements as one transaction (unless they say otherwise), without parameters or rows."""
        with self.wire() as wire:
            wire.script(sql)

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Transaction:
    """Runs operations, one at a time, in one open transaction (see `nested`)."""

    def __init__(self, take: Callable[[], Wire], give: Callable[[Wire], None], durable: bool) -> None:
        self._take = take
        self._give = give
        self._wire: Wire | None = None
        self._nested = Nested(durable)
        self._turn = threading.Lock()

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False, reading: bool = False) -> R:
        """Run an operation, which is undone by itself where it fails. What it did counts when the transaction is committed, and
        is as durable as that."""
        with self._turn:
            return _play(conduct(factory, random.random, reading=reading, inside=True), self._trip, self._undo)

    def _trip(self, wanted: Trip) -> list[Rows]:
        self._nested.require_open()
        if self._wire is not None and self._wire.closed and self._nested.blank:
            given, self._wire = self._wire, None
            self._give(given)
        if self._wire is None:
            self._wire = self._take()
        return self._nested.execute(self._wire, wanted)

    def _undo(self) -> None:
        if self._wire is not None:
            self._nested.undo(self._wire)

    def commit(self) -> None:
        """Raises ConnectionLost, whose `committing` tells whether it may have taken effect, and TransactionError."""
        with self._turn:
            if self._wire is not None:
                self._nested.commit(self._wire)

    def end(self) -> None:
        """Give the connection back, rolled back where nothing was committed."""
        with self._turn:
            self._nested.end()
            if self._wire is not None:
                given, self._wire = self._wire, None
                self._give(given)


def _play(play: Generator[Trip | Pause, list[Rows], R], trip: Callable[[Trip], list[Rows]], rest: Callable[[], None]) -> R:
    """Do what `conduct` asks for. `rest` leaves the transaction, rolled back where it is open; it is called at the end, too."""
    try:
        command = next(play)
        while True:
            try:
                if isinstance(command, Trip):
                    rows = trip(command)
                else:
                    rest()
                    time.sleep(command.seconds)
                    rows = []
            except (TarboxError, TypeError, ValueError) as error:
                command = play.throw(error)
            else:
                command = play.send(rows)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        play.close()
        rest()
