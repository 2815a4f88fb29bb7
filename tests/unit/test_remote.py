"""The gateway's client: what it sends, and what it makes of answers. The gateway here answers what a test tells it to."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tarbox_core import frames, hashing
from tarbox_core.drivers import remote
from tarbox_core.drivers.remote import RemoteDriver
from tarbox_core.effects import Op, Statement, finish, run
from tarbox_core.errors import ConnectError, ConnectionLost, FsError, GatewayError, RetryableError, SqlError, TarboxError
from tarbox_core.types import TenantInfo

GET = Statement("get", "select", ("int8",), ("int8",), tenant=False)
TENANT = TenantInfo(7, "demo", "Demo", "", 4096, 1 << 30, 5, "main", 1 << 32 | 3, ((1 << 32, 1 << 32 | 4),), 9)
WELCOME = {"version": 1, "read_only": False, "upkeep": True, "tenant": {name: getattr(TENANT, name) for name in TenantInfo.__slots__}}

Answer = Callable[[int, frames.Trip], bytes]


class Gateway:
    """Answers batches by `answer`, and remembers what it was asked."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer or (lambda number, trip: rows(number, trip))
        self.asked: list[tuple[Any, ...]] = []
        self.welcome: dict[str, Any] = WELCOME

    def __call__(self, frame: bytes) -> bytes:
        number, request = frames.read_request(frame)
        match request:
            case frames.Hello():
                self.asked.append(("hello", request.program))
                return frames.welcome(number, self.welcome)
            case frames.Trip():
                flags = "".join(word for word, on in (("B", request.begin), ("C", request.commit), ("D", request.durable)) if on)
                self.asked.append((flags, request.transaction, [sent.name for sent in request.statements]))
                return self.answer(number, request)
            case frames.Undo():
                self.asked.append(("undo", request.transaction))
                return frames.done(number)
            case frames.Digest():
                self.asked.append(("digest", [len(block) for block in request.blocks]))
                return frames.digests(number, hashing.digests(request.blocks))


def rows(number: int, trip: frames.Trip) -> bytes:
    return frames.rows(number, [GET] * len(trip.statements), [[(5,)]] * len(trip.statements))


def two() -> Op[list[Any]]:
    first = yield from run(GET(1))
    return first + (yield from finish(GET(2), GET(3)))


def failing(error: BaseException, trips: int = 1) -> Op[None]:
    for n in range(trips):
        yield from run(GET(n))
    raise error


def test_an_operation_is_one_transaction_a_frame_each_trip() -> None:
    gateway = Gateway()
    driver = RemoteDriver(gateway, program="a test")
    assert driver.run(two) == [[(5,)]] * 3
    assert driver.run(lambda: finish(GET(1)), durable=True) == [[(5,)]]
    (_, first, _), (_, second, _) = gateway.asked[1], gateway.asked[3]
    assert first != second
    assert gateway.asked == [("hello", "a test"), ("B", first, ["get"]), ("C", first, ["get", "get"]), ("BCD", second, ["get"])]


def test_the_welcome_tells_whom_the_gateway_serves() -> None:
    gateway = Gateway()
    driver = RemoteDriver(gateway)
    assert gateway.asked == []
    assert driver.tenant == TENANT
    assert (driver.read_only, driver.upkeep) == (False, True)
    assert gateway.asked == [("hello", "tarbox")]


@pytest.mark.parametrize("broken", [{}, {"tenant": {}}, {**WELCOME, "tenant": {"more": 1}}, *(
    {**WELCOME, "tenant": {**WELCOME["tenant"], name: value}}  # type: ignore[dict-item]
    for name, value in (("visible", 3), ("block_size", 0), ("block_size", "4096"), ("layer", None), ("layer", True), ("head", 1)))])  # fmt: skip
def test_a_welcome_that_makes_no_sense_is_refused(broken: dict[str, Any]) -> None:
    gateway = Gateway()
    gateway.welcome = broken
    with pytest.raises(GatewayError, match="welcome"):
        _ = RemoteDriver(gateway).tenant


@pytest.mark.parametrize("error", [FsError(errno.ENOENT), KeyError("bug"), KeyboardInterrupt()], ids=repr)
def test_what_an_operation_leaves_open_is_undone(error: BaseException) -> None:
    gateway = Gateway()
    with pytest.raises(type(error)) as raised:
        RemoteDriver(gateway).run(lambda: failing(error))
    assert raised.value is error
    transaction = gateway.asked[1][1]
    assert gateway.asked[2:] == [("undo", transaction)]


def test_an_interrupted_exchange_is_undone() -> None:
    def interrupted(number: int, trip: frames.Trip) -> bytes:
        raise KeyboardInterrupt

    gateway = Gateway(interrupted)
    with pytest.raises(KeyboardInterrupt):
        RemoteDriver(gateway).run(two)
    assert gateway.asked[2:] == [("undo", gateway.asked[1][1])]


def test_an_error_for_an_answer_has_ended_the_transaction() -> None:
    """It is thrown into the operation, and there is nothing left to undo."""
    gateway = Gateway(lambda number, trip: frames.error(number, SqlError("23505", "there already", "get")))

    def op() -> Op[str]:
        try:
            yield from run(GET(1))
        except SqlError as error:
            return f"{error.sqlstate} in {error.statement}"
        return ""

    assert RemoteDriver(gateway).run(op) == "23505 in get"
    assert len(gateway.asked) == 2


def test_a_lost_race_is_run_again_in_another_transaction() -> None:
    runs: list[int] = []

    def op() -> Op[None]:
        runs.append(1)
        yield from run(GET(1))
        if len(runs) == 1:
            raise RetryableError("40001", "the head moved")
        yield from finish()

    gateway = Gateway()
    RemoteDriver(gateway).run(op)
    first, second = gateway.asked[1][1], gateway.asked[3][1]
    assert first != second
    assert [asked[:2] for asked in gateway.asked[1:]] == [("B", first), ("undo", first), ("B", second), ("C", second)]


@pytest.mark.parametrize("loss", [OSError("gone"), EOFError(), ConnectionLost("gone")], ids=repr)
@pytest.mark.parametrize("whole", [True, False])
def test_a_lost_answer_to_a_commit_is_never_retried(loss: Exception, whole: bool) -> None:
    def answer(number: int, trip: frames.Trip) -> bytes:
        if trip.commit:
            raise loss
        return rows(number, trip)

    gateway = Gateway(answer)
    with pytest.raises(ConnectionLost) as raised:
        RemoteDriver(gateway).run((lambda: finish(GET(1))) if whole else two)
    assert raised.value.committing
    assert len(gateway.asked) == (2 if whole else 3)


@pytest.mark.parametrize("times", [1, 2])
def test_another_lost_answer_is_retried_once(times: int) -> None:
    losses = iter([OSError("gone")] * times)

    def answer(number: int, trip: frames.Trip) -> bytes:
        if trip.begin and (loss := next(losses, None)):
            raise loss
        return rows(number, trip)

    driver = RemoteDriver(Gateway(answer))
    if times == 1:
        assert driver.run(two) == [[(5,)]] * 3
    else:
        with pytest.raises(ConnectionLost, match="gone") as raised:
            driver.run(two)
        assert not raised.value.committing


@pytest.mark.parametrize("strange", [b"", b"\0" * 9, frames.done(99), frames.rows(99, [GET], [[(1,)]])])
def test_an_answer_to_something_else_is_a_lost_one(strange: bytes) -> None:
    with pytest.raises(ConnectionLost) as raised:
        RemoteDriver(Gateway(lambda number, trip: strange)).run(lambda: finish(GET(1)))
    assert raised.value.committing


def test_what_was_never_sent_is_no_loss() -> None:
    def nobody(frame: bytes) -> bytes:
        raise ConnectError("nobody is there")

    with pytest.raises(ConnectError, match="nobody is there"):
        RemoteDriver(nobody).run(two)


def test_it_waits_its_turn_where_the_gateway_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)
    refusals = iter(["busy"] * 3)

    def answer(number: int, trip: frames.Trip) -> bytes:
        code = next(refusals, None)
        return frames.error(number, GatewayError(code, "no more")) if code else rows(number, trip)

    gateway = Gateway(answer)
    assert RemoteDriver(gateway).run(two) == [[(5,)]] * 3
    assert len({asked[1] for asked in gateway.asked[1:]}) == 1
    assert [asked[0] for asked in gateway.asked[1:]] == ["B", "B", "B", "B", "C"]
    monkeypatch.setattr(remote, "CONNECTION_TIMEOUT", 0.0)
    refusals = iter(["busy"] * 3)
    with pytest.raises(GatewayError, match="no more"):
        RemoteDriver(gateway).run(two)


def test_a_wrong_value_leaves_nothing_open() -> None:
    def op() -> Op[None]:
        yield from run(GET(1))
        yield from run(GET("two"))

    gateway = Gateway()
    with pytest.raises(TypeError, match=r"statement get, parameter \$1"):
        RemoteDriver(gateway).run(op)
    assert gateway.asked[2:] == [("undo", gateway.asked[1][1])]


def test_a_closed_driver_asks_nothing() -> None:
    gateway = Gateway()
    with RemoteDriver(gateway) as driver:
        driver.run(two)
    before = len(gateway.asked)
    with pytest.raises(ConnectError, match="closed"):
        driver.run(two)
    with pytest.raises(TarboxError, match="closed"):
        driver.digests([b"x"])
    assert len(gateway.asked) == before


def test_hashes_come_from_the_gateway_in_requests_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "DIGEST_AT_ONCE", 1000)
    gateway = Gateway()
    driver = RemoteDriver(gateway)
    blocks = [bytes([n]) * size for n, size in enumerate((400, 600, 1, 999, 1, 5000, 0, 700, 700))]
    assert driver.digests(blocks) == hashing.digests(blocks)
    assert gateway.asked == [("digest", [400, 600]), ("digest", [1, 999]), ("digest", [1]), ("digest", [0, 700]), ("digest", [700])]
    assert driver.digests([]) == []


@pytest.mark.skipif(sys.platform in ("wasi", "emscripten"), reason="no processes; it is loaded there already")
def test_it_loads_where_there_are_no_threads_and_no_sockets() -> None:
    unwanted = ("threading", "socket", "ssl", "select", "asyncio", "anyio", "pg8000", "logging", "tarbox_core.drivers.wire", "tarbox_core.drivers.dsn")
    program = f"import sys, tarbox_core.drivers.remote; print([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
