"""Seals: the proof that the audit trail is as it was written. docs/audit.md tells what they prove, and what not.

Writers know nothing of seals, so they wait for nobody. A record carries its transaction; once every transaction below
some number is over, no record below it can come any more, and a seal is put over those that are there: their number
and digest, for each week apart, so that a week can be dropped whole. Each seal's chain stands for all seals up to it.

A dump that is restored into another server brings records and seals with transactions that the new server will only
come to. Sealing notices that, seals what the old server left, and goes on with a `floor`: from there on only records
with larger ids are meant. The records between two floors are an *era*.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NamedTuple

from tarbox_core import trail_statements as sql
from tarbox_core.check_statements import WHOLE
from tarbox_core.effects import Op, finish, many, one, run
from tarbox_core.session import Session, lock_key

GENESIS: Final = bytes(32)  # the chain before the first seal
END: Final = (1 << 63) - 1  # above every transaction and every id
MOST: Final = 50_000  # records sealed at once, unless one transaction wrote more
SEALS_AT_ONCE: Final = 1000
RECORDS_AT_ONCE: Final = 200_000


class Seal(NamedTuple):
    """A row of audit_seal, whose columns the schema describes. Times are ns, whole microseconds."""

    n: int
    floor: int
    lo: int
    hi: int
    week: int
    records: int
    last: int
    digest: bytes
    sealed_at: int
    chain: bytes = b""

    def chained(self, before: bytes) -> bytes:
        """What its chain must be behind that one."""
        fields = [self.n, self.floor, self.lo, self.hi, self.week // 1000, self.records, self.last, self.digest.hex(), self.sealed_at // 1000]
        return sha256(before + json.dumps(fields, separators=(",", ":")).encode()).digest()


class _Chain:
    """The end of a tenant's chain, and what is to be added to it."""

    def __init__(self, n: int, last: int, chain: bytes) -> None:
        self.n = n
        self.last = last
        self.chain = chain
        self.seals: list[Seal] = []

    def add(self, s: Session, now: int, floor: int, lo: int, hi: int) -> Op[None]:
        """Seal the records of the transactions from lo until before hi, each week apart."""
        rows = yield from many(sql.DIGESTS(s.tenant, floor, END, [lo, hi]))
        self.last = max(self.last, *(row[3] for row in rows), 0)
        for _, week, records, _, digest in rows:
            self.n += 1
            seal = Seal(self.n, floor, lo, hi, week, records, self.last, digest, now)
            self.chain = seal.chained(self.chain)
            self.seals.append(seal._replace(chain=self.chain))


def seal(s: Session, most: int = MOST) -> Op[bool]:
    """Seal what transactions that are over have written since the last seal, `most` records or little more. True: there
    may be more to seal. Does nothing while somebody else is sealing."""
    rows = yield from run(WHOLE(), sql.SEALING(lock_key(s.tenant, "S", 0)), sql.LAST(s.tenant))
    if not rows[1][0][0]:
        return False
    n, floor, lo, last, chain, over, unborn = rows[2][0]
    if n is None:
        n, floor, lo, last, chain = 0, 0, 0, 0, GENESIS
    now = s.clock() // 1000 * 1000
    end = _Chain(n, last, chain)
    if unborn < lo:  # the numbers began anew: another server
        yield from end.add(s, now, floor, lo, END)
        floor, lo = end.last, 0
    reached = yield from many(sql.REACH(s.tenant, floor, lo, most))
    hi = min(over, reached[0][0] + 1) if reached else over
    if lo < hi:
        yield from end.add(s, now, floor, lo, hi)
    yield from finish(*(sql.SEAL(s.tenant, *made) for made in end.seals))
    return bool(hi < over)


# --- verifying


@dataclass(slots=True)
class Trouble:
    """Something that is not as it was sealed. `kind`: removed, added or altered (records); seal-missing or seal-altered;
    not-extended. `week` (ns) and the transactions from `lo` until before `hi` say where, `sealed` and `found` count records."""

    kind: str
    text: str = ""
    week: int | None = None
    lo: int = 0
    hi: int = 0
    sealed: int = 0
    found: int = 0

    def __str__(self) -> str:
        if self.week is None:
            return self.text
        day = datetime.fromtimestamp(self.week // 10**9, UTC).date()
        if self.kind == "removed":
            what = f"{self.sealed - self.found} of {self.sealed} records are gone"
        elif self.kind == "altered":
            what = f"of {self.sealed} records one or more were altered or exchanged"
        elif self.sealed:
            what = f"{self.found} records where {self.sealed} were sealed: {self.found - self.sealed} were added"
        else:
            what = f"{self.found} records without a seal among sealed ones: added, or their seal was taken away"
        return f"week of {day}, transactions {self.lo} to {self.hi - 1}: {what}"


@dataclass(slots=True)
class Verdict:
    """What verifying found. `records` are sealed and there, `unsealed` are too new to be sealed, `pruned` were taken by
    retention; `servers` is how many wrote the trail, one after another; `head` is the chain's end."""

    seals: int = 0
    records: int = 0
    unsealed: int = 0
    pruned: int = 0
    servers: int = 1
    head: bytes = GENESIS
    troubles: list[Trouble] = field(default_factory=list)

    def tell(self, trouble: Trouble) -> None:
        """Add a trouble, to the last one where it is more of that."""
        last = self.troubles[-1] if self.troubles else None
        if last and trouble.week is not None and (last.kind, last.week, last.hi) == (trouble.kind, trouble.week, trouble.lo):
            last.hi = trouble.hi
            last.sealed += trouble.sealed
            last.found += trouble.found
        else:
            self.troubles.append(trouble)


class _Prune(NamedTuple):
    """A record of what retention took: nothing is left from before that time (ns), and so many records have gone until then,
    with those that had gone earlier."""

    id: int
    xact: int
    before: int
    ever: int


class _Verify:
    def __init__(self, s: Session, expect: bytes | None) -> None:
        self.s = s
        self.expect = expect
        self.expected = expect in (None, GENESIS)
        self.verdict = Verdict()
        self.removed: list[tuple[Seal, int]] = []  # seals over more records than there are, and how many are
        self.n = 0
        self.floors: list[int] = []
        self.era = 0  # index of the floor
        self.reached = 0  # the transactions of this era below it have been looked at

    def whole(self) -> Op[Verdict]:
        s, verdict = self.s, self.verdict
        rows = yield from run(WHOLE(), sql.FLOORS(s.tenant))
        self.floors = sorted({0, *(floor for (floor,) in rows[1])})
        verdict.servers = len(self.floors)
        pending: list[Seal] = []
        while page := (yield from many(sql.SEALS(s.tenant, self.n, SEALS_AT_ONCE))):
            for seal in map(Seal._make, page):
                self.link(seal)
                if pending and not _together(pending, seal):
                    yield from self.records(pending)
                    pending = []
                pending.append(seal)
        if pending:
            yield from self.records(pending)
        verdict.unsealed = yield from self.beyond()
        rows = yield from finish(sql.PRUNED(s.tenant))
        self.judge([_Prune(ident, xact, _midnight(day), _number(ever)) for ident, xact, day, ever in rows[0]])
        if self.expect is not None and not self.expected:
            text = f"the chain never was at {self.expect.hex()}: this is not the trail that was seen then, or its end was cut off"
            verdict.tell(Trouble("not-extended", text))
        return verdict

    def link(self, seal: Seal) -> None:
        """See that a seal stands behind the one before it."""
        verdict = self.verdict
        if seal.n != self.n + 1:
            verdict.tell(Trouble("seal-missing", f"seals {self.n + 1} to {seal.n - 1} are missing"))
        elif seal.chained(verdict.head) != seal.chain:
            verdict.tell(Trouble("seal-altered", f"seal {seal.n} does not follow from the one before it: one of the two was altered"))
        self.n = seal.n
        verdict.head = seal.chain
        verdict.seals += 1
        self.expected = self.expected or seal.chain == self.expect

    def records(self, seals: list[Seal]) -> Op[None]:
        """Compare the records with these seals, which are of one era."""
        while self.floors[self.era] < seals[0].floor:
            left = yield from self.beyond()
            if left:
                self.verdict.tell(Trouble("added", f"{left} records of an earlier server, of transactions from {self.reached} on, have no seal"))
            self.era += 1
            self.reached = 0
        bounds = [self.reached]
        sealed: dict[tuple[int, int], Seal] = {}
        for seal in seals:
            # Where seals are missing, an interval that has none lies between.
            bounds += [bound for bound in (seal.lo, seal.hi) if bound > bounds[-1]]
            sealed[bisect_left(bounds, seal.hi), seal.week] = seal
        self.reached = bounds[-1]
        for interval, week, count, _, digest in (yield from many(sql.DIGESTS(self.s.tenant, *self.ids(), bounds))):
            self.compare(sealed.pop((interval, week), None), Trouble("added", "", week, bounds[interval - 1], bounds[interval], 0, count), digest)
        self.removed += [(seal, 0) for seal in sealed.values()]

    def compare(self, seal: Seal | None, found: Trouble, digest: bytes) -> None:
        """The records of an interval and a week with the seal over them; `found` becomes the trouble where there is one."""
        verdict = self.verdict
        if seal is not None:
            found.sealed = seal.records
            verdict.records += min(found.found, found.sealed)
            if found.found < found.sealed:
                self.removed.append((seal, found.found))
                return
            if digest == seal.digest:
                return
            if found.found == found.sealed:
                found.kind = "altered"
        verdict.tell(found)

    def judge(self, prunes: list[_Prune]) -> None:
        """Tell of the records that are gone, but for those that retention took."""
        verdict = self.verdict
        for seal, found in self.removed:
            era = bisect_left(self.floors, seal.floor)
            for prune in prunes:
                # Written before the weeks were dropped, or by then: what came later to such a week was not dropped with it.
                if seal.week < prune.before and (era, seal.lo) <= (bisect_left(self.floors, prune.id) - 1, prune.xact):
                    verdict.pruned += seal.records - found
                    break
            else:
                verdict.tell(Trouble("removed", "", seal.week, seal.lo, seal.hi, seal.records, found))
        told = prunes[-1].ever if prunes else 0
        if verdict.pruned > told:
            text = f"{verdict.pruned} records are gone of weeks that retention has dropped, and it found {told} there: the others were removed before"
            verdict.tell(Trouble("removed", text))

    def ids(self) -> tuple[int, int]:
        """This era's records have ids above the first and up to the second."""
        return self.floors[self.era], (*self.floors, END)[self.era + 1]

    def beyond(self) -> Op[int]:
        """How many records this era has that no seal was reached for."""
        (count,) = yield from one(sql.BEYOND(self.s.tenant, *self.ids(), self.reached))
        return int(count)


def _together(seals: list[Seal], seal: Seal) -> bool:
    """Whether a seal's records are looked at in one statement with those of the seals before it."""
    last = seals[-1]
    if (seal.floor, seal.lo, seal.hi) == (last.floor, last.lo, last.hi):
        return True
    return seal.floor == last.floor and len(seals) < SEALS_AT_ONCE and sum(x.records for x in seals) < RECORDS_AT_ONCE


def _midnight(day: str | None) -> int:
    """The time (ns) of a day's beginning in UTC; 0 for what is no day."""
    try:
        return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 10**9
    except ValueError:
        return 0


def _number(word: str | None) -> int:
    return int(word) if word and word.isascii() and word.isdigit() else 0


def verify(s: Session, expect: bytes | None = None) -> Op[Verdict]:
    """Recompute every seal. `expect`: a chain's end that was seen earlier, from which this trail must have grown."""
    return _Verify(s, expect).whole()
