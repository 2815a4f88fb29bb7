"""The door of verbs on real sockets: requests that are cancelled or lost, clients that do not read, and what no client of ours says."""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.browser.scoped import Part, enter, scratch
from tests.browser.server import Server, serving
from tests.browser.verbs import Client
from tests.pg.cli import Tarbox

PIECE = 4 << 20


@pytest.fixture(scope="module")
def tarbox(part: Part) -> Tarbox:
    return part.tarbox


@pytest.fixture(scope="module")
def server(part: Part) -> Server:
    return part.server


@pytest.fixture
def client(part: Part) -> Iterator[Client]:
    with part.enter() as made:
        yield made


# --- cancelled, lost, and slow


def test_a_cancelled_upload_leaves_nothing(client: Client, tarbox: Tarbox) -> None:
    client.stop = 1
    number = client.begin("upload", bytes(3 * PIECE), path="/a/b/never")
    client.wait(lambda: len(client.wanted) == 2)
    assert any(name.startswith(b".tarbox-") for name in tarbox.names("/a/b"))
    client.say({"cancel": number})
    client.send(client.wanted[1])  # which was on its way
    assert client.answer(number).message["error"]["code"] == "cancelled"
    assert scratch(tarbox) == [] and b"never" not in tarbox.names("/a/b")
    client.say({"cancel": number})  # it has ended
    client.say({"cancel": 12345})
    assert client.told("tenant")


def test_a_socket_that_is_lost_leaves_nothing(tarbox: Tarbox, part: Part) -> None:
    client = part.enter()
    client.stop = 1
    client.begin("upload", bytes(3 * PIECE), path="/a/b/never")
    client.wait(lambda: len(client.wanted) == 2)
    client.socket.socket.close()
    assert scratch(tarbox) == []
    assert b"never" not in tarbox.names("/a/b")


def test_a_server_that_ends_leaves_nothing(tarbox: Tarbox, part: Part) -> None:
    with serving(tarbox, "--tenant", tarbox.tenant) as other, enter(other, tarbox, part.secret) as client:
        client.stop = 1
        client.begin("upload", bytes(3 * PIECE), path="/a/b/never")
        client.wait(lambda: len(client.wanted) == 2)
        assert other.end() == (0, "") and client.end()[0] == 1012
    assert scratch(tarbox) == [] and b"never" not in tarbox.names("/a/b")


@pytest.mark.parametrize("times", [1, 150])
def test_what_failed_is_in_the_audit(tarbox: Tarbox, part: Part, times: int) -> None:
    """Also where nothing is read afterwards; and what fails often is not kept until then."""

    def failed() -> int:
        return sum(record["result"] == errno.EEXIST for record in tarbox.json("audit", "--operation", "mkdir", "--limit", "0"))

    before = failed()
    with part.enter() as client:
        for _ in range(times):
            assert client.refused("mkdir", path="/a/b/d") == "EEXIST"
        assert failed() - before == times // 100 * 100
    for _ in range(40):
        if failed() - before == times:
            return
        time.sleep(0.1)
    assert failed() - before == times


def test_more_wait_for_their_turn(client: Client) -> None:
    """Eight wait for content; a ninth does for one of them, and can be cancelled meanwhile."""
    client.stop = 0
    uploads = [client.begin("upload", b"content", path=f"/a/b/turn{number}") for number in range(8)]
    client.wait(lambda: len(client.wanted) == 8)
    waits, cancelled = client.begin("stat", path="/a/b"), client.begin("stat", path="/a/b")
    client.say({"cancel": cancelled})
    assert client.answer(cancelled).message["error"]["code"] == "cancelled"
    with pytest.raises(AssertionError, match="nothing happened"):
        client.answer(waits, timeout=0.3)
    for want in client.wanted:
        client.send(want)
    assert client.answer(waits).result["kind"] == "directory"
    assert all(client.answer(number).result["size"] == 7 for number in uploads)
    client.told("remove", paths=[f"/a/b/turn{number}" for number in range(8)])


def test_who_does_not_read_fills_no_memory(server: Server, tarbox: Tarbox, client: Client, part: Part) -> None:
    """And keeps nobody else waiting."""
    with open(tarbox.folder / "zeros", "wb") as file:
        file.truncate(96 << 20)
    tarbox("put", "zeros", "/a/b/zeros")
    before = server.memory()
    with deaf(server, tarbox.tenant, part.secret) as say:
        for number in range(1, 9):
            say({"id": number, "verb": "download", "args": {"path": "/a/b/zeros"}})
        grown = [0]
        while len(grown) < 4 or grown[-1] > max(grown[-4:-1]):
            time.sleep(0.5)
            grown.append(server.memory() - before)
        assert 4 << 20 < max(grown) < 200 << 20  # of 768 MiB
        began = time.monotonic()
        assert client.told("stat", path="/a/b/zeros")["size"] == 96 << 20
        assert time.monotonic() - began < 2


@contextmanager
def deaf(server: Server, tenant: str, secret: str) -> Iterator[Callable[[Any], None]]:
    """A client that says things, and never reads."""
    with socket.create_connection((server.host, server.port), 30) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        lines = [
            f"GET /verbs/{tenant} HTTP/1.1", f"Host: {server.host}:{server.port}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Authorization: Bearer {secret}", "", "",
        ]  # fmt: skip
        stream.sendall("\r\n".join(lines).encode())
        assert stream.recv(12) == b"HTTP/1.1 101"

        def say(message: Any) -> None:
            text = json.dumps(message).encode()
            assert len(text) < 126
            stream.sendall(bytes((0x81, 0x80 | len(text))) + bytes(4) + text)  # masked with zeros

        yield say


# --- what no client of ours says


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 1003), ("", 1003), ("[" * 100_000, 1003), ('{"id": NaN}', 1003), ("[]", 1008), ('"x"', 1008), ("{}", 1008), ('{"id": 1}', 1008),
        ('{"id": 0, "verb": "stat"}', 1008), ('{"id": true, "verb": "stat"}', 1008), ('{"id": "1", "verb": "stat"}', 1008),
        ('{"id": 1.5, "verb": "stat"}', 1008),
        ('{"id": 4294967296, "verb": "stat"}', 1008), ('{"id": 1, "verb": 1}', 1008), ('{"id": 1, "verb": "stat", "args": []}', 1008),
        ('{"id": 1, "verb": "stat", "more": 1}', 1008), ('{"id": 1, "verb": "write", "bytes": -1}', 1008), ('{"id": 1, "verb": "write", "bytes": "1"}', 1008),
        ('{"cancel": "1"}', 1008), ('{"cancel": 1, "id": 1}', 1008), ('{"id": 1, "verb": "' + "x" * (1 << 20) + '"}', 1009),
        (b"", 1008), (b"\0\0", 1008), (b"\0\0\0\1content", 1008),
    ],
)  # fmt: skip
def test_what_makes_no_sense_ends_the_socket(client: Client, message: str | bytes, code: int) -> None:
    client.socket.send(message)
    ended, reason = client.end()
    assert ended == code and reason


def test_a_number_in_use_ends_the_socket(client: Client) -> None:
    client.stop = 0
    number = client.begin("upload", b"content", path="/a/b/never")
    client.wait(lambda: client.wanted)
    client.say({"id": number, "verb": "tenant"})
    assert client.end()[0] == 1008


@pytest.mark.parametrize("content", [b"", b"short", b"longer than it was"])
def test_content_of_another_length_ends_the_socket(client: Client, tarbox: Tarbox, content: bytes) -> None:
    client.stop = 0
    number = client.begin("upload", b"content", path="/a/b/never")
    client.wait(lambda: client.wanted)
    client.socket.send(number.to_bytes(4, "big") + content)
    assert client.end()[0] == 1008
    assert b"never" not in tarbox.names("/a/b")


def test_too_many_requests_end_the_socket(client: Client) -> None:
    client.stop = 0
    for number in range(1100):
        try:
            client.begin("upload", b"content", path=f"/a/b/never{number}")
        except Exception:
            break
    assert client.end() == (1008, "too many requests wait")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("stat", {}), ("stat", {"path": 7}), ("stat", {"path": None}), ("stat", {"path": "/a/b", "other": 1}), ("stat", {"work": 1, "path": "/a/b"}),
        ("stat", {"path": "/a/b", "follow": 1}), ("stat", {"path": "relative"}), ("stat", {"path": "/a/b/\0"}), ("stat", {"path": "/a/b/\ud800"}),
        ("stat", {"path": "/a/b", "layer": "\ud800"}), ("list", {"path": "/a/b", "limit": "many"}), ("list", {"path": "/a/b", "limit": 1.5}),
        ("read", {"path": "/a/b/f", "offset": -1}), ("read", {"path": "/a/b/f", "offset": 1 << 60}), ("read", {"path": "/a/b/f", "offset": True}),
        ("archive", {"paths": "/a/b"}), ("archive", {"paths": ["/a/b", 1]}), ("search", {"path": "/a/b", "words": "x" * 2000}),
        ("chmod", {"path": "/a/b/f", "uid": -1}), ("chmod", {"path": "/a/b/f", "gid": 1 << 40}), ("chmod", {"path": "/a/b/f", "mtime": 1e15}),
        ("symlink", {"path": "/a/b/l", "target": "\ud800"}), ("more", {"cursor": "1000"}), ("nothing", {}), ("__class__", {}),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_told(client: Client, verb: str, arguments: dict[str, Any]) -> None:
    assert client.refused(verb, **arguments) == "usage"
