"""A client of the door of verbs, for tests: it asks, sends the content that is wanted, and keeps what it is told."""

from __future__ import annotations

import json
import struct
import threading
from typing import Any, NamedTuple, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection


class Answer(NamedTuple):
    """Of one request: the answer itself, the bytes and the events before it."""

    message: dict[str, Any]
    data: bytes
    events: list[dict[str, Any]]

    @property
    def result(self) -> Any:
        assert "result" in self.message, self.message
        return self.message["result"]


class Client:
    """One socket. `changed`: what it was told of other doors; `closed`: the code and the reason, once it is. `stop`: after so many pieces
    of content that were wanted, no more are sent."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.changed: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.wanted: list[dict[str, Any]] = []
        self.stop: int | None = None
        self._heard = threading.Condition()
        self._number = 0
        self._answers: dict[int, Answer] = {}
        self._data: dict[int, list[bytes]] = {}
        self._events: dict[int, list[dict[str, Any]]] = {}
        self._content: dict[int, bytes] = {}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self._thread.join()

    def begin(self, verb: str, content: bytes | None = None, **args: Any) -> int:
        """Send a request; its number."""
        with self._heard:
            self._number += 1
            number = self._number
            if content is not None:
                self._content[number] = content
        message = {"id": number, "verb": verb, "args": args}
        self.say(message if content is None else message | {"bytes": len(content)})
        return number

    def say(self, message: Any) -> None:
        self.socket.send(json.dumps(message))

    def answer(self, number: int, timeout: float = 30) -> Answer:
        self.wait(lambda: number in self._answers, timeout)
        return self._answers.pop(number)

    def ask(self, verb: str, content: bytes | None = None, **args: Any) -> Answer:
        return self.answer(self.begin(verb, content, **args))

    def told(self, verb: str, content: bytes | None = None, **args: Any) -> Any:
        return self.ask(verb, content, **args).result

    def refused(self, verb: str, content: bytes | None = None, **args: Any) -> str:
        """The code of the error that is the answer."""
        message = self.ask(verb, content, **args).message
        assert "error" in message, message
        code: str = message["error"]["code"]
        return code

    def wait(self, condition: Any, timeout: float = 10) -> None:
        """Until it is so; not beyond the socket's end."""
        with self._heard:
            assert self._heard.wait_for(lambda: condition() or self.closed is not None, timeout), "nothing happened"
            assert condition(), self.closed

    def end(self, timeout: float = 10) -> tuple[int, str]:
        """How the server closes it."""
        with self._heard:
            assert self._heard.wait_for(lambda: self.closed is not None, timeout), "it is open"
        assert self.closed is not None
        return self.closed

    def _listen(self) -> None:
        try:
            for message in self.socket:
                with self._heard:
                    self._hear(message)
                    self._heard.notify_all()
        except ConnectionClosed:
            pass
        with self._heard:
            self.closed = self.socket.close_code or 1006, self.socket.close_reason or ""
            self._heard.notify_all()

    def _hear(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._data.setdefault(struct.unpack_from(">I", message)[0], []).append(message[4:])
            return
        said = json.loads(message)
        number = said.get("id", 0)
        if "event" not in said:
            self._answers[number] = Answer(said, b"".join(self._data.pop(number, [])), self._events.pop(number, []))
        elif said["event"] == "changed":
            self.changed.append(said)
        elif said["event"] == "want":
            self.wanted.append(said)
            if self.stop is None or len(self.wanted) <= self.stop:
                self.send(said)
        else:
            self._events.setdefault(number, []).append(said)

    def send(self, want: dict[str, Any]) -> None:
        """The piece of content that is wanted."""
        content = self._content[want["id"]][want["offset"] :][: want["length"]]
        self.socket.send(struct.pack(">I", want["id"]) + content)
