"""The second transport: libfuse 2 through fusepy, for systems whose kernel protocol we do not speak. Same verbs.

fusepy names files by path, so names are walked anew with the core's resolve; what is open goes by handle. Paths are
decoded as Latin-1, which maps every byte to a character and back. libfuse 2 knows no rename flags, fallocate, lseek
or copy_file_range, and does not say who may keep set-id bits: those are missing here. A file that is removed while it
is open it renames to .fuse_hidden... until the last close; by its handle alone it could not be asked for its attributes.
It gives each hard link a node of its own, which sees what was done through another one when its attributes expire.
Its nodes are the same in every tree: after a switch names and attributes of the old one show until they expire, and a
file that was open answers ESTALE to whatever is asked of it.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from tarbox_core.effects import Op
from tarbox_core.errors import DiskFullError, FsError, TarboxError
from tarbox_core.types import NOW, PATH_MAX, Attr, Caller, Entry
from tarbox_fuse.codec import Timeouts
from tarbox_fuse.dispatch import DAEMON_XATTR, daemon_identity
from tarbox_fuse.mount import MountError
from tarbox_fuse.verbs import Verbs

R = TypeVar("R")

log = logging.getLogger("tarbox.fuse")

_UTIME_NOW: Final = (1 << 30) - 1  # nanoseconds that stand for "now" and "leave it", as utimensat(2)
_UTIME_OMIT: Final = (1 << 30) - 2
_PAGE: Final = 512  # entries of a directory fetched at a time


def serve(
    verbs: Verbs, where: str, source: str, timeouts: Timeouts, read_only: bool, allow_other: bool, answered: Callable[[], None]
) -> None:
    """Mount and serve until unmounted or told to stop by a signal. MountError when fusepy, libfuse or the mount fails."""
    try:
        import fuse
    except ImportError:
        raise MountError("--transport libfuse needs fusepy: pip install fusepy (or tarbox[fuse])") from None
    except OSError:
        raise MountError("--transport libfuse needs the library libfuse.so.2: apt-get install libfuse2") from None
    options: dict[str, Any] = {
        "fsname": source, "subtype": "tarbox", "default_permissions": True, "use_ino": True, "big_writes": True,
        "attr_timeout": timeouts.attr, "entry_timeout": timeouts.entry, "negative_timeout": timeouts.negative,
    }  # fmt: skip
    if allow_other:
        options["allow_other"] = True
    if read_only:
        options["ro"] = True
    if os.geteuid() == 0:
        options["suid"] = options["dev"] = True
    try:
        fuse.FUSE(_Adapter(verbs, answered), os.fsencode(where).decode("latin-1"), encoding="latin-1", raw_fi=True, foreground=True, **options)
    except RuntimeError as error:
        raise MountError(f"{where}: libfuse could not mount: error {error}") from None


def _caller() -> Caller:
    import fuse

    uid, gid, pid = fuse.fuse_get_context()
    return Caller(uid, gid, (), pid)


def _stat(attr: Attr) -> dict[str, int]:
    return {
        "st_ino": attr.ino, "st_mode": attr.mode, "st_nlink": attr.nlink, "st_uid": attr.uid, "st_gid": attr.gid, "st_rdev": attr.rdev,
        "st_size": attr.size, "st_blocks": (attr.blocks + 511) >> 9, "st_blksize": 65536,
        "st_atime": attr.atime, "st_mtime": attr.mtime, "st_ctime": attr.ctime,
    }  # fmt: skip


class _Adapter:
    """What fusepy calls: one method per operation, found by name; an OSError becomes the errno of the reply.

    `fi` is the fuse_file_info of an open file, whose `fh` is the handle.
    """

    use_ns = True
    flag_nullpath_ok = True  # handles suffice for what is open
    flag_utime_omit_ok = True

    def __init__(self, verbs: Verbs, answered: Callable[[], None]) -> None:
        self._verbs = verbs
        self._fs = verbs.fs
        self._answered = answered

    def __call__(self, operation: str, *arguments: Any) -> Any:
        self._verbs.gate.enter()
        try:
            return getattr(self, operation)(*arguments)
        except FsError as error:
            raise OSError(error.errno, operation) from None
        except DiskFullError as error:
            log.error("the database has no room: %s", error)
            raise OSError(errno.ENOSPC, operation) from None
        except TarboxError as error:
            log.error("%s", error)
            raise OSError(errno.EIO, operation) from None
        except Exception:
            log.exception("%s failed", operation)
            raise OSError(errno.EIO, operation) from None
        finally:
            self._verbs.gate.leave()

    def _run(self, factory: Callable[[], Op[R]]) -> R:
        return self._verbs.run(factory)

    def _find(self, path: str) -> Attr:
        return self._walk(_caller(), path.encode("latin-1"))

    def _parent(self, path: str) -> tuple[Caller, int, bytes]:
        caller = _caller()
        folder, _, name = path.encode("latin-1").rpartition(b"/")
        return caller, self._walk(caller, folder or b"/").ino, name

    def _walk(self, caller: Caller, path: bytes) -> Attr:
        """The kernel has followed all links on the way; only who works below a deep directory comes with longer paths."""
        if len(path) < PATH_MAX:
            return self._run(lambda: self._fs.resolve(caller, path, follow=False))
        attr = self._walk(caller, b"/")
        for name in path.split(b"/")[1:]:
            attr = self._run(partial(self._fs.lookup, caller, attr.ino, name))
        return attr

    def init(self, path: str) -> None:
        self._answered()

    def destroy(self, path: str) -> None:
        return None

    # --- names

    def getattr(self, path: str | None, fi: Any) -> dict[str, int]:
        if path is None or fi is not None:
            opened = self._verbs.file(fi.fh)
            if opened.stale:
                raise FsError(errno.ESTALE, path)
            return _stat(self._run(lambda: self._fs.getattr(opened.ino)))
        return _stat(self._find(path))

    def readlink(self, path: str) -> str:
        caller, ino = _caller(), self._find(path).ino
        return self._run(lambda: self._fs.readlink(caller, ino)).decode("latin-1")

    def mknod(self, path: str, mode: int, rdev: int) -> None:
        caller, parent, name = self._parent(path)
        self._run(lambda: self._fs.mknod(caller, parent, name, mode, rdev))

    def mkdir(self, path: str, mode: int) -> None:
        caller, parent, name = self._parent(path)
        self._run(lambda: self._fs.mkdir(caller, parent, name, mode & 0o7777))

    def symlink(self, path: str, target: str) -> None:
        caller, parent, name = self._parent(path)
        self._run(lambda: self._fs.symlink(caller, parent, name, target.encode("latin-1")))

    def link(self, path: str, existing: str) -> None:
        ino = self._find(existing).ino
        caller, parent, name = self._parent(path)
        self._run(lambda: self._fs.link(caller, ino, parent, name))

    def unlink(self, path: str) -> None:
        caller, parent, name = self._parent(path)
        self._run(lambda: self._fs.unlink(caller, parent, name))

    def rmdir(self, path: str) -> None:
        caller, parent, name = self._parent(path)
        self._run(lambda: self._fs.rmdir(caller, parent, name))

    def rename(self, old: str, new: str) -> None:
        caller, parent, name = self._parent(old)
        _, newparent, newname = self._parent(new)
        self._run(lambda: self._fs.rename(caller, parent, name, newparent, newname))

    # --- attributes

    def chmod(self, path: str, mode: int) -> None:
        self._verbs.setattr(_caller(), self._find(path).ino, mode=mode & 0o7777)

    def chown(self, path: str, uid: int, gid: int) -> None:
        changes = {key: value for key, value in (("uid", uid), ("gid", gid)) if value != -1}
        self._verbs.setattr(_caller(), self._find(path).ino, kill_suid=True, **changes)

    def truncate(self, path: str | None, length: int, fi: Any = None) -> None:
        ino = self._find(path).ino if path is not None else self._verbs.file(fi.fh).ino
        self._verbs.setattr(_caller(), ino, size=length)

    def utimens(self, path: str, times: tuple[int, int] | None) -> None:
        changes = {
            key: NOW if time == _UTIME_NOW else time
            for key, time in zip(("atime", "mtime"), times or (_UTIME_NOW, _UTIME_NOW), strict=True)
            if time != _UTIME_OMIT
        }
        self._verbs.setattr(_caller(), self._find(path).ino, **changes)

    def setxattr(self, path: str, name: str, value: bytes, flags: int, position: int = 0) -> None:
        caller, ino = _caller(), self._find(path).ino
        self._run(lambda: self._fs.setxattr(caller, ino, name.encode("latin-1"), value, flags))

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        raw = name.encode("latin-1")
        if raw == DAEMON_XATTR and path == "/":
            return daemon_identity(os.getpid())
        caller, ino = _caller(), self._find(path).ino
        return self._run(lambda: self._fs.getxattr(caller, ino, raw))

    def listxattr(self, path: str) -> list[str]:
        caller, ino = _caller(), self._find(path).ino
        return [name.decode("latin-1") for name in self._run(lambda: self._fs.listxattr(caller, ino))]

    def removexattr(self, path: str, name: str) -> None:
        caller, ino = _caller(), self._find(path).ino
        self._run(lambda: self._fs.removexattr(caller, ino, name.encode("latin-1")))

    # --- files

    def open(self, path: str, fi: Any) -> int:
        access = fi.flags & (os.O_WRONLY | os.O_RDWR)
        fi.fh, opened = self._verbs.open(
            _caller(), self._find(path).ino,
            read=access != os.O_WRONLY, write=access != os.O_RDONLY, truncate=bool(fi.flags & os.O_TRUNC), kill_suid=False,
        )  # fmt: skip
        fi.direct_io = opened.direct
        return 0

    def create(self, path: str, mode: int, fi: Any) -> int:
        caller, parent, name = self._parent(path)
        fi.fh, _, opened = self._verbs.create(caller, parent, name, mode & 0o7777, exclusive=False, truncate=False)
        fi.direct_io = opened.direct
        return 0

    def read(self, path: str | None, size: int, offset: int, fi: Any) -> bytes:
        if self._verbs.file(fi.fh).stale:
            raise FsError(errno.ESTALE, path)
        return self._verbs.read(_caller(), fi.fh, offset, size)

    def write(self, path: str | None, data: bytes, offset: int, fi: Any) -> int:
        # The kernel has placed an appending write already, and libfuse 2 does not say that it appends.
        return self._verbs.write(_caller(), fi.fh, offset, data, False, False)

    def flush(self, path: str | None, fi: Any) -> None:
        self._verbs.flush(_caller(), fi.fh)

    def fsync(self, path: str | None, datasync: int, fi: Any) -> None:
        self._verbs.fsync(_caller(), fi.fh)

    def release(self, path: str | None, fi: Any) -> None:
        self._verbs.release(_caller(), fi.fh)

    def statfs(self, path: str) -> dict[str, int]:
        st = self._run(self._fs.statfs)
        block, free = st.block_size, st.free // st.block_size
        return {
            "f_bsize": block, "f_frsize": block, "f_blocks": st.total // block, "f_bfree": free, "f_bavail": free,
            "f_files": st.files, "f_ffree": st.files_free, "f_favail": st.files_free, "f_namemax": st.name_max,
        }  # fmt: skip

    # --- directories

    def opendir(self, path: str) -> int:
        return self._verbs.opendir(_caller(), self._find(path).ino)

    def readdir(self, path: str | None, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        """All entries, at offset 0: libfuse gathers them, and pages them for the kernel itself."""
        caller, offset = _caller(), 0
        while entries := self("_page", caller, fh, offset):
            yield from ((entry.name.decode("latin-1"), {"st_ino": entry.ino, "st_mode": entry.kind << 12}, 0) for entry in entries)
            offset = entries[-1].offset

    def _page(self, caller: Caller, fh: int, offset: int) -> Sequence[Entry]:
        return self._verbs.readdir(caller, fh, offset, _PAGE, False)

    def releasedir(self, path: str | None, fh: int) -> None:
        self._verbs.releasedir(fh)

    def fsyncdir(self, path: str | None, datasync: int, fh: int) -> None:
        self._verbs.sync(_caller())
