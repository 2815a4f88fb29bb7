"""Which doors that keep files open are there: each holds an advisory lock on a connection of its own.

The server drops the lock with the connection, so a door that was killed is gone at once. A session learns from it
whether it is alone, in which case what it unlinks can be removed right away. Where it is not, it tells the others which
inodes it changes; they hear of it on the same connection.

Who is about to move a head asks the others on it to be `quiet` first: to store what is dirty and to hold their requests
until the move is over, so that each write is in the layer that was current when it was made. What is said on the feed:

    ID 0|1 INODE...     these inodes were changed; 1: and names, too
    ID 2                a head moved
    ID hold N HEAD      be quiet, you who stand on the head of that number
    ID held N           I am, or stand elsewhere
    ID cannot N         I have what cannot be stored
    ID go N             it is over

An ID is a session's. Numbers only: any role may listen.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from tarbox_core import statements as sql
from tarbox_core.cache import Recent
from tarbox_core.drivers.base import Driver
from tarbox_core.effects import Op, finish
from tarbox_core.errors import ConnectionLost, FsError, LayerError, TarboxError
from tarbox_core.filesystem import Filesystem, OpenFile
from tarbox_core.session import Session, feed, lock_key, presence_lock

if TYPE_CHECKING:
    from tarbox_core.drivers.dsn import Dsn
    from tarbox_core.drivers.wire import Wire

R = TypeVar("R")

NOTICED_AFTER: Final = 2.5  # seconds within which the doors that are there learn of a new one; each looks once a second
QUIET_FOR: Final = 20.0  # seconds for which a door that was asked to be quiet is; whoever asked has less
MARGIN: Final = 2.0  # seconds less
_LOOK: Final = 0.25  # seconds between two looks at who is still there


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


def _present(tenant: int) -> Op[set[int]]:
    """The connections of the doors that are there."""
    rows = yield from finish(sql.PRESENT_PIDS(presence_lock(tenant)))
    return set(rows[0][0][0])


def _quiet_lock(tenant: int) -> int:
    """What a door holds while it keeps the others quiet."""
    return lock_key(tenant, "Q", 0)


def _head(s: Session) -> int:
    return lock_key(s.tenant, "H", s.layer if s.view else 0, s.head.encode())


def store(fs: Filesystem, flush: Callable[[OpenFile], object]) -> None:
    """Store what is dirty, by `flush` of each file, as a door does before a head moves. LayerError names the first that cannot be."""
    for opened in fs.dirty_files(1 << 62):
        try:
            flush(opened)
        except TarboxError as error:
            path = fs.session.names.path(opened.ino) or f"inode {opened.ino}"
            number = error.errno if isinstance(error, FsError) else errno.EIO
            raise LayerError(number, f"{path} cannot be stored, so no layer is made or switched: {error}") from error


class Changes(NamedTuple):
    """What other doors changed. `names`: names may stand for something else; `moved`: so may heads; `lost`: not all was heard."""

    inos: frozenset[int] = frozenset()
    names: bool = False
    moved: bool = False
    lost: bool = False

    def and_then(self, later: Changes) -> Changes:
        return Changes(self.inos | later.inos, self.names or later.names, self.moved or later.moved, self.lost or later.lost)


class Presence:
    """This door's own lock, and its ear. Not for several threads, but for `pid`, `quiet` and `abort`.

    `attentive`: the door runs its operations one after the other, and what is heard goes to `changed_elsewhere` as soon as the
    one in work is over. Then, as long as it hears, the session keeps more in mind. `told` hears all at once, and from whom (the id
    of a session); for a door that stands in for several.
    """

    def __init__(self, dsn: Dsn, fs: Filesystem, *, attentive: bool = False, told: Callable[[int, Changes], None] | None = None) -> None:
        self._dsn = dsn
        self._fs = fs
        self._wire: Wire | None = None
        self._deaf = False  # since the last connection was lost
        self._attentive = attentive
        self._told = told
        self._asked: tuple[int, int] | None = None  # who wants quiet, and the number to answer with
        self.pid = 0  # of the connection that is seen by others

    def enter(self) -> None:
        """Be seen. Waits until the doors that are there have noticed, so that none removes what is opened here."""
        self.look()
        noticed = time.monotonic() + NOTICED_AFTER
        while not self._fs.session.alone and (left := noticed - time.monotonic()) > 0:
            self.changes(left)
            if self.asked:
                self.answer()  # nothing is open here yet

    def look(self) -> None:
        """See who is there; to be called about once a second. A lost connection is made anew."""
        s = self._fs.session
        key = presence_lock(s.tenant)
        with self._losing():
            if self._wire is None or not self._wire.alive():
                self._deaf = self._deaf or self._wire is not None
                self._wire = _connect(self._dsn, self._fs)
                self._wire.script(f"listen {feed(s.tenant)}")
                stands_on = s.view_lock(s.layer) if s.view else s.branch_lock(s.head)
                self._wire.execute([sql.PRESENT(key), sql.PRESENT(stands_on)], begin=True, commit=True)
                self.pid = self._wire.pid
            count = self._wire.execute([sql.PRESENCES(key)], begin=True, commit=True)[0][0][0]
        s.alone = count == 0
        if self._attentive and s.leaves is None:
            s.leaves = Recent()

    def changes(self, timeout: float) -> Changes:
        """What others changed, as soon as anything is heard, be it of nothing new; empty after `timeout` seconds. To be called
        after `look`."""
        wire = self._connected()
        inos: set[int] = set()
        names, moved, lost, self._deaf = False, False, self._deaf, False
        with self._losing():
            heard = wire.wait_notification(0 if lost else timeout)
            lost = lost or len(wire.notifications) + 1 >= (wire.notifications.maxlen or 0)
            while heard is not None:
                who, what, *numbers = heard.payload.split()
                if int(who) == self._fs.session.id:
                    pass
                elif what in ("0", "1"):
                    names = names or what == "1"
                    inos.update(map(int, numbers))
                    if self._told is not None:
                        self._told(int(who), Changes(frozenset(map(int, numbers)), names=what == "1"))
                else:
                    moved = moved or what == "2"
                    self._heed(int(who), what, [int(number) for number in numbers])
                    if self._told is not None and what == "2":
                        self._told(int(who), Changes(moved=True))
                heard = wire.wait_notification(0)
        return Changes(frozenset(inos), names, moved, lost)

    def _connected(self) -> Wire:
        if self._wire is None:
            raise ConnectionLost("not connected")
        return self._wire

    # --- being quiet

    @property
    def asked(self) -> bool:
        """Whether another door is about to move this one's head, and waits for `answer`."""
        return self._asked is not None

    def _heed(self, who: int, what: str, numbers: list[int]) -> None:
        if what == "hold":
            self._asked = who, numbers[0]
            if numbers[1] != _head(self._fs.session):
                self.answer()
                self._asked = None
        elif self._asked is not None and ((what == "2" and self._asked[0] == who) or (what == "go" and self._asked[1] == numbers[0])):
            self._asked = None

    def answer(self, *, held: bool = True) -> None:
        """Say that this door is quiet, or that it cannot be."""
        assert self._asked is not None
        word = "held" if held else "cannot"
        with self._losing():
            _say(self._connected(), self._fs.session, word, self._asked[1])

    def until_moved(self, over: Callable[[], bool]) -> Changes:
        """What was heard until the door that asked is done or gone, its time is up, or `over`. Another may ask by then."""
        found = Changes()
        asked = self._asked
        deadline = time.monotonic() + QUIET_FOR
        while self._asked == asked and not over() and (left := deadline - time.monotonic()) > 0:
            found = found.and_then(self.changes(min(_LOOK, left)))
            with self._losing():
                lives = self._connected().execute([sql.PRESENCES(_quiet_lock(self._fs.tenant.id))], begin=True, commit=True)[0][0][0]
            if not lives:
                break
        if self._asked == asked:
            self._asked = None
        return found

    def quiet(self, driver: Driver) -> AbstractContextManager[Quiet]:
        """The other doors quiet, while this one moves its head; see `quiet`. From any thread."""
        return quiet(self._dsn, driver, self._fs, mine=self.pid)

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

    def abort(self) -> None:
        """End another thread's wait in `changes`, which raises ConnectionLost."""
        wire = self._wire
        if wire is not None:
            wire.abort()

    def leave(self) -> None:
        self._asked = None
        self._fs.session.leaves = None
        if self._wire is not None:
            self._wire.close()
            self._wire = None


def _connect(dsn: Dsn, fs: Filesystem) -> Wire:
    from tarbox_core.drivers.wire import Wire  # which a client of a gateway does without

    return Wire(dsn, fs.tenant.role)


def _say(wire: Wire, s: Session, *words: object) -> None:
    wire.execute([sql.TELL(feed(s.tenant), " ".join(map(str, (s.id, *words))))], begin=True, commit=True)


class Quiet:
    """Other doors' patience."""

    def __init__(self, until: float | None) -> None:
        self._until = until  # None: there is nobody who waits

    def check(self) -> None:
        """LayerError (EBUSY) where the patience may be over before what is sent now is committed."""
        if self._until is not None and time.monotonic() > self._until:
            raise LayerError(errno.EBUSY, "this took longer than other mounts of the tenant can be made to wait; nothing was changed: try again")

    def guard(self, op: Op[R]) -> Op[R]:
        """The operation, refused (LayerError, EBUSY) where the patience may be over before it is committed."""
        try:
            batch = next(op)
            while True:
                self.check()
                try:
                    rows = yield batch
                except Exception as error:
                    batch = op.throw(error)
                else:
                    batch = op.send(rows)
        except StopIteration as done:
            result: R = done.value
            return result
        finally:
            op.close()


@contextmanager
def quiet(
    dsn: Dsn, driver: Driver, fs: Filesystem, *, mine: int = 0, timeout: float = 10.0, listener: Callable[[], Wire] | None = None
) -> Iterator[Quiet]:
    """Around an operation that moves a head (checkpoint, switch, branch): the other doors on it that keep files open have
    stored what is dirty, and hold their requests until the commit or the end of the block. The operation runs under
    `guard`, durably:

        with quiet(dsn, driver, fs) as others:
            driver.run(lambda: others.guard(fs.checkpoint(caller, name)), durable=True)

    Costs one trip where no other door is there. `mine`: the connection of this door's own presence. `listener` makes the
    connection that hears their answers. LayerError (EBUSY) where a door does not answer within `timeout` seconds, or says
    that it cannot.
    """
    s = fs.session

    def others() -> set[int]:
        return driver.run(lambda: _present(s.tenant)) - {mine}

    if not others():
        yield Quiet(None)
        return
    s.alone = False  # so that the move is told
    wire = _connect(dsn, fs) if listener is None else listener()
    try:
        wire.script(f"listen {feed(s.tenant)}")
        deadline = time.monotonic() + timeout
        while not wire.execute([sql.QUIET(_quiet_lock(s.tenant))], begin=True, commit=True)[0][0][0]:
            if time.monotonic() > deadline:
                raise LayerError(errno.EBUSY, "another door of the tenant is making or switching layers: try again")
            time.sleep(0.02)
        until = time.monotonic() + QUIET_FOR - MARGIN
        number = s.clock()
        try:
            _say(wire, s, "hold", number, _head(s))
            _await_answers(wire, number, others, time.monotonic() + timeout, timeout)
            yield Quiet(until)
        finally:
            with suppress(TarboxError):
                _say(wire, s, "go", number)
    finally:
        wire.close()


def _await_answers(wire: Wire, number: int, others: Callable[[], set[int]], deadline: float, timeout: float) -> None:
    answered: set[int] = set()
    while missing := others() - answered:
        if time.monotonic() > deadline:
            who = "another mount of the tenant does" if len(missing) == 1 else f"{len(missing)} other mounts of the tenant do"
            raise LayerError(errno.EBUSY, f"{who} not answer within {timeout:g} s, so what is not stored there cannot be saved; nothing was changed")
        heard = wire.wait_notification(_LOOK)
        while heard is not None:
            _, what, *numbers = heard.payload.split()
            if what == "held" and int(numbers[0]) == number:
                answered.add(heard.pid)
            elif what == "cannot" and int(numbers[0]) == number:
                raise LayerError(errno.EBUSY, "another mount of the tenant has changes that it cannot store (its log tells why); nothing was changed")
            heard = wire.wait_notification(0)
