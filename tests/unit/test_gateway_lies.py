"""The gateway against clients that lie. What the server itself would refuse is in tests/pg/test_gateway.py."""

from __future__ import annotations

import stat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarbox_core import frames
from tarbox_core import layer_statements as layer
from tarbox_core import statements as tree
from tarbox_core.effects import Query
from tarbox_core.errors import ConnectionLost
from tarbox_core.gateway import STATEMENTS, Drop, Grant, Reply, Step
from tarbox_core.hashing import digest
from tarbox_core.session import feed, lock_key
from tarbox_core.types import HOLE
from tests.lying import (
    BELOW,
    KEY,
    LOCK,
    OPEN,
    SEALED,
    SECOND,
    SEES,
    SWITCH,
    Client,
    T,
    answer,
    content,
    inode_set,
    make,
    name_lock,
    put,
    record,
)


@pytest.fixture
def client() -> Client:
    return Client()


# --- lies, each behind an honest beginning: the inodes 1 (a directory), 10 and 12 (files) and 11 (a link) are read, and known names locked


OLD = (T, SEALED, BELOW)
LIES: dict[str, tuple[str, list[Query]]] = {
    # another tenant's
    "lock-foreign": ("foreign", [tree.LOCK([], [lock_key(T + 1, "T", 0)])]),
    "lock-of-none": ("foreign", [tree.LOCK([1], [])]),
    "lock-of-doors": ("foreign", [tree.LOCK([lock_key(T, "P", 0)], [])]),
    "lock-of-quiet": ("foreign", [tree.LOCK([], [lock_key(T, "Q", 0)])]),
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
    "links-of-root": ("bad-parameters", [tree.INODE_LINKS(T, OPEN, 1, 5, -1)]),
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
    "extents-of-folder": ("bad-parameters", [tree.EXTENT_PUT(T, OPEN, 1, [0], [HOLE])]),
    "extents-cut-of-link": ("bad-parameters", [tree.EXTENT_CUT(*KEY, 11, 0)]),
    "unpack-folder": ("bad-parameters", [tree.INODE_UNPACK(T, OPEN, 1, b"x")]),
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


def test_a_number_is_used_once_by_transactions_side_by_side(client: Client) -> None:
    """One in each branch would be two inodes of one number."""
    client.numbered()
    client.send(tree.LOCK([LOCK], []), make(), begin=True, transaction=2)
    client.refused("not-allowed", tree.LOCK([LOCK], []), make(), begin=True)
    client.gateway.receive(frames.undo(5, 2))
    client.send(tree.LOCK([LOCK], []), make(), begin=True, commit=True)


def test_a_number_is_used_where_nobody_knows_whether_it_is(client: Client) -> None:
    client.numbered()
    step = client.gateway.receive(frames.batch(5, 1, [tree.LOCK([LOCK], []), make()], begin=True, commit=True, durable=False))
    assert isinstance(step, Step)
    client.gateway.failed(step, ConnectionLost("gone", True))
    client.refused("not-allowed", tree.LOCK([LOCK], []), make(), begin=True)


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


@pytest.mark.parametrize("lie", ["below-itself", "others-move", "cut-off", "old-name-stays", "parent-stays", "again"])
def test_a_directory_has_one_place_and_does_not_lie_below_itself(client: Client, lie: str) -> None:
    old, new, ino = ((1, b"d"), (3, b"x"), 2) if lie == "below-itself" else ((2, b"below"), (1, b"x"), 3)
    if lie == "cut-off":
        old, new, ino = (1, b"d"), (4, b"x"), 2
    begin_rename(client, old, new, alone=lie != "others-move")
    queries = moved(old, new, ino)
    if lie == "old-name-stays":
        queries = queries[1:]
    elif lie == "parent-stays":
        del queries[2]
    elif lie == "again":
        queries.insert(2, tree.DENTRY_PUT(T, OPEN, *old, ino, 4))
    client.refused("not-allowed", *queries, commit=True)


# --- garbage


@st.composite
def nearly(draw: st.DrawFn) -> bytes:
    """A batch of known statements with values of any types, as far as a frame can hold them."""
    names = draw(st.lists(st.sampled_from(sorted(STATEMENTS)), min_size=1, max_size=4))
    body = b""
    for name in names:
        count = len(frames.own(STATEMENTS[name], range(99))[0])
        values = draw(st.lists(st.one_of(st.none(), st.binary(max_size=40), st.sampled_from(GOOD)), min_size=count, max_size=count))
        body += bytes((len(name),)) + name.encode() + count.to_bytes(2)
        body += b"".join(b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4) + value for value in values)
    head = draw(st.integers(1, 3)).to_bytes(4) + bytes((draw(st.integers(0, 7)),)) + len(names).to_bytes(2)
    return (5 + len(head) + len(body)).to_bytes(4) + b"\x02\0\0\0\x05" + head + body


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
