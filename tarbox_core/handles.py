"""What doors may do with what is open, whatever it is of: a stored file (`file.OpenFile`), one of a sealed layer, a control file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tarbox_core.effects import Op
from tarbox_core.types import Attr, Caller, Entry


class FileHandle(Protocol):
    """An open file. Each open wants its release."""

    @property
    def ino(self) -> int: ...

    @property
    def direct(self) -> bool:
        """Its content is made when it is opened and its size is not known before: a kernel must not keep its pages."""
        ...

    @property
    def moves_head(self) -> bool:
        """A write to it may move the head: to be run with durable=True, after all that is dirty was flushed."""
        ...

    @property
    def keep_cache(self) -> bool:
        """What a kernel has of its pages from the last open is what is stored."""
        ...

    @property
    def stale(self) -> bool:
        """It belongs to a tree that another has replaced: it can be read as it was, and no longer changed."""
        ...

    @property
    def dirty(self) -> bool:
        """Something written is still to be stored."""
        ...

    def attr(self) -> Attr: ...
    def read(self, caller: Caller, offset: int, size: int, *, final: bool = True) -> Op[bytes]: ...
    def write(self, caller: Caller, offset: int, data: bytes | memoryview, *, append: bool = False, kill_suid: bool = False) -> Op[int]: ...
    def truncate(self, caller: Caller, size: int, *, kill_suid: bool = False) -> Op[None]: ...
    def fallocate(self, caller: Caller, mode: int, offset: int, length: int) -> Op[None]: ...
    def seek(self, caller: Caller, offset: int, whence: int) -> Op[int]: ...
    def flush(self, caller: Caller) -> Op[None]: ...
    def fsync(self, caller: Caller) -> Op[None]: ...
    def release(self, caller: Caller) -> Op[None]: ...


class DirHandle(Protocol):
    """An open directory."""

    @property
    def ino(self) -> int: ...

    def read(self, caller: Caller, offset: int, limit: int, *, plus: bool = True) -> Op[Sequence[Entry]]:
        """At most `limit` entries from the cookie on, "." and ".." first; none at the end. `plus`: with attributes, where
        they are at hand."""
        ...
