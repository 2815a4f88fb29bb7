"""Tokens: who may work on a tenant without a database password. Run by the owner; a gateway lets none of this pass.

A token is a secret that its holder shows; here is its hash, what it opens, and until when. Each use and each refusal leaves a
record in the tenant's audit, in the transaction that finds out. Not here: where secrets and their randomness come from.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tarbox_core import statements as tree
from tarbox_core import tokens_statements as sql
from tarbox_core.effects import Op, Query, Row, finish, many, run
from tarbox_core.errors import TokenError, linux_errno
from tarbox_core.types import Caller, TenantInfo

TOKEN, LINK, SESSION = "token", "link", "session"
RANDOM_BYTES: Final = 32  # of a secret
TTL_MAX: Final = 366 * 86400  # seconds
NAME_MAX: Final = 200  # characters
ID_MAX: Final = (1 << 63) - 1
KEPT: Final = 90 * 86400  # seconds for which one that has ended is still known
_PREFIX: Final = "tbx_"  # by which those who look for lost secrets know ours
_NO_LAYER: Final = 0


@dataclass(frozen=True, slots=True)
class Token:
    """What is stored of one. `path`: the one directory that it opens; None for the whole tenant. Times in ns. `state` is good, expired, revoked or
    spent (a link that was used)."""

    id: int
    tenant: int
    tenant_name: str
    kind: str
    name: str
    read_only: bool
    uid: int
    gid: int
    path: bytes | None
    parent: int | None
    created_at: int
    expires_at: int
    used_at: int | None
    state: str

    @property
    def scope(self) -> tuple[bytes, ...]:
        """The names from the root to what it opens (Session.scope)."""
        return () if self.path is None else tuple(self.path.split(b"/")[1:])


class Verdict(NamedTuple):
    """What a secret opens: nothing, for a reason (unknown, expired, revoked, spent, tenant, kind, path), or `tokens`."""

    tokens: list[Token]
    reason: str = ""


class New(NamedTuple):
    """What was made: for which tenant, and when it ends (ns)."""

    id: int
    tenant: str
    expires_at: int


def secret(random: bytes) -> str:
    """A secret made of random bytes."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"{len(random)} random bytes, not {RANDOM_BYTES}")
    return _PREFIX + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def hashed(shown: str, key: str = "") -> bytes:
    """What is stored for a secret. `key`: the servers' own secret, without which nobody who writes the table makes a token."""
    data = shown.encode("utf-8", "surrogatepass")
    return hmac.digest(key.encode(), data, "sha256") if key else hashlib.sha256(data).digest()


def create(
    tenants: Sequence[TenantInfo], digest: bytes, *, seconds: int, caller: Caller, kind: str = TOKEN, name: str = "", read_only: bool = False,
    path: bytes | None = None,
) -> Op[list[New]]:
    """A token for one secret; a row for each tenant it opens. `path`: of the only directory that it opens, as `path.true_names` has
    it. TokenError: a name too long, a time that is none, a path that is not one of those."""
    if not 1 <= seconds <= TTL_MAX:
        raise TokenError(f"a token lasts from a second to {TTL_MAX // 86400} days")
    if len(name) > NAME_MAX or not name.isprintable():
        raise TokenError(f"a token's name is up to {NAME_MAX} printable characters")
    if path is not None and (path[:1] != b"/" or not {b"", b".", b".."}.isdisjoint(path.split(b"/")[1:])):
        raise TokenError(f"a token's path leads from the root to a directory below it, without \".\" and \"..\": not {_text(path)}")
    made = [sql.CREATE(tenant.id, digest, kind, name, read_only, caller.uid, caller.gid, path, None, seconds) for tenant in tenants]
    rows = yield from run(sql.FORGET(KEPT), *made)
    new = [New(row[0][0], tenant.name, row[0][1]) for tenant, row in zip(tenants, rows[1:], strict=True)]
    part = {} if path is None else {"path": _text(path)}
    told = ({"token": each.id, "kind": kind, "name": name, "read_only": read_only, **part} for each in new)
    yield from finish(*(_record(tenant.id, "token_create", caller, about) for tenant, about in zip(tenants, told, strict=True)))
    return new


def listing(tenant: int | None = None) -> Op[list[Token]]:
    """All that are known, of one tenant or of all; the oldest first."""
    rows = yield from many(sql.LIST(tenant))
    return [Token(*row) for row in rows]


def revoke(ident: int, caller: Caller) -> Op[list[int]]:
    """End a token and the sessions that came from it; the ids of all these. TokenError where there is none."""
    rows: list[Row] = []
    if ident <= ID_MAX:
        (rows,) = yield from run(sql.REVOKE(ident))
    if not rows:
        raise TokenError(f"no token has the id {ident}: see `tarbox token list`")
    yield from finish(*(_record(tenant, "token_revoke", caller, {"token": each}) for each, tenant in rows))
    return sorted(each for each, _ in rows)


# --- at the door


def use(
    digest: bytes, kinds: Collection[str], served: Mapping[int, str], tenant: str | None, how: Mapping[str, Any], caller: Caller, *, part: bool | None = None
) -> Op[Verdict]:
    """What a secret opens of the tenants that are served (names by id): of all of them, or of the one that is named. `part`: whether it
    has to be for a path, or must not be. `how` is told in the records."""
    verdict = yield from _look(digest, kinds, served, tenant, part)
    yield from finish(*_used(verdict, how, caller))
    return Verdict(_good(verdict), verdict.reason)


def exchange(digest: bytes, session: bytes, seconds: int, served: Mapping[int, str], how: Mapping[str, Any], caller: Caller) -> Op[Verdict]:
    """Begin a session, known by the hash `session`, with a link, which is spent by it, or with a token. The sessions' rows."""
    verdict = yield from _look(digest, (TOKEN, LINK), served, None, None)
    good = _good(verdict)
    begun = [sql.CREATE(each.tenant, session, SESSION, each.name, each.read_only, each.uid, each.gid, each.path, each.id, seconds) for each in good]
    yield from run(*begun, *_used(verdict, how, caller))
    (rows,) = yield from finish(sql.FIND(session))
    return Verdict(_tokens(rows), verdict.reason)


def refuse(tenant: int, reason: str, how: Mapping[str, Any], caller: Caller) -> Op[None]:
    """Record that somebody was turned away from a tenant."""
    yield from finish(_refused(tenant, reason, how, caller))


def standing(idents: Sequence[int]) -> Op[set[int]]:
    """Those that still let in."""
    rows = yield from finish(sql.STANDING(list(idents)))
    return {ident for (ident,) in rows[0]}


def end(digest: bytes, caller: Caller) -> Op[None]:
    """End a session, as its holder wishes."""
    (rows,) = yield from run(sql.FIND(digest))
    sessions = [each for each in _tokens(rows) if each.kind == SESSION and each.state == "good"]
    records = (_record(each.tenant, "token_revoke", caller, {"token": each.id}) for each in sessions)
    yield from finish(*(sql.REVOKE(each.id) for each in sessions), *records)


def withdraw(digest: bytes, caller: Caller) -> Op[None]:
    """End a link, unless it was used."""
    (rows,) = yield from run(sql.WITHDRAW(digest))
    yield from finish(*(_record(tenant, "token_revoke", caller, {"token": each}) for each, tenant in rows))


def _look(digest: bytes, kinds: Collection[str], served: Mapping[int, str], tenant: str | None, part: bool | None) -> Op[Verdict]:
    """The rows of a secret, and why none is good."""
    (rows,) = yield from run(sql.FIND(digest))
    found = _tokens(rows)
    if not found:
        return Verdict([], "unknown")
    wanted = [each for each in found if each.tenant in served and tenant in (None, each.tenant_name)]
    if not wanted or all(each.kind not in kinds for each in wanted):
        return Verdict([], "kind" if wanted else "tenant")
    reason = "" if any(each.state == "good" for each in wanted) else wanted[0].state
    if not reason and part not in (None, any(each.path is not None for each in wanted)):
        reason = "path"
    return Verdict(wanted, reason)


def _good(verdict: Verdict) -> list[Token]:
    return [] if verdict.reason else [each for each in verdict.tokens if each.state == "good"]


def _used(verdict: Verdict, how: Mapping[str, Any], caller: Caller) -> list[Query]:
    good = _good(verdict)
    queries = [sql.USED([each.id for each in good])] if good else []
    for each in good:
        queries.append(_record(each.tenant, "token_use", caller, {"token": each.id, **how}))
    if not good:
        queries += [_refused(each.tenant, verdict.reason if each.state == "good" else each.state, {"token": each.id, **how}, caller) for each in verdict.tokens]
    return queries


def _refused(tenant: int, reason: str, how: Mapping[str, Any], caller: Caller) -> Query:
    return _record(tenant, "token_refused", caller, {"reason": reason, **how}, linux_errno(errno.EACCES))


def _record(tenant: int, operation: str, caller: Caller, metadata: Mapping[str, Any], result: int = 0) -> Query:
    return tree.AUDIT(tenant, _NO_LAYER, operation, None, None, caller.uid, caller.pid, result, 0, dict(metadata))


def _tokens(rows: Sequence[Row]) -> list[Token]:
    return [Token(*row) for row in rows]


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
