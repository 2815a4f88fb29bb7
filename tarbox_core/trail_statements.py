"""The SQL of `trail`: reading the audit trail, sealing and retention. As `statements`, whose conventions they share."""

from __future__ import annotations

from typing import Final

from tarbox_core.effects import Statement

# --- reading ---------------------------------------------------------------------------------------------------------

# $2 and $3: from when until before when. The rest narrows where it is not null: $4 a path without a slash at its end
# ("" is the root), and all below it; $5 operations; $6 a user; $7 a layer.
_WANTED: Final = """a.tenant = $1 and a.created_at >= $2 and a.created_at < $3
    and ($4::text is null or a.path = $4 or starts_with(a.path, $4 || '/')
        or (a.operation = 'rename' and (a.metadata->>'to' = $4 or starts_with(a.metadata->>'to', $4 || '/'))))
    and ($5::text[] is null or a.operation = any($5)) and ($6::int8 is null or a.uid = $6) and ($7::int8 is null or a.layer = $7)"""
_FILTER: Final = ("int8", "timestamptz", "timestamptz", "text", "text[]", "int8", "int8")
# A layer's id follows from its stamp, also when the layer is gone; its name is the one it has now. 0 is no layer.
_RECORD_COLUMNS: Final = """a.id, a.xact, a.created_at, case when a.layer <> 0 then substr(md5(a.tenant::text || '.' || a.layer::text), 1, 12) end,
    l.name, a.operation, a.inode_id, a.path, a.uid, a.pid, a.result, a.bytes, a.metadata"""
_RECORD: Final = ("int8", "int8", "timestamptz", "text", "text", "text", "int8", "text", "int8", "int8", "int4", "int8", "jsonb")
_RECORDS: Final = "audit_logs a left join layer l on l.tenant = a.tenant and l.layer = a.layer"

# The record before the newest $8; no row where there are no more than those.
START = Statement(
    "trail.start",
    f"select a.created_at, a.id from audit_logs a where {_WANTED} order by a.created_at desc, a.id desc offset $8 limit 1",
    (*_FILTER, "int8"),
    ("timestamptz", "int8"),
    safe=True,
)
# The next $10 records after one, in the order of time.
PAGE = Statement(
    "trail.page",
    f"""select {_RECORD_COLUMNS} from {_RECORDS} where {_WANTED} and a.created_at >= $8 and (a.created_at, a.id) > ($8, $9)
    order by a.created_at, a.id limit $10""",
    (*_FILTER, "timestamptz", "int8", "int4"),
    _RECORD,
    safe=True,
)
SNAPSHOT = Statement("trail.snapshot", "select pg_current_snapshot()::text", (), ("text",), safe=True, tenant=False)
# What has committed since the snapshot $8, with the snapshot that this is; one row without a record where nothing has.
# What a restored dump brought from another server has transactions that this one will only come to, and is not meant.
SINCE = Statement(
    "trail.since",
    f"""select s.now, r.* from (select pg_current_snapshot()::text as now) s left join lateral (select {_RECORD_COLUMNS} from {_RECORDS}
        where {_WANTED} and a.xact >= pg_snapshot_xmin($8::text::pg_snapshot)::text::int8
        and a.xact < pg_snapshot_xmax(s.now::pg_snapshot)::text::int8
        and not pg_visible_in_snapshot(a.xact::text::xid8, $8::text::pg_snapshot)) r on true order by r.created_at, r.id""",
    (*_FILTER, "text"),
    ("text", *_RECORD),
    safe=True,
)

# --- sums: each looks at all that is wanted, so `check.whole` goes before them -------------------------------------------

_SUMS: Final = "count(*), coalesce(sum(a.bytes), 0)::int8, count(*) filter (where a.result <> 0)"
# By quarter of an hour (seconds since the epoch): days begin on one everywhere.
BY_TIME = Statement(
    "trail.by_time",
    f"""select (floor(extract(epoch from a.created_at) / 900) * 900)::int8 as slot, {_SUMS} from audit_logs a where {_WANTED}
    group by slot order by slot""",
    _FILTER,
    ("int8", "int8", "int8", "int8"),
    safe=True,
)
BY_OPERATION = Statement(
    "trail.by_operation",
    f"select a.operation, {_SUMS} from audit_logs a where {_WANTED} group by a.operation order by count(*) desc, a.operation",
    _FILTER,
    ("text", "int8", "int8", "int8"),
    safe=True,
)
BY_PATH = Statement(
    "trail.by_path",
    f"""select a.path, {_SUMS} from audit_logs a where {_WANTED} and a.path is not null
    group by a.path order by count(*) desc, a.path limit $8""",
    (*_FILTER, "int4"),
    ("text", "int8", "int8", "int8"),
    safe=True,
)

# --- seals -----------------------------------------------------------------------------------------------------------

SEALING = Statement("trail.sealing", "select pg_try_advisory_xact_lock($1)", ("int8",), ("bool",), tenant=False)
# The last seal, if any: n, floor, hi, last, chain; and the transactions that this server knows: all below the first
# number are over, the second and those above have not begun.
LAST = Statement(
    "trail.last",
    """select s.n, s.floor, s.hi, s.last, s.chain, pg_snapshot_xmin(pg_current_snapshot())::text::int8, pg_snapshot_xmax(pg_current_snapshot())::text::int8
    from (select 1) one left join lateral (select * from audit_seal s where s.tenant = $1 order by s.n desc limit 1) s on true""",
    ("int8",),
    ("int8", "int8", "int8", "int8", "bytea", "int8", "int8"),
    safe=True,
)
# Records with an id above $2, of transactions from $3 on: the transaction of the one after the first $4 of them.
REACH = Statement(
    "trail.reach",
    "select a.xact from audit_logs a where a.tenant = $1 and a.id > $2 and a.xact >= $3 order by a.xact offset $4 limit 1",
    ("int8", "int8", "int8", "int8"),
    ("int8",),
    safe=True,
)
# Records with an id above $2 and up to $3, of the transactions from the first of $4 up to, not including, the last; by the
# interval between two of $4 that theirs lies in (1: the first) and by week: how many, the largest id, the digest.
# A record goes into it as the SHA-256 of a JSON array, which no setting of the session changes.
DIGESTS = Statement(
    "trail.digests",
    """select width_bucket(a.xact, $4::int8[]) as interval, date_trunc('week', a.created_at, 'UTC') as week, count(*), max(a.id),
        sha256(string_agg(sha256(convert_to(jsonb_build_array(a.id, a.xact, (extract(epoch from a.created_at) * 1000000)::int8, a.layer,
            a.operation, a.inode_id, a.path, a.uid, a.pid, a.result, a.bytes, a.metadata)::text, 'UTF8')), '' order by a.xact, a.id))
    from audit_logs a where a.tenant = $1 and a.id > $2 and a.id <= $3
        and a.xact >= ($4::int8[])[1] and a.xact < ($4::int8[])[cardinality($4::int8[])] group by interval, week order by interval, week""",
    ("int8", "int8", "int8", "int8[]"),
    ("int4", "timestamptz", "int8", "int8", "bytea"),
    safe=True,
)
# Records with an id above $2 and up to $3, of the transactions from $4 on.
BEYOND = Statement(
    "trail.beyond",
    "select count(*) from audit_logs a where a.tenant = $1 and a.id > $2 and a.id <= $3 and a.xact >= $4",
    ("int8", "int8", "int8", "int8"),
    ("int8",),
    safe=True,
)
_SEAL_COLUMNS: Final = "n, floor, lo, hi, week, records, last, digest, sealed_at, chain"
_SEAL: Final = ("int8", "int8", "int8", "int8", "timestamptz", "int8", "int8", "bytea", "timestamptz", "bytea")
SEAL = Statement(
    "trail.seal",
    f"insert into audit_seal (tenant, {_SEAL_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    ("int8", *_SEAL),
)
SEALS = Statement(
    "trail.seals",
    f"select {_SEAL_COLUMNS} from audit_seal where tenant = $1 and n > $2 order by n limit $3",
    ("int8", "int8", "int4"),
    _SEAL,
    safe=True,
)

FLOORS = Statement("trail.floors", "select distinct floor from audit_seal where tenant = $1 order by floor", ("int8",), ("int8",), safe=True)

# --- retention -------------------------------------------------------------------------------------------------------

# Run by the owner. $1: days; $2, $3: the user and the process that the record of it names.
PRUNE = Statement("trail.prune", "select before, records from tarbox_audit_prune($1, $2, $3)", ("int4", "int8", "int8"), ("timestamptz", "int8"), tenant=False)
# What retention took: the record's id and transaction, the day before which nothing is left, how many records have gone by then.
PRUNED = Statement(
    "trail.pruned",
    """select a.id, a.xact, a.metadata->>'before', a.metadata->>'records_ever' from audit_logs a
    where a.tenant = $1 and a.operation = 'prune' order by a.id""",
    ("int8",),
    ("int8", "int8", "text", "text"),
    safe=True,
)
