"""The driver of a client without a database password: each trip is a frame to a gateway (`frames`) and its answer.

How frames travel is the caller's: `exchange` sends one and gives the answer to it. What is said is written once, as
generators without I/O, and played by a driver that blocks and by one that is awaited. Loads nothing that CPython for WASI
or Pyodide lacks. Not here: the rules of a transaction (base.py), the gateway's end (serving.py).
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

from tarbox_core import frames
from tarbox_core.drivers.base import CONNECTION_TIMEOUT, FIRST_PAUSE, LONGEST_PAUSE, Pause, Trip, conduct
from tarbox_core.effects import Op
from tarbox_core.errors import ConnectError, ConnectionLost, GatewayError, TarboxError
from tarbox_core.hashing import Data, blake3_pure
from tarbox_core.types import TenantInfo

R = TypeVar("R")

Talk = Generator[bytes | Pause, bytes, R]  # frames to send, for each its answer; a pause is answered with b""

DIGEST_AT_ONCE: Final = 4 << 20  # bytes of blocks in one request
_TEXTS: Final = ("name", "title", "role", "head")  # of a tenant; the rest of it are numbers
_NUMBERS: Final = (1 << 32) - 1  # of requests and of transactions, from 1 on


class Welcome(NamedTuple):
    """What a gateway tells its client: whom it serves, and what it grants."""

    tenant: TenantInfo
    read_only: bool
    upkeep: bool


class RemoteDriver:
    """Runs operations through a gateway (see base.Driver). Thread-safe where `exchange` is.

    `exchange` sends a frame and returns the answer to it. Where it raises ConnectError, nothing was sent; after OSError,
    EOFError or ConnectionLost the answer is lost, and with it whether a commit took effect. `program` tells the gateway
    who asks. Nothing is sent before the first operation needs it.
    """

    def __init__(self, exchange: Callable[[bytes], bytes], *, program: str = "tarbox") -> None:
        self._exchange = exchange
        self._client = _Client(program)

    def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        """Run a fresh operation to its end in one transaction; see base.Driver.run. Raises GatewayError, too."""
        return self._play(self._client.operation(factory, durable))

    @property
    def welcome(self) -> Welcome:
        """Asked for once. Raises ConnectError, ConnectionLost, GatewayError."""
        return self._play(self._client.greet())

    @property
    def tenant(self) -> TenantInfo:
        """Whom the gateway serves, with where the branch stood that it began with."""
        return self.welcome.tenant

    @property
    def read_only(self) -> bool:
        return self.welcome.read_only

    @property
    def upkeep(self) -> bool:
        """Whether gc, repairs, packing and the deletion of layers are granted."""
        return self.welcome.upkeep

    def digests(self, blocks: Sequence[Data]) -> list[bytes]:
        """The BLAKE3 hashes of blocks, as the gateway computes them (see hashing.use)."""
        return self._play(self._client.digests(blocks))

    def close(self) -> None:
        """Refuse further operations. How frames travel is closed by whoever opened it."""
        self._client.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _play(self, talk: Talk[R]) -> R:
        try:
            wanted = next(talk)
            while True:
                try:
                    if isinstance(wanted, Pause):
                        time.sleep(wanted.seconds)
                        answer = b""
                    else:
                        answer = self._exchange(wanted)
                except BaseException as error:
                    wanted = talk.throw(error)
                else:
                    wanted = talk.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result


class AsyncRemoteDriver:
    """The same for an asyncio loop, where `exchange` is awaited (the browser). A cancelled `run` rolls back."""

    def __init__(self, exchange: Callable[[bytes], Awaitable[bytes]], *, program: str = "tarbox") -> None:
        self._exchange = exchange
        self._client = _Client(program)

    async def run(self, factory: Callable[[], Op[R]], *, durable: bool = False) -> R:
        return await self._play(self._client.operation(factory, durable))

    async def welcome(self) -> Welcome:
        return await self._play(self._client.greet())

    async def digests(self, blocks: Sequence[Data]) -> list[bytes]:
        return await self._play(self._client.digests(blocks))

    def close(self) -> None:
        self._client.closed = True

    async def _play(self, talk: Talk[R]) -> R:
        try:
            wanted = next(talk)
            while True:
                try:
                    if isinstance(wanted, Pause):
                        from asyncio import sleep  # which RemoteDriver must do without

                        await sleep(wanted.seconds)
                        answer = b""
                    else:
                        answer = await self._exchange(wanted)
                except BaseException as error:
                    wanted = talk.throw(error)
                else:
                    wanted = talk.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result


class _Client:
    """What is said to the gateway, and in which order."""

    def __init__(self, program: str) -> None:
        self.closed = False
        self._program = program
        self._count = itertools.count()
        self._welcome: Welcome | None = None

    def greet(self) -> Talk[Welcome]:
        if self._welcome is None:
            number = self._number()
            answer = yield from self._ask(number, frames.hello(number, self._program), frames.WELCOME)
            self._welcome = _welcome(frames.read_welcome(answer))
        return self._welcome

    def operation(self, factory: Callable[[], Op[R]], durable: bool) -> Talk[R]:
        """The life of one operation. Whatever ends it, what it left open at the gateway is undone."""
        play = conduct(factory, random.random, durable=durable)
        transaction = 0  # which the gateway holds open; 0: none
        try:
            command = next(play)
            while True:
                try:
                    if isinstance(command, Trip):
                        yield from self.greet()
                        number, used = self._number(), transaction or self._number()
                        frame = frames.batch(number, used, command.queries, begin=command.begin, commit=command.commit, durable=durable)
                        transaction = used
                        answer = yield from self._trip(number, frame, command.commit)
                        rows = frames.read_rows(answer, [query.statement for query in command.queries])
                        if command.commit:
                            transaction = 0
                    else:
                        if transaction:
                            yield from self._undo(transaction)
                            transaction = 0
                        yield command
                        rows = []
                except TarboxError as error:
                    transaction = 0  # an error for an answer has ended it; a gateway that is lost ends it
                    command = play.throw(error)
                except (TypeError, ValueError) as error:
                    command = play.throw(error)
                else:
                    command = play.send(rows)
        except StopIteration as end:
            result: R = end.value
            return result
        except GeneratorExit:
            raise
        except BaseException:
            if transaction:
                yield from self._undo(transaction)
            raise
        finally:
            play.close()

    def digests(self, blocks: Sequence[Data]) -> Talk[list[bytes]]:
        hashes: list[bytes] = []
        for group in _groups(blocks):
            if len(group[0]) > DIGEST_AT_ONCE:
                hashes.append(blake3_pure(group[0]))
                continue
            number = self._number()
            answer = yield from self._ask(number, frames.digest(number, group), frames.DIGESTS)
            hashes += frames.read_digests(answer, len(group))
        return hashes

    def _trip(self, number: int, frame: bytes, commit: bool) -> Talk[frames.Answer]:
        """A batch's answer. Waits its turn where as many transactions are open as the gateway lets a client have."""
        waited, pause = 0.0, FIRST_PAUSE
        while True:
            try:
                return (yield from self._ask(number, frame, frames.ROWS, committing=commit))
            except GatewayError as error:
                if error.code != "busy" or waited >= CONNECTION_TIMEOUT:
                    raise
            yield Pause(pause)
            waited += pause
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _undo(self, transaction: int) -> Talk[None]:
        number = self._number()
        with suppress(TarboxError):  # the gateway itself ends what is left open
            yield from self._ask(number, frames.undo(number, transaction), frames.DONE)

    def _ask(self, number: int, frame: bytes, expected: int, *, committing: bool = False) -> Generator[bytes, bytes, frames.Answer]:
        """The answer to a request, or the error it tells."""
        if self.closed:
            raise ConnectError("the driver is closed")
        try:
            answer = yield frame
        except (ConnectionLost, EOFError, OSError) as error:
            raise ConnectionLost(f"the gateway's answer is lost: {error or type(error).__name__}", committing) from error
        if frames.number_of(answer) != number:
            raise ConnectionLost("the gateway's answer is lost: it sent another one", committing)
        return frames.read_answer(answer, expected)

    def _number(self) -> int:
        return next(self._count) % _NUMBERS + 1


def _groups(blocks: Sequence[Data]) -> Iterator[list[Data]]:
    """The blocks in order, as many together as one request may hold."""
    group: list[Data] = []
    size = 0
    for block in blocks:
        if group and size + len(block) > DIGEST_AT_ONCE:
            yield group
            group, size = [], 0
        group.append(block)
        size += len(block)
    if group:
        yield group


def _welcome(content: dict[str, Any]) -> Welcome:
    try:
        fields = content["tenant"]
        wrong = [name for name in fields if name != "visible" and type(fields[name]) is not (str if name in _TEXTS else int)]
        if wrong or fields["block_size"] < 1:
            raise ValueError(f"a sensible {wrong[0] if wrong else 'block_size'}")
        tenant = TenantInfo(**fields | {"visible": tuple((int(lo), int(hi)) for lo, hi in fields["visible"])})
        return Welcome(tenant, bool(content["read_only"]), bool(content["upkeep"]))
    except (KeyError, TypeError, ValueError) as error:
        raise GatewayError("protocol", f"the welcome lacks something: {error}") from None
