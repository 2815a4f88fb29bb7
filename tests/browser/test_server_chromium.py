"""`tarbox serve` in a real browser: the link, the session, the policy, and what a page of another origin gets."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.pages import browser
from tests.browser.server import Server, page, serving
from tests.pg.cli import Tarbox, fresh
from tests.tenants import prepare

# A page that logs in with what its address holds, says hello to the gateway, and tries what the policy forbids.
SCRIPT = """
const token = location.hash.slice("#token=".length);
history.replaceState(null, "", "/");
const tried = {};
if (token) {
  const answer = await fetch("/login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
  tried.login = [answer.status, await answer.json()];
}
const session = await fetch("/session");
tried.session = [session.status, await session.json()];
tried.cookie = document.cookie;
tried.isolated = crossOriginIsolated;
try { tried.eval = (0, eval)("1 + 1"); } catch (error) { tried.eval = error.name; }
tried.wasm = await WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])).then(() => true, () => false);
tried.elsewhere = await fetch("http://127.0.0.1:9/").then(() => true, () => false);
const frame = (text) => {
  const body = new TextEncoder().encode(text), data = new DataView(new ArrayBuffer(9 + body.length));
  data.setUint32(0, 5 + body.length); data.setUint8(4, 1); data.setUint32(5, 7);
  new Uint8Array(data.buffer).set(body, 9);
  return data.buffer;
};
tried.hello = await new Promise((resolve) => {
  const name = tried.session[1].tenants?.[0]?.name;
  const socket = new WebSocket(`ws://${location.host}/gateway/${name}`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(frame('{"version": 1, "program": "test"}'));
  socket.onmessage = ({ data }) => resolve([new DataView(data).getUint8(4), new DataView(data).getUint32(5)]);
  socket.onclose = () => resolve("closed");
});
document.documentElement.dataset.tried = JSON.stringify(tried);
"""
OTHER = """<!doctype html><script>
(async () => {
  const base = "BASE", tried = {};
  for (const path of ["/session", "/health", "/"])
    tried[path] = await fetch(base + path, { credentials: "include" }).then((answer) => answer.status, () => "no answer");
  tried.blind = await fetch(base + "/session", { credentials: "include", mode: "no-cors" }).then(() => "opaque", () => "no answer");
  tried.socket = await new Promise((resolve) => {
    const socket = new WebSocket(base.replace("http", "ws") + "/gateway/TENANT");
    socket.onopen = () => resolve("open");
    socket.onclose = () => resolve("closed");
  });
  document.documentElement.dataset.tried = JSON.stringify(tried);
})();
</script>"""


@pytest.fixture(scope="module")
def tarbox(pg_url_module: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tarbox]:
    with fresh(prepare(pg_url_module), tmp_path_factory.mktemp("server")) as command:
        yield command


@pytest.fixture
def server(tarbox: Tarbox) -> Iterator[Server]:
    static = page(tarbox.folder)
    scripts = '<script type="module" src="/page.js"></script><script>document.title = "inline"</script>'
    (static / "index.html").write_text(f"<!doctype html><title>t</title>{scripts}")
    (static / "page.js").write_text(SCRIPT)
    with serving(tarbox, "--tenant", tarbox.tenant) as running:
        yield running


@pytest.fixture
def context() -> Iterator[Any]:
    with browser() as chromium:
        yield chromium.new_context()


def tried(tab: Any, url: str) -> Any:
    tab.goto(url)
    tab.wait_for_selector("html[data-tried]", state="attached", timeout=20_000)
    return json.loads(tab.get_attribute("html", "data-tried"))


def test_the_link_lets_one_page_in_and_the_policy_holds(server: Server, tarbox: Tarbox, context: Any) -> None:
    tab = context.new_page()
    found = tried(tab, server.told["url"])
    assert found["login"][0] == found["session"][0] == 200
    assert [each["name"] for each in found["session"][1]["tenants"]] == [tarbox.tenant]
    assert (found["cookie"], found["isolated"], found["eval"], found["wasm"], found["elsewhere"]) == ("", True, "EvalError", True, False)
    assert found["hello"] == [0x81, 7]
    assert tab.url == server.origin + "/" and tab.title() == "t"  # no secret is left in the address, and nothing inline has run
    again = tried(context.new_page(), server.origin + "/")
    assert "login" not in again and again["hello"] == [0x81, 7]
    second = context.browser.new_context().new_page()
    replayed = tried(second, server.told["url"])
    assert (replayed["login"], replayed["session"], replayed["hello"]) == ([401, {"error": "spent"}], [200, {"tenants": []}], "closed")


def test_a_page_of_another_origin_gets_nothing(server: Server, tarbox: Tarbox, context: Any, tmp_path: Path) -> None:
    """Of another port of this host, where the browser sends the cookie along, and of another name."""
    assert tried(context.new_page(), server.told["url"])["login"][0] == 200
    (tmp_path / "index.html").write_text(OTHER.replace("BASE", server.origin).replace("TENANT", tarbox.tenant))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        try:
            for host in ("127.0.0.1", "localhost"):
                found = tried(context.new_page(), f"http://{host}:{other.server_port}/")
                assert found == {"/session": "no answer", "/health": "no answer", "/": "no answer", "blind": "no answer", "socket": "closed"}
        finally:
            other.shutdown()
    reasons = {each["metadata"]["reason"] for each in tarbox.json("audit", "--operation", "token_refused", "--limit", "0")}
    assert "origin" in reasons
