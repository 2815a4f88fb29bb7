"""The explorer for a token that is for a path alone: what it shows, what it does, and what is not there."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("playwright")
from tests.browser.explorer import Explorer, behind, expect, opened, picture, served
from tests.browser.pages import browser, fill
from tests.pg.cli import Tarbox, fresh
from tests.tenants import prepare

if TYPE_CHECKING:
    from tests.browser.server import Server
    from tests.conftest import PgServer

TOP = "/work/own"


@pytest.fixture(scope="module")
def tarbox(pg_url_module: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tarbox]:
    folder = tmp_path_factory.mktemp("scope")
    with fresh(prepare(pg_url_module), folder) as command:
        for path in ("/work", TOP, f"{TOP}/deep", f"{TOP}/deep/inner", "/work/other"):
            command("mkdir", path)
        command("write", f"{TOP}/f.txt", given=b"text\n")
        command("write", "/work/secret.txt", given=b"secret\n")
        command("put", picture(folder), f"{TOP}/picture.png")
        command("layer", "create", "--name", "first")
        yield command
        command("gc")  # what was removed while a server might have had it open


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def server(tarbox: Tarbox) -> Iterator[Server]:
    with served(tarbox) as running:
        yield running


def token(tarbox: Tarbox, *words: str, path: str | bytes = TOP) -> str:
    made: str = tarbox.json("token", "create", "--path", path, *words)["token"]
    return made


@pytest.fixture(scope="module")
def one(tarbox: Tarbox, server: Server, chromium: Any) -> Iterator[Explorer]:
    with opened(tarbox, server, chromium, token=token(tarbox)) as page:
        yield page


def test_all_begins_and_ends_at_the_path(one: Explorer) -> None:
    one.go(TOP)
    one.shows("deep", "f.txt", "picture.png")
    expect(one.find("footer.status .tag")).to_have_text(f"only {TOP}")
    expect(one.find("footer.status .tag")).to_have_attribute("title", f"This token is for {TOP} alone")
    assert one.find(".crumbs li").all_inner_texts() == ["own"]
    assert one.find("[role=treeitem]").first.get_attribute("aria-label") == "own"
    one.press("Backspace", "Alt+ArrowUp")
    one.go(f"{TOP}/deep/inner")
    assert [words.strip() for words in one.find(".crumbs li").all_inner_texts()] == ["own", "deep", "inner"]
    expect(one.find("[role=treeitem][aria-selected=true]")).to_have_attribute("aria-label", "inner")
    one.press("Backspace", "Backspace", "Backspace", "Backspace")
    expect(one.find(".crumbs [aria-current]")).to_have_attribute("data-path", TOP)
    one.shows("deep", "f.txt", "picture.png")


def test_an_address_without_a_path_is_the_top(one: Explorer) -> None:
    one.page.goto(f"{one.server.origin}/")
    expect(one.find(".crumbs [aria-current]")).to_have_attribute("data-path", TOP, timeout=20_000)
    one.shows("deep", "f.txt", "picture.png")


def test_there_are_no_layers_and_no_audit(one: Explorer) -> None:
    one.go(TOP)
    expect(one.find(".branch-name")).to_have_count(0)
    assert one.find(".panel [role=tab]").all_inner_texts() == ["Preview", "Properties"]
    one.row("f.txt").click(button="right")
    assert one.find(".menu .label").all_inner_texts() == ["Open", "Download", "Copy", "Cut", "Rename", "Delete", "Properties"]
    one.choose("Properties")
    expect(one.find("dl.properties")).to_contain_text(f"{TOP}/f.txt")
    expect(one.find("dl.properties dt")).not_to_contain_text(["Layer"])
    one.find(".list .rows").click(button="right", position={"x": 200, "y": 400})
    labels = one.find(".menu .label").all_inner_texts()
    assert "Download as zip" in labels and "Compare layers" not in labels
    one.press("Escape")


def test_an_address_of_a_layer_shows_what_is_there_now(one: Explorer) -> None:
    one.page.goto(f"{one.server.origin}/t/{one.tarbox.tenant}#{TOP}/deep?layer=first&branch=main")
    one.said("it opens no layers and no branches")
    one.shows("inner")
    expect(one.find(".banner.past")).to_be_hidden()
    assert one.page.url.endswith(f"#{TOP}/deep")


@pytest.mark.parametrize("path", ["/work", "/work/secret.txt", "/work/other", "/nowhere"])
def test_what_is_outside_is_refused_and_leads_back(one: Explorer, path: str) -> None:
    one.go(TOP)
    one.press("Control+l")
    one.find(".crumbs input").fill(path)
    one.press("Enter")
    expect(one.find(".list > .note p")).to_contain_text("outside of what is granted")
    expect(one.find('.commands [aria-label="New"]')).to_be_hidden()
    refused = one.tarbox.json("audit", "--operation", "token_refused", "--since", "1 hour ago")
    assert [each["metadata"]["reason"] for each in refused if each["metadata"].get("path") == path]
    one.find(".list > .note button", f"Go to {TOP}").click()
    one.shows("deep", "f.txt", "picture.png")


def test_files_are_made_edited_named_copied_and_deleted(one: Explorer) -> None:
    tarbox = one.tarbox
    tarbox("mkdir", f"{TOP}/do")
    one.go(f"{TOP}/do")
    one.find('.commands [aria-label="New"]').click()
    one.choose("Folder…")
    one.find("dialog input").fill("box")
    one.press("Enter")
    one.shows("box")
    one.find('.commands [aria-label="New"]').click()
    one.choose("File…")
    one.find("dialog input").fill("note.txt")
    one.press("Enter")
    one.shows("box", "note.txt")
    one.open("note.txt")
    one.page.keyboard.type("words")
    one.press("Control+s")
    one.state("Saved")
    assert tarbox("cat", f"{TOP}/do/note.txt") == b"words"
    one.press("Escape")
    one.row("note.txt").click()
    one.press("F2")
    one.find("input.naming").fill("letter.txt")
    one.press("Enter")
    one.shows("box", "letter.txt")
    one.row("letter.txt").click()
    one.press("Control+c")
    one.row("box").dblclick()
    one.shows()
    one.press("Control+v")
    one.shows("letter.txt")
    one.press("Backspace")
    one.shows("box", "letter.txt")
    one.row("box").click()
    one.press("Delete")
    one.shows("letter.txt")
    one.find(".toast", "deleted").locator("button", has_text="Undo").click()
    one.shows("box", "letter.txt")
    assert tarbox("cat", f"{TOP}/do/box/letter.txt") == b"words"
    one.row("letter.txt").click(button="right")
    one.choose("Properties")
    expect(one.find("dl.properties")).to_contain_text(f"{TOP}/do/letter.txt")
    one.find('[aria-label="Mode"]').fill("0600")
    one.find("form.rights button.main").click()
    expect(one.find('[aria-label="Mode"]')).to_have_value("0600")
    expect(one.find("form.rights button.main")).to_be_hidden()
    (told,) = tarbox.json("stat", f"{TOP}/do/letter.txt")
    assert told["mode"].endswith("600")


def test_uploads_and_downloads(one: Explorer, tmp_path: Path) -> None:
    one.tarbox("mkdir", f"{TOP}/load")
    one.go(f"{TOP}/load")
    large = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(9 << 15))  # 9 MiB: three pieces
    (tmp_path / "large.bin").write_bytes(large)
    (tmp_path / "small.txt").write_bytes(b"small")
    (tmp_path / "empty").write_bytes(b"")
    one.find(".commands input[multiple]").set_input_files([tmp_path / name for name in ("large.bin", "small.txt", "empty")])
    one.shows("empty", "large.bin", "small.txt")
    one.said("3 files uploaded")
    assert one.tarbox("cat", f"{TOP}/load/large.bin") == large
    one.row("large.bin").click()
    expect(one.find("footer.status [role=status]")).to_have_text("1 item selected, 9.0 MiB")
    with one.page.expect_download() as download:
        one.find('.commands [aria-label="Download"]').click()
    assert Path(download.value.path()).read_bytes() == large
    one.press("Control+a")
    with one.page.expect_download() as download:
        one.find('.commands [aria-label="Download"]').click()
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
        assert {name: len(archive.read(name)) for name in archive.namelist()} == {"large.bin": len(large), "small.txt": 5, "empty": 0}


def test_an_upload_is_cancelled(one: Explorer, tmp_path: Path) -> None:
    one.tarbox("mkdir", f"{TOP}/cancel")
    one.go(f"{TOP}/cancel")
    (tmp_path / "large.bin").write_bytes(bytes(200 << 20))
    one.find(".commands input[multiple]").set_input_files([tmp_path / "large.bin"])
    one.find(".job button").click()
    expect(one.find(".job")).to_have_count(0)
    assert one.tarbox.names(f"{TOP}/cancel") == []


def test_looking_and_finding(one: Explorer) -> None:
    one.go(TOP)
    one.row("picture.png").dblclick()
    expect(one.find(".stage img")).to_be_visible()
    one.press("Escape")
    one.press("/")
    one.find("dialog input").fill("inn")
    expect(one.find("dialog .finds button")).to_have_count(1)
    one.press("Enter")
    expect(one.find(".crumbs [aria-current]")).to_have_attribute("data-path", f"{TOP}/deep/inner")


def test_links_that_lead_out_are_refused(one: Explorer) -> None:
    one.tarbox("mkdir", f"{TOP}/links")
    one.tarbox("ln", "-s", "/work/secret.txt", f"{TOP}/links/absolute")
    one.tarbox("ln", "-s", "../../other", f"{TOP}/links/relative")
    one.tarbox("ln", "-s", "../deep", f"{TOP}/links/inside")
    one.go(f"{TOP}/links")
    one.row("absolute").dblclick()
    expect(one.find(".list > .note")).to_contain_text("permission denied")
    one.press("Backspace")
    one.shows("absolute", "inside", "relative")
    one.row("inside").dblclick()
    one.shows("inner")


def test_what_others_change_is_shown(one: Explorer) -> None:
    one.tarbox("mkdir", f"{TOP}/live")
    one.go(f"{TOP}/live")
    expect(one.find(".list > .note")).to_have_text("This folder is empty")
    one.tarbox("write", f"{TOP}/live/new.txt", given=b"1\n")
    one.shows("new.txt")
    one.open("new.txt")
    one.tarbox("write", f"{TOP}/live/new.txt", given=b"2\n")
    expect(one.find(".stage .cm-line").first).to_have_text("2")
    one.page.keyboard.type("mine ")
    one.tarbox("write", f"{TOP}/live/new.txt", given=b"3\n")
    expect(one.find(".stage .notice")).to_contain_text("changed elsewhere")
    one.press("Control+s")
    expect(one.find("dialog")).to_contain_text("was changed elsewhere")
    one.answer("Overwrite with mine")
    one.state("Saved")
    assert one.tarbox("cat", f"{TOP}/live/new.txt") == b"mine 2\n"
    one.press("Escape")


def test_who_may_only_read_a_path(tarbox: Tarbox, server: Server, chromium: Any) -> None:
    with opened(tarbox, server, chromium, token=token(tarbox, "--read-only")) as reader:
        assert reader.find("footer.status .tag").all_inner_texts() == [f"only {TOP}", "read-only"]
        expect(reader.find('.commands [aria-label="New"]')).to_be_hidden()
        reader.row("f.txt").click(button="right")
        assert reader.find(".menu .label").all_inner_texts() == ["Open", "Download", "Copy", "Properties"]
        reader.press("Escape")
        reader.open("f.txt")
        reader.state("Read-only")


def test_a_path_that_is_no_utf_8(tarbox: Tarbox, server: Server, chromium: Any) -> None:
    tarbox("mkdir", b"/caf\xe9")
    tarbox("mkdir", b"/caf\xe9/inner")
    with opened(tarbox, server, chromium, token=token(tarbox, path=b"/caf\xe9")) as page:
        page.shows("inner")
        page.row("inner").dblclick()
        expect(page.find(".list > .note")).to_have_text("This folder is empty")
        assert page.page.url.endswith("#/caf%e9/inner")


def test_a_phone(tarbox: Tarbox, server: Server, chromium: Any) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    with opened(tarbox, server, chromium, token=token(tarbox), **phone) as small:
        assert small.page.evaluate("document.documentElement.scrollWidth") == 390
        expect(small.find("footer.status .tag")).to_be_visible()
        small.find('.top [aria-label="Folders"]').tap()
        small.find(f'.branch[data-path="{TOP}/deep"]').tap()
        small.shows("inner")


def test_another_token_in_its_place_opens_another_page(tarbox: Tarbox, server: Server, chromium: Any) -> None:
    made = tarbox.json("token", "create", "--path", TOP)
    with opened(tarbox, server, chromium, token=made["token"]) as page:
        page.go(f"{TOP}/deep")
        tarbox("token", "revoke", str(made["id"]))
        expect(page.find("dialog")).to_contain_text("This session has ended", timeout=20_000)
        page.find("dialog input").fill(tarbox.json("token", "create")["token"])
        page.answer("Open")
        expect(page.find(".branch-name")).to_be_visible(timeout=20_000)
        expect(page.find(".crumbs [aria-current]")).to_have_attribute("data-path", "/")


def test_another_tab_changes_the_session(tarbox: Tarbox, chromium: Any) -> None:
    """Which this page notices when it needs a connection anew."""
    with behind(tarbox) as (line, server), opened(tarbox, server, chromium, token=token(tarbox), lost=True) as page:
        other = page.page.context.new_page()
        other.goto(f"{server.origin}/#token={tarbox.json('token', 'create')['token']}")
        expect(other.locator(".branch-name")).to_be_visible(timeout=20_000)
        other.close()
        line.cut()
        expect(page.find("dialog")).to_contain_text("This session does not open this tenant", timeout=20_000)
        page.find("dialog input").fill(token(tarbox))
        page.answer("Open")
        expect(page.find(".banner.connection")).to_be_hidden(timeout=10_000)
        expect(page.find(".toast")).to_have_count(0)
        page.go(f"{TOP}/deep")
        page.shows("inner")


def test_a_line_that_breaks_and_falls_silent(tarbox: Tarbox, chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(large := b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(16 << 15)))
    tarbox("mkdir", f"{TOP}/line")
    with behind(tarbox) as (line, server), opened(tarbox, server, chromium, token=token(tarbox), lost=True) as page:
        banner = page.find(".banner.connection")
        page.go(f"{TOP}/line")
        page.find(".commands input[multiple]").set_input_files([tmp_path / "large.bin"])
        expect(page.find(".job .amount")).to_contain_text("of 16 MiB")
        line.cut()  # an upload begins anew
        expect(page.find(".job")).to_have_count(0, timeout=60_000)
        page.shows("large.bin")
        assert tarbox("cat", f"{TOP}/line/large.bin") == large
        page.row("large.bin").click()
        page.press("F2")
        page.find("input.naming").fill("other.bin")
        line.swallow()
        page.press("Enter")
        page.page.wait_for_timeout(200)
        line.cut()  # nobody knows of a change
        page.said("nobody knows whether it was done")
        expect(banner).to_contain_text("The connection is lost")
        tarbox("write", f"{TOP}/line/meanwhile", given=b"")
        line.heal()
        page.shows("large.bin", "meanwhile")
        expect(banner).to_be_hidden(timeout=15_000)
        line.swallow()  # and nothing is asked
        page.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(banner).to_contain_text("The connection is lost", timeout=15_000)
        line.heal()
        expect(banner).to_be_hidden(timeout=15_000)


def test_a_long_listing_begins_anew(tarbox: Tarbox, chromium: Any, pg_server: PgServer, pg_url_module: str) -> None:
    tarbox("mkdir", f"{TOP}/many")
    (told,) = tarbox.json("stat", f"{TOP}/many")
    superuser = pg_server.connect(urlsplit(pg_url_module).path[1:])
    fill(superuser, tarbox.tenant, {"ino": told["inode"], "layer": told["layer"]}, 40_000)
    superuser.close()
    with behind(tarbox) as (line, server), opened(tarbox, server, chromium, token=token(tarbox), lost=True) as page:
        page.page.goto(f"{server.origin}/t/{tarbox.tenant}#{TOP}/many")
        expect(page.row("000001")).to_be_visible()
        line.cut()
        expect(page.find("footer.status [role=status]")).to_have_text("40,000 items", timeout=30_000)
