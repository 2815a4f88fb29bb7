"""`tarbox serve` where the database goes away, for several tenants, behind a proxy, and with a browser to open."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus

from tarbox_core.control import ControlledFilesystem
from tarbox_core.errors import ConnectError
from tests.browser.server import Client, serving
from tests.conftest import PgServer
from tests.pg.cli import Tarbox, fresh
from tests.pg.proxy import Proxy
from tests.tenants import ROOT, Session, prepare


@pytest.fixture(scope="module")
def schema_url(pg_url_module: str) -> str:
    return prepare(pg_url_module)


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        yield command


@pytest.fixture
def proxy(pg_server: PgServer) -> Iterator[Proxy]:
    made = Proxy(pg_server.socket)
    yield made
    made.cut()


def through(proxy: Proxy, tarbox: Tarbox) -> dict[str, str]:
    """The environment of a server whose connections go through the proxy."""
    database = urlsplit(tarbox.env["TARBOX_DATABASE_URL"]).path
    return {"TARBOX_DATABASE_URL": f"postgresql://tarbox@127.0.0.1:{proxy.port}{database}?sslmode=disable"}


def session_of(client: Client) -> Session:
    driver = client.driver()
    return Session(driver, ControlledFilesystem(driver.tenant, time.time_ns, enforce=False), ROOT)


def eventually(done: Callable[[], bool], timeout: float = 15) -> None:
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_connections_that_are_lost_are_told_and_made_anew(tarbox: Tarbox, proxy: Proxy) -> None:
    with serving(tarbox, "--tenant", tarbox.tenant, env=through(proxy, tarbox)) as server:
        client = Client(server.socket(tarbox.tenant, cookie=server.login()))
        session = session_of(client)
        session.mkdir(b"/before")
        proxy.cut()
        client.wait(lambda each: any(told["lost"] for told in each.changed))
        session.mkdir(b"/after")  # on another connection
        heard = len(client.changed)
        tarbox("mkdir", "/by-another")
        client.wait(lambda each: len(each.changed) > heard)
        assert session.exists(b"/by-another")
        client.close()


def test_without_a_database_it_says_so_and_comes_back(tarbox: Tarbox, pg_server: PgServer) -> None:
    with serving(tarbox, "--tenant", tarbox.tenant) as server:
        cookie = server.login()
        client = Client(server.socket(tarbox.tenant, cookie=cookie))
        session = session_of(client)
        assert session.names() == []
        with closed(pg_server, tarbox):
            answer = server.ask("GET", "/health")
            assert (answer.status, answer.json["status"], answer.json["database"]) == (503, "unavailable", False)
            assert server.ask("GET", "/").status == 200
            told = server.ask("GET", "/session", Cookie=cookie)
            assert (told.status, told.json) == (503, {"error": "unavailable"})
            with pytest.raises(InvalidStatus) as raised:
                server.socket(tarbox.tenant, cookie=cookie)
            assert raised.value.response.status_code == 503
            with pytest.raises(ConnectError, match="the gateway cannot connect to its database"):
                session.names()
        client.wait(lambda each: any(told["lost"] for told in each.changed))
        assert session.names() == [] and server.ask("GET", "/health").status == 200
        client.close()
        status, said = server.end()
        assert status == 0 and "Traceback" not in said and "not currently accepting connections" in said


def test_a_link_that_nobody_used_ends_with_the_server(tarbox: Tarbox, pg_server: PgServer) -> None:
    def good() -> set[int]:
        return {each["id"] for each in tarbox.json("token", "list") if each["kind"] == "link"}

    before = good()
    with serving(tarbox, "--tenant", tarbox.tenant) as server:
        assert len(good() - before) == 1
        server.end()
    assert good() == before
    with serving(tarbox, "--tenant", tarbox.tenant) as server, closed(pg_server, tarbox):
        status, said = server.end()
        assert status == 0 and "the link is still good" in said and "Traceback" not in said


@contextmanager
def closed(pg_server: PgServer, tarbox: Tarbox) -> Iterator[None]:
    """The database lets nobody in, and has thrown out who was there."""
    name = urlsplit(tarbox.env["TARBOX_DATABASE_URL"]).path[1:]
    superuser = pg_server.connect()
    try:
        superuser.run(f"alter database {name} allow_connections false")
        superuser.run("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = :name", name=name)
        yield
    finally:
        superuser.run(f"alter database {name} allow_connections true")
        superuser.close()


def test_one_link_for_several_tenants(tarbox: Tarbox, schema_url: str, tmp_path: Path) -> None:
    with fresh(schema_url, tmp_path) as other, fresh(schema_url, tmp_path) as third:
        with serving(tarbox, "--tenant", tarbox.tenant, "--tenant", other.tenant, "--read-only") as server:
            assert server.told["tenants"] == [tarbox.tenant, other.tenant]
            cookie = server.login()
            opened = server.ask("GET", "/session", Cookie=cookie).json["tenants"]
            assert [(each["name"], each["read_only"]) for each in opened] == sorted([(tarbox.tenant, True), (other.tenant, True)])
            for name in (tarbox.tenant, other.tenant):
                client = Client(server.socket(name, cookie=cookie))
                assert client.driver().tenant.name == name and client.driver().read_only
                client.close()
            with pytest.raises(InvalidStatus) as raised:
                server.socket(third.tenant, cookie=cookie)
            assert raised.value.response.status_code == 403
            assert third.json("audit", "--operation", "token_refused") == []  # it is not served here
            ids = [each["id"] for each in other.json("token", "list") if each["kind"] == "session"]
            other("token", "revoke", *map(str, ids))
            opened = server.ask("GET", "/session", Cookie=cookie).json["tenants"]
            assert [each["name"] for each in opened] == [tarbox.tenant]
            assert server.end() == (0, "")


def test_behind_a_proxy_that_speaks_tls(tarbox: Tarbox) -> None:
    with serving(tarbox, "--tenant", tarbox.tenant, "--origin", "HTTPS://Files.Example.org:443/") as server:
        assert server.told["origin"] == "https://files.example.org" and server.told["url"].startswith("https://files.example.org/#token=tbx_")
        server.host, server.port = server.told["host"], server.told["port"]
        answer = server.ask("POST", "/login", {"token": server.secret}, Host="files.example.org")
        assert answer.status == 200 and "secure" in answer.headers["set-cookie"].lower()
        cookie = answer.headers["set-cookie"].partition(";")[0]
        client = Client(server.socket(tarbox.tenant, cookie=cookie, host="files.example.org"))
        assert client.driver().tenant.name == tarbox.tenant
        client.close()
        assert server.ask("GET", "/", Host="files.example.org:443").status == 403


def test_a_branch_that_a_tenant_has_not_is_said_at_the_start(tarbox: Tarbox) -> None:
    assert f"tenant '{tarbox.tenant}' has no branch 'nope'" in tarbox.fails("serve", "--tenant", tarbox.tenant, "--branch", "nope")


def test_the_link_is_opened_in_a_browser(tarbox: Tarbox, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    script = f"import sys; open({str(opened)!r}, 'w').write(sys.argv[1])"
    with serving(tarbox, "--tenant", tarbox.tenant, "--open", env={"BROWSER": f"{sys.executable} -c {shlex.quote(script)} %s"}) as server:
        eventually(lambda: opened.exists() and opened.read_text() == server.told["url"])


def test_whoever_moves_a_head_need_not_wait_for_pages(tarbox: Tarbox) -> None:
    with serving(tarbox, "--tenant", tarbox.tenant) as server:
        cookie = server.login()
        clients = [Client(server.socket(tarbox.tenant, cookie=cookie)) for _ in range(3)]
        session = session_of(clients[0])
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                session.mkdir(b"/%d" % number)

        writing = threading.Thread(target=write)
        writing.start()
        try:
            began = time.monotonic()
            for name in ("one", "two", "three"):
                tarbox("layer", "create", name)
            assert time.monotonic() - began < 10
        finally:
            stop.set()
            writing.join()
        for client in clients:
            client.close()
