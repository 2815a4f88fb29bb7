"""What a gateway does with each statement of the core: one table, to be read by whoever wants to know what a client may do.

The class decides who may send it, the check (where there is one) with which values. `may_explain` are the operations that
tell of it in the audit: a change that none of them is recorded for gets a record from the gateway. What shows nobody another
tree has none.

A statement that is in no class is not the core's; `Gateway` takes it for one that reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from tarbox_core import check_statements as check
from tarbox_core import compare_statements as compare
from tarbox_core import gateway_checks as may
from tarbox_core import gateway_statements as own
from tarbox_core import layer_check_statements as layer_check
from tarbox_core import layer_statements as layer
from tarbox_core import packing_statements as packing
from tarbox_core import statements as tree
from tarbox_core import tokens_statements as token
from tarbox_core import trail_statements as trail
from tarbox_core.effects import Statement
from tarbox_core.gateway_audit import KEPT_UP, MOVED, record, records
from tarbox_core.gateway_checks import Check


class Class(Enum):
    READ = "reads one tenant's rows, or nothing but settings of its own transaction"
    RECORD = "writes records of reads and failures"
    STEP = "what mutations need besides their changes: locks, numbers, blocks, records, telling other doors"
    CHANGE = "changes the open layer of a branch"
    MOVE = "part of a move of layers (`gateway_layers`)"
    UPKEEP = "repairs, packs or removes, sealed layers too"
    HOST = "the owner's, a session's, or the gateway's own"


READ_ONLY: Final = frozenset((Class.READ, Class.RECORD))
WRITER: Final = READ_ONLY | {Class.STEP, Class.CHANGE, Class.MOVE}
UPKEEP: Final = WRITER | {Class.UPKEEP}


class Rule(NamedTuple):
    kind: Class
    check: Check | None = None
    may_explain: frozenset[str] = frozenset()


_NAMING: Final = frozenset(("link", "unlink", "rmdir", "rename", "fsck"))
_CONTENT: Final = frozenset(("write", "truncate", "fallocate", "fsck"))
_ATTRIBUTES: Final = frozenset(("chmod", "chown", "utimens", "setxattr", "removexattr", "rename", "write", "fsck"))
_MOVING: Final = MOVED | {"fsck"}


def _reads(*statements: Statement) -> dict[Statement, Rule]:
    return dict.fromkeys(statements, Rule(Class.READ))


def _read(statement: Statement, check: Check) -> dict[Statement, Rule]:
    return {statement: Rule(Class.READ, check)}


def _step(statement: Statement, check: Check) -> dict[Statement, Rule]:
    return {statement: Rule(Class.STEP, check)}


def _change(statement: Statement, check: Check, *explaining: frozenset[str]) -> dict[Statement, Rule]:
    return {statement: Rule(Class.CHANGE, check, frozenset().union(*explaining))}


def _move(*statements: Statement) -> dict[Statement, Rule]:
    return dict.fromkeys(statements, Rule(Class.MOVE, None, _MOVING | KEPT_UP))


def _upkeep(check: Check | None, *statements: Statement, explaining: frozenset[str] = KEPT_UP) -> dict[Statement, Rule]:
    return dict.fromkeys(statements, Rule(Class.UPKEEP, check, explaining))


def _host(*statements: Statement) -> dict[Statement, Rule]:
    return dict.fromkeys(statements, Rule(Class.HOST))


RULES: Final[Mapping[Statement, Rule]] = {
    # --- reads: any grant
    **_reads(tree.HEAD, tree.TENANT_USAGE, check.WHOLE, check.JOINING, trail.SNAPSHOT),
    **_read(tree.PRESENCES, may.own_lock),
    **_reads(tree.CHILD, tree.CHILD_FULL, tree.WALK, tree.DIR_USED, tree.ANCESTORS),
    **_read(tree.DIR_NAMES, may.page(6)),
    **_read(tree.DIR_PAGE, may.page(6)),
    **_reads(tree.INODE, tree.INODE_FULL, tree.INODE_PACKED, tree.XATTR, tree.XATTRS, tree.EXTENTS, tree.EXTENTS_FROM),
    **_read(tree.BLOCKS_AT, may.few_blocks(5)),
    **_read(tree.BLOCKS, may.few_blocks(2)),
    **_reads(layer.STANDING, layer.LAYER, layer.FIND, layer.LIST, layer.BELOW, layer.CHILDREN, layer.HEADS),
    **_reads(compare.MOVED, compare.TOUCHED, compare.STATES, compare.NAMES, compare.BELOW, compare.STEPS, compare.VERSIONS),
    **_reads(packing.CHAIN, packing.NEXT_LAYER, packing.STATS, packing.STATS_BY_LAYER),
    **_read(packing.UNPACKED, may.page(4)),
    **_read(packing.REPLACED, may.page(4)),
    **_reads(check.DANGLING, check.NAMELESS, check.LINKS, check.PARENTS, check.KINDS, check.CONTENT, check.PAST_END, check.STORED, check.MISSING),
    **_reads(check.BLOCK_USERS, check.UNLINKED, check.UNLINKED_ANYWHERE, check.STRAYS, check.TEXTLESS, check.TEXT_USER),
    **_read(check.BLOCK_PAGE, may.page_of_blocks(3)),
    **_read(check.TEXT_PAGE, may.page(3, 64)),
    **_reads(layer_check.STANDING, layer_check.LINES, layer_check.LOST_ROWS),
    **_reads(trail.START, trail.SINCE, trail.BY_TIME, trail.BY_OPERATION, trail.LAST, trail.REACH, trail.DIGESTS, trail.BEYOND),
    **_reads(trail.FLOORS, trail.PRUNED),
    **_read(trail.PAGE, may.page(10)),
    **_read(trail.BY_PATH, may.page(8)),
    **_read(trail.SEALS, may.page(3)),
    # --- the records of a client's own reads: any grant
    tree.AUDIT_MANY: Rule(Class.RECORD, records),
    # --- what goes with changes: not with a read-only grant, as all that follows
    **_step(tree.LOCK, may.locks),
    **_step(layer.PATIENCE, may.patience),
    **_step(tree.NUMBERS, may.numbers),
    **_step(tree.TELL, may.told),
    **_step(tree.BLOCK_PUT, may.block_put),
    **_step(tree.AUDIT, record),
    # --- changes: also `gateway_checks.in_open_layer` for each
    **_change(tree.MAKE, may.make),  # it makes its record itself
    **_change(tree.DENTRY_PUT, may.dentry_put, _NAMING),
    **_change(tree.DENTRY_DROP, may.dentry_drop, _NAMING),
    **_change(tree.INODE_COPY_UP, may.copy_up),
    **_change(tree.INODE_TOUCH, may.touch, _NAMING),
    **_change(tree.INODE_LINKS, may.links, _NAMING),
    **_change(tree.INODE_SET, may.inode_set, _ATTRIBUTES),
    **_change(tree.INODE_CONTENT, may.inode_content, _CONTENT),
    **_change(tree.INODE_UNPACK, may.unpack, _CONTENT),
    **_change(tree.INODE_REAP, may.reap),
    **_change(tree.EXTENT_PUT, may.extent_put, _CONTENT),
    **_change(tree.EXTENT_CUT, may.extent_cut, _CONTENT),
    **_change(tree.XATTR_PUT, may.xattr_put, frozenset(("setxattr",))),
    **_change(tree.XATTR_DROP, may.xattr_drop, frozenset(("removexattr", "write"))),
    # --- moves
    **_move(layer.SEAL, layer.OPEN, layer.DROP, layer.DESCRIBE, layer.LINE_OPEN, layer.HEAD_MOVE, layer.HEAD_MAKE, layer.HEAD_DROP),
    # --- upkeep: its own grant
    **_upkeep(may.alone, *layer.ROWS_DROP, *layer.SUPERSEDED, *layer.NEEDLESS, layer.DEAD, layer.REBASE, layer.HEAD_FORGET),
    **_upkeep(may.alone, layer_check.LINE_SEES, layer_check.HEAD_SEES, layer_check.LOST_ROWS_DROP),
    **_upkeep(may.alone, tree.INODE_PUT, check.STRAYS_DROP, check.SET_LINKS, check.SET_STORED),
    **_upkeep(may.alone, check.UNREFERENCED_DROP, check.TEXTS_DROP, packing.EXTENTS_SWEEP),
    **_upkeep(may.beside_others, packing.TEXT_PUT, packing.PACK, packing.LEAVE, packing.EXTENTS_DROP, packing.LAYERS_DONE, explaining=frozenset()),
    **_upkeep(may.own_lock, trail.SEALING, explaining=frozenset()),
    **_upkeep(None, trail.SEAL, explaining=frozenset()),
    # --- nobody's
    **_host(tree.PRESENT, tree.PRESENT_PIDS, tree.QUIET, own.BLOCKS_STORED),
    **_host(tree.TENANT_CREATE, tree.TENANT_DELETE, tree.TENANT_LIST, tree.TENANT_GET, tree.AUDIT_AHEAD, trail.PRUNE),
    **_host(token.CREATE, token.FIND, token.USED, token.LIST, token.REVOKE, token.STANDING, token.WITHDRAW, token.FORGET),
}

STATEMENTS: Final[Mapping[str, Statement]] = {statement.name: statement for statement in RULES}
