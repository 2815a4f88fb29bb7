"""The gateway against clients that lie, with a host that answers as a small tree would. No database: what the server itself would
refuse is in tests/pg/test_gateway.py."""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarbox_core import check_statements as check
from tarbox_core import frames
from tarbox_core import layer_statements as layer
from tarbox_core import packing_statements as packing
from tarbox_core import statements as tree
from tarbox_core import trail_statements as trail
from tarbox_core.effects import Query, Rows, Statement
from tarbox_core.errors import ConnectError, ConnectionLost, FsError, GatewayError, SqlError, TarboxError
from tarbox_core.gateway import AGE_MAX, OPEN_MAX, Drop, Gateway, Grant, Reply, Step
from tarbox_core.gateway_statements import BLOCKS_STORED, MISSING_BLOCK
from tarbox_core.hashing import digest
from tarbox_core.session import feed, lock_key
from tarbox_core.types import HOLE, Caller, TenantInfo

SECOND = 10**9
T = 7
BELOW = ((1 << 32, (1 << 32) + 5),)
SEALED = (1 << 32) + 4
OPEN = 3 << 32 | 2
SEES = (*BELOW, (3 << 32, OPEN + 1))
KEY = T, OPEN, SEES
INFO = TenantInfo(T, "demo", "", "secret_role", 4096, 1 << 20, 0, "main", OPEN, SEES, 5)
LOCK = lock_key(T, "T", 0)
WRITE = Grant()
NUMBER = 100  # an inode number that the client was given


def name_lock(parent: int, name: bytes) -> int:
    return lock_key(T, "N", parent, name)


DIR, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644
MODES = {1: DIR, 2: DIR, 3: DIR, 10: FILE, 11: stat.S_IFLNK | 0o777, 12: FILE}
PARENTS = {1: 1, 2: 1, 3: 2}
NAMES = {(1, b"d"): 2, (2, b"below"): 3, (1, b"f"): 10, (1, b"l"): 11}


def attr(ino: int) -> tuple[Any, ...]:
    """The inode 12 is one that a sealed layer wrote."""
    return (ino, MODES[ino], 0, 0, 2, 0, 0, 0, 0, 0, 0, SEALED if ino == 12 else OPEN, PARENTS.get(ino, 0))


def about(stamp: int) -> tuple[Any, ...]:
    return (stamp, "id", None, "", SEALED if stamp == OPEN else 1, "id", 0, None if stamp == OPEN else 5, False, None)


def answer(query: Query) -> Rows:
    """What the database of the small tree says."""
    statement, values = query
    if statement is tree.HEAD:
        return [(OPEN, SEES, 5)] if values[1] == "main" else []
    if statement is layer.STANDING:
        return [(OPEN, SEES, 5, None, True, 3)] if values[1] == "main" else [((2 << 32) + 1, BELOW, 1, None, False, 3)]
    if statement is layer.LAYER:
        return [about(values[1])]
    if statement is layer.BELOW:
        return [(BELOW if values[1] == 3 else (),)]
    if statement in (tree.INODE, tree.INODE_FULL):
        return [(*attr(values[3]), None, None, None)[: len(statement.returns)]] if values[3] in MODES else []
    if statement is tree.CHILD:
        return [attr(NAMES[values[3:5]])] if values[3:5] in NAMES else []
    if statement is tree.ANCESTORS:
        return [({1: [1], 2: [2, 1], 3: [3, 2, 1]}[values[3]],)]
    if statement is tree.PRESENCES:
        return [(0,)]
    if statement is tree.NUMBERS:
        return [(list(range(NUMBER, NUMBER + values[0])),)]
    if statement is tree.MAKE:
        return [(True, OPEN, SEES, 5, MODES[1], 0, 0, 2, None, 0o100644, 0, False)]
    return []


class Client:
    """A client that may say anything, and the host that runs its steps. Its transactions are numbered from 1."""

    def __init__(self, grant: Grant = WRITE, **more: Any) -> None:
        self.now = 10_000 * SECOND
        self.gateway = Gateway(INFO, grant, lambda: self.now, **more)
        self.ran: list[Query] = []
        self.step: Step | None = None
        self.count = 0

    def send(self, *queries: Query, transaction: int = 1, begin: bool = False, commit: bool = False) -> list[Rows]:
        """The rows; raises the error that the gateway tells."""
        return self.ask(frames.batch(5, transaction, queries, begin=begin, commit=commit, durable=False), [query.statement for query in queries])

    def ask(self, frame: bytes, statements: Sequence[Statement] = ()) -> list[Rows]:
        told = self.gateway.receive(frame)
        if isinstance(told, Step):
            self.step = told
            self.ran += told.queries
            told = self.gateway.done(told, [answer(query) for query in told.queries])
        return frames.read_rows(frames.read_answer(told.frame, frames.ROWS), statements)

    def begin(self, *queries: Query, exclusive: Sequence[int] = (), transaction: int = 1) -> None:
        """As an honest mutation begins."""
        self.send(tree.LOCK([LOCK], list(exclusive)), tree.HEAD(T, "main"), *queries, transaction=transaction, begin=True)

    def begin_move(self, *queries: Query) -> None:
        self.send(layer.PATIENCE("8000ms"), tree.LOCK([], [LOCK]), layer.STANDING(T, "main"), *queries, begin=True)

    def numbered(self) -> None:
        self.send(tree.NUMBERS(8), transaction=99, begin=True, commit=True)

    def refused(self, code: str, *queries: Query, **how: Any) -> GatewayError:
        with pytest.raises(GatewayError) as raised:
            self.send(*queries, **how)
        assert raised.value.code == code, raised.value
        assert 1 not in self.gateway.open
        return raised.value


@pytest.fixture
def client() -> Client:
    return Client()


def make(**changed: Any) -> Query:
    """A new file, as an honest client makes it; parameters by their numbers, as p6."""
    values: list[Any] = [
        *KEY, "main", 1, b"new", NUMBER, stat.S_IFREG | 0o644, 0, 0, 0, 5, None, b"", True, 0, [0], 5, 5, ["create"], [0], "/new", 0, 0, None,
    ]  # fmt: skip
    for place, value in changed.items():
        values[int(place[1:]) - 1] = value
    return tree.MAKE(*values)


def record(operation: str = "write", **changed: Any) -> Query:
    values: list[Any] = [T, OPEN, operation, 10, "/f", 1234, 4321, 0, 0, None]
    for place, value in changed.items():
        values[int(place[1:]) - 1] = value
    return tree.AUDIT(*values)


def content(**changed: Any) -> Query:
    values: list[Any] = [T, OPEN, 10, 5, 5, b"hello", None, 5, 5]
    for place, value in changed.items():
        values[int(place[1:]) - 1] = value
    return tree.INODE_CONTENT(*values)


def inode_set(**changed: Any) -> Query:
    values: list[Any] = [T, OPEN, 10, None, None, None, None, None, 5, None]
    for place, value in changed.items():
        values[int(place[1:]) - 1] = value
    return tree.INODE_SET(*values)


def put(hashes: bytes, chunk: int = 0) -> Query:
    return tree.EXTENT_PUT(T, OPEN, 10, [chunk], [hashes])


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


# --- lies, each behind an honest beginning: the inodes 1 (a directory), 10 and 12 (files) and 11 (a link) are read, and known names locked


OLD = (T, SEALED, BELOW)
LIES: dict[str, tuple[str, list[Query]]] = {
    # another tenant's
    "lock-foreign": ("foreign", [tree.LOCK([], [lock_key(T + 1, "T", 0)])]),
    "lock-of-none": ("foreign", [tree.LOCK([1], [])]),
    "presence-foreign": ("foreign", [tree.PRESENCES(lock_key(T + 1, "P", 0))]),
    "channel-foreign": ("foreign", [tree.TELL(feed(T + 1), "1 2")]),
    # locks and telling
    "lock-upgrade": ("not-allowed", [tree.LOCK([], [LOCK])]),
    "lock-null": ("bad-parameters", [tree.LOCK([None], [])]),
    "locks-many": ("too-large", [tree.LOCK([], [LOCK + n for n in range(1, 1025)])]),
    "patience-none": ("bad-parameters", [layer.PATIENCE("0ms")]),
    "patience-endless": ("bad-parameters", [layer.PATIENCE("99999ms")]),
    "patience-other": ("bad-parameters", [layer.PATIENCE("1min")]),
    "tell-hold": ("bad-parameters", [tree.TELL(feed(T), "1 hold 5 6")]),
    "tell-go": ("bad-parameters", [tree.TELL(feed(T), "1 go 5")]),
    "tell-words": ("bad-parameters", [tree.TELL(feed(T), "1 0 x")]),
    "tell-digits": ("bad-parameters", [tree.TELL(feed(T), "1 0 \u0665")]),
    "numbers-many": ("bad-parameters", [tree.NUMBERS(1 << 30)]),
    "numbers-none": ("bad-parameters", [tree.NUMBERS(None)]),
    # layers
    "sealed-written": ("not-allowed", [content(p2=SEALED)]),
    "unread-written": ("not-allowed", [content(p2=5 << 32 | 1)]),
    "visible-forged": ("not-allowed", [tree.DENTRY_DROP(T, OPEN, ((OPEN, OPEN + 1),), 1, b"f")]),
    "sealed-reaped": ("not-allowed", [tree.INODE_REAP(*OLD, 10)]),
    "sealed-copied": ("not-allowed", [tree.INODE_COPY_UP(*OLD, 10)]),
    "layer-null": ("bad-parameters", [content(p2=None)]),
    # names
    "name-slash": ("bad-parameters", [tree.DENTRY_PUT(T, OPEN, 1, b"a/b", 10, 8)]),
    "name-dots": ("bad-parameters", [tree.DENTRY_PUT(T, OPEN, 1, b"..", 10, 8)]),
    "name-nul": ("bad-parameters", [tree.DENTRY_PUT(T, OPEN, 1, b"a\0", 10, 8)]),
    "name-empty": ("bad-parameters", [tree.DENTRY_PUT(T, OPEN, 1, b"", 10, 8)]),
    "name-long": ("bad-parameters", [tree.DENTRY_PUT(T, OPEN, 1, b"x" * 256, 10, 8)]),
    "dentry-unread": ("not-allowed", [tree.DENTRY_PUT(T, OPEN, 1, b"x", 999, 8)]),
    "dentry-null": ("bad-parameters", [tree.DENTRY_PUT(T, OPEN, 1, b"x", None, 8)]),
    "dentry-kind": ("bad-parameters", [tree.DENTRY_PUT(T, OPEN, 1, b"x", 10, 4)]),
    "dentry-in-file": ("bad-parameters", [tree.DENTRY_PUT(T, OPEN, 10, b"x", 11, 10)]),
    "drop-elsewhere": ("not-allowed", [tree.DENTRY_DROP(*KEY, 999, b"x")]),
    "folder-unlocked": ("not-allowed", [tree.DENTRY_PUT(T, OPEN, 1, b"nowhere", 2, 4)]),
    "folder-twice": ("not-allowed", [tree.DENTRY_PUT(T, OPEN, 1, b"free", 2, 4), inode_set(p3=2, p10=1)]),
    "folder-parent": ("not-allowed", [inode_set(p3=2, p10=1)]),
    # inodes
    "type-unknown": ("bad-parameters", [inode_set(p4=0o644)]),
    "type-other": ("bad-parameters", [inode_set(p4=stat.S_IFDIR | 0o755)]),
    "type-other-content": ("bad-parameters", [content(p7=stat.S_IFDIR | 0o755)]),
    "uid-negative": ("bad-parameters", [inode_set(p5=-1)]),
    "time-end": ("bad-parameters", [inode_set(p9=(1 << 63) - 1)]),
    "links-many": ("bad-parameters", [tree.INODE_LINKS(T, OPEN, 10, 5, 2)]),
    "touch-many": ("bad-parameters", [tree.INODE_TOUCH(T, OPEN, 1, 5, -2)]),
    "row-below": ("not-allowed", [inode_set(p3=12)]),
    "row-below-content": ("not-allowed", [tree.EXTENT_PUT(T, OPEN, 12, [0], [HOLE])]),
    "row-below-xattr": ("not-allowed", [tree.XATTR_DROP(*KEY, 12, b"user.x")]),
    "root-reaped": ("bad-parameters", [tree.INODE_REAP(*KEY, 1)]),
    "reaped-written": ("not-allowed", [tree.INODE_REAP(*KEY, 10), tree.XATTR_PUT(T, OPEN, 10, b"user.x", b"")]),
    "inode-unread": ("not-allowed", [inode_set(p3=999)]),
    # content
    "size-beyond": ("bad-parameters", [content(p4=(1 << 20) + 1, p6=None)]),
    "size-negative": ("bad-parameters", [content(p4=-1)]),
    "blocks-negative": ("bad-parameters", [content(p5=-1)]),
    "inline-long": ("bad-parameters", [content(p4=5000, p6=bytes(5000))]),
    "inline-wrong": ("bad-parameters", [content(p4=6)]),
    "inline-none": ("bad-parameters", [content(p6=None)]),
    "content-of-folder": ("bad-parameters", [content(p3=1)]),
    "hash-wrong": ("bad-hash", [tree.BLOCK_PUT(T, [digest(b"a")], [b"b"])]),
    "hash-short": ("bad-hash", [tree.BLOCK_PUT(T, [b"a"], [b"b"])]),
    "hashes-few": ("bad-parameters", [tree.BLOCK_PUT(T, [], [b"b"])]),
    "block-large": ("bad-parameters", [tree.BLOCK_PUT(T, [digest(bytes(4097))], [bytes(4097)])]),
    "block-empty": ("bad-parameters", [tree.BLOCK_PUT(T, [digest(b"")], [b""])]),
    "block-null": ("bad-parameters", [tree.BLOCK_PUT(T, [digest(b"")], [None])]),
    "extent-uneven": ("bad-hash", [put(bytes(33))]),
    "extent-long": ("bad-hash", [put(bytes(33 * 32))]),
    "extent-far": ("bad-parameters", [put(HOLE, chunk=10)]),
    "extent-negative": ("bad-parameters", [put(HOLE, chunk=-1)]),
    "extent-unread": ("not-allowed", [tree.EXTENT_PUT(T, OPEN, 999, [0], [HOLE])]),
    "xattr-namespace": ("bad-parameters", [tree.XATTR_PUT(T, OPEN, 10, b"system.posix_acl_access", b"")]),
    "xattr-null": ("bad-parameters", [tree.XATTR_PUT(T, OPEN, 10, b"user.x", None)]),
    "xattr-large": ("bad-parameters", [tree.XATTR_PUT(T, OPEN, 10, b"user.x", bytes(65537))]),
    "xattr-unread": ("not-allowed", [tree.XATTR_PUT(T, OPEN, 999, b"user.x", b"")]),
    # new inodes
    "make-number": ("not-allowed", [make(p7=50)]),
    "make-twice": ("not-allowed", [make(), make(p6=b"other")]),
    "make-huge": ("not-allowed", [make(p7=1 << 44)]),
    "make-typeless": ("bad-parameters", [make(p8=0o644)]),
    "make-target": ("bad-parameters", [make(p13=b"x")]),
    "make-no-target": ("bad-parameters", [make(p8=stat.S_IFLNK | 0o777, p14=None)]),
    "make-long-target": ("bad-parameters", [make(p8=stat.S_IFLNK | 0o777, p13=b"x" * 4096, p14=None)]),
    "make-no-content": ("bad-parameters", [make(p14=None)]),
    "make-large": ("bad-parameters", [make(p14=bytes(4097))]),
    "make-name": ("bad-parameters", [make(p6=b".")]),
    "make-operation": ("bad-parameters", [make(p20=["create", "gc"], p21=[0, 0])]),
    "make-operations": ("bad-parameters", [make(p21=[])]),
    # the audit
    "audit-word": ("bad-parameters", [content(), record("prune")]),
    "audit-upkeep": ("bad-parameters", [content(), record("gc")]),
    "audit-invented": ("not-allowed", [record("unlink")]),
    "audit-other": ("not-allowed", [content(), record("unlink")]),
    "audit-failed": ("bad-parameters", [content(), record(p8=5)]),
    "audit-path": ("bad-parameters", [content(), record(p5="x" * 70000)]),
    "audit-bytes": ("bad-parameters", [content(), record(p9=1 << 60)]),
    "audit-metadata": ("too-large", [content(), record(p10={"x": "x" * 70000})]),
    "audit-list": ("bad-parameters", [content(), record(p10=[1])]),
    "reads-change": ("bad-parameters", [tree.AUDIT_MANY(T, [1], [1], ["write"], [1], [None], [1], [1], [0], [0])]),
    "reads-uneven": ("bad-parameters", [tree.AUDIT_MANY(T, [1], [1], ["read"], [1], [], [1], [1], [0], [0])]),
    # reads
    "blocks-many": ("bad-parameters", [tree.BLOCKS(T, [HOLE] * 20000)]),
    "blocks-many-together": ("too-large", [tree.BLOCKS_AT(*KEY, 10, list(range(9000))), tree.BLOCKS_AT(*KEY, 10, list(range(9000)))]),
    "page-large": ("bad-parameters", [tree.DIR_PAGE(*KEY, 1, b"", 1 << 30)]),
    # layers that are moved without being alone
    "seal-shared": ("not-allowed", [layer.SEAL(T, OPEN, None, "", True), layer.OPEN(T, OPEN + 1, OPEN), layer.HEAD_MOVE(T, "main", OPEN + 1, SEES, None)]),
    "upkeep-drop": ("not-allowed", [layer.DROP(T, [SEALED])]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_by_name_and_ends_its_transaction_only(lie: str) -> None:
    code, queries = LIES[lie]
    client = Client()
    client.numbered()
    client.send(tree.INODE(*KEY, 1), transaction=2, begin=True)
    locked = [name_lock(1, name) for name in (b"d", b"f", b"free")]
    client.begin(tree.INODE(*KEY, 1), tree.CHILD(*KEY, 1, b"d"), *(tree.INODE(*KEY, ino) for ino in (10, 11, 12)), exclusive=locked)
    ran = len(client.ran)
    error = client.refused(code, *queries, commit=True)
    assert any(query.statement.name in str(error) for query in queries) or lie == "folder-twice"
    assert len(client.ran) == ran and client.gateway.open == {2}
    client.send(tree.INODE(*KEY, 1), transaction=2, commit=True)  # others go on


def test_what_a_sealed_layer_wrote_is_copied_up_before_it_is_changed(client: Client) -> None:
    client.begin(tree.INODE(*KEY, 12))
    client.send(tree.INODE_COPY_UP(*KEY, 12), inode_set(p3=12), record("utimens", p4=12), commit=True)


def test_without_the_tenants_lock_nothing_is_a_fact(client: Client) -> None:
    client.send(tree.HEAD(T, "main"), tree.INODE(*KEY, 10), begin=True)
    client.refused("not-allowed", content())
    client.send(tree.HEAD(T, "main"), tree.LOCK([LOCK], []), tree.INODE(*KEY, 10), begin=True)  # read before it was locked
    client.refused("not-allowed", content())
    client.numbered()
    client.refused("not-allowed", make(), begin=True, commit=True)
    client.refused("not-allowed", tree.BLOCK_PUT(T, [], []), begin=True)
    client.send(tree.LOCK([lock_key(T, "D", 1)], []), begin=True)
    client.refused("not-allowed", tree.LOCK([LOCK], []))


def test_what_another_transaction_has_read_is_no_fact_here(client: Client) -> None:
    client.begin(tree.INODE(*KEY, 10), transaction=2)
    client.begin()
    client.refused("not-allowed", content())


def test_a_transaction_reads_and_changes_one_tree(client: Client) -> None:
    """The same number or name may be something else in another branch."""
    side = 2 << 32 | 1
    client.begin(tree.INODE(*KEY, 10), layer.STANDING(T, "side"))
    client.refused("not-allowed", content(p2=side))
    client.begin(layer.STANDING(T, "side"), tree.INODE(T, side, BELOW, 10), tree.INODE(*KEY, 10))
    client.refused("not-allowed", content())
    client.numbered()
    client.begin(tree.INODE(*KEY, 10), layer.STANDING(T, "side"))
    client.refused("not-allowed", make(p2=side, p3=BELOW, p4="side"), content(p2=side))


def test_what_was_read_of_another_tree_is_no_fact(client: Client) -> None:
    client.begin(tree.INODE(T, OPEN, ((OPEN, OPEN + 1),), 10), tree.INODE(*OLD, 10))
    client.refused("not-allowed", content())


def test_inode_numbers_are_not_for_wasting(client: Client) -> None:
    for _ in range(64):
        client.send(tree.NUMBERS(1024), begin=True, commit=True)
    assert "too many" in str(client.refused("too-large", tree.NUMBERS(1), begin=True))
    client.now += SECOND
    client.send(tree.NUMBERS(1024), begin=True, commit=True)


def test_a_number_is_used_once(client: Client) -> None:
    client.numbered()
    client.send(tree.LOCK([LOCK], []), make(), begin=True, commit=True)
    client.refused("not-allowed", tree.LOCK([LOCK], []), make(), begin=True, commit=True)


# --- directories stay a tree


def moved(old: tuple[int, bytes], new: tuple[int, bytes], ino: int) -> list[Query]:
    return [tree.DENTRY_DROP(*KEY, *old), tree.DENTRY_PUT(T, OPEN, *new, ino, 4), inode_set(p3=ino, p10=new[0]), record("rename", p4=ino)]


def begin_rename(client: Client, old: tuple[int, bytes], new: tuple[int, bytes], *, alone: bool = True) -> None:
    client.begin(
        tree.INODE(*KEY, old[0]), tree.CHILD(*KEY, *old), tree.INODE(*KEY, new[0]), tree.CHILD(*KEY, *new), exclusive=[name_lock(*old), name_lock(*new)]
    )
    client.send(tree.LOCK([], [lock_key(T, "R", 0)] if alone else []), tree.ANCESTORS(*KEY, new[0]), tree.ANCESTORS(*KEY, old[0]))


def test_a_directory_is_moved(client: Client) -> None:
    begin_rename(client, (2, b"below"), (1, b"x"))
    client.send(*moved((2, b"below"), (1, b"x"), 3), commit=True)


@pytest.mark.parametrize("lie", ["below-itself", "others-move", "old-name-stays", "parent-stays", "again"])
def test_a_directory_has_one_place_and_does_not_lie_below_itself(client: Client, lie: str) -> None:
    old, new, ino = ((1, b"d"), (3, b"x"), 2) if lie == "below-itself" else ((2, b"below"), (1, b"x"), 3)
    begin_rename(client, old, new, alone=lie != "others-move")
    queries = moved(old, new, ino)
    if lie == "old-name-stays":
        queries = queries[1:]
    elif lie == "parent-stays":
        del queries[2]
    elif lie == "again":
        queries.insert(2, tree.DENTRY_PUT(T, OPEN, *old, ino, 4))
    client.refused("not-allowed", *queries, commit=True)


# --- moves of layers


NEXT = (*BELOW, (3 << 32, OPEN + 2))
LINE = 4 << 32 | 1
FORKED = (*BELOW, (4 << 32, LINE + 1))
ADVANCE = [layer.SEAL(T, OPEN, "name", "", False), layer.OPEN(T, OPEN + 1, OPEN), layer.HEAD_MOVE(T, "main", OPEN + 1, NEXT, None)]
FORK = [layer.LINE_OPEN(T, 4, SEALED, BELOW), layer.OPEN(T, LINE, SEALED)]
SWITCH = [layer.SEAL(T, OPEN, None, "", True), *FORK, layer.HEAD_MOVE(T, "main", LINE, FORKED, OPEN)]
BRANCH = [*FORK, layer.HEAD_MAKE(T, "side", LINE, FORKED)]
END = [layer.DROP(T, [2 << 32 | 1]), layer.HEAD_DROP(T, "side")]
READ = [layer.LAYER(T, OPEN), layer.LAYER(T, SEALED), layer.BELOW(T, 1)]
READ_SIDE = [layer.STANDING(T, "side"), tree.PRESENCES(lock_key(T, "B", 0, b"side"))]


@pytest.mark.parametrize(("operation", "queries"), [
    ("checkpoint", ADVANCE), ("switch", SWITCH), ("branch", BRANCH), ("branch_delete", END), ("layer_describe", [layer.DESCRIBE(T, SEALED, "words")]),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_moves_pass_as_they_are_made(client: Client, operation: str, queries: list[Query]) -> None:
    client.begin_move(*READ, *READ_SIDE)
    client.send(*queries, record(operation), commit=True)
    assert client.ran[-1].statement is tree.AUDIT


def test_a_branch_of_what_was_changed_is_two_moves(client: Client) -> None:
    client.begin_move(*READ, layer.BELOW(T, 3))
    forked = (*BELOW, (3 << 32, OPEN + 1), (4 << 32, LINE + 1))
    client.send(*ADVANCE, layer.LINE_OPEN(T, 4, OPEN, SEES), layer.OPEN(T, LINE, OPEN), layer.HEAD_MAKE(T, "side", LINE, forked), commit=True)


def swapped(queries: list[Query], place: int, **changed: Any) -> list[Query]:
    values = list(queries[place].values)
    for name, value in changed.items():
        values[int(name[1:]) - 1] = value
    return [*queries[:place], queries[place].statement(*values), *queries[place + 1 :]]


@pytest.mark.parametrize("queries", [
    ADVANCE[:2], ADVANCE[1:], ADVANCE[2:], [ADVANCE[1], ADVANCE[0], ADVANCE[2]], [ADVANCE[0], tree.HEAD(T, "main"), *ADVANCE[1:]],
    swapped(ADVANCE, 0, p2=SEALED), swapped(ADVANCE, 0, p3="head"), swapped(ADVANCE, 0, p4="x" * 5000), swapped(ADVANCE, 0, p5=None),
    swapped(ADVANCE, 1, p2=OPEN + 2), swapped(ADVANCE, 1, p3=SEALED), swapped(ADVANCE, 2, p2="side"), swapped(ADVANCE, 2, p3=OPEN),
    swapped(ADVANCE, 2, p4=((0, 1 << 62),)), swapped(ADVANCE, 2, p5=OPEN), swapped(ADVANCE, 2, p2=None),
    swapped(SWITCH, 1, p2=5), swapped(SWITCH, 1, p3=OPEN), swapped(SWITCH, 1, p3=9), swapped(SWITCH, 1, p3=None), swapped(SWITCH, 1, p4=SEES),
    swapped(SWITCH, 2, p2=LINE + 1), swapped(SWITCH, 3, p4=SEES), swapped(SWITCH, 3, p5=None), swapped(SWITCH, 3, p5=SEALED),
    [layer.DROP(T, [OPEN]), *SWITCH[1:]], [layer.DROP(T, [SEALED]), *SWITCH[1:]],
    swapped(BRANCH, 2, p2="list"), swapped(BRANCH, 2, p2="a b"), swapped(BRANCH, 2, p3=OPEN), swapped(BRANCH, 2, p4=SEES), FORK,
    swapped(END, 0, p2=[SEALED]), swapped(END, 0, p2=[2 << 32 | 1, SEALED]), swapped(END, 1, p2="main"), swapped(END, 1, p2=None),
    [layer.SEAL(T, 2 << 32 | 1, None, "", True), END[1]], [layer.HEAD_DROP(T, "side")], [layer.DROP(T, [SEALED])],
    [layer.DESCRIBE(T, OPEN, "x")], [layer.DESCRIBE(T, SEALED, "x" * 5000)], [layer.DESCRIBE(T, 77, "x")] * 2, [layer.DESCRIBE(T, SEALED, None)],
    [layer.DESCRIBE(T, SEALED, "x")] * 9,
    [*ADVANCE, content()],  # what was sealed just now
])  # fmt: skip
def test_heads_and_lines_become_nothing_else(client: Client, queries: list[Query]) -> None:
    client.begin_move(*READ, *READ_SIDE, tree.INODE(*KEY, 10))
    with pytest.raises(GatewayError) as raised:
        client.send(*queries, commit=True)
    assert raised.value.code in ("not-allowed", "too-large")
    assert not client.gateway.open


def test_a_move_rests_on_what_this_transaction_has_read(client: Client) -> None:
    client.begin_move()
    client.refused("not-allowed", *SWITCH)
    client.begin_move(*READ)
    client.refused("not-allowed", *END)  # whether it is mounted was not asked
    client.send(tree.LOCK([], [LOCK]), begin=True)
    client.send(layer.STANDING(T, "main"))  # too late for the host to keep others quiet
    client.refused("not-allowed", *ADVANCE)
    client.begin(layer.STANDING(T, "main"))
    client.refused("not-allowed", *ADVANCE)


def test_a_layer_that_was_written_to_is_not_dropped(client: Client) -> None:
    client.begin_move(*READ_SIDE, tree.INODE(T, 2 << 32 | 1, BELOW, 10))
    client.refused("not-allowed", content(p2=2 << 32 | 1), *END, commit=True)


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


# --- garbage


@st.composite
def nearly(draw: st.DrawFn) -> bytes:
    """A batch of known statements with values of any types, as far as a frame can hold them."""
    names = draw(st.lists(st.sampled_from(sorted(STATEMENT_NAMES)), min_size=1, max_size=4))
    body = b""
    for name in names:
        count = len(frames.own(STATEMENT_NAMES[name], range(99))[0])
        values = draw(st.lists(st.one_of(st.none(), st.binary(max_size=40), st.sampled_from(GOOD)), min_size=count, max_size=count))
        body += bytes((len(name),)) + name.encode() + count.to_bytes(2)
        body += b"".join(b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4) + value for value in values)
    head = draw(st.integers(1, 3)).to_bytes(4) + bytes((draw(st.integers(0, 7)),)) + len(names).to_bytes(2)
    return (5 + len(head) + len(body)).to_bytes(4) + b"\x02\0\0\0\x05" + head + body


STATEMENT_NAMES = {statement.name: statement for statement in (query.statement for _, queries in LIES.values() for query in queries)}
STATEMENT_NAMES |= {query.statement.name: query.statement for query in (*ADVANCE, *SWITCH, *BRANCH, *END, *READ, *READ_SIDE, tree.HEAD(T, "main"))}
GOOD = [value for query in (make(), record(), content(), put(HOLE), *SWITCH, tree.LOCK([LOCK], []), tree.HEAD(T, "main"), tree.INODE(*KEY, 10))
        for _, request in [frames.read_request(frames.batch(5, 1, [query], begin=True, commit=True, durable=False))] if isinstance(request, frames.Trip)
        for value in map(bytes, filter(None, request.statements[0].values))]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60) | nearly(), max_size=6), st.booleans())
def test_whatever_comes_is_answered(sent: list[bytes], upkeep: bool) -> None:
    client = Client(Grant(upkeep=upkeep))
    client.begin(tree.INODE(*KEY, 1), tree.CHILD(*KEY, 1, b"d"), tree.INODE(*KEY, 10))
    for frame in sent:
        told: Any = client.gateway.receive(frame)
        if isinstance(told, Step):
            told = client.gateway.done(told, [answer(query) for query in told.queries])
        assert isinstance(told, Reply | Drop) and len(told.frame) >= 9
        assert frames.number_of(told.frame) == frames.number_of(frame)
