"""What the kernel keeps of the tree, and how it is told to forget: FUSE's notifications, and node numbers.

A regular file's node number carries the generation of the tree it belongs to, so that after a switch the kernel has
fresh inodes: what it keeps of an old file (pages, size) is never taken for the new one's, and what has it open goes on
reading the old one. Everything else has its inode number: directories, so that a process stays in the one it works in,
symbolic links and special files, which have no content that a switch could change, and what is no part of the tree.
"""

from __future__ import annotations

import errno
import os
from struct import Struct
from typing import Final

from tarbox_core.cache import Names, Recent
from tarbox_fuse import abi

_INVAL_INODE: Final = 2
_INVAL_ENTRY: Final = 3
_INC_EPOCH: Final = 8  # every name is to be looked up again; kernels of 2025 and later
_INODE: Final = Struct("=Qqq")  # inode, offset, length: 0 and 0 are all of it, -1 only the attributes
_ENTRY: Final = Struct("=QII")  # directory, length of the name, flags
_AT_ONCE: Final = 2048  # directories whose attributes a switch makes the kernel forget before it is answered

INO_BITS: Final = 44
BEYOND: Final = 1 << 61  # inode numbers from here on are of no tree that could be switched
_GENERATIONS: Final = (1 << 16) - 1
_INO: Final = (1 << INO_BITS) - 1


def tree_of(generation: int) -> int:
    """The upper bits of the node numbers of that generation's regular files; never 0."""
    return (1 + generation % _GENERATIONS) << INO_BITS


def split(nodeid: int) -> tuple[int, int]:
    """The inode of a node, and its tree as `tree_of` gives it; 0 where its number does not tell."""
    if nodeid >= BEYOND:
        return nodeid, 0
    ino = nodeid & _INO
    return ino, nodeid - ino


class Kernel:
    """The kernel behind a descriptor of /dev/fuse. Names and attributes it forgets without waiting for anybody; `forget`
    and `forget_name` can wait for requests in work."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._has_epoch = True

    def forget(self, nodeid: int) -> None:
        """A node's attributes and pages; pages that a process has changed through a mapping are written out first."""
        self._notify(_INVAL_INODE, _INODE.pack(nodeid, 0, 0))

    def forget_attributes(self, nodeid: int) -> None:
        self._notify(_INVAL_INODE, _INODE.pack(nodeid, -1, 0))

    def forget_names(self) -> bool:
        """All names at once, also that something has none. False from a kernel that cannot."""
        if self._has_epoch:
            self._has_epoch = self._notify(_INC_EPOCH, b"")
        return self._has_epoch

    def forget_name(self, parent: int, name: bytes) -> None:
        self._notify(_INVAL_ENTRY, _ENTRY.pack(parent, len(name), 0) + name + b"\0")

    def _notify(self, code: int, body: bytes) -> bool:
        """False where the kernel does not know the code."""
        try:
            os.writev(self._fd, (abi.OUT_HEADER.pack(abi.OUT_HEADER.size + len(body), code, 0), body))
        except OSError as error:
            # ENOENT, ENOTDIR: the kernel knows nothing of it. ENODEV, EBADF: the mount is gone.
            if error.errno == errno.EINVAL:
                return False
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENODEV, errno.EBADF, errno.EPERM):
                raise
        return True


class Switch:
    """Another tree stands where one stood: the steps in which the kernel comes to know.

    While no request is in work: `at_once`, which waits for nobody. When requests go on: `settle`, where old kernels want
    each name by itself. And once more some time later: `again`, because what a request had been answered just before the
    switch a process may take in only after it.
    """

    def __init__(self, kernel: Kernel, names: Names, folders: Recent) -> None:
        self._kernel = kernel
        self._names = names
        self._folders = [abi.ROOT_ID, *reversed(folders.inos())]
        self._knows = False

    def at_once(self) -> None:
        self._knows = self._kernel.forget_names()
        self._forget(self._folders[:_AT_ONCE])

    def settle(self) -> None:
        if not self._knows:
            for parent, name in self._names.places():
                self._kernel.forget_name(parent, name)

    def again(self) -> None:
        self._kernel.forget_names()
        self._forget(self._folders)

    def _forget(self, folders: list[int]) -> None:
        for ino in folders:
            self._kernel.forget_attributes(ino)
