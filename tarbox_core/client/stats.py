"""What programs are told of files: os.stat_result, and the entries of a directory."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from tarbox_core.client.names import join, text
from tarbox_core.types import Attr

_SECOND: Final = 10**9
_SECTOR: Final = 512


def stat_result(attr: Attr, block_size: int) -> os.stat_result:
    """As from os.stat. st_dev is 0."""
    a, m, c = attr.atime, attr.mtime, attr.ctime
    whole = (attr.mode, attr.ino, 0, attr.nlink, attr.uid, attr.gid, attr.size, a // _SECOND, m // _SECOND, c // _SECOND)
    more = {
        "st_atime": a / _SECOND, "st_mtime": m / _SECOND, "st_ctime": c / _SECOND, "st_atime_ns": a, "st_mtime_ns": m, "st_ctime_ns": c,
        "st_blksize": block_size, "st_blocks": -(-attr.blocks // _SECTOR), "st_rdev": attr.rdev,
    }  # fmt: skip
    return os.stat_result(whole, more)


class DirEntry(os.PathLike[str]):
    """One name of a directory, as os.DirEntry. All it tells was read with the directory, so it asks nobody.

    `path` is the directory's path, as it was given, with the name.
    """

    __slots__ = ("_attr", "_block_size", "_target", "name", "path")

    def __init__(self, folder: str, name: bytes, attr: Attr, target: Attr | None, block_size: int) -> None:
        self.name = text(name)
        self.path = join(folder, self.name)
        self._attr = attr
        self._target = target  # what a symbolic link leads to; None: nothing
        self._block_size = block_size

    def _of(self, follow: bool) -> Attr | None:
        return self._target if follow and self._attr.is_symlink else self._attr

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        attr = self._of(follow_symlinks)
        return attr is not None and attr.is_dir

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        attr = self._of(follow_symlinks)
        return attr is not None and attr.is_reg

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self._attr.mode)

    def inode(self) -> int:
        return self._attr.ino

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """FileNotFoundError for a link that leads nowhere."""
        attr = self._of(follow_symlinks)
        if attr is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        return stat_result(attr, self._block_size)

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"
