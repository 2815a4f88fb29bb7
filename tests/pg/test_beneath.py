"""Walking below a directory: where paths lead, that none leads out, and how many trips it takes."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from tarbox_core.beneath import Walk, split_last
from tarbox_core.effects import Batch, Op
from tarbox_core.errors import FsError
from tarbox_core.types import Caller
from tests.tenants import Session, Tenant


class Walker:
    """Walks from a directory of a session, and counts trips."""

    def __init__(self, session: Session, start: bytes = b"/") -> None:
        self.session = session
        self.start = session.attr(start).ino
        self.trips = 0

    def __call__(self, path: bytes, **how: bool) -> Walk:
        self.trips = 0
        s = self.session
        walk = Walk(s.fs, s.caller, self.start, path, **how)
        while not s.run(lambda: self._counted(walk.step())):
            pass
        return walk

    def _counted(self, op: Op[bool]) -> Op[bool]:
        try:
            batch: Batch = next(op)
            while True:
                self.trips += bool(batch.queries)
                batch = op.send((yield batch))
        except StopIteration as done:
            result: bool = done.value
            return result

    def ino(self, path: bytes, **how: bool) -> int:
        attr = self(path, **how).attr
        assert attr is not None
        return attr.ino

    def errno(self, path: bytes, **how: bool) -> int:
        with pytest.raises(FsError) as refused:
            self(path, **how)
        return refused.value.errno


@pytest.fixture
def made(session: Session) -> Session:
    """/top/{dir/{sub/file, other}, file}, and /outside."""
    for folder in (b"/top", b"/top/dir", b"/top/dir/sub"):
        session.mkdir(folder)
    for file in (b"/top/dir/sub/file", b"/top/dir/other", b"/top/file", b"/outside"):
        session.write(file, b"x")
    return session


@pytest.fixture
def walk(made: Session) -> Walker:
    return Walker(made, b"/top")


def test_a_plain_path_is_one_trip_however_long(walk: Walker, made: Session) -> None:
    assert walk.ino(b"dir/sub/file") == made.attr(b"/top/dir/sub/file").ino
    assert walk.trips == 1
    assert walk.ino(b"file") == made.attr(b"/top/file").ino
    assert walk.trips == 1


@pytest.mark.parametrize(
    ("path", "real"),
    [
        (b".", b"/top"), (b"./", b"/top"), (b"dir/", b"/top/dir"), (b"dir//sub/./file", b"/top/dir/sub/file"), (b"dir/..", b"/top"),
        (b"dir/sub/../../dir/other", b"/top/dir/other"), (b"dir/.", b"/top/dir"),
    ],
)  # fmt: skip
def test_dots_and_slashes(walk: Walker, made: Session, path: bytes, real: bytes) -> None:
    assert walk.ino(path) == made.attr(real).ino


@pytest.mark.parametrize("path", [b"..", b"../top", b"dir/../..", b"dir/sub/../../../outside", b"/", b"/top/file", b"../outside"])
def test_nothing_leads_above_the_start(walk: Walker, path: bytes) -> None:
    assert walk.errno(path) == errno.EPERM


@pytest.mark.parametrize("target", [b"..", b"../outside", b"/outside", b"/top/file", b"dir/../../outside", b"/"])
def test_no_link_leads_out(walk: Walker, made: Session, target: bytes) -> None:
    made.symlink(target, b"/top/link")
    assert walk.errno(b"link") == errno.EPERM
    assert walk.errno(b"link/more") == errno.EPERM
    assert walk.ino(b"link", follow=False) == made.attr(b"/top/link").ino


def test_links_inside_are_followed_wherever_they_stand(walk: Walker, made: Session) -> None:
    made.symlink(b"../dir", b"/top/dir/around")
    made.symlink(b"around/sub", b"/top/dir/sub2")
    assert walk.ino(b"dir/sub2/file") == made.attr(b"/top/dir/sub/file").ino
    assert walk.ino(b"dir/around/other") == made.attr(b"/top/dir/other").ino
    assert walk.ino(b"dir/sub2", follow=False) == made.attr(b"/top/dir/sub2").ino
    assert walk.ino(b"dir/sub2/", follow=False) == made.attr(b"/top/dir/sub").ino


def test_forty_links_are_followed_and_no_more(walk: Walker, made: Session) -> None:
    made.symlink(b"file", b"/top/l1")
    for n in range(2, 42):
        made.symlink(b"l%d" % (n - 1), b"/top/l%d" % n)
    assert walk.ino(b"l40") == made.attr(b"/top/file").ino
    assert walk.errno(b"l41") == errno.ELOOP
    made.symlink(b"self", b"/top/self")
    assert walk.errno(b"self") == walk.errno(b"self/more") == errno.ELOOP


def test_a_missing_last_name_is_an_answer(walk: Walker, made: Session) -> None:
    found = walk(b"dir/sub/new")
    assert (found.attr, found.parent.ino, found.name) == (None, made.attr(b"/top/dir/sub").ino, b"new")
    made.symlink(b"sub/made", b"/top/dir/dangling")
    found = walk(b"dir/dangling")
    assert (found.attr, found.parent.ino, found.name) == (None, made.attr(b"/top/dir/sub").ino, b"made")
    assert walk(b"new/").is_folder and not walk(b"new").is_folder
    assert walk.errno(b"new/more") == errno.ENOENT


def test_what_is_no_directory_has_nothing_below(walk: Walker) -> None:
    assert {walk.errno(path) for path in (b"file/more", b"file/", b"file/.", b"file/..", b"dir/other/../sub")} == {errno.ENOTDIR}


def test_what_cannot_be_a_path(walk: Walker) -> None:
    assert walk.errno(b"") == errno.ENOENT
    assert walk.errno(b"a" * 256) == walk.errno(b"a/" * 2048) == errno.ENAMETOOLONG
    assert walk.errno(b"a\0b") == errno.EINVAL


@pytest.mark.parametrize(
    ("path", "parts"), [(b"a", (b"", b"a", False)), (b"a/b//", (b"a", b"b", True)), (b"a/..", (b"a", b"..", False)), (b".", (b"", b".", False))]
)
def test_the_last_name(path: bytes, parts: tuple[bytes, bytes, bool]) -> None:
    assert split_last(path) == parts


def test_directories_must_be_searchable(made: Session, tenant: Tenant) -> None:
    ino = made.attr(b"/top/dir").ino
    made.run(lambda: made.fs.setattr(made.caller, ino, mode=0o600))
    for more in ({}, {"defer": True}):
        other = Walker(tenant.session(caller=Caller(1000, 1000), enforce=True, **more), b"/top")
        for _ in range(2):
            assert other.errno(b"dir/other") == other.errno(b"dir/sub/file") == errno.EACCES
            assert other.ino(b"dir") == ino


# --- beyond the tree


def test_control_files_are_below_the_root_and_nowhere_else(made: Session) -> None:
    made.run(lambda: made.fs.checkpoint(made.caller, "first"), durable=True)
    made.write(b"/top/file", b"later")
    walk = Walker(made)
    assert walk.ino(b".tarbox/layers/list") == made.attr(b"/.tarbox/layers/list").ino
    assert walk.ino(b"top/dir/../../.tarbox/layers/../stats") == made.attr(b"/.tarbox/stats").ino
    seen = walk(b".tarbox/layers/tree/first/top/file").attr
    assert seen is not None and seen.size == 1
    assert walk(b".tarbox/layers/tree/first/top/none").attr is None
    assert walk.errno(b".tarbox/layers/tree/none/top") == errno.ENOENT
    assert walk.ino(b".tarbox/layers/tree/first/../../../../outside") == made.attr(b"/outside").ino
    assert Walker(made, b"/top")(b".tarbox").attr is None


def test_links_of_a_sealed_layer_stay_in_it(made: Session) -> None:
    made.symlink(b"dir/sub", b"/top/inside")
    made.symlink(b"/outside", b"/top/absolute")
    made.run(lambda: made.fs.checkpoint(made.caller, "first"), durable=True)
    made.unlink(b"/top/dir/sub/file")
    walk = Walker(made)
    assert walk(b".tarbox/layers/tree/first/top/inside/file").attr is not None
    assert walk.errno(b".tarbox/layers/tree/first/top/absolute") == errno.EPERM
    inner = Walker(made, b"/.tarbox/layers/tree/first/top")
    assert inner(b"inside/file").attr is not None
    assert inner.errno(b"../top") == errno.EPERM


# --- what a session keeps in mind


@pytest.fixture
def mindful(made: Session, tenant: Tenant) -> Walker:
    return Walker(tenant.session(defer=True), b"/top")


def test_directories_on_the_way_are_kept_in_mind_and_ends_are_not(mindful: Walker, made: Session) -> None:
    mindful(b"dir/sub/file")
    made.write(b"/top/dir/sub/file", b"longer")
    found = mindful(b"dir/sub/file").attr
    assert found is not None and (found.size, mindful.trips) == (6, 1)
    mindful(b"dir/sub/new", passing=True)
    assert mindful.trips == 1
    mindful(b"dir/sub", passing=True)
    assert mindful.trips == 0
    mindful(b"dir/sub")
    assert mindful.trips == 1


def test_a_file_is_opened_by_what_the_walk_read(mindful: Walker, made: Session) -> None:
    mindful(b"dir/sub/file")
    session, seen = mindful.session, mindful(b"dir/sub/file", opening=True).seen
    assert seen is not None and mindful.trips == 1
    opened = session.run(lambda: session.fs.open_seen(session.caller, seen))
    assert session.run(lambda: opened.read(session.caller, 0, 10)) == b"x"
    session.close(opened)


def test_a_file_that_was_seen_belongs_to_the_tree_it_was_seen_in(mindful: Walker) -> None:
    session = mindful.session
    session.run(lambda: session.fs.checkpoint(session.caller, "first"), durable=True)
    session.write(b"/top/dir/sub/file", b"second")
    mindful(b"dir/sub/file")
    seen = mindful(b"dir/sub/file", opening=True).seen
    assert seen is not None
    session.run(lambda: session.fs.switch(session.caller, "first"), durable=True)
    opened = session.run(lambda: session.fs.open_seen(session.caller, seen))
    assert session.run(lambda: opened.read(session.caller, 0, 10)) == b"x"
    session.close(opened)


def _rename(s: Session) -> None:
    s.rename(b"/top/dir", b"/top/moved")


def _replace(s: Session) -> None:
    s.mkdir(b"/top/empty")
    s.rename(b"/top/dir", b"/top/moved")
    s.rename(b"/top/empty", b"/top/dir")


def _exchange(s: Session) -> None:
    s.mkdir(b"/top/empty")
    s.rename(b"/top/dir", b"/top/empty", 2)


@pytest.mark.parametrize("change", [_rename, _replace, _exchange])
@pytest.mark.parametrize("own", [True, False], ids=["own", "told"])
def test_a_directory_that_moved_is_not_found_where_it_was(mindful: Walker, made: Session, change: Callable[[Session], None], own: bool) -> None:
    mindful(b"dir/sub/file")
    change(mindful.session if own else made)
    if not own:
        mindful.session.fs.changed_elsewhere([made.attr(b"/top").ino, made.attr(b"/top").ino, *_inos(made)])
    try:
        assert mindful(b"dir/sub/file", passing=True).attr is None
    except FsError as error:
        assert error.errno == errno.ENOENT


def _inos(s: Session) -> list[int]:
    """Of the directories in /top: what a rename there tells of."""
    return [entry.ino for entry in s.entries(b"/top")]


def test_a_new_file_that_waits_is_found(mindful: Walker) -> None:
    session = mindful.session
    missing = mindful(b"dir/new")
    attr, opened = session.run(lambda: session.fs.create(session.caller, missing.parent.ino, missing.name, 0o644))
    assert session.fs.session.waiting
    session.run(lambda: opened.write(session.caller, 0, b"12345"))
    found = mindful(b"dir/new").attr
    assert found is not None and (found.ino, found.size) == (attr.ino, 5)
    assert mindful.errno(b"dir/new/more") == errno.ENOTDIR
    session.close(opened)
    assert mindful.ino(b"dir/new") == attr.ino
