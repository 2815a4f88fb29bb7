"""What every driver promises to operations (base.Driver, effects), with toy generators, run through each driver."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

import anyio.from_thread
import anyio.to_thread
import pytest

from tarbox_core.drivers import base
from tarbox_core.drivers.aio import AioDriver
from tarbox_core.drivers.dsn import parse_url
from tarbox_core.drivers.remote import AsyncRemoteDriver
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Batch, Op, Rows, Statement, finish, many, maybe, one, run
from tarbox_core.errors import ConnectError, ConnectionLost, FsError, RetryableError, SqlError
from tarbox_core.gateway import Grant
from tarbox_core.types import TenantInfo
from tests.gateway import ServedDriver
from tests.pg.proxy import Proxy

R = TypeVar("R")

TOYS: dict[str, Statement] = {}  # those that a gateway's client may name


def toy(name: str, sql: str, params: tuple[str, ...] = (), returns: tuple[str, ...] = ()) -> Statement:
    return TOYS.setdefault(name, Statement(name, sql, params, returns, safe=True, tenant=False))


PUT = toy("put", "insert into t values ($1, $2)", ("int8", "int8"))
ADD = toy("add", "update t set v = v + $2 where k = $1 returning v", ("int8", "int8"), ("int8",))
GET = toy("get", "select v from t where k = $1", ("int8",), ("int8",))
KEYS = toy("keys", "select k from t order by k", (), ("int8",))
DIVIDE = toy("divide", "select 1 / $1", ("int4",), ("int4",))
SLEEP = toy("sleep", "select pg_sleep($1) is null", ("float8",), ("bool",))
SERIALIZABLE = toy("serializable", "set transaction isolation level serializable")
SUM = toy("sum", "select coalesce(sum(v), 0)::int8 from t", (), ("int8",))
REFUSE = toy("refuse", "select refuse($1)", ("text",))
PID = toy("pid", "select pg_backend_pid()", (), ("int4",))
KILL = toy("kill", "select pg_terminate_backend($1, 20000)", ("int4",), ("bool",))
RUNNING = toy("running", "select pid from pg_stat_activity where query like '%pg_sleep%' and state = 'active' and pid <> pg_backend_pid()", (), ("int4",))
SETTING = toy("setting", "select current_setting('synchronous_commit')", (), ("text",))
USER = toy("user", "select current_user::text, session_user::text, current_setting('synchronous_commit')", (), ("text", "text", "text"))
PAUSE = toy("pause", "select pg_sleep(0.05) is null", (), ("bool",))
SCHEMA = """
create table t (k int8 primary key, v int8);
create function refuse(code text) returns void language plpgsql as $$ begin raise exception 'refused' using errcode = code; end $$;
"""


class Runner(Protocol):
    """A driver as plain blocking calls."""

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R: ...
    def script(self, sql: str) -> None: ...
    def close(self) -> None: ...


class AioRunner:
    def __init__(self, portal: anyio.from_thread.BlockingPortal, url: str, **options: Any) -> None:
        self._portal = portal
        self._driver = AioDriver(url, **options)

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        return self._portal.call(partial(self._driver.run, factory, durable=durable))

    def script(self, sql: str) -> None:
        self._portal.call(self._driver.script, sql)

    def close(self) -> None:
        self._portal.call(self._driver.close)


class RemoteRunner(ServedDriver):
    def __init__(self, url: str, role: str = "tarbox", **options: Any) -> None:
        tenant = TenantInfo(1, "toys", "", role, 65536, 1 << 30, 0, "main", 0, ())
        super().__init__(url, tenant, Grant(), statements=TOYS, **options)

    def script(self, sql: str) -> None:
        with SyncDriver(self.served.dsn) as owner:
            owner.script(sql)


class AsyncRemoteRunner(RemoteRunner):
    """The driver that is awaited, each exchange in a thread."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._portal = portal
        self._awaited = AsyncRemoteDriver(partial(anyio.to_thread.run_sync, self.served.exchange))

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        return self._portal.call(partial(self._awaited.run, factory, durable=durable))

    def close(self) -> None:
        self._awaited.close()
        super().close()


def reason(driver: Runner, why: str) -> str:
    """How a ConnectError says why. A gateway tells its log and not its client."""
    return "the gateway cannot connect" if isinstance(driver, RemoteRunner) else why


OWN_SESSION = ["sync", "aio", "remote", "async remote"]


@pytest.fixture(params=[*OWN_SESSION, "sync pooled", "aio pooled"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Runner]]:
    """Makes drivers of one kind; closes them."""
    with anyio.from_thread.start_blocking_portal() as portal:
        kinds: dict[str, Callable[..., Runner]] = {
            "sync": SyncDriver,
            "aio": partial(AioRunner, portal),
            "sync pooled": partial(SyncDriver, pooled=True),
            "aio pooled": partial(AioRunner, portal, pooled=True),
            "remote": RemoteRunner,
            "async remote": partial(AsyncRemoteRunner, portal),
        }
        made: list[Runner] = []

        def make(url: str, **options: Any) -> Runner:
            made.append(kinds[request.param](url, **options))
            return made[-1]

        yield make
        for driver in made:
            driver.close()


@pytest.fixture
def driver(make: Callable[..., Runner], pg_url: str) -> Runner:
    driver = make(pg_url)
    driver.script(SCHEMA)
    return driver


@pytest.fixture
def observer(pg_url: str) -> Iterator[Wire]:
    """A connection beside the driver's."""
    wire = Wire(parse_url(pg_url))
    yield wire
    wire.close()


def look(observer: Wire, *query: Any) -> Rows:
    return observer.execute(query, begin=True, commit=True)[0]


# --- one operation, one transaction

def test_an_operation_without_a_yield_needs_no_server(make: Callable[..., Runner]) -> None:
    driver = make("postgresql://u@/d?host=/nowhere")

    def quick() -> Op[str]:
        return "done"
        yield Batch(())  # type: ignore[unreachable]

    def refused() -> Op[str]:
        raise FsError(errno.EINVAL, "x")
        yield Batch(())  # type: ignore[unreachable]

    assert driver.run(quick) == "done"
    with pytest.raises(FsError):
        driver.run(refused)
    with pytest.raises(ConnectError):
        driver.run(lambda: one(PID()))


def test_rows_and_results(driver: Runner) -> None:
    def op() -> Op[Any]:
        assert (yield from run(PUT(1, 10), PUT(2, 20), KEYS())) == [[], [], [(1,), (2,)]]
        assert (yield from one(GET(1))) == (10,)
        assert (yield from maybe(GET(5))) is None
        assert (yield from maybe(GET(2))) == (20,)
        assert (yield from many(KEYS())) == [(1,), (2,)]
        assert (yield Batch(())) == []
        return "result"

    assert driver.run(op) == "result"
    assert driver.run(lambda: many(KEYS())) == [(1,), (2,)]


def test_nothing_is_seen_before_the_commit_and_all_after(driver: Runner, observer: Wire) -> None:
    def op() -> Op[None]:
        yield from run(PUT(1, 1))
        assert look(observer, KEYS()) == []
        yield from run(PUT(2, 2))
        assert look(observer, KEYS()) == []

    driver.run(op)
    assert look(observer, KEYS()) == [(1,), (2,)]


@pytest.mark.parametrize("trips", [1, 2])
def test_a_final_batch_is_committed_when_its_rows_arrive(driver: Runner, observer: Wire, trips: int) -> None:
    def op() -> Op[int]:
        if trips == 2:
            yield from run(PUT(1, 1))
        rows = yield from finish(PUT(2, 2), GET(2))
        assert look(observer, GET(2)) == [(2,)]
        return int(rows[1][0][0])

    assert driver.run(op) == 2


@pytest.mark.parametrize("error", [FsError(errno.ENOENT, b"name"), ValueError("bug"), KeyError("bug")], ids=repr)
def test_an_error_of_the_operation_undoes_it_and_reaches_the_caller(driver: Runner, error: Exception) -> None:
    def op() -> Op[None]:
        yield from run(PUT(1, 1))
        raise error

    for _ in range(3):
        with pytest.raises(type(error)) as raised:
            driver.run(op)
        assert raised.value is error
    assert driver.run(lambda: many(KEYS())) == []


def test_locks_of_an_undone_operation_are_gone(driver: Runner, observer: Wire) -> None:
    driver.run(lambda: one_put(1))

    def op() -> Op[None]:
        yield from run(ADD(1, 1))
        raise FsError(errno.EINVAL)

    with pytest.raises(FsError):
        driver.run(op)
    assert look(observer, ADD(1, 1)) == [(2,)]


def one_put(key: int) -> Op[None]:
    yield from finish(PUT(key, 1))


def test_an_error_after_the_final_batch_undoes_nothing(driver: Runner) -> None:
    def op() -> Op[None]:
        yield from finish(PUT(1, 1))
        raise FsError(errno.ENOENT)

    with pytest.raises(FsError):
        driver.run(op)
    assert driver.run(lambda: many(KEYS())) == [(1,)]


def test_a_yield_after_the_final_batch_is_an_error(driver: Runner) -> None:
    def op() -> Op[None]:
        yield from finish(PUT(1, 1))
        yield from run(PUT(2, 2))

    with pytest.raises(RuntimeError, match="final"):
        driver.run(op)
    assert driver.run(lambda: many(KEYS())) == [(1,)]


# --- refused statements

@pytest.mark.parametrize("final", [False, True])
def test_a_refused_statement_is_thrown_into_the_operation(driver: Runner, final: bool) -> None:
    seen: list[SqlError] = []

    def op() -> Op[None]:
        yield from run(PUT(1, 1))
        try:
            yield Batch((PUT(2, 2), PUT(1, 1), PUT(3, 3)), final)
        except SqlError as error:
            seen.append(error)
            raise FsError(errno.EEXIST) from error

    with pytest.raises(FsError):
        driver.run(op)
    assert [(error.sqlstate, error.statement) for error in seen] == [("23505", "put")]
    assert driver.run(lambda: many(KEYS())) == []


def test_an_operation_that_swallows_the_error_has_done_nothing(driver: Runner) -> None:
    def op() -> Op[str]:
        try:
            yield from run(PUT(1, 1), DIVIDE(0))
        except SqlError as error:
            return error.sqlstate
        return ""

    assert driver.run(op) == "22012"
    assert driver.run(lambda: many(KEYS())) == []

    def stubborn() -> Op[None]:
        try:
            yield from run(PUT(1, 1), DIVIDE(0))
        except SqlError:
            yield from run(PUT(2, 2))

    with pytest.raises(RuntimeError, match="refused"):
        driver.run(stubborn)
    assert driver.run(lambda: many(KEYS())) == []


def test_a_full_disk_is_enospc(driver: Runner) -> None:
    with pytest.raises(FsError) as raised:
        driver.run(lambda: run(PUT(1, 1), REFUSE("53100")))
    assert raised.value.errno == errno.ENOSPC
    assert driver.run(lambda: many(KEYS())) == []


def test_a_wrong_value_reaches_the_caller_and_harms_nothing(driver: Runner) -> None:
    def op() -> Op[None]:
        yield from run(PUT(1, 1))
        yield from run(PUT("two", 2))

    with pytest.raises(TypeError, match=r"statement put, parameter \$1"):
        driver.run(op)
    with pytest.raises(ValueError, match="statement put"):
        driver.run(lambda: run(PUT(1 << 63, 2)))
    assert driver.run(lambda: many(KEYS())) == []


# --- lost races

def test_a_deadlock_is_resolved_by_running_again(driver: Runner, pg_url: str) -> None:
    driver.script("insert into t values (1, 0), (2, 0)")
    rival = Wire(parse_url(pg_url.replace("tarbox@", "postgres@")))
    rival.script("set deadlock_timeout = '60s'")  # so that the server breaks the circle at the driver's end
    threads: list[threading.Thread] = []
    runs: list[int] = []

    def op() -> Op[None]:
        runs.append(1)
        yield from run(ADD(1, 1))
        if len(runs) == 1:
            rival.execute([ADD(2, 10)], begin=True)
            threads.append(threading.Thread(target=partial(rival.execute, [ADD(1, 10)], commit=True)))
            threads[0].start()
        yield from run(ADD(2, 1))

    driver.run(op)
    threads[0].join()
    assert 2 <= len(runs) <= 4  # whoever begins again at once may be at the first row before the rival, once more
    assert driver.run(lambda: run(GET(1), GET(2))) == [[(11,)], [(11,)]]
    rival.close()


@pytest.mark.parametrize("make", OWN_SESSION, indirect=True)  # pooled, a transaction begins with its settings, too late for a level
def test_a_serialization_failure_is_resolved_by_running_again(driver: Runner, observer: Wire) -> None:
    """Write skew: another transaction reads and writes what this one is about to write and has read."""
    runs: list[int] = []

    def op() -> Op[int]:
        runs.append(1)
        yield from run(SERIALIZABLE())
        total = int((yield from one(SUM()))[0])
        if len(runs) == 1:
            observer.execute([SERIALIZABLE(), SUM(), PUT(1, 5)], begin=True)
            observer.execute([], commit=True)
        yield from run(PUT(2, total))
        return total

    assert driver.run(op) == 5
    assert len(runs) == 2
    assert driver.run(lambda: one(GET(2))) == (5,)


def test_retries_have_an_end(driver: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "RETRIES", 3)
    runs: list[int] = []

    def op() -> Op[None]:
        runs.append(1)
        yield from run(PUT(1, 1))
        yield from run(REFUSE("40001"))

    with pytest.raises(RetryableError):
        driver.run(op)
    assert len(runs) == 4
    assert driver.run(lambda: many(KEYS())) == []


# --- lost connections

def test_a_connection_that_died_while_idle_is_replaced_unseen(driver: Runner, observer: Wire) -> None:
    runs: list[int] = []

    def op() -> Op[int]:
        runs.append(1)
        return int((yield from finish(PID()))[0][0][0])

    pid = driver.run(op)
    look(observer, KILL(pid))
    assert driver.run(op) != pid
    assert len(runs) == 2


def killed_while_asleep(observer: Wire) -> threading.Thread:
    def kill() -> None:
        while not (rows := look(observer, RUNNING())):
            time.sleep(0.01)
        look(observer, KILL(rows[0][0]))

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.parametrize("final", [False, True])
def test_a_connection_lost_in_the_middle_is_retried_once(driver: Runner, observer: Wire, final: bool) -> None:
    """Also in a final batch, where the server says that it ended a statement: the commit was not reached."""
    runs: list[int] = []

    def op() -> Op[None]:
        runs.append(1)
        yield from run(PUT(1, 1))
        yield Batch((PUT(2, 2), SLEEP(60.0 if len(runs) == 1 else 0.0)), final)

    killer = killed_while_asleep(observer)
    driver.run(op)
    killer.join()
    assert len(runs) == 2
    assert driver.run(lambda: many(KEYS())) == [(1,), (2,)]


def test_a_connection_lost_twice_is_reported(driver: Runner, observer: Wire) -> None:
    def op() -> Op[None]:
        yield from run(PUT(1, 1), PID())
        yield from run(SLEEP(60.0))

    def kill_two() -> None:
        for _ in range(2):
            killed_while_asleep(observer).join()

    killer = threading.Thread(target=kill_two)
    killer.start()
    with pytest.raises(ConnectionLost) as raised:
        driver.run(op)
    killer.join()
    assert not raised.value.committing
    assert driver.run(lambda: many(KEYS())) == []


@pytest.mark.parametrize("how", ["whole", "final", "return"])
def test_a_connection_lost_at_the_commit_is_never_retried(make: Callable[..., Runner], pg_url: str, pg_server: Any, observer: Wire, how: str) -> None:
    """The server commits, but the network swallows its answer."""
    observer.script(SCHEMA)
    runs: list[int] = []

    def op() -> Op[None]:
        runs.append(1)
        if how == "whole":
            yield from finish(PUT(77, 1), GET(7777))
        else:
            yield from run(PUT(77, 1))
            if how == "final":
                yield from finish(GET(7777))

    with Proxy(pg_server.socket) as proxy:
        driver = make(pg_url.replace("@/", f"@127.0.0.1:{proxy.port}/").partition("?")[0] + "?sslmode=disable")
        driver.run(lambda: finish(KEYS(), GET(1)))
        proxy.mute(b"commit\0" if how == "return" else (7777).to_bytes(8))
        cutter = threading.Thread(target=lambda: proxy.muted.wait(20) and proxy.cut())
        cutter.start()
        with pytest.raises(ConnectionLost) as raised:
            driver.run(op)
        cutter.join()
        assert raised.value.committing
        assert len(runs) == 1
        assert look(observer, KEYS()) == [(77,)]
        assert driver.run(lambda: many(KEYS())) == [(77,)]  # the next operation has a fresh connection


def test_a_restarted_server_is_found_again(make: Callable[..., Runner], server_home: Any) -> None:
    from tarbox_core.drivers import embedded

    url = embedded.start(server_home)
    driver = make(url)
    driver.script(SCHEMA)
    driver.run(lambda: one_put(1))
    embedded.stop(server_home)
    with pytest.raises(ConnectError):
        driver.run(lambda: many(KEYS()))
    assert embedded.start(server_home) == url
    assert driver.run(lambda: many(KEYS())) == [(1,)]


# --- the rest of the contract

def test_durable_commits_synchronously(driver: Runner) -> None:
    assert driver.run(lambda: one(SETTING()), durable=True) == ("on",)
    assert driver.run(lambda: finish(SETTING()), durable=True) == [[("on",)]]
    assert driver.run(lambda: one(SETTING())) == ("off",)
    assert driver.run(lambda: finish(), durable=True) == []
    driver.run(lambda: one_put(1), durable=True)
    assert driver.run(lambda: many(KEYS())) == [(1,)]


@pytest.mark.parametrize("make", OWN_SESSION, indirect=True)  # pooled, a role is taken when it is needed
def test_the_sessions_work_under_the_role(make: Callable[..., Runner], pg_url: str, observer: Wire) -> None:
    observer.script("""create role "odd ' name" nologin; grant "odd ' name" to current_user""")
    assert make(pg_url, role="odd ' name").run(lambda: one(USER())) == ("odd ' name", "tarbox", "off")
    for role, why in (("nobody here", "nobody here"), ("postgres", "permission denied")):
        driver = make(pg_url, role=role)
        with pytest.raises(ConnectError, match=reason(driver, why)):
            driver.run(lambda: one(USER()))


def test_an_exhausted_pool_says_so_after_its_timeout(make: Callable[..., Runner], pg_url: str) -> None:
    driver = make(pg_url, pool_size=1, connection_timeout=0.2)
    inside, leave = threading.Event(), threading.Event()

    def busy() -> Op[None]:
        while not leave.is_set():
            yield from run(PAUSE())
            inside.set()

    thread = threading.Thread(target=driver.run, args=(busy,))
    thread.start()
    assert inside.wait(20)
    with pytest.raises(ConnectError, match=reason(driver, r"all 1 connections of the pool were busy for 0.2 s")):
        driver.run(lambda: one(PID()))
    leave.set()
    thread.join()
    driver.run(lambda: one(PID()))


def test_more_threads_than_connections(make: Callable[..., Runner], pg_url: str) -> None:
    driver = make(pg_url, pool_size=3)
    driver.script(SCHEMA + "insert into t values (1, 0)")
    pids: set[int] = set()
    errors: list[BaseException] = []

    def op() -> Op[None]:
        yield from run(ADD(1, 1))
        pids.add((yield from finish(PID()))[0][0][0])

    def work() -> None:
        try:
            for _ in range(40):
                driver.run(op)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert driver.run(lambda: one(GET(1))) == (320,)
    assert 1 <= len(pids) <= 3


def test_a_closed_driver_refuses(driver: Runner) -> None:
    driver.run(lambda: one(PID()))
    driver.close()
    driver.close()
    with pytest.raises(ConnectError, match="closed"):
        driver.run(lambda: one(PID()))
