"""What changed between two trees, and how a file came to be: by hand, and against trees that random operations made."""

from __future__ import annotations

import contextlib
import errno
import random
import stat
from collections.abc import Callable
from itertools import pairwise

import pytest

from tarbox_core import statements as sql
from tarbox_core.compare import Change, apart
from tarbox_core.delta.hunk import Counts
from tarbox_core.effects import finish
from tarbox_core.errors import FsError, LayerError
from tarbox_core.history import Version
from tarbox_core.types import RENAME_EXCHANGE, ROOT_INO
from tests.pg.test_layers import checkpoint, switch
from tests.tenants import Session, Tenant

TEXT = b"".join(b"line %d of a text that is long enough\n" % n for n in range(40))


def changes(session: Session, older: str | None = None, newer: str = "head", path: bytes | None = None, *, files: bool = False) -> list[Change]:
    comparison = session.run(lambda: session.fs.compare(older, newer))
    return session.run(lambda: comparison.changes(path, files=files))


def told(session: Session, *words: str, files: bool = False) -> list[tuple[bytes, ...]]:
    """Status, path, and the old path where that is another one."""
    shown = []
    for change in changes(session, *words, files=files):
        old = () if change.old_path in (None, change.path) else (change.old_path,)
        shown.append((change.status.encode(), change.path, *old))
    return shown


def history(session: Session, path: bytes, limit: int | None = None) -> list[Version]:
    return session.run(lambda: session.fs.history(path, limit))


def past(session: Session, path: bytes) -> list[tuple[str, str]]:
    return [(version.layer.label, version.status) for version in history(session, path)]


def change_mode(session: Session, path: bytes, mode: int) -> None:
    ino = session.attr(path).ino if path != b"/" else ROOT_INO
    session.run(lambda: session.fs.setattr(session.caller, ino, mode=mode))


def replace(session: Session, path: bytes, data: bytes) -> None:
    """As editors do."""
    session.write(path + b".new", data)
    session.rename(path + b".new", path)


def rewrite(session: Session, path: bytes, data: bytes) -> None:
    session.truncate(path, 0)
    session.write(path, data)


# --- which stamps


def test_what_two_trees_do_not_both_see() -> None:
    assert apart((), ()) == ()
    assert apart((), ((4, 9),)) == ((4, 9),)
    assert apart(((4, 9),), ((4, 7),)) == ((7, 9),)
    assert apart(((0, 5), (20, 25)), ((0, 3), (10, 12))) == ((3, 5), (10, 12), (20, 25))
    chance = random.Random(5)
    for _ in range(300):
        a, b = (tuple((lo, lo + chance.randrange(1, 4)) for lo in range(0, 20, 4) if chance.random() < 0.6) for _ in "ab")
        inside = {n for ranges in (apart(a, b),) for lo, hi in ranges for n in range(lo, hi)}
        assert inside == {n for lo, hi in a for n in range(lo, hi)} ^ {n for lo, hi in b for n in range(lo, hi)}


# --- one change at a time


@pytest.fixture
def tree(session: Session) -> Session:
    """A tree with a checkpoint named "a"."""
    session.mkdir(b"/d")
    session.mkdir(b"/d/inner")
    session.write(b"/d/inner/deep", b"deep\n")
    session.write(b"/d/text", TEXT)
    session.write(b"/d/other", b"other\n")
    session.write(b"/large", bytes(range(256)) * 400)
    session.symlink(b"d/text", b"/link")
    session.write(b"/one", b"has two names\n")
    session.link(b"/one", b"/two")
    where = session.at(b"/fifo")
    session.run(lambda: session.fs.mknod(session.caller, *where, stat.S_IFIFO | 0o644))
    checkpoint(session, "a")
    return session


def test_no_change_is_no_change(tree: Session) -> None:
    assert told(tree) == []
    tree.write(b"/d/new", b"for a moment")
    tree.unlink(b"/d/new")
    ino = tree.attr(b"/d/text").ino
    tree.run(lambda: tree.fs.setattr(tree.caller, ino, atime=5))
    assert told(tree) == [] and told(tree, "a", "a") == []


def test_content(tree: Session) -> None:
    tree.write(b"/d/text", b"LINE", 0)
    tree.write(b"/large", b"!", 50_000)
    tree.write(b"/d/other", b"more\n", 6)
    assert told(tree) == [(b"M", b"/d/other"), (b"M", b"/d/text"), (b"M", b"/large")]
    assert all(change.content and change.old and change.new for change in changes(tree))


def test_the_same_content_again_is_a_time(tree: Session) -> None:
    for path in (b"/large", b"/d/other"):
        rewrite(tree, path, tree.read(path))
    assert told(tree) == [(b"m", b"/d/other"), (b"m", b"/large")] and not any(change.content for change in changes(tree))


@pytest.mark.parametrize("field", ["mode", "uid", "gid", "mtime"])
def test_attributes(tree: Session, field: str) -> None:
    for path in (b"/d/text", b"/d", b"/link", b"/fifo"):
        ino = tree.attr(path).ino
        tree.run(lambda ino=ino: tree.fs.setattr(tree.caller, ino, **{field: 0o640}))  # type: ignore[misc]
    folder = [] if field == "mtime" else [(b"m", b"/d")]
    assert told(tree) == [*folder, (b"m", b"/d/text"), (b"m", b"/fifo"), (b"m", b"/link")]
    assert [change.status for change in changes(tree, files=True)] == ["m", "m"]


def test_extended_attributes(tree: Session) -> None:
    for path in (b"/d", b"/d/text"):
        ino = tree.attr(path).ino
        tree.run(lambda ino=ino: tree.fs.setxattr(tree.caller, ino, b"user.k", b"v"))  # type: ignore[misc]
    assert told(tree) == [(b"m", b"/d"), (b"m", b"/d/text")]
    checkpoint(tree, "b")
    ino = tree.attr(b"/d").ino
    tree.run(lambda: tree.fs.removexattr(tree.caller, ino, b"user.k"))
    assert told(tree) == [(b"m", b"/d")] and told(tree, "a", "head") == [(b"m", b"/d/text")]


def test_the_root(tree: Session) -> None:
    change_mode(tree, b"/", 0o700)
    assert told(tree) == [(b"m", b"/")]


def test_what_comes_and_goes(tree: Session) -> None:
    tree.mkdir(b"/new")
    tree.write(b"/new/file", b"")
    tree.unlink(b"/fifo")
    tree.unlink(b"/d/inner/deep")
    tree.rmdir(b"/d/inner")
    assert told(tree) == [(b"D", b"/d/inner"), (b"D", b"/d/inner/deep"), (b"D", b"/fifo"), (b"A", b"/new"), (b"A", b"/new/file")]
    assert told(tree, "head", "a") == [(b"A", b"/d/inner"), (b"A", b"/d/inner/deep"), (b"A", b"/fifo"), (b"D", b"/new"), (b"D", b"/new/file")]
    assert told(tree, files=True) == [(b"D", b"/d/inner/deep"), (b"A", b"/new/file")]


def test_a_file_replaced_by_rename_is_a_change_of_its_path(tree: Session) -> None:
    replace(tree, b"/d/text", TEXT + b"more\n")
    assert told(tree) == [(b"M", b"/d/text")]
    tree.rename(b"/d/text", b"/d/text~")
    tree.write(b"/d/text", TEXT + b"and more\n")
    assert told(tree) == [(b"M", b"/d/text"), (b"A", b"/d/text~")]


def test_renames(tree: Session) -> None:
    tree.rename(b"/d/text", b"/moved")
    tree.rename(b"/link", b"/d/link")
    tree.rename(b"/fifo", b"/pipe")
    tree.write(b"/moved", b"LINE")
    found = changes(tree)
    assert told(tree) == [(b"R", b"/d/link", b"/link"), (b"R", b"/moved", b"/d/text"), (b"R", b"/pipe", b"/fifo")]
    assert [change.content for change in found] == [False, True, False]


def test_a_renamed_directory_is_one_change(tree: Session) -> None:
    tree.rename(b"/d", b"/e")
    assert told(tree) == [(b"R", b"/e", b"/d")]
    tree.write(b"/e/inner/deep", b"DEEP")
    tree.rename(b"/e/inner", b"/e/core")
    assert told(tree) == [(b"R", b"/e", b"/d"), (b"R", b"/e/core", b"/d/inner"), (b"M", b"/e/core/deep", b"/d/inner/deep")]
    assert told(tree, files=True) == [
        (b"R", b"/e/core/deep", b"/d/inner/deep"), (b"R", b"/e/other", b"/d/other"), (b"R", b"/e/text", b"/d/text"),
    ]  # fmt: skip


def test_two_directories_that_changed_places(tree: Session) -> None:
    tree.mkdir(b"/e")
    tree.write(b"/e/text", b"another\n")
    checkpoint(tree, "b")
    tree.rename(b"/d", b"/e", RENAME_EXCHANGE)
    assert told(tree) == [(b"R", b"/d", b"/e"), (b"R", b"/e", b"/d")]
    assert told(tree, files=True) == [
        (b"M", b"/d/text"), (b"R", b"/e/inner/deep", b"/d/inner/deep"), (b"R", b"/e/other", b"/d/other"), (b"M", b"/e/text"),
    ]  # fmt: skip


def test_a_directory_made_anew_with_the_same_files(tree: Session) -> None:
    tree.rename(b"/d", b"/gone")
    tree.mkdir(b"/d")
    tree.write(b"/d/text", TEXT)
    tree.write(b"/d/other", b"OTHER\n")
    for path in (b"/gone/inner/deep", b"/gone/text", b"/gone/other"):
        tree.unlink(path)
    tree.rmdir(b"/gone/inner")
    tree.rmdir(b"/gone")
    assert told(tree) == [(b"D", b"/d/inner"), (b"D", b"/d/inner/deep"), (b"M", b"/d/other"), (b"m", b"/d/text")]


def test_content_tells_renames_where_inodes_do_not(tree: Session) -> None:
    tree.write(b"/copied", TEXT)
    tree.unlink(b"/d/text")
    tree.write(b"/big", tree.read(b"/large"))
    tree.unlink(b"/large")
    assert told(tree) == [(b"R", b"/big", b"/large"), (b"R", b"/copied", b"/d/text")]
    rewrite(tree, b"/copied", TEXT.replace(b"line 7 ", b"line seven "))
    found = changes(tree)
    assert told(tree) == [(b"R", b"/big", b"/large"), (b"R", b"/copied", b"/d/text")] and found[1].content
    rewrite(tree, b"/copied", TEXT[: len(TEXT) // 2])
    assert told(tree) == [(b"R", b"/big", b"/large"), (b"A", b"/copied"), (b"D", b"/d/text")]


def test_the_most_alike_belong_together(tree: Session) -> None:
    tree.unlink(b"/d/text")
    tree.write(b"/near", TEXT + b"one more\n")
    tree.write(b"/nearer", TEXT.replace(b"line 3 ", b"line three "))
    tree.write(b"/far", TEXT[: len(TEXT) // 3])
    assert told(tree) == [(b"A", b"/far"), (b"R", b"/near", b"/d/text"), (b"A", b"/nearer")]


def test_empty_files_are_nobodys_renames(tree: Session) -> None:
    tree.write(b"/empty", b"")
    checkpoint(tree, "b")
    tree.unlink(b"/empty")
    tree.write(b"/void", b"")
    assert told(tree) == [(b"D", b"/empty"), (b"A", b"/void")]


def test_types(tree: Session) -> None:
    tree.unlink(b"/d/other")
    tree.symlink(b"text", b"/d/other")
    tree.unlink(b"/fifo")
    tree.write(b"/fifo", b"a file now\n")
    tree.unlink(b"/link")
    tree.mkdir(b"/link")
    assert told(tree) == [(b"T", b"/d/other"), (b"T", b"/fifo"), (b"D", b"/link"), (b"A", b"/link")]
    assert told(tree, files=True) == [(b"T", b"/d/other"), (b"A", b"/fifo"), (b"D", b"/link")]


def test_a_symbolic_links_new_target(tree: Session) -> None:
    tree.unlink(b"/link")
    tree.symlink(b"elsewhere", b"/link")
    (change,) = changes(tree)
    comparison = tree.run(lambda: tree.fs.compare())
    assert change.status == "M" and tree.run(lambda: comparison.contents(change)) == (b"d/text", b"elsewhere")


def test_every_name_of_a_hard_link_shows_a_change(tree: Session) -> None:
    tree.write(b"/one", b"HAS")
    assert told(tree) == [(b"M", b"/one"), (b"M", b"/two")]
    tree.rename(b"/two", b"/d/three")
    tree.link(b"/one", b"/four")
    assert told(tree) == [(b"R", b"/d/three", b"/two"), (b"A", b"/four"), (b"M", b"/one")]
    tree.unlink(b"/four")
    tree.unlink(b"/d/three")
    assert told(tree) == [(b"M", b"/one"), (b"D", b"/two")]


def test_links_alone(tree: Session) -> None:
    tree.link(b"/d/other", b"/d/second")
    assert told(tree) == [(b"m", b"/d/other"), (b"A", b"/d/second")]


# --- which trees


def test_without_a_checkpoint_everything_is_new(session: Session) -> None:
    session.mkdir(b"/d")
    session.write(b"/d/file", b"x")
    assert told(session) == [(b"A", b"/d"), (b"A", b"/d/file")]
    assert session.run(lambda: session.fs.compare()).old.label == "nothing"


def test_layers_by_any_word_and_in_any_direction(tree: Session) -> None:
    first = tree.run(lambda: tree.fs.layer("a"))
    tree.write(b"/d/other", b"2")
    checkpoint(tree, "b")
    tree.unlink(b"/d/other")
    third = checkpoint(tree)
    assert told(tree, first.id[:6], "b") == [(b"M", b"/d/other")]
    assert told(tree, third.id, "b") == [(b"A", b"/d/other")]
    assert [change.status for change in changes(tree, None, "b")] == ["M"], "a layer alone: what it changed"
    with pytest.raises(LayerError) as caught:
        changes(tree, "nonsense")
    assert caught.value.errno == errno.ENOENT


def test_across_a_fork(tree: Session) -> None:
    tree.write(b"/d/left", b"left\n")
    tree.write(b"/d/other", b"left\n")
    checkpoint(tree, "left")
    switch(tree, "a")
    tree.write(b"/d/right", b"right\n")
    tree.unlink(b"/one")
    checkpoint(tree, "right")
    expected = [(b"D", b"/d/left"), (b"M", b"/d/other"), (b"A", b"/d/right"), (b"D", b"/one"), (b"m", b"/two")]
    assert told(tree, "left", "right") == expected
    assert told(tree, "right", "left") == [(b"A", b"/d/left"), (b"M", b"/d/other"), (b"D", b"/d/right"), (b"A", b"/one"), (b"m", b"/two")]


def test_a_squashed_run_differs_as_its_ends_did(tree: Session) -> None:
    for number in range(4):
        tree.write(b"/d/other", b"%d" % number)
        tree.write(b"/n%d" % number, b"new %d\n" % number)
        checkpoint(tree, f"n{number}")
    tree.unlink(b"/n1")
    checkpoint(tree, "last")
    expected = told(tree, "a", "last")
    tree.run(lambda: tree.fs.squash(tree.caller, "n0", "last"))
    assert told(tree, "a", "last") == expected == [(b"M", b"/d/other"), (b"A", b"/n0"), (b"A", b"/n2"), (b"A", b"/n3")]
    assert past(tree, b"/d/other") == [("last", "M"), ("a", "A")]


def test_below_a_path(tree: Session) -> None:
    tree.write(b"/d/other", b"2")
    tree.write(b"/d/inner/deep", b"2")
    tree.rename(b"/d/text", b"/text")
    tree.mkdir(b"/d/inner2")

    def below(path: bytes) -> list[bytes]:
        return [change.path for change in changes(tree, path=path)]

    assert below(b"/d/inner") == [b"/d/inner/deep"] and below(b"/d/inner2/") == [b"/d/inner2"]
    assert below(b"/d") == [b"/d/inner/deep", b"/d/inner2", b"/d/other", b"/text"]
    assert below(b"/d/text") == below(b"/text") == [b"/text"], "a rename is found by either name"
    assert below(b"//d/./inner/../other") == [b"/d/other"] and below(b"/") == [change.path for change in changes(tree)]
    assert below(b"/fifo") == []
    tree.symlink(b"d/inner", b"/shortcut")
    assert below(b"/shortcut/deep") == [b"/d/inner/deep"] and below(b"/shortcut") == [b"/shortcut"]
    with pytest.raises(LayerError, match="/nowhere/x: neither in a nor in head"):
        below(b"/nowhere/x")


def test_a_view_compares_with_what_it_was_begun_on(tree: Session, tenant: Tenant) -> None:
    tree.write(b"/d/other", b"2")
    checkpoint(tree, "b")
    view = tenant.view("b")
    assert told(view) == [(b"M", b"/d/other")] and past(view, b"/d/other") == [("b", "M"), ("a", "A")]


def test_contents(tree: Session) -> None:
    tree.write(b"/large", b"!", 90_000)
    tree.write(b"/d/other", b"2")
    tree.unlink(b"/d/text")
    comparison = tree.run(lambda: tree.fs.compare())
    found = {change.path: tree.run(lambda change=change: comparison.contents(change)) for change in changes(tree)}  # type: ignore[misc]
    large = bytes(range(256)) * 400
    assert found == {b"/large": (large, large[:90_000] + b"!" + large[90_001:]), b"/d/other": (b"other\n", b"2ther\n"), b"/d/text": (TEXT, b"")}


def test_packed_text_makes_no_difference(tree: Session, tenant: Tenant) -> None:
    for number in range(3):
        rewrite(tree, b"/d/text", TEXT.replace(b"line 7 ", b"line %d " % number))
        rewrite(tree, b"/large", b"".join(b"%06d the same\n" % (n * (number + 1)) for n in range(900)))
        if number == 1:
            change_mode(tree, b"/d/text", 0o600)
        checkpoint(tree, f"n{number}")
    change_mode(tree, b"/d/text", 0o755)
    change_mode(tree, b"/large", 0o755)
    pairs = [*pairwise(("a", "n0", "n1", "n2", "head")), ("head", "a"), ("a", "n2")]
    before = [(told(tree, *pair), [change.content for change in changes(tree, *pair)]) for pair in pairs], history(tree, b"/d/text")
    assert before[0][3] == ([(b"m", b"/d/text"), (b"m", b"/large")], [False, False])
    tenant.gc()
    again = tenant.session()
    assert ([(told(again, *pair), [change.content for change in changes(again, *pair)]) for pair in pairs], history(again, b"/d/text")) == before


# --- the history of a path


def test_the_versions_of_a_file(tree: Session) -> None:
    rewrite(tree, b"/d/other", b"other\nand more\n")
    checkpoint(tree, "b")
    change_mode(tree, b"/d/other", 0o600)
    checkpoint(tree, "c")
    tree.write(b"/elsewhere", b"x")
    checkpoint(tree, "d")
    replace(tree, b"/d/other", b"OTHER\n")
    found = history(tree, b"/d/other")
    assert [(v.layer.label, v.status, v.lines, v.counts) for v in found] == [
        ("head", "M", 1, Counts(0, 1, 1)), ("c", "m", 2, Counts(0, 0, 0)), ("b", "M", 2, Counts(1, 0, 0)), ("a", "A", 1, Counts(1, 0, 0)),
    ]  # fmt: skip
    assert [v.attr.size for v in found if v.attr] == [6, 15, 15, 6]
    assert history(tree, b"/d/other", 2) == found[:2]


def test_history_goes_back_through_renames(tree: Session) -> None:
    tree.rename(b"/d", b"/e")
    checkpoint(tree, "b")
    tree.rename(b"/e/inner/deep", b"/shallow")
    tree.write(b"/shallow", b"DEEP")
    checkpoint(tree, "c")
    found = history(tree, b"/shallow")
    assert [(v.layer.label, v.status, v.path, v.old_path) for v in found] == [
        ("c", "R", b"/shallow", b"/e/inner/deep"), ("b", "R", b"/e/inner/deep", b"/d/inner/deep"), ("a", "A", b"/d/inner/deep", None),
    ]  # fmt: skip
    assert past(tree, b"/e") == [("b", "R"), ("a", "A")]


def test_history_goes_back_through_renames_that_only_the_content_tells(tree: Session) -> None:
    tree.write(b"/copied", TEXT + b"more\n")
    tree.unlink(b"/d/text")
    checkpoint(tree, "b")
    found = history(tree, b"/copied")
    assert [(v.layer.label, v.status, v.old_path, v.counts) for v in found] == [("b", "R", b"/d/text", Counts(1, 0, 0)), ("a", "A", None, Counts(40, 0, 0))]


def test_the_history_of_what_is_gone(tree: Session) -> None:
    tree.write(b"/d/inner/deep", b"2")
    checkpoint(tree, "b")
    tree.unlink(b"/d/inner/deep")
    tree.rmdir(b"/d/inner")
    checkpoint(tree, "c")
    checkpoint(tree, "d")
    assert past(tree, b"/d/inner/deep") == [("c", "D"), ("b", "M"), ("a", "A")]
    assert past(tree, b"/d/inner") == [("c", "D"), ("a", "A")]
    tree.mkdir(b"/d/inner")
    tree.write(b"/d/inner/deep", b"again\n")
    assert past(tree, b"/d/inner/deep") == [("head", "A"), ("c", "D"), ("b", "M"), ("a", "A")]
    deleted = history(tree, b"/d/inner/deep")[1]
    assert (deleted.attr, deleted.lines, deleted.counts) == (None, None, Counts(0, 1, 0))


def test_history_keeps_to_the_line_of_descent(tree: Session) -> None:
    tree.write(b"/d/other", b"2")
    checkpoint(tree, "b")
    switch(tree, "a")
    tree.write(b"/d/other", b"3")
    checkpoint(tree, "c")
    assert past(tree, b"/d/other") == [("c", "M"), ("a", "A")]
    switch(tree, "b")
    assert past(tree, b"/d/other") == [("b", "M"), ("a", "A")]


def test_the_history_of_what_is_no_text(tree: Session) -> None:
    tree.write(b"/large", b"!", 4)
    assert [(v.status, v.lines, v.counts) for v in history(tree, b"/large")] == [("M", None, None), ("A", None, None)]
    assert [(v.status, v.lines, v.counts) for v in history(tree, b"/fifo")] == [("A", None, None)]
    rewrite(tree, b"/large", b"text now\n")
    assert [(v.status, v.lines, v.counts) for v in history(tree, b"/large")] == [("M", 1, None), ("A", None, None)]
    assert past(tree, b"/") == [("a", "A")]


def test_a_path_that_never_was_has_no_history(tree: Session) -> None:
    for path in (b"/never", b"/never/x", b"/d/text/x"):
        with pytest.raises(LayerError, match="nothing ever stood there") as caught:
            history(tree, path)
        assert caught.value.errno == errno.ENOENT


def test_a_hundred_versions(session: Session) -> None:
    session.write(b"/f", b"".join(b"%d\n" % n for n in range(100)))
    for number in range(100):
        session.write(b"/f", b"%02d\n" % number, 60 + 3 * (number % 20))
        if number % 3 == 0:
            replace(session, b"/f", session.read(b"/f") + b"more\n")
        checkpoint(session, f"n{number}")
    found = history(session, b"/f")
    assert len(found) == 100 and found[-1].status == "A" and {v.status for v in found[:-1]} == {"M"}
    assert [v.layer.label for v in found] == [f"n{number}" for number in reversed(range(100))]


# --- random trees


Tree = dict[bytes, tuple[object, ...]]  # type and content; mode, times and the like


def snapshot(session: Session) -> Tree:
    shown: Tree = {}
    stack = [b""]
    while stack:
        folder = stack.pop()
        for entry in session.entries(folder or b"/"):
            path = folder + b"/" + entry.name
            attr = session.attr(path)
            if attr.is_dir:
                stack.append(path)
                shown[path] = (4, b"", attr.mode)
            else:
                content = session.read(path) if attr.is_reg else session.run(lambda ino=attr.ino: session.fs.readlink(session.caller, ino))  # type: ignore[misc]
                shown[path] = (attr.kind, content, attr.mode, attr.mtime, attr.nlink)
    return shown


def do_something(session: Session, chance: random.Random, *, plain: bool = False) -> None:
    """To the tree; some things will be refused. `plain`: no links, and no directory where a file could be."""
    tree = snapshot(session)
    folders = [b"", *(path for path, shown in tree.items() if shown[0] == 4)]
    here, up = chance.choice([*tree, b"/missing"]), chance.choice(folders)
    file = up + b"/" + chance.choice((b"a", b"b", b"c", b"d"))
    folder = up + b"/" + chance.choice((b"P", b"Q")) if plain else file
    to = folder if here in folders else file
    lines = [b"%d or so\n" % chance.randrange(6) for _ in range(chance.randrange(12))]
    what: list[Callable[[], object]] = [
        lambda: session.mkdir(folder), lambda: session.write(file, b"".join(lines)), lambda: session.write(file, TEXT[: chance.randrange(len(TEXT))]),
        lambda: session.unlink(here), lambda: session.rmdir(here), lambda: session.rename(here, to), lambda: session.rename(here, to),
        lambda: change_mode(session, here, chance.choice((0o700, 0o755))), lambda: session.truncate(here, 0),
    ]  # fmt: skip
    if not plain:
        what += [
            lambda: session.symlink(chance.choice((b"x", b"y")), file), lambda: session.link(here, file),
            lambda: session.rename(here, file, RENAME_EXCHANGE),
        ]  # fmt: skip
    with contextlib.suppress(FsError):
        chance.choice(what)()


def explained(old: Tree, found: list[Change]) -> Tree:
    """The older tree with the changes made to it; what a change brings is marked by its status alone."""
    explicit = {change.old_path: change for change in found if change.old_path is not None}
    moved = {change.old_path: change.path for change in found if change.old_path is not None and change.status == "R" and change.new and change.new.is_dir}
    made: Tree = {}
    for path, shown in old.items():
        change = explicit.get(path)
        if change is not None and change.status != "D":
            made[change.path] = (change.status, change.content, *shown)
        elif change is None:
            above = path
            while above and above not in moved:
                above = above.rpartition(b"/")[0]
            made[moved.get(above, b"") + path[len(above) :]] = ("", False, *shown)
    return made | {change.path: ("A", True) for change in found if change.status == "A"}


def test_a_ring_of_damaged_directories_is_in_no_tree(session: Session, tenant: Tenant) -> None:
    for path in (b"/a", b"/a/b", b"/a/b/c"):
        session.mkdir(path)
    checkpoint(session, "whole")
    s, a, c = session.fs.session, session.attr(b"/a").ino, session.attr(b"/a/b/c").ino
    tenant.damaged = True
    session.write(b"/a/b/c/file", b"")
    session.run(lambda: finish(sql.DENTRY_DROP(*s.key, ROOT_INO, b"a"), sql.DENTRY_PUT(s.tenant, s.layer, c, b"a", a, 4)))
    assert told(session, files=True) == []
    assert told(session) == [(b"D", b"/a")]


@pytest.mark.parametrize("seed", range(6))
def test_the_changes_explain_any_two_trees(session: Session, seed: int) -> None:
    chance = random.Random(seed)
    trees: dict[str, Tree] = {"head": {}}
    for number in range(5):
        for _ in range(14):
            do_something(session, chance)
        checkpoint(session, f"n{number}")
        trees[f"n{number}"] = snapshot(session)
        if number == 3:
            switch(session, "n1")
    trees["head"] = snapshot(session)
    for older in trees:
        for newer in trees:
            old, new = trees[older], trees[newer]
            for files in (False, True):
                found = changes(session, older, newer, files=files)
                before, after = ({path: shown for path, shown in tree.items() if not files or shown[0] != 4} for tree in (old, new))
                made = explained(before, found)
                assert made.keys() == after.keys(), (older, newer, files)
                for path, (status, content, *was) in made.items():
                    is_now = after[path]
                    if status in ("", "m") or (status == "R" and not content):
                        assert (*was[:2],) == is_now[:2], (older, newer, path, status)
                    if status == "":
                        assert tuple(was) == is_now, (older, newer, path)
                    if status in ("M", "T"):
                        assert (*was[:2],) != is_now[:2], (older, newer, path, status)
                    if status == "m":
                        assert tuple(was) != is_now, (older, newer, path)
                assert len(found) == len({(change.path, change.status) for change in found})
