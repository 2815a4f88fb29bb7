"""Tokens for a path, and the door of verbs that they open: what it does, whom it refuses, and that the tenant's audit tells of that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.server import Server, serving
from tests.browser.verbs import Client
from tests.pg.cli import Tarbox, fresh
from tests.tenants import prepare


@pytest.fixture(scope="module")
def schema_url(pg_url_module: str) -> str:
    return prepare(pg_url_module)


@pytest.fixture(scope="module")
def tarbox(schema_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path_factory.mktemp("scope")) as command:
        command("mkdir", "-p", "/a/b/d")
        command("write", "/a/b/f", "inside")
        command("write", "/a/secret", "outside")
        yield command
        command("gc")  # what was removed while the server might have had it open


@pytest.fixture(scope="module")
def server(tarbox: Tarbox) -> Iterator[Server]:
    with serving(tarbox, "--tenant", tarbox.tenant) as running:
        yield running
        assert running.end() == (0, "")


@pytest.fixture
def client(server: Server, tarbox: Tarbox) -> Iterator[Client]:
    shown = tarbox.json("token", "create", "--path", "/a/b")["token"]
    with Client(server.socket(tarbox.tenant, token=shown, door="verbs")) as made:
        yield made


def test_it_works(client: Client, tarbox: Tarbox) -> None:
    told = client.told("tenant")
    assert (told["name"], told["path"], told["readOnly"]) == (tarbox.tenant, "/a/b", False)
    assert [each["name"] for each in client.told("list", path="/a/b")["entries"]] == ["d", "f"]
    assert client.ask("read", path="/a/b/f").data == b"inside"
    data = bytes(range(256)) * 50000
    client.told("upload", content=data, path="/a/b/big")
    assert tarbox("cat", "/a/b/big") == data
    assert client.ask("download", path="/a/b/big").data == data
    client.told("write", content=b"x", path="/a/b/w")
    assert tarbox("cat", "/a/b/w") == b"x"
    assert client.refused("read", path="/a/secret") == "EACCES"
    assert client.refused("layers") == "EACCES"
    undo = client.told("remove", paths=["/a/b/big", "/a/b/w"])["undo"]
    client.told("undo", **undo)
    assert tarbox("cat", "/a/b/big") == data
