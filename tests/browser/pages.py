"""The worker's tests in a real browser: a page that only asks, beside the files of the build, served by the real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.server import Server
from tests.pg.cli import Tarbox

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "frontends/browser/page"
STATIC = ROOT / "frontends/browser/tarbox_browser/static"


@cache
def built() -> dict[str, Any]:
    """The manifest of the build, made up to date before the first test that needs it."""
    done = subprocess.run([sys.executable, ROOT / "wasm/browser.py"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    manifest: dict[str, Any] = json.loads((STATIC / "manifest.json").read_bytes())
    return manifest


def lay_out(tarbox: Tarbox, worker: str = "worker") -> None:
    """The folder that `serving` serves: the build, and the page of these tests, which asks a worker of the build."""
    folder = tarbox.folder / "static"
    worker = built()["entries"][worker]
    shutil.copytree(STATIC, folder, ignore=shutil.ignore_patterns("index.html*"))
    shutil.copyfile(Path(__file__).with_name("client.js"), folder / "client.js")
    script = f'<script src="/client.js" data-worker="/{worker}"></script>'
    (folder / "index.html").write_text(f"<!doctype html><title>test</title><link rel=icon href=data:,>{script}")


class Client:
    """A page that has begun: what it asks of its worker, as Python calls it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def told(self, verb: str, **args: Any) -> Any:
        """A verb's result; playwright's Error where it failed."""
        return self.page.evaluate("([verb, args]) => told(verb, args)", [verb, args])

    def refused(self, verb: str, **args: Any) -> str:
        """The code of a verb's error."""
        return str(self.page.evaluate("([verb, args]) => ask(verb, args).then(() => 'nothing', (error) => error.code)", [verb, args]))

    def write(self, path: str, data: bytes, **args: Any) -> Any:
        put = "([args, bytes]) => told('write', args, {data: Uint8Array.from(bytes).buffer})"
        return self.page.evaluate(put, [{"path": path, **args}, list(data)])

    def read(self, path: str, **args: Any) -> bytes:
        got = self.page.evaluate("async (args) => Array.from(new Uint8Array((await ask('read', args)).data))", {"path": path, **args})
        return bytes(got)

    def until(self, condition: str, arg: Any = None, seconds: int = 30) -> None:
        """Wait for a condition, an expression with `arg`. Playwright's own way wants eval in the page."""
        wait = f"""async ([arg, seconds]) => {{
          for (const end = performance.now() + seconds * 1000; performance.now() < end; await new Promise((resolve) => setTimeout(resolve, 20))) {{
            if ({condition}) return true;
          }}
          return false;
        }}"""
        assert self.page.evaluate(wait, [arg, seconds]), condition

    def events(self, name: str) -> list[Any]:
        found: list[Any] = self.page.evaluate("(name) => events.filter((each) => each.event === name)", name)
        return found


def login(page: Page, server: Server, secret: str | None = None) -> None:
    """A session for the page, by the server's link or a token."""
    page.goto(f"{server.origin}/")
    words = "(token) => fetch('/login', {method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify({token})}).then((a) => a.status)"
    assert page.evaluate(words, secret or server.secret) == 200


@contextmanager
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None and os.environ.get("CI"):
        pytest.fail("Chromium is not installed, and in CI that is a failure")
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:  # what runs for seconds is not worth being optimized
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--js-flags=--liftoff-only"])
        try:
            yield made
        finally:
            made.close()


def fill(superuser: Any, tenant: str, folder: Any, count: int) -> None:
    """Put so many empty files into a directory, past the core, which takes longer."""
    values = {"t": tenant, "parent": int(folder["ino"]), "layer": int(folder["layer"]), "count": count}
    superuser.run(
        "insert into inode (tenant, ino, layer, mode, uid, gid, nlink, size, blocks, rdev, atime, mtime, ctime, parent, inline)"
        " select tenant, 1000000000 + n, :layer, 33188, 0, 0, 1, 0, 0, 0, 1, 1, n, 0, '' from tenant, generate_series(1, :count) n where name = :t", **values
    )  # fmt: skip
    superuser.run(
        "insert into dentry (tenant, parent, name, layer, ino, kind)"
        " select tenant, :parent, to_char(n, 'FM000000')::bytea, :layer, 1000000000 + n, 8 from tenant, generate_series(1, :count) n where name = :t", **values
    )  # fmt: skip
