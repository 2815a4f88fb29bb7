"""What a mount does now and then beside serving, each thing at its own pace, in the thread that ticks.

Trouble with one is logged, once until it goes well again, and keeps nothing else from being done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tarbox_core.errors import TarboxError

log = logging.getLogger("tarbox.fuse")

FIRST: Final = 60.0  # seconds until the first time, at most


@dataclass(slots=True)
class _Chore:
    name: str
    every: float
    work: Callable[[], bool]
    due: float
    trouble: str = ""


class Chores:
    """`clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._chores: list[_Chore] = []

    def add(self, name: str, every: float, work: Callable[[], bool]) -> None:
        """Do this work every so many seconds; True from it: there is more, for the next tick. `name` completes "trouble with"."""
        self._chores.append(_Chore(name, every, work, self._clock() + min(every, FIRST)))

    def look(self) -> None:
        """Do what is due. To be called about once a second."""
        for chore in self._chores:
            if chore.due > self._clock():
                continue
            more = False
            try:
                more = chore.work()
            except TarboxError as error:
                if str(error) != chore.trouble:
                    log.error("trouble with %s: %s", chore.name, error)
                chore.trouble = str(error)
            except Exception as error:  # a bug must not take the mount with it
                if str(error) != chore.trouble:
                    log.exception("trouble with %s", chore.name)
                chore.trouble = str(error)
            else:
                if chore.trouble:
                    log.warning("no more trouble with %s", chore.name)
                chore.trouble = ""
            chore.due = self._clock() + (0 if more else chore.every)
