"""The page's requests: each is a task that answers once, tells events before that, and can be cancelled."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Protocol

from tarbox_worker.door import Door
from tarbox_worker.storing import Source
from tarbox_worker.values import Refused, Value, failure
from tarbox_worker.verbs import VERBS, Desk

_log = logging.getLogger("tarbox.worker")


class Page(Protocol):
    """Who asks."""

    def post(self, message: str) -> object:
        """Take an answer or an event, as JSON."""
        ...

    def put(self, number: int, data: bytes) -> object:
        """Take bytes that belong to the answer to a request, in order, before it comes."""
        ...


class Request:
    """One request; what verbs.Work wants."""

    def __init__(self, number: int, desk: Desk, page: Page, data: bytes, source: Source | None) -> None:
        self.desk = desk
        self.data = data
        self._number = number
        self._page = page
        self._source = source

    @property
    def source(self) -> Source:
        if self._source is None:
            raise Refused("no file came along")
        return self._source

    def sink(self, data: bytes) -> None:
        self._page.put(self._number, data)

    def tell(self, event: str, **more: Any) -> None:
        self._page.post(json.dumps({"event": event, "id": self._number, **more}))


class Requests:
    """All that are in work."""

    def __init__(self, door: Door, page: Page) -> None:
        self._door = door
        self._desk = Desk(door)
        self._page = page
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._beginning = asyncio.Lock()
        self._begun = False

    def ask(self, number: int, verb: str, arguments: str, data: bytes = b"", source: Source | None = None) -> None:
        """Take a request; `arguments`: a JSON object."""
        request = Request(number, self._desk, self._page, data, source)
        task = asyncio.ensure_future(self._answer(number, lambda: VERBS[verb](request, **json.loads(arguments)), verb))
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number, None))

    def cancel(self, number: int) -> None:
        """End a request: what it began is rolled back or cleared away, and then its answer is the error `cancelled`."""
        if task := self._tasks.get(number):
            task.cancel()

    async def _answer(self, number: int, begin: Callable[[], Any], verb: str) -> None:
        answer: Value
        try:
            if verb not in VERBS:
                raise Refused(f"there is no verb {verb}")
            try:
                work = begin()
            except (TypeError, ValueError) as error:
                raise Refused(f"{verb}: {error}") from error
            try:
                await self._begin()
                answer = {"result": await work}
            finally:
                work.close()
        except asyncio.CancelledError:
            answer = {"error": {"code": "cancelled", "message": "cancelled", "errno": None}}
        except Exception as error:
            told = failure(error)
            if told["code"] == "internal":
                _log.exception("%s failed", verb)
            answer = {"error": told}
        self._page.post(json.dumps({"id": number, **answer}))

    async def _begin(self) -> None:
        async with self._beginning:
            if not self._begun:
                await self._door.begin()
                self._begun = True
