"""The page's worker in a real browser: what starts it, what it answers, and how fast."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.browser.pages import Client, browser, fill, lay_out, login
from tests.browser.server import Server, serving
from tests.pg.cli import Tarbox, fresh
from tests.tenants import prepare

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.conftest import PgServer



@pytest.fixture(scope="module")
def tarbox(pg_url_module: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tarbox]:
    with fresh(prepare(pg_url_module), tmp_path_factory.mktemp("worker")) as command:
        yield command


@pytest.fixture(scope="module")
def superuser(pg_server: PgServer, pg_url_module: str) -> Iterator[Any]:
    connection = pg_server.connect(urlsplit(pg_url_module).path[1:])
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def server(tarbox: Tarbox) -> Iterator[Server]:
    lay_out(tarbox)
    with serving(tarbox, "--tenant", tarbox.tenant) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def page(chromium: Browser, server: Server, tarbox: Tarbox) -> Iterator[Page]:
    made = chromium.new_page()
    said: list[str] = []
    asked: list[str] = []
    made.on("console", lambda message: said.append(message.text))
    made.on("pageerror", lambda error: said.append(str(error)))
    made.on("request", lambda request: asked.append(request.url))
    login(made, server)
    made.evaluate("(url) => told('open', {url})", address(server, tarbox))
    yield made
    assert said == []
    assert [url for url in asked if not url.startswith((server.origin, "blob:", "data:"))] == []


@pytest.fixture
def client(page: Page) -> Client:
    return Client(page)


def address(server: Server, tarbox: Tarbox) -> str:
    return f"ws://{server.host}:{server.port}/gateway/{tarbox.tenant}"


def names(listing: Any) -> list[str]:
    return [entry["name"] for entry in listing["entries"]]


# --- files and directories


def test_open_tells_who_is_served(client: Client, tarbox: Tarbox) -> None:
    told = client.told("tenant")
    assert (told["name"], told["head"], told["readOnly"]) == (tarbox.tenant, "main", False)


def test_files_and_directories(client: Client, tarbox: Tarbox) -> None:
    client.told("mkdir", path="/d")
    made = client.write("/d/f", b"hello")
    assert (made["kind"], made["size"], made["mode"]) == ("file", 5, 0o644)
    assert client.read("/d/f") == b"hello"
    assert client.read("/d/f", offset=1, length=3) == b"ell"
    client.told("mkdir", path="/d/a/b/c", parents=True)
    client.told("symlink", path="/d/l", target="f")
    listing = client.told("list", path="/d")
    assert (names(listing), listing["cursor"], listing["kind"]) == (["a", "f", "l"], None, "directory")
    assert [entry["kind"] for entry in listing["entries"]] == ["directory", "file", "link"]
    link = client.told("stat", path="/d/l", follow=False)
    assert (link["target"], link["leadsTo"]["size"]) == ("f", 5)
    assert client.told("stat", path="/d/l")["ino"] == made["ino"]
    client.told("rename", source="/d/f", target="/d/g")
    assert client.told("stat", path="/d/l", follow=False)["leadsTo"] is None
    assert client.told("chmod", path="/d/g", mode=0o600, uid=7, mtime=1000.5)["mtime"] == 1000.5
    assert tarbox("stat", "/d/g").count(b"7")
    assert tarbox("cat", "/d/g") == b"hello"


def test_what_cannot_be_is_told(client: Client) -> None:
    client.write("/taken", b"")
    assert client.refused("list", path="/none") == "ENOENT"
    assert client.refused("list", path="/taken") == "ENOTDIR"
    assert client.refused("mkdir", path="/taken") == "EEXIST"
    client.write("/other", b"")
    assert client.refused("rename", source="/other", target="/taken") == "EEXIST"
    assert client.refused("list", path="relative") == "usage"
    assert client.refused("list") == "usage"
    assert client.refused("nothing") == "usage"
    assert client.refused("remove", paths=["/"]) == "usage"
    assert client.refused("copy", source="/", target="/inside") == "EINVAL"
    message = client.page.evaluate("told('stat', {path: '/none/x'}).catch((error) => error.message)")
    assert message == "/none/x: no such file or directory"


def test_names_that_are_no_utf_8(client: Client, tarbox: Tarbox) -> None:
    tarbox(b"write", b"/caf\xe9", given=b"x")
    (shown,) = (name for name in names(client.told("list", path="/")) if name.startswith("caf"))
    assert shown == "caf\udce9" and client.read(f"/{shown}") == b"x"
    client.told("remove", paths=[f"/{shown}"])


def test_a_change_by_somebody_else_is_a_conflict(client: Client, tarbox: Tarbox) -> None:
    seen = client.write("/edited", b"one")["version"]
    mine = client.write("/edited", b"two", ifVersion=seen)["version"]
    assert client.write("/edited", b"two", ifVersion=seen)["version"] == mine  # asked once more, because nobody heard that it was done
    tarbox("write", "/edited", given=b"theirs")
    put = "(args) => ask('write', args, {data: new Uint8Array([1]).buffer}).catch((error) => error.code)"
    assert client.page.evaluate(put, {"path": "/edited", "ifVersion": mine}) == "conflict"
    assert tarbox("cat", "/edited") == b"theirs"
    assert client.page.evaluate(put, {"path": "/edited", "replace": False}) == "EEXIST"


def test_copies(client: Client, tarbox: Tarbox) -> None:
    client.told("mkdir", path="/from/deep", parents=True)
    client.write("/from/deep/file", b"content")
    client.told("chmod", path="/from/deep/file", mode=0o755)
    client.told("symlink", path="/from/link", target="deep/file")
    client.told("copy", source="/from", target="/to")
    assert tarbox("cat", "/to/link") == b"content"
    assert client.told("stat", path="/to/deep/file")["mode"] == 0o755
    assert client.refused("copy", source="/from", target="/to") == "EEXIST"
    assert not [name for name in names(client.told("list", path="/")) if name.startswith(".tarbox")]


# --- layers


def test_what_is_removed_comes_back(client: Client) -> None:
    client.told("mkdir", path="/gone/deep", parents=True)
    client.write("/gone/deep/file", b"content")
    client.told("chmod", path="/gone/deep/file", mode=0o640, uid=5, mtime=5000)
    client.write("/gone/other", b"other")
    undo = client.told("remove", paths=["/gone/deep", "/gone/other"])["undo"]
    assert names(client.told("list", path="/gone")) == []
    client.told("remove", paths=["/gone"])
    client.told("undo", **undo)
    back = client.told("stat", path="/gone/deep/file")
    assert (back["mode"], back["uid"], back["mtime"], client.read("/gone/deep/file")) == (0o640, 5, 5000, b"content")
    assert client.refused("undo", **undo) == "EEXIST"


def test_layers(client: Client) -> None:
    client.write("/doc", b"first\n")
    first = client.told("checkpoint", name="first", message="the beginning")
    client.write("/doc", b"second\n")
    client.told("mkdir", path="/late")
    assert client.read("/doc", layer="first") == b"first\n"
    assert "late" not in names(client.told("list", path="/", layer=first["id"]))
    changes = client.told("diff", older="first")["changes"]
    assert [(one["status"], one["path"]) for one in changes] == [("M", "/doc"), ("A", "/late")]
    versions = client.told("history", path="/doc")["versions"]
    assert [(one["layer"]["label"], one["status"]) for one in versions] == [("head", "M"), ("first", "A")]
    kept = client.told("restore", path="/doc", layer="first")["kept"]
    assert (client.read("/doc"), client.read("/doc", layer=kept["id"])) == (b"first\n", b"second\n")
    client.told("switch", layer=kept["id"])
    assert client.read("/doc") == b"second\n"
    client.told("describe", layer="first", message="another word")
    told = client.told("layers")
    assert {one["message"] for one in told["layers"] if one["name"] == "first"} == {"another word"}
    assert [one["label"] for one in told["layers"] if one["current"]] == ["head"]
    client.told("branch", name="aside", layer="first")
    assert client.read("/doc") == b"first\n"
    client.write("/doc", b"aside\n")
    client.told("enter", branch="main")
    assert client.read("/doc") == b"second\n"
    assert client.refused("enter", branch="nowhere") == "usage"
    assert {one["name"] for one in client.told("layers")["branches"]} == {"main", "aside"}


def test_the_audit_tells_who_did_what(client: Client) -> None:
    client.told("mkdir", path="/watched")
    for number in range(3):
        client.write(f"/watched/{number}", b"x")
    newest = client.told("audit", path="/watched", limit=2)
    assert len(newest["records"]) == 2 and newest["records"][0]["path"] == "/watched/2"
    older = client.told("audit", path="/watched", limit=100, until=newest["until"])
    assert older["until"] is None and older["records"][-1]["operation"] == "mkdir"


def test_finding_by_name(client: Client) -> None:
    client.told("mkdir", path="/s/Inner Folder", parents=True)
    client.write("/s/Inner Folder/Report 2031.txt", b"")
    client.write("/s/report.md", b"")

    def found(words: str, **more: Any) -> tuple[list[str], bool]:
        client.page.evaluate("events.length = 0")
        complete = client.told("search", path="/s", words=words, **more)["complete"]
        return sorted(entry["path"] for event in client.events("found") for entry in event["entries"]), complete

    assert found("REPORT") == (["/s/Inner Folder/Report 2031.txt", "/s/report.md"], True)
    assert found("txt report") == (["/s/Inner Folder/Report 2031.txt"], True)
    assert found("*.md") == (["/s/report.md"], True)
    assert found("r", limit=1)[1] is False


# --- much


LARGE = """async (size) => {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  window.large = new Blob([bytes]);
  window.largeSha = await sha(bytes);
}"""


def test_64_mib_go_up_and_down(client: Client, tarbox: Tarbox) -> None:
    client.page.evaluate(LARGE, 64 << 20)
    client.page.evaluate("events.length = 0")
    made = client.page.evaluate("ask('upload', {path: '/large', mtime: 7000}, {file: large}).then(({result}) => result)")
    assert (made["size"], made["mtime"]) == (64 << 20, 7000)
    done = [each["done"] for each in client.events("progress")]
    assert done == sorted(done) and done[-1] == 64 << 20 and len(done) > 10
    same = "async () => await sha(await (await ask('download', {path: '/large'})).file.arrayBuffer()) === largeSha"
    assert client.page.evaluate(same)
    digest = hashlib.sha256(tarbox("cat", "/large")).hexdigest()
    assert client.page.evaluate("largeSha") == digest


def test_an_upload_is_cancelled(client: Client) -> None:
    client.page.evaluate(LARGE, 32 << 20)
    cancelled = """async () => {
      events.length = 0;
      const upload = ask('upload', {path: '/cancelled'}, {file: large}).catch((error) => error.code);
      while (!events.some((each) => each.event === 'progress' && each.done > 0)) await new Promise((resolve) => setTimeout(resolve, 5));
      worker.postMessage({cancel: last});
      return upload;
    }"""
    assert client.page.evaluate(cancelled) == "cancelled"
    assert not [name for name in names(client.told("list", path="/")) if name.startswith((".tarbox", "cancelled"))]


def test_a_folder_as_zip(client: Client) -> None:
    client.told("mkdir", path="/z/in/empty", parents=True)
    client.write("/z/in/é.txt", b"text" * 1000)
    client.told("symlink", path="/z/link", target="in")
    data = client.page.evaluate("async () => Array.from(new Uint8Array(await (await ask('archive', {paths: ['/z']})).file.arrayBuffer()))")
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as made:
        assert made.testzip() is None
        assert sorted(made.namelist()) == ["z/", "z/in/", "z/in/empty/", "z/in/é.txt", "z/link"]
        assert made.read("z/in/é.txt") == b"text" * 1000 and made.read("z/link") == b"in"


def test_a_large_directory_comes_in_pieces(client: Client, tarbox: Tarbox, superuser: Any) -> None:
    fill(superuser, tarbox.tenant, client.told("mkdir", path="/many"), 25_000)
    told = client.told("list", path="/many", limit=200)
    cursor = told["cursor"]
    assert len(told["entries"]) == 200
    count = """async (cursor) => {
      let count = 0;
      for (let next = cursor; next !== null; ) {
        const listing = await told('more', {cursor: next, limit: 10000});
        [next, count] = [listing.cursor, count + listing.entries.length];
      }
      return count;
    }"""
    assert client.page.evaluate(count, cursor) == 24_800
    assert client.refused("more", cursor=cursor) == "usage"


# --- others, and trouble


def test_what_others_change_is_told(client: Client, tarbox: Tarbox) -> None:
    client.told("mkdir", path="/live")
    folder = client.told("stat", path="/live")["ino"]
    client.page.evaluate("events.length = 0")
    tarbox("write", "/live/new", given=b"x")
    client.until("events.some((each) => each.event === 'changed' && each.inos.includes(arg))", folder)
    tarbox("layer", "create")
    client.until("events.some((each) => each.event === 'changed' && each.moved)")


def test_the_server_restarts(chromium: Browser, tarbox: Tarbox) -> None:
    """In the midst of an upload: the page is told, all goes on by itself, and the file is whole."""
    with serving(tarbox, "--tenant", tarbox.tenant) as before:
        page = chromium.new_page()
        login(page, before)
        client = Client(page)
        page.evaluate("(url) => told('open', {url})", address(before, tarbox))
        page.evaluate(LARGE, 24 << 20)
        page.evaluate("() => { window.done = ask('upload', {path: '/survivor'}, {file: large}); }")
        client.until("events.some((each) => each.event === 'progress' && each.done > 0)")
        before.process.kill()
        before.process.wait()
    client.until("events.some((each) => each.event === 'connection' && each.state === 'lost')")
    with serving(tarbox, "--tenant", tarbox.tenant, port=before.port) as after:
        assert page.evaluate("done.then(({result}) => result.size)") == 24 << 20
        assert [each["state"] for each in client.events("connection")][-1] == "open"
        same = "async () => await sha(await (await ask('download', {path: '/survivor'})).file.arrayBuffer()) === largeSha"
        assert page.evaluate(same)
        assert not [name for name in names(client.told("list", path="/")) if name.startswith(".tarbox")]
        assert after.ask("POST", "/logout", {}, Cookie="; ".join(f"{each['name']}={each['value']}" for each in page.context.cookies())).status == 204
        client.until("events.some((each) => each.event === 'connection' && each.state === 'refused')")
        assert client.refused("list", path="/") == "connection"
    page.close()
