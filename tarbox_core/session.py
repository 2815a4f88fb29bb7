"""One door's standing on one head: which rows it sees, which locks it takes, and what it may do.

Mutations have one shape: `begin` takes the locks and reads in one trip, Python decides, `effects.finish` writes and
commits in the next. What was read under the locks holds until that commit, so the writing statements need no
conditions. Locks are advisory and of the transaction:

    the tenant       shared by every mutation; exclusive for what must see none in flight (checkpoint, switch, gc)
    a directory      shared by who adds a name to it; exclusive for who removes or replaces it
    a name           exclusive for who changes what it stands for
    an inode         exclusive for who changes its content or attributes
    tenant's renames exclusive for who moves a directory between directories

They are taken in this order, each kind in the order of its keys.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from tarbox_core import statements as sql
from tarbox_core.cache import Lru, Names, Recent
from tarbox_core.effects import Op, Query, Rows, run
from tarbox_core.errors import FsError, RetryableError, linux_errno
from tarbox_core.types import NAME_MAX, Attr, Caller, TenantInfo

if TYPE_CHECKING:
    from tarbox_core.file import OpenFile

NUMBERS_AT_ONCE = 256
BLOCK_CACHE = 32 << 20
ABSENT_FOR = 10**9  # ns for which a name seen to be free is taken to be

Ranges = tuple[tuple[int, int], ...]

_MUTATIONS = frozenset("TDNIR")  # kinds of locks: the tenant, a directory, a name, an inode, the tenant's renames


class Standing(NamedTuple):
    """Where a session's head stands. One value, so that threads see all of it change at once."""

    epoch: int
    generation: int  # how many other trees stood here before
    layer: int
    visible: Ranges


class Session:
    """State that the operations of one Filesystem share. Holds no connection and no row that another door may change."""

    def __init__(
        self,
        tenant: TenantInfo,
        clock: Callable[[], int],
        *,
        enforce: bool,
        read_only: bool,
        view: bool,
        audit: bool,
        audit_batch: int,
        block_cache: int = BLOCK_CACHE,
    ) -> None:
        self.info = tenant
        self.tenant = tenant.id
        self.head = tenant.head
        self.at = Standing(tenant.epoch, 0, tenant.layer, tenant.visible)
        self.past: dict[int, Standing] = {}  # where earlier generations stood last: of what is open, and the last one
        self._left: WeakSet[OpenFile] = WeakSet()  # what was open when its tree was left
        self._mover: deque[None] = deque((None,))  # taken by the thread that goes where the head stands
        self.block_size = tenant.block_size
        self.max_file_size = tenant.max_file_size
        self._clock = clock
        self._latest = 0
        self.id = self.clock()  # tells this session's changes from others'
        self.enforce = enforce
        self.read_only = read_only
        self.view = view
        self.scope: tuple[bytes, ...] = ()  # the names from the root to the directory that no path leads out of (`path`)
        self.audit = audit
        self.audit_batch = audit_batch
        self.alone = False  # no other door can hold a file open: what is unlinked may go at once
        self.names = Names()
        self.blocks: Lru[bytes, bytes] = Lru(block_cache)
        self.files: dict[int, OpenFile] = {}
        self.numbers: list[int] = []
        self.records: deque[tuple[int, int, str, int, str | None, int, int, int, int]] = deque()
        self.defer = False  # new files may wait in memory for their first flush
        self.lingers = False  # and beyond their close: the door stores them before anybody can know that they were closed
        self.waiting: dict[tuple[int, bytes], OpenFile] = {}
        self.folders = Recent()  # directories
        self.leaves: Recent | None = None  # other inodes; only while the door hears what others change, one operation at a time
        self.outdated = Names(), Recent()  # what was in mind of the tree that stood here before
        self.versions: Lru[int, tuple[int, int]] = Lru(16384)  # ctime and size of files when they were last closed
        self._absent: Lru[tuple[int, bytes], int] = Lru(1024)  # names seen to be free, and when
        self._tenant_lock = self._key("T", 0)

    @property
    def layer(self) -> int:
        return self.at.layer

    @property
    def visible(self) -> Ranges:
        return self.at.visible

    @property
    def key(self) -> tuple[int, int, Ranges]:
        """The first three parameters of most statements."""
        at = self.at
        return self.tenant, at.layer, at.visible

    def key_of(self, generation: int) -> tuple[int, int, Ranges]:
        """The key of an earlier tree of this session, as it was last; of the present one, what it is now. ESTALE for one that
        nobody had a file open of."""
        at: Standing | None = self.at
        if at is None or generation != at.generation:
            at = self.past.get(generation)
        if at is None:
            raise FsError(errno.ESTALE)
        return self.tenant, at.layer, at.visible

    def beside(self, layer: int, visible: Ranges) -> Session:
        """A session on another tree of the tenant, to read from in the midst of an operation. It shares the blocks in memory,
        and leaves no record."""
        there = replace(self.info, layer=layer, visible=visible)
        made = Session(there, self._clock, enforce=False, read_only=True, view=True, audit=False, audit_batch=0)
        made.blocks = self.blocks
        made.scope = self.scope
        return made

    def clock(self) -> int:
        """ns since the epoch, never the same twice and never going back: of two changes by this session, the later one
        shows."""
        self._latest = max(self._clock(), self._latest + 1)
        return self._latest

    # --- locks

    def view_lock(self, layer: int) -> int:
        """What a door holds, shared, as long as it shows a sealed layer."""
        return view_lock(self.tenant, layer)

    def _key(self, kind: str, ino: int, name: bytes = b"") -> int:
        return lock_key(self.tenant, kind, ino, name)

    def branch_lock(self, head: str) -> int:
        """What a door that keeps files open holds, shared, as long as it stands on a branch."""
        return self._key("B", 0, head.encode())

    def dir_lock(self, ino: int) -> int:
        return self._key("D", ino)

    def name_lock(self, parent: int, name: bytes) -> int:
        """Of a name that is about to change, so it is no longer known to be free."""
        self._absent.drop((parent, name))
        return self._key("N", parent, name)

    def inode_lock(self, ino: int) -> int:
        return self._key("I", ino)

    def rename_lock(self) -> int:
        return self._key("R", 0)

    def begin(self, *queries: Query, shared: Iterable[int] = (), exclusive: Iterable[int] = ()) -> Op[list[Rows]]:
        """Start a mutation: locks, the check that the head stands where we think, and what is to be read under them."""
        if self.read_only:
            raise FsError(errno.EROFS)
        key = self.key
        if any(query.values[:3] != key for query in queries):
            raise RetryableError("40001", "the head moved")  # while they were made, as another thread saw
        rows = yield from run(self.locks(shared, exclusive), sql.HEAD(self.tenant, self.head), *queries)
        layer, visible, epoch = rows[1][0] if rows[1] else (None, (), 0)
        self.stands_at(layer == key[1], layer, visible, epoch)
        return rows[2:]

    def locks(self, shared: Iterable[int], exclusive: Iterable[int]) -> Query:
        """The statement that takes a mutation's locks."""
        return sql.LOCK([self._tenant_lock, *sorted(set(shared))], sorted(set(exclusive)))

    def stands_at(self, expected: bool, layer: int | None, visible: Ranges, epoch: int) -> None:
        """Where the head stands, and whether that is what an operation took it for: if not, run the operation again."""
        if layer is None:
            raise FsError(errno.ESTALE, f"the branch {self.head} is gone")
        if not expected:
            self.moved(layer, visible, epoch)
            raise RetryableError("40001", "the head moved")

    def moved(self, layer: int, visible: Ranges, epoch: int) -> bool:
        """The head stands elsewhere now; whether the tree is another one. After a checkpoint it is the same; otherwise
        nothing that was kept in mind of it is true any more, and what is open stays with the old one.

        Several threads may see the same move at once: one of them goes, the others are told False."""
        try:
            self._mover.pop()
        except IndexError:
            return False
        try:
            at = self.at
            if epoch <= at.epoch:
                return False  # old news
            if layer == at.layer or any(lo <= at.layer < hi for lo, hi in visible):
                self.at = Standing(epoch, at.generation, layer, visible)
                return False
            self._leave(at)
            self.at = Standing(epoch, at.generation + 1, layer, visible)  # last: from here on others fill what was emptied
            return True
        finally:
            self._mover.append(None)

    def _leave(self, at: Standing) -> None:
        self._left.update(list(self.files.values()))
        kept = {file.generation for file in self._left} | {at.generation}
        self.past = {generation: last for generation, last in (self.past | {at.generation: at}).items() if generation in kept}
        self.files.clear()
        self.waiting.clear()
        self.outdated = self.names, self.folders
        self.names, self.folders = Names(), Recent()
        if self.leaves is not None:
            self.leaves = Recent()
        self.versions.clear()
        self._absent.clear()

    def exclude_all(self, *queries: Query, first: tuple[Query, ...] = ()) -> Op[list[Rows]]:
        """Start what must not run beside any mutation of the tenant. `first`: before the lock."""
        rows = yield from run(*first, sql.LOCK([], [self._tenant_lock]), *queries)
        return rows[len(first) + 1 :]

    # --- inode numbers

    def take_number(self) -> Op[int]:
        """An inode number nobody had. Numbers are fetched many at a time; those of a failed operation are lost."""
        try:
            return self.numbers.pop()
        except IndexError:
            rows = yield from run(sql.NUMBERS(NUMBERS_AT_ONCE))
            self.numbers.extend(reversed(rows[0][0][0]))
            return self.numbers.pop()

    # --- names seen to be free

    def saw_absent(self, parent: int, name: bytes) -> None:
        if self.defer:
            self._absent.put((parent, name), self.clock())

    def absent(self, parent: int, name: bytes) -> bool:
        """Whether the name was free a moment ago; told once."""
        seen = self._absent.get((parent, name))
        self._absent.drop((parent, name))
        return seen is not None and self.clock() - seen < ABSENT_FOR

    # --- open files

    def opened(self, ino: int) -> OpenFile | None:
        """The open file of an inode of the present tree."""
        file = self.files.get(ino)
        return None if file is None or file.stale else file

    def closed(self, file: OpenFile) -> None:
        if self.files.get(file.ino) is file:
            del self.files[file.ino]

    def current(self, attr: Attr) -> Attr:
        """The attributes as this session's unflushed writes have made them."""
        file = self.opened(attr.ino)
        return attr if file is None else file.overlay(attr)

    def forget_name(self, attr: Attr) -> None:
        """A name of this inode (whose attributes were read before) is gone."""
        if attr.nlink == 1:
            self.names.drop(attr.ino)
        file = self.opened(attr.ino)
        if file is not None:
            file.counts(min(file.stored.nlink, attr.nlink) - 1)

    # --- other doors

    def tell(self, *inos: int, names: bool = False) -> tuple[Query, ...]:
        """The statement that tells other doors, where there are any, which inodes a mutation changes; `names`: a name that
        they may know no longer stands for what it did."""
        leaves = self.leaves  # a thread beside may take it away
        if leaves is not None:
            leaves.changed(*inos)
        if self.alone:
            return ()
        return (sql.TELL(feed(self.tenant), f"{self.id} {int(names)} {' '.join(map(str, sorted(set(inos))))}"),)

    def tell_moved(self) -> tuple[Query, ...]:
        """The statement that tells other doors, where there are any, to look where their heads stand."""
        return () if self.alone else (sql.TELL(feed(self.tenant), f"{self.id} 2"),)

    # --- the audit trail

    def record(
        self,
        caller: Caller,
        operation: str,
        ino: int,
        path: str | None,
        *,
        size: int = 0,
        metadata: dict[str, object] | None = None,
    ) -> tuple[Query, ...]:
        """The statement that records a mutation in its own transaction; none where the audit is off."""
        if not self.audit:
            return ()
        return (sql.AUDIT(self.tenant, self.layer, operation, ino, path, caller.uid, caller.pid, 0, size, metadata),)

    def note(self, caller: Caller, operation: str, ino: int, path: str | None, *, size: int = 0, result: int = 0) -> None:
        """Remember a read or a failure (its errno of this system) for the next batch."""
        if self.audit:
            self.records.append((self.layer, self.clock(), operation, ino, path, caller.uid, caller.pid, linux_errno(result), size))


def lock_key(tenant: int, kind: str, ino: int, name: bytes = b"") -> int:
    """The number of an advisory lock: the upper half tells the tenant, so that a gateway can see whose it is, and the first bit
    of the lower one whether mutations take it. Two things with one number only wait for each other in vain."""
    digest = blake2b(b"%s %d %s" % (kind.encode(), ino, name), digest_size=4).digest()
    return locks_of(tenant).start | (kind not in _MUTATIONS) << 31 | int.from_bytes(digest) & 0x7FFFFFFF


def locks_of(tenant: int) -> range:
    """The numbers that a tenant's locks have. None of them is one that Tarbox takes for anything else."""
    first = 1 << 62 | (tenant & 0x3FFFFFFF) << 32
    return range(first, first + (1 << 32))


def mutation_locks_of(tenant: int) -> range:
    """Those of them that mutations take, until they commit. The others tell who is there, and doors hold them while they live."""
    first = locks_of(tenant).start
    return range(first, first + (1 << 31))


def presence_lock(tenant: int) -> int:
    """What a door that keeps files open holds as long as it lives."""
    return lock_key(tenant, "P", 0)


def view_lock(tenant: int, layer: int) -> int:
    return lock_key(tenant, "V", layer)


def feed(tenant: int) -> str:
    """The channel on which a tenant's doors tell each other of changes."""
    return f"tarbox_{tenant}"


def check_name(name: bytes) -> None:
    """Refuse what cannot be a new name."""
    if not name:
        raise FsError(errno.ENOENT, name)
    if len(name) > NAME_MAX:
        raise FsError(errno.ENAMETOOLONG, name)
    if name in (b".", b".."):
        raise FsError(errno.EEXIST, name)
    if b"/" in name or b"\0" in name:
        raise FsError(errno.EINVAL, name)
