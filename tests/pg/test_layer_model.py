"""Random operations and verbs of layers at the core, beside a plain model that keeps whole trees (tests/layer_machine.py).

Two doors on the main branch, where one hears nothing of the other until it looks; or one, whose new files wait in memory.
Deadlocks are thrown into operations at random trips. TARBOX_MODEL_WALKS and TARBOX_MODEL_EXAMPLES say how often, as for
tests/posix/test_model.py.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tarbox_core import check
from tarbox_core.drivers.base import Driver
from tarbox_core.drivers.packing import pack
from tarbox_core.effects import Op
from tarbox_core.filesystem import Filesystem
from tests.disturbed import disturbed
from tests.layer_machine import LayerMachine, Listed, Seen, walk
from tests.layer_model import MAIN, Shown
from tests.tenants import ROOT, Session, Tenant

R = TypeVar("R")

WALKS = int(os.environ.get("TARBOX_MODEL_WALKS", "3"))
EXAMPLES = int(os.environ.get("TARBOX_MODEL_EXAMPLES", "5"))


class Unreliable:
    """A driver that lets operations run into deadlocks now and then."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._random = random.Random(0)

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        return self._driver.run(disturbed(factory, self._random.choice([None, None, None, None, 0, 1, 2, 3])), durable=durable)

    def close(self) -> None:
        self._driver.close()


class CoreDoor:
    """A session of the core on a branch."""

    def __init__(self, tenant: Tenant, branch: str, session: Session) -> None:
        self._tenant = tenant
        self._session = Session(Unreliable(session.driver), session.fs)
        self._opened = session
        self.branch = branch
        self.behind = False
        s = self._session
        self.truncate, self.unlink, self.rmdir, self.rename, self.link = s.truncate, s.unlink, s.rmdir, s.rename, s.link
        self.mkdir, self.symlink = s.mkdir, s.symlink

    @property
    def fs(self) -> Filesystem:
        return self._session.fs

    def run(self, verb: Callable[[Filesystem], Op[R]]) -> R:
        return self._session.run(lambda: verb(self.fs), durable=True)

    def refresh(self) -> None:
        self.run(lambda fs: fs.refresh())

    def create(self, path: bytes, mode: int) -> None:
        self._session.close(self._session.create(path, mode))

    def mkfifo(self, path: bytes, mode: int) -> None:
        where = self._session.at(path)
        self.run(lambda fs: fs.mknod(ROOT, *where, 0o010000 | mode))

    def write(self, path: bytes, data: bytes, offset: int) -> None:
        self._session.write(path, data, offset)

    def chmod(self, path: bytes, mode: int) -> None:
        ino = self._session.attr(path).ino
        self.run(lambda fs: fs.setattr(ROOT, ino, mode=mode))

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        ino, mode = self._session.attr(path).ino, self._session.attr(path).mode
        self.run(lambda fs: fs.setattr(ROOT, ino, uid=uid, gid=gid, mode=mode))

    def setxattr(self, path: bytes, name: bytes, value: bytes | None) -> None:
        ino = self._session.attr(path).ino
        self.run(lambda fs: fs.removexattr(ROOT, ino, name) if value is None else fs.setxattr(ROOT, ino, name, value))

    def show(self) -> Seen:
        return shown(self._session)

    def look(self, word: str) -> Seen:
        seen = self.run(lambda fs: fs.view(word))
        return shown(Session(self._session.driver, self.fs.look(seen)))

    def layers(self) -> list[Listed]:
        return [Listed(y.id, y.name, y.parent_id, y.automatic, y.branch) for y in self.run(lambda fs: fs.layers())]

    def checkpoint(self, name: str | None, automatic: bool) -> None:
        self.run(lambda fs: fs.checkpoint(ROOT, name, automatic=automatic))

    def switch(self, word: str) -> None:
        self.run(lambda fs: fs.switch(ROOT, word))

    def make_branch(self, name: str, word: str) -> None:
        self.run(lambda fs: fs.make_branch(ROOT, name, word))

    def delete_branch(self, name: str) -> None:
        self.run(lambda fs: fs.delete_branch(ROOT, name))

    def delete_layer(self, word: str) -> None:
        self.run(lambda fs: fs.delete_layer(ROOT, word))

    def squash(self, first: str, last: str) -> None:
        self.run(lambda fs: fs.squash(ROOT, first, last))

    def gc(self) -> None:
        pack(self._session.driver, self.fs)
        self.run(lambda fs: check.gc(fs))

    def close(self) -> None:
        self._tenant.lose(self._opened)


def shown(session: Session) -> Seen:
    """All that a tree shows: by path what the model knows, and the times."""
    root = session.run(lambda: session.fs.getattr(1))
    stack, found = [(b"/", root)], Seen()
    while stack:
        path, attr = stack.pop()
        content = None
        if attr.is_dir:
            folder = session.run(lambda: session.fs.opendir(ROOT, attr.ino))  # noqa: B023
            page = session.run(lambda: folder.read(ROOT, 2, 1000, plus=True))  # noqa: B023
            stack += [(path.rstrip(b"/") + b"/" + entry.name, entry.attr) for entry in page if entry.attr is not None]
        elif attr.is_symlink:
            content = session.run(lambda: session.fs.readlink(ROOT, attr.ino))  # noqa: B023
        elif attr.is_reg:
            opened = session.run(lambda: session.fs.open(ROOT, attr.ino))  # noqa: B023
            content = session.run(lambda: opened.read(ROOT, 0, 1 << 40))  # noqa: B023
            session.close(opened)
        names = session.run(lambda: session.fs.listxattr(ROOT, attr.ino))  # noqa: B023
        xattrs = {name: session.run(lambda: session.fs.getxattr(ROOT, attr.ino, name)) for name in names}  # noqa: B023
        what = Shown(attr.ino, attr.kind, attr.mode & 0o7777, attr.uid, attr.gid, attr.nlink, content, xattrs)
        found[path] = what, (attr.mtime, attr.ctime)
    return found


class CoreScene:
    def __init__(self, url: str, *, alone: bool) -> None:
        self.tenant = Tenant(url)
        self.alone = alone

    def open_doors(self, branch: str) -> list[CoreDoor]:
        how = {"branch": branch, "alone": self.alone, "defer": self.alone, "pool_size": 1}
        return [CoreDoor(self.tenant, branch, self.tenant.session(**how)) for _ in range(2 if branch == MAIN and not self.alone else 1)]

    def finish(self) -> None:
        self.tenant.finish()


@pytest.fixture(params=[False, True], ids=["two doors", "one door alone"])
def machine(request: pytest.FixtureRequest, schema_url: str) -> type[LayerMachine]:
    def make_scene() -> CoreScene:
        return CoreScene(schema_url, alone=request.param)

    return type("Machine", (LayerMachine,), {"make_scene": staticmethod(make_scene)})


def test_random_operations_and_layers(machine: type[LayerMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True,
                          report_multiple_bugs=False),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(WALKS))
def test_a_long_random_walk_over_layers(machine: type[LayerMachine], seed: int) -> None:
    walker = walk(machine, seed, 160)
    assert len(walker.model.layers) > 2
