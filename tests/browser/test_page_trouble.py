"""The explorer's page where it is not easy: the server goes away, the session ends, little is granted, the folder is huge, the screen is small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.browser.explorer import behind, expect, opened, served
from tests.browser.pages import browser, fill
from tests.browser.server import serving
from tests.browser.test_page_changes import upload
from tests.pg.cli import Tarbox, fresh
from tests.tenants import prepare

if TYPE_CHECKING:
    from tests.browser.server import Server
    from tests.conftest import PgServer


@pytest.fixture(scope="module")
def tarbox(pg_url_module: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tarbox]:
    with fresh(prepare(pg_url_module), tmp_path_factory.mktemp("trouble")) as command:
        command("mkdir", "/d")
        command("write", "/d/f.txt", given=b"text\n")
        yield command
        command("gc")  # what was removed while a server might have had it open


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as made:
        yield made


def end_session(server: Server, page: Any) -> None:
    cookies = "; ".join(f"{each['name']}={each['value']}" for each in page.context.cookies())
    assert server.ask("POST", "/logout", {}, Cookie=cookies).status == 204


def test_the_server_restarts_while_one_edits(tarbox: Tarbox, chromium: Any) -> None:
    with served(tarbox) as before:
        with opened(tarbox, before, chromium, lost=True) as one:
            one.go("/d")
            one.open("f.txt")
            one.page.keyboard.type("new ")
            before.process.kill()
            before.process.wait()
            banner = one.find(".banner.connection")
            expect(banner).to_contain_text("The connection is lost")
            one.page.keyboard.type("and more ")
            one.press("Control+s")
            one.state("Saving…")
            with serving(tarbox, "--tenant", tarbox.tenant, port=before.port):
                one.state("Saved")
                expect(banner).to_be_hidden()
                assert tarbox("cat", "/d/f.txt") == b"new and more text\n"
                one.press("Escape")
                tarbox("write", "/d/later.txt", given=b"")  # what others do is told again, too
                one.shows("f.txt", "later.txt")
                tarbox("rm", "/d/later.txt")


def test_a_connection_that_falls_silent_while_one_edits(tarbox: Tarbox, chromium: Any) -> None:
    """Neither end is told: what is asked is not answered."""
    tarbox("write", "/d/f.txt", given=b"text\n")
    with behind(tarbox) as (line, server), opened(tarbox, server, chromium, lost=True) as one:
        one.go("/d")
        one.open("f.txt")
        one.page.keyboard.type("silent ")
        line.swallow()
        one.press("Control+s")
        banner = one.find(".banner.connection")
        expect(banner).to_contain_text("The connection is lost", timeout=30_000)
        tarbox("write", "/d/meanwhile.txt", given=b"")
        line.heal()
        expect(one.find(".stage .state")).to_have_text("Saved", timeout=15_000)
        assert tarbox("cat", "/d/f.txt") == b"silent text\n"
        one.press("Escape")
        one.shows("f.txt", "meanwhile.txt")
        expect(banner).to_be_hidden()
        tarbox("rm", "/d/meanwhile.txt")


def test_the_session_ends_while_one_edits(tarbox: Tarbox, chromium: Any) -> None:
    tarbox("write", "/d/f.txt", given=b"text\n")
    with served(tarbox) as server, opened(tarbox, server, chromium) as one:
        one.go("/d")
        one.open("f.txt")
        one.page.keyboard.type("kept ")
        end_session(server, one.page)
        expect(one.find("dialog")).to_contain_text("This session has ended", timeout=20_000)
        one.press("Escape")
        expect(one.find("dialog.login")).to_be_visible()
        one.find("dialog input").fill(tarbox.json("token", "create")["token"])
        one.answer("Open")
        expect(one.find(".banner.connection")).to_be_hidden()
        one.find(".stage .cm-content").focus()
        one.press("Control+s")
        one.state("Saved")
        assert tarbox("cat", "/d/f.txt") == b"kept text\n"
        one.press("Escape")


def test_the_session_ends_while_one_uploads(tarbox: Tarbox, chromium: Any, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 30)
    with served(tarbox) as server, opened(tarbox, server, chromium) as one:
        one.go("/d")
        upload(one.page, "Files", tmp_path / "large")
        expect(one.find(".job .amount")).to_contain_text("of 1.0 GiB")
        end_session(server, one.page)
        one.said("Uploading large: this session has ended")
        assert len(tarbox.names("/d")) == 2  # what is there of it
        one.find("dialog input").fill(tarbox.json("token", "create")["token"])
        one.answer("Open")
        one.shows("f.txt")
        assert tarbox.names("/d") == [b"f.txt"]


def test_who_has_no_session_is_asked_for_a_link(tarbox: Tarbox, chromium: Any) -> None:
    other = tarbox.json("tenant", "create", f"{tarbox.tenant}-too")["name"]
    with served(tarbox, "--tenant", other) as server:
        page = chromium.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(server.origin)
        page.locator("dialog input").fill("nonsense")
        page.locator("dialog button.main").click()
        expect(page.locator("dialog .problem")).to_have_text("This is neither a link nor a token.")
        assert said == []
        page.locator("dialog input").fill("tbx_" + "a" * 43)
        page.locator("dialog button.main").click()
        expect(page.locator("dialog .problem")).not_to_have_text("This is neither a link nor a token.")
        page.locator("dialog input").fill(server.told["url"])
        page.locator("dialog button.main").click()
        expect(page.locator(".explorer")).to_be_visible(timeout=20_000)
        page.goto("about:blank")
        page.goto(server.told["url"])  # once more, where a session is
        expect(page.locator(".toast")).to_contain_text("This link was used already. You are here by the session", timeout=20_000)
        page.goto(f"{server.origin}/t/nobody")
        expect(page.locator(".toast")).to_have_text(f"What lets you in does not open nobody: this is {tarbox.tenant}", timeout=20_000)
        assert page.url == f"{server.origin}/t/{tarbox.tenant}"
        theirs = tarbox.json("token", "create", "--tenant", other)["token"]
        page.goto(f"{server.origin}/t/{tarbox.tenant}#token={theirs}")
        expect(page.locator(".toast", has_text="ended your session")).to_contain_text(f"This link opens “{other}”", timeout=20_000)
        page.context.clear_cookies()
        page.goto("about:blank")
        page.goto(server.told["url"])
        expect(page.locator("dialog .problem")).to_contain_text("This link was used already.")
        page.context.close()


def test_who_may_only_read_is_offered_no_more(tarbox: Tarbox, chromium: Any) -> None:
    with served(tarbox, "--read-only") as server, opened(tarbox, server, chromium) as one:
        one.go("/d")
        expect(one.find("footer.status .tag")).to_have_text("read-only")
        expect(one.find('.commands [aria-label="New"]')).to_be_hidden()
        one.row("f.txt").click(button="right")
        items = one.find(".menu .label").all_inner_texts()
        assert items == ["Open", "Download", "Copy", "History", "Audit", "Properties"]
        one.choose("Properties")
        expect(one.find('[aria-label="Mode"]')).to_be_disabled()
        one.press("Delete", "F2")
        one.open("f.txt")
        one.state("Read-only")
        one.press("Escape")
        one.find(".branch-name").click()
        expect(one.find(".layers li").first).to_be_visible()
        expect(one.find(".timeline button", "Checkpoint")).to_have_count(0)
        assert b"f.txt" in tarbox.names("/d")


def test_100000_entries(tarbox: Tarbox, chromium: Any, pg_server: PgServer, pg_url_module: str) -> None:
    tarbox("mkdir", "/many")
    (told,) = tarbox.json("stat", "/many")
    superuser = pg_server.connect(urlsplit(pg_url_module).path[1:])
    fill(superuser, tarbox.tenant, {"ino": told["inode"], "layer": told["layer"]}, 100_000)
    superuser.close()
    with served(tarbox) as server, opened(tarbox, server, chromium) as one:
        # The first screen is there before the rest has come.
        shown = """() => new Promise((resolve) => {
          const look = () => document.querySelector('.row .name')?.textContent === '000001'
            ? resolve(document.querySelector('footer.status').textContent) : requestAnimationFrame(look);
          location.hash = '#/many';
          look();
        })"""
        assert "100,000 items" not in one.page.evaluate(shown)
        expect(one.find("footer.status")).to_have_text("100,000 items", timeout=60_000)
        expect(one.find(".bar")).to_be_hidden()
        one.find(".list .rows").focus()
        one.press("End")
        expect(one.row("100000")).to_have_attribute("aria-selected", "true")
        assert one.find(".list .row").count() < 60
        one.page.keyboard.type("0500")
        expect(one.row("050000")).to_have_attribute("aria-selected", "true")


def test_a_phone(tarbox: Tarbox, chromium: Any) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    with served(tarbox) as server, opened(tarbox, server, chromium, **phone) as one:
        assert one.page.evaluate("document.documentElement.scrollWidth") == 390
        expect(one.find(".panel")).to_be_hidden()
        one.row("d").tap()
        one.shows("f.txt")
        one.row("f.txt").locator(".picture").tap()
        expect(one.row("f.txt")).to_have_attribute("aria-selected", "true")
        one.row("f.txt").locator(".picture").tap()
        one.row("f.txt").locator(".more").tap()
        expect(one.row("f.txt")).to_have_attribute("aria-selected", "true")
        one.press("Escape")
        expect(one.row("f.txt")).to_have_attribute("aria-selected", "false")  # the next touch opens
        one.row("f.txt").locator(".more").tap()
        one.choose("Properties")
        expect(one.find("dl.properties")).to_contain_text("/d/f.txt")
        one.find('[aria-label="Close the panel"]').tap()
        one.find('.top [aria-label="Folders"]').tap()
        one.find('.branch[data-path="/"]').tap()
        expect(one.find(".side")).not_to_have_class("side open")
        expect(one.row("d")).to_be_visible()
        one.row("d").tap()
        one.row("f.txt").tap()
        expect(one.find(".stage .cm-content")).to_be_visible()
        one.find('.stage [aria-label="Close (Esc)"]').tap()
        expect(one.find(".stage")).to_be_hidden()
        tarbox("layer", "create", "--name", "phone")
        one.find(".branch-name").tap()
        one.find(".timeline button", "Compare layers").tap()
        assert one.find("dialog").evaluate("(dialog) => dialog.scrollWidth") == 390
        one.find('dialog [aria-label="Close"]').tap()
        one.find('[aria-label="Close the panel"]').tap()
        for selector in (".top .tools button", ".commands button:visible", ".row:not([hidden]) .more"):
            assert all(box["height"] >= 39 for box in (each.bounding_box() for each in one.find(selector).all()) if box)
