"""Attributes: permissions and who may change them, times, extended attributes, statfs."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tarbox_core.types import RENAME_EXCHANGE, XATTR_CREATE, XATTR_REPLACE
from tests.posix.conftest import MAX_FILE_SIZE
from tests.posix.door import Door, fails, get, put
from tests.tenants import BLOCK

ALICE, BOB = 1000, 1001
STAFF = 2000


@pytest.fixture
def alice(door: Door) -> Door:
    """A user with a directory /home of her own, and a member of STAFF."""
    door.mkdir(b"/home")
    door.chown(b"/home", ALICE, ALICE)
    return door.user(ALICE, ALICE, (STAFF,))


@pytest.fixture
def bob(door: Door) -> Door:
    return door.user(BOB, BOB)


# --- permissions


def test_modes_decide_who_reads_and_writes(door: Door, alice: Door, bob: Door) -> None:
    colleague = door.user(1002, 1002, (STAFF,))
    put(alice, b"/home/file", b"x")
    door.chown(b"/home/file", ALICE, STAFF)
    users = {6: alice, 3: colleague, 0: bob}
    for mode in (0o600, 0o640, 0o604, 0o060, 0o066, 0o006, 0o200, 0o422, 0):
        door.chmod(b"/home/file", mode)
        for shift, user in users.items():
            for flags, need in ((os.O_RDONLY, 4), (os.O_WRONLY, 2), (os.O_RDWR, 6)):
                if mode >> shift & need == need:
                    user.close(user.open(b"/home/file", flags))
                else:
                    with fails(errno.EACCES):
                        user.open(b"/home/file", flags)
        door.close(door.open(b"/home/file", os.O_RDWR))
        assert get(door, b"/home/file") == b"x"


def test_access_tells_what_the_mode_allows(door: Door, alice: Door, bob: Door) -> None:
    put(door, b"/home/file", b"x")
    for mode in range(0, 0o1000, 0o37):
        door.chmod(b"/home/file", mode)
        for mask in range(8):
            if mode & mask == mask:
                bob.access(b"/home/file", mask)
            else:
                with fails(errno.EACCES):
                    bob.access(b"/home/file", mask)
            if mask & 1 and not mode & 0o111:
                with fails(errno.EACCES):
                    door.access(b"/home/file", mask)
            else:
                door.access(b"/home/file", mask)
    with fails(errno.ENOENT):
        bob.access(b"/none", 0)


def test_creating_and_removing_need_a_writable_directory(door: Door, alice: Door, bob: Door) -> None:
    put(alice, b"/home/file")
    alice.mkdir(b"/home/dir")
    alice.chmod(b"/home", 0o755)
    for attempt in (
        lambda: put(bob, b"/home/x"), lambda: bob.mkdir(b"/home/x"), lambda: bob.symlink(b"x", b"/home/x"), lambda: bob.mknod(b"/home/x", stat.S_IFIFO | 0o600),
        lambda: bob.unlink(b"/home/file"), lambda: bob.rmdir(b"/home/dir"), lambda: bob.rename(b"/home/file", b"/home/x"),
    ):  # fmt: skip
        with fails(errno.EACCES):
            attempt()
    assert sorted(alice.readdir(b"/home")) == [b"dir", b"file"]
    with fails(errno.EEXIST):
        bob.mkdir(b"/home/file")


def test_a_directory_without_x_hides_what_it_holds(door: Door, alice: Door, bob: Door) -> None:
    put(alice, b"/home/file")
    alice.mkdir(b"/home/dir")
    alice.chmod(b"/home", 0o766)
    assert sorted(bob.readdir(b"/home")) == [b"dir", b"file"]
    for attempt in (
        lambda: bob.stat(b"/home/file"), lambda: bob.stat(b"/home/none"), lambda: bob.stat(b"/home/dir/x"), lambda: bob.open(b"/home/file"),
        lambda: put(bob, b"/home/new"), lambda: bob.mkdir(b"/home/dir"), lambda: bob.unlink(b"/home/none"), lambda: bob.rmdir(b"/home/none"),
        lambda: bob.rename(b"/home/none", b"/home/x"), lambda: bob.link(b"/home/file", b"/home/x"),
    ):  # fmt: skip
        with fails(errno.EACCES):
            attempt()
    alice.chmod(b"/home", 0o711)
    assert bob.stat(b"/home/file").uid == ALICE
    with fails(errno.EACCES):
        bob.readdir(b"/home")


def test_who_creates_a_file_may_write_it_whatever_its_mode(alice: Door) -> None:
    file = alice.open(b"/home/file", os.O_RDWR | os.O_CREAT, 0)
    alice.write(file, b"x", 0)
    assert alice.read(file, 1, 0) == b"x"
    alice.close(file)
    with fails(errno.EACCES):
        alice.open(b"/home/file")


def test_a_sticky_directory_protects_what_others_own(door: Door, alice: Door, bob: Door) -> None:
    door.chmod(b"/home", 0o1777)
    door.chown(b"/home", 0, 0)
    put(alice, b"/home/hers")
    alice.mkdir(b"/home/dir")
    put(bob, b"/home/his")
    for attempt in (
        lambda: bob.unlink(b"/home/hers"), lambda: bob.rmdir(b"/home/dir"), lambda: bob.rename(b"/home/hers", b"/home/x"),
        lambda: bob.rename(b"/home/his", b"/home/hers"), lambda: bob.rename(b"/home/his", b"/home/hers", RENAME_EXCHANGE),
    ):  # fmt: skip
        with fails(errno.EPERM):
            attempt()
    bob.rename(b"/home/his", b"/home/still-his")
    bob.unlink(b"/home/still-his")
    door.chown(b"/home", BOB, BOB)
    bob.unlink(b"/home/hers")
    door.chown(b"/home", 0, 0)
    door.rmdir(b"/home/dir")


def test_moving_a_directory_elsewhere_needs_writing_in_it(door: Door, alice: Door, bob: Door) -> None:
    door.chmod(b"/home", 0o777)
    door.mkdir(b"/home/from", 0o777)
    door.mkdir(b"/home/to", 0o777)
    alice.mkdir(b"/home/from/dir", 0o755)
    with fails(errno.EACCES):
        bob.rename(b"/home/from/dir", b"/home/to/dir")
    bob.rename(b"/home/from/dir", b"/home/from/renamed")
    alice.rename(b"/home/from/renamed", b"/home/to/dir")


# --- owners and modes


def test_only_the_owner_changes_the_mode(door: Door, alice: Door, bob: Door) -> None:
    put(alice, b"/home/file")
    alice.chmod(b"/home/file", 0o4711)
    assert alice.stat(b"/home/file").mode & 0o7777 == 0o4711
    with fails(errno.EPERM):
        bob.chmod(b"/home/file", 0o777)
    alice.chmod(b"/home", 0o1777)
    assert alice.stat(b"/home").mode & 0o7777 == 0o1777
    door.chmod(b"/home/file", 0o7777)
    assert door.stat(b"/home/file").mode & 0o7777 == 0o7777
    with fails(errno.ENOENT):
        alice.chmod(b"/none", 0o777)


def test_who_may_give_files_away(door: Door, alice: Door, bob: Door) -> None:
    put(alice, b"/home/file")
    for uid, gid in ((BOB, -1), (0, 0), (-1, BOB), (BOB, ALICE), (ALICE, BOB)):
        with fails(errno.EPERM):
            alice.chown(b"/home/file", uid, gid)
    alice.chown(b"/home/file", ALICE, STAFF)
    alice.chown(b"/home/file", -1, ALICE)
    with fails(errno.EPERM):
        bob.chown(b"/home/file", BOB, -1)
    door.chown(b"/home/file", 7, 8)
    found = door.stat(b"/home/file")
    assert (found.uid, found.gid) == (7, 8)
    door.chown(b"/home/file", -1, 9)
    assert (door.stat(b"/home/file").uid, door.stat(b"/home/file").gid) == (7, 9)


def test_a_link_is_owned_apart_from_what_it_leads_to(door: Door) -> None:
    put(door, b"/file")
    door.symlink(b"file", b"/link")
    door.chown(b"/link", 7, 8)
    assert (door.lstat(b"/link").uid, door.lstat(b"/link").gid, door.stat(b"/file").uid) == (7, 8, 0)


@pytest.mark.parametrize("before, after", [(0o6755, 0o755), (0o4644, 0o644), (0o2745, 0o2745), (0o6777, 0o777)])
def test_writing_and_giving_away_take_set_uid(door: Door, alice: Door, before: int, after: int) -> None:
    def again() -> None:
        door.chown(b"/home/file", ALICE, STAFF)
        door.chmod(b"/home/file", before)
        assert door.stat(b"/home/file").mode & 0o7777 == before

    put(alice, b"/home/file", b"some content", 0o777)
    again()
    file = alice.open(b"/home/file", os.O_WRONLY)
    alice.write(file, b"x", 0)
    alice.close(file)
    assert oct(door.stat(b"/home/file").mode & 0o7777) == oct(after)
    again()
    alice.truncate(b"/home/file", 3)
    assert oct(door.stat(b"/home/file").mode & 0o7777) == oct(after)
    again()
    alice.chown(b"/home/file", -1, ALICE)
    assert oct(door.stat(b"/home/file").mode & 0o7777) == oct(after)
    again()
    door.chown(b"/home/file", 0, 0)
    assert oct(door.stat(b"/home/file").mode & 0o7777) == oct(after)


def test_root_writes_without_taking_set_uid(door: Door) -> None:
    put(door, b"/file", b"x", 0o777)
    door.chmod(b"/file", 0o6755)
    file = door.open(b"/file", os.O_WRONLY)
    door.write(file, b"y", 0)
    door.close(file)
    assert door.stat(b"/file").mode & 0o7777 == 0o6755


def test_set_gid_stays_only_where_the_caller_is_in_the_group(door: Door, alice: Door) -> None:
    put(alice, b"/home/file")
    door.chown(b"/home/file", ALICE, BOB)
    alice.chmod(b"/home/file", 0o2755)
    assert door.stat(b"/home/file").mode & 0o7777 == 0o755
    door.chown(b"/home/file", ALICE, STAFF)
    alice.chmod(b"/home/file", 0o2755)
    assert door.stat(b"/home/file").mode & 0o7777 == 0o2755


def test_a_set_gid_directory_gives_its_group(door: Door, alice: Door) -> None:
    door.chown(b"/home", ALICE, BOB)
    door.chmod(b"/home", 0o2775)
    put(alice, b"/home/file")
    alice.mkdir(b"/home/dir", 0o755)
    alice.symlink(b"x", b"/home/link")
    alice.mkdir(b"/home/dir/below", 0o700)
    found = {name: door.lstat(b"/home/" + name) for name in (b"file", b"dir", b"link", b"dir/below")}
    assert {name: (st.uid, st.gid) for name, st in found.items()} == dict.fromkeys(found, (ALICE, BOB))
    assert oct(found[b"dir"].mode & 0o7777) == oct(0o2755) and oct(found[b"dir/below"].mode & 0o7777) == oct(0o2700)
    assert oct(found[b"file"].mode & 0o7777) == oct(0o644)
    door.chmod(b"/home", 0o775)
    put(alice, b"/home/other")
    assert door.stat(b"/home/other").gid == ALICE


def test_a_file_cannot_be_made_set_gid_for_a_group_that_is_not_the_callers(door: Door, alice: Door) -> None:
    door.chown(b"/home", ALICE, BOB)
    door.chmod(b"/home", 0o2775)
    put(alice, b"/home/file", mode=0o2775)
    assert oct(door.stat(b"/home/file").mode & 0o7777) == oct(0o775)


# --- times


SETTLED = 1_000_000_000_000_000_001  # long ago, with an odd nanosecond


def changed(door: Door, path: bytes, verb: Callable[[], object], also: bytes | None = None) -> str:
    """Which of atime, mtime and ctime of `path` a verb moves; `also` where it is found afterwards."""
    door.utimens(path, SETTLED, SETTLED)
    before = door.lstat(path)
    verb()
    after: SimpleNamespace = door.lstat(also or path)
    moved = [letter for letter in "amc" if getattr(after, letter + "time") != getattr(before, letter + "time")]
    assert all(getattr(after, letter + "time") >= before.ctime for letter in moved), "a time went backwards"
    return "".join(moved)


def test_which_verbs_move_which_times_of_the_inode(door: Door) -> None:
    put(door, b"/file", b"x" * BLOCK * 3)
    door.mkdir(b"/dir")
    file = door.open(b"/file", os.O_RDWR)

    def write() -> None:
        door.write(file, b"y", 0)
        door.fsync(file)

    assert changed(door, b"/file", write) == "mc"
    assert changed(door, b"/file", lambda: door.truncate(b"/file", 10)) == "mc"
    assert changed(door, b"/file", lambda: door.ftruncate(file, 10)) == "mc"  # even where the size stays
    assert changed(door, b"/file", lambda: door.fallocate(file, 3, 0, 5)) == "mc"
    assert changed(door, b"/file", lambda: door.chmod(b"/file", 0o600)) == "c"
    assert changed(door, b"/file", lambda: door.chown(b"/file", 3, 3)) == "c"
    assert changed(door, b"/file", lambda: door.setxattr(b"/file", b"user.x", b"1")) == "c"
    assert changed(door, b"/file", lambda: door.removexattr(b"/file", b"user.x")) == "c"
    assert changed(door, b"/file", lambda: door.link(b"/file", b"/other")) == "c"
    assert changed(door, b"/file", lambda: door.unlink(b"/other")) == "c"
    assert changed(door, b"/file", lambda: door.rename(b"/file", b"/moved"), b"/moved") == "c"
    assert changed(door, b"/moved", lambda: door.rename(b"/moved", b"/dir/file"), b"/dir/file") == "c"
    assert changed(door, b"/dir/file", lambda: door.stat(b"/dir/file")) == ""
    assert changed(door, b"/dir/file", lambda: door.access(b"/dir/file", 4)) == ""
    assert changed(door, b"/dir/file", lambda: door.close(door.open(b"/dir/file", os.O_RDWR))) == ""
    assert changed(door, b"/dir", lambda: door.rename(b"/dir", b"/dir2"), b"/dir2") in ("c", "")
    door.close(file)


def test_which_verbs_move_which_times_of_the_directory(door: Door) -> None:
    door.mkdir(b"/dir")
    door.mkdir(b"/from")
    for verb in (
        lambda: put(door, b"/dir/file"), lambda: door.mkdir(b"/dir/dir"), lambda: door.symlink(b"x", b"/dir/link"),
        lambda: door.mknod(b"/dir/fifo", stat.S_IFIFO),
        lambda: door.link(b"/dir/file", b"/dir/other"), lambda: door.unlink(b"/dir/other"), lambda: door.rmdir(b"/dir/dir"),
        lambda: door.rename(b"/dir/file", b"/dir/moved"), lambda: door.rename(b"/dir/moved", b"/from/moved"), lambda: door.rename(b"/from/moved", b"/dir/file"),
        lambda: door.rename(b"/dir/link", b"/dir/file"),
    ):  # fmt: skip
        assert changed(door, b"/dir", verb) == "mc"
    assert changed(door, b"/from", lambda: door.rename(b"/dir/file", b"/from/file")) == "mc"
    file = door.open(b"/dir/fifo2", os.O_CREAT | os.O_WRONLY)
    for verb in (
        lambda: door.write(file, b"x", 0), lambda: door.close(file), lambda: door.chmod(b"/dir/fifo2", 0),
        lambda: door.readdir(b"/dir"), lambda: put(door, b"/dir/fifo2", b"x"),
    ):  # fmt: skip
        assert changed(door, b"/dir", verb) == ""
    for failing in (
        lambda: door.mkdir(b"/dir/fifo"), lambda: door.unlink(b"/dir/none"), lambda: door.rmdir(b"/dir/fifo"), lambda: door.rename(b"/dir/none", b"/dir/x"),
    ):  # fmt: skip

        def attempt(failing: Callable[[], object] = failing) -> None:
            with fails(errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
                failing()

        assert changed(door, b"/dir", attempt) == ""


def test_times_are_kept_to_the_nanosecond(door: Door) -> None:
    put(door, b"/file")
    for atime, mtime in ((0, 0), (1, 999_999_999), (1_700_000_000_123_456_789, 1 << 61), (-1, -1_500_000_001), (2**31 * 10**9 + 5, 2**33 * 10**9 + 7)):
        door.utimens(b"/file", atime, mtime)
        found = door.stat(b"/file")
        assert (found.atime, found.mtime) == (atime, mtime)
    door.utimens(b"/file", 5, 6)
    door.utimens(b"/file", None, 7)
    assert (door.stat(b"/file").atime, door.stat(b"/file").mtime) == (5, 7)
    door.utimens(b"/file", 8, None)
    assert (door.stat(b"/file").atime, door.stat(b"/file").mtime) == (8, 7)
    door.utimens(b"/file", "now", None)
    found = door.stat(b"/file")
    assert found.mtime == 7 and found.atime > SETTLED
    door.utimens(b"/file", "now", "now")
    found = door.stat(b"/file")
    assert found.atime == found.mtime == found.ctime


def test_who_may_set_times(door: Door, alice: Door, bob: Door) -> None:
    put(alice, b"/home/file", mode=0o644)
    alice.utimens(b"/home/file", 1, 2)
    for times in (("now", "now"), (1, 2), (1, None)):
        with fails(errno.EACCES if times == ("now", "now") else errno.EPERM):
            bob.utimens(b"/home/file", *times)
    alice.chmod(b"/home/file", 0o666)
    bob.utimens(b"/home/file", "now", "now")
    for times in ((1, 2), ("now", None), (None, "now"), ("now", 5)):
        with fails(errno.EPERM):
            bob.utimens(b"/home/file", *times)


# --- extended attributes


def test_extended_attributes(door: Door) -> None:
    put(door, b"/file")
    door.mkdir(b"/dir")
    for path in (b"/file", b"/dir"):
        assert door.listxattr(path) == []
        values = {b"user.empty": b"", b"user.bytes": bytes(range(256)), b"user." + b"n" * 250: b"long name", "user.ü".encode(): b"x", b"trusted.t": b"root's"}
        for name, value in values.items():
            door.setxattr(path, name, value)
        assert sorted(door.listxattr(path)) == sorted(values)
        assert {name: door.getxattr(path, name) for name in values} == values
        door.setxattr(path, b"user.empty", b"no longer")
        assert door.getxattr(path, b"user.empty") == b"no longer"
        door.removexattr(path, b"user.empty")
        for verb in (door.getxattr, door.removexattr):
            with fails(errno.ENODATA):
                verb(path, b"user.empty")
    for attempt in (lambda: door.getxattr(b"/none", b"user.x"), lambda: door.setxattr(b"/none", b"user.x", b""), lambda: door.listxattr(b"/none")):
        with fails(errno.ENOENT):
            attempt()


def test_extended_attributes_create_and_replace(door: Door) -> None:
    put(door, b"/file")
    with fails(errno.ENODATA):
        door.setxattr(b"/file", b"user.x", b"1", XATTR_REPLACE)
    door.setxattr(b"/file", b"user.x", b"1", XATTR_CREATE)
    with fails(errno.EEXIST):
        door.setxattr(b"/file", b"user.x", b"2", XATTR_CREATE)
    assert door.getxattr(b"/file", b"user.x") == b"1"
    door.setxattr(b"/file", b"user.x", b"3", XATTR_REPLACE)
    assert door.getxattr(b"/file", b"user.x") == b"3"


def test_limits_of_extended_attributes(door: Door) -> None:
    put(door, b"/file")
    door.setxattr(b"/file", b"user.big", b"v" * 65536)
    assert door.getxattr(b"/file", b"user.big") == b"v" * 65536
    with fails(errno.E2BIG):
        door.setxattr(b"/file", b"user.bigger", b"v" * 65537)
    with fails(errno.ERANGE):
        door.setxattr(b"/file", b"user." + b"n" * 251, b"x")
    assert door.listxattr(b"/file") == [b"user.big"]
    with fails(errno.ENOSPC):
        for number in range(300):
            door.setxattr(b"/file", b"user.%03d" % number + b"n" * 240, b"")
    assert 255 < len(door.listxattr(b"/file")) < 300


def test_who_may_use_extended_attributes(door: Door, alice: Door, bob: Door) -> None:
    put(alice, b"/home/file", mode=0o640)
    alice.setxattr(b"/home/file", b"user.x", b"1")
    with fails(errno.EACCES):
        bob.getxattr(b"/home/file", b"user.x")
    alice.chmod(b"/home/file", 0o644)
    assert bob.getxattr(b"/home/file", b"user.x") == b"1"
    for attempt in (lambda: bob.setxattr(b"/home/file", b"user.x", b"2"), lambda: bob.removexattr(b"/home/file", b"user.x")):
        with fails(errno.EACCES):
            attempt()
    door.setxattr(b"/home/file", b"trusted.x", b"1")
    assert alice.listxattr(b"/home/file") == [b"user.x"]
    with fails(errno.EPERM):
        alice.setxattr(b"/home/file", b"trusted.y", b"1")
    with fails(errno.ENODATA, errno.EPERM):
        alice.getxattr(b"/home/file", b"trusted.x")
    alice.symlink(b"file", b"/home/link")
    with fails(errno.EPERM):
        door.setxattr(b"/home/link", b"user.x", b"1")


def test_extended_attributes_go_with_their_file(door: Door) -> None:
    put(door, b"/file")
    door.setxattr(b"/file", b"user.x", b"1")
    door.link(b"/file", b"/other")
    door.rename(b"/file", b"/moved")
    assert door.getxattr(b"/other", b"user.x") == door.getxattr(b"/moved", b"user.x") == b"1"
    door.unlink(b"/other")
    door.unlink(b"/moved")
    put(door, b"/file")
    assert door.listxattr(b"/file") == []


# --- the whole


def test_statfs(door: Door) -> None:
    found = door.statfs(b"/")
    assert found.name_max == 255 and found.block_size >= 512
    assert found.total >= found.free > MAX_FILE_SIZE and found.files > 1_000_000
