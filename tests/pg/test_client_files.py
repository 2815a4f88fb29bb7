"""Files that `import tarbox_core` opens are io objects: beside those of builtins.open they do, tell and raise the same."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import random
import shutil
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

import tarbox_core
from tarbox_core.client.tree import Tree
from tests.tenants import Tenant


@pytest.fixture
def tree(tenant: Tenant) -> Iterator[Tree]:
    with tarbox_core.connect(tenant.url, tenant.info.name) as made:
        yield made


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except (OSError, ValueError) as error:  # io.UnsupportedOperation is both
        return type(error)


def random_step(dice: random.Random, text: bool) -> Callable[[IO[Any]], Any]:
    """Something to do with an open file."""
    size = dice.choice((0, 1, 7, 100, 5000, 9000))
    data: Any = "".join(dice.choice("abc\nä") for _ in range(size)) if text else dice.randbytes(size)
    place = dice.choice((0, 1, 10, 4096, 10_000, 20_000))
    steps: list[Callable[[IO[Any]], Any]] = [
        lambda f: f.read(size), lambda f: f.read(), lambda f: f.readline(), lambda f: f.readlines(), lambda f: f.write(data),
        lambda f: f.writelines([data, data]), lambda f: f.flush(), lambda f: f.seek(0, 2), lambda f: f.tell(),
        lambda f: (f.readable(), f.writable(), f.isatty()),
    ]  # fmt: skip
    if not text:  # elsewhere, text may be cut within a character
        steps += [lambda f: f.seek(place), lambda f: f.truncate(place), lambda f: f.truncate(), lambda f: f.seek(-1, 1), lambda f: f.seek(-place, 2)]
    else:
        steps += [lambda f: f.seek(0)]
    return dice.choice(steps)


@pytest.mark.parametrize("mode", ["r", "w", "a", "x", "r+", "w+", "a+", "x+", "rb", "wb", "ab", "xb", "rb+", "wb+", "ab+", "xb+"])
def test_files_do_what_those_of_the_system_do(tree: Tree, tmp_path: Path, mode: str) -> None:
    dice = random.Random(mode)
    for turn in range(6):
        before = dice.choice((None, b"", b"short\r\nlines\n\nx", b"line\n" * 5000))
        ours, theirs = f"/{turn}", tmp_path / str(turn)
        if before is not None:
            tree.write_bytes(ours, before)
            theirs.write_bytes(before)
        buffering = dice.choice((-1, -1, 16, 1 << 20)) if "b" not in mode else dice.choice((-1, 0, 16))
        more = {} if "b" in mode else {"encoding": "utf-8", "newline": dice.choice((None, "", "\n", "\r\n"))}
        files = outcome(lambda: tree.open(ours, mode, buffering, **more)), outcome(lambda: open(theirs, mode, buffering, **more))  # noqa: B023
        if isinstance(files[0], type):
            assert files[0] == files[1]
            continue
        steps = []
        for _ in range(25):
            state = dice.getstate()
            answers = []
            for file in files:
                dice.setstate(state)
                step = random_step(dice, "b" not in mode)
                answers.append(outcome(lambda: step(file)))  # noqa: B023
            steps.append(answers)
            assert answers[0] == answers[1], (turn, mode, buffering, more, len(steps))
        assert [outcome(file.close) for file in files] == [None, None]
        assert tree.read_bytes(ours) == theirs.read_bytes(), (turn, mode)
        assert files[0].closed and outcome(files[0].tell) is ValueError
        assert tree.stat(ours).st_size == theirs.stat().st_size


@pytest.mark.parametrize(
    "how", [("", ), ("rw", ), ("z", ), ("+", ), ("rr", ), ("rbt", ), ("rb", -1, "utf-8"), ("rb", -1, None, "strict"), ("rb", -1, None, None, "\n"), ("r", 0),
            ("r", -1, None, None, "x")],
)  # fmt: skip
def test_what_open_refuses(tree: Tree, tmp_path: Path, how: tuple[Any, ...]) -> None:
    tree.write_text("/f", "")
    (tmp_path / "f").write_text("")
    with pytest.raises(ValueError):
        open(tmp_path / "f", *how)
    with pytest.raises(ValueError):
        tree.open("/f", *how)


def test_kinds_of_io_objects(tree: Tree) -> None:
    with tree.open("/f", "wb") as writer, tree.open("/f", "rb") as reader, tree.open("/f", "rb+") as both, tree.open("/f", "rb", 0) as raw:
        assert (type(writer), type(reader), type(both)) == (io.BufferedWriter, io.BufferedReader, io.BufferedRandom)
        assert isinstance(raw, io.RawIOBase)
    with tree.open("/f", "w") as text:
        assert isinstance(text, io.TextIOWrapper) and text.encoding == "utf-8" and text.name == "/f"
        with pytest.raises(io.UnsupportedOperation):
            text.fileno()


def test_libraries_take_them(tree: Tree, tmp_path: Path) -> None:
    with tree.open("/rows.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["a", "b"], ["1", 'with "quotes"\nand a line']])
    with tree.open("/rows.csv", newline="") as stream:
        assert list(csv.reader(stream)) == [["a", "b"], ["1", 'with "quotes"\nand a line']]
    with tree.open("/x.json", "w") as stream:
        json.dump({"a": [1, 2]}, stream)
    with tree.open("/x.json") as stream:
        assert json.load(stream) == {"a": [1, 2]}
    with tree.open("/z.zip", "w+b") as stream, zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("inside.txt", "x" * 100_000)
    with tree.open("/z.zip", "rb") as stream, zipfile.ZipFile(stream) as archive:
        assert archive.testzip() is None and archive.read("inside.txt") == b"x" * 100_000
    database = sqlite3.connect(tmp_path / "s.db")
    database.execute("create table t as select 1 as x")
    database.commit()
    with open(tmp_path / "s.db", "rb") as source, tree.open("/s.db", "wb") as target:
        shutil.copyfileobj(source, target)
    database.close()
    assert tree.read_bytes("/s.db") == (tmp_path / "s.db").read_bytes()


def test_large_files_stream(tree: Tree) -> None:
    piece = os.urandom(700_001)
    with tree.open("/l", "wb") as stream:
        for _ in range(12):
            stream.write(piece)
    with tree.open("/l", "rb") as stream:
        for _ in range(12):
            assert stream.read(len(piece)) == piece
        assert stream.read(1) == b""
        stream.seek(3 * len(piece) - 5)
        assert stream.read(10) == piece[-5:] + piece[:5]
    with tree.open("/l", "rb+") as stream:
        stream.seek(1_000_000)
        stream.write(b"changed")
    with tree.open("/l", "rb", 0) as raw:
        raw.seek(999_999)
        assert raw.read(9) == (piece * 2)[999_999:1_000_000] + b"changed" + (piece * 2)[1_000_007:1_000_008]


def test_what_is_flushed_others_see(tree: Tree, tenant: Tenant) -> None:
    with tarbox_core.connect(tenant.url, tenant.info.name) as other, tree.open("/f", "w") as writer:
        assert other.read_text("/f") == ""
        writer.write("not yet")
        assert other.read_text("/f") == ""
        writer.flush()
        assert other.read_text("/f") == "not yet"
        with other.open("/f") as reader:
            assert reader.read() == "not yet"
            writer.write(", now")
            writer.flush()
            assert reader.read() == ", now"  # as `tail -f` goes on


def test_who_appends_at_the_same_time_loses_nothing(tree: Tree, tenant: Tenant) -> None:
    tree.write_text("/log", "")

    def append(number: int) -> None:
        with tree.open("/log", "a") as stream:
            for turn in range(15):
                stream.write(f"{number}:{turn}:{'x' * 700}\n")
                stream.flush()

    threads = [threading.Thread(target=append, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    lines = tree.read_text("/log").splitlines()
    assert sorted(lines) == sorted(f"{number}:{turn}:{'x' * 700}" for number in range(5) for turn in range(15))


def test_clocks_that_differ_lose_nothing(tree: Tree, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines, of which one is an hour behind, in one file."""
    with tarbox_core.connect(tenant.url, tenant.info.name) as behind, monkeypatch.context() as patch:
        clock = time.time_ns
        patch.setattr(behind._door, "clock", lambda: clock() - 3600 * 10**9)
        with tree.open("/log", "a") as ahead, behind.open("/log", "a") as late, tree.open("/log", "rb+", 0) as raw:
            for number in range(3):
                for stream in (ahead, late):
                    stream.write(f"{number}\n")
                    stream.flush()
            raw.write(b"x")
            late.write("y\n")
            late.flush()
            assert raw.truncate(3) == 3
            assert behind.read_text("/log") == "x\n0"


def test_a_file_that_others_removed(tree: Tree) -> None:
    tree.write_bytes("/f", bytes(50_000))
    with tree.open("/f", "rb") as reader:
        tree.remove("/f")
        assert len(reader.read()) == 50_000  # it lasts while it is open, and longer: until gc
    assert not tree.exists("/f")


def test_the_largest_size(make_tenant: Callable[..., Tenant]) -> None:
    tenant = make_tenant(max_file_size=10_000)
    with tarbox_core.connect(tenant.url, tenant.info.name) as tree:
        with pytest.raises(OSError) as raised:
            tree.write_bytes("/f", bytes(10_001))
        assert raised.value.errno == errno.EFBIG and not tree.exists("/f")  # all of it or nothing
        stream = tree.open("/g", "wb")
        stream.write(bytes(10_001))
        with pytest.raises(OSError):
            stream.close()
        assert stream.closed and tree.stat("/g").st_size == 10_000


def test_a_file_nobody_closed_is_closed(tree: Tree) -> None:
    tree.open("/f", "w").write("x")
    import gc

    gc.collect()
    assert tree.read_text("/f") == "x"
