"""Tokens against a database: what opens what until when, and that each use and each refusal is in the tenant's audit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tarbox_core import tenant as tenants
from tarbox_core import tokens
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.errors import SqlError, TokenError
from tarbox_core.tokens import LINK, SESSION, TOKEN, Verdict, hashed
from tarbox_core.types import Caller
from tests.conftest import PgServer
from tests.tenants import Tenant

ME = Caller(1000, 100, (), 4321)
HOUR = 3600
HOW = {"door": "test", "origin": None}


def of(tenant: Tenant, shown: str) -> bytes:
    """The hash of a secret of this test's own: the tests share a database."""
    return hashed(f"{tenant.info.name} {shown}")


def make(tenant: Tenant, shown: str, *, seconds: int = HOUR, **more: Any) -> int:
    (new,) = tenant.owner.run(lambda: tokens.create([tenant.info], of(tenant, shown), seconds=seconds, caller=ME, **more))
    assert new.tenant == tenant.info.name
    return new.id


def use(
    tenant: Tenant, shown: str, kinds: tuple[str, ...] = (TOKEN, SESSION), *, named: str | None = None, served: dict[int, str] | None = None,
    part: bool | None = None,
) -> Verdict:
    known = {tenant.info.id: tenant.info.name} if served is None else served
    return tenant.owner.run(lambda: tokens.use(of(tenant, shown), kinds, known, named, HOW, ME, part=part))


def exchange(tenant: Tenant, shown: str, session: str, *, seconds: int = HOUR) -> Verdict:
    known = {tenant.info.id: tenant.info.name}
    return tenant.owner.run(lambda: tokens.exchange(of(tenant, shown), of(tenant, session), seconds, known, HOW, ME))


@pytest.fixture
def audit(pg_server: PgServer, tenant: Tenant) -> Callable[[], list[tuple[Any, ...]]]:
    """The records of tokens in the tenant's trail: operation, uid, pid, result, metadata."""

    def read() -> list[tuple[Any, ...]]:
        superuser = pg_server.connect(urlsplit(tenant.url).path[1:])
        try:
            rows = superuser.run(
                "select operation, uid, pid, result, metadata from audit_logs where tenant = :t and operation like 'token%' order by id", t=tenant.info.id
            )
        finally:
            superuser.close()
        return [tuple(row) for row in rows]

    return read


def expire(tenant: Tenant, ident: int) -> None:
    tenant.owner.script(f"update token set expires_at = now() - interval '1 second' where id = {ident}")


def test_secrets_are_long_and_their_hashes_depend_on_the_key() -> None:
    shown = tokens.secret(bytes(range(32)))
    assert shown.startswith("tbx_") and len(shown) == 4 + 43
    assert len(hashed(shown)) == 32
    assert len({hashed(shown), hashed(shown, "a"), hashed(shown, "b"), hashed(shown[:-1])}) == 4
    with pytest.raises(ValueError):
        tokens.secret(b"short")


def test_a_token_opens_its_tenant_and_each_use_is_recorded(tenant: Tenant, audit: Callable[[], list[tuple[Any, ...]]]) -> None:
    ident = make(tenant, "s", name="ci", read_only=True)
    (opened,) = use(tenant, "s").tokens
    assert (opened.id, opened.tenant_name, opened.kind, opened.name, opened.read_only, opened.uid, opened.gid) == (
        ident, tenant.info.name, TOKEN, "ci", True, 1000, 100,
    )  # fmt: skip
    assert opened.used_at is None and HOUR * 10**9 - 10**9 < opened.expires_at - opened.created_at <= HOUR * 10**9
    assert use(tenant, "s").tokens[0].used_at is not None
    used = ("token_use", 1000, 4321, 0, {"token": ident, **HOW})
    assert audit() == [("token_create", 1000, 4321, 0, {"token": ident, "kind": "token", "name": "ci", "read_only": True}), used, used]


def test_the_secret_is_nowhere_in_the_database(tenant: Tenant, pg_server: PgServer) -> None:
    shown = tokens.secret(bytes(range(32)))
    tenant.owner.run(lambda: tokens.create([tenant.info], hashed(shown), seconds=HOUR, caller=ME))
    assert tenant.owner.run(lambda: tokens.use(hashed(shown), (TOKEN,), {tenant.info.id: tenant.info.name}, None, HOW, ME)).tokens
    superuser = pg_server.connect(urlsplit(tenant.url).path[1:])
    try:
        for table in ("token", "audit_logs"):
            assert superuser.run(f"select count(*) from {table} t where t::text like '%' || :s || '%'", s=shown[4:20]) == [[0]]
    finally:
        superuser.close()


@pytest.mark.parametrize("ends", ["expired", "revoked"])
def test_what_has_ended_is_refused_and_that_is_recorded(tenant: Tenant, audit: Callable[[], list[tuple[Any, ...]]], ends: str) -> None:
    ident = make(tenant, "s")
    if ends == "expired":
        expire(tenant, ident)
    else:
        assert tenant.owner.run(lambda: tokens.revoke(ident, ME)) == [ident]
    assert use(tenant, "s") == ([], ends)
    assert audit()[-1] == ("token_refused", 1000, 4321, 13, {"reason": ends, "token": ident, **HOW})
    assert tenant.owner.run(lambda: tokens.standing([ident])) == set()


def test_a_link_is_good_for_one_session(tenant: Tenant, audit: Callable[[], list[tuple[Any, ...]]]) -> None:
    link = make(tenant, "l", kind=LINK, seconds=60)
    assert use(tenant, "l") == ([], "kind")  # no link opens anything but a session
    (session,) = exchange(tenant, "l", "s").tokens
    assert (session.kind, session.parent, session.state) == (SESSION, link, "good")
    assert session.expires_at - session.created_at > (HOUR - 1) * 10**9  # longer than the link
    assert exchange(tenant, "l", "other") == ([], "spent")
    assert use(tenant, "other") == ([], "unknown")
    assert [token.id for token in use(tenant, "s").tokens] == [session.id]
    assert [record[0] for record in audit()] == ["token_create", "token_use", "token_refused", "token_use"]
    assert audit()[2][4]["reason"] == "spent"


def test_of_many_who_come_with_one_link_at_once_one_is_let_in(tenant: Tenant) -> None:
    make(tenant, "l", kind=LINK)
    told: list[Verdict] = []
    known = {tenant.info.id: tenant.info.name}

    def come(number: int) -> None:
        with SyncDriver(tenant.url, pool_size=1) as owner:
            told.append(owner.run(lambda: tokens.exchange(of(tenant, "l"), of(tenant, f"s{number}"), HOUR, known, HOW, ME)))

    threads = [threading.Thread(target=come, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((len(verdict.tokens), verdict.reason) for verdict in told) == [(0, "spent")] * 5 + [(1, "")]


def test_a_session_ends_with_its_token(tenant: Tenant) -> None:
    ident = make(tenant, "t", seconds=60)
    (session,) = exchange(tenant, "t", "s").tokens
    assert session.expires_at == next(each.expires_at for each in tenant.owner.run(tokens.listing) if each.id == ident)
    assert exchange(tenant, "s", "again") == ([], "kind")  # a session makes no sessions
    assert tenant.owner.run(lambda: tokens.revoke(ident, ME)) == [ident, session.id]
    assert use(tenant, "s") == ([], "revoked")


def test_who_leaves_ends_the_session_and_not_the_token(tenant: Tenant) -> None:
    make(tenant, "t")
    exchange(tenant, "t", "s")
    tenant.owner.run(lambda: tokens.end(of(tenant, "t"), ME))  # no session
    tenant.owner.run(lambda: tokens.end(of(tenant, "s"), ME))
    assert use(tenant, "s").reason == "revoked"
    assert use(tenant, "t").tokens


def test_a_secret_opens_its_own_tenants_only(make_tenant: Callable[..., Tenant]) -> None:
    one, two, three = make_tenant(), make_tenant(), make_tenant()
    infos = [one.info, two.info]
    one.owner.run(lambda: tokens.create(infos, of(one, "both"), seconds=HOUR, caller=ME))
    served = {each.info.id: each.info.name for each in (one, two, three)}
    assert {token.tenant_name for token in use(one, "both", served=served).tokens} == {one.info.name, two.info.name}
    assert [token.tenant for token in use(one, "both", served=served, named=two.info.name).tokens] == [two.info.id]
    assert use(one, "both", served=served, named=three.info.name) == ([], "tenant")
    assert use(one, "both", served={three.info.id: three.info.name}) == ([], "tenant")
    ids = {token.tenant: token.id for token in one.owner.run(tokens.listing) if token.state == "good"}
    one.owner.run(lambda: tokens.revoke(ids[one.info.id], ME))
    assert [token.tenant for token in use(one, "both", served=served).tokens] == [two.info.id]
    one.owner.run(lambda: tenants.delete(two.info.name))
    two.damaged = True  # there is nothing left to check
    assert use(one, "both", served=served) == ([], "revoked")


def test_a_token_for_a_path(tenant: Tenant, audit: Callable[[], list[tuple[Any, ...]]]) -> None:
    ident = make(tenant, "part", path=b"/a/b\xff")
    make(tenant, "whole")
    assert audit()[0][4] == {"token": ident, "kind": "token", "name": "", "read_only": False, "path": "/a/b\\xff"}
    (opened,) = use(tenant, "part", part=True).tokens
    assert (opened.path, opened.scope) == (b"/a/b\xff", (b"a", b"b\xff"))
    (opened,) = use(tenant, "whole", part=False).tokens
    assert (opened.path, opened.scope) == (None, ())
    (session,) = exchange(tenant, "part", "session").tokens
    assert session.path == b"/a/b\xff" and use(tenant, "session", part=True).tokens[0].scope == (b"a", b"b\xff")
    before = len(audit())
    for shown, part in (("part", False), ("session", False), ("whole", True)):
        assert use(tenant, shown, part=part) == ([], "path")
    assert [(record[0], record[3], record[4]["reason"]) for record in audit()[before:]] == [("token_refused", 13, "path")] * 3
    assert audit()[before][4]["token"] == ident
    assert use(tenant, "part").tokens and use(tenant, "whole").tokens
    for path in (b"", b"/", b"a", b"/a/", b"//a", b"/a/../b", b"/./a", b"/.."):
        with pytest.raises(TokenError, match="from the root"):
            make(tenant, "s", path=path)


def test_what_cannot_be_is_refused(tenant: Tenant) -> None:
    for seconds in (0, tokens.TTL_MAX + 1):
        with pytest.raises(TokenError, match="lasts"):
            make(tenant, "s", seconds=seconds)
    with pytest.raises(TokenError, match="name"):
        make(tenant, "s", name="a\nb")
    with pytest.raises(TokenError, match="no token has the id 0"):
        tenant.owner.run(lambda: tokens.revoke(0, ME))


def test_a_tenants_role_sees_no_token_and_makes_none(tenant: Tenant) -> None:
    make(tenant, "s")
    with SyncDriver(tenant.url, tenant.info.role, pool_size=1) as driver:
        for attempt in (tokens.listing, lambda: tokens.create([tenant.info], hashed("x"), seconds=HOUR, caller=ME), lambda: tokens.standing([1])):
            with pytest.raises(SqlError) as raised:
                driver.run(attempt)
            assert raised.value.sqlstate == "42501"


def test_what_ended_long_ago_is_forgotten(tenant: Tenant) -> None:
    old = make(tenant, "old")
    tenant.owner.script(f"update token set expires_at = now() - interval '91 days' where id = {old}")
    new = make(tenant, "new")
    assert [token.id for token in tenant.owner.run(lambda: tokens.listing(tenant.info.id))] == [new]
