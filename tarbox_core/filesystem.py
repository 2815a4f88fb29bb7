"""The facade: one method per POSIX verb, each returning an Op. What a tree looks like is defined here, once.

Doors (mount, command line, WASI, browser, import) adapt these verbs and add no policy. Inode verbs take a parent's
inode number and a name; path verbs walk. A Filesystem belongs to one tenant, one head and one caller at a time may
change it from one thread; the doors serialise per inode where they run several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tarbox_core.effects import Op
from tarbox_core.types import Attr, Caller, Entry, StatFs, TenantInfo


class Filesystem:
    """A tenant's tree at one head.

    `clock` gives ns since the epoch. `enforce`: check permissions here (a mount with default_permissions lets the
    kernel do it and passes False). `exclusive`: this session holds the lease on the head.
    """

    def __init__(
        self, tenant: TenantInfo, clock: Callable[[], int], *, enforce: bool = True, read_only: bool = False,
        audit: bool = True, audit_batch: int = 100,
    ) -> None:
        raise NotImplementedError

    # --- names and attributes (inode verbs)
    def lookup(self, caller: Caller, parent: int, name: bytes) -> Op[Attr]: ...          # ENOENT, ENOTDIR; "." and ".." work
    def getattr(self, ino: int) -> Op[Attr]: ...
    def setattr(
        self, caller: Caller, ino: int, *, mode: int | None = None, uid: int | None = None, gid: int | None = None,
        size: int | None = None, atime: int | None = None, mtime: int | None = None, ctime: int | None = None,
        kill_suid: bool = False,
    ) -> Op[Attr]: ...                                                                    # times in ns, or types.NOW
    def access(self, caller: Caller, ino: int, mask: int) -> Op[None]: ...                # EACCES
    def readlink(self, caller: Caller, ino: int) -> Op[bytes]: ...
    def mknod(self, caller: Caller, parent: int, name: bytes, mode: int, rdev: int = 0) -> Op[Attr]: ...   # mode with S_IFMT
    def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Op[Attr]: ...
    def symlink(self, caller: Caller, parent: int, name: bytes, target: bytes) -> Op[Attr]: ...
    def link(self, caller: Caller, ino: int, parent: int, name: bytes) -> Op[Attr]: ...
    def unlink(self, caller: Caller, parent: int, name: bytes) -> Op[None]: ...
    def rmdir(self, caller: Caller, parent: int, name: bytes) -> Op[None]: ...
    def rename(
        self, caller: Caller, parent: int, name: bytes, newparent: int, newname: bytes, flags: int = 0
    ) -> Op[None]: ...                                                                    # RENAME_NOREPLACE | RENAME_EXCHANGE

    # --- open files and directories
    def create(self, caller: Caller, parent: int, name: bytes, mode: int, *, exclusive: bool = False) -> Op[tuple[Attr, OpenFile]]: ...
    def open(
        self, caller: Caller, ino: int, *, read: bool = True, write: bool = False, truncate: bool = False,
        kill_suid: bool = False,
    ) -> Op[OpenFile]: ...
    def opendir(self, caller: Caller, ino: int) -> Op[OpenDir]: ...
    def copy_range(self, caller: Caller, src: OpenFile, src_off: int, dst: OpenFile, dst_off: int, length: int) -> Op[int]: ...

    # --- extended attributes (names and values are bytes)
    def getxattr(self, caller: Caller, ino: int, name: bytes) -> Op[bytes]: ...           # ENODATA
    def setxattr(self, caller: Caller, ino: int, name: bytes, value: bytes, flags: int = 0) -> Op[None]: ...
    def listxattr(self, caller: Caller, ino: int) -> Op[list[bytes]]: ...
    def removexattr(self, caller: Caller, ino: int, name: bytes) -> Op[None]: ...

    # --- the whole
    def statfs(self) -> Op[StatFs]: ...
    def sync(self, caller: Caller) -> Op[None]: ...      # flush everything dirty; run with durable=True
    def flush_due(self, older_than: int) -> Op[None]: ...  # flush files dirty since before that clock value, and batched read records
    def dirty_bytes(self) -> int: ...                    # held in memory; doors flush when it grows past their budget

    # --- path verbs (absolute bytes paths; "follow": a final symlink)
    def resolve(self, caller: Caller, path: bytes, *, follow: bool = True) -> Op[Attr]: ...
    def resolve_parent(self, caller: Caller, path: bytes) -> Op[tuple[Attr, bytes]]: ...  # the directory and the last name


class OpenFile:
    """An open regular file. One object per inode, counted; writes gather in memory until flush, fsync or release."""

    ino: int

    def attr(self) -> Attr: ...                                    # with the dirty size and times
    def read(self, caller: Caller, offset: int, size: int) -> Op[bytes]: ...
    def write(self, caller: Caller, offset: int, data: bytes | memoryview, *, append: bool = False, kill_suid: bool = False) -> Op[int]: ...   # EFBIG; data is copied
    def flush(self, caller: Caller) -> Op[None]: ...               # makes the content visible to every door
    def fsync(self, caller: Caller) -> Op[None]: ...               # run with durable=True
    def release(self, caller: Caller) -> Op[None]: ...             # last close of this open; reaps an unlinked file
    def fallocate(self, caller: Caller, mode: int, offset: int, length: int) -> Op[None]: ...
    def seek(self, caller: Caller, offset: int, whence: int) -> Op[int]: ...              # SEEK_DATA, SEEK_HOLE; ENXIO


class OpenDir:
    """An open directory; reading is stable while names come and go, and holds one page of names at a time."""

    ino: int

    def read(self, caller: Caller, offset: int, limit: int, *, plus: bool = True) -> Op[Sequence[Entry]]: ...   # starts with "." and ".."; [] at the end
