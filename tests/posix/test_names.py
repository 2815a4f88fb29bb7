"""Names: making, removing, linking, renaming and listing them, and the paths that lead to them."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tarbox_core.types import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.posix.door import Door, fails, get, put

KINDS = ("file", "dir", "link", "fifo")


def make(door: Door, path: bytes, kind: str) -> int:
    """Something of a kind; its inode number."""
    if kind == "file":
        put(door, path, b"content")
    elif kind == "dir":
        door.mkdir(path)
    elif kind == "link":
        door.symlink(b"nowhere", path)
    else:
        door.mknod(path, stat.S_IFIFO | 0o644)
    ino: int = door.lstat(path).ino
    return ino


# --- making


def test_what_is_made_has_its_type_mode_and_owner(door: Door) -> None:
    user = door.user(1000, 1001)
    door.chmod(b"/", 0o777)
    user.mkdir(b"/dir", 0o751)
    put(user, b"/file", mode=0o640)
    user.symlink(b"file", b"/link")
    user.mknod(b"/fifo", stat.S_IFIFO | 0o622)
    user.mknod(b"/socket", stat.S_IFSOCK | 0o600)
    user.mknod(b"/plain", stat.S_IFREG | 0o604)
    for name, mode, links in (
        (b"dir", stat.S_IFDIR | 0o751, 2), (b"file", stat.S_IFREG | 0o640, 1), (b"link", stat.S_IFLNK | 0o777, 1),
        (b"fifo", stat.S_IFIFO | 0o622, 1), (b"socket", stat.S_IFSOCK | 0o600, 1), (b"plain", stat.S_IFREG | 0o604, 1),
    ):  # fmt: skip
        found = door.lstat(b"/" + name)
        assert (oct(found.mode), found.uid, found.gid, found.nlink) == (oct(mode), 1000, 1001, links), name
    assert door.lstat(b"/link").size == 4 and door.readlink(b"/link") == b"file"
    assert door.stat(b"/link").ino == door.stat(b"/file").ino


@pytest.mark.parametrize("kind, number", [(stat.S_IFCHR, (1, 3)), (stat.S_IFBLK, (7, 300))])
def test_devices_keep_their_number(door: Door, kind: int, number: tuple[int, int]) -> None:
    door.mknod(b"/device", kind | 0o600, os.makedev(*number))
    found = door.lstat(b"/device")
    assert stat.S_IFMT(found.mode) == kind and (os.major(found.rdev), os.minor(found.rdev)) == number


@pytest.mark.parametrize("there", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_making_over_a_name_that_is_there(door: Door, there: str, kind: str) -> None:
    ino = make(door, b"/name", there)
    verbs = {
        "file": lambda: door.open(b"/name", os.O_CREAT | os.O_EXCL), "dir": lambda: door.mkdir(b"/name"),
        "link": lambda: door.symlink(b"x", b"/name"), "fifo": lambda: door.mknod(b"/name", stat.S_IFIFO | 0o600),
    }  # fmt: skip
    with fails(errno.EEXIST):
        verbs[kind]()
    assert door.lstat(b"/name").ino == ino


def test_making_where_there_is_no_directory(door: Door) -> None:
    put(door, b"/file")
    for path, number in ((b"/none/x", errno.ENOENT), (b"/file/x", errno.ENOTDIR)):
        with fails(number):
            door.mkdir(path)
        with fails(number):
            put(door, path)
        with fails(number):
            door.symlink(b"x", path)
        with fails(number):
            door.mknod(path, stat.S_IFIFO | 0o600)
        with fails(number):
            door.link(b"/file", path)
        with fails(number):
            door.rename(b"/file", path)
        with fails(number):
            door.lstat(path)
        with fails(number):
            door.unlink(path)
        with fails(number):
            door.rmdir(path)


def test_symbolic_links_hold_up_to_4095_bytes_of_anything(door: Door) -> None:
    target = b"\xff/.." + b"t" * 4091
    door.symlink(target, b"/long")
    assert door.readlink(b"/long") == target and door.lstat(b"/long").size == 4095
    with fails(errno.ENAMETOOLONG):
        door.symlink(b"t" * 4096, b"/longer")
    with fails(errno.ENOENT):
        door.symlink(b"", b"/empty")
    put(door, b"/file")
    with fails(errno.EINVAL):
        door.readlink(b"/file")


# --- names and paths


@pytest.mark.parametrize("name", [
    b"n" * 255, bytes(range(1, 47)) + bytes(range(48, 256)),
    b"\xff\xfe\x80", b" ", b"\n", b"...", b"a\\b", b"-rf *", b"\xc3\xbc", b"u\xcc\x88", b"%s%%", b"'; drop table dentry; --",
])
def test_names_may_hold_any_bytes(door: Door, name: bytes) -> None:
    put(door, b"/" + name, b"content")
    assert door.readdir(b"/") == [name] and get(door, b"/" + name) == b"content"
    door.rename(b"/" + name, b"/x")
    door.rename(b"/x", b"/" + name)
    door.link(b"/" + name, b"/y")
    door.unlink(b"/" + name)
    assert door.readdir(b"/") == [b"y"]


def test_names_that_differ_in_case_or_form_are_different(door: Door) -> None:
    names = [b"a", b"A", b"\xc3\xbc", b"u\xcc\x88", b"a ", b"a."]
    for name in names:
        put(door, b"/" + name, name)
    assert sorted(door.readdir(b"/")) == sorted(set(names))
    assert all(get(door, b"/" + name) == name for name in names)


def test_names_are_at_most_255_bytes(door: Door) -> None:
    put(door, b"/file")
    path = b"/" + b"n" * 256
    for attempt in (
        lambda: door.mkdir(path), lambda: put(door, path), lambda: door.symlink(b"x", path), lambda: door.link(b"/file", path),
        lambda: door.rename(b"/file", path), lambda: door.rename(path, b"/x"), lambda: door.unlink(path), lambda: door.rmdir(path),
        lambda: door.stat(path), lambda: door.mknod(path, stat.S_IFIFO | 0o600),
    ):  # fmt: skip
        with fails(errno.ENAMETOOLONG):
            attempt()


def test_paths_are_at_most_4095_bytes(door: Door) -> None:
    root = door.absolute(b"/")
    path = b""
    while len(root) + len(path) + 200 < 4095:
        path += b"/" + b"d" * 199
        door.mkdir(path)
    left = 4095 - len(door.absolute(path)) - 1
    longest = path + b"/" + b"f" * left
    assert len(door.absolute(longest)) == 4095
    put(door, longest, b"deep")
    assert get(door, longest) == b"deep"
    for attempt in (lambda: door.stat(longest + b"f"), lambda: put(door, longest + b"f"), lambda: door.mkdir(longest + b"f")):
        with fails(errno.ENAMETOOLONG):
            attempt()


def test_dots_and_slashes_in_paths(door: Door) -> None:
    door.mkdir(b"/a")
    door.mkdir(b"/a/b")
    put(door, b"/a/f", b"x")
    here = door.stat(b"/a").ino
    for path in (b"/a/", b"/a//", b"//a", b"/./a/.", b"/a/b/..", b"/a/b/../../a", b"/a/b/./.././"):
        assert door.stat(path).ino == here, path
    assert get(door, b"/a/b/../f") == b"x"
    for path in (b"/a/f/", b"/a/f/.", b"/a/f/..", b"/a/f/x"):
        with fails(errno.ENOTDIR):
            door.stat(path)
    with fails(errno.ENOENT):
        door.stat(b"/a/none/..")
    door.mkdir(b"/a/new/")
    assert sorted(door.readdir(b"/a")) == [b"b", b"f", b"new"]


def test_links_are_followed_wherever_they_lead(door: Door) -> None:
    door.mkdir(b"/dir")
    put(door, b"/dir/file", b"x")
    door.symlink(b"dir", b"/relative")
    door.symlink(door.absolute(b"/dir"), b"/absolute")
    door.symlink(b"../dir/file", b"/dir/up")
    door.symlink(b"relative/../relative/up", b"/twice")
    door.symlink(b"none", b"/dangling")
    ino = door.stat(b"/dir/file").ino
    for path in (b"/relative/file", b"/absolute/file", b"/dir/up", b"/twice", b"/relative/up"):
        assert door.stat(path).ino == ino, path
    assert stat.S_ISLNK(door.lstat(b"/twice").mode) and stat.S_ISDIR(door.lstat(b"/relative/").mode)
    with fails(errno.ENOENT):
        door.stat(b"/dangling")
    put(door, b"/dangling", b"made")  # creates what it leads to
    assert get(door, b"/none") == b"made"
    with fails(errno.EEXIST):
        door.open(b"/dangling", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    with fails(errno.ELOOP):
        door.open(b"/twice", os.O_NOFOLLOW)


def test_loops_of_links(door: Door) -> None:
    door.symlink(b"self", b"/self")
    door.symlink(b"two", b"/one")
    door.symlink(b"one", b"/two")
    for path in (b"/self", b"/one", b"/one/x", b"/self/x/y"):
        with fails(errno.ELOOP):
            door.stat(path)
    with fails(errno.ELOOP):
        put(door, b"/one/x")
    with fails(errno.ELOOP):
        door.mkdir(b"/self/x")
    assert door.readlink(b"/self") == b"self"
    door.unlink(b"/self")


def test_forty_links_may_be_followed(door: Door) -> None:
    put(door, b"/0", b"end")
    for number in range(41):
        door.symlink(b"%d" % number, b"/%d" % (number + 1))
    assert get(door, b"/40") == b"end"
    with fails(errno.ELOOP):
        door.stat(b"/41")


# --- removing


def test_unlink_and_rmdir_are_for_what_they_are_for(door: Door) -> None:
    door.mkdir(b"/dir")
    put(door, b"/file")
    door.symlink(b"dir", b"/link")
    with fails(errno.EISDIR):
        door.unlink(b"/dir")
    for path in (b"/file", b"/link"):
        with fails(errno.ENOTDIR):
            door.rmdir(path)
    for verb in (door.unlink, door.rmdir):
        with fails(errno.ENOENT):
            verb(b"/none")
    put(door, b"/dir/x")
    with fails(errno.ENOTEMPTY, errno.EEXIST):
        door.rmdir(b"/dir")
    door.unlink(b"/dir/x")
    door.rmdir(b"/dir")
    door.unlink(b"/link")
    door.unlink(b"/file")
    assert door.readdir(b"/") == []


def test_a_removed_directory_takes_no_names(door: Door) -> None:
    door.mkdir(b"/dir")
    reader = door.opendir(b"/dir")
    door.rmdir(b"/dir")
    assert door.nextdir(reader, 10) == []
    door.closedir(reader)
    with fails(errno.ENOENT):
        put(door, b"/dir/x")


def test_names_can_be_made_again(door: Door) -> None:
    inos = set()
    for kind in KINDS * 2:
        inos.add(make(door, b"/name", kind))
        (door.rmdir if kind == "dir" else door.unlink)(b"/name")
    assert door.readdir(b"/") == [] and len(inos) == len(KINDS) * 2


# --- hard links


def test_hard_links_share_everything_but_their_names(door: Door) -> None:
    door.mkdir(b"/dir")
    put(door, b"/file", b"one")
    door.link(b"/file", b"/dir/other")
    door.link(b"/dir/other", b"/third")
    assert {door.stat(path).ino for path in (b"/file", b"/dir/other", b"/third")} == {door.stat(b"/file").ino}
    assert door.stat(b"/third").nlink == 3
    put(door, b"/third", b"two")
    door.chmod(b"/dir/other", 0o600)
    assert get(door, b"/file") == b"two" and door.stat(b"/file").mode & 0o777 == 0o600
    door.unlink(b"/file")
    assert door.stat(b"/third").nlink == 2 and get(door, b"/dir/other") == b"two"
    door.unlink(b"/third")
    door.unlink(b"/dir/other")


def test_link_errors(door: Door) -> None:
    door.mkdir(b"/dir")
    put(door, b"/file")
    with fails(errno.EPERM):
        door.link(b"/dir", b"/x")
    with fails(errno.ENOENT):
        door.link(b"/none", b"/x")
    for there in (b"/dir", b"/file"):
        with fails(errno.EEXIST):
            door.link(b"/file", there)
    assert door.stat(b"/file").nlink == 1


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_anything_but_a_directory_can_have_several_names(door: Door, kind: str) -> None:
    ino = make(door, b"/one", kind)
    door.link(b"/one", b"/two")
    assert door.lstat(b"/two").ino == ino and door.lstat(b"/one").nlink == 2
    door.unlink(b"/one")
    assert door.lstat(b"/two").nlink == 1


# --- link counts of directories


def test_a_directory_counts_its_subdirectories(door: Door) -> None:
    door.mkdir(b"/a")
    door.mkdir(b"/b")
    assert door.stat(b"/a").nlink == 2 and door.stat(b"/").nlink == 4
    put(door, b"/a/file")
    door.symlink(b"x", b"/a/link")
    assert door.stat(b"/a").nlink == 2
    door.mkdir(b"/a/one")
    door.mkdir(b"/a/two")
    assert door.stat(b"/a").nlink == 4
    door.rename(b"/a/one", b"/b/one")
    assert (door.stat(b"/a").nlink, door.stat(b"/b").nlink) == (3, 3)
    door.rename(b"/a/two", b"/a/three")
    assert door.stat(b"/a").nlink == 3
    door.rename(b"/a/three", b"/b/one")  # replaces an empty one
    assert (door.stat(b"/a").nlink, door.stat(b"/b").nlink) == (2, 3)
    door.rename(b"/b/one", b"/a/file", RENAME_EXCHANGE)
    assert (door.stat(b"/a").nlink, door.stat(b"/b").nlink) == (3, 2)
    door.rmdir(b"/a/file")
    assert door.stat(b"/a").nlink == 2


# --- rename


@pytest.mark.parametrize("there", [None, *KINDS])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("across", [False, True], ids=["here", "across"])
def test_rename_onto(door: Door, kind: str, there: str | None, across: bool) -> None:
    door.mkdir(b"/a")
    door.mkdir(b"/b")
    old, new = b"/a/old", (b"/b/new" if across else b"/a/new")
    ino = make(door, old, kind)
    if there is not None:
        make(door, new, there)
    wrong = None
    if there is not None and (kind == "dir") != (there == "dir"):
        wrong = errno.ENOTDIR if kind == "dir" else errno.EISDIR
    if wrong is not None:
        with fails(wrong):
            door.rename(old, new)
        assert door.lstat(old).ino == ino != door.lstat(new).ino
        return
    door.rename(old, new)
    assert door.lstat(new).ino == ino
    with fails(errno.ENOENT):
        door.lstat(old)


@pytest.mark.parametrize("there", [None, *KINDS])
@pytest.mark.parametrize("kind", KINDS)
def test_rename_with_flags(door: Door, kind: str, there: str | None) -> None:
    door.mkdir(b"/a")
    door.mkdir(b"/b")
    ino = make(door, b"/a/old", kind)
    other = None if there is None else make(door, b"/b/new", there)
    if other is None:
        with fails(errno.ENOENT):
            door.rename(b"/a/old", b"/b/new", RENAME_EXCHANGE)
        door.rename(b"/a/old", b"/b/new", RENAME_NOREPLACE)
        assert door.lstat(b"/b/new").ino == ino
        return
    with fails(errno.EEXIST):
        door.rename(b"/a/old", b"/b/new", RENAME_NOREPLACE)
    assert (door.lstat(b"/a/old").ino, door.lstat(b"/b/new").ino) == (ino, other)
    door.rename(b"/a/old", b"/b/new", RENAME_EXCHANGE)
    assert (door.lstat(b"/a/old").ino, door.lstat(b"/b/new").ino) == (other, ino)
    if kind == "dir":
        assert door.stat(b"/b/new/..").ino == door.stat(b"/b").ino
    if there == "dir":
        assert door.stat(b"/a/old/..").ino == door.stat(b"/a").ino
    with fails(errno.EINVAL):
        door.rename(b"/a/old", b"/b/new", RENAME_EXCHANGE | RENAME_NOREPLACE)


def test_rename_into_itself(door: Door) -> None:
    door.mkdir(b"/a")
    door.mkdir(b"/a/b")
    door.mkdir(b"/a/b/c")
    for new in (b"/a/x", b"/a/b/x", b"/a/b/c/x"):
        with fails(errno.EINVAL):
            door.rename(b"/a", new)
    for other in (b"/a/b", b"/a/b/c"):
        with fails(errno.EINVAL):
            door.rename(b"/a", other, RENAME_EXCHANGE)
        with fails(errno.EINVAL):
            door.rename(other, b"/a", RENAME_EXCHANGE)
        with fails(errno.ENOTEMPTY):
            door.rename(other, b"/a")
    assert door.readdir(b"/a/b/c") == []


def test_rename_onto_a_directory_that_is_not_empty(door: Door) -> None:
    door.mkdir(b"/a")
    door.mkdir(b"/b")
    put(door, b"/b/x")
    with fails(errno.ENOTEMPTY, errno.EEXIST):
        door.rename(b"/a", b"/b")
    door.rename(b"/a", b"/b", RENAME_EXCHANGE)
    assert (door.readdir(b"/a"), door.readdir(b"/b")) == ([b"x"], [])


def test_rename_between_names_of_one_inode_does_nothing(door: Door) -> None:
    put(door, b"/one", b"x")
    door.link(b"/one", b"/two")
    door.rename(b"/one", b"/two")
    door.rename(b"/one", b"/one")
    assert sorted(door.readdir(b"/")) == [b"one", b"two"] and door.stat(b"/one").nlink == 2
    door.rename(b"/one", b"/two", RENAME_EXCHANGE)
    assert door.stat(b"/two").nlink == 2
    with fails(errno.EEXIST):
        door.rename(b"/one", b"/two", RENAME_NOREPLACE)


def test_rename_of_what_is_not_there_and_of_dots(door: Door) -> None:
    door.mkdir(b"/a")
    with fails(errno.ENOENT):
        door.rename(b"/none", b"/x")
    with fails(errno.ENOENT):
        door.rename(b"/none", b"/a")
    for old, new in ((b"/a/.", b"/x"), (b"/a/..", b"/x"), (b"/a", b"/a/.."), (b"/a", b"/a/.")):
        with fails(errno.EBUSY, errno.EINVAL):
            door.rename(old, new)


def test_a_moved_directory_knows_its_new_parent(door: Door) -> None:
    door.mkdir(b"/a")
    door.mkdir(b"/b")
    door.mkdir(b"/a/dir")
    put(door, b"/a/dir/file", b"x")
    door.rename(b"/a/dir", b"/b/dir")
    assert door.stat(b"/b/dir/..").ino == door.stat(b"/b").ino
    assert get(door, b"/b/dir/file") == b"x"
    with fails(errno.ENOENT):
        door.stat(b"/a/dir/file")


def test_a_replaced_file_lives_on_while_open(door: Door) -> None:
    put(door, b"/new", b"new")
    put(door, b"/old", b"old")
    file = door.open(b"/old", os.O_RDWR)
    door.rename(b"/new", b"/old")
    assert door.read(file, 10, 0) == b"old" and door.fstat(file).nlink == 0
    assert door.write(file, b"more", 3) == 4
    assert door.read(file, 10, 0) == b"oldmore"
    assert get(door, b"/old") == b"new"
    door.close(file)


# --- listing


def test_listing_gives_each_name_once(door: Door) -> None:
    door.mkdir(b"/dir")
    names = {b"%04d" % number for number in range(1500)}
    for name in names:
        door.symlink(b"x", b"/dir/" + name)
    listed = door.readdir(b"/dir")
    assert len(listed) == len(names) and set(listed) == names
    put(door, b"/file")
    with fails(errno.ENOTDIR):
        door.readdir(b"/file")
    with fails(errno.ENOENT):
        door.readdir(b"/none")


def test_listing_is_stable_while_names_come_and_go(door: Door) -> None:
    """What was there all the time is seen exactly once, whatever else happens."""
    door.mkdir(b"/dir")
    for number in range(2400):
        door.symlink(b"x", b"/dir/%05d" % number)
    lasting = {b"%05d" % number for number in range(0, 2400, 3)}
    reader = door.opendir(b"/dir")
    seen: list[bytes] = []
    step = 0
    while names := door.nextdir(reader, 150):
        seen += names
        for number in range(step * 120 + 1, step * 120 + 121):
            if number % 3 and number < 2400:
                door.unlink(b"/dir/%05d" % number)
        for number in range(20):
            door.symlink(b"x", b"/dir/new-%d-%d" % (step, number))
            door.rename(b"/dir/new-%d-%d" % (step, number), b"/dir/00000-%d-%d" % (step, number))
        step += 1
    door.closedir(reader)
    assert [name for name in sorted(seen) if name in lasting] == sorted(lasting)
    assert len(set(seen)) == len(seen)
    assert set(door.readdir(b"/dir")) >= lasting


def test_emptying_a_directory_while_it_is_listed(door: Door) -> None:
    door.mkdir(b"/dir")
    for number in range(2200):
        door.symlink(b"x", b"/dir/%d" % number)
    reader = door.opendir(b"/dir")
    while names := door.nextdir(reader, 100):
        for name in names:
            door.unlink(b"/dir/" + name)
    door.closedir(reader)
    door.rmdir(b"/dir")
