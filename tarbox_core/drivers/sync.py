"""The driver for threads: a pool of Wires, and the player of `base.conduct` that blocks. Not here: the rules themselves."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tarbox_core.drivers.base import CONNECTION_TIMEOUT, POOL_SIZE, Trip, conduct
from tarbox_core.drivers.dsn import Dsn, parse_url
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Op
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
                wire.abandon()
        while True:
            try:
                wire = self._idle.pop()
            except IndexError:
                found = self._new_or_next()
                if found is None:
                    return self._made()
                wire = found
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
    `connection_timeout` is in seconds. No connection is made before the first operation needs one.
    """

    def __init__(
        self, dsn: Dsn | str, role: str | None = None, *, pool_size: int = POOL_SIZE, connection_timeout: float = CONNECTION_TIMEOUT,
        synchronous: bool = False,
    ) -> None:
        self.dsn = parse_url(dsn) if isinstance(dsn, str) else dsn
        self.role = role
        self._pool = Pool(lambda: Wire(self.dsn, role, synchronous=synchronous), pool_size, connection_timeout)

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        """Run a fresh operation to its end in one transaction; see base.Driver.run."""
        play = conduct(factory, random.random, durable=durable)
        pool = self._pool
        wire: Wire | None = None
        try:
            command = next(play)
            while True:
                try:
                    if isinstance(command, Trip):
                        if wire is None:
                            wire = pool.take()
                        rows = wire.execute(command.queries, begin=command.begin, commit=command.commit, durable=durable)
                    else:
                        if wire is not None:
                            given, wire = wire, None
                            pool.give(given)
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
            if wire is not None:
                pool.give(wire)

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
