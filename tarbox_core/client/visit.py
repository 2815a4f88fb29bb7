"""One operation's visit to the tree: a Filesystem of its own, and who comes.

Nothing but blocks and inode numbers is kept from one visit to the next, since nobody tells this door what others change:
each visit looks, with its first trip, where the head stands. What an aborted transaction had seen is so forgotten by
itself. An open file keeps its visit.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from tarbox_core import audit
from tarbox_core import statements as sql
from tarbox_core.control import ControlledFilesystem
from tarbox_core.effects import Batch, Op
from tarbox_core.errors import FsError, RetryableError
from tarbox_core.session import Session
from tarbox_core.types import Attr, Caller

R = TypeVar("R")


class Visit(NamedTuple):
    """`fs` with the session of this visit."""

    fs: ControlledFilesystem
    caller: Caller
    umask: int
    saw: Callable[[Session], None]  # where the head stands now
    settled: bool = False  # the head cannot move: the transaction keeps it where it is

    @property
    def session(self) -> Session:
        return self.fs.session

    def mode(self, wanted: int) -> int:
        return wanted & ~self.umask & 0o7777

    def attr(self, path: bytes, *, follow: bool = True) -> Op[Attr]:
        return self.fs.resolve(self.caller, path, follow=follow)

    def place(self, path: bytes, nameless: int = errno.EINVAL) -> Op[tuple[int, bytes]]:
        """The directory and the last name of a path that is to be made, moved or removed. `nameless`: the error where the last is
        no name of an entry, but "/", "." or ".."."""
        before, _, last = path.rstrip(b"/").rpartition(b"/")
        if path and last in (b"", b".", b".."):
            yield from self.attr(before + b"/")
            raise FsError(nameless, path)
        parent, name = yield from self.fs.resolve_parent(self.caller, path)
        return parent.ino, name

    def free_place(self, path: bytes) -> Op[tuple[int, bytes]]:
        """The same for something new that is no directory, which a path that ends in "/" cannot name."""
        where = yield from self.place(path, errno.EEXIST)
        if path.endswith(b"/"):
            yield from self.attr(path.rstrip(b"/"), follow=False)
            raise FsError(errno.EEXIST, path)
        return where

    def require_folder(self, path: bytes) -> Op[None]:
        """ENOTDIR for what is no directory by itself, as a path that ends in "/" says."""
        attr = yield from self.attr(path.rstrip(b"/"), follow=False)
        if not attr.is_dir:
            raise FsError(errno.ENOTDIR, path)

    def looking(self, op: Op[R]) -> Op[R]:
        """The operation, which begins anew where its first trip shows that the head stands elsewhere than this door took it to."""
        if self.settled:
            return (yield from op)
        s = self.session
        looked = False
        try:
            batch = next(op)
            while True:
                try:
                    if looked or not batch.queries:
                        rows = yield batch
                    else:
                        looked = True
                        layer = s.layer
                        found, *rows = yield Batch((sql.HEAD(s.tenant, s.head), *batch.queries), batch.final)
                        self._stands(layer, found)
                except RetryableError:
                    raise
                except Exception as error:
                    batch = op.throw(error)
                else:
                    batch = op.send(rows)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            op.close()

    def _stands(self, layer: int, found: list[tuple[object, ...]]) -> None:
        s = self.session
        there, visible, epoch = found[0] if found else (None, (), 0)
        try:
            s.stands_at(there == layer, there, visible, epoch)  # type: ignore[arg-type]
        except RetryableError:
            self.saw(s)
            raise

    def reading(self, op: Op[R]) -> Op[R]:
        """An operation that only reads, and then the records of what it read, which in a transaction wait for its end. To be
        run with reading=True."""
        result = yield from self.looking(op)
        if not self.settled:
            yield from audit.flush(self.session)
        return result
