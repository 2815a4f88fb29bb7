"""Everything that one guest sees: its arguments and environment, its descriptors, and the tenant's tree behind them.

`World.call` serves every call: under the world's lock, in the guest's thread, with an errno for an answer whatever happens.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

from tarbox_core.control import ControlledFilesystem
from tarbox_core.drivers.base import Driver
from tarbox_core.effects import Op
from tarbox_core.errors import DiskFullError, FsError, TarboxError
from tarbox_core.types import Caller
from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, Refused
from tarbox_wasi.calls import CALLS
from tarbox_wasi.descriptors import Stdio, Table
from tarbox_wasi.extras import Extra, FixedDirectory
from tarbox_wasi.tree import TreeDirectory
from tarbox_wasi.waiting import Waiter

R = TypeVar("R")

log = logging.getLogger("tarbox.wasi")

DIRTY_MAX: Final = 64 << 20  # bytes that may wait in memory to be stored
_CHECK_EVERY: Final = 1 << 20  # bytes written between two looks at that
_LINGER_MAX: Final = 256  # new files that may wait beyond their close
_INHERITING: Final = abi.DIRECTORY_RIGHTS | abi.FILE_RIGHTS


class Preopen(NamedTuple):
    """A directory that the guest has from the start: one of the tree (an inode number), or one of extras."""

    name: bytes
    ino: int | None = None
    extras: Mapping[bytes, Extra] | None = None


class World:
    """One guest's. `args` with the program's name first, `env` as b"KEY=value", `stdio` host descriptors.

    Another thread may take `lock`, to do its own work on the same Filesystem between two calls, and may `cancel`. Calls that wait
    let go of the lock meanwhile.
    """

    def __init__(
        self, driver: Driver, fs: ControlledFilesystem, caller: Caller, *, args: Sequence[bytes] = (), env: Sequence[bytes] = (),
        preopens: Sequence[Preopen] = (), stdio: tuple[int, int, int] = (0, 1, 2), umask: int = 0o022,
    ) -> None:  # fmt: skip
        self.driver = driver
        self.fs = fs
        self.caller = caller
        self.args = args
        self.env = env
        self.umask = umask
        self.kills_suid = caller.uid != 0
        self.lock = threading.RLock()
        self.waiter = Waiter()
        self.monotonic_zero = time.monotonic_ns()  # what the guest's monotonic clock counts from
        self.trouble: TarboxError | None = None  # what was behind the last IO, for whoever reports on the guest
        self.lost: TarboxError | None = None  # why a file could not be stored whose close was long over
        self.move: Callable[[Callable[[], Op[int]]], int] = self._move  # runs a write that may move the head; a door has its own
        self.tops = {preopen.ino for preopen in preopens if preopen.ino is not None}
        self._unchecked = 0
        self.descriptors = Table()
        for number, (host, right) in enumerate(zip(stdio, (abi.FD_READ, abi.FD_WRITE, abi.FD_WRITE), strict=True)):
            self.descriptors.put(number, Stdio(self, host, right))
        for number, preopen in enumerate(preopens, 1):
            self._add(preopen, abi.TREE_DEVICE + number)
        self._handlers = {name: partial(call.handler, self) for name, call in CALLS.items()}

    def _add(self, preopen: Preopen, device: int) -> None:
        made: TreeDirectory | FixedDirectory
        if preopen.ino is not None:
            made = TreeDirectory(self, preopen.ino, abi.DIRECTORY_RIGHTS, _INHERITING)
        else:
            made = FixedDirectory(self, preopen.extras or {}, device, abi.DIRECTORY_RIGHTS, _INHERITING)
        made.preopen = preopen.name
        self.descriptors.add(made)

    # --- calls

    def call(self, name: str, memory: memoryview, args: Sequence[int]) -> int:
        """Serve a call of preview1 (one of `CALLS`) with the guest's memory and the arguments as unsigned numbers; its errno."""
        with self.lock:
            try:
                return self._handlers[name](memory, *args)
            except Refused as refused:
                return refused.code
            except FsError as error:
                return abi.from_host(error.errno)
            except DiskFullError as error:
                self.trouble = error
                return Errno.NOSPC
            except TarboxError as error:
                self.trouble = error
                return Errno.IO
            except Exception:
                log.exception("%s failed", name)
                return Errno.IO

    @contextlib.contextmanager
    def unlocked(self) -> Iterator[None]:
        """Let go of the lock that `call` holds, to wait or to speak to the host: what the guest has done is seen from now on."""
        self.publish()
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()

    def cancel(self) -> None:
        """Have every call that waits, or would, answer INTR. From any thread."""
        self.waiter.cancel()

    # --- running operations

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        return self.driver.run(factory, durable=durable)

    def meet(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        """Run an operation that may come upon new files that were closed, or that others may see: these files are stored first."""
        self.publish()
        return self.run(factory, durable=durable)

    def change(self, ino: int, factory: Callable[[], Op[R]]) -> R:
        """Run a change of an inode, which others may see unless it is a new file."""
        opened = self.fs.session.opened(ino)
        return self.meet(factory) if opened is None or opened.new is None else self.run(factory)

    def wrote(self, size: int) -> None:
        """A file took so many bytes: where too much waits to be stored, the writer waits until it is."""
        self._unchecked += size
        if self._unchecked >= _CHECK_EVERY:
            self._unchecked = 0
            if self.fs.dirty_bytes() > DIRTY_MAX:
                self.store()

    def publish(self) -> TarboxError | None:
        """Store the new files that were closed; the last failure. They wait until the guest might let anybody know of them, or for
        a second, or until they are many. What is lost for good is the guest's failure at its end."""
        failure: TarboxError | None = None
        for file in [file for file in self.fs.session.waiting.values() if file.closing]:
            try:
                self.run(partial(file.flush, self.caller))
            except TarboxError as error:
                self.trouble = failure = error
                if not file.dirty:
                    self.lost = self.lost or error
        return failure

    def closed(self) -> None:
        """A file was closed."""
        if len(self.fs.session.waiting) > _LINGER_MAX:
            self.publish()

    def store(self) -> None:
        """Store whatever is dirty, each file in an operation of its own; raises the first failure after trying all."""
        first: TarboxError | None = None
        for opened in self.fs.dirty_files(self.fs.session.clock()):
            try:
                self.run(partial(opened.flush, self.caller))
            except TarboxError as error:
                first = first or error
        if first is not None:
            raise first

    def sync(self) -> None:
        """Store everything, and harden it."""
        self.store()
        self.run(lambda: self.fs.sync(self.caller), durable=True)

    def _move(self, factory: Callable[[], Op[int]]) -> int:
        self.store()
        return self.run(factory, durable=True)

    def close(self) -> None:
        """The guest has ended: let go of everything that it has open. Raises the first failure after trying all."""
        with self.lock:
            failure = self.publish()
            first = self.lost or failure
            for number in self.descriptors.numbers():
                try:
                    self.descriptors.remove(number).close()
                except TarboxError as error:
                    first = first or error
            self.waiter.close()
        if first is not None:
            raise first
