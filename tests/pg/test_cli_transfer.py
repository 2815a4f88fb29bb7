"""put and get: what goes in comes out as it was, and what comes out of a tenant can do no harm to the host."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pg.cli import Tarbox, fresh

ROOT = os.geteuid() == 0
COMMAND = [sys.executable, "-m", "tarbox_cli"]


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        yield command


def seen(path: bytes) -> tuple[object, ...]:
    """Everything of a file that a transfer keeps."""
    info = os.lstat(path)
    mode = info.st_mode
    content: object = None
    if stat.S_ISREG(mode):
        with open(path, "rb") as stream:
            content = stream.read()
    elif stat.S_ISLNK(mode):
        content = os.readlink(path)
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
    return mode, info.st_uid, info.st_gid, info.st_mtime_ns, info.st_nlink if not stat.S_ISDIR(mode) else 0, content, xattrs


def below(root: Path) -> dict[bytes, tuple[object, ...]]:
    start = os.fsencode(root)
    found = {b"": seen(start)}
    for folder, folders, files in os.walk(start):
        for name in folders + files:
            path = os.path.join(folder, name)
            found[path[len(start) :]] = seen(path)
    return found


def build(root: Path) -> Path:
    """A directory with one of everything."""
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "text").write_text("hello\n")
    (root / "none").touch()
    (root / "big").write_bytes(os.urandom(3_000_001))
    os.link(root / "text", root / "sub" / "hard")
    os.link(root / "text", root / "sub" / "deeper" / "hard2")
    (root / "link").symlink_to("sub/hard")
    (root / "dangling").symlink_to("/no/where")
    os.link(root / "link", root / "hardlink-of-link", follow_symlinks=False)
    Path(os.fsdecode(os.fsencode(root) + b"/\xff \n'")).write_text("odd")
    (root / "sub" / ("x" * 255)).touch()
    os.mkfifo(root / "fifo")
    (root / "text").chmod(0o640)
    (root / "none").chmod(0o4711)
    (root / "empty").chmod(0o1777)
    (root / "sub").chmod(0o2755)
    (root / "big").chmod(0o000)
    os.setxattr(root / "text", "user.comment", b"\x00\xff")
    os.setxattr(root / "sub", "user.folder", b"yes")
    if ROOT:
        os.chown(root / "text", 1234, 2345)
        os.chown(root / "link", 1, 2, follow_symlinks=False)
        os.chown(root / "sub", 3, 4)
        (root / "sub").chmod(0o2755)
        os.setxattr(root / "none", "trusted.t", b"root's")
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(1_000_000_007 * (number + 1), 1_000_000_123 * (number + 1) + 1), follow_symlinks=False)
    os.utime(root, ns=(5, 7))
    return root


def test_a_tree_comes_back_as_it_was(tarbox: Tarbox, tmp_path: Path) -> None:
    source = build(tmp_path / "source")
    counts = tarbox.json("put", "source", "/")
    assert {key: counts[key] for key in ("files", "directories", "links", "special", "skipped", "complete")} == {
        "files": 5, "directories": 4, "links": 5, "special": 1, "skipped": 0, "complete": True,
    }
    assert counts["bytes"] == 3_000_001 + 6 + 3
    back = tarbox.json("get", "/source", "back")
    assert {key: back[key] for key in ("files", "directories", "bytes")} == {"files": 5, "directories": 4, "bytes": counts["bytes"]}
    assert below(tmp_path / "back") == below(source)
    # A second time over what is there, both ways, changes nothing; but the directory that holds DIR/. is the user's own.
    tarbox("put", "source", "/")
    tarbox("get", "/source/.", "back")
    assert below(tmp_path / "back") | {b"": ()} == below(source) | {b"": ()}


def test_rsync_finds_no_difference(tarbox: Tarbox, tmp_path: Path) -> None:
    build(tmp_path / "source")
    tarbox("put", "source", "/")
    tarbox("get", "/source", "back")
    done = subprocess.run(["rsync", "-aHXSni", "--checksum", "--delete", "source/", "back/"], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == b""


def test_holes_stay_holes(tarbox: Tarbox, tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as stream:
        stream.seek(20 << 20)
        stream.write(b"in the middle")
        stream.truncate(50 << 20)
    (tmp_path / "void").touch()
    os.truncate(tmp_path / "void", 1 << 30)
    counts = tarbox.json("put", "sparse", "void", "/")
    assert counts["bytes"] < 1 << 20
    for name, size in (("sparse", 50 << 20), ("void", 1 << 30)):
        (item,) = tarbox.json("stat", f"/{name}")
        assert item["size"] == size and item["stored"] < 1 << 20
    (tmp_path / "empty").mkdir()
    assert tarbox.json("get", "/sparse", "/void", "empty")["bytes"] < 1 << 20
    for name in ("sparse", "void"):
        copy = tmp_path / "empty" / name
        assert copy.stat().st_size == (tmp_path / name).stat().st_size
        assert copy.stat().st_blocks * 512 < 1 << 20
    assert (tmp_path / "empty" / "sparse").read_bytes() == sparse.read_bytes()


def test_where_things_go(tarbox: Tarbox, tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "f").write_text("f")
    tarbox("mkdir", "/into")
    tarbox("put", "d", "/new")
    tarbox("put", "d", "d/f", "/into")
    tarbox("put", "d/.", "/merged")
    tarbox("put", "d/.", "/into")
    tarbox("put", "d/f", "/named")
    expected = "/: into merged named new /into: d e f /into/d: e f /into/d/e: /into/e: /merged: e f /merged/e: /new: e f /new/e:"
    assert tarbox("ls", "-R", "/").decode().split() == expected.split()
    (tmp_path / "out").mkdir()
    tarbox("get", "/new", "/named", "out")
    tarbox("get", "/new/.", "out")
    tarbox("get", "/into/f", "single")
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")) == ["e", "f", "named", "new", "new/e", "new/f"]
    assert (tmp_path / "single").read_text() == "f"
    assert tarbox.fails("put", "d/f", "/named/") == "/named/: not a directory"
    assert tarbox.fails("put", "nothing", "/") == "nothing: no such file or directory"
    assert tarbox.fails("get", "/nothing", "x") == "/nothing: no such file or directory"
    assert tarbox.fails("get", "/named", "no/where") == "no/where: no such file or directory"
    done = tarbox.run("get", "/named", "/into/f", "single", status=1)
    assert done.stderr == b"tarbox: single: not a directory\n" * 2


def test_what_stands_in_the_way(tarbox: Tarbox, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("x")
    (tmp_path / "x").write_text("other")
    tarbox("mkdir", "-p", "/d/x", "/t")
    assert tarbox.fails("put", "d", "/") == "/d/x: is a directory"
    tarbox("write", "/t/d", "file")
    assert tarbox.fails("put", "d", "/t") == "/t/d: not a directory"
    tarbox("write", "/victim", "mine")
    tarbox("ln", "-s", "/victim", "/x")
    tarbox("put", "x", "/")  # replaces the link, and does not write through it
    assert (tarbox("cat", "/victim"), tarbox("cat", "/x")) == (b"mine", b"other")
    tarbox("ln", "/victim", "/hard")
    (tmp_path / "hard").write_text("new")
    tarbox("put", "hard", "/")  # the other name keeps its content
    assert (tarbox("cat", "/victim"), tarbox("cat", "/hard")) == (b"mine", b"new")
    (tmp_path / "victim").write_text("shorter")
    tarbox("put", "victim", "/")
    assert tarbox("cat", "/victim") == b"shorter"
    assert tarbox.fails("get", "/d", "x") == "x: not a directory"
    assert tarbox.fails("get", "/victim", "d/x/y") == "d/x/y: not a directory"


def test_one_bad_file_does_not_stop_the_rest(tarbox: Tarbox, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "z"):
        (tmp_path / "d" / name).write_text(name)
    (tmp_path / "d" / "b").write_bytes(b"b" * 200_000)
    small = Tarbox(tarbox.env["TARBOX_DATABASE_URL"], tmp_path)
    small("tenant", "create", small.tenant, "--max-file-size", "100kB")
    done = small.run("put", "d", "/", "--json", status=1)
    assert done.stderr == b"tarbox: /d/b: file too large\n"
    assert b'"complete": false' in done.stdout
    assert small("cat", "/d/a", "/d/z") == b"az"


def test_a_tenants_links_lead_nowhere_on_the_host(tarbox: Tarbox, tmp_path: Path) -> None:
    """get runs twice; in between the tenant's owner turns a link, already fetched, into a directory or file of that name."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("host's own")
    tarbox("mkdir", "/d")
    tarbox("ln", "-s", str(outside), "/d/trap")
    tarbox("ln", "-s", str(outside / "file"), "/d/trap2")
    tarbox("get", "/d", "got")
    tarbox("rm", "/d/trap", "/d/trap2")
    tarbox("mkdir", "/d/trap")
    tarbox("write", "/d/trap/file", "planted")
    tarbox("write", "/d/trap2", "planted")
    tarbox("get", "/d/.", "got")
    assert (outside / "file").read_text() == "host's own"
    assert sorted(path.name for path in outside.iterdir()) == ["file"]
    assert (tmp_path / "got" / "trap" / "file").read_text() == "planted"
    assert not (tmp_path / "got" / "trap").is_symlink()


def test_get_writes_into_devices_and_through_the_link_that_the_user_names(tarbox: Tarbox, tmp_path: Path) -> None:
    tarbox("write", "/f", "content")
    tarbox("get", "/f", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    (tmp_path / "real").write_text("old")
    (tmp_path / "alias").symlink_to("real")
    tarbox("get", "/f", "alias")
    assert (tmp_path / "alias").is_symlink() and (tmp_path / "real").read_text() == "content"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tarbox")] == []


@pytest.mark.skipif(not ROOT, reason="makes device files and changes user")
def test_what_root_takes_along_and_others_do_not(tarbox: Tarbox, tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    said = subprocess.run([*COMMAND, "put", "null", "/"], cwd=tmp_path, env=tarbox.env, capture_output=True, check=False)
    assert (said.returncode, said.stderr) == (0, b"tarbox: null: skipped: a device; root can copy it with --devices\n")
    tarbox("put", "--devices", "null", "/")
    assert tarbox.json("stat", "/null")[0]["device"] == [1, 3]
    said = subprocess.run([*COMMAND, "get", "/null", "out"], cwd=tmp_path, env=tarbox.env, capture_output=True, check=False)
    assert b"skipped: a device" in said.stderr and not (tmp_path / "out").exists()
    tarbox("get", "--devices", "/null", "out")
    assert os.stat(tmp_path / "out").st_rdev == os.makedev(1, 3)


def test_sockets_travel_too(tarbox: Tarbox, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "s"))
    tarbox("put", "s", "/")
    assert tarbox.json("stat", "/s")[0]["type"] == "socket"


def test_a_progress_line_on_a_terminal(tarbox: Tarbox, tmp_path: Path) -> None:
    import pty

    (tmp_path / "big").write_bytes(os.urandom(30_000_000))
    leader, follower = pty.openpty()
    process = subprocess.Popen([*COMMAND, "put", "big", "/"], cwd=tmp_path, env=tarbox.env, stderr=follower, stdout=subprocess.PIPE)
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 65536):
            shown += part
    except OSError:  # how Linux tells that the other end was closed
        pass
    finally:
        os.close(leader)
    assert process.communicate()[0] == b""
    assert process.returncode == 0
    assert b"%]" in shown or b"% " in shown
    assert b"tarbox: 1 files, 29MB in " in shown.rsplit(b"\x1b[K", 1)[-1]
