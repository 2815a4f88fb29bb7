"""The driver for servers that run on asyncio or trio: Wires in worker threads, operations on the event loop.

Each trip takes a worker thread; the operation's own code runs on the loop, where the caller's other code runs. Not
here: the rules of a transaction (base.py). The only file of the core that imports anyio.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

import anyio
import anyio.to_thread

from tarbox_core.drivers.base import CONNECTION_TIMEOUT, POOL_SIZE, Trip, conduct
from tarbox_core.drivers.dsn import Dsn, parse_url
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Op
from tarbox_core.errors import ConnectError, ConnectionLost, TarboxError

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
        synchronous: bool = False,
    ) -> None:
        self.dsn = parse_url(dsn) if isinstance(dsn, str) else dsn
        self.role = role
        self._synchronous = synchronous
        self._size = pool_size
        self._timeout = connection_timeout
        self._idle: deque[Wire] = deque()
        self._closed = False
        # Made on the loop that first runs an operation. As many threads as wires: they are its own, so that other
        # users of threads cannot keep a commit waiting.
        self._wires: anyio.Semaphore | None = None
        self._threads: anyio.CapacityLimiter | None = None

    async def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        """Run a fresh operation to its end in one transaction; see base.Driver.run."""
        play = conduct(factory, random.random, durable=durable)
        lease: _Lease | None = None
        try:
            command = next(play)
            while True:
                try:
                    if isinstance(command, Trip):
                        if lease is None:
                            lease = await self._take()
                        work = partial(Wire.execute, queries=command.queries, begin=command.begin, commit=command.commit, durable=durable)
                        rows = await self._on(lease, work)
                    else:
                        if lease is not None:
                            given, lease = lease, None
                            self._give(given)
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
            if lease is not None:
                self._give(lease)

    async def script(self, sql: str) -> None:
        """Run several statements as one transaction (unless they say otherwise), without parameters or rows."""
        lease = await self._take()
        try:
            await self._on(lease, partial(Wire.script, sql=sql))
        finally:
            self._give(lease)

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _take(self) -> _Lease:
        if self._wires is None:
            self._wires = anyio.Semaphore(self._size)
        with anyio.move_on_after(self._timeout) as waiting:
            await self._wires.acquire()
        if waiting.cancelled_caught:
            raise ConnectError(f"all {self._size} connections of the pool were busy for {self._timeout:g} s")
        if self._closed:
            self._wires.release()
            raise ConnectError("the driver is closed")
        return _Lease(self._idle.pop() if self._idle else None, partial(Wire, self.dsn, self.role, synchronous=self._synchronous))

    def _give(self, lease: _Lease) -> None:
        wire = lease.wire
        try:
            if wire is not None:
                wire.rollback()  # does not wait for the reply
        finally:
            if wire is not None and self._closed:
                wire.close()
            elif wire is not None and not wire.closed:
                self._idle.append(wire)
            if self._wires is not None:
                self._wires.release()

    async def _on(self, lease: _Lease, work: Callable[[Wire], R]) -> R:
        """Run `work` on the lease's wire in a thread. When cancelled, the wire is closed, after its statement has ended."""
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(2 * self._size)  # a thread to work and one to cancel it
        turn = threading.Lock()  # taken by the thread, or by a cancellation that comes before it
        ended = threading.Event()

        def task() -> R:
            if not turn.acquire(blocking=False):
                raise ConnectionLost("cancelled")
            try:
                return work(lease.ready())
            finally:
                ended.set()

        try:
            return await anyio.to_thread.run_sync(task, abandon_on_cancel=True, limiter=self._threads)
        except anyio.get_cancelled_exc_class():
            if not turn.acquire(blocking=False):
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(lease.interrupt, ended, limiter=self._threads)
            if lease.wire is not None:
                lease.wire.close()
            raise


class _Lease:
    """A place in the pool for one operation, and its wire once a thread has made or checked it."""

    def __init__(self, wire: Wire | None, make: Callable[[], Wire]) -> None:
        self.wire = wire
        self._make = make
        self._ready = False

    def ready(self) -> Wire:
        """The wire: the idle one if it still lives, or a new one. Blocks; raises ConnectError."""
        if not self._ready:
            if self.wire is None or not self.wire.alive():
                self.wire = self._make()
            self._ready = True
        assert self.wire is not None
        return self.wire

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
