"""Requests to replies without a kernel: errors and their log, what of a request reaches which verb, threads of a session."""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from tarbox_core.effects import Batch
from tarbox_core.errors import ConnectionLost, DiskFullError, FsError
from tarbox_core.filesystem import Filesystem
from tarbox_core.types import Caller
from tarbox_fuse import abi
from tarbox_fuse.codec import Timeouts
from tarbox_fuse.dispatch import Dispatcher, Options
from tarbox_fuse.kernel import tree_of
from tarbox_fuse.session import Session
from tarbox_fuse.verbs import Verbs
from tests.fuse.memory_fs import MemoryDriver, MemoryFilesystem


def request(opcode: int, body: bytes = b"", *, node: int = 1, unique: int = 7) -> memoryview:
    return memoryview(struct.pack("=IIQQIIIHH", 40 + len(body), opcode, unique, node, 0, 0, 1, 0, 0) + body)


class Door:
    """A dispatcher over a tree in memory."""

    def __init__(self, fs: MemoryFilesystem | None = None, driver: MemoryDriver | None = None, options: Options = Options()) -> None:  # noqa: B008
        self.fs = fs or MemoryFilesystem()
        self.driver = driver or MemoryDriver()
        self.verbs = Verbs(cast(Filesystem, self.fs), self.driver, lambda: 1 << 62)
        self.inits = 0
        self.dispatcher = Dispatcher(self.verbs, options, self._inited)

    def _inited(self) -> None:
        self.inits += 1

    def ask(self, opcode: int, body: bytes = b"", *, node: int = 1) -> tuple[int, bytes]:
        """(errno, payload)"""
        raw = request(opcode, body, node=node)
        reply = self.dispatcher.handle(raw, len(raw))
        assert reply is not None
        length, error, unique = struct.unpack("=IiQ", reply[0])
        assert (length, unique) == (16 + len(reply[1]), 7)
        return -error, reply[1]

    def create(self, name: bytes, flags: int = os.O_RDWR) -> tuple[int, int]:
        """(inode, handle)"""
        error, payload = self.ask(abi.CREATE, struct.pack("=IIII", flags, 0o100644, 0o22, 0) + name + b"\0")
        assert error == 0
        return struct.unpack_from("=Q", payload, 40)[0], struct.unpack_from("=Q", payload, 128)[0]

    def write(self, node: int, fh: int, offset: int, data: bytes, write_flags: int = 0, flags: int = 0) -> int:
        return self.ask(abi.WRITE, struct.pack("=QQIIQII", fh, offset, len(data), write_flags, 0, flags, 0) + data, node=node)[0]


def init(flags: int, minor: int = 44, major: int = 7) -> bytes:
    return struct.pack("=IIIII44x", major, minor, 131072, flags & 0xFFFFFFFF, flags >> 32)


def test_init_takes_what_both_sides_know() -> None:
    door = Door()
    error, payload = door.ask(abi.INIT, init((1 << 64) - 1))
    major, minor, _, flags, _, _, max_write, granularity, pages, _, _ = abi.INIT_OUT.unpack(payload)
    assert (error, major, minor, max_write, granularity, pages, door.inits) == (0, 7, 40, 1 << 20, 1, 256, 1)
    assert flags & abi.HANDLE_KILLPRIV_V2 and flags & abi.PARALLEL_DIROPS and not flags & abi.WRITEBACK_CACHE
    assert not flags & (1 << 1 | 1 << 10)  # locks stay the kernel's


def test_init_with_an_old_kernel() -> None:
    error, payload = Door().ask(abi.INIT, init(abi.ASYNC_READ, minor=23))
    fields = abi.INIT_OUT.unpack(payload)
    assert (error, fields[1], fields[3], fields[6]) == (0, 23, abi.ASYNC_READ, 32 * 4096)


def test_init_of_a_newer_major_is_answered_with_ours_and_waits_for_another() -> None:
    door = Door()
    error, payload = door.ask(abi.INIT, init(0, major=8))
    assert (error, payload[:4], door.inits) == (0, struct.pack("=I", 7), 0)


@pytest.mark.parametrize("opcode", [34, 37, 40, 51, 52, 99])
def test_what_we_do_not_serve_is_enosys(opcode: int) -> None:
    assert Door().ask(opcode, bytes(64)) == (errno.ENOSYS, b"")


@pytest.mark.parametrize("opcode", [abi.FORGET, abi.BATCH_FORGET, abi.INTERRUPT])
def test_no_reply_where_the_protocol_wants_none(opcode: int) -> None:
    raw = request(opcode, bytes(8))
    assert Door().dispatcher.handle(raw, len(raw)) is None


def test_errors_of_the_tree_are_the_replys_errno() -> None:
    door = Door()
    assert door.ask(abi.LOOKUP, b"nothing\0") == (errno.ENOENT, b"")
    assert door.ask(abi.MKDIR, struct.pack("=II", 0o755, 0) + b"x" * 256 + b"\0")[0] == errno.ENAMETOOLONG


def test_absent_names_may_be_remembered() -> None:
    error, payload = Door(options=Options(Timeouts(1, 1, 2))).ask(abi.LOOKUP, b"nothing\0")
    assert (error, payload[:24]) == (0, bytes(16) + struct.pack("=Q", 2))


class Failing(MemoryFilesystem):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def getattr(self, ino: int) -> Any:
        raise self.error
        yield


@pytest.mark.parametrize(
    ("error", "number", "traceback"),
    [
        (ConnectionLost("the server went away"), errno.EIO, False),
        (DiskFullError("53100", "no space"), errno.ENOSPC, False),
        (ZeroDivisionError("a bug"), errno.EIO, True),
    ],
)
def test_failures_are_logged(error: Exception, number: int, traceback: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert Door(Failing(error)).ask(abi.GETATTR, bytes(16)) == (number, b"")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and bool(record.exc_info) == traceback


def test_nonsense_from_the_kernel_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert Door().ask(abi.GETATTR, b"short")[0] == errno.EIO
    assert "too short" in caplog.text


def test_appending_follows_the_request_not_the_open() -> None:
    door = Door()
    node, fh = door.create(b"f")
    assert door.write(node, fh, 0, b"abcdef") == 0
    assert door.write(node, fh, 0, b"gh", flags=os.O_APPEND) == 0
    assert door.write(node, fh, 0, b"AB", write_flags=abi.WRITE_CACHE, flags=os.O_APPEND) == 0  # a page of mmap: where it says
    assert door.fs.nodes[node].data == b"ABcdefgh"


def test_set_id_bits_go_when_the_kernel_says_so_and_with_a_new_owner() -> None:
    door = Door()
    node, fh = door.create(b"f")
    file = door.fs.nodes[node]

    def setattr(valid: int) -> None:
        assert door.ask(abi.SETATTR, abi.SETATTR_IN.pack(valid, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0o104755, 5, 6), node=node)[0] == 0

    setattr(abi.FATTR_MODE)
    assert door.write(node, fh, 0, b"x") == 0 and file.mode == 0o104755
    assert door.write(node, fh, 0, b"x", write_flags=abi.WRITE_KILL_SUIDGID) == 0 and file.mode == 0o100755
    setattr(abi.FATTR_MODE)
    setattr(abi.FATTR_UID)
    assert (file.mode, file.uid, file.gid) == (0o100755, 5, 0)


def test_reading_needs_no_flush_on_close() -> None:
    door = Door()
    node, _ = door.create(b"f")

    def opened(flags: int) -> int:
        error, payload = door.ask(abi.OPEN, struct.pack("=II", flags, 0), node=node)
        assert error == 0
        return abi.OPEN_OUT.unpack(payload)[1]

    assert opened(os.O_RDONLY) == abi.FOPEN_NOFLUSH
    assert opened(os.O_RDWR) == 0
    assert opened(os.O_WRONLY) == 0
    assert opened(os.O_RDONLY | os.O_TRUNC) == 0
    error, payload = door.ask(abi.CREATE, struct.pack("=IIII", os.O_RDONLY, 0o100644, 0, 0) + b"new\0")
    assert error == 0 and abi.CREATE_OUT.unpack(payload)[-2] == 0  # a new file is flushed when it is closed


def test_xattr_sizes() -> None:
    door = Door()
    door.ask(abi.SETXATTR, struct.pack("=II", 5, 0) + b"user.k\0value")
    get = lambda room: door.ask(abi.GETXATTR, struct.pack("=II", room, 0) + b"user.k\0")  # noqa: E731
    assert get(0) == (0, struct.pack("=II", 5, 0))
    assert get(4) == (errno.ERANGE, b"")
    assert get(5) == (0, b"value")
    assert door.ask(abi.LISTXATTR, struct.pack("=II", 64, 0)) == (0, b"user.k\0")


def test_a_full_budget_makes_the_writer_flush() -> None:
    fs = MemoryFilesystem()
    verbs = Verbs(cast(Filesystem, fs), MemoryDriver(), lambda: 0, budget=3 << 20)
    fh, _, _ = verbs.create(Caller(), 1, b"f", 0o644, exclusive=True, truncate=False)
    for n in range(3):
        verbs.write(Caller(), fh, n << 20, bytes(1 << 20), False, False)
    assert fs.flushes == 0
    verbs.write(Caller(), fh, 3 << 20, bytes(1 << 20), False, False)
    assert fs.flushes == 1 and fs.dirty_bytes() == 0


def test_a_tick_flushes_what_is_due_and_survives_trouble(caplog: pytest.LogCaptureFixture) -> None:
    door = Door()
    node, fh = door.create(b"f")
    door.write(node, fh, 0, b"x")
    door.verbs.tick()
    assert door.fs.flushes == 1
    door.write(node, fh, 0, b"y")
    door.fs.trips = True
    door.driver.run = _lost  # type: ignore[method-assign,assignment]
    door.verbs.tick()
    door.verbs.tick()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    door.fs.trips = False
    door.verbs.tick()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"] and door.fs.flushes == 2


def test_a_bug_in_the_core_does_not_end_the_ticking(caplog: pytest.LogCaptureFixture) -> None:
    door = Door()
    door.fs.dirty_files = lambda older_than: 1 // 0  # type: ignore[method-assign,assignment,return-value]
    door.verbs.tick()
    door.verbs.tick()
    (record,) = caplog.records
    assert record.exc_info


def _lost(factory: Callable[[], Any], *, durable: bool = False) -> Any:
    raise ConnectionLost("gone")


def test_finish_ends_what_is_open_and_hardens() -> None:
    door = Door()
    node, _ = door.create(b"f")
    door.ask(abi.UNLINK, b"f\0")
    assert node in door.fs.nodes
    door.verbs.finish()
    assert node not in door.fs.nodes and door.fs.syncs == 1 and door.driver.durable == 1


def test_an_operation_that_is_retried_starts_afresh() -> None:
    """The driver gets the operation already begun for its first try, and new ones after."""
    begun = []

    def op() -> Any:
        begun.append(1)
        try:
            yield Batch(())
        except FsError as error:
            yield Batch(())
            return error.errno
        return "done"

    class Twice(MemoryDriver):
        def run(self, factory: Callable[[], Any], *, durable: bool = False) -> Any:
            first = factory()
            next(first)
            first.close()
            second = factory()
            next(second)
            second.throw(FsError(5))
            return super().run(factory), len(begun)

    verbs = Verbs(cast(Filesystem, MemoryFilesystem()), Twice(), lambda: 0)
    assert verbs.run(op) == ("done", 3)


# --- sessions, over a socket that keeps messages apart as /dev/fuse does


class Slow:
    """A handler whose requests wait, as for a database, until told to go on; quick ones (opcode 1) do not wait."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.go = threading.Event()
        self.threads: set[int] = set()
        self.waiting = threading.Semaphore(0)

    def handle(self, buffer: memoryview, size: int) -> tuple[bytes, bytes] | None:
        number = bytes(buffer[:size])
        self.threads.add(threading.get_ident())
        if number != b"quick":
            self.session.before_wait()
            self.waiting.release()
            assert self.go.wait(60)
        return b"re:", number


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(60)
        yield ours, theirs


def test_requests_from_memory_stay_with_one_thread(pair: tuple[socket.socket, socket.socket]) -> None:
    session = Session(pair[1].fileno(), lambda: None)
    slow = Slow(session)
    session.start(slow)
    for _ in range(100):
        pair[0].send(b"quick")
        assert pair[0].recv(100) == b"re:quick"
    assert len(slow.threads) == 1
    _end(session, pair)


def test_who_waits_hands_over_the_reading_up_to_the_limit(pair: tuple[socket.socket, socket.socket]) -> None:
    session = Session(pair[1].fileno(), lambda: None, threads=4)
    slow = Slow(session)
    session.start(slow)
    for n in range(6):
        pair[0].send(b"slow%d" % n)
    for _ in range(4):
        assert slow.waiting.acquire(timeout=60)
    assert len(slow.threads) == 4
    slow.go.set()
    assert sorted(pair[0].recv(100) for _ in range(6)) == [b"re:slow%d" % n for n in range(6)]
    assert len(slow.threads) == 4
    _end(session, pair)


def _end(session: Session, pair: tuple[socket.socket, socket.socket]) -> None:
    """The end of the socket reads as an empty request, which a session told to stop does not serve."""
    assert session.stop(60)
    pair[0].shutdown(socket.SHUT_RDWR)
    for thread in session._threads:
        thread.join(60)
        assert not thread.is_alive()


def test_stop_waits_for_what_is_in_work(pair: tuple[socket.socket, socket.socket]) -> None:
    session = Session(pair[1].fileno(), lambda: None)
    slow = Slow(session)
    session.start(slow)
    pair[0].send(b"slow")
    assert slow.waiting.acquire(timeout=60)
    assert not session.stop(0.05)
    slow.go.set()
    assert pair[0].recv(100) == b"re:slow"
    _end(session, pair)


def test_nodes_of_a_tree_that_was_replaced_are_stale() -> None:
    door = Door()
    ino, _ = door.create(b"f")
    old = tree_of(0) | ino
    assert door.ask(abi.OPEN, struct.pack("=II", os.O_RDWR, 0), node=old)[0] == 0
    door.fs.session.at.generation = 1
    error, payload = door.ask(abi.LOOKUP, b"f\0")
    assert (error, struct.unpack_from("=Q", payload)[0]) == (0, tree_of(1) | ino)
    assert struct.unpack_from("=Q", payload, 40)[0] == ino
    requests = [
        (abi.OPEN, struct.pack("=II", os.O_RDONLY, 0)), (abi.GETATTR, bytes(16)), (abi.SETATTR, bytes(abi.SETATTR_IN.size)),
        (abi.GETXATTR, struct.pack("=II", 0, 0) + b"user.k\0"), (abi.LISTXATTR, struct.pack("=II", 64, 0)),
        (abi.SETXATTR, struct.pack("=II", 1, 0) + b"user.k\0v"), (abi.REMOVEXATTR, b"user.k\0"), (abi.LOOKUP, b".\0"),
    ]  # fmt: skip
    for opcode, body in requests:
        assert door.ask(opcode, body, node=old) == (errno.ESTALE, b""), opcode
    assert door.ask(abi.LINK, struct.pack("=Q", old) + b"g\0") == (errno.ESTALE, b"")
    assert door.ask(abi.GETATTR, bytes(16), node=tree_of(1) | ino)[0] == 0


def test_a_tree_that_is_replaced_while_a_file_is_opened_is_stale() -> None:
    door = Door()
    ino, _ = door.create(b"f")
    original = door.fs.open

    def moving(*words: Any, **more: Any) -> Any:
        door.fs.session.at.generation += 1
        return original(*words, **more)

    door.fs.open = moving  # type: ignore[method-assign]
    assert door.ask(abi.OPEN, struct.pack("=II", os.O_RDONLY, 0), node=tree_of(0) | ino) == (errno.ESTALE, b"")
    assert door.verbs.written() == {ino}  # by its creation alone
