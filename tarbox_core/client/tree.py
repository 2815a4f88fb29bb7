"""A tenant's tree for threads: each verb run to its end by a SyncDriver."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import TracebackType
from typing import IO, Any, Concatenate, Final, ParamSpec, Self, TypeVar

from tarbox_core.client import courses, moving, opening, raw, verbs
from tarbox_core.client import layers as told
from tarbox_core.client.courses import Ask, Course
from tarbox_core.client.door import Door, Plan, plan, shown
from tarbox_core.client.failures import failure
from tarbox_core.client.names import Path
from tarbox_core.client.verbs import Verb
from tarbox_core.drivers import migrate
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.errors import ConnectionLost, FsError, RetryableError, TenantError
from tarbox_core.layer import HEAD, Branch, Layer, Switched

P = ParamSpec("P")
F = TypeVar("F")
R = TypeVar("R")

ATTEMPTS: Final = 8  # of a transaction that `run` runs


def _blocking(verb: Verb[P, R]) -> Callable[Concatenate[Tree, P], R]:
    """A verb as a method."""

    @wraps(verb.op)
    def method(self: Tree, /, *args: P.args, **more: P.kwargs) -> R:
        result: R = self._do(verb, args, more)
        return result

    return method


def _listing(course: Callable[P, Course[F]]) -> Callable[Concatenate[Tree, P], Iterator[F]]:
    """A course as a method that gives what is found, one by one."""

    @wraps(course)
    def method(self: Tree, /, *args: P.args, **more: P.kwargs) -> Iterator[F]:
        return self._play(course(*args, **more))

    return method


class Tree:
    """A tenant's tree, as `connect` opens it. Verbs are those of `os`, `shutil` and pathlib, and raise what these raise: OSError
    and its kinds; what else can go wrong is a TarboxError.

    Paths are str, bytes or os.PathLike, from the root. May be held for as long as one likes, and used from several threads;
    connections are made when needed, and anew when they were lost. Each verb is a transaction; `transaction` makes one of
    many.
    """

    def __init__(self, door: Door, driver: SyncDriver) -> None:
        self._door = door
        self._driver = driver

    # --- what is there

    stat = _blocking(verbs.stat)
    exists = _blocking(verbs.exists)
    lexists = _blocking(verbs.lexists)
    is_dir = _blocking(verbs.is_dir)
    is_file = _blocking(verbs.is_file)
    is_symlink = _blocking(verbs.is_symlink)
    readlink = _blocking(verbs.readlink)
    listdir = _blocking(verbs.listdir)
    scandir = _blocking(verbs.scandir)
    walk = _listing(courses.walk)

    def glob(self, pattern: Path) -> list[str]:
        return list(self._play(courses.glob(pattern)))

    # --- content

    read_bytes = _blocking(verbs.read_bytes)
    read_text = _blocking(verbs.read_text)
    write_bytes = _blocking(verbs.write_bytes)
    write_text = _blocking(verbs.write_text)
    truncate = _blocking(verbs.truncate)
    copy = _blocking(verbs.copy)

    def open(
        self, path: Path, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> IO[Any]:
        """As builtins.open, but for text that is UTF-8 where nothing else is said. What was written is stored by flush and
        close; an exclusive or an appending writer is safe beside others."""
        wanted = opening.parse(mode)
        raw.check(wanted, buffering, encoding, errors, newline)
        return raw.buffered(self._opened(path, wanted), wanted, buffering, encoding, errors, newline)

    def _opened(self, path: Path, mode: opening.Mode) -> raw.RawFile:
        scope = self._door.scope()
        runner = self._driver if scope is None else scope.runner
        return raw.open_file(self._door, runner, scope, path, mode)

    # --- names and attributes

    mkdir = _blocking(verbs.mkdir)
    makedirs = _blocking(verbs.makedirs)
    remove = _blocking(verbs.remove)
    unlink = remove
    rmdir = _blocking(verbs.rmdir)
    rename = _blocking(verbs.rename)
    replace = rename
    symlink = _blocking(verbs.symlink)
    link = _blocking(verbs.link)
    chmod = _blocking(verbs.chmod)
    chown = _blocking(verbs.chown)
    utime = _blocking(verbs.utime)

    def rmtree(self, path: Path, ignore_errors: bool = False) -> None:
        """Remove a directory and all below it, one name after the other, as shutil.rmtree."""
        for _ in self._play(courses.rmtree(path, ignore_errors)):
            pass

    # --- layers

    layers = _blocking(told.layers)
    branches = _blocking(told.branches)
    changes = _blocking(told.changes)
    diff = _blocking(told.diff)
    history = _blocking(told.history)

    def checkpoint(self, name: str | None = None, message: str = "") -> Layer:
        """Seal what was changed since the last one: the layer it is. LayerError."""
        return self._move("a checkpoint", moving.checkpoint(name, message))

    def switch(self, layer: str) -> Switched:
        """Make the tree what it was in a layer; "-" goes back. What was changed since the last checkpoint is sealed first.
        LayerError."""
        return self._move("a switch", moving.switch(layer))

    def branch(self, name: str, layer: str = HEAD) -> Branch:
        """A new branch on a layer; `connect(branch=name)` opens it. LayerError."""
        return self._move("a branch", moving.branch(name, layer))

    # --- transactions

    @contextmanager
    def transaction(self, *, durable: bool | None = None) -> Iterator[Self]:
        """All that this thread does with the tree inside of the block happens at its end, at once, or where the block raises
        not at all. It sees its own changes, others do not. Files are to be closed inside.

        Others that change the same names and files wait, and so do checkpoints: keep it short. Reading locks nothing: change a
        file first (`utime` will do) where what is read decides what is written. A RetryableError says that
        it got into the way of another; `run` begins it anew then. TransactionError for what has no place inside.
        """
        self._door.refuse_inside("a transaction")
        with self._driver.transaction(durable=self._door.plan.durable if durable is None else durable) as inner:
            leave = self._door.enter(inner, inner.run(self._door.begin))
            try:
                yield self
                inner.run(self._door.last_records)
            finally:
                leave()

    def run(self, work: Callable[[Self], R]) -> R:
        """`work(tree)` in a transaction, begun anew where it got into the way of another, or lost its connection before the commit: it may
        be run several times."""
        attempt = 0
        while True:
            try:
                with self.transaction():
                    return work(self)
            except (RetryableError, ConnectionLost) as error:
                attempt += 1
                if attempt == ATTEMPTS or (isinstance(error, ConnectionLost) and error.committing):
                    raise
                time.sleep(0.01 * attempt * (1 + random.random()))

    # --- the end

    def close(self) -> None:
        """Write what is left of the audit, and close the connections. Files must be closed before."""
        try:
            self._driver.run(self._door.last_records)
        finally:
            self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<tarbox_core tree of {self._door.info.name}, branch {self._door.info.head}>"

    # --- waiting

    def _do(self, verb: Verb[..., R], args: tuple[Any, ...], more: dict[str, Any]) -> R:
        request = self._door.request(verb, args, more)
        try:
            result: R = (request.runner or self._driver).run(request.factory, durable=request.durable, reading=request.reading)
        except FsError as error:
            raise failure(error) from error
        return result

    def _play(self, course: Course[F]) -> Iterator[F]:
        answer: Any = None
        failed: OSError | None = None
        while True:
            try:
                step = course.send(answer) if failed is None else course.throw(failed)
            except StopIteration:
                return
            answer, failed = None, None
            if isinstance(step, Ask):
                try:
                    answer = self._do(step.verb, step.args, {})
                except OSError as error:
                    failed = error
            else:
                yield step.what

    def _move(self, what: str, wanted: moving.Move[R]) -> R:
        self._door.refuse_inside(what)
        return moving.move(self._door, self._driver, wanted)


def _connecting(plan: Callable[P, Plan]) -> Callable[P, Tree]:
    def connect(*args: P.args, **more: P.kwargs) -> Tree:
        wanted = plan(*args, **more)
        owner = SyncDriver(wanted.dsn, pool_size=wanted.pool_size, connection_timeout=wanted.connection_timeout, pooled=True)
        try:
            if wanted.ours:
                migrate.init(owner)
            try:
                info = owner.run(wanted.find, reading=True)
            except TenantError:
                if not wanted.create:
                    raise
                info = owner.run(wanted.make)
            driver = owner.under(info.role)
            return Tree(Door(wanted, driver.run(lambda: wanted.attach(info), reading=True)), driver)
        except BaseException:
            owner.close()
            raise

    return shown(connect, Tree)


connect = _connecting(plan)
