"""What one connection may cost, whoever it is: as uvicorn has them, with bounds that it lacks.

There are so many at once. A request comes whole before long, or the connection ends; so it does where a handshake cannot be read. A
message has so many fragments, however small they are; and who does not take pongs gets no more than the last.
"""

from __future__ import annotations

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from tarbox_browser.sockets import MISUSED

AT_ONCE: Final = 400  # connections; beside their files the database's need room below the usual 1024
PATIENCE: Final = 30.0  # seconds within which a request comes
FRAGMENTS: Final = 1 << 14  # of a message

_COMING: Final = (h11.IDLE, h11.SEND_BODY)  # states of a client whose request is not whole


class Connection(H11Protocol):
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > AT_ONCE:
            transport.abort()
        else:
            self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        """Begin to wait for a request, or end that."""
        if self.conn.their_state not in _COMING or self.transport.get_protocol() is not self:
            self._rest()
        elif self._late is None:
            self._late = self.loop.call_later(PATIENCE, self.transport.abort)

    def _rest(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class SocketConnection(WebSocketsSansIOProtocol):
    _pong = b""  # that waits until there is room

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            return
        if len(self.frames) >= FRAGMENTS:
            self.conn.fail(MISUSED, "a message of too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self._pong = b"".join(self.conn.data_to_send()) or self._pong

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._pong and not self.close_sent:
            self.transport.write(self._pong)
        self._pong = b""
