"""How fast is a mount, beside a plain directory and bindfs, all in one run.

    python benchmarks/mount.py --setup                    a plain directory, bindfs over one, and a tenant's mount
    python benchmarks/mount.py /mnt/a bindfs=/mnt/b ...    directories that are there already, each optionally named

Every question is put to every directory in turn, round after round, so that what else the machine does falls on all
alike; a row is the median of the rounds, and its ratio to the reference (bindfs where there is one, else the first).
"Cold" drops the kernel's caches (as root) and mounts again what this program mounted itself; the database server's
own buffers stay warm. Nothing here is asserted: the numbers are for people, and with --json for programs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB


@dataclass
class Target:
    """A directory under measurement. `remount` empties what a mount remembers; `pid` is its daemon."""

    name: str
    path: Path
    remount: Callable[[], None] | None = None
    pid: Callable[[], int] | None = None
    results: dict[str, list[float]] = field(default_factory=dict)

    def record(self, row: str, amount: float, seconds: float) -> None:
        self.results.setdefault(row, []).append(amount / seconds)

    def cool(self) -> None:
        """Make the next read a cold one, as far as we may."""
        if self.remount:
            self.remount()
        os.sync()
        try:
            Path("/proc/sys/vm/drop_caches").write_text("3\n")
        except PermissionError:
            print(f"note: {self.name}: the kernel's caches stay warm, dropping them needs root", file=sys.stderr)


@contextmanager
def clocked() -> Iterator[Callable[[], float]]:
    start = time.perf_counter()
    end = 0.0
    yield lambda: end - start
    end = time.perf_counter()


# --- the questions


def small_files(target: Target, count: int) -> None:
    """Files of 1 KiB: create, stat, open and read, list, unlink. Rates are per file."""
    folder = target.path / "small"
    folder.mkdir()
    names = [f"{folder}/file-{i:06}" for i in range(count)]
    bodies = [os.urandom(KIB) for _ in names]
    with clocked() as seconds:
        for name, body in zip(names, bodies, strict=True):
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, body)
            os.close(fd)
    target.record("create + write 1 KiB, files/s", count, seconds())

    target.cool()
    for row, passes in (("stat cold, files/s", 1), ("stat warm, files/s", 5)):
        with clocked() as seconds:
            for _ in range(passes):
                for name in names:
                    os.stat(name)
        target.record(row, count * passes, seconds())

    target.cool()
    for row, passes in (("open + read cold, files/s", 1), ("open + read warm, files/s", 3)):
        with clocked() as seconds:
            for _ in range(passes):
                for name in names:
                    fd = os.open(name, os.O_RDONLY)
                    os.read(fd, 2 * KIB)
                    os.close(fd)
        target.record(row, count * passes, seconds())

    with clocked() as seconds:
        for _ in range(10):
            if len(os.listdir(folder)) != count:
                raise SystemExit(f"{folder}: the directory does not list the {count} files that were created in it")
    target.record(f"readdir of {count:,}, names/s", count * 10, seconds())

    with clocked() as seconds:
        for name in names:
            os.unlink(name)
    target.record("unlink, files/s", count, seconds())
    folder.rmdir()


def large_file(target: Target, size: int) -> None:
    """One file of random data, in pieces of 128 KiB. Rates are MB/s (10^6)."""
    name = target.path / "large"
    piece = 128 * KIB
    body = memoryview(os.urandom(size))
    with clocked() as seconds:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        for at in range(0, size, piece):
            os.write(fd, body[at : at + piece])
        os.fsync(fd)
        os.close(fd)
    target.record("sequential write + fsync, MB/s", size / 1e6, seconds())

    target.cool()
    for row in ("sequential read cold, MB/s", "sequential read warm, MB/s"):
        with clocked() as seconds:
            fd = os.open(name, os.O_RDONLY)
            while os.read(fd, piece):
                pass
            os.close(fd)
        target.record(row, size / 1e6, seconds())


def random_pages(target: Target, size: int, count: int) -> None:
    """4 KiB at random places of the large file; writes are counted through an fsync at the end."""
    name = target.path / "large"
    places = [4 * KIB * random.randrange(size // (4 * KIB)) for _ in range(count)]
    target.cool()
    fd = os.open(name, os.O_RDWR)
    with clocked() as seconds:
        for place in places:
            os.pread(fd, 4 * KIB, place)
    target.record("random 4 KiB read, cold, 1/s", count, seconds())
    body = os.urandom(4 * KIB + count)
    with clocked() as seconds:
        for i, place in enumerate(places):
            os.pwrite(fd, body[i : i + 4 * KIB], place)
        os.fsync(fd)
    target.record("random 4 KiB write + fsync, 1/s", count, seconds())
    os.close(fd)
    name.unlink()


def resident(pid: int) -> tuple[float, float]:
    """Resident memory now and at its peak, in MB, of the largest process among `pid` and its descendants."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    best = (0.0, 0.0)
    for member in family:
        try:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{member}/status").read_text().splitlines())
        except (FileNotFoundError, ProcessLookupError):
            continue
        best = max(best, (int(fields["VmRSS"].split()[0]) * KIB / 1e6, int(fields["VmHWM"].split()[0]) * KIB / 1e6))
    return best


def listed_memory(target: Target, count: int) -> dict[str, float]:
    """The daemon's resident memory when `count` files have been created, then listed and statted from a cold mount."""
    assert target.pid
    root = target.path / "many"
    root.mkdir()
    start = time.perf_counter()
    for i in range(count):
        if i % 1000 == 0:
            folder = root / f"{i // 1000:04}"
            folder.mkdir()
        os.close(os.open(f"{folder}/{i:07}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    created = time.perf_counter() - start
    after_create, peak_create = resident(target.pid())
    target.cool()
    before, _ = resident(target.pid())
    start, seen = time.perf_counter(), 0
    for entry in os.scandir(root):
        with os.scandir(entry.path) as names:
            for item in names:
                item.stat(follow_symlinks=False)
                seen += 1
    listed = time.perf_counter() - start
    if seen != count:
        raise SystemExit(f"{root}: {seen} files are listed, {count} were created")
    after_list, peak_list = resident(target.pid())
    shutil.rmtree(root)
    return {
        "files": count, "create_per_s": count / created, "list_and_stat_per_s": count / listed, "mb_after_create": after_create, "mb_peak_create": peak_create,
        "mb_fresh": before, "mb_after_list": after_list, "mb_peak_list": peak_list,
    }


# --- directories to measure


def tarbox(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tarbox_cli", *arguments], check=True, text=True, stdout=subprocess.PIPE, timeout=120)


def mount_and_wait(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a daemon that stays in the foreground and wait until its mount is there."""
    log = folder.with_name(f"{folder.name}.log")
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    deadline = time.monotonic() + 60
    while not os.path.ismount(folder):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"could not mount {folder}: {' '.join(command)}\n{log.read_text()}")
        time.sleep(0.02)
    return process


def unmount(process: subprocess.Popen[bytes], folder: Path) -> None:
    tool = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    subprocess.run([*tool, str(folder)], check=False, timeout=60)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


@contextmanager
def scene(parent: str | None, transport: str | None) -> Iterator[list[Target]]:
    """A plain directory, bindfs over another where it is installed, and a new tenant's mount; all removed at the end."""
    tenant = f"bench-{os.getpid()}"
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tarbox-bench-", dir=parent)))
        for name in ("plain", "under", "bindfs", "tarbox"):
            (base / name).mkdir()
        targets = [Target("plain", base / "plain")]
        if shutil.which("bindfs"):
            process = mount_and_wait(["bindfs", "-f", str(base / "under"), str(base / "bindfs")], base / "bindfs")
            stack.callback(unmount, process, base / "bindfs")
            targets.append(Target("bindfs", base / "bindfs"))
        else:
            print("note: bindfs is not installed, nothing to compare with but the plain directory", file=sys.stderr)

        folder = base / "tarbox"
        tarbox("init")
        tarbox("tenant", "create", tenant)
        stack.callback(tarbox, "tenant", "delete", tenant, "--yes")
        command = [sys.executable, "-m", "tarbox_cli", "mount", str(folder), "--tenant", tenant, "--foreground"]
        command += ["--transport", transport] if transport else []
        daemon = mount_and_wait(command, folder)

        def remount() -> None:
            nonlocal daemon
            unmount(daemon, folder)
            daemon = mount_and_wait(command, folder)

        stack.callback(lambda: unmount(daemon, folder))
        targets.append(Target("tarbox", folder, remount, lambda: daemon.pid))
        yield targets


def given(words: list[str]) -> list[Target]:
    targets = []
    for word in words:
        name, equals, path = word.partition("=")
        path = path if equals else name
        if not os.path.isdir(path):
            raise SystemExit(f"{path}: not a directory")
        inside = Path(tempfile.mkdtemp(prefix="tarbox-bench-", dir=path))
        targets.append(Target(name if equals else path, inside))
    return targets


# --- the answer


def table(targets: list[Target], reference: str) -> str:
    widths = [34] + [max(12, len(t.name) + 2) for t in targets] + [10] * (len(targets) - 1)
    others = [t for t in targets if t.name != reference]
    base = next(t for t in targets if t.name == reference)
    lines = [["", *(t.name for t in targets), *(f"{t.name[-8:]}" for t in others)], ["", *("" for _ in targets), *("/ " + reference[-8:] for _ in others)]]
    for row in base.results:
        medians = {t.name: statistics.median(t.results[row]) for t in targets}
        lines.append([row, *(f"{medians[t.name]:,.0f}" for t in targets), *(f"{medians[t.name] / medians[reference]:.2f}" for t in others)])
    return "\n".join("".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))) for line in lines)


def measure(targets: list[Target], arguments: argparse.Namespace) -> None:
    count, size, pages = (200, 32 * MIB, 500) if arguments.quick else (1000, arguments.size * MIB, 2000)
    for turn in range(1 if arguments.quick else arguments.rounds):
        order = targets[turn % len(targets) :] + targets[: turn % len(targets)]
        questions: list[Callable[[Target], None]] = [
            lambda t: small_files(t, count),
            lambda t: large_file(t, size),
            lambda t: random_pages(t, size, pages),
        ]
        for question in questions:
            for target in order:
                question(target)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of a mount beside other directories, in one interleaved run.")
    parser.add_argument("directory", nargs="*", help="a directory, or NAME=DIRECTORY")
    parser.add_argument("--setup", action="store_true", help="make a plain directory, a bindfs mount and a tenant's mount for the run")
    parser.add_argument("--parent", help="where --setup makes them (default: the temporary directory)")
    parser.add_argument("--transport", help="passed to tarbox mount by --setup")
    parser.add_argument("--reference", help="the name that ratios are taken against (default: bindfs, else the first)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=256, help="MiB of the large file (default 256)")
    parser.add_argument("--quick", action="store_true", help="one round with small inputs")
    parser.add_argument("--files", type=int, default=0, help="with --setup: also the daemon's memory with so many files listed")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.setup == bool(arguments.directory):
        parser.error("name directories, or say --setup")
    if arguments.files and not arguments.setup:
        parser.error("--files needs --setup")

    memory: dict[str, float] = {}
    with ExitStack() as stack:
        if arguments.setup:
            targets = stack.enter_context(scene(arguments.parent, arguments.transport))
        else:
            targets = given(arguments.directory)
            for target in targets:
                stack.callback(shutil.rmtree, target.path)
        names = [t.name for t in targets]
        reference = arguments.reference or next((n for n in names if "bindfs" in n), names[0])
        if reference not in names:
            parser.error(f"--reference {reference}: not among {', '.join(names)}")
        measure(targets, arguments)
        if arguments.files:
            memory = listed_memory(targets[-1], arguments.files)

    if arguments.json:
        print(json.dumps({"reference": reference, "results": {t.name: t.results for t in targets}, "memory": memory}, indent=1))
        return
    print(table(targets, reference))
    if memory:
        m = {key: f"{value:,.0f}" for key, value in memory.items()}
        print(f"\n{m['files']} files: created {m['create_per_s']}/s, listed and statted {m['list_and_stat_per_s']}/s; the daemon's resident memory, MB:")
        print(f"  {m['mb_after_create']} after creating (peak {m['mb_peak_create']}), {m['mb_fresh']} mounted afresh", end=", ")
        print(f"{m['mb_after_list']} after listing (peak {m['mb_peak_list']})")


if __name__ == "__main__":
    main()
