"""Random operations through a mount and its control files beside the plain model (tests/layer_machine.py). What control files do not
do (branches, squash, delete, packing and gc), and the other branches, go through the core meanwhile."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuse.helpers import Mount
from tests.layer_machine import LayerMachine, Seen, walk
from tests.layer_model import MAIN, Shown
from tests.pg.test_layer_model import CoreDoor
from tests.tenants import Tenant

WALKS = int(os.environ.get("TARBOX_MODEL_WALKS", "2"))
CONTROL = b"/.tarbox/layers/"


class MountDoor(CoreDoor):
    """The mount of the main branch; its verbs of trees are the kernel's."""

    def __init__(self, tenant: Tenant, folder: Path) -> None:
        super().__init__(tenant, MAIN, tenant.session(alone=False))
        self._folder = os.fsencode(folder)
        self.unlink, self.rmdir = (lambda path: os.unlink(self._at(path))), (lambda path: os.rmdir(self._at(path)))
        self.mkdir = lambda path, mode: os.mkdir(self._at(path), mode)
        self.symlink = lambda target, path: os.symlink(target, self._at(path))
        self.rename = lambda old, new: os.rename(self._at(old), self._at(new))
        self.link = lambda old, new: os.link(self._at(old), self._at(new), follow_symlinks=False)
        self.truncate = lambda path, size: os.truncate(self._at(path), size)

    def _at(self, path: bytes) -> bytes:
        return self._folder + path

    def mkfifo(self, path: bytes, mode: int) -> None:
        os.mkfifo(self._at(path), mode)

    def create(self, path: bytes, mode: int) -> None:
        os.close(os.open(self._at(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))

    def write(self, path: bytes, data: bytes, offset: int) -> None:
        fd = os.open(self._at(path), os.O_WRONLY)
        try:
            assert os.pwrite(fd, data, offset) == len(data)
        finally:
            os.close(fd)

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        os.chown(self._at(path), uid, gid)

    def setxattr(self, path: bytes, name: bytes, value: bytes | None) -> None:
        if value is None:
            os.removexattr(self._at(path), name)
        else:
            os.setxattr(self._at(path), name, value)

    def show(self) -> Seen:
        return shown(self._folder)

    def look(self, word: str) -> Seen:
        return shown(self._folder + CONTROL + b"tree/" + word.encode())

    def _tell(self, name: bytes, word: str) -> None:
        fd = os.open(self._folder + CONTROL + name, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(fd, word.encode() + b"\n")
        finally:
            os.close(fd)

    def checkpoint(self, name: str | None, automatic: bool) -> None:
        if automatic:  # what the clock of a mount does
            super().checkpoint(name, automatic)
        else:
            self._tell(b"new", name or "")

    def switch(self, word: str) -> None:
        self._tell(b"switch", word)


def shown(root: bytes) -> Seen:
    """All that a directory shows; of a sealed layer's under the inode numbers that it has in the tree."""
    found: Seen = {}
    stack = [b""]
    while stack:
        path = stack.pop()
        at = root + path
        status = os.lstat(at)
        kind = stat.S_IFMT(status.st_mode) >> 12
        content = None
        if stat.S_ISDIR(status.st_mode):
            stack += [path + b"/" + name for name in os.listdir(at)]
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(at)
        elif stat.S_ISREG(status.st_mode):
            with open(at, "rb") as file:
                content = file.read()
            assert len(content) == status.st_size
        names = [os.fsencode(name) for name in os.listxattr(at, follow_symlinks=False)]
        xattrs = {name: os.getxattr(at, name, follow_symlinks=False) for name in names}
        ino = status.st_ino & (1 << 44) - 1
        what = Shown(ino, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_nlink, content, xattrs)
        found[path or b"/"] = what, (status.st_mtime_ns, status.st_ctime_ns)
    return found


class MountScene:
    def __init__(self, url: str, folder: Path) -> None:
        self.tenant = Tenant(url)
        self.mount = Mount(folder, self.tenant.info.name, url)
        self.mount.start()

    def open_doors(self, branch: str) -> list[CoreDoor]:
        return [MountDoor(self.tenant, self.mount.path) if branch == MAIN else CoreDoor(self.tenant, branch, self.tenant.session(branch=branch, alone=False))]

    def finish(self) -> None:
        try:
            assert not self.mount.expired, f"the mount hung; the daemon's log:\n{self.mount.log.read_text()}"
            self.mount.stop()
            assert self.mount.traceback() == ""
            self.tenant.finish()
        finally:
            self.mount.close()


@pytest.fixture
def scene(database: str, tmp_path: Path) -> Iterator[MountScene]:
    folder = tmp_path / "mnt"
    folder.mkdir()
    mask = os.umask(0)
    made = MountScene(database, folder)
    yield made
    os.umask(mask)
    made.mount.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
@pytest.mark.parametrize("seed", range(WALKS))
def test_a_long_random_walk_over_layers_through_a_mount(scene: MountScene, seed: int) -> None:
    machine = type("Machine", (LayerMachine,), {"make_scene": staticmethod(lambda: scene)})
    walker = walk(machine, seed, 120)
    assert len(walker.model.layers) > 2
