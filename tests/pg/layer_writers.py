"""A program of many processes: writers that make files in one directory of a tenant, each through a driver of its own, while another
makes checkpoints or switches. For tests/pg/test_layer_concurrency.py.

    python -m tests.pg.layer_writers URL TENANT WRITERS checkpoint COUNT
    python -m tests.pg.layer_writers URL TENANT WRITERS switch COUNT WORD...

Prints one JSON object: `moves`, the id of the layer that each move sealed or left; `files`, for each that a writer made: its name, how many
moves were through before it was begun, how many had begun when its close had returned, and null or the errno it was refused with;
`errors`, what reached anyone besides.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from tarbox_core import tenant
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.errors import FsError
from tarbox_core.filesystem import Filesystem
from tarbox_core.types import Caller, TenantInfo

ROOT = Caller()
DIRECTORY = b"/shared"
SIZES = (10, 3_000, 20_000)  # in the inode's row, and in blocks
PAUSE = 0.03  # seconds between moves
REFUSALS = (errno.ENOENT, errno.ESTALE)  # of who writes to a tree that is gone


def content(name: str) -> bytes:
    return (name.encode() + b" ") * (SIZES[len(name) % len(SIZES)] // (len(name) + 1))


class Shared:
    """Numbers that all processes see: how many moves had begun, how many were through, and whether it is over."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 24)

    def _get(self, place: int) -> int:
        return int.from_bytes(self._map[place : place + 8], "little")

    def _set(self, place: int, value: int) -> None:
        self._map[place : place + 8] = value.to_bytes(8, "little")

    begun = property(lambda self: self._get(0), lambda self, value: self._set(0, value))
    through = property(lambda self: self._get(8), lambda self, value: self._set(8, value))
    over = property(lambda self: self._get(16), lambda self, value: self._set(16, value))


def enter(url: str, info: TenantInfo) -> tuple[SyncDriver, Filesystem]:
    driver = SyncDriver(url, role=info.role, pool_size=1)
    return driver, Filesystem(driver.run(lambda: tenant.attach(info)), time.time_ns, enforce=False)


def write(url: str, info: TenantInfo, number: int, shared: Shared) -> list[Any]:
    driver, fs = enter(url, info)
    files = []
    while not shared.over:
        # Names of several lengths, so that contents are of several sizes.
        name = f"w{number:02}-{len(files):04}" + "x" * (len(files) % 3)
        before, refused = shared.through, None
        try:
            folder = driver.run(lambda: fs.resolve(ROOT, DIRECTORY)).ino
            _, opened = driver.run(lambda: fs.create(ROOT, folder, name.encode(), 0o644, exclusive=True))  # noqa: B023
            driver.run(lambda: opened.write(ROOT, 0, content(name)))  # noqa: B023
            driver.run(lambda: opened.release(ROOT))  # noqa: B023
        except FsError as error:
            if error.errno not in REFUSALS:
                raise
            refused = error.errno
            driver.run(fs.refresh)
        files.append((name, before, shared.begun, refused))
    driver.close()
    return files


def move(url: str, info: TenantInfo, shared: Shared, verb: str, count: int, words: list[str]) -> list[str]:
    driver, fs = enter(url, info)
    moves = []
    for number in range(count):
        time.sleep(PAUSE)
        shared.begun += 1
        if verb == "checkpoint":
            made = driver.run(lambda: fs.checkpoint(ROOT, f"checkpoint {number}"), durable=True)  # noqa: B023
        else:
            made = driver.run(lambda: fs.switch(ROOT, words[number % len(words)]), durable=True).left  # noqa: B023
        assert made is not None
        moves.append(made.id)
        shared.through += 1
    shared.over = 1
    driver.close()
    return moves


def main(url: str, name: str, writers: str, verb: str, count: str, *words: str) -> None:
    with SyncDriver(url, pool_size=1) as owner:
        info = owner.run(lambda: tenant.info(name))
    shared = Shared()
    with tempfile.TemporaryDirectory() as folder:
        works = [lambda n=n: write(url, info, n, shared) for n in range(int(writers))]  # type: ignore[misc]
        works.append(lambda: move(url, info, shared, verb, int(count), list(words)))
        pids = []
        for number, work in enumerate(works):
            pid = os.fork()
            if pid == 0:
                try:
                    answer: dict[str, Any] = {"did": work()}
                except BaseException:
                    shared.over = 1
                    answer = {"did": [], "error": traceback.format_exc()}
                Path(folder, str(number)).write_text(json.dumps(answer))
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
        answers = [json.loads(Path(folder, str(number)).read_text()) for number in range(len(works))]
    print(json.dumps({
        "moves": answers[-1]["did"],
        "files": [file for answer in answers[:-1] for file in answer["did"]],
        "errors": [answer["error"] for answer in answers if "error" in answer],
    }))


if __name__ == "__main__":
    main(*sys.argv[1:])
