"""What may stand in the parameters of the statements that change a tree, take locks or tell of it: one check for each.

A check is given the statement as it was sent and the facts of its transaction. It returns, raises GatewayError, or puts
another value in place of one that is not the client's to choose. It may rely on the types, and on nothing else: NULL is
a value of every type. Where a check asks for what the transaction has read, it means what an honest operation reads
there anyway.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from typing import Final

from tarbox_core import statements as tree
from tarbox_core.content import inline_max
from tarbox_core.errors import FsError
from tarbox_core.frames import ANSWER_MAX
from tarbox_core.gateway_audit import BYTES_MAX, CHANGED, PATH_MAX, metadata
from tarbox_core.gateway_call import END, Call
from tarbox_core.gateway_facts import LOCKS_MAX, Facts
from tarbox_core.hashing import digests
from tarbox_core.layer import PATIENCE
from tarbox_core.making import TARGET_MAX, made_by
from tarbox_core.session import check_name, feed, locks_of, mutation_locks_of
from tarbox_core.statements import CHUNK_BLOCKS
from tarbox_core.types import HASH_SIZE, HOLE, NAME_MAX, ROOT_INO
from tarbox_core.xattr import NAMESPACES, VALUE_MAX

Check = Callable[[Call, Facts], None]

ID_MAX: Final = (1 << 32) - 1  # of users, groups and devices
TIME_MAX: Final = (1 << 63) - (1 << 56)  # ns, either way: beyond it there is no room for later changes, and with it all that 34 bits of seconds hold
NUMBERS_MAX: Final = 1024  # in one statement
PAGE_MAX: Final = 10_000  # rows of an answer whose number the client chooses
_TYPES: Final = frozenset((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK))
_TOLD: Final = re.compile(r"[0-9]{1,20} ([01](?: [0-9]{1,19}){1,64}|2)")
_PATIENCE: Final = re.compile(r"([0-9]{1,5})ms")


# --- reads


def few_blocks(number: int) -> Check:
    """As many blocks as an answer can hold."""

    def check(call: Call, facts: Facts) -> None:
        most = ANSWER_MAX // facts.client.tenant.block_size
        facts.asked += len(call.array(number, most))
        if facts.asked > most:
            raise call.refused(number, f"more than {most} blocks at once", "too-large")

    return check


def page(number: int, most: int = PAGE_MAX) -> Check:
    def check(call: Call, facts: Facts) -> None:
        call.integer(number, 0, most)

    return check


def page_of_blocks(number: int) -> Check:
    def check(call: Call, facts: Facts) -> None:
        call.integer(number, 0, ANSWER_MAX // facts.client.tenant.block_size)

    return check


# --- sessions


def own_lock(call: Call, facts: Facts) -> None:
    if call.integer(1, -END - 1, END) not in locks_of(facts.client.tenant.id):
        raise call.refused(1, "a lock of another tenant, or of none", "foreign")


def locks(call: Call, facts: Facts) -> None:
    """The tenant's own comes with the first, so that who wants it exclusively has not kept it from others before."""
    shared, alone = call.array(1, LOCKS_MAX), call.array(2, LOCKS_MAX)
    own, tenant = mutation_locks_of(facts.client.tenant.id), facts.client.tenant_lock
    for number, keys in enumerate((shared, alone), 1):
        if any(key not in own for key in keys):
            raise call.refused(number, "a lock of another tenant, or none that a mutation takes", "foreign")
    if (facts.shared or facts.alone) and tenant not in facts.alone:
        if tenant in alone or (tenant in shared and tenant not in facts.shared):
            raise call.refused(0, "the tenant's lock is taken first, and not made exclusive later", "not-allowed")
    if facts.client.locks + len(set(shared) - facts.shared.keys()) + len(set(alone) - facts.alone.keys()) > LOCKS_MAX:
        raise call.refused(0, f"{LOCKS_MAX} locks are the limit", "too-large")


def patience(call: Call, facts: Facts) -> None:
    matched = _PATIENCE.fullmatch(call.text(1, 10))
    if matched is None or not 1 <= int(matched[1]) <= PATIENCE:
        raise call.refused(1, f"1ms to {PATIENCE}ms")


def numbers(call: Call, facts: Facts) -> None:
    if not facts.client.spend_numbers(call.integer(1, 1, NUMBERS_MAX)):
        raise call.refused(1, "too many inode numbers in a short time", "too-large")


def told(call: Call, facts: Facts) -> None:
    """Only the client's own channel, and only what doors say of changes; under an ID that no other door has."""
    if call.text(1, 64) != feed(facts.client.tenant.id):
        raise call.refused(1, "a channel of another tenant, or of none", "foreign")
    matched = _TOLD.fullmatch(call.text(2, 1500))
    if matched is None:
        raise call.refused(2, "not what doors tell each other of changes")
    call.values[1] = f"{facts.client.id} {matched[1]}"


# --- names


def _name(call: Call, number: int) -> bytes:
    name = call.octets(number, 1, NAME_MAX)
    try:
        check_name(name)
    except FsError as error:
        raise call.refused(number, str(error)) from None
    return name


def _read(call: Call, facts: Facts, number: int) -> int:
    """An inode that this transaction has read, under the tenant's lock, in the tree that it changes."""
    ino = call.integer(number, ROOT_INO, END)
    if ino not in facts.inodes and not facts.trusted:
        raise call.refused(number, f"inode {ino} is not one that this transaction has read from its branch", "not-allowed")
    return ino


def _own(call: Call, facts: Facts, number: int) -> int:
    """One whose row is the open layer's: by those rows it is known what a layer changed."""
    ino = _read(call, facts, number)
    if ino in facts.inodes and facts.inodes[ino].layer != call.values[1]:
        raise call.refused(number, f"inode {ino} has no row in this layer yet: it is copied up first", "not-allowed")
    return ino


def _folder(call: Call, facts: Facts, number: int) -> int:
    ino = _own(call, facts, number)
    if ino in facts.inodes and not stat.S_ISDIR(facts.inodes[ino].mode):
        raise call.refused(number, f"inode {ino} is no directory")
    return ino


def _file(call: Call, facts: Facts, number: int) -> int:
    ino = _own(call, facts, number)
    if ino in facts.inodes and not stat.S_ISREG(facts.inodes[ino].mode):
        raise call.refused(number, f"inode {ino} is no regular file")
    return ino


def dentry_put(call: Call, facts: Facts) -> None:
    parent, name, ino = _folder(call, facts, 3), _name(call, 4), _read(call, facts, 5)
    kind = call.integer(6, 1, 15)
    inode = facts.inodes.get(ino)
    if inode is not None:
        if inode.mode >> 12 != kind:
            raise call.refused(6, f"inode {ino} is of type {inode.mode >> 12}")
        if not inode.nlink:
            raise call.refused(5, f"inode {ino} is not linked")
        if kind == 4 and not facts.trusted:
            _place_folder(call, facts, parent, name, ino)
    facts.leaves(parent, name)


def _place_folder(call: Call, facts: Facts, parent: int, name: bytes, ino: int) -> None:
    """A directory has one name and one parent, and does not lie below itself: whoever walks the tree relies on that. So it may
    only be moved, one in a transaction or two that change places, with both names locked and no other directory on its way."""
    was = next((place for place, there in facts.names.items() if there == ino), None)
    if was is None or facts.name_lock(parent, name) not in facts.alone:
        raise call.refused(5, f"directory {ino} may only be moved, with its old and its new name locked", "not-allowed")
    above = facts.above.get(parent, frozenset())
    if was[0] != parent and (ino in above or ROOT_INO not in above):  # what was cut off from the root may hang together in a ring
        raise call.refused(3, f"directory {parent} may lie below {ino}: that is read first, while no other directory is moved", "not-allowed")
    if facts.moved:
        ((first, place), *more) = facts.moved.items()
        if more or first == ino or facts.names.get((parent, name)) != first or facts.names.get(place) != ino:
            raise call.refused(0, "one directory may be moved, or two exchanged", "not-allowed")
    facts.moved[ino] = parent, name


def unsettled(facts: Facts) -> int | None:
    """A directory that was moved and kept its old name or its old parent, where there is any."""
    for ino, now in facts.moved.items():
        others = [place for place, there in facts.names.items() if there == ino and place != now]
        if ino not in facts.settled or not facts.left.issuperset(others):
            return ino
    return None


def dentry_drop(call: Call, facts: Facts) -> None:
    facts.leaves(_folder(call, facts, 4), call.octets(5, 1, NAME_MAX))


def make(call: Call, facts: Facts) -> None:
    """What it depends on it checks inside. The record that it makes begins with what it makes, and names the grant's caller."""
    tenant = facts.client.tenant
    call.text(4, NAME_MAX)
    call.integer(5, ROOT_INO, END)
    _name(call, 6)
    ino, mode = call.integer(7, ROOT_INO + 1, END), _mode(call, 8)
    if not facts.client.has_number(ino):
        raise call.refused(7, f"inode number {ino} was not given to this client, or long ago, or it is used", "not-allowed")
    facts.made.add(ino)
    for number in (9, 10, 11, 16):
        call.integer(number, 0, ID_MAX)
    for number in (12, 18, 19):
        call.integer(number, -TIME_MAX, TIME_MAX)
    kind = stat.S_IFMT(mode)
    target, inline = call.octets_or_null(13, 1, TARGET_MAX), call.octets_or_null(14, 0, min(inline_max(tenant.block_size), tenant.max_file_size))
    if (target is not None) != (kind == stat.S_IFLNK) or b"\0" in (target or b""):
        raise call.refused(13, "a symbolic link has a target, nothing else has one, and there is no NUL in it")
    if (inline is not None) != (kind == stat.S_IFREG):
        raise call.refused(14, "a regular file has content, nothing else has any")
    call.flag(15)
    call.array(17, 1 << 16)
    operations, sizes = call.array(20, 64), call.array(21, 64)
    if len(operations) != len(sizes) or not CHANGED.issuperset(operations) or any(not 0 <= size <= BYTES_MAX for size in sizes):
        raise call.refused(20, "not the operations that make a file, with the bytes of each")
    made = made_by(mode)
    if facts.client.grant.audit and (not operations or operations[0] != made):
        call.values[19:21] = [made, *operations], [0, *sizes]
    call.text_or_null(22, PATH_MAX)
    call.values[22:24] = facts.client.grant.caller.uid, facts.client.grant.caller.pid
    metadata(call, 25)


# --- inodes and content


def _mode(call: Call, number: int) -> int:
    mode = call.integer(number, 0, 0o177777)
    if stat.S_IFMT(mode) not in _TYPES:
        raise call.refused(number, f"{mode:o} has no known type")
    return mode


def _same_type(call: Call, facts: Facts, number: int, ino: int) -> None:
    if call.values[number - 1] is None:
        return
    mode = _mode(call, number)
    if ino in facts.inodes and stat.S_IFMT(mode) != stat.S_IFMT(facts.inodes[ino].mode):
        raise call.refused(number, f"inode {ino} has another type")


def copy_up(call: Call, facts: Facts) -> None:
    ino = call.integer(4, ROOT_INO, END)
    if ino in facts.inodes:
        facts.inodes[ino] = facts.inodes[ino]._replace(layer=call.integer(2, 1, END))


def touch(call: Call, facts: Facts) -> None:
    _folder(call, facts, 3)
    call.integer(4, -TIME_MAX, TIME_MAX)
    call.integer(5, -1, 1)


def links(call: Call, facts: Facts) -> None:
    """The root keeps its own: nobody would find the way back to it."""
    if _own(call, facts, 3) == ROOT_INO and not facts.trusted:
        raise call.refused(3, "the root has no name that could come or go")
    call.integer(4, -TIME_MAX, TIME_MAX)
    call.integer(5, -END, 1)


def inode_set(call: Call, facts: Facts) -> None:
    ino = _own(call, facts, 3)
    _same_type(call, facts, 4, ino)
    for number in (5, 6):
        call.integer_or_null(number, 0, ID_MAX)
    for number in (7, 8, 9):
        call.integer_or_null(number, -TIME_MAX, TIME_MAX)
    parent = call.integer_or_null(10, ROOT_INO, END)
    if parent is not None:
        if not facts.trusted and (ino not in facts.moved or facts.moved[ino][0] != parent):
            raise call.refused(10, f"directory {ino} was not moved there", "not-allowed")
        facts.settled.add(ino)


def inode_content(call: Call, facts: Facts) -> None:
    tenant, ino = facts.client.tenant, _file(call, facts, 3)
    size = call.integer(4, 0, tenant.max_file_size)
    call.integer(5, 0, tenant.max_file_size)
    inline = call.octets_or_null(6, 0, inline_max(tenant.block_size))
    if (inline is None) != (size > inline_max(tenant.block_size)) or (inline is not None and len(inline) != size):
        raise call.refused(6, f"not the content of a file of {size} bytes")
    _same_type(call, facts, 7, ino)
    call.integer_or_null(8, -TIME_MAX, TIME_MAX)
    call.integer(9, -TIME_MAX, TIME_MAX)


def unpack(call: Call, facts: Facts) -> None:
    _file(call, facts, 3)
    call.octets_or_null(4, 0, inline_max(facts.client.tenant.block_size))


def reap(call: Call, facts: Facts) -> None:
    """Only what is unlinked goes, as the statement itself sees to; and never the root."""
    facts.inodes.pop(call.integer(4, ROOT_INO + 1, END), None)


def extent_put(call: Call, facts: Facts) -> None:
    """Whether the blocks are there the gateway asks in front of it, for those that are not known to be: see `lacking`."""
    _file(call, facts, 3)
    tenant = facts.client.tenant
    last = -(-tenant.max_file_size // (tenant.block_size * CHUNK_BLOCKS))
    chunks, hashes = call.array(4, last + 1), call.array(5, last + 1)
    if len(chunks) != len(hashes) or len(set(chunks)) != len(chunks) or any(not 0 <= chunk <= last for chunk in chunks):
        raise call.refused(4, f"not different chunks between 0 and {last}, one for each element of $5")
    if any(len(each) % HASH_SIZE or len(each) > HASH_SIZE * CHUNK_BLOCKS for each in hashes):
        raise call.refused(5, f"not up to {CHUNK_BLOCKS} hashes of {HASH_SIZE} bytes in each chunk", "bad-hash")


def lacking(call: Call, facts: Facts) -> list[bytes]:
    """The blocks that an `extent.put` names and this transaction has neither stored nor read the name of."""
    named = {each[at : at + HASH_SIZE] for each in call.values[4] for at in range(0, len(each), HASH_SIZE)}
    return sorted(named - facts.blocks - {HOLE})


def extent_cut(call: Call, facts: Facts) -> None:
    _file(call, facts, 4)
    call.integer(5, 0, END)


def block_put(call: Call, facts: Facts) -> None:
    """Under the tenant's lock, so that no gc takes them before they are named."""
    beside_others(call, facts)
    hashes, blocks = call.array(2, 1 << 16), call.array(3, 1 << 16)
    if len(hashes) != len(blocks):
        raise call.refused(3, f"{len(blocks)} blocks for {len(hashes)} hashes")
    if any(not 0 < len(block) <= facts.client.tenant.block_size for block in blocks):
        raise call.refused(3, f"a block has 1 to {facts.client.tenant.block_size} bytes")
    if hashes != digests(blocks):
        raise call.refused(2, "a hash is not the BLAKE3 of its block", "bad-hash")
    facts.stored(hashes)


def xattr_put(call: Call, facts: Facts) -> None:
    _own(call, facts, 3)
    name = call.octets(4, 1, NAME_MAX)
    if b"\0" in name or not name.startswith(NAMESPACES):
        raise call.refused(4, "not a name in a namespace that is kept")
    call.octets(5, 0, VALUE_MAX)


def xattr_drop(call: Call, facts: Facts) -> None:
    _own(call, facts, 4)
    call.octets(5, 1, NAME_MAX)


# --- layers, where they are not moves: those are `gateway_layers`'


def alone(call: Call, facts: Facts) -> None:
    """Maintenance that must see no mutation in flight."""
    if not facts.exclusive:
        raise call.refused(0, "the transaction does not hold the tenant's lock exclusively", "not-allowed")


def beside_others(call: Call, facts: Facts) -> None:
    """Maintenance that may run beside mutations, not beside moves."""
    if not facts.held:
        raise call.refused(0, "the transaction does not hold the tenant's lock", "not-allowed")


def in_open_layer(call: Call, facts: Facts) -> None:
    """What every change of a tree must be: in the open layer of a branch that this transaction has seen to stand there, under the
    tenant's lock, so that nobody has moved it since; and seeing what that branch sees."""
    if not facts.held:
        raise call.refused(0, "the transaction does not hold the tenant's lock", "not-allowed")
    layer = call.integer(2, 1, END)
    if call.statement is tree.INODE_REAP and facts.trusted:
        return
    if facts.tree not in (None, layer):
        raise call.refused(2, "one transaction reads and changes the tree of one branch", "not-allowed")
    if call.statement is not tree.MAKE:  # which asks the branch itself
        head = facts.head_of(layer)
        if head is None:
            raise call.refused(2, f"layer {layer} is not the open layer of a branch that this transaction has read", "not-allowed")
        if call.statement.params[2] == "int8multirange" and call.values[2] != head.visible:
            raise call.refused(3, "not what the branch sees", "not-allowed")
    facts.wrote(layer)
