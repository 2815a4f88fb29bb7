"""The same tree for an event loop of asyncio or trio: each verb is awaited, on an AioDriver. Wants anyio."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

try:
    import anyio
    import anyio.from_thread
    import anyio.to_thread
except ImportError as error:
    raise ImportError("aconnect wants anyio: install tarbox[browser], or anyio itself") from error

from tarbox_core.client import courses, moving, opening, raw, verbs
from tarbox_core.client import layers as told
from tarbox_core.client.courses import Ask, Course
from tarbox_core.client.door import Door, Plan, plan, shown
from tarbox_core.client.failures import failure
from tarbox_core.client.names import Path
from tarbox_core.client.tree import ATTEMPTS
from tarbox_core.client.verbs import Verb
from tarbox_core.drivers import migrate
from tarbox_core.drivers.aio import AioDriver
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.effects import Op
from tarbox_core.errors import ConnectionLost, FsError, RetryableError, TenantError
from tarbox_core.layer import HEAD, Branch, Layer, Switched

P = ParamSpec("P")
F = TypeVar("F")
R = TypeVar("R")


class _Bridge:
    """A driver of the loop, for a thread that the loop waits for."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False, reading: bool = False) -> R:
        if not _is_awaited():
            raise raw.Dropped("a file of a tree on an event loop was dropped, and not closed: what was not flushed is lost")
        result: R = anyio.from_thread.run(partial(self._driver.run, factory, durable=durable, reading=reading))
        return result

    def close(self) -> None:
        """The loop's driver stays."""


def _is_awaited() -> bool:
    """Whether this thread does what a task asked for. What is collected as garbage comes here on any thread: on the loop's, or on
    a worker's when the loop takes it for idle; to wait for the loop there would be for ever."""
    try:
        anyio.from_thread.check_cancelled()
    except (AttributeError, RuntimeError):
        return False
    except BaseException:  # cancelled, as the loop will say
        return True
    return True


def _awaited(verb: Verb[P, R]) -> Callable[Concatenate[AsyncTree, P], Awaitable[R]]:
    """A verb as a method."""

    @wraps(verb.op)
    async def method(self: AsyncTree, /, *args: P.args, **more: P.kwargs) -> R:
        result: R = await self._do(verb, args, more)
        return result

    return method


def _listing(course: Callable[P, Course[F]]) -> Callable[Concatenate[AsyncTree, P], AsyncIterator[F]]:
    """A course as a method that gives what is found, one by one."""

    @wraps(course)
    def method(self: AsyncTree, /, *args: P.args, **more: P.kwargs) -> AsyncIterator[F]:
        return self._play(course(*args, **more))

    return method


class AsyncTree:
    """A tenant's tree, as `aconnect` opens it. See `tree.Tree`: verbs are the same, and awaited."""

    def __init__(self, door: Door, driver: AioDriver) -> None:
        self._door = door
        self._driver = driver

    # --- what is there

    stat = _awaited(verbs.stat)
    exists = _awaited(verbs.exists)
    lexists = _awaited(verbs.lexists)
    is_dir = _awaited(verbs.is_dir)
    is_file = _awaited(verbs.is_file)
    is_symlink = _awaited(verbs.is_symlink)
    readlink = _awaited(verbs.readlink)
    listdir = _awaited(verbs.listdir)
    scandir = _awaited(verbs.scandir)
    walk = _listing(courses.walk)

    async def glob(self, pattern: Path) -> list[str]:
        return [path async for path in self._play(courses.glob(pattern))]

    # --- content

    read_bytes = _awaited(verbs.read_bytes)
    read_text = _awaited(verbs.read_text)
    write_bytes = _awaited(verbs.write_bytes)
    write_text = _awaited(verbs.write_text)
    truncate = _awaited(verbs.truncate)
    copy = _awaited(verbs.copy)

    async def open(
        self, path: Path, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> anyio.AsyncFile[Any]:
        """As Tree.open; the file's methods are awaited, and it is read by `async for`:

            async with await tree.open("/notes") as notes:
                async for line in notes: ...
        """
        wanted = opening.parse(mode)
        raw.check(wanted, buffering, encoding, errors, newline)
        scope = self._door.scope()
        bridge = _Bridge(self._driver if scope is None else scope.runner)
        made = await anyio.to_thread.run_sync(raw.open_file, self._door, bridge, scope, path, wanted)
        return anyio.wrap_file(raw.buffered(made, wanted, buffering, encoding, errors, newline))

    # --- names and attributes

    mkdir = _awaited(verbs.mkdir)
    makedirs = _awaited(verbs.makedirs)
    remove = _awaited(verbs.remove)
    unlink = remove
    rmdir = _awaited(verbs.rmdir)
    rename = _awaited(verbs.rename)
    replace = rename
    symlink = _awaited(verbs.symlink)
    link = _awaited(verbs.link)
    chmod = _awaited(verbs.chmod)
    chown = _awaited(verbs.chown)
    utime = _awaited(verbs.utime)

    async def rmtree(self, path: Path, ignore_errors: bool = False) -> None:
        async for _ in self._play(courses.rmtree(path, ignore_errors)):
            pass

    # --- layers

    layers = _awaited(told.layers)
    branches = _awaited(told.branches)
    changes = _awaited(told.changes)
    diff = _awaited(told.diff)
    history = _awaited(told.history)

    async def checkpoint(self, name: str | None = None, message: str = "") -> Layer:
        return await self._move("a checkpoint", moving.checkpoint(name, message))

    async def switch(self, layer: str) -> Switched:
        return await self._move("a switch", moving.switch(layer))

    async def branch(self, name: str, layer: str = HEAD) -> Branch:
        return await self._move("a branch", moving.branch(name, layer))

    # --- transactions

    @asynccontextmanager
    async def transaction(self, *, durable: bool | None = None) -> AsyncIterator[Self]:
        """As Tree.transaction, of what this task does, and the tasks that it starts inside."""
        self._door.refuse_inside("a transaction")
        async with self._driver.transaction(durable=self._door.plan.durable if durable is None else durable) as inner:
            leave = self._door.enter(inner, await inner.run(self._door.begin))
            try:
                yield self
                await inner.run(self._door.last_records)
            finally:
                leave()

    async def run(self, work: Callable[[Self], Awaitable[R]]) -> R:
        """`await work(tree)` in a transaction, begun anew as by Tree.run."""
        attempt = 0
        while True:
            try:
                async with self.transaction():
                    return await work(self)
            except (RetryableError, ConnectionLost) as error:
                attempt += 1
                if attempt == ATTEMPTS or (isinstance(error, ConnectionLost) and error.committing):
                    raise
                await anyio.sleep(0.01 * attempt * (1 + random.random()))

    # --- the end

    async def close(self) -> None:
        try:
            await self._driver.run(self._door.last_records)
        finally:
            await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<tarbox_core async tree of {self._door.info.name}, branch {self._door.info.head}>"

    # --- waiting

    async def _do(self, verb: Verb[..., R], args: tuple[Any, ...], more: dict[str, Any]) -> R:
        request = self._door.request(verb, args, more)
        try:
            result: R = await (request.runner or self._driver).run(request.factory, durable=request.durable, reading=request.reading)
        except FsError as error:
            raise failure(error) from error
        return result

    async def _play(self, course: Course[F]) -> AsyncIterator[F]:
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
                    answer = await self._do(step.verb, step.args, {})
                except OSError as error:
                    failed = error
            else:
                yield step.what

    async def _move(self, what: str, wanted: moving.Move[R]) -> R:
        self._door.refuse_inside(what)
        return await anyio.to_thread.run_sync(moving.move, self._door, _Bridge(self._driver), wanted)


def _connecting(plan: Callable[P, Plan]) -> Callable[P, Awaitable[AsyncTree]]:
    async def aconnect(*args: P.args, **more: P.kwargs) -> AsyncTree:
        wanted = await anyio.to_thread.run_sync(partial(plan, *args, **more))
        owner = AioDriver(wanted.dsn, pool_size=wanted.pool_size, connection_timeout=wanted.connection_timeout, pooled=True)
        try:
            if wanted.ours:
                await anyio.to_thread.run_sync(_migrate, wanted)
            try:
                info = await owner.run(wanted.find, reading=True)
            except TenantError:
                if not wanted.create:
                    raise
                info = await owner.run(wanted.make)
            driver = owner.under(info.role)
            return AsyncTree(Door(wanted, await driver.run(lambda: wanted.attach(info), reading=True)), driver)
        except BaseException:
            await owner.close()
            raise

    return shown(aconnect, AsyncTree)


def _migrate(wanted: Plan) -> None:
    with SyncDriver(wanted.dsn, pool_size=1) as driver:
        migrate.init(driver)


aconnect = _connecting(plan)
