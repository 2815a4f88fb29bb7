"""What layers cost in a large tree with a long history. `python benchmarks/layers.py [--files N] [--layers N] [--json]`

Builds a tenant through the core, 200,000 files and 1,000 layers of a few changes each unless told otherwise, in an embedded
PostgreSQL of its own in a temporary directory (or in the database of --url, where the tenant is removed afterwards). Then asks how
long a checkpoint and a switch take, durably, whether reading is slower in the last layer or at the head than in the first, what
the difference of neighbouring layers and the list of all cost, and how soon a mount shows the tree it was switched to. Times are
medians; what is compared is asked in turns. Nothing is asserted: the numbers are for people, and with --json for programs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from tarbox_core import check, tenant
from tarbox_core.drivers import migrate
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.effects import Batch, Op, run
from tarbox_core.filesystem import Filesystem
from tarbox_core.types import ROOT_INO, Caller, TenantInfo

R = TypeVar("R")

ROOT = Caller()
A_DIRECTORY = 1_000  # files
AT_ONCE = 100  # operations in a transaction of the build
A_LAYER = 20  # files written anew in a layer; as many are made, and as many removed


def together(ops: Sequence[Op[R]]) -> Op[list[R]]:
    """Operations that have nothing to do with each other as one: their trips travel together."""
    results: dict[int, R] = {}
    waiting: dict[int, Batch] = {}

    def step(number: int, advance: Callable[[], Batch]) -> None:
        try:
            waiting[number] = advance()
        except StopIteration as end:
            results[number] = end.value

    for number, op in enumerate(ops):
        step(number, lambda op=op: next(op))  # type: ignore[misc]
    while waiting:
        batches, queries = dict(waiting), [query for batch in waiting.values() for query in batch.queries]
        waiting.clear()
        rows = iter((yield from run(*queries)) if queries else [])
        for number, batch in batches.items():
            own = [next(rows) for _ in batch.queries]
            step(number, lambda number=number, own=own: ops[number].send(own))  # type: ignore[misc]
    return [results[number] for number in range(len(ops))]


class Builder:
    """Fills the tenant: directories of a thousand files of about 1 KiB, then layer after layer of changes all over it."""

    def __init__(self, driver: SyncDriver, info: TenantInfo) -> None:
        self.driver = driver
        self.fs = Filesystem(driver.run(lambda: tenant.attach(info)), time.time_ns, enforce=False, audit=False, defer=True)
        self.fs.session.alone = True
        self.chance = random.Random(1)
        self.folders: list[int] = []
        self.files: list[int] = []  # inode numbers
        self.passing: list[tuple[int, bytes]] = []  # names that the next layer removes

    def body(self, words: int = 150) -> bytes:
        return b"".join(b"%06x%s" % (self.chance.randrange(1 << 24), b"\n" if n % 10 == 9 else b" ") for n in range(words))

    def in_parts(self, operations: Sequence[Callable[[], Op[R]]]) -> list[R]:
        done: list[R] = []
        for at in range(0, len(operations), AT_ONCE):
            part = operations[at : at + AT_ONCE]
            done += self.driver.run(lambda: together([make() for make in part]))  # noqa: B023
        return done

    def new_file(self, folder: int, name: bytes, body: bytes) -> Op[int]:
        self.fs.session.saw_absent(folder, name)  # as a lookup would have found: the file goes out with its content, in one trip
        attr, opened = yield from self.fs.create(ROOT, folder, name, 0o644, exclusive=True)
        yield from opened.write(ROOT, 0, body)
        yield from opened.release(ROOT)
        return attr.ino

    def change(self, ino: int, body: bytes) -> None:
        self.in_parts([lambda: self.rewrite(ino, body)])

    def rewrite(self, ino: int, body: bytes) -> Op[None]:
        opened = yield from self.fs.open(ROOT, ino, write=True)
        yield from opened.write(ROOT, 0, body)
        yield from opened.release(ROOT)

    def tree(self, files: int) -> None:
        count = -(-files // A_DIRECTORY)
        names = [b"d%04d" % number for number in range(count)]
        self.folders = [attr.ino for attr in self.in_parts([lambda name=name: self.fs.mkdir(ROOT, ROOT_INO, name, 0o755) for name in names])]  # type: ignore[misc]
        # File by file through all directories: each transaction changes many of them once rather than one many times.
        places = [(n, folder) for n in range(A_DIRECTORY) for folder in self.folders][:files]
        self.files = self.in_parts([lambda n=n, up=up: self.new_file(up, b"file-%04d" % n, self.body()) for n, up in places])  # type: ignore[misc]

    def layer(self, number: int) -> None:
        """Some files are written anew, some made, and those removed that were made before the last checkpoint."""
        self.in_parts([lambda ino=ino: self.rewrite(ino, self.body()) for ino in self.chance.sample(self.files, A_LAYER)])  # type: ignore[misc]
        gone, self.passing = self.passing, [(self.chance.choice(self.folders), b"passing-%06d-%02d" % (number, n)) for n in range(A_LAYER)]
        self.in_parts([lambda where=where: self.fs.unlink(ROOT, *where) for where in gone])  # type: ignore[misc]
        self.in_parts([lambda up=up, name=name: self.new_file(up, name, self.body()) for up, name in self.passing])  # type: ignore[misc]
        self.driver.run(lambda: self.fs.checkpoint(ROOT, f"layer {number}"))


# --- the questions


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


class Questions:
    """Asked of the built tenant. `results`: by question, a number (ms, or a ratio)."""

    def __init__(self, builder: Builder, layers: int) -> None:
        self.driver = builder.driver
        self.builder = builder
        self.fs = Filesystem(self.driver.run(lambda: tenant.attach(builder.fs.tenant)), time.time_ns, enforce=False)
        self.layers = layers
        self.results: dict[str, float] = {}

    def record(self, question: str, times: Sequence[float]) -> None:
        self.results[question] = statistics.median(times)

    def moving(self) -> None:
        """Each checkpoint and switch finds a change that was made since the one before."""
        fs, driver, files = self.fs, self.driver, self.builder.files
        checkpoints: list[float] = []
        for ino in files[:30]:
            self.builder.change(ino, b"changed before a checkpoint\n")
            checkpoints.append(milliseconds(lambda: driver.run(lambda: fs.checkpoint(ROOT), durable=True)))
        self.record("checkpoint, ms", checkpoints)
        switches: list[float] = []
        for number in range(30):
            word = f"layer {1 + self.layers // 2}" if number % 2 == 0 else f"layer {self.layers}"
            switches.append(milliseconds(lambda: driver.run(lambda: fs.switch(ROOT, word), durable=True)))  # noqa: B023
            self.builder.change(files[number], b"changed before a switch\n")
        self.record("switch, ms", switches)
        driver.run(lambda: fs.switch(ROOT, f"layer {self.layers}"), durable=True)

    def reading(self) -> None:
        """The same files and directories in the first layer, in the last, and at the head, in turns."""
        views = {
            "layer 1": self.fs.look(self.driver.run(lambda: self.fs.view("layer 1"))),
            f"layer {self.layers}": self.fs.look(self.driver.run(lambda: self.fs.view(f"layer {self.layers}"))),
            "the head": self.fs,
        }
        chance = random.Random(2)
        questions = {"lookup": self._lookup, "read": self._read, "readdir": self._list}
        for question, ask in questions.items():
            asked = 30 if question == "readdir" else 1500
            times: dict[str, list[float]] = {name: [] for name in views}
            for turn in range(asked):
                number = chance.randrange(len(self.builder.files))
                order = list(views)[turn % 3 :] + list(views)[: turn % 3]
                for name in order:
                    times[name].append(milliseconds(lambda: ask(views[name], number)))  # noqa: B023
            for name in views:
                self.record(f"{question} in {name}, ms", times[name])
            first, *others = (statistics.median(times[name]) for name in views)
            for name, median in zip(list(views)[1:], others, strict=True):
                self.results[f"{question} in {name} / in layer 1"] = median / first

    def _lookup(self, fs: Filesystem, number: int) -> None:
        row, column = divmod(number, len(self.builder.folders))
        folder, name = self.builder.folders[column], b"file-%04d" % row
        self.driver.run(lambda: fs.lookup(ROOT, folder, name))

    def _read(self, fs: Filesystem, number: int) -> None:
        opened = self.driver.run(lambda: fs.open(ROOT, self.builder.files[number]))
        if not self.driver.run(lambda: opened.read(ROOT, 0, 1 << 20)):
            raise SystemExit("a file of the tree is empty")
        self.driver.run(lambda: opened.release(ROOT))

    def _list(self, fs: Filesystem, number: int) -> None:
        folder = self.driver.run(lambda: fs.opendir(ROOT, self.builder.folders[number % len(self.builder.folders)]))
        entries = self.driver.run(lambda: folder.read(ROOT, 2, 2 * A_DIRECTORY, plus=True))
        if len(entries) < A_DIRECTORY // 2:
            raise SystemExit(f"a directory lists {len(entries)} files")

    def telling(self) -> None:
        middle = self.layers // 2
        pairs = [(f"layer {n}", f"layer {n + 1}") for n in range(max(1, middle - 10), middle + 10)]
        self.record("diff of neighbouring layers, ms", [milliseconds(lambda: self.driver.run(lambda: self.fs.changes(*pair))) for pair in pairs])  # noqa: B023
        self.record("list of all layers, ms", [milliseconds(lambda: self.driver.run(self.fs.layers)) for _ in range(20)])

    def removing(self) -> None:
        """Ten layers at a time, below those that anything else rests on."""
        self.results["squash of 10 layers, ms"] = statistics.median(
            milliseconds(lambda: self.driver.run(lambda: self.fs.squash(ROOT, f"layer {n}", f"layer {n + 9}"))) for n in range(11, 51, 10)  # noqa: B023
        )

    def mounted(self, folder: Path) -> None:
        """From a write to a control file until a file that differs has been read afresh."""
        new, switch, path = folder / ".tarbox/layers/new", folder / ".tarbox/layers/switch", folder / "d0000/file-0000"
        checkpoints: list[float] = []
        switches: list[float] = []

        def tell(file: Path, word: str, body: str) -> None:
            file.write_text(word)
            if (found := path.read_text()) != body:
                raise SystemExit(f"after {word!r} the mount shows {found!r} instead of {body!r}")

        for number in range(40):
            body = f"as it was {number}\n"
            path.write_text(body)
            checkpoints.append(milliseconds(lambda: tell(new, f"mounted {number}", body)))  # noqa: B023
        for number in range(38, -1, -1):
            switches.append(milliseconds(lambda: tell(switch, f"mounted {number}", f"as it was {number}\n")))  # noqa: B023
        self.record("checkpoint through a mount and the first read, ms", checkpoints)
        self.record("switch through a mount and the first read, ms", switches)


# --- the scene


@contextmanager
def database(url: str | None, parent: str | None) -> Iterator[str]:
    """The one named, or a fresh embedded server."""
    if url:
        yield url
        return
    from tarbox_core.drivers import embedded

    home = Path(tempfile.mkdtemp(prefix="tarbox-bench-", dir=parent or "/tmp"))
    home.chmod(0o711)
    try:
        yield embedded.start(home / "pg")
    finally:
        embedded.stop(home / "pg")
        shutil.rmtree(home)


@contextmanager
def mount(url: str, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tarbox-bench-") as base:
        folder = Path(base) / "mount"
        folder.mkdir()
        environment = {**os.environ, "TARBOX_DATABASE_URL": url}
        tarbox = [sys.executable, "-m", "tarbox_cli"]
        daemon = subprocess.Popen([*tarbox, "mount", str(folder), "--tenant", name, "--foreground"], env=environment, stdout=sys.stderr)
        try:
            deadline = time.monotonic() + 60
            while not os.path.ismount(folder):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"could not mount {folder}")
                time.sleep(0.02)
            yield folder
        finally:
            subprocess.run([*tarbox, "umount", str(folder)], env=environment, timeout=60, check=False)
            daemon.kill()
            daemon.wait(60)


def built(driver: SyncDriver, info: TenantInfo, files: int, layers: int) -> Builder:
    builder = Builder(driver, info)
    start = time.perf_counter()
    builder.tree(files)
    print(f"built {files:,} files in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    start = time.perf_counter()
    for number in range(1, layers + 1):
        builder.layer(number)
    print(f"built {layers:,} layers in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return builder


def main() -> None:
    parser = argparse.ArgumentParser(description="What layers cost in a large tree with a long history.")
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--layers", type=int, default=1_000)
    parser.add_argument("--url", help="a database to use instead of an embedded server of its own")
    parser.add_argument("--parent", help="where the embedded server keeps its data (default: /tmp)")
    parser.add_argument("--no-mount", action="store_true", help="leave out the questions that need a mount")
    parser.add_argument("--fsck", action="store_true", help="check the tenant at the end")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.files < 2 * A_DIRECTORY or arguments.layers < 120:
        parser.error("at least 2,000 files and 120 layers, or the numbers mean nothing")

    with ExitStack() as stack:
        url = stack.enter_context(database(arguments.url, arguments.parent))
        owner = stack.enter_context(SyncDriver(url, pool_size=1))
        migrate.init(owner)
        name = f"bench-{os.getpid()}"
        info = owner.run(lambda: tenant.create(name, now=time.time_ns()))
        stack.callback(lambda: owner.run(lambda: tenant.delete(name)))
        driver = stack.enter_context(SyncDriver(url, role=info.role, pool_size=2))
        questions = Questions(built(driver, info, arguments.files, arguments.layers), arguments.layers)
        questions.reading()
        questions.telling()
        questions.moving()
        if not arguments.no_mount:
            with mount(url, name) as folder:
                questions.mounted(folder)
        questions.removing()
        if arguments.json:
            print(json.dumps({"files": arguments.files, "layers": arguments.layers, "changes_in_a_layer": 3 * A_LAYER, "results": questions.results}, indent=1))
        else:
            print(f"{arguments.files:,} files, {arguments.layers:,} layers of {3 * A_LAYER} changes")
            for question, number in questions.results.items():
                print(f"{question:52} {number:8.2f}")
        if arguments.fsck and (findings := driver.run(lambda: check.fsck(questions.fs))):
            raise SystemExit(f"fsck found damage: {findings}")


if __name__ == "__main__":
    main()
