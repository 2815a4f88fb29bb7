"""A guest's calls beside those of the operating system: the same calls on a tenant and on a directory of the host, at random,
on few names, with the same answers; and what another door sees in between is the same tree.

TARBOX_MODEL_SEED and TARBOX_MODEL_CALLS make another walk, or a longer one.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, Filetype
from tarbox_wasi.door import Door
from tarbox_wasi.world import World
from tests.tenants import Session
from tests.wasi.calling import WRITE, Failed, Guest
from tests.wasi.helpers import Runner

NAMES = (b"a", b"b", b"c", b"d")
FOLDERS = (b"a/", b"b/", b"d/", b"a/b/", b"a/../")
TARGETS = (b"a", b"b", b"b/../a", b"b/c", b"nowhere", b"d")  # none of which leads out, for the host would follow it
SIZES = (0, 1, 100, 5000, 70_000)
OPEN_MAX = 8
SEED = os.environ.get("TARBOX_MODEL_SEED", "1")
CALLS = os.environ.get("TARBOX_MODEL_CALLS", "1500")
SECOND = 10**9

KINDS = {stat.S_IFREG: Filetype.REGULAR_FILE, stat.S_IFDIR: Filetype.DIRECTORY, stat.S_IFLNK: Filetype.SYMBOLIC_LINK}

# Of two reasons to refuse a call, the host names another one first.
EITHER = {(Errno.PERM, Errno.EXIST), (Errno.NOTDIR, Errno.INVAL), (Errno.ISDIR, Errno.NOTEMPTY)}


class Pair(NamedTuple):
    """One open file on both sides."""

    fd: int  # the guest's
    host: int


class Machine:
    """Both sides. Each method that begins with `do_` is a call at random."""

    def __init__(self, door: Door, world: World, other: Session, folder: Path, seed: int) -> None:
        self.door = door
        self.world = world
        self.other = other
        self.guest = Guest(world)
        self.random = random.Random(seed)
        self.top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.files: list[Pair] = []
        self.said: list[str] = []
        self.calls = [(name, getattr(self, name)) for name in dir(self) if name.startswith("do_")]
        self.weights = [WEIGHTS.get(name, 4) for name, _ in self.calls]
        self.succeeded = 0

    def step(self) -> None:
        name, call = self.random.choices(self.calls, self.weights)[0]
        self.said.append(name)
        call()

    def close(self) -> None:
        for pair in self.files:
            os.close(pair.host)
        os.close(self.top)

    # --- chance

    def path(self) -> bytes:
        folder = self.random.choice(FOLDERS) if self.random.random() < 0.4 else b""
        return folder + self.random.choice(NAMES)

    def file(self) -> Pair | None:
        return self.random.choice(self.files) if self.files else None

    def data(self) -> bytes:
        return self.random.randbytes(self.random.choice(SIZES))

    # --- comparing

    def both(self, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[Any, Any] | None:
        """What both answer; None where both refuse, for the same reason."""
        there: Any = None
        try:
            there = theirs()
            reason = Errno.SUCCESS
        except OSError as error:
            assert error.errno is not None
            reason = abi.from_host(error.errno)
        here: Any = None
        try:
            here = ours()
            code = Errno.SUCCESS
        except Failed as failed:
            code = failed.code
        self.said[-1] += f" {code.name}"
        assert code == reason or (code, reason) in EITHER, f"{code.name}, the host: {reason.name}"
        self.succeeded += not code
        return None if code else (here, there)

    def same(self, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
        answers = self.both(ours, theirs)
        if answers is not None:
            assert answers[0] == answers[1], f"{answers[0]!r:.300}, the host: {answers[1]!r:.300}"

    def say(self, *words: object) -> None:
        self.said[-1] += f" {words}"

    # --- open files

    def do_open(self) -> None:
        if len(self.files) >= OPEN_MAX:
            return
        path, follow = self.path(), self.random.random() < 0.8
        oflags = self.random.choice((0, abi.CREAT, abi.CREAT, abi.CREAT | abi.EXCL, abi.TRUNC, abi.CREAT | abi.TRUNC))
        append = self.random.random() < 0.2
        flags = os.O_RDWR | (0 if follow else os.O_NOFOLLOW) | (os.O_APPEND if append else 0)
        for ours, theirs in ((abi.CREAT, os.O_CREAT), (abi.EXCL, os.O_EXCL), (abi.TRUNC, os.O_TRUNC)):
            flags |= theirs if oflags & ours else 0
        self.say(path, oflags, follow, append)
        opened = self.both(
            lambda: self.guest.open(path, oflags, rights=WRITE, flags=abi.APPEND * append, lookup=int(follow)),
            lambda: os.open(path, flags, 0o644, dir_fd=self.top),
        )  # fmt: skip
        if opened is not None:
            self.files.append(Pair(*opened))

    def do_close(self) -> None:
        if pair := self.file():
            self.say(pair)
            self.files.remove(pair)
            self.same(lambda: self.guest.close(pair.fd), lambda: os.close(pair.host))

    def do_renumber(self) -> None:
        pair, to = self.file(), self.file()
        if pair and to and pair is not to:
            self.say(pair, to)
            self.guest.call("fd_renumber", pair.fd, to.fd)
            os.close(to.host)
            self.files.remove(to)
            self.files[self.files.index(pair)] = Pair(to.fd, pair.host)

    def do_read(self) -> None:
        if pair := self.file():
            size = self.random.choice(SIZES)
            self.say(pair, size)
            self.same(lambda: self.guest.read(pair.fd, size), lambda: os.read(pair.host, size))

    def do_pread(self) -> None:
        if pair := self.file():
            size, offset = self.random.choice(SIZES), self.random.choice(SIZES)
            self.say(pair, size, offset)
            self.same(lambda: self.guest.pread(pair.fd, size, offset), lambda: os.pread(pair.host, size, offset))

    def do_write(self) -> None:
        if pair := self.file():
            data = self.data()
            self.say(pair, len(data))
            self.same(lambda: self.guest.write(pair.fd, data), lambda: os.write(pair.host, data))

    def do_pwrite(self) -> None:
        if pair := self.file():
            data, offset = self.data(), self.random.choice(SIZES)
            self.say(pair, len(data), offset)
            self.same(lambda: self.guest.pwrite(pair.fd, data, offset), lambda: os.pwrite(pair.host, data, offset))

    def do_seek(self) -> None:
        if pair := self.file():
            offset, whence = self.random.choice((-100, 0, 1, 5000)), self.random.choice((0, 1, 2))
            self.say(pair, offset, whence)
            self.same(lambda: self.guest.seek(pair.fd, offset, whence), lambda: os.lseek(pair.host, offset, whence))

    def do_set_size(self) -> None:
        if pair := self.file():
            size = self.random.choice(SIZES)
            self.say(pair, size)
            self.same(lambda: self.guest.call("fd_filestat_set_size", pair.fd, size), lambda: os.truncate(pair.host, size))

    def do_allocate(self) -> None:
        if pair := self.file():
            offset, size = self.random.choice(SIZES), self.random.choice(SIZES[1:])
            self.say(pair, offset, size)
            self.same(lambda: self.guest.call("fd_allocate", pair.fd, offset, size), lambda: os.posix_fallocate(pair.host, offset, size))
            self.set_times(pair)  # whether these change where nothing else does is the host's affair

    def do_fstat(self) -> None:
        if pair := self.file():
            self.say(pair)
            self.stats(lambda: self.guest.fstat(pair.fd), lambda: os.fstat(pair.host))

    def do_sync(self) -> None:
        if pair := self.file():
            self.say(pair)
            self.same(lambda: self.guest.call(self.random.choice(("fd_sync", "fd_datasync")), pair.fd), lambda: None)

    def do_set_file_times(self) -> None:
        if pair := self.file():
            self.set_times(pair)

    def set_times(self, pair: Pair) -> None:
        mtime = self.random.randrange(1 << 32) * SECOND
        self.say(pair, mtime)
        self.same(
            lambda: self.guest.call("fd_filestat_set_times", pair.fd, mtime, mtime, abi.ATIM | abi.MTIM),
            lambda: os.utime(pair.host, ns=(mtime, mtime)),
        )  # fmt: skip

    # --- names

    def do_stat(self) -> None:
        path, follow = self.path(), self.random.random() < 0.5
        self.say(path, follow)
        self.stats(lambda: self.guest.stat(path, lookup=int(follow)), lambda: os.stat(path, dir_fd=self.top, follow_symlinks=follow))

    def stats(self, ours: Callable[[], abi.Filestat], theirs: Callable[[], os.stat_result]) -> None:
        answers = self.both(ours, theirs)
        if answers is None:
            return
        here, there = answers
        kind = KINDS[stat.S_IFMT(there.st_mode)]
        assert here.filetype == kind
        if kind != Filetype.DIRECTORY:
            assert (here.nlink, here.size) == (there.st_nlink, there.st_size)
        assert (here.mtim % SECOND == 0) == (there.st_mtime_ns % SECOND == 0), "only times that were set are whole seconds"
        if here.mtim % SECOND == 0:
            assert here.mtim == there.st_mtime_ns

    def do_set_times(self) -> None:
        path, follow = self.path(), self.random.random() < 0.5
        mtime = self.random.randrange(1 << 32) * SECOND
        self.say(path, follow, mtime)
        self.same(
            lambda: self.guest.call("path_filestat_set_times", 3, int(follow), *self.guest.put(path), mtime, mtime, abi.ATIM | abi.MTIM),
            lambda: os.utime(path, ns=(mtime, mtime), dir_fd=self.top, follow_symlinks=follow),
        )  # fmt: skip

    def do_content(self) -> None:
        path = self.path()
        self.say(path)
        self.same(lambda: self.guest.content(path), lambda: self.host_content(path))

    def host_content(self, path: bytes) -> bytes:
        fd = os.open(path, os.O_RDONLY, dir_fd=self.top)
        try:
            return os.read(fd, 1 << 19)
        finally:
            os.close(fd)

    def do_list(self) -> None:
        path = self.random.choice((b"", *FOLDERS)) + b"."
        self.say(path)
        self.same(lambda: sorted(self.guest.names(path)), lambda: self.host_names(path))

    def host_names(self, path: bytes) -> list[bytes]:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.top)
        try:
            return sorted([b".", b"..", *map(os.fsencode, os.listdir(fd))])
        finally:
            os.close(fd)

    def do_make(self) -> None:
        """A small file in one go, as most are."""
        path, data = self.path(), self.data()
        self.say(path, len(data))
        self.same(lambda: self.guest.create(path, data, oflags=abi.CREAT | abi.TRUNC), lambda: self.host_make(path, data))

    def host_make(self, path: bytes, data: bytes) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=self.top)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    def do_mkdir(self) -> None:
        path = self.path()
        self.say(path)
        self.same(lambda: self.guest.mkdir(path), lambda: os.mkdir(path, dir_fd=self.top))

    def do_rmdir(self) -> None:
        path = self.path()
        self.say(path)
        self.same(lambda: self.guest.rmdir(path), lambda: os.rmdir(path, dir_fd=self.top))

    def do_unlink(self) -> None:
        path = self.path()
        self.say(path)
        self.same(lambda: self.guest.unlink(path), lambda: os.unlink(path, dir_fd=self.top))

    def do_symlink(self) -> None:
        path, target = self.path(), self.random.choice(TARGETS)
        self.say(target, path)
        self.same(lambda: self.guest.symlink(target, path), lambda: os.symlink(target, path, dir_fd=self.top))

    def do_readlink(self) -> None:
        path = self.path()
        self.say(path)
        self.same(lambda: self.guest.readlink(path), lambda: os.readlink(path, dir_fd=self.top))

    def do_link(self) -> None:
        path, new = self.path(), self.path()
        self.say(path, new)
        self.same(
            lambda: self.guest.link(path, new), lambda: os.link(path, new, src_dir_fd=self.top, dst_dir_fd=self.top, follow_symlinks=False)
        )  # fmt: skip

    def do_rename(self) -> None:
        path, new = self.path(), self.path()
        self.say(path, new)
        self.same(lambda: self.guest.rename(path, new), lambda: os.rename(path, new, src_dir_fd=self.top, dst_dir_fd=self.top))

    # --- beside the guest

    def do_store(self) -> None:
        with self.world.lock:
            self.world.store()

    def do_checkpoint(self) -> None:
        with self.world.lock:
            self.door.checkpoint("in between")

    def do_look(self) -> None:
        """Another door sees what the guest let anybody know of."""
        with self.world.lock, self.world.unlocked():
            pass
        self.other.run(self.other.fs.refresh)
        open_here = {os.fstat(pair.host).st_ino for pair in self.files}
        self.compare(b"/top", self.top, open_here)

    def compare(self, path: bytes, folder: int, open_here: set[int]) -> None:
        names = sorted(map(os.fsencode, os.listdir(folder)))
        shut = [name for name in names if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino not in open_here]
        seen = self.other.names(path)
        assert set(shut) <= set(seen) <= set(names), (path, seen, names)
        for name in shut:
            there, here = os.stat(name, dir_fd=folder, follow_symlinks=False), self.other.attr(path + b"/" + name)
            assert stat.S_IFMT(there.st_mode) == stat.S_IFMT(here.mode), (path, name)
            if stat.S_ISDIR(there.st_mode):
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
                try:
                    self.compare(path + b"/" + name, below, open_here)
                finally:
                    os.close(below)
            elif stat.S_ISREG(there.st_mode):
                fd = os.open(name, os.O_RDONLY, dir_fd=folder)
                try:
                    assert self.other.read(path + b"/" + name) == os.read(fd, 1 << 19), path + b"/" + name
                finally:
                    os.close(fd)
                assert here.nlink == there.st_nlink


WEIGHTS = {"do_open": 10, "do_make": 10, "do_close": 6, "do_unlink": 8, "do_checkpoint": 0.3, "do_look": 0.7, "do_store": 1, "do_renumber": 1}


def test_calls_at_random_are_answered_as_the_host_answers_them(runner: Runner, tmp_path: Path) -> None:
    runner.tenant.session().mkdir(b"/top")
    other = runner.tenant.session(read_only=True)
    with runner.door() as door, door.guest(dirs={b"/": b"/top"}) as world:
        machine = Machine(door, world, other, tmp_path, int(SEED))
        try:
            for _ in range(int(CALLS)):
                machine.step()
            machine.said.append("at the end")
            machine.do_look()
        except Exception as error:
            last = "\n".join(machine.said[-40:])
            error.add_note(f"seed {SEED}, trouble {world.trouble!r}, {len(machine.said)} calls, the last:\n{last}")
            raise
        finally:
            machine.close()
    assert machine.succeeded > int(CALLS) // 4, "a walk that gets nowhere finds nothing"
