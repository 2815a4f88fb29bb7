"""A gateway's client that lies, against a real database: the other tenant's rows and the sealed layers are as they were, whatever it
sends. Which lies there are is in tests/unit/test_gateway_lies.py; here are those in which the server has a part, and random ones."""

from __future__ import annotations

import random
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tarbox_core import frames
from tarbox_core import layer_statements as layer
from tarbox_core import statements as tree
from tarbox_core.drivers.serving import Limits, Served
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.effects import Query, Rows
from tarbox_core.errors import GatewayError, SqlError, TarboxError
from tarbox_core.gateway import STATEMENTS, Grant
from tarbox_core.hashing import digest
from tarbox_core.session import feed, lock_key
from tarbox_core.tenant import attach
from tarbox_core.types import HOLE, TenantInfo
from tests.conftest import PgServer
from tests.gateway import through_gateway
from tests.tenants import Session, Tenant

QUICK = Limits(idle=0.5, statement=10.0, lock=2.0)


class Liar:
    """A client that says what it likes, as frames. Its transactions are numbered from 1."""

    def __init__(self, served: Served, info: TenantInfo) -> None:
        self.served = served
        self.id = info.id
        self.layer, self.visible = info.layer, info.visible

    @property
    def key(self) -> tuple[int, int, Any]:
        return self.id, self.layer, self.visible

    def lock(self, kind: str = "T", ino: int = 0, name: bytes = b"") -> int:
        return lock_key(self.id, kind, ino, name)

    def send(self, *queries: Query, begin: bool = False, commit: bool = False, transaction: int = 1) -> list[Rows]:
        frame = frames.batch(9, transaction, queries, begin=begin, commit=commit, durable=False)
        return frames.read_rows(frames.read_answer(self.served.exchange(frame), frames.ROWS), [query.statement for query in queries])

    def begin(self, *queries: Query, alone: tuple[int, ...] = ()) -> list[Rows]:
        return self.send(tree.LOCK([self.lock()], list(alone)), tree.HEAD(self.id, "main"), *queries, begin=True)[2:]

    def begin_move(self, *queries: Query) -> list[Rows]:
        return self.send(layer.PATIENCE("5000ms"), tree.LOCK([], [self.lock()]), layer.STANDING(self.id, "main"), *queries, begin=True)[2:]

    def number(self) -> int:
        numbers: list[int] = self.send(tree.NUMBERS(1), begin=True, commit=True)[0][0][0]
        return numbers[0]

    def make(self, ino: int, name: bytes, **changed: Any) -> Query:
        values: list[Any] = [
            *self.key, "main", 1, name, ino, stat.S_IFREG | 0o644, 0, 0, 0, 5, None, b"", True, 0, [0], 5, 5, ["create"], [0], "/x", 0, 0, None,
        ]  # fmt: skip
        for place, value in changed.items():
            values[int(place[1:]) - 1] = value
        return tree.MAKE(*values)


class Scene:
    """A tenant with something sealed and something not, its liar, and a tenant beside it whose rows nobody may touch."""

    def __init__(self, tenant: Tenant, other: Tenant, superuser: Any) -> None:
        self.tenant, self.other, self._superuser = tenant, other, superuser
        for each in (tenant, other):
            session = each.session()
            session.mkdir(b"/dir")
            session.mkdir(b"/dir/below")
            session.write(b"/file", b"sealed content " * 1000)
            session.write(b"/small", b"sealed")
            session.run(lambda session=session: session.fs.checkpoint(session.caller, "sealed"), durable=True)
            session.write(b"/open", b"open content " * 1000)
        with SyncDriver(tenant.url, tenant.info.role, pool_size=1) as driver:
            self.info = driver.run(lambda: attach(tenant.info))
        self.sealed = self.info.layer - 1
        self.served = Served(tenant.url, self.info, Grant(), limits=QUICK)
        self.liar = Liar(self.served, self.info)
        self.session = tenant.session()
        self._before = self.protected()

    def rows(self, sql: str, **values: Any) -> list[list[Any]]:
        return list(self._superuser.run(sql, **values))

    def protected(self) -> dict[str, str]:
        """Digests of what no client of this tenant may change: all rows of the other one, and what is sealed here."""
        found = {}
        for table in ("inode", "dentry", "extent", "xattr", "layer", "line", "head", "block", "text_version", "audit_logs", "audit_seal"):
            found[f"other {table}"] = f"select t::text from {table} t where tenant = {self.other.info.id} order by 1"
        for table in ("inode", "dentry", "extent", "xattr"):
            found[f"sealed {table}"] = f"select t::text from {table} t where tenant = {self.info.id} and layer <= {self.sealed} order by 1"
        columns = "layer, parent, id, name, automatic, created_at, sealed_at"  # its message may be changed
        found["sealed layer"] = f"select ({columns})::text from layer where tenant = {self.info.id} and layer <= {self.sealed} order by 1"
        found["old lines"] = f"select t::text from line t where tenant = {self.info.id} and line <= {self.info.layer >> 32} order by 1"
        found["blocks"] = f"select t::text from block t where tenant = {self.info.id} and hash = any(array[{self._hashes()}]::bytea[]) order by 1"
        return {name: str(self.rows(sql)) for name, sql in found.items()}

    def _hashes(self) -> str:
        """Of the blocks that the sealed file has."""
        content = b"sealed content " * 1000
        return ", ".join(f"'\\x{digest(content[at : at + 4096]).hex()}'" for at in range(0, len(content), 4096))

    def check(self) -> None:
        """Nothing that is protected has changed, and the gateway serves on."""
        assert self.protected() == self._before
        assert self.liar.send(tree.INODE(*self.liar.key, 1), begin=True, commit=True, transaction=1000)[0]

    def ino(self, path: bytes) -> int:
        return self.session.attr(path).ino


@pytest.fixture
def superuser(pg_server: PgServer, schema_url: str) -> Iterator[Any]:
    made = pg_server.connect(urlsplit(schema_url).path[1:])
    yield made
    made.close()


@pytest.fixture
def scene(make_tenant: Callable[..., Tenant], superuser: Any) -> Iterator[Scene]:
    made = Scene(make_tenant(max_file_size=1 << 30), make_tenant(), superuser)
    yield made
    made.check()
    made.served.close()


def refused(code: str, run: Callable[[], object]) -> str:
    with pytest.raises(GatewayError) as raised:
        run()
    assert raised.value.code == code
    return str(raised.value)


# --- another tenant


def test_no_frame_can_carry_another_tenants_id(scene: Scene) -> None:
    liar, other = scene.liar, scene.other.info.id
    assert liar.send(tree.HEAD(other, "main"), begin=True, commit=True)[0] == [(liar.layer, liar.visible, scene.info.epoch)]  # it is not sent
    frame = frames.batch(9, 1, [tree.HEAD(other, "main")], begin=True, commit=True, durable=False)
    smuggled = frame[4:].replace(b"\x08head.get\0\x01", b"\x08head.get\0\x02\0\0\0\x08" + other.to_bytes(8))
    answer = scene.served.exchange(len(smuggled).to_bytes(4) + smuggled)
    assert "2 values, not 1" in refused("bad-parameters", lambda: frames.read_answer(answer, frames.ROWS))


def test_locks_and_channels_of_others_are_refused(scene: Scene) -> None:
    liar, other = scene.liar, scene.other.info.id
    for query in (tree.LOCK([], [lock_key(other, "T", 0)]), tree.LOCK([0x746172626F78], []), tree.PRESENCES(lock_key(other, "P", 0)),
                  tree.TELL(feed(other), "1 2"), tree.TELL("pg_any", "1 2")):  # fmt: skip
        refused("foreign", lambda query=query: liar.send(query, begin=True, commit=True))  # type: ignore[misc]


# --- frames and statements


@pytest.mark.parametrize("frame", [b"", b"garbage", b"\xff" * 64, frames.hello(1, "x")[:-1], bytes(frames.REQUEST_MAX + 1)], ids=len)
def test_what_is_no_frame_is_answered(scene: Scene, frame: bytes) -> None:
    refused("too-large" if len(frame) > 100 else "protocol", lambda: frames.read_answer(scene.served.exchange(frame), frames.ROWS))


def test_unlisted_statements_and_wrong_types_are_refused(scene: Scene) -> None:
    liar = scene.liar
    frame = frames.batch(9, 1, [tree.HEAD(0, "main")], begin=True, commit=True, durable=False)
    for old, new, code in ((b"head.get", b"head.put", "unknown-statement"), (b"head.get", b"gc.texts", "not-allowed"), (b"main", b"ma\0n", "bad-parameters"),
                           (b"main", b"\xff\xff\xff\xff", "bad-parameters")):  # fmt: skip
        refused(code, lambda old=old, new=new: frames.read_answer(scene.served.exchange(frame.replace(old, new)), frames.ROWS))  # type: ignore[misc]
    with pytest.raises(SqlError) as raised:  # the right type, and nonsense
        liar.send(tree.INODE(0, 1, ((1, 2),), 1), STATEMENTS["trail.start"](0, 0, 0, None, None, None, None, -1), begin=True)
    assert raised.value.statement == "trail.start"
    refused("transaction", lambda: liar.send(tree.HEAD(0, "main")))


# --- what is sealed


def test_a_sealed_layer_cannot_be_written(scene: Scene) -> None:
    liar, ino = scene.liar, scene.ino(b"/small")
    below = ((scene.sealed >> 32 << 32, scene.sealed + 1),)
    for change in (
        tree.INODE_CONTENT(liar.id, scene.sealed, ino, 3, 3, b"bad", None, 5, 5),
        tree.DENTRY_DROP(liar.id, scene.sealed, below, 1, b"small"),
        tree.INODE_SET(liar.id, scene.sealed, ino, None, 5, None, None, None, 5, None),
        tree.INODE_REAP(liar.id, scene.sealed, below, ino),
    ):
        liar.begin(tree.INODE(liar.id, scene.sealed, below, ino), tree.INODE(*liar.key, ino), tree.INODE(*liar.key, 1))
        refused("not-allowed", lambda change=change: liar.send(change, commit=True))  # type: ignore[misc]
    number = liar.number()
    rows = liar.send(tree.LOCK([liar.lock()], []), liar.make(number, b"late", p2=scene.sealed, p3=below), begin=True, commit=True)
    assert rows[1][0][0] is False and rows[1][0][9] is None
    assert not scene.session.exists(b"/late")


def test_a_new_file_that_forges_what_its_branch_sees_is_not_made(scene: Scene) -> None:
    """It would take a name that is not free for free."""
    liar, number = scene.liar, scene.liar.number()
    rows = liar.send(tree.LOCK([liar.lock()], []), liar.make(number, b"small", p3=((liar.layer, liar.layer + 1),)), begin=True, commit=True)
    assert rows[1][0][9] is None
    assert scene.session.read(b"/small") == b"sealed"
    rows = liar.send(tree.LOCK([liar.lock()], []), liar.make(number, b"honest"), begin=True, commit=True)
    assert rows[1][0][9] is not None and scene.session.exists(b"/honest")


def test_heads_are_not_moved_to_nonsense(scene: Scene) -> None:
    liar, top = scene.liar, scene.info.layer
    seen = (*liar.visible[:-1], (top >> 32 << 32, top + 2))
    honest = [layer.SEAL(liar.id, top, "mine", "", False), layer.OPEN(liar.id, top + 1, top), layer.HEAD_MOVE(liar.id, "main", top + 1, seen, None)]
    for lie in (
        [layer.HEAD_MOVE(liar.id, "main", 1 << 40, ((0, 1 << 62),), None)], [layer.HEAD_MOVE(liar.id, "main", scene.sealed, liar.visible, None)],
        honest[:2], honest[1:], [honest[0], honest[1], layer.HEAD_MOVE(liar.id, "main", top + 1, ((0, 1 << 62),), None)],
        [layer.DROP(liar.id, [scene.sealed])], [layer.SEAL(liar.id, scene.sealed, "again", "", False)], [layer.HEAD_DROP(liar.id, "main")],
        [layer.LINE_OPEN(liar.id, 9, scene.sealed, ((0, 1 << 62),)), layer.OPEN(liar.id, 9 << 32 | 1, scene.sealed)],
    ):  # fmt: skip
        liar.begin_move(layer.LAYER(liar.id, top), layer.LAYER(liar.id, scene.sealed), layer.BELOW(liar.id, 1))
        refused("not-allowed", lambda lie=lie: liar.send(*lie, commit=True))  # type: ignore[misc]
    liar.begin_move()
    liar.send(*honest, commit=True)
    assert [each.name for each in scene.session.run(lambda: scene.session.fs.layers())] == ["sealed", "mine", None]
    operation, = scene.rows("select operation, metadata from audit_logs where tenant = :t order by id desc limit 1", t=liar.id)
    assert operation == ["gateway", {"statements": ["head.move", "layer.open", "layer.seal"]}]


# --- content


def test_blocks_are_what_their_hashes_say_and_are_there(scene: Scene) -> None:
    liar, ino, lost = scene.liar, scene.ino(b"/open"), digest(b"never stored")
    content = tree.INODE_CONTENT(liar.id, liar.layer, ino, 13000, 4096, None, None, 5, 5)
    liar.begin(tree.INODE_FULL(*liar.key, ino))
    refused("bad-hash", lambda: liar.send(tree.BLOCK_PUT(liar.id, [lost], [b"something else"])))
    liar.begin(tree.INODE_FULL(*liar.key, ino))
    error = refused("bad-hash", lambda: liar.send(tree.EXTENT_PUT(liar.id, liar.layer, ino, [0], [HOLE + lost]), content, commit=True))
    assert lost.hex() in error
    assert scene.session.read(b"/open") == b"open content " * 1000
    stored = digest((b"sealed content " * 1000)[:4096])  # in another file
    liar.begin(tree.INODE_FULL(*liar.key, ino))
    liar.send(tree.EXTENT_PUT(liar.id, liar.layer, ino, [0], [HOLE + stored]), content, commit=True)
    assert scene.session.run(lambda: scene.session.fs.getattr(ino)).blocks == 4096
    scene.tenant.damaged = False


def test_directories_stay_a_tree(scene: Scene) -> None:
    """A loop would send whoever walks it round for ever."""
    liar, up, down = scene.liar, scene.ino(b"/dir"), scene.ino(b"/dir/below")
    old, new = (1, b"dir"), (down, b"loop")
    locks = (liar.lock("N", *old), liar.lock("N", *new))
    moved = [tree.INODE_COPY_UP(*liar.key, up), tree.DENTRY_DROP(*liar.key, *old), tree.DENTRY_PUT(liar.id, liar.layer, *new, up, 4),
             tree.INODE_SET(liar.id, liar.layer, up, None, None, None, None, None, 5, down)]  # fmt: skip
    liar.begin(tree.INODE(*liar.key, 1), tree.CHILD(*liar.key, *old), tree.INODE(*liar.key, down), alone=locks)
    liar.send(tree.LOCK([], [liar.lock("R")]), tree.ANCESTORS(*liar.key, down))
    refused("not-allowed", lambda: liar.send(*moved, commit=True))
    liar.begin(tree.INODE(*liar.key, up), tree.INODE(*liar.key, down))
    refused("not-allowed", lambda: liar.send(tree.INODE_SET(liar.id, liar.layer, up, None, None, None, None, None, 5, down)))
    assert scene.session.names(b"/dir/below") == []


def test_what_is_cut_off_is_not_made_a_ring(scene: Scene) -> None:
    """Whose inode is gone tells no more what lies above it. Names would go round all the same, and who follows those, too."""
    liar, session = scene.liar, scene.session
    for path in (b"/q", b"/q/p", b"/q/p/c"):
        session.mkdir(path)
    q, p, c = (scene.ino(path) for path in (b"/q", b"/q/p", b"/q/p/c"))
    liar.begin(tree.INODE(*liar.key, p))
    liar.send(tree.INODE_LINKS(liar.id, liar.layer, p, 5, -50), tree.INODE_REAP(*liar.key, p), commit=True)
    old, new = (1, b"q"), (c, b"ring")
    liar.begin(*(tree.INODE(*liar.key, ino) for ino in (1, q, c)), tree.CHILD(*liar.key, *old), alone=(liar.lock("N", *old), liar.lock("N", *new)))
    liar.send(tree.LOCK([], [liar.lock("R")]), tree.ANCESTORS(*liar.key, c))
    refused("not-allowed", lambda: liar.send(tree.DENTRY_DROP(*liar.key, *old), tree.DENTRY_PUT(liar.id, liar.layer, *new, q, 4)))
    scene.tenant.damaged = True


def test_the_root_stays_linked(scene: Scene) -> None:
    """Else nothing more could be made, and whoever removes what is unlinked would take it away."""
    liar = scene.liar
    liar.begin(tree.INODE(*liar.key, 1))
    liar.send(tree.INODE_COPY_UP(*liar.key, 1), *[tree.INODE_TOUCH(liar.id, liar.layer, 1, 5, -1)] * 9, commit=True)
    assert scene.session.attr(b"/").nlink == 2
    scene.session.mkdir(b"/more")
    scene.tenant.damaged = True


# --- the audit


def test_what_is_not_recorded_is_recorded_by_the_gateway(scene: Scene) -> None:
    liar, ino = scene.liar, scene.ino(b"/open")
    liar.begin(tree.INODE(*liar.key, ino))
    liar.send(tree.INODE_SET(liar.id, liar.layer, ino, None, 7, None, None, None, 5, None), commit=True)
    liar.begin(tree.INODE(*liar.key, ino))
    liar.send(tree.INODE_SET(liar.id, liar.layer, ino, None, 8, None, None, None, 5, None))
    liar.send(commit=True)  # a commit by itself
    rows = scene.rows("select operation, uid, layer, metadata from audit_logs where tenant = :t order by id desc limit 2", t=liar.id)
    assert rows == [["gateway", 0, liar.layer, {"statements": ["inode.set"]}]] * 2
    assert scene.session.attr(b"/open").uid == 8


def test_who_it_was_is_not_for_the_client_to_say(scene: Scene) -> None:
    liar = scene.liar
    times = [time.time_ns()]
    liar.send(tree.AUDIT_MANY(liar.id, [1], times, ["read"], [5], ["/x"], [501], [77], [0], [9]), begin=True, commit=True)
    liar.send(tree.LOCK([liar.lock()], []), liar.make(liar.number(), b"mine", p20=[], p21=[], p23=501, p24=77), begin=True, commit=True)
    rows = scene.rows("select operation, uid, pid from audit_logs where tenant = :t order by id desc limit 2", t=liar.id)
    assert sorted(rows) == [["create", 0, 0], ["read", 0, 0]]


# --- transactions


def test_a_transaction_that_is_left_open_keeps_others_waiting_for_a_moment_only(scene: Scene) -> None:
    liar = scene.liar
    liar.begin_move()
    started = time.monotonic()
    scene.session.mkdir(b"/waited")  # until the server has ended it
    assert time.monotonic() - started < 3
    refused("transaction", lambda: liar.send(tree.HEAD(liar.id, "main")))
    assert scene.session.exists(b"/waited")


# --- whatever they say


class Babbler:
    """Sends what an honest client might, and puts other values into it that could be right somewhere else."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.random = random.Random(seed)
        self.liar = liar = scene.liar
        self.sealed = scene.sealed
        self.numbers: list[int] = liar.send(tree.NUMBERS(1000), begin=True, commit=True)[0][0][0]
        self.inos = [scene.ino(path) for path in (b"/", b"/dir", b"/dir/below", b"/file", b"/small", b"/open")]
        self.last_line, self.rests_on = 1, scene.sealed
        stamps = [scene.info.layer, scene.info.layer + 1, scene.sealed, 1 << 32, 2 << 32 | 1, 3 << 32 | 1]
        self.pools: dict[str, list[Any]] = {
            "int8": [*self.inos, *stamps, 0, 1, 2, -1, 1 << 62, liar.lock(), liar.id],
            "int4": [0, 1, 2, 5, 0o100644, 0o040755, 0o120777, -1], "int2": [4, 8], "bool": [True, False], "timestamptz": [0], "jsonb": [{"a": 1}],
            "text": ["main", "side", "sealed", "write", "create", feed(liar.id), "1 0 5", "1 2", "100ms", "/x"], "text[]": [["create"], ["read"], []],
            "int8multirange": [((1 << 32, scene.sealed + 1),), ((0, 1 << 62),), ()], "int8[]": [[], [0], [scene.sealed], stamps],
            "bytea": [b"x", b"", b"dir"], "bytea[]": [[HOLE], [digest(b"x")], [b"x"], []],
        }  # fmt: skip

    def honest(self, moving: bool) -> list[Query]:
        """What might follow in a transaction; `moving`: in one that is alone."""
        liar, pick = self.liar, self.random.choice
        t, at, key = liar.id, liar.layer, liar.key
        file, name, folder = pick(self.inos[3:]), pick([b"dir", b"below", b"file", b"small", b"open", b"new"]), pick(self.inos[:3])
        up = tree.INODE_COPY_UP(*key, pick(self.inos))
        line = self.last_line + 1
        forked = (*((1 << 32, self.sealed + 1),), (line << 32, (line << 32) + 2))
        fork = [layer.LINE_OPEN(t, line, self.sealed, forked[:1]), layer.OPEN(t, line << 32 | 1, self.sealed)]
        advanced = (*liar.visible[:-1], (at >> 32 << 32, at + 2))
        changes = [
            [up, tree.INODE_SET(t, at, file, None, 5, None, None, None, 5, None)], [up, tree.INODE_LINKS(t, at, file, 5, pick([-1, 1]))],
            [up, tree.INODE_CONTENT(t, at, file, 3, 3, b"bad", None, 5, 5)], [up, tree.INODE_TOUCH(t, at, folder, 5, pick([-1, 0, 1]))],
            [tree.DENTRY_PUT(t, at, folder, name, file, 8)], [tree.DENTRY_DROP(*key, folder, name)], [tree.INODE_REAP(*key, file)],
            [tree.BLOCK_PUT(t, [digest(name)], [name]), tree.EXTENT_PUT(t, at, file, [pick([0, 1])], [HOLE + digest(name)])], [tree.EXTENT_CUT(*key, file, 0)],
            [tree.XATTR_PUT(t, at, file, b"user." + name, b"bad")], [tree.XATTR_DROP(*key, file, b"user." + name)], [tree.INODE_UNPACK(t, at, file, b"bad")],
            [tree.AUDIT(t, at, "unlink", file, "/x", 0, 0, 0, 0, None)], [liar.make(self.numbers.pop(), name)],
        ]  # fmt: skip
        moves = [
            [layer.SEAL(t, at, None, "", True), layer.OPEN(t, at + 1, at), layer.HEAD_MOVE(t, "main", at + 1, advanced, None)],
            [layer.SEAL(t, at, None, "", True), *fork, layer.HEAD_MOVE(t, "main", line << 32 | 1, forked, at)],
            [layer.DROP(t, [at]), *fork, layer.HEAD_MOVE(t, "main", line << 32 | 1, forked, self.rests_on)],
            [*fork, layer.HEAD_MAKE(t, f"b{line}", line << 32 | 1, forked)], [layer.DESCRIBE(t, self.sealed, "words")],
        ]  # fmt: skip
        return pick(moves if moving and self.random.random() < 0.7 else changes)

    def spoiled(self, query: Query) -> Query:
        """With another value, the tenant's left alone: it is not sent."""
        statement, values = query
        place = self.random.randrange(int(statement.tenant), len(values))
        return statement(*values[:place], self.random.choice([None, *self.pools[statement.params[place]]]), *values[place + 1 :])

    def transaction(self) -> int:
        """One that begins as it should; how many of its batches passed."""
        liar, passed, moving = self.liar, 0, self.random.random() < 0.4
        try:
            if moving:
                (standing,) = liar.send(tree.LOCK([], [liar.lock()]), layer.STANDING(liar.id, "main"), begin=True)[1]
                liar.layer, liar.visible, self.last_line = standing[0], standing[1], standing[5]
                about = [layer.LAYER(liar.id, liar.layer), layer.LAYER(liar.id, self.sealed), layer.BELOW(liar.id, 1)]
                self.rests_on = liar.send(*about)[0][0][4]
            else:
                liar.layer, liar.visible = liar.begin(alone=(liar.lock("N", 1, b"dir"), liar.lock("R"))) or liar.send(tree.HEAD(liar.id, "main"))[0][0][:2]
            folders = [tree.CHILD(*liar.key, parent, name) for parent, name in ((1, b"dir"), (1, b"file"), (1, b"open"))]
            liar.send(*(tree.INODE(*liar.key, ino) for ino in self.inos), *folders)
            while self.random.random() < 0.7:
                queries = self.honest(moving)
                if self.random.random() < 0.3:
                    place = self.random.randrange(len(queries))
                    queries[place] = self.spoiled(queries[place])
                if self.random.random() < 0.1:
                    self.random.shuffle(queries)
                liar.send(*queries, tree.HEAD(liar.id, "main"))
                passed += 1
            liar.send(commit=True)
        except TarboxError:
            return passed
        return passed + 1


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_said_the_others_and_the_sealed_stay_as_they_are(scene: Scene, seed: int) -> None:
    scene.tenant.damaged = True  # by its own user, in what is not sealed
    babbler = Babbler(scene, seed)
    passed = sum(babbler.transaction() for _ in range(500))
    (changed,), = scene.rows("select count(*) from audit_logs where tenant = :t and operation = 'gateway'", t=scene.info.id)
    (moved,), = scene.rows("select epoch from head where tenant = :t and name = 'main'", t=scene.info.id)
    assert passed > 200 and changed > 20 and moved > 5, (passed, changed, moved)
    scene.check()
    kinds = {finding.kind for finding in scene.tenant.fsck(layers=True)}
    assert not {kind for kind in kinds if kind.startswith(("line", "head", "layer", "sealed", "shared", "lost", "open", "corrupt", "missing"))}, kinds
    sealed = scene.tenant.view("sealed")
    assert sealed.read(b"/file") == b"sealed content " * 1000 and sealed.read(b"/small") == b"sealed"


def test_an_honest_client_beside_it_does_all_that_users_do(scene: Scene) -> None:
    honest = through_gateway(scene.tenant)
    assert isinstance(honest, Session)
    fs, root = honest.fs, honest.caller
    honest.mkdir(b"/honest")
    honest.write(b"/honest/file", b"x" * 50_000)
    honest.rename(b"/honest", b"/dir/moved")
    honest.run(lambda: fs.checkpoint(root, "two"), durable=True)
    honest.unlink(b"/dir/moved/file")
    honest.run(lambda: fs.make_branch(root, "side"), durable=True)
    honest.run(lambda: fs.switch(root, "two"), durable=True)
    assert honest.read(b"/dir/moved/file") == b"x" * 50_000
    honest.run(lambda: fs.switch(root, "-"), durable=True)
    honest.run(lambda: fs.delete_branch(root, "side"), durable=True)
    honest.run(lambda: fs.describe(root, "two", "better"), durable=True)
    assert scene.rows("select count(*) from audit_logs where tenant = :t and operation = 'gateway'", t=scene.info.id) == [[0]]
