"""The head moves under a mount: by what is written to a control file, by an automatic checkpoint, by another door.

In every case it moves while no request is in work and nothing is left unstored, so that each write is in the layer that
was current when it was made; and before requests go on, the kernel knows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from tarbox_core.drivers.presence import Quiet, store
from tarbox_core.effects import Op
from tarbox_core.errors import TarboxError
from tarbox_core.types import Caller
from tarbox_fuse.kernel import BEYOND, Kernel, Switch, tree_of

if TYPE_CHECKING:
    from tarbox_core.drivers.presence import Presence
    from tarbox_fuse.verbs import Verbs

R = TypeVar("R")

_PATIENCE: Final = 8.0  # seconds for requests in work to end; less than who asks us to be quiet has
_REPEATS: Final = 2  # looks after a switch at which the kernel is told again


class Mover:
    """Moves the head of one mount, and follows where others move it. `kernel`: None where it cannot be told anything."""

    def __init__(self, verbs: Verbs, kernel: Kernel | None, presence: Presence | None) -> None:
        self._verbs = verbs
        self._fs = verbs.fs
        self._gate = verbs.gate
        self._kernel = kernel
        self._presence = presence
        self._one = threading.Lock()  # of who moves the head from here
        self._shown = verbs.fs.session.at.generation  # the tree that the kernel knows of
        self._switch: Switch | None = None  # the last one
        self._repeats = 0

    def move(self, factory: Callable[[], Op[R]]) -> R:
        """Run an operation that may move the head, durably. To be called outside of the gate.

        Besides what the operation raises: LayerError where a dirty file cannot be stored (with its errno), where requests
        in work do not end, or other doors do not come to rest (EBUSY). Nothing is changed then.
        """
        self._verbs.before_wait()
        with self._one:
            self.write_back()
            self.store()
            with self._others_quiet() as others, self.alone():
                self.store()  # the little that came meanwhile
                try:
                    return self._verbs.run_durable(lambda: others.guard(factory()))
                except TarboxError:
                    with suppress(TarboxError):
                        self.refresh()  # it may be the answer alone that was lost
                    raise

    def _others_quiet(self) -> AbstractContextManager[Quiet]:
        return nullcontext(Quiet(None)) if self._presence is None else self._presence.quiet(self._verbs.driver)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No request in work. Where another tree stands at the end, the kernel knows before requests go on."""
        switch: Switch | None = None
        try:
            with self._gate.alone(_PATIENCE):
                try:
                    yield
                finally:
                    switch = self._show()
        finally:
            if switch is not None:
                switch.settle()

    def _show(self) -> Switch | None:
        session = self._fs.session
        if self._kernel is None or session.at.generation == self._shown:
            return None
        self._shown = session.at.generation
        self._switch = Switch(self._kernel, *session.outdated)
        self._repeats = _REPEATS
        self._switch.at_once()
        return self._switch

    def write_back(self) -> None:
        """What processes changed through mappings comes as writes; other requests go on meanwhile."""
        if self._kernel is not None:
            tree = tree_of(self._fs.session.at.generation)
            for ino in self._verbs.written():
                if ino < BEYOND:
                    self._kernel.forget(ino | tree)

    def store(self) -> None:
        """Store what is dirty, each file in an operation of its own. LayerError names the first that cannot be."""
        store(self._fs, self._verbs.store)

    def refresh(self) -> None:
        self._verbs.run(self._fs.refresh)

    def follow(self) -> None:
        """Go where another door moved the head."""
        with self.alone():
            self.refresh()

    def look(self) -> None:
        """About once a second: see that the kernel knows of the tree that operations see, and tell it again after a switch."""
        if self._kernel is None:
            return
        if self._fs.session.at.generation != self._shown:
            self.follow()
        elif self._switch is not None:
            self._switch.again()
            self._repeats -= 1
            if not self._repeats:
                self._switch = None

    def checkpoint_when_due(self, every: int, now: int) -> None:
        """An automatic checkpoint, when the last one was made that long ago (ns) and something changed since."""
        begun, changed = self._verbs.run(self._fs.begun)
        if changed and now - begun >= every:
            self.move(lambda: self._fs.checkpoint(Caller(), automatic=True))
