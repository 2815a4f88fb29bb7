"""Recording what leaves no transaction of its own: reads, in batches, and operations that failed."""

from __future__ import annotations

from typing import TypeVar

from tarbox_core import statements as sql
from tarbox_core.effects import Op, finish
from tarbox_core.errors import FsError
from tarbox_core.session import Session
from tarbox_core.types import Caller

R = TypeVar("R")


def flush(s: Session, limit: int = 1) -> Op[None]:
    """Write the records gathered so far, where there are `limit` or more. They stay for the next try if that fails."""
    if len(s.records) < limit:
        return
    batch = _taken(s)
    columns = [list(column) for column in zip(*batch, strict=True)]
    try:
        yield from finish(*((sql.AUDIT_MANY(s.tenant, *columns),) if batch else ()))
    except BaseException:
        s.records.extendleft(reversed(batch))
        raise


def _taken(s: Session) -> list[tuple[int, int, str, int, str | None, int, int, int, int]]:
    """The records so far; other threads may be adding to them, or taking, meanwhile."""
    batch = []
    for _ in range(len(s.records)):
        try:
            batch.append(s.records.popleft())
        except IndexError:
            break
    return batch


def failing(s: Session, caller: Caller, operation: str, ino: int, name: bytes | None, op: Op[R]) -> Op[R]:
    """The operation, its failure noted for the next batch."""
    try:
        return (yield from op)
    except FsError as error:
        s.note(caller, operation, ino, s.names.path(ino, name), result=error.errno)
        raise
