"""`with tree.transaction()`: all or nothing, seen by itself alone, whatever happens inside."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

import tarbox_core
from tarbox_core.client.tree import Tree
from tarbox_core.drivers.dsn import parse_url
from tarbox_core.errors import ConnectionLost, LayerError, RetryableError, TransactionError
from tests.conftest import PgServer
from tests.pg.proxy import Proxy
from tests.tenants import Tenant


@pytest.fixture
def tree(tenant: Tenant) -> Iterator[Tree]:
    with tarbox_core.connect(tenant.url, tenant.info.name) as made:
        yield made


@pytest.fixture
def other(tenant: Tenant) -> Iterator[Tree]:
    with tarbox_core.connect(tenant.url, tenant.info.name) as made:
        yield made


def shape(tree: Tree) -> dict[str, bytes | None]:
    """Every path, and the content of files."""
    found: dict[str, bytes | None] = {}
    for top, folders, files in tree.walk("/"):
        found |= {f"{top}/{name}": None for name in folders} | {f"{top}/{name}": tree.read_bytes(f"{top}/{name}") for name in files}
    return found


def change(tree: Tree) -> None:
    """Something of everything."""
    tree.makedirs("/a/b/c")
    tree.write_bytes("/a/new", bytes(100_000))
    with tree.open("/a/streamed", "wb") as stream:
        for _ in range(20):
            stream.write(bytes(60_000))
    with tree.open("/kept", "a") as stream:
        stream.write("more")
        stream.flush()
    tree.copy("/kept", "/a/copy")
    tree.rename("/d", "/moved")
    tree.link("/kept", "/moved/link")
    tree.symlink("kept", "/s")
    tree.chmod("/kept", 0o600)
    tree.remove("/gone")
    tree.truncate("/kept", 2)


def begun(tree: Tree) -> None:
    tree.write_text("/kept", "kept")
    tree.write_bytes("/gone", bytes(20_000))
    tree.makedirs("/d/e")


def test_what_it_does_happens_at_its_end(tree: Tree, other: Tree) -> None:
    begun(tree)
    before = shape(other)
    with tree.transaction() as same:
        assert same is tree
        change(tree)
        inside = shape(tree)
        assert inside["//kept"] == b"ke" and inside["//moved"] is None and "//gone" not in inside
        assert shape(other) == before
    assert shape(tree) == shape(other) == inside


def test_what_raises_leaves_nothing_behind(tree: Tree, other: Tree) -> None:
    begun(tree)
    before, mode = shape(tree), tree.stat("/kept").st_mode
    with pytest.raises(KeyError), tree.transaction():
        change(tree)
        raise KeyError
    assert shape(tree) == shape(other) == before and tree.stat("/kept").st_mode == mode
    change(tree)  # what was seen in it is forgotten
    tree.write_bytes("/a/new", bytes(100_000))
    assert tree.read_bytes("/a/new") == bytes(100_000)


def test_a_verb_that_fails_inside_is_undone_alone(tree: Tree) -> None:
    begun(tree)
    with tree.transaction():
        tree.write_text("/kept", "first")
        with pytest.raises(FileExistsError):
            tree.mkdir("/d")
        with pytest.raises(FileNotFoundError):
            tree.rename("/no", "/d/x")
        with pytest.raises(OSError):
            tree.copy("/kept", "/no/where")
        tree.write_text("/after", "second")
    assert (tree.read_text("/kept"), tree.read_text("/after")) == ("first", "second")


def test_the_first_verb_may_fail(tree: Tree) -> None:
    with tree.transaction():
        with pytest.raises(FileNotFoundError):
            tree.remove("/no")
        tree.mkdir("/d")
    assert tree.listdir("/") == ["d"]


def test_files_opened_inside_end_with_it(tree: Tree) -> None:
    tree.write_text("/f", "old")
    with pytest.raises(KeyError), tree.transaction():
        stream = tree.open("/f", "w")
        reader = tree.open("/f", "r")
        raise KeyError
    stream.write("x")
    with pytest.raises(TransactionError, match="has ended"):
        stream.flush()
    with pytest.raises(TransactionError, match="has ended"):
        reader.read()
    with pytest.raises(TransactionError):
        stream.close()
    reader.close()
    assert stream.closed and tree.read_text("/f") == "old"


def test_files_opened_before_are_not_in_it(tree: Tree) -> None:
    with tree.open("/f", "w") as stream:
        with pytest.raises(KeyError), tree.transaction():
            stream.write("kept")
            stream.flush()
            tree.mkdir("/d")
            raise KeyError
    assert tree.read_text("/f") == "kept" and tree.listdir("/") == ["f"]


def test_other_threads_are_not_in_it(tree: Tree) -> None:
    tree.mkdir("/d")
    with pytest.raises(KeyError), tree.transaction():
        tree.mkdir("/mine")
        thread = threading.Thread(target=lambda: tree.mkdir("/d/theirs"))
        thread.start()
        thread.join(30)
        raise KeyError
    assert tree.listdir("/") == ["d"] and tree.listdir("/d") == ["theirs"]


def test_two_trees_have_each_its_own(tree: Tree, other: Tree) -> None:
    tree.mkdir("/d")
    with tree.transaction():
        tree.mkdir("/a")
        with pytest.raises(KeyError), other.transaction():
            other.mkdir("/d/b")
            tree.mkdir("/c")
            raise KeyError
        with pytest.raises(TransactionError, match="a transaction inside of a transaction"), tree.transaction():
            pass
    assert tree.listdir("/") == ["a", "c", "d"] and tree.listdir("/d") == []


def test_a_checkpoint_waits_for_it(tree: Tree, other: Tree) -> None:
    sealed: list[str] = []
    with tree.transaction():
        tree.mkdir("/a")
        thread = threading.Thread(target=lambda: sealed.append(other.checkpoint("after").label))
        thread.start()
        time.sleep(0.3)
        assert sealed == []
        tree.mkdir("/b")
    thread.join(30)
    assert sealed == ["after"] and other.changes() == [] and tree.listdir("/.tarbox/layers/tree/after") == ["a", "b"]


def test_whoever_stands_in_the_way_is_met_again(tree: Tree, other: Tree) -> None:
    """Two transactions that change two files in opposite order: the server ends one of them, and `run` begins it anew."""
    tree.write_text("/x", "0")
    tree.write_text("/y", "0")
    meet = threading.Barrier(2, timeout=10)
    turns: list[str] = []

    def add(which: Tree, first: str, second: str) -> None:
        def work(inside: Tree) -> None:
            turns.append(first)
            for path in (first, second):
                inside.utime(path)  # from here on it is ours
                inside.write_text(path, str(int(inside.read_text(path)) + 1))
                if path == first and len(turns) <= 2:
                    meet.wait()

        which.run(work)

    threads = [threading.Thread(target=add, args=args) for args in ((tree, "/x", "/y"), (other, "/y", "/x"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(turns) == 3 and (tree.read_text("/x"), tree.read_text("/y")) == ("2", "2")


def test_a_block_of_one_s_own_is_told_of_it(tree: Tree, other: Tree) -> None:
    tree.write_text("/x", "0")
    tree.write_text("/y", "0")
    meet = threading.Barrier(2, timeout=10)
    failures: list[BaseException] = []

    def write(which: Tree, first: str, second: str) -> None:
        try:
            with which.transaction():
                which.write_text(first, "1")
                meet.wait()
                which.write_text(second, "1")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=args) for args in ((tree, "/x", "/y"), (other, "/y", "/x"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [type(failure) for failure in failures] == [RetryableError]
    assert (tree.read_text("/x"), tree.read_text("/y")) == ("1", "1")


def test_run_gives_up_after_a_while(tree: Tree) -> None:
    turns = 0

    def work(inside: Tree) -> None:
        nonlocal turns
        turns += 1
        inside.mkdir("/d")
        raise RetryableError("40001", "never mind")

    with pytest.raises(RetryableError):
        tree.run(work)
    assert turns == 8 and tree.listdir("/") == []
    assert tree.run(lambda inside: inside.listdir("/")) == []


def test_a_connection_that_is_lost_takes_the_transaction_with_it(tree: Tree, tenant: Tenant, pg_server: PgServer) -> None:
    dsn = parse_url(tenant.url)
    with Proxy(pg_server.socket) as proxy:
        url = f"postgresql://{dsn.user}@127.0.0.1:{proxy.port}{urlsplit(tenant.url).path}?sslmode=disable"
        with tarbox_core.connect(url, tenant.info.name) as far:
            far.listdir("/")
            proxy.cut()
            with far.transaction():  # before anything is done in it another is taken
                far.mkdir("/a")
            with pytest.raises(ConnectionLost) as lost, far.transaction():
                far.mkdir("/b")
                proxy.cut()
                far.mkdir("/c")
            assert not lost.value.committing and far.listdir("/") == ["a"]
            with pytest.raises(ConnectionLost), far.transaction():
                far.mkdir("/b")
                proxy.cut()
                with suppress(ConnectionLost):
                    far.mkdir("/c")
                far.mkdir("/d")  # it stays lost
            turns: list[int] = []

            def work(inside: Tree) -> None:
                turns.append(1)
                inside.mkdir("/run")
                if len(turns) < 3:
                    proxy.cut()
                inside.mkdir("/run/in")

            far.run(work)
            assert len(turns) == 3 and far.listdir("/run") == ["in"]
            far.rmtree("/run")
            with pytest.raises(ConnectionLost) as raised, far.transaction():
                far.mkdir("/b")
                proxy.mute(b"commit")
                cut = threading.Thread(target=lambda: (proxy.muted.wait(20), proxy.cut()))
                cut.start()
            cut.join(30)
            assert raised.value.committing  # nobody can know
            assert far.listdir("/") == ["a", "b"]
            turns.clear()

            def once(inside: Tree) -> None:
                turns.append(1)
                inside.mkdir("/c")
                proxy.mute(b"commit")
                threading.Thread(target=lambda: (proxy.muted.wait(20), proxy.cut())).start()

            with pytest.raises(ConnectionLost) as raised:
                far.run(once)
            assert raised.value.committing and len(turns) == 1  # what may have been done is not done again


def test_reads_in_it_are_recorded_at_its_end(tree: Tree, tenant: Tenant) -> None:
    from tarbox_core.effects import many
    from tests.pg.test_client import RECORDS

    tree.write_text("/f", "abc")
    with tree.transaction():
        tree.read_text("/f")
    with pytest.raises(KeyError), tree.transaction():
        tree.read_text("/f")
        raise KeyError
    tree.listdir("/")
    found = tenant.owner.run(lambda: many(RECORDS(tenant.info.id)))
    assert found.count(("read", "/f", 3, 0)) == 2


def test_the_head_cannot_be_gone(tree: Tree, tenant: Tenant) -> None:
    tree.branch("side")
    side = tarbox_core.connect(tenant.url, tenant.info.name, branch="side")
    session = tenant.session()
    session.run(lambda: session.fs.delete_branch(session.caller, "side"))
    with pytest.raises(OSError, match="the branch side is gone"), side.transaction():
        raise AssertionError("never")
    with pytest.raises(OSError, match="the branch side is gone"):
        side.listdir("/")
    with pytest.raises((OSError, LayerError)):
        side.mkdir("/x")
    side.close()
