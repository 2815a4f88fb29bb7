"""The worker's tree when its connection goes at the worst moment: what is done again, what is told, and that nothing is lost or done twice.

In this process, on the real gateway; a socket is a function here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tarbox_core import frames
from tarbox_core.drivers.serving import Served
from tarbox_core.errors import ConnectError, ConnectionLost, FsError
from tarbox_core.gateway import Grant
from tarbox_worker import changing, storing
from tarbox_worker.channel import Channel
from tarbox_worker.door import Door
from tarbox_worker.storing import Marks
from tarbox_worker.trees import PIECE, find
from tarbox_worker.values import Conflict
from tests.conftest import PgServer
from tests.tenants import Tenant, prepare

BEFORE, BEHIND = "before", "behind"  # the request was lost, or only its answer


@pytest.fixture(scope="module")
def schema_url(pg_server: PgServer) -> Iterator[str]:
    with pg_server.database() as url:
        yield prepare(url)


@pytest.fixture
def tenant(schema_url: str) -> Iterator[Tenant]:
    made = Tenant(schema_url, block_size=65536)
    yield made
    made.finish()


class Line:
    """A socket that breaks when `breaks` says so of a frame, and opens again at once, to a gateway that knows nothing."""

    def __init__(self, tenant: Tenant) -> None:
        self.breaks: Callable[[bytes], str | None] = lambda frame: None
        self.broke = 0
        self._carrying: set[asyncio.Future[None]] = set()
        self._tenant = tenant
        self._attached = tenant.session().fs.tenant
        self.channel = Channel(self._send, lambda content: None)
        self.door = Door(self.channel.exchange)
        self._open()

    def _open(self) -> None:
        self._served = Served(self._tenant.url, self._attached, Grant())
        self.channel.opened()

    def _send(self, frame: bytes) -> None:
        carrying = asyncio.ensure_future(self._carry(self._served, frame))
        self._carrying.add(carrying)
        carrying.add_done_callback(self._carrying.discard)

    async def _carry(self, served: Served, frame: bytes) -> None:
        end = self.breaks(frame)
        if end != BEFORE:
            answer = await asyncio.to_thread(served.exchange, frame)
        if end is None:
            self.channel.received(answer)
            return
        self.broke += 1
        self.door.lost()
        self.channel.lost()
        await asyncio.to_thread(served.close)
        self._open()

    def close(self) -> None:
        self._served.close()


def once(which: Callable[[bytes], bool], end: str) -> Callable[[bytes], str | None]:
    """Break at the first frame that is meant."""
    left = [end]
    return lambda frame: left.pop() if left and which(frame) else None


def commits(frame: bytes) -> bool:
    return frame[4] == frames.BATCH and bool(frame[13] & frames.COMMIT)


def commits_of(statement: bytes) -> Callable[[bytes], bool]:
    return lambda frame: commits(frame) and statement in frame


def goes_on(frame: bytes) -> bool:
    """A trip of a transaction that was begun before."""
    return frame[4] == frames.BATCH and not frame[13] & frames.BEGIN


def play(tenant: Tenant, story: Callable[[Line], Awaitable[None]]) -> None:
    async def main() -> None:
        line = Line(tenant)
        try:
            await line.door.begin()
            await story(line)
        finally:
            await asyncio.to_thread(line.close)

    asyncio.run(main())


class Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    async def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


CONTENT = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range((2 * PIECE + 12345) // 32))


@pytest.mark.parametrize("end", [BEFORE, BEHIND])
@pytest.mark.parametrize("which", [commits, goes_on, lambda frame: len(frame) > PIECE, commits_of(b"dentry.put")], ids=["commit", "between", "piece", "rename"])
def test_a_long_file_arrives_whole_wherever_it_breaks(tenant: Tenant, which: Callable[[bytes], bool], end: str) -> None:
    async def story(line: Line) -> None:
        line.breaks = once(which, end)
        await storing.store(line.door, "/file", Bytes(CONTENT), Marks(), replace=False, progress=changing.nothing)
        assert line.broke == 1

    play(tenant, story)
    session = tenant.session()
    assert session.names() == [b"file"] and session.read(b"/file") == CONTENT


def test_an_edit_whose_answer_is_lost_is_neither_lost_nor_a_conflict(tenant: Tenant) -> None:
    async def story(line: Line) -> None:
        first = await storing.save(line.door, "/doc", b"one", None, False)
        line.breaks = once(commits, BEHIND)
        second = await storing.save(line.door, "/doc", b"two", str(first.ctime), True)
        assert line.broke == 1
        with pytest.raises(Conflict):
            await storing.save(line.door, "/doc", b"three", str(first.ctime), True)
        await storing.save(line.door, "/doc", b"four", str(second.ctime), True)

    play(tenant, story)
    assert tenant.session().read(b"/doc") == b"four"


def test_a_rename_whose_answer_is_lost_is_looked_for(tenant: Tenant) -> None:
    async def story(line: Line) -> None:
        await storing.save(line.door, "/a", b"x", None, False)
        line.breaks = once(commits_of(b"dentry.put"), BEHIND)
        await storing.moved(line.door, "/a", "/b", (await find(line.door, "/a")).attr.ino, 0)
        assert line.broke == 1

    play(tenant, story)
    assert tenant.session().names() == [b"b"]


def test_what_may_have_happened_and_cannot_be_seen_is_told(tenant: Tenant) -> None:
    async def story(line: Line) -> None:
        line.breaks = once(commits, BEHIND)
        with pytest.raises(ConnectionLost) as told:
            await line.door.change(lambda v: changing.make_folder(v, b"/d", 0o755, parents=False))
        assert told.value.committing

    play(tenant, story)
    assert tenant.session().names() == [b"d"]


def test_numbers_of_another_gateway_are_not_used(tenant: Tenant) -> None:
    """Each gives out its own, and takes no others."""

    async def story(line: Line) -> None:
        await storing.save(line.door, "/a", b"x", None, False)
        line.breaks = once(lambda frame: True, BEFORE)
        await storing.save(line.door, "/b", b"y", None, False)
        assert line.broke == 1

    play(tenant, story)
    assert tenant.session().names() == [b"a", b"b"]


def test_reading_goes_on(tenant: Tenant) -> None:
    tenant.session().write(b"/file", CONTENT)

    async def story(line: Line) -> None:
        found = await find(line.door, "/file")
        breaks = iter([BEFORE, None, BEHIND, None, BEFORE])
        line.breaks = lambda frame: next(breaks, None)
        async with found.opened(found.attr) as file:
            got = b"".join([await file.read(offset, PIECE) for offset in range(0, file.size, PIECE)])
        assert got == CONTENT and line.broke == 3

    play(tenant, story)


def test_a_file_that_changes_while_it_is_read(tenant: Tenant) -> None:
    session = tenant.session(alone=False)
    session.write(b"/file", CONTENT)

    async def story(line: Line) -> None:
        found = await find(line.door, "/file")
        with pytest.raises(Conflict):
            async with found.opened(found.attr) as file:
                await file.read(0, PIECE)
                await asyncio.to_thread(session.write, b"/file", b"other", 3)

    play(tenant, story)


def test_who_is_refused_waits_for_nothing(tenant: Tenant) -> None:
    async def story(line: Line) -> None:
        line.channel.refused("the session has ended")
        with pytest.raises(ConnectError, match="the session has ended"):
            await find(line.door, "/")

    play(tenant, story)


def test_removing_what_another_removes_as_well(tenant: Tenant) -> None:
    session = tenant.session(alone=False)
    session.mkdir(b"/d")
    for n in range(20):
        session.write(b"/d/%d" % n, b"x")

    async def story(line: Line) -> None:
        await asyncio.gather(changing.remove(line.door, "/d"), changing.remove(line.door, "/d"))
        with pytest.raises(FsError):
            await changing.remove(line.door, "/d")

    play(tenant, story)
    assert session.names() == []
