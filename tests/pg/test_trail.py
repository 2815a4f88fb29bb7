"""Reading the audit trail: what is wanted, page by page, what is new, and sums."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tarbox_core import trail
from tarbox_core.trail import Record, Sum, Wanted
from tests.conftest import PgServer
from tests.tenants import Session, Tenant

HOUR = 3600 * 10**9


@pytest.fixture
def superuser(pg_server: PgServer, schema_url: str) -> Iterator[Any]:
    made = pg_server.connect(urlsplit(schema_url).path[1:])
    yield made
    made.close()


@pytest.fixture
def records(session: Session) -> Session:
    """A session with records of some minutes of work, at fixed times: (hours, operation, path, uid, result, bytes)."""
    s = session.fs.session
    for hours, operation, path, uid, result, size in (
        (100, "mkdir", "/data", 0, 0, 0), (101, "create", "/data/a", 0, 0, 0), (102, "write", "/data/a", 7, 0, 10), (103, "write", "/data2", 0, 0, 5),
        (104, "unlink", "/data/b", 7, errno.ENOENT, 0), (130, "read", "/", 0, 0, 100), (130, "open", None, 0, 0, 0), (131, "write", "/data/a", 0, 0, 1),
    ):  # fmt: skip
        s.records.append((s.layer, hours * HOUR, operation, 5, path, uid, 1, result, size))
    session.flush_records()
    return session


def found(session: Session, limit: int = 100, **wanted: Any) -> list[Record]:
    what = Wanted(**wanted)
    after = trail.start(what)
    listed: list[Record] = []
    while page := session.run(lambda: trail.page(session.fs.session, what, after, limit)):  # noqa: B023
        assert len(page) <= limit
        listed += page
        after = trail.place(page[-1])
    return listed


def hours(listed: list[Record]) -> list[int]:
    return [record.at // HOUR for record in listed]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [100, 101, 102, 103, 104, 130, 130, 131]),
        ({"since": 102 * HOUR}, [102, 103, 104, 130, 130, 131]),
        ({"until": 102 * HOUR}, [100, 101]),
        ({"since": 101 * HOUR, "until": 104 * HOUR}, [101, 102, 103]),
        ({"path": "/data"}, [100, 101, 102, 104, 131]),
        ({"path": "/data/"}, [100, 101, 102, 104, 131]),
        ({"path": "/data/a"}, [101, 102, 131]),
        ({"path": "/dat"}, []),
        ({"path": "/"}, [100, 101, 102, 103, 104, 130, 131]),
        ({"operations": ["write"]}, [102, 103, 131]),
        ({"operations": ["write", "unlink"], "uid": 7}, [102, 104]),
        ({"operations": []}, []),
        ({"layer": 1}, []),
    ],
)
def test_what_is_wanted(records: Session, wanted: dict[str, Any], expected: list[int]) -> None:
    assert hours(found(records, **wanted)) == expected
    assert hours(found(records, 1, **wanted)) == hours(found(records, 2, **wanted)) == expected


def test_the_newest(records: Session) -> None:
    s, wanted = records.fs.session, Wanted(path="/data")
    for count, expected in ((1, [131]), (3, [102, 104, 131]), (4, [101, 102, 104, 131])):
        after = records.run(lambda: trail.newest(s, wanted, count))  # noqa: B023
        assert after is not None
        assert hours(records.run(lambda: trail.page(s, wanted, after, 100))) == expected  # noqa: B023
    assert records.run(lambda: trail.newest(s, wanted, 5)) is None


def test_a_record_tells_its_layer_also_by_name(session: Session) -> None:
    session.mkdir(b"/dir")
    session.run(lambda: session.fs.checkpoint(session.caller, "monday"))
    first = session.run(lambda: session.fs.layer("monday"))
    session.mkdir(b"/dir2")
    here = session.run(lambda: session.fs.layer("head"))
    made = found(session, operations=["mkdir"])
    assert [(r.path, r.layer, r.layer_name) for r in made] == [("/dir", first.id, "monday"), ("/dir2", here.id, None)]
    assert [r.path for r in found(session, operations=["mkdir"], layer=first.stamp)] == ["/dir"]


def test_a_rename_belongs_to_both_paths(session: Session) -> None:
    session.mkdir(b"/old")
    session.mkdir(b"/new")
    session.write(b"/old/file", b"x")
    session.rename(b"/old/file", b"/new/other")
    for path in ("/old/file", "/old", "/new/other", "/new"):
        assert "rename" in [r.operation for r in found(session, path=path)], path
    assert "rename" not in [r.operation for r in found(session, path="/new/oth")]


def test_what_commits_late_is_told_once(session: Session, tenant: Tenant, superuser: Any, make_tenant: Callable[..., Tenant]) -> None:
    def insert(operation: str) -> None:
        superuser.run("insert into audit_logs (tenant, layer, operation, uid, pid) values (:t, 1, :o, 0, 0)", t=tenant.info.id, o=operation)

    def new() -> list[str]:
        nonlocal before
        before, records = session.run(lambda: trail.since(session.fs.session, Wanted(), before))
        return [record.operation for record in records]

    insert("early")
    before = session.run(lambda: trail.snapshot(session.fs.session))
    assert new() == []
    superuser.run("begin")
    insert("slow")
    session.mkdir(b"/dir")
    make_tenant().session().mkdir(b"/not-mine")
    assert new() == ["mkdir"]
    assert new() == []
    superuser.run("commit")
    session.mkdir(b"/dir2")
    assert new() == ["slow", "mkdir"]
    assert new() == []
    superuser.run("begin")
    insert("undone")
    superuser.run("rollback")
    assert new() == []
    # What a restored dump brings has transactions that this server will only come to.
    superuser.run("insert into audit_logs (tenant, layer, operation, uid, pid, xact) values (:t, 1, 'restored', 0, 0, 1000000000000)", t=tenant.info.id)
    assert new() == [] and new() == []
    assert "restored" in [r.operation for r in found(session)]


def test_what_is_new_is_filtered_as_what_is_old(session: Session) -> None:
    before = session.run(lambda: trail.snapshot(session.fs.session))
    session.mkdir(b"/a")
    session.write(b"/a/file", b"x")
    _, records = session.run(lambda: trail.since(session.fs.session, Wanted(path="/a", operations=["write"]), before))
    assert [(r.operation, r.path, r.bytes) for r in records] == [("write", "/a/file", 1)]


def test_sums(records: Session) -> None:
    report = records.run(lambda: trail.report(records.fs.session, Wanted(), 2))
    assert list(report.times) == [h * HOUR for h in (100, 101, 102, 103, 104, 130, 131)]
    assert report.times[102 * HOUR] == Sum(1, 10, 0) and report.times[104 * HOUR] == Sum(1, 0, 1) and report.times[130 * HOUR] == Sum(2, 100, 0)
    assert next(iter(report.operations.items())) == ("write", Sum(3, 16, 0)) and report.operations["unlink"] == Sum(1, 0, 1)
    assert sum(total.records for total in report.operations.values()) == 8
    assert list(report.paths.items()) == [("/data/a", Sum(3, 11, 0)), ("/", Sum(1, 100, 0))]
    narrow = records.run(lambda: trail.report(records.fs.session, Wanted(uid=7), 5))
    assert narrow.operations == {"write": Sum(1, 10, 0), "unlink": Sum(1, 0, 1)} and list(narrow.paths) == ["/data/a", "/data/b"]
