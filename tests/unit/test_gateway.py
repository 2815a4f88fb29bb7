"""The gateway with a host of tests: what passes as it is, who may send what, and the life of transactions."""

from __future__ import annotations

import errno

import pytest

from tarbox_core import check_statements as check
from tarbox_core import frames
from tarbox_core import layer_statements as layer
from tarbox_core import packing_statements as packing
from tarbox_core import statements as tree
from tarbox_core import trail_statements as trail
from tarbox_core.effects import Query, Statement
from tarbox_core.errors import ConnectError, ConnectionLost, FsError, GatewayError, SqlError, TarboxError
from tarbox_core.gateway import AGE_MAX, ENDED_MAX, OPEN_MAX, Drop, Grant, Reply, Step
from tarbox_core.gateway_statements import BLOCKS_STORED, MISSING_BLOCK
from tarbox_core.hashing import digest
from tarbox_core.session import feed, lock_key
from tarbox_core.types import HOLE, Caller, TenantInfo
from tests.lying import (
    INFO,
    KEY,
    LOCK,
    OPEN,
    SEALED,
    SECOND,
    SEES,
    Client,
    T,
    answer,
    content,
    inode_set,
    make,
    put,
    record,
)


@pytest.fixture
def client() -> Client:
    return Client()


# --- honest traffic


def test_the_tenant_is_bound_here_and_never_sent(client: Client) -> None:
    frame = frames.batch(5, 1, [tree.INODE(666, OPEN, SEES, 1)], begin=True, commit=True, durable=False)
    assert (666).to_bytes(8) not in frame
    assert client.ask(frame, [tree.INODE])[0][0][0] == 1
    assert client.ran[0].values == (*KEY, 1)


def test_the_welcome_tells_whom_it_serves_and_not_the_role(client: Client) -> None:
    told = client.gateway.receive(frames.hello(3, "test"))
    content = frames.read_welcome(frames.read_answer(told.frame, frames.WELCOME))
    assert (content["version"], content["read_only"], content["upkeep"]) == (1, False, False)
    tenant = content["tenant"] | {"visible": tuple(map(tuple, content["tenant"]["visible"]))}
    assert TenantInfo(**tenant) == TenantInfo(**{**{name: getattr(INFO, name) for name in INFO.__dataclass_fields__}, "role": ""})


def test_another_version_is_told_so(client: Client) -> None:
    told = client.gateway.receive(frames.hello(3, "test").replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(GatewayError, match="speaks version 2 of the protocol, this gateway 1"):
        frames.read_answer(told.frame, frames.WELCOME)


def test_hashes_for_who_has_no_quick_way(client: Client) -> None:
    told = client.gateway.receive(frames.digest(3, [b"one", b"two"]))
    assert frames.read_digests(frames.read_answer(told.frame, frames.DIGESTS), 2) == [digest(b"one"), digest(b"two")]


def test_a_write_passes_under_the_grants_name_and_asks_for_unknown_blocks() -> None:
    client = Client(Grant(caller=Caller(501, 20, (), 77)))
    block, old = digest(b"block"), digest(b"old")
    client.begin(tree.INODE_FULL(*KEY, 10), exclusive=[lock_key(T, "I", 10)])
    client.send(
        tree.BLOCK_PUT(T, [block], [b"block"]), put(block + HOLE + old), content(p4=9000, p6=None), record(), commit=True
    )  # fmt: skip
    assert [query.statement for query in client.ran[-5:]] == [tree.BLOCK_PUT, BLOCKS_STORED, tree.EXTENT_PUT, tree.INODE_CONTENT, tree.AUDIT]
    assert client.ran[-4].values == (T, [old])
    assert client.ran[-1].values[5:7] == (501, 77)
    assert not client.gateway.open


def test_a_move_tells_the_host_whose_doors_to_keep_quiet(client: Client) -> None:
    client.begin_move()
    assert client.step is not None and client.step.moves == "main"
    client.send(tree.HEAD(T, "main"))
    assert client.step.moves is None  # once is enough


def test_a_change_without_a_record_gets_one_that_names_it() -> None:
    client = Client(Grant(caller=Caller(501, 20, (), 77)))
    client.begin(tree.INODE(*KEY, 10))
    client.send(inode_set(), content())
    client.send(record("chmod"), commit=True)
    assert client.ran[-1] == tree.AUDIT(T, OPEN, "gateway", None, None, 501, 77, 0, 0, {"statements": ["inode.content"]})


def test_one_record_does_not_tell_of_many_changes(client: Client) -> None:
    client.begin(tree.INODE(*KEY, 1))
    client.send(*(tree.DENTRY_DROP(*KEY, 1, name) for name in (b"a", b"b")), record("unlink"), commit=True)
    assert client.ran[-1].values[2:] == ("gateway", None, None, 0, 0, 0, 0, {"statements": ["dentry.drop"]})
    client.begin(tree.INODE(*KEY, 1))
    client.send(*(tree.DENTRY_DROP(*KEY, 1, name) for name in (b"a", b"b", b"c")), record("unlink"), record("rename"), commit=True)
    assert client.ran[-1] == record("rename", p6=0, p7=0)


def test_a_record_is_made_of_what_is_made_by_a_client_that_wants_none(client: Client) -> None:
    client.numbered()
    client.send(tree.LOCK([LOCK], []), make(p20=[], p21=[]), begin=True, commit=True)
    assert client.ran[-1].values[19:21] == (["create"], [0])


def test_no_record_where_the_host_wants_none() -> None:
    client = Client(Grant(audit=False))
    client.begin(tree.INODE(*KEY, 10))
    client.send(content(), commit=True)
    assert client.ran[-1] == content()


def test_what_a_client_tells_other_doors_is_told_under_another_id(client: Client) -> None:
    client.begin()
    client.send(tree.TELL(feed(T), "99 1 5 6"), tree.TELL(feed(T), "99 2"), commit=True)
    ids = {query.values[1].split()[0] for query in client.ran[-2:]}
    assert len(ids) == 1 and ids != {"99"}
    assert client.ran[-2].values == (feed(T), f"{ids.pop()} 1 5 6")


def test_records_of_reads_have_times_that_can_be(client: Client) -> None:
    times = [0, client.now - 5, 1 << 62]
    client.send(tree.AUDIT_MANY(T, [1] * 3, times, ["open"] * 3, [10] * 3, [None] * 3, [1] * 3, [1] * 3, [0] * 3, [0] * 3), begin=True, commit=True)
    assert client.ran[-1].values[2] == [client.now - 3600 * SECOND, client.now - 5, client.now]
    assert client.ran[-1].values[6:8] == ([0] * 3, [0] * 3)


# --- who may send what


@pytest.mark.parametrize("query", [tree.QUIET(1), tree.PRESENT(1), tree.PRESENT_PIDS(1), tree.TENANT_LIST(), tree.AUDIT_AHEAD(1), trail.PRUNE(1, 0, 0),
                                   BLOCKS_STORED(T, []), tree.TENANT_DELETE("demo")], ids=lambda query: query.statement.name)  # fmt: skip
@pytest.mark.parametrize("grant", [Grant(), Grant(upkeep=True), Grant(read_only=True)], ids=["write", "upkeep", "read"])
def test_what_is_the_hosts_is_refused_whatever_the_grant(grant: Grant, query: Query) -> None:
    Client(grant).refused("not-allowed", query, begin=True)


UPKEEP = [layer.ROWS_DROP[0](T, [1]), layer.REBASE(T, 1, 2), check.UNREFERENCED_DROP(T), packing.TEXT_PUT(T, b"", 1, 1, None, b""), trail.SEALING(LOCK),
          tree.INODE_PUT(T, OPEN, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, None, None)]  # fmt: skip


@pytest.mark.parametrize("query", UPKEEP, ids=lambda query: query.statement.name)
def test_upkeep_wants_its_grant(query: Query) -> None:
    client = Client()
    client.begin_move()
    client.refused("not-allowed", query)
    client = Client(Grant(upkeep=True))
    client.begin_move()
    client.send(query, commit=True)


WRITING = [tree.LOCK([LOCK], []), tree.NUMBERS(1), tree.TELL(feed(T), "1 2"), tree.BLOCK_PUT(T, [], []), record(), make(), content(), layer.PATIENCE("5ms"),
           layer.DESCRIBE(T, SEALED, "x"), layer.SEAL(T, OPEN, None, "", True)]  # fmt: skip


@pytest.mark.parametrize("query", WRITING, ids=lambda query: query.statement.name)
def test_a_read_only_grant_refuses_all_that_writes(query: Query) -> None:
    Client(Grant(read_only=True)).refused("not-allowed", query, begin=True, commit=True)


def test_an_unlisted_statement_is_refused_by_name(client: Client) -> None:
    unlisted = Statement("drop.all", "drop table inode", ("int8",))
    assert "'drop.all'" in str(client.refused("unknown-statement", unlisted(1), begin=True))


# --- transactions


def test_transactions_have_numbers_that_are_open_or_not(client: Client) -> None:
    client.refused("transaction", tree.HEAD(T, "main"))
    client.send(tree.HEAD(T, "main"), begin=True)
    client.refused("transaction", tree.HEAD(T, "main"), begin=True)


def test_an_empty_batch_commits_or_is_none(client: Client) -> None:
    client.send(begin=True, commit=True)
    client.refused("protocol", begin=True)


def test_so_many_are_open_and_no_more(client: Client) -> None:
    for number in range(10, 10 + OPEN_MAX):
        client.send(tree.LOCK([LOCK], []), transaction=number, begin=True)
    client.refused("busy", tree.HEAD(T, "main"), begin=True)
    client.now += AGE_MAX + 1
    told = client.gateway.receive(frames.batch(5, 1, [tree.HEAD(T, "main")], begin=True, commit=False, durable=False))
    assert isinstance(told, Drop) and set(told.transactions) == set(range(10, 10 + OPEN_MAX))
    client.send(tree.HEAD(T, "main"), begin=True)


def test_who_holds_locks_for_too_long_is_told_at_its_next_step(client: Client) -> None:
    client.begin()
    client.send(tree.HEAD(T, "main"), begin=True, transaction=2)
    client.now += AGE_MAX + 1
    assert "too long" in str(client.refused("transaction", tree.HEAD(T, "main")))
    client.send(tree.HEAD(T, "main"), transaction=2)  # which keeps nobody waiting


def test_undo_drops_what_is_open_and_is_no_error_otherwise(client: Client) -> None:
    client.begin()
    told = client.gateway.receive(frames.undo(6, 1))
    assert told == Drop((1,), frames.done(6)) and not client.gateway.open
    assert client.gateway.receive(frames.undo(7, 1)) == Reply(frames.done(7))


def test_what_the_host_ends_is_told_once_and_takes_no_place(client: Client) -> None:
    why, head = GatewayError("transaction", "it stood still"), tree.HEAD(T, "main")
    assert not client.gateway.ended(1, why)  # none is open
    client.begin()
    step = client.gateway.receive(frames.batch(5, 1, [head], begin=False, commit=False, durable=False))
    assert isinstance(step, Step) and not client.gateway.ended(1, why)  # it is in work
    client.gateway.done(step, [answer(query) for query in step.queries])
    assert client.gateway.ended(1, why) and not client.gateway.open
    assert "stood still" in str(client.refused("transaction", head))
    assert "no transaction 1" in str(client.refused("transaction", head))
    for after in (lambda: client.send(head, begin=True, commit=True), lambda: client.gateway.receive(frames.undo(6, 1))):
        client.begin()
        assert client.gateway.ended(1, why)
        after()
        assert "no transaction 1" in str(client.refused("transaction", head))
    for number in range(ENDED_MAX + 1):
        client.begin(transaction=number)
        assert client.gateway.ended(number, why)
    assert "no transaction 0" in str(client.refused("transaction", head, transaction=0))  # as many are not remembered
    assert "stood still" in str(client.refused("transaction", head, transaction=1))


def test_a_transaction_has_one_step_in_work(client: Client) -> None:
    client.begin()
    frame = frames.batch(5, 1, [tree.HEAD(T, "main")], begin=False, commit=False, durable=False)
    step = client.gateway.receive(frame)
    assert isinstance(step, Step)
    busy = client.gateway.receive(frame)
    with pytest.raises(GatewayError, match="in work"):
        frames.read_answer(busy.frame, frames.ROWS)
    undone = client.gateway.receive(frames.undo(6, 1))
    assert isinstance(undone, Drop) and undone.transactions == (1,) and client.gateway.open == {1}
    late = client.gateway.done(step, [answer(query) for query in step.queries])
    with pytest.raises(GatewayError, match="undone meanwhile"):
        frames.read_answer(late.frame, frames.ROWS)
    assert not client.gateway.open


@pytest.mark.parametrize(("error", "told", "text"), [
    (SqlError("23505", "duplicate", "s"), SqlError, "duplicate (SQLSTATE 23505, in s)"),
    (SqlError(MISSING_BLOCK, "no block ab is stored", "gateway.blocks"), GatewayError, "no block ab is stored"),
    (ConnectionLost("gone", True), ConnectionLost, "gone"), (ConnectError("postgresql://secret@host"), ConnectError, "cannot connect to its database"),
    (FsError(errno.EIO), FsError, "input/output error"), (RuntimeError("secret"), TarboxError, "RuntimeError"),
], ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "")  # fmt: skip
def test_a_failure_is_told_without_the_hosts_affairs(client: Client, error: Exception, told: type[TarboxError], text: str) -> None:
    step = client.gateway.receive(frames.batch(5, 1, [tree.HEAD(T, "main")], begin=True, commit=False, durable=False))
    assert isinstance(step, Step)
    reply = client.gateway.failed(step, error)
    with pytest.raises(told) as raised:
        frames.read_answer(reply.frame, frames.ROWS)
    assert text in str(raised.value) and "secret" not in str(raised.value)
    assert not client.gateway.open


def test_an_answer_beyond_the_limit_is_an_error(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "ANSWER_MAX", 100)
    client.refused("too-large", *[tree.INODE(*KEY, 1)] * 3, begin=True)


def test_toys_of_tests_pass_where_they_are_safe() -> None:
    toy, closed = Statement("toy", "select 1", (), ("int8",), safe=True, tenant=False), Statement("closed", "select 1", tenant=False)
    client = Client(statements={"toy": toy, "closed": closed})
    client.send(toy(), begin=True, commit=True)
    client.refused("not-allowed", closed(), begin=True)
