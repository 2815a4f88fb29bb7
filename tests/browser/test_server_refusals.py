"""Whom `tarbox serve` turns away, and that the tenant's audit tells of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from tarbox_browser import desk as desks
from tarbox_browser.desk import Desk, House
from tarbox_browser.guard import Names
from tarbox_core import frames, tenant
from tarbox_core import layer_statements as layers
from tarbox_core import statements as sql
from tarbox_core.control import ControlledFilesystem
from tarbox_core.drivers.dsn import parse_url
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.effects import Statement, one
from tarbox_core.errors import FsError, GatewayError
from tarbox_core.session import lock_key
from tests.browser.server import Client, Server, serving
from tests.gateway import Talker
from tests.pg.cli import Tarbox, fresh
from tests.tenants import ROOT, Session, prepare

EVIL = "http://evil.example"


@pytest.fixture(scope="module")
def schema_url(pg_url_module: str) -> str:
    return prepare(pg_url_module)


@pytest.fixture(scope="module")
def tarbox(schema_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path_factory.mktemp("server")) as command:
        yield command


@pytest.fixture(scope="module")
def server(tarbox: Tarbox) -> Iterator[Server]:
    with serving(tarbox, "--tenant", tarbox.tenant) as running:
        yield running
        assert running.end() == (0, "")


@pytest.fixture(scope="module")
def cookie(server: Server) -> str:
    return server.login()


@pytest.fixture
def refused(tarbox: Tarbox) -> Callable[[], list[dict[str, Any]]]:
    """What the audit tells of refusals since the test began; at least one is waited for."""

    def read() -> list[dict[str, Any]]:
        records = tarbox.json("audit", "--operation", "token_refused", "--limit", "0")
        assert all(record["result"] == 13 for record in records)
        return [record["metadata"] for record in records]

    before = len(read())
    return lambda: read()[before:]


def token(tarbox: Tarbox, *words: str) -> tuple[int, str]:
    made = tarbox.json("token", "create", *words)
    return made["id"], made["token"]


def status_of(opening: Callable[[], object]) -> int:
    with pytest.raises(InvalidStatus) as raised:
        opening()
    return raised.value.response.status_code


# --- hosts and origins


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", ""])
def test_a_wrong_host(server: Server, tarbox: Tarbox, cookie: str, refused: Callable[[], list[dict[str, Any]]], host: str) -> None:
    """As a name that somebody has lead here (DNS rebinding)."""
    assert server.ask("GET", "/", Host=host).status == 403
    assert server.ask("GET", "/session", Host=host, Cookie=cookie).status == 403
    assert [(record["reason"], record["host"]) for record in refused()] == [("host", host)] * 2
    if host:
        assert status_of(lambda: server.socket(tarbox.tenant, cookie=cookie, host=host)) == 403
        assert refused()[-1]["reason"] == "host"


@pytest.mark.parametrize("origin", [EVIL, "null", "https://127.0.0.1:{port}", "http://127.0.0.1", "http://127.0.0.1:1", "http://127.0.0.1:{port}.evil.example"])
def test_another_origin(server: Server, tarbox: Tarbox, cookie: str, refused: Callable[[], list[dict[str, Any]]], origin: str) -> None:
    """A page of another origin, whose browser would send the cookie along."""
    named = origin.replace("{port}", str(server.port))
    assert status_of(lambda: server.socket(tarbox.tenant, cookie=cookie, origin=named)) == 403
    assert server.ask("POST", "/login", {"token": server.secret}, Origin=named).status == 403
    assert server.ask("GET", "/session", Origin=named, Cookie=cookie).status == 403
    told = refused()
    assert [(record["reason"], record["origin"], record["door"], record["peer"]) for record in told] == [("origin", named, "browser", "127.0.0.1")] * 3


def test_a_cookie_without_an_origin(server: Server, tarbox: Tarbox, cookie: str, refused: Callable[[], list[dict[str, Any]]]) -> None:
    assert status_of(lambda: server.socket(tarbox.tenant, cookie=cookie, origin=None)) == 403
    assert server.ask("POST", "/logout", {}, Origin=None, Cookie=cookie).status == 403
    assert [record["reason"] for record in refused()] == ["origin", "origin"]
    assert server.ask("GET", "/session", Cookie=cookie).status == 200


def test_a_page_beside_this_one(server: Server, cookie: str, refused: Callable[[], list[dict[str, Any]]]) -> None:
    """Of another port: the same site, whose requests bear the cookie."""
    for site in ("same-site", "cross-site"):
        assert server.ask("GET", "/session", Cookie=cookie, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors").status == 403
    assert [record["reason"] for record in refused()] == ["origin", "origin"]
    assert server.ask("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200  # somebody follows a link


def test_names_under_which_a_server_is_known() -> None:
    names = Names.of("https://files.example.org", "http://127.0.0.1:7860")
    assert names.hosts == {"files.example.org", "127.0.0.1:7860"}


# --- secrets


def test_without_a_token(server: Server, tarbox: Tarbox, refused: Callable[[], list[dict[str, Any]]]) -> None:
    assert status_of(lambda: server.socket(tarbox.tenant)) == 401
    assert [record["reason"] for record in refused()] == ["missing"]
    assert server.ask("GET", "/session").json == {"tenants": []}  # only asks whether there is one
    for body in (b"", b"{", b"[]", b'{"token": 7}', b"[" * 4000):
        assert server.ask("POST", "/login", body).status == 401
    assert server.ask("POST", "/login", b" " * 5000).status == 413
    assert server.ask("POST", "/login", {"token": server.secret}, Content_Type="text/plain").status == 415


def test_as_many_sockets_as_may_be(tarbox: Tarbox, schema_url: str) -> None:
    """Of a token and its sessions together, and of all; whoever asks nothing has no connection to the database."""
    backends = Statement("backends", "select count(*) from pg_stat_activity where datname = current_database()", (), ("int8",), tenant=False)
    with ExitStack() as stack:
        server = stack.enter_context(serving(tarbox, "--tenant", tarbox.tenant))
        observer = stack.enter_context(SyncDriver(schema_url, pool_size=1))
        secrets = [token(tarbox)[1] for _ in range(3)]
        sockets: list[ClientConnection] = []
        stack.callback(lambda: [socket.close() for socket in sockets])

        def opened(**shown: str) -> bool:
            try:
                sockets.append(server.socket(tarbox.tenant, **shown))
            except InvalidStatus as refused:
                assert refused.response.status_code == 503 and refused.response.body == b'{"error":"busy"}'
                return False
            return True

        assert opened(token=secrets[0])
        before = observer.run(lambda: one(backends()))[0]
        session = server.login(secrets[0])
        assert [opened(token=secrets[0]) for _ in range(4)] == [True] * 4
        assert [opened(cookie=session) for _ in range(4)] == [True, True, True, False]
        assert not opened(token=secrets[0])
        assert observer.run(lambda: one(backends()))[0] <= before + 3  # of the desk, which admits
        assert [opened(token=secrets[1]) for _ in range(9)] == [True] * 8 + [False]
        assert [opened(token=secrets[2]) for _ in range(5)] == [True] * 4 + [False]
        sockets.pop(0).close()
        deadline = time.monotonic() + 10
        while not opened(token=secrets[0]):
            assert time.monotonic() < deadline


def test_a_token_that_nobody_made(server: Server, tarbox: Tarbox, refused: Callable[[], list[dict[str, Any]]]) -> None:
    assert status_of(lambda: server.socket(tarbox.tenant, token="tbx_" + "A" * 43)) == 401
    assert status_of(lambda: server.socket(tarbox.tenant, cookie=f"tarbox_{server.port}=tbx_nothing")) == 401
    assert server.ask("POST", "/login", {"token": "\ud800"}).status == 401
    assert [record["reason"] for record in refused()] == ["unknown"] * 3


def test_a_revoked_token(server: Server, tarbox: Tarbox, refused: Callable[[], list[dict[str, Any]]]) -> None:
    """What is open is closed within seconds, and nothing opens any more."""
    ident, shown = token(tarbox)
    session = server.login(shown)
    client, page = Client(server.socket(tarbox.tenant, token=shown)), Client(server.socket(tarbox.tenant, cookie=session))
    assert client.driver().tenant.name == tarbox.tenant
    tarbox("token", "revoke", str(ident))
    for each in (client, page):
        each.wait(lambda each: each.closed is not None, 15)
        assert each.closed == (4401, "revoked")
        each.close()
    assert status_of(lambda: server.socket(tarbox.tenant, token=shown)) == 401
    assert status_of(lambda: server.socket(tarbox.tenant, cookie=session)) == 401
    assert server.ask("POST", "/login", {"token": shown}).status == 401
    assert server.ask("GET", "/session", Cookie=session).json == {"error": "revoked"}
    told = refused()
    assert [record["reason"] for record in told] == ["revoked"] * 4 and told[0]["token"] == ident


def test_an_expired_token(server: Server, tarbox: Tarbox, refused: Callable[[], list[dict[str, Any]]]) -> None:
    ident, shown = token(tarbox, "--ttl", "3s")
    client = Client(server.socket(tarbox.tenant, token=shown))
    client.wait(lambda each: each.closed is not None)
    assert client.closed == (4401, "expired")
    client.close()
    time.sleep(0.1)  # clocks of the server and the database
    assert status_of(lambda: server.socket(tarbox.tenant, token=shown)) == 401
    assert [(record["reason"], record["token"]) for record in refused()] == [("expired", ident)]


def test_a_link_that_was_used(tarbox: Tarbox, refused: Callable[[], list[dict[str, Any]]]) -> None:
    with serving(tarbox, "--tenant", tarbox.tenant) as server:
        first = server.login()
        again = server.ask("POST", "/login", {"token": server.secret})
        assert (again.status, again.json, again.headers["set-cookie"]) == (401, {"error": "spent"}, None)
        assert status_of(lambda: server.socket(tarbox.tenant, token=server.secret)) == 401  # and is no token
        assert [record["reason"] for record in refused()] == ["spent", "kind"]
        assert server.ask("GET", "/session", Cookie=first).json["tenants"][0]["name"] == tarbox.tenant


def test_a_session_is_no_token_and_ends(server: Server, tarbox: Tarbox, refused: Callable[[], list[dict[str, Any]]]) -> None:
    _, shown = token(tarbox)
    answer = server.ask("POST", "/login", {"token": shown})
    parts = [part.strip() for part in answer.headers["set-cookie"].lower().split(";")]
    assert {"httponly", "samesite=strict", "path=/"} <= set(parts) and "secure" not in parts
    session = answer.headers["set-cookie"].partition(";")[0]
    secret = session.partition("=")[2]
    assert status_of(lambda: server.socket(tarbox.tenant, token=secret)) == 401
    assert status_of(lambda: server.socket(tarbox.tenant, cookie=f"tarbox_{server.port}={shown}")) == 401
    assert server.ask("POST", "/login", {"token": secret}).status == 401
    assert server.ask("POST", "/logout", {}, Cookie=session).status == 204
    assert server.ask("GET", "/session", Cookie=session).json == {"error": "revoked"}
    assert [record["reason"] for record in refused()] == ["kind"] * 3 + ["revoked"]


def test_a_token_of_another_tenant(server: Server, tarbox: Tarbox, schema_url: str, refused: Callable[[], list[dict[str, Any]]]) -> None:
    with fresh(schema_url, tarbox.folder) as other:
        _, foreign = token(other)
        _, own = token(tarbox)
        assert status_of(lambda: server.socket(tarbox.tenant, token=foreign)) == 403
        assert status_of(lambda: server.socket(other.tenant, token=foreign)) == 403  # which is not served here
        assert status_of(lambda: server.socket("nobody", token=own)) == 403
        assert server.ask("POST", "/login", {"token": foreign}).status == 403
        assert [record["reason"] for record in refused()] == ["tenant"] * 4


def test_a_read_only_token(server: Server, tarbox: Tarbox, refused: Callable[[], list[dict[str, Any]]]) -> None:
    tarbox("write", "/kept", "as it was")
    ident, shown = token(tarbox, "--read-only")
    client = Client(server.socket(tarbox.tenant, token=shown))
    driver = client.driver()
    assert driver.read_only
    session = Session(driver, ControlledFilesystem(driver.tenant, time.time_ns, enforce=False, read_only=True), ROOT)
    assert session.read(b"/kept") == b"as it was"
    with pytest.raises(FsError):
        session.unlink(b"/kept")
    assert refused() == []
    liar = Session(driver, ControlledFilesystem(driver.tenant, time.time_ns, enforce=False), ROOT)
    for verb in (lambda: liar.unlink(b"/kept"), lambda: liar.mkdir(b"/new"), lambda: liar.run(lambda: liar.fs.checkpoint(ROOT, "no"))):
        with pytest.raises(GatewayError) as raised:
            verb()
        assert raised.value.code == "not-allowed"
    client.close()
    told = refused()
    assert len(told) == 3 and all(record["reason"].startswith("not-allowed: statement ") and record["token"] == ident for record in told)
    assert tarbox("cat", "/kept") == b"as it was" and b"new" not in tarbox.names()


def test_each_use_is_in_the_audit_under_its_makers_name(server: Server, tarbox: Tarbox) -> None:
    ident, shown = token(tarbox, "--name", "ci")
    client = Client(server.socket(tarbox.tenant, token=shown))
    driver = client.driver()
    Session(driver, ControlledFilesystem(driver.tenant, time.time_ns, enforce=False), ROOT).mkdir(b"/by-token")
    client.close()
    server.login(shown)
    used = [each["metadata"] for each in tarbox.json("audit", "--operation", "token_use", "--limit", "0") if each["metadata"]["token"] == ident]
    usual = {"token": ident, "door": "browser", "host": f"127.0.0.1:{server.port}", "peer": "127.0.0.1"}
    assert used == [usual | {"origin": None}, usual | {"origin": server.origin}]
    assert f"token {ident}, {server.origin}, 127.0.0.1" in tarbox("audit", "--operation", "token_use").decode()
    (made,) = tarbox.json("audit", "--operation", "mkdir", "--path", "/by-token")
    assert made["uid"] == tarbox.json("token", "list", "--all")[-1]["uid"]


def test_tokens_on_the_command_line(tarbox: Tarbox) -> None:
    ident, shown = token(tarbox, "--ttl", "8h", "--name", "for the night")
    plain = tarbox("token", "create").decode().strip()
    assert plain.startswith("tbx_") and plain != shown
    (listed,) = [each for each in tarbox.json("token", "list") if each["id"] == ident]
    assert (listed["name"], listed["kind"], listed["state"], listed["read_only"], listed["used_at"]) == ("for the night", "token", "good", False, None)
    assert b"for the night" in tarbox("token", "list") and shown.encode() not in tarbox("token", "list", "--all", "--json")
    assert tarbox("token", "revoke", str(ident)) == f"revoked: {ident}\n".encode()
    assert ident not in [each["id"] for each in tarbox.json("token", "list")]
    assert ident in [each["id"] for each in tarbox.json("token", "list", "--all")]
    assert "no token has the id 999999" in tarbox.fails("token", "revoke", "999999")
    assert "lasts from a second to 366 days" in tarbox.fails("token", "create", "--ttl", "400d")


def test_a_servers_secret_is_part_of_what_is_stored(tarbox: Tarbox, server: Server) -> None:
    """Neither a token made without it nor a row that somebody writes into the database opens such a server."""
    key = {"TARBOX_TOKEN_SECRET": "a long random text"}
    _, without = token(tarbox)
    status, out, _ = tarbox.here("token", "create", env=key)
    assert status == 0
    with_it = out.decode().strip()
    with serving(tarbox, "--tenant", tarbox.tenant, env=key) as keyed:
        client = Client(keyed.socket(tarbox.tenant, token=with_it))
        assert client.driver().tenant.name == tarbox.tenant
        client.close()
        assert status_of(lambda: keyed.socket(tarbox.tenant, token=without)) == 401
    assert status_of(lambda: server.socket(tarbox.tenant, token=with_it)) == 401
    assert b"a long random text" not in tarbox.here("config", "show", env=key)[1]
    assert b"***" in tarbox.here("config", "show", env=key)[1]


# --- liars beside the honest


def test_a_lying_client_leaves_the_others_unharmed(server: Server, tarbox: Tarbox, cookie: str, refused: Callable[[], list[dict[str, Any]]]) -> None:
    honest = Client(server.socket(tarbox.tenant, cookie=cookie))
    driver = honest.driver()
    session = Session(driver, ControlledFilesystem(driver.tenant, time.time_ns, enforce=False), ROOT)
    liar = Client(server.socket(tarbox.tenant, cookie=cookie))
    other = driver.tenant.id + 1
    talker = Talker(liar.exchange)
    with pytest.raises(GatewayError) as raised:
        talker.say(1, sql.LOCK([], [lock_key(other, "T", 0)]), begin=True)
    assert raised.value.code == "foreign"
    with pytest.raises(GatewayError):
        talker.say(2, sql.TENANT_LIST(), begin=True)
    assert [record["reason"].partition(":")[0] for record in refused()] == ["foreign", "not-allowed"]
    for junk in (b"", b"\0", bytes(64), b"\xff" * 1000, bytes(8 << 20)):
        liar.socket.send(junk)
    for number in range(10, 30):  # more than it may have open, and never an end
        liar.socket.send(frames.batch(number, number, [sql.HEAD(other - 1, "main")], begin=True, commit=False, durable=False))
    session.mkdir(b"/honest")
    session.write(b"/honest/file", b"x" * 200_000)
    assert session.read(b"/honest/file") == b"x" * 200_000
    threading.Thread(target=liar.close, daemon=True).start()
    session.run(lambda: session.fs.checkpoint(ROOT, "honest"), durable=True)
    honest.close()


def test_one_who_locks_and_does_not_let_go_is_ended(server: Server, tarbox: Tarbox, cookie: str) -> None:
    liar = Client(server.socket(tarbox.tenant, cookie=cookie))
    ident = liar.driver().tenant.id
    Talker(liar.exchange).say(1, sql.LOCK([], [lock_key(ident, "T", 0)]), layers.STANDING(ident, "main"), begin=True)
    began = time.monotonic()
    tarbox("mkdir", "/after-the-lock")
    assert time.monotonic() - began < 10
    liar.close()


def test_who_shows_nothing_fills_no_trail(
    tarbox: Tarbox, schema_url: str, refused: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "RECORDS_A_MINUTE", 5)
    with SyncDriver(schema_url, pool_size=1) as owner:
        info = owner.run(lambda: tenant.info(tarbox.tenant))
    desk = Desk(House(parse_url(schema_url), (info,), ROOT))
    try:
        for _ in range(8):
            desk.refuse(None, "no\0thing\ud800", {})
    finally:
        desk.close()
    assert [record["reason"] for record in refused()] == ["no?thing?"] * 5
