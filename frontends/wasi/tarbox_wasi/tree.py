"""Descriptors of the tenant's tree: its files and directories, and the control files and sealed layers in /.tarbox.

A directory is an inode number, from which paths are walked (`tarbox_core.beneath`); what a path means where POSIX and Linux
have more than one word for it is said here. Whatever asks the database runs through the world.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from tarbox_core.beneath import Walk, split_last
from tarbox_core.control_files import CommandFile
from tarbox_core.effects import Op
from tarbox_core.errors import FsError, LayerError
from tarbox_core.file import OpenFile, SeenFile
from tarbox_core.handles import DirHandle, FileHandle
from tarbox_core.making import may_forget
from tarbox_core.types import Attr
from tarbox_core.viewing import VIEWS
from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, Filestat, Filetype, Refused
from tarbox_wasi.descriptors import POLLED_ROOM, Descriptor, Directory, Entry

if TYPE_CHECKING:
    from tarbox_wasi.world import World

_FILE_MODE: Final = 0o666
_DIRECTORY_MODE: Final = 0o777
_WRITES: Final = abi.FD_WRITE | abi.FD_ALLOCATE | abi.FD_FILESTAT_SET_SIZE
_DOTS: Final = (b".", b"..")


class TreeFile(Descriptor):
    """An open regular file: a handle of the core and a position."""

    rights = abi.FILE_RIGHTS
    filetype = Filetype.REGULAR_FILE

    def __init__(self, world: World, handle: FileHandle, base: int, flags: int) -> None:
        super().__init__(base, 0, flags)
        self._world = world
        self._handle = handle

    def _attr(self) -> Attr:
        """As stored, where another door may have changed it; the handle knows what this one did."""
        world, handle = self._world, self._handle
        if world.fs.session.alone or handle.stale or handle.ino >= VIEWS:
            return handle.attr()
        try:
            return world.run(lambda: world.fs.getattr(handle.ino))
        except FsError as error:
            if error.errno != errno.ENOENT:
                raise
            return handle.attr()  # without a name, and open nowhere else

    def stat(self) -> Filestat:
        return abi.filestat(self._attr())

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        world, ino = self._world, self._handle.ino
        if self._handle.stale:
            raise Refused(Errno.STALE)
        world.change(ino, lambda: world.fs.setattr(world.caller, ino, atime=atime, mtime=mtime))

    def set_size(self, size: int) -> None:
        world = self._world
        world.meet(lambda: self._handle.truncate(world.caller, size, kill_suid=world.kills_suid))

    def allocate(self, offset: int, length: int) -> None:
        self._world.meet(lambda: self._handle.fallocate(self._world.caller, 0, offset, length))

    def read(self, size: int) -> bytes:
        data = self.pread(size, self.position)
        self.position += len(data)
        return data

    def pread(self, size: int, offset: int) -> bytes:
        return self._world.run(lambda: self._handle.read(self._world.caller, offset, size))

    def write(self, data: bytes | memoryview) -> int:
        written = self.pwrite(data, self.position)
        self.position = self._handle.attr().size if self.flags & abi.APPEND and not self._handle.moves_head else self.position + written
        return written

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        """As on Linux, with the flag APPEND at the end whatever the offset."""
        world, handle = self._world, self._handle
        append = bool(self.flags & abi.APPEND)

        def write() -> Op[int]:
            return handle.write(world.caller, offset, data, append=append, kill_suid=world.kills_suid)

        if handle.moves_head:
            return self._command(write)
        written = world.run(write)
        if self.flags & (abi.SYNC | abi.DSYNC):
            self.sync()
        else:
            world.wrote(written)
        return written

    def _command(self, write: Callable[[], Op[int]]) -> int:
        try:
            return self._world.move(write)
        except LayerError as error:  # before it was begun
            if isinstance(self._handle, CommandFile):
                self._handle.refused(error)
            raise FsError(error.errno, self._handle.ino) from error

    def size(self) -> int:
        return self._attr().size

    def sync(self) -> None:
        self._world.meet(lambda: self._handle.fsync(self._world.caller), durable=True)

    def ready(self, write: bool) -> int | None:
        return POLLED_ROOM if write else max(0, self._handle.attr().size - self.position)

    def close(self) -> None:
        """What was written is stored, for the next open through any door to see, even where another descriptor has it open; a new
        file soon (`World.publish`)."""
        world, handle = self._world, self._handle
        try:
            if handle.dirty and handle.attr().nlink and not (isinstance(handle, OpenFile) and handle.lingers):
                world.meet(lambda: handle.flush(world.caller))
        finally:
            world.run(lambda: handle.release(world.caller))
        world.closed()


class TreeDirectory(Directory):
    """An open directory of the tree."""

    def __init__(self, world: World, ino: int, base: int, inheriting: int, flags: int = 0) -> None:
        super().__init__(base, inheriting, flags)
        self._world = world
        self.ino = ino
        self._handle: DirHandle | None = None

    # --- walking

    def _walk(self, path: bytes, *, follow: bool, opening: bool = False, passing: bool = False) -> Walk:
        world = self._world
        walk = Walk(world.fs, world.caller, self.ino, path, follow=follow, opening=opening, passing=passing)
        while not world.run(walk.step):
            pass
        return walk

    def _find(self, path: bytes, *, follow: bool) -> Attr:
        attr = self._walk(path, follow=follow).attr
        if attr is None:
            raise Refused(Errno.NOENT)
        return attr

    def _place(self, path: bytes) -> tuple[int, bytes, bool]:
        """The directory of a path's last name, that name, and whether a slash follows it. The name may be a dot, or two that do not
        lead out."""
        folder, name, slash = split_last(path)
        if name == b"..":
            self._walk(path, follow=False)
        if not folder:
            return self.ino, name, slash
        attr = self._walk(folder, follow=True, passing=True).attr
        if attr is None or not attr.is_dir:
            raise Refused(Errno.NOENT if attr is None else Errno.NOTDIR)
        return attr.ino, name, slash

    def _child(self, parent: int, name: bytes) -> Attr | None:
        world = self._world
        try:
            return world.run(lambda: world.fs.lookup(world.caller, parent, name))
        except FsError as error:
            if error.errno != errno.ENOENT:
                raise
            return None

    def _free_place(self, path: bytes) -> tuple[int, bytes]:
        """Where something that is no directory is to be made: a slash behind its name asks for one."""
        parent, name, slash = self._place(path)
        if slash:
            raise Refused(Errno.NOENT if self._child(parent, name) is None else Errno.EXIST)
        return parent, name

    # --- the directory itself

    def stat(self) -> Filestat:
        world = self._world
        self._show(self.ino)
        return abi.filestat(world.run(lambda: world.fs.getattr(self.ino)))

    def _show(self, ino: int) -> bool:
        """Store the files that were made in a directory, which shows it in its times; whether there were any."""
        world = self._world
        made = any(parent == ino for parent, _ in list(world.fs.session.waiting))
        if made:
            world.meet(lambda: world.fs.settle(ino))
        return made

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        self._set_times(self.ino, atime, mtime)

    def _set_times(self, ino: int, atime: int | None, mtime: int | None) -> None:
        world = self._world
        world.change(ino, lambda: world.fs.setattr(world.caller, ino, atime=atime, mtime=mtime))

    def sync(self) -> None:
        self._world.sync()

    def entries(self, cookie: int, count: int) -> Sequence[Entry]:
        """Of a directory that the guest was given, ".." is that directory itself."""
        world = self._world
        if self._handle is None:
            self._handle = world.meet(lambda: world.fs.opendir(world.caller, self.ino))
        handle = self._handle
        entries = world.meet(lambda: handle.read(world.caller, cookie, count, plus=False))
        if cookie < 2 and self.ino in world.tops:
            entries = [entry._replace(ino=self.ino) if entry.name == b".." else entry for entry in entries]
        return [Entry(entry.offset, entry.ino, abi.filetype(entry.kind), entry.name) for entry in entries]

    # --- what is below

    def open(self, path: bytes, *, follow: bool, oflags: int, base: int, inheriting: int, flags: int) -> Descriptor:
        exclusive = bool(oflags & abi.CREAT and oflags & abi.EXCL)
        walk = self._walk(path, follow=follow and not exclusive, opening=True)
        attr = walk.attr
        if attr is None:
            if not oflags & abi.CREAT:
                raise Refused(Errno.NOENT)
            if walk.is_folder:
                raise Refused(Errno.ISDIR)
            return self._create(walk, exclusive, oflags, base, flags)
        if exclusive:
            raise Refused(Errno.EXIST)
        if attr.is_dir:
            if base & abi.FD_WRITE or oflags & (abi.CREAT | abi.TRUNC):
                raise Refused(Errno.ISDIR)
            return TreeDirectory(self._world, attr.ino, base, inheriting, flags)
        if oflags & abi.DIRECTORY:
            raise Refused(Errno.NOTDIR)
        return TreeFile(self._world, self._open(attr, walk.seen, bool(oflags & abi.TRUNC), base), base, flags)

    def _open(self, attr: Attr, seen: SeenFile | None, truncate: bool, base: int) -> FileHandle:
        world, fs = self._world, self._world.fs
        read, write = bool(base & abi.FD_READ), bool(base & _WRITES)
        if seen is not None and not truncate:
            return world.run(lambda: fs.open_seen(world.caller, seen, read=read, write=write))
        kill_suid = truncate and world.kills_suid
        return world.meet(lambda: fs.open(world.caller, attr.ino, read=read, write=write, truncate=truncate, kill_suid=kill_suid))

    def _create(self, walk: Walk, exclusive: bool, oflags: int, base: int, flags: int) -> TreeFile:
        world = self._world
        parent, name, mode = walk.parent.ino, walk.name, _FILE_MODE & ~world.umask
        run = world.run if world.fs.session.alone else world.meet  # else it is stored at once
        attr, handle = run(lambda: world.fs.create(world.caller, parent, name, mode, exclusive=exclusive))
        made = TreeFile(world, handle, base, flags)
        if oflags & abi.TRUNC and attr.size:  # another door made it since the walk
            made.set_size(0)
        return made

    def stat_at(self, path: bytes, *, follow: bool) -> Filestat:
        attr = self._find(path, follow=follow)
        if attr.is_dir and self._show(attr.ino):
            attr = self._find(path, follow=follow)
        return abi.filestat(attr)

    def set_times_at(self, path: bytes, atime: int | None, mtime: int | None, *, follow: bool) -> None:
        self._set_times(self._find(path, follow=follow).ino, atime, mtime)

    def readlink(self, path: bytes) -> bytes:
        world = self._world
        attr = self._find(path, follow=False)
        if not attr.is_symlink:  # it may be a new file, which is not stored yet
            raise Refused(Errno.INVAL)
        return world.run(lambda: world.fs.readlink(world.caller, attr.ino))

    def mkdir(self, path: bytes) -> None:
        world = self._world
        parent, name, _ = self._place(path)
        world.meet(lambda: world.fs.mkdir(world.caller, parent, name, _DIRECTORY_MODE & ~world.umask))

    def rmdir(self, path: bytes) -> None:
        world = self._world
        parent, name, _ = self._place(path)
        world.meet(lambda: world.fs.rmdir(world.caller, parent, name))

    def unlink(self, path: bytes) -> None:
        world = self._world
        parent, name, slash = self._place(path)
        if name in _DOTS:
            raise Refused(Errno.ISDIR)
        if slash:
            child = self._child(parent, name)
            raise Refused(Errno.NOENT if child is None else Errno.ISDIR if child.is_dir else Errno.NOTDIR)
        if may_forget(world.fs.session, parent, name) is None:
            world.publish()
        world.run(lambda: world.fs.unlink(world.caller, parent, name))

    def symlink(self, target: bytes, path: bytes) -> None:
        """PERM for an absolute target: following it would lead out."""
        if target.startswith(b"/"):
            raise Refused(Errno.PERM)
        world = self._world
        parent, name = self._free_place(path)
        world.meet(lambda: world.fs.symlink(world.caller, parent, name, target))

    def link(self, path: bytes, to: Directory, new: bytes) -> None:
        if not isinstance(to, TreeDirectory):
            raise Refused(Errno.XDEV)
        world = self._world
        ino = self._find(path, follow=False).ino
        parent, name = to._free_place(new)
        world.meet(lambda: world.fs.link(world.caller, ino, parent, name))

    def rename(self, path: bytes, to: Directory, new: bytes) -> None:
        """A slash behind either name asks for a directory."""
        if not isinstance(to, TreeDirectory):
            raise Refused(Errno.XDEV)
        world = self._world
        parent, name, slash = self._place(path)
        newparent, newname, newslash = to._place(new)
        if slash or newslash:
            child = self._child(parent, name)
            if child is None or not child.is_dir:
                raise Refused(Errno.NOENT if child is None else Errno.NOTDIR)
        world.meet(lambda: world.fs.rename(world.caller, parent, name, newparent, newname))
