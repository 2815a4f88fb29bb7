"""One WebSocket: what every conversation over one has in common. It ends with its token, and leaves nothing open.

Not here: what is said (`framing`, `verbs`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tarbox_browser.feed import Ear
from tarbox_core.drivers.presence import Changes
from tarbox_core.drivers.serving import Served
from tarbox_core.gateway import OPEN_MAX
from tarbox_core.tokens import Token

T = TypeVar("T")

IN_WORK: Final = OPEN_MAX + 2  # frames of one client: a step of each transaction, and what ends one of them
CONNECTIONS: Final = 4  # to the database, for one client

# Close codes.
WRONG_KIND, MISUSED, TOO_LARGE, FAILED, AGAIN = 1003, 1008, 1009, 1011, 1013
ENDED, FORBIDDEN = 4401, 4403  # the token has ended; it does not open this


class Refusal(Protocol):
    async def __call__(self, reason: str, **about: str) -> None: ...


class Conversation(ABC):
    """A client's, from the handshake to its end. `refused` is told of what it was not let do."""

    def __init__(self, socket: WebSocket, served: Served, token: Token, refused: Refusal) -> None:
        self.token = token
        self._socket = socket
        self._served = served
        self._refused = refused
        self._sending = anyio.Lock()
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
                await self._leave()
        if self._code is not None and self._socket.application_state is WebSocketState.CONNECTED:
            code, reason = self._code
            with anyio.CancelScope(shield=True):
                await self._quietly(self._socket.close(code, reason))

    @abstractmethod
    async def _listen(self, tasks: TaskGroup) -> None:
        """Take what the client says; return when it is gone, or when it has said what ends it (`_code`)."""

    @abstractmethod
    async def _change(self, changes: Changes) -> None:
        """Tell the client what other doors changed."""

    async def _leave(self) -> None:
        """Clear away what is in work."""
        await aside(self._served.close)

    async def _tell(self, ear: Ear) -> None:
        while True:
            await self._change(await ear.changes())

    async def _expire(self) -> None:
        await anyio.sleep(max(0.0, self.token.expires_at / 1e9 - time.time()))
        self.end(ENDED, "expired")

    async def _send(self, message: bytes | str) -> None:
        async with self._sending:
            await self._quietly(self._socket.send_text(message) if isinstance(message, str) else self._socket.send_bytes(message))

    async def _quietly(self, sending: Awaitable[None]) -> None:
        """A client that is gone is told nothing; `_listen` hears of it."""
        try:
            await sending
        except (WebSocketDisconnect, RuntimeError):
            if self._socket.application_state is WebSocketState.CONNECTED:
                raise


async def aside(work: Callable[[], T]) -> T:
    """Do what waits in a thread, whatever other threads are busy with."""
    return await anyio.to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))
