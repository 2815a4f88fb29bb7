"""Seals over the audit trail: what verify says of a trail that was left alone, and of one that somebody was at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pg8000.exceptions import DatabaseError

from tarbox_cli.config import Config
from tarbox_cli.mounting import upkeep
from tarbox_core import sealing, trail
from tarbox_core import trail_statements as sql
from tarbox_core.drivers import migrate
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.errors import TarboxError
from tarbox_core.sealing import Verdict
from tarbox_fuse import run
from tarbox_fuse.dispatch import Options
from tarbox_fuse.verbs import Verbs
from tests.conftest import PgServer
from tests.tenants import Session, Tenant, prepare

DAY = 86_400 * 10**9


@pytest.fixture
def superuser(pg_server: PgServer, schema_url: str) -> Iterator[Any]:
    made = pg_server.connect(urlsplit(schema_url).path[1:])
    yield made
    made.close()


@pytest.fixture
def owner(schema_url: str) -> Iterator[SyncDriver]:
    with SyncDriver(schema_url, pool_size=1) as driver:
        yield driver


def seal(session: Session, most: int = sealing.MOST, left: int = 0) -> None:
    """Seal until so many records are left: the server's own transactions (autovacuum) may hold sealing up for a moment."""
    deadline = time.monotonic() + 30
    while session.run(lambda: sealing.seal(session.fs.session, most)) or verify(session).unsealed > left:
        assert time.monotonic() < deadline


def verify(session: Session, expect: bytes | None = None) -> Verdict:
    return session.run(lambda: sealing.verify(session.fs.session, expect))


def kinds(verdict: Verdict) -> list[str]:
    return [trouble.kind for trouble in verdict.troubles]


def write_some(session: Session, files: int = 3, name: str = "file") -> None:
    for n in range(files):
        session.write(b"/%s%d" % (name.encode(), n), b"content")
    session.flush_records()


def backdate(session: Session, days: int, records: int = 4) -> datetime:
    """Records of an operation that was so many days ago, as if the daemon had been cut off since; when it was."""
    s = session.fs.session
    now, caller = s.clock(), session.caller
    s.records += [(s.layer, now - days * DAY + n * 1000, "old", 1, f"/old/{days}/{n}", caller.uid, caller.pid, 0, 1) for n in range(records)]
    session.flush_records()
    return datetime.now(UTC) - timedelta(days=days)


def monday_of(moment: datetime) -> datetime:
    return (moment - timedelta(days=moment.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)


def make_week(superuser: Any, moment: datetime) -> str:
    """The partition that the week of that time would have had."""
    monday = monday_of(moment)
    name = f"audit_logs_{monday:%Y%m%d}"
    superuser.run(f"create table {name} partition of audit_logs for values from ('{monday}') to ('{monday + timedelta(days=7)}')")
    superuser.run(f"alter table {name} enable row level security, force row level security")
    superuser.run(f"alter table {name} owner to tarbox")
    return name


@pytest.fixture
def sealed(session: Session) -> Session:
    """A session whose trail has three seals over some records each."""
    for name in ("a", "b", "c"):
        write_some(session, name=name)
        seal(session)
    return session


# --- left alone


def test_what_was_left_alone_verifies(session: Session) -> None:
    empty = verify(session)
    assert (empty.records, empty.seals, empty.head, empty.troubles) == (0, 0, sealing.GENESIS, [])
    write_some(session)
    assert verify(session) == Verdict(unsealed=9)
    seal(session)
    first = verify(session)
    assert first == Verdict(seals=1, records=9, head=first.head) and first.head != sealing.GENESIS
    seal(session)
    assert verify(session) == first  # nothing new, so no seal
    write_some(session, name="more")
    assert verify(session) == replace(first, unsealed=9)
    seal(session)
    second = verify(session, first.head)
    assert (second.seals, second.records, second.unsealed, second.troubles) == (2, 18, 0, [])
    assert verify(session, sealing.GENESIS).troubles == [] and second.head != first.head


def test_a_backlog_is_sealed_in_pieces_and_verified_in_pages(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    write_some(session, 20)
    seal(session, 7)
    whole = verify(session)
    assert whole.seals >= 5 and whole.records == 60 and not whole.troubles
    monkeypatch.setattr(sealing, "SEALS_AT_ONCE", 2)
    assert verify(session) == whole
    monkeypatch.setattr(sealing, "RECORDS_AT_ONCE", 1)
    assert verify(session) == whole


def test_records_of_one_transaction_in_several_weeks(session: Session) -> None:
    s = session.fs.session
    for days in (0, 8, 40):
        s.records.append((s.layer, s.clock() - days * DAY, "old", 1, "/", 0, 0, 0, 0))
    session.flush_records()
    seal(session)
    found = verify(session)
    assert (found.seals, found.records, found.troubles) == (3, 3, [])


def test_an_open_transaction_is_waited_for_by_seals_alone(session: Session, superuser: Any, tenant: Tenant) -> None:
    write_some(session)
    superuser.run("begin")
    superuser.run("insert into audit_logs (tenant, layer, operation, uid, pid) values (:t, 1, 'slow', 0, 0)", t=tenant.info.id)
    write_some(session, name="later")  # nobody waits
    seal(session, left=9)
    meanwhile = verify(session)
    assert (meanwhile.records, meanwhile.unsealed) == (9, 9)
    superuser.run("commit")
    write_some(session, name="last")
    seal(session)
    found = verify(session, meanwhile.head)
    assert (found.records, found.unsealed, found.troubles) == (28, 0, [])


def test_one_seals_at_a_time(tenant: Tenant, sealed: Session) -> None:
    other = tenant.session()
    write_some(sealed, name="new")
    before = verify(sealed)
    op = sealing.seal(other.fs.session)
    with other.driver.wire() as wire:
        wire.execute(next(op).queries, begin=True)  # has the lock
        seal(sealed, left=9)
        assert verify(sealed) == before
    op.close()
    seal(sealed)
    assert verify(sealed).seals == before.seals + 1


# --- tampered with


def newest_sealed(superuser: Any, tenant: Tenant) -> tuple[int, int]:
    """The id and the transaction of a record under the second seal."""
    ((ident, xact),) = superuser.run(
        "select id, xact from audit_logs a join audit_seal s using (tenant) where tenant = :t and n = 2 and xact >= lo and xact < hi and operation = 'write'"
        " order by id desc limit 1", t=tenant.info.id,
    )  # fmt: skip
    return ident, xact


@pytest.mark.parametrize(
    ("tampering", "expected"),
    [
        ("delete from audit_logs where id = :id", "removed"),
        ("update audit_logs set path = '/innocent' where id = :id", "altered"),
        ("update audit_logs set metadata = '{}' where id = :id", "altered"),
        ("update audit_logs set created_at = created_at + interval '1 us' where id = :id", "altered"),
        ("update audit_logs set uid = 1000 where id = :id", "altered"),
        ("insert into audit_logs (tenant, layer, operation, uid, pid, xact) values (:t, 1, 'write', 0, 0, :xact)", "added"),
        ("insert into audit_logs (tenant, layer, operation, uid, pid, xact, created_at) values (:t, 1, 'write', 0, 0, :xact, '2001-01-01')", "added"),
        ("update audit_logs a set path = b.path from audit_logs b where a.tenant = :t and b.tenant = :t and a.operation = 'create' and b.operation = 'create'"
         " and a.xact <> b.xact and (a.path, b.path) in (('/b0', '/b1'), ('/b1', '/b0'))", "altered"),
    ],
)  # fmt: skip
def test_a_record_is_removed_altered_added_or_exchanged(sealed: Session, tenant: Tenant, superuser: Any, tampering: str, expected: str) -> None:
    ident, xact = newest_sealed(superuser, tenant)
    superuser.run(tampering, id=ident, xact=xact, t=tenant.info.id)
    assert superuser.row_count >= 1
    found = verify(sealed)
    (trouble,) = found.troubles
    assert trouble.kind == expected
    assert trouble.lo <= xact < trouble.hi and "week of 20" in str(trouble) and f"transactions {trouble.lo} to {trouble.hi - 1}" in str(trouble)
    seal(sealed)
    assert kinds(verify(sealed)) == [expected]


def test_a_record_that_moves_to_another_week(sealed: Session, tenant: Tenant, superuser: Any) -> None:
    ident, _ = newest_sealed(superuser, tenant)
    superuser.run("update audit_logs set created_at = created_at - interval '30 days' where id = :id", id=ident)
    assert sorted(kinds(verify(sealed))) == ["added", "removed"]


@pytest.mark.parametrize("n", [1, 2])
def test_a_seal_is_dropped(sealed: Session, tenant: Tenant, superuser: Any, n: int) -> None:
    superuser.run("delete from audit_seal where tenant = :t and n = :n", t=tenant.info.id, n=n)
    found = verify(sealed)
    assert kinds(found) == ["seal-missing", "added"]
    assert str(found.troubles[0]) == f"seals {n} to {n} are missing" and found.troubles[1].found == 9


@pytest.mark.parametrize(
    "column", ["digest = sha256('x')", "records = records + 1", "hi = hi - 1", "sealed_at = sealed_at - interval '1 day'", "week = week - interval '7 days'"]
)
def test_a_seal_is_altered(sealed: Session, tenant: Tenant, superuser: Any, column: str) -> None:
    superuser.run(f"update audit_seal set {column} where tenant = :t and n = 2", t=tenant.info.id)
    assert kinds(verify(sealed))[0] == "seal-altered"


def test_the_end_is_cut_off(sealed: Session, tenant: Tenant, superuser: Any) -> None:
    """A trail that ends early, or was rewritten from somewhere on, is sound in itself: only what was seen of it before can tell."""
    seen = verify(sealed)
    ((lo,),) = superuser.run("select lo from audit_seal where tenant = :t and n = 3", t=tenant.info.id)
    superuser.run("delete from audit_logs where tenant = :t and xact >= :lo", t=tenant.info.id, lo=lo)
    superuser.run("delete from audit_seal where tenant = :t and n = 3", t=tenant.info.id)
    write_some(sealed, name="after")
    seal(sealed)
    assert verify(sealed).troubles == []
    (trouble,) = verify(sealed, seen.head).troubles
    assert trouble.kind == "not-extended" and seen.head.hex() in str(trouble)


def test_long_runs_of_trouble_are_told_as_one(session: Session, tenant: Tenant, superuser: Any) -> None:
    write_some(session, 10)
    seal(session, 3)
    before = verify(session)
    superuser.run("delete from audit_logs where tenant = :t", t=tenant.info.id)
    (trouble,) = verify(session).troubles
    assert (trouble.kind, trouble.sealed, trouble.found) == ("removed", before.records, 0)


def test_a_tenant_cannot_be_at_its_seals(sealed: Session, tenant: Tenant, superuser: Any) -> None:
    superuser.run(f'set session authorization "{tenant.info.role}"')
    for statement in (
        "update audit_seal set n = n", "delete from audit_seal", "select tarbox_audit_prune(1, 0, 0)", "select tarbox_audit_ahead(1)",
        "insert into audit_logs (tenant, layer, operation, uid, pid, xact) select tarbox_tenant(), 1, 'x', 0, 0, 7",
    ):  # fmt: skip
        with pytest.raises(DatabaseError) as refused:
            superuser.run(statement)
        assert refused.value.args[0]["C"] == "42501", statement
    assert superuser.run("select count(*) from audit_seal") == [[3]]


# --- retention


def test_retention_takes_whole_weeks_and_what_is_left_verifies(session: Session, owner: SyncDriver, superuser: Any, tenant: Tenant) -> None:
    week = make_week(superuser, datetime.now(UTC) - timedelta(days=400))
    backdate(session, 400)
    backdate(session, 410)  # among those without a week of their own
    backdate(session, 393, 2)
    backdate(session, 100, 3)
    write_some(session)
    seal(session)
    before = verify(session)
    assert (before.records, before.troubles) == (22, [])
    pruned = owner.run(lambda: trail.prune(200, 12, 34))
    assert pruned.records >= 10 and pruned.before % (7 * DAY) == 4 * DAY  # a Monday, as 1970 began on a Thursday
    assert superuser.run("select to_regclass(:w)", w=week) == [[None]]
    assert superuser.run("select count(*) from audit_logs where operation = 'old' and tenant = :t", t=tenant.info.id) == [[3]]
    seal(session)
    found = verify(session, before.head)
    assert (found.records, found.pruned, found.unsealed, found.troubles) == (13, 10, 0, [])
    assert owner.run(lambda: trail.prune(200, 12, 34)).records == 0
    wanted = trail.Wanted(operations=["prune"])
    (told,) = session.run(lambda: trail.page(session.fs.session, wanted, trail.start(wanted), 10))
    day = datetime.fromtimestamp(pruned.before / 1e9, UTC).date().isoformat()
    assert (told.uid, told.pid, told.layer, told.metadata) == (12, 34, None, {"before": day, "records": 10, "records_ever": 10, "retention_days": 200})
    # What comes for such a week later is kept until the next time, and sealed as anything.
    backdate(session, 400, 2)
    seal(session)
    assert (verify(session).records, verify(session).troubles) == (15, [])
    superuser.run("delete from audit_logs where tenant = :t and path = '/old/400/0'", t=tenant.info.id)
    assert kinds(verify(session)) == ["removed"]
    backdate(session, 400, 1)
    owner.run(lambda: trail.prune(90, 0, 0))
    told = superuser.run("select metadata->>'records_ever' from audit_logs where tenant = :t and operation = 'prune' order by id", t=tenant.info.id)
    assert told == [["10"], ["15"]]


def test_retention_that_nobody_told_of_is_found(session: Session, owner: SyncDriver, superuser: Any, tenant: Tenant) -> None:
    week = make_week(superuser, datetime.now(UTC) - timedelta(days=60))
    backdate(session, 60)
    write_some(session)
    seal(session)
    superuser.run(f"drop table {week}")
    (trouble,) = verify(session).troubles
    assert (trouble.kind, trouble.sealed, trouble.found) == ("removed", 4, 0)
    backdate(session, 60, 3)
    seal(session)
    owner.run(lambda: trail.prune(30, 0, 0))
    (trouble,) = verify(session).troubles  # the week went rightly in the end, but not with these
    assert (trouble.kind, str(trouble)[:48]) == ("removed", "7 records are gone of weeks that retention has d") and "it found 3 there" in str(trouble)
    superuser.run("delete from audit_logs where operation = 'prune' and tenant = :t", t=tenant.info.id)
    assert set(kinds(verify(session))) == {"removed"}


def test_retention_does_not_queue_writers_behind_a_dump(session: Session, owner: SyncDriver, superuser: Any) -> None:
    week = make_week(superuser, datetime.now(UTC) - timedelta(days=800))
    backdate(session, 800)
    superuser.run("begin")
    superuser.run("lock table audit_logs in access share mode")
    with pytest.raises(TarboxError, match="held by a long transaction"):
        owner.run(lambda: trail.prune(700, 0, 0))
    superuser.run("commit")
    assert superuser.run("select count(*) from audit_logs where operation = 'prune' and metadata->>'retention_days' = '700'") == [[0]]
    assert owner.run(lambda: trail.prune(700, 0, 0)).records >= 4 and superuser.run("select to_regclass(:w)", w=week) == [[None]]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
def test_weeks_do_not_depend_on_a_time_zone(pg_server: PgServer, pg_url: str, zone: str) -> None:
    """Also beside weeks that were made when they did."""
    prepare(pg_url)
    connection = pg_server.connect(urlsplit(pg_url).path[1:], "tarbox")
    try:
        connection.run(f"set timezone = '{zone}'")
        connection.run("select tarbox_audit_ahead(2)")
        weeks = connection.run("select partition::text, since at time zone 'UTC', until at time zone 'UTC' from tarbox_audit_weeks() order by since")
        assert len(weeks) == 5
        for name, since, until in weeks:
            assert (since.weekday(), since.hour, since.minute) == (0, 0, 0) and until - since == timedelta(days=7) and name == f"audit_logs_{since:%Y%m%d}"
        end = weeks[-1][2]
        odd = end + timedelta(hours=5)
        connection.run(f"create table audit_logs_{end:%Y%m%d} partition of audit_logs for values from ('{odd}+00') to ('{odd + timedelta(days=7)}+00')")
        assert connection.run("select tarbox_audit_ahead(6)") == [[1]]
        weeks = connection.run("select since at time zone 'UTC', until at time zone 'UTC' from tarbox_audit_weeks() order by since desc limit 2")
        assert weeks == [[odd + timedelta(days=7), end + timedelta(days=14)], [odd, odd + timedelta(days=7)]]
    finally:
        connection.close()


# --- in a mount


def test_a_mount_seals_and_has_weeks_made_ahead(sealed: Session, schema_url: str, superuser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does each minute and every few hours; here at once."""
    monkeypatch.setattr(run, "_SEAL_EVERY", 0.0)
    monkeypatch.setattr(run, "_UPKEEP_EVERY", 0.0)
    ((last,),) = superuser.run("select partition::text from tarbox_audit_weeks() order by since desc limit 1")
    superuser.run(f"drop table {last}")
    write_some(sealed, name="new")
    serve = run._Serve(
        where="/nowhere", open_fs=lambda: (sealed.driver, sealed.fs), tenant="t", read_only=False, allow_other=False, transport="kernel",
        options=Options(), presence=None, upkeep=partial(upkeep, Config(), schema_url), checkpoint_every=None,
    )  # fmt: skip
    chores = serve._chores(sealed.fs, Verbs(sealed.fs, sealed.driver, time.time_ns))
    deadline = time.monotonic() + 30
    while verify(sealed).unsealed:
        chores.look()
        assert time.monotonic() < deadline
    assert verify(sealed).records == 36
    assert superuser.run("select partition::text from tarbox_audit_weeks() order by since desc limit 1") == [[last]]


# --- from before there were seals


def test_records_from_before_there_were_seals(pg_server: PgServer, pg_url: str, tmp_path: Path) -> None:
    """They carry the transaction that brought the column, and are sealed as if it had written them."""
    for migration in migrate.migrations()[:3]:
        (tmp_path / f"{migration.name}.sql").write_text(migration.sql)
    with SyncDriver(pg_url, pool_size=1) as driver:
        migrate.init(driver, tmp_path)
    connection = pg_server.connect(urlsplit(pg_url).path[1:])
    try:
        connection.run("insert into audit_logs (tenant, layer, operation, uid, pid, created_at) select 1, 1, 'x', 0, 0, now() - n * interval '1 day'"
                       " from generate_series(0, 9) n")  # fmt: skip
        tenant = Tenant(prepare(pg_url))
        assert tenant.info.id == 1
        session = tenant.session()
        write_some(session)
        seal(session)
        found = verify(session)
        assert (found.records, found.troubles) == (19, [])
        connection.run("delete from audit_logs where operation = 'x' and created_at < now() - interval '8.5 days'")
        assert kinds(verify(session)) == ["removed"]
        tenant.finish()
    finally:
        connection.close()


# --- restored


def test_a_dump_restored_where_transactions_begin_anew(session: Session, superuser: Any, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of before is one whose transactions are a million million further on."""
    ahead = 10**12
    monkeypatch.setattr(sql, "LAST", replace(sql.LAST, name="trail.last.ahead", sql=sql.LAST.sql.replace("::text::int8", f"::text::int8 + {ahead}")))
    write_some(session, name="before")
    superuser.run("update audit_logs set xact = xact + :a where tenant = :t", a=ahead, t=tenant.info.id)
    seal(session)
    write_some(session, 1, name="unsealed")
    superuser.run("update audit_logs set xact = xact + :a where tenant = :t and xact < :a", a=ahead, t=tenant.info.id)
    old = verify(session)
    assert (old.records, old.unsealed, old.troubles, old.servers) == (9, 3, [], 1)
    monkeypatch.undo()
    write_some(session, 2, name="after")
    seal(session)
    found = verify(session, old.head)
    assert (found.records, found.unsealed, found.troubles, found.servers) == (18, 0, [], 2)
    write_some(session, 2, name="later")
    seal(session)
    found = verify(session, found.head)
    assert (found.records, found.unsealed, found.troubles, found.servers) == (24, 0, [], 2)
    for path, kind in (("/before1", "removed"), ("/after1", "removed")):
        superuser.run("delete from audit_logs where tenant = :t and path = :p and operation = 'write'", t=tenant.info.id, p=path)
        assert verify(session).troubles[-1].kind == kind
    assert len(verify(session).troubles) == 2
    superuser.run("insert into audit_logs (tenant, id, layer, operation, uid, pid, xact) overriding system value"
                  " select tenant, -1, 1, 'x', 0, 0, max(xact) + 5 from audit_logs where tenant = :t group by tenant", t=tenant.info.id)  # fmt: skip
    assert len(verify(session).troubles) == 2  # no record has such an id


def test_a_restored_trail_with_nothing_unsealed(sealed: Session, superuser: Any, tenant: Tenant) -> None:
    superuser.run("update audit_seal set hi = hi + 1000000000000 where tenant = :t and n = 3", t=tenant.info.id)
    before = verify(sealed)
    assert kinds(before) == ["seal-altered"]  # the test's own doing
    for _ in range(2):
        write_some(sealed, 1, name="new")
        seal(sealed)
    found = verify(sealed)
    assert (found.servers, found.unsealed, kinds(found)) == (2, 0, ["seal-altered"])
