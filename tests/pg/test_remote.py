"""The gateway's client beside a real gateway: awaited, cancelled, and with a stream between the two."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tarbox_core import frames, hashing
from tarbox_core import statements as sql
from tarbox_core.drivers.dsn import parse_url
from tarbox_core.drivers.remote import AsyncRemoteDriver, RemoteDriver
from tarbox_core.drivers.serving import Served
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Op, run
from tarbox_core.errors import ConnectionLost, GatewayError
from tarbox_core.filesystem import Filesystem
from tarbox_core.gateway import OPEN_MAX, Grant
from tarbox_core.session import lock_key
from tarbox_core.types import ROOT_INO
from tests.tenants import ROOT, Tenant


@pytest.fixture
def served(tenant: Tenant) -> Iterator[Served]:
    with Served(tenant.url, tenant.session().fs.tenant, Grant()) as served:
        yield served


# --- awaited


def awaited(served: Served) -> AsyncRemoteDriver:
    async def exchange(frame: bytes) -> bytes:
        return await asyncio.to_thread(served.exchange, frame)

    return AsyncRemoteDriver(exchange)


def twice(verb: Callable[[], Op[object]]) -> Op[object]:
    """The verb, after a trip that keeps the transaction open for a while."""
    yield from run(sql.NUMBERS(1))
    return (yield from verb())


def test_operations_side_by_side_on_one_loop(tenant: Tenant, served: Served) -> None:
    async def main() -> list[bytes]:
        driver = awaited(served)
        fs = Filesystem((await driver.welcome()).tenant, time.time_ns)
        names = [b"d%d" % n for n in range(20)]
        assert len(names) > 2 * OPEN_MAX  # of which some wait their turn
        await asyncio.gather(*(driver.run(partial(twice, partial(fs.mkdir, ROOT, ROOT_INO, name, 0o755))) for name in names))
        assert await driver.digests([b"a", b"b"]) == hashing.digests([b"a", b"b"])
        driver.close()
        return names

    made = asyncio.run(main())
    assert sorted(tenant.session().names()) == sorted(made)


def test_a_cancelled_operation_is_ended_on_the_server(tenant: Tenant, served: Served) -> None:
    """Also while it waits for a lock there: its client does not wait for that."""
    rival = Wire(parse_url(tenant.url), tenant.info.role)
    rival.execute([sql.LOCK([], [lock_key(tenant.info.id, "I", ROOT_INO)])], begin=True)

    async def main() -> float:
        driver = awaited(served)
        fs = Filesystem((await driver.welcome()).tenant, time.time_ns)
        task = asyncio.create_task(driver.run(lambda: fs.setattr(ROOT, ROOT_INO, mode=0o700)))
        await asyncio.sleep(0.3)  # until it waits
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    try:
        assert asyncio.run(main()) < 3
        mover = tenant.session()
        mover.run(lambda: mover.fs.checkpoint(ROOT), durable=True)  # nobody holds the tenant's lock any more
    finally:
        rival.close()
    assert tenant.session().attr(b"/").mode & 0o777 != 0o700


# --- over a stream


class Line:
    """A client's end of a stream: one exchange at a time."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._read = bytearray()

    def exchange(self, frame: bytes) -> bytes:
        self._stream.sendall(frame)
        return next(received(self._stream, self._read, frames.ANSWER_MAX))


def received(stream: socket.socket, read: bytearray, limit: int) -> Iterator[bytes]:
    """The frames that come through a stream, until it ends. GatewayError: one that is too large, of which little was read."""
    while True:
        yield from frames.split(read, limit)
        data = stream.recv(1 << 16)
        if not data:
            raise EOFError
        read += data


@contextmanager
def line(served: Served) -> Iterator[tuple[Line, Callable[[], str]]]:
    """A stream that a thread serves, and how that has ended."""
    mine, theirs = socket.socketpair()
    end: list[str] = []

    def serve() -> None:
        read = bytearray()
        try:
            for frame in received(theirs, read, frames.REQUEST_MAX):
                theirs.sendall(served.exchange(frame))
        except (EOFError, GatewayError) as error:
            end.append(type(error).__name__)
            assert len(read) < frames.REQUEST_MAX
        finally:
            theirs.close()
            served.close()

    thread = threading.Thread(target=serve)
    thread.start()

    def ended() -> str:
        thread.join(10)
        return end[0]

    try:
        yield Line(mine), ended
    finally:
        mine.close()
        thread.join()


def test_frames_through_a_stream(tenant: Tenant, served: Served) -> None:
    data = bytes(range(256)) * 12_000  # of which each frame is many reads
    with line(served) as (client, ended):
        remote = RemoteDriver(client.exchange)
        session = tenant.through(remote, remote.tenant)
        session.write(b"/large", data)
        assert session.read(b"/large") == data
        tenant.lose(session)
        client._stream.shutdown(socket.SHUT_WR)
        assert ended() == "EOFError"
    assert tenant.session().read(b"/large") == data


def test_a_client_that_goes_in_the_midst_leaves_nothing(tenant: Tenant, served: Served) -> None:
    with line(served) as (client, ended):
        remote = RemoteDriver(client.exchange)
        fs = Filesystem(remote.tenant, time.time_ns)
        op = fs.setattr(ROOT, ROOT_INO, mode=0o700)
        client._stream.sendall(frames.batch(77, 1, next(op).queries, begin=True, commit=False, durable=False)[:-3])
        client._stream.shutdown(socket.SHUT_WR)
        assert ended() == "EOFError"
        with pytest.raises(ConnectionLost):
            remote.run(lambda: fs.setattr(ROOT, ROOT_INO, mode=0o700))
    assert tenant.session().attr(b"/").mode & 0o777 != 0o700


def test_a_frame_that_never_ends_is_not_read(served: Served) -> None:
    with line(served) as (client, ended):
        client._stream.sendall(b"\xff\xff\xff\xff" + b"x" * 1000)
        assert ended() == "GatewayError"
