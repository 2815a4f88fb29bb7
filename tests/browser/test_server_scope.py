"""Tokens for a path, and the door of verbs that they open: what it does, whom it refuses, and that the tenant's audit tells of that."""

from __future__ import annotations

import errno
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tarbox_worker.verbs import PATH_VERBS, VERBS
from tests.browser.scoped import Part, scratch
from tests.browser.server import Server
from tests.browser.verbs import Client
from tests.pg.cli import Tarbox

PIECE = 4 << 20
Refusals = Callable[[], list[dict[str, Any]]]


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


@pytest.fixture
def refused(tarbox: Tarbox) -> Refusals:
    """What the audit tells of refusals since the test began."""

    def read() -> list[dict[str, Any]]:
        records = tarbox.json("audit", "--operation", "token_refused", "--limit", "0")
        assert all(record["result"] == errno.EACCES for record in records)
        return [record["metadata"] for record in records]

    before = len(read())
    return lambda: read()[before:]


def names(client: Client, path: str, **more: Any) -> list[str]:
    return [entry["name"] for entry in client.told("list", path=path, **more)["entries"]]


# --- what it does


def test_what_is_within_is_looked_at(client: Client, tarbox: Tarbox) -> None:
    told = client.told("tenant")
    assert (told["name"], told["path"], told["readOnly"], told["head"]) == (tarbox.tenant, "/a/b", False, "main")
    assert names(client, "/a/b/d") == ["g"]
    assert client.told("stat", path="/a/b/f")["size"] == 6
    assert client.ask("read", path="/a/b/f", offset=1, length=3).data == b"a/b"
    assert client.ask("download", path="/a/b/d/g").data == b"/a/b/d/g"
    found = client.ask("search", path="/a/b", words="g")
    assert found.result == {"complete": True}
    assert [entry["path"] for event in found.events for entry in event["entries"]] == ["/a/b/d/g"]
    with zipfile.ZipFile(io.BytesIO(client.ask("archive", paths=["/a/b"]).data)) as made:
        assert {"b/", "b/d/", "b/d/g", "b/f"} <= set(made.namelist()) and made.read("b/f") == b"/a/b/f"


def test_what_is_within_is_changed_and_the_audit_has_true_paths(client: Client, tarbox: Tarbox) -> None:
    client.told("mkdir", path="/a/b/new/sub", parents=True)
    made = client.told("write", b"one", path="/a/b/new/file")
    assert client.told("write", b"two", path="/a/b/new/file", ifVersion=made["version"])["size"] == 3
    assert client.refused("write", b"three", path="/a/b/new/file", ifVersion=made["version"]) == "conflict"
    assert client.told("write", path="/a/b/new/empty")["size"] == 0
    client.told("symlink", path="/a/b/new/link", target="/a/b/new/file")
    client.told("rename", source="/a/b/new/file", target="/a/b/new/moved")
    client.told("rename", source="/a/b/new/moved", target="/a/b/new/file")
    client.told("copy", source="/a/b/new", target="/a/b/copy")
    client.told("chmod", path="/a/b/copy/file", mode=0o600)
    assert tarbox("cat", "/a/b/copy/link") == b"two"
    undo = client.told("remove", paths=["/a/b/new", "/a/b/copy/file"])["undo"]
    assert "new" not in names(client, "/a/b")
    client.told("undo", **undo)
    assert client.ask("read", path="/a/b/new/file").data == b"two"
    client.told("write", b"worse", path="/a/b/new/file")
    kept = client.told("restore", path="/a/b/new/file", layer=undo["layer"])["kept"]
    assert client.changed == []  # nobody else changed anything
    assert set(kept) == {"id"}  # what the layer is called may be another's word
    assert client.ask("read", path="/a/b/new/file").data == b"two"
    assert client.ask("read", path="/a/b/new/file", layer=kept["id"]).data == b"worse"
    recorded = {record["path"] for record in tarbox.json("audit", "--path", "/a/b/new", "--limit", "0")}
    assert {"/a/b/new/file", "/a/b/new/sub"} <= recorded
    assert client.refused("remove", paths=["/"]) == "usage"


def test_a_folder_is_read_on(client: Client, tarbox: Tarbox, part: Part) -> None:
    client.told("mkdir", path="/a/b/many")
    for number in range(5):
        client.told("write", path=f"/a/b/many/{number}")
    first = client.told("list", path="/a/b/many", limit=2)
    rest = client.told("more", cursor=first["cursor"])
    assert [entry["name"] for entry in (*first["entries"], *rest["entries"])] == list("01234")
    cursor = client.told("list", path="/a/b/many", limit=2)["cursor"]
    with part.enter() as other:
        assert other.refused("more", cursor=cursor) == "usage"  # another socket knows nothing of it
    tarbox("mv", "/a/b/many", "/a/many")
    assert client.refused("more", cursor=cursor) == "ENOENT"  # it is not within any more
    tarbox("mv", "/a/many", "/a/b/many")


def test_content_is_sent_as_it_is_wanted(client: Client, tarbox: Tarbox) -> None:
    data = bytes(range(251)) * ((2 * PIECE + 100) // 251)
    made = client.ask("upload", data, path="/a/b/big", mtime=1000.5)
    assert (made.result["size"], made.result["mtime"]) == (len(data), 1000.5)
    assert [(want["offset"], want["length"]) for want in client.wanted] == [(0, PIECE), (PIECE, PIECE), (2 * PIECE, len(data) - 2 * PIECE)]
    assert [event["done"] for event in made.events if event["event"] == "progress"] == [0, PIECE, 2 * PIECE, len(data)]
    assert tarbox("cat", "/a/b/big") == data
    assert client.ask("download", path="/a/b/big").data == data
    assert client.refused("write", bytes(17 << 20), path="/a/b/f") == "usage"
    assert client.refused("upload", path="/a/b/none") == "usage"  # no content


def test_another_branch(tarbox: Tarbox, part: Part) -> None:
    tarbox("layer", "branch", "side")
    with part.enter(query="?branch=side") as client:
        client.told("write", b"x", path="/a/b/only-here")
        assert client.told("tenant")["head"] == "side"
    assert "only-here" not in str(tarbox.names("/a/b"))


def test_changes_are_told_of_what_the_client_knows(client: Client, tarbox: Tarbox) -> None:
    folder = client.told("stat", path="/a/b")["ino"]
    known = client.told("stat", path="/a/b/f")["ino"]
    tarbox("write", "/outside", "other")
    tarbox("write", "/a/secret", "other")
    tarbox("write", "/a/b/f", "/a/b/f")
    tarbox("touch", "/a/b/another")
    client.wait(lambda: {ino for event in client.changed for ino in event["inos"]} == {folder, known})
    assert not any(event["moved"] or event["lost"] for event in client.changed)
    tarbox("layer", "switch", "first")
    client.wait(lambda: client.changed[-1]["moved"])


# --- what it refuses


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - PATH_VERBS))
def test_what_concerns_the_whole_tree(client: Client, refused: Refusals, verb: str) -> None:
    assert client.refused(verb) == "EACCES"
    (record,) = refused()
    assert (record["reason"], record["verb"], record["door"]) == ("path", verb, "browser")
    assert isinstance(record["token"], int)


OUTSIDE: dict[str, dict[str, Any]] = {
    "archive": {"paths": ["/a/b/f", "/a/secret"]},
    "chmod": {"path": "/a/secret", "mode": 0},
    "copy": {"source": "/a/secret", "target": "/a/b/stolen"},
    "download": {"path": "/a/secret"},
    "keep": {"path": "/a/secret"},
    "list": {"path": "/a"},
    "mkdir": {"path": "/a/new"},
    "read": {"path": "/a/b/../secret"},
    "remove": {"paths": ["/a/b/d", "/a/secret"]},
    "rename": {"source": "/a/secret", "target": "/a/b/stolen"},
    "restore": {"path": "/a/secret", "layer": "first", "target": "/a/b/stolen"},
    "search": {"path": "/", "words": "e"},
    "stat": {"path": "/a/secret"},
    "symlink": {"path": "/a/link", "target": "b"},
    "undo": {"paths": ["/a/secret"], "layer": "first"},
    "upload": {"path": "/a/new", "content": b"x"},
    "write": {"path": "/a/secret", "content": b"x"},
}


def test_every_verb_that_takes_a_path_is_tried() -> None:
    assert OUTSIDE.keys() == PATH_VERBS - {"tenant", "more"}


@pytest.mark.parametrize("verb", sorted(OUTSIDE))
def test_what_is_outside(client: Client, tarbox: Tarbox, refused: Refusals, verb: str) -> None:
    before = tarbox("tree", "/")
    assert client.refused(verb, **OUTSIDE[verb]) == "EACCES"
    (record,) = refused()
    assert (record["reason"], record["verb"], record["path"][:1]) == ("path", verb, "/")
    assert tarbox("tree", "/") == before


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("copy", {"source": "/a/b/f", "target": "/a/out"}), ("copy", {"source": "/a/b/d", "target": "/out"}),
        ("rename", {"source": "/a/b/f", "target": "/a/out"}), ("rename", {"source": "/a/b/d", "target": "/a/b/../out"}),
        ("restore", {"path": "/a/b/f", "layer": "first", "target": "/a/secret"}),
        ("copy", {"source": "/a/secret", "target": "/a/b/stolen", "layer": "first"}), ("read", {"path": "/a/secret", "layer": "first"}),
        ("list", {"path": "/", "layer": "first"}), ("read", {"path": "/a/b/f", "layer": "first/.."}), ("read", {"path": "/a/b/f", "layer": "../../.."}),
        ("read", {"path": "/.tarbox/layers/list"}), ("write", {"path": "/.tarbox/layers/new", "content": b"mine"}), ("list", {"path": "/.tarbox/history/a/b"}),
        ("stat", {"path": "/.tarbox"}), ("upload", {"path": "/.tarbox/layers/switch", "content": b"first"}),
    ],
)  # fmt: skip
def test_other_ways_out(client: Client, tarbox: Tarbox, refused: Refusals, verb: str, arguments: dict[str, Any]) -> None:
    before, layers = tarbox("tree", "/"), len(tarbox.json("layer", "list"))
    assert client.refused(verb, **arguments) == "EACCES"
    assert [record["reason"] for record in refused()] == ["path"]
    assert tarbox("tree", "/") == before and len(tarbox.json("layer", "list")) <= layers + (verb == "restore")


@pytest.mark.parametrize("layer", ["nothing", "main", "", "/", "head", *"0123456789abcdef"])
def test_no_name_of_a_layer_is_told(client: Client, layer: str) -> None:
    """A word that could be several layers, or one that is still written to."""
    error = client.ask("read", path="/a/b/f", layer=layer).message.get("error", {"message": ""})
    assert "first" not in error["message"] and "could be" not in error["message"]


@pytest.mark.parametrize("path", ["/a/b", "/a/b/", "/a", "/"])
@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("remove", lambda path: {"paths": [path]}), ("rename", lambda path: {"source": path, "target": "/a/b/inside"}),
        ("rename", lambda path: {"source": "/a/b/d", "target": path, "replace": True}),
        ("copy", lambda path: {"source": "/a/b/d", "target": path, "replace": True}),
        ("restore", lambda path: {"path": path, "layer": "first"}), ("undo", lambda path: {"paths": [path], "layer": "first"}),
    ],
)  # fmt: skip
def test_the_directory_itself_stays(client: Client, tarbox: Tarbox, verb: str, arguments: Callable[[str], dict[str, Any]], path: str) -> None:
    before, layers = tarbox("tree", "/"), len(tarbox.json("layer", "list"))
    assert client.refused(verb, **arguments(path)) in ({"EACCES", "usage", "EINVAL"} if path == "/" else {"EACCES", "EINVAL"})
    assert tarbox("tree", "/") == before
    assert len(tarbox.json("layer", "list")) == layers or verb == "restore"


@pytest.mark.parametrize("target", ["/a/secret", "../secret", "/outside", "..", "/a/b/../secret", "chain", "/a/fresh", "../fresh"])
def test_links_that_lead_out(client: Client, tarbox: Tarbox, refused: Refusals, target: str) -> None:
    """Whoever made them; the client may make them, too."""
    if target == "chain":
        client.told("symlink", path="/a/b/chain", target="/a/secret")
    client.told("symlink", path="/a/b/out", target=target)
    for verb, more in (("read", {}), ("download", {}), ("write", {"content": b"x"}), ("upload", {"content": b"x", "replace": True}), ("chmod", {"mode": 0})):
        assert client.refused(verb, path="/a/b/out", **more) == "EACCES"
    assert client.refused("mkdir", path="/a/b/out/new") == client.refused("list", path="/a/b/out/") == "EACCES"
    assert len(refused()) == 7
    told = client.told("stat", path="/a/b/out", follow=False)
    assert (told["target"], told["leadsTo"]) == (target, None)
    client.told("copy", source="/a/b/out", target="/a/b/copied")  # the link itself
    with zipfile.ZipFile(io.BytesIO(client.ask("archive", paths=["/a/b/out"]).data)) as made:
        assert made.read("out").decode() == target
    client.told("remove", paths=["/a/b/out", "/a/b/copied"] + ["/a/b/chain"] * (target == "chain"))
    assert tarbox("cat", "/a/secret") == b"/a/secret" and b"fresh" not in tarbox.names("/a")


def test_a_directory_that_is_moved_or_replaced_by_a_link(client: Client, tarbox: Tarbox, part: Part) -> None:
    tarbox("mkdir", "-p", "/m/n")
    tarbox("write", "/m/n/f", "mine")
    tarbox("mkdir", "/else")
    tarbox("write", "/else/f", "theirs")
    _, shown = part.token(path="/m/n")
    with part.enter(shown) as other:
        assert other.ask("read", path="/m/n/f").data == b"mine"
        tarbox("mv", "/m/n", "/gone")
        assert other.refused("read", path="/m/n/f") == other.refused("write", b"x", path="/m/n/f") == "ENOENT"
        tarbox("ln", "-s", "/else", "/m/n")
        assert other.refused("read", path="/m/n/f") == other.refused("list", path="/m/n") == other.refused("write", b"x", path="/m/n/f") == "EACCES"
        assert other.refused("stat", path="/m/n", follow=False) == "EACCES"
        tarbox("rm", "/m/n")
        tarbox("mv", "/gone", "/m/n")
        assert other.ask("read", path="/m/n/f").data == b"mine"
    assert tarbox("cat", "/else/f") == b"theirs"


def test_a_directory_that_is_replaced_in_the_midst_of_an_upload(tarbox: Tarbox, part: Part) -> None:
    tarbox("mkdir", "-p", "/u/n", "/v")
    _, shown = part.token(path="/u/n")
    with part.enter(shown) as client:
        client.stop = 1
        number = client.begin("upload", bytes(2 * PIECE), path="/u/n/f")
        client.wait(lambda: len(client.wanted) == 2)
        tarbox("mv", "/u/n", "/u/moved")
        tarbox("ln", "-s", "/v", "/u/n")
        client.send(client.wanted[1])
        assert client.answer(number).message["error"]["code"] == "EACCES"
    assert tarbox.names("/v") == []


@pytest.mark.parametrize("session", [False, True])
def test_a_token_that_changes_nothing(server: Server, tarbox: Tarbox, session: bool, part: Part, refused: Refusals) -> None:
    _, shown = part.token("--read-only")
    if session:
        cookie = server.login(shown)
        assert [(each["path"], each["read_only"]) for each in server.ask("GET", "/session", Cookie=cookie).json["tenants"]] == [("/a/b", True)]
        client = Client(server.socket(tarbox.tenant, cookie=cookie, door="verbs"))
    else:
        client = part.enter(shown)
    before = tarbox("tree", "/")
    with client:
        assert client.told("tenant")["readOnly"] is True
        assert client.ask("read", path="/a/b/f").data == b"/a/b/f"
        for verb, arguments in (
            ("write", {"path": "/a/b/f", "content": b"x"}), ("upload", {"path": "/a/b/new", "content": b"x"}), ("mkdir", {"path": "/a/b/new"}),
            ("remove", {"paths": ["/a/b/f"]}), ("rename", {"source": "/a/b/f", "target": "/a/b/g"}), ("copy", {"source": "/a/b/f", "target": "/a/b/g"}),
            ("chmod", {"path": "/a/b/f", "mode": 0}), ("symlink", {"path": "/a/b/l", "target": "f"}), ("keep", {"path": "/a/b/f"}),
            ("restore", {"path": "/a/b/f", "layer": "first"}),
        ):  # fmt: skip
            assert client.refused(verb, **arguments) == "EROFS"
            assert [(record["reason"], record["verb"]) for record in refused()[-1:]] == [("read-only", verb)]
        assert client.refused("read", path="/a/secret") == "EACCES"
    assert [record["reason"] for record in refused()] == ["read-only"] * 10 + ["path"]
    assert tarbox("tree", "/") == before


# --- whom it refuses


def status_of(opening: Callable[[], object]) -> tuple[int, Any]:
    with pytest.raises(InvalidStatus) as raised:
        opening()
    return raised.value.response.status_code, json.loads(raised.value.response.body)["error"]


def test_each_token_has_its_door(server: Server, tarbox: Tarbox, refused: Refusals, part: Part) -> None:
    whole = tarbox.json("token", "create")["token"]
    cookie, other = server.login(whole), server.login(part.secret)
    assert status_of(lambda: server.socket(tarbox.tenant, token=part.secret)) == (403, "path")
    assert status_of(lambda: server.socket(tarbox.tenant, cookie=other)) == (403, "path")
    assert status_of(lambda: server.socket(tarbox.tenant, token=whole, door="verbs")) == (403, "path")
    assert status_of(lambda: server.socket(tarbox.tenant, cookie=cookie, door="verbs")) == (403, "path")
    told = refused()
    assert [record["reason"] for record in told] == ["path"] * 4 and all(isinstance(record["token"], int) for record in told)
    assert server.ask("GET", "/session", Cookie=cookie).json["tenants"][0]["path"] is None


def test_strangers(server: Server, tarbox: Tarbox, refused: Refusals, part: Part) -> None:
    assert status_of(lambda: server.socket(tarbox.tenant, door="verbs")) == (401, "missing")
    assert status_of(lambda: server.socket(tarbox.tenant, token="tbx_" + "A" * 43, door="verbs")) == (401, "unknown")
    assert status_of(lambda: server.socket("another", token=part.secret, door="verbs")) == (403, "tenant")
    with pytest.raises(InvalidStatus):
        server.socket(tarbox.tenant, cookie=server.login(part.secret), origin="http://evil.example", door="verbs")
    assert status_of(lambda: server.socket(tarbox.tenant, token=part.secret, door="verbs", query="?branch=none")) == (404, "branch")
    assert [record["reason"] for record in refused()] == ["missing", "unknown", "tenant", "origin"]


def test_a_token_that_is_revoked(tarbox: Tarbox, part: Part) -> None:
    """Also in the midst of an upload, of which nothing is left."""
    ident, shown = part.token()
    with part.enter(shown) as client:
        client.stop = 1
        client.begin("upload", bytes(2 * PIECE), path="/a/b/never")
        client.wait(lambda: len(client.wanted) == 2)
        tarbox("token", "revoke", str(ident))
        assert client.end() == (4401, "revoked")
    assert scratch(tarbox) == []
    assert status_of(lambda: part.enter(shown)) == (401, "revoked")


def test_a_token_that_expires(part: Part) -> None:
    _, shown = part.token("--ttl", "2s")
    with part.enter(shown) as client:
        assert client.end() == (4401, "expired")
