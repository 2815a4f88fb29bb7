"""The statement gateway: what a client without a database password may have done, sans-IO. docs/gateway.md specifies it.

A host hands each frame of a client to `receive`, runs the Step that it may get for it, and tells `done` or `failed` how that
went. The client is taken to be in an attacker's hands: what it may do is in `gateway_rules`, what it may say in
`gateway_checks` and `gateway_layers`; here is who has which transaction open, and the order of things.

One Gateway serves one client. It is not for several threads at once; but steps of different transactions may be in work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, NamedTuple

from tarbox_core import frames
from tarbox_core import gateway_checks as checks
from tarbox_core import layer_statements as layers
from tarbox_core import statements as tree
from tarbox_core.binary import ENCODERS
from tarbox_core.effects import Query, Rows, Statement
from tarbox_core.errors import ConnectError, ConnectionLost, GatewayError, SqlError, TarboxError
from tarbox_core.gateway_call import Call
from tarbox_core.gateway_facts import Client, Facts, Grant
from tarbox_core.gateway_layers import move
from tarbox_core.gateway_rules import READ_ONLY, RULES, STATEMENTS, UPKEEP, WRITER, Class, Rule
from tarbox_core.gateway_statements import BLOCKS_STORED, MISSING_BLOCK
from tarbox_core.hashing import digests
from tarbox_core.types import TenantInfo

__all__ = ["STATEMENTS", "Drop", "Gateway", "Grant", "Reply", "Step"]

OPEN_MAX: Final = 8  # transactions at once
AGE_MAX: Final = 30 * 10**9  # ns of one that holds locks,
READING_MAX: Final = 600 * 10**9  # and of one that holds none, or of maintenance
ENDED_MAX: Final = 64  # transactions of which it is remembered why the host ended them
JSON_MAX: Final = 1 << 16  # bytes of one value
DOUBTFUL: Final = frozenset(("text", "text[]", "jsonb", "int8multirange"))  # types whose bytes may be read and then not be sent on
_READS: Final = Rule(Class.READ)


class Reply(NamedTuple):
    """Send this frame."""

    frame: bytes


class Step(NamedTuple):
    """Run these queries on the connection of the transaction, and tell `done` or `failed`.

    `moves`: the branch whose head this transaction may move. The host keeps the other doors on it quiet from before this step
    to the end of the transaction, as a door does. `own`: places of statements that are not the client's.
    """

    number: int
    transaction: int
    queries: list[Query]
    begin: bool
    commit: bool
    durable: bool
    moves: str | None = None
    own: frozenset[int] = frozenset()


class Drop(NamedTuple):
    """Roll these transactions back where they are open, then send the frame. One whose step is in work ends behind it."""

    transactions: tuple[int, ...]
    frame: bytes


@dataclass(slots=True)
class _Batch:
    """What becomes of a batch: its queries, those that the gateway adds, and where the last change stands."""

    queries: list[Query] = field(default_factory=list)
    own: set[int] = field(default_factory=set)
    settled: int = 0
    moves: str | None = None

    def add(self, query: Query) -> None:
        self.own.add(len(self.queries))
        self.queries.append(query)


@dataclass(slots=True)
class _Work:
    """A step that the host runs. `settled`: the place behind the last of its changes."""

    settled: int
    undone: bool = False


class Gateway:
    """`clock`: ns since the epoch."""

    def __init__(self, tenant: TenantInfo, grant: Grant, clock: Callable[[], int], statements: Mapping[str, Statement] = STATEMENTS) -> None:
        self._client = Client(tenant, grant, clock)
        self._statements = statements
        self._classes = READ_ONLY if grant.read_only else UPKEEP if grant.upkeep else WRITER
        self._working: dict[int, _Work] = {}  # by transaction
        self._ended: dict[int, GatewayError] = {}  # by transaction, the oldest first: what its client is still to hear

    @property
    def id(self) -> int:
        """By which other doors know what this client tells."""
        return self._client.id

    @property
    def open(self) -> frozenset[int]:
        return frozenset(self._client.open)

    # --- what the client sends

    def receive(self, frame: bytes) -> Reply | Step | Drop:
        """What to do about a frame; an error is a frame to send, too."""
        number = frames.number_of(frame)
        try:
            number, request = frames.read_request(frame)
            match request:
                case frames.Hello():
                    return Reply(self._welcome(number, request))
                case frames.Trip():
                    return self._trip(number, request)
                case frames.Undo():
                    return self._undo(number, request.transaction)
                case frames.Digest():
                    return Reply(frames.digests(number, digests(request.blocks)))
        except GatewayError as error:
            return Reply(frames.error(number, error))

    def _welcome(self, number: int, hello: frames.Hello) -> bytes:
        if hello.version != frames.VERSION:
            raise GatewayError("protocol", f"the client speaks version {hello.version} of the protocol, this gateway {frames.VERSION}")
        grant = self._client.grant
        tenant = asdict(replace(self._client.tenant, role=""))
        return frames.welcome(number, {"version": frames.VERSION, "read_only": grant.read_only, "upkeep": grant.upkeep, "tenant": tenant})

    def _undo(self, number: int, transaction: int) -> Reply | Drop:
        self._ended.pop(transaction, None)
        if transaction not in self._client.open:
            return Reply(frames.done(number))
        self._end(transaction)
        return Drop((transaction,), frames.done(number))

    def _end(self, transaction: int) -> None:
        """Forget a transaction; one whose step is in work, with the end of that."""
        if transaction in self._working:
            self._working[transaction].undone = True
        else:
            self._client.open.pop(transaction, None)

    # --- transactions

    def _trip(self, number: int, trip: frames.Trip) -> Reply | Step | Drop:
        known = self._client.open
        if trip.transaction in self._working:
            raise GatewayError("transaction", f"a step of transaction {trip.transaction} is in work")
        if trip.begin:
            if trip.transaction in known:
                return self._refused(number, trip.transaction, GatewayError("transaction", f"transaction {trip.transaction} is open already"))
            if len(known) >= OPEN_MAX:
                return self._full(number)
            known[trip.transaction] = Facts(self._client, self._client.clock())
            self._ended.pop(trip.transaction, None)
        facts = known.get(trip.transaction)
        if facts is None:
            never = GatewayError("transaction", f"no transaction {trip.transaction} is open: it never was, or it was refused something")
            raise self._ended.pop(trip.transaction, never)
        try:
            if self._too_old(facts):
                raise GatewayError("transaction", f"transaction {trip.transaction} was open for too long")
            batch = self._batch(trip, facts)
        except GatewayError as error:
            return self._refused(number, trip.transaction, error)
        self._working[trip.transaction] = _Work(batch.settled)
        return Step(number, trip.transaction, batch.queries, trip.begin, trip.commit, trip.durable, batch.moves, frozenset(batch.own))

    def _refused(self, number: int, transaction: int, error: GatewayError) -> Drop:
        self._end(transaction)
        return Drop((transaction,), frames.error(number, error))

    def _full(self, number: int) -> Drop:
        """As many are open as may be. Those that are too old go, so that there is room for the next try."""
        old = tuple(each for each, facts in self._client.open.items() if each not in self._working and self._too_old(facts))
        for each in old:
            self._end(each)
        return Drop(old, frames.error(number, GatewayError("busy", f"{OPEN_MAX} transactions are open; no more may be")))

    def _too_old(self, facts: Facts) -> bool:
        limit = AGE_MAX if (facts.shared or facts.alone) and not facts.trusted else READING_MAX
        return self._client.clock() - facts.begun > limit

    # --- batches

    def _batch(self, trip: frames.Trip, facts: Facts) -> _Batch:
        if not trip.statements and not trip.commit:
            raise GatewayError("protocol", "a batch without statements that does not commit")
        facts.asked = 0
        batch = _Batch()
        calls = [self._call(sent) for sent in trip.statements]
        moving = 0  # calls that are part of the move before them
        for place, call in enumerate(calls):
            rule = RULES.get(call.statement, _READS)
            if rule.kind is Class.MOVE:
                moving = moving or self._move(calls[place:], facts)
                moving -= 1
            elif rule.kind is Class.CHANGE:
                checks.in_open_layer(call, facts)
            if rule.check is not None:
                rule.check(call, facts)
            self._take(call, rule, facts, batch, calls)
            batch.queries.append(Query(call.statement, tuple(call.values)))
            if rule.kind in (Class.CHANGE, Class.MOVE, Class.UPKEEP):
                batch.settled = len(batch.queries)
        if trip.commit:
            self._finish(facts, batch)
        return batch

    def _move(self, calls: Sequence[Call], facts: Facts) -> int:
        """How many calls are one move. Maintenance repairs layers by single statements, of which no facts follow."""
        if facts.trusted:
            facts.heads.clear()
            facts.layers.clear()
            facts.below.clear()
            return 1
        return move(calls, facts)

    def _take(self, call: Call, rule: Rule, facts: Facts, batch: _Batch, calls: Sequence[Call]) -> None:
        """What follows from a call that is taken."""
        place = len(batch.queries)
        if rule.may_explain:
            facts.changed(call.statement.name, rule.may_explain)
        if call.statement is tree.EXTENT_PUT and (lacking := checks.lacking(call, facts)):
            batch.add(BLOCKS_STORED(self._client.tenant.id, lacking))
        elif call.statement is tree.LOCK:
            was = facts.exclusive
            for held, keys in ((facts.shared, call.values[0]), (facts.alone, call.values[1])):
                for key in keys:
                    held.setdefault(key, place)
            if facts.exclusive and not was:
                facts.moves = batch.moves = next((each.values[1] for each in calls if each.statement is layers.STANDING), None)

    def _finish(self, facts: Facts, batch: _Batch) -> None:
        """What must be so where a transaction commits."""
        moved = checks.unsettled(facts)
        if moved is not None:
            raise GatewayError("not-allowed", f"directory {moved} was moved, and kept its old name or parent")
        grant = self._client.grant
        unexplained = facts.unexplained()
        if unexplained and grant.audit:
            metadata = {"statements": sorted(unexplained)}
            layer = facts.layer or max((head.layer for head in facts.heads.values()), default=0)
            batch.add(tree.AUDIT(self._client.tenant.id, layer, "gateway", None, None, grant.caller.uid, grant.caller.pid, 0, 0, metadata))

    # --- statements

    def _call(self, sent: frames.Sent) -> Call:
        """A statement that this client may send, with values of the right types that can be sent on. The tenant is ours."""
        statement = self._statements.get(sent.name)
        if statement is None:
            raise GatewayError("unknown-statement", f"no statement is called {sent.name!r}")
        if not self._passes(statement):
            raise GatewayError("not-allowed", f"statement {statement.name} is not for this client")
        types = statement.params[1:] if statement.tenant else statement.params
        try:
            for kind, data in zip(types, sent.values, strict=False):
                if kind == "jsonb" and data is not None and len(data) > JSON_MAX:
                    raise GatewayError("too-large", f"{len(data)} bytes of JSON; {JSON_MAX} are the limit")
            values = list(frames.values(types, sent.values))
            _require_sendable(types, values)
        except GatewayError as error:
            raise GatewayError(error.code, f"statement {statement.name}: {error}") from None
        return Call(statement, [self._client.tenant.id, *values] if statement.tenant else values)

    def _passes(self, statement: Statement) -> bool:
        rule = RULES.get(statement)
        return statement.safe if rule is None else rule.kind in self._classes

    # --- what the host tells

    def ended(self, transaction: int, why: GatewayError) -> bool:
        """The host ends a transaction between two of its steps: its place is free, and `why` is what the next step for it is told.
        False, and nothing is to be ended, where a step is in work or none is open."""
        if transaction in self._working or self._client.open.pop(transaction, None) is None:
            return False
        self._ended[transaction] = why
        if len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        return True

    def done(self, step: Step, rows: list[Rows]) -> Reply | Drop:
        """The answer to a step that was run, from the rows of each of its queries."""
        facts, work = self._client.open[step.transaction], self._working.pop(step.transaction)
        if work.undone and not step.commit:
            return self._refused(step.number, step.transaction, GatewayError("transaction", f"transaction {step.transaction} was undone meanwhile"))
        facts.saw(step.queries, rows, work.settled)
        if step.commit:
            self._client.used_numbers(facts.used)
            self._end(step.transaction)
        shown = [(query.statement, found) for place, (query, found) in enumerate(zip(step.queries, rows, strict=True)) if place not in step.own]
        try:
            return Reply(frames.rows(step.number, [statement for statement, _ in shown], [found for _, found in shown]))
        except GatewayError as error:
            return self._refused(step.number, step.transaction, error)

    def failed(self, step: Step, error: Exception) -> Reply:
        """The answer to a step that failed. The transaction is over: the host has rolled it back, or cannot know."""
        self._working.pop(step.transaction)
        if step.commit and isinstance(error, ConnectionLost):
            self._client.used_numbers(self._client.open[step.transaction].made)
        self._end(step.transaction)
        return Reply(frames.error(step.number, _told(error)))


def _require_sendable(types: Sequence[str], values: Sequence[Any]) -> None:
    """That the values go to the server as they came: what its own types do not hold ends here."""
    for number, (kind, value) in enumerate(zip(types, values, strict=True), 1):
        if kind in DOUBTFUL and value is not None:
            try:
                ENCODERS[kind](value, _nowhere)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                raise GatewayError("bad-parameters", f"value {number} ({kind}): {error}") from None


def _nowhere(data: bytes) -> None:
    """Where bytes go that nobody wants."""


def _told(error: Exception) -> TarboxError:
    """An error as a client may hear it: nothing of the host."""
    if isinstance(error, SqlError) and error.sqlstate == MISSING_BLOCK:
        return GatewayError("bad-hash", f"statement extent.put: {error}")
    if isinstance(error, ConnectError):
        return ConnectError("the gateway cannot connect to its database")
    if isinstance(error, TarboxError):
        return error
    return TarboxError(f"the gateway failed ({type(error).__name__})")
