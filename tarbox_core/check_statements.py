"""The SQL of `check`: statements that look at a whole tenant. As `statements`, whose conventions they share."""

from __future__ import annotations

from typing import Final

from tarbox_core.effects import Statement
from tarbox_core.statements import CHUNK_BLOCKS

_SESSION: Final = ("int8", "int8", "int8multirange")

# All visible inodes and names of a head.
_INODES: Final = """inodes as materialized (select distinct on (i.ino) i.* from inode i
    where i.tenant = $1 and i.layer <= $2 and i.layer <@ $3 order by i.ino, i.layer desc)"""
_NAMES: Final = """names as materialized (select n.* from (select distinct on (d.parent, d.name) d.* from dentry d
    where d.tenant = $1 and d.layer <= $2 and d.layer <@ $3 order by d.parent, d.name, d.layer desc) n where n.ino is not null)"""
_TREE: Final = f"with {_INODES}, {_NAMES}"
# The visible chunks of all files, and each block of them that is not a hole: ino, place in the file, hash.
_CHUNKS: Final = """chunks as materialized (select distinct on (e.ino, e.chunk) e.* from extent e
    where e.tenant = $1 and e.layer <= $2 and e.layer <@ $3 order by e.ino, e.chunk, e.layer desc)"""
_PLACES: Final = f"""places as (select c.ino, c.chunk * {CHUNK_BLOCKS} + n as place, substr(c.hashes, n * 32 + 1, 32) as hash
    from chunks c cross join lateral generate_series(0, length(c.hashes) / 32 - 1) n
    where substr(c.hashes, n * 32 + 1, 32) <> decode(repeat('00', 32), 'hex'))"""

# What looks at a whole tree wants the plans that what looks at one key must not get: for the rest of the transaction.
WHOLE = Statement(
    "check.whole",
    """select set_config(s, 'on', true) from unnest(array['enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin', 'enable_material']) s
    union all select set_config('plan_cache_mode', 'force_custom_plan', true)""",
    (),
    ("text",),
    safe=True,
    tenant=False,
)
# What joins whole trees must not be led into loops by tables that have no statistics yet: for the rest of the transaction. (Their
# cost would have the server compile what a loop is still needed for.)
JOINING = Statement(
    "check.joining", "select set_config(s, 'off', true) from unnest(array['enable_nestloop', 'jit']) s", (), ("text",), safe=True,
    tenant=False,
)
# parent, name, ino of names whose inode is missing or unlinked, or whose directory is none.
DANGLING = Statement(
    "check.dangling",
    f"""{_TREE} select n.parent, n.name, n.ino from names n left join inodes i on i.ino = n.ino left join inodes p on p.ino = n.parent
    where i.ino is null or i.nlink = 0 or p.ino is null or p.mode & 61440 <> 16384 or p.nlink = 0 order by n.parent, n.name""",
    _SESSION,
    ("int8", "bytea", "int8"),
    safe=True,
)
# ino, mode of inodes that should have a name and have none.
NAMELESS = Statement(
    "check.nameless",
    f"""{_TREE} select i.ino, i.mode from inodes i
    where i.ino <> 1 and i.nlink > 0 and not exists (select from names n where n.ino = i.ino) order by i.ino""",
    _SESSION,
    ("int8", "int4"),
    safe=True,
)
# ino, links stored, links counted. Names in a lost directory count as well.
LINKS = Statement(
    "check.links",
    f"""{_TREE}, named as (select n.ino, count(*) as names from names n group by n.ino),
    filled as (select n.parent, count(*) as folders from names n join inodes c on c.ino = n.ino and c.mode & 61440 = 16384 group by n.parent),
    counted as (select i.ino, i.nlink, case when i.mode & 61440 = 16384 then 2 + coalesce(f.folders, 0) else coalesce(n.names, 0) end as links
        from inodes i left join named n on n.ino = i.ino left join filled f on f.parent = i.ino where i.nlink > 0)
    select ino, nlink, links::int4 from counted where nlink <> links and links > 0 order by ino""",
    _SESSION,
    ("int8", "int4", "int4"),
    safe=True,
)
# ino, parent stored, parent by name; a directory with several names appears once for each that disagrees.
PARENTS = Statement(
    "check.parents",
    f"""{_TREE} select i.ino, i.parent, n.parent from names n join inodes i on i.ino = n.ino
    where i.mode & 61440 = 16384 and i.parent <> n.parent order by i.ino""",
    _SESSION,
    ("int8", "int8", "int8"),
    safe=True,
)
# parent, name, ino, kind stored, kind of the inode.
KINDS = Statement(
    "check.kinds",
    f"{_TREE} select n.parent, n.name, n.ino, n.kind, (i.mode >> 12)::int2 from names n join inodes i on i.ino = n.ino where n.kind <> i.mode >> 12",
    _SESSION,
    ("int8", "bytea", "int8", "int2", "int2"),
    safe=True,
)
# ino, size, largest inline size allowed is $4: content that is in the wrong place or of the wrong length.
CONTENT = Statement(
    "check.content",
    f"""with {_INODES} select i.ino, i.size, length(i.inline) from inodes i
    where i.nlink > 0 and (case when i.mode & 61440 = 32768
        then (i.inline is not null) <> (i.size <= $4 and i.packed is null) or length(i.inline) <> i.size
        else i.inline is not null or i.packed is not null or (i.mode & 61440 = 40960) <> (i.target is not null)
            or (i.target is not null and length(i.target) <> i.size) end)
    order by i.ino""",
    (*_SESSION, "int8"),
    ("int8", "int8", "int4"),
    safe=True,
)
# ino, place of the first block behind the end (or of a file that has its content inline). $4: block size.
PAST_END = Statement(
    "check.past_end",
    f"""with {_INODES}, {_CHUNKS}, {_PLACES} select p.ino, min(p.place) from places p join inodes i on i.ino = p.ino
    where i.nlink > 0 and i.packed is null and (p.place * $4 >= i.size or i.inline is not null) group by p.ino order by p.ino""",
    (*_SESSION, "int8"),
    ("int8", "int8"),
    safe=True,
)
# ino, bytes stored as the inode says, as its blocks say; a packed file says what it would store. $4: block size.
STORED = Statement(
    "check.stored",
    f"""with {_INODES}, {_CHUNKS}, {_PLACES},
    sums as (select i.ino, sum(greatest(0, least($4, i.size - p.place * $4)))::int8 as held from places p join inodes i on i.ino = p.ino group by i.ino),
    compared as (select i.ino, i.blocks, case when i.inline is not null then i.size else coalesce(s.held, 0) end as held
        from inodes i left join sums s on s.ino = i.ino where i.nlink > 0 and i.mode & 61440 = 32768 and i.packed is null)
    select ino, blocks, held from compared where blocks <> held order by ino""",
    (*_SESSION, "int8"),
    ("int8", "int8", "int8"),
    safe=True,
)
# ino, layer, place of blocks that an extent of any layer names and the tenant does not have.
MISSING = Statement(
    "check.missing",
    f"""select e.ino, e.layer, e.chunk * {CHUNK_BLOCKS} + n from extent e cross join lateral generate_series(0, length(e.hashes) / 32 - 1) n
    where e.tenant = $1 and substr(e.hashes, n * 32 + 1, 32) <> decode(repeat('00', 32), 'hex')
        and not exists (select from block b where b.tenant = $1 and b.hash = substr(e.hashes, n * 32 + 1, 32)) order by 1, 3""",
    ("int8",),
    ("int8", "int8", "int8"),
    safe=True,
)
# The blocks of the hashes behind $2, in order.
BLOCK_PAGE = Statement(
    "check.blocks",
    "select b.hash, b.data from block b where b.tenant = $1 and b.hash > $2 order by b.hash limit $3",
    ("int8", "bytea", "int4"),
    ("bytea", "bytea"),
    safe=True,
)
# Which files (ino, layer) an extent of any layer gives a block.
BLOCK_USERS = Statement(
    "check.users",
    "select distinct e.ino, e.layer from extent e where e.tenant = $1 and position($2 in e.hashes) % 32 = 1",
    ("int8", "bytea"),
    ("int8", "int8"),
    safe=True,
)
# Unlinked inodes that still hold something.
UNLINKED = Statement(
    "check.unlinked",
    """select i.ino from inode i where i.tenant = $1 and i.layer = $2 and i.nlink = 0
        and (i.inline is not null or i.packed is not null or i.blocks > 0 or not exists (
            select from inode o where o.tenant = $1 and o.ino = i.ino and o.layer < $2 and o.layer <@ $3)) order by i.ino""",
    _SESSION,
    ("int8",),
    safe=True,
)
# The same of all layers: ino, stamp, what its layer sees.
UNLINKED_ANYWHERE = Statement(
    "check.unlinked_anywhere",
    """select i.ino, i.layer, s.visible from inode i
    cross join lateral (select n.below + int8multirange(int8range(i.layer >> 32 << 32, i.layer, '[]')) as visible
        from line n where n.tenant = $1 and n.line = (i.layer >> 32)::int4) s
    where i.tenant = $1 and i.nlink = 0
        and (i.inline is not null or i.packed is not null or i.blocks > 0 or not exists (
            select from inode o where o.tenant = $1 and o.ino = i.ino and o.layer < i.layer and o.layer <@ s.visible)) order by i.ino, i.layer""",
    ("int8",),
    ("int8", "int8", "int8multirange"),
    safe=True,
)
# Extents and attributes whose inode has no row in any layer at or above theirs.
STRAYS = Statement(
    "check.strays",
    """select distinct s.ino from (select e.ino, e.layer from extent e where e.tenant = $1 union select x.ino, x.layer from xattr x where x.tenant = $1) s
    where not exists (select from inode i where i.tenant = $1 and i.ino = s.ino and i.layer >= s.layer) order by 1""",
    ("int8",),
    ("int8",),
    safe=True,
)
STRAYS_DROP = Statement(
    "check.strays_drop",
    """with x as (delete from xattr x where x.tenant = $1 and x.ino = any($2::int8[])
        and not exists (select from inode i where i.tenant = $1 and i.ino = x.ino and i.layer >= x.layer))
    delete from extent e where e.tenant = $1 and e.ino = any($2::int8[])
        and not exists (select from inode i where i.tenant = $1 and i.ino = e.ino and i.layer >= e.layer)""",
    ("int8", "int8[]"),
)
# ino, layer of versions whose text is not there, or of another size than theirs.
TEXTLESS = Statement(
    "check.textless",
    """select i.ino, i.layer from inode i where i.tenant = $1 and i.packed is not null
        and not exists (select from text_version t where t.tenant = $1 and t.hash = i.packed and t.size = i.size offset 0) order by 1, 2""",
    ("int8",),
    ("int8", "int8"),
    safe=True,
)
# The texts behind $2, in order: hash, size, lines, base, whether depth and weight follow from the base's, data.
TEXT_PAGE = Statement(
    "check.texts",
    """select t.hash, t.size, t.lines, t.base, case when t.base is null then t.depth = 0 and t.weight = 0
            else coalesce(t.depth = b.depth + 1 and t.weight = b.weight + length(t.data), false) end, t.data
    from text_version t left join lateral (select b.* from text_version b where b.tenant = $1 and b.hash = t.base offset 0) b on true
    where t.tenant = $1 and t.hash > $2 order by t.hash limit $3""",
    ("int8", "bytea", "int4"),
    ("bytea", "int4", "int4", "bytea", "bool", "bytea"),
    safe=True,
)
# A file whose content is that text.
TEXT_USER = Statement(
    "check.text_user", "select min(i.ino) from inode i where i.tenant = $1 and i.packed = $2", ("int8", "bytea"), ("int8",), safe=True
)
SET_LINKS = Statement(
    "check.set_links",
    "update inode set nlink = $4 where tenant = $1 and layer = $2 and ino = $3",
    ("int8", "int8", "int8", "int4"),
)
SET_STORED = Statement(
    "check.set_stored",
    "update inode set blocks = $4 where tenant = $1 and layer = $2 and ino = $3",
    ("int8", "int8", "int8", "int8"),
)
# Run while no mutation of the tenant is in flight: blocks are stored and referenced in one transaction, so what no
# extent names now, nobody is about to name.
UNREFERENCED_DROP = Statement(
    "gc.blocks",
    """with used as materialized (select distinct substr(e.hashes, n * 32 + 1, 32) as hash from extent e
        cross join lateral generate_series(0, length(e.hashes) / 32 - 1) n where e.tenant = $1),
    gone as (delete from block b where b.tenant = $1 and not exists (select from used u where u.hash = b.hash) returning length(b.data) as size)
    select count(*), coalesce(sum(size), 0)::int8 from gone""",
    ("int8",),
    ("int8", "int8"),
)
# The same holds of texts: those that are the content of no version, and no such text leans on.
TEXTS_DROP = Statement(
    "gc.texts",
    """with recursive used(hash) as (
        select i.packed from inode i where i.tenant = $1 and i.packed is not null
        union select t.base from used u join text_version t on t.tenant = $1 and t.hash = u.hash where t.base is not null),
    gone as (delete from text_version t where t.tenant = $1 and not exists (select from used u where u.hash = t.hash) returning length(t.data) as size)
    select count(*), coalesce(sum(size), 0)::int8 from gone""",
    ("int8",),
    ("int8", "int8"),
)
