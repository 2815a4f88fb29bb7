"""The SQL of `compare` and `history`. As `statements`, whose conventions they share; but of two trees, where there are two,
the older one is $2, $3 and the newer one $4, $5.

What differs between two trees differs by rows that one of them sees and the other does not. So these begin with the
rows of those layers, or with inodes that are known by then, and never look at a whole tree. `offset 0` keeps a subquery
one: it is run for each row before it, by its index, also where the planner knows nothing of the table yet.
"""

from __future__ import annotations

from typing import Final

from tarbox_core.effects import Statement
from tarbox_core.types import Attr

_TREE: Final = ("int8", "int8", "int8multirange")
# The row that a tree sees of one key.
_DENTRY: Final = "d.tenant = $1 and d.layer <= $2 and d.layer <@ $3 order by d.layer desc limit 1"
_INODE: Final = "i.tenant = $1 and i.layer <= $2 and i.layer <@ $3 order by i.layer desc limit 1"
_NEWER_DENTRY: Final = "d.tenant = $1 and d.layer <= $4 and d.layer <@ $5 order by d.layer desc limit 1"

# Names that stand for another inode: parent, name, the inode in each tree (0: none). $6, $7: where the ranges of stamps that
# one tree sees and the other does not begin and end.
MOVED = Statement(
    "compare.moved",
    f"""select array_agg(c.parent), array_agg(c.name), array_agg(coalesce(a.ino, 0)), array_agg(coalesce(b.ino, 0))
    from (select distinct d.parent, d.name from unnest($6::int8[], $7::int8[]) r(lo, hi) cross join lateral (
        select d.parent, d.name from dentry d where d.tenant = $1 and d.layer >= r.lo and d.layer < r.hi and d.layer > 0 offset 0) d) c
    left join lateral (select d.ino from dentry d where d.parent = c.parent and d.name = c.name and {_DENTRY}) a on true
    left join lateral (select d.ino from dentry d where d.parent = c.parent and d.name = c.name and {_NEWER_DENTRY}) b on true
    where a.ino is distinct from b.ino""",
    (*_TREE, "int8", "int8multirange", "int8[]", "int8[]"),
    ("int8[]", "bytea[]", "int8[]", "int8[]"),
    safe=True,
)
# Inodes that have a row among those stamps: theirs may differ.
TOUCHED = Statement(
    "compare.touched",
    """select array_agg(distinct i.ino) from unnest($2::int8[], $3::int8[]) r(lo, hi)
    cross join lateral (select i.ino from inode i where i.tenant = $1 and i.layer >= r.lo and i.layer < r.hi and i.layer > 0 offset 0) i""",
    ("int8", "int8[]", "int8[]"),
    ("int8[]",),
    safe=True,
)
# What there is to know of inodes in one tree: attributes, a mark of the content, a mark of the extended attributes. Marks
# of one first letter are equal where what they stand for is: i inline, w whole as a text, e extents, t target.
STATES = Statement(
    "compare.states",
    f"""select {", ".join(f"array_agg(i.{field}::int8)" for field in Attr._fields)}, array_agg(c.mark), array_agg(c.xattrs)
    from unnest($4::int8[]) u(ino)
    cross join lateral (select i.* from inode i where i.ino = u.ino and {_INODE}) i
    cross join lateral (select
        case when i.target is not null then 't' || i.target
            when i.mode & 61440 <> 32768 then ''
            when i.packed is not null then 'w' || i.packed
            when i.inline is not null then 'i' || sha256(i.inline)
            else (select 'e' || sha256(coalesce(string_agg(int8send(e.chunk) || rtrim(e.hashes, '\\x00'), '' order by e.chunk), '')) from (
                select distinct on (e.chunk) e.chunk, e.hashes from extent e
                where e.tenant = $1 and e.ino = i.ino and e.layer <= $2 and e.layer <@ $3 order by e.chunk, e.layer desc) e
                where rtrim(e.hashes, '\\x00') <> '') end as mark,
        (select coalesce(string_agg(int4send(length(x.name)) || x.name || sha256(x.value), '' order by x.name), '') from (
            select distinct on (x.name) x.name, x.value from xattr x
            where x.tenant = $1 and x.ino = i.ino and x.layer <= $2 and x.layer <@ $3 order by x.name, x.layer desc) x
            where x.value is not null) as xattrs) c""",
    (*_TREE, "int8[]"),
    ("int8[]",) * 13 + ("bytea[]", "bytea[]"),
    safe=True,
)
# The names of inodes in one tree, and of the directories above them: inode, parent, name.
NAMES = Statement(
    "compare.names",
    f"""with recursive up(ino, parent, name) as (
        select u.ino, n.parent, n.name from unnest($4::int8[]) u(ino) cross join lateral (
            select d.parent, d.name from dentry d where d.tenant = $1 and d.ino = u.ino and d.layer <= $2 and d.layer <@ $3 offset 0) n
        union
        select n.ino, n.parent, n.name from up cross join lateral (
            select d.ino, d.parent, d.name from dentry d where d.tenant = $1 and d.ino = up.parent and d.layer <= $2 and d.layer <@ $3 offset 0) n
    ) select array_agg(up.ino), array_agg(up.parent), array_agg(up.name) from up
    cross join lateral (select d.ino from dentry d where d.parent = up.parent and d.name = up.name and {_DENTRY}) d where d.ino = up.ino""",
    (*_TREE, "int8[]"),
    ("int8[]", "int8[]", "bytea[]"),
    safe=True,
)
# Everything below some directories: parent, name, inode.
_INSIDE: Final = """(select n.* from (select distinct on (d.name) d.parent, d.name, d.ino, d.kind from dentry d
        where d.tenant = $1 and d.parent = {folder} and d.layer <= $2 and d.layer <@ $3 order by d.name, d.layer desc) n where n.ino is not null)"""
BELOW = Statement(
    "compare.below",
    f"""with recursive w as (
        select n.* from unnest($4::int8[]) u(ino) cross join lateral {_INSIDE.format(folder="u.ino")} n
        union
        select n.* from w cross join lateral {_INSIDE.format(folder="w.ino")} n where w.kind = 4
    ) select array_agg(w.parent), array_agg(w.name), array_agg(w.ino) from w""",
    (*_TREE, "int8[]"),
    ("int8[]", "bytea[]", "int8[]"),
    safe=True,
)

# --- history

# The stamps at which something on a path changed, whatever stood for its names at any time.
STEPS = Statement(
    "history.steps",
    """with recursive w(n, ino) as (
        select 1, 1::int8
        union
        select w.n + 1, d.ino from w cross join lateral (select d.ino from dentry d where d.tenant = $1 and d.parent = w.ino
            and d.name = ($4::bytea[])[w.n] and d.layer <= $2 and d.layer <@ $3 and d.ino is not null offset 0) d where w.n < cardinality($4::bytea[])
    ) select array_agg(distinct d.layer) from w cross join lateral (select d.layer from dentry d where d.tenant = $1 and d.parent = w.ino
        and d.name = ($4::bytea[])[w.n] and d.layer <= $2 and d.layer <@ $3 offset 0) d""",
    (*_TREE, "bytea[]"),
    ("int8[]",),
    safe=True,
)
# The stamps of the rows of an inode.
VERSIONS = Statement(
    "history.versions",
    "select array_agg(i.layer) from inode i where i.tenant = $1 and i.ino = $4 and i.layer <= $2 and i.layer <@ $3",
    (*_TREE, "int8"),
    ("int8[]",),
    safe=True,
)
