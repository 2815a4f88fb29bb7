"""Who may do what: the permission rules of POSIX and Linux, on attributes already read. Pure; asks no database."""

from __future__ import annotations

import errno
import stat

from tarbox_core.errors import FsError
from tarbox_core.types import R_OK, W_OK, X_OK, Attr, Caller


def may(caller: Caller, attr: Attr, mask: int) -> bool:
    """Whether the mode bits grant `mask` (R_OK | W_OK | X_OK). Root needs an x bit to execute a file, nothing else."""
    if caller.uid == 0:
        return not mask & X_OK or attr.is_dir or bool(attr.mode & 0o111)
    if caller.uid == attr.uid:
        granted = attr.mode >> 6
    elif caller.in_group(attr.gid):
        granted = attr.mode >> 3
    else:
        granted = attr.mode
    return not mask & ~granted & (R_OK | W_OK | X_OK)


def require(caller: Caller, attr: Attr, mask: int, subject: bytes | None = None) -> None:
    if not may(caller, attr, mask):
        raise FsError(errno.EACCES, attr.ino if subject is None else subject)


def require_owner(caller: Caller, attr: Attr) -> None:
    if caller.uid not in (0, attr.uid):
        raise FsError(errno.EPERM, attr.ino)


def require_removal(caller: Caller, parent: Attr, child: Attr, name: bytes) -> None:
    """Taking a name out of a directory: write and search there, and in a sticky one ownership of either."""
    require(caller, parent, W_OK | X_OK, name)
    if parent.mode & stat.S_ISVTX and caller.uid not in (0, child.uid, parent.uid):
        raise FsError(errno.EPERM, name)


def without_suid(mode: int) -> int:
    """The mode after someone wrote to a file or changed its owner: no set-uid, and no set-gid that executes."""
    mode &= ~stat.S_ISUID
    return mode & ~stat.S_ISGID if mode & stat.S_IXGRP else mode
