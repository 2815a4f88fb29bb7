"""One connection: batches, errors in their middle, sizes, notifications, cancelling; every codec against the server."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarbox_core.binary import OIDS
from tarbox_core.drivers.dsn import parse_url
from tarbox_core.drivers.refusals import AnswerTooLarge
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Query, Row, Rows, Statement
from tarbox_core.errors import ConnectionLost, SqlError

NEXT = Statement("next", "select $1 + 1", ("int8",), ("int8",))
PUT = Statement("put", "insert into t values ($1, $2)", ("int8", "text"))
ALL = Statement("all", "select k, v from t order by k", (), ("int8", "text"))
DIVIDE = Statement("divide", "select 1 / $1", ("int4",), ("int4",))
SLEEP = Statement("sleep", "select pg_sleep($1)", ("float8",))
BROKEN = Statement("broken", "select nothing from nowhere", (), ("int8",))


@pytest.fixture(scope="module")
def shared(pg_url_module: str) -> Iterator[Wire]:
    wire = Wire(parse_url(pg_url_module))
    yield wire
    wire.close()


@pytest.fixture
def wire(pg_url: str) -> Iterator[Wire]:
    wire = Wire(parse_url(pg_url))
    wire.script("create table t (k int8 primary key, v text)")
    yield wire
    wire.close()


def whole(wire: Wire, *queries: Query, durable: bool = False) -> list[Rows]:
    return wire.execute(queries, begin=True, commit=True, durable=durable)


_asked: dict[str, Statement] = {}


def ask(wire: Wire, sql: str, *types: str) -> Row:
    return whole(wire, _asked.setdefault(sql, Statement(f"ask.{len(_asked)}", sql, (), types))())[0][0]


# --- batches

def test_a_batch_gives_the_rows_of_each_statement_in_order(wire: Wire) -> None:
    assert whole(wire, PUT(1, "a"), PUT(2, None), ALL(), NEXT(41), NEXT(1)) == [[], [], [(1, "a"), (2, None)], [(42,)], [(2,)]]
    assert wire.status == "I"


def test_a_statement_is_prepared_once(wire: Wire) -> None:
    for _ in range(3):
        whole(wire, NEXT(1), NEXT(2))
    rows = whole(wire, Statement("list", "select name from pg_prepared_statements where name = 'next'", (), ("text",))())[0]
    assert rows == [("next",)]


def test_a_transaction_of_several_trips(wire: Wire, pg_url: str) -> None:
    other = Wire(parse_url(pg_url))
    wire.execute([PUT(1, "a")], begin=True)
    assert wire.status == "T"
    wire.execute([PUT(2, "b")])
    assert whole(other, ALL()) == [[]]
    assert wire.execute([ALL()], commit=True) == [[(1, "a"), (2, "b")]]
    assert wire.status == "I"
    assert whole(other, ALL()) == [[(1, "a"), (2, "b")]]
    other.close()


def test_commit_without_a_statement(wire: Wire) -> None:
    wire.execute([PUT(1, "a")], begin=True)
    assert wire.execute([], commit=True) == []
    assert wire.status == "I"
    assert wire.execute([], begin=True, commit=True) == []
    assert whole(wire, ALL()) == [[(1, "a")]]


def test_rollback_is_read_with_the_next_use(wire: Wire) -> None:
    wire.execute([PUT(1, "a")], begin=True)
    wire.rollback()
    wire.rollback()
    assert whole(wire, ALL()) == [[]]
    wire.execute([PUT(1, "a")], begin=True)
    wire.rollback()
    assert wire.alive()
    assert whole(wire, ALL()) == [[]]


@pytest.mark.parametrize("explicit", [False, True])
def test_an_error_in_the_middle_undoes_the_batch_and_leaves_the_wire_usable(wire: Wire, explicit: bool) -> None:
    with pytest.raises(SqlError) as raised:
        wire.execute([PUT(1, "a"), DIVIDE(0), PUT(2, "b")], begin=True, commit=not explicit)
    assert raised.value.sqlstate == "22012"
    assert raised.value.statement == "divide"
    assert wire.status == ("E" if explicit else "I")
    wire.rollback()
    assert whole(wire, ALL(), DIVIDE(1)) == [[], [(1,)]]


def test_an_error_with_the_commit_leaves_an_aborted_transaction(wire: Wire) -> None:
    wire.execute([PUT(1, "a")], begin=True)
    with pytest.raises(SqlError, match="put"):
        wire.execute([PUT(1, "again")], commit=True)
    assert wire.status == "E"
    with pytest.raises(SqlError) as raised:
        wire.execute([NEXT(1)])
    assert raised.value.sqlstate == "25P02"
    wire.rollback()
    assert whole(wire, ALL()) == [[]]


def test_a_statement_behind_an_error_is_prepared_later(wire: Wire) -> None:
    with pytest.raises(SqlError):
        whole(wire, DIVIDE(0), NEXT(1))
    assert whole(wire, NEXT(1), DIVIDE(1)) == [[(2,)], [(1,)]]


def test_a_statement_that_does_not_parse_can_be_sent_again(wire: Wire) -> None:
    for _ in range(2):
        with pytest.raises(SqlError) as raised:
            whole(wire, NEXT(1), BROKEN())
        assert (raised.value.sqlstate, raised.value.statement) == ("42P01", "broken")
    wire.script("create view nowhere as select 7::int8 as nothing")
    assert whole(wire, BROKEN()) == [[(7,)]]


def test_a_constraint_checked_at_the_commit(wire: Wire) -> None:
    wire.script("create table child (k int8 references t deferrable initially deferred)")
    orphan = Statement("orphan", "insert into child values ($1)", ("int8",))
    with pytest.raises(SqlError) as raised:
        whole(wire, orphan(1))
    assert (raised.value.sqlstate, raised.value.statement) == ("23503", "commit")
    with pytest.raises(SqlError, match="23503"):
        wire.execute([orphan(1)], begin=True)
        wire.execute([], commit=True)
    assert wire.status == "I"
    assert whole(wire, PUT(1, "a"), orphan(1)) == [[], []]


def test_wrong_values_are_refused_before_anything_is_sent(wire: Wire) -> None:
    with pytest.raises(TypeError, match=r"statement put, parameter \$2"):
        whole(wire, PUT(1, "a"), PUT(2, 3))
    assert whole(wire, ALL()) == [[]]


def test_a_result_of_another_type_than_declared_is_noticed(pg_url: str) -> None:
    for statement, word in [
        (Statement("narrow", "select 1::int4 as n", (), ("int8",)), "column 1 (n)"),
        (Statement("more", "select 1, 2", (), ("int4",)), "gives 2 columns"),
        (Statement("none", "set work_mem = '1MB'", (), ("int4",)), "gives 0 columns"),
    ]:
        wire = Wire(parse_url(pg_url))
        with pytest.raises(TypeError) as raised:
            whole(wire, statement())
        assert word in str(raised.value)
        assert wire.closed


def test_two_statements_of_one_name_are_refused(wire: Wire) -> None:
    whole(wire, NEXT(1))
    with pytest.raises(ValueError, match="called next"):
        whole(wire, Statement("next", "select 1", (), ("int4",))())


def test_a_statement_that_declares_no_result_gives_empty_rows(wire: Wire) -> None:
    assert whole(wire, Statement("void", "select 1, 'x'")()) == [[()]]


def test_session_settings(wire: Wire, pg_url: str) -> None:
    assert ask(wire, "select current_setting('synchronous_commit'), current_setting('client_encoding')", "text", "text") == ("off", "UTF8")
    other = Wire(parse_url(pg_url + "&options=-c%20work_mem%3D1234kB&application_name=me"), synchronous=True)
    assert ask(other, "select current_setting('synchronous_commit'), current_setting('work_mem'), current_setting('application_name')",
               "text", "text", "text") == ("on", "1234kB", "me")
    other.close()


def test_durable_hardens_what_was_committed_before(server_home: Any) -> None:
    from tarbox_core.drivers import embedded

    # With a WAL writer that sleeps, nothing but our commit brings the log to the disk.
    wire = Wire(parse_url(embedded.start(server_home, settings={"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"})))
    wire.script("create table t (k int8 primary key, v text)")
    hard = Statement("hard", "select pg_current_wal_flush_lsn() >= $1::text::pg_lsn", ("text",), ("bool",))
    hardened: dict[bool, set[bool]] = {False: set(), True: set()}
    for round_ in range(40):
        durable = round_ % 2 == 1
        whole(wire, PUT(round_, "a"))
        position = ask(wire, "select pg_current_wal_insert_lsn()::text", "text")[0]
        whole(wire, NEXT(1), durable=durable)  # a transaction that writes nothing itself
        hardened[durable].add(whole(wire, hard(position))[0][0][0])
        assert ask(wire, "select current_setting('synchronous_commit')", "text") == ("off",)
    assert hardened[True] == {True}
    assert False in hardened[False]  # else this test would prove nothing
    wire.execute([PUT(100, "a")], begin=True, durable=True)
    wire.execute([PUT(101, "a")], commit=True, durable=True)
    assert whole(wire, ALL())[0][-1] == (101, "a")
    wire.close()


# --- sizes

def test_64_mib_in_pieces_both_ways(wire: Wire) -> None:
    wire.script("create table block (k int8 primary key, data bytea); alter table block alter data set storage external")
    put = Statement("block.put", "insert into block select * from unnest($1, $2)", ("int8[]", "bytea[]"))
    get = Statement("block.get", "select data from block where k between $1 and $2 order by k", ("int8", "int8"), ("bytea",))
    pieces = [hashlib.shake_128(n.to_bytes(4)).digest(65536) for n in range(64)]
    for start in range(0, 1024, 64):
        whole(wire, put(list(range(start, start + 64)), pieces))
    rows = whole(wire, get(0, 1023))[0]
    assert [data for (data,) in rows] == pieces * 16
    assert len(wire._view) <= 1 << 20


def test_many_large_statements_with_large_replies_do_not_jam(wire: Wire) -> None:
    """Both sockets fill: the server must be relieved of replies while the rest of the batch is being sent."""
    echo = Statement("echo", "select $1", ("bytea",), ("bytea",))
    data = bytes(range(256)) * 2048
    assert [rows[0][0] for rows in whole(wire, *[echo(data)] * 40)] == [data] * 40


def test_a_batch_of_small_statements_with_huge_replies(wire: Wire) -> None:
    repeat = Statement("repeat", "select repeat('x', $1)", ("int4",), ("text",))
    sizes = [1_000_000, 0, 3, 5_000_000, 262_144 - 30, 262_144, 1]
    assert [len(rows[0][0]) for rows in whole(wire, *[repeat(n) for n in sizes])] == sizes


@pytest.mark.parametrize(("rows", "size"), [(1, 3 << 20), (3000, 1000), (1_000_000, 1)])
def test_an_answer_beyond_what_was_allowed_ends_the_connection(pg_url: str, rows: int, size: int) -> None:
    lines = Statement("lines", "select repeat('x', $2) from generate_series(1, $1)", ("int4", "int4"), ("text",))
    wire = Wire(parse_url(pg_url), answer_max=2 << 20)
    assert len(wire.execute([lines(1900, 1000)], begin=True)[0]) == 1900
    assert len(wire.execute([lines(1900, 1000)], commit=True)[0]) == 1900  # each trip for itself
    with pytest.raises(AnswerTooLarge, match="more than 2097152 bytes"):
        wire.execute([lines(rows, size), *[lines(1, 1)] * 3], begin=True, commit=True)
    assert wire.closed
    assert len(wire._view) < 4 << 20


def test_replies_of_every_length_around_the_buffers_end(wire: Wire) -> None:
    repeat = Statement("repeat", "select repeat('y', $1 + n), n from generate_series(0, 40) n", ("int4",), ("text", "int4"))
    for start in (65536 - 20, 131072 - 20):
        assert [(len(text), n) for text, n in whole(wire, repeat(start))[0]] == [(start + n, n) for n in range(41)]


def test_large_error_texts_and_notices(wire: Wire) -> None:
    with pytest.raises(SqlError) as raised:
        wire.script("do $$ begin raise notice '%', repeat('n', 300000); raise exception '%', repeat('e', 300000); end $$")
    assert "e" * 300000 in str(raised.value)
    assert wire.notices.pop() == "n" * 300000


# --- asynchronous messages

def test_notifications_at_any_time(wire: Wire, pg_url: str) -> None:
    other = Wire(parse_url(pg_url))
    wire.script("listen changes")
    assert wire.wait_notification(0) is None
    assert wire.wait_notification(0.01) is None
    other.script("notify changes, 'one'; notify changes, 'two'")
    first = wire.wait_notification(20)
    assert first is not None
    assert (first.pid, first.channel, first.payload) == (other.pid, "changes", "one")
    other.script("notify changes, 'thrée'")
    assert whole(wire, NEXT(1)) == [[(2,)]]
    assert [n.payload for n in (wire.wait_notification(20), wire.wait_notification(20)) if n] == ["two", "thrée"]
    timer = threading.Timer(0.2, other.script, ["notify changes, 'late'"])
    timer.start()
    late = wire.wait_notification(None)
    timer.join()
    assert late is not None
    assert late.payload == "late"
    whole(wire, Statement("self", "select pg_notify('changes', 'self')")())
    own = wire.wait_notification(20)
    assert own is not None
    assert own.payload == "self"
    other.close()


def test_notifications_are_bounded(wire: Wire) -> None:
    wire.script("listen c")
    wire.script("select pg_notify('c', n::text) from generate_series(1, 11000) n")
    whole(wire, NEXT(1))
    assert len(wire.notifications) == 10_000
    assert wire.notifications[-1].payload == "11000"


def test_waiting_notices_the_end_of_the_connection(wire: Wire, pg_url: str) -> None:
    other = Wire(parse_url(pg_url))
    whole(other, Statement("kill", "select pg_terminate_backend($1)", ("int4",), ("bool",))(wire.pid))
    with pytest.raises(ConnectionLost, match="administrator"):
        wire.wait_notification(20)
    assert wire.closed
    other.close()


# --- cancelling and ending

def test_cancel_stops_the_statement_and_keeps_the_connection(wire: Wire) -> None:
    timer = threading.Timer(0.3, wire.cancel)
    timer.start()
    with pytest.raises(SqlError) as raised:
        whole(wire, PUT(1, "a"), SLEEP(60.0))
    timer.join()
    assert (raised.value.sqlstate, raised.value.statement) == ("57014", "sleep")
    assert whole(wire, ALL()) == [[]]


def test_a_statement_timeout_of_the_session(pg_url: str) -> None:
    wire = Wire(parse_url(pg_url + "&options=-c%20statement_timeout%3D100"))
    with pytest.raises(SqlError) as raised:
        whole(wire, SLEEP(60.0))
    assert raised.value.sqlstate == "57014"
    wire.close()


def test_abort_wakes_the_thread_that_waits(wire: Wire) -> None:
    timer = threading.Timer(0.3, wire.abort)
    timer.start()
    with pytest.raises(ConnectionLost):
        whole(wire, SLEEP(60.0))
    timer.join()
    assert wire.closed
    assert not wire.alive()
    with pytest.raises(ConnectionLost, match="closed"):
        whole(wire, NEXT(1))


def test_an_interrupt_in_the_middle_closes_the_wire(pg_url: str) -> None:
    program = f"""
import signal, sys
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.effects import Statement, one
driver = SyncDriver({pg_url!r}, pool_size=1)
sleep, number = Statement("sleep", "select pg_sleep(60)"), Statement("n", "select 1", (), ("int4",))
def interrupt(number, frame): raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    driver.run(lambda: one(sleep()))
except KeyboardInterrupt:
    print("interrupted", len(driver._pool._idle), driver.run(lambda: one(number())))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (run.stdout, run.stderr) == ("interrupted 0 (1,)\n", "")


def test_close_may_be_repeated_and_ends_the_session(wire: Wire, pg_url: str) -> None:
    other = Wire(parse_url(pg_url))
    sessions = Statement("sessions", "select count(*) from pg_stat_activity where pid = $1", ("int4",), ("int8",))
    assert whole(other, sessions(wire.pid)) == [[(1,)]]
    wire.execute([PUT(1, "a")], begin=True)
    wire.close()
    wire.close()
    wire.rollback()
    while whole(other, sessions(wire.pid)) != [[(0,)]]:
        time.sleep(0.01)
    assert whole(other, ALL()) == [[]]
    other.close()


# --- values

INT = {2: st.integers(-(1 << 15), (1 << 15) - 1), 4: st.integers(-(1 << 31), (1 << 31) - 1), 8: st.integers(-(1 << 63), (1 << 63) - 1)}
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 62), 1 << 62) | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=8)
TIME = st.integers(-(1 << 61), 1 << 62).map(lambda us: us * 1000).filter(lambda ns: -210_866_803_200 * 10**9 <= ns < 9_224_318_016_000 * 10**9)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int2": INT[2], "int4": INT[4], "int8": INT[8], "bool": st.booleans(), "text": TEXT, "bytea": st.binary(), "float8": st.floats(allow_nan=False),
    "timestamptz": TIME, "jsonb": JSON.filter(lambda value: value is not None),
    # The server keeps ranges sorted, disjoint and not touching.
    "int8multirange": st.lists(INT[8], unique=True, max_size=20).map(sorted).map(lambda n: tuple(zip(n[0::2], n[1::2], strict=False))),
}
for _name in [name for name in OIDS if name.endswith("[]")]:
    VALUES[_name] = st.lists(st.none() | VALUES[_name[:-2]], max_size=12) | st.lists(VALUES[_name[:-2]], min_size=5, max_size=30)


def test_every_type_is_tried() -> None:
    assert set(VALUES) == set(OIDS)


@pytest.mark.parametrize("name", sorted(OIDS))
def test_values_come_back_as_they_went(shared: Wire, name: str) -> None:
    echo = Statement(f"echo.{name}", "select $1, $1::text is null", (name,), (name, "bool"))

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.none() | VALUES[name], min_size=1, max_size=4))
    def roundtrip(values: list[Any]) -> None:
        rows = whole(shared, *[echo(value) for value in values])
        assert [row[0] for row in rows] == [(value, value is None) for value in values]

    roundtrip()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_rows_of_any_mixture_of_types(shared: Wire, data: st.DataObject) -> None:
    names = tuple(data.draw(st.lists(st.sampled_from(sorted(OIDS)), min_size=1, max_size=8)))
    values = tuple(data.draw(st.none() | VALUES[name]) for name in names)
    statement = _mixtures.setdefault(names, Statement("mix." + ".".join(names), "select " + ", ".join(f"${n}" for n in range(1, len(names) + 1)), names, names))
    assert whole(shared, statement(*values)) == [[values]]


_mixtures: dict[tuple[str, ...], Statement] = {}


@pytest.mark.parametrize(("name", "value", "written"), [
    ("int2", -2, "-2"), ("int4", 1 << 30, "1073741824"), ("int8", -(1 << 63), "-9223372036854775808"), ("bool", True, "true"), ("text", "é€😀", "é€😀"),
    ("bytea", b"\0\xff", r"\x00ff"), ("float8", 0.1, "0.1"), ("float8", math.inf, "Infinity"), ("float8", 3, "3"),
    ("timestamptz", 1_000_000_000_123_456_789, "2001-09-09 01:46:40.123456+00"), ("timestamptz", -1000, "1969-12-31 23:59:59.999999+00"),
    ("jsonb", {"é": [1, None, "x"]}, '{"é": [1, null, "x"]}'), ("jsonb", None, None),
    ("int8multirange", ((1, 5), (8, 9)), "{[1,5),[8,9)}"), ("int8multirange", [(8, 9), (1, 5), (5, 6), (3, 3)], "{[1,6),[8,9)}"), ("int8multirange", (), "{}"),
    ("int8[]", [1, -1, 1 << 40, 0, 5, -(1 << 63)], "{1,-1,1099511627776,0,5,-9223372036854775808}"), ("int8[]", (1, None), "{1,NULL}"), ("int8[]", [], "{}"),
    ("int4[]", [1, -2], "{1,-2}"), ("bool[]", [True, None, False], "{t,NULL,f}"), ("text[]", ["a", None, "", "NULL"], '{a,NULL,"","NULL"}'),
    ("bytea[]", [b"\1", None, b""], r'{"\\x01",NULL,"\\x"}'), ("bytea[]", [bytearray(b"\1"), memoryview(b"\2")], r'{"\\x01","\\x02"}'),
])
def test_the_server_understands_what_was_meant(shared: Wire, name: str, value: Any, written: str | None) -> None:
    """A codec that errs the same way in both directions would pass a round trip."""
    shared.script("set timezone = 'UTC'")
    sql = f"select $1::{name}::text"
    statement = _written.setdefault(name, Statement(f"written.{name}", sql, (name,), ("text",)))
    assert whole(shared, statement(value)) == [[(written,)]]


_written: dict[str, Statement] = {}


@pytest.mark.parametrize(("sql", "name", "value"), [
    ("select 'abc'::name", "text", "abc"), ("select 'ab'::varchar(5)", "text", "ab"), ("select array['x'::name]", "text[]", ["x"]),
    ("select '{5}'::int8[]", "int8[]", [5]), ("select '[3:4]={7,8}'::int8[]", "int8[]", [7, 8]), ("select null::int8multirange", "int8multirange", None),
    ("select array_agg(n) from generate_series(1::int8, 100000) n", "int8[]", list(range(1, 100001))),
    ("select 'infinity'::timestamptz", "timestamptz", ((1 << 63) - 1 + 946_684_800_000_000) * 1000),
])
def test_what_the_server_makes_is_read(shared: Wire, sql: str, name: str, value: Any) -> None:
    assert ask(shared, sql, name) == (value,)


@pytest.mark.parametrize(("sql", "name"), [("select '{[1,)}'::int8multirange", "int8multirange"), ("select '{{1,2},{3,4}}'::int8[]", "int8[]")])
def test_what_has_no_python_form_is_an_error_and_never_a_wrong_value(pg_url: str, sql: str, name: str) -> None:
    wire = Wire(parse_url(pg_url))
    with pytest.raises(ValueError):
        ask(wire, sql, name)
    assert wire.closed
