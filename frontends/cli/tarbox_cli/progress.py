"""The progress line of long transfers, on standard error and only on a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tarbox_cli.output import human

_EVERY = 0.1  # seconds between two drawings
_BAR = 24


class Progress:
    """Counts files and bytes; draws when `shown`. With `total` bytes known it draws a bar, else only the counts."""

    def __init__(self, shown: bool | None = None) -> None:
        self.shown = sys.stderr is not None and sys.stderr.isatty() if shown is None else shown
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
