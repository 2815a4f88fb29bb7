"""`tarbox serve`: what it answers, what works over its sockets, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tarbox_browser import running
from tarbox_browser.assets import Assets
from tarbox_browser.feed import INODES_MAX, Ear
from tarbox_core import layer_statements as layers
from tarbox_core import statements as sql
from tarbox_core.control import ControlledFilesystem
from tarbox_core.drivers.presence import Changes
from tarbox_core.errors import TarboxError
from tarbox_core.session import lock_key
from tarbox_core.types import ROOT_INO
from tests.browser.server import Client, Server, command, environment, serving
from tests.gateway import Talker
from tests.pg.cli import Tarbox, fresh
from tests.tenants import ROOT, Session, prepare


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
        status, said = running.end()
        assert (status, said) == (0, "")


@pytest.fixture(scope="module")
def cookie(server: Server) -> str:
    return server.login()


@pytest.fixture
def client(server: Server, tarbox: Tarbox, cookie: str) -> Iterator[Client]:
    made = Client(server.socket(tarbox.tenant, cookie=cookie))
    yield made
    made.close()


def session_of(client: Client) -> Session:
    driver = client.driver()
    return Session(driver, ControlledFilesystem(driver.tenant, time.time_ns, enforce=False), ROOT)


# --- the page


def test_the_page_and_its_files(server: Server) -> None:
    for path in ("/", "/t/demo/some/where", "/t/a%20b/"):
        answer = server.ask("GET", path)
        assert (answer.status, answer.headers["content-type"], answer.headers["cache-control"]) == (200, "text/html; charset=utf-8", "no-cache")
        assert answer.body.startswith(b"<!doctype html>")
    script = server.ask("GET", "/assets/page-0123abcd.js")
    assert (script.headers["content-type"], script.headers["cache-control"]) == ("text/javascript; charset=utf-8", "public, max-age=31536000, immutable")
    assert server.ask("GET", "/manifest.json").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["worker-RJWU4BDW.js", "core-116b03ca916c.zip", "pyodide-c3b444b9d9e8/pyodide.asm.wasm", "assets/page.0123abcd.css"])
def test_a_name_with_a_hash_is_kept_for_ever(tmp_path: Path, name: str) -> None:
    assert kept(tmp_path, name) == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("name", ["licenses.txt", "third-licenses.txt", "python_stdlib.zip", "pyodide-lock.json", "page.js", "page-1234567.js"])
def test_a_name_without_one_is_asked_for_each_time(tmp_path: Path, name: str) -> None:
    assert kept(tmp_path, name) == "no-cache"


def kept(folder: Path, name: str) -> str:
    """How long a browser keeps a file of that name."""
    (folder / name).parent.mkdir(exist_ok=True)
    for each in (name, "index.html"):
        (folder / each).write_text("x")
    asset = Assets(folder).find(name)
    assert asset is not None
    return asset.headers["cache-control"]


@pytest.mark.parametrize(
    ("accepted", "coding", "body"),
    [("gzip, br", "br", b"as brotli"), ("gzip", "gzip", b"as gzip"), ("gzip, br;q=0", "gzip", b"as gzip"), ("deflate", None, b"export {}\n" * 100)],
)
def test_files_come_compressed_where_that_is_taken(server: Server, accepted: str, coding: str | None, body: bytes) -> None:
    answer = server.ask("GET", "/assets/page-0123abcd.js", Accept_Encoding=accepted)
    assert (answer.headers["content-encoding"], answer.body, answer.headers["vary"]) == (coding, body, "accept-encoding")
    again = server.ask("GET", "/assets/page-0123abcd.js", Accept_Encoding=accepted, If_None_Match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/../outside.txt", "/assets/../../outside.txt", "/%2e%2e/outside.txt", "//etc/passwd", "/raw/x", "/assets", "/assets/page-0123abcd.js.br"],
)
def test_nothing_else_is_there(server: Server, path: str) -> None:
    assert server.ask("GET", path).status == 404


def test_every_answer_bears_the_headers(server: Server) -> None:
    paths = ("/", "/assets/page-0123abcd.js", "/manifest.json", "/health", "/session", "/nothing")
    answers = [server.ask("GET", path) for path in paths] + [server.ask("GET", "/", Host="other"), server.ask("POST", "/login", b"{}")]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 200, 404, 403, 401]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';")
        assert "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
        assert "frame-ancestors 'none'" in policy and "base-uri 'none'" in policy and "form-action 'none'" in policy
        names = ("x-content-type-options", "referrer-policy", "cross-origin-opener-policy", "cross-origin-resource-policy")
        assert [answer.headers[name] for name in names] == ["nosniff", "no-referrer", "same-origin", "same-origin"]
        assert answer.headers["access-control-allow-origin"] is None and answer.headers["server"] is None


def test_health(server: Server) -> None:
    answer = server.ask("GET", "/health")
    assert answer.status == 200
    told = answer.json
    assert told.pop("version") and told == {"status": "ok", "database": True, "schema": 7}


# --- the gateway


def test_a_page_works_on_the_tenant(client: Client, tarbox: Tarbox) -> None:
    session = session_of(client)
    session.mkdir(b"/from-the-page")
    data = bytes(range(256)) * 4096
    session.write(b"/from-the-page/file", data)
    assert tarbox("cat", "/from-the-page/file") == data
    tarbox("write", "/from-the-page/other", "from outside")
    assert session.read(b"/from-the-page/other") == b"from outside"
    layer = session.run(lambda: session.fs.checkpoint(ROOT, "from-the-page"), durable=True)
    assert layer is not None and layer.name == "from-the-page"


def test_a_branch_is_chosen_in_the_address(server: Server, tarbox: Tarbox, cookie: str) -> None:
    tarbox("layer", "branch", "side")
    client = Client(server.socket(tarbox.tenant, cookie=cookie, query="?branch=side"))
    assert client.driver().tenant.head == "side"
    client.close()
    with pytest.raises(InvalidStatus) as raised:
        server.socket(tarbox.tenant, cookie=cookie, query="?branch=none")
    assert raised.value.response.status_code == 404


def test_transactions_go_on_beside_one_that_waits(client: Client) -> None:
    """The answer to a later request does not wait for that to an earlier one."""
    session, tenant = session_of(client), client.driver().tenant.id
    session.attr(b"/")
    holder, waiting = Talker(client.exchange, 1000), Talker(client.exchange, 2000)  # numbers that are nobody else's
    key = [lock_key(tenant, "T", 0)]
    holder.say(71, sql.LOCK([], key), layers.STANDING(tenant, "main"), begin=True)
    done = threading.Event()

    def wait() -> None:
        waiting.say(72, sql.LOCK(key, []), sql.HEAD(tenant, "main"), begin=True, commit=True)
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    assert session.attr(b"/").is_dir and not done.is_set()
    holder.say(71, sql.HEAD(tenant, "main"), commit=True)
    thread.join(10)
    assert done.is_set()


def test_who_goes_leaves_nothing_open(server: Server, tarbox: Tarbox, cookie: str) -> None:
    client = Client(server.socket(tarbox.tenant, cookie=cookie))
    tenant = client.driver().tenant.id
    Talker(client.exchange).say(1, sql.LOCK([], [lock_key(tenant, "T", 0)]), layers.STANDING(tenant, "main"), begin=True)
    client.close()
    began = time.monotonic()
    tarbox("mkdir", "/at-once")
    assert time.monotonic() - began < 3  # the limit of what stands still is 5 seconds


def test_a_text_message_ends_the_socket(client: Client) -> None:
    client.socket.send("hello")
    client.wait(lambda each: each.closed is not None)
    assert client.closed == (1003, "frames are binary messages")


def test_a_message_beyond_the_limit_ends_the_socket(client: Client) -> None:
    with suppress(ConnectionClosed):  # while it sends
        client.socket.send(bytes((8 << 20) + 1))
    client.wait(lambda each: each.closed is not None)
    assert client.closed is not None and client.closed[0] in (1009, 1006)  # the latter where its own bytes still come when it is closed


# --- what others change


def test_what_other_doors_change_is_told_and_not_ones_own(client: Client, server: Server, tarbox: Tarbox, cookie: str) -> None:
    second = Client(server.socket(tarbox.tenant, cookie=cookie))
    session = session_of(client)
    folder = session.mkdir(b"/told").ino
    second.wait(lambda each: any(ROOT_INO in told["inos"] for told in each.changed))
    tarbox("write", "/told/by-the-command", "x")
    for each in (client, second):
        each.wait(lambda each: any(folder in told["inos"] for told in each.changed))
    assert not any(told["moved"] for told in client.changed)
    tarbox("layer", "create", "told")
    for each in (client, second):
        each.wait(lambda each: any(told["moved"] for told in each.changed))
    before = len(client.changed)
    session.mkdir(b"/told/own")
    session.run(lambda: session.fs.checkpoint(ROOT, "own"), durable=True)
    second.wait(lambda each: sum(told["moved"] for told in each.changed) == 2)
    assert client.changed[before:] == []
    second.close()


def test_what_waits_for_a_slow_page_is_put_together_and_bounded() -> None:
    async def heard(*changes: Changes) -> Changes:
        ear = Ear(1)
        for each in changes:
            ear.hear(each)
        return await ear.changes()

    few = asyncio.run(heard(Changes(frozenset((1, 2))), Changes(frozenset((2, 3)), names=True), Changes(moved=True)))
    assert few == Changes(frozenset((1, 2, 3)), names=True, moved=True)
    many = asyncio.run(heard(*(Changes(frozenset(range(at, at + 1000))) for at in range(0, 6000, 1000))))
    assert many.lost and len(many.inos) <= INODES_MAX


# --- its life


def test_the_session_outlives_the_server(tarbox: Tarbox) -> None:
    with serving(tarbox, "--tenant", tarbox.tenant) as first:
        cookie, port = first.login(), first.port
        client = Client(first.socket(tarbox.tenant, cookie=cookie))
        session_of(client).mkdir(b"/before")
        assert first.end() == (0, "")
        client.wait(lambda each: each.closed is not None)
        assert client.closed is not None and client.closed[0] == 1012
        client.close()
    with serving(tarbox, "--tenant", tarbox.tenant, port=port) as second:
        client = Client(second.socket(tarbox.tenant, cookie=cookie))
        assert session_of(client).exists(b"/before")
        client.close()
        assert second.end(signal.SIGINT) == (0, "")


def test_it_listens_on_the_next_port_that_is_free(tarbox: Tarbox) -> None:
    with running.listening("127.0.0.1", None) as first, running.listening("127.0.0.1", None) as second:
        ports = [found.getsockname()[1] for found in (first, second)]
        assert running.PORT <= ports[0] < ports[1] < running.PORT + running.TRIED


def test_it_says_why_it_does_not_serve(tarbox: Tarbox, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(TarboxError, match=r"cannot listen on 127\.0\.0\.1, port \d+: address already in use; --port"):
            running.listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(TarboxError, match=r"cannot listen on 192\.0\.2\.1, port 7860 or the 19 after it: cannot assign .*; --host names"):
        running.listening("192.0.2.1", None)
    with pytest.raises(TarboxError, match="cannot listen on no-such-host"):
        running.listening("no-such-host.invalid", 0)
    with pytest.raises(TarboxError, match="is not built: run"):
        Assets(tmp_path)
    assert "no tenant named 'nobody'" in tarbox.fails("serve", "--tenant", "nobody")
    assert "70000" in tarbox.fails("serve", "--port", "70000", status=2)


@pytest.mark.parametrize(
    ("host", "key", "origins", "said"),
    [
        ("0.0.0.0", "", [], "can be reached from other machines: set TARBOX_TOKEN_SECRET"),
        ("192.0.2.1", "", ["https://files.example.org"], "can be reached from other machines"),
        ("0.0.0.0", "k" * 16, [], "say with --origin"),
        ("127.0.0.1", "short", [], "fewer than 16 characters"),
        ("127.0.0.1", "", ["files.example.org"], "is no origin"),
        ("127.0.0.1", "", ["https://files.example.org/path"], "is no origin"),
        ("127.0.0.1", "", ["https://*.example.org"], "is no origin"),
    ],
)
def test_it_listens_elsewhere_only_with_a_secret(tarbox: Tarbox, host: str, key: str, origins: list[str], said: str) -> None:
    words = ["serve", "--host", host, *(word for origin in origins for word in ("--origin", origin))]
    run = subprocess.run(command(tarbox, *words), env=environment(tarbox, {"TARBOX_TOKEN_SECRET": key}), capture_output=True, timeout=60, text=True)
    assert run.returncode == 1 and said in run.stderr and run.stderr.count("\n") == 1 and run.stdout == ""
