"""The explorer's page: making, naming, moving, taking away and bringing back; and what other doors change meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.explorer import Explorer, expect

# Drop files on what a selector finds, as a drag from the computer ends.
DROP = """([selector, files]) => {
  const moved = new DataTransfer();
  for (const [name, text] of files) moved.items.add(new File([text], name));
  for (const kind of ['dragenter', 'dragover', 'drop'])
    document.querySelector(selector).dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: moved}));
}"""


@pytest.fixture
def work(shown: Explorer) -> Iterator[Explorer]:
    """In a folder with a file and a folder, which is empty again at the end."""
    shown.tarbox("mkdir", "/work")
    shown.tarbox("mkdir", "/work/folder")
    shown.tarbox("write", "/work/one.txt", given=b"one")
    shown.go("/work")
    shown.shows("folder", "one.txt")
    yield shown
    shown.go("/")
    shown.tarbox("rm", "-r", "/work")


def upload(page: Any, what: str, files: Any) -> None:
    page.locator('.commands [aria-label="Upload"]').click()
    with page.expect_file_chooser() as chooser:
        page.locator(f'.menu button:has-text("{what}")').click()
    chooser.value.set_files(files)


def test_new_folders_and_files(work: Explorer) -> None:
    work.find('.commands [aria-label="New"]').click()
    work.choose("Folder…")
    work.find("dialog input").fill("made")
    work.press("Enter")
    expect(work.row("made")).to_have_attribute("aria-selected", "true")
    work.find(".list .rows").click(button="right", position={"x": 200, "y": 400})
    work.choose("New file…")
    work.find("dialog input").fill("made.txt")
    work.answer("Create")
    work.shows("folder", "made", "made.txt", "one.txt")
    assert work.tarbox.names("/work") == [b"folder", b"made", b"made.txt", b"one.txt"]
    work.find('.commands [aria-label="New"]').click()
    work.choose("Folder…")
    work.find("dialog input").fill("made")
    work.press("Enter")
    work.said("file exists")
    work.press("Control+z", "Control+z")
    work.shows("folder", "one.txt")


def test_naming_in_place(work: Explorer) -> None:
    work.row("one.txt").click()
    work.press("F2")
    naming = work.find(".naming")
    assert naming.evaluate("(input) => input.value.slice(input.selectionStart, input.selectionEnd)") == "one"
    work.page.keyboard.type("two")
    work.press("Enter")
    work.shows("folder", "two.txt")
    assert work.tarbox("cat", "/work/two.txt") == b"one"
    work.press("F2")
    naming.fill("nothing")
    work.press("Escape")
    work.shows("folder", "two.txt")
    for name, told in (("a/b", "“a/b” is no name"), ("folder", "Renaming “two.txt”: /work/folder: file exists")):
        work.press("F2")
        naming.fill(name)
        work.press("Enter")
        work.said(told)
    work.shows("folder", "two.txt")
    work.press("Control+z")
    work.shows("folder", "one.txt")


def test_deleting_is_undone(work: Explorer) -> None:
    work.tarbox("write", "/work/folder/inner", given=b"inside")
    work.press("Control+a", "Delete")
    expect(work.find(".list > .note")).to_have_text("This folder is empty")
    assert work.tarbox.names("/work") == []
    work.find(".toast button", "Undo").click()
    work.shows("folder", "one.txt")
    assert work.tarbox("cat", "/work/folder/inner") == b"inside"
    work.press("Control+a", "Delete")
    expect(work.find(".toast button", "Undo")).to_be_visible()
    work.press("Control+z")
    work.shows("folder", "one.txt")
    expect(work.find(".toast button", "Undo")).to_have_count(0)  # it is done


def test_cut_copy_and_paste(work: Explorer) -> None:
    work.row("one.txt").click()
    work.press("Control+c", "Control+v")
    work.shows("folder", "one 2.txt", "one.txt")
    work.row("one 2.txt").click()
    work.press("Control+x")
    expect(work.row("one 2.txt")).to_have_class("row focused cut")
    work.row("folder").dblclick()
    expect(work.find(".crumbs [aria-current]")).to_have_text("folder")
    work.press("Control+v")
    work.shows("one 2.txt")
    assert work.tarbox("cat", "/work/folder/one 2.txt") == b"one"
    work.press("Control+z", "Backspace")
    work.shows("folder", "one 2.txt", "one.txt")


def test_a_name_that_is_taken_is_asked_about(work: Explorer) -> None:
    work.tarbox("write", "/work/folder/one.txt", given=b"other")
    for answer, names in (("Skip", [b"one.txt"]), ("Keep both", [b"one 2.txt", b"one.txt"]), ("Replace", [b"one 2.txt", b"one.txt"])):
        work.go("/work")
        work.row("one.txt").click()
        work.press("Control+c")
        work.row("folder").click(button="right")
        work.choose("Paste into it")
        expect(work.find("dialog h2")).to_have_text("“one.txt” is there already")
        work.answer(answer)
        expect(work.find("dialog")).to_have_count(0)
        if answer != "Skip":
            work.go("/work/folder")
            work.shows("one 2.txt", "one.txt")
        assert work.tarbox.names("/work/folder") == names
    work.page.wait_for_timeout(200)
    assert work.tarbox("cat", "/work/folder/one.txt") == b"one"


def test_dragging_moves(work: Explorer) -> None:
    work.row("one.txt").drag_to(work.row("folder"))
    work.shows("folder")
    assert work.tarbox.names("/work/folder") == [b"one.txt"]
    work.find(".toast button", "Undo").click()
    work.shows("folder", "one.txt")
    work.row("one.txt").drag_to(work.find('.branch[data-path="/"]'))
    work.said("1 item moved to /")
    assert b"one.txt" in work.tarbox.names("/")
    work.press("Control+z")
    work.shows("folder", "one.txt")


def test_uploads_of_files_and_folders(work: Explorer, tmp_path: Path) -> None:
    (tmp_path / "tree/inner").mkdir(parents=True)
    (tmp_path / "tree/inner/leaf.txt").write_text("leaf")
    (tmp_path / "tree/top.txt").write_text("top")
    upload(work.page, "A folder", tmp_path / "tree")
    work.shows("folder", "one.txt", "tree")
    assert work.tarbox("cat", "/work/tree/inner/leaf.txt") == b"leaf"
    upload(work.page, "Files", [{"name": "one.txt", "mimeType": "text/plain", "buffer": b"newer"}])
    work.answer("Replace")
    expect(work.row("one.txt")).to_contain_text("5 bytes")
    assert work.tarbox("cat", "/work/one.txt") == b"newer"
    work.page.evaluate(DROP, [".list .rows", [["dropped.txt", "dropped"]]])
    work.shows("folder", "tree", "dropped.txt", "one.txt")
    row = '.list .row:not([hidden]):has(.name[title="folder"])'
    work.page.evaluate(DROP, [row, [["inside.txt", "inside"]]])
    work.row("folder").dblclick()
    work.shows("inside.txt")


def test_an_upload_is_cancelled(work: Explorer, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(192 << 20)
    upload(work.page, "Files", tmp_path / "large")
    job = work.find(".job", "Uploading large")
    expect(job.locator(".amount")).to_contain_text("of 192 MiB")
    job.locator("button").click()
    expect(job).to_have_count(0)
    work.page.wait_for_timeout(300)
    assert work.tarbox.names("/work") == [b"folder", b"one.txt"]


def test_rights_are_set(work: Explorer) -> None:
    work.row("one.txt").click()
    work.find("[role=tab]", "Properties").click()
    expect(work.find("dl.properties")).to_contain_text("3 bytes")
    work.find('[aria-label="Group: write"]').check()
    expect(work.find('[aria-label="Mode"]')).to_have_value("0664")
    work.find('[aria-label="Owner\'s number"]').fill("1234")
    work.find(".panel button", "Apply").click()
    expect(work.row("one.txt")).to_contain_text("rw-rw-r--")
    (told,) = work.tarbox.json("stat", "/work/one.txt")
    assert (told["uid"], int(told["mode"], 8) & 0o777) == (1234, 0o664)
    work.find("[role=tab]", "Preview").click()


def test_what_others_change_shows_by_itself(work: Explorer) -> None:
    work.row("one.txt").click()
    work.tarbox("write", "/work/theirs.txt", given=b"theirs")
    work.shows("folder", "one.txt", "theirs.txt")
    expect(work.row("one.txt")).to_have_attribute("aria-selected", "true")
    work.tarbox("mkdir", "/work/later")
    expect(work.find('.branch[data-path="/work/later"]')).to_be_visible()
    work.tarbox("write", "/work/one.txt", given=b"longer than before")
    expect(work.row("one.txt")).to_contain_text("18 bytes")


def test_the_menu_by_keyboard(work: Explorer) -> None:
    work.row("one.txt").click()
    work.press("Shift+F10")
    expect(work.find(".menu [role=menuitem]").first).to_be_focused()
    work.press("ArrowDown", "ArrowUp", "ArrowUp")
    expect(work.find(".menu [role=menuitem]").last).to_be_focused()
    work.press("Escape")
    expect(work.find(".menu")).to_have_count(0)
    expect(work.find(".list .rows")).to_be_focused()
