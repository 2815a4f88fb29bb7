"""A gateway's client. Each binary message is a frame; its answer goes back under the same number, in whichever order they are ready.

Frames that change what is open wait for the database, so each is answered in a thread. While as many are in work as may be, no
further one is read; an answer that the client does not take keeps its place. What other doors change is told between answers.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from tarbox_browser.sockets import FAILED, IN_WORK, WRONG_KIND, Conversation
from tarbox_core import frames
from tarbox_core.drivers.presence import Changes
from tarbox_core.errors import ConnectError, GatewayError

_SUSPECT: Final = frozenset(("not-allowed", "foreign", "bad-hash", "unknown-statement"))  # what no client of ours ever asks for
_log: Final = logging.getLogger("tarbox.browser")


class FrameConversation(Conversation):
    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self._slots = anyio.Semaphore(IN_WORK)
        self._threads = anyio.CapacityLimiter(IN_WORK)

    async def _listen(self, tasks: TaskGroup) -> None:
        while True:
            await self._slots.acquire()
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            frame = message.get("bytes")
            if frame is None:
                self._code = WRONG_KIND, "frames are binary messages"
                return
            tasks.start_soon(self._answer, frame)

    async def _answer(self, frame: bytes) -> None:
        try:
            answer = await anyio.to_thread.run_sync(self._served.exchange, frame, limiter=self._threads, abandon_on_cancel=True)
            if frames.kind_of(answer) == frames.ERROR:
                await self._look(answer)
            await self._send(answer)
        except ConnectError:
            pass  # closed meanwhile
        except Exception:
            _log.exception("a frame of a client of %s failed", self._served.tenant.name)
            self.end(FAILED, "the gateway failed")
        finally:
            self._slots.release()

    async def _look(self, answer: bytes) -> None:
        error = frames.read_error(answer)
        if isinstance(error, GatewayError) and error.code in _SUSPECT:
            await self._refused(f"{error.code}: {error}"[:300])

    async def _change(self, changes: Changes) -> None:
        told = {"inos": sorted(changes.inos), "names": changes.names, "moved": changes.moved, "lost": changes.lost}
        await self._send(frames.changed(told))
