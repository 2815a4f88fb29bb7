"""The loop between /dev/fuse and the dispatcher. Bytes in, bytes out; no verb, no layout.

Leader and followers: one thread, the leader, reads a request and carries it to its reply by itself, so that a request
served from memory never changes threads. Only when the leader must wait, for the database or another thread's lock,
does it hand the reading to a follower, and joins them when its reply is out. Under Python's interpreter lock this beats
several threads that all read: they would fight over every request of a single client.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from tarbox_fuse import abi
from tarbox_fuse.dispatch import Reply
from tarbox_fuse.gate import Gate

log = logging.getLogger("tarbox.fuse")

# The kernel may cancel a request between its arrival and our read (ENOENT), a signal may interrupt (EINTR).
_TRY_AGAIN: Final = frozenset((errno.ENOENT, errno.EINTR, errno.EAGAIN))
# Unmounted, or cut off through /sys/fs/fuse/connections.
_ENDED: Final = frozenset((errno.ENODEV, errno.ECONNABORTED))


class Handler(Protocol):
    def handle(self, buffer: memoryview, size: int) -> Reply: ...


class Session:
    """Serves one FUSE connection with up to `threads` threads until it is unmounted. Owns `fd`.

    `on_end` is called, once, by the thread that finds the connection ended. A request is inside of `gate` until its reply
    is out.
    """

    def __init__(self, fd: int, on_end: Callable[[], None], *, threads: int = 8, max_pages: int = 256, gate: Gate | None = None) -> None:
        self.fd = fd
        self.gate = gate or Gate()
        self.ended = threading.Event()
        self._on_end = on_end
        self._reading = False  # the leader waits for a request
        self._size = max(abi.MIN_READ_BUFFER, max_pages * abi.PAGE + abi.PAGE)
        self._max = threads
        self._leadership = threading.Lock()  # who holds it may read
        self._count = threading.Lock()  # guards the two below
        self._threads: list[threading.Thread] = []
        self._waiting = 0
        self._mine = threading.local()  # .leading
        self._handler: Handler | None = None

    def start(self, handler: Handler) -> None:
        self._handler = handler
        with self._count:
            self._spawn()

    def before_wait(self) -> None:
        """Called by a thread that serves a request and is about to wait: from here on another one reads."""
        if not getattr(self._mine, "leading", False):
            return
        self._mine.leading = False
        self._leadership.release()
        if not self._waiting and len(self._threads) < self._max:
            with self._count:
                if not self._waiting and len(self._threads) < self._max:
                    self._spawn()

    def stop(self, timeout: float) -> bool:
        """Answer what is in work, then nothing more. False when something is still in work after `timeout` seconds."""
        self.ended.set()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            # A connection that is still open, by somebody's open file, leaves its leader reading and the others waiting
            # for the lead; none of them will serve anything.
            if sum(thread.is_alive() for thread in self._threads) <= self._waiting + self._reading:
                return True
            time.sleep(0.01)
        return False

    def close(self) -> None:
        os.close(self.fd)

    def _spawn(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"fuse-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _lead(self) -> None:
        with self._count:
            self._waiting += 1
        self._leadership.acquire()
        with self._count:
            self._waiting -= 1
        self._mine.leading = True

    def _serve(self) -> None:
        handler = self._handler
        assert handler is not None
        buffer = bytearray(self._size)
        view = memoryview(buffer)
        vector = [buffer]
        fd, mine, handle, readv, writev = self.fd, self._mine, handler.handle, os.readv, os.writev
        enter, leave, before_wait = self.gate.enter, self.gate.leave, self.before_wait
        mine.leading = False
        while True:
            if not mine.leading:
                self._lead()
            if self.ended.is_set():
                break
            self._reading = True
            try:
                size = readv(fd, vector)
            except OSError as error:
                if error.errno in _TRY_AGAIN:
                    continue
                if error.errno not in _ENDED:
                    log.error("reading from /dev/fuse: %s", error)
                self.ended.set()
                self._on_end()
                break
            self._reading = False
            if self.ended.is_set():
                break
            enter(before_wait)
            try:
                reply = handle(view, size)
                if reply is not None:
                    writev(fd, reply)
            except OSError as error:
                # ENOENT: the request was given up by its caller; ended connections show at the next read.
                if error.errno != errno.ENOENT and error.errno not in _ENDED:
                    log.error("the kernel refused a reply to request %d: %s", buffer[4], error)
            finally:
                leave()
        mine.leading = False
        self._leadership.release()
