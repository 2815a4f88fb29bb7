"""diff, history and restore: what people read, patches that git apply and patch -p1 take, and trees that come back."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pg.cli import Tarbox, fresh
from tests.pg.test_compare import do_something
from tests.pg.test_layers import checkpoint
from tests.tenants import Tenant

TEXT = "".join(f"line {number}\n" for number in range(1, 21))


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        yield command


def write(tarbox: Tarbox, path: str | bytes, data: str | bytes) -> None:
    tarbox("write", path, given=data if isinstance(data, bytes) else data.encode())


@pytest.fixture
def project(tarbox: Tarbox) -> Tarbox:
    """A few files, with a checkpoint named "before"."""
    tarbox("mkdir", "-p", "/src/lib")
    write(tarbox, "/src/main.py", TEXT)
    write(tarbox, "/src/lib/util.py", "a = 1\n")
    write(tarbox, "/data.bin", b"\0\1\2")
    tarbox("ln", "-s", "src/main.py", "/link")
    tarbox("layer", "create", "before")
    return tarbox


def edit(tarbox: Tarbox) -> None:
    write(tarbox, "/src/main.py", TEXT.replace("line 3\n", "line three\n").replace("line 20\n", "line 20"))
    tarbox("mv", "/src/lib", "/src/core")
    tarbox("chmod", "755", "/src/core/util.py")
    write(tarbox, "/empty", "")


# --- diff, for people


def test_two_layers_are_named_in_several_ways(project: Tarbox) -> None:
    edit(project)
    project("layer", "create", "after the move")
    write(project, "/src/main.py", TEXT)
    both = project("diff", "before", "after the move")
    assert b"+line three" in both and project("diff", "before..after the move") == both == project("diff", "..after the move")
    assert project("diff", "before..after the move", "/src/main.py") == project("diff", "before", "after the move", "/src/main.py")
    assert project("diff", "before..") == project("diff", "before", "head")
    assert project("diff", "before", "/src/core") == project("diff", "before..", "/src/core") == project("diff", "before", "head", "/src/core") != b""
    everything = project("diff")
    assert everything == project("diff", ".") == project("diff", "/src/..") == project("diff", "..") != b""
    assert project("diff", "/src/core/.") == project("diff", "src/core") and project("history", "/src/.") == project("history", "src")
    assert project.fails("diff", "/src/main.py/..") == "/src/main.py/..: neither in after the move nor in head"
    write(project, "/a..b", "x\n")
    assert project("diff", "--name-status", "/a..b") == b"A\t/a..b\n"


def test_names_that_lines_cannot_hold_are_quoted_alike(project: Tarbox) -> None:
    write(project, "/a\n b", TEXT)
    project("layer", "create", "odd")
    project("mv", "/a\n b", "/c d")
    assert project("diff") == b'renamed "/a\\n b" -> /c d\n'


def test_a_file_against_the_last_checkpoint(project: Tarbox) -> None:
    edit(project)
    assert project("diff", "/src/main.py").decode().splitlines() == [
        "--- /src/main.py (before)", "+++ /src/main.py (head)",
        "@@ -1,6 +1,6 @@", " line 1", " line 2", "-line 3", "+line three", " line 4", " line 5", " line 6",
        "@@ -17,4 +17,4 @@", " line 17", " line 18", " line 19", "-line 20", "+line 20", "\\ No newline at end of file",
    ]  # fmt: skip
    assert project("diff", "-U", "0", "src/main.py").decode().splitlines()[2:5] == ["@@ -3 +3 @@", "-line 3", "+line three"]
    assert project("diff", "/data.bin") == b""


def test_what_lines_do_not_say_is_said_in_words(project: Tarbox) -> None:
    edit(project)
    write(project, "/data.bin", b"\0\1\3")
    project("rm", "/link")
    project("ln", "-s", "src", "/link")
    project("mkdir", "/new")
    assert project("diff").decode().splitlines()[:15] == [
        "Binary files /data.bin (before) and /data.bin (head) differ", "new empty file /empty",
        "--- /link (before)", "+++ /link (head)", "@@ -1 +1 @@", "-src/main.py", "\\ No newline at end of file", "+src", "\\ No newline at end of file",
        "new directory /new", "renamed /src/lib -> /src/core", "mode 0644 -> 0755 /src/core/util.py",
        "--- /src/main.py (before)", "+++ /src/main.py (head)", "@@ -1,6 +1,6 @@",
    ]  # fmt: skip


def test_between_layers(project: Tarbox) -> None:
    edit(project)
    project("layer", "create", "after")
    project("rm", "/src/main.py")
    name = project.json("layer", "list")[0]["id"][:8]
    shown = project("diff", "before", "after", "/src/main.py")
    assert shown.startswith(b"--- /src/main.py (before)\n+++ /src/main.py (after)\n@@ -1,6 +1,6 @@\n")
    assert project("diff", name, "after", "src/main.py") == shown
    assert project("diff", "--layer", "after", "/src/main.py") == shown, "what the layer changed"
    assert project("diff", "after", "before", "/src/main.py").startswith(b"--- /src/main.py (after)\n+++ /src/main.py (before)\n@@ -1,6 +1,6 @@\n")
    assert project("diff", "after", "head", "--name-status") == b"D\t/src/main.py\n"
    assert project("diff", "after", "head").startswith(b"--- /src/main.py (after)\n+++ /dev/null\n@@ -1,20 +0,0 @@\n-line 1\n")
    assert project("diff", "before", "before") == b"" == project("diff", "before", "before", "--stat")


def test_name_status_and_stat(project: Tarbox) -> None:
    edit(project)
    assert project("diff", "--name-status").decode().splitlines() == [
        "A\t/empty", "R\t/src/lib\t/src/core", "m\t/src/core/util.py", "M\t/src/main.py",
    ]  # fmt: skip
    assert project("diff", "--stat").decode().splitlines() == [
        " /empty                                | 0", " /src/lib => /src/core                 | 0", " /src/lib/util.py => /src/core/util.py | 0",
        " /src/main.py                          | 4 ++--", " 4 paths changed, 2 insertions(+), 2 deletions(-)",
    ]  # fmt: skip


def test_json(project: Tarbox) -> None:
    edit(project)
    found = {change["path"]: change for change in project.json("diff")}
    assert list(found) == ["/empty", "/src/core", "/src/core/util.py", "/src/main.py"]
    main = found["/src/main.py"]
    assert (main["status"], main["old_path"], main["added"], main["deleted"], main["modified"]) == ("M", "/src/main.py", 0, 0, 2)
    assert (main["old"]["size"], main["new"]["size"], main["new"]["type"]) == (len(TEXT), len(TEXT) + 3, "file")
    assert found["/empty"]["old"] is None and found["/empty"]["old_path"] is None
    assert found["/src/core"]["old_path"] == "/src/lib" and found["/src/core/util.py"]["old_path"] == "/src/lib/util.py"


def test_colours(project: Tarbox) -> None:
    write(project, "/src/lib/util.py", "a = 2\n--- b\n")
    assert project("diff", "--color", "always").splitlines() == [
        b"\x1b[1m--- /src/lib/util.py (before)\x1b[m", b"\x1b[1m+++ /src/lib/util.py (head)\x1b[m", b"\x1b[36m@@ -1 +1,2 @@\x1b[m",
        b"\x1b[31m-a = 1\x1b[m", b"\x1b[32m+a = 2\x1b[m", b"\x1b[32m+--- b\x1b[m",
    ]  # fmt: skip
    assert b"\x1b" not in project("diff")


def test_the_status_tells_on_request(project: Tarbox) -> None:
    assert project.here("diff", "--exit-code")[0] == 0
    write(project, "/new", "x\n")
    assert project.here("diff", "--exit-code")[0] == 1 and project.here("diff")[0] == 0
    assert project.here("diff", "--exit-code", "/src")[0] == 0


def test_what_makes_no_sense(project: Tarbox) -> None:
    assert project.fails("diff", "/nowhere") == "/nowhere: neither in before nor in head"
    assert project.fails("diff", "before", status=2).startswith("before is a layer and no path: `tarbox diff before..` compares it with the tree")
    assert "at most two layers and a path" in project.fails("diff", "before..head", "before", "/src", status=2)
    assert "no layer named 'after'" in project.fails("diff", "before", "after")
    assert "no layer named '/src/main.py'" in project.fails("diff", "/src/main.py", "/data.bin")
    assert "at most two layers and a path" in project.fails("diff", "a", "b", "c", "d", status=2)
    assert "does not go with two layers" in project.fails("diff", "a", "b", "--layer", "before", status=2)
    assert "not allowed with" in project.fails("diff", "--stat", "--patch", status=2)
    assert "a path may not be empty" in project.fails("diff", "before", "head", "", status=2)
    assert "is not a number" in project.fails("diff", "-U", "many", status=2)
    assert "nothing ever stood there" in project.fails("history", "/nowhere")
    assert "which layer" in project.fails("restore", "/src", status=2)
    assert "no layer named 'never'" in project.fails("restore", "--layer", "never", "/src")
    assert project.fails("restore", "--layer", "before", "/nowhere/x") == "/nowhere/x: not in layer before"
    assert "`tarbox layer switch`" in project.fails("restore", "--layer", "before", "/")
    assert "name a sealed layer" in project.fails("restore", "--layer", "head", "/src", status=2)


# --- diff --patch


def files(folder: Path) -> dict[bytes, tuple[str, bytes]]:
    """What git knows of a tree: files with their executable bit, and links."""
    shown: dict[bytes, tuple[str, bytes]] = {}
    for at, folders, names in os.walk(os.fsencode(folder)):
        folders[:] = [name for name in folders if name != b".git"]
        for name in names + [name for name in folders if os.path.islink(os.path.join(at, name))]:
            path = os.path.join(at, name)
            if os.path.islink(path):
                shown[os.path.relpath(path, os.fsencode(folder))] = ("link", os.readlink(path))
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    shown[os.path.relpath(path, os.fsencode(folder))] = ("x" if os.stat(path).st_mode & 0o100 else "-", file.read())
    return shown


def drop_empty_folders(folder: Path) -> None:
    """No patch knows of them."""
    for at, _, _ in os.walk(os.fsencode(folder), topdown=False):
        if not os.listdir(at):
            os.rmdir(at)


def check_patch(tarbox: Tarbox, older: str, newer: str, programs: tuple[str, ...] = ("git", "patch")) -> bytes:
    """The patch makes the newer tree of the older one, whoever applies it."""
    made = tarbox("diff", "--patch", older, newer)
    target = tarbox.folder / f"target-{older}-{newer}"
    tarbox("get", "--layer", newer, "/.", target)
    for program in programs:
        folder = tarbox.folder / f"{program}-{older}-{newer}"
        tarbox("get", "--layer", older, "/.", folder)
        drop_empty_folders(folder)
        folder.mkdir(exist_ok=True)
        if program == "git":
            subprocess.run(["git", "init", "-q", folder], check=True)
            command = ["git", "-c", "core.fileMode=true", "apply", "--whitespace=nowarn", "-"]
        else:
            command = ["patch", "-p1", "--quiet", "--no-backup-if-mismatch", "--force"]
        done = subprocess.run(command, input=made, cwd=folder, capture_output=True, timeout=60)
        assert done.returncode == 0, (program, done.stdout, done.stderr, made)
        assert files(folder) == files(target), (program, made)
    return made


def test_a_patch_in_full(project: Tarbox) -> None:
    edit(project)
    write(project, "/with space", "x\n")
    made = project("diff", "--patch").decode().splitlines()
    assert made[:3] == ["diff --git a/src/lib/util.py b/src/core/util.py", "old mode 100644", "new mode 100755"]
    assert made[3:6] == ["similarity index 100%", "rename from src/lib/util.py", "rename to src/core/util.py"]
    assert made[6:9] == ["diff --git a/empty b/empty", "new file mode 100644", "index 0000000..e69de29"]
    assert made[9:12] == ["diff --git a/src/main.py b/src/main.py", "--- a/src/main.py", "+++ b/src/main.py"]
    assert made[-4:] == ["--- /dev/null", "+++ b/with space\t", "@@ -0,0 +1 @@", "+x"]


def test_a_patch_makes_the_newer_tree_of_the_older(project: Tarbox) -> None:
    project("rm", "/data.bin")
    project("ln", "/src/main.py", "/hard")
    write(project, "/gone", "gone\n")
    write(project, "/doomed", "")
    write(project, "/becomes a link", "text\n")
    project("mkdir", "/folder")
    write(project, "/folder/one", TEXT)
    write(project, "/folder/two", "two\n")
    project("layer", "create", "one")
    edit(project)
    write(project, "/hard", TEXT + "more\n")
    project("rm", "/gone", "/doomed", "/becomes a link", "/link")
    project("ln", "-s", "src/main.py", "/becomes a link")
    write(project, "/link", "a file now\n")
    project("mv", "/folder", "/moved")
    write(project, "/moved/one", TEXT.replace("line 9\n", "nine\n"))
    write(project, "/windows", "a\r\nb\r\nc")
    project("mv", "/moved/two", "/three")
    project("layer", "create", "two")
    check_patch(project, "one", "two", ("git",))
    check_patch(project, "two", "one", ("git",))


def test_patch_takes_it_as_well(project: Tarbox) -> None:
    project("rm", "/data.bin")
    write(project, "/gone", "gone\n")
    project("layer", "create", "one")
    edit(project)
    project("rm", "/gone")
    write(project, "/deep", "x\n")
    project("mkdir", "-p", "/a/b")
    write(project, "/a/b/c", "no newline")
    project("layer", "create", "two")
    made = check_patch(project, "one", "two")
    assert b"rename to src/core/util.py" in made
    check_patch(project, "two", "one")


def test_odd_names_in_a_patch(tarbox: Tarbox) -> None:
    names = [b"/plain", b'/quo"te', b"/back\\slash", b"/tab\tnew\nline", "/ümlaut".encode(), b"/not-utf8-\xff", b"/a => b", b"/sp ace/in side"]
    tarbox("mkdir", b"/sp ace")
    for name in names:
        write(tarbox, name, b"one\n")
    tarbox("layer", "create", "one")
    for name in names:
        write(tarbox, name, b"one\ntwo " + os.path.basename(name).replace(b"\n", b" ") + b"\n")
    tarbox("mv", b"/tab\tnew\nline", b"/\x01moved\xfe")
    tarbox("layer", "create", "two")
    check_patch(tarbox, "one", "two")
    check_patch(tarbox, "two", "one")
    write(tarbox, "/end ", "x\n")
    tarbox("layer", "create", "three")
    write(tarbox, "/end ", "y\n")
    check_patch(tarbox, "three", "head", ("git",))


@pytest.mark.parametrize("seed", range(4))
def test_patches_of_random_changes(tenant: Tenant, schema_url: str, tmp_path: Path, seed: int) -> None:
    """The program patch knows less than git: it takes names of one file for one name, and follows its own order."""
    plain = seed % 2 == 0
    session, chance = tenant.session(), random.Random(seed)
    tarbox = Tarbox(schema_url, tmp_path)
    tarbox.env["TARBOX_TENANT"] = tenant.info.name
    for name in ("one", "two", "three"):
        for _ in range(25):
            do_something(session, chance, plain=plain)
        checkpoint(session, name)
    for older, newer in (("one", "two"), ("two", "three"), ("three", "one")):
        check_patch(tarbox, older, newer, ("git", "patch") if plain else ("git",))


def test_what_is_no_text_is_not_in_the_patch(project: Tarbox) -> None:
    edit(project)
    text = project("diff", "--patch")
    write(project, "/data.bin", b"\0\1\3")
    status, out, said = project.here("diff", "--patch")
    assert (status, out) == (1, text)
    assert said == "tarbox: /data.bin: not in the patch: it is no text, or larger than any\n"
    project("mv", "/data.bin", "/moved.bin")
    assert project.here("diff", "--patch", "before", "head")[0] == 1
    write(project, "/moved.bin", b"\0\1\2")
    assert b"similarity index 100%\nrename from data.bin\nrename to moved.bin\n" in project("diff", "--patch"), "a rename needs no content"


# --- history


def test_history(project: Tarbox) -> None:
    edit(project)
    write(project, "/src/core/util.py", "a = 1\nb = 2\n")
    project("layer", "create", "after")
    project("rm", "/src/core/util.py")
    lines = project("history", "/src/core/util.py").decode().splitlines()
    assert [line.split()[0] for line in lines] == ["head", "after", "before"]
    assert "D" in lines[0].split() and lines[0].endswith("(+0 -2 ~0)")
    assert "12 bytes  2 lines  (+1 -0 ~0)  from /src/lib/util.py" in lines[1] and lines[2].endswith("6 bytes   1 line   (+1 -0 ~0)")
    newest, *_, first = project.json("history", "/src/core/util.py")
    assert (newest["status"], newest["size"], newest["deleted"], newest["layer"]["name"]) == ("D", None, 2, None)
    assert (first["status"], first["path"], first["size"], first["lines"], first["added"]) == ("A", "/src/lib/util.py", 6, 1, 1)
    assert len(project("history", "-n", "2", "/src/core/util.py").splitlines()) == 2
    assert len(project("history", "--layer", "before", "/src/lib/util.py").splitlines()) == 1


# --- restore


def tree(tarbox: Tarbox, layer: str, path: str = "/") -> object:
    """All that is seen of a tree but inode numbers and the times that follow from restoring."""
    seen = tarbox.json("ls", "-laR", "--layer", layer, path)
    for entry in seen:
        for key in ("inode", "layer", "ctime", "changed", "atime", "accessed", "stored"):
            entry.pop(key, None)
    return seen


def test_a_file_comes_back(project: Tarbox) -> None:
    project("chmod", "600", "/src/main.py")
    project("touch", "-d", "2020-01-01T00:00:00Z", "/src/main.py")
    project("layer", "create", "exact")
    write(project, "/src/main.py", "ruined\n")
    project("chmod", "644", "/src/main.py")
    name = project.json("layer", "list")[-2]["id"][:8]
    restored, kept = project("restore", "--layer", "exact", "/src/main.py").decode().splitlines()
    assert restored == f"restored /src/main.py from exact ({name}), in the place of what was there"
    assert kept.startswith("the tree as it was before is layer ")
    assert project("cat", "--layer", kept.rpartition(" ")[2], "/src/main.py") == b"ruined\n", "what was not sealed is not lost"
    assert project("diff", "exact", "head") == b"" and project("cat", "/src/main.py") == TEXT.encode()
    assert project("cat", "--layer", "before", "/src/main.py") == TEXT.encode()


def test_a_directory_comes_back_whole(project: Tarbox) -> None:
    project("ln", "/src/main.py", "/src/lib/hard")
    project("ln", "-s", "nowhere", "/src/lib/dangling")
    project("chmod", "2751", "/src/lib")
    project("layer", "create", "whole")
    write(project, "/src/lib/hard", "ruined\n")
    project("rm", "-r", "/src/lib/util.py")
    write(project, "/src/extra", "of no use\n")
    project("mkdir", "/src/lib/new")
    project("restore", "--layer", "whole", "/src")
    assert tree(project, "whole", "/src") == tree(project, "head", "/src")
    found = {entry["name"]: entry for entry in project.json("ls", "-la", "/src", "/src/lib")}
    assert found["main.py"]["inode"] == found["hard"]["inode"]
    assert project.names("/") == [b"data.bin", b"link", b"src"], "nothing is left beside"
    assert b"/src/extra" not in project("diff", "--name-status", "whole", "head")


def test_what_is_gone_comes_back_with_the_directories_above(project: Tarbox) -> None:
    project("chmod", "750", "/src/lib")
    project("layer", "create", "there")
    project("rm", "-r", "/src")
    assert project.json("restore", "--layer", "there", "/src/lib/util.py", "/link")["restored"] == [
        {"path": "/src/lib/util.py", "replaced": False}, {"path": "/link", "replaced": True},
    ]  # fmt: skip
    assert project("cat", "/src/lib/util.py") == b"a = 1\n" and project.json("stat", "/src/lib")[0]["mode"] == "0750"
    assert project("diff", "--name-status", "there", "head") == b"D\t/src/main.py\n"


def test_a_restored_file_may_get_another_name(project: Tarbox) -> None:
    write(project, "/src/main.py", "new\n")
    project("restore", "--layer", "before", "/src/main.py", "--to", "/old.py")
    project("restore", "--layer", "before", "/src/main.py", "/data.bin", "--to", "/src/lib")
    assert project("cat", "/old.py") == TEXT.encode() == project("cat", "/src/lib/main.py")
    assert project("cat", "/src/main.py") == b"new\n" and project("cat", "/src/lib/data.bin") == b"\0\1\2"
    project("restore", "--layer", "before", "/src", "--to", "/src/lib/src")
    assert project("cat", "/src/lib/src/main.py") == TEXT.encode(), "also into what it was"


def test_types_that_changed_come_back(project: Tarbox) -> None:
    project("rm", "-r", "/src")
    write(project, "/src", "a file\n")
    project("rm", "/link")
    project("mkdir", "-p", "/link/sub")
    write(project, "/link/sub/file", "x\n")
    project("restore", "--layer", "before", "/src", "/link")
    assert project("diff", "before", "head", "--name-status") == b""
