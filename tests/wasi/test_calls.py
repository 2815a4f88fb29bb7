"""The calls of preview1 on a tenant: what a path, a right, a flag and a cookie mean, as the public suite and POSIX have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarbox_core.types import ROOT_INO, Caller
from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, Filetype
from tarbox_wasi.calls import CALLS
from tarbox_wasi.world import Preopen, World
from tests.tenants import Session, Tenant
from tests.wasi.calling import ALL, READ, ROOT_FD, WRITE, Guest, refused

MakeGuest = Callable[..., Guest]


@pytest.fixture
def session(tenant: Tenant) -> Session:
    """As a guest's door has it: new files may wait in memory."""
    made = tenant.session(defer=True)
    made.mkdir(b"/top")
    made.write(b"/outside", b"secret")
    return made


@pytest.fixture
def make_guest(tenant: Tenant, session: Session) -> Iterator[MakeGuest]:
    """Guests on /top, each a World of its own."""
    worlds = []

    def make(session: Session = session, *, root: bytes = b"/top") -> Guest:
        null = (0, 1, 2)
        ino = session.attr(root).ino
        worlds.append(World(session.driver, session.fs, session.caller, preopens=[Preopen(b"/", ino), Preopen(b"/all", ROOT_INO)], stdio=null))
        return Guest(worlds[-1])

    yield make
    for world in worlds:
        world.close()
        assert world.trouble is None


@pytest.fixture
def guest(make_guest: MakeGuest) -> Guest:
    return make_guest()


# --- opening


def test_a_file_is_made_written_and_read(guest: Guest, session: Session) -> None:
    fd = guest.open(b"file", abi.CREAT, rights=WRITE)
    assert guest.write(fd, b"hel", b"", b"lo") == 5
    assert guest.fstat(fd).size == guest.seek(fd, 0, abi.SEEK_CUR) == 5
    assert guest.seek(fd, -3, abi.SEEK_END) == 2 and guest.read(fd, 1, 9) == b"llo"
    guest.close(fd)
    assert session.read(b"/top/file") == guest.content(b"file") == b"hello"
    assert session.attr(b"/top/file").mode == 0o100644


def test_what_opening_refuses(guest: Guest) -> None:
    guest.create(b"file")
    guest.mkdir(b"dir")
    guest.symlink(b"dir", b"link")
    assert refused(guest.open, b"none") == refused(guest.open, b"none/x", abi.CREAT) == Errno.NOENT
    assert refused(guest.open, b"file", abi.CREAT | abi.EXCL) == refused(guest.open, b"link", abi.CREAT | abi.EXCL) == Errno.EXIST
    assert refused(guest.open, b"dir", rights=WRITE) == refused(guest.open, b"dir", abi.CREAT) == refused(guest.open, b"dir", abi.TRUNC) == Errno.ISDIR
    assert refused(guest.open, b"new/", abi.CREAT, rights=WRITE) == Errno.ISDIR
    assert refused(guest.open, b"file", abi.DIRECTORY) == refused(guest.open, b"file/") == refused(guest.open, b"file/x") == Errno.NOTDIR
    assert refused(guest.open, b"link", lookup=0) == Errno.LOOP
    assert refused(guest.open, b"link", abi.DIRECTORY, lookup=0) == Errno.NOTDIR
    assert guest.fdstat(guest.open(b"link", abi.DIRECTORY)).filetype == guest.fdstat(guest.open(b"dir/")).filetype == Filetype.DIRECTORY
    assert refused(guest.open, b"x", fd=guest.open(b"file")) == Errno.NOTDIR
    assert guest.names() == [b".", b"..", b"dir", b"file", b"link"]


def test_a_file_is_made_where_a_dangling_link_leads(guest: Guest) -> None:
    guest.mkdir(b"dir")
    guest.symlink(b"dir/made", b"link")
    assert refused(guest.open, b"link", abi.CREAT | abi.EXCL) == Errno.EXIST
    guest.create(b"link", b"through")
    assert guest.content(b"dir/made") == b"through"


def test_truncating_needs_the_right_to_by_path(guest: Guest) -> None:
    guest.create(b"file", b"content")
    folder = guest.open(b".", abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS)
    assert not guest.fdstat(folder).base & abi.FD_FILESTAT_SET_SIZE
    guest.call("fd_fdstat_set_rights", folder, abi.DIRECTORY_RIGHTS & ~abi.PATH_FILESTAT_SET_SIZE, ALL & ~abi.FD_FILESTAT_SET_SIZE)
    assert refused(guest.open, b"file", abi.TRUNC, rights=WRITE, fd=folder) == Errno.NOTCAPABLE
    fd = guest.open(b"file", rights=WRITE, fd=folder)
    assert refused(guest.call, "fd_filestat_set_size", fd, 0) == Errno.NOTCAPABLE
    assert guest.stat(b"file").size == 7
    guest.close(guest.open(b"file", abi.TRUNC, rights=0))
    assert guest.stat(b"file").size == 0


def test_making_files_needs_the_right_to(guest: Guest) -> None:
    folder = guest.open(b".", abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS & ~abi.PATH_CREATE_FILE)
    assert refused(guest.open, b"new", abi.CREAT, fd=folder) == Errno.NOTCAPABLE
    for right, call in (
        (abi.PATH_CREATE_DIRECTORY, lambda fd: guest.mkdir(b"d", fd)), (abi.PATH_UNLINK_FILE, lambda fd: guest.unlink(b"f", fd)),
        (abi.PATH_SYMLINK, lambda fd: guest.symlink(b"t", b"s", fd)), (abi.PATH_LINK_TARGET, lambda fd: guest.link(b"f", b"l", to=fd)),
        (abi.PATH_RENAME_SOURCE, lambda fd: guest.rename(b"f", b"g", fd=fd)), (abi.PATH_READLINK, lambda fd: guest.readlink(b"s", fd=fd)),
        (abi.PATH_REMOVE_DIRECTORY, lambda fd: guest.rmdir(b"d", fd)), (abi.FD_READDIR, lambda fd: guest.entries(fd)),
    ):  # fmt: skip
        fd = guest.open(b".", abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS & ~right)
        assert refused(call, fd) == Errno.NOTCAPABLE


def test_a_directory_is_no_file(guest: Guest) -> None:
    fd = guest.open(b".", abi.DIRECTORY, rights=ALL & ~abi.FD_WRITE)
    for call in (
        lambda: guest.read(fd, 1), lambda: guest.pread(fd, 1, 0), lambda: guest.write(fd, b"x"), lambda: guest.pwrite(fd, b"x", 0), lambda: guest.seek(fd, 0),
        lambda: guest.answer("fd_tell", fd), lambda: guest.call("fd_allocate", fd, 0, 1), lambda: guest.call("fd_filestat_set_size", fd, 0),
    ):  # fmt: skip
        assert refused(call) == Errno.ISDIR
    guest.call("fd_sync", fd)
    guest.call("fd_datasync", fd)
    assert guest.fstat(fd).filetype == Filetype.DIRECTORY


# --- writing


def test_appending(guest: Guest) -> None:
    guest.create(b"log", b"one ")
    fd = guest.open(b"log", rights=WRITE, flags=abi.APPEND)
    assert guest.write(fd, b"two ") == 4 and guest.seek(fd, 0, abi.SEEK_CUR) == 8
    guest.seek(fd, 0)
    guest.write(fd, b"three")
    guest.call("fd_fdstat_set_flags", fd, 0)
    guest.seek(fd, 0)
    guest.write(fd, b"ONE")
    assert guest.content(b"log") == b"ONE two three"


def test_reading_and_writing_at_a_place_moves_nothing(guest: Guest) -> None:
    fd = guest.open(b"file", abi.CREAT, rights=WRITE)
    assert guest.pwrite(fd, b"0123", 0) == 4 and guest.pwrite(fd, b"x", 6) == 1
    assert guest.pread(fd, 10, 2) == b"23\0\0x" and guest.pread(fd, 1, 100) == b""
    assert guest.seek(fd, 0, abi.SEEK_CUR) == 0
    assert refused(guest.pread, fd, 1, 1 << 63) == refused(guest.pwrite, fd, b"x", 1 << 63) == Errno.INVAL
    assert refused(guest.pwrite, fd, b"x", (1 << 63) - 1) == Errno.FBIG


def test_seeking(guest: Guest) -> None:
    fd = guest.open(b"file", abi.CREAT, rights=WRITE)
    assert guest.seek(fd, 100) == 100 and guest.seek(fd, -40, abi.SEEK_CUR) == 60 and guest.read(fd, 1) == b""
    assert refused(guest.seek, fd, -61, abi.SEEK_CUR) == refused(guest.seek, fd, -1) == refused(guest.seek, fd, 0, 3) == Errno.INVAL
    guest.seek(fd, (1 << 63) - 1)
    assert refused(guest.seek, fd, 1, abi.SEEK_CUR) == Errno.OVERFLOW
    guest.seek(fd, 5)
    guest.write(fd, b"x")
    assert guest.content(b"file") == bytes(5) + b"x"


def test_sizes(guest: Guest) -> None:
    fd = guest.open(b"file", abi.CREAT, rights=WRITE)
    guest.write(fd, b"content")
    guest.call("fd_allocate", fd, 2, 3)
    assert guest.fstat(fd).size == 7
    guest.call("fd_allocate", fd, 5, 15)
    assert guest.stat(b"file").size == 20
    guest.call("fd_filestat_set_size", fd, 3)
    guest.call("fd_filestat_set_size", fd, 5)
    assert guest.content(b"file") == b"con\0\0"
    assert refused(guest.call, "fd_allocate", fd, 0, 0) == refused(guest.call, "fd_allocate", fd, 1 << 63, 1) == Errno.INVAL
    assert refused(guest.call, "fd_filestat_set_size", fd, 1 << 63) == refused(guest.call, "fd_allocate", fd, (1 << 63) - 1, 1) == Errno.FBIG
    guest.call("fd_advise", fd, 0, 0, 5)
    assert refused(guest.call, "fd_advise", fd, 0, 0, 6) == Errno.INVAL


@pytest.mark.parametrize("flag", [abi.SYNC, abi.DSYNC])
def test_what_is_written_with_sync_is_stored_at_once(guest: Guest, session: Session, tenant: Tenant, flag: int) -> None:
    fd = guest.open(b"file", abi.CREAT, rights=WRITE, flags=flag)
    guest.write(fd, b"safe")
    assert not session.fs.dirty_files(1 << 62)
    assert tenant.session(alone=False).read(b"/top/file") == b"safe"


def test_sync_stores(guest: Guest, tenant: Tenant) -> None:
    other = tenant.session(alone=False)
    one, two = (guest.open(name, abi.CREAT, rights=WRITE) for name in (b"one", b"two"))
    guest.write(one, b"1")
    guest.write(two, b"2")
    guest.call("fd_sync", one)
    assert other.read(b"/top/one") == b"1"
    guest.call("fd_datasync", guest.open(b".", abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS))
    assert other.read(b"/top/two") == b"2"


def test_closing_stores_even_where_it_is_open_elsewhere(guest: Guest, tenant: Tenant) -> None:
    kept = guest.open(b"file", abi.CREAT, rights=WRITE)
    guest.create(b"file", b"stored")
    assert tenant.session(alone=False).read(b"/top/file") == b"stored"
    guest.write(kept, b"STORE")
    assert guest.content(b"file") == b"STOREd"


def test_writers_wait_when_too_much_waits(guest: Guest, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tarbox_wasi.world.DIRTY_MAX", 1 << 20)
    fds = [guest.open(b"file%d" % n, abi.CREAT, rights=WRITE) for n in range(4)]
    for _ in range(3):
        for fd in fds:
            guest.write(fd, bytes(1 << 18))
    assert session.fs.dirty_bytes() <= 2 << 20


# --- attributes


def test_times(guest: Guest) -> None:
    guest.create(b"file")
    guest.symlink(b"file", b"link")
    fd = guest.open(b"file", rights=ALL)
    guest.call("fd_filestat_set_times", fd, 5, 6, abi.ATIM | abi.MTIM)
    assert guest.fstat(fd)[-3:-1] == (5, 6)
    before = guest.stat(b"file")

    def set_times(path: bytes, flags: int, *, lookup: int = 1, atime: int = 8, mtime: int = 9) -> None:
        guest.call("path_filestat_set_times", ROOT_FD, lookup, *guest.put(path), atime, mtime, flags)

    set_times(b"link", abi.MTIM, lookup=0)
    assert guest.stat(b"link", lookup=0).mtim == 9 and guest.stat(b"link").mtim == 6
    set_times(b"link", abi.MTIM)
    assert guest.stat(b"file")[-3:-1] == (5, 9)
    set_times(b"file", abi.ATIM_NOW | abi.MTIM_NOW)
    assert guest.stat(b"file").atim > before.ctim and guest.stat(b"file").mtim > before.ctim
    for flags in (abi.ATIM | abi.ATIM_NOW, abi.MTIM | abi.MTIM_NOW, 16):
        assert refused(set_times, b"file", flags) == refused(guest.call, "fd_filestat_set_times", fd, 0, 0, flags) == Errno.INVAL
    assert refused(set_times, b"file", abi.MTIM, mtime=1 << 63) == Errno.INVAL
    assert refused(set_times, b"none", 0) == Errno.NOENT


def test_what_stat_tells(guest: Guest, session: Session) -> None:
    guest.create(b"file", b"12345")
    guest.link(b"file", b"second")
    stat = guest.stat(b"second")
    assert stat == guest.stat(b"file") == guest.fstat(guest.open(b"file"))
    attr = session.attr(b"/top/file")
    assert stat == (1, attr.ino, Filetype.REGULAR_FILE, 2, 5, attr.atime, attr.mtime, attr.ctime)
    guest.symlink(b"file", b"link")
    assert guest.stat(b"link", lookup=0).filetype == Filetype.SYMBOLIC_LINK and guest.stat(b"link") == stat
    assert guest.stat(b".").filetype == guest.fstat(ROOT_FD).filetype == Filetype.DIRECTORY
    assert guest.stat(b".").ino == guest.fstat(ROOT_FD).ino == session.attr(b"/top").ino


def test_what_another_door_wrote_is_told(guest: Guest, session: Session, tenant: Tenant) -> None:
    guest.create(b"file", b"short")
    fd = guest.open(b"file")
    session.fs.session.alone = False
    tenant.session(alone=False).write(b"/top/file", b"much longer")
    assert guest.fstat(fd).size == guest.seek(fd, 0, abi.SEEK_END) == 11


# --- names


def test_escapes_are_refused(guest: Guest) -> None:
    guest.mkdir(b"dir")
    for path in (b"..", b"../outside", b"/outside", b"dir/../../outside", b"/"):
        assert refused(guest.open, path) == refused(guest.stat, path) == refused(guest.readlink, path) == Errno.PERM
        assert refused(guest.create, path + b"/x") == refused(guest.mkdir, path + b"/x") == Errno.PERM
    for path in (b"..", b"../outside", b"/outside", b"../top/file"):
        assert refused(guest.unlink, path) == refused(guest.rmdir, path) == refused(guest.link, path, b"l") == Errno.PERM
        assert refused(guest.rename, path, b"x") == refused(guest.rename, b"dir", path) == refused(guest.symlink, b"t", path) == Errno.PERM
    assert refused(guest.symlink, b"/outside", b"link") == Errno.PERM
    guest.symlink(b"../outside", b"link")
    guest.symlink(b"..", b"up")
    for path in (b"link", b"up/outside", b"up"):
        assert refused(guest.open, path) == refused(guest.stat, path) == refused(guest.open, path, abi.CREAT, rights=WRITE) == Errno.PERM
    assert refused(guest.mkdir, b"up/new") == refused(guest.unlink, b"up/outside") == Errno.PERM
    assert guest.readlink(b"link") == b"../outside"


def test_a_link_made_by_others_that_leads_out_is_refused(guest: Guest, session: Session) -> None:
    session.symlink(b"/outside", b"/top/absolute")
    assert refused(guest.open, b"absolute") == refused(guest.stat, b"absolute/x") == Errno.PERM
    assert guest.readlink(b"absolute") == b"/outside"


def test_each_directory_is_a_top_of_its_own(guest: Guest) -> None:
    guest.mkdir(b"dir")
    inner = guest.open(b"dir", abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS)
    guest.create(b"file", b"x", fd=inner)
    assert refused(guest.stat, b"..", fd=inner) == refused(guest.stat, b"../dir/file", fd=inner) == Errno.PERM
    assert guest.stat(b"dir/../dir/file") == guest.stat(b"./file", fd=inner) == guest.stat(b"top/dir/file", fd=4)


@pytest.mark.parametrize(("path", "code"), [(b"a\0", Errno.ILSEQ), (b"\xff", Errno.ILSEQ), (b"", Errno.NOENT), (b"a" * 256, Errno.NAMETOOLONG)])
def test_what_is_no_name(guest: Guest, path: bytes, code: Errno) -> None:
    for call in (guest.open, guest.stat, guest.create, guest.mkdir, guest.rmdir, guest.unlink, guest.readlink):
        assert refused(call, path) == code
    assert refused(guest.symlink, b"target", path) == refused(guest.rename, path, b"x") == code
    if code == Errno.ILSEQ:
        assert refused(guest.symlink, path, b"link") == code


def test_directories_are_made_and_removed(guest: Guest) -> None:
    guest.mkdir(b"dir")
    guest.mkdir(b"dir/sub//")
    assert refused(guest.mkdir, b"dir") == refused(guest.mkdir, b".") == refused(guest.mkdir, b"dir/..") == Errno.EXIST
    assert refused(guest.mkdir, b"none/dir") == refused(guest.rmdir, b"none") == Errno.NOENT
    assert refused(guest.rmdir, b"dir") == refused(guest.rmdir, b"dir/sub/..") == Errno.NOTEMPTY
    assert refused(guest.rmdir, b".") == refused(guest.rmdir, b"dir/.") == Errno.INVAL
    guest.create(b"file")
    assert refused(guest.rmdir, b"file") == refused(guest.rmdir, b"file/") == refused(guest.mkdir, b"file/dir") == Errno.NOTDIR
    guest.rmdir(b"dir/sub/")
    guest.rmdir(b"dir")
    assert guest.names() == [b".", b"..", b"file"]


def test_files_are_removed(guest: Guest) -> None:
    guest.create(b"file")
    guest.mkdir(b"dir")
    assert refused(guest.unlink, b"dir") == refused(guest.unlink, b"dir/") == refused(guest.unlink, b".") == refused(guest.unlink, b"dir/..") == Errno.ISDIR
    assert refused(guest.unlink, b"file/") == Errno.NOTDIR
    assert refused(guest.unlink, b"none") == refused(guest.unlink, b"none/") == Errno.NOENT
    guest.symlink(b"dir", b"link")
    assert refused(guest.unlink, b"link/") == Errno.NOTDIR
    guest.unlink(b"link")
    guest.unlink(b"file")
    assert guest.names() == [b".", b"..", b"dir"]


def test_a_file_without_a_name_goes_on(guest: Guest) -> None:
    guest.create(b"file", b"held")
    fd = guest.open(b"file", rights=WRITE)
    guest.unlink(b"file")
    guest.create(b"file", b"new")
    assert guest.read(fd, 10) == b"held" and guest.fstat(fd).nlink == 0
    guest.write(fd, b" on")
    assert guest.pread(fd, 10, 0) == b"held on"
    guest.close(fd)
    assert guest.content(b"file") == b"new"


def test_a_new_file_is_removed_before_it_was_stored(guest: Guest, session: Session) -> None:
    fd = guest.open(b"brief", abi.CREAT, rights=WRITE)
    guest.write(fd, b"x")
    guest.unlink(b"brief")
    assert guest.pread(fd, 9, 0) == b"x"
    guest.close(fd)
    assert session.names(b"/top") == []


def test_links(guest: Guest) -> None:
    guest.create(b"file", b"x")
    guest.mkdir(b"dir")
    guest.link(b"file", b"dir/hard")
    assert guest.stat(b"dir/hard") == guest.stat(b"file")
    assert refused(guest.link, b"file", b"dir") == refused(guest.link, b"file", b"file") == refused(guest.link, b"file", b"dir/") == Errno.EXIST
    assert refused(guest.link, b"file", b"new/") == refused(guest.link, b"none", b"new") == Errno.NOENT
    assert refused(guest.link, b"dir", b"new") == Errno.PERM
    assert refused(guest.link, b"file/", b"new") == Errno.NOTDIR
    assert refused(guest.link, b"file", b"new", lookup=1) == Errno.INVAL
    guest.symlink(b"nowhere", b"dangling")
    guest.link(b"dangling", b"again")
    assert guest.readlink(b"again") == b"nowhere" and refused(guest.link, b"file", b"dangling") == Errno.EXIST


def test_symbolic_links(guest: Guest) -> None:
    guest.symlink(b"target", b"link")
    at = guest.room(10)
    assert guest.readlink(b"link", 4) == b"targ" and guest.readlink(b"link") == b"target" and guest.readlink(b"link", 0) == b""
    assert refused(guest.symlink, b"x", b"link") == refused(guest.symlink, b"x", b"link/") == refused(guest.symlink, b"x", b".") == Errno.EXIST
    assert refused(guest.symlink, b"x", b"new/") == refused(guest.symlink, b"", b"new") == Errno.NOENT
    assert refused(guest.readlink, b".") == Errno.INVAL
    guest.symlink(b"loop", b"loop")
    assert refused(guest.open, b"loop") == refused(guest.stat, b"loop/x") == refused(guest.open, b"loop", lookup=0) == Errno.LOOP
    assert bytes(guest.memory[at : at + 10]) == bytes(10)


def test_renaming(guest: Guest) -> None:
    guest.create(b"file", b"x")
    guest.mkdir(b"dir")
    guest.rename(b"file", b"dir/moved")
    guest.rename(b"dir/moved", b"file")
    guest.rename(b"dir/", b"dir2")
    guest.rename(b"dir2", b"dir/")
    guest.mkdir(b"dir/full")
    guest.mkdir(b"empty")
    assert refused(guest.rename, b"file", b"new/") == refused(guest.rename, b"file/", b"new") == refused(guest.rename, b"dir", b"file") == Errno.NOTDIR
    assert refused(guest.rename, b"file", b"dir") == Errno.ISDIR
    assert refused(guest.rename, b"empty", b"dir") == Errno.NOTEMPTY
    assert refused(guest.rename, b"dir", b"dir/full/x") == Errno.INVAL
    assert refused(guest.rename, b"none", b"x") == refused(guest.rename, b"none/", b"x") == Errno.NOENT
    assert refused(guest.rename, b".", b"x") == refused(guest.rename, b"dir", b"dir/..") == Errno.BUSY
    fd = guest.open(b"file")
    guest.rename(b"file", b"dir/full/file")
    assert guest.read(fd, 5) == b"x"
    guest.rename(b"dir/full", b"empty")
    assert guest.content(b"empty/file") == b"x" and refused(guest.stat, b"dir/full/file") == Errno.NOENT
    inner = guest.open(b"dir", abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS)
    guest.rename(b"empty/file", b"f", to=inner)
    assert guest.content(b"dir/f") == b"x"


# --- listing


def test_listing(guest: Guest) -> None:
    for n in range(5):
        guest.create(b"file%d" % n)
    guest.mkdir(b"dir")
    guest.symlink(b"x", b"link")
    fd = guest.open(b".", abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS)
    entries = guest.entries(fd)
    assert [entry.name for entry in entries] == [b".", b"..", b"dir", *(b"file%d" % n for n in range(5)), b"link"]
    assert entries[0].ino == entries[1].ino == guest.fstat(ROOT_FD).ino
    assert [entry.filetype for entry in entries[2:]] == [Filetype.DIRECTORY, *[Filetype.REGULAR_FILE] * 5, Filetype.SYMBOLIC_LINK]
    assert all(entry.ino == guest.stat(entry.name, lookup=0).ino for entry in entries[2:])
    for number, entry in enumerate(entries):
        assert guest.entries(fd, entry.cookie) == entries[number + 1 :]
    assert guest.entries(guest.open(b"dir", abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS))[1].ino == guest.fstat(ROOT_FD).ino
    assert guest.entries(fd, (1 << 64) - 1) == []


def test_an_entry_is_cut_off_where_the_buffer_ends(guest: Guest) -> None:
    guest.create(b"a-rather-long-name")
    fd = guest.open(b".", abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS)
    whole = guest.room(200)
    used = guest.answer("fd_readdir", fd, whole, 200, 0)
    for size in range(used + 1):
        at = guest.room(200)
        assert guest.answer("fd_readdir", fd, at, size, 0) == size
        assert bytes(guest.memory[at : at + 200]) == bytes(guest.memory[whole : whole + size]) + bytes(200 - size)


def test_cookies_hold_while_the_directory_changes(guest: Guest) -> None:
    names = [b"n%03d" % n for n in range(200)]
    for name in names:
        guest.create(name)
    fd = guest.open(b".", abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS)
    seen: list[bytes] = []
    cookie = 0
    while entries := guest.entries(fd, cookie, 1000):
        for entry in entries:
            if entry.name.startswith(b"n"):
                guest.unlink(entry.name)
                guest.create(b"a" + entry.name)  # before what was seen
        seen += [entry.name for entry in entries]
        cookie = entries[-1].cookie
    assert seen[2:] == names
    assert len(guest.names()) == 202


def test_a_name_that_is_no_text_is_listed_and_cannot_be_opened(guest: Guest, session: Session) -> None:
    session.write(b"/top/caf\xe9", b"x")
    session.write("/top/café".encode(), b"y")
    assert guest.names()[2:] == ["café".encode(), "caf\N{REPLACEMENT CHARACTER}".encode()]
    assert guest.content("café".encode()) == b"y"
    assert refused(guest.open, "caf\N{REPLACEMENT CHARACTER}".encode()) == Errno.NOENT


# --- control files, read-only trees, other users


def test_control_files_answer(make_guest: MakeGuest) -> None:
    guest = make_guest(root=b"/")
    guest.create(b"file", b"first")
    fd = guest.open(b".tarbox/layers/new", abi.TRUNC, rights=abi.FD_WRITE)
    dirty = guest.open(b"file", rights=WRITE)
    guest.write(dirty, b"FIRST")
    assert guest.write(fd, b"by a guest\n") == 11
    guest.close(fd)
    guest.write(dirty, b" and more")
    guest.close(dirty)
    assert b"by a guest" in guest.content(b".tarbox/layers/list")
    assert guest.content(b".tarbox/layers/tree/by a guest/file") == b"FIRST"
    assert b"tree" in guest.names(b".tarbox/layers") and b".tarbox" not in guest.names()
    assert refused(guest.open, b".tarbox/layers/tree/by a guest/file", rights=WRITE) == Errno.ROFS
    assert refused(guest.unlink, b".tarbox/layers/list") == refused(guest.create, b".tarbox/new") == Errno.PERM
    fd = guest.open(b".tarbox/layers/switch", rights=abi.FD_WRITE)
    assert refused(guest.write, fd, b"nowhere\n") == Errno.NOENT
    assert b"nowhere" in guest.content(b".tarbox/last_error")
    guest.write(fd, b"by a guest\n")
    guest.close(fd)
    assert guest.content(b"file") == b"FIRST"
    assert refused(guest.stat, b".tarbox", fd=3) == Errno.SUCCESS


def test_an_open_file_of_a_tree_that_is_gone(make_guest: MakeGuest, session: Session) -> None:
    guest = make_guest(root=b"/")
    session.run(lambda: session.fs.checkpoint(session.caller, "first"), durable=True)
    guest.create(b"file", b"later")
    fd = guest.open(b"file", rights=WRITE)
    session.run(lambda: session.fs.switch(session.caller, "first"), durable=True)
    assert guest.read(fd, 9) == b"later" and guest.fstat(fd).size == 5
    assert refused(guest.write, fd, b"x") == refused(guest.call, "fd_filestat_set_times", fd, 0, 0, abi.MTIM_NOW) == Errno.STALE
    assert refused(guest.stat, b"file") == Errno.NOENT
    guest.close(fd)


def test_a_read_only_tree(make_guest: MakeGuest, tenant: Tenant, session: Session) -> None:
    session.write(b"/top/file", b"x")
    guest = make_guest(tenant.session(read_only=True))
    assert guest.content(b"file") == b"x"
    for call in (
        lambda: guest.create(b"new"), lambda: guest.open(b"file", rights=WRITE), lambda: guest.open(b"file", abi.TRUNC), lambda: guest.mkdir(b"d"),
        lambda: guest.unlink(b"file"), lambda: guest.rename(b"file", b"g"), lambda: guest.symlink(b"file", b"s"), lambda: guest.link(b"file", b"l"),
        lambda: guest.call("fd_filestat_set_times", guest.open(b"file", rights=ALL & ~(WRITE & ~READ) | abi.FD_FILESTAT_SET_TIMES), 0, 0, abi.MTIM_NOW),
    ):  # fmt: skip
        assert refused(call) == Errno.ROFS


def test_permissions_hold(make_guest: MakeGuest, tenant: Tenant, session: Session) -> None:
    session.write(b"/top/file", b"x")
    session.close(session.create(b"/top/hidden", 0o600))
    guest = make_guest(tenant.session(caller=Caller(1000, 1000), enforce=True, defer=True))
    assert guest.content(b"file") == b"x"
    for call in (lambda: guest.open(b"file", rights=WRITE), lambda: guest.open(b"hidden"), lambda: guest.create(b"new"), lambda: guest.unlink(b"file")):
        assert refused(call) == Errno.ACCES
    assert guest.stat(b"hidden").size == 0


# --- whatever it is asked

_SMALL = st.integers(0, 12)
_WORD = st.one_of(_SMALL, st.integers(0, 400), st.integers(0, 2**32 - 1))
_WIDE = st.one_of(_SMALL, st.just(ALL), st.integers(0, 2**64 - 1))
#: Where in a call's arguments addresses of paths are, each with a length behind it.
_PATHS_AT = {
    "path_create_directory": (1,), "path_filestat_get": (2,), "path_filestat_set_times": (2,), "path_link": (2, 5), "path_open": (2,), "path_readlink": (1,),
    "path_remove_directory": (1,), "path_rename": (1, 4), "path_symlink": (0, 3), "path_unlink_file": (1,),
}  # fmt: skip
_PATHS = [b"a", b"b/c", b"b", b"../x", b"a/", b"link", b".", b"b/../a", b"x\0", b"\xff"]
_ASKED = st.sampled_from(sorted(set(CALLS) - {"poll_oneoff", "fd_read", "fd_write"})).flatmap(
    lambda name: st.tuples(
        st.just(name), st.tuples(st.sampled_from(_PATHS), st.sampled_from(_PATHS)), st.tuples(*[_WORD if c == "i" else _WIDE for c in CALLS[name].params])
    )
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(_ASKED, min_size=5, max_size=30))
def test_any_call_has_an_answer(make_guest: MakeGuest, caplog: pytest.LogCaptureFixture, calls: list[tuple[str, tuple[bytes, bytes], tuple[int, ...]]]) -> None:
    """With descriptors and paths that often mean something; fsck follows."""
    guest = make_guest()
    for name, paths, args in calls:
        given = list(args)
        if name.startswith(("fd_", "path_")) and name != "path_symlink":
            given[0] = given[0] % 8 or ROOT_FD
        for path, index in zip(paths, _PATHS_AT.get(name, ()), strict=False):
            given[index : index + 2] = guest.put(path)
            if index >= 3 and name in ("path_link", "path_rename", "path_symlink"):
                given[index - 1] = ROOT_FD
        assert 0 <= guest.world.call(name, guest.memory, given) <= 76
    assert guest.world.trouble is None
    assert not caplog.records
