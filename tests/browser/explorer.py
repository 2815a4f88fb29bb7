"""The explorer in a real browser, as a person uses it: by what is on the screen. What it did is looked up at another door."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import expect as expect

from tests.browser.line import Line
from tests.browser.pages import STATIC, browser, built
from tests.browser.server import Server, serving
from tests.pg.cli import Tarbox


class Explorer:
    """One page on one tenant."""

    def __init__(self, page: Any, tarbox: Tarbox, server: Server) -> None:
        self.page = page
        self.tarbox = tarbox
        self.server = server

    def find(self, selector: str, text: str | None = None) -> Any:
        return self.page.locator(selector) if text is None else self.page.locator(selector, has_text=text)

    def row(self, name: str) -> Any:
        """The row of an entry."""
        return self.page.locator(f'.list .row:not([hidden]):has(.name[title="{name}"])')

    def names(self) -> list[str]:
        """What the list shows, from its top."""
        told = "rows => rows.map((row) => [Number(row.dataset.index), row.querySelector('.name').textContent])"
        return [name for _, name in sorted(self.page.locator(".list .row:not([hidden])").evaluate_all(told))]

    def shows(self, *names: str) -> None:
        """Wait until the list shows these names and no others."""
        expect(self.page.locator(".list .row:not([hidden]) .name")).to_have_count(len(names))
        for name in names:
            expect(self.row(name)).to_be_visible()

    def go(self, path: str, more: str = "") -> None:
        """To a folder, by its address."""
        self.page.goto(f"{self.server.origin}/t/{self.tarbox.tenant}#{quote(path)}{more}")
        expect(self.page.locator(".crumbs [aria-current]")).to_have_attribute("data-path", path)
        expect(self.page.locator(".bar")).to_be_hidden()
        if more:
            expect(self.page.locator(".banner.past")).to_contain_text(f"as of {more.removeprefix('?layer=')},")
        self.page.locator(".list .rows").focus()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def choose(self, label: str) -> None:
        """Take an item of the menu that is open."""
        self.page.locator(f'.menu button:has(.label:text-is("{label}"))').click()

    def answer(self, label: str) -> None:
        """Press a button of the dialog that is open."""
        self.page.locator(f'dialog button:text-is("{label}")').click()

    def said(self, words: str) -> None:
        expect(self.page.locator(".toast", has_text=words).first).to_be_visible()

    def open(self, name: str) -> None:
        """Open a file, and wait for its editor."""
        self.row(name).dblclick()
        expect(self.page.locator(".stage .cm-content")).to_be_visible()

    def text(self) -> str:
        """What the editor shows."""
        lines: list[str] = self.page.locator(".stage .cm-line").all_text_contents()
        return "\n".join(lines)

    def state(self, words: str) -> None:
        expect(self.page.locator(".stage .state")).to_have_text(words)


@contextmanager
def served(tarbox: Tarbox, *words: str) -> Iterator[Server]:
    """The page as it is built, on the command's tenant."""
    built()
    static = tarbox.folder / "static"
    if not static.exists():
        static.symlink_to(STATIC)
    with serving(tarbox, "--tenant", tarbox.tenant, *words) as server:
        yield server


@contextmanager
def behind(tarbox: Tarbox, *words: str) -> Iterator[tuple[Line, Server]]:
    """The same, behind a line that the test has in its hands."""
    with Line() as line:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            line.to = listener.getsockname()[1]
        with served(tarbox, "--port", str(line.to), "--origin", f"http://127.0.0.1:{line.port}", *words) as server:
            yield line, server


@contextmanager
def opened(tarbox: Tarbox, server: Server, chromium: Any, *, token: str = "", lost: bool = False, **options: Any) -> Iterator[Explorer]:
    """A page that the server's link opened, or a token. At its end nothing was said on the console, and nobody else asked; `lost`: but
    for a connection that was to be lost."""
    context = chromium.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.origin}/#token={token}" if token else server.told["url"])
    expect(page.locator(".explorer")).to_be_visible(timeout=20_000)
    expect(page.locator(".bar")).to_be_hidden(timeout=20_000)
    yield Explorer(page, tarbox, server)
    context.close()
    assert [words for words in said if not (lost and "ERR_CONNECTION" in words)] == []
    assert [url for url in asked if not url.startswith((server.origin, "blob:", "data:", server.origin.replace("http", "ws")))] == []


@contextmanager
def explorer(tarbox: Tarbox, **options: Any) -> Iterator[Explorer]:
    with served(tarbox) as server, browser() as chromium, opened(tarbox, server, chromium, **options) as one:
        yield one


def picture(folder: Path) -> Path:
    """A small image."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((x * 4, y * 4, 140)[c] for x in range(60) for c in range(3)) for y in range(40))
    made = folder / "picture.png"
    made.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 40, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return made
