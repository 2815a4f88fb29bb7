"""fsck names every kind of damage and mends what it says it mends; gc takes nothing that anyone needs."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tarbox_core import check
from tarbox_core.errors import FsError
from tarbox_core.types import ROOT_INO
from tests.conftest import PgServer
from tests.tenants import BLOCK, ROOT, Session, Tenant

CONTENT = random.Random(0).randbytes(3 * BLOCK)


class Vandal:
    """Changes rows behind the back of the core."""

    def __init__(self, connection: Any, tenant: Tenant) -> None:
        self._connection = connection
        self._tenant = tenant

    def __call__(self, sql: str, **values: object) -> None:
        """A statement that must change at least one row; `:t` is the tenant."""
        self._tenant.damaged = True
        self._connection.run(sql, t=self._tenant.info.id, **values)
        assert self._connection.row_count > 0, "the damage was not done"


@pytest.fixture
def vandal(pg_server: PgServer, schema_url: str, tenant: Tenant) -> Iterator[Vandal]:
    connection = pg_server.connect(urlsplit(schema_url).path[1:])
    yield Vandal(connection, tenant)
    connection.close()


@pytest.fixture
def inos(session: Session) -> dict[str, int]:
    """A small tree; the inode numbers by name."""
    found = {"dir": session.mkdir(b"/dir").ino, "sub": session.mkdir(b"/dir/sub").ino}
    found["file"] = session.write(b"/dir/file", CONTENT)
    found["small"] = session.write(b"/small", b"small")
    session.link(b"/small", b"/dir/also")
    found["link"] = session.symlink(b"small", b"/link").ino
    session.run(lambda: session.fs.setxattr(ROOT, found["file"], b"user.x", b"y"))
    return found


def kinds(findings: list[check.Finding]) -> list[tuple[str, int]]:
    return [(finding.kind, finding.ino) for finding in findings]


def mended(tenant: Tenant, *expected: tuple[str, int]) -> None:
    """fsck finds this and only this, repairing says what it did to each, and afterwards all is well."""
    assert kinds(tenant.fsck()) == list(expected)
    repaired = tenant.fsck(repair=True)
    assert kinds(repaired)[: len(expected)] == list(expected)
    assert all(finding.repaired for finding in repaired), repaired
    assert tenant.fsck() == []
    tenant.damaged = False


def test_a_sound_tree_has_no_findings(tenant: Tenant, inos: dict[str, int]) -> None:
    assert tenant.fsck() == []
    assert tenant.fsck(repair=True) == []
    blocks: list[int] = []
    session = tenant.session()
    session.run(lambda: check.fsck(session.fs, progress=blocks.append))
    assert sum(blocks) == 3


def test_a_name_without_inode(tenant: Tenant, session: Session, inos: dict[str, int], vandal: Vandal) -> None:
    vandal("delete from inode where tenant = :t and ino = :i", i=inos["link"])
    mended(tenant, ("dangling-name", inos["link"]))
    assert session.names() == [b"dir", b"small"]


def test_an_inode_without_name(tenant: Tenant, session: Session, inos: dict[str, int], vandal: Vandal) -> None:
    vandal("delete from dentry where tenant = :t and ino = :i", i=inos["file"])
    mended(tenant, ("nameless", inos["file"]))
    assert session.read(b"/lost+found/#%d" % inos["file"]) == CONTENT


def test_a_directory_without_name_comes_back_with_what_it_holds(tenant: Tenant, session: Session, inos: dict[str, int], vandal: Vandal) -> None:
    vandal("delete from dentry where tenant = :t and ino = :i", i=inos["dir"])
    findings = tenant.fsck()
    assert ("nameless", inos["dir"]) in kinds(findings)
    assert all(finding.repaired for finding in tenant.fsck(repair=True))
    assert tenant.fsck() == []
    tenant.damaged = False
    path = b"/lost+found/#%d" % inos["dir"]
    assert session.read(path + b"/file") == CONTENT and session.attr(path + b"/..").ino == session.attr(b"/lost+found").ino
    session.write(path + b"/sub/new", b"x")


@pytest.mark.parametrize("name, wrong", [("small", 1), ("small", 7), ("dir", 2), ("dir", 9), ("file", 2)])
def test_wrong_link_counts(tenant: Tenant, session: Session, inos: dict[str, int], vandal: Vandal, name: str, wrong: int) -> None:
    right = session.run(lambda: session.fs.getattr(inos[name])).nlink
    vandal("update inode set nlink = :n where tenant = :t and ino = :i", i=inos[name], n=wrong)
    mended(tenant, ("wrong-links", inos[name]))
    assert session.run(lambda: session.fs.getattr(inos[name])).nlink == right


def test_wrong_link_count_of_the_root(tenant: Tenant, inos: dict[str, int], vandal: Vandal) -> None:
    vandal("update inode set nlink = 12 where tenant = :t and ino = 1")
    mended(tenant, ("wrong-links", ROOT_INO))


def test_a_wrong_parent(tenant: Tenant, session: Session, inos: dict[str, int], vandal: Vandal) -> None:
    vandal("update inode set parent = 1 where tenant = :t and ino = :i", i=inos["sub"])
    mended(tenant, ("wrong-parent", inos["sub"]))
    assert session.attr(b"/dir/sub/..").ino == session.attr(b"/dir").ino


def test_a_wrong_type(tenant: Tenant, inos: dict[str, int], vandal: Vandal) -> None:
    vandal("update dentry set kind = 4 where tenant = :t and ino = :i", i=inos["link"])
    findings = tenant.fsck()
    assert [finding.kind for finding in findings] == ["wrong-type"] and str(inos["link"]) in findings[0].text
    assert tenant.fsck(repair=True)[0].repaired
    assert tenant.fsck() == []


def test_an_unlinked_inode_left_behind(tenant: Tenant, session: Session, inos: dict[str, int], vandal: Vandal) -> None:
    vandal("delete from dentry where tenant = :t and ino = :i", i=inos["file"])
    vandal("update inode set nlink = 0 where tenant = :t and ino = :i", i=inos["file"])
    assert tenant.fsck(alone=False) == []  # another door may have it open
    mended(tenant, ("unlinked", inos["file"]))
    assert not session.exists(b"/dir/file")


def test_a_missing_block_is_named_and_reading_it_fails(tenant: Tenant, session: Session, inos: dict[str, int], vandal: Vandal) -> None:
    vandal("delete from block where tenant = :t and hash = (select substr(hashes, 33, 32) from extent where tenant = :t and ino = :i)", i=inos["file"])
    for repair in (False, True):
        (finding,) = tenant.fsck(repair=repair)
        assert (finding.kind, finding.ino, finding.repaired) == ("missing-block", inos["file"], None)
        assert "block 1 " in finding.text
    fresh = tenant.session()
    with pytest.raises(FsError) as error:
        fresh.read(b"/dir/file")
    assert error.value.errno == errno.EIO
    opened = fresh.open(b"/dir/file", write=True)
    assert fresh.run(lambda: opened.read(ROOT, 2 * BLOCK, BLOCK)) == CONTENT[2 * BLOCK :]  # the rest is there
    fresh.run(lambda: opened.write(ROOT, BLOCK + 5, b"x"))
    with pytest.raises(FsError) as error:  # what stays of the block cannot be had
        fresh.run(lambda: opened.flush(ROOT))
    assert error.value.errno == errno.EIO
    fresh.run(lambda: opened.write(ROOT, BLOCK, CONTENT[BLOCK : 2 * BLOCK]))
    fresh.close(opened)  # a block written whole is whole again
    assert fresh.read(b"/dir/file") == CONTENT
    assert tenant.fsck() == []
    tenant.damaged = False


def test_a_corrupt_block_is_named_with_its_users(tenant: Tenant, inos: dict[str, int], vandal: Vandal) -> None:
    vandal(
        "update block set data = set_byte(data, 7, get_byte(data, 7) # 1) where tenant = :t"
        " and hash = (select substr(hashes, 65, 32) from extent where tenant = :t and ino = :i)", i=inos["file"],
    )  # fmt: skip
    for repair in (False, True):
        (finding,) = tenant.fsck(repair=repair)
        assert (finding.kind, finding.ino, finding.repaired) == ("corrupt-block", inos["file"], None)
        assert f"used by {inos['file']}" in finding.text


@pytest.mark.parametrize("more, where", [(2, 0), (1, 5)], ids=["in the last chunk", "in a chunk behind it"])
def test_extents_past_the_end(tenant: Tenant, session: Session, inos: dict[str, int], vandal: Vandal, more: int, where: int) -> None:
    if where:
        vandal("insert into extent select tenant, ino, chunk + :w, layer, hashes from extent where tenant = :t and ino = :i", i=inos["file"], w=where)
    else:
        vandal("update extent set hashes = hashes || substr(hashes, 1, 32 * :m) where tenant = :t and ino = :i", i=inos["file"], m=more)
    mended(tenant, ("past-end", inos["file"]))
    assert session.read(b"/dir/file") == CONTENT


def test_a_wrong_number_of_stored_bytes(tenant: Tenant, session: Session, inos: dict[str, int], vandal: Vandal) -> None:
    vandal("update inode set blocks = 5 where tenant = :t and ino = :i", i=inos["file"])
    mended(tenant, ("wrong-blocks", inos["file"]))
    assert session.attr(b"/dir/file").blocks == 3 * BLOCK


@pytest.mark.parametrize("change, name", [("inline = 'shrt'", "small"), ("inline = null", "small"), ("size = 77", "link"), ("target = null", "link")])
def test_content_in_the_wrong_place_or_of_the_wrong_length(tenant: Tenant, inos: dict[str, int], vandal: Vandal, change: str, name: str) -> None:
    vandal(f"update inode set {change} where tenant = :t and ino = :i", i=inos[name])
    assert ("wrong-content", inos[name]) in kinds(tenant.fsck())


def test_strays(tenant: Tenant, inos: dict[str, int], vandal: Vandal) -> None:
    vandal("delete from dentry where tenant = :t and ino = :i", i=inos["file"])
    vandal("delete from inode where tenant = :t and ino = :i", i=inos["file"])
    (finding,) = tenant.fsck()
    assert finding.kind == "stray" and str(inos["file"]) in finding.text
    assert tenant.fsck(repair=True)[0].repaired
    assert tenant.fsck() == []
    assert tenant.gc().blocks == 3
    tenant.damaged = False


def test_several_kinds_of_damage_at_once(tenant: Tenant, session: Session, inos: dict[str, int], vandal: Vandal) -> None:
    vandal("update inode set nlink = nlink + 3, blocks = blocks + 1 where tenant = :t and nlink > 0 and mode & 61440 = 32768")
    vandal("delete from dentry where tenant = :t and ino in (:a, :b)", a=inos["sub"], b=inos["link"])
    vandal("update dentry set kind = 1 where tenant = :t and ino = :i", i=inos["small"])
    found = {finding.kind for finding in tenant.fsck()}
    assert found == {"nameless", "wrong-type", "wrong-links", "wrong-blocks"}
    assert all(finding.repaired for finding in tenant.fsck(repair=True))
    assert tenant.fsck() == []
    assert session.read(b"/small") == b"small" and session.read(b"/dir/file") == CONTENT
    tenant.damaged = False


def test_repair_is_recorded(tenant: Tenant, inos: dict[str, int], vandal: Vandal, pg_server: PgServer) -> None:
    vandal("update inode set nlink = 12 where tenant = :t and ino = 1")
    tenant.fsck(repair=True)
    vandal("update audit_logs set pid = pid where tenant = :t and operation = 'fsck' and metadata = '{\"repaired\": 1}'")


def test_a_read_only_session_does_not_repair(tenant: Tenant) -> None:
    session = tenant.session(read_only=True)
    with pytest.raises(FsError) as error:
        session.run(lambda: check.fsck(session.fs, repair=True))
    assert error.value.errno == errno.EROFS
    with pytest.raises(FsError) as error:
        session.run(lambda: check.gc(session.fs))
    assert error.value.errno == errno.EROFS
    assert session.run(lambda: check.fsck(session.fs)) == []


# --- gc


def test_gc_removes_blocks_that_no_file_names_and_no_other(tenant: Tenant, session: Session) -> None:
    shared, own = CONTENT[:BLOCK], CONTENT[BLOCK:]
    session.write(b"/one", shared + own)
    session.write(b"/two", shared + bytes(BLOCK) + b"tail")
    assert tenant.gc().blocks == 0
    session.unlink(b"/one")
    swept = tenant.gc()
    assert (swept.blocks, swept.bytes) == (2, 2 * BLOCK)
    assert tenant.session().read(b"/two") == shared + bytes(BLOCK) + b"tail"
    session.truncate(b"/two", 0)
    assert tenant.gc().blocks > 0
    assert tenant.gc() == check.Swept(0, 0, 0, 0)


def test_gc_leaves_what_a_session_has_open(tenant: Tenant) -> None:
    session = tenant.session(alone=True)
    session.write(b"/file", CONTENT)
    opened = session.open(b"/file", write=True)
    session.unlink(b"/file")
    swept = session.run(lambda: check.gc(session.fs))
    assert swept == check.Swept(0, 0, 0, 0)
    assert session.run(lambda: opened.read(ROOT, 0, 1 << 20)) == CONTENT
    session.close(opened)
    assert session.run(lambda: check.gc(session.fs)).blocks == 3


def test_fsck_leaves_what_a_session_has_open(tenant: Tenant) -> None:
    session = tenant.session(alone=True)
    session.write(b"/file", CONTENT)
    opened = session.open(b"/file")
    session.unlink(b"/file")
    assert session.run(lambda: check.fsck(session.fs, repair=True)) == []
    assert session.run(lambda: opened.read(ROOT, 0, 1 << 20)) == CONTENT
    assert kinds(tenant.fsck()) == [("unlinked", opened.ino)]  # who takes itself to be alone need not think of it
    session.close(opened)
    assert tenant.fsck() == []


def test_reap_removes_what_a_dead_door_left_open(tenant: Tenant) -> None:
    door = tenant.session(alone=False)
    door.write(b"/file", CONTENT)
    door.open(b"/file")
    door.unlink(b"/file")
    tenant.lose(door)
    other = tenant.session(alone=True)
    assert [finding.kind for finding in other.run(lambda: check.fsck(other.fs))] == ["unlinked"]
    assert other.run(lambda: check.reap(other.fs)) == 1
    assert other.run(lambda: check.reap(other.fs)) == 0


def test_gc_races_with_writers_of_the_same_content(tenant: Tenant) -> None:
    """Writers store, remove and store again a few blocks that are always about to be unreferenced."""
    blocks = [random.Random(seed).randbytes(BLOCK) for seed in range(6)]
    expected: dict[bytes, bytes] = {}
    troubles: list[BaseException] = []
    swept: list[int] = []
    stop = threading.Event()

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                troubles.append(error)
                stop.set()

        return run

    def collect() -> None:
        session = tenant.session(alone=False)
        while not stop.is_set():
            swept.append(session.run(lambda: check.gc(session.fs)).blocks)

    def write(number: int) -> None:
        session = tenant.session(alone=False)
        choose = random.Random(number)
        for step in range(80):
            path = b"/%d-%d" % (number, choose.randrange(3))
            content = b"".join(choose.choices(blocks, k=choose.randrange(3, 6)))
            if choose.random() < 0.3 and session.exists(path):
                session.unlink(path)
                expected.pop(path)
            else:
                if session.exists(path):
                    session.truncate(path, choose.choice([0, BLOCK + 1]))
                session.write(path, content)
                expected[path] = content
            if step % 5 == 0 and path in expected:
                assert session.read(path) == expected[path]

    collector = threading.Thread(target=guarded(collect))
    writers = [threading.Thread(target=guarded(lambda number=number: write(number))) for number in range(4)]  # type: ignore[misc]
    for thread in (collector, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    collector.join()
    assert troubles == []
    assert sum(swept) > 0 and len(swept) > 5, "nothing was collected while the writers were at work"
    reader = tenant.session()
    assert {path: reader.read(path) for path in expected} == expected
    assert sorted(b"/" + name for name in reader.names()) == sorted(expected)
