"""What a guest's door does later than its calls, and what it answers from memory: nobody outside can tell, but by the speed."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import pytest

from tarbox_core import trail
from tarbox_core.errors import FsError
from tarbox_wasi import abi
from tarbox_wasi.abi import Errno
from tests.pg.cli import Tarbox
from tests.tenants import ROOT, Session, Tenant
from tests.wasi.bundle import python_wasm
from tests.wasi.calling import Guest, refused
from tests.wasi.helpers import Runner, start

R = TypeVar("R")


@contextmanager
def guest(runner: Runner, out: int = 1) -> Iterator[Guest]:
    with runner.door() as door, door.guest(stdio=(0, out, 2)) as world:
        yield Guest(world)


@pytest.fixture
def session(tenant: Tenant) -> Session:
    """Another door, which tells of its changes."""
    return tenant.session(alone=False)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    heard, said = os.pipe()
    yield heard, said
    os.close(heard)
    os.close(said)


def soon(look: Callable[[], R], wanted: R, seconds: float = 0.8) -> None:
    """What other doors do is heard at once, or nearly so: sooner than what is kept in mind without a word from anybody is old."""
    until = time.monotonic() + seconds
    while look() != wanted:
        assert time.monotonic() < until, f"{look()!r}, not {wanted!r}"
        time.sleep(0.01)


def test_a_new_file_is_stored_before_the_guest_can_speak(runner: Runner, session: Session, pipe: tuple[int, int]) -> None:
    with guest(runner, pipe[1]) as inside:
        inside.create(b"note", b"content")
        assert inside.content(b"note") == b"content"
        inside.create(b"second", b"x" * 100_000)
        assert not session.exists(b"/second")  # or there would be nothing to test
        inside.write(1, b"I wrote a second note\n")
        assert os.read(pipe[0], 100) == b"I wrote a second note\n"
        assert session.read(b"/second") == b"x" * 100_000
        assert session.read(b"/note") == b"content"


def test_a_new_file_is_stored_before_the_guest_waits(runner: Runner, session: Session) -> None:
    with guest(runner) as inside:
        inside.create(b"note", b"content")
        at = inside.put(abi.SUBSCRIPTION.pack(1, abi.EVENT_CLOCK, abi.SUBSCRIPTION_CLOCK.pack(abi.CLOCK_MONOTONIC, 1_000_000, 0, 0)))[0]
        inside.answer("poll_oneoff", at, inside.room(abi.EVENT.size), 1)
        assert session.read(b"/note") == b"content"


def test_a_new_file_is_stored_within_seconds(runner: Runner, session: Session) -> None:
    with guest(runner) as inside:
        inside.create(b"note", b"content")
        until = time.monotonic() + 10
        while not session.exists(b"/note"):
            assert time.monotonic() < until
            time.sleep(0.05)
    assert session.read(b"/note") == b"content"


def test_many_new_files_do_not_wait(runner: Runner, session: Session) -> None:
    with guest(runner) as inside:
        for n in range(300):
            inside.create(b"note%d" % n, b"%d" % n)
        assert session.read(b"/note0") == b"0"
    assert session.read(b"/note299") == b"299"


def test_every_call_sees_what_waits(runner: Runner, session: Session) -> None:
    with guest(runner) as inside:
        inside.mkdir(b"folder")
        inside.create(b"folder/a", b"first")
        assert inside.stat(b"folder/a").size == 5
        assert refused(inside.open, b"folder/a", abi.CREAT | abi.EXCL, rights=abi.FILE_RIGHTS) == Errno.EXIST
        assert refused(inside.rmdir, b"folder") == Errno.NOTEMPTY
        inside.create(b"folder/a", b"again", flags=abi.APPEND)
        assert inside.content(b"folder/a") == b"firstagain"
        inside.create(b"folder/b")
        assert inside.names(b"folder") == [b".", b"..", b"a", b"b"]
        inside.create(b"folder/new", b"whole")
        inside.rename(b"folder/new", b"folder/a")
        assert inside.content(b"folder/a") == b"whole"
        inside.create(b"folder/linked", b"twice")
        inside.link(b"folder/linked", b"other")
        assert (inside.stat(b"other").nlink, inside.content(b"other")) == (2, b"twice")
        inside.create(b"taken")
        assert refused(inside.mkdir, b"taken") == Errno.EXIST
        inside.create(b"emptied", b"much")
        inside.create(b"emptied", oflags=abi.TRUNC)
    assert sorted(session.names(b"/folder")) == [b"a", b"b", b"linked"]
    assert (session.read(b"/folder/a"), session.read(b"/emptied")) == (b"whole", b"")


def test_what_is_removed_at_once_is_never_stored_but_recorded(runner: Runner, session: Session) -> None:
    with guest(runner) as inside:
        for _ in range(3):
            inside.create(b"lock", b"held")
            inside.unlink(b"lock")
            assert refused(inside.stat, b"lock") == Errno.NOENT
    assert session.names() == []
    wanted = trail.Wanted(path="/lock", operations=["create", "write", "unlink"])
    page = session.run(lambda: trail.page(session.fs.session, wanted, trail.start(wanted), 100))
    assert sorted(record.operation for record in page) == ["create"] * 3 + ["unlink"] * 3 + ["write"] * 3
    assert {record.bytes for record in page if record.operation == "write"} == {4}


@pytest.mark.parametrize("speaks", [True, False])
def test_a_name_that_another_door_took_is_the_guests_failure(runner: Runner, session: Session, speaks: bool) -> None:
    with pytest.raises(FsError) as raised, ExitStack() as stack:
        inside = stack.enter_context(guest(runner))
        inside.create(b"note", b"the guest's")
        session.write(b"/note", b"another's")
        if speaks:
            inside.write(1, b"\n")
        soon(lambda: inside.stat(b"note").size, 9, 10)
    assert Errno[abi.from_host(raised.value.errno).name] == Errno.EXIST
    assert session.read(b"/note") == b"another's"


def test_what_another_door_changes_is_heard(runner: Runner, session: Session) -> None:
    session.mkdir(b"/folder")
    for name in (b"grows", b"goes", b"moves", b"changes"):
        session.write(b"/folder/" + name, b"small")
    with guest(runner) as inside:
        for name in (b"grows", b"goes", b"moves", b"changes"):
            assert inside.stat(b"folder/" + name).size == 5
            assert inside.content(b"folder/" + name) == b"small"
        session.write(b"/folder/grows", b"now larger")
        soon(lambda: inside.stat(b"folder/grows").size, 10)
        session.unlink(b"/folder/goes")
        soon(lambda: refused(inside.stat, b"folder/goes"), Errno.NOENT)
        session.rename(b"/folder/moves", b"/folder/moved")
        soon(lambda: refused(inside.open, b"folder/moves"), Errno.NOENT)
        session.write(b"/folder/changes", b"other")
        soon(lambda: inside.content(b"folder/changes"), b"other")
        session.rename(b"/folder", b"/elsewhere")
        soon(lambda: refused(inside.stat, b"folder/grows"), Errno.NOENT)
        assert inside.content(b"elsewhere/moved") == b"small"


def test_where_another_door_left_the_end_files_are_extended(runner: Runner, session: Session) -> None:
    session.write(b"/log", b"a first line\n")
    session.write(b"/sign", b"")
    with guest(runner) as inside:
        fd = inside.open(b"log", rights=abi.FILE_RIGHTS, flags=abi.APPEND)
        inside.write(fd, b"a second line\n")
        inside.call("fd_sync", fd)
        assert inside.stat(b"sign").size == 0
        session.truncate(b"/log", 2)
        session.write(b"/sign", b"x")
        soon(lambda: inside.stat(b"sign").size, 1)
        inside.write(fd, b"nd the end")
        inside.call("fd_sync", fd)
        assert session.read(b"/log") == b"a nd the end"
        session.truncate(b"/log", 2)
        session.write(b"/sign", b"xx")
        soon(lambda: inside.stat(b"sign").size, 2)
        inside.call("fd_allocate", fd, 0, 4)
        assert session.read(b"/log") == b"a \0\0"


def test_what_the_guest_changes_shows_at_once(runner: Runner) -> None:
    with guest(runner) as inside:
        inside.mkdir(b"folder")
        for n in range(20):
            name = b"folder/f%d" % n
            inside.create(name, b"1")
            inside.names(b"folder")  # it is stored
            assert inside.stat(name).size == 1
            inside.create(name, b"23", flags=abi.APPEND)
            assert (inside.stat(name).size, inside.content(name)) == (3, b"123")
            inside.link(name, name + b"l")
            assert inside.stat(name).nlink == 2
            inside.rename(name, name + b"m")
            assert refused(inside.stat, name) == Errno.NOENT
            assert inside.content(name + b"m") == b"123"
            inside.unlink(name + b"l")
            assert inside.stat(name + b"m").nlink == 1
            inside.call("path_filestat_set_times", 3, 1, *inside.put(name + b"m"), 5, 7, 5)
            assert inside.stat(name + b"m").mtim == 7
            inside.rename(b"folder/f%dm" % n, name)
            inside.unlink(name)
            assert refused(inside.open, name) == Errno.NOENT


def test_a_switch_leaves_nothing_in_mind(runner: Runner, session: Session) -> None:
    session.write(b"/note", b"old")
    layer = session.run(lambda: session.fs.checkpoint(ROOT, "first"), durable=True)
    assert layer is not None
    session.write(b"/note", b"much newer")
    with guest(runner) as inside:
        assert inside.content(b"note") == b"much newer"
        session.run(lambda: session.fs.switch(ROOT, "first"), durable=True)
        soon(lambda: inside.content(b"note"), b"old")
        assert inside.stat(b"note").size == 3


def test_what_is_lost_with_a_tree_is_the_guests_failure(runner: Runner, session: Session) -> None:
    layer = session.run(lambda: session.fs.checkpoint(ROOT, "first"), durable=True)
    assert layer is not None
    session.write(b"/sign", b"later")
    with pytest.raises(FsError) as raised, ExitStack() as stack:
        inside = stack.enter_context(guest(runner))
        assert inside.content(b"sign") == b"later"
        inside.create(b"note", b"content")
        session.run(lambda: session.fs.switch(ROOT, "first"), durable=True)  # without asking for quiet first
        soon(lambda: refused(inside.stat, b"sign"), Errno.NOENT, 10)
    assert raised.value.errno == errno.ESTALE
    session.run(session.fs.refresh)
    assert session.names() == []


def test_whatever_was_said_of_survives_a_crash(tarbox: Tarbox) -> None:
    program = "for n in range(20):\n    open('/note%d' % n, 'w').write('number %d' % n)\nprint('ready', flush=True)\nwhile True: pass"
    process = start(tarbox, python_wasm(), "-c", program)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.kill()
    process.communicate(timeout=10)
    assert [tarbox("cat", f"/note{n}") for n in range(20)] == [b"number %d" % n for n in range(20)]
