"""Changes of many names at once: removing, copying and bringing back whole directories.

What is copied or brought back is made beside its place, whole, and takes the place in one step.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Final

from tarbox_core.client.visit import Visit
from tarbox_core.effects import Op, within
from tarbox_core.errors import FsError
from tarbox_core.layer import Layer
from tarbox_core.types import RENAME_EXCHANGE, RENAME_NOREPLACE, Attr
from tarbox_worker.door import Door
from tarbox_worker.storing import Marks, Progress, beside, marks_of, moved, present, store, unlink
from tarbox_worker.trees import Found, about, attributes, find, together
from tarbox_worker.values import Refused, raw, text

_PRIVATE: Final = 0o700  # of a directory that is being filled


def nothing(done: int, total: int) -> None:
    """Progress that nobody watches."""


# --- removing


async def named(door: Door, path: str) -> Found:
    """What is to be removed: it has a name, in a directory that the door opens too. Refused for the root."""
    if not path.strip("/"):
        raise Refused("the root cannot be removed")
    with about(path):
        await door.read(lambda v: v.place(raw(path)))
    return await find(door, path.rstrip("/"), follow=False)


async def remove(door: Door, path: str, removed: Callable[[], None] = lambda: None) -> None:
    """Take away a name and all below it. `removed` is called for each name. What somebody else removes meanwhile is removed."""
    found = await named(door, path)
    if not found.attr.is_dir:
        await _gone(door, path, lambda v: unlink(v, raw(path)))
        removed()
        return
    names = [(found.path.rstrip("/"), True)] + [(f"{path.rstrip('/')}/{name}", attr.is_dir) async for name, attr in found.below()]

    async def away(name: str) -> None:
        await _gone(door, name, lambda v: unlink(v, raw(name)))
        removed()

    await together(partial(away, name) for name, is_dir in names if not is_dir)
    for name, is_dir in sorted(names, key=lambda each: each[0].count("/"), reverse=True):  # the deepest first
        if is_dir:
            await _gone(door, name, lambda v: _rmdir(v, raw(name)))  # noqa: B023
            removed()


async def _gone(door: Door, path: str, op: Callable[[Visit], Op[None]]) -> None:
    with about(path):
        try:
            await door.change(op, again=True)
        except FsError as error:
            if error.errno != errno.ENOENT:
                raise


def _rmdir(v: Visit, path: bytes) -> Op[None]:
    where = yield from v.place(path)
    yield from v.fs.rmdir(v.caller, *where)


# --- copying, and bringing back


async def copy(door: Door, source: Found, target: str, *, keep: bool, replace: bool, progress: Progress = nothing) -> None:
    """A copy of what was found, with what is below it. `keep`: owners, times, modes and attributes too, as of what comes back;
    without it a copy has the modes alone. Without `replace` nothing may be there (EEXIST); a directory is replaced as a whole."""
    if source.attr.is_reg:
        await _copy_file(door, source, source.attr, target, keep, replace, progress)
        return
    where = raw(target)
    scratch = beside(target)
    with about(target):
        there = await door.read(lambda v: present(v, where))
        if there is not None and not replace:
            raise FsError(errno.EEXIST, target)
        try:
            await _copy_tree(door, source, scratch, keep, progress)
            flags = RENAME_NOREPLACE if there is None else RENAME_EXCHANGE
            made = await find(door, scratch, follow=False)
            await moved(door, scratch, target, made.attr.ino, flags)
        finally:
            await door.clear(lambda: remove(door, scratch))  # what was replaced, or what was not finished


def make_folder(v: Visit, path: bytes, mode: int, *, parents: bool) -> Op[Attr]:
    """A directory; with `parents` also those above that are missing, and then it may be there."""
    above = path.rstrip(b"/").rpartition(b"/")[0]
    if parents:
        there = yield from present(v, path, follow=True)
        if there is not None and there.is_dir:
            return there
        if above:
            yield from make_folder(v, above, mode, parents=True)
    where = yield from v.place(path)
    try:
        return (yield from within(v.fs.mkdir(v.caller, *where, v.mode(mode))))
    except FsError as error:
        there = (yield from present(v, path, follow=True)) if parents and error.errno == errno.EEXIST else None
        if there is None or not there.is_dir:
            raise
        return there  # somebody else has made it meanwhile


async def _copy_file(door: Door, source: Found, attr: Attr, target: str, keep: bool, replace: bool, progress: Progress, name: str = "") -> None:
    marks = marks_of(attr) if keep else Marks(mode=attr.mode & 0o7777)
    async with source.opened(attr, name) as file:
        await store(door, target, file, marks, replace=replace, progress=progress)
    if keep:
        await _keep_attributes(door, source, attr, target)


async def _copy_tree(door: Door, source: Found, target: str, keep: bool, progress: Progress) -> None:
    if not source.attr.is_dir:
        await _copy_other(door, source, source.attr, target, keep)
        return
    inside = [each async for each in source.below()]
    total = sum(attr.size for _, attr in inside if attr.is_reg)
    done = 0
    await door.change(lambda v: _mkdir(v, raw(target)), again=False)
    for name, attr in inside:
        path = f"{target}/{name}"
        if attr.is_dir:
            await door.change(lambda v: _mkdir(v, raw(path)), again=False)  # noqa: B023
        elif attr.is_reg:
            await _copy_file(door, source, attr, path, keep, False, lambda part, _: progress(done + part, total), name)  # noqa: B023
            done += attr.size
        else:
            await _copy_other(door, source, attr, path, keep)
    for name, attr in reversed([("", source.attr), *inside]):  # when nothing more is made in it
        if attr.is_dir:
            await _keep_folder(door, source, attr, f"{target}/{name}".rstrip("/"), keep)


async def _copy_other(door: Door, source: Found, attr: Attr, path: str, keep: bool) -> None:
    """A symbolic link, or a special file."""
    link = await source.target(attr.ino) if attr.is_symlink else b""

    def op(v: Visit) -> Op[Attr]:
        where = yield from v.place(raw(path))
        if attr.is_symlink:
            made = yield from within(v.fs.symlink(v.caller, *where, link))
        else:
            made = yield from within(v.fs.mknod(v.caller, *where, attr.mode, attr.rdev))
        marks = marks_of(attr)._replace(mode=None) if keep else Marks(mtime=made.mtime)
        return (yield from v.fs.setattr(v.caller, made.ino, uid=marks.uid, gid=marks.gid, mtime=marks.mtime))

    await door.change(op)


def _mkdir(v: Visit, path: bytes, mode: int = _PRIVATE) -> Op[Attr]:
    where = yield from v.place(path)
    return (yield from v.fs.mkdir(v.caller, *where, mode))


async def _keep_folder(door: Door, source: Found, attr: Attr, path: str, keep: bool) -> None:
    marks = marks_of(attr) if keep else Marks(mode=attr.mode & 0o7777)

    def op(v: Visit) -> Op[Attr]:
        there = yield from v.attr(raw(path))
        return (yield from v.fs.setattr(v.caller, there.ino, mode=marks.mode, uid=marks.uid, gid=marks.gid, mtime=marks.mtime))

    if keep:
        await _keep_attributes(door, source, attr, path)
    await door.change(op, again=True)


async def _keep_attributes(door: Door, source: Found, attr: Attr, path: str) -> None:
    v = source.visit
    for name in await door.run(lambda: v.fs.listxattr(v.caller, attr.ino)):
        value = await door.run(lambda: v.fs.getxattr(v.caller, attr.ino, name))  # noqa: B023

        def op(v: Visit, name: bytes = name, value: bytes = value) -> Op[None]:
            there = yield from v.attr(raw(path), follow=False)
            yield from v.fs.setxattr(v.caller, there.ino, name, value)

        await door.change(op, again=True)


async def seal(door: Door, message: str) -> Layer:
    """The layer that holds the tree as it is now, made where anything changed since the last one."""
    made = await door.move(lambda v: v.fs.checkpoint(v.caller, None, message, automatic=True))
    if made is not None:
        return made

    def op(v: Visit) -> Op[Layer]:
        here = yield from v.fs.current()
        assert here.parent_id is not None  # else there was something to seal
        return (yield from v.fs.layer(here.parent_id))

    return await door.read(op)


async def bring_back(door: Door, path: str, layer: str, target: str, *, replace: bool, progress: Progress = nothing) -> None:
    """What stood at a path in a layer, at `target` now, and the directories above that are gone. Without `replace` only where
    nothing stands (EEXIST)."""
    if not path.strip("/"):
        raise Refused("the whole tree comes back by switching to the layer")
    source = await find(door, path, layer, follow=False)
    if target == path:
        await _bring_parents_back(door, path, layer)
    await copy(door, source, target, keep=True, replace=replace, progress=progress)


async def bring_missing(door: Door, path: str, layer: str, progress: Progress = nothing) -> list[FsError]:
    """What stood at a path in a layer, and of all below it, where nothing stands now; EEXIST for each name that something else has."""
    if not path.strip("/"):
        raise Refused("the root cannot be removed")
    source = await find(door, path, layer, follow=False)
    with about(path):
        there = await door.read(lambda v: present(v, raw(path)))
        if there is not None:
            await door.read(lambda v: v.place(raw(path)))  # in a directory that the door opens too
    if there is None:
        await bring_back(door, path, layer, path, replace=False, progress=progress)
        return []
    if not (there.is_dir and source.attr.is_dir):
        return [] if there.ino == source.attr.ino else [FsError(errno.EEXIST, path)]
    standing = {entry.name: entry.ino for entry in await (await find(door, path, follow=False)).entries(there.ino)}
    taken = []
    for entry in await source.entries(source.attr.ino):
        if attributes(entry).is_dir or standing.get(entry.name) != entry.ino:
            taken += await bring_missing(door, f"{path.rstrip('/')}/{text(entry.name)}", layer, progress)
    return taken


async def _bring_parents_back(door: Door, path: str, layer: str) -> None:
    missing = []
    above = path.rstrip("/").rpartition("/")[0]
    while above and await door.read(lambda v: present(v, raw(above))) is None:  # noqa: B023
        missing.append(above)
        above = above.rpartition("/")[0]
    for folder in reversed(missing):
        source = await find(door, folder, layer)
        with about(folder):
            await door.change(lambda v: _mkdir(v, raw(folder)))  # noqa: B023
        await _keep_folder(door, source, source.attr, folder, True)
