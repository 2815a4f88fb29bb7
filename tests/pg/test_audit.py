"""The audit trail: one record for each mutation, committed with it; reads and failures in batches."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tarbox_core.effects import Op
from tarbox_core.errors import FsError, RetryableError
from tarbox_core.types import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, RENAME_EXCHANGE, ROOT_INO, Caller
from tests.conftest import PgServer
from tests.tenants import BLOCK, Session, Tenant

WHO = Caller(1234, 1234, (), 98765)


class Record(NamedTuple):
    operation: str
    ino: int
    path: str | None
    uid: int
    pid: int
    result: int
    bytes: int
    metadata: Any
    layer: int


class Trail:
    """What is recorded of a tenant; each look tells what came since the last."""

    def __init__(self, connection: Any, tenant: Tenant) -> None:
        self._connection = connection
        self._tenant = tenant
        self._seen = 0
        self.new()

    def new(self) -> list[Record]:
        rows = self._connection.run(
            "select id, operation, inode_id, path, uid, pid, result, bytes, metadata, layer from audit_logs where tenant = :t and id > :s order by id",
            t=self._tenant.info.id, s=self._seen,
        )  # fmt: skip
        self._seen = rows[-1][0] if rows else self._seen
        return [Record(*row[1:]) for row in rows]


@pytest.fixture
def session(tenant: Tenant) -> Session:
    return tenant.session(caller=WHO)


@pytest.fixture
def trail(pg_server: PgServer, schema_url: str, tenant: Tenant, session: Session) -> Iterator[Trail]:
    connection = pg_server.connect(urlsplit(schema_url).path[1:])
    yield Trail(connection, tenant)
    connection.close()


def test_each_mutation_leaves_one_record(session: Session, trail: Trail) -> None:
    fs = session.fs

    def one(verb: Callable[[], object], operation: str, ino: int, path: str, bytes: int = 0, metadata: object = None) -> None:
        verb()
        assert trail.new() == [Record(operation, ino, path, 1234, 98765, 0, bytes, metadata, fs.session.layer)]

    directory = session.mkdir(b"/dir")
    assert trail.new() == [Record("mkdir", directory.ino, "/dir", 1234, 98765, 0, 0, None, fs.session.layer)]
    opened = session.create(b"/dir/file")
    (made,) = trail.new()
    assert (made.operation, made.ino, made.path) == ("create", opened.ino, "/dir/file")
    ino = opened.ino
    no_text = {"text_changes": {"is_text_file": False}}  # because of the zeros between
    session.run(lambda: opened.write(WHO, 0, b"x" * 10))
    session.run(lambda: opened.write(WHO, 20, b"y" * 3 * BLOCK))
    assert trail.new() == []  # not stored yet
    one(lambda: session.run(lambda: opened.flush(WHO)), "write", ino, "/dir/file", bytes=10 + 3 * BLOCK, metadata=no_text)
    one(lambda: session.run(lambda: opened.fsync(WHO), durable=True), "fsync", ino, "/dir/file")
    one(lambda: session.run(lambda: opened.truncate(WHO, 5)), "truncate", ino, "/dir/file", metadata={"size": [20 + 3 * BLOCK, 5]})
    punch = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE
    one(lambda: session.run(lambda: opened.fallocate(WHO, punch, 0, 2)), "fallocate", ino, "/dir/file", metadata={"size": [5, 5]})
    session.close(opened)
    one(lambda: session.truncate(b"/dir/file", 7), "truncate", ino, "/dir/file", metadata={"size": [5, 7]})
    one(lambda: session.link(b"/dir/file", b"/other"), "link", ino, "/other")
    session.rename(b"/other", b"/dir/moved")
    assert trail.new() == [Record("rename", ino, "/other", 1234, 98765, 0, 0, {"to": "/dir/moved"}, fs.session.layer)]
    link = session.symlink(b"x", b"/link").ino
    assert [(r.operation, r.ino, r.path) for r in trail.new()] == [("symlink", link, "/link")]
    session.rename(b"/link", b"/dir/file", RENAME_EXCHANGE)
    assert [(r.operation, r.path, r.metadata) for r in trail.new()] == [("rename", "/link", {"to": "/dir/file", "exchange": True})]
    one(lambda: session.unlink(b"/dir/file"), "unlink", link, "/dir/file")
    one(lambda: session.run(lambda: fs.setattr(WHO, ino, mode=0o600)), "chmod", ino, "/link", metadata={"mode": ["100644", "100600"]})
    one(lambda: session.run(lambda: fs.setattr(WHO, ino, uid=5, gid=6)), "chown", ino, "/link", metadata={"uid": [1234, 5], "gid": [1234, 6]})
    mtime = session.attr(b"/link").mtime
    one(lambda: session.run(lambda: fs.setattr(WHO, ino, mtime=77)), "utimens", ino, "/link", metadata={"mtime": [mtime, 77]})
    one(lambda: session.run(lambda: fs.setxattr(WHO, ino, b"user.x", b"abc")), "setxattr", ino, "/link", bytes=3, metadata={"name": "user.x"})
    one(lambda: session.run(lambda: fs.removexattr(WHO, ino, b"user.x")), "removexattr", ino, "/link", metadata={"name": "user.x"})
    fifo = session.run(lambda: fs.mknod(WHO, ROOT_INO, b"fifo", 0o010644))
    assert [(r.operation, r.ino) for r in trail.new()] == [("mknod", fifo.ino)]
    one(lambda: session.unlink(b"/dir/moved"), "unlink", ino, "/dir/moved")
    one(lambda: session.rmdir(b"/dir"), "rmdir", directory.ino, "/dir")


def test_a_file_made_and_written_while_it_waited_is_recorded_as_both(tenant: Tenant, trail: Trail) -> None:
    session = tenant.session(caller=WHO, defer=True)
    with pytest.raises(FsError):
        session.run(lambda: session.fs.lookup(WHO, ROOT_INO, b"file"))
    session.run(lambda: session.fs.getattr(ROOT_INO))
    _, opened = session.run(lambda: session.fs.create(WHO, ROOT_INO, b"file", 0o644, exclusive=True))
    session.run(lambda: opened.write(WHO, 0, b"content"))
    session.run(lambda: session.fs.setattr(WHO, opened.ino, mode=0o600))
    assert trail.new() == []
    session.close(opened)
    assert [(r.operation, r.path, r.bytes, r.uid, r.pid) for r in trail.new()] == [
        ("create", "/file", 0, 1234, 98765), ("chmod", "/file", 0, 1234, 98765), ("write", "/file", 7, 1234, 98765),
    ]  # fmt: skip


def test_names_that_are_not_text_are_recorded_readably(session: Session, trail: Trail) -> None:
    session.mkdir(b"/caf\xc3\xa9\xff\n")
    assert trail.new()[0].path == "/café\\xff\n"


def test_reads_are_recorded_in_batches(session: Session, trail: Trail) -> None:
    session.mkdir(b"/dir")
    ino = session.write(b"/dir/file", b"x" * 10_000)
    session.flush_records()
    trail.new()
    session.read(b"/dir/file")
    session.names(b"/dir")
    assert trail.new() == []
    session.run(lambda: session.fs.flush_records(all=False))
    assert trail.new() == []  # not a batch yet
    session.flush_records()
    records = trail.new()
    assert [(r.operation, r.path, r.bytes) for r in records] == [("open", "/dir/file", 0), ("read", "/dir/file", 10_000), ("readdir", "/dir", 0)]
    assert {(r.uid, r.pid, r.result) for r in records} == {(1234, 98765, 0)} and records[1].ino == ino
    session.flush_records()
    assert trail.new() == []


def test_reads_and_writes_are_their_callers_also_when_others_end_them(session: Session, trail: Trail) -> None:
    """The kernel does not say who releases a file, and a flush in the background is nobody's."""
    ino = session.write(b"/file", b"x" * 100)
    session.flush_records()
    trail.new()
    one, two, nobody = Caller(1000, 1000, (), 11), Caller(2000, 2000, (), 22), Caller()
    opened = session.run(lambda: session.fs.open(one, ino, write=True))
    session.run(lambda: opened.read(one, 0, 10))
    session.run(lambda: opened.read(one, 10, 10))
    session.run(lambda: opened.read(two, 0, 5))
    session.run(lambda: opened.write(two, 0, b"abc"))
    session.run(lambda: opened.flush(nobody))
    session.run(lambda: opened.release(nobody))
    session.flush_records()
    assert [(r.operation, r.uid, r.pid, r.bytes) for r in trail.new() if r.operation != "open"] == [
        ("write", 2000, 22, 3), ("read", 1000, 11, 20), ("read", 2000, 22, 5),
    ]  # fmt: skip


def test_a_full_batch_is_written_when_asked_for(tenant: Tenant, trail: Trail) -> None:
    session = tenant.session(caller=WHO, audit_batch=5)
    session.write(b"/file", b"x")
    session.flush_records()
    trail.new()
    for _ in range(4):
        session.names()
    session.run(lambda: session.fs.flush_records(all=False))
    assert trail.new() == []
    session.names()
    session.run(lambda: session.fs.flush_records(all=False))
    assert [r.operation for r in trail.new()] == ["readdir"] * 5


def test_a_batch_tells_of_each_record_the_layer_it_was_made_in(session: Session, trail: Trail) -> None:
    session.write(b"/file", b"x")
    first = session.fs.session.layer
    session.read(b"/file")
    session.run(lambda: session.fs.checkpoint(WHO, "between"))
    session.read(b"/file")
    session.flush_records()
    assert [r.layer for r in trail.new() if r.operation == "read"] == [first, first + 1]


def test_failures_are_recorded_with_their_errno(session: Session, trail: Trail) -> None:
    session.mkdir(b"/dir")
    session.write(b"/dir/file", b"x")
    session.flush_records()
    trail.new()
    for verb in (
        lambda: session.mkdir(b"/dir"), lambda: session.rmdir(b"/dir"), lambda: session.unlink(b"/none"), lambda: session.rename(b"/none", b"/x"),
        lambda: session.truncate(b"/dir", 0),
    ):  # fmt: skip
        with pytest.raises(FsError):
            verb()
    assert trail.new() == []
    session.flush_records()
    assert [(r.operation, r.path, r.result, r.uid, r.pid) for r in trail.new()] == [
        (operation, path, result, 1234, 98765)
        for operation, path, result in (
            ("mkdir", "/dir", errno.EEXIST), ("rmdir", "/dir", errno.ENOTEMPTY), ("unlink", "/none", errno.ENOENT),
            ("rename", "/none", errno.ENOENT), ("truncate", "/dir", errno.EISDIR),
        )
    ]  # fmt: skip


def failing_at_its_end(factory: Callable[[], Op[object]]) -> Callable[[], Op[object]]:
    """The operation, refused by the database at its last batch until the driver gives up."""

    def run() -> Op[object]:
        op = factory()
        batch = next(op)
        while True:
            rows = yield (batch if not batch.final else type(batch)(batch.queries))
            if batch.final:
                raise FsError(errno.EIO)
            batch = op.send(rows)

    return run


def test_what_is_rolled_back_leaves_no_record(session: Session, trail: Trail) -> None:
    session.write(b"/file", b"x")
    session.flush_records()
    trail.new()
    fs = session.fs
    for factory in (
        lambda: fs.mkdir(WHO, ROOT_INO, b"dir", 0o755), lambda: fs.unlink(WHO, ROOT_INO, b"file"), lambda: fs.rename(WHO, ROOT_INO, b"file", ROOT_INO, b"x"),
    ):  # fmt: skip
        with pytest.raises(FsError):
            session.run(failing_at_its_end(factory))  # type: ignore[arg-type]
    assert trail.new() == []
    assert session.names() == [b"file"]


def test_what_was_run_twice_is_recorded_once(session: Session, trail: Trail) -> None:
    disturbed = iter([True, False])

    def factory() -> Op[object]:
        op = session.fs.mkdir(WHO, ROOT_INO, b"dir", 0o755)
        if next(disturbed):
            batch = next(op)
            while not batch.final:
                batch = op.send((yield batch))
            yield type(batch)(batch.queries)
            raise RetryableError("40001", "for the test")
        return (yield from op)

    session.run(factory)
    assert [(r.operation, r.result) for r in trail.new()] == [("mkdir", 0)]


def test_records_that_could_not_be_written_wait_for_the_next_try(session: Session, trail: Trail) -> None:
    session.names()
    session.flush_records()
    trail.new()
    session.names()
    with pytest.raises(FsError):
        session.run(failing_at_its_end(lambda: session.fs.flush_records()))
    session.flush_records()
    assert [r.operation for r in trail.new()] == ["readdir"]


def test_without_audit_nothing_is_recorded(tenant: Tenant, trail: Trail) -> None:
    session = tenant.session(audit=False)
    session.mkdir(b"/dir")
    session.write(b"/dir/file", b"x" * 3 * BLOCK)
    session.read(b"/dir/file")
    session.rename(b"/dir/file", b"/file")
    session.truncate(b"/file", 5)
    session.unlink(b"/file")
    session.rmdir(b"/dir")
    with pytest.raises(FsError):
        session.rmdir(b"/dir")
    session.flush_records()
    session.run(lambda: session.fs.sync(WHO), durable=True)
    assert trail.new() == []


def test_records_lie_in_the_partition_of_their_week(session: Session, pg_server: PgServer, schema_url: str) -> None:
    session.mkdir(b"/dir")
    connection = pg_server.connect(urlsplit(schema_url).path[1:])
    try:
        tables = {name for (name,) in connection.run("select distinct tableoid::regclass::text from audit_logs")}
        assert len(tables) == 1 and "audit_logs_other" not in tables
    finally:
        connection.close()
