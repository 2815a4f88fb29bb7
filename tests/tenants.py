"""A tenant for tests: made in a database, entered by any number of sessions, checked by fsck at the end.

Not here: servers and databases (tests/conftest.py), and which test gets which tenant (the folders' conftest.py).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from tarbox_core import check, tenant
from tarbox_core.control import ControlledFilesystem
from tarbox_core.drivers import migrate
from tarbox_core.drivers.base import Driver
from tarbox_core.drivers.packing import pack
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.effects import Op
from tarbox_core.errors import FsError
from tarbox_core.filesystem import Filesystem
from tarbox_core.handles import FileHandle
from tarbox_core.packing import Packed
from tarbox_core.types import ROOT_INO, Attr, Caller, Entry, TenantInfo

R = TypeVar("R")
ROOT = Caller(0, 0, (), 1)
BLOCK = 4096  # small, so that tests cross blocks, chunks and the end of inline content often

_names = itertools.count(1)


def prepare(url: str) -> str:
    """Give a database its schema."""
    with SyncDriver(url, pool_size=1) as driver:
        migrate.init(driver)
    return url


class Session:
    """One Filesystem with a driver of its own, and the verbs that tests want in one word. Paths are absolute bytes."""

    def __init__(self, driver: Driver, fs: Filesystem, caller: Caller = ROOT) -> None:
        self.driver = driver
        self.fs = fs
        self.caller = caller

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        return self.driver.run(factory, durable=durable)

    def attr(self, path: bytes, *, follow: bool = False) -> Attr:
        return self.run(lambda: self.fs.resolve(self.caller, path, follow=follow))

    def exists(self, path: bytes) -> bool:
        try:
            self.attr(path)
        except FsError:
            return False
        return True

    def at(self, path: bytes) -> tuple[int, bytes]:
        """The directory's inode and the last name of a path."""
        parent, name = self.run(lambda: self.fs.resolve_parent(self.caller, path))
        return parent.ino, name

    def mkdir(self, path: bytes, mode: int = 0o755) -> Attr:
        where = self.at(path)
        return self.run(lambda: self.fs.mkdir(self.caller, *where, mode))

    def create(self, path: bytes, mode: int = 0o644) -> FileHandle:
        where = self.at(path)
        return self.run(lambda: self.fs.create(self.caller, *where, mode, exclusive=True))[1]

    def open(self, path: bytes, **how: bool) -> FileHandle:
        ino = self.attr(path, follow=True).ino
        return self.run(lambda: self.fs.open(self.caller, ino, **how))

    def close(self, opened: FileHandle) -> None:
        self.run(lambda: opened.release(self.caller))

    def write(self, path: bytes, data: bytes, offset: int = 0) -> int:
        """Write to a file, which is made where it is missing; flushed when this returns. Its inode number."""
        opened = self.open(path, write=True) if self.exists(path) else self.create(path)
        self.run(lambda: opened.write(self.caller, offset, data))
        self.close(opened)
        return opened.ino

    def read(self, path: bytes) -> bytes:
        opened = self.open(path)
        try:
            return self.run(lambda: opened.read(self.caller, 0, 1 << 40))
        finally:
            self.close(opened)

    def truncate(self, path: bytes, size: int) -> Attr:
        ino = self.attr(path).ino
        return self.run(lambda: self.fs.setattr(self.caller, ino, size=size))

    def unlink(self, path: bytes) -> None:
        where = self.at(path)
        self.run(lambda: self.fs.unlink(self.caller, *where))

    def rmdir(self, path: bytes) -> None:
        where = self.at(path)
        self.run(lambda: self.fs.rmdir(self.caller, *where))

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        source, target = self.at(old), self.at(new)
        self.run(lambda: self.fs.rename(self.caller, *source, *target, flags))

    def link(self, old: bytes, new: bytes) -> Attr:
        ino, where = self.attr(old).ino, self.at(new)
        return self.run(lambda: self.fs.link(self.caller, ino, *where))

    def symlink(self, target: bytes, path: bytes) -> Attr:
        where = self.at(path)
        return self.run(lambda: self.fs.symlink(self.caller, *where, target))

    def entries(self, path: bytes = b"/", limit: int = 1000) -> list[Entry]:
        """All entries of a directory but "." and ".."."""
        ino = self.attr(path).ino if path != b"/" else ROOT_INO
        folder = self.run(lambda: self.fs.opendir(self.caller, ino))
        found: list[Entry] = []
        offset = 0
        while page := self.run(lambda: folder.read(self.caller, offset, limit)):  # noqa: B023
            found += page
            offset = page[-1].offset
        return found[2:]

    def names(self, path: bytes = b"/") -> list[bytes]:
        return [entry.name for entry in self.entries(path)]

    def flush_records(self) -> None:
        self.run(lambda: self.fs.flush_records())


class Tenant:
    """A fresh tenant of a prepared database."""

    def __init__(self, url: str, *, block_size: int = BLOCK, max_file_size: int = 1 << 40) -> None:
        self.url = url
        self.owner = SyncDriver(url, pool_size=1)
        name = f"t{next(_names)}"
        self.info = self.owner.run(lambda: tenant.create(name, block_size=block_size, max_file_size=max_file_size, now=time.time_ns()))
        self.damaged = False  # by the test, on purpose: not checked at the end
        self._sessions: list[Session] = []

    def session(self, *, caller: Caller = ROOT, enforce: bool = False, alone: bool = True, pool_size: int = 2, branch: str = "main", **more: Any) -> Session:
        """A session of its own on the tenant. `alone` as in the core's Session: nobody else can have files open."""
        driver = SyncDriver(self.url, role=self.info.role, pool_size=pool_size)
        attached = driver.run(lambda: tenant.attach(self.info, branch))
        return self.through(driver, attached, caller=caller, enforce=enforce, alone=alone, **more)

    def through(self, driver: Driver, attached: TenantInfo, *, caller: Caller = ROOT, enforce: bool = False, alone: bool = True, **more: Any) -> Session:
        """A session of its own through a driver, which it closes at its end."""
        fs = ControlledFilesystem(attached, time.time_ns, enforce=enforce, **more)
        fs.session.alone = alone
        session = Session(driver, fs, caller)
        self._sessions.append(session)
        return session

    def view(self, word: str) -> Session:
        """A read-only session on a layer."""
        driver = SyncDriver(self.url, role=self.info.role, pool_size=1)
        fs = ControlledFilesystem(driver.run(lambda: tenant.attach(self.info)), time.time_ns, enforce=False, read_only=True)
        seen = driver.run(lambda: fs.view(word))
        session = Session(driver, ControlledFilesystem(seen, time.time_ns, enforce=False, view=True))
        self._sessions.append(session)
        return session

    def lose(self, session: Session) -> None:
        """End a session as a crash does: nothing is flushed or released."""
        self._sessions.remove(session)
        session.driver.close()

    def end_sessions(self) -> None:
        """Release what tests left open, and close the sessions."""
        for session in self._sessions:
            for opened in list(session.fs.session.files.values()):
                opened.refs = 1
                session.close(opened)
            session.flush_records()
            session.driver.close()
        self._sessions.clear()

    def fsck(self, *, repair: bool = False, alone: bool = True, layers: bool = False) -> list[check.Finding]:
        with self._own_session(alone) as session:
            return session.run(lambda: check.fsck(session.fs, repair=repair, layers=layers))

    def pack(self) -> Packed:
        with self._own_session() as session:
            return pack(session.driver, session.fs)

    def gc(self) -> check.Swept:
        with self._own_session() as session:
            pack(session.driver, session.fs)
            return session.run(lambda: check.gc(session.fs))

    @contextmanager
    def _own_session(self, alone: bool = True) -> Iterator[Session]:
        session = self.session(alone=alone, pool_size=1)
        self._sessions.remove(session)
        with closing(session.driver):
            yield session

    def finish(self) -> None:
        """End it all; fsck must find nothing in a tenant that was not damaged on purpose."""
        try:
            self.end_sessions()
            if not self.damaged:
                with self._own_session() as session:
                    findings = session.run(lambda: check.fsck(session.fs, layers=True))
                    # What one of several sessions unlinked stays stored until a gc.
                    assert all(finding.kind == "unlinked" for finding in findings), f"fsck found damage after the test: {findings}"
                    pack(session.driver, session.fs)
                    swept = session.run(lambda: check.gc(session.fs))
                    if swept != check.Swept(0, 0, 0, 0):
                        findings = session.run(lambda: check.fsck(session.fs, layers=True))
                    assert not findings, f"fsck found damage after gc: {findings}"
        finally:
            self.owner.close()
