"""The worker of a token with a path when its connection goes: what is asked once more, what is told, and that nothing is done twice."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("playwright")
from tests.browser.line import Line
from tests.browser.pages import Client, browser, lay_out, login
from tests.browser.server import serving
from tests.pg.cli import Tarbox, fresh
from tests.tenants import prepare

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def tarbox(pg_url_module: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tarbox]:
    with fresh(prepare(pg_url_module), tmp_path_factory.mktemp("verbs")) as command:
        command("mkdir", "/own")
        yield command
        command("gc")


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with Line() as made:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            made.to = listener.getsockname()[1]
        yield made


@pytest.fixture(scope="module")
def page(tarbox: Tarbox, line: Line) -> Iterator[Page]:
    lay_out(tarbox, "verbs")
    own = f"127.0.0.1:{line.port}"
    with serving(tarbox, "--tenant", tarbox.tenant, "--port", str(line.to), "--origin", f"http://{own}") as server, browser() as chromium:
        made = chromium.new_page()
        login(made, server, tarbox.json("token", "create", "--path", "/own")["token"])
        told = made.evaluate("(url) => told('open', {url})", f"ws://{own}/verbs/{tarbox.tenant}")
        assert (told["path"], told["name"]) == ("/own", tarbox.tenant)
        yield made


@pytest.fixture
def client(page: Page) -> Client:
    return Client(page)


def cut(client: Client, line: Line, ask: str, *, answers: bool) -> Any:
    """What comes of a request whose connection is cut before it arrives, or with `answers` when it was done and that is not told."""
    client.told("tenant")  # there is one
    line.swallow(answers=answers)
    begin = f"() => {{ window.answer = {ask}.then(({{ result }}) => result, (error) => error.code); }}"
    client.page.evaluate(begin)
    client.page.wait_for_timeout(300)
    line.cut()
    line.heal()
    return client.page.evaluate("() => answer")


@pytest.mark.parametrize("answers", [False, True], ids=["request", "answer"])
def test_what_may_be_done_twice_is_asked_again(client: Client, tarbox: Tarbox, line: Line, answers: bool) -> None:
    name = f"/own/again-{answers}"
    made = cut(client, line, f"ask('mkdir', {{path: '{name}/a/b', parents: true}})", answers=answers)
    assert made["kind"] == "directory"
    assert cut(client, line, f"ask('chmod', {{path: '{name}', mode: 0o700}})", answers=answers)["mode"] == 0o700
    assert [each["name"] for each in cut(client, line, f"ask('list', {{path: '{name}'}})", answers=answers)["entries"]] == ["a"]


@pytest.mark.parametrize("answers", [False, True], ids=["request", "answer"])
def test_a_name_that_the_request_itself_has_taken_is_no_refusal(client: Client, tarbox: Tarbox, line: Line, answers: bool) -> None:
    name = f"/own/own-{answers}"
    made = cut(client, line, f"ask('write', {{path: '{name}', replace: false}}, {{data: new ArrayBuffer(0)}})", answers=answers)
    assert (made["kind"], made["size"]) == ("file", 0)
    empty = f"ask('upload', {{path: '{name}-2', mtime: 1700000000123}}, {{file: new Blob([])}})"
    assert cut(client, line, empty, answers=answers)["mtime"] == 1700000000123
    taken = f"ask('upload', {{path: '{name}', mtime: 1700000000123}}, {{file: new Blob([])}})"  # it is another's
    assert cut(client, line, taken, answers=answers) == "EEXIST"


@pytest.mark.parametrize("answers", [False, True], ids=["request", "answer"])
def test_what_nobody_knows_is_told(client: Client, tarbox: Tarbox, line: Line, answers: bool) -> None:
    name = f"/own/unknown-{answers}"
    assert cut(client, line, f"ask('mkdir', {{path: '{name}'}})", answers=answers) == "unknown"
    assert (name.removeprefix("/own/").encode() in tarbox.names("/own")) is answers


def test_content_is_sent_from_its_beginning_again(client: Client, tarbox: Tarbox, line: Line) -> None:
    upload = "ask('upload', {path: '/own/large'}, {file: new Blob([new Uint8Array(11 << 20).fill(7)])})"
    assert cut(client, line, upload, answers=True)["size"] == 11 << 20
    assert tarbox("cat", "/own/large") == b"\7" * (11 << 20)
    assert [name for name in tarbox.names("/own") if name.startswith(b".tarbox-")] == []


def test_what_was_read_in_part_is_read_anew(client: Client, tarbox: Tarbox, line: Line) -> None:
    tarbox("write", "/own/read", given=(data := bytes(range(251)) * 40_000))
    client.page.evaluate("() => { window.answer = ask('read', {path: '/own/read'}); }")
    line.cut()
    assert client.page.evaluate("async () => Array.from(new Uint8Array((await answer).data.slice(-1000)))") == list(data[-1000:])
    assert client.page.evaluate("async () => (await answer).data.byteLength") == len(data)


def test_a_listing_belongs_to_its_connection(client: Client, tarbox: Tarbox, line: Line) -> None:
    tarbox("mkdir", "/own/many")
    tarbox("mkdir", "/own/more")
    cursor = client.told("list", path="/own", limit=1)["cursor"]
    line.cut()
    assert client.refused("more", cursor=cursor) == "stale"
    cursor = client.told("list", path="/own", limit=1)["cursor"]
    assert cut(client, line, f"ask('more', {{cursor: '{cursor}'}})", answers=False) == "stale"
    cursor = client.told("list", path="/own", limit=1)["cursor"]
    assert len(client.told("more", cursor=cursor, limit=1)["entries"]) == 1


def test_more_requests_than_the_server_takes_at_once(client: Client, tarbox: Tarbox) -> None:
    """All want the same folders above, which each may find made by another."""
    all_made = "Promise.all([...Array(80).keys()].map((n) => told('mkdir', {path: `/own/wide/${n >> 3}/${n}`, parents: true})))"
    assert client.page.evaluate(f"async () => (await {all_made}).length") == 80
    assert sum(len(tarbox.names(f"/own/wide/{n}")) for n in range(10)) == 80


def test_a_request_that_waits_is_cancelled(client: Client, line: Line) -> None:
    line.swallow()
    line.cut()
    client.page.wait_for_timeout(300)
    cancelled = """async () => {
      const asked = ask('stat', {path: '/own'}).then(() => 'answered', (error) => error.code);
      worker.postMessage({cancel: last});
      return asked;
    }"""
    assert client.page.evaluate(cancelled) == "cancelled"
    line.heal()
    assert client.told("stat", path="/own")["kind"] == "directory"


def test_words_that_are_too_many_are_refused_here(client: Client) -> None:
    assert client.page.evaluate("() => ask('archive', {paths: Array(1 << 17).fill('/own/some-name')}).catch((error) => error.code)") == "usage"
