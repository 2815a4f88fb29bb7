"""Errors as they are stored and told: an errno has Linux's number there, whatever this system calls it. Holds on any system."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path

import pytest

import tarbox_core
from tarbox_core.errors import ENODATA, FsError, errno_name, errno_of, linux_errno

CORE = Path(tarbox_core.__file__).parent
LINUX = {"EPERM": 1, "ENOENT": 2, "EACCES": 13, "ENOTDIR": 20, "ENOTEMPTY": 39, "ELOOP": 40, "EOPNOTSUPP": 95, "ESTALE": 116}


@pytest.mark.parametrize("name", LINUX)
def test_what_is_stored_is_linux_s(name: str) -> None:
    assert linux_errno(getattr(errno, name)) == LINUX[name]
    assert errno_of(errno_name(LINUX[name])) == errno_of(name) == getattr(errno, name)


def test_no_error_and_unknown_ones() -> None:
    assert linux_errno(0) == 0
    assert linux_errno(99999) == 99999
    assert errno_name(99999) == "99999"
    assert errno_of("EWHATEVER") == errno.EIO
    assert (linux_errno(ENODATA), errno_name(61)) == (61, "ENODATA")


def test_every_error_of_the_core_has_its_number_and_words() -> None:
    used = {name for path in CORE.rglob("*.py") if "drivers" not in path.parts for name in re.findall(r"\berrno\.(E[A-Z0-9]+)", path.read_text())}
    assert len(used) > 20
    for name in used:
        number = getattr(errno, name)
        assert errno_of(name) == number, name
        assert str(FsError(number)) == str(FsError(number)).lower() != name
        if sys.platform == "linux":
            assert linux_errno(number) == number
