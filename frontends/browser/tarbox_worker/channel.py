"""The gateway behind a socket that may break: requests go out, each answer goes to whom it belongs, by its number.

Knows no socket: whoever has one hands in what arrives, and says when it opens and when it is lost.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tarbox_core import frames
from tarbox_core.errors import ConnectError, ConnectionLost

PATIENCE: Final = 120.0  # seconds for which a request waits for the socket to open

_KIND: Final = 4  # where a frame says what it is
_BATCH: Final = struct.Struct(">9xIB")  # its transaction and flags


class Interrupted(ConnectError):
    """The socket was lost between two trips of a transaction, of which nothing holds: it may be run again."""


class _Pending(NamedTuple):
    answer: asyncio.Future[bytes]
    transaction: int  # 0: none


class Channel:
    """`send` hands a whole frame to the socket, which is open then; `changed` is told what other doors changed."""

    def __init__(self, send: Callable[[bytes], None], changed: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._changed = changed
        self._ready = asyncio.Event()
        self._pending: dict[int, _Pending] = {}
        self._begun: set[int] = set()  # transactions that this connection's gateway may know
        self._refusal: str | None = None

    # --- for the driver

    async def exchange(self, frame: bytes) -> bytes:
        """The answer to a frame. ConnectError: it was not sent. ConnectionLost: its answer is lost."""
        number, transaction = frames.number_of(frame), 0
        if frame[_KIND] == frames.BATCH:
            transaction, flags = _BATCH.unpack_from(frame)
            if not flags & frames.BEGIN and transaction not in self._begun:
                raise Interrupted("the connection was lost in the midst of it")
        elif frame[_KIND] == frames.UNDO and not self._ready.is_set():
            raise ConnectError("what was open is gone with the connection")
        await self._opened()
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[number] = _Pending(answer, transaction)
        if transaction:
            self._begun.add(transaction)
        try:
            self._send(frame)
            return await answer
        finally:
            self._pending.pop(number, None)
            if transaction and flags & frames.COMMIT:
                self._begun.discard(transaction)

    async def _opened(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._ready.wait()
        except TimeoutError:
            raise ConnectError("the server cannot be reached") from None
        if self._refusal is not None:
            raise ConnectError(self._refusal)

    # --- for who has the socket

    def opened(self) -> None:
        """A socket is open, with a gateway that knows nothing of the one before, and may let in who was refused."""
        self._refusal = None
        self._ready.set()

    def received(self, frame: bytes) -> None:
        """Take an answer, which nobody may wait for any more, or what the gateway tells by itself."""
        if frame[_KIND] == frames.CHANGED:
            self._changed(frames.read_changed(frame))
            return
        pending = self._pending.get(frames.number_of(frame))
        if pending is None or pending.answer.done():
            return
        if frame[_KIND] == frames.ERROR:
            self._begun.discard(pending.transaction)
        pending.answer.set_result(frame)

    def lost(self) -> None:
        """The socket is closed: what was sent and not answered is lost."""
        self._ready.clear()
        self._begun.clear()
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(ConnectionLost("the connection was lost"))

    def refused(self, words: str) -> None:
        """The server lets this client in no more."""
        self.lost()
        self._refusal = words
        self._ready.set()
