"""The facade: one method per POSIX verb, each returning an Op. What a tree looks like is defined here, once.

Doors (mount, command line, WASI, browser, import) adapt these verbs and add no policy. Inode verbs take a parent's
inode number and a name; path verbs walk. A Filesystem belongs to one tenant and one head. Its verbs may run in several
threads at once; of one inode's OpenFile either several reads or one other verb, truncation, open and release included.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterable
from typing import TypeVar

from tarbox_core import access, audit, compare, directory, file, history, inode, layer, making, packing, path, xattr
from tarbox_core import statements as sql
from tarbox_core.compare import Change, Comparison
from tarbox_core.directory import OpenDir
from tarbox_core.effects import Op, finish, run
from tarbox_core.errors import ENODATA, FsError
from tarbox_core.file import OpenFile, SeenFile
from tarbox_core.handles import DirHandle, FileHandle
from tarbox_core.history import Version
from tarbox_core.layer import HEAD, Branch, Layer, Switched
from tarbox_core.session import BLOCK_CACHE, Session
from tarbox_core.types import NAME_MAX, S_IFMT, W_OK, Attr, Caller, StatFs, TenantInfo

R = TypeVar("R")

STATFS_TOTAL = 1 << 50  # a database has no end that it could tell
STATFS_FILES = 1 << 40
COPY_AT_ONCE = 4 << 20
NEVER = 1 << 62  # more records than there will be

__all__ = ["Filesystem", "OpenDir", "OpenFile"]


class Filesystem:
    """A tenant's tree at one head.

    `clock` gives ns since the epoch. `enforce`: check permissions here (a mount with default_permissions lets the
    kernel do it and passes False). `view`: of a sealed layer, which `tenant` names; read-only. `defer`: a new file may wait
    in memory for its first flush.
    """

    def __init__(
        self,
        tenant: TenantInfo,
        clock: Callable[[], int],
        *,
        enforce: bool = True,
        read_only: bool = False,
        view: bool = False,
        audit: bool = True,
        audit_batch: int = 100,
        block_cache: int = BLOCK_CACHE,
        defer: bool = False,
    ) -> None:
        self.tenant = tenant
        self.session = Session(
            tenant, clock, enforce=enforce, read_only=read_only or view, view=view, audit=audit, audit_batch=audit_batch, block_cache=block_cache
        )
        self.session.defer = defer
        self._usage: tuple[int, StatFs] | None = None

    # --- names and attributes

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Op[Attr]:
        return directory.lookup(self.session, caller, parent, name)

    def getattr(self, ino: int) -> Op[Attr]:
        s = self.session
        opened = s.opened(ino)
        if opened is not None and opened.new is not None:
            return opened.attr()
        now = s.clock()
        leaves = s.leaves
        attr = (s.folders.now(ino, now) if s.defer else None) or (leaves.now(ino, now) if leaves is not None else None)
        if attr is None:
            attr = yield from inode.getattr(s, ino)
            if attr.is_dir:
                s.folders.saw(attr, now)
            elif leaves is not None:
                leaves.saw(attr, now)
        return s.current(attr)

    def settle(self, folder: int) -> Op[Attr]:
        """A directory's attributes, with the new files in it stored: before that its times do not show them."""
        return making.settling(self.session, inode.getattr(self.session, folder), folder=folder)

    def setattr(
        self,
        caller: Caller,
        ino: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime: int | None = None,
        mtime: int | None = None,
        ctime: int | None = None,
        kill_suid: bool = False,
    ) -> Op[Attr]:
        """chmod, chown, truncate and utimens in one. Times in ns, or types.NOW. A size and the rest are two operations."""
        s = self.session
        if size is not None:
            if any(x is not None for x in (mode, uid, gid)):
                raise FsError(errno.EINVAL, ino)
            attr = yield from audit.failing(s, caller, "truncate", ino, None, self._truncate(caller, ino, size, kill_suid))
            return attr
        change = inode.Change(mode, uid, gid, atime, mtime, ctime, kill_suid)
        opened = s.opened(ino)
        if opened is not None and opened.new is not None:
            return opened.change(caller, change)
        op = audit.failing(s, caller, change.operation, ino, None, inode.setattr(s, caller, ino, change))
        attr = yield from making.settling(s, op, folder=ino)  # what is made in a directory changes its times
        if attr.is_dir:
            s.folders.saw(attr, s.clock())
        if opened is not None and opened.dirty and mtime is not None:
            opened.mtime = attr.mtime  # a time set after the writes outlives their flush
        return s.current(attr)

    def _truncate(self, caller: Caller, ino: int, size: int, kill_suid: bool) -> Op[Attr]:
        s = self.session
        generation = s.at.generation
        opened = s.opened(ino)
        if opened is None:
            rows = yield from run(sql.INODE_FULL(*s.key, ino))
            row = inode.file_row(rows[0], ino)
            attr = row.attr
            if not attr.is_reg:
                raise FsError(errno.EISDIR if attr.is_dir else errno.EINVAL, ino)
            if s.enforce:
                access.require(caller, attr, W_OK)
            opened = OpenFile(s, generation, row)
        yield from opened.truncate(caller, size, kill_suid=kill_suid)
        return opened.attr()

    def access(self, caller: Caller, ino: int, mask: int) -> Op[None]:
        return making.settling(self.session, inode.check_access(self.session, caller, ino, mask), ino=ino)

    def readlink(self, caller: Caller, ino: int) -> Op[bytes]:
        return inode.readlink(self.session, caller, ino)

    def mknod(self, caller: Caller, parent: int, name: bytes, mode: int, rdev: int = 0) -> Op[Attr]:
        """A regular or special file; `mode` carries its type (none: regular)."""
        if not mode & S_IFMT:
            mode |= stat.S_IFREG
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            raise FsError(errno.EINVAL, name)
        return self._failing(caller, "mknod", parent, name, making.make(self.session, caller, parent, name, mode, rdev=rdev))

    def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Op[Attr]:
        mode = stat.S_IFDIR | mode & 0o7777
        return self._failing(caller, "mkdir", parent, name, making.make(self.session, caller, parent, name, mode))

    def symlink(self, caller: Caller, parent: int, name: bytes, target: bytes) -> Op[Attr]:
        op = making.make(self.session, caller, parent, name, stat.S_IFLNK | 0o777, target=target)
        return self._failing(caller, "symlink", parent, name, op)

    def link(self, caller: Caller, ino: int, parent: int, name: bytes) -> Op[Attr]:
        return self._failing(caller, "link", parent, name, directory.link(self.session, caller, ino, parent, name), ino=ino)

    def unlink(self, caller: Caller, parent: int, name: bytes) -> Op[None]:
        waiting = making.may_forget(self.session, parent, name)
        if waiting is not None:
            return making.forget(self.session, caller, waiting)
        return self._failing(caller, "unlink", parent, name, directory.unlink(self.session, caller, parent, name))

    def rmdir(self, caller: Caller, parent: int, name: bytes) -> Op[None]:
        return self._failing(caller, "rmdir", parent, name, directory.rmdir(self.session, caller, parent, name))

    def rename(self, caller: Caller, parent: int, name: bytes, newparent: int, newname: bytes, flags: int = 0) -> Op[None]:
        op = directory.rename(self.session, caller, parent, name, newparent, newname, flags)
        return self._failing(caller, "rename", parent, name, op, to=(newparent, newname))

    def _failing(
        self, caller: Caller, operation: str, parent: int, name: bytes, op: Op[R], *, ino: int = 0, to: tuple[int, bytes] = (0, b"")
    ) -> Op[R]:
        """A change of names: a failure is recorded, and the new files that it may meet are stored first."""
        failing = audit.failing(self.session, caller, operation, parent, name, op)
        return making.settling(self.session, failing, ino=ino, names=((parent, name), to))

    # --- open files and directories

    def create(self, caller: Caller, parent: int, name: bytes, mode: int, *, exclusive: bool = False) -> Op[tuple[Attr, FileHandle]]:
        """Make and open a regular file; without `exclusive` one that is there is opened."""
        s = self.session
        generation = s.at.generation
        waiting = s.waiting.get((parent, name))
        if waiting is not None:
            if exclusive:
                raise FsError(errno.EEXIST, name)
            return waiting.attr(), file.held(waiting)
        if making.may_wait(s, parent, name):
            attr, new = yield from making.postpone(s, caller, parent, name, stat.S_IFREG | mode & 0o7777)
            opened = file.hold(s, generation, inode.FileRow(attr, b""), caller, new=new)
            return opened.attr(), opened
        try:
            attr = yield from making.make(s, caller, parent, name, stat.S_IFREG | mode & 0o7777, final=exclusive)
        except FsError as error:
            if error.errno != errno.EEXIST or exclusive:
                s.note(caller, "create", parent, s.names.path(parent, name), result=error.errno)
                raise
            rows = yield from run(sql.CHILD(*s.key, parent, name))
            there = inode.found(rows[0], name)
            opened = yield from file.open(s, caller, there.ino, read=True, write=True, truncate=False, kill_suid=False)
            return opened.attr(), opened
        return attr, file.hold(s, generation, inode.FileRow(attr, b""), caller)

    def open(
        self, caller: Caller, ino: int, *, read: bool = True, write: bool = False, truncate: bool = False, kill_suid: bool = False
    ) -> Op[FileHandle]:
        """The inode's OpenFile, with one use more: each open wants its release."""
        s = self.session
        op = file.open(s, caller, ino, read=read, write=write, truncate=truncate, kill_suid=kill_suid)
        return making.settling(s, audit.failing(s, caller, "open", ino, None, op), ino=ino)

    def open_seen(self, caller: Caller, seen: SeenFile, *, read: bool = True, write: bool = False) -> Op[FileHandle]:
        """`open` of a file whose row was just read, on the way to it."""
        s, ino = self.session, seen.row.attr.ino
        op = file.open_seen(s, caller, seen, read=read, write=write)
        return making.settling(s, audit.failing(s, caller, "open", ino, None, op), ino=ino)

    def opendir(self, caller: Caller, ino: int) -> Op[DirHandle]:
        return making.settling(self.session, directory.opendir(self.session, caller, ino), folder=ino)

    def copy_range(self, caller: Caller, src: FileHandle, src_off: int, dst: FileHandle, dst_off: int, length: int) -> Op[int]:
        """copy_file_range(2) within the tree: how much was copied, 0 at the end of the source. Blocks are shared, not doubled."""
        data = yield from src.read(caller, src_off, min(length, COPY_AT_ONCE), final=False)
        return (yield from dst.write(caller, dst_off, data)) if data else 0

    # --- extended attributes

    def getxattr(self, caller: Caller, ino: int, name: bytes) -> Op[bytes]:
        opened = self.session.opened(ino)
        if opened is not None and opened.new is not None:  # the kernel asks before the first write to any file
            raise FsError(ENODATA, name)
        return (yield from xattr.get(self.session, caller, ino, name))

    def setxattr(self, caller: Caller, ino: int, name: bytes, value: bytes, flags: int = 0) -> Op[None]:
        return making.settling(self.session, xattr.put(self.session, caller, ino, name, value, flags), ino=ino)

    def listxattr(self, caller: Caller, ino: int) -> Op[list[bytes]]:
        return making.settling(self.session, xattr.names(self.session, caller, ino), ino=ino)

    def removexattr(self, caller: Caller, ino: int, name: bytes) -> Op[None]:
        return making.settling(self.session, xattr.drop(self.session, caller, ino, name), ino=ino)

    # --- the whole

    def statfs(self) -> Op[StatFs]:
        """Sizes in bytes. What is used is counted at most every half minute."""
        s = self.session
        now = s.clock()
        if self._usage is None or now - self._usage[0] > 30 * 10**9:
            rows = yield from finish(sql.TENANT_USAGE(*s.key))
            files, directories, size, _ = rows[0][0]
            used = files + directories
            self._usage = (
                now,
                StatFs(s.block_size, STATFS_TOTAL, STATFS_TOTAL - size, STATFS_FILES, STATFS_FILES - used, NAME_MAX),
            )
        return self._usage[1]

    def dirty_files(self, older_than: int) -> list[OpenFile]:
        """The files that have held unstored writes since before that clock value; the doors flush each in an operation
        of its own."""
        return [f for f in list(self.session.files.values()) if f.dirty and f.dirty_since <= older_than]

    def dirty_bytes(self) -> int:
        """Held in memory for all files."""
        return sum(len(f.pieces) for f in list(self.session.files.values())) * self.session.block_size

    def flush_records(self, *, all: bool = True) -> Op[None]:
        """Write the batched records of reads and failures; with all=False only a full batch."""
        return audit.flush(self.session, 1 if all else self.session.audit_batch)

    def sync(self, caller: Caller) -> Op[None]:
        """Write the batched records. Run with durable=True it hardens everything committed so far; the doors flush dirty
        files before."""
        return audit.flush(self.session, 0)

    def changed_elsewhere(self, inos: Iterable[int]) -> None:
        """Another door changed these inodes: what this session keeps in mind of them is old."""
        s = self.session
        leaves = s.leaves
        for ino in inos:
            s.folders.changed(ino)
            if leaves is not None:
                leaves.changed(ino)
            s.versions.drop(ino)
            opened = s.opened(ino)
            if opened is not None:
                opened.doubt()

    # --- layers and branches: a word is a layer's name, the beginning of its id, or "head"

    def checkpoint(self, caller: Caller, name: str | None = None, message: str = "", *, automatic: bool = False) -> Op[Layer | None]:
        """Doors flush dirty files before, and run it with durable=True."""
        return layer.checkpoint(self.session, caller, name, message, automatic=automatic)

    def switch(self, caller: Caller, word: str) -> Op[Switched]:
        """Doors flush dirty files before, and run it with durable=True."""
        return layer.switch(self.session, caller, word)

    def begun(self) -> Op[tuple[int, bool]]:
        """When the last checkpoint was made (ns), and whether anything changed since."""
        return layer.begun(self.session)

    def refresh(self) -> Op[bool]:
        """See whether another door moved the head; whether another tree stands there now."""
        return layer.refresh(self.session)

    def layers(self) -> Op[list[Layer]]:
        return layer.listing(self.session)

    def layer(self, word: str) -> Op[Layer]:
        return layer.find(self.session, word)

    def current(self) -> Op[Layer]:
        return layer.current(self.session)

    def view(self, word: str) -> Op[TenantInfo]:
        """What a Filesystem with `view` set, on that layer, is made of."""
        return layer.view(self.session, self.tenant, word)

    def look(self, seen: TenantInfo) -> Filesystem:
        """A read-only Filesystem of the same door on what `view` answered; it shares the blocks in memory, and its records
        are written with the door's."""
        s = self.session
        fs = Filesystem(seen, s.clock, enforce=s.enforce, view=True, audit=s.audit, audit_batch=NEVER)
        fs.session.blocks = s.blocks
        fs.session.records = s.records
        fs.session.alone = s.alone
        fs.session.scope = s.scope
        return fs

    def describe(self, caller: Caller, word: str, message: str) -> Op[None]:
        """Give a sealed layer another message."""
        return layer.describe(self.session, caller, word, message)

    def delete_layer(self, caller: Caller, word: str) -> Op[Layer]:
        return layer.delete(self.session, caller, word)

    def squash(self, caller: Caller, first: str, last: str) -> Op[tuple[Layer, int]]:
        return layer.squash(self.session, caller, first, last)

    def branches(self) -> Op[list[Branch]]:
        return layer.branches(self.session)

    def make_branch(self, caller: Caller, name: str, word: str = HEAD) -> Op[Branch]:
        return layer.branch(self.session, caller, name, word)

    def delete_branch(self, caller: Caller, name: str) -> Op[Layer | None]:
        return layer.delete_branch(self.session, caller, name)

    def compare(self, older: str | None = None, newer: str = HEAD) -> Op[Comparison]:
        """Two layers side by side; without the first, against the one that the second was begun on: for the head, the last
        checkpoint."""
        return compare.between(self.session, older, newer)

    def changes(self, older: str | None = None, newer: str = HEAD, path: bytes | None = None) -> Op[list[Change]]:
        """What changed between two layers, at a path and below. ENOENT: an unknown layer, or the path is in neither."""
        comparison = yield from self.compare(older, newer)
        return (yield from comparison.changes(path))

    def history(self, path: bytes, limit: int | None = None) -> Op[list[Version]]:
        """The layers in which what stands at a path changed, the newest first. ENOENT where nothing ever stood there."""
        return history.history(self.session, path, limit)

    def packer(self, *, whole: bool = False) -> packing.Packer:
        """What packs the text of old layers, step by step, behind the other verbs; `whole`: also what switches left."""
        return packing.Packer(self.session, whole=whole)

    def text_stats(self) -> Op[tuple[packing.Stats, list[packing.LayerStats]]]:
        """How much of the content is packed, in all and by layer."""
        return packing.stats(self.session)

    # --- path verbs

    def resolve(self, caller: Caller, path_: bytes, *, follow: bool = True) -> Op[Attr]:
        return making.settling(self.session, path.resolve(self.session, caller, path_, follow=follow), every=True)

    def resolve_parent(self, caller: Caller, path_: bytes) -> Op[tuple[Attr, bytes]]:
        return making.settling(self.session, path.resolve_parent(self.session, caller, path_), every=True)
