"""What lies between a browser and a server: TCP that a test can cut, or let fall silent without a word to either end."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self


class Line:
    """Listens on a port of its own. Its end is `to`, which may be named later."""

    def __init__(self) -> None:
        self.to = 0  # the server's port
        self._open: set[socket.socket] = set()
        self._silent: set[socket.socket] = set()  # those that were open when it fell silent
        self._lost: set[socket.socket] = set()  # of which nothing passes again
        self._up, self._down = threading.Event(), threading.Event()  # whether anything passes to the server, and from it
        self.heal()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self, *, answers: bool = False) -> None:
        """From now on nothing arrives, on old connections or new ones; with `answers` only nothing of the server's."""
        self._silent = set(self._open)
        self._down.clear()
        if not answers:
            self._up.clear()

    def heal(self) -> None:
        """What was begun since passes; the connections that fell silent stay so."""
        self._lost |= self._silent
        self._up.set()
        self._down.set()

    def cut(self) -> None:
        """Both ends are told."""
        for stream in list(self._open):
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.heal()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            self._open |= {client, server}
            for source, sink, passing in ((client, server, self._up), (server, client, self._down)):
                threading.Thread(target=self._pump, args=(source, sink, passing), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, passing: threading.Event) -> None:
        try:
            while data := source.recv(1 << 16):
                passing.wait()
                if source not in self._lost:
                    sink.sendall(data)
        except OSError:
            pass
        passing.wait()
        for stream in (source, sink):
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._open -= {source, sink}
        source.close()
