"""Which moves of layers a gateway's client may make: those that `layer` makes, from what the transaction has read.

A move is a run of statements that stand together in one batch, in one of five forms. Each is looked at as a whole, under
the tenant's exclusive lock, so that heads, layers and lines become what `layer` would make of them, or stay as they are:

    advance     layer.seal, layer.open, head.move                   a checkpoint: the next layer of the line
    switch      layer.seal | layer.drop, line.open, layer.open, head.move
    branch      line.open, layer.open, head.make
    end         layer.seal | layer.drop, head.drop                  a branch is deleted
    describe    layer.describe
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from tarbox_core import layer_statements as sql
from tarbox_core.effects import Statement
from tarbox_core.errors import GatewayError, LayerError
from tarbox_core.gateway_call import Call
from tarbox_core.gateway_facts import MOVES_MAX, Facts, Head, LayerFact
from tarbox_core.layer import MAIN, check_branch_name, check_message, check_name, sees
from tarbox_core.session import Ranges, lock_key

LINE_MAX: Final = (1 << 31) - 1


class _Run:
    """The statements of one move, and what is wrong with them."""

    def __init__(self, calls: Sequence[Call], facts: Facts) -> None:
        self.calls = calls
        self.facts = facts

    def refused(self, why: str) -> GatewayError:
        names = ", ".join(call.statement.name for call in self.calls)
        return GatewayError("not-allowed", f"statements {names}: {why}")

    def must_be(self, number: int, *values: Any) -> None:
        """A statement's values behind the tenant."""
        call = self.calls[number]
        for place, (given, expected) in enumerate(zip(call.values[1:], values, strict=True), 2):
            if given != expected or type(given) is not type(expected):
                raise self.refused(f"{call.statement.name} says {given!r:.200} for ${place}, where {expected!r:.200} follows from what was read")

    def standing(self, name: str) -> Head:
        """Where a branch stands, as read for a move."""
        head = self.facts.heads.get(name)
        if head is None or head.changed is None or not head.visible or self.facts.last_line is None:
            raise self.refused(f"where the branch {name!r:.100} stands has not been read")
        return head

    def layer(self, stamp: int) -> LayerFact:
        found = self.facts.layers.get(stamp)
        if found is None:
            raise self.refused(f"layer {stamp} has not been read")
        return found

    def may_move(self, name: str) -> Head:
        """The branch whose doors the host keeps quiet."""
        if name != self.facts.moves:
            raise self.refused(f"the branch {name!r:.100} is not the one that was read when the tenant's lock was taken")
        return self.standing(name)

    def seal(self, number: int, layer: int) -> None:
        """An open layer becomes what it is for ever."""
        _, _, name, message, automatic = self.calls[number].values
        self.must_be(number, layer, name, message, automatic)
        try:
            if name is not None:
                check_name(name)
            check_message(message or "")
        except LayerError as error:
            raise self.refused(str(error)) from None
        if message is None or automatic is None:
            raise self.refused("a message and whether it is automatic belong to a layer")

    def leave(self, number: int, head: Head) -> None:
        """What was changed in an open layer is sealed; one without changes goes."""
        if self.calls[number].statement is sql.DROP:
            if head.changed:
                raise self.refused(f"layer {head.layer} has changes")
            self.must_be(number, [head.layer])
        else:
            if not head.changed:
                raise self.refused(f"layer {head.layer} has no changes")
            self.seal(number, head.layer)

    def fork(self, number: int) -> tuple[int, Ranges, int]:
        """The next line, on a sealed layer: the stamp of its first layer, what that sees, and the layer it grows on."""
        line, fork = (self.facts.last_line or 0) + 1, self.calls[number].values[2]
        if not isinstance(fork, int) or not self.layer(fork).sealed or fork >> 32 not in self.facts.below:
            raise self.refused(f"a line grows on a sealed layer whose own line has been read, not on {fork!r:.30}")
        if line > LINE_MAX:
            raise self.refused("there are no more lines")
        below = sees(self.facts.below[fork >> 32], fork)
        opened = line << 32 | 1
        self.must_be(number, line, fork, below)
        self.must_be(number + 1, opened, fork)
        return opened, sees(below, opened), fork

    def forked(self, opened: int, seen: Ranges, fork: int) -> None:
        self.facts.last_line = opened >> 32
        self.facts.below[opened >> 32] = seen[:-1]
        self.facts.layers[opened] = LayerFact(fork, False)


def _advance(run: _Run) -> None:
    name = run.calls[2].values[1]
    head = run.may_move(name)
    stamp = head.layer + 1
    seen = (*head.visible[:-1], (head.visible[-1][0], stamp + 1))
    run.seal(0, head.layer)
    run.must_be(1, stamp, head.layer)
    run.must_be(2, name, stamp, seen, None)
    facts = run.facts
    before = facts.layers.get(head.layer)
    facts.layers[head.layer] = LayerFact(before.parent if before else None, True)
    facts.layers[stamp] = LayerFact(head.layer, False)
    facts.heads[name] = Head(stamp, seen, False, head.previous)


def _switch(run: _Run) -> None:
    name = run.calls[3].values[1]
    head = run.may_move(name)
    rests_on = run.layer(head.layer).parent
    run.leave(0, head)
    opened, seen, fork = run.fork(1)
    left = head.layer if head.changed else rests_on
    run.must_be(3, name, opened, seen, left)
    if head.changed:
        run.facts.layers[head.layer] = LayerFact(rests_on, True)
    else:
        del run.facts.layers[head.layer]
    run.forked(opened, seen, fork)
    run.facts.heads[name] = Head(opened, seen, False, left if left is not None else head.previous)


def _branch(run: _Run) -> None:
    opened, seen, fork = run.fork(0)
    name = run.calls[2].values[1]
    try:
        check_branch_name(name or "")
    except LayerError as error:
        raise run.refused(str(error)) from None
    run.must_be(2, name, opened, seen)
    run.forked(opened, seen, fork)
    run.facts.heads[name] = Head(opened, seen, False, None)


def _end(run: _Run) -> None:
    name = run.calls[1].values[1]
    head = run.standing(name)
    if name in (MAIN, run.facts.moves):
        raise run.refused(f"the branch {name!r:.100} stays")
    if run.facts.doors.get(lock_key(run.facts.client.tenant.id, "B", 0, name.encode())) != 0:
        raise run.refused(f"the branch {name!r:.100} is in use, or whether it is has not been asked")
    run.leave(0, head)
    run.must_be(1, name)
    del run.facts.heads[name]


def _describe(run: _Run) -> None:
    _, stamp, message = run.calls[0].values
    if not isinstance(stamp, int) or not run.layer(stamp).sealed:
        raise run.refused("only a sealed layer gets another message")
    try:
        check_message(message or "")
    except LayerError as error:
        raise run.refused(str(error)) from None
    run.must_be(0, stamp, message or "")


_FORMS: Final[Sequence[tuple[tuple[frozenset[Statement], ...], Callable[[_Run], None]]]] = [
    (tuple(frozenset(each) for each in form), move)
    for form, move in (
        (((sql.SEAL,), (sql.OPEN,), (sql.HEAD_MOVE,)), _advance),
        (((sql.SEAL, sql.DROP), (sql.LINE_OPEN,), (sql.OPEN,), (sql.HEAD_MOVE,)), _switch),
        (((sql.LINE_OPEN,), (sql.OPEN,), (sql.HEAD_MAKE,)), _branch),
        (((sql.SEAL, sql.DROP), (sql.HEAD_DROP,)), _end),
        (((sql.DESCRIBE,),), _describe),
    )
]


def move(calls: Sequence[Call], facts: Facts) -> int:
    """The calls begin with a move: how many of them it is made of. Raises GatewayError where it is none that may be made."""
    if not facts.exclusive:
        raise calls[0].refused(0, "the transaction does not hold the tenant's lock exclusively", "not-allowed")
    facts.moves_made += 1
    if facts.moves_made > MOVES_MAX:
        raise calls[0].refused(0, f"more than {MOVES_MAX} moves in one transaction", "too-large")
    for form, check in _FORMS:
        if len(calls) >= len(form) and all(call.statement in each for call, each in zip(calls, form, strict=False)):
            check(_Run(calls[: len(form)], facts))
            return len(form)
    raise calls[0].refused(0, "it is part of no move, or not of a whole one in one batch", "not-allowed")
