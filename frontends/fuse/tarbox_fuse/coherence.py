"""What other doors change and where they move the head, told to the core and to the kernel, so that it may keep names and
attributes for long.

A thread of its own: a notification can wait for a page that is being read, and who answers reads must not wait for it.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from tarbox_core.drivers.presence import Changes, Presence
from tarbox_core.errors import LayerError, TarboxError
from tarbox_core.filesystem import Filesystem
from tarbox_fuse.kernel import Kernel, tree_of
from tarbox_fuse.moving import Mover

log = logging.getLogger("tarbox.fuse")

_PAUSE: Final = 1.0  # seconds between two looks at who is there


class Follower:
    """Listens to a Presence until it is stopped. `kernel`: None where it cannot be told anything."""

    def __init__(self, fs: Filesystem, presence: Presence, mover: Mover, kernel: Kernel | None) -> None:
        self._fs = fs
        self._presence = presence
        self._mover = mover
        self._kernel = kernel
        self._behind = False  # the head may have moved
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(5 * _PAUSE)

    def _run(self) -> None:
        trouble = ""
        while not self._over.is_set():
            try:
                self._listen()
                trouble = ""
            except TarboxError as error:
                if str(error) != trouble:
                    log.error("listening to other doors: %s; trying again every second", error)
                trouble = str(error)
                self._over.wait(_PAUSE)
            except Exception:
                log.exception("listening to other doors failed")
                self._over.wait(_PAUSE)

    def _listen(self) -> None:
        self._presence.look()
        heard = self._presence.changes(0 if self._presence.asked else _PAUSE)
        self._behind = self._behind or heard.moved or heard.lost
        self._pass_on(heard)
        if self._presence.asked:
            self._pass_on(self._be_quiet())
        elif self._behind:
            self._mover.follow()
        self._behind = False

    def _be_quiet(self) -> Changes:
        """Another door is about to move the head: let nothing be in work or unstored until it has. What was heard meanwhile."""
        try:
            self._mover.write_back()
            self._mover.store()
            with self._mover.alone():
                self._mover.store()
                self._presence.answer()
                heard = self._presence.until_moved(self._over.is_set)
                self._mover.refresh()
        except LayerError:
            if self._presence.asked:
                self._presence.answer(held=False)
            raise
        return heard

    def _pass_on(self, changes: Changes) -> None:
        names = self._fs.session.names
        inos = changes.inos | frozenset(names.inos()) if changes.lost else changes.inos
        if not inos and not changes.lost:
            return
        self._fs.changed_elsewhere(inos)
        if self._kernel is None:
            return
        if changes.names or changes.lost:
            self._forget_names(self._kernel, inos)
        tree = tree_of(self._fs.session.at.generation)
        for ino in inos:
            self._kernel.forget(ino)
            self._kernel.forget(ino | tree)

    def _forget_names(self, kernel: Kernel, inos: frozenset[int]) -> None:
        if not kernel.forget_names():
            for ino in inos:
                seen = self._fs.session.names.of(ino)
                if seen is not None:
                    kernel.forget_name(*seen)
