"""The door of verbs: what a client says to it and is told, over a socket that somebody else has. docs/verbs.md specifies it.

A client asks with JSON and sends the content that goes with it when it is wanted; the verbs are those of the page's worker, run here on
a driver of the gateway's kind. All of it is on one event loop, which may be beside that of the sockets. What a client can make
this hold is bounded: requests, their words, content on its way in, and what goes out, which waits for the client to take it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, NoReturn, Protocol

from tarbox_browser.sockets import FAILED, IN_WORK, MISUSED, TOO_LARGE, WRONG_KIND
from tarbox_core.cache import Lru
from tarbox_core.drivers.presence import Changes
from tarbox_core.errors import FsError, TarboxError
from tarbox_worker.door import Door
from tarbox_worker.requests import Requests
from tarbox_worker.values import Refused, Value
from tarbox_worker.verbs import PATH_VERBS

AT_ONCE: Final = 8  # requests in work; more wait,
WAITING: Final = 1000  # but not more than so many,
TEXT_MAX: Final = 1 << 20  # characters of one,
TEXTS_MAX: Final = 4 << 20  # and of all of them
OUT_MAX: Final = 4 << 20  # bytes that wait for the client; beyond, nothing further is begun,
OUT_END: Final = 64 << 20  # and with so many, as of one that asks and cancels and never listens, the client is ended
PATIENCE: Final = 60.0  # seconds within which content comes that was wanted
TOLD: Final = 1 << 17  # inodes that the client is told changes of
LATE: Final = 1000  # requests that ended while content was wanted, which may be on its way

_NUMBERS: Final = range(1, 1 << 32)
_HEAD: Final = struct.Struct(">I")  # of a binary message: the request that it belongs to
_FIELDS: Final = {"id", "verb", "args", "bytes"}
_log: Final = logging.getLogger("tarbox.browser")


class Misused(Exception):
    """What ends a socket: a close code, and why."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


class Line(Protocol):
    """Who has the socket."""

    async def send(self, message: str | bytes) -> None:
        """Returns when the socket has taken it."""
        ...

    async def refused(self, reason: str, verb: str, path: str) -> None:
        """Record that something was asked for that is not granted; as requests.Page."""
        ...

    def end(self, code: int, reason: str) -> None: ...


class _Want(NamedTuple):
    length: int
    content: asyncio.Future[bytes]


class Talk:
    """One client. `exchange` is its gateway's, and blocks; `scope`: as Session.scope."""

    def __init__(self, exchange: Callable[[bytes], bytes], scope: tuple[bytes, ...], line: Line, *, patience: float = PATIENCE) -> None:
        self._exchange = exchange
        self._line = line
        self._patience = patience
        self._steps = ThreadPoolExecutor(IN_WORK, "tarbox-verbs")
        self._requests = Requests(Door(self._step, scope=scope), self, verbs=PATH_VERBS, at_once=AT_ONCE)
        self._recording = 0  # refusals
        self._words = 0  # characters of the requests that have no answer yet
        self._wants: dict[int, _Want] = {}
        self._late: Lru[int, bool] = Lru(LATE)
        self._told: Lru[int, bool] = Lru(TOLD)
        self._out: deque[str | bytes] = deque()
        self.held = 0  # bytes of these
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()

    async def run(self) -> None:
        """Send what is to be told, for as long as it lasts."""
        try:
            while True:
                await self._some.wait()
                self._some.clear()
                while self._out:
                    await self._line.send(self._out[0])
                    self.held -= len(self._out.popleft())
                    if self.held <= OUT_MAX:
                        self._room.set()
        except Exception:
            _log.exception("a client of verbs is told nothing more")
            self._line.end(FAILED, "the server failed")

    async def end(self) -> None:
        """Cancel what is in work, and clear it away."""
        try:
            await self._requests.end()
        finally:
            self._steps.shutdown(wait=False)

    async def changed(self, changes: Changes) -> None:
        """Tell what other doors changed, of what the client knows."""
        inos = [str(ino) for ino in sorted(changes.inos) if self._told.get(ino)]
        if inos or changes.moved or changes.lost:
            await self.ready()
            self.post({"event": "changed", "inos": inos, "names": changes.names, "moved": changes.moved, "lost": changes.lost})

    async def _step(self, frame: bytes) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._steps, self._exchange, frame)

    # --- what the client says

    async def take(self, message: str | bytes) -> None:
        """Misused."""
        if isinstance(message, bytes):
            self._content(message)
            return
        if len(message) > TEXT_MAX:
            raise Misused(TOO_LARGE, f"a request of more than {TEXT_MAX} characters")
        try:
            said = json.loads(message, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise Misused(WRONG_KIND, "a text message is JSON") from None
        if not isinstance(said, dict):
            raise Misused(MISUSED, "a request is an object")
        if said.keys() == {"cancel"}:
            self._requests.cancel(_number(said["cancel"]))
        else:
            self._ask(said, len(message))

    def _ask(self, said: dict[str, Any], words: int) -> None:
        number, verb, arguments, size = _number(said.get("id")), said.get("verb"), said.get("args", {}), said.get("bytes")
        if not isinstance(verb, str) or not isinstance(arguments, dict) or not said.keys() <= _FIELDS:
            raise Misused(MISUSED, "a request has an id, a verb, perhaps args, and bytes where content goes with it")
        if size is not None and (type(size) is not int or size < 0):
            raise Misused(MISUSED, "bytes says how many")
        if number in self._requests:
            raise Misused(MISUSED, f"request {number} has no answer yet")
        if len(self._requests) >= WAITING or self._words + words > TEXTS_MAX:
            raise Misused(MISUSED, "too many requests wait")
        self._words += words
        source = None if size is None else _Sent(self, number, size)
        self._requests.ask(number, verb, arguments, source).add_done_callback(lambda _: self._answered(words))

    def _answered(self, words: int) -> None:
        self._words -= words

    def _content(self, message: bytes) -> None:
        number = _HEAD.unpack_from(message)[0] if len(message) >= _HEAD.size else 0
        want = self._wants.pop(number, None)
        if want is None:
            if not self._late.get(number):
                raise Misused(MISUSED, "nobody wants these bytes")
            self._late.drop(number)
        elif len(message) - _HEAD.size != want.length:
            raise Misused(MISUSED, f"{len(message) - _HEAD.size} bytes, where {want.length} are wanted")
        elif not want.content.done():
            want.content.set_result(message[_HEAD.size :])

    async def want(self, number: int, offset: int, length: int) -> bytes:
        """Content that the client has; one piece of a request at a time."""
        want = self._wants[number] = _Want(length, asyncio.get_running_loop().create_future())
        self.post({"event": "want", "id": number, "offset": offset, "length": length})
        try:
            async with asyncio.timeout(self._patience):
                return await want.content
        except TimeoutError:
            self._line.end(MISUSED, f"the content of request {number} did not come")
            raise Refused("the content did not come") from None
        finally:
            if self._wants.pop(number, None) is not None:
                self._late.put(number, True)

    # --- what it is told: requests.Page

    def post(self, message: Value) -> None:
        for ino in _inodes(message):
            self._told.put(ino, True)
        self._put(json.dumps(message))

    def put(self, number: int, data: bytes) -> None:
        self._put(_HEAD.pack(number) + data)

    def _put(self, message: str | bytes) -> None:
        self._out.append(message)
        self.held += len(message)
        if self.held > OUT_MAX:
            self._room.clear()
        if self.held > OUT_END:
            self._line.end(MISUSED, "what is told is not taken")
        self._some.set()

    async def ready(self) -> None:
        await self._room.wait()

    async def refused(self, reason: str, verb: str, error: TarboxError) -> None:
        """A client that is quick to cancel is recorded as well, and ended where it is quicker than that."""
        path = error.subject if isinstance(error, FsError) and verb in PATH_VERBS else None
        self._recording += 1
        if self._recording > WAITING:
            self._line.end(MISUSED, "too many requests wait")
        recording = asyncio.ensure_future(self._line.refused(reason, verb, path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path or "")))
        recording.add_done_callback(self._recorded)
        await asyncio.shield(recording)

    def _recorded(self, _: object) -> None:
        self._recording -= 1


class _Sent:
    """Content that the client has, as a source."""

    def __init__(self, talk: Talk, number: int, size: int) -> None:
        self.size = size
        self._talk = talk
        self._number = number

    async def read(self, offset: int, length: int) -> bytes:
        return await self._talk.want(self._number, offset, length) if length else b""


def _number(given: object) -> int:
    if type(given) is not int or given not in _NUMBERS:
        raise Misused(MISUSED, f"an id is a number from 1 to {_NUMBERS[-1]}")
    return given


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)


def _inodes(value: object) -> Iterator[int]:
    """The inodes that an answer tells of."""
    if isinstance(value, dict):
        if isinstance(value.get("ino"), str):
            yield int(value["ino"])
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _inodes(each)
