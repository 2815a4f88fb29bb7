"""A tenant's tree behind a gateway: operations on it, each a visit that looks where the head stands, run again where that is safe."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from tarbox_core import audit
from tarbox_core.cache import Lru
from tarbox_core.client.visit import Visit
from tarbox_core.control import ControlledFilesystem
from tarbox_core.drivers.remote import AsyncRemoteDriver, Welcome
from tarbox_core.effects import Op
from tarbox_core.errors import ConnectError, ConnectionLost, FsError, RetryableError, TarboxError
from tarbox_core.session import Session
from tarbox_core.types import Caller, TenantInfo
from tarbox_worker.channel import Interrupted

R = TypeVar("R")

ATTEMPTS: Final = 8  # at one operation, each of which may wait for the socket
UMASK: Final = 0o022
BLOCKS: Final = 16 << 20  # bytes of content kept in memory
RECORDS: Final = 100  # of failures that wait for a visit that reads
_NEVER: Final = 1 << 62  # records at once: each visit that reads writes them
_NOWHERE: Final = -1  # the epoch of a head that was not looked for yet


class Door:
    """`begin` comes before everything else. `scope`: the names from the root to the only directory that paths may lead to."""

    def __init__(self, exchange: Callable[[bytes], Awaitable[bytes]], clock: Callable[[], int] = time.time_ns, scope: tuple[bytes, ...] = ()) -> None:
        self.scope = scope
        self._driver = AsyncRemoteDriver(exchange, program="tarbox explorer")
        self._clock = clock
        self._latest = 0
        self._blocks: Lru[bytes, bytes] = Lru(BLOCKS)
        self._numbers: list[int] = []
        self._records: deque[Any] = deque()
        self._litter: list[Callable[[], Awaitable[None]]] = []
        self.caller = Caller()  # the gateway records its own
        self.welcome: Welcome
        self.info: TenantInfo  # with where the head was seen last

    async def begin(self) -> Welcome:
        self.welcome = await self._driver.welcome()
        self.info = self.welcome.tenant
        return self.welcome

    def lost(self) -> None:
        """The gateway that comes next has given this client no inode numbers."""
        self._numbers.clear()

    def enter(self, branch: str) -> None:
        """Work on another branch."""
        if branch != self.info.head:
            self.info = replace(self.info, head=branch, layer=0, visible=(), epoch=_NOWHERE)

    def clock(self) -> int:
        """ns since the epoch, never the same twice."""
        self._latest = max(self._clock(), self._latest + 1)
        return self._latest

    def visit(self) -> Visit:
        fs = ControlledFilesystem(
            self.info, self.clock, enforce=False, read_only=self.welcome.read_only, audit_batch=_NEVER, block_cache=0
        )
        s = fs.session
        s.scope, s.blocks, s.numbers, s.records = self.scope, self._blocks, self._numbers, self._records
        return Visit(fs, self.caller, UMASK, self._saw)

    def _saw(self, s: Session) -> None:
        if s.head == self.info.head and s.at.epoch > self.info.epoch:
            self.info = replace(self.info, layer=s.layer, visible=s.visible, epoch=s.at.epoch)

    async def read(self, op: Callable[[Visit], Op[R]]) -> R:
        """Run what changes nothing."""
        return await self.run(lambda: (v := self.visit()).reading(op(v)))

    async def change(self, op: Callable[[Visit], Op[R]], *, again: bool = False) -> R:
        """Run what changes the tree. `again`: having been run twice does no harm, so it may be when its outcome is not known."""
        try:
            return await self.run(lambda: (v := self.visit()).looking(op(v)), again=again)
        except FsError:
            if len(self._records) >= RECORDS:
                await self.flush()
            raise

    async def flush(self) -> None:
        """Write the records of what failed, which else go with the next that is read."""
        if self._records:
            with suppress(TarboxError):
                await self.run(lambda: audit.flush(self.visit().session))

    async def sure(self, op: Callable[[Visit], Op[R]], seen: Callable[[Visit], Op[R | None]]) -> R:
        """Run a change that must not be run twice, and whose effect shows: `seen` gives its result where it happened."""
        for left in reversed(range(ATTEMPTS)):
            try:
                return await self.change(op)
            except ConnectionLost:
                if not left:
                    raise
                if (result := await self.read(seen)) is not None:
                    return result
        raise AssertionError("the last attempt ends it")

    async def clear(self, work: Callable[[], Awaitable[None]]) -> None:
        """Clear away after a failure, as far as it can be; what the connection keeps from that is left to `tidy`."""
        try:
            await asyncio.shield(work())
        except (ConnectError, ConnectionLost):
            self._litter.append(work)
        except TarboxError:
            return

    async def tidy(self) -> None:
        """Clear away what was left, now that there is a connection."""
        left, self._litter = self._litter, []
        for work in left:
            await self.clear(work)

    async def move(self, op: Callable[[Visit], Op[R]]) -> R:
        """Run what moves the head."""
        visit = self.visit()

        def factory() -> Op[R]:
            nonlocal visit
            visit = self.visit()
            return op(visit)

        result = await self.run(factory, again=False, durable=True)
        self._saw(visit.session)
        return result

    async def run(self, factory: Callable[[], Op[R]], *, again: bool = True, durable: bool = False) -> R:
        """Run an operation whose tree is already found, as on an open file. ConnectionLost where nobody knows whether it took
        effect, and it may not be run `again`."""
        for left in reversed(range(ATTEMPTS)):
            try:
                return await self._driver.run(factory, durable=durable)
            except ConnectionLost as error:
                if not left or (error.committing and not again):
                    raise
            except (Interrupted, RetryableError):
                if not left:
                    raise
        raise AssertionError("the last attempt ends it")
