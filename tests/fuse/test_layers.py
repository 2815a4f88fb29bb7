"""A switch under processes that are at work in a mount: what they see at once, what stays with the old tree, what no layer
loses. Not here: what layers are (tests/pg/test_layers.py), the control files one by one (test_control.py)."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fuse.helpers import Mount, run, wait_for
from tests.pg.cli import Tarbox


def command(mount: Mount, file: str, words: str) -> None:
    """Written once: a file object would try again when it is closed."""
    fd = os.open(mount.path / ".tarbox/layers" / file, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(fd, words.encode() + b"\n")
    finally:
        os.close(fd)


def checkpoint(mount: Mount, name: str) -> None:
    command(mount, "new", name)


def switch(mount: Mount, word: str) -> None:
    command(mount, "switch", word)


def sealed(mount: Mount, layer: str, name: str) -> str:
    return (mount.path / ".tarbox/layers/tree" / layer / name).read_text()


def last_error(mount: Mount) -> str:
    return (mount.path / ".tarbox/last_error").read_text()


@contextmanager
def failing(number: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == number


@pytest.fixture
def tarbox(database: str, tmp_path: Path) -> Tarbox:
    """The command line, in this process, on the mount's tenant."""
    made = Tarbox(database, tmp_path)
    made.env["TARBOX_TENANT"] = "t1"
    return made


@pytest.fixture
def second(mount: Mount, tmp_path: Path) -> Iterator[Callable[..., Mount]]:
    """Makes other mounts of the same tenant."""
    made: list[Mount] = []

    def make(*options: str) -> Mount:
        folder = Path(tempfile.mkdtemp(prefix="second-", dir=tmp_path))
        other = Mount(folder, "t1", mount.env["TARBOX_DATABASE_URL"], *options)
        made.append(other)
        other.start()
        return other

    try:
        yield make
        for other in made:
            other.stop()
            assert other.traceback() == ""
    finally:
        for other in made:
            other.close()


class Shell:
    """A shell that is at work in a directory."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
        )  # fmt: skip

    def __call__(self, command: str) -> str:
        assert self._process.stdin and self._process.stdout
        print(command, "; echo END$?", file=self._process.stdin, flush=True)
        lines = []
        while not (line := self._process.stdout.readline()).startswith("END"):
            lines.append(line)
        assert line == "END0\n", f"{command}: {line}{lines}"
        return "".join(lines).strip()

    def close(self) -> None:
        self._process.communicate()


def test_a_shell_at_work_in_a_directory_goes_on_in_the_new_tree(mount: Mount) -> None:
    work = mount.path / "project" / "src"
    work.mkdir(parents=True)
    (work / "kept").write_text("one\n")
    (work / "gone").write_text("one\n")
    os.symlink("kept", work / "link")
    git = ["git", "-C", mount.path / "project", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    run("git", "init", "-q", mount.path / "project")
    run(*git, "add", "-A")
    run(*git, "commit", "-q", "-m", "one")
    shell = Shell(work)
    assert shell("git status --short; ls") == "gone\nkept\nlink"
    checkpoint(mount, "one")
    (work / "kept").write_text("two, and longer\n")
    os.unlink(work / "gone")
    os.unlink(work / "link")
    os.symlink("elsewhere", work / "link")
    (work / "new").write_text("two\n")
    (work / "kept").chmod(0o600)
    work.chmod(0o700)
    assert not (work / "gone").exists()  # the kernel may keep that
    assert shell("cat kept; stat -c '%s %a' kept; stat -c %a .; readlink link; ls") == "two, and longer\n16 600\n700\nelsewhere\nkept\nlink\nnew"
    assert shell("git status --short") == "D gone\n M kept\n M link\n?? new"
    with open(work / "kept") as held:
        listing = os.open(work, os.O_RDONLY)
        shell("echo one > ../../.tarbox/layers/switch")
        assert os.fstat(listing).st_mode & 0o777 == 0o755  # without a path to be looked up
        assert sorted(os.listdir(listing)) == ["gone", "kept", "link"]
        os.close(listing)
        assert shell("stat -c %a .; cat kept gone; stat -c '%s %a' kept; readlink link; ls") == "755\none\none\n4 644\nkept\ngone\nkept\nlink"
        assert shell("test -e new && echo there || echo absent") == "absent"
        assert shell("pwd; /bin/pwd; git status --short") == f"{work}\n{work}"
        assert held.read() == "two, and longer\n"
    shell("echo - > ../../.tarbox/layers/switch")
    assert shell("cat kept; test -e gone || ls") == "two, and longer\nkept\nlink\nnew"
    shell.close()


def test_what_is_open_is_read_as_it_was_and_changed_no_more(mount: Mount) -> None:
    file, other = mount.path / "f", mount.path / "g"
    file.write_bytes(b"old" * 50_000)
    other.write_bytes(b"old")
    checkpoint(mount, "old")
    file.write_bytes(b"newer" * 60_000)
    with open(file, "r+b", buffering=0) as held, open(file, "rb", buffering=0) as unread, mmap.mmap(held.fileno(), 0) as mapped:
        assert held.read(5) == b"newer" and mapped[:5] == b"newer"
        mapped[5:10] = b"MAPPE"  # dirty in the kernel alone
        os.pwrite(held.fileno(), b"WRITE", 10)
        switch(mount, "old")
        assert file.read_bytes() == b"old" * 50_000
        expected = (b"newerMAPPEWRITE" + b"newer" * 59_997)
        assert os.pread(unread.fileno(), 300_000, 0) == expected
        assert os.pread(held.fileno(), 300_000, 0) == expected
        assert mapped[:] == expected
        assert os.fstat(held.fileno()).st_size == 300_000 and file.stat().st_size == 150_000
        assert os.fstat(held.fileno()).st_ino == file.stat().st_ino
        for change in (
            lambda: os.pwrite(held.fileno(), b"x", 0), lambda: os.ftruncate(held.fileno(), 1), lambda: os.fchmod(held.fileno(), 0o600),
            lambda: os.fsync(held.fileno()), lambda: os.setxattr(held.fileno(), "user.k", b"v"),
            lambda: os.close(os.open(f"/proc/self/fd/{held.fileno()}", os.O_RDONLY)),
        ):  # fmt: skip
            with failing(errno.ESTALE):
                change()
        assert "Stale file handle" in run("ln", "-L", f"/proc/{os.getpid()}/fd/{held.fileno()}", mount.path / "back", check=False).stderr
        assert os.lseek(held.fileno(), 0, os.SEEK_HOLE) == 300_000
        with open(file, "r+b", buffering=0) as fresh:
            assert os.copy_file_range(held.fileno(), fresh.fileno(), 3, 5, 0) == 3  # "MAP": out of the old, into the new
        assert file.read_bytes() == b"MAP" + b"old" * 49_999
        assert os.pread(unread.fileno(), 300_000, 0) == expected
        switch(mount, "-")  # what was written before the first switch was in its layer
        assert file.read_bytes() == expected
        with failing(errno.ESTALE):  # it is another generation's even so
            os.pwrite(held.fileno(), b"x", 0)


def test_what_is_not_stored_yet_is_in_the_layer_that_was_current(mount: Mount, second: Callable[..., Mount], tarbox: Tarbox) -> None:
    there = second()
    files = [open(folder.path / name, "w+b", buffering=0) for name in ("a", "b") for folder in (mount, there)]
    for round_, move in enumerate((
        lambda: checkpoint(mount, "0"), lambda: checkpoint(there, "1"), lambda: tarbox("layer", "create", "2"),
    )):  # fmt: skip
        for n, file in enumerate(files):
            os.pwrite(file.fileno(), b"%d of file %d" % (round_, n), 0)
        move()
    for file in files:
        os.pwrite(file.fileno(), b"3", 0)
    for round_ in range(3):
        texts = [sealed(mount, str(round_), name) for name in ("a", "b")]
        # Both mounts wrote to each of the two: one of them was the last.
        assert texts[0] in (f"{round_} of file 0", f"{round_} of file 1") and texts[1] in (f"{round_} of file 2", f"{round_} of file 3")
    tarbox("layer", "switch", "1")
    for folder in (mount, there):
        assert (folder.path / "a").read_text().startswith("1 of file")
        assert not (folder.path / "late").exists()
    for file in files:
        with failing(errno.ESTALE):
            os.pwrite(file.fileno(), b"4", 0)
        file.close()
    switch(there, "-")
    assert [(folder.path / "a").read_text()[:5] for folder in (mount, there)] == ["3 of "] * 2
    with ThreadPoolExecutor(2) as both:  # each asks the other to be quiet
        list(both.map(lambda folder: [checkpoint(folder, f"{folder.path.name} {n}") for n in range(8)], (mount, there)))
    assert sum(name.startswith(("mnt ", "second-")) for name in os.listdir(mount.path / ".tarbox/layers/tree")) == 16
    (mount.path / "late").write_text("x")
    wait_for((there.path / "late").exists, 4, lambda: "the other mount does not show a new file")


READER = """
import os, sys
os.chdir(sys.argv[1])
seen = set()
while not os.path.exists(sys.argv[2]):
    for name in ("x", "y"):
        try:
            with open(name, "rb") as file:
                data = file.read()
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            continue
        if len(set(data)) > 1 or (data and len(data) != size) or size not in (0, 100_000, 70_000):
            sys.exit(f"{name}: {len(data)} of {size} bytes: {set(data)}")
        seen.add((name, data[:1]))
print(len(seen))
"""
WRITER = """
import os, sys
os.chdir(sys.argv[1])
n = 0
while not os.path.exists(sys.argv[2]):
    n += 1
    try:
        with open("new", "wb", buffering=0) as file:
            file.write(b"%08d" % n * 5000)
        os.rename("new", "log")
    except OSError as error:
        if error.errno not in (2, 116):
            raise
print(n)
"""


def test_readers_and_writers_meet_no_mixture_while_the_tree_is_switched(mount: Mount, tarbox: Tarbox, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    (mount.path / "x").write_bytes(b"a" * 100_000)
    checkpoint(mount, "a")
    (mount.path / "x").write_bytes(b"b" * 70_000)
    (mount.path / "y").write_bytes(b"b" * 70_000)
    checkpoint(mount, "b")
    processes = [
        subprocess.Popen([sys.executable, "-c", program, mount.path, stop], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for program in (READER, READER, WRITER)
    ]
    took = []
    for n in range(30):
        began = time.perf_counter()
        switch(mount, "ab"[n % 2])
        assert os.stat(mount.path / "x").st_size == (100_000, 70_000)[n % 2]
        took.append(time.perf_counter() - began)
        time.sleep(0.02)
    assert sorted(took)[15] < 0.2  # beside three processes that do all they can; the benchmarks say more
    for n in range(2):
        tarbox("layer", "switch", "ab"[n % 2])
    stop.touch()
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert [int(out) for out, _ in said[:2]] == [3, 3]  # x of both, y of one
    assert int(said[2][0]) > 5
    listed = (mount.path / ".tarbox/layers/list").read_text()
    for layer in [line.split()[0] for line in listed.splitlines() if "before the switch" in line][:10]:
        log = mount.path / ".tarbox/layers/tree" / layer / "log"
        if log.exists():
            text = log.read_bytes()
            assert len(text) == 40_000 and text == text[:8] * 5000


def test_a_mount_that_is_stopped_refuses_the_move_and_keeps_what_it_holds(mount: Mount, second: Callable[..., Mount]) -> None:
    frozen = second()
    (mount.path / "f").write_text("one")
    checkpoint(mount, "one")
    (mount.path / "f").write_text("two")
    with open(frozen.path / "held", "w") as held:
        held.write("held")
        held.flush()
        assert frozen.daemon is not None
        os.kill(frozen.daemon.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with failing(errno.EBUSY):
                switch(mount, "one")
            assert time.monotonic() - began < 15
            assert "another mount of the tenant does not answer within 10 s" in last_error(mount)
            assert (mount.path / "f").read_text() == "two"
        finally:
            os.kill(frozen.daemon.pid, signal.SIGCONT)
    switch(mount, "one")
    assert (frozen.path / "f").read_text() == (mount.path / "f").read_text() == "one"
    assert not (frozen.path / "held").exists()
    switch(frozen, "-")
    assert (mount.path / "held").read_text() == "held"


def test_mounts_of_branches_and_layers(mount: Mount, second: Callable[..., Mount], tarbox: Tarbox, tmp_path: Path) -> None:
    (mount.path / "f").write_text("base")
    checkpoint(mount, "base")
    tarbox("layer", "branch", "side")
    with ThreadPoolExecutor(3) as starting:
        side, base, read_only = starting.map(lambda options: second(*options), (("--branch", "side"), ("--layer", "base"), ("--read-only",)))
    sources = {line.split()[4]: line.split(" - ")[1].split()[1] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    assert sources[str(mount.path)] == "tarbox:t1" and sources[str(side.path)] == "tarbox:t1@side"
    assert len(sources[str(base.path)]) == len("tarbox:t1@12345678")
    (side.path / "f").write_text("side")
    (mount.path / "f").write_text("main")
    checkpoint(side, "side-1")
    checkpoint(mount, "main-1")
    assert [(folder.path / "f").read_text() for folder in (mount, side, base)] == ["main", "side", "base"]
    for change in (
        lambda: (base.path / "f").write_text("x"), lambda: (base.path / "d").mkdir(), lambda: os.unlink(base.path / "f"), lambda: switch(base, "side-1"),
        lambda: switch(read_only, "side-1"),
    ):  # fmt: skip
        with failing(errno.EROFS):
            change()
    switch(mount, "side-1")
    assert [(folder.path / "f").read_text() for folder in (mount, side, base, read_only)] == ["side", "side", "base", "side"]
    assert "branch 'side' is mounted" in tarbox.fails("layer", "branch", "delete", "side")
    side.stop()
    tarbox("layer", "branch", "delete", "side")
    switch(mount, "main-1")
    tarbox("layer", "delete", "side-1", "--yes")
    assert "layer base is mounted read-only" in tarbox.fails("layer", "squash", "base..main-1", "--yes")
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    assert "no layer named 'none'" in mount.tarbox("mount", "-f", "--layer", "none", nowhere, "--tenant", "t1", check=False).stderr
    assert "still written to by branch main" in mount.tarbox("mount", "-f", "--layer", "head", nowhere, "--tenant", "t1", check=False).stderr


def test_automatic_checkpoints(database: str, tmp_path: Path) -> None:
    config = tmp_path / "tarbox.toml"
    config.write_text('[layer]\nauto_checkpoint = true\ncheckpoint_interval = "1s"\n')
    folder = tmp_path / "mnt"
    folder.mkdir()
    mount = Mount(folder, "t1", database, "--config", str(config))
    try:
        mount.start()
        layers = lambda: (folder / ".tarbox/layers/list").read_text().count("(automatic)")  # noqa: E731
        with open(folder / "f", "w") as file:
            file.write("1")
            file.flush()
            wait_for(lambda: layers() == 1, 10, lambda: "no automatic checkpoint")
            time.sleep(2.1)
            assert layers() == 1  # nothing changed
        mount.stop()
        assert mount.traceback() == ""
        mount.fsck()
    finally:
        mount.close()


@pytest.mark.mount_options("--transport", "libfuse")
def test_through_libfuse_old_names_expire_and_old_handles_are_stale(mount: Mount) -> None:
    (mount.path / "f").write_bytes(b"one")
    checkpoint(mount, "one")
    (mount.path / "f").write_bytes(b"three")
    (mount.path / "g").write_bytes(b"g")
    with open(mount.path / "f", "r+b", buffering=0) as held:
        os.pwrite(held.fileno(), b"4", 0)
        switch(mount, "one")
        with failing(errno.ESTALE):
            os.pwrite(held.fileno(), b"5", 0)
        time.sleep(1.1)
        assert (mount.path / "f").read_bytes() == b"one" and not (mount.path / "g").exists()
    switch(mount, "-")
    time.sleep(1.1)
    assert (mount.path / "f").read_bytes() == b"4hree"
