"""What a gateway's client may have recorded in the audit: words, sizes, and in whose name."""

from __future__ import annotations

from typing import Final

from tarbox_core.gateway_call import END, Call
from tarbox_core.gateway_facts import Facts

BYTES_MAX: Final = 1 << 50  # in one record: a sum of them fits
PATH_MAX: Final = 1 << 16  # characters of a path in a record
AGE_MAX: Final = 3600 * 10**9  # ns; how old a read can be that is recorded now

READ: Final = frozenset(("open", "read", "readdir", "readlink", "getxattr"))
CHANGED: Final = frozenset(
    ("create", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename", "write", "truncate", "fallocate", "chmod", "chown", "utimens", "setxattr",
     "removexattr")
)  # fmt: skip
MOVED: Final = frozenset(("checkpoint", "switch", "branch", "branch_delete", "layer_describe"))
KEPT_UP: Final = frozenset(("layer_delete", "squash", "fsck", "gc"))


def metadata(call: Call, number: int) -> None:
    value = call.values[number - 1]
    if value is not None and not isinstance(value, dict):
        raise call.refused(number, "not an object")


def record(call: Call, facts: Facts) -> None:
    """Of a change that this transaction makes."""
    operation = call.text(3, 64)
    allowed = CHANGED | MOVED | {"fsync"} | (KEPT_UP if facts.client.grant.upkeep else frozenset())
    if operation not in allowed:
        raise call.refused(3, f"{operation!r} is no operation that a client records")
    if operation in CHANGED | MOVED and not any(operation in each for each in facts.may_explain.values()):
        raise call.refused(3, f"the transaction has changed nothing that is called {operation!r}", "not-allowed")
    call.integer(2, 0, END)
    call.integer_or_null(4, 0, END)
    call.text_or_null(5, PATH_MAX)
    call.values[5:7] = facts.client.grant.caller.uid, facts.client.grant.caller.pid
    call.integer(8, 0, 0)
    call.integer(9, 0, BYTES_MAX)
    metadata(call, 10)
    facts.recorded[operation] = facts.recorded.get(operation, 0) + 1


def records(call: Call, facts: Facts) -> None:
    """Of reads, and of what failed. Their times are the client's, as far as they can be."""
    columns = [call.array(number, 1 << 16) for number in (2, 3, 4, 5, 7, 8, 9, 10)]
    paths = call.values[5]
    if not isinstance(paths, list) or len({len(paths), *map(len, columns)}) != 1:
        raise call.refused(0, "not as many elements in one array as in the other")
    layers, times, operations, inos, _, _, results, sizes = columns
    for path in paths:
        if path is not None and len(path) > PATH_MAX:
            raise call.refused(6, f"a path of {len(path)} characters; {PATH_MAX} are the limit", "too-large")
    for operation, result in zip(operations, results, strict=True):
        if operation not in READ | CHANGED or not 0 <= result < 4096 or (not result and operation not in READ):
            raise call.refused(4, f"{operation[:64]!r} with result {result} is neither a read nor a failure")
    for number, column, high in ((2, layers, END), (5, inos, END), (10, sizes, BYTES_MAX)):
        if any(not 0 <= value <= high for value in column):
            raise call.refused(number, f"not between 0 and {high}")
    now, caller = facts.client.clock(), facts.client.grant.caller
    call.values[2] = [max(now - AGE_MAX, min(at, now)) for at in times]
    call.values[6:8] = [caller.uid] * len(times), [caller.pid] * len(times)
