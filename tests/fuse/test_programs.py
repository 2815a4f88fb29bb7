"""Programs that people run every day, on a mounted tenant: they must work, and leave what they leave on any disk.

Inputs are what every machine with the tests' packages has. System calls one by one are in test_programs_calls.py.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuse.helpers import ROOT, Mount, run

SOURCE = Path(__file__).resolve().parents[2]
GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org",
}  # fmt: skip
both_transports = pytest.mark.parametrize("mount", [(), ("--transport", "libfuse")], indirect=True, ids=["kernel", "libfuse"])


def git(folder: Path, *words: str) -> str:
    return run("git", "-C", folder, *words, env=GIT).stdout


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of 1,500 files in 3 commits, with executables, links and names that want quoting; `small` is a branch of 300."""
    folder = tmp_path_factory.mktemp("repository")
    dice = random.Random(1)
    git(folder, "init", "-q", "-b", "main")
    for i in range(1500):
        path = folder / f"pkg{i % 40}" / f"sub{i % 7}" / f"module_{i}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"value_{dice.randrange(10**6)} = {dice.random()}\n" for _ in range(dice.randrange(1, 60))))
        if i % 50 == 0:
            path.chmod(0o755)
        if i in (300, 1400):
            git(folder, "add", "-A")
            git(folder, "commit", "-qm", f"up to {i}")
            git(folder, "branch", "-q", {300: "small", 1400: "middle"}[i])
    (folder / "link").symlink_to("pkg1/sub1")
    (folder / "ünïcödé \t name").write_text("x\n")
    (folder / "large.bin").write_bytes(dice.randbytes(5_000_000))
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all of it")
    return folder


def test_git_clones_commits_and_checks(mount: Mount, repository: Path) -> None:
    clone = mount.path / "clone"
    git(mount.path, "clone", "-q", str(repository), str(clone))
    assert len(git(clone, "ls-files", "-z").split("\0")) > 1500
    assert git(clone, "status", "--porcelain") == ""
    git(clone, "fsck", "--strict", "--no-dangling")
    run("diff", "-r", "--no-dereference", "-x", ".git", repository, clone)

    (clone / "pkg1/sub1/module_1.py").write_text("changed = True\n")
    git(clone, "mv", "link", "moved")
    git(clone, "rm", "-rq", "pkg2")
    assert git(clone, "status", "--porcelain").splitlines()[0:1] != []
    git(clone, "commit", "-qam", "from the mount")
    assert git(clone, "status", "--porcelain") == ""
    git(clone, "checkout", "-q", "HEAD~2")
    git(clone, "checkout", "-q", "main")
    git(clone, "gc", "-q")

    mount.remount()
    git(clone, "fsck", "--strict", "--no-dangling")
    assert git(clone, "status", "--porcelain") == ""
    git(mount.path, "clone", "-q", str(clone), str(mount.path / "second"))  # within one filesystem git makes hard links
    assert git(mount.path / "second", "log", "--format=%s", "-1") == "from the mount\n"


@pytest.mark.mount_options("--transport", "libfuse")
def test_git_through_libfuse(mount: Mount, repository: Path) -> None:
    clone = mount.path / "clone"
    git(mount.path, "clone", "-q", "--single-branch", "-b", "small", f"file://{repository}", str(clone))
    assert git(clone, "status", "--porcelain") == ""
    (clone / "pkg1/sub1/module_1.py").write_text("changed = True\n")
    git(clone, "commit", "-qam", "from the mount")
    mount.remount()
    git(clone, "fsck", "--strict", "--no-dangling")
    assert git(clone, "status", "--porcelain") == ""


def test_venv_and_pip_install_of_a_wheel(mount: Mount, tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist", cwd=SOURCE)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    env = mount.path / "env"
    run(sys.executable, "-m", "venv", env, timeout=180)  # installs pip's own wheel from ensurepip
    run(env / "bin/python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-cache-dir", wheel, timeout=180)
    told = run(env / "bin/python", "-I", "-c", "import tarbox_core.effects as m; print(m.__file__)", cwd="/").stdout
    assert told.startswith(str(env / "lib"))
    assert "tarbox" in run(env / "bin/python", "-m", "pip", "list").stdout
    run(env / "bin/python", "-m", "compileall", "-q", "-f", env / "lib")
    run(env / "bin/python", "-m", "pip", "uninstall", "-q", "-y", "tarbox")
    assert not list(env.glob("lib/*/site-packages/tarbox_core"))


WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("pragma journal_mode=wal")
for i in range(150):
    db.execute("begin immediate")
    db.execute("insert into t(writer, i, body) values (?, ?, ?)", (int(sys.argv[2]), i, "x" * (i * 37 % 3000)))
    db.execute("update total set n = n + 1")
    db.execute("commit")
"""


@both_transports
def test_sqlite_wal_database_written_by_four_processes(mount: Mount) -> None:
    name = mount.path / "data.db"
    with sqlite3.connect(name, isolation_level=None) as db:
        assert db.execute("pragma journal_mode=wal").fetchone() == ("wal",)
        db.execute("create table t(writer int, i int, body text)")
        db.execute("create index by_body on t(body, i)")
        db.execute("create table total(n int)")
        db.execute("insert into total values (0)")
    db.close()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(name), str(i)]) for i in range(4)]
    assert [writer.wait(180) for writer in writers] == [0, 0, 0, 0]
    for _ in range(2):
        db = sqlite3.connect(name)
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert db.execute("select count(*), count(distinct writer * 1000 + i) from t").fetchone() == (600, 600)
        assert db.execute("select n from total").fetchone() == (600,)
        db.close()
        mount.remount()
    assert run("sqlite3", name, "pragma integrity_check").stdout == "ok\n"


def described(folder: Path) -> dict[str, tuple[object, ...]]:
    """What lstat tells of everything below, without what differs between filesystems (sizes of directories, inode numbers)."""
    tree: dict[str, tuple[object, ...]] = {}
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = os.path.join(parent, name)
            s = os.lstat(path)
            is_dir = stat.S_ISDIR(s.st_mode)
            size, links = (0, 0) if is_dir else (s.st_size, s.st_nlink)
            target = os.readlink(path) if stat.S_ISLNK(s.st_mode) else ""
            tree[os.path.relpath(path, folder)] = (oct(s.st_mode), s.st_uid, s.st_gid, links, size, s.st_mtime_ns, target)
    return tree


@pytest.fixture(scope="session")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 1,500 files of /usr/include, some of them given other owners, modes, times (with ns) and hard links."""
    folder = tmp_path_factory.mktemp("headers")
    names = sorted(os.path.join(parent, file) for parent, _, files in os.walk("/usr/include") for file in files)[:1500]
    assert len(names) > 500, "this machine has too few header files to copy"
    dice = random.Random(2)
    for name in names:
        copy = folder / name.removeprefix("/usr/include/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, copy, follow_symlinks=False)
        if copy.is_symlink():
            continue
        if dice.random() < 0.2:
            if ROOT:
                os.chown(copy, dice.choice([0, 1000, 65534]), dice.choice([0, 100, 65534]))
            copy.chmod(dice.choice([0o600, 0o755, 0o4711, 0o2755, 0o444]))
            os.utime(copy, ns=(dice.randrange(2**61), dice.randrange(2**61)))
        if dice.random() < 0.05:
            os.link(copy, copy.with_name(copy.name + ".hard"))
    (folder / "dangling").symlink_to("no/such/thing")
    os.utime(folder / "dangling", ns=(1, 10**18 + 1), follow_symlinks=False)  # rsync leaves what is of the same second
    for parent, folders, _ in os.walk(folder, topdown=False):
        for name in folders:
            os.utime(os.path.join(parent, name), ns=(1, dice.randrange(2**60)))
    return folder


def test_tar_unpacks_an_equal_tree(mount: Mount, headers: Path, tmp_path: Path) -> None:
    archive = tmp_path / "headers.tar"
    run("tar", "--format=posix", "-cf", archive, "-C", headers, ".")
    folder = mount.path / "headers"
    folder.mkdir()
    run("tar", "-xpf", archive, "-C", folder)
    for _ in range(2):
        run("diff", "-r", "--no-dereference", headers, folder)
        ours, theirs = described(folder), described(headers)
        assert {name: (ours.get(name), theirs.get(name)) for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)} == {}
        mount.remount()
    run("tar", "--format=posix", "-cf", tmp_path / "back.tar", "-C", folder, ".")
    run("tar", "-df", tmp_path / "back.tar", "-C", headers)  # -d: compares contents, owners, modes and times
    run("rm", "-r", folder)
    assert os.listdir(mount.path) == []


PROJECT = {
    "Makefile": """
CFLAGS = -O1 -Wall -Werror -g
program: main.o libshape.a
	$(CC) -o $@ main.o -L. -lshape -lm
libshape.a: circle.o square.o
	ar rcs $@ $^
main.o circle.o square.o: shape.h
clean:
	rm -f *.o *.a program
""",
    "shape.h": "double circle(double);\ndouble square(double);\n",
    "circle.c": '#include "shape.h"\n#include <math.h>\ndouble circle(double r) { return acos(-1) * r * r; }\n',
    "square.c": '#include "shape.h"\ndouble square(double a) { return a * a; }\n',
    "main.c": '#include "shape.h"\n#include <stdio.h>\nint main(void) { return printf("%.3f %.3f\\n", circle(1), square(2)) < 0; }\n',
}


def test_gcc_and_make_build_a_project(mount: Mount) -> None:
    folder = mount.path / "project"
    folder.mkdir()
    for name, text in PROJECT.items():
        (folder / name).write_text(text.lstrip("\n"))
    run("make", "-j4", cwd=folder, env={"TMPDIR": str(mount.path)})
    assert run(folder / "program").stdout == "3.142 4.000\n"
    assert "up to date" in run("make", cwd=folder).stdout
    (folder / "square.c").write_text(PROJECT["square.c"].replace("a * a", "a * a * a"))
    run("make", cwd=folder)
    assert run(folder / "program").stdout == "3.142 8.000\n"
    run("make", "clean", cwd=folder)
    assert sorted(os.listdir(folder)) == sorted(PROJECT)


def test_rsync_has_nothing_to_do_the_second_time(mount: Mount, headers: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    run("cp", "-a", headers, source)
    try:
        os.setxattr(source / "stdio.h", "user.note", b"kept \x00 bytes")
        (source / "plain").mkdir()
        os.setxattr(source / "plain", "user.on-a-directory", b"")
        os.utime(source / "plain", ns=(1, 10**18 + 1))
        xattrs = True
    except OSError:  # the temporary directory's filesystem has none
        xattrs = False
    copy = mount.path / "copy"
    command = ["rsync", "-aHX", "--checksum", "--itemize-changes", f"{source}/", f"{copy}/"]
    assert run(*command).stdout.count("\n") > 500
    assert run(*command).stdout == ""
    mount.remount()
    assert run(*command).stdout == ""
    assert described(copy) == described(source)
    if xattrs:
        assert os.getxattr(copy / "stdio.h", "user.note") == b"kept \x00 bytes"
        assert os.listxattr(copy / "plain") == ["user.on-a-directory"]
    back = tmp_path / "back"
    run("rsync", "-aHX", f"{copy}/", f"{back}/")
    assert described(back) == described(source)


def test_find_du_sed_and_sort(mount: Mount, headers: Path) -> None:
    folder = mount.path / "h"
    run("cp", "-a", headers, folder)
    for words in ("-type f -printf %P/%s/%m/%T@\\n", "-type d -printf %P\\n", "-name *.h -size +20k -printf %P\\n", "-links +1 -type f"):
        ours, theirs = (sorted(run("find", ".", *words.split(), cwd=where).stdout.splitlines()) for where in (folder, headers))
        assert ours == theirs and ours
    size = sum(os.lstat(os.path.join(parent, name)).st_blocks * 512 for parent, _, names in os.walk(folder) for name in names)
    assert size > 1_000_000
    assert int(run("du", "-s", "-B1", folder).stdout.split()[0]) > 1_000_000

    changed = run("grep", "-rlZ", "include", folder).stdout.split("\0")[:-1]
    assert len(changed) > 200
    kept = 0o7777 if ROOT else 0o1777  # a write by anybody but root takes set-id bits away
    modes = {name: os.lstat(name).st_mode & kept for name in changed}
    run("xargs", "-0", "sed", "-i", "s/include/INCLUDE/g", input="\0".join(changed))
    assert run("grep", "-rl", "include", folder, check=False).stdout == ""
    assert {name: os.lstat(name).st_mode & kept for name in changed} == modes
    assert set(run("grep", "-rlZ", "INCLUDE", folder).stdout.split("\0")) >= set(changed)

    numbers = mount.path / "numbers"
    run("sh", "-c", f"seq 200000 | shuf > {numbers} && sort -n -T {mount.path} -S 1M -o {numbers} {numbers}")
    assert run("sh", "-c", f"seq 200000 | cmp - {numbers}").stdout == ""


def test_what_a_shell_does_all_day(mount: Mount) -> None:
    script = """
set -eu
umask 027
mkdir -p a/b/c && touch a/b/c/file && test "$(stat -c %a a/b/c)" = 750 && test "$(stat -c %a a/b/c/file)" = 640
echo one > f; echo two >> f; test "$(cat f)" = "$(printf 'one\\ntwo')"
cp f g; cmp f g; mv g a/; test ! -e g; test -s a/g
ln f hard; ln -s f soft; test "$(stat -c %h f)" = 2; test "$(readlink soft)" = f; test "$(cat soft)" = "$(cat hard)"
dd if=/dev/urandom of=big bs=64k count=40 status=none; cp --sparse=always big big2; cmp big big2
truncate -s 100 big; test "$(stat -c %s big)" = 100; split -b 30 big part.; cat part.* | cmp - big
gzip -k big; gunzip -c big.gz | cmp - big
mkfifo pipe; (cat big > pipe &); cmp pipe big
install -m 4755 /bin/true suid; test "$(stat -c %a suid)" = 4755
cd a/b/c && test "$(pwd -P)" = "$(realpath .)" && cd ../../..
set +e; rmdir a 2>/dev/null && exit 1; mkdir f 2>/dev/null && exit 1; cat f/x 2>/dev/null && exit 1; set -e
rm -r ./*; test -z "$(ls -A)"
"""
    run("sh", "-c", script, cwd=mount.path)
