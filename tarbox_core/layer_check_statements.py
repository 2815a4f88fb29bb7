"""The SQL of `layer_check`. As `statements`, whose conventions they share."""

from __future__ import annotations

from typing import Final

from tarbox_core.effects import Statement

# Each layer with the branch that writes to it, and each branch, whether or not its layer is there, as one snapshot: stamp; id, parent,
# whether it is sealed; the branch, what it sees, what its last switch left.
STANDING: Final = Statement(
    "layer_check.standing",
    """select coalesce(l.layer, h.layer), l.id, l.parent, l.sealed_at is not null, h.name, h.visible, h.previous
    from (select * from layer where tenant = $1) l full join (select * from head where tenant = $1) h on h.layer = l.layer order by 1, 5""",
    ("int8",),
    ("int8", "text", "int8", "bool", "text", "int8multirange", "int8"),
    safe=True,
)
# All lines: number, what it grew on, what that sees. A line never changes and is never removed.
LINES: Final = Statement("layer_check.lines", "select line, fork, below from line where tenant = $1", ("int8",), ("int4", "int8", "int8multirange"), safe=True)
LINE_SEES: Final = Statement("layer_check.line_sees", "update line set below = $3 where tenant = $1 and line = $2", ("int8", "int4", "int8multirange"))
HEAD_SEES: Final = Statement(
    "layer_check.head_sees", "update head set visible = $3, epoch = epoch + 1 where tenant = $1 and name = $2", ("int8", "text", "int8multirange")
)

_SEEN: Final = """seen as materialized (select range_agg(r) as by_any from (
        select unnest(n.below + int8multirange(int8range(l.layer >> 32 << 32, l.layer, '[]')))
            from layer l join line n on n.tenant = $1 and n.line = (l.layer >> 32)::int4 where l.tenant = $1
        union all select unnest(h.visible) from head h where h.tenant = $1) s(r))"""
_TABLES: Final = ("dentry", "inode", "extent", "xattr")
# Stamps of rows that no layer and no branch sees, and how many rows.
LOST_ROWS: Final = Statement(
    "layer_check.lost_rows",
    f"with {_SEEN} select r.layer, sum(r.rows)::int8 from ("
    + " union all ".join(f"select o.layer, count(*) as rows from {t} o, seen where o.tenant = $1 and not o.layer <@ seen.by_any group by 1" for t in _TABLES)
    + ") r group by 1 order by 1",
    ("int8",),
    ("int8", "int8"),
    safe=True,
)
LOST_ROWS_DROP: Final = Statement(
    "layer_check.lost_rows_drop",
    f"with {_SEEN}, "
    + ", ".join(f"gone_{t} as (delete from {t} o using seen where o.tenant = $1 and o.layer = $2 and not o.layer <@ seen.by_any)" for t in _TABLES)
    + " select true",
    ("int8", "int8"),
    ("bool",),
)
