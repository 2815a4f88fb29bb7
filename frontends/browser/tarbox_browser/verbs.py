"""A client of the door of verbs (`talks`), in a thread of its own: what it has the core compute keeps no other client waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

import anyio
from anyio.abc import TaskGroup

from tarbox_browser.feed import Ear
from tarbox_browser.sockets import Conversation, aside
from tarbox_browser.talks import Misused, Talk
from tarbox_core.drivers.presence import Changes

P = ParamSpec("P")
T = TypeVar("T")

CLEARING: Final = 5.0  # seconds that what is cancelled has to clear itself away


class VerbConversation(Conversation):
    async def run(self, ear: Ear) -> None:
        self._beside = Beside("tarbox-verbs")
        self._talk = Talk(self._served.exchange, self.token.scope, _Line(self))
        await super().run(ear)

    async def _listen(self, tasks: TaskGroup) -> None:
        tasks.start_soon(self._beside.do, self._talk.run)
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text: str | None = message.get("text")
            try:
                await self._beside.do(self._talk.take, message["bytes"] if text is None else text)
            except Misused as misused:
                self._code = misused.code, misused.reason
                return

    async def _change(self, changes: Changes) -> None:
        await self._beside.do(self._talk.changed, changes)

    async def _leave(self) -> None:
        with anyio.move_on_after(CLEARING):
            await self._beside.do(self._talk.end)
        await super()._leave()
        await aside(self._beside.end)

    async def said(self, message: str | bytes) -> None:
        await self._send(message)

    async def beyond(self, reason: str, verb: str, path: str) -> None:
        await self._refused(reason, verb=verb, **({"path": path} if path else {}))


class _Line:
    """The conversation, as its Talk knows it on the loop beside."""

    def __init__(self, conversation: VerbConversation) -> None:
        self._conversation = conversation
        self._loop = asyncio.get_running_loop()

    async def send(self, message: str | bytes) -> None:
        await _elsewhere(self._loop, self._conversation.said(message))

    async def refused(self, reason: str, verb: str, path: str) -> None:
        await _elsewhere(self._loop, self._conversation.beyond(reason, verb, path))

    def end(self, code: int, reason: str) -> None:
        self._loop.call_soon_threadsafe(self._conversation.end, code, reason)


class Beside:
    """An event loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def do(self, work: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **more: P.kwargs) -> T:
        """Run it there, awaited from here."""
        return await _elsewhere(self._loop, work(*args, **more))

    def end(self) -> None:
        """Cancel what is left. Waits."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._rest())
        self._loop.close()

    async def _rest(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _elsewhere(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
