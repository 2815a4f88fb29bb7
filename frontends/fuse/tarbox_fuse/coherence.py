"""What other doors change, told to the kernel, so that it may keep names and attributes for long.

A thread of its own: a notification can wait for a page that is being read, and who answers reads must not wait for it.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from struct import Struct
from typing import Final

from tarbox_core.drivers.presence import Changes, Presence
from tarbox_core.errors import TarboxError
from tarbox_core.filesystem import Filesystem
from tarbox_fuse import abi

log = logging.getLogger("tarbox.fuse")

_INVAL_INODE: Final = 2
_INVAL_ENTRY: Final = 3
_INC_EPOCH: Final = 8  # every name is to be looked up again; kernels of 2025 and later
_INODE: Final = Struct("=Qqq")  # inode, offset, length: 0 and 0 are all of it
_ENTRY: Final = Struct("=QII")  # directory, length of the name, flags
_PAUSE: Final = 1.0  # seconds between two looks at who is there


class Follower:
    """Listens to a Presence until it is stopped, and tells the core and the kernel behind `fd`."""

    def __init__(self, fd: int, fs: Filesystem, presence: Presence) -> None:
        self._fd = fd
        self._fs = fs
        self._presence = presence
        self._has_epoch = True
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(5 * _PAUSE)

    def _run(self) -> None:
        trouble = ""
        while not self._over.is_set():
            try:
                self._presence.look()
                self._pass_on(self._presence.changes(_PAUSE))
                trouble = ""
            except TarboxError as error:
                if str(error) != trouble:
                    log.error("listening to other doors: %s; trying again every second", error)
                trouble = str(error)
                self._over.wait(_PAUSE)
            except Exception:
                log.exception("listening to other doors failed")
                self._over.wait(_PAUSE)

    def _pass_on(self, changes: Changes) -> None:
        names = self._fs.session.names
        inos = changes.inos | frozenset(names.inos()) if changes.lost else changes.inos
        if not inos and not changes.lost:
            return
        self._fs.changed_elsewhere(inos)
        if changes.names or changes.lost:
            self._forget_names(inos)
        for ino in inos:
            self._notify(_INVAL_INODE, _INODE.pack(ino, 0, 0))

    def _forget_names(self, inos: frozenset[int]) -> None:
        if self._has_epoch:
            self._has_epoch = self._notify(_INC_EPOCH, b"")
        if not self._has_epoch:
            for ino in inos:
                seen = self._fs.session.names.of(ino)
                if seen is not None:
                    parent, name = seen
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
