"""The driver for servers that run on asyncio or trio: Wires in worker threads, operations on the event loop.

Each trip takes a worker thread; the operation's own code runs on the loop, where the caller's other code runs. Not
here: the rules of a transaction (base.py). The only file of the core that imports anyio.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from copy import copy
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from tarbox_core.drivers.base import CONNECTION_TIMEOUT, POOL_SIZE, Pause, Trip, conduct
from tarbox_core.drivers.dsn import Dsn, parse_url
from tarbox_core.drivers.nested import Nested
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Op, Rows
from tarbox_core.errors import ConnectError, ConnectionLost, TarboxError, TransactionError

R = TypeVar("R")

CANCEL_AGAIN: Final = 0.25  # seconds; a request to cancel that overtakes its statement has no effect
CANCEL_LIMIT: Final = 20  # requests, after which the connection is broken


class AioDriver:
    """Runs operations from one event loop (see base.Driver; `run`, `script` and `close` are awaited).

    A cancelled `run` cancels its statement on the server, waits until that has ended, and rolls back; whether a commit
    that was in flight took effect is then not known.
    """

    def __init__(
        self, dsn: Dsn | str, role: str | None = None, *, pool_size: int = POOL_SIZE, connection_timeout: float = CONNECTION_TIMEOUT,
        synchronous: bool = False, pooled: bool = False,
    ) -> None:
        self.dsn = parse_url(dsn) if isinstance(dsn, str) else dsn
        self.role = role
        self._synchronous = synchronous
        self._pooled = pooled
        self._leases = _Leases(pool_size, connection_timeout)

    def under(self, role: str) -> AioDriver:
        """The same connections, for operations under another role; see SyncDriver.under."""
        if not self._pooled:
            raise ValueError("connections that keep their role are for that role alone")
        other = copy(self)
        other.role = role
        return other

    async def run(self, factory: Callable[[], Op[R]], *, durable: bool = False, reading: bool = False) -> R:
        """Run a fresh operation to its end in one transaction; see base.Driver.run, and base.conduct for `reading`."""
        lease: _Lease | None = None

        async def trip(wanted: Trip) -> list[Rows]:
            nonlocal lease
            if lease is None:
                lease = await self._take()
            work = partial(Wire.execute, queries=wanted.queries, begin=wanted.begin, commit=wanted.commit, durable=durable)
            return await self._leases.on(lease, work)

        async def rest() -> None:
            nonlocal lease
            if lease is not None:
                given, lease = lease, None
                self._leases.give(given)

        return await _play(conduct(factory, random.random, durable=durable, reading=reading), trip, rest)

    @asynccontextmanager
    async def transaction(self, *, durable: bool = False) -> AsyncIterator[AsyncTransaction]:
        """Several operations as one transaction, which is committed at the end of the block, or rolled back by an exception."""
        transaction = AsyncTransaction(self._leases, self._take, durable)
        try:
            yield transaction
            await transaction.commit()
        finally:
            transaction.end()

    async def script(self, sql: str) -> None:
        """Run several statements as one transaction (unless they say otherwise), without parameters or rows."""
        lease = await self._take()
        try:
            await self._leases.on(lease, partial(Wire.script, sql=sql))
        finally:
            self._leases.give(lease)

    async def _take(self) -> _Lease:
        make = partial(Wire, self.dsn, self.role, synchronous=self._synchronous, pooled=self._pooled)
        return await self._leases.take(make, self.role)

    async def close(self) -> None:
        self._leases.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()


class AsyncTransaction:
    """Runs operations, one at a time, in one open transaction (see `nested`)."""

    def __init__(self, leases: _Leases, take: Callable[[], Awaitable[_Lease]], durable: bool) -> None:
        self._leases = leases
        self._take = take
        self._lease: _Lease | None = None
        self._nested = Nested(durable)
        self._turn = anyio.Lock()
        self._running: anyio.CancelScope | None = None  # of the operation at hand
        self._ended = False

    async def run(self, factory: Callable[[], Op[R]], *, durable: bool = False, reading: bool = False) -> R:
        """Run an operation, which is undone by itself where it fails. What it did counts when the transaction is committed, and
        is as durable as that."""
        async with self._turn:
            with anyio.CancelScope() as self._running:
                try:
                    return await _play(conduct(factory, random.random, reading=reading, inside=True), self._trip, self._undo)
                finally:
                    self._running = None
                    if self._ended:
                        self._give()
            raise TransactionError("this transaction ended while something was done in it, which was undone")

    async def _trip(self, wanted: Trip) -> list[Rows]:
        self._nested.require_open()
        if self._lease is not None and self._lease.lost and self._nested.blank:
            given, self._lease = self._lease, None
            self._leases.give(given)
        if self._lease is None:
            self._lease = await self._take()
        return await self._leases.on(self._lease, partial(self._nested.execute, trip=wanted))

    async def _undo(self) -> None:
        if self._lease is not None and self._lease.wire is not None:
            with anyio.CancelScope(shield=True):
                await self._leases.on(self._lease, self._nested.undo)

    async def commit(self) -> None:
        """Raises ConnectionLost, whose `committing` tells whether it may have taken effect, and TransactionError."""
        async with self._turn:
            if self._lease is not None:
                await self._leases.on(self._lease, self._nested.commit)

    def end(self) -> None:
        """Give the connection back, rolled back where nothing was committed. An operation of another task that is not done yet, as
        one for whose thread a task did not wait that was cancelled, is cancelled, and gives the connection back itself."""
        self._nested.end()
        self._ended = True
        if self._running is not None:
            self._running.cancel()
        else:
            self._give()

    def _give(self) -> None:
        if self._lease is not None:
            given, self._lease = self._lease, None
            self._leases.give(given)


async def _play(
    play: Generator[Trip | Pause, list[Rows], R], trip: Callable[[Trip], Awaitable[list[Rows]]], rest: Callable[[], Awaitable[None]]
) -> R:
    """Do what `conduct` asks for. `rest` leaves the transaction, rolled back where it is open; it is called at the end, too."""
    try:
        command = next(play)
        while True:
            try:
                if isinstance(command, Trip):
                    rows = await trip(command)
                else:
                    await rest()
                    await anyio.sleep(command.seconds)
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
        await rest()


class _Room(NamedTuple):
    """What one event loop may use at once."""

    wires: anyio.Semaphore
    threads: anyio.CapacityLimiter  # one to work and one to cancel it, for each wire


class _Leases:
    """For each loop at most `size` wires, and as many threads: they are its own, so that other users of threads cannot keep a commit waiting."""

    def __init__(self, size: int, timeout: float) -> None:
        self._size = size
        self._timeout = timeout
        self._idle: deque[Wire] = deque()
        self._closed = False
        self._rooms: RunVar[_Room] = RunVar("tarbox_core.drivers.aio")

    @property
    def _room(self) -> _Room:
        """Of the loop that asks: one that came to its end, however, holds nothing."""
        try:
            return self._rooms.get()
        except LookupError:
            room = _Room(anyio.Semaphore(self._size), anyio.CapacityLimiter(2 * self._size))
            self._rooms.set(room)
            return room

    async def take(self, make: Callable[[], Wire], role: str | None) -> _Lease:
        wires = self._room.wires
        with anyio.move_on_after(self._timeout) as waiting:
            await wires.acquire()
        if waiting.cancelled_caught:
            raise ConnectError(f"all {self._size} connections of the pool were busy for {self._timeout:g} s")
        if self._closed:
            wires.release()
            raise ConnectError("the driver is closed")
        try:
            return _Lease(self._idle.pop(), make, role)
        except IndexError:
            return _Lease(None, make, role)

    def give(self, lease: _Lease) -> None:
        wire = lease.wire if not lease.abandoned else None
        try:
            if wire is not None:
                wire.rollback()  # does not wait for the reply
        finally:
            if wire is not None and self._closed:
                wire.close()
            elif wire is not None and not wire.closed:
                self._idle.append(wire)
            self._room.wires.release()

    async def on(self, lease: _Lease, work: Callable[[Wire], R]) -> R:
        """Run `work` on the lease's wire in a thread. When cancelled, the wire is closed, after its statement has ended; who is
        cancelled once more meanwhile (asyncio does so) leaves that to the thread."""
        threads = self._room.threads
        turn = threading.Lock()  # taken by the thread, or by a cancellation that comes before it
        ended = threading.Event()

        def task() -> R:
            if not turn.acquire(blocking=False):
                raise ConnectionLost("cancelled")
            try:
                return work(lease.ready())
            finally:
                ended.set()
                if lease.abandoned and lease.wire is not None:
                    lease.wire.close()

        try:
            return await anyio.to_thread.run_sync(task, abandon_on_cancel=True, limiter=threads)
        except anyio.get_cancelled_exc_class():
            if not turn.acquire(blocking=False):
                try:
                    with anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(lease.interrupt, ended, abandon_on_cancel=True, limiter=threads)
                finally:
                    if not ended.is_set():
                        lease.abandon()
            if lease.wire is not None:
                lease.wire.close()
            raise

    def close(self) -> None:
        """Close all wires; those in use, when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class _Lease:
    """A place in the pool for one operation, and its wire once a thread has made or checked it."""

    def __init__(self, wire: Wire | None, make: Callable[[], Wire], role: str | None) -> None:
        self.wire = wire
        self._make = make
        self._role = role
        self._ready = False
        self.abandoned = False  # to the thread that uses the wire

    def abandon(self) -> None:
        self.abandoned = True
        if self.wire is not None:
            self.wire.abort()

    def ready(self) -> Wire:
        """The wire: the idle one if it still lives, or a new one. Blocks; raises ConnectError."""
        if not self._ready:
            if self.wire is None or not self.wire.alive():
                self.wire = self._make()
            if self.wire.pooled:
                self.wire.assume(self._role)
            self._ready = True
        assert self.wire is not None
        return self.wire

    @property
    def lost(self) -> bool:
        return self._ready and self.wire is not None and self.wire.closed

    def interrupt(self, ended: threading.Event) -> None:
        """Cancel what another thread runs on the wire until it has ended; break the connection when that does not help."""
        attempts = 0
        while not ended.is_set():
            wire = self.wire
            if wire is not None and self._ready:  # else it is being made, which ends by its own timeout
                attempts += 1
                try:
                    if attempts > CANCEL_LIMIT:
                        wire.abort()
                    else:
                        wire.cancel()
                except ConnectError:
                    wire.abort()
            ended.wait(CANCEL_AGAIN)
