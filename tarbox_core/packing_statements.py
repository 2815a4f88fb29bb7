"""The SQL of `texts` and `packing`. As `statements`, whose conventions they share.

`offset 0` keeps the planner from another order than the one written: in a new database it takes a table for one row.
"""

from __future__ import annotations

from typing import Final

from tarbox_core.delta.format import TEXT_MAX
from tarbox_core.effects import Statement

SIZE_MIN: Final = 512  # bytes; a shorter content is not worth a row of its own

# A text and those it leans on, down to its keyframe: hash, size, depth, weight, data.
CHAIN: Final = Statement(
    "text.chain",
    """with recursive c as (
        select t.hash, t.size, t.base, t.depth, t.weight, t.data from text_version t where t.tenant = $1 and t.hash = $2
        union all
        select t.hash, t.size, t.base, t.depth, t.weight, t.data from c
        cross join lateral (select t.* from text_version t where t.tenant = $1 and t.hash = c.base offset 0) t
    ) select hash, size, depth, weight, data from c order by depth desc""",
    ("int8", "bytea"),
    ("bytea", "int4", "int4", "int4", "bytea"),
    safe=True,
)


# --- packing -------------------------------------------------------------------------------------------------------

# Versions v of inodes that packing has not decided on, and that no head sees. Where only attributes changed since, a head
# shows the content of an old version still: size and mtime tell.
_UNDECIDED: Final = f"""v.tenant = $1 and v.packed is null and v.plain is null and v.mode & 61440 = 32768 and v.nlink > 0
        and v.size between {SIZE_MIN} and {TEXT_MAX}"""
_UNSEEN: Final = """not exists (select from head h cross join lateral (select n.layer, n.size, n.mtime, n.packed from inode n
            where n.tenant = $1 and n.ino = v.ino and n.layer <= h.layer and n.layer <@ h.visible order by n.layer desc limit 1) w
        where h.tenant = $1 and v.layer <@ h.visible and (w.layer = v.layer or (w.size = v.size and w.mtime = v.mtime and w.packed is null)))"""
# What a layer sees is what its line was opened on, and the line up to it.
_SEES: Final = """(select l.below + int8multirange(int8range({layer} >> 32 << 32, {layer}, '[]')) from line l
            where l.tenant = $1 and l.line = ({layer} >> 32)::int4)"""
# The version of inode {ino} that comes before layer {before} among what v sees, and the text of the last that has one.
_EARLIER: Final = """select max(p.layer) as layer, (array_agg(p.packed order by p.layer desc) filter (where p.packed is not null))[1] as packed
        from (select p.layer, p.packed from inode p where p.tenant = $1 and p.ino = {ino} and p.layer < {before} and p.layer <@ s.visible
            order by p.layer desc limit 4) p"""
# ino, layer, size, what the layer sees, inline content; the version before, and the text of the last that has one; the inode
# that had the name before, its version and text.
_CANDIDATE: Final = f"""v.ino, v.layer, v.size, s.visible, v.inline, b.layer, b.packed, o.ino, q.layer, q.packed
    from v cross join lateral (select {_SEES.format(layer="v.layer")} as visible offset 0) s
    left join lateral ({_EARLIER.format(ino="v.ino", before="v.layer")}) b on true
    left join lateral (select d.parent, d.name, d.layer from dentry d
        where d.tenant = $1 and d.ino = v.ino and d.ino is not null and d.layer <= v.layer and d.layer <@ s.visible order by d.layer desc limit 1) d on true
    left join lateral (select o.ino from dentry o where o.tenant = $1 and o.parent = d.parent and o.name = d.name and o.layer < d.layer
        and o.layer <@ s.visible and o.ino is not null and o.ino <> v.ino order by o.layer desc limit 1) o on true
    left join lateral ({_EARLIER.format(ino="o.ino", before="d.layer")}) q on true
    order by v.ino, v.layer"""
_VERSION: Final = ("int8", "int8", "int8", "int8multirange", "bytea", "int8", "bytea", "int8", "int8", "bytea")

# The next of all versions behind inode $2, layer $3.
UNPACKED: Final = Statement(
    "packing.all",
    f"""with v as materialized (select v.* from inode v where {_UNDECIDED} and (v.ino, v.layer) > ($2, $3) and {_UNSEEN}
        order by v.ino, v.layer limit $4)
    select {_CANDIDATE}""",
    ("int8", "int8", "int8", "int4"),
    _VERSION,
    safe=True,
)
# The same of those that layer $5 replaced. What the layer touched is put in order first (by an expression, because the primary key has
# that order and would be read for it), so that no more is looked at than is taken.
REPLACED: Final = Statement(
    "packing.replaced",
    f"""with v as materialized (select v.*
        from (select r.ino, r.layer, r.ino + 0 as place from inode r where r.tenant = $1 and r.layer = $5 and r.layer > 0 and r.ino >= $2
            order by place offset 0) r
        cross join lateral (select v.* from inode v where v.tenant = $1 and v.ino = r.ino and v.layer < r.layer offset 0) v
        where {_UNDECIDED} and (v.ino, v.layer) > ($2, $3) and {_UNSEEN} order by r.place, v.layer limit $4)
    select {_CANDIDATE}""",
    ("int8", "int8", "int8", "int4", "int8"),
    _VERSION,
    safe=True,
)
# The first sealed layer that packing has not looked at.
NEXT_LAYER: Final = Statement(
    "packing.layer",
    "select min(layer) from layer where tenant = $1 and sealed_at is not null and not packed",
    ("int8",),
    ("int8",),
    safe=True,
)
LAYERS_DONE: Final = Statement(
    "packing.layers_done",
    "update layer set packed = true where tenant = $1 and layer = any($2::int8[]) and sealed_at is not null",
    ("int8", "int8[]"),
)
# A text, where what it leans on is there: hash, size, lines, base, data.
TEXT_PUT: Final = Statement(
    "text.put",
    """insert into text_version (tenant, hash, size, lines, base, depth, weight, data)
    select $1, $2, $3, $4, $5, coalesce(b.depth + 1, 0), coalesce(b.weight + length($6), 0), $6
    from (select 1) one left join text_version b on b.tenant = $1 and b.hash = $5 where $5 is null or b.hash is not null
    on conflict do nothing""",
    ("int8", "bytea", "int4", "int4", "bytea", "bytea"),
)
# Versions (ino, layer) whose content is a text that is stored; those that still are as they were found.
PACK: Final = Statement(
    "packing.pack",
    f"""update inode v set packed = u.hash, inline = null from unnest($2::int8[], $3::int8[], $4::bytea[]) u(ino, layer, hash)
    where v.ino = any($2::int8[]) and v.layer = any($3::int8[]) and v.ino = u.ino and v.layer = u.layer and {_UNDECIDED} and {_UNSEEN}
        and v.size = (select t.size from text_version t where t.tenant = $1 and t.hash = u.hash)
    returning v.ino, v.layer""",
    ("int8", "int8[]", "int8[]", "bytea[]"),
    ("int8", "int8"),
)
LEAVE: Final = Statement(
    "packing.leave",
    """update inode v set plain = true from unnest($2::int8[], $3::int8[]) u(ino, layer)
    where v.tenant = $1 and v.ino = any($2::int8[]) and v.layer = any($3::int8[]) and v.ino = u.ino and v.layer = u.layer and v.packed is null""",
    ("int8", "int8[]", "int8[]"),
)
# Extents that no unpacked version sees any more: an inline one needs those that hide others. A row that only hides an
# unlinked file has no content.
_FORGOTTEN: Final = f"""delete from extent e where e.tenant = $1 and {{which}} and not exists (select from inode v
        cross join lateral (select {_SEES.format(layer="v.layer")} as visible offset 0) s
        where v.tenant = $1 and v.ino = e.ino and v.layer >= e.layer and v.packed is null and (v.nlink > 0 or v.size > 0)
            and e.layer <@ s.visible and not exists (select from extent n where n.tenant = $1 and n.ino = e.ino and n.chunk = e.chunk
                and n.layer > e.layer and n.layer <= v.layer and n.layer <@ s.visible) offset 0)"""
EXTENTS_DROP: Final = Statement("packing.extents", _FORGOTTEN.format(which="e.ino = any($2::int8[])"), ("int8", "int8[]"))
# Of all files that have a packed version.
EXTENTS_SWEEP: Final = Statement(
    "gc.extents",
    _FORGOTTEN.format(which="e.ino in (select i.ino from inode i where i.tenant = $1 and i.packed is not null)"),
    ("int8",),
)

# --- counting: with check_statements.WHOLE -------------------------------------------------------------------------

# Blocks and their bytes; keyframes, deltas, bytes of texts and of what is stored for them; versions whose content is a text.
STATS: Final = Statement(
    "text.stats",
    """select b.number, b.stored, t.keyframes, t.deltas, t.size, t.stored, (select count(*) from inode i where i.tenant = $1 and i.packed is not null)
    from (select count(*) as number, coalesce(sum(length(b.data)), 0)::int8 as stored from block b where b.tenant = $1) b,
        (select count(*) filter (where t.base is null) as keyframes, count(t.base) as deltas, coalesce(sum(t.size), 0)::int8 as size,
            coalesce(sum(length(t.data)), 0)::int8 as stored from text_version t where t.tenant = $1) t""",
    ("int8",),
    ("int8", "int8", "int8", "int8", "int8", "int8", "int8"),
    safe=True,
)
# By the layer that wrote them: versions of regular files, their bytes; those of them that are keyframes and deltas, the bytes of
# these, and what is stored for them.
STATS_BY_LAYER: Final = Statement(
    "text.stats_by_layer",
    """select i.layer, count(*), coalesce(sum(i.size), 0)::int8, count(t.hash) - count(t.base), count(t.base), coalesce(sum(t.size), 0)::int8,
        coalesce(sum(length(t.data)), 0)::int8
    from inode i left join text_version t on t.tenant = $1 and t.hash = i.packed
    where i.tenant = $1 and i.mode & 61440 = 32768 and i.nlink > 0 group by i.layer order by i.layer""",
    ("int8",),
    ("int8", "int8", "int8", "int8", "int8", "int8", "int8"),
    safe=True,
)
