"""Waiting for the host's files and for time, so that another thread can call it off."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

READABLE: Final = select.POLLIN
WRITABLE: Final = select.POLLOUT
HUNG_UP: Final = select.POLLHUP

_LONGEST: Final = 1 << 30  # ms, what poll takes at once


class Waiter:
    """`cancel` may be called from any thread, and from a signal handler; the rest from one thread at a time."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._heard, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        self._closing = threading.RLock()
        self._closed = False
        self.cancelled = False

    def wait(self, files: Mapping[int, int], until: int | None = None) -> dict[int, int] | None:
        """The files (host descriptors, each with the poll events wanted) for which something happened: none once the clock shows
        `until` (ns), None after `cancel`."""
        poll = select.poll()
        poll.register(self._heard, READABLE)
        for file, events in files.items():
            poll.register(file, events)
        while not self.cancelled:
            left = None if until is None else max(0, until - self._clock())
            happened = dict(poll.poll(None if left is None else min(left // 1_000_000, _LONGEST)))
            if happened.pop(self._heard, None):
                break
            if happened:
                return happened
            if left is not None and left < 1_000_000:  # poll counts in milliseconds
                time.sleep(left / 1e9)
                return dict(poll.poll(0)) if files else {}
        return None

    def cancel(self) -> None:
        """End what waits, and whatever will."""
        self.cancelled = True
        with self._closing:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):  # it was rung often enough
                    os.write(self._bell, b"!")

    def close(self) -> None:
        with self._closing:
            self._closed = True
            os.close(self._heard)
            os.close(self._bell)
