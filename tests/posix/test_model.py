"""Random operations on Tarbox beside a plain model of a tree in memory; what each returns, and the whole tree, must agree.

Two machines: two sessions on one tenant, where one sees what the other flushed; and one session alone, which removes
what is unlinked at once and lets new files wait in memory. Deadlocks are thrown into operations at random trips, so that
what is run twice must not do its work twice.

Each machine is driven twice: far, by plain random choices, which find what needs many steps; and by Hypothesis, which
makes what it finds small. TARBOX_MODEL_WALKS and TARBOX_MODEL_EXAMPLES say how often.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tarbox_core import check
from tarbox_core.effects import Op
from tarbox_core.errors import FsError
from tarbox_core.filesystem import OpenFile
from tarbox_core.types import (
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    FALLOC_ZERO_RANGE,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    ROOT_INO,
    SEEK_DATA,
    SEEK_HOLE,
    XATTR_CREATE,
    XATTR_REPLACE,
    Attr,
)
from tests.disturbed import disturbed
from tests.tenants import BLOCK, ROOT, Session, Tenant

R = TypeVar("R")

CHUNK = 32 * BLOCK
WALKS = int(os.environ.get("TARBOX_MODEL_WALKS", "12"))
EXAMPLES = int(os.environ.get("TARBOX_MODEL_EXAMPLES", "5"))
STEPS = 40

NAMES = [b"a", b"b", b"c", b"d", b"\xff \n"]
names = st.sampled_from(NAMES)
picks = st.integers(0, 1 << 16)
edges = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1, CHUNK - BLOCK, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + 5 * BLOCK]
offsets = st.one_of(st.sampled_from(edges), st.integers(0, CHUNK + 8 * BLOCK), st.integers(0, 3 * BLOCK))
xattr_flags = st.sampled_from([0, XATTR_CREATE, XATTR_REPLACE])
FALLOC = [0, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE]
lengths = st.one_of(st.sampled_from([1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK]), st.integers(1, 12 * BLOCK))


class Node:
    """An inode of the model."""

    def __init__(self, attr: Attr, kind: str, mode: int, target: bytes = b"") -> None:
        self.ino = attr.ino
        self.kind = kind
        self.mode = mode
        self.uid = self.gid = 0
        self.nlink = 2 if kind == "dir" else 1
        self.data = bytearray()
        self.target = target
        self.xattrs: dict[bytes, bytes] = {}
        self.entries: dict[bytes, Node] = {}
        self.parent: Node | None = None
        self.unflushed: int | None = None  # the session that holds writes to it


class Handle:
    def __init__(self, session: int, opened: OpenFile, node: Node) -> None:
        self.session = session
        self.opened = opened
        self.node = node


@contextmanager
def fails(number: int) -> Iterator[None]:
    with pytest.raises(FsError) as error:
        yield
    assert error.value.errno == number, f"{errno.errorcode[error.value.errno]} instead of {errno.errorcode[number]}"


class TreeMachine(RuleBasedStateMachine):
    make_tenant: Callable[..., Tenant]
    two_sessions = True

    @initialize()
    def begin(self) -> None:
        self.tenant = type(self).make_tenant(max_file_size=CHUNK + 10 * BLOCK)
        if self.two_sessions:
            self.sessions = [self.tenant.session(alone=False), self.tenant.session(alone=False)]
        else:
            self.sessions = [self.tenant.session(alone=True, defer=True)]
        root = self.sessions[0].run(lambda: self.sessions[0].fs.getattr(ROOT_INO))
        self.root = Node(root, "dir", 0o755)
        self.root.parent = self.root
        self.handles: list[Handle] = []
        self.unlinked: list[Node] = []
        self.now_and_then = random.Random(0)
        # Something to work on from the first step.
        for where, name, kind in ((0, b"a", "dir"), (1, b"b", "dir"), (0, b"c", "file"), (1, b"d", "file"), (2, b"a", "file")):
            self.make(where, where, name, kind, 0o755, True)
        for which, length in ((0, 100), (1, 3 * BLOCK), (2, CHUNK)):
            self.write(which, 0, length, 1, False)
        self.close(0)
        self.flush(0, False)

    # --- helpers

    def nodes(self) -> list[Node]:
        """Everything that has a name, each once, the root first."""
        found: list[Node] = []

        def walk(node: Node) -> None:
            if node not in found:
                found.append(node)
                for name in sorted(node.entries):
                    walk(node.entries[name])

        walk(self.root)
        return found

    def folder(self, pick: int) -> Node:
        folders = [node for node in self.nodes() if node.kind == "dir"]
        return folders[pick % len(folders)]

    def file(self, pick: int) -> Node | None:
        files = [node for node in self.nodes() if node.kind == "file"]
        return files[pick % len(files)] if files else None

    def run(self, session: int, factory: Callable[[Session], Op[R]]) -> R:
        s = self.sessions[session]
        trip = self.now_and_then.choice([None, None, None, 0, 1, 2, 3])
        return s.run(disturbed(lambda: factory(s), trip))

    def session(self, pick: int, *nodes: Node) -> int | None:
        """A session that may deal with the content of these: the one that holds unflushed writes. None if there are two."""
        holders = {node.unflushed for node in nodes if node.unflushed is not None}
        if len(holders) > 1:
            return None
        return holders.pop() if holders else pick % len(self.sessions)

    def free(self, node: Node) -> None:
        node.nlink = 0

    # --- names

    @rule(pick=picks, where=picks, name=names, kind=st.sampled_from(["file", "file", "dir", "link", "fifo"]), mode=st.integers(0, 0o777), keep=st.booleans())
    def make(self, pick: int, where: int, name: bytes, kind: str, mode: int, keep: bool) -> None:
        folder, session = self.folder(where), pick % len(self.sessions)
        target = b"/some/where/" + name
        if kind == "dir" and self.depth(folder) > 3:
            return

        def attempt() -> tuple[Attr, OpenFile | None]:
            if kind == "file":
                return self.run(session, lambda s: s.fs.create(ROOT, folder.ino, name, mode, exclusive=True))
            if kind == "dir":
                return self.run(session, lambda s: s.fs.mkdir(ROOT, folder.ino, name, mode)), None
            if kind == "link":
                return self.run(session, lambda s: s.fs.symlink(ROOT, folder.ino, name, target)), None
            return self.run(session, lambda s: s.fs.mknod(ROOT, folder.ino, name, mode | 0o010000)), None

        if name in folder.entries:
            found = self.run(session, lambda s: s.fs.lookup(ROOT, folder.ino, name))
            assert found.ino == folder.entries[name].ino
            with fails(errno.EEXIST):
                attempt()
            there = folder.entries[name]
            if kind == there.kind == "file" and self.session(pick, there) == session:
                attr, opened = self.run(session, lambda s: s.fs.create(ROOT, folder.ino, name, mode))
                assert (attr.ino, attr.size, attr.mode & 0o7777) == (there.ino, len(there.data), there.mode)
                self.handles.append(Handle(session, opened, there))
                if not keep:
                    self.release(self.handles[-1])
            return
        with fails(errno.ENOENT):
            self.run(session, lambda s: s.fs.lookup(ROOT, folder.ino, name))
        attr, opened = attempt()
        node = Node(attr, kind, 0o777 if kind == "link" else mode, target if kind == "link" else b"")
        node.parent = folder
        folder.entries[name] = node
        if kind == "dir":
            folder.nlink += 1
        if opened is not None:
            if not self.two_sessions:
                node.unflushed = session  # it may wait in memory
            self.handles.append(Handle(session, opened, node))
            if not keep:
                self.release(self.handles[-1])
        self.check_node(node)

    def depth(self, node: Node) -> int:
        depth = 0
        while node is not self.root and node.parent is not None:
            node, depth = node.parent, depth + 1
        return depth

    @rule(pick=picks, where=picks, name=names, as_dir=st.booleans())
    def remove(self, pick: int, where: int, name: bytes, as_dir: bool) -> None:
        folder, session = self.folder(where), pick % len(self.sessions)
        node = folder.entries.get(name)

        def attempt() -> None:
            self.run(session, lambda s: (s.fs.rmdir if as_dir else s.fs.unlink)(ROOT, folder.ino, name))

        wrong = None
        if node is None:
            wrong = errno.ENOENT
        elif (node.kind == "dir") != as_dir:
            wrong = errno.ENOTDIR if as_dir else errno.EISDIR
        elif node.entries:
            wrong = errno.ENOTEMPTY
        if wrong is not None:
            with fails(wrong):
                attempt()
            return
        attempt()
        assert node is not None
        del folder.entries[name]
        self.lost_name(node, folder)

    def lost_name(self, node: Node, folder: Node) -> None:
        if node.kind == "dir":
            folder.nlink -= 1
            node.nlink = 0
        else:
            node.nlink -= 1

    @rule(pick=picks, old=picks, where=picks, name=names)
    def link(self, pick: int, old: int, where: int, name: bytes) -> None:
        nodes = self.nodes()
        node, folder, session = nodes[old % len(nodes)], self.folder(where), pick % len(self.sessions)
        wrong = errno.EPERM if node.kind == "dir" else errno.EEXIST if name in folder.entries else None

        def attempt() -> Attr:
            return self.run(session, lambda s: s.fs.link(ROOT, node.ino, folder.ino, name))

        if wrong is not None:
            with fails(wrong):
                attempt()
            return
        attr = attempt()
        folder.entries[name] = node
        node.nlink += 1
        assert attr.nlink == node.nlink

    @rule(pick=picks, where=picks, name=names, to=picks, newname=names, flags=st.sampled_from([0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE]))
    def rename(self, pick: int, where: int, name: bytes, to: int, newname: bytes, flags: int) -> None:
        folder, newfolder, session = self.folder(where), self.folder(to), pick % len(self.sessions)
        node, victim = folder.entries.get(name), newfolder.entries.get(newname)

        def attempt() -> None:
            self.run(session, lambda s: s.fs.rename(ROOT, folder.ino, name, newfolder.ino, newname, flags))

        wrong = self.rename_error(folder, node, newfolder, victim, flags)
        if wrong is not None:
            with fails(wrong):
                attempt()
            return
        attempt()
        assert node is not None
        if victim is node:
            return
        if flags & RENAME_EXCHANGE:
            assert victim is not None
            folder.entries[name], newfolder.entries[newname] = victim, node
            for moved, was, now in ((node, folder, newfolder), (victim, newfolder, folder)):
                if moved.kind == "dir":
                    was.nlink -= 1
                    now.nlink += 1
                moved.parent = now
            return
        del folder.entries[name]
        newfolder.entries[newname] = node
        if node.kind == "dir":
            folder.nlink -= 1
            newfolder.nlink += 1
        node.parent = newfolder
        if victim is not None:
            self.lost_name(victim, newfolder)

    def rename_error(self, folder: Node, node: Node | None, newfolder: Node, victim: Node | None, flags: int) -> int | None:
        if node is None or (victim is None and flags & RENAME_EXCHANGE):
            return errno.ENOENT
        if victim is not None and flags & RENAME_NOREPLACE:
            return errno.EEXIST
        if victim is node:
            return None
        if victim is not None and not flags:
            if node.kind == "dir" and victim.kind != "dir":
                return errno.ENOTDIR
            if victim.kind == "dir" and node.kind != "dir":
                return errno.EISDIR
        if node.kind == "dir" and self.within(newfolder, node):
            return errno.EINVAL
        if flags & RENAME_EXCHANGE and victim is not None and victim.kind == "dir" and self.within(folder, victim):
            return errno.EINVAL
        if victim is not None and not flags and victim.entries:
            return errno.ENOTEMPTY
        return None

    def within(self, node: Node, above: Node) -> bool:
        while node is not self.root:
            if node is above:
                return True
            assert node.parent is not None
            node = node.parent
        return above is self.root

    # --- attributes

    @rule(pick=picks, which=picks, mode=st.none() | st.integers(0, 0o777), uid=st.none() | st.integers(0, 3), gid=st.none() | st.integers(0, 3))
    def setattr(self, pick: int, which: int, mode: int | None, uid: int | None, gid: int | None) -> None:
        nodes = self.nodes()
        node, session = nodes[which % len(nodes)], pick % len(self.sessions)
        if node.kind == "link" and mode is not None:
            return
        attr = self.run(session, lambda s: s.fs.setattr(ROOT, node.ino, mode=mode, uid=uid, gid=gid))
        node.mode = node.mode if mode is None else mode
        node.uid = node.uid if uid is None else uid
        node.gid = node.gid if gid is None else gid
        assert (attr.mode & 0o7777, attr.uid, attr.gid) == (node.mode, node.uid, node.gid)
        self.check_node(node)

    @rule(pick=picks, which=picks, name=st.sampled_from([b"user.a", b"user.b"]), value=st.none() | st.binary(max_size=5), flags=xattr_flags)
    def xattr(self, pick: int, which: int, name: bytes, value: bytes | None, flags: int) -> None:
        nodes = self.nodes()
        node, session = nodes[which % len(nodes)], pick % len(self.sessions)
        if value is None:
            if name not in node.xattrs:
                with fails(errno.ENODATA):
                    self.run(session, lambda s: s.fs.removexattr(ROOT, node.ino, name))
            else:
                self.run(session, lambda s: s.fs.removexattr(ROOT, node.ino, name))
                del node.xattrs[name]
            return
        wrong = {XATTR_CREATE: errno.EEXIST if name in node.xattrs else 0, XATTR_REPLACE: 0 if name in node.xattrs else errno.ENODATA}.get(flags, 0)
        if wrong:
            with fails(wrong):
                self.run(session, lambda s: s.fs.setxattr(ROOT, node.ino, name, value, flags))
            return
        self.run(session, lambda s: s.fs.setxattr(ROOT, node.ino, name, value, flags))
        node.xattrs[name] = value

    # --- content

    @rule(pick=picks, which=picks, cut=st.booleans())
    def open(self, pick: int, which: int, cut: bool) -> None:
        node = self.file(which)
        if node is None or len(self.handles) > 6 or (session := self.session(pick, node)) is None:
            return
        opened = self.run(session, lambda s: s.fs.open(ROOT, node.ino, write=True, truncate=cut))
        if cut:
            node.data.clear()
        self.handles.append(Handle(session, opened, node))

    def handle(self, pick: int) -> Handle | None:
        """One whose session may deal with the content, and has seen what the other flushed."""
        mine = [h for h in self.handles if h.node.unflushed in (None, h.session)]
        if not mine:
            return None
        handle = mine[pick % len(mine)]
        self.run(handle.session, lambda s: s.fs.getattr(handle.node.ino))
        return handle

    @precondition(lambda self: self.handles)
    @rule(which=picks, offset=offsets, length=lengths, seed=st.integers(0, 3), append=st.booleans())
    def write(self, which: int, offset: int, length: int, seed: int, append: bool) -> None:
        handle = self.handle(which)
        if handle is None:
            return
        node, limit = handle.node, self.tenant.info.max_file_size
        data = random.Random(seed).randbytes(BLOCK) * (length // BLOCK + 1)
        data = data[:length] if seed else bytes(length)
        if append:
            offset = len(node.data)

        def attempt() -> int:
            return self.run(handle.session, lambda s: handle.opened.write(ROOT, offset if not append else 0, data, append=append))

        if offset >= limit:
            with fails(errno.EFBIG):
                attempt()
            return
        count = attempt()
        assert count == min(length, limit - offset)
        if len(node.data) < offset:
            node.data.extend(bytes(offset - len(node.data)))
        node.data[offset : offset + count] = data[:count]
        node.unflushed = handle.session

    @precondition(lambda self: self.handles)
    @rule(which=picks, offset=offsets, length=lengths)
    def read(self, which: int, offset: int, length: int) -> None:
        handle = self.handle(which)
        if handle is not None:
            data = self.run(handle.session, lambda s: handle.opened.read(ROOT, offset, length))
            assert data == handle.node.data[offset : offset + length]

    @precondition(lambda self: self.handles)
    @rule(which=picks, durable=st.booleans())
    def flush(self, which: int, durable: bool) -> None:
        handle = self.handle(which)
        if handle is not None:
            self.run(handle.session, lambda s: handle.opened.fsync(ROOT) if durable else handle.opened.flush(ROOT))
            handle.node.unflushed = None

    @precondition(lambda self: self.handles)
    @rule(which=picks)
    def close(self, which: int) -> None:
        self.release(self.handles[which % len(self.handles)])

    def release(self, handle: Handle) -> None:
        self.run(handle.session, lambda s: handle.opened.release(ROOT))
        self.handles.remove(handle)
        if handle.node.unflushed == handle.session and not any(h.node is handle.node and h.session == handle.session for h in self.handles):
            handle.node.unflushed = None

    @precondition(lambda self: self.handles)
    @rule(which=picks, size=offsets, by_handle=st.booleans())
    def truncate(self, which: int, size: int, by_handle: bool) -> None:
        handle = self.handle(which)
        if handle is None:
            return

        def attempt() -> Any:
            if by_handle:
                return self.run(handle.session, lambda s: handle.opened.truncate(ROOT, size))
            return self.run(handle.session, lambda s: s.fs.setattr(ROOT, handle.node.ino, size=size))

        if size > self.tenant.info.max_file_size:
            with fails(errno.EFBIG):
                attempt()
            return
        attempt()
        data = handle.node.data
        del data[size:]
        data.extend(bytes(size - len(data)))

    @rule(pick=picks, which=picks, size=offsets)
    def truncate_closed(self, pick: int, which: int, size: int) -> None:
        node = self.file(which)
        if node is None or (session := self.session(pick, node)) is None or size > self.tenant.info.max_file_size:
            return
        attr = self.run(session, lambda s: s.fs.setattr(ROOT, node.ino, size=size))
        del node.data[size:]
        node.data.extend(bytes(size - len(node.data)))
        assert attr.size == size
        self.check_content(node, session)

    @precondition(lambda self: self.handles)
    @rule(which=picks, mode=st.sampled_from(FALLOC), offset=offsets, length=lengths)
    def fallocate(self, which: int, mode: int, offset: int, length: int) -> None:
        handle = self.handle(which)
        if handle is None:
            return

        def attempt() -> None:
            self.run(handle.session, lambda s: handle.opened.fallocate(ROOT, mode, offset, length))

        data, end = handle.node.data, offset + length
        if end > self.tenant.info.max_file_size and not mode & FALLOC_KEEP_SIZE:
            with fails(errno.EFBIG):
                attempt()
            return
        attempt()
        if mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
            stop = min(end, len(data))
            data[offset:stop] = bytes(max(0, stop - offset))
        if not mode & FALLOC_KEEP_SIZE:
            data.extend(bytes(max(0, end - len(data))))
        self.check_content(handle.node, handle.session)

    @precondition(lambda self: len(self.handles) > 1)
    @rule(first=picks, second=picks, start=offsets, to=offsets, length=lengths)
    def copy_range(self, first: int, second: int, start: int, to: int, length: int) -> None:
        src = self.handle(first)
        dst = self.handle(second)
        if src is None or dst is None or src.session != dst.session or src.node is dst.node or to + length > self.tenant.info.max_file_size:
            return
        copied = self.run(src.session, lambda s: s.fs.copy_range(ROOT, src.opened, start, dst.opened, to, length))
        data = bytes(src.node.data[start : start + length])
        assert copied == len(data)
        if data:
            dst.node.data.extend(bytes(max(0, to - len(dst.node.data))))
            dst.node.data[to : to + len(data)] = data
            dst.node.unflushed = dst.session

    # --- the whole

    @precondition(lambda self: not any(node.unflushed is not None for node in self.nodes()))
    @rule(pick=picks)
    def gc(self, pick: int) -> None:
        self.run(pick % len(self.sessions), lambda s: check.gc(s.fs))

    @rule(pick=picks)
    def compare_all(self, pick: int) -> None:
        for node in self.nodes():
            self.check_node(node)

    def check_node(self, node: Node) -> None:
        session = self.session(len(node.xattrs) + node.ino, node)
        assert session is not None
        attr = self.run(session, lambda s: s.fs.getattr(node.ino))
        kinds = {"dir": 4, "file": 8, "link": 10, "fifo": 1}
        assert (attr.kind, attr.mode & 0o7777, attr.uid, attr.gid) == (kinds[node.kind], node.mode, node.uid, node.gid)
        assert attr.nlink == node.nlink
        assert self.run(session, lambda s: s.fs.listxattr(ROOT, node.ino)) == sorted(node.xattrs)
        for name, value in node.xattrs.items():
            assert self.run(session, lambda s: s.fs.getxattr(ROOT, node.ino, name)) == value  # noqa: B023
        if node.kind == "link":
            assert attr.size == len(node.target) and self.run(session, lambda s: s.fs.readlink(ROOT, node.ino)) == node.target
        elif node.kind == "file":
            assert attr.size == len(node.data)
            self.check_content(node, session)
        elif node.kind == "dir":
            self.check_folder(node, session)

    def check_folder(self, node: Node, session: int) -> None:
        folder = self.run(session, lambda s: s.fs.opendir(ROOT, node.ino))
        entries = list(self.run(session, lambda s: folder.read(ROOT, 0, 2)))
        while page := self.run(session, lambda s: folder.read(ROOT, len(entries), 3, plus=node.nlink % 2 == 0)):  # noqa: B023
            entries += page
        assert node.parent is not None
        assert [(e.name, e.ino) for e in entries[:2]] == [(b".", node.ino), (b"..", node.parent.ino)]
        assert [(e.name, e.ino) for e in entries[2:]] == [(name, node.entries[name].ino) for name in sorted(node.entries)]

    def check_content(self, node: Node, session: int) -> None:
        opened = self.run(session, lambda s: s.fs.open(ROOT, node.ino))
        try:
            assert self.run(session, lambda s: opened.read(ROOT, 0, 1 << 30)) == node.data
            place = 0
            while place < len(node.data):
                try:
                    start = self.run(session, lambda s: opened.seek(ROOT, place, SEEK_DATA))  # noqa: B023
                except FsError as error:
                    assert error.errno == errno.ENXIO
                    start = len(node.data)
                assert start >= place and not any(node.data[place:start])
                if start == len(node.data):
                    break
                place = self.run(session, lambda s: opened.seek(ROOT, start, SEEK_HOLE))  # noqa: B023
                assert place > start
        finally:
            self.run(session, lambda s: opened.release(ROOT))

    def teardown(self) -> None:
        if hasattr(self, "tenant"):
            try:
                self.compare_all(0)
                for handle in list(self.handles):
                    self.release(handle)
                self.compare_all(0)
            finally:
                self.tenant.finish()


@pytest.fixture(params=[True, False], ids=["two sessions", "one session alone"])
def machine(request: pytest.FixtureRequest, module_url: str, monkeypatch: pytest.MonkeyPatch) -> type[TreeMachine]:
    # Limits so small that these files pass them.
    monkeypatch.setattr("tarbox_core.file.FLUSH_AT", 20 * BLOCK)
    monkeypatch.setattr("tarbox_core.blocks.PUT_AT_ONCE", 4 * BLOCK)
    monkeypatch.setattr("tarbox_core.file.AHEAD", 4 * BLOCK)

    def make_tenant(**settings: int) -> Tenant:
        return Tenant(module_url, **settings)

    return type("Machine", (TreeMachine,), {"make_tenant": staticmethod(make_tenant), "two_sessions": request.param})


def test_random_operations(machine: type[TreeMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck),
            print_blob=True, report_multiple_bugs=False,
        ),
    )


class Chance:
    """Random arguments for the rules, each as often as its weight says."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        rules: list[tuple[int, str, Callable[[], dict[str, Any]]]] = [
            (6, "make", lambda: {**self.where(), "kind": self.of("file", "file", "dir", "link", "fifo"), "mode": self.to(0o777), "keep": self.flip()}),
            (3, "remove", lambda: {**self.where(), "as_dir": self.to(2) == 0}),
            (3, "link", lambda: {**self.where(), "old": self.pick()}),
            (5, "rename", lambda: {**self.where(), "to": self.pick(), "newname": self.name(), "flags": self.of(0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE)}),
            (2, "setattr", lambda: {**self.which(True), "mode": self.of(None, self.to(0o777)), "uid": self.of(None, 1), "gid": self.of(None, 1)}),
            (2, "xattr", lambda: {
                **self.which(True), "name": self.of(b"user.a", b"user.b"), "value": self.of(None, b"", b"xy"), "flags": self.of(0, XATTR_CREATE, XATTR_REPLACE),
            }),
            (4, "open", lambda: {**self.which(True), "cut": self.to(4) == 0}),
            (10, "write", lambda: {**self.which(), "offset": self.offset(), "length": self.length(), "seed": self.to(3), "append": self.to(4) == 0}),
            (4, "read", lambda: {**self.which(), "offset": self.offset(), "length": self.length()}),
            (4, "flush", lambda: {**self.which(), "durable": self.flip()}),
            (3, "close", self.which),
            (4, "truncate", lambda: {**self.which(), "size": self.offset(), "by_handle": self.flip()}),
            (2, "truncate_closed", lambda: {**self.which(True), "size": self.offset()}),
            (4, "fallocate", lambda: {**self.which(), "mode": self.of(*FALLOC), "offset": self.offset(), "length": self.length()}),
            (2, "copy_range", lambda: {"first": self.pick(), "second": self.pick(), "start": self.offset(), "to": self.offset(), "length": self.length()}),
            (1, "gc", lambda: {"pick": self.pick()}),
            (1, "compare_all", lambda: {"pick": self.pick()}),
        ]  # fmt: skip
        self._rules = [(name, arguments) for weight, name, arguments in rules for _ in range(weight)]

    def step(self) -> tuple[str, dict[str, Any]]:
        name, arguments = self.random.choice(self._rules)
        return name, arguments()

    def to(self, last: int) -> int:
        return self.random.randint(0, last)

    def flip(self) -> bool:
        return self.random.random() < 0.5

    def of(self, *values: Any) -> Any:
        return self.random.choice(values)

    def pick(self) -> int:
        return self.to(1 << 16)

    def name(self) -> bytes:
        return self.random.choice(NAMES)

    def where(self) -> dict[str, Any]:
        return {"pick": self.pick(), "where": self.pick(), "name": self.name()}

    def which(self, by_a_session: bool = False) -> dict[str, Any]:
        return {"which": self.pick(), **({"pick": self.pick()} if by_a_session else {})}

    def offset(self) -> int:
        return self.random.choice([self.random.choice(edges), self.to(CHUNK + 8 * BLOCK), self.to(3 * BLOCK)])

    def length(self) -> int:
        return 1 + self.random.choice([0, 99, BLOCK - 2, BLOCK - 1, BLOCK, 2 * BLOCK - 1, self.to(12 * BLOCK), self.to(12 * BLOCK)])


@pytest.mark.parametrize("seed", range(WALKS))
def test_a_long_random_walk(machine: type[TreeMachine], seed: int) -> None:
    chance = Chance(seed)
    walk = machine()
    walk.begin()
    walk.now_and_then = chance.random
    done: list[tuple[str, dict[str, Any]]] = []
    try:
        for _ in range(300):
            name, arguments = chance.step()
            needed = {"write": 1, "read": 1, "flush": 1, "close": 1, "truncate": 1, "fallocate": 1, "copy_range": 2}.get(name, 0)
            if len(walk.handles) < needed or (name == "gc" and any(node.unflushed is not None for node in walk.nodes())):
                continue
            done.append((name, arguments))
            getattr(walk, name)(**arguments)
        walk.compare_all(0)
    except BaseException as error:
        walk.tenant.damaged = True  # the finding is reported, not what it left behind
        error.add_note(f"seed {seed}, step {len(done)}; the last steps:\n" + "\n".join(map(str, done[-10:])))
        raise
    finally:
        if walk.tenant.damaged:
            walk.tenant.finish()
        else:
            walk.teardown()
