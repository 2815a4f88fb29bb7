"""A World without a tree: how it was started, its streams, its extras, its descriptors, waiting, and that it answers whatever it is asked."""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarbox_core.control import ControlledFilesystem
from tarbox_core.effects import Op
from tarbox_core.errors import ConnectError
from tarbox_core.types import ROOT_INO, Caller, TenantInfo
from tarbox_wasi import abi, files
from tarbox_wasi.abi import Errno, Filetype
from tarbox_wasi.calls import CALLS
from tarbox_wasi.world import Preopen, World
from tests.wasi.calling import ALL, READ, WRITE, Guest, refused


class NoDatabase:
    """What every operation that asks for a trip meets."""

    def run(self, factory: Callable[[], Op[Any]], *, durable: bool = False) -> Any:
        raise ConnectError("there is no database")

    def close(self) -> None: ...


class Echo:
    """A channel that gives back what was written to it, in capitals."""

    def __init__(self) -> None:
        self._held = b""

    def write(self, data: bytes) -> int:
        self._held += data.upper()
        return len(data)

    def read(self, size: int) -> bytes:
        given, self._held = self._held[:size], self._held[size:]
        return given


class Streams:
    """Pipes in place of standard input and output; `world` sees their other ends."""

    def __init__(self) -> None:
        self.stdin, self.typed = os.pipe()
        self.printed, self.stdout = os.pipe()
        self.open = {self.stdin, self.typed, self.printed, self.stdout}

    def hang_up(self, fd: int) -> None:
        self.open.discard(fd)
        os.close(fd)


@pytest.fixture
def streams() -> Iterator[Streams]:
    made = Streams()
    yield made
    for fd in made.open:
        os.close(fd)


def make_world(streams: Streams, **more: Any) -> World:
    tenant = TenantInfo(1, "t", "", "role", 65536, 1 << 40, 0, "main", 1 << 32, ((0, 1 << 33),))
    fs = ControlledFilesystem(tenant, time.time_ns)
    preopens = [Preopen(b"/extra", extras={b"text": b"0123456789", b"echo": Echo()}), Preopen(b"/tree", ROOT_INO)]
    return World(NoDatabase(), fs, Caller(), preopens=preopens, stdio=(streams.stdin, streams.stdout, streams.stdout), **more)


@pytest.fixture
def world(streams: Streams) -> Iterator[World]:
    made = make_world(streams, args=[b"prog", "zażółć".encode()], env=[b"A=1", b"B="])
    yield made
    made.close()


@pytest.fixture
def guest(world: World) -> Guest:
    return Guest(world)


# --- how it was started


def strings(guest: Guest, kind: str) -> list[bytes]:
    sizes = guest.room(8)
    guest.call(f"{kind}_sizes_get", sizes, sizes + 4)
    count, size = struct.unpack_from("<II", guest.memory, sizes)
    pointers, buffer = guest.room(4 * count), guest.room(size)
    guest.call(f"{kind}_get", pointers, buffer)
    starts = struct.unpack_from(f"<{count}I", guest.memory, pointers)
    return [bytes(guest.memory[at : buffer + size]).split(b"\0")[0] for at in starts]


def test_arguments_and_environment(guest: Guest) -> None:
    assert strings(guest, "args") == [b"prog", "zażółć".encode()]
    assert strings(guest, "environ") == [b"A=1", b"B="]


def test_preopens_are_told_by_number(guest: Guest) -> None:
    at = guest.room(8)
    guest.call("fd_prestat_get", 3, at)
    assert bytes(guest.memory[at : at + 8]) == b"\0\0\0\0\x06\0\0\0"
    name = guest.room(8)
    guest.call("fd_prestat_dir_name", 3, name, 8)
    assert bytes(guest.memory[name : name + 7]) == b"/extra\0"
    assert refused(guest.call, "fd_prestat_dir_name", 3, name, 5) == Errno.NAMETOOLONG
    assert refused(guest.call, "fd_prestat_get", 5, at) == refused(guest.call, "fd_prestat_get", 0, at) == Errno.BADF


# --- streams


def test_standard_streams(guest: Guest, streams: Streams) -> None:
    os.write(streams.typed, b"typed")
    assert guest.read(0, 3, 10) == b"typed"
    assert guest.write(1, b"one ", b"", b"two") == 7
    assert guest.write(2, b"!") == 1
    assert os.read(streams.printed, 100) == b"one two!"
    streams.hang_up(streams.typed)
    assert guest.read(0, 10) == b""


def test_streams_have_no_position_and_no_other_direction(guest: Guest) -> None:
    assert guest.fdstat(0).filetype == guest.fdstat(1).filetype == Filetype.UNKNOWN
    assert guest.fdstat(0).base & (abi.FD_READ | abi.FD_WRITE) == abi.FD_READ
    assert refused(guest.seek, 0, 0) == refused(guest.pread, 0, 1, 0) == refused(guest.pwrite, 1, b"x", 0) == Errno.SPIPE
    assert refused(guest.write, 0, b"x") == refused(guest.read, 1, 1) == Errno.NOTCAPABLE
    assert refused(guest.stat, b"x", fd=1) == Errno.NOTDIR
    assert guest.fstat(0).ino != guest.fstat(1).ino


def test_a_terminal_is_told_from_a_pipe(streams: Streams) -> None:
    ours, theirs = os.openpty()
    world = World(NoDatabase(), make_world(streams).fs, Caller(), stdio=(theirs, theirs, streams.stdout))
    assert Guest(world).fdstat(0).filetype == Filetype.CHARACTER_DEVICE
    world.close()
    os.close(ours)
    os.close(theirs)


def test_a_reader_that_has_gone(guest: Guest, streams: Streams) -> None:
    streams.hang_up(streams.printed)
    assert refused(guest.write, 1, b"x") == Errno.PIPE


def test_a_pipe_that_would_block_is_waited_for(guest: Guest, streams: Streams) -> None:
    os.set_blocking(streams.stdout, False)
    got = 0

    def read() -> None:
        nonlocal got
        while size := len(os.read(streams.printed, 1 << 12)):
            got += size

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    sent = sum(guest.write(1, bytes(1 << 16)) for _ in range(16))
    streams.hang_up(streams.stdout)
    reader.join(10)
    assert sent == got >= 1 << 16


# --- extras


def test_extras_are_read(guest: Guest) -> None:
    fd = guest.open(b"text")
    assert guest.read(fd, 4) == b"0123" and guest.read(fd, 3, 9) == b"456789" and guest.read(fd, 5) == b""
    assert guest.pread(fd, 3, 7) == b"789"
    assert guest.seek(fd, -2, abi.SEEK_END) == 8 and guest.read(fd, 9) == b"89"
    stat = guest.stat(b"text")
    assert (stat.size, stat.filetype, stat) == (10, Filetype.REGULAR_FILE, guest.fstat(fd))
    guest.close(fd)


def test_extras_are_listed(guest: Guest) -> None:
    fd = guest.open(b".", abi.DIRECTORY, rights=abi.DIRECTORY_RIGHTS)
    entries = guest.entries(fd)
    assert [entry.name for entry in entries] == [b".", b"..", b"text", b"echo"]
    assert entries[2].ino == guest.stat(b"./text").ino != entries[3].ino
    assert guest.entries(fd, entries[1].cookie) == entries[2:]


def test_extras_are_what_they_are(guest: Guest) -> None:
    for change in (
        lambda: guest.create(b"new"), lambda: guest.open(b"text", rights=WRITE), lambda: guest.open(b"text", abi.TRUNC), lambda: guest.mkdir(b"d"),
        lambda: guest.unlink(b"text"), lambda: guest.rmdir(b"."), lambda: guest.symlink(b"text", b"s"), lambda: guest.link(b"text", b"l"),
        lambda: guest.rename(b"text", b"t"), lambda: guest.call("path_filestat_set_times", 3, 0, *guest.put(b"text"), 0, 0, abi.MTIM_NOW),
    ):  # fmt: skip
        assert refused(change) == Errno.ROFS
    assert refused(guest.open, b"text", abi.CREAT | abi.EXCL) == Errno.EXIST
    assert refused(guest.open, b"none") == refused(guest.open, b"") == Errno.NOENT
    assert refused(guest.open, b"text/") == refused(guest.open, b"text/x") == refused(guest.open, b"text", abi.DIRECTORY) == Errno.NOTDIR
    assert refused(guest.open, b"..") == refused(guest.open, b"/text") == Errno.PERM
    assert refused(guest.open, b".", rights=WRITE) == Errno.ISDIR
    assert refused(guest.link, b"text", b"t", to=4) == refused(guest.rename, b"text", b"t", to=4) == Errno.XDEV
    assert refused(guest.readlink, b"text") == Errno.INVAL


def test_a_channel_answers_what_is_written_to_it(guest: Guest) -> None:
    fd = guest.open(b"echo", rights=ALL)
    assert guest.fdstat(fd).filetype == Filetype.SOCKET_STREAM
    assert guest.write(fd, b"ping ", b"pong") == 9
    assert guest.read(fd, 4) == b"PING" and guest.read(fd, 100) == b" PONG" and guest.read(fd, 1) == b""
    assert refused(guest.seek, fd, 0) == Errno.SPIPE


# --- descriptors and rights


def test_numbers_are_the_lowest_that_are_free(guest: Guest) -> None:
    first, second, third = (guest.open(b"text") for _ in range(3))
    assert (first, second, third) == (5, 6, 7)
    guest.close(second)
    guest.close(first)
    assert (guest.open(b"text"), guest.open(b"text"), guest.open(b"text")) == (5, 6, 8)
    guest.close(0)
    assert guest.open(b"text") == 9
    assert refused(guest.close, 0) == refused(guest.close, 99) == refused(guest.close, (1 << 32) - 1) == Errno.BADF


def test_renumbering_closes_what_was_there(guest: Guest) -> None:
    one, two = guest.open(b"text"), guest.open(b"text")
    guest.seek(one, 4)
    guest.call("fd_renumber", one, two)
    assert guest.read(two, 2) == b"45"
    assert refused(guest.fdstat, one) == refused(guest.call, "fd_renumber", two, one) == refused(guest.call, "fd_renumber", one, two) == Errno.BADF
    guest.call("fd_renumber", two, two)
    guest.call("fd_renumber", two, 1)
    assert guest.read(1, 1) == b"6"
    guest.call("fd_renumber", 3, 1)
    assert refused(guest.call, "fd_prestat_get", 1, 0) == Errno.BADF


def test_rights_can_only_be_dropped(guest: Guest) -> None:
    fd = guest.open(b"text")
    base = guest.fdstat(fd).base
    guest.call("fd_fdstat_set_rights", fd, base & ~abi.FD_READ, 0)
    assert refused(guest.read, fd, 1) == refused(guest.call, "fd_fdstat_set_rights", fd, base, 0) == Errno.NOTCAPABLE
    assert guest.seek(fd, 1) == 1
    guest.call("fd_fdstat_set_rights", fd, abi.FD_TELL, 0)
    assert guest.answer("fd_tell", fd, layout="<Q") == guest.seek(fd, 0, abi.SEEK_CUR) == 1
    assert refused(guest.seek, fd, 0) == Errno.NOTCAPABLE


def test_rights_are_passed_on_and_no_others(guest: Guest) -> None:
    guest.call("fd_fdstat_set_rights", 3, abi.DIRECTORY_RIGHTS & ~abi.PATH_FILESTAT_GET, READ & ~abi.FD_TELL)
    assert guest.fdstat(guest.open(b"text")).base == READ & ~abi.FD_TELL
    assert refused(guest.open, b"echo", rights=WRITE) == refused(guest.stat, b"text") == Errno.NOTCAPABLE
    inner = guest.open(b".", rights=abi.DIRECTORY_RIGHTS)
    assert guest.fdstat(inner).base == abi.DIRECTORY_RIGHTS & READ
    assert refused(guest.open, b"text", fd=inner) == Errno.NOTCAPABLE


def test_flags(guest: Guest) -> None:
    fd = guest.open(b"text", rights=ALL & ~abi.FD_WRITE, flags=abi.NONBLOCK)
    assert guest.fdstat(fd).flags == abi.NONBLOCK
    guest.call("fd_fdstat_set_flags", fd, abi.APPEND)
    assert guest.fdstat(fd).flags == abi.APPEND
    assert refused(guest.call, "fd_fdstat_set_flags", fd, 32) == refused(guest.open, b"text", flags=32) == Errno.INVAL
    assert refused(guest.open, b"text", 16) == refused(guest.open, b".", abi.DIRECTORY | abi.CREAT) == refused(guest.stat, b"text", lookup=2) == Errno.INVAL


def test_sockets_there_are_none(guest: Guest) -> None:
    for name in ("sock_accept", "sock_recv", "sock_send", "sock_shutdown"):
        rest = (0,) * (len(CALLS[name].params) - 1)
        assert refused(guest.call, name, 1, *rest) == Errno.NOTSOCK
        assert refused(guest.call, name, 77, *rest) == Errno.BADF


def test_too_many_are_open(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tarbox_wasi.descriptors.OPEN_MAX", 6)
    guest.open(b"text")
    assert refused(guest.open, b"text") == Errno.MFILE


# --- waiting


def clock(userdata: int, timeout: int, *, clock: int = abi.CLOCK_MONOTONIC, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, abi.EVENT_CLOCK, clock, timeout, 0, flags)


def on_fd(userdata: int, fd: int, *, write: bool = False) -> bytes:
    return struct.pack("<QB7xI28x", userdata, abi.EVENT_FD_WRITE if write else abi.EVENT_FD_READ, fd)


def poll(guest: Guest, *subscriptions: bytes) -> list[tuple[int, ...]]:
    """(userdata, errno, tag, bytes, flags) of each event."""
    at, _ = guest.put(b"".join(subscriptions))
    events = guest.room(32 * len(subscriptions))
    count = guest.answer("poll_oneoff", at, events, len(subscriptions))
    return [struct.unpack_from("<QHB5xQH6x", guest.memory, events + 32 * number) for number in range(count)]


@pytest.mark.parametrize("base", ["relative", "monotonic", "realtime"])
def test_a_clock_is_waited_for(guest: Guest, world: World, base: str) -> None:
    began = time.monotonic_ns()
    wait = 20_500_000
    if base == "relative":
        subscription = clock(7, wait)
    elif base == "monotonic":
        subscription = clock(7, began - world.monotonic_zero + wait, flags=1)
    else:
        subscription = clock(7, time.time_ns() + wait, clock=abi.CLOCK_REALTIME, flags=1)
    assert poll(guest, subscription, clock(8, wait * 1000)) == [(7, 0, abi.EVENT_CLOCK, 0, 0)]
    assert wait - 1_000_000 <= time.monotonic_ns() - began < wait + 2 * 10**9


def test_a_time_that_has_passed_is_not_waited_for(guest: Guest) -> None:
    assert poll(guest, clock(1, 1, flags=1), clock(2, 0), clock(3, 1 << 63)) == [(1, 0, 0, 0, 0), (2, 0, 0, 0, 0)]


def test_streams_and_a_clock(guest: Guest, streams: Streams) -> None:
    assert poll(guest, on_fd(1, 0), clock(2, 5_000_000)) == [(2, 0, abi.EVENT_CLOCK, 0, 0)]
    assert [event[0] for event in poll(guest, on_fd(1, 0), on_fd(2, 1, write=True), clock(3, 10**12))] == [2]
    threading.Timer(0.02, os.write, (streams.typed, b"abc")).start()
    assert poll(guest, on_fd(1, 0), clock(2, 10**12)) == [(1, 0, abi.EVENT_FD_READ, 3, 0)]
    guest.read(0, 3)
    streams.hang_up(streams.typed)
    assert poll(guest, on_fd(1, 0)) == [(1, 0, abi.EVENT_FD_READ, 0, abi.HANGUP)]


def test_files_are_ready_at_once(guest: Guest) -> None:
    fd = guest.open(b"text")
    guest.seek(fd, 4)
    assert poll(guest, on_fd(1, fd), clock(2, 10**15)) == [(1, 0, abi.EVENT_FD_READ, 6, 0)]
    assert [event[:2] for event in poll(guest, on_fd(1, 99), on_fd(2, fd, write=True), on_fd(3, 3))] == [(1, Errno.BADF), (2, Errno.ROFS), (3, Errno.ISDIR)]


def test_what_cannot_be_waited_for(guest: Guest) -> None:
    assert refused(guest.call, "poll_oneoff", 0, 0, 0, 0) == refused(guest.call, "poll_oneoff", 0, 0, 1 << 31, 0) == Errno.INVAL
    assert poll(guest, clock(1, 0, clock=2), clock(2, 0, flags=2)) == [(1, Errno.INVAL, 0, 0, 0), (2, Errno.INVAL, 0, 0, 0)]
    assert poll(guest, struct.pack("<QB39x", 5, 9)) == [(5, Errno.INVAL, 9, 0, 0)]


def test_waiting_can_be_called_off_from_another_thread(guest: Guest, world: World) -> None:
    threading.Timer(0.02, world.cancel).start()
    assert refused(guest.read, 0, 1) == Errno.INTR
    assert refused(poll, guest, clock(1, 10**15)) == Errno.INTR


def test_who_waits_lets_others_have_the_world(guest: Guest, world: World, streams: Streams) -> None:
    got = threading.Event()

    def beside() -> None:
        with world.lock:
            got.set()
            os.write(streams.typed, b"x")

    threading.Timer(0.02, beside).start()
    assert guest.read(0, 1) == b"x" and got.is_set()


# --- whatever it is asked


def test_trouble_with_the_database_is_an_io_error_and_is_kept(guest: Guest, world: World) -> None:
    assert refused(guest.stat, b"any", fd=4) == Errno.IO
    assert isinstance(world.trouble, ConnectError)


def test_a_bug_is_an_io_error_with_a_traceback(
    streams: Streams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(world: World, memory: memoryview, fd: int) -> int:
        raise ZeroDivisionError

    monkeypatch.setitem(CALLS, "fd_sync", CALLS["fd_sync"]._replace(handler=bug))  # type: ignore[arg-type]
    world = make_world(streams)
    with caplog.at_level(logging.ERROR, "tarbox.wasi"):
        assert refused(Guest(world).call, "fd_sync", 3) == Errno.IO
    assert "ZeroDivisionError" in caplog.text
    world.close()


def test_times_are_told_apart() -> None:
    assert files.chosen_times(5, 6, abi.ATIM) == (5, None)
    assert files.chosen_times(5, 6, 0) == (None, None)


words = st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1), st.integers(2**32 - 40, 2**32 - 1))
wide = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1), st.sampled_from([2**63 - 1, 2**63, 2**64 - 1]))
asked = st.sampled_from(sorted(CALLS)).flatmap(
    lambda name: st.tuples(st.just(name), st.tuples(*[words if letter == "i" else wide for letter in CALLS[name].params]))
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(memory=st.binary(max_size=400), calls=st.lists(asked, max_size=12))
def test_any_call_has_an_answer(streams: Streams, caplog: pytest.LogCaptureFixture, memory: bytes, calls: list[tuple[str, tuple[int, ...]]]) -> None:
    world = make_world(streams)
    world.cancel()  # nothing waits
    held = memoryview(bytearray(memory))
    for name, args in calls:
        assert 0 <= world.call(name, held, args) <= 76
    world.close()
    assert not caplog.records
