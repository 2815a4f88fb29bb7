"""kill -9 of whoever works on layers, and of PostgreSQL, in the midst of it: fsck --layers is clean afterwards, and every sealed layer
reads back as it was sealed. Each test makes sure that it killed in the act, and that there were layers to lose."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tarbox_core.drivers import embedded
from tests.fuse.helpers import Mount, mounted, wait_for
from tests.fuse.layer_mover import enter, tree_hash
from tests.fuse.test_crash import crashable, kill_postgres, works

FOLDER = Path(__file__).resolve().parents[2]
VERBS = ("checkpoint", "switch", "squash", "pack", "gc")


# Keeps the mount busy beside the mover, whatever becomes of it and of the tree; it stays on the mount when that is dead.
WRITER = """
import os, sys, time
os.chdir(sys.argv[1])
for number in range(10**9):
    try:
        os.makedirs("busy", exist_ok=True)
        with open(f"busy/{number % 20}", "w") as file:
            file.write(f"{number}\\n" * (number % 3000))
    except OSError:
        time.sleep(0.05)
    time.sleep(0.005)
"""


@contextmanager
def moving(mount: Mount, verb: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.fuse.layer_mover", mount.env["TARBOX_DATABASE_URL"], mount.tenant, str(mount.path), verb]
    with (mount.path.parent / "mover.log").open("w") as log:
        mover = subprocess.Popen(command, cwd=FOLDER, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, stdout=subprocess.PIPE, stderr=log, text=True)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(mount.path)])
    try:
        yield mover
    finally:
        for process in (mover, writer):
            process.kill()
            process.wait()
        assert mover.stdout is not None
        mover.stdout.close()


class Layers:
    """What is known of the sealed layers: what the tree of each hashed to, and which were squashed away, or were about to be."""

    def __init__(self) -> None:
        self.hashes: dict[str, str] = {}
        self.squashed: set[str] = set()
        self.squashing: set[str] = set()
        self.in_the_act = 0

    def hear(self, line: str) -> str:
        """Take note of a line; its first word."""
        match line.split():
            case ["sealed", ident, digest]:
                self.hashes[ident] = digest
            case ["squashing", ident]:
                self.squashing = {ident}
            case ["squashed", ident]:
                self.squashed.add(ident)
                self.squashing = set()
        return line.split()[0]

    def check(self, mount: Mount) -> None:
        """All of them are there, unless squashed, and read back as they were; fsck finds nothing."""
        session = enter(mount.env["TARBOX_DATABASE_URL"], mount.tenant)
        with session.driver:
            sealed = {layer.id for layer in session.run(session.fs.layers) if layer.sealed_at is not None}
            assert not sealed & self.squashed, "what was squashed came back"
            lost = self.hashes.keys() - sealed
            assert lost <= self.squashed | self.squashing, f"sealed layers are lost: {lost}"
            self.squashed |= lost
            for ident in self.hashes.keys() & sealed:
                assert tree_hash(session, ident) == self.hashes[ident], f"layer {ident} is not what it was when it was sealed"
        mount.tarbox("fsck", "--layers", "--tenant", mount.tenant)


@pytest.fixture
def durable_mount(mountable: None, tmp_path: Path, server_home: Path) -> Iterator[Mount]:
    """A mount on a server with fsync on, which the test may kill."""
    with crashable(tmp_path, embedded.start(server_home)) as mount:
        yield mount


def kill_at(mount: Mount, layers: Layers, verb: str, delay: float, kill: Callable[[subprocess.Popen[str]], None]) -> None:
    """Let all work until the verb begins the second time, and kill some seconds later."""
    with moving(mount, verb) as mover:
        assert mover.stdout is not None
        begun = 0
        while begun < 2:
            line = mover.stdout.readline()
            assert line, f"the mover ended: {(mount.path.parent / 'mover.log').read_text()}\nthe daemon's log:\n{mount.log.read_text()[-4000:]}"
            begun += layers.hear(line) == "begin"
        time.sleep(delay)
        kill(mover)
        mover.kill()
        # A last line without its end was not said.
        layers.in_the_act += "done" not in [layers.hear(line) for line in mover.stdout if line.endswith("\n")]


def seals(mount: Mount) -> bool:
    """Whether a checkpoint can be made. The first one after a crash of the server may say, as fsync does, that something was lost."""
    try:
        (mount.path / ".tarbox/layers/new").write_text("\n")
    except OSError as error:
        assert error.errno == errno.EIO, error
        return False
    return True


def test_kill_9_of_the_doors(durable_mount: Mount) -> None:
    """Of the mount for what goes through it, of the process that does the rest at the core."""
    mount, layers, chance = durable_mount, Layers(), random.Random(1)
    for verb in VERBS:

        def kill(mover: subprocess.Popen[str], verb: str = verb) -> None:
            if verb not in ("checkpoint", "switch"):
                mover.kill()
                mover.wait()
            mount.kill()

        kill_at(mount, layers, verb, chance.random() * 0.002, kill)
        wait_for(lambda: not mounted(mount.path), 15, lambda: "a dead mount was left behind")
        mount.start()
        layers.check(mount)
    assert layers.in_the_act >= 2 and len(layers.hashes) > 20, "nothing was killed in the act, or there was nothing to lose"


def test_kill_9_of_postgres(durable_mount: Mount, server_home: Path) -> None:
    mount, layers, chance = durable_mount, Layers(), random.Random(2)
    for verb in VERBS:
        kill_at(mount, layers, verb, chance.random() * 0.001, lambda mover: kill_postgres(server_home))
        assert embedded.start(server_home) == mount.env["TARBOX_DATABASE_URL"]
        layers.check(mount)
        wait_for(lambda: works(mount, "again") and seals(mount), 60, lambda: "the mount did not recover")
    assert layers.in_the_act >= 2 and len(layers.hashes) > 20, "nothing was killed in the act, or there was nothing to lose"
