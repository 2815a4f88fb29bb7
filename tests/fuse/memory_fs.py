"""The facade of tarbox_core.filesystem over plain dictionaries: a fixture for the transports, and nothing that persists.

Its operations never ask for a database, except when `trips` is set: then each first yields one batch, which
MemoryDriver answers after `delay` seconds, as a database would. Permissions are the kernel's business (enforce=False).
"""

from __future__ import annotations

import errno
import functools
import itertools
import json
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

from tarbox_core.cache import Names, Recent
from tarbox_core.effects import Batch
from tarbox_core.errors import FsError
from tarbox_core.types import (
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    FALLOC_ZERO_RANGE,
    NAME_MAX,
    NOW,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    SEEK_DATA,
    XATTR_CREATE,
    XATTR_REPLACE,
    Attr,
    Caller,
    Entry,
    StatFs,
)

R = TypeVar("R")

COUNTERS = b"user.counters"  # an attribute of every inode: how often what was asked for, as JSON


class MemoryDriver:
    """Runs operations. Answers every batch with nothing, after `delay` seconds; counts what was asked to be durable."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.durable = 0
        self.closed = False
        self.most_at_once = 0
        self._running = 0
        self._lock = threading.Lock()

    def run(self, factory: Callable[[], Any], *, durable: bool = False) -> Any:
        op = factory()
        with self._lock:
            self.durable += durable
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            next(op)
            while True:
                time.sleep(self.delay)
                op.send([])
        except StopIteration as done:
            return done.value
        finally:
            with self._lock:
                self._running -= 1

    def close(self) -> None:
        self.closed = True


def operation(method: Callable[..., R]) -> Callable[..., Any]:
    """Make an Op of a method: of a Filesystem, or of something that has one as `fs`."""

    @functools.wraps(method)
    def op(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "fs", self).trips:
            yield Batch(())
        return method(self, *args, **kwargs)

    return op


@dataclass(slots=True)
class Node:
    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int
    atime: int
    mtime: int
    ctime: int
    rdev: int = 0
    parent: int = 0
    data: bytearray = field(default_factory=bytearray)
    names: dict[bytes, int] = field(default_factory=dict)
    target: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    opened: int = 0

    def attr(self) -> Attr:
        size = len(self.target or self.data)
        return Attr(self.ino, self.mode, self.uid, self.gid, self.nlink, size, size, self.rdev, self.atime, self.mtime, self.ctime, 0, self.parent)


class MemoryFilesystem:
    """A tree in memory, with the verbs of tarbox_core.filesystem.Filesystem."""

    def __init__(self, *, trips: bool = False, delay: float = 0.0, uid: int = 0, gid: int = 0) -> None:
        self.trips = trips
        self.driver = MemoryDriver(delay)
        self.dirty: dict[int, tuple[MemoryFile, int, int]] = {}  # by inode: the file, dirty since, bytes
        self.flushes = 0
        self.records_flushed = 0
        self.syncs = 0
        self._inos = itertools.count(2)
        now = time.time_ns()
        self.nodes = {1: Node(1, stat.S_IFDIR | 0o755, uid, gid, 2, now, now, now, parent=1)}
        names, folders = Names(), Recent()
        self.session = SimpleNamespace(  # a head that moves only when a test does it
            at=SimpleNamespace(generation=0), head="main", view=False, names=names, folders=folders, outdated=(names, folders)
        )

    def _node(self, ino: int) -> Node:
        node = self.nodes.get(ino)
        if node is None:
            raise FsError(errno.ESTALE, ino)
        return node

    def _directory(self, ino: int) -> Node:
        node = self._node(ino)
        if not stat.S_ISDIR(node.mode):
            raise FsError(errno.ENOTDIR, ino)
        return node

    def _child(self, parent: int, name: bytes) -> Node:
        directory = self._directory(parent)
        if name == b".":
            return directory
        if name == b"..":
            return self._node(directory.parent)
        if len(name) > NAME_MAX:
            raise FsError(errno.ENAMETOOLONG, name)
        ino = directory.names.get(name)
        if ino is None:
            raise FsError(errno.ENOENT, name)
        return self.nodes[ino]

    def _make(self, caller: Caller, parent: int, name: bytes, mode: int, **more: Any) -> Node:
        directory = self._directory(parent)
        if len(name) > NAME_MAX:
            raise FsError(errno.ENAMETOOLONG, name)
        if name in directory.names:
            raise FsError(errno.EEXIST, name)
        now = time.time_ns()
        gid = directory.gid if directory.mode & stat.S_ISGID else caller.gid
        folder = stat.S_ISDIR(mode)
        if folder:
            mode |= directory.mode & stat.S_ISGID
            directory.nlink += 1
        node = Node(next(self._inos), mode, caller.uid, gid, 2 if folder else 1, now, now, now, parent=parent if folder else 0, **more)
        self.nodes[node.ino] = node
        directory.names[name] = node.ino
        directory.mtime = directory.ctime = now
        return node

    def _drop(self, directory: Node, name: bytes) -> None:
        node = self.nodes[directory.names.pop(name)]
        now = time.time_ns()
        directory.mtime = directory.ctime = node.ctime = now
        node.nlink -= 2 if stat.S_ISDIR(node.mode) else 1
        if stat.S_ISDIR(node.mode):
            directory.nlink -= 1
        self.reap(node)

    def reap(self, node: Node) -> None:
        if not node.nlink and not node.opened:
            self.nodes.pop(node.ino, None)

    @operation
    def lookup(self, caller: Caller, parent: int, name: bytes) -> Attr:
        return self._child(parent, name).attr()

    @operation
    def getattr(self, ino: int) -> Attr:
        return self._node(ino).attr()

    @operation
    def setattr(
        self, caller: Caller, ino: int, *, mode: int | None = None, uid: int | None = None, gid: int | None = None, size: int | None = None,
        atime: int | None = None, mtime: int | None = None, ctime: int | None = None, kill_suid: bool = False,
    ) -> Attr:  # fmt: skip
        node, now = self._node(ino), time.time_ns()
        if mode is not None:
            node.mode = stat.S_IFMT(node.mode) | mode
        node.uid = node.uid if uid is None else uid
        node.gid = node.gid if gid is None else gid
        if size is not None:
            del node.data[size:]
            node.data.extend(bytes(size - len(node.data)))
            node.mtime = now
        if atime is not None:
            node.atime = now if atime == NOW else atime
        if mtime is not None:
            node.mtime = now if mtime == NOW else mtime
        if kill_suid:
            self.kill_suid(node)
        node.ctime = now if ctime is None else ctime
        return node.attr()

    def kill_suid(self, node: Node) -> None:
        if stat.S_ISREG(node.mode):
            node.mode &= ~stat.S_ISUID
            if node.mode & stat.S_IXGRP:
                node.mode &= ~stat.S_ISGID

    @operation
    def readlink(self, caller: Caller, ino: int) -> bytes:
        return self._node(ino).target

    @operation
    def mknod(self, caller: Caller, parent: int, name: bytes, mode: int, rdev: int = 0) -> Attr:
        return self._make(caller, parent, name, mode, rdev=rdev).attr()

    @operation
    def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Attr:
        return self._make(caller, parent, name, stat.S_IFDIR | mode).attr()

    @operation
    def symlink(self, caller: Caller, parent: int, name: bytes, target: bytes) -> Attr:
        return self._make(caller, parent, name, stat.S_IFLNK | 0o777, target=target).attr()

    @operation
    def link(self, caller: Caller, ino: int, parent: int, name: bytes) -> Attr:
        node, directory = self._node(ino), self._directory(parent)
        if name in directory.names:
            raise FsError(errno.EEXIST, name)
        directory.names[name] = ino
        node.nlink += 1
        directory.mtime = directory.ctime = node.ctime = time.time_ns()
        return node.attr()

    @operation
    def unlink(self, caller: Caller, parent: int, name: bytes) -> None:
        if stat.S_ISDIR(self._child(parent, name).mode):
            raise FsError(errno.EISDIR, name)
        self._drop(self._directory(parent), name)

    @operation
    def rmdir(self, caller: Caller, parent: int, name: bytes) -> None:
        node = self._child(parent, name)
        if not stat.S_ISDIR(node.mode):
            raise FsError(errno.ENOTDIR, name)
        if node.names:
            raise FsError(errno.ENOTEMPTY, name)
        self._drop(self._directory(parent), name)

    @operation
    def rename(self, caller: Caller, parent: int, name: bytes, newparent: int, newname: bytes, flags: int = 0) -> None:
        source, target = self._directory(parent), self._directory(newparent)
        node = self._child(parent, name)
        old = target.names.get(newname)
        if flags & RENAME_NOREPLACE and old is not None:
            raise FsError(errno.EEXIST, newname)
        if flags & RENAME_EXCHANGE:
            if old is None:
                raise FsError(errno.ENOENT, newname)
            source.names[name], target.names[newname] = old, node.ino
            return
        if old == node.ino:
            return
        if old is not None:
            if self.nodes[old].names:
                raise FsError(errno.ENOTEMPTY, newname)
            self._drop(target, newname)
        target.names[newname] = source.names.pop(name)
        if stat.S_ISDIR(node.mode):
            node.parent = newparent
            source.nlink -= 1
            target.nlink += 1
        source.mtime = source.ctime = target.mtime = target.ctime = node.ctime = time.time_ns()

    @operation
    def create(self, caller: Caller, parent: int, name: bytes, mode: int, *, exclusive: bool = False) -> tuple[Attr, MemoryFile]:
        if not exclusive and name in self._directory(parent).names:
            node = self._child(parent, name)
        else:
            node = self._make(caller, parent, name, stat.S_IFREG | mode)
        return node.attr(), MemoryFile(self, node)

    @operation
    def open(
        self, caller: Caller, ino: int, *, read: bool = True, write: bool = False, truncate: bool = False, kill_suid: bool = False
    ) -> MemoryFile:
        node = self._node(ino)
        if truncate:
            node.data.clear()
            node.mtime = node.ctime = time.time_ns()
            if kill_suid:
                self.kill_suid(node)
        return MemoryFile(self, node)

    @operation
    def opendir(self, caller: Caller, ino: int) -> MemoryDirectory:
        return MemoryDirectory(self, self._directory(ino))

    @operation
    def copy_range(self, caller: Caller, src: MemoryFile, src_off: int, dst: MemoryFile, dst_off: int, length: int) -> int:
        return dst.put(dst_off, bytes(src.node.data[src_off : src_off + length]))

    @operation
    def getxattr(self, caller: Caller, ino: int, name: bytes) -> bytes:
        if name == COUNTERS:
            return json.dumps({"flushes": self.flushes, "syncs": self.syncs, "durable": self.driver.durable, "most": self.driver.most_at_once}).encode()
        value = self._node(ino).xattrs.get(name)
        if value is None:
            raise FsError(errno.ENODATA, name)
        return value

    @operation
    def setxattr(self, caller: Caller, ino: int, name: bytes, value: bytes, flags: int = 0) -> None:
        xattrs = self._node(ino).xattrs
        if flags & XATTR_CREATE and name in xattrs:
            raise FsError(errno.EEXIST, name)
        if flags & XATTR_REPLACE and name not in xattrs:
            raise FsError(errno.ENODATA, name)
        xattrs[name] = value

    @operation
    def listxattr(self, caller: Caller, ino: int) -> list[bytes]:
        return list(self._node(ino).xattrs)

    @operation
    def removexattr(self, caller: Caller, ino: int, name: bytes) -> None:
        if self._node(ino).xattrs.pop(name, None) is None:
            raise FsError(errno.ENODATA, name)

    @operation
    def statfs(self) -> StatFs:
        return StatFs(65536, 1 << 40, 1 << 39, 1_000_000, 1_000_000 - len(self.nodes), NAME_MAX)

    @operation
    def sync(self, caller: Caller) -> None:
        self.syncs += 1

    @operation
    def flush_records(self, *, all: bool = True) -> None:
        self.records_flushed += 1

    def packer(self) -> MemoryFilesystem:
        """There are no old layers."""
        return self

    @operation
    def look(self, budget: int) -> bool:
        return False

    def dirty_files(self, older_than: int) -> list[MemoryFile]:
        return [file for file, since, _ in list(self.dirty.values()) if since <= older_than]

    def dirty_bytes(self) -> int:
        return sum(size for _, _, size in list(self.dirty.values()))

    def _walk(self, path: bytes, follow: bool, budget: Iterator[int]) -> Node:
        node = self.nodes[1]
        parts = [part for part in path.split(b"/") if part]
        for index, part in enumerate(parts):
            here = node
            node = self._child(node.ino, part)
            if stat.S_ISLNK(node.mode) and (follow or index < len(parts) - 1):
                next(budget)
                rest = b"/".join([node.target, *parts[index + 1 :]])
                if not rest.startswith(b"/"):
                    raise FsError(errno.EOPNOTSUPP, here.ino)
                return self._walk(rest, follow, budget)
        return node

    @operation
    def resolve(self, caller: Caller, path: bytes, *, follow: bool = True) -> Attr:
        return self._walk(path, follow, iter(range(40))).attr()

    @operation
    def resolve_parent(self, caller: Caller, path: bytes) -> tuple[Attr, bytes]:
        folder, _, name = path.rstrip(b"/").rpartition(b"/")
        return self._walk(folder, True, iter(range(40))).attr(), name


class MemoryFile:
    direct = moves_head = stale = keep_cache = False

    def __init__(self, fs: MemoryFilesystem, node: Node) -> None:
        self.fs = fs
        self.node = node
        self.ino = node.ino
        node.opened += 1

    def attr(self) -> Attr:
        return self.node.attr()

    def put(self, offset: int, data: bytes | memoryview) -> int:
        held = self.node.data
        if offset > len(held):
            held.extend(bytes(offset - len(held)))
        held[offset : offset + len(data)] = data
        self.node.mtime = self.node.ctime = time.time_ns()
        _, since, size = self.fs.dirty.get(self.ino, (self, self.node.mtime, 0))
        self.fs.dirty[self.ino] = (self, since, size + len(data))
        return len(data)

    @operation
    def read(self, caller: Caller, offset: int, size: int) -> bytes:
        return bytes(memoryview(self.node.data)[offset : offset + size])

    @operation
    def write(self, caller: Caller, offset: int, data: bytes | memoryview, *, append: bool = False, kill_suid: bool = False) -> int:
        if kill_suid:
            self.fs.kill_suid(self.node)
        return self.put(len(self.node.data) if append else offset, data)

    @operation
    def flush(self, caller: Caller) -> None:
        self.fs.flushes += 1
        self.fs.dirty.pop(self.ino, None)

    @operation
    def fsync(self, caller: Caller) -> None:
        self.fs.syncs += 1
        self.fs.dirty.pop(self.ino, None)

    @operation
    def release(self, caller: Caller) -> None:
        self.node.opened -= 1
        self.fs.dirty.pop(self.ino, None)
        self.fs.reap(self.node)

    @operation
    def fallocate(self, caller: Caller, mode: int, offset: int, length: int) -> None:
        if mode & ~(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
            raise FsError(errno.EOPNOTSUPP)
        held = self.node.data
        if mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
            end = min(len(held), offset + length)
            held[offset:end] = bytes(max(0, end - offset))
        if not mode & FALLOC_KEEP_SIZE:
            held.extend(bytes(max(0, offset + length - len(held))))

    @operation
    def seek(self, caller: Caller, offset: int, whence: int) -> int:
        if offset >= len(self.node.data):
            raise FsError(errno.ENXIO, self.ino)
        return offset if whence == SEEK_DATA else len(self.node.data)


class MemoryDirectory:
    def __init__(self, fs: MemoryFilesystem, node: Node) -> None:
        self.fs = fs
        self.ino = node.ino
        self._entries = [(b".", node.ino), (b"..", node.parent), *node.names.items()]

    @operation
    def read(self, caller: Caller, offset: int, limit: int, *, plus: bool = True) -> Sequence[Entry]:
        found = []
        for index, (name, ino) in enumerate(self._entries[offset : offset + limit], offset + 1):
            node = self.fs.nodes.get(ino)
            if node is not None:
                found.append(Entry(name, ino, node.mode >> 12, index, None if index <= 2 else node.attr()))
        return found
