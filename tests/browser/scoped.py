"""A tenant of which a token opens /a/b alone, and a server for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.browser.server import Server, serving
from tests.browser.verbs import Client
from tests.pg.cli import Tarbox, fresh


class Part:
    """`secret`: of a token for /a/b that may change it."""

    def __init__(self, tarbox: Tarbox, server: Server) -> None:
        self.tarbox = tarbox
        self.server = server
        self.secret = self.token()[1]

    def token(self, *words: str, path: str = "/a/b") -> tuple[int, str]:
        made = self.tarbox.json("token", "create", "--path", path, *words)
        return made["id"], made["token"]

    def enter(self, shown: str | None = None, query: str = "") -> Client:
        return enter(self.server, self.tarbox, shown or self.secret, query)


def enter(server: Server, tarbox: Tarbox, shown: str, query: str = "") -> Client:
    return Client(server.socket(tarbox.tenant, token=shown, door="verbs", query=query))


@contextmanager
def part(schema_url: str, folder: Path) -> Iterator[Part]:
    """/a/{b/{d/g, f}, bb, secret} and /outside, which the layer "first" has, too. At the end the server has said nothing."""
    with fresh(schema_url, folder) as tarbox:
        tarbox("mkdir", "-p", "/a/b/d", "/a/bb")
        for path in ("/a/b/f", "/a/b/d/g", "/a/secret", "/outside"):
            tarbox("write", path, path)
        tarbox("layer", "create", "first")
        with serving(tarbox, "--tenant", tarbox.tenant) as server:
            yield Part(tarbox, server)
            assert server.end() == (0, "")  # nothing that a client does is an error of the server
        tarbox("gc")  # what was removed while the server might have had it open


def scratch(tarbox: Tarbox) -> list[bytes]:
    """What is left of uploads in /a/b, waited for a little: a socket's end is noticed later than it is seen."""
    left: list[bytes] = []
    for _ in range(40):
        left = [name for name in tarbox.names("/a/b") if name.startswith(b".tarbox-")]
        if not left:
            break
        time.sleep(0.1)
    return left
