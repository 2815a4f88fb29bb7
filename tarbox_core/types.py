"""The values that operations exchange. Frozen, without behaviour beyond what can be derived from their fields.

Names of files are bytes (any but NUL and "/"), times are int nanoseconds since the epoch, sizes are bytes.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Final, NamedTuple

ROOT_INO: Final = 1
NAME_MAX: Final = 255
PATH_MAX: Final = 4096  # with the terminating NUL: 4,095 bytes can be used
SYMLOOP_MAX: Final = 40
LINK_MAX: Final = 65000
HASH_SIZE: Final = 32
HOLE: Final = bytes(HASH_SIZE)  # the hash that stands for a block never written

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
XATTR_CREATE: Final = 1
XATTR_REPLACE: Final = 2
FALLOC_KEEP_SIZE: Final = 1
FALLOC_PUNCH_HOLE: Final = 2
FALLOC_ZERO_RANGE: Final = 16
SEEK_DATA: Final = 3
SEEK_HOLE: Final = 4
S_IFMT: Final = 0o170000  # the bits of a mode that tell the type; the stat module's are the system's, where WASI has no fifo
S_IFIFO: Final = 0o010000
R_OK: Final = 4
W_OK: Final = 2
X_OK: Final = 1

NOW: Final = -(1 << 63)  # in place of a time: the session's clock, as UTIME_NOW


class Attr(NamedTuple):
    """What stat(2) tells of an inode, plus the layer whose row was read. A tuple, because hot paths build many."""

    ino: int
    mode: int  # with the file type bits (S_IFMT)
    uid: int
    gid: int
    nlink: int
    size: int
    blocks: int  # bytes really stored, not 512-byte units
    rdev: int
    atime: int
    mtime: int
    ctime: int
    layer: int
    parent: int  # of a directory; 0 otherwise

    @property
    def kind(self) -> int:
        """The file type as readdir's d_type (DT_DIR 4, DT_REG 8, DT_LNK 10, ...)."""
        return self.mode >> 12

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_reg(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)


class Entry(NamedTuple):
    """One name of a directory. `offset` is the cookie that continues after it."""

    name: bytes
    ino: int
    kind: int
    offset: int
    attr: Attr | None  # None for "." and ".."


class StatFs(NamedTuple):
    """What statvfs(3) tells: sizes in bytes, not blocks."""

    block_size: int
    total: int
    free: int
    files: int
    files_free: int
    name_max: int


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf an operation runs; recorded in the audit and, where the session enforces, checked."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    pid: int = 0

    def in_group(self, gid: int) -> bool:
        return gid == self.gid or gid in self.groups


@dataclass(frozen=True, slots=True)
class TenantInfo:
    """A tenant and where its head stands, as read by `tenant.attach`."""

    id: int
    name: str
    title: str  # the human name given with --name; may be empty
    role: str  # the database role that sees this tenant's rows and no others
    block_size: int
    max_file_size: int
    created_at: int  # ns
    head: str
    layer: int
    visible: tuple[tuple[int, int], ...]  # half-open ranges of stamps that the head sees
    epoch: int = 0  # grows whenever the head moves
