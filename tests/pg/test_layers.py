"""Layers and branches at the core: what checkpoint, switch, branch, delete and squash do to the tree, and what they refuse."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

import pytest

from tarbox_core import layer as layer_verbs
from tarbox_core import statements as sql
from tarbox_core.effects import Op, one
from tarbox_core.errors import FsError, LayerError
from tarbox_core.handles import FileHandle
from tarbox_core.layer import Layer, Switched, check_name
from tests.conftest import PgServer
from tests.tenants import Session, Tenant


def checkpoint(session: Session, name: str | None = None, **more: object) -> Layer:
    made = session.run(lambda: session.fs.checkpoint(session.caller, name, **more))  # type: ignore[arg-type]
    assert made is not None
    return made


def switch(session: Session, word: str) -> Switched:
    return session.run(lambda: session.fs.switch(session.caller, word))


def refused(session: Session, op: Callable[[], Op[object]], number: int) -> str:
    with pytest.raises(LayerError) as caught:
        session.run(op)
    assert caught.value.errno == number
    return str(caught.value)


def tree(session: Session) -> dict[bytes, object]:
    """Everything that a tree shows: for each path its attributes (times and inode numbers included), content, target, xattrs."""
    shown: dict[bytes, object] = {}
    stack = [b"/"]
    while stack:
        folder = stack.pop()
        attr = session.attr(folder) if folder != b"/" else session.run(lambda: session.fs.getattr(1))
        shown[folder] = attr._replace(layer=0, blocks=0)
        for entry in session.entries(folder):
            path = folder.rstrip(b"/") + b"/" + entry.name
            attr = session.attr(path)
            if attr.is_dir:
                stack.append(path)
                continue
            content: object = None
            if attr.is_reg:
                content = session.read(path)
            elif attr.is_symlink:
                content = session.run(lambda ino=attr.ino: session.fs.readlink(session.caller, ino))
            names = session.run(lambda ino=attr.ino: session.fs.listxattr(session.caller, ino))
            values = {n: session.run(lambda n=n, ino=attr.ino: session.fs.getxattr(session.caller, ino, n)) for n in names}
            shown[path] = (attr._replace(layer=0), content, values)
    return shown


def busy_tree(session: Session) -> None:
    session.mkdir(b"/d")
    session.write(b"/d/small", b"one\n")
    session.write(b"/d/large", b"x" * 50_000)
    session.symlink(b"small", b"/d/sym")
    session.link(b"/d/small", b"/hard")
    where = session.at(b"/fifo")
    session.run(lambda: session.fs.mknod(session.caller, *where, 0o10644))
    ino = session.attr(b"/d/small").ino
    session.run(lambda: session.fs.setxattr(session.caller, ino, b"user.k", b"v"))


def change_everything(session: Session) -> None:
    session.write(b"/d/small", b"two, and longer\n")
    session.write(b"/d/large", b"y" * 5000, 40_000)
    session.truncate(b"/d/large", 45_000)
    session.unlink(b"/d/sym")
    session.unlink(b"/fifo")
    session.rename(b"/hard", b"/d/moved")
    session.rename(b"/d", b"/e")
    ino = session.attr(b"/e/small").ino
    session.run(lambda: session.fs.setattr(session.caller, ino, mode=0o600))
    session.run(lambda: session.fs.setattr(session.caller, ino, uid=7, gid=8))
    session.run(lambda: session.fs.setattr(session.caller, ino, mtime=5, atime=6))
    session.run(lambda: session.fs.setxattr(session.caller, ino, b"user.k", b"w"))
    session.run(lambda: session.fs.setxattr(session.caller, ino, b"user.new", b"n"))
    session.mkdir(b"/new")
    session.write(b"/new/file", b"n" * 9000)


def test_rollback_is_total_and_can_be_rolled_back(session: Session) -> None:
    busy_tree(session)
    before = tree(session)
    sealed = checkpoint(session, "before", message="all well")
    assert (sealed.name, sealed.message, sealed.automatic) == ("before", "all well", False)
    assert tree(session) == before
    change_everything(session)
    after = tree(session)
    assert after != before
    switched = switch(session, "before")
    assert switched.layer.stamp == sealed.stamp and switched.left is not None and switched.left.automatic
    assert tree(session) == before
    assert switch(session, "-").layer == switched.left
    assert tree(session) == after
    switch(session, "-")
    assert tree(session) == before


def test_switching_without_changes_makes_no_layers(session: Session) -> None:
    session.write(b"/a", b"1")
    first = checkpoint(session, "one")
    session.write(b"/a", b"2")
    second = checkpoint(session, "two")
    for _ in range(5):
        switch(session, "one")
        assert session.read(b"/a") == b"1"
        switch(session, "two")
        assert session.read(b"/a") == b"2"
    assert switch(session, "two").left is None  # it stands there already
    names = [layer.name for layer in session.run(session.fs.layers)]
    assert names == ["one", "two", None]
    assert session.run(session.fs.current).parent == second.stamp != first.stamp


def test_an_automatic_checkpoint_without_changes_makes_no_layer(session: Session) -> None:
    session.write(b"/a", b"1")
    assert checkpoint(session, automatic=True).automatic
    assert session.run(lambda: session.fs.checkpoint(session.caller, automatic=True)) is None
    assert len(session.run(session.fs.layers)) == 2


def test_layers_are_found_by_name_and_by_the_beginning_of_an_id(session: Session) -> None:
    named = checkpoint(session, "before refactor")
    other = checkpoint(session)
    assert session.run(lambda: session.fs.layer("before refactor")) == named
    assert session.run(lambda: session.fs.layer(named.id)) == named
    prefix = next(named.id[:n] for n in range(1, 13) if not other.id.startswith(named.id[:n]))
    open_id = session.run(session.fs.current).id
    while open_id.startswith(prefix):
        prefix = named.id[: len(prefix) + 1]
    assert session.run(lambda: session.fs.layer(prefix)) == named
    assert session.run(lambda: session.fs.layer("head")).sealed_at is None
    assert "no layer named" in refused(session, lambda: session.fs.layer("nowhere"), errno.ENOENT)
    for _ in range(16):
        checkpoint(session)
    ids = [layer.id for layer in session.run(session.fs.layers)]
    double = next(digit for digit in "0123456789abcdef" if sum(i.startswith(digit) for i in ids) > 1)
    assert "could be" in refused(session, lambda: session.fs.layer(double), errno.EINVAL)


@pytest.mark.parametrize("name", ["", " ", "a/b", "a..b", "-x", ".x", "head", "abcdef12", "a\nb", "x" * 129, "a\0b"])
def test_names_that_no_layer_may_have(name: str) -> None:
    with pytest.raises(LayerError):
        check_name(name)


def test_what_is_refused(session: Session, tenant: Tenant) -> None:
    fs, who = session.fs, session.caller
    session.write(b"/a", b"1")
    one = checkpoint(session, "one")
    assert "exists already" in refused(session, lambda: fs.checkpoint(who, "one"), errno.EEXIST)
    session.write(b"/a", b"2")
    checkpoint(session, "two")
    assert "nothing to go back to" in refused(session, lambda: fs.switch(who, "-"), errno.ENOENT)
    assert "writes to" in refused(session, lambda: fs.delete_layer(who, "head"), errno.EBUSY)
    assert "this branch stands" in refused(session, lambda: fs.delete_layer(who, "two"), errno.EBUSY)
    assert "layer two rests" in refused(session, lambda: fs.delete_layer(who, "one"), errno.EBUSY)
    assert "no run" in refused(session, lambda: fs.squash(who, "two", "one"), errno.EINVAL)
    assert "one layer" in refused(session, lambda: fs.squash(who, "two", "two"), errno.EINVAL)
    assert "still written" in refused(session, lambda: fs.squash(who, "one", "head"), errno.EINVAL)
    session.run(lambda: fs.make_branch(who, "side", "one"))
    assert "across a fork: branch side stands on layer one" in refused(session, lambda: fs.squash(who, "one", "two"), errno.EBUSY)
    assert "exists already" in refused(session, lambda: fs.make_branch(who, "side"), errno.EEXIST)
    assert "bad branch name" in refused(session, lambda: fs.make_branch(who, "list"), errno.EINVAL)
    assert "no branch" in refused(session, lambda: fs.delete_branch(who, "nowhere"), errno.ENOENT)
    assert "in use here" in refused(session, lambda: fs.delete_branch(who, "main"), errno.EBUSY)
    look = tenant.view("one")
    assert look.read(b"/a") == b"1"
    assert "read-only" in refused(look, lambda: look.fs.switch(who, "two"), errno.EROFS)
    assert "read-only" in refused(look, lambda: look.fs.checkpoint(who), errno.EROFS)
    with pytest.raises(FsError) as caught:
        look.write(b"/a", b"3")
    assert caught.value.errno == errno.EROFS
    assert look.run(look.fs.current) == one


def test_branches_go_their_own_ways(session: Session, tenant: Tenant) -> None:
    session.write(b"/a", b"base")
    made = session.run(lambda: session.fs.make_branch(session.caller, "side"))
    side = tenant.session(branch="side")
    assert side.fs.session.layer == made.layer
    assert side.read(b"/a") == b"base"
    side.write(b"/a", b"side")
    side.write(b"/only", b"side")
    session.write(b"/a", b"main")
    checkpoint(session, "main-1")
    checkpoint(side, "side-1")
    assert (session.read(b"/a"), side.read(b"/a")) == (b"main", b"side")
    assert not session.exists(b"/only")
    assert [branch.name for branch in session.run(session.fs.branches)] == ["main", "side"]
    side.write(b"/late", b"not sealed yet")
    kept = session.run(lambda: session.fs.delete_branch(session.caller, "side"))
    assert kept is not None and kept.automatic
    assert tenant.view(kept.id).read(b"/late") == b"not sealed yet"
    with pytest.raises(FsError) as caught:
        side.mkdir(b"/gone")
    assert caught.value.errno == errno.ESTALE
    switch(session, "side-1")
    assert session.read(b"/a") == b"side"


def test_a_leaf_can_be_deleted(session: Session) -> None:
    session.write(b"/a", b"1")
    checkpoint(session, "one")
    session.write(b"/a", b"2")
    session.write(b"/b", b"b" * 20_000)
    checkpoint(session, "two")
    switch(session, "one")
    session.run(lambda: session.fs.delete_layer(session.caller, "two"))
    assert session.read(b"/a") == b"1"
    assert "no layer named" in refused(session, lambda: session.fs.switch(session.caller, "two"), errno.ENOENT)
    assert "nothing to go back to" in refused(session, lambda: session.fs.switch(session.caller, "-"), errno.ENOENT)


def test_squash_keeps_the_ends_and_forgets_the_middle(session: Session, tenant: Tenant) -> None:
    session.write(b"/a", b"0")
    checkpoint(session, "base")
    states: dict[str, dict[bytes, object]] = {}
    for n in range(1, 6):
        session.write(b"/a", b"%d" % n)
        session.write(b"/n%d" % n, b"x" * 9000 * n)
        if n > 2:
            session.unlink(b"/n%d" % (n - 2))
        checkpoint(session, f"c{n}")
        states[f"c{n}"] = tree(session)
    base = tree(tenant.view("base"))
    end, gone = session.run(lambda: session.fs.squash(session.caller, "c1", "c4"))
    assert (end.name, gone) == ("c4", 3)
    assert [layer.name for layer in session.run(session.fs.layers)] == ["base", "c4", "c5", None]
    assert tree(tenant.view("base")) == base
    assert tree(tenant.view("c4")) == states["c4"]
    assert tree(tenant.view("c5")) == states["c5"] == tree(session)
    for name in ("c1", "c2", "c3"):
        assert "no layer named" in refused(session, lambda name=name: session.fs.layer(name), errno.ENOENT)
    switch(session, "c4")
    session.write(b"/a", b"again")
    assert session.read(b"/n4") == b"x" * 36_000


def test_a_file_open_across_a_switch_is_read_as_it_was_and_not_written(session: Session) -> None:
    session.write(b"/a", b"old" * 5000)
    checkpoint(session, "old")
    session.write(b"/a", b"new" * 6000)
    opened = session.open(b"/a", write=True)
    switch(session, "old")
    assert opened.stale
    assert session.run(lambda: opened.read(session.caller, 0, 1 << 20)) == b"new" * 6000
    with pytest.raises(FsError) as caught:
        session.run(lambda: opened.write(session.caller, 0, b"lost"))
    assert caught.value.errno == errno.ESTALE
    session.close(opened)
    assert session.read(b"/a") == b"old" * 5000
    again = session.open(b"/a", write=True)
    assert not again.stale
    session.close(again)


def test_what_was_not_stored_at_a_switch_is_said_to_be_lost(session: Session, tenant: Tenant) -> None:
    session.write(b"/a", b"old")
    checkpoint(session, "old")
    session.write(b"/a", b"new")
    opened = session.open(b"/a", write=True)
    session.run(lambda: opened.write(session.caller, 0, b"never stored"))
    other = tenant.session()
    switch(other, "old")
    with pytest.raises(FsError) as caught:
        session.write(b"/b", b"this sees that the head moved, and goes on in the new tree")
        session.close(opened)
    assert caught.value.errno == errno.ESTALE
    assert session.read(b"/a") == other.read(b"/a") == b"old"
    assert session.read(b"/b").startswith(b"this sees")


def test_another_door_s_checkpoint_and_switch_are_noticed(session: Session, tenant: Tenant) -> None:
    other = tenant.session()
    session.write(b"/a", b"1")
    opened = session.open(b"/a", write=True)
    checkpoint(other, "one")
    session.run(lambda: opened.write(session.caller, 0, b"2"))
    session.close(opened)
    assert not opened.stale
    assert tenant.view("one").read(b"/a") == b"1"
    assert other.run(other.fs.refresh) is False  # a checkpoint changes no tree
    assert other.read(b"/a") == b"2"
    switch(session, "one")
    assert other.run(other.fs.refresh) is True
    assert other.read(b"/a") == b"1"


def test_a_switch_judges_by_where_the_branch_stands_not_by_what_the_session_remembers(session: Session, tenant: Tenant) -> None:
    other = tenant.session()
    session.write(b"/a", b"1")
    checkpoint(session, "one")
    other.run(other.fs.refresh)
    session.write(b"/a", b"2")
    two = checkpoint(session, "two")
    assert switch(other, "one").left == two  # `other` still thought that it stood there
    assert other.read(b"/a") == b"1"
    switch(session, "two")
    assert switch(other, "two").left is None
    assert other.read(b"/a") == b"2"  # nothing was to do, and it saw that


def rows_of(tenant: Tenant, pg_server: PgServer, schema_url: str) -> dict[str, int]:
    superuser = pg_server.connect(urlsplit(schema_url).path[1:])
    try:
        counts = {table: superuser.run(f"select count(*) from {table} where tenant = :t", t=tenant.info.id)[0][0] for table in TABLES}
    finally:
        superuser.close()
    return counts


TABLES = ("dentry", "inode", "extent", "xattr", "block")


def test_squashing_again_knows_what_was_squashed_before(session: Session, tenant: Tenant, pg_server: PgServer, schema_url: str) -> None:
    checkpoint(session, "base")
    empty = tree(session)
    session.write(b"/kept", b"k" * 20_000)
    checkpoint(session, "c1")
    kept = tree(session)
    before = rows_of(tenant, pg_server, schema_url)
    session.write(b"/gone", b"g" * 20_000)
    ino = session.attr(b"/gone").ino
    session.run(lambda: session.fs.setxattr(session.caller, ino, b"user.k", b"v"))
    session.unlink(b"/kept")
    checkpoint(session, "c2")
    session.write(b"/gone", b"h" * 20_000)
    checkpoint(session, "c3")
    session.run(lambda: session.fs.squash(session.caller, "c2", "c3"))
    session.unlink(b"/gone")
    checkpoint(session, "c4")
    end = tree(session)
    assert sorted(end) == [b"/"]
    session.run(lambda: session.fs.squash(session.caller, "c3", "c4"))
    assert tree(tenant.view("c4")) == end and tree(tenant.view("c1")) == kept
    tenant.gc()
    # Of c4 there are the root's row, and the whiteouts of what c1 holds: a name and its inode.
    after = rows_of(tenant, pg_server, schema_url)
    assert {table: after[table] - before[table] for table in TABLES} == {"dentry": 1, "inode": 2, "extent": 0, "xattr": 0, "block": 0}
    session.run(lambda: session.fs.squash(session.caller, "c1", "c4"))
    assert tree(tenant.view("c4")) == end and tree(tenant.view("base")) == empty
    tenant.gc()
    assert rows_of(tenant, pg_server, schema_url) == {"dentry": 0, "inode": 2, "extent": 0, "xattr": 0, "block": 0}


def test_deleting_a_layer_takes_what_was_squashed_into_it(session: Session, tenant: Tenant, pg_server: PgServer, schema_url: str) -> None:
    checkpoint(session, "base")
    before = rows_of(tenant, pg_server, schema_url)
    for n in range(3):
        session.write(b"/file%d" % n, b"%d" % n * 20_000)
        checkpoint(session, f"c{n}")
    session.run(lambda: session.fs.squash(session.caller, "c0", "c2"))
    switch(session, "base")
    session.run(lambda: session.fs.delete_layer(session.caller, "c2"))
    tenant.gc()
    assert rows_of(tenant, pg_server, schema_url) == before


def test_an_unlinked_file_that_is_open_outlives_a_squash(session: Session, tenant: Tenant) -> None:
    session.write(b"/a", b"1")
    checkpoint(session, "one")
    session.write(b"/open", b"x" * 9000)
    opened = session.open(b"/open")
    checkpoint(session, "two")
    session.unlink(b"/open")
    checkpoint(session, "three")
    session.run(lambda: session.fs.squash(session.caller, "two", "three"))
    assert session.run(lambda: opened.read(session.caller, 0, 1 << 20)) == b"x" * 9000
    assert session.run(lambda: session.fs.getattr(opened.ino)).nlink == 0
    session.close(opened)
    assert tree(tenant.view("three")) == tree(session)


def test_a_branch_made_again_is_not_taken_for_the_one_that_is_gone(session: Session, tenant: Tenant) -> None:
    session.write(b"/a", b"1")
    one = checkpoint(session, "one")
    session.run(lambda: session.fs.make_branch(session.caller, "side"))
    side = tenant.session(branch="side")
    for n in range(3):
        side.write(b"/a", b"side %d" % n)
        checkpoint(side)
    session.run(lambda: session.fs.delete_branch(session.caller, "side"))
    session.run(lambda: session.fs.make_branch(session.caller, "side", one.id))
    side.write(b"/b", b"2")
    assert side.read(b"/a") == b"1"
    assert tenant.session(branch="side").names() == [b"a", b"b"]


def is_stale(session: Session, opened: FileHandle) -> None:
    """Reading it says that it is gone."""
    with pytest.raises(FsError) as caught:
        session.run(lambda: opened.read(session.caller, 0, 1 << 20))
    assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize("read_before", [False, True])
def test_what_is_open_of_a_layer_that_is_removed_shows_nothing_else(session: Session, tenant: Tenant, read_before: bool, swept: bool) -> None:
    session.write(b"/a", b"old" * 5000)
    checkpoint(session, "old")
    session.write(b"/a", b"new" * 6000)
    session.write(b"/b", b"fresh" * 6000)
    files = [session.open(path) for path in (b"/a", b"/b")]
    for opened in files if read_before else ():
        session.run(lambda opened=opened: opened.read(session.caller, 0, 10))
    left = switch(session, "old").left
    assert left is not None
    session.run(lambda: session.fs.delete_layer(session.caller, left.id))
    if swept:
        tenant.gc()
        session.fs.session.blocks.clear()
    for opened in files:
        if read_before and not swept:  # whose blocks are known and there
            assert len(session.run(lambda opened=opened: opened.read(session.caller, 0, 1 << 20))) == opened.attr().size
        else:
            is_stale(session, opened)
        session.close(opened)


def test_a_view_of_a_layer_that_is_squashed_away_shows_nothing_else(session: Session, tenant: Tenant) -> None:
    for number in (1, 2, 3):
        session.write(b"/a", b"%d" % number * 20_000)
        session.write(b"/kept", b"same" * 5000) if number == 1 else None
        checkpoint(session, str(number))
    seen = tenant.view("2")
    opened, kept = seen.open(b"/a"), seen.open(b"/kept")
    session.run(lambda: session.fs.squash(session.caller, "2", "3"))
    is_stale(seen, opened)
    assert seen.run(lambda: kept.read(seen.caller, 0, 1 << 20)) == b"same" * 5000
    for left in (opened, kept):
        seen.close(left)


def test_a_change_that_does_not_end_keeps_no_layer_waiting_for_ever(session: Session, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_verbs, "PATIENCE", 200)
    other = tenant.session()
    session.write(b"/a", b"changed")
    with other.driver.wire() as wire:
        locks = other.fs.session.locks((), ())
        wire.execute([locks], begin=True)  # and then its process is stopped
        for op in (lambda: session.fs.checkpoint(session.caller, "one"), lambda: session.fs.switch(session.caller, "-")):
            assert "in work did not end within 0.2 s" in refused(session, op, errno.EBUSY)
    assert checkpoint(session, "one").name == "one"


class Meanwhile(tuple[tuple[int, int], ...]):
    """What a head sees; when it is looked at, another thread comes between."""

    act: Callable[[], object]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        self.act()
        return super().__iter__()


def test_threads_that_see_the_same_switch_at_once_leave_one_tree(session: Session, tenant: Tenant) -> None:
    other = tenant.session()
    s = session.fs.session
    session.write(b"/a", b"0" * 10_000)
    checkpoint(session, "base")
    files: list[FileHandle] = []
    for number in (b"1", b"2"):
        session.write(b"/a", number * 20_000)
        files.append(session.open(b"/a"))
        switch(other, "base")
        layer, visible, epoch = other.run(lambda: one(sql.HEAD(s.tenant, s.head)))
        seen = Meanwhile(visible)
        seen.act = partial(s.moved, layer, visible, epoch)
        s.moved(layer, seen, epoch)
        assert session.read(b"/a") == b"0" * 10_000
    for opened, number in zip(files, (b"1", b"2"), strict=True):
        assert session.run(lambda opened=opened: opened.read(session.caller, 0, 1 << 20)) == number * 20_000
        session.close(opened)


def test_earlier_trees_are_kept_in_mind_as_long_as_something_of_them_is_open(session: Session) -> None:
    session.write(b"/a", b"0" * 10_000)
    checkpoint(session, "base")
    session.write(b"/a", b"1" * 20_000)
    kept = [session.open(b"/a")]
    for _ in range(8):
        session.write(b"/b", b"changed")
        switch(session, "base")
        session.close(session.open(b"/a"))
    assert len(session.fs.session.past) == 2
    assert session.run(lambda: kept[0].read(session.caller, 0, 1 << 20)) == b"1" * 20_000
    session.close(kept.pop())
    switch(session, "-")
    assert len(session.fs.session.past) == 1


def interrupted(op: Op[object], act: Callable[[], object]) -> Op[object]:
    """Something else happens behind the first trip of an operation."""
    try:
        rows = yield next(op)
        act()
        while True:
            rows = yield op.send(rows)
    except StopIteration as done:
        return done.value


def test_an_open_that_cuts_a_file_does_not_cut_another_tree_s(session: Session, tenant: Tenant) -> None:
    other = tenant.session()
    session.write(b"/a", b"0" * 10_000)
    checkpoint(session, "base")
    session.rename(b"/a", b"/b")
    ino = session.attr(b"/b").ino
    kept: list[FileHandle] = []

    def switched() -> None:
        switch(other, "base")
        session.run(session.fs.refresh)
        kept.append(session.open(b"/a"))

    with pytest.raises(FsError) as caught:
        session.run(lambda: interrupted(session.fs.open(session.caller, ino, write=True, truncate=True), switched))
    assert caught.value.errno == errno.ESTALE
    assert other.read(b"/a") == b"0" * 10_000
    session.close(kept[0])


def test_a_change_that_was_begun_before_a_switch_is_not_made_behind_it(session: Session, tenant: Tenant) -> None:
    other = tenant.session()
    session.write(b"/a", b"0" * 10_000)
    checkpoint(session, "base")
    session.write(b"/a", b"1" * 20_000)
    opened = session.open(b"/a", write=True)
    cut = opened.truncate(session.caller, 5)
    switch(other, "base")
    session.run(session.fs.refresh)
    with pytest.raises(FsError) as caught:
        session.run(lambda: cut)
    assert caught.value.errno == errno.ESTALE
    assert other.read(b"/a") == b"0" * 10_000
    session.close(opened)
