"""A man in the middle for the drivers' tests: TCP or TLS in front of a server's Unix socket, cut where a test says."""

from __future__ import annotations

import socket
import ssl
import threading
from types import TracebackType
from typing import Self

SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"


class Proxy:
    """Listens on a port of its own. `hold` keeps the server's replies back; `cut` breaks every connection.

    `mute(marker)`: from the request that contains the marker on, replies are swallowed, and `muted` is set once the
    server has replied; the request itself has then been carried out.
    """

    def __init__(self, upstream: str, context: ssl.SSLContext | None = None) -> None:
        self._upstream = upstream
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.muted = threading.Event()
        self.encrypted = 0
        self._marker: bytes | None = None
        self._silent = False
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def mute(self, marker: bytes) -> None:
        self._marker = marker

    def cut(self) -> None:
        self._silent, self._marker = False, None
        for stream in list(self._open):
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            if self._context is not None:
                if client.recv(8, socket.MSG_PEEK) == SSL_REQUEST:
                    client.recv(8)
                    client.sendall(b"S")
                    client = self._context.wrap_socket(client, server_side=True)
                    self.encrypted += 1
            server.connect(self._upstream)
            self._open += [client, server]
            if isinstance(client, ssl.SSLSocket):
                self._pump_tls(client, server)
                return
            up = threading.Thread(target=self._pump, args=(client, server, True), daemon=True)
            up.start()
            self._pump(server, client, False)
            up.join(20)
        except OSError:
            return  # the client did not like what it saw
        finally:
            client.close()
            server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if upwards:
                    if self._marker is not None and self._marker in data:
                        self._silent = True
                elif self._silent:
                    self.muted.set()
                    continue
                sink.sendall(data)
        except OSError:
            pass
        for stream in (source, sink):
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _pump_tls(self, client: ssl.SSLSocket, server: socket.socket) -> None:
        """Both ways in one thread, since a TLS object is not for two."""
        import select

        client.setblocking(False)
        server.setblocking(False)
        upwards = downwards = b""
        while True:
            try:
                data = client.recv(1 << 16)
                if not data:
                    return
                upwards += data
            except ssl.SSLWantReadError:
                pass
            try:
                data = server.recv(1 << 16)
                if not data:
                    return
                downwards += data
            except BlockingIOError:
                pass
            try:
                while upwards:
                    upwards = upwards[server.send(upwards):]
            except BlockingIOError:
                pass
            try:
                while downwards:
                    downwards = downwards[client.send(downwards):]
            except ssl.SSLWantWriteError:
                pass
            select.select([client, server], [client] * bool(downwards) + [server] * bool(upwards), [], 0.2)
