"""The door of verbs without a socket: clients that keep silent, that are quick to cancel, and that take nothing. On the real gateway."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tarbox_browser import talks
from tarbox_browser.talks import AT_ONCE, OUT_MAX, Talk
from tarbox_core.drivers.presence import Changes
from tarbox_core.drivers.serving import Served
from tarbox_core.gateway import Grant
from tests.conftest import PgServer
from tests.tenants import Session, Tenant, prepare

PIECE = 4 << 20


@pytest.fixture(scope="module")
def schema_url(pg_server: PgServer) -> Iterator[str]:
    with pg_server.database() as url:
        yield prepare(url)


@pytest.fixture
def tenant(schema_url: str) -> Iterator[Tenant]:
    made = Tenant(schema_url, block_size=65536)
    yield made
    made.gc()  # what was removed while the talk might have had it open
    made.finish()


@pytest.fixture
def session(tenant: Tenant) -> Session:
    made = tenant.session(alone=False)
    made.mkdir(b"/own")
    return made


class Line:
    """What a socket would have been told; `open` lets it through, `recording` refusals into the audit."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.size = 0
        self.refusals: list[tuple[str, str]] = []
        self.ended: tuple[int, str] | None = None
        self.open, self.recording = asyncio.Event(), asyncio.Event()
        self.open.set()
        self.recording.set()

    async def send(self, message: str | bytes) -> None:
        await self.open.wait()
        if isinstance(message, str):
            self.said.append(json.loads(message))
        else:
            self.size += len(message) - 4

    async def refused(self, reason: str, verb: str, path: str) -> None:
        await self.recording.wait()
        assert reason == "path"
        self.refusals.append((verb, path))

    def end(self, code: int, reason: str) -> None:
        self.ended = code, reason

    def answers(self) -> dict[int, dict[str, Any]]:
        return {each["id"]: each for each in self.said if "event" not in each}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def talk(tenant: Tenant, scenario: Callable[[Talk, Line], Coroutine[Any, Any, None]], **more: Any) -> None:
    async def run(served: Served) -> None:
        line = Line()
        made = Talk(served.exchange, (b"own",), line, **more)
        running = asyncio.create_task(made.run())
        try:
            await scenario(made, line)
        finally:
            await made.end()
            running.cancel()

    with Served(tenant.url, tenant.session(alone=False).fs.tenant, Grant()) as served:
        asyncio.run(run(served))


def asking(number: int, verb: str, size: int | None = None, **arguments: Any) -> str:
    return json.dumps({"id": number, "verb": verb, "args": arguments} | ({} if size is None else {"bytes": size}))


def test_content_that_does_not_come_ends_the_talk(tenant: Tenant, session: Session) -> None:
    async def scenario(made: Talk, line: Line) -> None:
        await made.take(asking(1, "upload", 2 * PIECE, path="/own/f"))
        await until(lambda: line.ended)
        assert line.ended == (1008, "the content of request 1 did not come")
        await until(lambda: 1 in line.answers())

    talk(tenant, scenario, patience=0.1)
    assert session.names(b"/own") == []


def test_who_cancels_quickly_is_recorded_as_well(tenant: Tenant, session: Session) -> None:
    async def scenario(made: Talk, line: Line) -> None:
        line.recording.clear()
        await made.take(asking(1, "tenant"))
        await until(lambda: 1 in line.answers())
        await made.take(asking(2, "layers"))
        await made.take(asking(3, "read", path="/other"))
        await asyncio.sleep(0.2)
        for number in (2, 3):
            await made.take(json.dumps({"cancel": number}))
        await until(lambda: {2, 3} <= line.answers().keys())
        assert line.refusals == []
        line.recording.set()
        await until(lambda: sorted(line.refusals) == [("layers", ""), ("read", "/other")])

    talk(tenant, scenario)


def test_what_is_cancelled_before_it_begins_is_answered(tenant: Tenant, session: Session) -> None:
    async def scenario(made: Talk, line: Line) -> None:
        await made.take(asking(1, "tenant"))
        await made.take(json.dumps({"cancel": 1}))
        await until(lambda: 1 in line.answers())
        assert line.answers()[1]["error"]["code"] == "cancelled"

    talk(tenant, scenario)


def test_who_asks_and_cancels_and_takes_nothing_is_ended(tenant: Tenant, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer is small, and comes at once."""
    monkeypatch.setattr(talks, "OUT_END", 5000)

    async def scenario(made: Talk, line: Line) -> None:
        line.open.clear()
        for number in range(1, 101):
            await made.take(asking(number, "tenant"))
            await asyncio.sleep(0)
            await made.take(json.dumps({"cancel": number}))
            await asyncio.sleep(0)
        await until(lambda: line.ended)
        assert line.ended == (1008, "what is told is not taken")
        assert made.held < 20_000

    talk(tenant, scenario)


def test_who_cancels_quicker_than_is_recorded_is_ended(tenant: Tenant, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talks, "WAITING", 20)

    async def scenario(made: Talk, line: Line) -> None:
        line.recording.clear()
        await made.take(asking(1, "tenant"))
        await until(lambda: 1 in line.answers())
        for number in range(2, 23):
            assert line.ended is None
            await made.take(asking(number, "layers"))
            await asyncio.sleep(0.01)
            await made.take(json.dumps({"cancel": number}))
            await until(lambda: number in line.answers())  # noqa: B023
        assert line.ended == (1008, "too many requests wait")
        line.recording.set()
        await until(lambda: len(line.refusals) == 21)

    talk(tenant, scenario)


def test_what_is_not_taken_is_not_read(tenant: Tenant, session: Session) -> None:
    """Of answers and of changes; the rest follows when there is room again."""
    session.write(b"/own/f", bytes(4 * PIECE))
    folder = session.attr(b"/own").ino

    async def scenario(made: Talk, line: Line) -> None:
        await made.take(asking(100, "stat", path="/own"))
        await until(lambda: 100 in line.answers())
        line.open.clear()
        for number in range(AT_ONCE):
            await made.take(asking(number + 1, "read", path="/own/f"))
        held = [0]
        while len(held) < 4 or held[-1] > held[-3]:
            await asyncio.sleep(0.2)
            held.append(made.held)
        assert OUT_MAX < held[-1] <= OUT_MAX + AT_ONCE * (PIECE + 100)
        telling = asyncio.create_task(made.changed(Changes(frozenset((folder,)), True)))
        await asyncio.sleep(0.1)
        assert not telling.done()
        line.open.set()
        await until(lambda: len(line.answers()) == AT_ONCE + 1)
        await telling
        assert line.size == AT_ONCE * 4 * PIECE and made.held == 0
        assert [each["inos"] for each in line.said if each.get("event") == "changed"] == [[str(folder)]]

    talk(tenant, scenario)


@pytest.mark.parametrize(("verb", "arguments"), [("read", {"path": "/own/d/f"}), ("download", {"path": "/own/d/f"}), ("archive", {"paths": ["/own"]})])
@pytest.mark.parametrize("moved", [b"/own/d/f", b"/own/d"])
def test_what_is_moved_out_is_not_read_on(tenant: Tenant, session: Session, verb: str, arguments: dict[str, Any], moved: bytes) -> None:
    """However long a client takes for what it reads."""
    session.mkdir(b"/own/d")
    session.write(b"/own/d/f", random.randbytes(3 * PIECE) if verb == "archive" else bytes(3 * PIECE))

    async def scenario(made: Talk, line: Line) -> None:
        line.open.clear()
        await made.take(asking(1, verb, **arguments))
        await until(lambda: made.held >= OUT_MAX)
        await asyncio.to_thread(session.rename, moved, b"/gone")
        line.open.set()
        await until(lambda: 1 in line.answers())
        assert line.answers()[1]["error"]["code"] == "ENOENT"
        assert line.size <= 2 * PIECE + 8192  # a zip's first piece is held back in part

    talk(tenant, scenario)


def test_changes_are_told_of_what_was_told(tenant: Tenant, session: Session) -> None:
    session.write(b"/own/f", b"x")
    known, unknown = session.attr(b"/own/f").ino, session.attr(b"/").ino

    async def scenario(made: Talk, line: Line) -> None:
        await made.take(asking(1, "list", path="/own"))
        await until(lambda: 1 in line.answers())
        for changes in (Changes(frozenset((unknown,)), True), Changes(frozenset((known, unknown)), False), Changes(frozenset(), False, True)):
            await made.changed(changes)
        await until(lambda: len(line.said) == 3)
        told = [(each["inos"], each["names"], each["moved"], each["lost"]) for each in line.said[1:]]
        assert told == [([str(known)], False, False, False), ([], False, True, False)]

    talk(tenant, scenario)
