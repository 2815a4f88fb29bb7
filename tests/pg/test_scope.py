"""A walk with a scope: what is reached within, that no path, link or layer leads out, and that a real directory agrees."""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tarbox_core import path as paths
from tarbox_core.errors import FsError, LayerError, ScopeError
from tests.tenants import Session, Tenant


@pytest.fixture
def made(session: Session) -> Session:
    """/a/{b/{d/{e/f, g}, f}, secret}, /a/bb and /outside."""
    for folder in (b"/a", b"/a/b", b"/a/b/d", b"/a/b/d/e", b"/a/bb"):
        session.mkdir(folder)
    for file in (b"/a/b/d/e/f", b"/a/b/d/g", b"/a/b/f", b"/a/secret", b"/outside"):
        session.write(file, file)
    return session


@pytest.fixture
def inside(made: Session, tenant: Tenant) -> Session:
    return scoped(tenant, b"a", b"b")


def scoped(tenant: Tenant, *names: bytes) -> Session:
    session = tenant.session(alone=False)
    session.fs.session.scope = names
    return session


def refused(session: Session, path: bytes, *, follow: bool = True) -> bool:
    """Whether a path leads out: to what stands there, and to a place there."""
    with pytest.raises(FsError) as raised:
        session.attr(path, follow=follow)
    return isinstance(raised.value, ScopeError) and raised.value.errno == errno.EACCES


# --- paths


@pytest.mark.parametrize("path", [b"/a/b", b"/a/b/", b"//a/./b//", b"/a/b/d/..", b"/a/b/f", b"/a/b/d/e/../../d/g", b"/a/b/d/e/f"])
def test_what_is_within_is_found_where_it_is(inside: Session, made: Session, path: bytes) -> None:
    assert inside.attr(path).ino == made.attr(path).ino


@pytest.mark.parametrize(
    "path",
    [
        b"/", b"/a", b"/a/", b"/a/bb", b"/a/secret", b"/outside", b"/none", b"/a/b/..", b"/a/b/../b", b"/a/b/d/../..", b"/a/../a/b/f", b"/../a/b",
        b"/a/b/d/../../secret", b"/b", b"/a/b/f/../../secret",
    ],
)  # fmt: skip
def test_what_is_not_within_is_refused(inside: Session, path: bytes) -> None:
    with pytest.raises(FsError) as raised:
        inside.attr(path)
    assert isinstance(raised.value, ScopeError) or (path == b"/a/b/f/../../secret" and raised.value.errno == errno.ENOTDIR)


def test_the_directory_itself_has_no_name_within(inside: Session) -> None:
    for path in (b"/a/b", b"/a/b/", b"/a/new", b"/a", b"/new"):
        with pytest.raises(ScopeError):
            inside.at(path)
    parent, name = inside.at(b"/a/b/new")
    assert (parent, name) == (inside.attr(b"/a/b").ino, b"new")


# --- links


@pytest.mark.parametrize(
    "target", [b"..", b"../secret", b"/", b"/a", b"/a/secret", b"/a/bb", b"/outside", b"d/../../secret", b"/a/b/..", b"/a/b/../secret", b"../b/f", b"/none"]
)
def test_no_link_leads_out(inside: Session, made: Session, target: bytes) -> None:
    made.symlink(target, b"/a/b/link")
    made.symlink(b"link", b"/a/b/chain")
    made.symlink(b"/a/b/chain", b"/a/b/d/chain")
    for path in (b"/a/b/link", b"/a/b/link/more", b"/a/b/chain", b"/a/b/chain/", b"/a/b/d/chain", b"/a/b/d/chain/b/f"):
        assert refused(inside, path)
    with pytest.raises(ScopeError):
        inside.at(b"/a/b/link/new")
    assert inside.attr(b"/a/b/link").is_symlink


@pytest.mark.parametrize("target", [b"/a/b/d/e", b"d/e", b"./d/../d/e", b"/a/b/./d/e/", b"d/g/../e"])
def test_links_within_are_followed(inside: Session, made: Session, target: bytes) -> None:
    made.symlink(target, b"/a/b/link")
    if b"g/.." in target:
        with pytest.raises(FsError, match="not a directory"):
            inside.attr(b"/a/b/link/f", follow=True)
    else:
        assert inside.attr(b"/a/b/link/f").ino == made.attr(b"/a/b/d/e/f").ino
        assert inside.attr(b"/a/b/link/../g").ino == made.attr(b"/a/b/d/g").ino


@pytest.mark.parametrize("link", [b"/a/b", b"/a"])
def test_a_link_in_the_place_of_the_directory_is_refused(inside: Session, made: Session, link: bytes) -> None:
    inside.attr(b"/a/b/f")
    made.rename(link, b"/moved")
    with pytest.raises(FsError) as raised:
        inside.attr(b"/a/b/f")
    assert raised.value.errno == errno.ENOENT
    made.symlink(b"/moved", link)
    for path in (b"/a/b/f", b"/a/b"):
        assert refused(inside, path) and refused(inside, path, follow=False)
    with pytest.raises(ScopeError):
        inside.at(b"/a/b/new")


def test_a_file_in_the_place_of_the_directory_is_refused(inside: Session, made: Session) -> None:
    made.rename(b"/a/b", b"/moved")
    made.write(b"/a/b", b"x")
    assert refused(inside, b"/a/b")


# --- control files, and layers


@pytest.mark.parametrize(
    "path",
    [
        b"", b"/stats", b"/last_error", b"/layers", b"/layers/list", b"/layers/list.json", b"/layers/current", b"/layers/new", b"/layers/switch",
        b"/layers/diff", b"/layers/diff/first..", b"/history", b"/history/a/b/f",
        b"/layers/tree", b"/layers/tree/first", b"/layers/tree/first/", b"/layers/tree/..",
        b"/layers/tree/../tree/first/a/b/f", b"/layers/tree/first/a", b"/layers/tree/first/outside", b"/layers/tree/first/a/secret",
        b"/layers/tree/first/..", b"/layers/tree/first/../first/a/b/f", b"/layers/tree/first/a/b/..", b"/layers/tree/first/a/b/../../..",
        b"/layers/tree/first/a/b/out", b"/layers/tree/first/a/b/up", b"/../a/b/f",
    ],
)  # fmt: skip
def test_of_the_control_files_only_the_directory_as_of_a_layer_is_there(inside: Session, made: Session, path: bytes) -> None:
    made.symlink(b"/a/secret", b"/a/b/out")
    made.symlink(b"../secret", b"/a/b/up")
    made.run(lambda: made.fs.checkpoint(made.caller, "first"), durable=True)
    assert refused(inside, b"/.tarbox" + path)


def test_the_directory_as_of_a_layer(inside: Session, made: Session) -> None:
    made.symlink(b"/a/b/d", b"/a/b/absolute")
    made.symlink(b"d/e", b"/a/b/relative")
    made.symlink(b"/.tarbox/layers/tree/first/a/b/f", b"/a/b/past")
    made.run(lambda: made.fs.checkpoint(made.caller, "first"), durable=True)
    made.write(b"/a/b/f", b"changed since")
    made.unlink(b"/a/b/d/g")
    there = b"/.tarbox/layers/tree/first/a/b"
    assert inside.read(there + b"/f") == b"/a/b/f"
    assert inside.read(there + b"/absolute/g") == inside.read(there + b"/relative/../g") == b"/a/b/d/g"
    assert inside.names(there) == [b"absolute", b"d", b"f", b"past", b"relative"]
    assert refused(inside, b"/a/b/past")
    with pytest.raises((FsError, LayerError)) as raised:
        inside.attr(b"/.tarbox/layers/tree/none/a/b")
    assert not isinstance(raised.value, ScopeError)


def test_true_names(made: Session) -> None:
    made.symlink(b"a/b", b"/short")

    def names(path: bytes) -> list[bytes]:
        return made.run(lambda: paths.true_names(made.fs.session, made.caller, path))

    assert names(b"/a/b/d") == names(b"/short/d/e/..") == [b"a", b"b", b"d"]
    assert names(b"/") == names(b"/a/..") == []
    for path, number in ((b"/a/b/f", errno.ENOTDIR), (b"/none", errno.ENOENT), (b"/.tarbox", errno.ENOENT)):
        with pytest.raises(FsError) as raised:
            names(path)
        assert raised.value.errno == number


# --- beside a real directory

_numbers = itertools.count(1)
_name = st.sampled_from(["a", "b", "x"])
_way = st.lists(st.one_of(_name, _name, _name, st.just("..")), min_size=1, max_size=3).map("/".join)
_path = st.one_of(*[_way.map(form.format) for form in ("/top/a/b/{}", "/top/a/b/{}", "/top/{}")])
_target = st.one_of(_way, _path, st.sampled_from(["/", "/top", "/top/a", "/top/a/b", ".", "../.."]))


class Node(NamedTuple):
    """What is to be made at a path: a link where it has a target."""

    path: str
    is_dir: bool
    target: str | None


_nodes = st.lists(st.builds(Node, _path, st.booleans(), st.none() | _target), min_size=6, max_size=20)


@pytest.fixture
def real() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(os.path.realpath(folder))


class Twins:
    """A tree in a tenant and in a real directory, whose "/top" is both's own."""

    def __init__(self, session: Session, real: Path) -> None:
        self.name = f"top{next(_numbers)}"
        self.root = real / self.name
        self.root.mkdir()
        self._session = session
        self._twins: dict[int, int] = {}  # the tenant's inodes, and the real ones
        for folder in ("/top", "/top/a", "/top/a/b"):
            self.make(Node(folder, True, None))

    def make(self, node: Node) -> None:
        """Where nothing is, in a directory that no link leads to."""
        spot, path = self.real(node.path), self.here(node.path)
        if ".." in node.path.split("/") or os.path.lexists(spot) or not spot.parent.is_dir() or os.path.realpath(spot.parent) != str(spot.parent):
            return
        if node.target is not None:
            made = self._session.symlink(self.here(node.target), path).ino
            spot.symlink_to(str(self.real(node.target)) if node.target.startswith("/") else node.target)
        elif node.is_dir:
            made = self._session.mkdir(path).ino
            spot.mkdir()
        else:
            made = self._session.write(path, b"x")
            spot.touch()
        self._twins[made] = spot.lstat().st_ino

    def here(self, path: str) -> bytes:
        return path.replace("/top", f"/{self.name}").encode()

    def real(self, path: str) -> Path:
        return self.root / path.removeprefix("/")

    def real_of(self, ino: int) -> int:
        return self._twins[ino]

    def is_straight(self, path: str) -> bool:
        """Whether no link and no ".." is on the way, from the directory on."""
        names = path.split("/")
        return names[:4] == ["", "top", "a", "b"] and ".." not in names and not any(
            self.real("/".join(names[:end])).is_symlink() for end in range(5, len(names) + 1)
        )  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(nodes=_nodes, asked=st.lists(_path, min_size=1, max_size=12))
def test_a_real_directory_agrees(session: Session, tenant: Tenant, real: Path, nodes: list[Node], asked: list[str]) -> None:
    """What is reached is what the kernel reaches there, and it is inside; what is refused led through a link or "..", or elsewhere."""
    twins = Twins(session, real)
    for node in nodes:
        twins.make(node)
    session.fs.session.scope = (twins.name.encode(), b"a", b"b")
    top = os.path.realpath(twins.real("/top/a/b"))
    try:
        for path in [*asked, *(node.path for node in nodes)]:
            try:
                found = session.attr(twins.here(path), follow=True)
            except ScopeError:
                event("refused")
                assert not twins.is_straight(path)
            except FsError as error:
                event("fails")
                with pytest.raises(OSError) as raised:
                    os.stat(twins.real(path))
                assert raised.value.errno == error.errno
            else:
                event("reached")
                assert twins.real_of(found.ino) == os.stat(twins.real(path)).st_ino
                assert os.path.commonpath([os.path.realpath(twins.real(path)), top]) == top
    finally:
        session.fs.session.scope = ()
