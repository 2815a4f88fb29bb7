"""Every operation of the facade through every driver: the same tree, the same answers, the same refusals.

One story, told row by row to a fresh database through each driver with the same clock; what each row gave must be what it
gave through the first.
"""

from __future__ import annotations

import inspect
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, NamedTuple

import anyio.from_thread
import pytest

from tarbox_core import check, sealing, tenant, trail
from tarbox_core.beneath import Walk
from tarbox_core.control import ControlledFilesystem
from tarbox_core.drivers import embedded
from tarbox_core.drivers.aio import AioDriver
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.effects import Op, finish, run
from tarbox_core.errors import GatewayError, TarboxError
from tarbox_core.filesystem import Filesystem
from tarbox_core.gateway import Grant
from tarbox_core.handles import DirHandle, FileHandle
from tarbox_core.layer import Branch, Layer
from tarbox_core.types import (
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    NOW,
    R_OK,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    SEEK_DATA,
    SEEK_HOLE,
    XATTR_CREATE,
    Caller,
    TenantInfo,
)
from tests.conftest import PgServer
from tests.gateway import ServedDriver
from tests.tenants import BLOCK, ROOT, prepare

Run = Callable[..., Any]  # a factory of an operation, durable=

KINDS: Mapping[str, Any] = {
    "fs": ControlledFilesystem, "file": FileHandle, "folder": DirHandle, "check": check, "trail": trail, "sealing": sealing, "tenant": tenant,
}  # fmt: skip
# Run under the owner's role, which no gateway works under.
OWNERS = {"trail.prune", *(f"tenant.{verb}" for verb in ("create", "listing", "info", "delete", "audit_ahead"))}
RANDOM = bytes(itertools.islice(itertools.cycle(range(251)), 5 * BLOCK))
TEXT = b"".join(b"line %d of a text\n" % n for n in range(400))
LATER = TEXT.replace(b"line 7 ", b"LINE 7 ")


class Recorder:
    """A thing, and which of its verbs were asked for."""

    def __init__(self, it: Any, name: str, asked: set[str]) -> None:
        self.it = it
        self._name = name
        self._asked = asked

    def __getattr__(self, verb: str) -> Any:
        self._asked.add(f"{self._name}.{verb}")
        return getattr(self.it, verb)


class World:
    """A tenant as one driver meets it."""

    def __init__(self, seen: TenantInfo, damage: Callable[[str], None]) -> None:
        self.damage = damage  # as superuser
        self.asked: set[str] = set()
        self.got: dict[str, Any] = {}  # what earlier rows gave
        clock = itertools.count(1_700_000_000 * 10**9, 1_000_000)
        self.fs = Recorder(ControlledFilesystem(seen, lambda: next(clock), enforce=True), "fs", self.asked)
        self.check, self.trail, self.sealing, self.tenant = (Recorder(KINDS[name], name, self.asked) for name in ("check", "trail", "sealing", "tenant"))
        self.session = self.fs.it.session

    def ino(self, label: str) -> int:
        given = self.got[label]
        return int(given[0].ino if isinstance(given, tuple) and not hasattr(given, "ino") else given.ino)

    def file(self, label: str) -> Recorder:
        given = self.got[label]
        return Recorder(given[1] if isinstance(given, tuple) else given, "file", self.asked)

    def folder(self, label: str) -> Recorder:
        return Recorder(self.got[label], "folder", self.asked)

    def alone(self) -> World:
        """No other door is there, as a door that looks would find."""
        self.session.alone = True
        return self


class Row(NamedTuple):
    label: str
    op: Callable[[World], Op[Any]]
    durable: bool = False
    upkeep: bool = False  # for maintainers: through a gateway it takes a grant of its own
    show: Callable[[Any], Any] = lambda given: given


def moves(label: str, op: Callable[[World], Op[Any]]) -> Row:
    return Row(label, op, durable=True)


def keeps_up(label: str, op: Callable[[World], Op[Any]]) -> Row:
    return Row(label, op, upkeep=True)


USER = Caller(1000, 1000, (50,), 7)
MAINTAINER = Grant(upkeep=True, caller=ROOT)

ROWS = [
    # --- names
    Row("mkdir", lambda w: w.fs.mkdir(ROOT, 1, b"dir", 0o755)),
    Row("mkdir where something is", lambda w: w.fs.mkdir(ROOT, 1, b"dir", 0o755)),
    Row("mkdir where one may not", lambda w: w.fs.mkdir(USER, 1, b"theirs", 0o755)),
    Row("a name too long", lambda w: w.fs.mkdir(ROOT, 1, b"n" * 256, 0o755)),
    Row("other", lambda w: w.fs.mkdir(ROOT, 1, b"other", 0o2777)),
    Row("lookup", lambda w: w.fs.lookup(ROOT, 1, b"dir")),
    Row("lookup nothing", lambda w: w.fs.lookup(ROOT, 1, b"nothing")),
    Row("mknod", lambda w: w.fs.mknod(ROOT, w.ino("mkdir"), b"fifo", 0o010600)),
    Row("mknod of a device", lambda w: w.fs.mknod(ROOT, w.ino("mkdir"), b"null", 0o020666, os.makedev(1, 3))),
    Row("symlink", lambda w: w.fs.symlink(ROOT, 1, b"link", b"dir/small")),
    Row("readlink", lambda w: w.fs.readlink(ROOT, w.ino("symlink"))),
    Row("small", lambda w: w.fs.create(ROOT, w.ino("mkdir"), b"small", 0o644)),
    Row("hard link", lambda w: w.fs.link(ROOT, w.ino("small"), w.ino("other"), b"same")),
    Row("access", lambda w: w.fs.access(USER, w.ino("small"), R_OK)),
    Row("getattr", lambda w: w.fs.getattr(w.ino("small"))),
    Row("settle", lambda w: w.fs.settle(w.ino("mkdir"))),
    Row("resolve", lambda w: w.fs.resolve(ROOT, b"/link")),
    Row("resolve the link", lambda w: w.fs.resolve(ROOT, b"/link", follow=False)),
    Row("resolve_parent", lambda w: w.fs.resolve_parent(ROOT, b"/dir/new")),
    # --- content
    Row("write", lambda w: w.file("small").write(ROOT, 0, TEXT)),
    Row("flush", lambda w: w.file("small").flush(ROOT)),
    Row("fsync", lambda w: w.file("small").fsync(ROOT), durable=True),
    Row("create", lambda w: w.fs.create(ROOT, w.ino("mkdir"), b"large", 0o640, exclusive=True)),
    Row("create again", lambda w: w.fs.create(ROOT, w.ino("mkdir"), b"large", 0o640, exclusive=True)),
    Row("write blocks", lambda w: w.file("create").write(ROOT, BLOCK + 5, RANDOM)),
    Row("append", lambda w: w.file("create").write(ROOT, 0, b"the end", append=True)),
    Row("read what is not stored", lambda w: w.file("create").read(ROOT, BLOCK, 100)),
    Row("store blocks", lambda w: w.file("create").flush(ROOT)),
    Row("read", lambda w: w.file("create").read(ROOT, 0, 1 << 20)),
    Row("seek data", lambda w: w.file("create").seek(ROOT, 0, SEEK_DATA)),
    Row("punch", lambda w: w.file("create").fallocate(ROOT, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 2 * BLOCK, BLOCK)),
    Row("seek hole", lambda w: w.file("create").seek(ROOT, BLOCK, SEEK_HOLE)),
    Row("seek beyond", lambda w: w.file("create").seek(ROOT, 1 << 30, SEEK_DATA)),
    Row("grow", lambda w: w.file("create").fallocate(ROOT, 0, 0, 40 * BLOCK)),
    Row("truncate", lambda w: w.file("create").truncate(ROOT, 3 * BLOCK + 9)),
    Row("copy_range", lambda w: w.fs.copy_range(ROOT, w.got["create"][1], 0, w.got["small"][1], len(TEXT), 2 * BLOCK)),
    Row("release", lambda w: w.file("create").release(ROOT)),
    Row("release the other", lambda w: w.file("small").release(ROOT)),
    Row("open", lambda w: w.fs.open(ROOT, w.ino("create"))),
    Row("read what is stored", lambda w: w.file("open").read(ROOT, 0, 1 << 20)),
    Row("close", lambda w: w.file("open").release(ROOT)),
    Row("walk", lambda w: w.got.setdefault("walker", Walk(w.fs.it, ROOT, w.ino("mkdir"), b"large", opening=True)).step()),
    Row("open_seen", lambda w: w.fs.open_seen(ROOT, w.got["walker"].seen)),
    Row("close what was seen", lambda w: w.file("open_seen").release(ROOT)),
    Row("open what one may not", lambda w: w.fs.open(USER, w.ino("create"), write=True)),
    Row("truncate by path", lambda w: w.fs.setattr(ROOT, w.ino("create"), size=BLOCK + 1)),
    Row("too large", lambda w: w.fs.setattr(ROOT, w.ino("create"), size=1 << 50)),
    # --- attributes
    Row("chmod", lambda w: w.fs.setattr(ROOT, w.ino("small"), mode=0o4755)),
    Row("chown", lambda w: w.fs.setattr(ROOT, w.ino("small"), uid=1000, gid=1000)),
    Row("utimens", lambda w: w.fs.setattr(ROOT, w.ino("small"), atime=5, mtime=NOW)),
    Row("setxattr", lambda w: w.fs.setxattr(ROOT, w.ino("small"), b"user.color", b"red" * 100, XATTR_CREATE)),
    Row("setxattr again", lambda w: w.fs.setxattr(ROOT, w.ino("small"), b"user.color", b"blue", XATTR_CREATE)),
    Row("getxattr", lambda w: w.fs.getxattr(ROOT, w.ino("small"), b"user.color")),
    Row("setxattr that goes", lambda w: w.fs.setxattr(ROOT, w.ino("small"), b"user.gone", b"")),
    Row("listxattr", lambda w: w.fs.listxattr(ROOT, w.ino("small"))),
    Row("removexattr", lambda w: w.fs.removexattr(ROOT, w.ino("small"), b"user.gone")),
    Row("getxattr of none", lambda w: w.fs.getxattr(ROOT, w.ino("small"), b"user.gone")),
    # --- directories
    Row("opendir", lambda w: w.fs.opendir(ROOT, w.ino("mkdir"))),
    Row("readdir", lambda w: w.folder("opendir").read(ROOT, 0, 100)),
    Row("readdir page", lambda w: w.folder("opendir").read(ROOT, 2, 2, plus=False)),
    Row("rename", lambda w: w.fs.rename(ROOT, w.ino("mkdir"), b"fifo", w.ino("other"), b"pipe")),
    Row("rename onto nothing", lambda w: w.fs.rename(ROOT, w.ino("mkdir"), b"fifo", 1, b"x")),
    Row("rename that replaces not", lambda w: w.fs.rename(ROOT, w.ino("mkdir"), b"null", w.ino("other"), b"same", RENAME_NOREPLACE)),
    Row("exchange", lambda w: w.fs.rename(ROOT, w.ino("mkdir"), b"large", w.ino("other"), b"pipe", RENAME_EXCHANGE)),
    Row("rename a directory", lambda w: w.fs.rename(ROOT, 1, b"dir", w.ino("other"), b"moved")),
    Row("a directory into itself", lambda w: w.fs.rename(ROOT, 1, b"other", w.ino("mkdir"), b"x")),
    Row("rename back", lambda w: w.fs.rename(ROOT, w.ino("other"), b"moved", 1, b"dir")),
    Row("rmdir of a full one", lambda w: w.fs.rmdir(ROOT, 1, b"dir")),
    Row("unlink", lambda w: w.fs.unlink(ROOT, w.ino("mkdir"), b"null")),
    Row("unlink a directory", lambda w: w.fs.unlink(ROOT, 1, b"dir")),
    Row("rmdir", lambda w: w.fs.rmdir(ROOT, 1, b"empty")),
    # --- layers
    moves("checkpoint", lambda w: w.fs.checkpoint(ROOT, "one", "the first")),
    moves("automatic checkpoint", lambda w: w.fs.checkpoint(ROOT, automatic=True)),
    moves("the same name", lambda w: w.fs.checkpoint(ROOT, "one")),
    Row("change a text", lambda w: w.fs.open(ROOT, w.ino("small"), write=True, truncate=True)),
    Row("write it", lambda w: w.file("change a text").write(ROOT, 0, LATER)),
    Row("store it", lambda w: w.file("change a text").release(ROOT)),
    Row("in the second layer", lambda w: w.fs.mkdir(ROOT, 1, b"second", 0o700)),
    Row("begun", lambda w: w.fs.begun(), show=lambda found: found[1]),
    moves("second checkpoint", lambda w: w.fs.checkpoint(ROOT, "two")),
    Row("in the third layer", lambda w: w.fs.rmdir(ROOT, 1, b"second")),
    moves("third checkpoint", lambda w: w.fs.checkpoint(ROOT, "three")),
    Row("layers", lambda w: w.fs.layers()),
    Row("layer", lambda w: w.fs.layer("two")),
    Row("layer of no name", lambda w: w.fs.layer("nothing")),
    Row("current", lambda w: w.fs.current()),
    moves("describe", lambda w: w.fs.describe(ROOT, "one", "another message")),
    Row("view", lambda w: w.fs.view("two")),
    Row("compare", lambda w: w.fs.compare("one", "two"), show=lambda both: (both.old.label, both.new.label)),
    Row("changes", lambda w: w.fs.changes("one", "three")),
    Row("contents", lambda w: contents(w)),
    Row("history", lambda w: w.fs.history(b"/dir/small")),
    Row("history of nothing", lambda w: w.fs.history(b"/never")),
    moves("switch", lambda w: w.fs.switch(ROOT, "two")),
    Row("resolve in it", lambda w: w.fs.resolve(ROOT, b"/second")),
    Row("change after the switch", lambda w: w.fs.symlink(ROOT, 1, b"after", b"x" * 3000)),
    moves("switch back", lambda w: w.fs.switch(ROOT, "-")),
    Row("not seen any more", lambda w: w.fs.lookup(ROOT, 1, b"after")),
    moves("make_branch", lambda w: w.fs.make_branch(ROOT, "side", "one")),
    moves("make_branch of the head", lambda w: w.fs.make_branch(ROOT, "here")),
    Row("branches", lambda w: w.fs.branches()),
    moves("delete_branch", lambda w: w.fs.delete_branch(ROOT, "side")),
    moves("delete the branch in use", lambda w: w.fs.delete_branch(ROOT, "main")),
    Row("refresh", lambda w: w.fs.refresh()),
    # --- control files
    Row("control directory", lambda w: w.fs.resolve(ROOT, b"/.tarbox/layers")),
    Row("control file", lambda w: w.fs.resolve(ROOT, b"/.tarbox/layers/new")),
    Row("open it", lambda w: w.fs.open(ROOT, w.ino("control file"), write=True)),
    moves("checkpoint by a write", lambda w: w.file("open it").write(ROOT, 0, b"by hand\n")),
    Row("list", lambda w: w.fs.resolve(ROOT, b"/.tarbox/layers/list")),
    Row("open the list", lambda w: w.fs.open(ROOT, w.ino("list"))),
    Row("read the list", lambda w: w.file("open the list").read(ROOT, 0, 1 << 20), show=lambda text: re.sub(rb"20\d\d-\S+Z", b"then", text)),
    # --- the whole
    Row("statfs", lambda w: w.fs.statfs()),
    Row("usage", lambda w: w.tenant.usage(w.fs.it.tenant)),
    Row("attach", lambda w: w.tenant.attach(w.fs.it.tenant, "here")),
    Row("text_stats", lambda w: w.fs.text_stats()),
    Row("flush_records", lambda w: w.fs.flush_records()),
    Row("sync", lambda w: w.fs.sync(ROOT), durable=True),
    Row("harden", lambda w: finish(), durable=True),
    Row("fsck", lambda w: w.check.fsck(w.fs.it, layers=True)),
    Row("verify before a seal", lambda w: w.sealing.verify(w.session), show=lambda verdict: (verdict.seals, verdict.troubles)),
    # --- maintenance
    Row("look for texts", lambda w: w.got.setdefault("packer", w.fs.it.packer(whole=True)).look(4 << 20)),
    keeps_up("pack them", lambda w: w.got["packer"].store()),
    moves("squash", lambda w: w.fs.squash(ROOT, "one", "two"))._replace(upkeep=True),
    moves("delete_layer", lambda w: w.fs.delete_layer(ROOT, w.got["switch back"].left.id))._replace(upkeep=True),
    Row("chmod again", lambda w: w.fs.setattr(ROOT, w.ino("small"), mode=0o600)),
    Row("damage", lambda w: damaged(w, f"update inode set nlink = 7 where ino = {w.ino('small')} and layer = {w.session.layer}")),
    keeps_up("fsck that repairs", lambda w: w.check.fsck(w.fs.it, repair=True)),
    keeps_up("gc", lambda w: w.check.gc(w.alone().fs.it)),
    keeps_up("seal", lambda w: w.sealing.seal(w.session)),
    Row("verify", lambda w: w.sealing.verify(w.session), show=lambda verdict: verdict.troubles),
    Row("reap", lambda w: w.check.reap(w.alone().fs.it)),
    Row("all is well", lambda w: w.check.fsck(w.fs.it, layers=True)),
    # --- the trail of it all
    Row("page", lambda w: w.trail.page(w.session, trail.Wanted(), (0, 0), 1000)),
    Row("newest", lambda w: w.trail.newest(w.session, trail.Wanted(operations=["rename"]), 2), show=bool),
    Row("snapshot", lambda w: w.trail.snapshot(w.session), show=bool),
    Row("since", lambda w: w.trail.since(w.session, trail.Wanted(), w.got["snapshot"]), show=lambda found: found[1]),
    Row("report", lambda w: w.trail.report(w.session, trail.Wanted(), 10), show=lambda report: (report.operations, report.paths)),
]


def contents(w: World) -> Op[Any]:
    """A changed file's two contents; a comparison is an operation's result, and its methods are operations."""
    comparison = yield from w.fs.it.compare("one", "two")
    changes = yield from comparison.changes(b"/dir")
    return changes, (yield from comparison.contents(next(change for change in changes if change.path == b"/dir/small")))


def damaged(w: World, sql: str) -> Op[None]:
    w.damage(sql)
    yield from run()


def plain(value: Any) -> Any:
    """A result as something that can be compared between databases: numbers and times of records, and times of layers, are the
    server's, and whom a record names is the gateway's."""
    if isinstance(value, trail.Record):
        value = value[3:8] + value[10:]
    if isinstance(value, (Layer, Branch)):
        value = value._replace(created_at=0)
    if isinstance(value, Layer):
        value = value._replace(sealed_at=value.sealed_at and 1)
    if isinstance(value, TenantInfo):
        return value.name, value.head, value.layer, value.visible, value.epoch
    if isinstance(value, (bytes, str, int)) or value is None:
        return value
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(plain, value)]
    if is_dataclass(value):
        return [type(value).__name__, *(plain(getattr(value, field.name)) for field in fields(value))]
    return [type(value).__name__, getattr(value, "ino", None)]  # what is open


class Told(NamedTuple):
    """How a row ended."""

    label: str
    result: Any


def tell(perform: Run, world: World, *, upkeep: bool = True) -> list[Told]:
    """Run the rows; those for maintainers only with the grant, else how they are refused."""
    told = []
    for row in ROWS:
        try:
            world.got[row.label] = given = perform(partial(row.op, world), durable=row.durable)
            told.append(Told(row.label, plain(row.show(given))))
        except TarboxError as error:
            assert not isinstance(error, GatewayError) or (row.upkeep and not upkeep), f"{row.label}: {error}"
            told.append(Told(row.label, f"{type(error).__name__}: {error}"))
    return told


@pytest.fixture(scope="module")
def opened(pg_server: PgServer) -> Callable[..., Any]:
    """A driver of a kind on a fresh database with one tenant, as a context: what runs operations, and where they run."""

    def fill(url: str) -> None:
        prepare(url)
        with SyncDriver(url) as owner:
            owner.run(lambda: tenant.create("story", block_size=BLOCK, max_file_size=1 << 30, now=10**18))

    template = pg_server.template("story", fill)

    @contextmanager
    def open_(kind: str, grant: Grant = MAINTAINER) -> Iterator[tuple[Run, World]]:
        with pg_server.database(template) as url, anyio.from_thread.start_blocking_portal() as portal:
            superuser = url.replace("tarbox@", f"{embedded.SUPERUSER}@")

            def damage(sql: str) -> None:
                with SyncDriver(superuser) as driver:
                    driver.script(sql)

            with SyncDriver(url, pool_size=1) as owner:
                info = owner.run(lambda: tenant.info("story"))
            with SyncDriver(url, info.role, pool_size=2) as driver:
                seen = driver.run(lambda: tenant.attach(info))
                if kind == "sync":
                    yield driver.run, World(seen, damage)
            if kind == "remote":
                with ServedDriver(url, seen, grant) as remote:
                    yield remote.run, World(remote.tenant, damage)
            if kind == "aio":
                aio = AioDriver(url, info.role, pool_size=2)
                try:
                    yield lambda factory, **how: portal.call(partial(aio.run, factory, **how)), World(seen, damage)
                finally:
                    portal.call(aio.close)

    return open_


@pytest.fixture(scope="module")
def first(opened: Callable[..., Any]) -> tuple[list[Told], set[str]]:
    """What the story gives through the driver for threads, and the verbs that it asked for."""
    with opened("sync") as (run, world):
        return tell(run, world), world.asked


def operations(kind: Any) -> set[str]:
    """The public functions of a module, or methods of a class, that are operations."""
    found = [(name, each) for name, each in inspect.getmembers(kind, inspect.isfunction) if inspect.isclass(kind) or each.__module__ == kind.__name__]
    return {name for name, each in found if name[0] != "_" and each.__annotations__.get("return", "").startswith("Op[")}


def test_the_story_tells_of_every_operation(first: tuple[list[Told], set[str]]) -> None:
    every = {f"{name}.{verb}" for name, kind in KINDS.items() for verb in operations(kind)}
    assert len(operations(ControlledFilesystem)) > 35
    assert operations(Filesystem) == operations(ControlledFilesystem)
    assert every - OWNERS - first[1] == set()
    assert len({row.label for row in ROWS}) == len(ROWS)


def test_what_the_story_expects_to_succeed_does(first: tuple[list[Told], set[str]]) -> None:
    """So that drivers do not merely agree on failures."""
    failed = [label for label, result in first[0] if isinstance(result, str) and "Error: " in result]
    assert failed == [
        "mkdir where something is", "mkdir where one may not", "a name too long", "lookup nothing", "create again", "seek beyond",
        "open what one may not", "too large", "setxattr again", "getxattr of none", "rename onto nothing", "rename that replaces not",
        "a directory into itself", "rmdir of a full one", "unlink a directory", "rmdir", "the same name", "layer of no name",
        "history of nothing", "not seen any more", "delete the branch in use",
    ]  # fmt: skip
    found = dict(first[0])
    assert found["fsck"] == found["all is well"] == found["verify"] == ["list"]
    assert [(finding[1], finding[4]) for finding in found["fsck that repairs"][1:]] == [("wrong-links", "corrected the count")]


@pytest.mark.parametrize("kind", ["aio", "remote"])
def test_every_driver_tells_the_same_story(opened: Callable[..., Any], first: tuple[list[Told], set[str]], kind: str) -> None:
    with opened(kind) as (run, world):
        for mine, expected in zip(tell(run, world), first[0], strict=True):
            assert mine == expected
        assert world.asked == first[1]


def test_maintenance_takes_a_grant_of_its_own(opened: Callable[..., Any], first: tuple[list[Told], set[str]]) -> None:
    maintenance = [row.label for row in ROWS if row.upkeep]
    assert len(maintenance) == 6
    with opened("remote", Grant(caller=ROOT)) as (run, world):
        told = tell(run, world, upkeep=False)
        stop = maintenance[0]
        before = list(itertools.takewhile(lambda one: one.label != stop, told))
        assert before == first[0][: len(before)]
        refused = {label: result for label, result in told if label in maintenance}
        for label in maintenance:
            assert re.match(r"GatewayError: statement [a-z_.]+(,| is not for this client)", refused[label]), label
