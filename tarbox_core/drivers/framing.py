"""What a driver says around the statements of operations: where transactions begin and end, under which settings and names.

Constants and pure functions; `wire` sends them.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from typing import Final

from tarbox_core.effects import Query, Statement

BEGIN: Final = Query(Statement("=begin", "begin"), ())
COMMIT: Final = Query(Statement("=commit", "commit"), ())
ROLLBACK: Final = Query(Statement("=rollback", "rollback"), ())
SAVEPOINT: Final = Query(Statement("=savepoint", "savepoint here"), ())
RELEASE: Final = Query(Statement("=release", "release savepoint here"), ())
UNDO: Final = Query(Statement("=undo", "rollback to savepoint here"), ())
# A commit waits for the disk only if its own transaction wrote to the log, so this one writes a few bytes to it:
# everything committed before is then hard, whatever the statements of the transaction do.
HARDEN: Final = Query(Statement("=harden", "select set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'tarbox', '')"), ())

# What the end of a transaction must not depend on being prepared.
_UNNAMED: Final = frozenset(query.statement for query in (BEGIN, COMMIT, ROLLBACK, SAVEPOINT, RELEASE, UNDO))

# For a tenant's statements, which all go by an index. Plans are made once, when the tables may still be empty; left to
# its costs, the server would then scan them, and go on scanning while they fill.
PLANNING: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
}


@cache
def opening(names: tuple[str, ...]) -> Statement:
    """What a transaction of a pooled connection begins with: settings that hold until its end."""
    each = ", ".join(f"set_config('{name}', ${number}, true)" for number, name in enumerate(names, 1))
    return Statement(f"=settings {' '.join(names)}", f"select {each}", ("text",) * len(names), ("text",) * len(names))


def shared_name(statement: Statement) -> str:
    """A name that stands for the same text and types in every program; none for what is never left prepared."""
    if statement in _UNNAMED:
        return ""
    whole = "\0".join((statement.sql, *statement.params, "", *statement.returns))
    return f"{statement.name[:40]} {blake2b(whole.encode(), digest_size=8).hexdigest()}"  # the server knows 63 bytes
