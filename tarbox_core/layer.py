"""Layers and branches: checkpoint, switch, delete, squash; and standing on a layer that is sealed.

A head (a branch) writes to its open layer. A checkpoint seals that and opens the next of the same line; a switch opens
a new line on the layer it goes to. Both move a few numbers, whatever the tree holds. Every verb here that changes
something runs while no mutation of the tenant is in flight, so what is sealed is complete.
"""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from typing import Final, NamedTuple

from tarbox_core import layer_statements as sql
from tarbox_core import statements as tree
from tarbox_core.effects import Op, Query, Row, finish, many, run
from tarbox_core.errors import FsError, LayerError, SqlError
from tarbox_core.session import Ranges, Session
from tarbox_core.types import ROOT_INO, Caller, TenantInfo

HEAD: Final = "head"  # the word for the tree as it is now
SHOWN: Final = 8  # digits of an id that are shown
NAME_MAX: Final = 128
MESSAGE_MAX: Final = 4096
MAIN: Final = "main"
PATIENCE: Final = 8000  # ms for mutations in work to end
_WAITED: Final = "55P03"  # the SQLSTATE of having waited for so long
_ID: Final = re.compile(r"[0-9a-f]{1,12}")
_LIKE_AN_ID: Final = re.compile(r"[0-9a-f]{4,12}")
_RESERVED: Final = frozenset((HEAD, "-"))
_BRANCH: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NO_BRANCH: Final = frozenset(("list", "delete"))  # words of the command line


class Layer(NamedTuple):
    """A layer. Stamps are the numbers that rows carry; times are ns."""

    stamp: int
    id: str
    name: str | None
    message: str
    parent: int | None  # the stamp of the layer it was begun on
    parent_id: str | None
    created_at: int
    sealed_at: int | None  # None: open, a branch writes to it
    automatic: bool
    branch: str | None  # the branch that writes to it

    @property
    def short(self) -> str:
        return self.id[:SHOWN]

    @property
    def label(self) -> str:
        """What people call it: its name, or the beginning of its id; the open one is the head."""
        if self.sealed_at is None:
            return HEAD
        return self.name or self.short


class Branch(NamedTuple):
    """A head. `layer` is the stamp of the layer it writes to, `previous` of the one that `switch -` goes to."""

    name: str
    layer: int
    previous: int | None
    created_at: int


class Switched(NamedTuple):
    """`layer`: what the head now stands on; `left`: what it stood on, sealed. The same one where nothing was to do."""

    layer: Layer
    left: Layer | None


def _layer(row: Row) -> Layer:
    return Layer._make(row)


def sees(below: Ranges, stamp: int) -> Ranges:
    """The stamps that a layer sees: what its line was opened on, and the line up to itself."""
    return (*below, (stamp >> 32 << 32, stamp + 1))


# --- finding


def check_name(name: str) -> None:
    """LayerError for what cannot be the name of a layer."""
    reason = None
    if len(name) > NAME_MAX:
        reason = f"it is longer than {NAME_MAX} characters"
    elif not name.strip() or name != name.strip() or not name.isprintable():
        reason = "it must be printable text without spaces at its ends"
    elif "/" in name or ".." in name or name[0] in "-.":
        reason = "it may not contain '/' or '..' nor start with '-' or '.'"
    elif name in _RESERVED:
        reason = "the word means the tree as it is now"
    elif _LIKE_AN_ID.fullmatch(name):
        reason = "it would look like an id"
    if reason:
        raise LayerError(errno.EINVAL, f"bad layer name {_quoted(name)}: {reason}")


def _quoted(word: str) -> str:
    """What somebody gave for a layer, as an error repeats it: no more than a name may have."""
    return repr(word if len(word) <= NAME_MAX else word[: NAME_MAX // 2] + "...")


def check_message(message: str) -> None:
    """LayerError for what cannot be the message of a layer."""
    if len(message) > MESSAGE_MAX or "\0" in message:
        raise LayerError(errno.EINVAL, f"bad message: at most {MESSAGE_MAX} characters, none of them NUL")


def find(s: Session, word: str) -> Op[Layer]:
    """The layer of that name, or whose id begins so; "head" for the open one. ENOENT, EINVAL (ambiguous)."""
    if word == HEAD:
        return (yield from current(s))
    is_id = _ID.fullmatch(word) is not None
    rows = yield from many(sql.FIND(s.tenant, word, word if is_id else "", word + "g" if is_id else ""))
    if not rows and any(row[0] == word for row in (yield from many(sql.HEADS(s.tenant)))):
        raise LayerError(errno.ENOENT, f"{word!r} is a branch and no layer: `--branch {word}` works on it")
    return _chosen(word, [_layer(row) for row in rows])


def _chosen(word: str, found: list[Layer]) -> Layer:
    exact = [layer for layer in found if layer.name == word or layer.id == word]
    if exact:
        return exact[0]
    if not found:
        raise LayerError(errno.ENOENT, f"no layer named {_quoted(word)} and none whose id begins so: see `tarbox layer list`")
    if len(found) > 1:
        could_be = ", ".join(f"{layer.id} ({layer.label})" if layer.name else layer.id for layer in found[:4]) + (", ..." if len(found) > 4 else "")
        raise LayerError(errno.EINVAL, f"{word!r} could be {could_be}: give more of the id")
    return found[0]


def current(s: Session) -> Op[Layer]:
    """The layer this session stands on: its branch's open one, or the sealed one it looks at."""
    if s.view:
        return (yield from _get(s, s.layer))
    rows = yield from many(sql.STANDING(s.tenant, s.head))
    if not rows:
        raise FsError(errno.ESTALE, f"the branch {s.head} is gone")
    return (yield from _get(s, rows[0][0]))


def _get(s: Session, stamp: int) -> Op[Layer]:
    rows = yield from many(sql.LAYER(s.tenant, stamp))
    if not rows:
        raise LayerError(errno.ESTALE, "the layer this stands on was deleted or squashed")
    return _layer(rows[0])


def listing(s: Session) -> Op[list[Layer]]:
    """All layers of the tenant, in the order they were begun."""
    rows = yield from many(sql.LIST(s.tenant))
    return [] if rows[0][0] is None else [_listed(row) for row in zip(*rows[0], strict=True)]


def _listed(row: Row) -> Layer:
    stamp, ident, name, message, parent, parent_id, created_at, sealed_at, automatic, branch = row
    return Layer(stamp, ident, name, message, parent or None, parent_id, created_at, sealed_at or None, bool(automatic), branch)


def visible(s: Session, layer: Layer) -> Op[Ranges]:
    """The stamps that a layer sees."""
    return (yield from _seen_from(s, layer.stamp))


def _seen_from(s: Session, stamp: int | None) -> Op[Ranges]:
    """The same by a layer's stamp; None is below the first of all."""
    if stamp is None:
        return ()
    rows = yield from many(sql.BELOW(s.tenant, stamp >> 32))
    return sees(rows[0][0], stamp)


def view(s: Session, tenant: TenantInfo, word: str) -> Op[TenantInfo]:
    """The tenant as a read-only session on that layer wants it."""
    layer = yield from find(s, word)
    ranges = yield from visible(s, layer)
    return replace(tenant, layer=layer.stamp, visible=ranges)


def begun(s: Session) -> Op[tuple[int, bool]]:
    """When the branch's open layer was begun (ns), and whether anything was changed in it."""
    rows = yield from many(sql.STANDING(s.tenant, s.head))
    if not rows:
        raise FsError(errno.ESTALE, f"the branch {s.head} is gone")
    standing = _Standing(*rows[0])
    return (yield from _get(s, standing.layer)).created_at, standing.changed


def refresh(s: Session) -> Op[bool]:
    """See where the head stands; whether another tree stands there now."""
    if s.view:
        return False
    rows = yield from many(tree.HEAD(s.tenant, s.head))
    if not rows:
        raise FsError(errno.ESTALE, f"the branch {s.head} is gone")
    return s.moved(*rows[0])


# --- moving the head


class _Standing(NamedTuple):
    layer: int
    visible: Ranges
    epoch: int
    previous: int | None
    changed: bool
    last_line: int


def _begin(s: Session, *queries: Query) -> Op[tuple[_Standing, list[list[Row]]]]:
    """Keep all mutations away, and see where the head stands. EBUSY where one that is in work does not end: doors wait
    with us, and read nothing."""
    if s.read_only:
        raise LayerError(errno.EROFS, "this is a read-only view: layers are made, switched and removed from a writable one")
    try:
        rows = yield from s.exclude_all(sql.STANDING(s.tenant, s.head), *queries, first=(sql.PATIENCE(f"{PATIENCE}ms"),))
    except SqlError as error:
        if error.sqlstate != _WAITED:
            raise
        raise LayerError(errno.EBUSY, f"changes that were in work did not end within {PATIENCE / 1000:g} s; nothing was done: try again") from error
    if not rows[0]:
        raise FsError(errno.ESTALE, f"the branch {s.head} is gone")
    at = _Standing(*rows[0][0])
    s.moved(at.layer, at.visible, at.epoch)
    return at, rows[1:]


def _advance(s: Session, head: str, at: _Standing, name: str | None, message: str, automatic: bool) -> tuple[int, Ranges, list[Query]]:
    """Seal a head's layer and open the next of its line."""
    stamp = at.layer + 1
    ranges = (*at.visible[:-1], (at.visible[-1][0], stamp + 1))
    return stamp, ranges, [
        sql.SEAL(s.tenant, at.layer, name, message, automatic),
        sql.OPEN(s.tenant, stamp, at.layer),
        sql.HEAD_MOVE(s.tenant, head, stamp, ranges, None),
    ]


def _fork(s: Session, line: int, stamp: int, below: Ranges) -> tuple[int, Ranges, list[Query]]:
    """Open a new line on a sealed layer that sees `below`."""
    opened = line << 32 | 1
    return opened, sees(below, opened), [sql.LINE_OPEN(s.tenant, line, stamp, below), sql.OPEN(s.tenant, opened, stamp)]


def checkpoint(s: Session, caller: Caller, name: str | None = None, message: str = "", *, automatic: bool = False) -> Op[Layer | None]:
    """Seal what was changed since the last one; the sealed layer. An automatic one without changes makes none: None.

    EEXIST (the name is taken), EINVAL (a bad name), EROFS. To be run with durable=True, after what is dirty was flushed.
    """
    if name is not None:
        check_name(name)
    check_message(message)
    at, (taken,) = yield from _begin(s, sql.FIND(s.tenant, name or "", "", ""))
    if taken:
        raise LayerError(errno.EEXIST, f"a layer named {name!r} exists already: {taken[0][1][:SHOWN]}")
    if automatic and not at.changed:
        return None
    stamp, ranges, queries = _advance(s, s.head, at, name, message, automatic)
    rows = yield from finish(*queries, sql.LAYER(s.tenant, at.layer), *s.tell_moved(), *s.record(caller, "checkpoint", ROOT_INO, "/", metadata={"name": name}))
    s.moved(stamp, ranges, at.epoch + 1)
    return _layer(rows[len(queries)][0])


def switch(s: Session, caller: Caller, word: str) -> Op[Switched]:
    """Make the tree what it was in a sealed layer; "-" is the one that the last switch left. What was changed since the
    last checkpoint is sealed first, so that nothing is lost.

    ENOENT (unknown, or nothing to go back to), EINVAL (ambiguous, or a layer that is still written to), EROFS. To be run
    with durable=True, after what is dirty was flushed.
    """
    at, _ = yield from _begin(s)
    if word == "-":
        if at.previous is None:
            raise LayerError(errno.ENOENT, "there is nothing to go back to: this branch was never switched, or the layer it left was deleted")
        target = yield from _get(s, at.previous)
    else:
        target = yield from find(s, word)
    if target.sealed_at is None:
        if target.stamp == at.layer:
            return Switched(target, None)
        raise LayerError(errno.EINVAL, f"layer {target.short} is still written to by branch {target.branch}: make a checkpoint there first")
    rests_on = (yield from _get(s, at.layer)).parent
    if not at.changed and rests_on == target.stamp:
        return Switched(target, None)
    below = yield from visible(s, target)
    stamp, ranges, queries = _fork(s, at.last_line + 1, target.stamp, below)
    left = at.layer if at.changed else rests_on
    seal = sql.SEAL(s.tenant, at.layer, None, f"before the switch to {target.label}", True) if at.changed else sql.DROP(s.tenant, [at.layer])
    record = s.record(caller, "switch", ROOT_INO, "/", metadata={"to": target.id})
    rows = yield from finish(
        seal, *queries, sql.HEAD_MOVE(s.tenant, s.head, stamp, ranges, left), sql.LAYER(s.tenant, left or 0), *s.tell_moved(), *record,
    )  # fmt: skip
    s.moved(stamp, ranges, at.epoch + 1)
    shown = rows[len(queries) + 2]
    return Switched(target, _layer(shown[0]) if shown else None)


def describe(s: Session, caller: Caller, word: str, message: str) -> Op[None]:
    """Give a sealed layer another message. ENOENT, EINVAL, EROFS."""
    check_message(message)
    yield from _begin(s)
    layer = yield from find(s, word)
    if layer.sealed_at is None:
        raise LayerError(errno.EINVAL, f"layer {layer.short} is still written to: it gets its message with the checkpoint")
    yield from finish(
        sql.DESCRIBE(s.tenant, layer.stamp, message), *s.record(caller, "layer_describe", ROOT_INO, "/", metadata={"layer": layer.id, "message": message})
    )


# --- branches


def branches(s: Session) -> Op[list[Branch]]:
    """All branches by name."""
    return [Branch(*row) for row in (yield from many(sql.HEADS(s.tenant)))]


def check_branch_name(name: str) -> None:
    """LayerError for what cannot be the name of a branch."""
    if not _BRANCH.fullmatch(name) or name in _NO_BRANCH:
        allowed = "1 to 64 of the letters a-z and A-Z, digits, '.', '_' and '-', a letter or digit first; not 'list' or 'delete'"
        raise LayerError(errno.EINVAL, f"bad branch name {name!r}: use {allowed}")


def branch(s: Session, caller: Caller, name: str, word: str = HEAD) -> Op[Branch]:
    """A new branch that goes on from a layer; from the head it seals what was changed there. EEXIST, EINVAL, ENOENT, EROFS."""
    check_branch_name(name)
    at, (heads,) = yield from _begin(s, sql.HEADS(s.tenant))
    if any(row[0] == name for row in heads):
        raise LayerError(errno.EEXIST, f"a branch named {name!r} exists already")
    target = yield from find(s, word)
    queries: list[Query] = []
    moved: tuple[int, Ranges, int] | None = None
    fork = target.stamp
    if target.sealed_at is None:
        if target.stamp != at.layer:
            raise LayerError(errno.EINVAL, f"layer {target.short} is still written to by branch {target.branch}: make a checkpoint there first")
        if at.changed:
            stamp, ranges, queries = _advance(s, s.head, at, None, f"before the branch {name}", True)
            moved = stamp, ranges, at.epoch + 1
        elif target.parent is not None:
            fork = target.parent
            target = yield from _get(s, fork)
    below = yield from visible(s, target)
    opened, seen, fork_queries = _fork(s, at.last_line + 1, fork, below)
    yield from run(*queries, *fork_queries, sql.HEAD_MAKE(s.tenant, name, opened, seen))
    rows = yield from finish(
        sql.HEADS(s.tenant), *s.tell_moved(), *s.record(caller, "branch", ROOT_INO, "/", metadata={"name": name, "from": target.id})
    )
    if moved is not None:
        s.moved(*moved)
    return next(Branch(*row) for row in rows[0] if row[0] == name)


def delete_branch(s: Session, caller: Caller, name: str) -> Op[Layer | None]:
    """Remove a branch; its layers stay. What it changed since its last checkpoint is sealed as a layer, which is returned.

    ENOENT, EBUSY (the main branch, the one this session is on, or one that is mounted), EROFS.
    """
    _, (heads,) = yield from _begin(s, sql.HEADS(s.tenant))
    layer = next((row[1] for row in heads if row[0] == name), None)
    if layer is None:
        raise LayerError(errno.ENOENT, f"no branch named {name!r}: see `tarbox layer branch list`")
    if name in (MAIN, s.head):
        raise LayerError(errno.EBUSY, f"branch {name!r} is {'the one in use here' if name == s.head else 'the main one'} and stays")
    mounted, standing = yield from run(tree.PRESENCES(s.branch_lock(name)), sql.STANDING(s.tenant, name))
    if mounted[0][0]:
        raise LayerError(errno.EBUSY, f"branch {name!r} is mounted: unmount it first")
    changed = _Standing(*standing[0]).changed
    end = sql.SEAL(s.tenant, layer, None, f"what branch {name} had last", True) if changed else sql.DROP(s.tenant, [layer])
    shown = yield from finish(
        end, sql.HEAD_DROP(s.tenant, name), sql.LAYER(s.tenant, layer), *s.tell_moved(),
        *s.record(caller, "branch_delete", ROOT_INO, "/", metadata={"name": name}),
    )  # fmt: skip
    return _layer(shown[2][0]) if changed else None


# --- removing


def delete(s: Session, caller: Caller, word: str) -> Op[Layer]:
    """Remove a sealed layer that nothing rests on, with all it holds; its blocks go with the next gc.

    ENOENT, EINVAL (ambiguous), EBUSY (a branch or a layer rests on it, a view of it is mounted), EROFS.
    """
    yield from _begin(s)
    layer = yield from find(s, word)
    if layer.sealed_at is None:
        raise LayerError(errno.EBUSY, f"layer {layer.short} is the one that branch {layer.branch} writes to: switch away from it first")
    children = [_layer(row) for row in (yield from many(sql.CHILDREN(s.tenant, layer.stamp)))]
    for child in children:
        if child.branch is not None:
            here = "this branch stands" if child.branch == s.head else f"branch {child.branch} stands"
            raise LayerError(errno.EBUSY, f"{here} on layer {layer.label}: switch away from it first")
    if children:
        raise LayerError(errno.EBUSY, f"{_names(children)} on layer {layer.label}: delete what rests on it first, or squash")
    yield from _unwatched(s, [layer])
    own = _owned((yield from visible(s, layer)), (yield from _seen_from(s, layer.parent)))
    yield from finish(
        *(drop(s.tenant, own) for drop in sql.ROWS_DROP), sql.DROP(s.tenant, [layer.stamp]), sql.HEAD_FORGET(s.tenant, [layer.stamp], None),
        *s.record(caller, "layer_delete", ROOT_INO, "/", metadata={"layer": layer.id, "name": layer.name}),
    )  # fmt: skip
    return layer


def _names(layers: list[Layer]) -> str:
    shown = ", ".join(layer.label for layer in layers[:4]) + (", ..." if len(layers) > 4 else "")
    return f"layer {shown} rests" if len(layers) == 1 else f"layers {shown} rest"


def _owned(seen: Ranges, below: Ranges) -> list[int]:
    """The stamps that a layer sees and the one it was begun on does not."""
    return [stamp for lo, hi in seen for stamp in range(lo, hi) if not any(first <= stamp < end for first, end in below)]


def _unwatched(s: Session, layers: list[Layer]) -> Op[None]:
    """No read-only mount stands on any of them."""
    rows = yield from run(*(tree.PRESENCES(s.view_lock(layer.stamp)) for layer in layers))
    for layer, counted in zip(layers, rows, strict=True):
        if counted[0][0]:
            raise LayerError(errno.EBUSY, f"layer {layer.label} is mounted read-only: unmount it first")


def squash(s: Session, caller: Caller, first: str, last: str) -> Op[tuple[Layer, int]]:
    """Make one layer of a run of them, both ends included: the last stays and holds what all changed; how many went.

    ENOENT, EINVAL (no such run, or a layer that is still written to), EBUSY (something else rests on a layer between, or
    it is mounted), EROFS.
    """
    yield from _begin(s)
    start, end = (yield from find(s, first)), (yield from find(s, last))
    for layer in (start, end):
        if layer.sealed_at is None:
            raise LayerError(errno.EINVAL, f"layer {layer.short} is still written to by branch {layer.branch}: make a checkpoint first")
    layers = yield from listing(s)
    chain = _run(layers, start, end)
    gone = chain[:-1]
    inside = {layer.stamp for layer in chain}
    for layer in gone:
        others = [child for child in layers if child.parent == layer.stamp and child.stamp not in inside]
        if others:
            what = f"branch {others[0].branch} stands" if others[0].branch else _names(others)
            raise LayerError(errno.EBUSY, f"cannot squash across a fork: {what} on layer {layer.label}")
    yield from _unwatched(s, gone)
    stamps = [layer.stamp for layer in chain]
    below = yield from _seen_from(s, chain[0].parent)
    own = _owned((yield from visible(s, end)), below)
    yield from run(
        *(drop(s.tenant, own) for drop in sql.SUPERSEDED), *(drop(s.tenant, own, below) for drop in sql.NEEDLESS),
        sql.DEAD(s.tenant, own, below, s.alone, list(s.files)),
    )  # fmt: skip
    rows = yield from finish(
        sql.REBASE(s.tenant, end.stamp, chain[0].parent), sql.HEAD_FORGET(s.tenant, stamps[:-1], end.stamp), sql.DROP(s.tenant, stamps[:-1]),
        sql.LAYER(s.tenant, end.stamp), *s.record(caller, "squash", ROOT_INO, "/", metadata={"into": end.id, "layers": [layer.id for layer in gone]}),
    )  # fmt: skip
    return _layer(rows[3][0]), len(gone)


def _run(layers: list[Layer], start: Layer, end: Layer) -> list[Layer]:
    """The layers from one up to another that rests on it."""
    by_stamp = {layer.stamp: layer for layer in layers}
    chain = [end]
    while chain[-1].stamp != start.stamp:
        parent = by_stamp.get(chain[-1].parent or 0)
        if parent is None:
            raise LayerError(errno.EINVAL, f"{start.label}..{end.label} is no run of layers: {end.label} does not rest on {start.label}")
        chain.append(parent)
    if len(chain) == 1:
        raise LayerError(errno.EINVAL, f"{start.label}..{end.label} is one layer: nothing to squash")
    return chain[::-1]
