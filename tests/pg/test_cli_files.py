"""Commands on the files of a tenant, on a real database."""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pg.cli import Tarbox, fresh


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        yield command


def test_a_file_from_argument_and_standard_input(tarbox: Tarbox) -> None:
    tarbox("write", "/a.txt", "hello")
    assert tarbox("cat", "/a.txt") == b"hello"
    tarbox("write", "--append", "/a.txt", given=b" world\n\xff\x00")
    assert tarbox("cat", "a.txt", "/a.txt") == b"hello world\n\xff\x00" * 2
    assert tarbox.json("write", "/a.txt", "x") == {"path": "/a.txt", "inode": tarbox.json("stat", "/a.txt")[0]["inode"], "written": 1, "size": 1}
    tarbox("write", "/empty", given=b"")
    assert tarbox("cat", "/empty") == b""
    big = os.urandom(5_000_000)
    tarbox("write", "/big", given=big)
    assert tarbox("cat", "/big") == big
    assert tarbox.json("stat", "/big")[0]["size"] == len(big)


def test_write_through_links_and_modes(tarbox: Tarbox) -> None:
    tarbox("write", "-m", "600", "/f", "1")
    tarbox("ln", "-s", "f", "/l")
    tarbox("write", "/l", "22")
    assert tarbox("cat", "/f") == b"22"
    assert tarbox.json("stat", "/f")[0]["mode"] == "0600"
    tarbox("ln", "-s", "nowhere", "/dangling")
    assert tarbox.fails("write", "/dangling", "x") == "/dangling: no such file or directory"


def test_the_umask_and_the_owner_are_the_callers(tarbox: Tarbox) -> None:
    me = (os.geteuid(), os.getegid())
    tarbox.run("write", "/f", "x", umask=0o077)
    tarbox.run("mkdir", "/d", umask=0o027)
    tarbox.run("mkdir", "-p", "/deep/er", umask=0o777)
    modes = {path: (item["mode"], item["uid"], item["gid"]) for path in ("/f", "/d", "/deep", "/deep/er") for item in tarbox.json("stat", path)}
    assert modes == {"/f": ("0600", *me), "/d": ("0750", *me), "/deep": ("0300", *me), "/deep/er": ("0000", *me)}


def test_mkdir_rmdir(tarbox: Tarbox) -> None:
    tarbox("mkdir", "/a", "/b")
    tarbox("mkdir", "-p", "/a/x/y", "/a", "a/x/y/")
    tarbox("mkdir", "-m", "u=rwx,go=", "/private")
    tarbox("mkdir", "-m", "1777", "/sticky")
    assert [item["mode"] for item in tarbox.json("stat", "/private", "/sticky")] == ["0700", "1777"]
    assert tarbox.fails("mkdir", "/a") == "/a: file exists"
    assert tarbox.fails("mkdir", "/") == "/: file exists"
    assert tarbox.fails("mkdir", "/no/where") == "/no/where: no such file or directory"
    tarbox("write", "/f", "x")
    assert tarbox.fails("mkdir", "-p", "/f/g") == "/f/g: not a directory"
    assert tarbox.fails("mkdir", "-p", "/f") == "/f: file exists"
    assert tarbox.fails("rmdir", "/a") == "/a: directory not empty"
    assert tarbox.fails("rmdir", "/f") == "/f: not a directory"
    assert tarbox.fails("rmdir", "/") == "/: busy"
    tarbox("rmdir", "/a/x/y", "/a/x/")
    done = tarbox.run("rmdir", "/a", "/none", "/b", status=1)
    assert done.stderr == b"tarbox: /none: no such file or directory\n"
    assert tarbox.names() == [b"f", b"private", b"sticky"]


def test_ls_in_all_its_forms(tarbox: Tarbox) -> None:
    tarbox("mkdir", "-p", "/d/sub")
    tarbox("write", "/d/b", "12345")
    tarbox("write", "/d/.hidden", "x")
    tarbox("ln", "-s", "b", "/d/link")
    tarbox("touch", "-d", "2024-05-01T10:30:00Z", "/d/b")
    tarbox("chmod", "640", "/d/b")
    assert tarbox("ls", "/d") == b"b\nlink\nsub\n"
    assert tarbox("ls", "-a", "/d") == b".hidden\nb\nlink\nsub\n"
    assert tarbox("ls", "-r", "/d") == b"sub\nlink\nb\n"
    assert tarbox("ls", "-S", "/d").startswith(b"b\n")
    assert tarbox("ls", "-t", "/d").endswith(b"b\n")
    assert tarbox("ls", "-d", "/d", "/d/b") == b"/d\n/d/b\n"
    assert tarbox("ls", "-R", "/d") == b"/d:\nb\nlink\nsub\n\n/d/sub:\n"
    assert tarbox("ls", "/d/b", "/d/sub") == b"/d/b\n\n/d/sub:\n"
    long = tarbox.run("ls", "-l", "/d", env={"TZ": "UTC"}).stdout.decode().splitlines()
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert long[0].split()[:3] == ["-rw-r-----", "1", user]
    assert long[0].endswith(" 5 2024-05-01 10:30 b")
    assert long[1].startswith("lrwxrwxrwx") and long[1].endswith("link -> b")
    assert tarbox("ls", "-ln", "/d").split()[2] == str(os.geteuid()).encode()
    items = {item["name"]: item for item in tarbox.json("ls", "-a", "/d")}
    assert set(items) == {"b", ".hidden", "link", "sub"}
    assert items["b"] | {"inode": 0, "ctime": "", "atime": "", "layer": 0} == {
        "name": "b", "path": "/d/b", "type": "file", "mode": "0640", "uid": os.geteuid(), "gid": os.getegid(), "size": 5, "stored": 5, "links": 1,
        "inode": 0, "layer": 0, "mtime": "2024-05-01T10:30:00.000000000Z", "ctime": "", "atime": "",
    }
    assert items["link"]["target"] == "b" and items["link"]["type"] == "symlink"
    assert items["sub"]["type"] == "directory"
    for words in (("ls", "/d/b"), ("ls", "-d", "d/b"), ("stat", "/d/b"), ("tree", "/d/b")):
        assert [(item["name"], item["path"]) for item in tarbox.json(*words)] == [("b", "/d/b")]
    assert tarbox.json("ls", "-d", "/")[0]["name"] == "/"
    done = tarbox.run("ls", "/none", "/d/b", status=1)
    assert (done.stdout, done.stderr) == (b"/d/b\n", b"tarbox: /none: no such file or directory\n")


def test_large_directories_come_whole_and_sorted(tarbox: Tarbox, tmp_path: Path) -> None:
    for number in range(2500):
        (tmp_path / "many" / f"{number:04}").parent.mkdir(exist_ok=True)
        (tmp_path / "many" / f"{number:04}").touch()
    tarbox("put", "many", "/")
    assert tarbox.names("/many") == [b"%04d" % number for number in range(2500)]
    tarbox("rm", "-r", "/many")
    assert tarbox.names() == []


def test_tree(tarbox: Tarbox) -> None:
    tarbox("mkdir", "-p", "/a/b/c", "/z")
    tarbox("write", "/a/f", "x")
    tarbox("ln", "-s", "f", "/a/l")
    assert tarbox("tree", "/").decode() == "/\n├── a\n│   ├── b\n│   │   └── c\n│   ├── f\n│   └── l -> f\n└── z\n\n4 directories, 2 files\n"
    assert tarbox("tree", "-L", "1").decode() == "/\n├── a\n└── z\n\n2 directories, 0 files\n"
    assert tarbox("tree", "-d", "/a").decode() == "/a\n└── b\n    └── c\n\n2 directories\n"
    (root,) = tarbox.json("tree", "/a")
    assert [entry["name"] for entry in root["entries"]] == ["b", "f", "l"]
    assert root["entries"][0]["entries"][0]["entries"] == []


def test_stat(tarbox: Tarbox) -> None:
    tarbox("write", "/f", "12345")
    tarbox("ln", "/f", "/g")
    tarbox("ln", "-s", "f", "/l")
    shown = tarbox("stat", "/l", "/f").decode()
    assert "Path:     /l -> f\n" in shown and "Type:     symlink\n" in shown
    assert "Size:     5 (5 stored)\n" in shown and "Links:    2\n" in shown
    assert tarbox.json("stat", "/f")[0]["inode"] == tarbox.json("stat", "/g")[0]["inode"] == tarbox.json("stat", "-L", "/l")[0]["inode"]
    assert tarbox.json("stat", "/")[0]["inode"] == 1


def test_touch(tarbox: Tarbox) -> None:
    tarbox("touch", "/new", "/other")
    tarbox("touch", "-c", "/none")
    assert tarbox.names() == [b"new", b"other"]
    tarbox("touch", "-d", "@5.000000001", "/new")
    tarbox("touch", "-m", "-d", "@7", "/new")
    (item,) = tarbox.json("stat", "/new")
    assert (item["atime"], item["mtime"]) == ("1970-01-01T00:00:05.000000001Z", "1970-01-01T00:00:07.000000000Z")
    tarbox("touch", "/new")
    assert tarbox.json("stat", "/new")[0]["mtime"] > "2024"
    assert tarbox.fails("touch", "/no/where") == "/no/where: no such file or directory"
    assert tarbox.fails("touch", "/new/") == "/new/: not a directory"


def test_rm(tarbox: Tarbox) -> None:
    tarbox("mkdir", "-p", "/d/e/f")
    tarbox("write", "/d/e/x", "x")
    tarbox("ln", "-s", "/keep", "/d/link")
    tarbox("mkdir", "/keep")
    tarbox("write", "/keep/me", "x")
    tarbox("write", "/one", "x")
    assert tarbox.fails("rm", "/d") == "/d: is a directory"
    assert tarbox.fails("rm", "-r", "/") == "/: busy"
    assert tarbox.fails("rm", "-rf", "/d/.") == "/d/.: invalid argument"
    assert tarbox.fails("rm", "/none") == "/none: no such file or directory"
    assert tarbox.fails("rm", "/one/") == "/one/: not a directory"
    tarbox("rm", "-f", "/none", "/no/where", "/one/deeper")
    tarbox("rm", "-rf", "/d", "/one")
    assert tarbox.names() == [b"keep"]
    assert tarbox("cat", "/keep/me") == b"x"


def test_mv(tarbox: Tarbox) -> None:
    tarbox("write", "/a", "1")
    tarbox("mkdir", "/d", "/e")
    tarbox("mv", "/a", "/b")
    tarbox("mv", "/b", "/d")
    tarbox("mv", "/d/b", "/d/c")
    tarbox("write", "/x", "2")
    assert tarbox.fails("mv", "-n", "/x", "/d/c") == "/d/c: file exists"
    tarbox("mv", "--exchange", "/x", "/d/c")
    assert (tarbox("cat", "/x"), tarbox("cat", "/d/c")) == (b"1", b"2")
    tarbox("mv", "/x", "/d/c")
    assert tarbox("cat", "/d/c") == b"1"
    tarbox("mv", "/d", "/e")
    assert tarbox("ls", "-R", "/") == b"/:\ne\n\n/e:\nd\n\n/e/d:\nc\n"
    assert tarbox.fails("mv", "/e", "/e/d") == "/e/d/e: a directory cannot be moved into itself"
    assert tarbox.fails("mv", "/none", "/e") == "/none: no such file or directory"
    assert tarbox.fails("mv", "/", "/e") == "/: busy"
    tarbox("write", "/f", "x")
    tarbox("write", "/g", "x")
    done = tarbox.run("mv", "/f", "/g", "/e/d/c", status=1)
    assert done.stderr == b"tarbox: /e/d/c: not a directory\n" * 2
    tarbox("mv", "/f", "/g", "/e/")
    assert tarbox.names("/e") == [b"d", b"f", b"g"]
    assert tarbox.fails("mv", "/e", "/e") == "/e/e: a directory cannot be moved into itself"
    assert tarbox.fails("mv", "/e", "/e/new") == "/e/new: a directory cannot be moved into itself"


def test_cp(tarbox: Tarbox) -> None:
    content = os.urandom(300_000)
    tarbox("mkdir", "-p", "/src/sub")
    tarbox("write", "/src/big", given=content)
    tarbox("ln", "/src/big", "/src/sub/hard")
    tarbox("ln", "-s", "big", "/src/link")
    tarbox("chmod", "4711", "/src/big")
    tarbox("touch", "-d", "@9", "/src/big", "/src")
    assert tarbox.fails("cp", "/src", "/dst") == "/src: is a directory"
    tarbox("cp", "/src/link", "/copy")
    assert tarbox("cat", "/copy") == content
    assert tarbox.json("stat", "/copy")[0]["mode"] == "0711"
    tarbox("cp", "-r", "/src", "/dst")
    assert tarbox("cat", "/dst/big") == content
    assert tarbox.json("stat", "/dst/link")[0]["target"] == "big"
    assert tarbox.json("stat", "/dst/big")[0]["links"] == 1
    tarbox("cp", "-a", "/src", "/archive")
    kept = tarbox.json("stat", "/archive/big")[0]
    assert (kept["mode"], kept["mtime"], kept["links"]) == ("4711", "1970-01-01T00:00:09.000000000Z", 2)
    assert tarbox.json("stat", "/archive")[0]["mtime"] == "1970-01-01T00:00:09.000000000Z"
    tarbox("cp", "-r", "/src", "/dst")  # exists now: into it
    assert tarbox.names("/dst") == [b"big", b"link", b"src", b"sub"]
    tarbox("cp", "-r", "/src/.", "/dst/src")
    assert tarbox.names("/dst/src") == [b"big", b"link", b"sub"]
    before = tarbox.json("tenant", "info", tarbox.tenant)["stored_bytes"]
    tarbox("cp", "/src/big", "/again")
    assert tarbox.json("tenant", "info", tarbox.tenant)["stored_bytes"] == before  # shared, not doubled
    assert tarbox.fails("cp", "-r", "/src", "/src/sub") == "/src/sub/src: a directory cannot be copied into itself"
    assert tarbox.fails("cp", "/src/big", "/src/big") == "/src/big and /src/big are the same file"
    assert tarbox.fails("cp", "/src/big", "/src/link") == "/src/big and /src/link are the same file"
    tarbox("cp", "-n", "/copy", "/dst/big")
    tarbox("write", "/small", "s")
    tarbox("cp", "/small", "/dst/big")
    assert tarbox("cat", "/dst/big") == b"s"
    assert tarbox.fails("cp", "/small", "/dst/none/x") == "/dst/none/x: no such file or directory"


def test_ln(tarbox: Tarbox) -> None:
    tarbox("write", "/f", "x")
    tarbox("mkdir", "/d")
    tarbox("ln", "/f", "/d")
    tarbox("ln", "-s", "../f", "/d/rel")
    tarbox("ln", "-s", b"any \xff text", "/d/odd")
    assert tarbox("cat", "/d/f", "/d/rel") == b"xx"
    assert tarbox("ls", "-l", "/d/odd").endswith(b"/d/odd -> any \xff text\n")
    assert tarbox.fails("ln", "/d", "/e") == "/d: operation not permitted"
    assert tarbox.fails("ln", "-s", "x", "/f") == "/f: file exists"
    tarbox("ln", "-sf", "d", "/f")
    assert tarbox.json("stat", "/f")[0]["target"] == "d"
    tarbox("ln", "-sfn", "elsewhere", "/f")
    assert tarbox.json("stat", "/f")[0]["target"] == "elsewhere"
    assert tarbox.fails("ln", "/none", "/g") == "/none: no such file or directory"


def test_chmod_chown(tarbox: Tarbox) -> None:
    tarbox("mkdir", "-p", "/d/e")
    tarbox("write", "/d/f", "x")
    tarbox("ln", "-s", "f", "/d/l")
    tarbox("chmod", "-R", "u=rwX,go-rwx", "/d")
    assert [item["mode"] for item in tarbox.json("stat", "/d", "/d/e", "/d/f")] == ["0700", "0700", "0600"]
    tarbox("chmod", "+x", "/d/f")
    tarbox("chmod", "-w", "/d/l")
    assert tarbox.json("stat", "/d/f")[0]["mode"] == "0511"
    tarbox("chmod", "07755", "/d/f")
    assert tarbox.json("stat", "/d/f")[0]["mode"] == "7755"
    tarbox("chown", "-R", "12:34", "/d")
    assert {(item["uid"], item["gid"]) for item in tarbox.json("ls", "-R", "/d")} == {(12, 34)}
    tarbox("chown", "root", "/d/l")
    assert (tarbox.json("stat", "/d/f")[0]["uid"], tarbox.json("stat", "/d/l")[0]["uid"]) == (0, 12)
    tarbox("chown", "-h", ":56", "/d/l")
    assert tarbox.json("stat", "/d/l")[0]["gid"] == 56
    assert tarbox.fails("chown", "no-such-user", "/d", status=2) == "argument USER[:GROUP]: no user 'no-such-user' (see tarbox chown --help)"


def test_names_of_any_bytes(tarbox: Tarbox) -> None:
    names = [b"-rf", b"a\nb", b"\xff\xfe", "grüße".encode(), b"two words", b"'\"$`\\", b"x" * 255]
    for name in names:
        tarbox("write", "--", b"/" + name, b"in " + name[:10])
    assert tarbox("ls", "/").split(b"\n") == b"\n".join(sorted(names)).split(b"\n") + [b""]
    for name in names:
        assert tarbox("cat", b"/" + name) == b"in " + name[:10]
    items = tarbox.json("ls", "/")
    assert sorted(item["name"].encode("utf-8", "surrogateescape") for item in items) == sorted(names)
    assert [item["name_base64"] for item in items if "name_base64" in item] == ["//4="]
    assert tarbox.fails("touch", b"/" + b"x" * 256).endswith(": name too long")
    assert tarbox.fails("cat", b"/a\nb/x") == "/a\\nb/x: not a directory"
    tarbox("rm", *(b"/" + name for name in names))


def test_deep_paths(tarbox: Tarbox, tmp_path: Path) -> None:
    path = "/" + "/".join(["d"] * 600)
    tarbox("mkdir", "-p", path)
    tarbox("write", path + "/f", "deep")
    tarbox("cp", "-r", "/d", "/copy")
    assert tarbox("cat", path.replace("/d", "/copy", 1) + "/f") == b"deep"
    assert tarbox("tree").count(b"\n") == 1205
    tarbox("get", "/copy", "host")
    assert Path(str(tmp_path / "host") + path.removeprefix("/d") + "/f").read_text() == "deep"
    tarbox("put", "host", "/back")
    tarbox("rm", "-r", "/d", "/copy", "/back")
    assert tarbox.names() == []


def test_every_mutation_is_in_the_audit_trail(tarbox: Tarbox, schema_url: str) -> None:
    from tarbox_core.drivers.sync import SyncDriver
    from tarbox_core.effects import Statement, many

    tarbox("mkdir", "/d")
    tarbox("write", "/d/f", "hello")
    tarbox("mv", "/d/f", "/d/g")
    tarbox("rm", "/d/g")
    tarbox("rmdir", "/d")
    sql = "select operation, path, uid from audit_logs join tenant using (tenant) where name = $1 order by id"
    records = Statement("t.audit", sql, ("text",), ("text", "text", "int8"))
    with SyncDriver(schema_url, pool_size=1) as driver:
        rows = driver.run(lambda: many(records(tarbox.tenant)))
    operations = [operation for operation, _, _ in rows]
    for operation in ("mkdir", "create", "write", "rename", "unlink", "rmdir"):
        assert operation in operations
    assert {uid for _, _, uid in rows} == {os.geteuid()}


def test_output_goes_nowhere_quietly(tarbox: Tarbox) -> None:
    tarbox("write", "/big", given=b"y\n" * 3_000_000)
    import subprocess
    import sys

    with subprocess.Popen([sys.executable, "-m", "tarbox_cli", "cat", "/big"], env=tarbox.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_special_files_are_shown_and_refused(tarbox: Tarbox, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    tarbox("put", "fifo", "/")
    assert tarbox("ls", "-l", "/").startswith(b"p")
    assert json.loads(tarbox("ls", "/", "--json"))[0]["type"] == "fifo"
    assert tarbox.fails("cat", "/fifo") == "/fifo: operation not supported"
    assert tarbox.fails("cat", "/") == "/: is a directory"
    tarbox("get", "/fifo", "out")
    assert stat.S_ISFIFO((tmp_path / "out").stat().st_mode)
