"""What strangers may cost a server, and what a holder of a token may: places, connections, memory, and words that others read."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.exceptions import InvalidStatus

from tarbox_browser import connections
from tests.browser.server import Server, serving
from tests.browser.verbs import Client
from tests.pg.cli import Tarbox, fresh
from tests.tenants import prepare

UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"


@pytest.fixture(scope="module")
def schema_url(pg_url_module: str) -> str:
    return prepare(pg_url_module)


@pytest.fixture(scope="module")
def tarbox(schema_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path_factory.mktemp("hostile")) as command:
        command("mkdir", "-p", "/a/b")
        yield command


@pytest.fixture(scope="module")
def server(tarbox: Tarbox) -> Iterator[Server]:
    with serving(tarbox, "--tenant", tarbox.tenant) as running:
        yield running
        assert running.end() == (0, "")


@pytest.fixture(scope="module")
def strict(tarbox: Tarbox) -> Iterator[Server]:
    """A server whose limits are soon met."""
    limits = """
from tarbox_browser import connections
from tarbox_worker import transfers
connections.AT_ONCE, connections.PATIENCE, transfers.NAMES_MAX = 5, 1.0, 25
"""
    with serving(tarbox, "--tenant", tarbox.tenant, env={"OTHERWISE": limits}) as running:
        yield running
        assert running.end() == (0, "")


@pytest.fixture(scope="module")
def secret(tarbox: Tarbox) -> str:
    shown: str = tarbox.json("token", "create", "--path", "/a/b")["token"]
    return shown


def saying(server: Server, *lines: str) -> socket.socket:
    """A connection on which a request was sent."""
    stream = socket.create_connection((server.host, server.port), 10)
    stream.sendall("\r\n".join([lines[0], f"Host: {server.host}:{server.port}", *lines[1:]]).encode("latin-1") + b"\r\n")
    return stream


@contextmanager
def upgraded(server: Server, tenant: str, secret: str) -> Iterator[socket.socket]:
    """A socket without a client behind it, which reads little."""
    with saying(server, f"GET /verbs/{tenant} HTTP/1.1", f"Authorization: Bearer {secret}", UPGRADE) as stream:
        assert stream.recv(12) == b"HTTP/1.1 101"
        yield stream


def frame(data: bytes, opcode: int, *, final: bool) -> bytes:
    """Masked with zeros."""
    assert len(data) < 126
    return bytes((final << 7 | opcode, 0x80 | len(data))) + bytes(4) + data


# --- strangers


def test_who_shows_nothing_good_takes_nobodys_place(server: Server, tarbox: Tarbox, secret: str) -> None:
    """However many wait to be refused."""
    over = threading.Event()
    waiting = [threading.Thread(target=_knock, args=(server, tarbox.tenant, over)) for _ in range(40)]
    for each in waiting:
        each.start()
    try:
        for _ in range(10):
            server.socket(tarbox.tenant, token=secret, door="verbs").close()
            time.sleep(0.05)
    finally:
        over.set()
        for each in waiting:
            each.join()


def _knock(server: Server, tenant: str, over: threading.Event) -> None:
    while not over.wait(0.2):
        with pytest.raises(InvalidStatus):
            server.socket(tenant, token="tbx_nothing")


@pytest.mark.parametrize("header", ["Origin: \x1b[31m", "X: " + "a" * 60_000, "Content-Length: 5"])
def test_a_handshake_that_cannot_be_read_is_ended(server: Server, tarbox: Tarbox, header: str) -> None:
    with saying(server, f"GET /verbs/{tarbox.tenant} HTTP/1.1", header, UPGRADE) as stream:
        answer = stream.recv(1 << 16)
        assert not answer.startswith(b"HTTP/1.1 101") and (not answer or stream.recv(1) == b"")


def test_a_request_that_does_not_come_ends_its_connection(strict: Server, tarbox: Tarbox, secret: str) -> None:
    """Also where its body does not, or the next one."""
    body = ["POST /login HTTP/1.1", f"Origin: {strict.origin}", "Content-Type: application/json", "Content-Length: 9", "", "{"]
    for lines in (["GET / HTTP/1.1"], body):
        with saying(strict, *lines) as stream:
            assert ended(stream) < 3
    with saying(strict, "GET / HTTP/1.1", "") as stream:
        assert stream.recv(12) == b"HTTP/1.1 200"
        stream.sendall(b"GET")
        assert ended(stream) < 3
    with Client(strict.socket(tarbox.tenant, token=secret, door="verbs")) as client:
        time.sleep(1.2)
        assert client.told("tenant")  # nothing more is waited for


def ended(stream: socket.socket) -> float:
    """Seconds until the server closes a connection."""
    began = time.monotonic()
    try:
        while stream.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


def test_as_many_connections_as_may_be(strict: Server) -> None:
    idle = [socket.create_connection((strict.host, strict.port), 10) for _ in range(5)]
    with socket.create_connection((strict.host, strict.port), 10) as further:
        assert ended(further) < 0.5
    for each in idle:
        assert ended(each) < 3
        each.close()
    assert strict.ask("GET", "/session").status == 200


def test_what_is_recorded_of_a_stranger_commands_no_terminal(server: Server, tarbox: Tarbox) -> None:
    with saying(server, "GET / HTTP/1.1", "Origin: \x1b]0;title\x07", "") as stream:
        assert stream.recv(12) == b"HTTP/1.1 403"
    assert "\\x1b]0;title\\x07" in [each["metadata"]["origin"] for each in tarbox.json("audit", "--operation", "token_refused", "--limit", "0")]
    assert b"\x1b" not in tarbox("audit", "--operation", "token_refused")


# --- holders of a token


@pytest.mark.parametrize("branch", ["%00", "main%00", "%FF", "no such"])
def test_a_branch_that_cannot_be(server: Server, tarbox: Tarbox, secret: str, branch: str) -> None:
    with pytest.raises(InvalidStatus) as raised:
        server.socket(tarbox.tenant, token=secret, door="verbs", query=f"?branch={branch.replace(' ', '+')}")
    assert raised.value.response.status_code == 404


def test_a_search_for_less_than_nothing(server: Server, tarbox: Tarbox, secret: str) -> None:
    tarbox("write", "/a/b/f", "x")
    with Client(server.socket(tarbox.tenant, token=secret, door="verbs")) as client:
        found = client.ask("search", path="/a/b", words="f", limit=-1)
        assert (found.result, found.events) == ({"complete": False}, [])


def test_a_message_of_too_many_fragments(server: Server, tarbox: Tarbox, secret: str) -> None:
    """Each of which has no bytes."""
    with upgraded(server, tarbox.tenant, secret) as stream:
        stream.sendall(frame(b"{", 1, final=False) + frame(b"", 0, final=False) * (connections.FRAGMENTS + 1))
        said = b""
        while data := stream.recv(1 << 16):
            said += data
        assert said.endswith(b"\x03\xf0a message of too many fragments")


def test_who_pings_and_does_not_read_fills_no_memory(server: Server, tarbox: Tarbox, secret: str) -> None:
    pings = frame(b"p" * 125, 9, final=True) * 5000
    with upgraded(server, tarbox.tenant, secret) as stream:
        before = server.memory()
        for _ in range(60):  # 38 MB
            stream.sendall(pings)
        assert server.memory() - before < 16 << 20
        stream.sendall(frame(b"last", 9, final=True))
        said = b""
        while b"last" not in said[-300:]:
            said += stream.recv(1 << 20)
        assert len(said) < 16 << 20


def test_an_archive_of_more_names_than_may_be(strict: Server, tarbox: Tarbox, secret: str) -> None:
    """Of a directory with many, and of one that is asked for many times."""
    tarbox("mkdir", "/a/b/two", "/a/b/two/one", "/a/b/two/other")
    with Client(strict.socket(tarbox.tenant, token=secret, door="verbs")) as client:
        assert client.ask("archive", paths=["/a/b/two"] * 8).data.startswith(b"PK")
        assert client.refused("archive", paths=["/a/b/two"] * 9) == "usage"
        assert client.refused("archive", paths=["/a/b/two/one"] * 26) == "usage"
