"""One WebSocket: a gateway's client. Each binary message is a frame; its answer goes back under the same number, in whichever order they are ready.

Frames that change what is open wait for the database, so each is answered in a thread. While as many are in work as may be, no
further one is read; an answer that the client does not take keeps its place. What other doors change is told between answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tarbox_browser.feed import Ear
from tarbox_core import frames
from tarbox_core.drivers.presence import Changes
from tarbox_core.drivers.serving import Served
from tarbox_core.errors import ConnectError, GatewayError
from tarbox_core.gateway import OPEN_MAX
from tarbox_core.tokens import Token

T = TypeVar("T")

IN_WORK: Final = OPEN_MAX + 2  # frames of one client: a step of each transaction, and what ends one of them
CONNECTIONS: Final = 4  # to the database, for one client

# Close codes.
NO_TEXT, TOO_LARGE, FAILED, AGAIN = 1003, 1009, 1011, 1013
ENDED, FORBIDDEN = 4401, 4403  # the token has ended; it does not open this

_SUSPECT: Final = frozenset(("not-allowed", "foreign", "bad-hash", "unknown-statement"))  # what no client of ours ever asks for
_log: Final = logging.getLogger("tarbox.browser")


class Conversation:
    """A client's, from the handshake to its end. `refused` is told of what the gateway would not do."""

    def __init__(self, socket: WebSocket, served: Served, token: Token, refused: Callable[[str], Awaitable[None]]) -> None:
        self.token = token
        self._socket = socket
        self._served = served
        self._refused = refused
        self._sending = anyio.Lock()
        self._slots = anyio.Semaphore(IN_WORK)
        self._threads = anyio.CapacityLimiter(IN_WORK)
        self._scope = anyio.CancelScope()
        self._code: tuple[int, str] | None = None

    def end(self, code: int, reason: str) -> None:
        """Close it from here."""
        if self._code is None:
            self._code = code, reason
        self._scope.cancel()

    async def run(self, ear: Ear) -> None:
        """Until the client goes, or is made to. What it left open is rolled back by then."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._tell, ear)
                    tasks.start_soon(self._expire)
                    await self._listen(tasks)
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await aside(self._served.close)
        if self._code is not None and self._socket.application_state is WebSocketState.CONNECTED:
            code, reason = self._code
            with anyio.CancelScope(shield=True):
                await self._quietly(self._socket.close(code, reason))

    async def _listen(self, tasks: TaskGroup) -> None:
        while True:
            await self._slots.acquire()
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            frame = message.get("bytes")
            if frame is None:
                self._code = NO_TEXT, "frames are binary messages"
                return
            tasks.start_soon(self._answer, frame)

    async def _answer(self, frame: bytes) -> None:
        try:
            answer = await anyio.to_thread.run_sync(self._served.exchange, frame, limiter=self._threads, abandon_on_cancel=True)
            if frames.kind_of(answer) == frames.ERROR:
                await self._look(answer)
            await self._send(answer)
        except ConnectError:
            pass  # closed meanwhile
        except Exception:
            _log.exception("a frame of a client of %s failed", self._served.tenant.name)
            self.end(FAILED, "the gateway failed")
        finally:
            self._slots.release()

    async def _look(self, answer: bytes) -> None:
        error = frames.read_error(answer)
        if isinstance(error, GatewayError) and error.code in _SUSPECT:
            await self._refused(f"{error.code}: {error}"[:300])

    async def _tell(self, ear: Ear) -> None:
        while True:
            await self._send(frames.changed(_content(await ear.changes())))

    async def _expire(self) -> None:
        await anyio.sleep(max(0.0, self.token.expires_at / 1e9 - time.time()))
        self.end(ENDED, "expired")

    async def _send(self, frame: bytes) -> None:
        async with self._sending:
            await self._quietly(self._socket.send_bytes(frame))

    async def _quietly(self, sending: Awaitable[None]) -> None:
        """A client that is gone is told nothing; `_listen` hears of it."""
        try:
            await sending
        except (WebSocketDisconnect, RuntimeError):
            if self._socket.application_state is WebSocketState.CONNECTED:
                raise


def _content(changes: Changes) -> dict[str, object]:
    return {"inos": sorted(changes.inos), "names": changes.names, "moved": changes.moved, "lost": changes.lost}


async def aside(work: Callable[[], T]) -> T:
    """Do what waits in a thread, whatever other threads are busy with."""
    return await anyio.to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))
