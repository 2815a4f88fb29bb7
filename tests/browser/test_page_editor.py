"""The explorer's page: the editor. Nothing that was typed is lost, whoever else writes."""

from __future__ import annotations

import re
import time

import pytest

from tests.browser.explorer import Explorer, expect


@pytest.fixture
def note(shown: Explorer) -> Explorer:
    """An open file that has one line."""
    shown.tarbox("write", "/note.txt", given=b"one\n")
    shown.go("/")
    shown.open("note.txt")
    shown.state("Saved")
    return shown


def test_saving(note: Explorer) -> None:
    note.press("Control+End")
    note.page.keyboard.type("two")
    note.state("Not saved")
    note.press("Control+s")
    note.state("Saved")
    assert note.tarbox("cat", "/note.txt") == b"one\ntwo"
    note.press("Control+z")
    note.state("Not saved")
    note.press("Control+Shift+z")
    note.state("Saved")
    note.press("Escape")
    expect(note.row("note.txt")).to_contain_text("7 bytes")


def test_bytes_stay_as_they_are(shown: Explorer) -> None:
    for name, before, after in (
        ("crlf.txt", b"a\r\nb\r\n", b"xa\r\nb\r\n"),
        ("mixed.txt", b"\xef\xbb\xbfa\r\nb\nc\rd", b"x\xef\xbb\xbfa\r\nb\nc\rd"),
    ):
        shown.tarbox("write", f"/{name}", given=before)
        shown.go("/")
        shown.open(name)
        shown.press("Control+Home")
        shown.page.keyboard.type("x")
        shown.press("Control+s")
        shown.state("Saved")
        shown.press("Escape")
        assert shown.tarbox("cat", f"/{name}") == after


def test_leaving_asks(note: Explorer) -> None:
    note.page.keyboard.type("zero ")
    note.press("Escape")
    expect(note.find("dialog h2")).to_have_text("Save “note.txt”?")
    note.answer("Keep editing")
    expect(note.find(".stage .cm-content")).to_be_visible()
    note.page.go_back()  # asks as well, and the address stays
    note.answer("Keep editing")
    expect(note.page).to_have_url(re.compile("#/note.txt$"))
    assert note.text().startswith("zero one")
    note.press("Escape")
    note.answer("Discard")
    expect(note.find(".stage")).to_be_hidden()
    assert note.tarbox("cat", "/note.txt") == b"one\n"
    note.open("note.txt")
    note.page.keyboard.type("zero ")
    note.press("Escape")
    note.answer("Save")
    expect(note.find(".stage")).to_be_hidden()
    assert note.tarbox("cat", "/note.txt") == b"zero one\n"


def test_an_edit_outlives_a_reload(note: Explorer) -> None:
    note.page.keyboard.type("unsaved ")
    note.state("Not saved")
    note.page.wait_for_timeout(700)
    note.page.on("dialog", lambda dialog: dialog.accept())
    note.page.reload()
    expect(note.find(".notice")).to_contain_text("Your unsaved edits are here again.", timeout=20_000)
    assert note.text() == "unsaved one\n"
    note.find(".notice button", "Discard").click()
    note.state("Saved")
    assert note.text() == "one\n"
    note.press("Escape")


def test_what_others_save_is_loaded(note: Explorer) -> None:
    note.tarbox("write", "/note.txt", given=b"theirs\n")
    expect(note.find(".stage .cm-content")).to_contain_text("theirs")
    note.state("Saved")
    note.press("Escape")


@pytest.mark.parametrize("choice", ["Overwrite with mine", "Reload theirs", "Compare"])
def test_two_who_edit(note: Explorer, choice: str) -> None:
    note.page.keyboard.type("mine ")
    note.tarbox("write", "/note.txt", given=b"theirs\n")
    expect(note.find(".notice")).to_contain_text("changed elsewhere")
    note.press("Control+s")
    expect(note.find("dialog h2")).to_have_text("“note.txt” was changed elsewhere")
    note.answer(choice)
    if choice == "Compare":
        sides = note.find("dialog .cm-content")
        expect(sides.first).to_contain_text("theirs")
        expect(sides.last).to_contain_text("mine one")
        note.press("Escape")
        note.state("Not saved")
        assert note.tarbox("cat", "/note.txt") == b"theirs\n"
        note.press("Escape")
        note.answer("Discard")
        return
    note.state("Saved")
    assert note.tarbox("cat", "/note.txt") == (b"mine one\n" if choice.startswith("Over") else b"theirs\n")
    assert note.text() == note.tarbox("cat", "/note.txt").decode()
    note.press("Escape")


def test_a_file_that_goes_is_saved_anew(note: Explorer) -> None:
    note.page.keyboard.type("mine ")
    note.tarbox("rm", "/note.txt")
    expect(note.find(".notice")).to_contain_text("moved or deleted")
    note.press("Control+s")
    note.answer("Save it anew")
    note.state("Saved")
    assert note.tarbox("cat", "/note.txt") == b"mine one\n"
    note.press("Escape")


def test_languages_have_colours(shown: Explorer) -> None:
    shown.tarbox("write", "/code.py", given=b"def f():\n    return 'text'\n")
    shown.go("/")
    shown.open("code.py")
    colour = "(word) => getComputedStyle(word).color"
    word, text = (shown.find(".stage .cm-line span", words).first for words in ("def", "'text'"))
    expect(word).to_be_visible()
    assert len({word.evaluate(colour), text.evaluate(colour), shown.find(".stage .cm-content").evaluate(colour)}) == 3
    shown.press("Escape")


def test_a_megabyte_opens_at_once(shown: Explorer) -> None:
    shown.tarbox("write", "/large.txt", given=b"0123456789 abcdefghijklmnopqrstuvwxyz\n" * 27_600)
    shown.go("/")
    began = time.monotonic()
    shown.open("large.txt")
    expect(shown.find(".stage .cm-line").first).to_contain_text("0123456789")
    assert time.monotonic() - began < 2  # the bar is 0.5 s in the page; this has a driver's trips in it, and a busy machine's
    shown.press("Escape")
