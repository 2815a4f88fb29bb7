"""Every SQL text of the core: named, with typed parameters and results. Nothing else in the core holds SQL.

The first three parameters of nearly every statement are the session's: $1 tenant, $2 the head's layer, $3 the stamps
the head sees. The visible row of a key is the one with the largest stamp among those.

Writing statements change rows of the head's layer only; a row that an older layer wrote is copied up first
(`inode.copy_up`). Mutations read under advisory locks (`lock`) in one trip and write in the next.
`safe` statements are those that a gateway may pass on; `gateway_rules` has what it asks of their parameters.
"""

from __future__ import annotations

from typing import Final

from tarbox_core.effects import Statement

CHUNK_BLOCKS: Final = 32  # blocks in a row of extent

_SESSION: Final = ("int8", "int8", "int8multirange")
_ATTR: Final = ("int8", "int4", "int8", "int8", "int4", "int8", "int8", "int8", "int8", "int8", "int8", "int8", "int8")
_ATTR_COLUMNS: Final = "i.ino, i.mode, i.uid, i.gid, i.nlink, i.size, i.blocks, i.rdev, i.atime, i.mtime, i.ctime, i.layer, i.parent"

# The visible row of one key, as the end of a lateral subquery over dentry d, inode i, extent e or xattr x.
_DENTRY: Final = "d.tenant = $1 and d.layer <= $2 and d.layer <@ $3 order by d.layer desc limit 1"
_INODE: Final = "i.tenant = $1 and i.layer <= $2 and i.layer <@ $3 order by i.layer desc limit 1"
_EXTENT: Final = "e.tenant = $1 and e.layer <= $2 and e.layer <@ $3 order by e.layer desc limit 1"
_XATTR: Final = "x.tenant = $1 and x.layer <= $2 and x.layer <@ $3 order by x.layer desc limit 1"

# --- sessions ------------------------------------------------------------------------------------------------------

# Advisory locks of the transaction, in the order given: shared ones, then exclusive ones. A statement of its own, so
# that the snapshot of the next one is taken when the locks are held.
LOCK = Statement(
    "lock",
    "select pg_advisory_xact_lock_shared(k) is null from unnest($1::int8[]) k union all select pg_advisory_xact_lock(k) is null from unnest($2::int8[]) k",
    ("int8[]", "int8[]"),
    ("bool",),
    safe=True,
    tenant=False,
)
HEAD = Statement(
    "head.get",
    "select layer, visible, epoch from head where tenant = $1 and name = $2",
    ("int8", "text"),
    ("int8", "int8multirange", "int8"),
    safe=True,
)
NUMBERS = Statement(
    "inode.numbers",
    "select array_agg(nextval('inode_number')) from generate_series(1, $1::int4)",
    ("int4",),
    ("int8[]",),
    safe=True,
    tenant=False,
)

# A door that keeps files open holds this lock, shared, on a connection of its own for as long as it lives.
PRESENT = Statement("presence.enter", "select pg_advisory_lock_shared($1) is null", ("int8",), ("bool",), tenant=False)
_HOLDERS: Final = """from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
        and classid::int8 = $1 >> 32 & 4294967295 and objid::int8 = $1 & 4294967295 and objsubid = 1 and granted and pid <> pg_backend_pid()"""
# How many doors hold it, this connection's not counted.
PRESENCES = Statement("presence.count", f"select count(*) {_HOLDERS}", ("int8",), ("int8",), safe=True, tenant=False)
# Which connections these are.
PRESENT_PIDS = Statement("presence.pids", f"select coalesce(array_agg(pid::int8), '{{}}') {_HOLDERS}", ("int8",), ("int8[]",), tenant=False)
# To be the one door of a tenant that keeps the others quiet; false where another is.
QUIET = Statement("presence.quiet", "select pg_try_advisory_lock($1)", ("int8",), ("bool",), tenant=False)

# To the doors that keep things in mind: who changed which inodes. Numbers only: any role may listen.
TELL = Statement("presence.tell", "select pg_notify($1, $2) is null", ("text", "text"), ("bool",), safe=True, tenant=False)

# --- tenants: run by the owner, who sees no tree ---------------------------------------------------------------------

_TENANT: Final = ("int8", "text", "text", "text", "int4", "int8", "timestamptz")
_TENANT_COLUMNS: Final = "tenant, name, title, role, block_size, max_file_size, created_at"
TENANT_CREATE = Statement(
    "tenant.create",
    "select tarbox_tenant_create($1, $2, $3, $4, $5, $6, $7)",
    ("text", "text", "int4", "int8", "int8", "int8", "int8"),
    ("int8",),
    tenant=False,
)
TENANT_DELETE = Statement("tenant.delete", "select tarbox_tenant_delete($1)", ("text",), ("bool",), tenant=False)
TENANT_LIST = Statement("tenant.list", f"select {_TENANT_COLUMNS} from tenant order by name", (), _TENANT, tenant=False)
TENANT_GET = Statement("tenant.get", f"select {_TENANT_COLUMNS} from tenant where name = $1", ("text",), _TENANT, tenant=False)
AUDIT_AHEAD = Statement("audit.ahead", "select tarbox_audit_ahead($1)", ("int4",), ("int4",), tenant=False)
# Under the tenant's role: files, directories, their bytes, and the bytes that all layers store.
TENANT_USAGE = Statement(
    "tenant.usage",
    """with inodes as materialized (select distinct on (i.ino) i.* from inode i
        where i.tenant = $1 and i.layer <= $2 and i.layer <@ $3 order by i.ino, i.layer desc)
    select count(*) filter (where mode & 61440 <> 16384 and nlink > 0), count(*) filter (where mode & 61440 = 16384 and nlink > 0),
           coalesce(sum(size) filter (where mode & 61440 = 32768 and nlink > 0), 0)::int8,
           (select coalesce(sum(length(b.data)), 0)::int8 from block b where b.tenant = $1)
               + (select coalesce(sum(length(i.inline)), 0)::int8 from inode i where i.tenant = $1)
               + (select coalesce(sum(length(t.data)), 0)::int8 from text_version t where t.tenant = $1)
    from inodes""",
    _SESSION,
    ("int8", "int8", "int8", "int8"),
    safe=True,
)

# --- names ---------------------------------------------------------------------------------------------------------

CHILD = Statement(
    "dentry.child",
    f"""select {_ATTR_COLUMNS} from (select d.ino from dentry d where d.parent = $4 and d.name = $5 and {_DENTRY}) d
    cross join lateral (select i.* from inode i where i.ino = d.ino and {_INODE}) i""",
    (*_SESSION, "int8", "bytea"),
    _ATTR,
    safe=True,
)
# Follows names from a directory until one is missing, is not a directory, or the last is reached. One row a step,
# the starting directory first.
WALK = Statement(
    "dentry.walk",
    f"""with recursive w as (
        select 0 as n, {_ATTR_COLUMNS} from (select i.* from inode i where i.ino = $4 and {_INODE}) i
        union all
        select w.n + 1, {_ATTR_COLUMNS} from w
        cross join lateral (select d.ino from dentry d where d.parent = w.ino and d.name = ($5::bytea[])[w.n + 1] and {_DENTRY}) d
        cross join lateral (select i.* from inode i where i.ino = d.ino and {_INODE}) i
        where w.n < cardinality($5::bytea[]) and w.mode & 61440 = 16384
    ) select ino, mode, uid, gid, nlink, size, blocks, rdev, atime, mtime, ctime, layer, parent from w order by n""",
    (*_SESSION, "int8", "bytea[]"),
    _ATTR,
    safe=True,
)
# A new inode under a new name, in one statement: what it depends on is checked inside, so the caller need not have read it.
# The parent must be a directory that the caller ($16 and groups $17; 0 may all) may write, and the name free. With $15 a
# set-gid parent gives its group; its bit a file may have only from a caller in that group. $20, $21: operations and bytes
# for the audit, $25 what a write changed. A row always: whether the head stands at $2; its layer, what it sees, its epoch; the
# parent's mode, uid, gid, links; the inode that has the name; what was made: its mode and gid; whether the inode was there.
MAKE = Statement(
    "tree.make",
    f"""with h as (select layer, visible, epoch from head where tenant = $1 and name = $4),
    p as (select i.* from inode i where i.ino = $5 and {_INODE}),
    c as (select d.ino from dentry d where d.parent = $5 and d.name = $6 and {_DENTRY}),
    o as (select i.ino from inode i where i.ino = $7 and {_INODE}),
    ok as (select p.*, case when $15 and p.mode & 1024 <> 0 then p.gid else $10 end as new_gid,
            case when $15 and p.mode & 1024 <> 0 and $8 & 61440 = 16384 then $8 | 1024
                when $16 <> 0 and p.mode & 1024 <> 0 and $8 & 1032 = 1032 and not p.gid = any($17::int8[]) then $8 & ~1024 else $8 end as new_mode
        from p, h where h.layer = $2 and h.visible = $3 and p.mode & 61440 = 16384 and p.nlink > 0
        and not exists (select from c where ino is not null) and not exists (select from o)
        and ($16 = 0 or (case when p.uid = $16 then p.mode >> 6 when p.gid = any($17::int8[]) then p.mode >> 3 else p.mode end) & 3 = 3)),
    d as (insert into dentry (tenant, parent, name, layer, ino, kind) select $1, $5, $6, $2, $7, $8 >> 12 from ok
        on conflict (tenant, parent, name, layer) do update set ino = excluded.ino, kind = excluded.kind),
    i as (insert into inode (tenant, ino, layer, mode, uid, gid, nlink, size, blocks, rdev, atime, mtime, ctime, parent, target, inline)
        select $1, $7, $2, ok.new_mode, $9, ok.new_gid, case when $8 & 61440 = 16384 then 2 else 1 end, coalesce(length($13), length($14), 0),
            coalesce(length($14), 0), $11, $18, $19, $12, case when $8 & 61440 = 16384 then $5 else 0 end, $13, $14 from ok),
    t as (update inode i set mtime = $12, ctime = greatest(i.ctime + 1, $12), nlink = i.nlink + case when $8 & 61440 = 16384 then 1 else 0 end
        where i.tenant = $1 and i.layer = $2 and i.ino = $5 and exists (select from ok)),
    u as (insert into inode (tenant, ino, layer, mode, uid, gid, nlink, size, blocks, rdev, atime, mtime, ctime, parent)
        select $1, $5, $2, ok.mode, ok.uid, ok.gid, ok.nlink + case when $8 & 61440 = 16384 then 1 else 0 end, ok.size, 0, 0, ok.atime, $12, $12, ok.parent
        from ok where ok.layer <> $2
        on conflict (tenant, ino, layer) do update set mtime = $12, ctime = greatest(inode.ctime + 1, $12),
            nlink = inode.nlink + case when $8 & 61440 = 16384 then 1 else 0 end),
    a as (insert into audit_logs (tenant, layer, operation, inode_id, path, uid, pid, bytes, metadata)
        select $1, $2, r.operation, $7, $22, $23, $24, r.bytes, case when r.operation = 'write' then $25::jsonb end
        from ok, unnest($20::text[], $21::int8[]) r(operation, bytes))
    select h.layer = $2, h.layer, h.visible, h.epoch, p.mode, p.uid, p.gid, p.nlink, c.ino, ok.new_mode, ok.new_gid, exists (select from o)
    from (select 1) one left join h on true left join p on true left join c on true left join ok on true""",
    (*_SESSION, "text", "int8", "bytea", "int8", "int4", "int8", "int8", "int8", "int8", "bytea", "bytea", "bool",
     "int8", "int8[]", "int8", "int8", "text[]", "int8[]", "text", "int8", "int8", "jsonb"),
    ("bool", "int8", "int8multirange", "int8", "int4", "int8", "int8", "int4", "int8", "int4", "int8", "bool"),
    safe=True,
)
DENTRY_PUT = Statement(
    "dentry.put",
    """insert into dentry (tenant, layer, parent, name, ino, kind) values ($1, $2, $3, $4, $5, $6)
    on conflict (tenant, parent, name, layer) do update set ino = excluded.ino, kind = excluded.kind""",
    ("int8", "int8", "int8", "bytea", "int8", "int2"),
    safe=True,
)
# A whiteout where an older layer has the name, else nothing is left of it.
DENTRY_DROP = Statement(
    "dentry.drop",
    """with older as (select 1 from dentry d where d.tenant = $1 and d.parent = $4 and d.name = $5 and d.layer < $2 and d.layer <@ $3 limit 1),
    gone as (delete from dentry d where d.tenant = $1 and d.parent = $4 and d.name = $5 and d.layer = $2 and not exists (select from older))
    insert into dentry (tenant, layer, parent, name, ino, kind) select $1, $2, $4, $5, null, 0 from older
    on conflict (tenant, parent, name, layer) do update set ino = null, kind = 0""",
    (*_SESSION, "int8", "bytea"),
    safe=True,
)
DIR_USED = Statement(
    "dentry.any",
    """select exists (select from (select distinct on (d.name) d.ino from dentry d
        where d.tenant = $1 and d.parent = $4 and d.layer <= $2 and d.layer <@ $3 order by d.name, d.layer desc) n where n.ino is not null)""",
    (*_SESSION, "int8"),
    ("bool",),
    safe=True,
)
# The next names after one, in byte order. One row of arrays: a row a name would cost five times as much to move.
_PAGE: Final = """select d.name, d.ino, d.kind from (select distinct on (d.name) d.name, d.ino, d.kind from dentry d
    where d.tenant = $1 and d.parent = $4 and d.name > $5 and d.layer <= $2 and d.layer <@ $3 order by d.name, d.layer desc) d
    where d.ino is not null limit $6"""
DIR_NAMES = Statement(
    "dentry.names",
    f"select array_agg(p.name), array_agg(p.ino), array_agg(p.kind::int8) from ({_PAGE}) p",
    (*_SESSION, "int8", "bytea", "int4"),
    ("bytea[]", "int8[]", "int8[]"),
    safe=True,
)
DIR_PAGE = Statement(
    "dentry.page",
    f"""select array_agg(p.name), array_agg(i.ino), array_agg(i.mode::int8), array_agg(i.uid), array_agg(i.gid), array_agg(i.nlink::int8),
        array_agg(i.size), array_agg(i.blocks), array_agg(i.rdev), array_agg(i.atime), array_agg(i.mtime), array_agg(i.ctime),
        array_agg(i.layer), array_agg(i.parent)
    from ({_PAGE}) p cross join lateral (select i.* from inode i where i.ino = p.ino and {_INODE}) i""",
    (*_SESSION, "int8", "bytea", "int4"),
    ("bytea[]",) + ("int8[]",) * 13,
    safe=True,
)
# A directory and what it lies in, up to the root.
ANCESTORS = Statement(
    "inode.ancestors",
    f"""with recursive up(ino) as (
        select $4::int8
        union
        select i.parent from up cross join lateral (select i.parent from inode i where i.ino = up.ino and {_INODE}) i where up.ino <> 1
    ) select array_agg(ino) from up""",
    (*_SESSION, "int8"),
    ("int8[]",),
    safe=True,
)

# A change's ctime is always later than the one before, on which sessions rely to see that something changed.
# --- inodes --------------------------------------------------------------------------------------------------------

INODE = Statement(
    "inode.get",
    f"select {_ATTR_COLUMNS} from inode i where i.ino = $4 and {_INODE}",
    (*_SESSION, "int8"),
    _ATTR,
    safe=True,
)
# With the content of a small file, a symbolic link's target, and the text that is the content; null where it is not so.
INODE_FULL = Statement(
    "inode.full",
    f"select {_ATTR_COLUMNS}, i.inline, i.target, i.packed from inode i where i.ino = $4 and {_INODE}",
    (*_SESSION, "int8"),
    (*_ATTR, "bytea", "bytea", "bytea"),
    safe=True,
)
# What a name stands for, as it is wanted by who is going to open it.
CHILD_FULL = Statement(
    "dentry.child_full",
    f"""select {_ATTR_COLUMNS}, i.inline, i.target, i.packed
    from (select d.ino from dentry d where d.parent = $4 and d.name = $5 and {_DENTRY}) d
    cross join lateral (select i.* from inode i where i.ino = d.ino and {_INODE}) i""",
    (*_SESSION, "int8", "bytea"),
    (*_ATTR, "bytea", "bytea", "bytea"),
    safe=True,
)
# Behind what read a file's extents: whether they were its content, and of which change. Packing takes those of old layers away.
INODE_PACKED = Statement(
    "inode.packed", f"select i.packed is not null, i.ctime from inode i where i.ino = $4 and {_INODE}", (*_SESSION, "int8"), ("bool", "int8"), safe=True
)
INODE_PUT = Statement(
    "inode.put",
    """insert into inode (tenant, layer, ino, mode, uid, gid, nlink, size, blocks, rdev, atime, mtime, ctime, parent, target, inline)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $11, $12, $13, $14)""",
    ("int8", "int8", "int8", "int4", "int8", "int8", "int4", "int8", "int8", "int8", "int8", "int8", "bytea", "bytea"),
)
INODE_COPY_UP = Statement(
    "inode.copy_up",
    f"""insert into inode (tenant, layer, ino, mode, uid, gid, nlink, size, blocks, rdev, atime, mtime, ctime, parent, target, inline, packed)
    select $1, $2, i.ino, i.mode, i.uid, i.gid, i.nlink, i.size, i.blocks, i.rdev, i.atime, i.mtime, i.ctime, i.parent, i.target, i.inline, i.packed
    from (select i.* from inode i where i.ino = $4 and {_INODE}) i where i.layer <> $2 on conflict do nothing""",
    (*_SESSION, "int8"),
    safe=True,
)
# A directory whose names changed: $4 its time of change, $5 added to its links, of which its own two are not taken here.
INODE_TOUCH = Statement(
    "inode.touch",
    "update inode set mtime = $4, ctime = greatest(ctime + 1, $4), nlink = greatest(nlink + $5, least(nlink, 2)) where tenant = $1 and layer = $2 and ino = $3",
    ("int8", "int8", "int8", "int8", "int4"),
    safe=True,
)
# Never below none: a directory's links are all taken at once, counted before its last subdirectory left.
INODE_LINKS = Statement(
    "inode.links",
    "update inode set ctime = greatest(ctime + 1, $4), nlink = greatest(nlink + $5, 0) where tenant = $1 and layer = $2 and ino = $3 returning nlink",
    ("int8", "int8", "int8", "int8", "int4"),
    ("int4",),
    safe=True,
)
# Null keeps what is there.
INODE_SET = Statement(
    "inode.set",
    """update inode set mode = coalesce($4, mode), uid = coalesce($5, uid), gid = coalesce($6, gid), atime = coalesce($7, atime),
        mtime = coalesce($8, mtime), ctime = case when $9 is null then ctime else greatest(ctime + 1, $9) end, parent = coalesce($10, parent)
    where tenant = $1 and layer = $2 and ino = $3""",
    ("int8", "int8", "int8", "int4", "int8", "int8", "int8", "int8", "int8", "int8"),
    safe=True,
)
# What a flush or truncation changes; null keeps the mode and the mtime.
INODE_CONTENT = Statement(
    "inode.content",
    """update inode set size = $4, blocks = $5, inline = $6, mode = coalesce($7, mode), mtime = coalesce($8, mtime), ctime = greatest(ctime + 1, $9)
    where tenant = $1 and layer = $2 and ino = $3""",
    ("int8", "int8", "int8", "int8", "int8", "bytea", "int4", "int8", "int8"),
    safe=True,
)
# A packed file's content is inline or in extents from now on.
INODE_UNPACK = Statement(
    "inode.unpack",
    "update inode set packed = null, inline = $4, blocks = size where tenant = $1 and layer = $2 and ino = $3",
    ("int8", "int8", "int8", "bytea"),
    safe=True,
)
# Removes what the head's layer holds of an unlinked inode. Where an older layer's row would show through, a row with
# nlink 0 stays.
INODE_REAP = Statement(
    "inode.reap",
    """with dead as (select 1 from inode i where i.tenant = $1 and i.ino = $4 and i.layer = $2 and i.nlink = 0),
    older as (select 1 from inode i where i.tenant = $1 and i.ino = $4 and i.layer < $2 and i.layer <@ $3 limit 1),
    extents as (delete from extent e where e.tenant = $1 and e.ino = $4 and e.layer = $2 and exists (select from dead)),
    xattrs as (delete from xattr x where x.tenant = $1 and x.ino = $4 and x.layer = $2 and exists (select from dead)),
    kept as (update inode i set inline = null, packed = null, size = 0, blocks = 0
        where i.tenant = $1 and i.ino = $4 and i.layer = $2 and i.nlink = 0 and exists (select from older))
    delete from inode i where i.tenant = $1 and i.ino = $4 and i.layer = $2 and i.nlink = 0 and not exists (select from older)""",
    (*_SESSION, "int8"),
    safe=True,
)

# --- content -------------------------------------------------------------------------------------------------------

EXTENTS = Statement(
    "extent.get",
    f"""select c.chunk, e.hashes from unnest($5::int8[]) c(chunk)
    cross join lateral (select e.hashes from extent e where e.ino = $4 and e.chunk = c.chunk and {_EXTENT}) e""",
    (*_SESSION, "int8", "int8[]"),
    ("int8", "bytea"),
    safe=True,
)
# All chunks from one on, for SEEK_DATA and SEEK_HOLE and the counting of blocks.
EXTENTS_FROM = Statement(
    "extent.from",
    """select distinct on (e.chunk) e.chunk, e.hashes from extent e
    where e.tenant = $1 and e.ino = $4 and e.chunk >= $5 and e.layer <= $2 and e.layer <@ $3 order by e.chunk, e.layer desc""",
    (*_SESSION, "int8", "int8"),
    ("int8", "bytea"),
    safe=True,
)
EXTENT_PUT = Statement(
    "extent.put",
    """insert into extent (tenant, layer, ino, chunk, hashes) select $1, $2, $3, c, h from unnest($4::int8[], $5::bytea[]) u(c, h)
    on conflict (tenant, ino, chunk, layer) do update set hashes = excluded.hashes""",
    ("int8", "int8", "int8", "int8[]", "bytea[]"),
    safe=True,
)
# Everything from a chunk on becomes a hole: an empty row where an older layer would show through, else none.
EXTENT_CUT = Statement(
    "extent.cut",
    """with older as (select distinct e.chunk from extent e
        where e.tenant = $1 and e.ino = $4 and e.chunk >= $5 and e.layer < $2 and e.layer <@ $3),
    gone as (delete from extent e where e.tenant = $1 and e.ino = $4 and e.chunk >= $5 and e.layer = $2 and e.chunk not in (select chunk from older))
    insert into extent (tenant, layer, ino, chunk, hashes) select $1, $2, $4, chunk, '' from older
    on conflict (tenant, ino, chunk, layer) do update set hashes = ''""",
    (*_SESSION, "int8", "int8"),
    safe=True,
)
# Blocks by their place in a file: index, hash, data. Holes have no row. `offset 0`: each by its key, whatever the planner knows.
BLOCKS_AT = Statement(
    "block.at",
    f"""select x.n, b.hash, b.data from unnest($5::int8[]) x(n)
    cross join lateral (select substr(e.hashes, (x.n % {CHUNK_BLOCKS})::int4 * 32 + 1, 32) as hash
        from extent e where e.ino = $4 and e.chunk = x.n / {CHUNK_BLOCKS} and {_EXTENT}) h
    cross join lateral (select b.hash, b.data from block b where b.tenant = $1 and b.hash = h.hash offset 0) b""",
    (*_SESSION, "int8", "int8[]"),
    ("int8", "bytea", "bytea"),
    safe=True,
)
BLOCKS = Statement(
    "block.get",
    "select b.hash, b.data from block b where b.tenant = $1 and b.hash = any($2::bytea[])",
    ("int8", "bytea[]"),
    ("bytea", "bytea"),
    safe=True,
)
BLOCK_PUT = Statement(
    "block.put",
    "insert into block (tenant, hash, data) select $1, h, d from unnest($2::bytea[], $3::bytea[]) u(h, d) on conflict do nothing",
    ("int8", "bytea[]", "bytea[]"),
    safe=True,
)

# --- extended attributes ---------------------------------------------------------------------------------------------

XATTR = Statement(
    "xattr.get",
    f"select x.value from xattr x where x.ino = $4 and x.name = $5 and {_XATTR}",
    (*_SESSION, "int8", "bytea"),
    ("bytea",),
    safe=True,
)
XATTRS = Statement(
    "xattr.list",
    """select n.name, length(n.value) from (select distinct on (x.name) x.name, x.value from xattr x
        where x.tenant = $1 and x.ino = $4 and x.layer <= $2 and x.layer <@ $3 order by x.name, x.layer desc) n where n.value is not null""",
    (*_SESSION, "int8"),
    ("bytea", "int4"),
    safe=True,
)
XATTR_PUT = Statement(
    "xattr.put",
    """insert into xattr (tenant, layer, ino, name, value) values ($1, $2, $3, $4, $5)
    on conflict (tenant, ino, name, layer) do update set value = excluded.value""",
    ("int8", "int8", "int8", "bytea", "bytea"),
    safe=True,
)
XATTR_DROP = Statement(
    "xattr.drop",
    """with older as (select 1 from xattr x where x.tenant = $1 and x.ino = $4 and x.name = $5 and x.layer < $2 and x.layer <@ $3 limit 1),
    gone as (delete from xattr x where x.tenant = $1 and x.ino = $4 and x.name = $5 and x.layer = $2 and not exists (select from older))
    insert into xattr (tenant, layer, ino, name, value) select $1, $2, $4, $5, null from older
    on conflict (tenant, ino, name, layer) do update set value = null""",
    (*_SESSION, "int8", "bytea"),
    safe=True,
)

# --- audit ---------------------------------------------------------------------------------------------------------

AUDIT = Statement(
    "audit.add",
    """insert into audit_logs (tenant, layer, operation, inode_id, path, uid, pid, result, bytes, metadata)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
    ("int8", "int8", "text", "int8", "text", "int8", "int8", "int4", "int8", "jsonb"),
    safe=True,
)
# Many at once, for reads and failures: their own layers and times (ns since the epoch) come with them.
AUDIT_MANY = Statement(
    "audit.many",
    """insert into audit_logs (tenant, layer, created_at, operation, inode_id, path, uid, pid, result, bytes)
    select $1, u.layer, to_timestamp(u.at / 1e9), u.operation, u.ino, u.path, u.uid, u.pid, u.result, u.bytes
    from unnest($2::int8[], $3::int8[], $4::text[], $5::int8[], $6::text[], $7::int8[], $8::int8[], $9::int8[], $10::int8[])
        u(layer, at, operation, ino, path, uid, pid, result, bytes)""",
    ("int8", "int8[]", "int8[]", "text[]", "int8[]", "text[]", "int8[]", "int8[]", "int8[]", "int8[]"),
    safe=True,
)
