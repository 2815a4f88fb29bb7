"""The explorer's page: going about, looking, and taking away what is there."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from tests.browser.explorer import Explorer, expect, picture


@pytest.fixture(scope="module", autouse=True)
def tree(shown: Explorer, tmp_path_factory: pytest.TempPathFactory) -> None:
    tarbox = shown.tarbox
    for folder in ("/go", "/go/alpha", "/go/alpha/deep", "/go/beta", "/look", "/tree", "/tree/inner", "/tree/inner/leaf"):
        tarbox("mkdir", folder)
    for name in ("file10.txt", "file9.txt", "file1.txt"):
        tarbox("write", f"/go/{name}", given=b"x" * int(name[4:-4]))
    tarbox("put", picture(tmp_path_factory.mktemp("picture")), "/look/picture.png")
    tarbox("write", "/look/text.md", given=b"# Title\nwords\n")
    tarbox("write", "/look/bytes.bin", given=bytes(range(256)) * 4000)
    tarbox("write", "/look/page.html", given=b"<script>document.title = 'owned'</script><h1>x</h1>")
    tarbox("write", "/look/drawing.svg", given=b"<svg xmlns='http://www.w3.org/2000/svg' onload=\"document.title = 'owned'\"/>")
    tarbox("write", "/look/fake.png", given=b"<svg xmlns='http://www.w3.org/2000/svg' onload=\"document.title = 'owned'\"/>")


def test_the_link_leaves_no_secret_in_the_address(shown: Explorer) -> None:
    assert "token" not in shown.page.url and f"/t/{shown.tarbox.tenant}" in shown.page.url


def test_folders_first_and_numbers_in_order(shown: Explorer) -> None:
    shown.go("/go")
    shown.shows("alpha", "beta", "file1.txt", "file9.txt", "file10.txt")
    assert shown.names() == ["alpha", "beta", "file1.txt", "file9.txt", "file10.txt"]
    head = shown.find(".head.col-size")
    head.click()
    head.click()
    expect(head).to_have_attribute("data-sorted", "descending")
    assert shown.names() == ["beta", "alpha", "file10.txt", "file9.txt", "file1.txt"]
    shown.find(".head.col-name").click()


def test_the_keyboard_goes_everywhere(shown: Explorer) -> None:
    shown.go("/go")
    shown.press("Home", "Enter")
    shown.shows("deep")
    shown.press("Enter")
    expect(shown.find(".list > .note")).to_have_text("This folder is empty")
    shown.press("Backspace")
    shown.shows("deep")
    expect(shown.row("deep")).to_have_attribute("aria-selected", "true")  # where one came from
    shown.press("Alt+ArrowUp")
    shown.shows("alpha", "beta", "file1.txt", "file9.txt", "file10.txt")
    shown.press("End")
    expect(shown.row("file10.txt")).to_have_attribute("aria-selected", "true")
    shown.page.keyboard.type("file9")
    expect(shown.row("file9.txt")).to_have_attribute("aria-selected", "true")
    expect(shown.row("file10.txt")).to_have_attribute("aria-selected", "false")
    shown.press("Shift+ArrowUp", "Shift+ArrowUp")
    expect(shown.find("footer.status")).to_contain_text("3 items selected")
    shown.press("Control+a")
    expect(shown.find("footer.status")).to_contain_text("5 items selected")
    shown.press("Escape")
    expect(shown.find("footer.status")).to_have_text("5 items")


def test_the_mouse_selects_several(shown: Explorer) -> None:
    shown.go("/go")
    shown.row("alpha").click()
    shown.row("file9.txt").click(modifiers=["Control"])
    expect(shown.find("footer.status")).to_contain_text("2 items selected, 9 bytes")
    shown.row("file1.txt").click()
    shown.row("file10.txt").click(modifiers=["Shift"])
    expect(shown.find(".list .row[aria-selected=true]")).to_have_count(3)


def test_paths_are_typed_and_clicked(shown: Explorer) -> None:
    shown.go("/go/alpha/deep")
    shown.find('.crumbs [data-path="/go"]').click()
    shown.shows("alpha", "beta", "file1.txt", "file9.txt", "file10.txt")
    shown.press("Control+l")
    shown.find(".crumbs input").fill("../go/./alpha")
    shown.press("Enter")
    shown.shows("deep")
    expect(shown.find(".list .rows")).to_be_focused()
    shown.page.go_back()
    shown.shows("alpha", "beta", "file1.txt", "file9.txt", "file10.txt")
    shown.page.go_forward()
    shown.shows("deep")
    shown.press("Control+l")
    shown.find(".crumbs input").fill("/nowhere")
    shown.press("Enter")
    expect(shown.find(".list > .note")).to_contain_text("no such file")


def test_the_tree_opens_as_it_is_asked(shown: Explorer) -> None:
    shown.go("/")
    shown.find('.branch[data-path="/tree"] .twist').click()
    shown.find('.branch[data-path="/tree/inner"]').click()
    shown.shows("leaf")
    shown.find('[role=treeitem][aria-selected="true"]').focus()
    leaf = shown.find('.branch[data-path="/tree/inner/leaf"]')
    expect(leaf).to_have_count(0)
    shown.press("ArrowRight")
    expect(leaf).to_be_visible()
    shown.press("ArrowRight", "Enter")
    expect(shown.find(".crumbs [aria-current]")).to_have_text("leaf")
    shown.press("ArrowLeft", "ArrowLeft")
    expect(leaf).to_be_hidden()


def test_names_that_are_no_utf_8_have_addresses(shown: Explorer) -> None:
    shown.tarbox("mkdir", "/odd")
    shown.tarbox(b"mkdir", b"/odd/caf\xe9 #1?")
    shown.go("/odd")
    shown.press("Home", "Enter")
    expect(shown.find(".list > .note")).to_have_text("This folder is empty")
    assert shown.page.url.endswith("#/odd/caf%e9%20%231%3F")
    shown.page.reload()
    expect(shown.find(".list > .note")).to_have_text("This folder is empty", timeout=20_000)


def test_addresses_lead_to_files(shown: Explorer) -> None:
    shown.page.goto(f"{shown.server.origin}/t/{shown.tarbox.tenant}#/look/text.md")
    expect(shown.find(".stage .cm-content")).to_be_visible()
    assert shown.text() == "# Title\nwords\n"
    shown.press("Escape")
    expect(shown.find(".stage")).to_be_hidden()
    expect(shown.row("text.md")).to_have_attribute("aria-selected", "true")


def test_glances(shown: Explorer) -> None:
    shown.go("/look")
    glance = shown.find(".panel .glance")
    shown.row("text.md").click()
    expect(glance.locator("pre.text")).to_have_text("# Title\nwords\n", use_inner_text=True)
    shown.row("picture.png").click()
    expect(glance.locator("img")).to_have_js_property("naturalWidth", 60)
    shown.row("bytes.bin").click()
    expect(glance.locator("pre.hex")).to_contain_text("00000010  10 11 12 13 14 15 16 17  ")
    shown.row("fake.png").click()
    expect(glance.locator("pre")).to_contain_text("<svg")


def test_files_open_as_what_they_are(shown: Explorer) -> None:
    shown.go("/look")
    shown.row("picture.png").dblclick()
    expect(shown.find(".stage img")).to_have_js_property("naturalWidth", 60)
    expect(shown.find(".stage .state")).to_contain_text("60 × 40")
    shown.press("Escape")
    shown.row("bytes.bin").dblclick()
    hexes = shown.find(".stage .hexes")
    expect(hexes.locator('[data-index="1"]')).to_contain_text("10 11 12 13")
    hexes.press("Control+End")
    hexes.evaluate("(rows) => { rows.scrollTop = rows.scrollHeight; }")
    expect(hexes.locator('[data-index="63999"]')).to_contain_text("000f9ff0  f0 f1 f2")
    shown.press("Escape")


def test_documents_of_a_tenant_never_run(shown: Explorer) -> None:
    shown.go("/look")
    for name in ("page.html", "drawing.svg", "fake.png"):
        shown.row(name).click()
        expect(shown.find(".panel .glance pre")).to_contain_text("owned")
        shown.open(name)
        assert "owned" in shown.text()
        assert shown.page.locator("iframe, object, embed, .stage img").count() == 0
        shown.press("Escape")
        assert "owned" not in shown.page.title()


def test_downloads(shown: Explorer, tmp_path: Path) -> None:
    shown.go("/look")
    shown.row("bytes.bin").click()
    with shown.page.expect_download() as one:
        shown.find('.commands button[aria-label="Download"]').click()
    assert one.value.suggested_filename == "bytes.bin"
    one.value.save_as(tmp_path / "bytes")
    assert hashlib.sha256((tmp_path / "bytes").read_bytes()).digest() == hashlib.sha256(bytes(range(256)) * 4000).digest()
    shown.go("/")
    shown.row("go").click(button="right")
    with shown.page.expect_download() as several:
        shown.choose("Download as zip")
    assert several.value.suggested_filename == "go.zip"
    several.value.save_as(tmp_path / "zip")
    with zipfile.ZipFile(io.BytesIO((tmp_path / "zip").read_bytes())) as packed:
        assert packed.testzip() is None and packed.read("go/file9.txt") == b"x" * 9 and "go/alpha/deep/" in packed.namelist()


def test_finding_by_name(shown: Explorer) -> None:
    shown.go("/")
    shown.press("/")
    shown.page.keyboard.type("FILE 1")
    expect(shown.find("dialog [role=status]")).to_have_text("2 names found")
    shown.press("ArrowDown")
    expect(shown.find(".finds [aria-selected=true]")).to_contain_text("file1")
    name = shown.find(".finds [aria-selected=true] .name").inner_text()
    shown.press("Enter")
    expect(shown.row(name)).to_have_attribute("aria-selected", "true")
    expect(shown.find(".crumbs [aria-current]")).to_have_text("go")


def test_the_keys_are_told(shown: Explorer) -> None:
    shown.go("/")
    shown.press("?")
    expect(shown.find("dialog h2")).to_have_text("Keys")
    shown.press("Escape")
    expect(shown.find("dialog")).to_have_count(0)


def test_the_panel_goes_and_stays_away(shown: Explorer) -> None:
    shown.go("/go")
    shown.find('.top [aria-label="Details"]').click()
    expect(shown.find(".panel")).to_be_hidden()
    shown.page.reload()
    expect(shown.row("alpha")).to_be_visible(timeout=20_000)
    expect(shown.find(".panel")).to_be_hidden()
    shown.find('.top [aria-label="Details"]').click()
    expect(shown.find(".panel")).to_be_visible()


def test_colours_are_switched_and_kept(shown: Explorer) -> None:
    colour = "getComputedStyle(document.querySelector('main')).backgroundColor"
    assert shown.page.evaluate(colour) == "rgb(255, 255, 255)"
    shown.find('.top [aria-label="More"]').click()
    shown.choose("Dark colours")
    assert shown.page.evaluate(colour) == "rgb(26, 29, 32)"
    shown.page.emulate_media(color_scheme="dark")
    shown.find('.top [aria-label="More"]').click()
    shown.choose("Light colours")
    assert shown.page.evaluate(colour) == "rgb(255, 255, 255)"
    shown.find('.top [aria-label="More"]').click()
    shown.choose("Dark colours")
    shown.page.emulate_media(color_scheme="light")
    assert shown.page.evaluate(colour) == "rgb(255, 255, 255)"  # the system is followed again
