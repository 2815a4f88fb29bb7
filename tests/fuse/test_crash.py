"""What was fsynced is there after kill -9 of the mount, kill -9 of PostgreSQL, and a full disk under PostgreSQL.

Each test first makes sure that it tests something: that files had been fsynced, and that what it killed was alive and
its writers at work. The server here is the test's own, with fsync on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarbox_core.drivers import embedded
from tests.fuse.helpers import ROOT, Mount, mounted, run, wait_for

WRITERS = 4
# Writes files until it is told otherwise by an error, and reports each one that is durable: name and hash.
WRITER = """
import hashlib, os, sys
os.chdir(sys.argv[1])
number = int(sys.argv[2])
folder = f"w{number}"
os.mkdir(folder)
log = os.open(f"log{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
def report(word, name, digest):
    os.write(1, f"{word} {name} {digest}\\n".encode())
try:
    for i in range(1_000_000):
        body = os.urandom(1 + (i * 7919) % 200_000 if i % 5 else 900_000)
        name = f"{folder}/{i}"
        fd = os.open(name + ".new" if i % 3 == 0 else name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        for at in range(0, len(body), 50_000):
            os.write(fd, body[at : at + 50_000])
        os.fsync(fd)
        os.close(fd)
        if i % 3 == 0:
            os.rename(name + ".new", name)
            fd = os.open(folder, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        report("durable", name, hashlib.sha256(body).hexdigest())
        if i % 4 == 0:
            os.write(log, f"{i}\\n".encode())
            os.fsync(log)
            report("logged", f"log{number}", i)
except OSError as error:
    report("failed", os.strerror(error.errno).replace(" ", "_"), error.errno)
    os._exit(3)
"""


class Writers:
    """Four processes that write and fsync, and what they have been promised."""

    def __init__(self, mount: Mount) -> None:
        self.reports = [mount.path.parent / f"writer{i}.txt" for i in range(WRITERS)]
        self.processes = []
        for i, report in enumerate(self.reports):
            with report.open("wb") as out:
                self.processes.append(subprocess.Popen([sys.executable, "-c", WRITER, str(mount.path), str(i)], stdout=out))

    def promised(self) -> list[dict[str, str]]:
        """For each writer what it was told is durable: file -> hash, and its log -> last line."""
        # A last line without its newline was never reported in full.
        told = [[line.split() for line in report.read_text().rpartition("\n")[0].splitlines()] for report in self.reports]
        return [{name: value for word, name, value in lines if word in ("durable", "logged")} for lines in told]

    def wait_until_busy(self, files: int) -> None:
        def enough() -> bool:
            return all(len(promised) > files for promised in self.promised()) or not self.alive()

        wait_for(enough, 120, lambda: f"too few files were fsynced in 120 s: {self.promised()}")
        assert self.alive(), f"a writer ended before anything was killed: {[report.read_text()[-200:] for report in self.reports]}"

    def alive(self) -> bool:
        return all(process.poll() is None for process in self.processes)

    def gather(self) -> list[int]:
        return [process.wait(120) for process in self.processes]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def check_promises(mount: Mount, promised: list[dict[str, str]]) -> None:
    assert all(promised), "nothing had been fsynced: this test proved nothing"
    missing, wrong = [], []
    for files in promised:
        for name, value in files.items():
            path = mount.path / name
            if not path.exists():
                missing.append(name)
            elif name.startswith("log"):
                lines = path.read_text().splitlines()
                if lines[: int(value) // 4 + 1] != [str(i) for i in range(0, int(value) + 1, 4)]:
                    wrong.append(name)
            elif hashlib.sha256(path.read_bytes()).hexdigest() != value:
                wrong.append(name)
    assert (missing, wrong) == ([], [])


@contextlib.contextmanager
def writing(mount: Mount, files: int) -> Iterator[Writers]:
    writers = Writers(mount)
    try:
        writers.wait_until_busy(files)
        yield writers
    finally:
        writers.close()


@pytest.fixture
def durable_mount(mountable: None, tmp_path: Path, server_home: Path) -> Iterator[Mount]:
    """A mount on a server with fsync on, which the test may kill."""
    with crashable(tmp_path, embedded.start(server_home)) as mount:
        yield mount


@contextlib.contextmanager
def crashable(tmp_path: Path, url: str) -> Iterator[Mount]:
    folder = tmp_path / "mnt"
    folder.mkdir()
    mount = Mount(folder, "crash", url, limit=350)
    try:
        mount.tarbox("init")
        mount.start()
        yield mount
        assert not mount.expired, f"the mount hung; the daemon's log:\n{mount.log.read_text()}"
        mount.stop()
        mount.fsck()
    finally:
        mount.close()


def kill_postgres(home: Path) -> None:
    """kill -9 of the server and all its children."""
    postmaster = int((home / "data/postmaster.pid").read_text().split()[0])
    children = [int(pid) for task in Path(f"/proc/{postmaster}/task").iterdir() for pid in (task / "children").read_text().split()]
    assert len(children) > 3, "the server was not alive"
    for pid in (postmaster, *children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{postmaster}").exists() or "Z" in Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2], 30, lambda: "alive")


@pytest.mark.parametrize("files", [10, 25])
def test_kill_9_of_the_daemon(durable_mount: Mount, files: int) -> None:
    mount = durable_mount
    with writing(mount, files) as writers:
        mount.kill()
        assert writers.gather() == [3] * WRITERS  # each ran into an error, none into the end of its work
        promised = writers.promised()
    wait_for(lambda: not mounted(mount.path), 15, lambda: "a dead mount was left behind")
    assert mount.fsck().returncode == 0
    mount.start()
    check_promises(mount, promised)
    (mount.path / "after").write_text("and it goes on")


def test_kill_9_of_postgres(durable_mount: Mount, server_home: Path) -> None:
    mount = durable_mount
    with writing(mount, 15) as writers:
        kill_postgres(server_home)
        codes = writers.gather()
        promised = writers.promised()
    assert codes == [3] * WRITERS
    assert embedded.start(server_home) == mount.env["TARBOX_DATABASE_URL"]
    mount.kill()  # what it still holds was never promised
    wait_for(lambda: not mounted(mount.path), 15, lambda: "a dead mount was left behind")
    mount.start()
    check_promises(mount, promised)
    assert mount.fsck().returncode == 0


def test_a_mount_outlives_a_restart_of_postgres(durable_mount: Mount, server_home: Path) -> None:
    mount = durable_mount
    kept = mount.path / "kept"
    kept.write_text("before")
    fd = os.open(kept, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    kill_postgres(server_home)
    with pytest.raises(OSError):
        os.mkdir(mount.path / "refused")
    embedded.start(server_home)
    wait_for(lambda: works(mount, "again"), 60, lambda: "the mount did not recover")
    assert kept.read_text() == "before"


def works(mount: Mount, name: str) -> bool:
    """Whether a file can be written and made durable."""
    try:
        with open(mount.path / name, "wb", buffering=0) as file:
            file.write(b"after")
            os.fsync(file.fileno())
    except OSError as error:
        assert error.errno in (errno.EIO, errno.ENOSPC), error
        time.sleep(0.5)
        return False
    return (mount.path / name).read_bytes() == b"after"


@pytest.fixture
def small_disk(server_home: Path) -> Iterator[Path]:
    """A disk of 300 MB on which `server_home` lies, with 80 MB of it taken by a file that can be removed."""
    server_home.mkdir(mode=0o711)
    run("mount", "-t", "tmpfs", "-o", "size=300m,mode=711", "tarbox-test", server_home)
    try:
        (server_home / "ballast").write_bytes(bytes(80 << 20))
        yield server_home
    finally:
        embedded.stop(server_home)
        run("umount", "-l", server_home)


SMALL = {"shared_buffers": "32MB", "min_wal_size": "32MB", "max_wal_size": "64MB", "autovacuum": "off"}


@pytest.mark.skipif(not ROOT, reason="mounting a small disk needs root")
def test_full_disk_of_the_database(mountable: None, tmp_path: Path, small_disk: Path) -> None:
    home = small_disk / "pg"
    with contextlib.ExitStack() as stack:
        stack.callback(embedded.stop, home)
        mount = stack.enter_context(crashable(tmp_path, embedded.start(home, settings=SMALL)))
        promised: dict[str, str] = {}
        with pytest.raises(OSError) as refused:
            for i in range(1000):
                body = os.urandom(500_000)
                fd = os.open(mount.path / str(i), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                try:
                    os.write(fd, body)
                    os.fsync(fd)
                finally:
                    os.close(fd)
                promised[str(i)] = hashlib.sha256(body).hexdigest()
        assert refused.value.errno in (errno.ENOSPC, errno.EIO), refused.value
        assert len(promised) > 20, "the disk was full before anything was written"
        os.unlink(small_disk / "ballast")
        embedded.start(home, settings=SMALL)  # PostgreSQL ends itself where its log finds no room
        wait_for(lambda: works(mount, "after"), 90, lambda: "the mount did not recover")
        check_promises(mount, [promised])
        mount.remount()
        check_promises(mount, [promised])
        assert (mount.path / "after").read_bytes() == b"after"
