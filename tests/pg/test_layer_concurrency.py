"""Sixteen processes that write while another moves the head: no deadlock reaches anyone, and every file that was acknowledged is in the
tree that it belongs to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.pg.layer_writers import DIRECTORY, content
from tests.tenants import ROOT, Session, Tenant

WRITERS = 16
FOLDER = Path(__file__).resolve().parents[2]


class File(NamedTuple):
    """What a writer says: `before` moves were through when it began the file, `begun` had begun when its close returned."""

    name: str
    before: int
    begun: int
    refused: int | None


def write_while(tenant: Tenant, *arguments: str) -> tuple[list[str], list[File]]:
    """The ids that the moves sealed or left, and the files."""
    command = [sys.executable, "-m", "tests.pg.layer_writers", tenant.url, tenant.info.name, str(WRITERS), *arguments]
    done = subprocess.run(command, cwd=FOLDER, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, timeout=100, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    said = json.loads(done.stdout)
    assert said["errors"] == [], said["errors"][0]
    files = [File(*file) for file in said["files"]]
    assert all(sum(file.name.startswith(f"w{number:02}-") for file in files) > 3 for number in range(WRITERS)), "a writer hardly wrote"
    return said["moves"], files


def listed(session: Session) -> dict[str, int]:
    """The sizes of the files in the shared directory, by name."""
    if not session.exists(DIRECTORY):
        return {}
    folder = session.run(lambda: session.fs.opendir(ROOT, session.attr(DIRECTORY).ino))
    sizes: dict[str, int] = {}
    offset = 2
    while page := session.run(lambda: folder.read(ROOT, offset, 1000, plus=True)):  # noqa: B023
        sizes |= {entry.name.decode(): entry.attr.size for entry in page if entry.attr is not None}
        offset = page[-1].offset
    return sizes


def looked_at(session: Session, word: str) -> Session:
    seen = session.run(lambda: session.fs.view(word))
    return Session(session.driver, session.fs.look(seen))


def test_checkpoints_beside_sixteen_writers(tenant: Tenant, session: Session) -> None:
    session.mkdir(DIRECTORY)
    moves, files = write_while(tenant, "checkpoint", "50")
    assert len(moves) == 50 and all(file.refused is None for file in files)
    within = 0
    for number, ident in enumerate(moves):
        there = listed(looked_at(session, ident))
        for file in files:
            if file.begun <= number:  # acknowledged before this checkpoint began
                assert there.get(file.name) == len(content(file.name)), f"checkpoint {number} lacks {file}"
                within += 1
            elif file.before > number:  # begun when this checkpoint was through
                assert file.name not in there, f"checkpoint {number} holds {file}, which came later"
    assert within > 50, "hardly a file was written before a checkpoint: this proved nothing"
    session.run(session.fs.refresh)
    assert listed(session) == {file.name: len(content(file.name)) for file in files}
    last = looked_at(session, moves[-1])
    for file in files[:: len(files) // 50]:
        if file.begun < len(moves):
            assert last.read(DIRECTORY + b"/" + file.name.encode()) == content(file.name)


def test_switches_beside_sixteen_writers(tenant: Tenant, session: Session) -> None:
    """To a tree with the directory, one with another directory of that name, and one without."""
    session.mkdir(DIRECTORY)
    session.run(lambda: session.fs.checkpoint(ROOT, "with it"))
    session.rmdir(DIRECTORY)
    session.run(lambda: session.fs.checkpoint(ROOT, "without it"))
    session.mkdir(DIRECTORY)
    session.run(lambda: session.fs.checkpoint(ROOT, "with another"))
    session.run(lambda: session.fs.switch(ROOT, "with it"))
    moves, files = write_while(tenant, "switch", "24", "with another", "without it", "with it")
    session.run(session.fs.refresh)
    # What stood before each switch, and what stands now.
    trees = [listed(looked_at(session, ident)) for ident in moves] + [listed(session)]
    acknowledged = [file for file in files if file.refused is None]
    assert len(acknowledged) > 50 and len(acknowledged) < len(files), "all or none were refused: this proved nothing"
    assert len({file.before for file in acknowledged}) > 5
    for file in acknowledged:
        holds = [number for number, tree in enumerate(trees) if tree.get(file.name) == len(content(file.name))]
        assert any(file.before <= number <= file.begun for number in holds), f"{file} is in {holds}"


