"""New files that wait beyond their close: whoever could know that they were closed finds them, and nothing is left of those that went before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tarbox_core.cache import Recent
from tarbox_core.types import ROOT_INO
from tarbox_wasi import abi
from tarbox_wasi.abi import Errno
from tarbox_wasi.world import Preopen, World
from tests.tenants import Session, Tenant
from tests.wasi.calling import WRITE, Guest, refused

FUTURE = 4_000_000_000 * 10**9  # ns since the epoch


@pytest.fixture
def session(tenant: Tenant) -> Session:
    """As a guest's door has it while nobody else is there."""
    made = tenant.session(defer=True)
    made.fs.session.lingers = True
    made.fs.session.leaves = Recent()
    return made


@pytest.fixture
def guest(session: Session) -> Iterator[Guest]:
    world = World(session.driver, session.fs, session.caller, preopens=[Preopen(b"/", ROOT_INO)])
    yield Guest(world)
    world.close()
    assert world.trouble is None


@pytest.fixture
def other(tenant: Tenant) -> Session:
    return tenant.session()


def test_a_new_file_that_was_stored_on_the_way_is_removed_like_any_other(guest: Guest, session: Session) -> None:
    fd = guest.open(b"new", abi.CREAT, rights=WRITE)
    assert refused(guest.symlink, b"x", b"new") == Errno.EXIST  # which stores it to see
    guest.close(fd)
    guest.unlink(b"new")
    assert refused(guest.stat, b"new") == Errno.NOENT and guest.names() == [b".", b".."]


def test_a_new_file_that_was_looked_at_is_read_and_written_on(guest: Guest, other: Session) -> None:
    fd = guest.open(b"new", abi.CREAT, rights=WRITE, flags=abi.APPEND)
    guest.write(fd, b"first")
    assert guest.stat(b"new").size == 5
    guest.write(fd, b"second")
    assert guest.pread(fd, 20, 0) == b"firstsecond" and guest.stat(b"new").size == 11
    guest.call("fd_filestat_set_times", fd, 0, 7, abi.MTIM)
    guest.write(fd, b"third")
    guest.close(fd)
    assert guest.stat(b"new").size == 16 and guest.content(b"new") == b"firstsecondthird"


def test_a_new_file_is_no_link(guest: Guest) -> None:
    guest.create(b"new")
    assert refused(guest.readlink, b"new") == Errno.INVAL


def test_a_new_file_that_was_stored_on_the_way_takes_changes_like_any_other(guest: Guest, other: Session) -> None:
    fd = guest.open(b"new", abi.CREAT, rights=WRITE)
    assert refused(guest.symlink, b"x", b"new") == Errno.EXIST
    guest.call("fd_filestat_set_times", fd, 0, 7, abi.MTIM)
    guest.call("fd_sync", fd)
    assert other.attr(b"/new").mtime == 7
    guest.close(fd)


def test_a_time_that_is_still_to_come_is_not_when_a_file_was_changed(guest: Guest, session: Session, other: Session) -> None:
    fd = guest.open(b"new", abi.CREAT, rights=WRITE)
    guest.write(fd, b"x" * 70_000)
    guest.call("fd_filestat_set_times", fd, 0, FUTURE, abi.MTIM)
    assert guest.fstat(fd).mtim == FUTURE > guest.fstat(fd).ctim
    guest.close(fd)
    assert guest.stat(b"new").mtim == FUTURE > guest.stat(b"new").ctim
    fd = guest.open(b"new", rights=WRITE)
    other.write(b"/new", b"more", 70_000)
    guest.call("fd_filestat_set_size", fd, 60_000)
    assert FUTURE > guest.fstat(fd).mtim
    guest.close(fd)
    assert other.attr(b"/new").size == 60_000


def test_what_others_see_of_later_calls_they_do_not_see_before_a_closed_file(guest: Guest, other: Session) -> None:
    for number, call in enumerate((
        lambda fd: guest.unlink(b"lock"),
        lambda fd: guest.call("path_filestat_set_times", 3, 0, *guest.put(b"lock"), 0, 0, abi.MTIM),
        lambda fd: guest.call("fd_filestat_set_times", fd, 0, 0, abi.MTIM),
        lambda fd: guest.call("fd_filestat_set_size", fd, 1),
        lambda fd: guest.call("fd_allocate", fd, 0, 100),
        lambda fd: guest.write(fd, b"done") and guest.close(fd),
        lambda fd: guest.write(fd, b"done") and guest.call("fd_sync", fd),
        lambda fd: guest.call("fd_sync", 3),
        lambda fd: guest.open(b"lock", abi.TRUNC),
        lambda fd: guest.link(b"lock", b"link"),
        lambda fd: guest.rename(b"lock", b"free"),
        lambda fd: guest.mkdir(b"dir"),
    )):  # fmt: skip
        other.write(b"/lock", b"held")
        fd = guest.open(b"lock", rights=WRITE)
        guest.create(b"result%d" % number, b"ready")
        assert not other.exists(b"/result%d" % number)
        call(fd)
        assert other.read(b"/result%d" % number) == b"ready", number


def test_a_directory_shows_when_a_name_was_added(guest: Guest) -> None:
    guest.mkdir(b"dir")
    before = guest.stat(b"dir").mtim
    guest.create(b"dir/new")
    after = guest.stat(b"dir").mtim
    assert after > before
    guest.open(b"dir/newer", abi.CREAT, rights=WRITE)
    assert guest.stat(b"dir").mtim == guest.fstat(guest.open(b"dir")).mtim > after


def test_times_that_a_directory_is_given_stay(guest: Guest, other: Session) -> None:
    guest.mkdir(b"dir")
    guest.create(b"dir/closed")
    fd = guest.open(b"dir/open", abi.CREAT, rights=WRITE)
    guest.call("path_filestat_set_times", 3, 0, *guest.put(b"dir"), 0, 7, abi.MTIM)
    guest.close(fd)
    guest.call("fd_sync", 3)
    assert guest.stat(b"dir").mtim == other.attr(b"/dir").mtime == 7
