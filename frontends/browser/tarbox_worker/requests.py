"""The page's requests: each is a task that answers once, tells events before that, and can be cancelled."""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from types import UnionType
from typing import Any, Final, Protocol, get_args, get_origin, get_type_hints

from tarbox_core.errors import FsError, LayerError, ScopeError, TarboxError
from tarbox_worker.door import Door
from tarbox_worker.storing import Source
from tarbox_worker.values import Refused, Value, failure
from tarbox_worker.verbs import VERBS, Desk

_LARGEST: Final = 1 << 53  # of numbers that JavaScript has exactly
_CANCELLED: Final[Value] = {"error": {"code": "cancelled", "message": "cancelled", "errno": None}}
_log = logging.getLogger("tarbox.worker")


class Page(Protocol):
    """Who asks."""

    def post(self, message: Value) -> None:
        """Take an answer or an event."""
        ...

    def put(self, number: int, data: bytes) -> None:
        """Take bytes that belong to the answer to a request, in order, before it comes."""
        ...

    async def ready(self) -> None:
        """Returns when it has room for more."""
        ...

    async def refused(self, reason: str, verb: str, error: TarboxError) -> None:
        """Hear of a request that was for more than is granted: `path`, what is outside of the door's scope; `read-only`, a change."""
        ...


class Request:
    """One request; what verbs.Work wants."""

    def __init__(self, number: int, desk: Desk, page: Page, source: Source | None) -> None:
        self.desk = desk
        self.source = source
        self._number = number
        self._page = page

    def sink(self, data: bytes) -> None:
        self._page.put(self._number, data)

    async def ready(self) -> None:
        await self._page.ready()

    def tell(self, event: str, **more: Any) -> None:
        self._page.post({"event": event, "id": self._number, **more})


class Requests:
    """All that are in work, `at_once` of them really: the others wait their turn. `verbs`: what may be asked, where that is not
    everything; the rest is told to be outside of the door's scope."""

    def __init__(self, door: Door, page: Page, *, verbs: Collection[str] = VERBS.keys(), at_once: int = 256) -> None:
        self._door = door
        self._desk = Desk(door)
        self._page = page
        self._verbs = verbs
        self._turns = asyncio.Semaphore(at_once)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._beginning = asyncio.Lock()
        self._begun = False

    def __contains__(self, number: int) -> bool:
        """Whether a request of this number has no answer yet."""
        return number in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    def ask(self, number: int, verb: str, arguments: dict[str, Any], source: Source | None = None) -> asyncio.Task[None]:
        """Take a request, of a number that no other in work has. The task ends when it is answered."""
        request = Request(number, self._desk, self._page, source)
        task = asyncio.ensure_future(self._answer(number, verb, arguments, request))
        self._tasks[number] = task
        task.add_done_callback(lambda task: self._over(number, task))
        return task

    def cancel(self, number: int) -> None:
        """End a request: what it began is rolled back or cleared away, and then its answer is the error `cancelled`."""
        if task := self._tasks.get(number):
            task.cancel()

    def _over(self, number: int, task: asyncio.Task[None]) -> None:
        del self._tasks[number]
        if task.cancelled():  # before it began, so that it has not answered
            self._page.post({"id": number, **_CANCELLED})

    async def end(self) -> None:
        """Cancel all, and wait until nothing is left of them."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._door.flush()

    async def _answer(self, number: int, verb: str, arguments: dict[str, Any], request: Request) -> None:
        answer: Value = _CANCELLED
        with suppress(asyncio.CancelledError):
            async with self._turns:
                answer = await self._told(verb, arguments, request)
                await self._page.ready()
        self._page.post({"id": number, **answer})

    async def _told(self, verb: str, arguments: dict[str, Any], request: Request) -> Value:
        try:
            await self._begin()
            return {"result": await self._result(verb, arguments, request)}
        except Exception as error:
            if isinstance(error, ScopeError):
                await self._page.refused("path", verb, error)
            elif isinstance(error, FsError | LayerError) and error.errno == errno.EROFS and self._door.welcome.read_only:
                await self._page.refused("read-only", verb, error)
            told = failure(error)
            if told["code"] == "internal":
                _log.exception("%s failed", verb)
            return {"error": told}

    async def _result(self, verb: str, arguments: dict[str, Any], request: Request) -> Value:
        if verb not in VERBS:
            raise Refused(f"there is no verb {verb}")
        if verb not in self._verbs:
            raise ScopeError(errno.EACCES, verb)
        _require(verb, arguments)
        return await VERBS[verb](request, **arguments)

    async def _begin(self) -> None:
        async with self._beginning:
            if not self._begun:
                await self._door.begin()
                self._begun = True


def _require(verb: str, arguments: dict[str, Any]) -> None:
    """Refuse what a verb does not take: names, and values of other types than it says."""
    signature, kinds = _taken(verb)
    try:
        signature.bind(None, **arguments)
    except TypeError as error:
        raise Refused(f"{verb}: {error}") from None
    for name, value in arguments.items():
        if not _is(value, kinds[name]):
            raise Refused(f"{verb}: {name} cannot be {type(value).__name__} {str(value)[:100]!r}")


@cache
def _taken(verb: str) -> tuple[inspect.Signature, dict[str, Any]]:
    return inspect.signature(VERBS[verb]), get_type_hints(VERBS[verb])


def _is(value: object, kind: Any) -> bool:
    """Whether a value out of JSON is of a type as verbs name theirs."""
    if get_origin(kind) is UnionType:
        return any(_is(value, each) for each in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is(each, get_args(kind)[0]) for each in value)
    if kind is int or kind is float:
        return isinstance(value, (int, kind)) and type(value) is not bool and abs(value) < _LARGEST
    return type(value) is kind
