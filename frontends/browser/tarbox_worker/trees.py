"""A tree as work of many operations sees it: found once by its path, then walked by inode numbers, as it stood when it was found.

Not here: changing anything.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, NamedTuple, TypeVar

from tarbox_core.client.visit import Visit
from tarbox_core.control_nodes import NAME, TREE
from tarbox_core.effects import Op, within
from tarbox_core.errors import FsError, LayerError, ScopeError
from tarbox_core.handles import DirHandle, FileHandle
from tarbox_core.types import Attr, Entry
from tarbox_worker.door import Door
from tarbox_worker.values import Conflict, raw, text, word

R = TypeVar("R")

PAGE: Final = 1024  # entries of a directory read at once
PIECE: Final = 4 << 20  # bytes of content read, or written, in one operation
TOGETHER: Final = 4  # operations at a time, of the 8 that a gateway has open


async def together(works: Iterable[Callable[[], Awaitable[R]]]) -> list[R]:
    """Do all, some at a time; their results in order. The first failure ends what runs."""
    left = enumerate(works)
    results: dict[int, R] = {}

    async def worker() -> None:
        for number, work in left:
            results[number] = await work()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(TOGETHER):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [results[number] for number in range(len(results))]


@contextmanager
def about(path: str) -> Iterator[None]:
    """A failure inside names this path, however the core came upon it; what leads out of the door's scope is named as it is."""
    try:
        yield
    except ScopeError:
        raise
    except FsError as error:
        raise FsError(error.errno, path) from error


def at(path: str, layer: str | None) -> bytes:
    """Where a path is found: in the tree as it is now, or as of a layer, by its name or the beginning of its id."""
    if layer is None:
        return raw(path)
    return b"/".join((b"", NAME, *TREE, word(layer))) + raw(path)


class Found(NamedTuple):
    """What stands at a path. `path` and `layer` as the page gave them."""

    door: Door
    visit: Visit
    path: str
    layer: str | None
    attr: Attr

    def inside(self, name: str) -> str:
        """The path of something below, by its path from here; "" is itself."""
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    def held(self, name: str, ino: int, op: Op[R]) -> Op[R]:
        """An operation on an inode, of a door with a scope only where it still stands at its path: ENOENT. By now it may be outside."""
        if self.door.scope and self.layer is None:
            there = yield from within(self.visit.attr(raw(self.inside(name))))
            if there.ino != ino:
                raise FsError(errno.ENOENT, self.inside(name))
        return (yield from op)

    async def entries(self, ino: int, name: str = "") -> list[Entry]:
        """All of a directory here but "." and ".."; `name`: its path from here."""
        listing = Listing(self, await self.door.run(lambda: self.visit.fs.opendir(self.visit.caller, ino)), name)
        found: list[Entry] = []
        while listing.more:
            found += await listing.read(PAGE)
        return found

    async def target(self, ino: int) -> bytes:
        """Where a symbolic link leads."""
        return await self.door.run(lambda: self.visit.fs.readlink(self.visit.caller, ino))

    @asynccontextmanager
    async def opened(self, attr: Attr, name: str = "") -> AsyncIterator[File]:
        """A file here, whose content must not change until the end: Conflict."""
        v = self.visit
        handle = await self.door.run(lambda: v.fs.open(v.caller, attr.ino))
        before = handle.attr()
        try:
            yield File(self, handle, name)
            after = await self.door.run(lambda: v.fs.getattr(attr.ino))
            if (after.ctime, after.size) != (before.ctime, before.size):
                raise Conflict(f"{self.path}: changed while it was read")
        finally:
            await asyncio.shield(self.door.run(lambda: handle.release(v.caller)))

    async def below(self) -> AsyncIterator[tuple[str, Attr]]:
        """What is in it, directories before what is in them: (path from here, attributes)."""
        left = [("", self.attr.ino)]
        while left:
            folder, ino = left.pop()
            entries = await self.entries(ino, folder.rstrip("/"))
            for entry in entries:
                yield folder + text(entry.name), attributes(entry)
            left += [(f"{folder}{text(entry.name)}/", entry.ino) for entry in reversed(entries) if attributes(entry).is_dir]


def attributes(entry: Entry) -> Attr:
    assert entry.attr is not None  # they were read with the names
    return entry.attr


async def find(door: Door, path: str, layer: str | None = None, *, follow: bool = True) -> Found:
    """ENOENT and its kin name the path as it was given. A door with a scope is told nothing of layers but that one is not there."""
    where = at(path, layer)

    def op(v: Visit) -> Op[Found]:
        attr = yield from v.attr(where, follow=follow)
        return Found(door, v, path, layer, attr)

    with about(path):
        try:
            return await door.read(op)
        except LayerError as error:
            if not door.scope:
                raise
            raise FsError(error.errno, path) from None


class File:
    """An open file, as a source of bytes."""

    def __init__(self, found: Found, handle: FileHandle, name: str) -> None:
        self._found = found
        self._name = name
        self._handle = handle
        self.size = handle.attr().size

    async def read(self, offset: int, length: int) -> bytes:
        found, handle = self._found, self._handle
        return await found.door.run(lambda: found.held(self._name, handle.ino, handle.read(found.visit.caller, offset, length)))


class Listing:
    """A directory that is read page by page: what is made or removed meanwhile shows or does not, all else once."""

    def __init__(self, found: Found, handle: DirHandle, name: str = "") -> None:
        self._found = found
        self._name = name
        self._handle = handle
        self._offset = 2  # behind "." and ".."
        self.more = True

    async def read(self, limit: int) -> list[Entry]:
        """The next entries, with attributes; `more` says whether others may follow."""
        entries: list[Entry] = []
        while self.more and len(entries) < limit:
            page = await self._found.door.run(lambda: self._found.held(self._name, self._handle.ino, self._page(limit - len(entries))))  # noqa: B023
            self.more = bool(page)
            if page:
                entries += page
                self._offset = page[-1].offset
        return entries

    def _page(self, limit: int) -> Op[list[Entry]]:
        v = self._found.visit
        page = yield from self._handle.read(v.caller, self._offset, limit)
        full = []
        for entry in page:
            attr = entry.attr if entry.attr is not None else (yield from v.fs.getattr(entry.ino))
            full.append(entry._replace(attr=attr))
        return full
