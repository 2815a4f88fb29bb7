"""What the page may ask: one function for each verb, its arguments by name as they come in JSON.

`work` is the request: the tree, what came with it and where its answer's bytes go. Answers are values for JSON. Verbs that
take `layer` show the tree as of it, by a layer's name or the beginning of its id; None is the tree as it is now.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from tarbox_core import trail
from tarbox_core.client.visit import Visit
from tarbox_core.effects import Op
from tarbox_core.errors import FsError
from tarbox_core.layer import HEAD
from tarbox_core.types import RENAME_NOREPLACE, Attr, Entry
from tarbox_worker import changing, storing, transfers, values
from tarbox_worker.door import Door
from tarbox_worker.searching import search
from tarbox_worker.storing import Marks, Source
from tarbox_worker.trees import PIECE, Listing, about, attributes, find
from tarbox_worker.values import Refused, Value, raw

LIMIT: Final = 1000  # entries, records or finds in one answer
READ_MAX: Final = 64 << 20  # bytes in one answer; `download` has no limit
WRITE_MAX: Final = 16 << 20  # bytes written in one operation; `upload` has no limit
ENTRIES_MAX: Final = 10_000  # entries or finds in one answer, whatever was asked for
WORDS_MAX: Final = 1000  # characters that are searched for
_LISTINGS: Final = 64  # that wait to be read on
_HELD: Final = 2  # requests whose content is in memory as a whole

FOLDER: Final = 0o777
NOBODY: Final = (1 << 32) - 1  # what chown takes for no user, and no group


class Work(Protocol):
    """One request of the page."""

    @property
    def desk(self) -> Desk: ...
    @property
    def source(self) -> Source | None:
        """What came beside the arguments."""
        ...

    def sink(self, data: bytes) -> None:
        """Send bytes beside the answer."""
        ...

    async def ready(self) -> None:
        """Returns when there is room for more of them."""
        ...

    def tell(self, event: str, **more: Any) -> None:
        """An event about this request, before its answer."""
        ...


class Desk:
    """What outlives a request."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.holding = asyncio.Semaphore(_HELD)
        self._listings: OrderedDict[str, Listing] = OrderedDict()
        self._numbers = itertools.count(1)

    def keep(self, listing: Listing) -> str | None:
        """The word for a listing that can be read on; None at its end."""
        if not listing.more:
            return None
        cursor = str(next(self._numbers))
        self._listings[cursor] = listing
        while len(self._listings) > _LISTINGS:
            self._listings.popitem(last=False)
        return cursor

    def resume(self, cursor: str) -> Listing:
        try:
            return self._listings.pop(cursor)
        except KeyError:
            raise Refused("this listing was not read on for too long: begin it anew") from None


Verb = Callable[..., Awaitable[Value]]


def _progress(work: Work) -> storing.Progress:
    return lambda done, total: work.tell("progress", done=done, total=total)


# --- looking


async def tenant(work: Work) -> Value:
    """Who is served, and what is granted; `path`: the only directory that is, None for all."""
    door = work.desk.door
    welcome, info = door.welcome, door.info
    path = values.text(b"/".join((b"", *door.scope))) if door.scope else None
    return {
        "name": info.name, "title": info.title, "head": info.head, "blockSize": info.block_size, "readOnly": welcome.read_only, "upkeep": welcome.upkeep,
        "path": path,
    }  # fmt: skip


async def list_(work: Work, path: str, layer: str | None = None, limit: int = LIMIT) -> Value:
    """A directory: itself, its first entries in the order of their names' bytes, and a cursor for `more`, which is None when
    these are all."""
    door = work.desk.door
    found = await find(door, path, layer)
    with about(path):
        handle = await door.run(lambda: found.visit.fs.opendir(found.visit.caller, found.attr.ino))
        return values.attributes(found.attr) | await _listed(work.desk, Listing(found, handle), limit)


async def more(work: Work, cursor: str, limit: int = LIMIT) -> Value:
    """The next entries of a listing."""
    return await _listed(work.desk, work.desk.resume(cursor), limit)


async def _listed(desk: Desk, listing: Listing, limit: int) -> Value:
    entries = await listing.read(min(max(1, limit), ENTRIES_MAX))
    return {"entries": [_entry(entry) for entry in entries], "cursor": desk.keep(listing)}


def _entry(entry: Entry) -> Value:
    return values.entry(entry.name, attributes(entry))


async def stat(work: Work, path: str, layer: str | None = None, follow: bool = True) -> Value:
    """What stands at a path; of a link that is not followed also its `target`, and what it leads to: None is nowhere."""
    door = work.desk.door
    found = await find(door, path, layer, follow=follow)
    told = values.attributes(found.attr)
    if found.attr.is_symlink:
        try:
            there = (await find(door, path, layer)).attr
        except FsError:
            there = None
        told["target"] = values.text(await found.target(found.attr.ino))
        told["leadsTo"] = None if there is None else values.attributes(there)
    return told


async def read(work: Work, path: str, offset: int = 0, length: int | None = None, layer: str | None = None) -> Value:
    """The bytes of a file from `offset`, up to 64 MiB; its attributes."""
    if offset < 0:
        raise Refused(f"{offset} is no place in a file")
    found = await find(work.desk.door, path, layer)
    with about(path):
        async with found.opened(found.attr) as file:
            end = file.size if length is None else min(file.size, offset + length)
            if end - offset > READ_MAX:
                raise Refused(f"{path}: too much to be read at once")
            while offset < end:
                data = await file.read(offset, min(PIECE, end - offset))
                work.sink(data)
                await work.ready()
                offset += len(data)
    return values.attributes(found.attr)


async def search_(work: Work, path: str, words: str, layer: str | None = None, limit: int = LIMIT) -> Value:
    """What below a path has all words in its name, whatever their case, or matches the pattern that has * or ?. Events `found`
    tell it as it is found; `complete`: there is no more."""
    if len(words) > WORDS_MAX:
        raise Refused(f"more than {WORDS_MAX} characters to search for")
    found = await find(work.desk.door, path, layer)
    return {"complete": await search(found, words, min(max(0, limit), ENTRIES_MAX), lambda entries: work.tell("found", entries=entries))}


# --- changing


async def write(work: Work, path: str, ifVersion: str | None = None, replace: bool = True) -> Value:
    """Make the bytes that came along a file's content; its attributes. `ifVersion`: only where it is still of that version, else
    the error `conflict`. Without `replace` only where nothing stands."""
    source = work.source
    if source is not None and source.size > WRITE_MAX:
        raise Refused(f"{path}: too much to be written at once")
    async with work.desk.holding:
        data = b"" if source is None else await storing.whole(source)
        return values.attributes(await storing.save(work.desk.door, path, data, ifVersion, replace))


async def mkdir(work: Work, path: str, parents: bool = False) -> Value:
    """Make a directory; with `parents` also what is missing above it, and then it may be there already."""
    where = raw(path)
    with about(path):
        return values.attributes(await work.desk.door.change(lambda v: changing.make_folder(v, where, FOLDER, parents=parents), again=parents))


async def symlink(work: Work, path: str, target: str) -> Value:
    """Make a symbolic link."""

    def op(v: Visit) -> Op[Attr]:
        where = yield from v.place(raw(path))
        return (yield from v.fs.symlink(v.caller, *where, values.word(target)))

    with about(path):
        return values.attributes(await work.desk.door.change(op))


async def rename(work: Work, source: str, target: str, replace: bool = False) -> Value:
    """Give it another name, or another place."""
    found = await find(work.desk.door, source, follow=False)
    with about(target):  # the source is there: what is in the way is at the other end
        await storing.moved(work.desk.door, source, target, found.attr.ino, 0 if replace else RENAME_NOREPLACE)
    return {}


async def copy(work: Work, source: str, target: str, layer: str | None = None, replace: bool = False) -> Value:
    """Copy a file, or a directory with all below it."""
    door = work.desk.door
    if layer is None and f"{target.rstrip('/')}/".startswith(f"{source.rstrip('/')}/"):
        raise FsError(errno.EINVAL, target)
    found = await find(door, source, layer, follow=False)
    await changing.copy(door, found, target, keep=False, replace=replace, progress=_progress(work))
    return {}


async def remove(work: Work, paths: list[str]) -> Value:
    """Remove names and all below them, behind a checkpoint. `undo`: the arguments for the verb of that name. The event `kept` has
    them, too, before anything is removed."""
    door = work.desk.door
    for path in paths:
        await changing.named(door, path)
    what = values.shown(paths[0]) if len(paths) == 1 else f"{len(paths)} items"
    kept = await changing.seal(door, f"before removing {what}")
    back = {"layer": kept.id, "paths": paths}
    work.tell("kept", undo=back)
    for path in paths:
        await changing.remove(door, path)
    return {"undo": back}


async def keep(work: Work, path: str) -> Value:
    """A checkpoint before what stands at a path is replaced: its `layer`, for `undo`."""
    with about(path):
        await work.desk.door.read(lambda v: v.place(raw(path)))  # in a directory that the door opens
    return {"layer": (await changing.seal(work.desk.door, f"before replacing {values.shown(path)}")).id}


async def undo(work: Work, layer: str, paths: list[str]) -> Value:
    """Bring back what was removed at these paths and below them. EEXIST: something else has a name of it now; all the rest is back."""
    taken = [error for path in paths for error in await changing.bring_missing(work.desk.door, path, layer, _progress(work))]
    if taken:
        raise taken[0]
    return {}


async def restore(work: Work, path: str, layer: str, target: str | None = None) -> Value:
    """Bring back what stood at a path in a layer, in the place of what stands there now, or elsewhere. `kept`: the layer that has
    the tree as it was before."""
    door = work.desk.door
    await find(door, path, layer, follow=False)
    kept = await changing.seal(door, f"before restoring {values.shown(path)}")
    await changing.bring_back(door, path, layer, target or path, replace=True, progress=_progress(work))
    return {"kept": {"id": kept.id} if door.scope else values.layer(kept)}  # its name and message may be somebody else's


async def chmod(work: Work, path: str, mode: int | None = None, uid: int | None = None, gid: int | None = None, mtime: float | None = None) -> Value:
    """Set the permission bits, the owner, the time of modification (ms)."""
    if not all(0 <= each < NOBODY for each in (uid or 0, gid or 0)):
        raise Refused(f"there is no user or group {uid if uid and not 0 <= uid < NOBODY else gid}")
    marks = Marks(mode, uid, gid, values.ns(mtime))

    def op(v: Visit) -> Op[Attr]:
        there = yield from v.attr(raw(path))
        return (yield from v.fs.setattr(v.caller, there.ino, mode=marks.mode, uid=marks.uid, gid=marks.gid, mtime=marks.mtime))

    with about(path):
        return values.attributes(await work.desk.door.change(op, again=True))


async def upload(work: Work, path: str, replace: bool = False, mtime: float | None = None) -> Value:
    """Make a file of the one that came along. Nobody sees a part of it."""
    source, marks = work.source, Marks(mtime=values.ns(mtime))
    if source is None:
        raise Refused("no file came along")
    await storing.store(work.desk.door, path, source, marks, replace=replace, progress=_progress(work))
    return values.attributes((await find(work.desk.door, path)).attr)


async def download(work: Work, path: str, layer: str | None = None) -> Value:
    """The content of a file, as one blob."""
    return {"size": await transfers.download(work.desk.door, path, layer, work, _progress(work))}


async def archive(work: Work, paths: list[str], layer: str | None = None) -> Value:
    """Files and directories as a zip archive, as one blob."""
    return {"size": await transfers.archive(work.desk.door, paths, layer, work, _progress(work))}


# --- layers


async def layers(work: Work) -> Value:
    """All layers in the order they were begun, all branches, and the one that is worked on."""
    door = work.desk.door

    def op(v: Visit) -> Op[Value]:
        found = yield from v.fs.layers()
        branches = yield from v.fs.branches()
        return {
            "layers": values.layers(found, v.session.layer), "branches": [values.branch(one) for one in branches], "head": v.session.head,
        }  # fmt: skip

    return await door.read(op)


async def checkpoint(work: Work, name: str | None = None, message: str = "") -> Value:
    """Seal the tree as it is now as a layer."""
    made = await work.desk.door.move(lambda v: v.fs.checkpoint(v.caller, name, message))
    assert made is not None  # only an automatic one may find nothing to seal
    return values.layer(made)


async def switch(work: Work, layer: str) -> Value:
    """Let the tree be as of a layer. `left`: the layer that it stood on, sealed; None where nothing was to do."""
    done = await work.desk.door.move(lambda v: v.fs.switch(v.caller, layer))
    return {"left": None if done.left is None else values.layer(done.left), "layer": values.layer(done.layer)}


async def branch(work: Work, name: str, layer: str = HEAD) -> Value:
    """Begin a branch at a layer, and work on it."""
    made = await work.desk.door.move(lambda v: v.fs.make_branch(v.caller, name, layer))
    work.desk.door.enter(name)
    return values.branch(made)


async def enter(work: Work, branch: str) -> Value:
    """Work on another branch."""
    found = await work.desk.door.read(lambda v: v.fs.branches())
    if branch not in {one.name for one in found}:
        raise Refused(f"there is no branch {branch}")
    work.desk.door.enter(branch)
    return {}


async def describe(work: Work, layer: str, message: str) -> Value:
    """Give a layer another message."""
    await work.desk.door.change(lambda v: v.fs.describe(v.caller, layer, message), again=True)
    return {}


async def diff(work: Work, older: str | None = None, newer: str = HEAD, path: str | None = None) -> Value:
    """What differs between two layers, at a path and below it. Without `older`: since the layer before. The word for the tree as
    it is now is "head"."""
    found = await work.desk.door.read(lambda v: v.fs.changes(older, newer, None if path is None else raw(path)))
    return {"changes": [values.change(one) for one in found]}


async def history(work: Work, path: str, limit: int | None = None) -> Value:
    """The layers in which what stands at a path changed, the newest first."""
    found = await work.desk.door.read(lambda v: v.fs.history(raw(path), limit))
    return {"versions": [values.past(one) for one in found]}


async def audit(work: Work, path: str | None = None, limit: int = 100, until: str | None = None) -> Value:
    """The newest records about a path and what is below it, the newest first; with `until`, which an answer gives, older ones."""
    wanted = trail.Wanted(path=path, until=trail.FOREVER if until is None else int(until))
    door = work.desk.door
    before = await door.run(lambda: trail.newest(door.visit().session, wanted, limit))
    after = trail.start(wanted) if before is None else before
    found = await door.run(lambda: trail.page(door.visit().session, wanted, after, limit))
    return {"records": [values.record(one) for one in reversed(found)], "until": str(found[0].at) if before is not None and found else None}


VERBS: Final[Mapping[str, Verb]] = {
    "archive": archive, "audit": audit, "branch": branch, "checkpoint": checkpoint, "chmod": chmod, "copy": copy, "describe": describe, "diff": diff,
    "download": download, "enter": enter, "history": history, "keep": keep, "layers": layers, "list": list_, "mkdir": mkdir, "more": more, "read": read,
    "remove": remove, "rename": rename, "restore": restore, "search": search_, "stat": stat, "switch": switch, "symlink": symlink, "tenant": tenant,
    "undo": undo, "upload": upload, "write": write,
}  # fmt: skip

# Those that concern no more than the paths that they are given; the others tell of the whole tree, or move it.
PATH_VERBS: Final = frozenset((
    "archive", "chmod", "copy", "download", "keep", "list", "mkdir", "more", "read", "remove", "rename", "restore", "search", "stat", "symlink", "tenant",
    "undo", "upload", "write",
))  # fmt: skip
