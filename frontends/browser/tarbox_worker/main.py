"""Where Pyodide begins: what JavaScript hands in and takes, as Python has it. All else knows nothing of a browser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from tarbox_core import hashing
from tarbox_core.errors import TarboxError
from tarbox_core.hashing import Data
from tarbox_worker.channel import Channel
from tarbox_worker.door import Door
from tarbox_worker.requests import Requests


class Blob:
    """A file of the page's, which is read where it is."""

    def __init__(self, blob: Any) -> None:
        self._blob = blob
        self.size = int(blob.size)

    async def read(self, offset: int, length: int) -> bytes:
        piece = await self._blob.slice(offset, offset + length).arrayBuffer()
        data: bytes = piece.to_bytes()
        return data


class Held:
    """Bytes that are here already, as a source."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    async def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class Page:
    """The page, behind worker.js's object."""

    def __init__(self, host: Any) -> None:
        self._host = host

    def post(self, message: dict[str, Any]) -> None:
        self._host.post(json.dumps(message))

    def put(self, number: int, data: bytes) -> None:
        self._host.put(number, data)

    async def ready(self) -> None:
        """There is room for what the page asks for."""

    async def refused(self, reason: str, verb: str, error: TarboxError) -> None:
        """The gateway records what is asked of it; the rest this side refuses by itself."""


class Worker:
    """`host` is worker.js's object: `send(frame)`, `post(message)`, `put(number, data)` and `digest(data)`."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._channel = Channel(host.send, self._changed)
        self._door = Door(self._channel.exchange)
        self._requests = Requests(self._door, Page(host))
        hashing.use(self._digests)

    def ask(self, number: int, verb: str, arguments: str, data: Any, blob: Any) -> None:
        self._requests.ask(number, verb, json.loads(arguments), _source(data, blob))

    def cancel(self, number: int) -> None:
        self._requests.cancel(number)

    def opened(self) -> None:
        self._channel.opened()
        self._tidying = asyncio.ensure_future(self._door.tidy())

    def lost(self) -> None:
        self._door.lost()
        self._channel.lost()

    def refused(self, words: str) -> None:
        self._channel.refused(words)

    def received(self, frame: Any) -> None:
        self._channel.received(frame.to_bytes())

    def _changed(self, what: dict[str, Any]) -> None:
        """An event `changed`: `inos` changed, `names` among them; the head `moved`; some changes were `lost`, so that all may have."""
        inos = [str(ino) for ino in what.get("inos", ())]
        self._host.post(json.dumps({"event": "changed", **what, "inos": inos}))

    def _digests(self, blocks: Sequence[Data]) -> list[bytes]:
        return [self._host.digest(block).to_bytes() for block in blocks]


def _source(data: Any, blob: Any) -> Blob | Held | None:
    """What came along, which is false to Python where it is empty."""
    if blob is not None:
        return Blob(blob)
    return None if data is None else Held(data.to_bytes())


def begin(host: Any) -> Worker:
    return Worker(host)
