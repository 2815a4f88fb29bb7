"""The verbs of `import tarbox_core`, on threads: what they do, what they raise, and what other doors see of it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import tarbox_core
from tarbox_core.client.tree import Tree
from tarbox_core.effects import Statement, many
from tarbox_core.errors import LayerError, TransactionError
from tests.tenants import Tenant

RECORDS = Statement("records", "select operation, path, bytes, result from audit_logs where tenant = $1", ("int8",), ("text", "text", "int8", "int4"))


@pytest.fixture
def tree(tenant: Tenant) -> Iterator[Tree]:
    with tarbox_core.connect(tenant.url, tenant.info.name) as made:
        yield made


# --- paths and errors


def test_paths_are_str_bytes_and_pathlike_from_the_root(tree: Tree) -> None:
    tree.write_text("a", "1")
    tree.write_text(b"/b", "2")
    tree.write_text(PurePosixPath("/c"), "3")
    assert [tree.read_text(path) for path in ("/a", b"b", PurePosixPath("c"), "//a", "./b")] == ["1", "2", "3", "1", "2"]
    tree.write_bytes(b"/\xff\xfe", b"raw")
    assert tree.listdir() == ["a", "b", "c", "\udcff\udcfe"]
    assert tree.read_bytes("/\udcff\udcfe") == b"raw"
    with pytest.raises(ValueError, match="null byte"):
        tree.stat("/a\0b")
    assert not tree.exists("/a\0b") and not tree.is_dir("\ud800")  # as by os.path
    with pytest.raises(FileNotFoundError):
        tree.stat("")


def test_failures_are_those_of_os(tree: Tree) -> None:
    tree.makedirs("/d/e")
    tree.write_text("/f", "x")
    tree.symlink("loop", "/loop")
    cases: list[tuple[type[OSError], int, Callable[[], Any], Any, Any]] = [
        (FileNotFoundError, errno.ENOENT, lambda: tree.read_text("/no"), "/no", None),
        (FileNotFoundError, errno.ENOENT, lambda: tree.open(b"/no"), b"/no", None),
        (FileNotFoundError, errno.ENOENT, lambda: tree.write_text("/no/f", ""), "/no/f", None),
        (FileNotFoundError, errno.ENOENT, lambda: tree.rename("/no", "/n"), "/no", "/n"),
        (FileExistsError, errno.EEXIST, lambda: tree.mkdir("/d"), "/d", None),
        (FileExistsError, errno.EEXIST, lambda: tree.mkdir("/"), "/", None),
        (FileExistsError, errno.EEXIST, lambda: tree.open("/f", "x"), "/f", None),
        (FileExistsError, errno.EEXIST, lambda: tree.makedirs("/d/e"), "/d/e", None),
        (FileExistsError, errno.EEXIST, lambda: tree.link("/f", "/d"), "/f", "/d"),
        (IsADirectoryError, errno.EISDIR, lambda: tree.read_bytes("/d"), "/d", None),
        (IsADirectoryError, errno.EISDIR, lambda: tree.open("/d", "w"), "/d", None),
        (IsADirectoryError, errno.EISDIR, lambda: tree.open("/new/", "w"), "/new/", None),
        (IsADirectoryError, errno.EISDIR, lambda: tree.remove("/d"), "/d", None),
        (NotADirectoryError, errno.ENOTDIR, lambda: tree.listdir("/f"), "/f", None),
        (NotADirectoryError, errno.ENOTDIR, lambda: tree.stat("/f/x"), "/f/x", None),
        (NotADirectoryError, errno.ENOTDIR, lambda: tree.rmdir("/f"), "/f", None),
        (OSError, errno.ENOTEMPTY, lambda: tree.rmdir("/d"), "/d", None),
        (OSError, errno.ELOOP, lambda: tree.read_text("/loop"), "/loop", None),
        (OSError, errno.EINVAL, lambda: tree.readlink("/f"), "/f", None),
        (OSError, errno.EINVAL, lambda: tree.rename("/d", "/d/e/g"), "/d", "/d/e/g"),
        (OSError, errno.ENAMETOOLONG, lambda: tree.mkdir("/" + "x" * 256), "/" + "x" * 256, None),
        (PermissionError, errno.EPERM, lambda: tree.remove("/.tarbox"), "/.tarbox", None),
    ]
    for kind, number, work, name, other in cases:
        with pytest.raises(OSError) as raised:
            work()
        error = raised.value
        assert (type(error), error.errno, error.filename, error.filename2) == (kind, number, name, other)
        assert error.strerror == os.strerror(number)


ENDS = ("", "/", "/.", "/..")
PLACES = tuple(place + end for place in ("/f", "/d", "/to-f", "/to-d", "/nowhere", "/new", "/f/x", "/new/x") for end in ENDS)
ONE_PATH: dict[str, tuple[Callable[[Any], Any], Callable[[Tree, str], Any]]] = {
    "exists": (os.path.exists, Tree.exists), "is_dir": (os.path.isdir, Tree.is_dir), "is_symlink": (os.path.islink, Tree.is_symlink),
    "mkdir": (os.mkdir, Tree.mkdir), "remove": (os.remove, Tree.remove), "rmdir": (os.rmdir, Tree.rmdir),
    "w": (lambda path: open(path, "w").close(), lambda tree, path: tree.open(path, "w").close()),
    "x": (lambda path: open(path, "x").close(), lambda tree, path: tree.open(path, "x").close()),
    "symlink": (lambda path: os.symlink("f", path), lambda tree, path: tree.symlink("f", path)),
    "makedirs": (lambda path: os.makedirs(path, exist_ok=True), lambda tree, path: tree.makedirs(path, exist_ok=True)),
}  # fmt: skip
TWO_PATHS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Tree, str, str], Any]]] = {
    "rename": (os.rename, Tree.rename), "link": (lambda old, new: os.link(old, new, follow_symlinks=False), Tree.link),
}  # fmt: skip
OTHERWISE = {  # refused for another of the reasons that there are
    ("rmdir", "/d/.."), ("rmdir", "/to-d/.."), ("w", "/f/"), ("w", "/to-f/"), ("makedirs", "/f/"), ("makedirs", "/to-f/"), ("makedirs", "/nowhere/.."),
    ("makedirs", "/nowhere/."),  # which os.makedirs takes to be made
    *(("link", "/d", there) for there in ("/f", "/d", "/to-f", "/to-d", "/nowhere")),
}  # fmt: skip


def test_how_a_path_ends(tree: Tree, tmp_path: Path) -> None:
    """"/", "." and ".." behind a name mean what they mean to the system, whatever the verb."""
    folder = tmp_path / "r"
    tree.makedirs("/r/d/e")
    tree.write_text("/r/f", "x")
    for target, name in (("f", "to-f"), ("d", "to-d"), ("no", "nowhere")):
        tree.symlink(target, f"/r/{name}")
    expected: Any = None

    def outcome(work: Callable[[], Any], walk: Callable[[str], Any], top: str) -> Any:
        try:
            return work(), {f"{path.removeprefix(top)}/{name}" for path, folders, files in walk(top) for name in (*folders, *files)}
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    words = [(verb, place) for verb in ONE_PATH for place in PLACES]
    words += [(verb, *pair) for verb in TWO_PATHS for place in PLACES for pair in ((place, "/new"), ("/f", place), ("/d", place))]
    others: set[tuple[str, ...]] = set()
    for verb, *places in words:
        theirs, ours = (ONE_PATH | TWO_PATHS)[verb]  # type: ignore[operator]
        if not isinstance(expected, str):  # the one before has changed something
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "d/e").mkdir(parents=True)
            (folder / "f").write_text("x")
            for target, name in (("f", "to-f"), ("d", "to-d"), ("no", "nowhere")):
                (folder / name).symlink_to(target)
        expected = outcome(lambda: theirs(*[f"{folder}{place}" for place in places]), os.walk, str(folder))  # noqa: B023
        with suppress(KeyError), tree.transaction():
            got = outcome(lambda: ours(tree, *[f"/r{place}" for place in places]), tree.walk, "/r")  # noqa: B023
            raise KeyError  # back to the beginning
        if got != expected:
            others.add((verb, *places))
    assert others == OTHERWISE


def test_one_user_s_permissions(tenant: Tenant, tree: Tree) -> None:
    tree.write_text("/secret", "x")
    tree.chmod("/secret", 0o600)
    tree.mkdir("/theirs")
    tree.chown("/theirs", 1000, 1000)
    with tarbox_core.connect(tenant.url, tenant.info.name, uid=1000, umask=0o077) as user:
        for refused in (lambda: user.read_text("/secret"), lambda: user.open("/secret", "a"), lambda: user.write_text("/mine", "")):
            with pytest.raises(PermissionError):
                refused()
        user.write_text("/theirs/f", "x")
        told = user.stat("/theirs/f")
        assert (told.st_uid, told.st_gid, stat.S_IMODE(told.st_mode)) == (1000, 1000, 0o600)
    with tarbox_core.connect(tenant.url, tenant.info.name, read_only=True) as reader:
        assert reader.read_text("/theirs/f") == "x"
        for change in (lambda: reader.write_text("/n", ""), lambda: reader.remove("/secret"), lambda: reader.open("/secret", "a")):
            with pytest.raises(OSError) as raised:
                change()
            assert raised.value.errno == errno.EROFS


# --- what is there


def test_stat_tells_what_os_stat_does(tree: Tree) -> None:
    tree.write_bytes("/f", b"x" * 10_000)
    tree.utime("/f", ns=(1_000_000_000_000_000_001, 1_700_000_000_123_456_789))
    told = tree.stat("/f")
    assert (told.st_size, told.st_nlink, told.st_mode) == (10_000, 1, stat.S_IFREG | 0o644)
    assert (told.st_atime_ns, told.st_mtime_ns, told.st_mtime) == (1_000_000_000_000_000_001, 1_700_000_000_123_456_789, 1_700_000_000.1234567)
    assert (told[stat.ST_SIZE], told[stat.ST_MTIME]) == (10_000, 1_700_000_000)
    assert told.st_blocks * 512 >= 10_000 and told.st_blksize == 4096
    tree.utime("/f", (1.5, 2.5))
    assert tree.stat("/f").st_mtime == 2.5
    tree.utime("/f")
    assert tree.stat("/f").st_mtime > 1_700_000_000
    tree.symlink("f", "/s")
    assert stat.S_ISLNK(tree.stat("/s", follow_symlinks=False).st_mode) and tree.stat("/s").st_size == 10_000


def test_kinds(tree: Tree) -> None:
    tree.mkdir("/d")
    tree.write_text("/f", "")
    tree.symlink("f", "/to_f")
    tree.symlink("d", "/to_d")
    tree.symlink("nowhere", "/dead")
    asked = (tree.exists, tree.lexists, tree.is_dir, tree.is_file, tree.is_symlink)
    assert {path: "".join("-x"[ask(path)] for ask in asked) for path in ("/d", "/f", "/to_f", "/to_d", "/dead", "/no", "/f/x")} == {
        "/d": "xxx--", "/f": "xx-x-", "/to_f": "xx-xx", "/to_d": "xxx-x", "/dead": "-x--x", "/no": "-----", "/f/x": "-----",
    }  # fmt: skip
    assert tree.readlink("/to_f") == "f"
    entries = {entry.name: entry for entry in tree.scandir("/")}
    assert list(entries) == ["d", "dead", "f", "to_d", "to_f"]
    assert [entries[name].is_dir() for name in entries] == [True, False, False, True, False]
    assert [entries[name].is_dir(follow_symlinks=False) for name in entries] == [True, False, False, False, False]
    assert [entries[name].is_file() for name in entries] == [False, False, True, False, True]
    assert entries["to_f"].is_symlink() and os.fspath(entries["to_f"]) == "/to_f" and entries["f"].inode() == tree.stat("/to_f").st_ino
    assert entries["to_f"].stat() == tree.stat("/f") and entries["to_f"].stat(follow_symlinks=False) != tree.stat("/f")
    with pytest.raises(FileNotFoundError):
        entries["dead"].stat()


def test_a_directory_of_many_names(tree: Tree) -> None:
    with tree.transaction():
        tree.mkdir("/many")
        for number in range(1100):
            tree.symlink("x", f"/many/{number:04}")
    assert tree.listdir("/many") == [f"{number:04}" for number in range(1100)]
    assert [entry.name for entry in tree.scandir("many")] == tree.listdir("/many")


def grown(tree: Tree, folder: Path) -> None:
    """The same tree here and there."""
    for path in ("a/b/c", "a/.hidden/d", "e"):
        tree.makedirs(f"/{path}")
        (folder / path).mkdir(parents=True)
    for path in ("a/1.txt", "a/b/2.txt", "a/b/c/3.md", "a/.hidden/d/4.txt", "5.txt", "e/[x]"):
        tree.write_text(path, path)
        (folder / path).write_text(path)
    for path, target in (("to_a", "a"), ("e/up", ".."), ("dead", "nowhere")):
        tree.symlink(target, path)
        (folder / path).symlink_to(target)


def test_walk_goes_as_os_walk_does(tree: Tree, tmp_path: Path) -> None:
    grown(tree, tmp_path)
    for topdown in (True, False):
        theirs = {(top.removeprefix(str(tmp_path)) or "/"): (sorted(d), sorted(f)) for top, d, f in os.walk(tmp_path, topdown)}
        ours = [(top, sorted(d), sorted(f)) for top, d, f in tree.walk("/", topdown)]
        assert {top: (d, f) for top, d, f in ours} == theirs
        seen: list[str] = [top for top, _, _ in ours]
        for top in seen[1:] if topdown else seen[:-1]:
            assert (seen.index(os.path.dirname(top)) < seen.index(top)) == topdown
    pruned = []
    for top, folders, _ in tree.walk("a"):
        pruned.append(top)
        folders[:] = [name for name in folders if name != "b"]
    assert pruned == ["/a", "/a/.hidden", "/a/.hidden/d"]
    errors: list[OSError] = []
    assert list(tree.walk("/no", onerror=errors.append)) == [] and errors[0].filename == "/no"
    assert len(list(tree.walk("/to_a", followlinks=True))) == 5


PATTERNS = ["*", "*.txt", "a/*", "a/**/*.txt", "**/*.md", "**", "a/**", "?.txt", "[0-9].txt", ".*", "a/.h*/d/*", "*/b", "e/[[]x]", "to_a/*", "dead", "x*"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_glob_finds_what_glob_does(tree: Tree, tmp_path: Path, pattern: str) -> None:
    import glob

    grown(tree, tmp_path)
    theirs = {"/" + path.rstrip("/") for path in glob.glob(pattern, root_dir=tmp_path, recursive=True)}
    if pattern == "**":
        theirs.add("/")
    if "**" in pattern:  # which follows no links here, as pathlib's; glob's goes round in them
        theirs = {path for path in theirs if not any(parent.is_symlink() for parent in (tmp_path / path[1:]).parents)}
    ours = tree.glob(pattern)
    assert len(ours) == len(set(ours)) and set(ours) == {path.rstrip("/") or "/" for path in theirs}


# --- changing it


def test_names_come_and_go(tree: Tree) -> None:
    tree.makedirs("/a/b", exist_ok=True)
    tree.makedirs("/a/b", exist_ok=True)
    tree.write_text("/a/f", "1")
    tree.link("/a/f", "/a/g")
    assert tree.stat("/a/g").st_nlink == 2
    tree.rename("/a/f", "/a/b/f")
    tree.write_text("/other", "2")
    tree.replace("/other", "/a/b/f")
    assert tree.read_text("/a/b/f") == "2" and tree.read_text("/a/g") == "1"
    tree.unlink("/a/g")
    tree.remove("/a/b/f")
    tree.rmdir("/a/b")
    tree.rmdir("/a")
    assert tree.listdir("/") == []


def test_modes_are_less_the_umask(tree: Tree) -> None:
    tree.mkdir("/d")
    tree.mkdir("/private", 0o700)
    tree.write_text("/f", "")
    tree.chmod("/f", 0o751)
    assert [stat.S_IMODE(tree.stat(path).st_mode) for path in ("/d", "/private", "/f")] == [0o755, 0o700, 0o751]
    tree.chown("/f", 12, -1)
    assert tree.stat("/f").st_uid == 12 and tree.stat("/f").st_gid == os.getgid()


def test_values_that_nothing_can_have_are_refused_as_by_os(tree: Tree) -> None:
    tree.write_text("/f", "kept")
    before = tree.stat("/f")
    cases: list[tuple[type[Exception], Callable[[], Any]]] = [
        (TypeError, lambda: tree.write_text("/f", b"x")), (TypeError, lambda: tree.write_text("/f", None)), (TypeError, lambda: tree.write_bytes("/f", "x")),
        (ValueError, lambda: tree.write_text("/f", "x\n", newline="X")), (UnicodeEncodeError, lambda: tree.write_text("/f", "é", "ascii")),
        (ValueError, lambda: tree.symlink("a\0b", "/s")), (OverflowError, lambda: tree.chown("/f", -2, 0)),
        (OverflowError, lambda: tree.chown("/f", 0, 1 << 32)),
        (OverflowError, lambda: tree.utime("/f", (1e30, 0))), (ValueError, lambda: tree.utime("/f", (1,))), (TypeError, lambda: tree.glob(None)),
    ]  # type: ignore[arg-type]  # fmt: skip
    for kind, work in cases:
        with pytest.raises(kind):
            work()
    assert (tree.read_text("/f"), tree.stat("/f"), tree.listdir("/")) == ("kept", before, ["f"])
    assert tree.glob("") == [] and tree.glob(PurePosixPath("/*")) == tree.glob(b"*") == ["/f"]


def test_whole_files(tree: Tree) -> None:
    assert tree.write_text("/t", "grün\n") == 5
    assert tree.read_bytes("/t") == "grün\n".encode()
    assert tree.write_text("/t", "a\nb\n", newline="\r\n") == 4
    assert (tree.read_bytes("/t"), tree.read_text("/t")) == (b"a\r\nb\r\n", "a\nb\n")
    tree.write_text("/t", "grün", encoding="latin-1")
    with pytest.raises(UnicodeDecodeError):
        tree.read_text("/t")
    assert tree.read_text("/t", errors="replace") == "gr\ufffdn"
    large = os.urandom(1 << 20) * 9
    assert tree.write_bytes("/l", memoryview(large)) == len(large)
    assert tree.read_bytes("/l") == large
    assert tree.write_bytes("/l", b"") == 0
    assert tree.read_bytes("/l") == b""
    tree.truncate("/l", 5)
    assert tree.read_bytes("/l") == bytes(5)
    tree.symlink("made", "/link")
    tree.write_text("/link", "through")
    assert tree.read_text("/made") == "through" and tree.is_symlink("/link")


def test_a_write_is_seen_whole_or_not_at_all(tree: Tree, tenant: Tenant) -> None:
    other = tarbox_core.connect(tenant.url, tenant.info.name)
    contents = [bytes([letter]) * size for letter, size in ((65, 30_000), (66, 3), (67, 9_000))]
    tree.write_bytes("/f", contents[0])
    seen: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.add(other.read_bytes("/f"))

    thread = threading.Thread(target=watch)
    thread.start()
    for turn in range(60):
        tree.write_bytes("/f", contents[turn % 3])
    over.set()
    thread.join(60)
    other.close()
    assert seen <= set(contents) and len(seen) > 1


def test_copy(tree: Tree) -> None:
    tree.write_bytes("/a", bytes(range(256)) * 50_000)
    tree.chmod("/a", 0o750)
    tree.write_text("/b", "old and longer" * 9)
    tree.copy("/a", "/b")
    tree.copy("/a", "/c")
    assert tree.read_bytes("/b") == tree.read_bytes("/c") == tree.read_bytes("/a")
    assert stat.S_IMODE(tree.stat("/c").st_mode) == 0o750
    with pytest.raises(OSError):
        tree.copy("/a", "/a")


def test_rmtree(tree: Tree) -> None:
    tree.makedirs("/d/e/f")
    tree.write_text("/kept", "x")
    for path in ("/d/1", "/d/e/2", "/d/e/f/3"):
        tree.write_text(path, "x")
    tree.symlink("/kept", "/d/link")
    tree.symlink("/d", "/to_d")
    with pytest.raises(OSError):
        tree.rmtree("/to_d")
    tree.rmtree("/d")
    with pytest.raises(FileNotFoundError):
        tree.rmtree("/d")
    tree.rmtree("/d", ignore_errors=True)
    assert tree.listdir("/") == ["kept", "to_d"]


# --- layers


def test_layers(tree: Tree, tenant: Tenant) -> None:
    tree.write_text("/f", "one\n")
    first = tree.checkpoint("first", "the beginning")
    assert (first.label, first.message) == ("first", "the beginning")
    tree.write_text("/f", "two\n")
    tree.write_bytes("/b", b"\0\1")
    tree.mkdir("/d")
    assert [(one.status, one.path) for one in tree.changes()] == [("A", "/b"), ("A", "/d"), ("M", "/f")]
    assert tree.diff(path="/f") == "--- /f (first)\n+++ /f (head)\n@@ -1 +1 @@\n-one\n+two\n"
    assert tree.diff("first", "head") == "Binary files /dev/null and /b (head) differ\nA /d\n" + tree.diff(path="/f")
    second = tree.checkpoint()
    assert [version.layer.label for version in tree.history("/f")] == [second.label, "first"]
    assert tree.history("/f", limit=1)[0].counts == (0, 0, 1)
    switched = tree.switch("first")
    assert switched.layer.label == "first" and tree.read_text("/f") == "one\n" and tree.listdir("/") == ["f"]
    assert tree.read_text(f"/.tarbox/layers/tree/{second.id}/f") == "two\n"
    tree.switch("-")
    assert tree.read_text("/f") == "two\n"
    tree.branch("side", "first")
    with tarbox_core.connect(tenant.url, tenant.info.name, branch="side") as side:
        side.write_text("/f", "aside\n")
    assert tree.read_text("/f") == "two\n" and [branch.name for branch in tree.branches()] == ["main", "side"]
    with pytest.raises(LayerError):
        tree.switch("nothing like it")
    with pytest.raises(LayerError):
        tree.checkpoint("first")
    with pytest.raises(LayerError, match="use checkpoint"):
        tree.write_text("/.tarbox/layers/new", "x")
    assert "first" in tree.read_text("/.tarbox/layers/list")


def test_a_rename_and_a_mode_in_a_diff(tree: Tree) -> None:
    tree.write_text("/old", "".join(f"{number}\n" for number in range(50)))
    tree.write_text("/mode", "x\n")
    tree.checkpoint()
    tree.rename("/old", "/new")
    tree.chmod("/mode", 0o600)
    assert [one[:2] for one in tree.changes()] == [("m", "/mode"), ("R", "/new")]
    assert tree.diff() == "m /mode\nR /old -> /new\n"


def test_what_others_do_to_the_head_is_seen_by_the_next_verb(tree: Tree, tenant: Tenant) -> None:
    other = tarbox_core.connect(tenant.url, tenant.info.name)
    tree.write_text("/f", "1")
    first = other.checkpoint()
    other.write_text("/f", "2")
    assert tree.read_text("/f") == "2"
    other.checkpoint()
    tree.write_text("/g", "made in the new layer")
    assert other.listdir("/") == ["f", "g"]
    other.switch(first.id)
    assert tree.listdir("/") == ["f"] and tree.read_text("/f") == "1"
    other.close()


def test_files_that_were_open_when_the_head_moved(tree: Tree) -> None:
    tree.write_text("/f", "old\n")
    first = tree.checkpoint()
    with tree.open("/f", "a") as stream:
        stream.write("new\n")
        stream.flush()
        tree.checkpoint()  # the tree stays the same one
        stream.write("newer\n")
    assert tree.read_text("/f") == "old\nnew\nnewer\n"
    reader, writer = tree.open("/f"), tree.open("/f", "a")
    writer.write("lost")
    tree.switch(first.id)
    assert reader.read() == "old\nnew\nnewer\n"
    with pytest.raises(OSError) as raised:
        writer.close()
    assert raised.value.errno == errno.ESTALE and writer.closed
    reader.close()
    assert tree.read_text("/f") == "old\n"


def test_moves_are_refused_inside_a_transaction(tree: Tree) -> None:
    with tree.transaction():
        for move in (tree.checkpoint, lambda: tree.switch("-"), lambda: tree.branch("b")):
            with pytest.raises(TransactionError, match="inside of a transaction"):
                move()
        tree.mkdir("/d")
    assert tree.is_dir("/d") and len(tree.layers()) == 1


# --- the audit


def test_reads_and_failures_are_in_the_audit(tree: Tree, tenant: Tenant) -> None:
    tree.write_text("/f", "abc")
    tree.read_text("/f")
    with tree.open("/f") as stream:
        stream.read()
    tree.listdir("/")
    with pytest.raises(FileNotFoundError):
        tree.remove("/no")
    tree.close()
    found = tenant.owner.run(lambda: many(RECORDS(tenant.info.id)))
    assert ("write", "/f", 3, 0) in found and ("readdir", "/", 0, 0) in found and ("unlink", "/no", 0, errno.ENOENT) in found
    assert found.count(("read", "/f", 3, 0)) == 2 and found.count(("open", "/f", 0, 0)) == 3
