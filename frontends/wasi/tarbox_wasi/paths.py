"""The calls on names below a directory descriptor: path_*. As in `files`; what a path means is the directory's own (`tree`, `extras`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, Refused, require, store, text
from tarbox_wasi.files import chosen_times

if TYPE_CHECKING:
    from tarbox_wasi.world import World


def _follows(lookup: int) -> bool:
    if lookup & ~abi.SYMLINK_FOLLOW:
        raise Refused(Errno.INVAL)
    return bool(lookup)


def path_open(
    world: World, memory: memoryview, fd: int, lookup: int, path: int, length: int, oflags: int, base: int, inheriting: int, flags: int, fd_at: int
) -> int:
    """Rights that the directory does not pass on, or that what is opened cannot have, are dropped; without those to read or write,
    where they were asked for, it is not opened."""
    needed = abi.PATH_OPEN | (abi.PATH_CREATE_FILE if oflags & abi.CREAT else 0) | (abi.PATH_FILESTAT_SET_SIZE if oflags & abi.TRUNC else 0)
    directory = world.descriptors.directory(fd, needed)
    require(memory, fd_at, abi.SIZE.size)
    if oflags & ~abi.OFLAGS or flags & ~abi.FDFLAGS or (oflags & abi.DIRECTORY and oflags & (abi.CREAT | abi.EXCL | abi.TRUNC)):
        raise Refused(Errno.INVAL)
    if base & (abi.FD_READ | abi.FD_WRITE) & ~directory.inheriting:
        raise Refused(Errno.NOTCAPABLE)
    world.descriptors.require_room()
    opened = directory.open(
        text(memory, path, length), follow=_follows(lookup), oflags=oflags, base=base & directory.inheriting,
        inheriting=inheriting & directory.inheriting, flags=flags,
    )  # fmt: skip
    store(abi.SIZE, memory, fd_at, world.descriptors.add(opened))
    return Errno.SUCCESS


def path_filestat_get(world: World, memory: memoryview, fd: int, lookup: int, path: int, length: int, stat_at: int) -> int:
    directory = world.descriptors.directory(fd, abi.PATH_FILESTAT_GET)
    require(memory, stat_at, abi.FILESTAT.size)
    abi.FILESTAT.pack_into(memory, stat_at, *directory.stat_at(text(memory, path, length), follow=_follows(lookup)))
    return Errno.SUCCESS


def path_filestat_set_times(
    world: World, memory: memoryview, fd: int, lookup: int, path: int, length: int, atime: int, mtime: int, flags: int
) -> int:
    directory = world.descriptors.directory(fd, abi.PATH_FILESTAT_SET_TIMES)
    times = chosen_times(atime, mtime, flags)
    name, follow = text(memory, path, length), _follows(lookup)
    if times == (None, None):
        directory.stat_at(name, follow=follow)
    else:
        directory.set_times_at(name, *times, follow=follow)
    return Errno.SUCCESS


def path_create_directory(world: World, memory: memoryview, fd: int, path: int, length: int) -> int:
    world.descriptors.directory(fd, abi.PATH_CREATE_DIRECTORY).mkdir(text(memory, path, length))
    return Errno.SUCCESS


def path_remove_directory(world: World, memory: memoryview, fd: int, path: int, length: int) -> int:
    world.descriptors.directory(fd, abi.PATH_REMOVE_DIRECTORY).rmdir(text(memory, path, length))
    return Errno.SUCCESS


def path_unlink_file(world: World, memory: memoryview, fd: int, path: int, length: int) -> int:
    world.descriptors.directory(fd, abi.PATH_UNLINK_FILE).unlink(text(memory, path, length))
    return Errno.SUCCESS


def path_symlink(world: World, memory: memoryview, target: int, target_length: int, fd: int, path: int, length: int) -> int:
    world.descriptors.directory(fd, abi.PATH_SYMLINK).symlink(text(memory, target, target_length), text(memory, path, length))
    return Errno.SUCCESS


def path_readlink(world: World, memory: memoryview, fd: int, path: int, length: int, buffer: int, size: int, used_at: int) -> int:
    """As much of the target as fits."""
    directory = world.descriptors.directory(fd, abi.PATH_READLINK)
    require(memory, used_at, abi.SIZE.size)
    require(memory, buffer, size)
    target = directory.readlink(text(memory, path, length))[:size]
    abi.put(memory, buffer, target)
    store(abi.SIZE, memory, used_at, len(target))
    return Errno.SUCCESS


def path_link(
    world: World, memory: memoryview, fd: int, lookup: int, path: int, length: int, new_fd: int, new_path: int, new_length: int
) -> int:
    """A symbolic link is linked itself; to follow it first is refused, as elsewhere."""
    directory = world.descriptors.directory(fd, abi.PATH_LINK_SOURCE)
    to = world.descriptors.directory(new_fd, abi.PATH_LINK_TARGET)
    if _follows(lookup):
        raise Refused(Errno.INVAL)
    directory.link(text(memory, path, length), to, text(memory, new_path, new_length))
    return Errno.SUCCESS


def path_rename(world: World, memory: memoryview, fd: int, path: int, length: int, new_fd: int, new_path: int, new_length: int) -> int:
    directory = world.descriptors.directory(fd, abi.PATH_RENAME_SOURCE)
    to = world.descriptors.directory(new_fd, abi.PATH_RENAME_TARGET)
    directory.rename(text(memory, path, length), to, text(memory, new_path, new_length))
    return Errno.SUCCESS
