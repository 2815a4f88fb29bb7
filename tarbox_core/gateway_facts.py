"""What a gateway knows: of its client, and of each transaction from the rows that the server gave in it.

A fact is what the server said under the tenant's lock, so it holds until the transaction ends. What a client says is no
fact. All of it is bounded: what does not fit is not known, and what depends on it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from tarbox_core import layer_statements as layers
from tarbox_core import statements as tree
from tarbox_core.effects import Query, Rows, Statement
from tarbox_core.session import Ranges, lock_key
from tarbox_core.types import HASH_SIZE, Caller, TenantInfo

NUMBERS_KEPT: Final = 1 << 16  # inode numbers that a client may still use
NUMBERS_BURST: Final = 1 << 16  # that it may ask for at once,
NUMBERS_A_SECOND: Final = 1 << 14  # and then: all tenants share them
LOCKS_MAX: Final = 1024  # that all open transactions of a client may hold: tenants share the server's table of them
BLOCKS_KEPT: Final = 1 << 16
MOVES_MAX: Final = 4  # of layers, in one transaction
ROWS_KEPT: Final = 4096  # of each kind
TWICE: Final = frozenset(("rename", "branch"))  # operations that may take a statement twice: in both directories, for the layer left and the new one
NOBODY: Final = Caller()

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Grant:
    """What a client may do. `upkeep`: also what rewrites or removes sealed layers, and repairs; `audit`: no change without a
    record; `caller`: who the records name, whoever the client says it is."""

    read_only: bool = False
    upkeep: bool = False
    audit: bool = True
    caller: Caller = NOBODY


class Client:
    """One client, over all its transactions."""

    def __init__(self, tenant: TenantInfo, grant: Grant, clock: Callable[[], int]) -> None:
        self.tenant = tenant
        self.grant = grant
        self.clock = clock
        self.tenant_lock = lock_key(tenant.id, "T", 0)
        self.rename_lock = lock_key(tenant.id, "R", 0)
        self.id = clock()  # in place of its sessions' own in what it tells other doors
        self.open: dict[int, Facts] = {}
        self._numbers: dict[int, None] = {}
        self._allowed = NUMBERS_BURST
        self._counted = self.id

    def spend_numbers(self, count: int) -> bool:
        """Whether it may ask for so many inode numbers now."""
        now = self.clock()
        gained = max(0, now - self._counted) * NUMBERS_A_SECOND // 10**9
        if gained:
            self._allowed, self._counted = min(NUMBERS_BURST, self._allowed + gained), now
        if count > self._allowed:
            return False
        self._allowed -= count
        return True

    def gave_numbers(self, numbers: list[int]) -> None:
        self._numbers |= dict.fromkeys(numbers)
        while len(self._numbers) > NUMBERS_KEPT:
            del self._numbers[next(iter(self._numbers))]

    def has_number(self, ino: int) -> bool:
        """Whether it was given that number and has made no inode of it, nor tries to: none is made twice, in any branch."""
        return ino in self._numbers and not any(ino in facts.made for facts in self.open.values())

    def used_numbers(self, inos: Iterable[int]) -> None:
        for ino in inos:
            self._numbers.pop(ino, None)

    @property
    def locks(self) -> int:
        return sum(len(facts.shared) + len(facts.alone) for facts in self.open.values())


class Head(NamedTuple):
    """Where a branch stands. `changed` and `previous` are known where it was read for a move."""

    layer: int
    visible: Ranges
    changed: bool | None = None
    previous: int | None = None


class LayerFact(NamedTuple):
    parent: int | None
    sealed: bool


class Inode(NamedTuple):
    """`layer`: the one whose row it is."""

    mode: int
    nlink: int
    layer: int


@dataclass(slots=True)
class Facts:
    """Of one transaction."""

    client: Client
    begun: int  # ns
    moves: str | None = None  # the branch whose head it may move
    shared: dict[int, int] = field(default_factory=dict)  # locks, and the place in the present batch where each was taken; -1: before
    alone: dict[int, int] = field(default_factory=dict)
    heads: dict[str, Head] = field(default_factory=dict)
    layers: dict[int, LayerFact] = field(default_factory=dict)
    below: dict[int, Ranges] = field(default_factory=dict)  # what the layers of a line see beneath it
    last_line: int | None = None
    doors: dict[int, int] = field(default_factory=dict)  # how many hold a lock
    tree: int | None = None  # the open layer of the one branch whose tree it reads and changes
    inodes: dict[int, Inode] = field(default_factory=dict)  # of that tree
    names: dict[tuple[int, bytes], int] = field(default_factory=dict)  # likewise, under their locks
    above: dict[int, frozenset[int]] = field(default_factory=dict)  # a directory and those it lies in, while no other can move one
    blocks: set[bytes] = field(default_factory=set)  # stored or named already
    moved: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # directories that got another name,
    settled: set[int] = field(default_factory=set)  # of them those that got their parent,
    left: set[tuple[int, bytes]] = field(default_factory=set)  # and names that no longer stand for what was read
    moves_made: int = 0
    made: set[int] = field(default_factory=set)  # inode numbers that inodes were to be made of,
    used: set[int] = field(default_factory=set)  # and were
    asked: int = 0  # blocks, in the present batch
    changes: dict[str, int] = field(default_factory=dict)  # statements that changed something, how often,
    may_explain: dict[str, frozenset[str]] = field(default_factory=dict)  # and the operations that tell of them
    recorded: dict[str, int] = field(default_factory=dict)  # operations, how often
    layer: int = 0  # that was written to

    def name_lock(self, parent: int, name: bytes) -> int:
        return lock_key(self.client.tenant.id, "N", parent, name)

    @property
    def exclusive(self) -> bool:
        """Whether no other mutation of the tenant runs."""
        return self.client.tenant_lock in self.alone

    @property
    def held(self) -> bool:
        """Whether heads stay where they are."""
        return self.exclusive or self.client.tenant_lock in self.shared

    @property
    def trusted(self) -> bool:
        """Whether it may change what it has not read: maintenance does so, alone."""
        return self.client.grant.upkeep and self.exclusive

    def head_of(self, layer: int) -> Head | None:
        """The branch whose open layer that is."""
        return next((head for head in self.heads.values() if head.layer == layer), None)

    def wrote(self, layer: int) -> None:
        self.layer = self.tree = layer
        for name, head in self.heads.items():
            if head.layer == layer:
                self.heads[name] = head._replace(changed=True)

    def stored(self, hashes: Iterable[bytes]) -> None:
        """These blocks are there, or named by what is."""
        for name in hashes:
            if len(self.blocks) < BLOCKS_KEPT:
                self.blocks.add(name)

    def leaves(self, parent: int, name: bytes) -> None:
        """A name goes, or stands for something else."""
        if (parent, name) in self.names:
            self.left.add((parent, name))

    def changed(self, name: str, may_explain: frozenset[str]) -> None:
        self.changes[name] = self.changes.get(name, 0) + 1
        self.may_explain[name] = may_explain

    def unexplained(self) -> list[str]:
        """Statements that changed more than the records of the transaction tell of. One operation takes each of them once, some
        twice, and maintenance as often as it likes."""
        return [
            name for name, times in self.changes.items()
            if times > sum(told * (1 + (word in TWICE)) for word, told in self.recorded.items() if word in self.may_explain[name])
            and not (self.trusted and self.may_explain[name] & self.recorded.keys())
        ]  # fmt: skip

    def saw(self, queries: list[Query], rows: list[Rows], settled: int) -> None:
        """Learn from the rows of a batch, which changed nothing from the place `settled` on."""
        tenant, renames = self.client.tenant_lock, self.client.rename_lock
        reliable = min(self.shared.get(tenant, _NEVER), self.alone.get(tenant, _NEVER))
        for place, (query, found) in enumerate(zip(queries, rows, strict=True)):
            statement = query.statement
            if statement is tree.NUMBERS:
                self.client.gave_numbers(found[0][0])
            elif statement is tree.MAKE and found[0][9] is not None:
                self.used.add(query.values[6])
            elif place > reliable and found:
                if statement in _OF_LAYERS and place >= settled:
                    _OF_LAYERS[statement](self, query, found)
                elif statement in _OF_TREES and self._here(query):
                    _OF_TREES[statement](self, query, found)
                    if statement in (tree.CHILD, tree.CHILD_FULL) and place > self.alone.get(self.name_lock(*query.values[3:5]), _NEVER):
                        _keep(self.names, query.values[3:5], found[0][0])
                    elif statement is tree.ANCESTORS and settled <= place > self.alone.get(renames, _NEVER):
                        _keep(self.above, query.values[3], frozenset(found[0][0] or ()))
        for locks in (self.shared, self.alone):
            locks.update(dict.fromkeys(locks, -1))

    def _here(self, query: Query) -> bool:
        """Whether it reads the tree of a branch that was read before. The first of these is this transaction's: what is true of one
        tree is not of another."""
        layer, visible = query.values[1:3]
        head = self.head_of(layer)
        if head is None or head.visible != visible or self.tree not in (None, layer):
            return False
        self.tree = layer
        return True


_NEVER: Final = 1 << 30


def _keep(known: dict[K, V], key: K, value: V) -> None:
    if key in known or len(known) < ROWS_KEPT:
        known[key] = value


# --- of branches and layers


def _head(facts: Facts, query: Query, rows: Rows) -> None:
    _keep(facts.heads, query.values[1], Head(*rows[0][:2]))


def _standing(facts: Facts, query: Query, rows: Rows) -> None:
    layer, visible, _, previous, changed, facts.last_line = rows[0]
    _keep(facts.heads, query.values[1], Head(layer, visible, changed, previous))


def _layers(facts: Facts, query: Query, rows: Rows) -> None:
    for stamp, _, _, _, parent, _, _, sealed_at, *_ in rows:
        _keep(facts.layers, stamp, LayerFact(parent, sealed_at is not None))


def _below(facts: Facts, query: Query, rows: Rows) -> None:
    _keep(facts.below, query.values[1], rows[0][0])


def _doors(facts: Facts, query: Query, rows: Rows) -> None:
    _keep(facts.doors, query.values[0], rows[0][0])


# --- of the tree of a branch


def _inodes(facts: Facts, query: Query, rows: Rows) -> None:
    for row in rows:
        _keep(facts.inodes, row[0], Inode(row[1], row[4], row[11]))


def _extents(facts: Facts, query: Query, rows: Rows) -> None:
    for _, hashes in rows:
        facts.stored(hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE))


def _nothing(facts: Facts, query: Query, rows: Rows) -> None:
    """What it tells holds under a lock of its own."""


Learn = Callable[[Facts, Query, Rows], None]
_OF_LAYERS: Final[dict[Statement, Learn]] = {
    tree.HEAD: _head, layers.STANDING: _standing, layers.LAYER: _layers, layers.FIND: _layers, layers.BELOW: _below, tree.PRESENCES: _doors,
}  # fmt: skip
_OF_TREES: Final[dict[Statement, Learn]] = {
    tree.INODE: _inodes, tree.INODE_FULL: _inodes, tree.CHILD: _inodes, tree.CHILD_FULL: _inodes, tree.ANCESTORS: _nothing,
    tree.EXTENTS: _extents, tree.EXTENTS_FROM: _extents,
}  # fmt: skip
