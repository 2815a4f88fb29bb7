"""A door that is a directory of the host: each verb of the suite as system calls on paths under a base.

Run as a program it answers calls as another user: `calls.py BASE UID GID GROUPS` reads pickled (verb, arguments, named ones) from
standard input. It imports nothing of the project, because that user may not be able to read it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import sys
from types import SimpleNamespace
from typing import Any

AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)
for _name, _types in {
    "renameat2": [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint],
    "utimensat": [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int],
    "fallocate": [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64],
    "access": [ctypes.c_char_p, ctypes.c_int],
}.items():
    getattr(_libc, _name).argtypes = _types


def _check(result: int, path: bytes | None = None) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _stat(found: os.stat_result) -> SimpleNamespace:
    return SimpleNamespace(
        ino=found.st_ino, mode=found.st_mode, uid=found.st_uid, gid=found.st_gid, nlink=found.st_nlink, size=found.st_size,
        blocks=found.st_blocks * 512, rdev=found.st_rdev, atime=found.st_atime_ns, mtime=found.st_mtime_ns, ctime=found.st_ctime_ns,
    )  # fmt: skip


class Calls:
    """The verbs, as documented at tests.posix.door.Door."""

    def __init__(self, base: bytes) -> None:
        self.base = base
        self._readers: dict[int, Any] = {}

    def _path(self, path: bytes) -> bytes:
        return self.base + path

    def absolute(self, path: bytes) -> bytes:
        return self.base + path

    # --- names

    def mkdir(self, path: bytes, mode: int = 0o755) -> None:
        os.mkdir(self._path(path), mode)

    def mknod(self, path: bytes, mode: int, rdev: int = 0) -> None:
        os.mknod(self._path(path), mode, rdev)

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, self._path(path))

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(self._path(path))

    def link(self, old: bytes, new: bytes) -> None:
        os.link(self._path(old), self._path(new), follow_symlinks=False)

    def unlink(self, path: bytes) -> None:
        os.unlink(self._path(path))

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self._path(path))

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        _check(_libc.renameat2(AT_FDCWD, self._path(old), AT_FDCWD, self._path(new), flags), old)

    def readdir(self, path: bytes) -> list[bytes]:
        return os.listdir(self._path(path))

    def opendir(self, path: bytes) -> int:
        reader = os.scandir(self._path(path))
        self._readers[id(reader)] = reader
        return id(reader)

    def nextdir(self, reader: int, count: int) -> list[bytes]:
        names = []
        for entry in self._readers[reader]:
            names.append(entry.name)
            if len(names) == count:
                break
        return names

    def closedir(self, reader: int) -> None:
        self._readers.pop(reader).close()

    # --- attributes

    def stat(self, path: bytes) -> SimpleNamespace:
        return _stat(os.stat(self._path(path)))

    def lstat(self, path: bytes) -> SimpleNamespace:
        return _stat(os.lstat(self._path(path)))

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self._path(path), mode)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        os.lchown(self._path(path), uid, gid)

    def utimens(self, path: bytes, atime: int | str | None, mtime: int | str | None) -> None:
        special = {"now": (1 << 30) - 1, None: (1 << 30) - 2}
        times = (ctypes.c_int64 * 4)()
        for place, time in enumerate((atime, mtime)):
            seconds, nanoseconds = divmod(time, 10**9) if isinstance(time, int) else (0, special[time])
            times[2 * place : 2 * place + 2] = [seconds, nanoseconds]
        _check(_libc.utimensat(AT_FDCWD, self._path(path), ctypes.byref(times), 0), path)

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(self._path(path), size)

    def access(self, path: bytes, mask: int) -> None:
        _check(_libc.access(self._path(path), mask), path)

    def statfs(self, path: bytes) -> SimpleNamespace:
        found = os.statvfs(self._path(path))
        return SimpleNamespace(
            block_size=found.f_frsize, total=found.f_blocks * found.f_frsize, free=found.f_bfree * found.f_frsize, files=found.f_files, name_max=found.f_namemax
        )

    # --- extended attributes

    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int = 0) -> None:
        os.setxattr(self._path(path), name, value, flags, follow_symlinks=False)

    def getxattr(self, path: bytes, name: bytes) -> bytes:
        return os.getxattr(self._path(path), name, follow_symlinks=False)

    def listxattr(self, path: bytes) -> list[bytes]:
        return [os.fsencode(name) for name in os.listxattr(self._path(path), follow_symlinks=False)]

    def removexattr(self, path: bytes, name: bytes) -> None:
        os.removexattr(self._path(path), name, follow_symlinks=False)

    # --- open files

    def open(self, path: bytes, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
        return os.open(self._path(path), flags, mode)

    def close(self, file: int) -> None:
        os.close(file)

    def read(self, file: int, size: int, offset: int) -> bytes:
        parts = []
        while size and (part := os.pread(file, size, offset)):
            parts.append(part)
            size, offset = size - len(part), offset + len(part)
        return b"".join(parts)

    def write(self, file: int, data: bytes, offset: int) -> int:
        return os.pwrite(file, data, offset)

    def append(self, file: int, data: bytes) -> int:
        return os.write(file, data)

    def fstat(self, file: int) -> SimpleNamespace:
        return _stat(os.fstat(file))

    def ftruncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def fsync(self, file: int) -> None:
        os.fsync(file)

    def fallocate(self, file: int, mode: int, offset: int, length: int) -> None:
        _check(_libc.fallocate(file, mode, offset, length))

    def seek(self, file: int, offset: int, whence: int) -> int:
        return os.lseek(file, offset, whence)

    def copy_range(self, source: int, offset: int, target: int, to: int, length: int) -> int:
        return os.copy_file_range(source, target, length, offset, to)


def serve() -> None:
    base, uid, gid, groups = sys.argv[1:]
    os.umask(0)
    os.setgroups([int(group) for group in groups.split(",") if group])
    os.setgid(int(gid))
    os.setuid(int(uid))
    calls = Calls(os.fsencode(base))
    while True:
        try:
            verb, arguments, named = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = (True, getattr(calls, verb)(*arguments, **named))
        except OSError as error:
            answer = (False, error.errno or errno.EIO)
        sys.stdout.buffer.write(pickle.dumps(answer))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
