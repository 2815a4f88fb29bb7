"""Who may do what, against rules written down another way: who the caller is to the file picks one of three octal digits."""

from __future__ import annotations

import errno
import stat
from itertools import product

import pytest

from tarbox_core import access
from tarbox_core.errors import FsError
from tarbox_core.types import R_OK, W_OK, X_OK, Attr, Caller

OWNER, MEMBER, BY_GROUPS, OTHER, ROOT = Caller(7, 9), Caller(8, 5), Caller(8, 9, (4, 5)), Caller(8, 9, (4,)), Caller(0, 0)


def inode(mode: int, uid: int = 7, gid: int = 5) -> Attr:
    return Attr(2, mode, uid, gid, 1, 0, 0, 0, 0, 0, 0, 1, 0)


@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFDIR])
def test_the_first_class_that_fits_decides_alone(kind: int) -> None:
    for mode, mask in product(range(0o1000), range(8)):
        attr = inode(kind | mode)
        for caller, digit in ((OWNER, mode >> 6), (MEMBER, mode >> 3 & 7), (BY_GROUPS, mode >> 3 & 7), (OTHER, mode & 7)):
            assert access.may(caller, attr, mask) == (digit & mask == mask), (caller, oct(mode), mask)


def test_root_executes_only_what_someone_may_and_searches_everything() -> None:
    for mode, mask in product(range(0o1000), range(8)):
        executable = "x" in stat.filemode(mode)
        assert access.may(ROOT, inode(stat.S_IFREG | mode), mask) == (not mask & X_OK or executable)
        assert access.may(ROOT, inode(stat.S_IFDIR | mode), mask)


@pytest.mark.parametrize("caller, owner_of, expected", [
    (ROOT, None, None), (OWNER, "parent", None), (OWNER, "child", None), (OWNER, None, errno.EPERM),
])
def test_a_sticky_directory_lets_only_owners_remove(caller: Caller, owner_of: str | None, expected: int | None) -> None:
    parent = inode(stat.S_IFDIR | 0o1777, uid=caller.uid if owner_of == "parent" else 50)
    child = inode(stat.S_IFREG, uid=caller.uid if owner_of == "child" else 60)
    if expected is None:
        access.require_removal(caller, parent, child, b"x")
    else:
        with pytest.raises(FsError) as error:
            access.require_removal(caller, parent, child, b"x")
        assert error.value.errno == expected and error.value.subject == b"x"


@pytest.mark.parametrize("mode", [0o666, 0o555, 0o444])
def test_removing_asks_for_writing_and_searching_the_directory(mode: int) -> None:
    with pytest.raises(FsError) as error:
        access.require_removal(OTHER, inode(stat.S_IFDIR | mode), inode(stat.S_IFREG | 0o777, uid=8), b"x")
    assert error.value.errno == errno.EACCES


def test_requirements_name_the_errno_and_the_subject() -> None:
    with pytest.raises(FsError) as error:
        access.require(OTHER, inode(0o750), R_OK | W_OK)
    assert (error.value.errno, error.value.subject) == (errno.EACCES, 2)
    access.require_owner(OWNER, inode(0))
    access.require_owner(ROOT, inode(0))
    with pytest.raises(FsError) as error:
        access.require_owner(OTHER, inode(0))
    assert error.value.errno == errno.EPERM


@pytest.mark.parametrize("mode, left", [
    (0o6755, 0o755), (0o4644, 0o644), (0o2755, 0o755), (0o2745, 0o2745), (0o2644, 0o2644), (0o6745, 0o2745), (0o1755, 0o1755), (0o100644, 0o100644),
])
def test_writing_takes_set_uid_and_an_executable_set_gid(mode: int, left: int) -> None:
    assert oct(access.without_suid(mode)) == oct(left)
