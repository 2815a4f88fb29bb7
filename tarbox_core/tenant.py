"""Tenants: making, listing, removing and entering them. Run under the owner's role, which sees no tree."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tarbox_core import check_statements as whole
from tarbox_core import statements as sql
from tarbox_core.effects import Op, Row, finish, many, maybe, one, run
from tarbox_core.errors import TenantError
from tarbox_core.types import TenantInfo

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
BLOCK_SIZE = 65536
MAX_FILE_SIZE = 10 << 30
HEAD = "main"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant holds: counts, and bytes as files show them and as all layers store them."""

    files: int
    directories: int
    size: int
    stored: int


def _info(row: Row) -> TenantInfo:
    ident, name, title, role, block_size, max_file_size, created_at = row
    return TenantInfo(ident, name, title, role, block_size, max_file_size, created_at, HEAD, 0, ())


def create(
    name: str,
    title: str = "",
    block_size: int = BLOCK_SIZE,
    max_file_size: int = MAX_FILE_SIZE,
    uid: int = 0,
    gid: int = 0,
    now: int = 0,
) -> Op[TenantInfo]:
    """A new tenant whose root directory belongs to uid and gid and was made at `now` (ns). TenantError."""
    if not NAME.fullmatch(name):
        raise TenantError(
            f"bad tenant name {name!r}: use 1 to 64 of the letters a-z and A-Z, digits, '.', '_' and '-', a letter or digit first"
        )
    if not 4096 <= block_size <= 1 << 20 or block_size & (block_size - 1):
        raise TenantError(f"bad block size {block_size}: use a power of two from 4096 to 1048576")
    if max_file_size <= 0:
        raise TenantError(f"bad largest file size {max_file_size}: use a positive number of bytes")
    (ident,) = yield from one(sql.TENANT_CREATE(name, title, block_size, max_file_size, uid, gid, now))
    if ident is None:
        raise TenantError(f"a tenant named {name!r} exists already")
    return (yield from info(name))


def listing() -> Op[list[TenantInfo]]:
    """All tenants by name."""
    rows = yield from many(sql.TENANT_LIST())
    return [_info(row) for row in rows]


def info(name: str) -> Op[TenantInfo]:
    """A tenant's settings. TenantError where there is none of that name."""
    row = yield from maybe(sql.TENANT_GET(name))
    if row is None:
        raise TenantError(f"no tenant named {name!r}: see `tarbox tenant list`, or make it with `tarbox tenant create {name}`")
    return _info(row)


def delete(name: str) -> Op[None]:
    """Remove a tenant with everything it holds. TenantError where there is none of that name."""
    (gone,) = yield from one(sql.TENANT_DELETE(name))
    if not gone:
        raise TenantError(f"no tenant named {name!r}: see `tarbox tenant list`")


def audit_ahead() -> Op[int]:
    """Make the audit trail's partitions of this and the next four weeks; how many were missing. For now and then."""
    (made,) = yield from one(sql.AUDIT_AHEAD(4))
    return int(made)


def attach(tenant: TenantInfo, branch: str = HEAD) -> Op[TenantInfo]:
    """The tenant with where a branch stands now. Run under the tenant's own role."""
    rows = [[]] if "\0" in branch else (yield from finish(sql.HEAD(tenant.id, branch)))
    if not rows[0]:
        raise TenantError(f"tenant {tenant.name!r} has no branch {branch!r}: see `tarbox layer branch list`")
    layer, visible, epoch = rows[0][0]
    return replace(tenant, head=branch, layer=layer, visible=visible, epoch=epoch)


def usage(tenant: TenantInfo) -> Op[Usage]:
    """Counted by looking at the whole tree. Run under the tenant's own role, on an attached tenant."""
    rows = yield from run(whole.WHOLE(), sql.TENANT_USAGE(tenant.id, tenant.layer, tenant.visible))
    return Usage(*rows[1][0])
