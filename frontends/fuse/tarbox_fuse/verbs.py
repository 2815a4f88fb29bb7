"""The filesystem's verbs as both transports call them: run to their end, locked per inode, on numbered handles.

Here and nowhere else: which operations need an inode to themselves, the table of open handles, and when what is dirty
gets flushed. Not here: bytes of any protocol, errno of any reply. A transport calls them inside of `gate`.

Operations that touch the contents of a file hold that inode's lock for their whole run, because the core's open files
let in either several readers or one thread alone. `getattr` and `lookup` take none: a stat never waits for a flush. What flushes
several files takes one lock at a time; whoever needs two takes them in order, so nobody waits in a circle.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tarbox_core.control_files import CommandFile
from tarbox_core.drivers.base import Driver
from tarbox_core.effects import Batch, Op, Rows
from tarbox_core.errors import FsError, LayerError, TarboxError
from tarbox_core.filesystem import Filesystem, OpenFile
from tarbox_core.handles import DirHandle, FileHandle
from tarbox_core.types import Attr, Caller, Entry
from tarbox_fuse.gate import Gate
from tarbox_fuse.kernel import Kernel, tree_of
from tarbox_fuse.moving import Mover

if TYPE_CHECKING:
    from tarbox_core.drivers.presence import Presence

R = TypeVar("R")

log = logging.getLogger("tarbox.fuse")

_STRIPES: Final = 64
_CHECK_EVERY: Final = 1 << 20  # bytes written between two looks at how much is dirty
_FLUSH_AFTER: Final = 1_000_000_000  # ns a file may stay dirty


def _nothing() -> None:
    return None


def _resume(op: Op[R], batch: Batch) -> Generator[Batch, list[Rows], R]:
    """Continue an operation that has already asked for its first batch."""
    try:
        while True:
            try:
                rows = yield batch
            except GeneratorExit:
                op.close()
                raise
            except BaseException as error:
                batch = op.throw(error)
            else:
                batch = op.send(rows)
    except StopIteration as done:
        result: R = done.value
        return result


class _Stripe:
    """The lock of every 64th inode. `with stripe:` is for one thread alone, `with stripe.shared:` for any number of
    readers. Who waits to be alone keeps new readers out."""

    __slots__ = ("_before_wait", "_free", "_mutex", "_readers", "_turn", "shared")

    def __init__(self, before_wait: Callable[[], None]) -> None:
        self._turn = threading.Lock()  # held while one gets in
        self._free = threading.Lock()  # held while one is in alone, or any reader is in
        self._mutex = threading.Lock()  # guards the count of readers
        self._readers = 0
        self._before_wait = before_wait
        self.shared = _Shared(self)

    def _take(self, lock: threading.Lock) -> None:
        if not lock.acquire(False):
            self._before_wait()
            lock.acquire()

    def __enter__(self) -> None:
        self._take(self._turn)
        self._take(self._free)
        self._turn.release()

    def __exit__(self, *_: object) -> None:
        self._free.release()

    def enter_shared(self) -> None:
        self._take(self._turn)
        with self._mutex:
            self._readers += 1
            first = self._readers == 1
        if first:
            self._take(self._free)
        self._turn.release()

    def exit_shared(self) -> None:
        with self._mutex:
            self._readers -= 1
            if not self._readers:
                self._free.release()


class _Shared:
    __slots__ = ("_stripe",)

    def __init__(self, stripe: _Stripe) -> None:
        self._stripe = stripe

    def __enter__(self) -> None:
        self._stripe.enter_shared()

    def __exit__(self, *_: object) -> None:
        self._stripe.exit_shared()


class Verbs:
    """Runs a Filesystem's operations for one mount; any number of threads.

    `before_wait` is called by a thread before it waits for the database or for another thread's lock.
    """

    def __init__(
        self, fs: Filesystem, driver: Driver, clock: Callable[[], int], *,
        budget: int = 64 << 20, before_wait: Callable[[], None] = _nothing, gate: Gate | None = None, kernel: Kernel | None = None,
        presence: Presence | None = None,
    ) -> None:  # fmt: skip
        self.fs = fs
        self.driver = driver
        self.before_wait = before_wait
        self.gate = gate or Gate()
        self.mover = Mover(self, kernel, presence)
        self._clock = clock
        self._budget = budget
        self._unchecked = 0
        self._stripes = [_Stripe(before_wait) for _ in range(_STRIPES)]
        self._numbers = itertools.count(1)
        self._files: dict[int, FileHandle] = {}
        self._writers: dict[int, int] = {}  # the inodes of handles that may write
        self._dirs: dict[int, DirHandle] = {}
        self._trouble = ""

    # --- running

    def run(self, factory: Callable[[], Op[R]]) -> R:
        """Run an operation. One that never asks for the database ends here, without a transaction and without the driver."""
        op = factory()
        try:
            batch = next(op)
        except StopIteration as done:
            result: R = done.value
            return result
        self.before_wait()
        started: list[Op[R]] = [_resume(op, batch)]
        return self.driver.run(lambda: started.pop() if started else factory())

    def run_durable(self, factory: Callable[[], Op[R]]) -> R:
        """Run an operation and harden it, and all before it, in the database."""
        self.before_wait()
        return self.driver.run(factory, durable=True)

    def _lock(self, ino: int) -> _Stripe:
        return self._stripes[ino % _STRIPES]

    # --- handles

    def file(self, fh: int) -> FileHandle:
        """KeyError for a handle that was never given out: the transport's own fault."""
        return self._files[fh]

    def written(self) -> set[int]:
        """The inodes that are open for writing."""
        return set(self._writers.values())

    def left_open(self, ino: int, tree: int) -> FileHandle | None:
        """A file of an earlier tree (as kernel.tree_of gives it) that is still open."""
        files = (opened for opened in list(self._files.values()) if isinstance(opened, OpenFile) and opened.ino == ino and opened.stale)
        return next((opened for opened in files if tree_of(opened.generation) == tree), None)

    def open(self, caller: Caller, ino: int, *, write: bool, **how: bool) -> tuple[int, FileHandle]:
        with self._lock(ino):
            opened = self.run(lambda: self.fs.open(caller, ino, write=write, **how))
        return self._keep(opened, write), opened

    def create(self, caller: Caller, parent: int, name: bytes, mode: int, *, exclusive: bool, truncate: bool) -> tuple[int, Attr, FileHandle]:
        attr, opened = self.run(lambda: self.fs.create(caller, parent, name, mode, exclusive=exclusive))
        fh = self._keep(opened, True)
        if truncate and attr.size:  # somebody else made it since the kernel looked
            attr = self.setattr(caller, attr.ino, size=0)
        return fh, attr, opened

    def _keep(self, opened: FileHandle, write: bool) -> int:
        fh = next(self._numbers)
        self._files[fh] = opened
        if write:
            self._writers[fh] = opened.ino
        return fh

    def opendir(self, caller: Caller, ino: int) -> int:
        opened = self.run(lambda: self.fs.opendir(caller, ino))
        fh = next(self._numbers)
        self._dirs[fh] = opened
        return fh

    def readdir(self, caller: Caller, fh: int, offset: int, limit: int, plus: bool) -> Sequence[Entry]:
        opened = self._dirs[fh]
        return self.run(lambda: opened.read(caller, offset, limit, plus=plus))

    def releasedir(self, fh: int) -> None:
        del self._dirs[fh]

    # --- contents

    def read(self, caller: Caller, fh: int, offset: int, size: int) -> bytes:
        opened = self._files[fh]
        with self._lock(opened.ino).shared:
            return self.run(lambda: opened.read(caller, offset, size))

    def write(self, caller: Caller, fh: int, offset: int, data: bytes | memoryview, append: bool, kill_suid: bool) -> int:
        opened = self._files[fh]
        if isinstance(opened, CommandFile):
            return self._command(opened, lambda: opened.write(caller, offset, data, append=append))
        with self._lock(opened.ino):
            written = self.run(lambda: opened.write(caller, offset, data, append=append, kill_suid=kill_suid))
            self._unchecked += written
            if self._unchecked >= _CHECK_EVERY:
                self._unchecked = 0
                if self.fs.dirty_bytes() > self._budget:
                    self.run(lambda: opened.flush(caller))  # the writer waits: that is the back-pressure
        return written

    def _command(self, opened: CommandFile, factory: Callable[[], Op[int]]) -> int:
        try:
            with self.gate.outside():
                return self.mover.move(factory)
        except LayerError as error:  # before it was begun
            opened.refused(error)
            raise FsError(error.errno, opened.ino) from error

    def flush(self, caller: Caller, fh: int) -> None:
        opened = self._files[fh]
        with self._lock(opened.ino):
            self.run(lambda: opened.flush(caller))

    def fsync(self, caller: Caller, fh: int) -> None:
        opened = self._files[fh]
        with self._lock(opened.ino):
            self.run_durable(lambda: opened.fsync(caller))

    def release(self, caller: Caller, fh: int) -> None:
        opened = self._files.pop(fh)
        self._writers.pop(fh, None)
        with self._lock(opened.ino):
            self.run(lambda: opened.release(caller))

    def fallocate(self, caller: Caller, fh: int, mode: int, offset: int, length: int) -> None:
        opened = self._files[fh]
        with self._lock(opened.ino):
            self.run(lambda: opened.fallocate(caller, mode, offset, length))

    def seek(self, caller: Caller, fh: int, offset: int, whence: int) -> int:
        opened = self._files[fh]
        with self._lock(opened.ino):
            return self.run(lambda: opened.seek(caller, offset, whence))

    def copy(self, caller: Caller, source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
        src, dst = self._files[source], self._files[target]
        first, second = sorted((src.ino % _STRIPES, dst.ino % _STRIPES))
        with self._lock(first):
            if first == second:
                return self.run(lambda: self.fs.copy_range(caller, src, source_offset, dst, target_offset, length))
            with self._lock(second):
                return self.run(lambda: self.fs.copy_range(caller, src, source_offset, dst, target_offset, length))

    def setattr(self, caller: Caller, ino: int, **changes: Any) -> Attr:
        with self._lock(ino):
            return self.run(lambda: self.fs.setattr(caller, ino, **changes))

    # --- the whole

    def sync(self, caller: Caller) -> None:
        self._flush(caller, self._clock())
        self.run_durable(lambda: self.fs.sync(caller))

    def store(self, opened: FileHandle) -> None:
        """Flush a file, whose changes are no longer anybody's in particular."""
        with self._lock(opened.ino):
            self.run(partial(opened.flush, Caller()))

    def tick(self) -> None:
        """About once a second: flush what has been dirty for a second, and see that the kernel is where the head is. Trouble
        is logged once, and tried again."""
        try:
            if self.gate.try_enter():  # while the head moves, everything is flushed anyhow
                try:
                    self._flush(Caller(), self._clock() - _FLUSH_AFTER)
                    self.run(lambda: self.fs.flush_records())
                finally:
                    self.gate.leave()
            self.mover.look()
        except TarboxError as error:
            if str(error) != self._trouble:
                log.error("flushing in the background: %s; trying again every second", error)
            self._trouble = str(error)
        except Exception as error:  # a bug must not take the mount with it
            if str(error) != self._trouble:
                log.exception("flushing in the background failed; trying again every second")
            self._trouble = str(error)
        else:
            if self._trouble:
                log.warning("flushing in the background works again")
            self._trouble = ""

    def _flush(self, caller: Caller, older_than: int) -> None:
        """Store the files dirty since before then, each in an operation of its own; raises the first failure after trying all."""
        first: TarboxError | None = None
        for opened in self.fs.dirty_files(older_than):
            try:
                with self._lock(opened.ino):
                    self.run(partial(opened.flush, caller))
            except TarboxError as error:
                first = first or error
        if first is not None:
            raise first

    def finish(self) -> None:
        """The mount is gone: end what is still open, and harden everything. Raises the first failure after trying all."""
        first: TarboxError | None = None
        for fh in list(self._files):
            try:
                self.release(Caller(), fh)
            except TarboxError as error:
                first = first or error
        self._dirs.clear()
        try:
            self.sync(Caller())
        except TarboxError as error:
            first = first or error
        if first is not None:
            raise first
