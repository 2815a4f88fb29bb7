"""The host's end of a gateway: whom a client may keep waiting, and for how long; what other doors see of its moves."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from tarbox_core import frames
from tarbox_core import layer_statements as layers
from tarbox_core import statements as sql
from tarbox_core import trail_statements as trail
from tarbox_core.drivers import presence, serving
from tarbox_core.drivers.dsn import parse_url
from tarbox_core.drivers.presence import Changes, Presence
from tarbox_core.drivers.serving import Limits, Served
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Op, Query, Statement
from tarbox_core.errors import ConnectError, ConnectionLost, GatewayError, LayerError, SqlError
from tarbox_core.gateway import OPEN_MAX, Grant
from tarbox_core.session import lock_key
from tarbox_core.types import ROOT_INO
from tests.conftest import PgServer
from tests.gateway import Talker, through_gateway
from tests.tenants import ROOT, Tenant

IDLE = 0.5  # seconds; short limits for those who are to run into them
SHORT = Limits(idle=IDLE, statement=5.0, lock=3.0)
ROOM = 3.0  # seconds that a machine with much to do may add


@pytest.fixture
def serve(tenant: Tenant) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def make(limits: Limits = SHORT, **options: Any) -> Served:
        made.append(Served(tenant.url, tenant.session().fs.tenant, Grant(), limits=limits, **options))
        return made[-1]

    yield make
    for served in made:
        served.close()


def locking(tenant: Tenant, *, exclusive: bool = False) -> tuple[Query, Query]:
    """What a mutation begins with, or a move."""
    key = [lock_key(tenant.info.id, "T", 0)]
    if exclusive:
        return sql.LOCK([], key), layers.STANDING(tenant.info.id, "main")
    return sql.LOCK(key, []), sql.HEAD(tenant.info.id, "main")


def sleeping(op: Op[object], seconds: float) -> Op[object]:
    """The operation, by a client that takes its time between trips."""
    batch = next(op)
    try:
        while True:
            rows = yield batch
            if not batch.final:
                time.sleep(seconds)
            batch = op.send(rows)
    except StopIteration as end:
        result: object = end.value
        return result


# --- what is left open


def test_a_transaction_left_open_keeps_others_waiting_no_longer_than_its_limit(tenant: Tenant, serve: Callable[..., Served]) -> None:
    talker, other = Talker(serve().exchange), tenant.session()
    talker.say(1, *locking(tenant, exclusive=True), begin=True)
    began = time.monotonic()
    other.mkdir(b"/waited")
    assert 0.1 < time.monotonic() - began < IDLE + ROOM
    with pytest.raises(GatewayError, match="stood still") as raised:
        talker.say(1, sql.HEAD(tenant.info.id, "main"), commit=True)
    assert raised.value.code == "transaction"
    with pytest.raises(GatewayError, match="no transaction 1 is open"):
        talker.say(1, sql.HEAD(tenant.info.id, "main"), commit=True)
    assert talker.say(2, sql.HEAD(tenant.info.id, "main"), begin=True, commit=True)[0]


def test_a_slow_client_is_told_and_has_changed_nothing(tenant: Tenant) -> None:
    slow = through_gateway(tenant, limits=SHORT)
    with pytest.raises(GatewayError, match="stood still"):
        slow.run(lambda: sleeping(slow.fs.setattr(ROOT, ROOT_INO, mode=0o700), IDLE + 0.3))
    assert slow.attr(b"/").mode & 0o777 != 0o700
    slow.run(lambda: slow.fs.setattr(ROOT, ROOT_INO, mode=0o711))
    assert tenant.session().attr(b"/").mode & 0o777 == 0o711


def test_what_was_left_open_gives_its_place_back(tenant: Tenant, serve: Callable[..., Served]) -> None:
    served = serve()
    talker, head = Talker(served.exchange), sql.HEAD(tenant.info.id, "main")
    for number in range(OPEN_MAX):
        talker.say(number, head, begin=True)
    with pytest.raises(GatewayError) as raised:
        talker.say(OPEN_MAX, head, begin=True)
    assert raised.value.code == "busy"
    assert soon(lambda: not served._gateway.open and not served._open)
    for number in range(OPEN_MAX):
        assert talker.say(OPEN_MAX + number, head, begin=True)
    with pytest.raises(GatewayError, match="stood still"):
        talker.say(1, head)
    with pytest.raises(GatewayError, match="no transaction 1 is open"):
        talker.say(1, head)


def test_what_was_left_open_gives_its_connection_back(tenant: Tenant, serve: Callable[..., Served]) -> None:
    talker, head = Talker(serve(pool_size=1).exchange), sql.HEAD(tenant.info.id, "main")
    talker.say(1, head, begin=True)
    began = time.monotonic()
    assert talker.say(2, head, begin=True, commit=True)[0]  # waits for it
    assert time.monotonic() - began < IDLE + ROOM
    assert talker.say(1, head, begin=True, commit=True)[0]  # the number is free again


def test_connections_that_rest_are_given_back(tenant: Tenant, serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "REST", 0.3)
    served = serve()
    talker, head = Talker(served.exchange), sql.HEAD(tenant.info.id, "main")
    assert served._pool.count == 0
    for number in (1, 2, 3):
        talker.say(number, head, begin=True)
    for number in (1, 2, 3):
        talker.say(number, head, commit=True)
    assert served._pool.count == 3
    until = time.monotonic() + 1.2
    while time.monotonic() < until:  # as long as one will do, one stays
        talker.say(1, head, begin=True, commit=True)
        time.sleep(0.01)
    assert served._pool.count == 1
    assert soon(lambda: served._pool.count == 0 and not served._watched)
    assert talker.say(1, head, begin=True, commit=True)[0]
    assert soon(lambda: served._pool.count == 0)


def test_who_waits_for_a_lock_waits_no_longer_than_its_limit(tenant: Tenant, serve: Callable[..., Served]) -> None:
    with holding(tenant):
        talker = Talker(serve(Limits(lock=0.2)).exchange)
        with pytest.raises(SqlError) as raised:
            talker.say(1, *locking(tenant), begin=True)
        assert raised.value.sqlstate == "55P03"
    talker.say(2, *locking(tenant), begin=True, commit=True)


def test_a_statement_runs_no_longer_than_its_limit(serve: Callable[..., Served]) -> None:
    nap = Statement("nap", "select pg_sleep(20)", safe=True, tenant=False)
    served = serve(Limits(statement=0.2), statements={"nap": nap})
    with pytest.raises(SqlError) as raised:
        Talker(served.exchange).say(1, nap(), begin=True, commit=True)
    assert raised.value.sqlstate == "57014"


@pytest.mark.parametrize(("synchronous", "setting"), [(False, "off"), (True, "on")])
def test_commits_wait_for_the_disk_where_the_host_says_so(serve: Callable[..., Served], synchronous: bool, setting: str) -> None:
    told = Statement("told", "select current_setting('synchronous_commit')", (), ("text",), safe=True, tenant=False)
    served = serve(synchronous=synchronous, statements={"told": told})
    assert Talker(served.exchange).say(1, told(), begin=True, commit=True) == [[(setting,)]]


def test_neither_do_many_together(tenant: Tenant, serve: Callable[..., Served]) -> None:
    """Each of them is in time, and a lock would be held until the last."""
    nap = Statement("nap", "select 1 from pg_sleep(0.2)", (), ("int4",), safe=True, tenant=False)
    talker, began = Talker(serve(Limits(statement=0.5), statements={"nap": nap, "lock": sql.LOCK}).exchange), time.monotonic()
    with pytest.raises(SqlError) as raised:
        talker.say(1, locking(tenant)[0], *[nap()] * 100, begin=True)
    assert raised.value.sqlstate == "57014" and time.monotonic() - began < 0.5 + ROOM
    talker.say(1, locking(tenant, exclusive=True)[0], nap(), begin=True, commit=True)


def test_a_number_that_is_free_again_is_another_transactions(tenant: Tenant, serve: Callable[..., Served]) -> None:
    """Whatever a second thread does with it as soon as the gateway has dropped one: what was refused is not committed."""
    served = serve()
    talker, turn, told = Talker(served.exchange), served._turn, Talker(served.exchange)

    class Between:
        """The turn; behind the next one another thread is quicker."""

        def __enter__(self) -> None:
            turn.acquire()

        def __exit__(self, *_: object) -> None:
            turn.release()
            served._turn = turn
            told.say(1, sql.HEAD(tenant.info.id, "main"), begin=True)
            told.say(1, sql.HEAD(tenant.info.id, "main"), commit=True)

    record = sql.AUDIT_MANY(tenant.info.id, [1], [time.time_ns()], ["read"], [4711], ["/undone"], [0], [0], [0], [0])
    talker.say(1, record, begin=True)
    served._turn = Between()  # type: ignore[assignment]
    with pytest.raises(GatewayError, match="open already"):
        talker.say(1, sql.HEAD(tenant.info.id, "main"), begin=True)
    assert served._turn is turn
    assert talker.say(2, trail.BY_OPERATION(tenant.info.id, 0, 1 << 62, "/undone", None, None, None), begin=True, commit=True) == [[]]


def test_an_answer_takes_no_more_memory_than_a_frame(serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ANSWER_MAX", 1 << 20)
    flood = Statement("flood", "select repeat('x', 10000) from generate_series(1, 100000)", (), ("text",), safe=True, tenant=False)
    one = Statement("one", "select 1", (), ("int4",), safe=True, tenant=False)
    talker = Talker(serve(statements={"flood": flood, "one": one}).exchange)
    with pytest.raises(GatewayError, match="ask for less") as raised:
        talker.say(1, *[flood()] * 100, begin=True)
    assert raised.value.code == "too-large"
    assert talker.say(1, one(), begin=True, commit=True) == [[(1,)]]


@contextmanager
def holding(tenant: Tenant) -> Iterator[None]:
    """Somebody else holds the tenant's lock."""
    wire = Wire(parse_url(tenant.url), tenant.info.role)
    try:
        wire.execute(locking(tenant, exclusive=True)[:1], begin=True)
        yield
    finally:
        wire.close()


# --- the end of a client, and of its host


def test_closing_rolls_back_what_is_open(tenant: Tenant, serve: Callable[..., Served]) -> None:
    served = serve(Limits())
    talker = Talker(served.exchange)
    talker.say(1, *locking(tenant, exclusive=True), begin=True)
    served.close()
    served.close()
    began = time.monotonic()
    tenant.session().mkdir(b"/at-once")
    assert time.monotonic() - began < ROOM
    with pytest.raises(ConnectError, match="no longer"):
        talker.say(2, *locking(tenant), begin=True)


def test_closing_ends_what_runs(tenant: Tenant, serve: Callable[..., Served]) -> None:
    served = serve(Limits())
    errors: list[Exception] = []

    def wait() -> None:
        try:
            Talker(served.exchange).say(1, *locking(tenant), begin=True)
        except (SqlError, ConnectionLost) as error:
            errors.append(error)

    with holding(tenant):
        thread = threading.Thread(target=wait)
        thread.start()
        while not served._open:
            time.sleep(0.01)
        time.sleep(0.2)  # until it waits
        began = time.monotonic()
        served.close()
        thread.join()
        assert time.monotonic() - began < ROOM
    assert len(errors) == 1


HOST = """
import sys, time
from tarbox_core import tenant
from tarbox_core.drivers.serving import Served
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.filesystem import Filesystem
from tarbox_core.drivers.remote import RemoteDriver
from tarbox_core.gateway import OPEN_MAX, Grant
from tarbox_core.types import Caller
url, name = sys.argv[1:]
with SyncDriver(url) as owner:
    info = owner.run(lambda: tenant.info(name))
with SyncDriver(url, info.role) as driver:
    info = driver.run(lambda: tenant.attach(info))
remote = RemoteDriver(Served(url, info, Grant()).exchange)
fs = Filesystem(remote.tenant, time.time_ns)
def op():
    inner = fs.setattr(Caller(), 1, mode=0o700)
    batch = next(inner)
    while True:
        rows = yield batch
        print("open", flush=True)
        time.sleep(60)
remote.run(op)
"""


def test_a_host_that_is_killed_has_committed_nothing(tenant: Tenant) -> None:
    before = tenant.session().attr(b"/")
    command = [sys.executable, "-c", HOST, tenant.url, tenant.info.name]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "open\n"
        os.kill(host.pid, signal.SIGKILL)
    other = tenant.session()
    began = time.monotonic()
    other.run(lambda: other.fs.setattr(ROOT, ROOT_INO, uid=7))
    assert time.monotonic() - began < ROOM
    assert other.attr(b"/").mode == before.mode


def test_a_lost_connection_is_told_and_the_next_transaction_has_another(tenant: Tenant, serve: Callable[..., Served], pg_server: PgServer) -> None:
    talker = Talker(serve(Limits()).exchange)
    talker.say(1, *locking(tenant), begin=True)
    admin = pg_server.connect(urlsplit(tenant.url).path[1:])
    admin.run("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and state = 'idle in transaction'")
    admin.close()
    with pytest.raises(ConnectionLost) as raised:
        talker.say(1, sql.HEAD(tenant.info.id, "main"), commit=True)
    assert not raised.value.committing
    assert talker.say(2, sql.HEAD(tenant.info.id, "main"), begin=True, commit=True)[0]


# --- moves, and the doors that keep files open


class Door(threading.Thread):
    """A door beside the gateway that keeps files open, as a mount is: it is quiet when it is asked, unless it cannot be."""

    def __init__(self, tenant: Tenant, *, can: bool = True) -> None:
        super().__init__()
        self._presence = Presence(parse_url(tenant.url), tenant.session(alone=False).fs)
        self._can = can
        self._over = threading.Event()
        self.heard = Changes()
        self.quiet: list[float] = []  # for how long it was, each time

    def __enter__(self) -> Door:
        self._presence.look()
        self.start()
        return self

    def run(self) -> None:
        while not self._over.is_set():
            self.heard = self.heard.and_then(self._presence.changes(0.05))
            if self._presence.asked:
                began = time.monotonic()
                self._presence.answer(held=self._can)
                self.heard = self.heard.and_then(self._presence.until_moved(self._over.is_set))
                self.quiet.append(time.monotonic() - began)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self._presence.leave()


def soon(so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return so()


@pytest.mark.parametrize("move", ["checkpoint", "switch", "make_branch"])
def test_other_doors_are_quiet_around_a_move_and_told_of_it(tenant: Tenant, move: str) -> None:
    """Though the client itself asks nobody and tells nobody."""
    remote = through_gateway(tenant, alone=True)
    fs = remote.fs
    remote.run(lambda: fs.checkpoint(ROOT, "one"), durable=True)
    remote.mkdir(b"/d")
    moves: dict[str, Callable[[], Op[object]]] = {
        "checkpoint": lambda: fs.checkpoint(ROOT, "two"), "switch": lambda: fs.switch(ROOT, "one"), "make_branch": lambda: fs.make_branch(ROOT, "b"),
    }  # fmt: skip
    with Door(tenant) as door:
        remote.run(moves[move], durable=True)
        assert soon(lambda: len(door.quiet) == 1 and door.heard.moved)
        assert door.quiet[0] < ROOM
        remote.mkdir(b"/after")
    assert len(door.quiet) == 1  # an ordinary change asks for nothing


def test_a_door_that_cannot_be_quiet_keeps_the_head_where_it_is(tenant: Tenant) -> None:
    remote = through_gateway(tenant)
    remote.mkdir(b"/d")
    with Door(tenant, can=False), pytest.raises(LayerError, match="changes that it cannot store") as raised:
        remote.run(lambda: remote.fs.checkpoint(ROOT, "one"), durable=True)
    assert raised.value.errno == errno.EBUSY
    assert len(remote.run(remote.fs.layers)) == 1


def test_a_move_that_stands_still_lets_the_doors_go_on(tenant: Tenant, serve: Callable[..., Served]) -> None:
    talker = Talker(serve().exchange)
    with Door(tenant) as door:
        talker.say(1, *locking(tenant, exclusive=True), begin=True)
        assert soon(lambda: len(door.quiet) == 1)
        assert door.quiet[0] < IDLE + ROOM < presence.QUIET_FOR
        assert not door.heard.moved
        with pytest.raises(GatewayError, match="stood still"):
            talker.say(1, sql.HEAD(tenant.info.id, "main"), commit=True)
        assert talker.say(2, *locking(tenant, exclusive=True), begin=True, commit=True)


def test_a_move_that_outlasts_the_doors_patience_is_refused(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "QUIET_FOR", presence.MARGIN + 0.3)
    remote = through_gateway(tenant)
    remote.mkdir(b"/d")
    with Door(tenant), pytest.raises(LayerError, match="longer than other mounts"):
        remote.run(lambda: sleeping(remote.fs.checkpoint(ROOT, "one"), 0.5), durable=True)
    assert len(remote.run(remote.fs.layers)) == 1
    remote.run(lambda: remote.fs.checkpoint(ROOT, "one"), durable=True)


# --- several clients


def test_a_client_that_lies_slows_no_other_tenant(make_tenant: Callable[..., Tenant]) -> None:
    """One sends garbage and frames without end, and holds its tenant's lock; the other's operations stay correct and quick."""
    liars, honest = make_tenant(), through_gateway(make_tenant())
    attached = liars.session().fs.tenant
    over = threading.Event()
    refused: dict[str, int] = {}

    def lie() -> None:
        random = Random(4)
        with Served(liars.url, attached, Grant(), limits=SHORT) as served:
            talker = Talker(served.exchange)
            for number in range(1, 1 << 30):
                if over.is_set():
                    return
                for frame in (random.randbytes(random.randrange(200)), b"\x7f" * 100, bytes(frames.REQUEST_MAX + 1)):
                    try:
                        frames.read_answer(served.exchange(frame), frames.ROWS)
                    except GatewayError as error:
                        refused[error.code] = refused.get(error.code, 0) + 1
                try:
                    talker.say(number, *locking(liars, exclusive=True), begin=True)
                except (GatewayError, SqlError) as error:
                    code = error.code if isinstance(error, GatewayError) else error.sqlstate
                    refused[code] = refused.get(code, 0) + 1

    threads = [threading.Thread(target=lie) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert soon(lambda: len(refused) >= 2)
        began = time.monotonic()
        for n in range(20):
            honest.write(b"/f%d" % n, b"content %d" % n)
            assert honest.read(b"/f%d" % n) == b"content %d" % n
        assert time.monotonic() - began < SHORT.lock + ROOM
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert {"protocol", "too-large"} <= refused.keys()
    assert sorted(honest.names()) == sorted(b"f%d" % n for n in range(20))


def test_several_threads_of_one_client(tenant: Tenant) -> None:
    remote = through_gateway(tenant)
    errors: list[BaseException] = []

    def work(name: bytes) -> None:
        try:
            for n in range(10):
                remote.mkdir(b"/%s%d" % (name, n))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(remote.names()) == 40


def test_one_transaction_is_one_conversation(tenant: Tenant, serve: Callable[..., Served]) -> None:
    """A second request for it while the first is in work is refused; the transaction goes on."""
    talker = Talker(serve(Limits()).exchange)
    told: list[object] = []
    with holding(tenant):
        thread = threading.Thread(target=lambda: told.append(talker.say(1, *locking(tenant), begin=True)))
        thread.start()
        time.sleep(0.2)  # until it waits
        with pytest.raises(GatewayError, match="in work"):
            talker.say(1, sql.HEAD(tenant.info.id, "main"), commit=True)
    thread.join()
    assert len(told) == 1
    assert talker.say(1, sql.HEAD(tenant.info.id, "main"), commit=True)[0]
