"""`import tarbox_core` through pgbouncer in transaction mode: any transaction may run on any of few server connections."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator

import pytest

import tarbox_core
from tarbox_core.client.tree import Tree
from tarbox_core.drivers.dsn import parse_url
from tarbox_core.drivers.framing import shared_name
from tarbox_core.drivers.presence import Presence, doors
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Op, Statement, many, run
from tarbox_core.errors import ConnectionLost, LayerError, RetryableError
from tests.conftest import PgServer
from tests.pg.pooler import pooler
from tests.pg.test_statements import STATEMENTS
from tests.tenants import Tenant

WHO = Statement("who", "select current_user::text, current_setting('enable_seqscan'), current_setting('synchronous_commit')", (), ("text", "text", "text"))
BACKEND = Statement("backend", "select pg_backend_pid()", (), ("int4",))
PREPARED = Statement("prepared", "select name from pg_prepared_statements order by name", (), ("text",))


@pytest.fixture(scope="module")
def pooled(schema_url: str) -> Iterator[str]:
    with pooler(schema_url) as url:
        yield url


@pytest.fixture
def tree(pooled: str, tenant: Tenant) -> Iterator[Tree]:
    with tarbox_core.connect(pooled, tenant.info.name) as made:
        yield made


def plain(url: str) -> Wire:
    return Wire(parse_url(url), pooled=True)


def test_every_verb_finds_its_role_whatever_the_connection(tree: Tree, pooled: str) -> None:
    tree.makedirs("/a/b")
    tree.write_text("/a/b/f", "one\n")
    with tree.open("/a/b/big", "wb") as stream:
        stream.write(bytes(range(256)) * 4000)
    with tree.open("/a/b/f", "a") as stream:
        stream.write("two\n")
    assert tree.read_text("/a/b/f") == "one\ntwo\n"
    assert tree.read_bytes("/a/b/big") == bytes(range(256)) * 4000
    sealed = tree.checkpoint("there")
    tree.remove("/a/b/f")
    assert tree.changes() == [("D", "/a/b/f", "/a/b/f")]
    tree.switch(sealed.id)
    assert tree.read_text("/a/b/f") == "one\ntwo\n"
    wire = plain(pooled)
    for _ in range(4):  # what was set is gone with its transaction
        assert wire.execute([WHO()], begin=True, commit=True) == [[("tarbox", "on", "off")]]
    wire.close()


def test_more_clients_than_connections(tree: Tree, pooled: str, tenant: Tenant) -> None:
    failures: list[BaseException] = []
    tree.mkdir("/all")

    def work(number: int) -> None:
        try:
            with tarbox_core.connect(pooled, tenant.info.name, pool_size=1) as own:
                for turn in range(8):
                    own.write_text(f"/all/{number}-{turn}", str(number))
                    with own.open("/log", "a") as log:
                        log.write(f"{number} {turn}\n")
                    assert own.read_text(f"/all/{number}-{turn}") == str(number)
                    tree.rename(f"/all/{number}-{turn}", f"/all/{turn}-{number}.done")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    assert len(tree.listdir("/all")) == 48
    lines = tree.read_text("/log").splitlines()
    assert sorted(lines) == sorted(f"{number} {turn}" for number in range(6) for turn in range(8))  # none is lost or torn
    for number in range(6):
        assert [line for line in lines if line.startswith(f"{number} ")] == [f"{number} {turn}" for turn in range(8)]


def test_clients_share_what_is_prepared(schema_url: str, tenant: Tenant) -> None:
    with pooler(schema_url, size=1) as url:
        with tarbox_core.connect(url, tenant.info.name) as first:
            first.listdir("/")
            wire = plain(url)
            before = wire.execute([PREPARED()], begin=True, commit=True)[0]
            assert len(before) > 3
        with tarbox_core.connect(url, tenant.info.name) as second:  # its names are taken, and stand for the same
            assert second.listdir("/") == []
        known = {name.split()[0] for (name,) in before}
        assert known <= {name.split()[0] for (name,) in wire.execute([PREPARED()], begin=True, commit=True)[0]}
        wire.close()


def test_statements_that_the_server_connection_does_not_know_are_prepared_there(schema_url: str, tenant: Tenant) -> None:
    with pooler(schema_url, size=1) as url, tarbox_core.connect(url, tenant.info.name) as tree:
        wire = plain(url)
        tree.write_text("/f", "1")
        for number in range(3):
            wire.script("deallocate all")
            assert tree.read_text("/f") == str(number + 1)
            wire.script("deallocate all")
            tree.write_text("/f", str(number + 2))
            wire.script("deallocate all")
            with tree.transaction():
                tree.mkdir(f"/d{number}")
                assert tree.exists(f"/d{number}")
        wire.close()


def test_such_a_loss_is_retryable_and_nothing_else(pooled: str) -> None:
    """On two server connections, of which one forgets: a wire takes what it prepared for lost, once."""
    wire, other = plain(pooled), plain(pooled)
    for _ in range(3):
        wire.execute([BACKEND()], begin=True, commit=True)
    other.script("deallocate all")
    with pytest.raises(RetryableError) as raised:
        wire.execute([BACKEND()], begin=True, commit=True)
    assert raised.value.sqlstate == "26000"
    assert wire.execute([BACKEND()], begin=True, commit=True)[0]
    wire.close()
    other.close()


def test_names_are_short_enough_for_the_server_and_tell_statements_apart() -> None:
    names = [shared_name(statement) for statement in STATEMENTS.values()]
    assert max(len(name.encode()) for name in names) <= 63 and len(set(names)) == len(names)
    other = Statement(WHO.name, WHO.sql + " ", WHO.params, WHO.returns), Statement(WHO.name, WHO.sql, WHO.params, (*WHO.returns, "text"))
    assert len({shared_name(statement) for statement in (WHO, *other)}) == 3


def test_a_transaction_keeps_one_connection_and_rolls_back_whole(tree: Tree) -> None:
    tree.write_text("/kept", "1")
    with pytest.raises(KeyError), tree.transaction():
        tree.write_text("/kept", "2")
        tree.mkdir("/gone")
        assert tree.read_text("/kept") == "2" and tree.listdir("/") == ["gone", "kept"]
        raise KeyError
    assert tree.read_text("/kept") == "1" and tree.listdir("/") == ["kept"]


def test_a_head_is_not_moved_past_a_mount_that_cannot_be_asked(tree: Tree, tenant: Tenant) -> None:
    tree.write_text("/f", "1")
    with pytest.raises(LayerError, match="through a pooler") as raised:
        session = tenant.session()
        presence = Presence(parse_url(tenant.url), session.fs)
        presence.enter()
        try:
            tree.checkpoint()
        finally:
            presence.leave()
            while doors(tenant.owner, tenant.info.id):
                time.sleep(0.01)
    assert raised.value.errno == errno.EBUSY
    tree.checkpoint()  # which holds nothing that was left behind
    assert len(tree.layers()) == 2


def test_server_connections_that_end_are_not_noticed_between_verbs(tree: Tree, pg_server: PgServer) -> None:
    tree.write_text("/f", "1")
    admin = pg_server.connect()
    for number in range(3):
        admin.run("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'tarbox' and pid <> pg_backend_pid()")
        try:
            tree.read_text("/f")
        except ConnectionLost as error:  # the pooler had it in hand; a read may be lost twice
            assert not error.committing
        tree.write_text("/f", str(number))
    admin.close()
    assert tree.read_text("/f") == "2"


def test_roles_share_a_driver(pooled: str, tenant: Tenant) -> None:
    def who() -> Op[str]:
        return (yield from many(WHO()))[0][0]

    def stays() -> Op[tuple[str, str]]:
        first = (yield from run(WHO()))[0][0][0]
        return first, (yield from run(WHO()))[0][0][0]

    with SyncDriver(pooled, pool_size=1, pooled=True) as owner:
        worker = owner.under(tenant.info.role)
        assert [owner.run(who), worker.run(who), owner.run(who)] == ["tarbox", tenant.info.role, "tarbox"]
        assert worker.run(stays) == (tenant.info.role, tenant.info.role)
    with pytest.raises(ValueError, match="for that role alone"):
        SyncDriver(pooled).under("anybody")
