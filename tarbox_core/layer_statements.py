"""The SQL of `layer`. As `statements`, whose conventions they share; each statement that writes runs while no mutation of
the tenant is in flight."""

from __future__ import annotations

from typing import Final

from tarbox_core.effects import Statement

_LAYER: Final = ("int8", "text", "text", "text", "int8", "text", "timestamptz", "timestamptz", "bool", "text")
# layer, id, name, message, parent, parent's id, created, sealed, automatic, the branch that writes to it
_LAYER_COLUMNS: Final = """l.layer, l.id, l.name, l.message, l.parent, p.id, l.created_at, l.sealed_at, l.automatic, h.name"""
_LAYER_FROM: Final = """layer l left join layer p on p.tenant = $1 and p.layer = l.parent
        left join head h on h.tenant = $1 and h.layer = l.layer"""

# Where a head stands: layer, what it sees, how often it moved, the layer the last switch left, whether anything was changed in it, and the
# largest number of a line.
STANDING = Statement(
    "head.standing",
    """select h.layer, h.visible, h.epoch, h.previous, exists (select from inode i where i.tenant = $1 and i.layer = h.layer and i.layer > 0),
        (select max(n.line) from line n where n.tenant = $1)
    from head h where h.tenant = $1 and h.name = $2""",
    ("int8", "text"),
    ("int8", "int8multirange", "int8", "int8", "bool", "int4"),
    safe=True,
)
# For the rest of the transaction: how long it waits for a lock.
PATIENCE = Statement("layer.patience", "select set_config('lock_timeout', $1, true)", ("text",), ("text",), safe=True, tenant=False)
LAYER = Statement(
    "layer.get", f"select {_LAYER_COLUMNS} from {_LAYER_FROM} where l.tenant = $1 and l.layer = $2", ("int8", "int8"), _LAYER, safe=True
)
# By name, or by an id between $3 and $4; the name comes first.
FIND = Statement(
    "layer.find",
    f"""select {_LAYER_COLUMNS} from {_LAYER_FROM} where l.tenant = $1 and (l.name = $2 or (l.id ~>=~ $3 and l.id ~<~ $4))
    order by l.name = $2 desc nulls last, l.id limit 5""",
    ("int8", "text", "text", "text"),
    _LAYER,
    safe=True,
)
# All, in the order they were begun, as one row of arrays; 0 stands for null in the numbers, times in ns.
LIST = Statement(
    "layer.list",
    f"""select array_agg(r.layer), array_agg(r.id), array_agg(r.name), array_agg(r.message), array_agg(coalesce(r.parent, 0)), array_agg(r.parent_id),
        array_agg((extract(epoch from r.created_at) * 1000000000)::int8), array_agg(coalesce((extract(epoch from r.sealed_at) * 1000000000)::int8, 0)),
        array_agg(r.automatic::int4::int8), array_agg(r.branch)
    from (select {_LAYER_COLUMNS} from {_LAYER_FROM} where l.tenant = $1 order by l.created_at, l.layer)
        r(layer, id, name, message, parent, parent_id, created_at, sealed_at, automatic, branch)""",
    ("int8",),
    ("int8[]", "text[]", "text[]", "text[]", "int8[]", "text[]", "int8[]", "int8[]", "int8[]", "text[]"),
    safe=True,
)
# What a sealed layer's line sees beneath it.
BELOW = Statement("line.below", "select below from line where tenant = $1 and line = $2", ("int8", "int4"), ("int8multirange",), safe=True)
CHILDREN = Statement(
    "layer.children", f"select {_LAYER_COLUMNS} from {_LAYER_FROM} where l.tenant = $1 and l.parent = $2 order by l.layer", ("int8", "int8"), _LAYER, safe=True
)

SEAL = Statement(
    "layer.seal",
    "update layer set name = $3, message = $4, automatic = $5, sealed_at = now() where tenant = $1 and layer = $2",
    ("int8", "int8", "text", "text", "bool"),
    safe=True,
)
DESCRIBE = Statement("layer.describe", "update layer set message = $3 where tenant = $1 and layer = $2", ("int8", "int8", "text"), safe=True)
OPEN = Statement("layer.open", "insert into layer (tenant, layer, parent) values ($1, $2, $3)", ("int8", "int8", "int8"), safe=True)
LINE_OPEN = Statement(
    "line.open", "insert into line (tenant, line, fork, below) values ($1, $2, $3, $4)", ("int8", "int4", "int8", "int8multirange"), safe=True
)
# Null keeps the previous one.
HEAD_MOVE = Statement(
    "head.move",
    "update head set layer = $3, visible = $4, previous = coalesce($5, previous), epoch = epoch + 1 where tenant = $1 and name = $2",
    ("int8", "text", "int8", "int8multirange", "int8"),
    safe=True,
)
# name, layer, what was left last, when it was made
HEADS = Statement(
    "head.list",
    "select name, layer, previous, created_at from head where tenant = $1 order by name",
    ("int8",),
    ("text", "int8", "int8", "timestamptz"),
    safe=True,
)
# Its epoch begins above all that an earlier branch of the name can have had: no number of a layer is given twice.
HEAD_MAKE = Statement(
    "head.make",
    "insert into head (tenant, name, layer, visible, epoch) values ($1, $2, $3, $4, $3)",
    ("int8", "text", "int8", "int8multirange"),
    safe=True,
)
HEAD_DROP = Statement("head.drop", "delete from head where tenant = $1 and name = $2", ("int8", "text"), safe=True)
# The layer that a `switch -` would return to is gone: $3 instead, or nothing.
HEAD_FORGET = Statement(
    "head.forget", "update head set previous = $3 where tenant = $1 and previous = any($2::int8[])", ("int8", "int8[]", "int8")
)
DROP = Statement("layer.drop", "delete from layer where tenant = $1 and layer = any($2::int8[])", ("int8", "int8[]"), safe=True)
REBASE = Statement("layer.rebase", "update layer set parent = $3 where tenant = $1 and layer = $2", ("int8", "int8", "int8"))

# Removing. $2: stamps that a layer owns, its own and those of the layers that were squashed into it, or a run of layers owns; $3: what
# the layer below sees. Older stamps are the smaller ones.
_OWN: Final = "o.tenant = $1 and o.layer = any($2::int8[]) and o.layer > 0"
# The same of a table without an index by layer: every change touches the row of an inode.
_OWN_OF_INODES: Final = "o.ino = any(array(select i.ino from {inodes})) and o.tenant = $1 and o.layer = any($2::int8[])"
_TOUCHED: Final = _OWN_OF_INODES.format(inodes="unnest($2::int8[]) l(layer) join inode i on i.tenant = $1 and i.layer = l.layer and i.layer > 0")
_ROWS: Final = {"extent": _TOUCHED, "xattr": _TOUCHED, "dentry": _OWN, "inode": _OWN}
_SAME: Final = {
    "dentry": "n.parent = o.parent and n.name = o.name",
    "inode": "n.ino = o.ino",
    "extent": "n.ino = o.ino and n.chunk = o.chunk",
    "xattr": "n.ino = o.ino and n.name = o.name",
}


def _newer(table: str) -> str:
    return f"exists (select from {table} n where n.tenant = $1 and {_SAME[table]} and n.layer > o.layer and n.layer = any($2::int8[]))"


def _nothing_below(table: str) -> str:
    return f"not exists (select from {table} n where n.tenant = $1 and {_SAME[table]} and n.layer < o.layer and n.layer <@ $3)"


# All rows that a layer owns, of these tables in turn.
ROWS_DROP: Final = tuple(Statement(f"layer.{table}_drop", f"delete from {table} o where {rows}", ("int8", "int8[]")) for table, rows in _ROWS.items())
# Rows that a later one of the run replaced are seen by nobody any more.
SUPERSEDED: Final = tuple(
    Statement(f"squash.{table}", f"delete from {table} o where {rows} and {_newer(table)}", ("int8", "int8[]")) for table, rows in _ROWS.items()
)
# Rows that say that something is gone, where what lies below the run has nothing to hide.
NEEDLESS: Final = tuple(
    Statement(
        f"squash.{table}_gone", f"delete from {table} o where {_ROWS[table]} and {gone} and {_nothing_below(table)}", ("int8", "int8[]", "int8multirange")
    )
    for table, gone in (("dentry", "o.ino is null"), ("xattr", "o.value is null"), ("extent", "length(o.hashes) = 0"))
)
# What is held for inodes that are unlinked at the end of the run: those that hold nothing more themselves, and with $4 all but
# those of $5, which are open. A row stays where it hides an older one.
DEAD: Final = Statement(
    "squash.dead",
    f"""with t as materialized (select o.ino, {_nothing_below("inode")} as needless from inode o
        where {_OWN} and o.nlink = 0 and (o.size = 0 or ($4 and not o.ino = any($5::int8[])))),
    e as (delete from extent o where {_OWN_OF_INODES.format(inodes="t i")}),
    x as (delete from xattr o where {_OWN_OF_INODES.format(inodes="t i")}),
    u as (update inode o set inline = null, packed = null, size = 0, blocks = 0 where {_OWN_OF_INODES.format(inodes="t i where not i.needless")})
    delete from inode o where {_OWN_OF_INODES.format(inodes="t i where i.needless")}""",
    ("int8", "int8[]", "int8multirange", "bool", "int8[]"),
)
