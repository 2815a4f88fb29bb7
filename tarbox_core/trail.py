"""The audit trail as it is read: pages of records, what is new, sums; and its end, retention. docs/audit.md describes a record.

Not here: writing records (`session`, `audit`), and the proof that they are as they were written (`sealing`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from tarbox_core import trail_statements as sql
from tarbox_core.check_statements import WHOLE
from tarbox_core.effects import Op, Row, Rows, finish, run
from tarbox_core.errors import SqlError, TarboxError
from tarbox_core.session import Session

FOREVER: Final = 253_402_300_800 * 10**9  # ns; the year 10000, which no time that is given reaches
OPERATIONS: Final = (
    "branch", "branch_delete", "checkpoint", "chmod", "chown", "create", "fallocate", "fsck", "fsync", "gateway", "gc", "getxattr", "layer_delete",
    "layer_describe", "link", "mkdir", "mknod", "open", "prune", "read", "readdir", "readlink", "removexattr", "rename", "rmdir", "setxattr",
    "squash", "switch", "symlink", "token_create", "token_refused", "token_revoke", "token_use", "truncate", "unlink", "utimens", "write",
)  # fmt: skip
LOCK_TIMEOUT: Final = "55P03"


class Wanted(NamedTuple):
    """Which records. Times are ns, from `since` until before `until`; `path` means what lies below it too; None means any.
    A rename counts for both of its paths."""

    since: int = 0
    until: int = FOREVER
    path: str | None = None
    operations: list[str] | None = None
    uid: int | None = None
    layer: int | None = None

    def values(self, tenant: int) -> tuple[Any, ...]:
        """The first seven parameters of the statements."""
        path = None if self.path is None else self.path.rstrip("/")
        return tenant, self.since, self.until, path, self.operations, self.uid, self.layer


class Record(NamedTuple):
    """One operation. `at` is in ns; `layer` the 12 digits of its id, None for what belongs to none; `path` is None where only
    the inode was known."""

    id: int
    xact: int
    at: int
    layer: str | None
    layer_name: str | None
    operation: str
    ino: int | None
    path: str | None
    uid: int
    pid: int
    result: int  # 0 or Linux's number of an errno
    bytes: int
    metadata: dict[str, Any] | None


class Sum(NamedTuple):
    """Records with something in common: how many, the bytes they read or wrote, how many of them failed."""

    records: int
    bytes: int
    failures: int


class Report(NamedTuple):
    """Sums by time (ns at which a quarter of an hour begins), by operation and by path, the last two with the largest first."""

    times: dict[int, Sum]
    operations: dict[str, Sum]
    paths: dict[str, Sum]


Place = tuple[int, int]  # behind which a page begins: the time and the id of a record


def start(wanted: Wanted) -> Place:
    """Before the first of all that are wanted."""
    return wanted.since, 0


def newest(s: Session, wanted: Wanted, count: int) -> Op[Place | None]:
    """Before the newest so many; None where there are no more than those."""
    rows = yield from finish(sql.START(*wanted.values(s.tenant), count))
    return rows[0][0] if rows[0] else None


def page(s: Session, wanted: Wanted, after: Place, limit: int) -> Op[list[Record]]:
    """The next records behind a place, oldest first; none at the end."""
    rows = yield from finish(sql.PAGE(*wanted.values(s.tenant), *after, limit))
    return [Record._make(row) for row in rows[0]]


def place(record: Record) -> Place:
    return record.at, record.id


def snapshot(s: Session) -> Op[str]:
    """What has committed by now, to ask later what came since."""
    rows = yield from finish(sql.SNAPSHOT())
    found: str = rows[0][0][0]
    return found


def since(s: Session, wanted: Wanted, before: str) -> Op[tuple[str, list[Record]]]:
    """The records that committed since that snapshot, each told once however long its transaction took; and a snapshot that
    goes on from here."""
    rows = yield from finish(sql.SINCE(*wanted.values(s.tenant), before))
    return rows[0][0][0], [Record._make(row[1:]) for row in rows[0] if row[1] is not None]


def report(s: Session, wanted: Wanted, paths: int) -> Op[Report]:
    """Sums over all that is wanted, with at most so many paths."""
    values = wanted.values(s.tenant)
    rows = yield from run(WHOLE(), sql.BY_TIME(*values), sql.BY_OPERATION(*values), sql.BY_PATH(*values, paths))
    return Report({slot * 10**9: total for slot, total in _sums(rows[1])}, dict(_sums(rows[2])), dict(_sums(rows[3])))


def _sums(rows: Rows) -> Iterable[tuple[Any, Sum]]:
    return ((row[0], Sum(*row[1:])) for row in rows)


class Pruned(NamedTuple):
    """What retention took: records of all tenants, and the time (ns) before which nothing is left."""

    before: int
    records: int


def prune(days: int, uid: int, pid: int) -> Op[Pruned]:
    """Drop the weeks that are older than so many days, of all tenants; each tenant's trail tells of it. Run by the owner.

    TarboxError where a transaction that reads the trail (a dump) does not let go of it; nothing is dropped then.
    """
    try:
        rows = yield from finish(sql.PRUNE(days, uid, pid))
    except SqlError as error:
        if error.sqlstate == LOCK_TIMEOUT:
            raise TarboxError("the audit trail is held by a long transaction (a dump?): nothing was pruned, try again later") from error
        raise
    row: Row = rows[0][0]
    return Pruned(*row)
