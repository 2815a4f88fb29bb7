"""What the suite asks of a door, and the two doors: the core as a Python object, and a mount of the kernel's.

Paths are bytes that begin with "/" and start at the door's root. Failures are OSErrors. Times are ns.
"""

from __future__ import annotations

import errno
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

import pytest

from tarbox_core.effects import Op
from tarbox_core.errors import FsError
from tarbox_core.filesystem import OpenDir, OpenFile
from tarbox_core.types import NOW, Attr, Caller
from tests.posix.calls import Calls
from tests.tenants import Session

R = TypeVar("R")


class Door(Protocol):
    """A tree as one user meets it. Open files and directories are numbers."""

    name: str

    def user(self, uid: int, gid: int, groups: tuple[int, ...] = ()) -> Door:
        """The same tree, as another user meets it."""
        ...

    def absolute(self, path: bytes) -> bytes:
        """What a symbolic link must hold to lead there."""
        ...

    def mkdir(self, path: bytes, mode: int = 0o755) -> None: ...
    def mknod(self, path: bytes, mode: int, rdev: int = 0) -> None: ...
    def symlink(self, target: bytes, path: bytes) -> None: ...
    def readlink(self, path: bytes) -> bytes: ...
    def link(self, old: bytes, new: bytes) -> None: ...
    def unlink(self, path: bytes) -> None: ...
    def rmdir(self, path: bytes) -> None: ...
    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None: ...
    def readdir(self, path: bytes) -> list[bytes]:
        """Without "." and ".."."""
        ...

    def opendir(self, path: bytes) -> int: ...
    def nextdir(self, reader: int, count: int) -> list[bytes]:
        """At most so many names further; none at the end."""
        ...

    def closedir(self, reader: int) -> None: ...
    def stat(self, path: bytes) -> SimpleNamespace: ...
    def lstat(self, path: bytes) -> SimpleNamespace: ...
    def chmod(self, path: bytes, mode: int) -> None: ...
    def chown(self, path: bytes, uid: int, gid: int) -> None:
        """Of a symbolic link itself; -1 keeps."""
        ...

    def utimens(self, path: bytes, atime: int | str | None, mtime: int | str | None) -> None:
        """ns, "now", or None to keep."""
        ...

    def truncate(self, path: bytes, size: int) -> None: ...
    def access(self, path: bytes, mask: int) -> None: ...
    def statfs(self, path: bytes) -> SimpleNamespace: ...
    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int = 0) -> None: ...
    def getxattr(self, path: bytes, name: bytes) -> bytes: ...
    def listxattr(self, path: bytes) -> list[bytes]: ...
    def removexattr(self, path: bytes, name: bytes) -> None: ...
    def open(self, path: bytes, flags: int = os.O_RDONLY, mode: int = 0o644) -> int: ...
    def close(self, file: int) -> None: ...
    def read(self, file: int, size: int, offset: int) -> bytes: ...
    def write(self, file: int, data: bytes, offset: int) -> int: ...
    def append(self, file: int, data: bytes) -> int:
        """To a file opened with O_APPEND."""
        ...

    def fstat(self, file: int) -> SimpleNamespace: ...
    def ftruncate(self, file: int, size: int) -> None: ...
    def fsync(self, file: int) -> None: ...
    def fallocate(self, file: int, mode: int, offset: int, length: int) -> None: ...
    def seek(self, file: int, offset: int, whence: int) -> int: ...
    def copy_range(self, source: int, offset: int, target: int, to: int, length: int) -> int: ...


# --- the core


class CoreDoor:
    """A Filesystem that enforces permissions, with every path resolved by the core."""

    name = "core"

    def __init__(self, session: Session, caller: Caller, files: dict[int, tuple[OpenFile, int]] | None = None) -> None:
        self._session = session
        self._fs = session.fs
        self._caller = caller
        self._files = {} if files is None else files
        self._readers: dict[int, tuple[OpenDir, int]] = {}

    def user(self, uid: int, gid: int, groups: tuple[int, ...] = ()) -> CoreDoor:
        return CoreDoor(self._session, Caller(uid, gid, groups, 2), self._files)

    def absolute(self, path: bytes) -> bytes:
        return path

    def _run(self, factory: Callable[[], Op[R]], durable: bool = False) -> R:
        try:
            return self._session.run(factory, durable=durable)
        except FsError as error:
            raise OSError(error.errno, os.strerror(error.errno), error.subject) from error

    def _attr(self, path: bytes, follow: bool = True) -> Attr:
        return self._run(lambda: self._fs.resolve(self._caller, path, follow=follow))

    def _at(self, path: bytes) -> tuple[int, bytes]:
        parent, name = self._run(lambda: self._fs.resolve_parent(self._caller, path))
        return parent.ino, name

    def mkdir(self, path: bytes, mode: int = 0o755) -> None:
        where = self._at(path)
        self._run(lambda: self._fs.mkdir(self._caller, *where, mode))

    def mknod(self, path: bytes, mode: int, rdev: int = 0) -> None:
        where = self._at(path)
        self._run(lambda: self._fs.mknod(self._caller, *where, mode, rdev))

    def symlink(self, target: bytes, path: bytes) -> None:
        where = self._at(path)
        self._run(lambda: self._fs.symlink(self._caller, *where, target))

    def readlink(self, path: bytes) -> bytes:
        ino = self._attr(path, follow=False).ino
        return self._run(lambda: self._fs.readlink(self._caller, ino))

    def link(self, old: bytes, new: bytes) -> None:
        ino, where = self._attr(old, follow=False).ino, self._at(new)
        self._run(lambda: self._fs.link(self._caller, ino, *where))

    def unlink(self, path: bytes) -> None:
        where = self._at(path)
        self._run(lambda: self._fs.unlink(self._caller, *where))

    def rmdir(self, path: bytes) -> None:
        where = self._at(path)
        self._run(lambda: self._fs.rmdir(self._caller, *where))

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        source, target = self._at(old), self._at(new)
        self._run(lambda: self._fs.rename(self._caller, *source, *target, flags))

    def readdir(self, path: bytes) -> list[bytes]:
        reader = self.opendir(path)
        names: list[bytes] = []
        while more := self.nextdir(reader, 1000):
            names += more
        self.closedir(reader)
        return names

    def opendir(self, path: bytes) -> int:
        ino = self._attr(path).ino
        folder = self._run(lambda: self._fs.opendir(self._caller, ino))
        self._readers[id(folder)] = (folder, 2)
        return id(folder)

    def nextdir(self, reader: int, count: int) -> list[bytes]:
        folder, offset = self._readers[reader]
        entries = self._run(lambda: folder.read(self._caller, offset, count))
        if entries:
            self._readers[reader] = (folder, entries[-1].offset)
        return [entry.name for entry in entries]

    def closedir(self, reader: int) -> None:
        del self._readers[reader]

    def _stat(self, attr: Attr) -> SimpleNamespace:
        return SimpleNamespace(**{name: value for name, value in attr._asdict().items() if name not in ("layer", "parent")})

    def stat(self, path: bytes) -> SimpleNamespace:
        return self._stat(self._attr(path))

    def lstat(self, path: bytes) -> SimpleNamespace:
        return self._stat(self._attr(path, follow=False))

    def _setattr(self, path: bytes, follow: bool, **changes: int | None) -> None:
        ino = self._attr(path, follow).ino
        self._run(lambda: self._fs.setattr(self._caller, ino, **changes))  # type: ignore[arg-type]

    def chmod(self, path: bytes, mode: int) -> None:
        self._setattr(path, True, mode=mode)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        self._setattr(path, False, uid=None if uid < 0 else uid, gid=None if gid < 0 else gid)

    def utimens(self, path: bytes, atime: int | str | None, mtime: int | str | None) -> None:
        times = [NOW if time == "now" else time for time in (atime, mtime)]
        self._setattr(path, True, atime=times[0], mtime=times[1])  # type: ignore[arg-type]

    def truncate(self, path: bytes, size: int) -> None:
        self._setattr(path, True, size=size, kill_suid=self._caller.uid != 0)

    def access(self, path: bytes, mask: int) -> None:
        ino = self._attr(path).ino
        self._run(lambda: self._fs.access(self._caller, ino, mask))

    def statfs(self, path: bytes) -> SimpleNamespace:
        return SimpleNamespace(**self._run(self._fs.statfs)._asdict())

    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int = 0) -> None:
        ino = self._attr(path, follow=False).ino
        self._run(lambda: self._fs.setxattr(self._caller, ino, name, value, flags))

    def getxattr(self, path: bytes, name: bytes) -> bytes:
        ino = self._attr(path, follow=False).ino
        return self._run(lambda: self._fs.getxattr(self._caller, ino, name))

    def listxattr(self, path: bytes) -> list[bytes]:
        ino = self._attr(path, follow=False).ino
        return self._run(lambda: self._fs.listxattr(self._caller, ino))

    def removexattr(self, path: bytes, name: bytes) -> None:
        ino = self._attr(path, follow=False).ino
        self._run(lambda: self._fs.removexattr(self._caller, ino, name))

    def open(self, path: bytes, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
        opened = self._open(path, flags, mode)
        number = max(self._files, default=0) + 1
        self._files[number] = (opened, flags)
        return number

    def _open(self, path: bytes, flags: int, mode: int) -> OpenFile:
        access = flags & os.O_ACCMODE
        try:
            attr = self._attr(path, follow=not flags & (os.O_NOFOLLOW | (os.O_EXCL if flags & os.O_CREAT else 0)))
        except OSError as error:
            if error.errno != errno.ENOENT or not flags & os.O_CREAT:
                raise
        else:
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            return self._run(lambda: self._fs.open(
                self._caller, attr.ino, read=access != os.O_WRONLY, write=access != os.O_RDONLY, truncate=bool(flags & os.O_TRUNC),
                kill_suid=bool(flags & os.O_TRUNC) and self._caller.uid != 0,
            ))  # fmt: skip
        if stat.S_ISLNK(self._kind(path)) and not flags & os.O_EXCL:  # it leads to what is to be made
            target = self.readlink(path)
            return self._open(target if target.startswith(b"/") else path.rpartition(b"/")[0] + b"/" + target, flags, mode)
        where = self._at(path)
        return self._run(lambda: self._fs.create(self._caller, *where, mode, exclusive=True))[1]

    def _kind(self, path: bytes) -> int:
        try:
            return self._attr(path, follow=False).mode
        except OSError:
            return 0

    def close(self, file: int) -> None:
        opened, _ = self._files.pop(file)
        self._run(lambda: opened.release(self._caller))

    def _file(self, file: int, access: int) -> OpenFile:
        opened, flags = self._files[file]
        if flags & os.O_ACCMODE not in (os.O_RDWR, access):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return opened

    def read(self, file: int, size: int, offset: int) -> bytes:
        opened = self._file(file, os.O_RDONLY)
        return self._run(lambda: opened.read(self._caller, offset, size))

    def write(self, file: int, data: bytes, offset: int) -> int:
        opened = self._file(file, os.O_WRONLY)
        return self._run(lambda: opened.write(self._caller, offset, data, kill_suid=self._caller.uid != 0))

    def append(self, file: int, data: bytes) -> int:
        opened = self._file(file, os.O_WRONLY)
        return self._run(lambda: opened.write(self._caller, 0, data, append=True, kill_suid=self._caller.uid != 0))

    def fstat(self, file: int) -> SimpleNamespace:
        ino = self._files[file][0].ino
        return self._stat(self._run(lambda: self._fs.getattr(ino)))

    def ftruncate(self, file: int, size: int) -> None:
        opened = self._file(file, os.O_WRONLY)
        self._run(lambda: opened.truncate(self._caller, size, kill_suid=self._caller.uid != 0))

    def fsync(self, file: int) -> None:
        opened = self._files[file][0]
        self._run(lambda: opened.fsync(self._caller), durable=True)

    def fallocate(self, file: int, mode: int, offset: int, length: int) -> None:
        opened = self._file(file, os.O_WRONLY)
        self._run(lambda: opened.fallocate(self._caller, mode, offset, length))

    def seek(self, file: int, offset: int, whence: int) -> int:
        opened = self._files[file][0]
        return self._run(lambda: opened.seek(self._caller, offset, whence))

    def copy_range(self, source: int, offset: int, target: int, to: int, length: int) -> int:
        src, dst = self._file(source, os.O_RDONLY), self._file(target, os.O_WRONLY)
        return self._run(lambda: self._fs.copy_range(self._caller, src, offset, dst, to, length))

    def finish(self) -> None:
        for file in list(self._files):
            self.close(file)


# --- the mount


class HostDoor(Calls):
    """A directory of the host, as root in this process."""

    name = "mount"

    def __init__(self, base: Path) -> None:
        super().__init__(os.fsencode(base))
        self._others: list[OtherUser] = []

    def user(self, uid: int, gid: int, groups: tuple[int, ...] = ()) -> OtherUser:
        self._others.append(OtherUser(self.base, uid, gid, groups))
        return self._others[-1]

    def finish(self) -> None:
        for other in self._others:
            other.finish()


class OtherUser:
    """The verbs, done by a process that runs as another user."""

    name = "mount"

    def __init__(self, base: bytes, uid: int, gid: int, groups: tuple[int, ...]) -> None:
        program = Path(__file__).with_name("calls.py")
        arguments = [os.fsdecode(base), str(uid), str(gid), ",".join(map(str, groups))]
        self._process = subprocess.Popen([sys.executable, program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            process = self._process
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(pickle.dumps((verb, arguments, named)))
            process.stdin.flush()
            good, answer = pickle.load(process.stdout)
            if not good:
                raise OSError(answer, os.strerror(answer))
            return answer

        return call

    def finish(self) -> None:
        self._process.communicate(timeout=30)



@contextmanager
def fails(*numbers: int) -> Iterator[None]:
    """The call in the block must fail with one of these errnos."""
    with pytest.raises(OSError) as error:
        yield
    words = " or ".join(errno.errorcode[number] for number in numbers)
    assert error.value.errno in numbers, f"{errno.errorcode.get(error.value.errno or 0)} instead of {words}"


def put(door: Door, path: bytes, data: bytes = b"", mode: int = 0o644) -> None:
    """A file with this content, and nothing of it left unstored."""
    file = door.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        if data:
            assert door.write(file, data, 0) == len(data)
    finally:
        door.close(file)


def get(door: Door, path: bytes) -> bytes:
    file = door.open(path)
    try:
        return door.read(file, 1 << 30, 0)
    finally:
        door.close(file)
