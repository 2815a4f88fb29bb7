"""The explorer's page to the eye, the finger and the keyboard: in the light and in the dark, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")
from tests.browser.explorer import Explorer, expect, opened, picture, served
from tests.browser.pages import browser
from tests.pg.cli import Tarbox, fresh
from tests.tenants import prepare

JUDGE = Path(__file__).with_name("judge.js").read_text()
DEEP = "/deep/one/two/three/four/five/six/seven/eight/nine/ten"
LONG = "/work/a name that is much longer than what there is room for, and longer than any phone is wide.txt"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
CODE = b'"""A module."""\n\nimport os\n\n\ndef main(count: int) -> str:\n    return "x" * (count + 1)  # more\n# ' + b"long " * 80


@pytest.fixture(scope="module")
def tarbox(pg_url_module: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tarbox]:
    with fresh(prepare(pg_url_module), tmp_path_factory.mktemp("looks")) as command:
        command("mkdir", "-p", DEEP)
        command("mkdir", "/work")
        command("write", "/work/code.py", given=CODE)
        command("write", "/work/measurements-of-summer.txt", given=b"1\n")
        command("write", LONG, given=b"")
        command("write", "/work/bytes.bin", given=bytes(range(256)))
        command("put", picture(command.folder), "/work/picture.png")
        command("layer", "create", "first", "-m", "What there was at the beginning")
        command("write", "/work/code.py", given=CODE.replace(b"more", b"one more"))
        command("write", "/work/measurements-of-summer.txt", given=b"2\n")
        yield command
        command("gc")


@pytest.fixture(scope="module")
def opens(tarbox: Tarbox) -> Iterator[Any]:
    """A page with such a screen."""
    token = tarbox.json("token", "create")["token"]
    with served(tarbox) as server, browser() as chromium:
        yield lambda **options: opened(tarbox, server, chromium, token=token, **options)


@pytest.fixture(scope="module")
def desk(opens: Any) -> Iterator[Explorer]:
    with opens() as one:
        yield one


@pytest.mark.parametrize("options", [{"color_scheme": "dark"}, {"color_scheme": "light", **PHONE}], ids=["dark desk", "light phone"])
def test_all_can_be_read_named_and_hit(opens: Any, options: dict[str, Any]) -> None:
    phone = "has_touch" in options
    complaints: dict[str, list[str]] = {}

    with opens(**options) as one:

        def judge(state: str) -> None:
            one.page.mouse.move(0, 0)
            complaints[state] = one.page.evaluate(JUDGE)

        def act(name: str, label: str) -> None:
            """Take an item of an entry's menu."""
            if phone:
                one.row(name).locator(".more").click()
            else:
                one.row(name).click(button="right")
            judge("menu")
            one.choose(label)

        one.go("/work")
        judge("listing")
        one.row("code.py").locator(".picture").click()
        judge("selection")
        one.press("Escape")
        act("code.py", "Rename")
        judge("naming")
        one.press("Escape")
        for tab, what in (("Properties", "form.rights"), ("History", ".versions li"), ("Audit", ".records li")):
            act("code.py", tab)
            expect(one.find(f".panel {what}").first).to_be_visible()
            judge(tab)
            one.find('[aria-label="Close the panel"]').click()
            one.press("Escape")
        act("code.py", "Open")
        expect(one.find(".stage .cm-content")).to_be_visible()
        one.find(".stage .cm-content").click()
        one.page.keyboard.type("x")
        one.state("Not saved")
        judge("editor")
        one.press("Escape")
        judge("question")
        one.answer("Discard")
        expect(one.find(".stage")).to_be_hidden()
        one.press("Escape")
        act("bytes.bin", "Open")
        expect(one.find(".hexes .row").first).to_contain_text("00000000")
        judge("numbers")
        one.press("Escape")
        one.find(".branch-name").click()
        expect(one.find(".layers li").first).to_be_visible()
        judge("time line")
        one.find("button", "Compare layers").click()
        expect(one.find(".paths [aria-selected=true]")).to_be_visible()
        expect(one.find(".merge .cm-line").first).to_be_visible()
        judge("comparison")
        one.press("Escape")
        one.find('[aria-label="Close the panel"]').click()
        one.go("/work", "?layer=first")
        judge("the past")
        one.find("button", "Back to now").click()
        one.find('[aria-label^="Search"]').click()
        one.page.keyboard.type("code")
        expect(one.find(".finds [role=option]")).to_have_count(1)
        judge("search")
        one.press("Escape")
        one.find('.top [aria-label="More"]').click()
        one.choose("Keys")
        judge("keys")
        one.press("Escape")
        one.go(DEEP)
        judge("deep")
        one.find('[aria-label="Edit the path"]').click()
        judge("the path as text")
        one.press("Escape")
        one.page.goto(f"{one.page.url.split('#')[0]}#/nowhere")
        expect(one.find(".list > .note")).to_contain_text("no such file")
        judge("not found")
    assert {state: words for state, words in complaints.items() if words} == {}


def test_columns_have_room_and_names_most_of_it(desk: Explorer) -> None:
    desk.go("/work")
    cut = "(name) => name.scrollWidth > name.clientWidth"
    assert desk.find(".panel").is_visible() and not desk.row("measurements-of-summer.txt").locator(".name").evaluate(cut)
    expect(desk.find(".head.col-mode")).to_be_hidden()
    desk.find('[aria-label="Close the panel"]').click()
    expect(desk.find(".head.col-mode")).to_be_visible()
    edges = "(both) => both.map((each) => Math.round(each.getBoundingClientRect().left))"
    for column in ("mtime", "kind", "mode"):
        head, cell = desk.page.locator(f".heads .col-{column}, .row:not([hidden]):first-child .col-{column}").evaluate_all(edges)
        assert head == cell
    desk.row("code.py").click()  # in its middle
    expect(desk.find(".menu")).to_have_count(0)
    desk.find(".top [aria-label=Details]").click()


def test_what_is_cut_off_is_told(desk: Explorer) -> None:
    desk.go("/work")
    name = LONG.removeprefix("/work/")
    desk.row(name).click()
    title = desk.find(".panel h2")
    expect(title).to_have_text(name)
    title.hover()
    expect(title).to_have_attribute("title", name)
    desk.row("code.py").click()
    expect(title).to_have_text("code.py")
    desk.row("code.py").hover()
    title.hover()
    expect(title).not_to_have_attribute("title", name)


def test_the_deepest_folder_has_its_name_in_the_tree(desk: Explorer) -> None:
    desk.go(DEEP)
    name = desk.find(f'.branch[data-path="{DEEP}"] .name')
    expect(name).to_be_visible()
    inside = "(name) => name.getBoundingClientRect().right <= name.closest('.side').getBoundingClientRect().right"
    assert name.evaluate(inside)


def test_nothing_is_offered_where_there_is_nothing(desk: Explorer) -> None:
    desk.go("/work")
    expect(desk.find(".commands .main")).to_be_visible()
    desk.press("Control+l")
    desk.find(".crumbs input").fill("/nowhere")
    desk.press("Enter")
    expect(desk.find(".list > .note")).to_contain_text("no such file")
    expect(desk.find(".commands .main")).to_be_hidden()
    expect(desk.find(".panel > .body")).to_be_empty()
    desk.go("/work")
    expect(desk.find(".commands .main")).to_be_visible()


def test_a_conflict_is_not_shown_as_saving(desk: Explorer) -> None:
    desk.go("/work")
    desk.open("code.py")
    desk.page.keyboard.type("mine")
    desk.tarbox("write", "/work/code.py", given=CODE + b"theirs\n")
    desk.press("Control+s")
    expect(desk.find("dialog h2")).to_have_text("“code.py” was changed elsewhere")
    desk.state("Not saved")
    desk.answer("Reload theirs")
    desk.state("Saved")
    desk.press("Escape")


def test_both_sides_of_a_comparison_are_as_wide(desk: Explorer) -> None:
    desk.tarbox("write", "/work/code.py", given=CODE.replace(b"more", b"more or less"))
    desk.find(".branch-name").click()
    desk.find("button", "Compare layers").click()
    desk.find(".paths [role=option]", "code.py").click()
    sides = desk.find(".merge .cm-editor")
    expect(sides).to_have_count(2)
    first, second = sides.evaluate_all("(both) => both.map((each) => Math.round(each.getBoundingClientRect().width))")
    assert abs(first - second) <= 1 and desk.find(".merge").evaluate("(host) => host.scrollWidth <= host.clientWidth")
    desk.press("Escape")
    desk.find('[aria-label="Close the panel"]').click()
    desk.find(".top [aria-label=Details]").click()


def test_nothing_moves_for_who_wants_it_so(desk: Explorer) -> None:
    moving = "(bar) => { bar.hidden = false; const { animationName } = getComputedStyle(bar, '::after'); bar.hidden = true; return animationName; }"
    assert desk.find(".bar").evaluate(moving) == "along"
    desk.page.emulate_media(reduced_motion="reduce")
    assert desk.find(".bar").evaluate(moving) == "none"
    desk.page.emulate_media(reduced_motion="no-preference")


def test_a_phone_sorts_and_compares_in_one(opens: Any) -> None:
    with opens(**PHONE) as one:
        one.go("/work")
        one.find(".head.col-kind").click()
        expect(one.find(".head.col-kind")).to_have_attribute("data-sorted", "ascending")
        one.find(".branch-name").click()
        one.find("button", "Compare layers").click()
        one.find(".paths [role=option]", "measurements").click()
        expect(one.find(".merge .cm-deletedChunk")).to_have_text("1")
        expect(one.find(".merge .cm-editor")).to_have_count(1)


def test_the_keyboard_alone_does_a_days_work(desk: Explorer) -> None:
    desk.go("/work")
    focused = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"

    def tab(label: str, key: str = "Tab") -> None:
        for _ in range(40):
            if desk.page.evaluate(focused).strip() == label:
                return
            desk.press(key)
        raise AssertionError(f"{label} is not reached")

    tab("New", "Shift+Tab")
    desk.press("Enter", "Enter")
    desk.page.keyboard.type("by hand")
    desk.press("Enter")
    expect(desk.row("by hand")).to_have_attribute("aria-selected", "true")
    tab("Files")
    desk.press("F2")
    desk.page.keyboard.type("by key")
    desk.press("Enter")
    expect(desk.row("by key")).to_be_visible()
    desk.press("Shift+F10")
    desk.page.keyboard.type("d")  # Download
    desk.page.keyboard.type("d")  # Delete
    desk.press("Enter")
    desk.said("“by key” deleted")
    tab("Undo")
    desk.press("Enter")
    expect(desk.row("by key")).to_be_visible()
    tab("main", "Shift+Tab")
    desk.press("Enter")
    tab("Checkpoint")
    desk.press("Enter")
    assert desk.page.evaluate("document.activeElement.closest('dialog') !== null")
    for _ in range(6):  # all that can be reached is in the dialog
        desk.press("Tab")
        assert desk.page.evaluate("document.activeElement === document.body || document.activeElement.closest('dialog') !== null")
    desk.press("Escape")
    expect(desk.find("dialog")).to_have_count(0)
    assert desk.page.evaluate(focused) == "Checkpoint"  # where it was
    tab("Close the panel", "Shift+Tab")
    desk.press("Enter")
    assert desk.page.evaluate(focused) == "Files"
