"""The host's end of a gateway: what one client may ask, on connections of its own. For threads.

The gateway (`gateway`) says what is to be run; here it is run. Each open transaction has a connection, on which the server
itself ends what takes too long. While a client moves a head, the tenant's other doors are kept quiet, as any door would,
and told when it has moved. Not here: what a client may do, and how frames travel.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import TracebackType
from typing import Final, NamedTuple, Self

from tarbox_core.drivers.base import CONNECTION_TIMEOUT
from tarbox_core.drivers.dsn import Dsn, parse_url
from tarbox_core.drivers.presence import Quiet, quiet
from tarbox_core.drivers.refusals import AnswerTooLarge
from tarbox_core.drivers.sync import Pool, SyncDriver
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Query, Rows, Statement
from tarbox_core.errors import ConnectError, ConnectionLost, GatewayError, TarboxError
from tarbox_core.filesystem import Filesystem
from tarbox_core.frames import ANSWER_MAX
from tarbox_core.gateway import STATEMENTS, Drop, Gateway, Grant, Reply, Step
from tarbox_core.types import TenantInfo

POOL_SIZE: Final = 8
LOOK: Final = 1.0  # seconds between two looks at what takes too long
REST: Final = 5.0  # seconds without use after which a connection is given back
CANCEL_AGAIN: Final = 0.25  # seconds; a request to cancel that overtakes its statement has no effect

_log: Final = logging.getLogger("tarbox.gateway")


class Limits(NamedTuple):
    """For how long, in seconds, a client may keep others waiting; the server ends what takes longer."""

    idle: float = 5.0  # between two requests of a transaction
    statement: float = 60.0  # which all of one batch may take together, too
    lock: float = 20.0  # to get one


LIMITS: Final = Limits()


class Served:
    """One client. `tenant`: as attached, whose role its statements run under.

    `exchange` blocks and may run in several threads; one transaction's requests one at a time. `pool_size` bounds the
    transactions open at once, for which a further one waits `connection_timeout` seconds. `synchronous`: every commit waits
    for the disk. No connection is made before one is needed, and none is kept that was not needed for a while.
    """

    def __init__(
        self,
        dsn: Dsn | str,
        tenant: TenantInfo,
        grant: Grant,
        *,
        limits: Limits = LIMITS,
        pool_size: int = POOL_SIZE,
        connection_timeout: float = CONNECTION_TIMEOUT,
        synchronous: bool = False,
        clock: Callable[[], int] = time.time_ns,
        statements: Mapping[str, Statement] = STATEMENTS,
    ) -> None:
        self.tenant = tenant
        self.limits = limits
        self.dsn = parse_url(dsn) if isinstance(dsn, str) else dsn
        self._clock = clock
        settings = {
            "idle_in_transaction_session_timeout": _milliseconds(limits.idle),
            "statement_timeout": _milliseconds(limits.statement),
            "lock_timeout": _milliseconds(limits.lock),
        }

        def connect() -> Wire:
            return Wire(self.dsn, tenant.role, synchronous=synchronous, settings=settings, answer_max=ANSWER_MAX)

        self._pool = Pool(connect, pool_size, connection_timeout)
        self._gateway = Gateway(tenant, grant, clock, statements)
        self._turn = threading.Lock()  # of the gateway, and of what is open
        self._open: dict[int, _Transaction] = {}
        self._watched = False  # by a thread, as long as anything is open or a connection is kept
        self._closed = False

    @property
    def id(self) -> int:
        """By which other doors know what this client changes."""
        return self._gateway.id

    def exchange(self, frame: bytes) -> bytes:
        """The answer to a client's frame. ConnectError: closed."""
        with self._turn:
            if self._closed:
                raise ConnectError("the gateway serves this client no longer")
            told = self._gateway.receive(frame)
            dropped = self._dropped(told)
        if isinstance(told, Step):
            told, dropped = self._run(told)
        for transaction in dropped:
            transaction.interrupt()
            transaction.end()
        return told.frame

    def close(self) -> None:
        """Serve no longer: what runs is cancelled, what is open is rolled back."""
        with self._turn:
            self._closed = True
            left = list(self._open)
        for number in left:
            self._end(number, interrupt=True)
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _dropped(self, told: Reply | Step | Drop) -> list[_Transaction]:
        """What is to be ended before this is told. Taken out under the turn that the gateway told it in: it may give the number to
        another transaction right after."""
        numbers = told.transactions if isinstance(told, Drop) else ()
        return [self._open.pop(number) for number in numbers if number in self._open]

    def _run(self, step: Step) -> tuple[Reply | Drop, list[_Transaction]]:
        with self._turn:
            transaction = self._open.get(step.transaction)
            if transaction is None:
                transaction = self._open[step.transaction] = _Transaction(self._pool, self._quiet, self.limits.idle)
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, name="tarbox-gateway", daemon=True).start()
        try:
            rows = transaction.run(step)
        except BaseException as error:
            if isinstance(error, (ConnectError, ConnectionLost)):
                _log.warning("%s: %s", self.tenant.name, error)  # the client is not told of the database
            self._end(step.transaction)
            with self._turn:
                told = self._gateway.failed(step, _told(error))
            if not isinstance(error, (TarboxError, TypeError, ValueError)):
                raise
            return told, []
        if step.commit:
            self._end(step.transaction)
        with self._turn:
            answer = self._gateway.done(step, rows)
            return answer, self._dropped(answer)

    def _watch(self) -> None:
        """The server ends what takes too long by single statements, and what stands still; here it is had to end what takes too
        long by many of them, and what it has ended gives its place and its connection back, and lets other doors go on."""
        look = min(LOOK, self.limits.statement / 4, self.limits.idle / 4)
        trim = time.monotonic() + REST
        while True:
            time.sleep(look)
            if time.monotonic() > trim:
                trim = time.monotonic() + REST
                self._pool.trim()
            with self._turn:
                if self._closed or not (self._open or self._pool.count):
                    self._watched = False
                    return
                late = [transaction for transaction in self._open.values() if transaction.worked() > self.limits.statement]
                still = [number for number, transaction in self._open.items() if transaction.still()]
                over = [self._open.pop(number) for number in still if self._gateway.ended(number, _stood_still(self.limits.idle))]
            for transaction in over:
                transaction.end()
            for transaction in late:
                transaction.interrupt()

    def _end(self, number: int, *, interrupt: bool = False) -> None:
        with self._turn:
            transaction = self._open.pop(number, None)
        if transaction is not None:
            if interrupt:
                transaction.interrupt()
            transaction.end()

    def _quiet(self, branch: str, until: ExitStack) -> tuple[Quiet, tuple[Query, ...]]:
        """Have the other doors on a branch quiet until the stack unwinds; their patience, and what tells them of the move."""
        fs = Filesystem(replace(self.tenant, head=branch), self._clock, audit=False)
        fs.session.id = self.id
        aside = until.enter_context(SyncDriver(self.dsn, self.tenant.role, pool_size=1))  # to see who else is there
        patience = until.enter_context(quiet(self.dsn, aside, fs))
        fs.session.alone = False  # whatever comes while this one moves is to be told, too
        return patience, fs.session.tell_moved()


class _Transaction:
    """A client's transaction on its connection. Any thread may end it, which waits for the step in work, or interrupt that."""

    def __init__(self, pool: Pool, quieten: Callable[[str, ExitStack], tuple[Quiet, tuple[Query, ...]]], idle: float) -> None:
        self._pool = pool
        self._quieten = quieten
        self._idle = idle
        self._turn = threading.RLock()
        self._mark = threading.Lock()  # of the connection's coming and going
        self._wire: Wire | None = None
        self._interrupted = False  # the connection may get a late request to cancel
        self._began: float | None = None  # when the step in work did, on the monotonic clock
        self._stood_still = math.inf  # since when, on the same
        self._ended = False
        self._patience: Quiet | None = None
        self._tell: tuple[Query, ...] = ()
        self._quiet = ExitStack()

    def run(self, step: Step) -> list[Rows]:
        """The rows of a step. Raises what Wire and `quiet` raise; GatewayError for a transaction that stood still for too long."""
        with self._turn:
            wire = self._ready(step.begin)
            if step.moves is not None and self._patience is None:
                self._patience, self._tell = self._quieten(step.moves, self._quiet)
            if self._patience is not None:
                self._patience.check()
            told = self._tell if step.commit else ()
            self._began = time.monotonic()
            try:
                rows = wire.execute((*step.queries, *told), begin=step.begin, commit=step.commit, durable=step.durable)
            finally:
                self._began = None
            self._stood_still = time.monotonic()
            return rows[: len(step.queries)]

    def _ready(self, begin: bool) -> Wire:
        if begin and self._wire is None and not self._ended:
            self._wire = self._pool.take()
            return self._wire
        if self._wire is not None and self._wire.alive():
            return self._wire
        if self._ended or self.still():
            raise _stood_still(self._idle)
        raise ConnectionLost("the gateway has lost its connection to the database")

    def end(self) -> None:
        """Roll back what is not committed; the other doors go on."""
        with self._turn:
            self._ended = True
            with self._mark:
                wire, self._wire = self._wire, None
            with self._quiet:
                if wire is not None:
                    if self._interrupted:
                        wire.close()
                    self._pool.give(wire)

    def still(self) -> bool:
        """Whether it has waited for its next step for so long that the server ends it."""
        return self._began is None and time.monotonic() - self._stood_still >= self._idle

    def worked(self) -> float:
        """Seconds that the server has worked on the step in work."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def interrupt(self) -> None:
        """Have the server stop the step in work, if there is one, until it has ended; whoever waits for it gets an error."""
        pause = 0.0
        while not self._turn.acquire(timeout=pause):
            pause = CANCEL_AGAIN
            with self._mark:
                wire = self._wire
                self._interrupted = self._interrupted or wire is not None
            if wire is not None:
                with suppress(ConnectError):
                    wire.cancel()
        self._turn.release()


def _stood_still(seconds: float) -> GatewayError:
    return GatewayError("transaction", f"the transaction stood still for {seconds:g} s or more, and was rolled back")


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def _told(error: BaseException) -> Exception:
    """An error as the client may hear of it."""
    if isinstance(error, AnswerTooLarge):
        return GatewayError("too-large", f"an answer of more than {ANSWER_MAX} bytes: ask for less at once")
    if isinstance(error, TarboxError):
        return error
    if isinstance(error, (TypeError, ValueError)):
        return GatewayError("bad-parameters", str(error))
    return ConnectionLost("the gateway was interrupted")
