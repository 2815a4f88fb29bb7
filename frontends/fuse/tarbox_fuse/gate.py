"""The gate that every request passes: any number at a time, or one thread alone while the head moves.

Passing costs two steps on a list, each of which no other thread can split: who goes in adds itself first and looks
whether the gate is closed then, who closes it does so first and looks whether anybody is inside then.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tarbox_core.errors import LayerError


class Gate:
    """Not reentrant: who is inside and wants to be alone goes `outside` first."""

    def __init__(self) -> None:
        self._inside: list[None] = []
        self._closed = False
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # of who wants to be alone

    def enter(self, before_wait: Callable[[], None] | None = None) -> None:
        """Go in, as soon as nobody is alone inside."""
        self._inside.append(None)
        while self._closed:
            self.leave()
            if before_wait is not None:
                before_wait()
            with self._changed:
                self._changed.wait_for(lambda: not self._closed)
            self._inside.append(None)

    def try_enter(self) -> bool:
        """Go in, unless that means waiting."""
        self._inside.append(None)
        if self._closed:
            self.leave()
            return False
        return True

    def leave(self) -> None:
        self._inside.pop()
        if self._closed:
            with self._changed:
                self._changed.notify_all()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """For who is inside: let go for a while."""
        self.leave()
        try:
            yield
        finally:
            self.enter()

    @contextmanager
    def alone(self, timeout: float) -> Iterator[None]:
        """Nobody else inside. LayerError (EBUSY) when those who are in do not leave within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        if not self._turn.acquire(timeout=timeout):
            raise LayerError(errno.EBUSY, f"layers were being made or switched for {timeout:g} s: try again")
        try:
            self._closed = True
            with self._changed:
                if not self._changed.wait_for(lambda: not self._inside, deadline - time.monotonic()):
                    raise LayerError(errno.EBUSY, f"what was in work did not end within {timeout:g} s: try again")
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
            self._turn.release()
