"""Verbs of several operations: a course asks for one verb after the other, and may find things on the way.

Written once as generators: they yield an Ask, whose answer they are sent, or Found. Trees play them, each in its own way.
"""

from __future__ import annotations

import errno
import fnmatch
import re
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from tarbox_core.client import verbs
from tarbox_core.client.names import Path, absolute, join, text
from tarbox_core.client.stats import DirEntry
from tarbox_core.client.verbs import Verb

F = TypeVar("F")

Folder = tuple[str, list[str], list[str]]


class Ask(NamedTuple):
    verb: Verb[..., Any]
    args: tuple[Any, ...]


class Found(NamedTuple, Generic[F]):
    what: F


Course = Generator[Ask | Found[F], Any, None]


def _plain(path: Path) -> str:
    """A path that goes on with names."""
    raw = absolute(path)
    return text(raw)


def walk(top: Path = "/", topdown: bool = True, onerror: Callable[[OSError], object] | None = None, followlinks: bool = False) -> Course[Folder]:
    """(path, names of directories, names of the rest) of a directory and all below it, as os.walk. What is taken out of the
    directories' names, with topdown, is not visited."""
    if topdown:
        return _down(_plain(top), onerror, followlinks)
    return _up(_plain(top), onerror, followlinks)


def _listed(path: str, onerror: Callable[[OSError], object] | None) -> Generator[Ask, list[DirEntry], list[DirEntry] | None]:
    try:
        return (yield Ask(verbs.scandir, (path,)))
    except OSError as error:
        if onerror is not None:
            onerror(error)
        return None


def _split(entries: list[DirEntry]) -> tuple[list[str], list[str]]:
    return [e.name for e in entries if e.is_dir()], [e.name for e in entries if not e.is_dir()]


def _down(top: str, onerror: Callable[[OSError], object] | None, followlinks: bool) -> Course[Folder]:
    left = [top]
    while left:
        path = left.pop()
        entries = yield from _listed(path, onerror)
        if entries is None:
            continue
        folders, others = _split(entries)
        links = set() if followlinks else {e.name for e in entries if e.is_symlink()}
        yield Found((path, folders, others))
        left += [join(path, name) for name in reversed(folders) if name not in links]


def _up(top: str, onerror: Callable[[OSError], object] | None, followlinks: bool) -> Course[Folder]:
    left: list[tuple[str, Folder | None]] = [(top, None)]
    while left:
        path, seen = left.pop()
        if seen is not None:
            yield Found(seen)
            continue
        entries = yield from _listed(path, onerror)
        if entries is None:
            continue
        folders, others = _split(entries)
        left.append((path, (path, folders, others)))
        left += [(join(path, e.name), None) for e in reversed(entries) if e.is_dir() and (followlinks or not e.is_symlink())]


def rmtree(path: Path, ignore_errors: bool = False) -> Course[None]:
    """Remove a directory and all below it, one name after the other. A symbolic link is refused, as by shutil."""
    top = _plain(path)
    try:
        if (yield Ask(verbs.is_symlink, (path,))):
            raise OSError(errno.ENOTDIR, "cannot remove what a symbolic link leads to", path)
        yield from _emptied(top, ignore_errors)
    except OSError:
        if not ignore_errors:
            raise


def _emptied(top: str, ignore_errors: bool) -> Course[None]:
    left = [(top, False)]
    while left:
        path, empty = left.pop()
        try:
            if empty:
                yield Ask(verbs.rmdir, (path,))
                continue
            entries: list[DirEntry] = yield Ask(verbs.scandir, (path,))
        except OSError:
            if not ignore_errors:
                raise
            continue
        left.append((path, True))
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                left.append((join(path, entry.name), False))
                continue
            try:
                yield Ask(verbs.remove, (join(path, entry.name),))
            except OSError:
                if not ignore_errors:
                    raise


_MAGIC = re.compile(r"[*?\[]")


def glob(pattern: Path) -> Course[str]:
    """The paths that match, in order: "*", "?" and "[...]" within a name, "**" for directories however deep. A name that begins
    with "." is matched by a pattern that does."""
    whole = _plain(pattern)
    if whole:
        yield from _matching("/", [part for part in whole.split("/") if part])


def _matching(folder: str, parts: list[str]) -> Course[str]:
    if not parts:
        yield Found(folder)
        return
    part, *rest = parts
    if part == "**":
        yield from _matching(folder, rest) if rest else _everything(folder)
        if rest:
            for entry in (yield from _visible(folder)):
                if entry.is_dir(follow_symlinks=False):
                    yield from _matching(entry.path, parts)
        return
    if not _MAGIC.search(part):
        path = join(folder, part)
        if (yield Ask(verbs.is_dir if rest else verbs.lexists, (path,))):
            yield from _matching(path, rest)
        return
    fits = re.compile(fnmatch.translate(part)).match
    for entry in (yield from _visible(folder, hidden=part.startswith("."))):
        if fits(entry.name) and (not rest or entry.is_dir()):
            yield from _matching(entry.path, rest)


def _everything(folder: str) -> Course[str]:
    yield Found(folder)
    for entry in (yield from _visible(folder)):
        if entry.is_dir(follow_symlinks=False):
            yield from _everything(entry.path)
        else:
            yield Found(entry.path)


def _visible(folder: str, *, hidden: bool = False) -> Generator[Ask, list[DirEntry], Iterator[DirEntry]]:
    entries = yield from _listed(folder, None)
    return (entry for entry in entries or () if hidden or not entry.name.startswith("."))
