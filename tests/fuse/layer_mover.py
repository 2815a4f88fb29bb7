"""A program that makes, switches, squashes, packs and collects layers over and over, and says what it does. For tests/fuse/test_layer_crash.py.

    python -m tests.fuse.layer_mover URL TENANT MOUNT VERB

Checkpoints and switches go through the mount's control files, the rest through the core. On standard output, a line each:
`sealed ID HASH`, a layer and what its whole tree hashes to; `squashing ID` and `squashed ID`, one that a squash takes away; `begin` and
`done`, around each use of VERB.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tarbox_core import check, tenant
from tarbox_core.drivers.packing import pack
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.filesystem import Filesystem
from tests.pg.test_layer_model import shown
from tests.tenants import ROOT, Session

FILES = 12


def enter(url: str, name: str) -> Session:
    with SyncDriver(url, pool_size=1) as owner:
        info = owner.run(lambda: tenant.info(name))
    driver = SyncDriver(url, role=info.role, pool_size=1)
    return Session(driver, Filesystem(driver.run(lambda: tenant.attach(info)), time.time_ns, enforce=False))


def tree_hash(session: Session, ident: str) -> str:
    """Of everything that a sealed layer shows."""
    seen = session.run(lambda: session.fs.view(ident))
    tree = shown(Session(session.driver, session.fs.look(seen)))
    return hashlib.sha256(repr(sorted(tree.items())).encode()).hexdigest()


class Mover:
    def __init__(self, url: str, name: str, mount: str, verb: str) -> None:
        self.session = enter(url, name)
        self.root = Path(mount)
        self.layers = self.root / ".tarbox/layers"
        self.verb = verb
        self.random = random.Random(os.getpid())

    def say(self, *words: str) -> None:
        os.write(1, (" ".join(words) + "\n").encode())

    @contextmanager
    def told(self, verb: str) -> Iterator[None]:
        if verb == self.verb:
            self.say("begin")
        yield
        if verb == self.verb:
            self.say("done")

    def edit(self) -> None:
        """Some lines of some files, every other one by rename; one file is removed, one linked. For a moment after a crash of the server
        the kernel still knows names of files that were lost with it."""
        for number in self.random.sample(range(FILES), 4):
            path, beside = self.root / f"file{number}", self.root / f"file{number}.new"
            with suppress(FileNotFoundError):
                lines = path.read_text().splitlines() if path.exists() else []  # a crash may have come between its two halves
                lines = lines or [f"line {n} of {number} " + "x" * 40 for n in range(150 * (number % 4) + 20)]
                for _ in range(3):
                    lines[self.random.randrange(len(lines))] = f"changed {self.random.random()}"
                (path if number % 2 else beside).write_text("\n".join(lines) + "\n")
                if number % 2 == 0:
                    beside.rename(path)
        with suppress(FileNotFoundError, FileExistsError):
            (self.root / f"file{self.random.randrange(FILES)}").unlink()
        with suppress(FileNotFoundError, FileExistsError):
            os.link(self.root / f"file{self.random.randrange(FILES)}", self.root / f"link{self.random.randrange(3)}")

    def checkpoint(self) -> str:
        with self.told("checkpoint"):
            (self.layers / "new").write_text("\n")
        ident = (self.layers / "current").read_text().split()[0]
        ident = self.session.run(lambda: self.session.fs.layer(ident)).id
        self.say("sealed", ident, tree_hash(self.session, ident))
        return ident

    def cycle(self) -> None:
        made = []
        for _ in range(3):
            self.edit()
            made.append(self.checkpoint())
        for word in (made[0], "-"):
            self.edit()
            with self.told("switch"):
                (self.layers / "switch").write_text(word + "\n")
        fs = self.session.fs
        self.say("squashing", made[1])
        with self.told("squash"):
            self.session.run(lambda: fs.squash(ROOT, made[1], made[2]), durable=True)
        self.say("squashed", made[1])
        with self.told("pack"):
            pack(self.session.driver, fs)
        with self.told("gc"):
            self.session.run(lambda: check.gc(fs), durable=True)


if __name__ == "__main__":
    mover = Mover(*sys.argv[1:])
    while True:
        mover.cycle()
