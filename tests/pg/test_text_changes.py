"""The record of a write tells how many lines of a text it changed, however it was written."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tarbox_core.delta.diff import count
from tarbox_core.errors import FsError
from tarbox_core.file import OpenFile
from tarbox_core.types import ROOT_INO
from tests.conftest import PgServer
from tests.pg.test_packing import lines
from tests.tenants import BLOCK, Session, Tenant

Changes = Callable[[], list[Any]]


@pytest.fixture
def changes(pg_server: PgServer, schema_url: str, tenant: Tenant) -> Iterator[Changes]:
    """What the write records since the last call say of the text."""
    connection = pg_server.connect(urlsplit(schema_url).path[1:])
    seen = 0

    def look() -> list[Any]:
        nonlocal seen
        rows = connection.run(
            "select id, metadata->'text_changes' from audit_logs where tenant = :t and operation = 'write' and id > :seen order by id",
            t=tenant.info.id, seen=seen,
        )
        seen = rows[-1][0] if rows else seen
        return [found for _, found in rows]

    yield look
    connection.close()


def text(added: int = 0, deleted: int = 0, modified: int = 0) -> dict[str, object]:
    return {"is_text_file": True, "lines_added": added, "lines_deleted": deleted, "lines_modified": modified}


BINARY = {"is_text_file": False}


def rewrite(session: Session, path: bytes, data: bytes) -> None:
    """As `>` does: one open that empties the file, and writes."""
    opened = session.open(path, write=True, truncate=True)
    session.run(lambda: opened.write(session.caller, 0, data))
    session.close(opened)


@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize("count_", [3, 2000])
def test_new_files(tenant: Tenant, changes: Changes, defer: bool, count_: int) -> None:
    session = tenant.session(defer=defer)
    contents = {b"terminated": b"".join(lines(count_)), b"not": b"".join(lines(count_))[:-1], b"binary": b"\0" * 10 + b"\n" * 5000}
    for name, content in contents.items():
        session.run(lambda: session.fs.getattr(ROOT_INO))
        with pytest.raises(FsError):
            session.run(lambda: session.fs.lookup(session.caller, ROOT_INO, name))  # noqa: B023
        opened = session.create(b"/" + name)
        assert isinstance(opened, OpenFile) and (opened.new is not None) == defer
        session.run(lambda: opened.write(session.caller, 0, content))  # noqa: B023
        session.close(opened)
        assert changes() == [BINARY if name == b"binary" else text(added=count_)]


def test_appending(session: Session, changes: Changes) -> None:
    session.write(b"/f", b"one\ntwo")
    session.write(b"/f", b" and a half\nthree\n", 7)
    session.write(b"/f", b"four\nfive\n", session.attr(b"/f").size)
    assert changes() == [text(added=2), text(added=1, modified=1), text(added=2)]
    content = b"".join(lines(2000))
    session.write(b"/f", content, session.attr(b"/f").size)
    session.write(b"/f", b"no newline", session.attr(b"/f").size)
    session.write(b"/f", b" yet\n", session.attr(b"/f").size)
    assert changes() == [text(added=2000), text(added=1), text(modified=1)]


def test_overwriting_in_place(session: Session, tenant: Tenant, changes: Changes) -> None:
    before = lines(3000)
    session.write(b"/f", b"".join(before))
    changes()
    place = sum(map(len, before[:1000]))
    for door in (session, tenant.session()):  # which has the blocks in memory, which has not
        before[1000] = before[1000].translate(bytes.maketrans(b"0123456789abcdef", b"123456789abcdef0"))
        door.write(b"/f", before[1000], place)
        assert changes() == [text(modified=1)]
    session.write(b"/f", before[1000], place)
    assert changes() == [text()]  # the same as before
    start = BLOCK * 4
    session.write(b"/f", b"".join(before)[start : start + 2 * BLOCK].swapcase(), start)
    new = bytearray(b"".join(before))
    new[start : start + 2 * BLOCK] = new[start : start + 2 * BLOCK].swapcase()
    expected = count(b"".join(before), bytes(new))
    assert changes() == [text(expected.added, expected.deleted, expected.modified)]


@pytest.mark.parametrize("count_", [40, 3000])
def test_rewriting(session: Session, tenant: Tenant, changes: Changes, count_: int) -> None:
    """What was there before the file was emptied counts, not what was there between."""
    old = lines(count_)
    session.write(b"/f", b"".join(old))
    changes()
    new = [*old[:5], b"inserted\n", b"as well\n", *old[5:20], b"instead\n", *old[21:30], *old[33:]]
    rewrite(session, b"/f", b"".join(new))
    assert changes() == [text(added=2, deleted=3, modified=1)]
    rewrite(tenant.session(), b"/f", b"".join(old))
    assert changes() == [text(added=3, deleted=2, modified=1)]
    rewrite(session, b"/f", b"short\n")
    assert changes() == [text(deleted=count_ - 1, modified=1)]
    session.truncate(b"/f", 0)
    session.write(b"/f", b"by name\n")  # nobody had it open meanwhile
    assert changes() == [text(added=1)]


def test_several_writes_to_one_open_file(session: Session, changes: Changes) -> None:
    old = lines(3000)
    session.write(b"/f", b"".join(old))
    opened = session.open(b"/f", write=True, truncate=True)
    session.run(lambda: opened.write(session.caller, 0, b"".join(old)))
    session.run(lambda: opened.flush(session.caller))
    session.run(lambda: opened.write(session.caller, opened.size, b"tail\n"))
    session.close(opened)
    assert changes() == [text(added=3000), text(), text(added=1)]


def test_what_is_too_large_to_compare(session: Session, changes: Changes) -> None:
    content = b"".join(lines(60_000))
    assert len(content) > 1 << 20
    session.write(b"/f", content)
    rewrite(session, b"/f", content[10:])
    assert changes() == [text(added=60_000), {"is_text_file": True}]
    rewrite(session, b"/f", random.Random(1).randbytes(100_000))
    assert changes() == [BINARY]


def test_copies_and_truncations_need_none(session: Session, changes: Changes) -> None:
    session.write(b"/f", b"".join(lines(50)))
    changes()
    session.truncate(b"/f", 10)
    session.rename(b"/f", b"/g")
    assert changes() == []


def test_without_the_audit_nothing_is_counted(tenant: Tenant, changes: Changes) -> None:
    session = tenant.session(audit=False)
    session.write(b"/f", b"one\n")
    session.write(b"/f", b"two\n", 4)
    assert changes() == []


def test_the_query_of_the_guide(session: Session, pg_server: PgServer, schema_url: str, tenant: Tenant) -> None:
    session.write(b"/config.yaml", b"a: 1\nb: 2\n")
    connection = pg_server.connect(urlsplit(schema_url).path[1:])
    rows = connection.run(
        """select path, (metadata->'text_changes'->>'lines_added')::int from audit_logs
        where tenant = :t and (metadata->'text_changes'->>'is_text_file')::bool""",
        t=tenant.info.id,
    )
    connection.close()
    assert rows == [["/config.yaml", 2]]
