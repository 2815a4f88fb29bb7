"""The explorer's page: nothing that somebody has is lost or damaged, and nothing is said to be done that is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.browser.explorer import Explorer, expect, opened, served
from tests.browser.pages import browser
from tests.browser.test_page_changes import upload
from tests.pg.cli import Tarbox, fresh
from tests.tenants import prepare

LARGEST = 100_000  # bytes of a file in this tenant

# Hold back what the worker answers to a verb, of which `answered()` waits, until `held()`. The page's own code knows nothing of it.
HOLD = """(verb) => {
  const {postMessage} = Worker.prototype;
  Worker.prototype.postMessage = function (message, ...more) {
    if (message.verb === verb) {
      Worker.prototype.postMessage = postMessage;
      const {id} = message, {onmessage} = this;
      this.onmessage = (event) => {
        const told = () => onmessage.call(this, event);
        if (event.data.id === id && event.data.event === undefined) window.held = told;
        else told();
      };
    }
    return postMessage.call(this, message, ...more);
  };
  window.answered = async () => {
    while (!window.held) await new Promise((resolve) => setTimeout(resolve, 20));
  };
}"""


@pytest.fixture(scope="module")
def tarbox(pg_url_module: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tarbox]:
    with fresh(prepare(pg_url_module), tmp_path_factory.mktemp("losses")) as command:
        command.tenant += "small"
        command.env["TARBOX_TENANT"] = command.tenant
        command("tenant", "create", command.tenant, "--max-file-size", str(LARGEST))
        yield command
        command("gc")  # what was removed while the server might have had it open


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def page(tarbox: Tarbox, chromium: Any) -> Iterator[Explorer]:
    with served(tarbox) as server, opened(tarbox, server, chromium) as one:
        one.page.on("dialog", lambda dialog: dialog.accept())  # the page is left
        yield one


@pytest.fixture
def one(page: Explorer) -> Iterator[Explorer]:
    """In a folder of the test's own, which has a file."""
    page.tarbox("mkdir", "/own")
    page.tarbox("write", "/own/note.txt", given=b"first\n")
    page.go("/own")
    page.shows("note.txt")
    yield page
    page.page.evaluate("() => document.querySelectorAll('.toast').forEach((toast) => toast.remove())")
    page.go("/")
    page.tarbox("rm", "-r", "/own")


@contextmanager
def held(one: Explorer, verb: str) -> Iterator[None]:
    """The next answer to a verb is held back until the end."""
    one.page.evaluate(HOLD, verb)
    yield
    one.page.evaluate("async () => { await answered(); held(); held = null; }")


def buffers(**files: bytes) -> list[dict[str, Any]]:
    return [{"name": name.replace("_", "."), "mimeType": "text/plain", "buffer": data} for name, data in files.items()]


# --- uploads


def test_one_of_many_that_cannot_be_put(one: Explorer) -> None:
    upload(one.page, "Files", buffers(a_txt=b"a", b_txt=bytes(LARGEST + 1), c_txt=b"c", empty=b""))
    one.said("Uploading 4 files: /own/b.txt: file too large")
    one.said("3 of 4 files uploaded to /own")
    one.shows("a.txt", "c.txt", "empty", "note.txt")
    assert one.tarbox.names("/own") == [b"a.txt", b"c.txt", b"empty", b"note.txt"]


def test_what_cannot_replace_leaves_what_is_there(one: Explorer) -> None:
    upload(one.page, "Files", buffers(note_txt=bytes(LARGEST + 1)))
    one.answer("Replace")
    one.said("Uploading note.txt: /own/note.txt: file too large")
    assert one.tarbox("cat", "/own/note.txt") == b"first\n"
    assert one.tarbox.names("/own") == [b"note.txt"]


# --- taking away, and bringing back


def test_what_comes_back_spares_what_stands_there(one: Explorer) -> None:
    one.tarbox("mkdir", "/own/folder")
    one.tarbox("write", "/own/folder/file", given=b"mine")
    one.shows("folder", "note.txt")
    one.press("Control+a", "Delete")
    one.said("2 items deleted")
    one.tarbox("write", "/own/note.txt", given=b"theirs\n")
    one.find(".toast button", "Undo").click()
    one.said("Undoing deleting 2 items: /own/note.txt: file exists")
    one.shows("folder", "note.txt")
    expect(one.find(".toast", "Undone")).to_have_count(0)
    assert (one.tarbox("cat", "/own/folder/file"), one.tarbox("cat", "/own/note.txt")) == (b"mine", b"theirs\n")


def test_deleting_that_ends_half_way_is_undone(one: Explorer) -> None:
    """What is in the folder goes; then nobody knows more."""
    one.tarbox("mkdir", "/own/folder")
    one.tarbox("write", "/own/folder/file", given=b"inside")
    one.shows("folder", "note.txt")
    failed = """() => {
      const {postMessage} = Worker.prototype;
      Worker.prototype.postMessage = function (message, ...more) {
        if (message.verb !== 'remove') return postMessage.call(this, message, ...more);
        Worker.prototype.postMessage = postMessage;
        const {onmessage} = this;
        this.onmessage = (event) => {
          if (event.data.id !== message.id || event.data.event !== undefined) return onmessage.call(this, event);
          this.onmessage = onmessage;
          const error = {code: 'unknown', message: 'nobody knows', errno: null};
          onmessage.call(this, {data: {id: message.id, error}});
        };
        postMessage.call(this, {...message, args: {paths: message.args.paths.map((path) => path + '/file')}}, ...more);
      };
    }"""
    one.row("folder").click()
    one.page.evaluate(failed)
    one.press("Delete")
    one.said("Deleting “folder”: nobody knows")
    assert one.tarbox.names("/own/folder") == []
    one.find(".toast button", "Undo").click()
    one.said("Undone: deleting “folder”")
    assert one.tarbox("cat", "/own/folder/file") == b"inside"


@pytest.mark.parametrize("keys", ["Control+c", "Control+x"], ids=["copied", "moved"])
def test_undo_brings_back_what_was_replaced(one: Explorer, keys: str) -> None:
    one.tarbox("mkdir", "/own/folder")
    one.tarbox("write", "/own/folder/note.txt", given=b"replaced\n")
    one.shows("folder", "note.txt")
    one.row("note.txt").click()
    one.press(keys)
    one.row("folder").click(button="right")
    one.choose("Paste into it")
    one.answer("Replace")
    expect(one.find("dialog")).to_have_count(0)
    one.go("/own/folder")
    expect(one.row("note.txt")).to_contain_text("6 bytes")
    one.press("Control+z")
    one.said("Undone")
    expect(one.row("note.txt")).to_contain_text("9 bytes")
    assert (one.tarbox("cat", "/own/note.txt"), one.tarbox("cat", "/own/folder/note.txt")) == (b"first\n", b"replaced\n")


def test_undoing_twice_at_once(one: Explorer) -> None:
    one.row("note.txt").click()
    one.press("F2")
    one.find(".naming").fill("other.txt")
    one.press("Enter")
    one.shows("other.txt")
    one.press("Delete")
    one.said("“other.txt” deleted")
    one.press("Control+z", "Control+z")
    one.shows("note.txt")
    assert one.tarbox("cat", "/own/note.txt") == b"first\n"


# --- the editor


def test_what_is_typed_while_theirs_is_read(one: Explorer) -> None:
    one.open("note.txt")
    one.state("Saved")
    with held(one, "read"):
        one.tarbox("write", "/own/note.txt", given=b"theirs\n")
        one.page.evaluate("() => answered()")
        one.page.keyboard.type("mine ")
    expect(one.find(".notice")).to_contain_text("changed elsewhere")
    assert one.text() == "mine first\n"
    one.press("Escape")
    one.answer("Discard")


def test_what_is_typed_while_it_is_saved(one: Explorer) -> None:
    one.open("note.txt")
    one.page.keyboard.type("one ")
    with held(one, "write"):
        one.press("Control+s")
        one.state("Saving…")
        one.page.keyboard.type("two ")
        one.press("Escape")
        one.answer("Save")
    expect(one.find(".stage")).to_be_hidden()
    assert one.tarbox("cat", "/own/note.txt") == b"one two first\n"


def test_a_file_that_is_closed_while_it_is_saved(one: Explorer) -> None:
    one.open("note.txt")
    one.page.keyboard.type("one ")
    with held(one, "write"):
        one.press("Control+s", "Escape")
        one.answer("Discard")
        expect(one.find(".stage")).to_be_hidden()
    expect(one.row("note.txt")).to_contain_text("10 bytes")
    expect(one.find(".toast")).to_have_count(0)


def test_the_last_words_before_a_reload(one: Explorer) -> None:
    one.open("note.txt")
    one.page.keyboard.type("unsaved ")
    one.page.reload()
    expect(one.find(".notice")).to_contain_text("Your unsaved edits are here again.", timeout=20_000)
    assert one.text() == "unsaved first\n"
    one.tarbox("rm", "/own/note.txt")
    one.page.reload()
    expect(one.find(".notice")).to_contain_text("the file was moved or deleted", timeout=20_000)
    assert one.text() == "unsaved first\n"
    one.find(".notice button", "Save it anew").click()
    one.state("Saved")
    assert one.tarbox("cat", "/own/note.txt") == b"unsaved first\n"
    one.press("Escape")


def test_the_file_that_was_wanted_last_is_open(one: Explorer) -> None:
    one.tarbox("write", "/own/other.txt", given=b"other\n")
    one.shows("note.txt", "other.txt")
    with held(one, "stat"):
        one.row("note.txt").dblclick()
        one.open("other.txt")
        one.page.keyboard.type("mine ")
    one.page.wait_for_timeout(300)
    expect(one.find(".stage h2")).to_have_text("other.txt")
    assert one.text() == "mine other\n"
    one.press("Control+s")
    one.state("Saved")
    one.press("Escape")
    assert (one.tarbox("cat", "/own/note.txt"), one.tarbox("cat", "/own/other.txt")) == (b"first\n", b"mine other\n")


def test_what_is_pasted_has_the_ends_of_lines_of_the_file(one: Explorer) -> None:
    one.tarbox("write", "/own/note.txt", given=b"a\r\nb\r\n")
    one.open("note.txt")
    pasted = """() => {
      const clipboardData = new DataTransfer();
      clipboardData.setData('text/plain', 'x\\ny\\n');
      const content = document.querySelector('.stage .editor').shadowRoot.querySelector('.cm-content');
      content.dispatchEvent(new ClipboardEvent('paste', {bubbles: true, cancelable: true, clipboardData}));
    }"""
    one.press("Control+Home")
    one.page.evaluate(pasted)
    one.press("Control+s")
    one.state("Saved")
    one.press("Escape")
    assert one.tarbox("cat", "/own/note.txt") == b"x\r\ny\r\na\r\nb\r\n"


# --- the page itself


def test_a_server_that_has_another_page_by_now(tarbox: Tarbox, chromium: Any) -> None:
    """The parts of the old one are gone."""
    tarbox("write", "/old.txt", given=b"text\n")
    with served(tarbox) as server:
        context = chromium.new_context()
        context.route("**/editor-*.js", lambda route: route.fulfill(status=404))
        page = context.new_page()
        page.goto(server.told["url"])
        one = Explorer(page, tarbox, server)
        one.row("old.txt").dblclick(timeout=20_000)
        one.said("old.txt: a part of the page cannot be loaded: the server may be a newer one by now. Reload the page")
        expect(one.find(".stage")).to_be_hidden()
        context.unroute("**/editor-*.js")
        with page.expect_navigation():
            one.find(".toast button", "Reload").click()
        expect(one.row("old.txt")).to_be_visible(timeout=20_000)
        one.open("old.txt")
        context.close()
    tarbox("rm", "/old.txt")
