"""The SQL of `tokens`. As `statements`, whose conventions they share; all are run by the database's owner."""

from __future__ import annotations

from typing import Final

from tarbox_core.effects import Statement

_COLUMNS: Final = """t.id, t.tenant, n.name, t.kind, t.name, t.read_only, t.uid, t.gid, t.path, t.parent, t.created_at, t.expires_at, t.used_at,
    case when t.revoked_at is not null then 'revoked' when t.expires_at <= now() then 'expired'
        when t.kind = 'link' and t.used_at is not null then 'spent' else 'good' end"""
_TOKEN: Final = (
    "int8", "int8", "text", "text", "text", "bool", "int8", "int8", "bytea", "int8", "timestamptz", "timestamptz", "timestamptz", "text",
)  # fmt: skip

# $9: what it came from, beyond whose end it does not last, a link's aside; $10: seconds from now.
CREATE = Statement(
    "token.create",
    """insert into token (tenant, hash, kind, name, read_only, uid, gid, path, parent, expires_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9,
        least(now() + $10 * interval '1 second', (select p.expires_at from token p where p.id = $9 and p.kind <> 'link')))
    returning id, expires_at""",
    ("int8", "bytea", "text", "text", "bool", "int8", "int8", "bytea", "int8", "int8"),
    ("int8", "timestamptz"),
)
# All rows of a secret, locked: of two who come with one link, the second sees it spent.
FIND = Statement(
    "token.find",
    f"select {_COLUMNS} from token t join tenant n on n.tenant = t.tenant where t.hash = $1 order by n.name for update of t",
    ("bytea",),
    _TOKEN,
    tenant=False,
)
USED = Statement("token.used", "update token set used_at = now() where id = any($1)", ("int8[]",), tenant=False)
# $1: of one tenant, or null for all.
LIST = Statement(
    "token.list",
    f"select {_COLUMNS} from token t join tenant n on n.tenant = t.tenant where ($1::int8 is null or t.tenant = $1) order by t.id",
    ("int8",),
    _TOKEN,
    tenant=False,
)
# With what came from it; no row where there is none of that id.
REVOKE = Statement(
    "token.revoke",
    """update token t set revoked_at = coalesce(t.revoked_at, now()) where t.id = $1 or t.parent = $1 returning t.id, t.tenant""",
    ("int8",),
    ("int8", "int8"),
    tenant=False,
)
WITHDRAW = Statement(
    "token.withdraw",
    "update token set revoked_at = now() where hash = $1 and kind = 'link' and used_at is null and revoked_at is null returning id, tenant",
    ("bytea",),
    ("int8", "int8"),
    tenant=False,
)
# Those of $1 that still let in.
STANDING = Statement(
    "token.standing",
    "select t.id from token t where t.id = any($1) and t.revoked_at is null and t.expires_at > now()",
    ("int8[]",),
    ("int8",),
    tenant=False,
)
# Ended so many seconds ago, so that nobody asks about them any more.
FORGET = Statement("token.forget", "delete from token where least(expires_at, revoked_at) < now() - $1 * interval '1 second'", ("int8",), tenant=False)
