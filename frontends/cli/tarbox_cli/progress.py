"""What is said while something takes long, on standard error and only on a terminal: the progress line of transfers, or a word."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from tarbox_cli.output import complain, human

T = TypeVar("T")

_EVERY = 0.1  # seconds between two drawings
_BAR = 24


class Progress:
    """Counts files and bytes; draws when `shown`. With `total` bytes known it draws a bar, else only the counts."""

    def __init__(self, shown: bool | None = None) -> None:
        self.shown = _on_terminal() if shown is None else shown
        self.total: int | None = None
        self.files = 0
        self.bytes = 0
        self._started = time.monotonic()
        self._drawn = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.clear()

    def add(self, size: int = 0, files: int = 0) -> None:
        self.bytes += size
        self.files += files
        if self.shown:
            now = time.monotonic()
            if now - self._drawn >= _EVERY:
                self._drawn = now
                self._draw(now)

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        if self.shown and self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _draw(self, now: float) -> None:
        seconds = max(now - self._started, 0.001)
        rate = self.bytes / seconds
        line = f"{self.files} files  {human(self.bytes)}B  {human(rate)}B/s"
        if self.total:
            part = min(self.bytes / self.total, 1.0)
            full = int(part * _BAR)
            left = (self.total - self.bytes) / rate if rate else 0.0
            line = f"[{'#' * full}{'.' * (_BAR - full)}] {part:4.0%}  {line}  {int(left) // 60}:{int(left) % 60:02d} left"
        sys.stderr.write(f"\r{line}\x1b[K")
        sys.stderr.flush()


def patiently(work: Callable[[], T], words: str, after: float = 1.0) -> T:
    """What `work` gives, which mostly takes no time; should it go on for more than `after` seconds, it is told what it is.

    It runs in a thread of its own, so that Ctrl-C is heard while it is in machine code; it is left alone then.
    """
    import threading
    from concurrent.futures import Future, wait

    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    if not wait([done], after).done and _on_terminal():
        complain(words)
    return done.result()


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
