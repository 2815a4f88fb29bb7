"""Which doors that keep files open are there: each holds an advisory lock on a connection of its own.

The server drops the lock with the connection, so a door that was killed is gone at once. A session learns from it
whether it is alone, in which case what it unlinks can be removed right away. Where it is not, it tells the others which
inodes it changes; they hear of it on the same connection.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tarbox_core import statements as sql
from tarbox_core.drivers.base import Driver
from tarbox_core.drivers.dsn import Dsn
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Op, finish
from tarbox_core.errors import ConnectionLost, TarboxError
from tarbox_core.filesystem import Filesystem
from tarbox_core.session import feed, presence_lock

NOTICED_AFTER = 2.5  # seconds within which the doors that are there learn of a new one; each looks once a second


def _count(tenant: int) -> Op[int]:
    rows = yield from finish(sql.PRESENCES(presence_lock(tenant)))
    count: int = rows[0][0][0]
    return count


def doors(driver: Driver, tenant: int) -> int:
    """How many doors that keep files open a tenant has. Any role may ask."""
    return driver.run(lambda: _count(tenant))


def look(driver: Driver, fs: Filesystem) -> None:
    """For a door that keeps nothing open: is any other there that does?"""
    fs.session.alone = doors(driver, fs.tenant.id) == 0


class Changes(NamedTuple):
    """What other doors changed. `names`: names may stand for something else; `lost`: not all was heard."""

    inos: frozenset[int]
    names: bool
    lost: bool


class Presence:
    """This door's own lock, and its ear. Not for several threads."""

    def __init__(self, dsn: Dsn, fs: Filesystem) -> None:
        self._dsn = dsn
        self._fs = fs
        self._wire: Wire | None = None
        self._deaf = False  # since the last connection was lost

    def enter(self) -> None:
        """Be seen. Waits until the doors that are there have noticed, so that none removes what is opened here."""
        self.look()
        if not self._fs.session.alone:
            time.sleep(NOTICED_AFTER)

    def look(self) -> None:
        """See who is there; to be called about once a second. A lost connection is made anew."""
        key = presence_lock(self._fs.tenant.id)
        with self._losing():
            if self._wire is None or not self._wire.alive():
                self._deaf = self._deaf or self._wire is not None
                self._wire = Wire(self._dsn, self._fs.tenant.role)
                self._wire.script(f"listen {feed(self._fs.tenant.id)}")
                self._wire.execute([sql.PRESENT(key)], begin=True, commit=True)
            count = self._wire.execute([sql.PRESENCES(key)], begin=True, commit=True)[0][0][0]
        self._fs.session.alone = count == 0

    def changes(self, timeout: float) -> Changes:
        """What others changed, as soon as anything is heard; empty after `timeout` seconds. To be called after `look`."""
        wire = self._wire
        if wire is None:
            raise ConnectionLost("not connected")
        inos: set[int] = set()
        names, lost, self._deaf = False, self._deaf, False
        with self._losing():
            heard = wire.wait_notification(0 if lost else timeout)
            lost = lost or len(wire.notifications) + 1 >= (wire.notifications.maxlen or 0)
            while heard is not None:
                who, named, *numbers = heard.payload.split()
                if int(who) != self._fs.session.id:
                    names = names or named == "1"
                    inos.update(map(int, numbers))
                heard = wire.wait_notification(0)
        return Changes(frozenset(inos), names, lost)

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """What fails here costs the connection: others may come and change things unseen until there is a new one."""
        try:
            yield
        except TarboxError:
            self._fs.session.alone = False
            self._deaf = True
            self.leave()
            raise

    def leave(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None
