"""What other doors change, for the sockets of a tenant: one connection listens, and each socket hears what it has not done itself.

The feed is a door that stands on no branch: it has nothing to store, so whoever moves a head need not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from tarbox_core.drivers.dsn import Dsn
from tarbox_core.drivers.presence import Changes, Presence
from tarbox_core.errors import TarboxError
from tarbox_core.filesystem import Filesystem
from tarbox_core.types import TenantInfo

INODES_MAX: Final = 4096  # that wait for a socket; with more, it is told that all may have changed
LOOK: Final = 1.0  # seconds between two looks whether the connection lives
_EVERYTHING: Final = Changes(names=True, moved=True, lost=True)

_log: Final = logging.getLogger("tarbox.browser")


class Ear:
    """What one socket has not been told yet. On the event loop."""

    def __init__(self, own: int) -> None:
        self.own = own  # the id under which its own changes are told
        self._pending = Changes()
        self._some = asyncio.Event()

    def hear(self, changes: Changes) -> None:
        pending = self._pending.and_then(changes)
        self._pending = _EVERYTHING if pending.lost or len(pending.inos) > INODES_MAX else pending
        self._some.set()

    async def changes(self) -> Changes:
        """What was heard since the last call, as soon as there is something."""
        await self._some.wait()
        self._some.clear()
        heard, self._pending = self._pending, Changes()
        return heard


class Feed:
    """A tenant's. A thread of its own listens while there is an ear; where the connection is lost, each ear is told so."""

    def __init__(self, dsn: Dsn, tenant: TenantInfo, clock: Callable[[], int] = time.time_ns) -> None:
        self._dsn = dsn
        self._tenant = replace(tenant, head="")
        self._clock = clock
        self._ears: set[Ear] = set()
        self._listening: _Listening | None = None

    async def join(self, own: int) -> Ear:
        """An ear that hears from now on. TarboxError: the database cannot be reached."""
        ear = Ear(own)
        self._ears.add(ear)
        try:
            if self._listening is None:
                presence = Presence(self._dsn, Filesystem(self._tenant, self._clock, audit=False), told=self._told)
                self._listening = _Listening(presence, asyncio.get_running_loop(), self._tell)
            await self._listening.begun()
        except BaseException:
            self.leave(ear)
            raise
        return ear

    def leave(self, ear: Ear) -> None:
        self._ears.discard(ear)
        if not self._ears:
            self.close()

    def close(self) -> None:
        if self._listening is not None:
            self._listening.end()
            self._listening = None

    def _told(self, who: int, changes: Changes) -> None:
        listening = self._listening
        if listening is not None:
            listening.pass_on(who, changes)

    def _tell(self, who: int, changes: Changes) -> None:
        for ear in self._ears:
            if ear.own != who:
                ear.hear(changes)


class _Listening:
    """The thread that listens."""

    def __init__(self, presence: Presence, loop: asyncio.AbstractEventLoop, tell: Callable[[int, Changes], None]) -> None:
        self._presence = presence
        self._loop = loop
        self._tell = tell
        self._over = threading.Event()
        self._begun: asyncio.Future[None] = loop.create_future()
        self._begun.add_done_callback(lambda future: future.cancelled() or future.exception())  # nobody may be waiting any more
        threading.Thread(target=self._run, name="tarbox-feed", daemon=True).start()

    async def begun(self) -> None:
        """Returns when it listens; raises what the first try did."""
        await asyncio.shield(self._begun)

    def end(self) -> None:
        self._over.set()
        self._presence.abort()

    def pass_on(self, who: int, changes: Changes) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell, who, changes)

    def _first(self, error: Exception | None) -> None:
        if not self._begun.done():
            if error is None:
                self._begun.set_result(None)
            else:
                self._begun.set_exception(error)

    def _run(self) -> None:
        error: Exception | None
        while not self._over.is_set():
            error = None
            try:
                self._presence.look()
                self._report(None)
                self._hear()
            except TarboxError as lost:
                error = lost
            except Exception as fault:  # else the sockets would wait for ever
                _log.exception("the feed of %s failed", self._presence)
                error = fault
            if error is not None and not self._over.is_set():
                self._report(error)
                self._over.wait(LOOK)
        with suppress(TarboxError):
            self._presence.leave()

    def _hear(self) -> None:
        until = time.monotonic() + LOOK
        while not self._over.is_set() and (left := until - time.monotonic()) > 0:
            if self._presence.changes(left).lost:
                self.pass_on(0, _EVERYTHING)

    def _report(self, error: Exception | None) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._first, error)
