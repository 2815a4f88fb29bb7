"""The calls on open descriptors: fd_*, and sock_*, which no descriptor here is for.

Each takes the world, the guest's memory and the arguments as they come, and answers an errno or raises Refused. Addresses for
results are looked at before anything is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tarbox_core.types import NOW
from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, Refused, require, store
from tarbox_wasi.descriptors import Descriptor, Directory

if TYPE_CHECKING:
    from tarbox_wasi.world import World

# --- contents


def fd_read(world: World, memory: memoryview, fd: int, iovs: int, count: int, read_at: int) -> int:
    file = world.descriptors.get(fd, abi.FD_READ)
    require(memory, read_at, abi.SIZE.size)
    parts = abi.buffers(memory, iovs, count)
    data = file.read(sum(map(len, parts))) if parts else b""
    abi.scatter(parts, data)
    store(abi.SIZE, memory, read_at, len(data))
    return Errno.SUCCESS


def fd_pread(world: World, memory: memoryview, fd: int, iovs: int, count: int, offset: int, read_at: int) -> int:
    file = world.descriptors.get(fd, abi.FD_READ | abi.FD_SEEK)
    require(memory, read_at, abi.SIZE.size)
    if offset > abi.INT_MAX:
        raise Refused(Errno.INVAL)
    parts = abi.buffers(memory, iovs, count)
    data = file.pread(sum(map(len, parts)), offset) if parts else b""
    abi.scatter(parts, data)
    store(abi.SIZE, memory, read_at, len(data))
    return Errno.SUCCESS


def _gathered(memory: memoryview, iovs: int, count: int) -> bytes | memoryview:
    parts = abi.buffers(memory, iovs, count)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def fd_write(world: World, memory: memoryview, fd: int, iovs: int, count: int, written_at: int) -> int:
    file = world.descriptors.get(fd, abi.FD_WRITE)
    require(memory, written_at, abi.SIZE.size)
    data = _gathered(memory, iovs, count)
    store(abi.SIZE, memory, written_at, file.write(data) if len(data) else 0)
    return Errno.SUCCESS


def fd_pwrite(world: World, memory: memoryview, fd: int, iovs: int, count: int, offset: int, written_at: int) -> int:
    file = world.descriptors.get(fd, abi.FD_WRITE | abi.FD_SEEK)
    require(memory, written_at, abi.SIZE.size)
    if offset > abi.INT_MAX:
        raise Refused(Errno.INVAL)
    data = _gathered(memory, iovs, count)
    store(abi.SIZE, memory, written_at, file.pwrite(data, offset) if len(data) else 0)
    return Errno.SUCCESS


def fd_seek(world: World, memory: memoryview, fd: int, offset: int, whence: int, position_at: int) -> int:
    """To ask where one is, the right to tell is enough."""
    offset -= (offset > abi.INT_MAX) << 64
    tells = whence == abi.SEEK_CUR and not offset
    file = world.descriptors.get(fd)
    if not (tells and file.base & abi.FD_TELL):
        file = world.descriptors.get(fd, abi.FD_SEEK)
    require(memory, position_at, abi.FILESIZE.size)
    if whence == abi.SEEK_SET:
        position = offset
    elif whence == abi.SEEK_CUR:
        position = file.position + offset
    elif whence == abi.SEEK_END:
        position = file.size() + offset
    else:
        raise Refused(Errno.INVAL)
    if not 0 <= position <= abi.INT_MAX:
        raise Refused(Errno.INVAL if position < 0 else Errno.OVERFLOW)
    file.position = position
    store(abi.FILESIZE, memory, position_at, position)
    return Errno.SUCCESS


def fd_tell(world: World, memory: memoryview, fd: int, position_at: int) -> int:
    file = world.descriptors.get(fd, abi.FD_TELL)
    store(abi.FILESIZE, memory, position_at, file.position)
    return Errno.SUCCESS


def fd_sync(world: World, memory: memoryview, fd: int) -> int:
    """Durable when it returns; on a directory, with all that the guest has written."""
    world.descriptors.get(fd, abi.FD_SYNC).sync()
    return Errno.SUCCESS


def fd_datasync(world: World, memory: memoryview, fd: int) -> int:
    world.descriptors.get(fd, abi.FD_DATASYNC).sync()
    return Errno.SUCCESS


def fd_advise(world: World, memory: memoryview, fd: int, offset: int, length: int, advice: int) -> int:
    """Taken note of and not acted upon: the core reads ahead by itself."""
    world.descriptors.get(fd, abi.FD_ADVISE)
    if advice >= abi.ADVICES or max(offset, length) > abi.INT_MAX:
        raise Refused(Errno.INVAL)
    return Errno.SUCCESS


def fd_allocate(world: World, memory: memoryview, fd: int, offset: int, length: int) -> int:
    file = world.descriptors.get(fd, abi.FD_ALLOCATE)
    if not length or max(offset, length) > abi.INT_MAX:
        raise Refused(Errno.INVAL)
    if offset + length > abi.INT_MAX:
        raise Refused(Errno.FBIG)
    file.allocate(offset, length)
    return Errno.SUCCESS


# --- attributes


def fd_filestat_get(world: World, memory: memoryview, fd: int, stat_at: int) -> int:
    file = world.descriptors.get(fd, abi.FD_FILESTAT_GET)
    require(memory, stat_at, abi.FILESTAT.size)
    abi.FILESTAT.pack_into(memory, stat_at, *file.stat())
    return Errno.SUCCESS


def fd_filestat_set_size(world: World, memory: memoryview, fd: int, size: int) -> int:
    file = world.descriptors.get(fd, abi.FD_FILESTAT_SET_SIZE)
    if size > abi.INT_MAX:
        raise Refused(Errno.FBIG)
    file.set_size(size)
    return Errno.SUCCESS


def fd_filestat_set_times(world: World, memory: memoryview, fd: int, atime: int, mtime: int, flags: int) -> int:
    file = world.descriptors.get(fd, abi.FD_FILESTAT_SET_TIMES)
    times = chosen_times(atime, mtime, flags)
    if times != (None, None):
        file.set_times(*times)
    return Errno.SUCCESS


def chosen_times(atime: int, mtime: int, flags: int) -> tuple[int | None, int | None]:
    """What the fstflags say of two times: as given, now, or None for one that stays. INVAL."""
    if flags & ~(abi.ATIM | abi.ATIM_NOW | abi.MTIM | abi.MTIM_NOW):
        raise Refused(Errno.INVAL)
    return _chosen(atime, flags & abi.ATIM, flags & abi.ATIM_NOW), _chosen(mtime, flags & abi.MTIM, flags & abi.MTIM_NOW)


def _chosen(time: int, given: int, now: int) -> int | None:
    if (given and now) or (given and time > abi.INT_MAX):
        raise Refused(Errno.INVAL)
    return NOW if now else time if given else None


def fd_fdstat_get(world: World, memory: memoryview, fd: int, stat_at: int) -> int:
    file = world.descriptors.get(fd)
    store(abi.FDSTAT, memory, stat_at, file.filetype, file.flags, file.base, file.inheriting)
    return Errno.SUCCESS


def fd_fdstat_set_flags(world: World, memory: memoryview, fd: int, flags: int) -> int:
    file = world.descriptors.get(fd, abi.FD_FDSTAT_SET_FLAGS)
    if flags & ~abi.FDFLAGS:
        raise Refused(Errno.INVAL)
    file.flags = flags
    return Errno.SUCCESS


def fd_fdstat_set_rights(world: World, memory: memoryview, fd: int, base: int, inheriting: int) -> int:
    """Rights can only be dropped."""
    file = world.descriptors.get(fd)
    if base & ~file.base or inheriting & ~file.inheriting:
        raise Refused(Errno.NOTCAPABLE)
    file.base, file.inheriting = base, inheriting
    return Errno.SUCCESS


# --- descriptors


def fd_close(world: World, memory: memoryview, fd: int) -> int:
    """The number is free even where storing what was written failed."""
    world.descriptors.get(fd)
    world.descriptors.remove(fd).close()
    return Errno.SUCCESS


def fd_renumber(world: World, memory: memoryview, fd: int, to: int) -> int:
    """What the new number stood for is closed; what the old one stands for is a preopen no more."""
    world.descriptors.get(fd)
    replaced = world.descriptors.get(to)
    if fd != to:
        moved = world.descriptors.remove(fd)
        moved.preopen = None
        world.descriptors.put(to, moved)
        replaced.close()
    return Errno.SUCCESS


def fd_prestat_get(world: World, memory: memoryview, fd: int, prestat_at: int) -> int:
    store(abi.PRESTAT, memory, prestat_at, 0, len(_preopen(world.descriptors.get(fd))))
    return Errno.SUCCESS


def fd_prestat_dir_name(world: World, memory: memoryview, fd: int, name_at: int, size: int) -> int:
    name = _preopen(world.descriptors.get(fd))
    if size < len(name):
        raise Refused(Errno.NAMETOOLONG)
    abi.put(memory, name_at, name)
    return Errno.SUCCESS


def _preopen(descriptor: Descriptor) -> bytes:
    if descriptor.preopen is None:
        raise Refused(Errno.BADF)
    return descriptor.preopen


# --- directories


def fd_readdir(world: World, memory: memoryview, fd: int, buffer: int, size: int, cookie: int, used_at: int) -> int:
    """Entries from the cookie on, as many as fit, the last one cut off where it must be; less than asked for is the end.

    A name that is not UTF-8 is shown with replacement characters, for a string it has to be; it cannot be opened.
    """
    directory = world.descriptors.directory(fd, abi.FD_READDIR)
    require(memory, used_at, abi.SIZE.size)
    require(memory, buffer, size)
    store(abi.SIZE, memory, used_at, _fill(directory, memory[buffer : buffer + size], cookie))
    return Errno.SUCCESS


def _fill(directory: Directory, room: memoryview, cookie: int) -> int:
    used = 0
    while used < len(room):
        entries = directory.entries(cookie, (len(room) - used) // abi.DIRENT.size + 1)
        if not entries:
            break
        for following, ino, filetype, name in entries:
            name = _as_string(name)
            record = (abi.DIRENT.pack(following, ino, len(name), filetype) + name)[: len(room) - used]
            room[used : used + len(record)] = record
            used += len(record)
            cookie = following
            if used == len(room):
                break
    return used


def _as_string(name: bytes) -> bytes:
    return name if name.isascii() else name.decode("utf-8", "replace").encode()


# --- sockets


def sock_accept(world: World, memory: memoryview, fd: int, flags: int, fd_at: int) -> int:
    return _no_socket(world, fd)


def sock_recv(world: World, memory: memoryview, fd: int, iovs: int, count: int, flags: int, size_at: int, flags_at: int) -> int:
    return _no_socket(world, fd)


def sock_send(world: World, memory: memoryview, fd: int, iovs: int, count: int, flags: int, size_at: int) -> int:
    return _no_socket(world, fd)


def sock_shutdown(world: World, memory: memoryview, fd: int, how: int) -> int:
    return _no_socket(world, fd)


def _no_socket(world: World, fd: int) -> int:
    world.descriptors.get(fd)
    return Errno.NOTSOCK
