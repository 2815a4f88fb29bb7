"""A tenant's tree as a door that keeps files open: seen by other doors, hearing of them, and making way for them.

While a guest runs, a thread beside it hears what other doors change and where they move the head, stores what has been
dirty for a second, and writes the batches of the audit. It and the guest's calls hold the World's lock in turns.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from tarbox_core.check import reap
from tarbox_core.control import ControlledFilesystem
from tarbox_core.drivers.presence import Changes, Presence, store
from tarbox_core.effects import Op
from tarbox_core.errors import FsError, LayerError, TarboxError
from tarbox_core.layer import MAIN
from tarbox_core.types import Caller, TenantInfo
from tarbox_wasi.running import StuckError
from tarbox_wasi.world import Preopen, World

if TYPE_CHECKING:
    from tarbox_core.compare import Change
    from tarbox_core.drivers.base import Driver
    from tarbox_core.drivers.dsn import Dsn
    from tarbox_core.file import OpenFile
    from tarbox_core.layer import Layer

R = TypeVar("R")

log = logging.getLogger("tarbox.wasi")

ROOT: Final = {b"/": b"/"}

_LISTEN: Final = 1.0  # seconds between two looks at who is there, and at what is due to be stored
_STORE_AFTER: Final = 1_000_000_000  # ns that a file may stay dirty
_PATIENCE: Final = 8.0  # seconds for a call to end; less than who asks us to be quiet has
_JOIN: Final = 5.0  # seconds for the thread beside the guest to end
_CONNECTIONS: Final = 2  # for the guest's calls, and for the thread beside them


class Door:
    """A tree with its driver. `enter` before anything is opened, `leave` at the end; one guest at a time."""

    def __init__(self, dsn: Dsn, driver: Driver, fs: ControlledFilesystem, caller: Caller) -> None:
        self.driver = driver
        self.fs = fs
        self.caller = caller
        self._presence = Presence(dsn, fs, attentive=True)
        self._accompanied = False  # other doors were there at some time
        self._stuck = False  # a guest waits in a call and does not end

    def enter(self) -> None:
        """Be seen by other doors. Where there are any, this takes the seconds in which they notice."""
        try:
            self._presence.enter()
            self._accompanied = not self.fs.session.alone
            self.driver.run(self.fs.refresh)  # before that, nobody had to tell us of a move
        except BaseException:
            self._presence.leave()
            raise

    def leave(self) -> None:
        """Harden everything, and be gone. Whatever fails, the connection is closed."""
        try:
            if self._stuck:
                return
            self.driver.run(lambda: self.fs.sync(self.caller), durable=not self.fs.session.read_only)
            if self._accompanied:
                self._reap()
        finally:
            self._presence.leave()

    def _reap(self) -> None:
        """Remove what other doors unlinked while this one might have had it open. What is left, a mount or gc removes."""
        try:
            self._presence.look()
            self.driver.run(lambda: reap(self.fs))
        except TarboxError as error:
            log.warning("what was unlinked meanwhile is left for gc: %s", error)

    # --- layers

    def checkpoint(self, message: str) -> Layer:
        """A layer of the tree as it is now."""
        layer = self.move(lambda: self.fs.checkpoint(self.caller, None, message))
        assert layer is not None  # only an automatic checkpoint may make none
        return layer

    def changes(self, layer: Layer) -> list[Change]:
        """What changed since that layer."""
        return self.driver.run(lambda: self.fs.changes(layer.id))

    def move(self, factory: Callable[[], Op[R]], unlocked: Callable[[], AbstractContextManager[None]] = nullcontext) -> R:
        """Run an operation that may move the head, durably, with all stored before, here and at the other doors.

        `unlocked`: a guest's call lets go of its lock while other doors are waited for, so that this one can answer a door
        that was earlier. Besides what the operation raises: LayerError, where a dirty file cannot be stored, or other doors
        do not come to rest. Nothing is changed then.
        """
        with ExitStack() as stack:
            with unlocked():
                others = stack.enter_context(self._presence.quiet(self.driver))
            store(self.fs, self._store)
            try:
                return self.driver.run(lambda: others.guard(factory()), durable=True)
            except TarboxError:
                with suppress(TarboxError):
                    self.driver.run(self.fs.refresh)  # it may be the answer alone that was lost
                raise

    def _store(self, opened: OpenFile) -> None:
        self.driver.run(lambda: opened.flush(self.caller))

    # --- a guest

    @contextmanager
    def guest(
        self, *, args: Sequence[bytes] = (b"guest",), env: Mapping[bytes, bytes] | None = None, dirs: Mapping[bytes, bytes] = ROOT,
        stdio: tuple[int, int, int] = (0, 1, 2), more: Sequence[Preopen] = (),
    ) -> Iterator[World]:  # fmt: skip
        """A World on this tree. What the guest left open is closed at the end, and stored.

        `dirs`: what the guest finds at a name, as directories of the tenant by their paths; `more`: preopens that are none
        of its. FsError with the path where one is no directory.
        """
        preopens = [*self.preopens(dirs), *more]
        world = World(
            self.driver, self.fs, self.caller, args=args, env=[b"%s=%s" % pair for pair in (env or {}).items()], preopens=preopens, stdio=stdio
        )
        world.move = lambda factory: self.move(factory, world.unlocked)
        beside = _Beside(self, world)
        beside.start()
        self.fs.session.lingers = True  # the World and the thread beside it store what lingers
        try:
            yield world
        except StuckError:
            self._stuck = True
            raise
        finally:
            self.fs.session.lingers = False
            try:
                if not self._stuck:
                    world.close()
            finally:
                beside.stop()

    def preopens(self, dirs: Mapping[bytes, bytes]) -> list[Preopen]:
        """The directories of a tenant as what a guest finds open."""
        found = []
        for name, path in dirs.items():
            try:
                attr = self.driver.run(lambda path=path: self.fs.resolve(self.caller, path + b"/"))  # type: ignore[misc]
            except FsError as error:
                raise FsError(error.errno, path) from error
            found.append(Preopen(name, attr.ino, None))
        return found

    # --- called by the thread beside the guest, on the presence or under the World's lock

    def listen(self) -> Changes:
        """What other doors changed, heard within a second."""
        self._presence.look()
        self._accompanied = self._accompanied or not self.fs.session.alone
        return self._presence.changes(0 if self._presence.asked else _LISTEN)

    def heed(self, heard: Changes) -> None:
        """What is kept in mind of what others changed is old."""
        inos = heard.inos | frozenset(self.fs.session.names.inos()) if heard.lost else heard.inos
        self.fs.changed_elsewhere(inos)

    def follow(self) -> None:
        """Go where another door moved the head."""
        self.driver.run(self.fs.refresh)

    @property
    def asked(self) -> bool:
        return self._presence.asked

    def be_quiet(self, world: World, over: Callable[[], bool]) -> Changes:
        """Another door is about to move the head: no call in work and nothing unstored until it has. What was heard meanwhile."""
        try:
            if not world.lock.acquire(timeout=_PATIENCE):
                raise LayerError(errno.EBUSY, f"a call of the guest did not end within {_PATIENCE:g} s")
            try:
                world.publish()  # it tells what is lost
                store(self.fs, self._store)
                self._presence.answer()
                heard = self._presence.until_moved(over)
                self.follow()
            finally:
                world.lock.release()
        except LayerError:
            if self._presence.asked:
                self._presence.answer(held=False)
            raise
        return heard

    def store_old(self, world: World) -> None:
        """Store what has been dirty for a while, and the records of the audit; the first failure is raised after trying all."""
        first: TarboxError | None = None
        if self.fs.dirty_files(time.time_ns() - _STORE_AFTER):
            first = world.publish()  # what was closed may have been before what is written to still
        for opened in self.fs.dirty_files(time.time_ns() - _STORE_AFTER):
            try:
                self._store(opened)
            except TarboxError as error:
                first = first or error
        self.driver.run(lambda: self.fs.flush_records())
        if first is not None:
            raise first

    def abort(self) -> None:
        """End `listen` in another thread, which raises ConnectionLost."""
        self._presence.abort()


class _Beside(threading.Thread):
    """The thread beside a guest. Trouble is logged once, until all goes well again."""

    def __init__(self, door: Door, world: World) -> None:
        super().__init__(name="beside", daemon=True)
        self._door = door
        self._world = world
        self._over = threading.Event()
        self._trouble = ""
        self._behind = False  # the head may have moved
        self._due = 0.0

    def stop(self) -> None:
        self._over.set()
        self._door.abort()
        self.join(_JOIN)

    def run(self) -> None:
        while not self._over.is_set():
            try:
                try:
                    self._listen()
                finally:
                    self._store()
                self._trouble = ""
            except Exception as error:
                if self._over.is_set():
                    return
                self._log(error)
                self._over.wait(_LISTEN)

    def _log(self, error: Exception) -> None:
        if str(error) != self._trouble:
            log.error("beside the guest: %s; trying again every second", error, exc_info=not isinstance(error, TarboxError))
        self._trouble = str(error)

    def _listen(self) -> None:
        heard = self._door.listen()
        self._behind = self._behind or heard.moved or heard.lost
        self._heed(heard)
        if self._door.asked:
            self._heed(self._door.be_quiet(self._world, self._over.is_set))
        elif self._behind:
            with self._world.lock:
                self._world.publish()  # it tells what is lost with a tree that was left
                self._door.follow()
        self._behind = False

    def _heed(self, heard: Changes) -> None:
        if heard.inos or heard.lost:
            with self._world.lock:
                self._door.heed(heard)

    def _store(self) -> None:
        if time.monotonic() >= self._due:
            with self._world.lock:
                self._door.store_old(self._world)
            self._due = time.monotonic() + _LISTEN


# --- opening


@contextmanager
def entered(dsn: Dsn, driver: Driver, fs: ControlledFilesystem, caller: Caller) -> Iterator[Door]:
    """A door on an open tree."""
    door = Door(dsn, driver, fs, caller)
    door.enter()
    try:
        yield door
    finally:
        door.leave()


@contextmanager
def open_door(
    tenant: str, database_url: str | None = None, *, branch: str = MAIN, layer: str | None = None, read_only: bool = False, audit: bool = True
) -> Iterator[Door]:
    """A door on a tenant's tree: of a branch, or as it was in a layer. TarboxError where that cannot be opened.

    `database_url`: else TARBOX_DATABASE_URL, DATABASE_URL, and at last the embedded PostgreSQL.
    """
    from tarbox_core import tenant as tenants
    from tarbox_core.drivers import embedded, migrate
    from tarbox_core.drivers.dsn import parse_url
    from tarbox_core.drivers.sync import SyncDriver

    url = database_url or os.environ.get("TARBOX_DATABASE_URL") or os.environ.get("DATABASE_URL") or embedded.start()
    dsn = parse_url(url, os.environ)
    with SyncDriver(dsn, pool_size=1) as owner:
        migrate.check(owner)
        info = owner.run(lambda: tenants.info(tenant))
    caller = Caller(os.geteuid(), os.getegid(), tuple(os.getgroups()), os.getpid())

    def tree(seen: TenantInfo, view: bool) -> ControlledFilesystem:
        return ControlledFilesystem(seen, time.time_ns, enforce=False, read_only=read_only, view=view, audit=audit, defer=not (read_only or view))

    with SyncDriver(dsn, info.role, pool_size=_CONNECTIONS) as driver:
        fs = tree(driver.run(lambda: tenants.attach(info, branch)), False)
        if layer is not None:
            fs = tree(driver.run(lambda: fs.view(layer)), True)
        with entered(dsn, driver, fs, caller) as door:
            yield door
