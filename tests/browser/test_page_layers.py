"""The explorer's page: the time line, the past, differences, a file's history, and the audit."""

from __future__ import annotations

import pytest

from tests.browser.explorer import Explorer, expect


@pytest.fixture(scope="module", autouse=True)
def past(shown: Explorer) -> None:
    tarbox = shown.tarbox
    tarbox("mkdir", "/p")
    tarbox("write", "/p/doc.txt", given=b"a\nb\nc\n")
    tarbox("write", "/p/gone.txt", given=b"gone\n")
    tarbox("layer", "create", "--name", "first")
    tarbox("write", "/p/doc.txt", given=b"a\nB\nc\n")
    tarbox("layer", "create", "--name", "second")
    tarbox("rm", "/p/gone.txt")
    tarbox("write", "/p/doc.txt", given=b"a\nB\nc\nd\n")


def timeline(shown: Explorer) -> None:
    if not shown.find(".timeline").is_visible():
        shown.find(".branch-name").click()
    expect(shown.find(".layers li").first).to_be_visible()


def of(shown: Explorer, name: str, action: str) -> None:
    shown.find(f'[aria-label="Actions of {name}"]').click()
    shown.choose(action)


def test_the_whole_tree_as_of_a_layer(shown: Explorer) -> None:
    shown.go("/p")
    timeline(shown)
    assert [item.split("\n")[0] for item in shown.find(".layers li").all_inner_texts()][:3] == ["Now", "second", "first"]
    shown.find(".layer", "first").click()
    expect(shown.find(".banner.past")).to_contain_text("The tree as of first")
    shown.shows("doc.txt", "gone.txt")
    expect(shown.find('.commands [aria-label="New"]')).to_be_hidden()
    shown.open("doc.txt")
    shown.state("Read-only")
    assert shown.text() == "a\nb\nc\n"
    assert "layer=" in shown.page.url
    shown.page.reload()
    expect(shown.find(".stage .cm-content")).to_contain_text("b", timeout=20_000)
    expect(shown.find(".banner.past")).to_be_visible()
    shown.press("Escape")
    shown.find(".list .rows").focus()
    shown.press("Control+a", "Delete", "F2")  # nothing of this is to be had
    expect(shown.find(".naming")).to_have_count(0)
    shown.shows("doc.txt", "gone.txt")
    shown.find(".banner.past button", "Back to now").click()
    shown.shows("doc.txt")


def test_a_layer_by_its_name_in_the_address(shown: Explorer) -> None:
    shown.go("/p", "?layer=second")
    shown.shows("doc.txt", "gone.txt")
    expect(shown.find(".banner.past")).to_contain_text("second")


def test_a_layer_by_the_beginning_of_its_id_and_one_that_is_none(shown: Explorer) -> None:
    (ident,) = [layer["id"][:8] for layer in shown.tarbox.json("layer", "list") if layer["name"] == "first"]
    address = f"{shown.server.origin}/t/{shown.tarbox.tenant}#/p?layer="
    shown.page.goto(address + ident)
    shown.shows("doc.txt", "gone.txt")
    expect(shown.find(".banner.past")).to_contain_text("The tree as of first, ")
    timeline(shown)
    expect(shown.find(".layers li[aria-current]")).to_contain_text("first")
    shown.page.goto(address + "nosuch")
    expect(shown.find(".list > .note")).to_have_text("There is no layer nosuch")
    expect(shown.find(".banner.past")).to_have_text("The tree as of nosuch: read-onlyBack to now")
    shown.find(".banner.past button", "Back to now").click()
    shown.shows("doc.txt")


def test_restoring(shown: Explorer) -> None:
    shown.go("/p", "?layer=first")
    shown.shows("doc.txt", "gone.txt")
    shown.row("gone.txt").click()
    shown.find('.commands [aria-label="Restore"]').click()
    shown.said("“gone.txt” is as of first again")
    assert shown.tarbox("cat", "/p/gone.txt") == b"gone\n"
    shown.find(".toast button", "Undo").first.click()
    shown.said("Undone")
    assert shown.tarbox.names("/p") == [b"doc.txt"]
    shown.go("/p")


def test_what_differs_side_by_side(shown: Explorer) -> None:
    shown.go("/p")
    timeline(shown)
    of(shown, "first", "Compare with now")
    paths = shown.find(".paths [role=option]")
    expect(paths).to_have_count(2)
    assert sorted("".join(path.split()) for path in paths.all_text_contents()) == ["D/p/gone.txt", "M/p/doc.txt"]
    sides = shown.find("dialog .cm-content")
    expect(sides.first).to_contain_text("b")
    expect(sides.last).to_contain_text("d")
    expect(shown.find("dialog .cm-changedText").first).to_be_visible()
    shown.find("[aria-label='Newer layer']").select_option(label=shown.find("[aria-label='Newer layer'] option", "second").inner_text())
    expect(paths).to_have_count(1)
    shown.find("[aria-label='Swap the layers']").click()
    expect(sides.last).to_contain_text("b")
    shown.press("Escape")


def test_a_files_history(shown: Explorer) -> None:
    shown.go("/p")
    shown.row("doc.txt").click(button="right")
    shown.choose("History")
    versions = shown.find(".versions > li")
    expect(versions).to_have_count(3)
    expect(versions.first).to_contain_text("+1")
    expect(versions.nth(1)).to_contain_text("second")
    versions.nth(1).get_by_text("What changed").click()
    expect(shown.find("dialog .cm-content").first).to_contain_text("b")
    shown.press("Escape")
    versions.nth(2).get_by_text("Restore").click()
    shown.said("“doc.txt” is as of first again")
    assert shown.tarbox("cat", "/p/doc.txt") == b"a\nb\nc\n"
    shown.find(".toast button", "Undo").last.click()
    expect(shown.row("doc.txt")).to_contain_text("8 bytes")
    assert shown.tarbox("cat", "/p/doc.txt") == b"a\nB\nc\nd\n"


def test_the_audit_trail(shown: Explorer) -> None:
    shown.go("/p")
    shown.row("doc.txt").click(button="right")
    shown.choose("Audit")
    expect(shown.find(".records li").first).to_contain_text("/p/doc.txt")
    expect(shown.find(".records li", "create").last).to_be_visible()


def test_checkpoints_and_switching(shown: Explorer) -> None:
    shown.go("/p")
    timeline(shown)
    shown.find(".timeline button", "Checkpoint").click()
    shown.find("dialog input").fill("third")
    shown.press("Enter")
    expect(shown.find(".layer", "third")).to_be_visible()
    assert "third" in {layer["name"] for layer in shown.tarbox.json("layer", "list")}
    of(shown, "first", "Switch to it…")
    shown.answer("Cancel")
    assert shown.tarbox.names("/p") == [b"doc.txt"]
    of(shown, "first", "Switch to it…")
    shown.answer("Switch")
    shown.shows("doc.txt", "gone.txt")
    assert shown.tarbox("cat", "/p/doc.txt") == b"a\nb\nc\n"
    expect(shown.find('.layers [data-place="aside"]', "third")).to_be_visible()
    shown.find(".toast button", "Go back").click()
    shown.shows("doc.txt")
    of(shown, "third", "Message…")
    shown.find("dialog input").fill("the third of them")
    shown.press("Enter")
    expect(shown.find(".layers li", "the third of them")).to_be_visible()


def test_branches(shown: Explorer) -> None:
    shown.go("/p")
    timeline(shown)
    of(shown, "first", "Begin a branch here…")
    shown.find("dialog input").fill("aside")
    shown.press("Enter")
    expect(shown.find(".branch-name")).to_have_text("aside")
    shown.shows("doc.txt", "gone.txt")
    shown.page.reload()
    expect(shown.find(".branch-name")).to_have_text("aside", timeout=20_000)
    shown.shows("doc.txt", "gone.txt")
    timeline(shown)
    shown.find('[aria-label="Branch"]').select_option("main")
    expect(shown.find(".branch-name")).to_have_text("main")
    shown.shows("doc.txt")


def test_other_doors_move_the_head(shown: Explorer) -> None:
    shown.go("/p")
    timeline(shown)
    shown.tarbox("layer", "create", "--name", "theirs")
    expect(shown.find(".layer", "theirs")).to_be_visible()
    shown.tarbox("layer", "switch", "first")
    shown.shows("doc.txt", "gone.txt")
