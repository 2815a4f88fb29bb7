"""The frames of the gateway's protocol, to bytes and back: what a client without a database password asks, and the answers.

A frame is `length, kind, number, body`: the length is of what follows it, the number is the client's and comes back with
the answer. Integers are big-endian. Values travel as in PostgreSQL's binary format (`binary`), each behind its length, -1
for NULL; a statement's parameters come without the tenant, which the gateway knows. docs/gateway.md is the specification.

What is read here may come from anybody: every reader gives a value or raises GatewayError, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Any, Final, NamedTuple

from tarbox_core.binary import DECODERS, ENCODERS, NULL
from tarbox_core.effects import Query, Row, Rows, Statement
from tarbox_core.errors import (
    ConnectError,
    ConnectionLost,
    DiskFullError,
    FsError,
    GatewayError,
    LayerError,
    RetryableError,
    SqlError,
    TarboxError,
    errno_name,
    errno_of,
    linux_errno,
)

VERSION: Final = 1
REQUEST_MAX: Final = 8 << 20  # bytes of a frame from a client: a batch of blocks and what goes with it
ANSWER_MAX: Final = 64 << 20
STATEMENTS_MAX: Final = 256  # in one batch
VALUES_MAX: Final = 64  # of one statement: as a Python object, one of 4 bytes takes fifty times as many
HELLO_MAX: Final = 1 << 12  # bytes; likewise

HELLO, BATCH, UNDO, DIGEST = 1, 2, 3, 4
WELCOME, ROWS, DONE, DIGESTS, ERROR = 0x81, 0x82, 0x83, 0x84, 0xFF
CHANGED = 0x90  # answers nothing: its number is 0
BEGIN, COMMIT, DURABLE = 1, 2, 4  # flags of a batch

_LENGTH: Final = Struct(">I")
_HEAD: Final = Struct(">IBI")  # length, kind, number
_BATCH: Final = Struct(">IBH")  # transaction, flags, statements
_COUNT: Final = Struct(">H")
_I4: Final = Struct(">i")
_WIDTHS: Final = {"bool": 1, "int2": 2, "int4": 4, "int8": 8, "float8": 8, "timestamptz": 8}

Value = memoryview | None


class Hello(NamedTuple):
    """The first request. `program` tells what the client is, for logs."""

    version: int
    program: str


class Sent(NamedTuple):
    """A statement as it came: its name, and its parameters not yet read."""

    name: str
    values: list[Value]


class Trip(NamedTuple):
    """Statements for a transaction, whose number the client chooses; `begin` opens it, `commit` ends it with them."""

    transaction: int
    begin: bool
    commit: bool
    durable: bool
    statements: list[Sent]


class Undo(NamedTuple):
    transaction: int


class Digest(NamedTuple):
    """Blocks whose BLAKE3 hashes the client wants to know: it has no quick way to compute them."""

    blocks: list[memoryview]


Request = Hello | Trip | Undo | Digest


class Answer(NamedTuple):
    number: int
    kind: int
    body: memoryview


# --- frames


def _frame(kind: int, number: int, parts: Sequence[bytes | bytearray | memoryview]) -> bytes:
    return b"".join((_HEAD.pack(_HEAD.size - 4 + sum(map(len, parts)), kind, number), *parts))


def split(data: bytearray, limit: int) -> Iterator[bytes]:
    """Take the whole frames off the front of what came through a stream. GatewayError where one would be beyond `limit` bytes."""
    while len(data) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
        if end > limit:
            raise GatewayError("too-large", f"a frame of {end} bytes; {limit} is the limit")
        if len(data) < end:
            return
        frame = bytes(data[:end])
        del data[:end]
        yield frame


class _Reader:
    """Reads a frame from its front; whatever is not there is a GatewayError."""

    def __init__(self, frame: bytes | memoryview, limit: int) -> None:
        if len(frame) > limit:
            raise GatewayError("too-large", f"a frame of {len(frame)} bytes; {limit} is the limit")
        self._data = memoryview(frame)
        self._at = 0

    def unpack(self, form: Struct) -> tuple[Any, ...]:
        return form.unpack(self.take(form.size))

    def take(self, size: int) -> memoryview:
        end = self._at + size
        if end > len(self._data):
            raise GatewayError("protocol", "the frame ends before its content")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def value(self) -> Value:
        (size,) = self.unpack(_I4)
        if size < -1:
            raise GatewayError("protocol", f"a value of {size} bytes")
        return None if size == -1 else self.take(size)

    def rest(self) -> memoryview:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        if self._at != len(self._data):
            raise GatewayError("protocol", f"{len(self._data) - self._at} bytes too many in the frame")


def _head(reader: _Reader, frame: bytes | memoryview) -> tuple[int, int]:
    length, kind, number = reader.unpack(_HEAD)
    if length != len(frame) - _LENGTH.size:
        raise GatewayError("protocol", f"a frame of {len(frame)} bytes that says it has {length + _LENGTH.size}")
    return kind, number


def number_of(frame: bytes | memoryview) -> int:
    """The number to answer a request under that may make no sense otherwise; 0 where there is none."""
    return int(_HEAD.unpack_from(frame)[2]) if len(frame) >= _HEAD.size else 0


# --- requests


def hello(number: int, program: str) -> bytes:
    return _frame(HELLO, number, (json.dumps({"version": VERSION, "program": program}).encode(),))


def batch(number: int, transaction: int, queries: Sequence[Query], *, begin: bool, commit: bool, durable: bool) -> bytes:
    """TypeError, ValueError: a value that does not fit its parameter, by name."""
    if len(queries) > STATEMENTS_MAX:
        raise ValueError(f"{len(queries)} statements are too many for one batch")
    parts: list[bytes] = [_BATCH.pack(transaction, BEGIN * begin | COMMIT * commit | DURABLE * durable, len(queries))]
    for statement, values in queries:
        name = statement.name.encode()
        parts.append(bytes((len(name),)) + name)
        _put(statement.name, *own(statement, values), parts, parameter=1 + statement.tenant)
    frame = _frame(BATCH, number, parts)
    if len(frame) > REQUEST_MAX:
        raise ValueError(f"{len(frame)} bytes are too many for one batch")
    return frame


def own(statement: Statement, values: Sequence[Any]) -> tuple[tuple[str, ...], Sequence[Any]]:
    """The types and values of those parameters that a client sends."""
    return (statement.params[1:], values[1:]) if statement.tenant else (statement.params, values)


def undo(number: int, transaction: int) -> bytes:
    return _frame(UNDO, number, (_LENGTH.pack(transaction),))


def digest(number: int, blocks: Sequence[bytes | bytearray | memoryview]) -> bytes:
    parts: list[bytes | bytearray | memoryview] = [_COUNT.pack(len(blocks))]
    for block in blocks:
        parts += (_I4.pack(len(block)), block)
    return _frame(DIGEST, number, parts)


def read_request(frame: bytes | memoryview) -> tuple[int, Request]:
    """The number and what is asked. GatewayError: not a request."""
    reader = _Reader(frame, REQUEST_MAX)
    kind, number = _head(reader, frame)
    read = _REQUESTS.get(kind)
    if read is None:
        raise GatewayError("protocol", f"no request has the kind {kind}")
    request = read(reader)
    reader.end()
    return number, request


def _read_hello(reader: _Reader) -> Hello:
    words = reader.rest()
    if len(words) > HELLO_MAX:
        raise GatewayError("too-large", f"a greeting of {len(words)} bytes; {HELLO_MAX} is the limit")
    content = _json(words)
    if not isinstance(content, dict) or type(content.get("version")) is not int:
        raise GatewayError("protocol", "the greeting tells no version")
    return Hello(content["version"], str(content.get("program", ""))[:200])


def _read_batch(reader: _Reader) -> Trip:
    transaction, flags, count = reader.unpack(_BATCH)
    if flags & ~(BEGIN | COMMIT | DURABLE):
        raise GatewayError("protocol", f"unknown flags {flags:#x}")
    if count > STATEMENTS_MAX:
        raise GatewayError("too-large", f"{count} statements in one batch; {STATEMENTS_MAX} is the limit")
    return Trip(transaction, bool(flags & BEGIN), bool(flags & COMMIT), bool(flags & DURABLE), [_read_statement(reader) for _ in range(count)])


def _read_statement(reader: _Reader) -> Sent:
    name = reader.take(reader.take(1)[0])
    (count,) = reader.unpack(_COUNT)
    if count > VALUES_MAX:
        raise GatewayError("too-large", f"{count} values of one statement; {VALUES_MAX} is the limit")
    return Sent(str(name, "ascii", "backslashreplace"), [reader.value() for _ in range(count)])


def _read_undo(reader: _Reader) -> Undo:
    return Undo(reader.unpack(_LENGTH)[0])


def _read_digest(reader: _Reader) -> Digest:
    (count,) = reader.unpack(_COUNT)
    blocks = [reader.value() for _ in range(count)]
    return Digest([block for block in blocks if block is not None])


_REQUESTS: Final[dict[int, Callable[[_Reader], Request]]] = {HELLO: _read_hello, BATCH: _read_batch, UNDO: _read_undo, DIGEST: _read_digest}


# --- answers


def welcome(number: int, content: dict[str, Any]) -> bytes:
    return _frame(WELCOME, number, (json.dumps(content).encode(),))


def rows(number: int, statements: Sequence[Statement], results: Sequence[Rows]) -> bytes:
    """GatewayError: more than an answer may hold."""
    parts: list[bytes] = [_COUNT.pack(len(results))]
    for statement, found in zip(statements, results, strict=True):
        parts.append(_LENGTH.pack(len(found)))
        for row in found:
            _put(statement.name, statement.returns, row, parts)
    size = sum(map(len, parts))
    if size > ANSWER_MAX - _HEAD.size:
        raise GatewayError("too-large", f"an answer of {size} bytes; {ANSWER_MAX} is the limit: ask for less at once")
    return _frame(ROWS, number, parts)


def done(number: int) -> bytes:
    return _frame(DONE, number, ())


def digests(number: int, hashes: Sequence[bytes]) -> bytes:
    return _frame(DIGESTS, number, hashes)


def error(number: int, problem: TarboxError) -> bytes:
    """Errors travel by their class, text, and what else tells them apart; errno by its name, for numbers differ between systems."""
    content: dict[str, Any] = {"error": type(problem).__name__, "message": str(problem)}
    if isinstance(problem, SqlError):
        content |= {"sqlstate": problem.sqlstate, "statement": problem.statement}
    elif isinstance(problem, (FsError, LayerError)):
        content["errno"] = errno_name(linux_errno(problem.errno))
    elif isinstance(problem, ConnectionLost):
        content["committing"] = problem.committing
    elif isinstance(problem, GatewayError):
        content["code"] = problem.code
    return _frame(ERROR, number, (json.dumps(content).encode(),))


def read_answer(frame: bytes | memoryview, expected: int) -> Answer:
    """The answer, of the kind that was expected. Raises the error that it tells instead; GatewayError: not an answer."""
    reader = _Reader(frame, ANSWER_MAX)
    kind, number = _head(reader, frame)
    body = reader.rest()
    if kind == ERROR:
        raise _error(_json(body))
    if kind != expected:
        raise GatewayError("protocol", f"an answer of kind {kind:#x}, not {expected:#x}")
    return Answer(number, kind, body)


def kind_of(frame: bytes | memoryview) -> int:
    """The kind of a frame; 0 where there is none."""
    return int(_HEAD.unpack_from(frame)[1]) if len(frame) >= _HEAD.size else 0


def read_error(frame: bytes | memoryview) -> TarboxError:
    """The error that a frame of that kind tells."""
    reader = _Reader(frame, ANSWER_MAX)
    _head(reader, frame)
    return _error(_json(reader.rest()))


def changed(content: dict[str, Any]) -> bytes:
    """What other doors have changed, told without having been asked."""
    return _frame(CHANGED, 0, (json.dumps(content).encode(),))


def read_changed(frame: bytes | memoryview) -> dict[str, Any]:
    content = _json(read_answer(frame, CHANGED).body)
    if not isinstance(content, dict):
        raise GatewayError("protocol", "what has changed is no object")
    return content


def read_welcome(answer: Answer) -> dict[str, Any]:
    content = _json(answer.body)
    if not isinstance(content, dict):
        raise GatewayError("protocol", "the welcome is no object")
    return content


def read_rows(answer: Answer, statements: Sequence[Statement]) -> list[Rows]:
    reader = _Reader(answer.body, ANSWER_MAX)
    (count,) = reader.unpack(_COUNT)
    if count != len(statements):
        raise GatewayError("protocol", f"an answer to {count} statements, not {len(statements)}")
    results = [_read_rows(reader, statement) for statement in statements]
    reader.end()
    return results


def _read_rows(reader: _Reader, statement: Statement) -> Rows:
    (count,) = reader.unpack(_LENGTH)
    if count and not statement.returns:  # of which a few bytes could tell of billions
        raise GatewayError("protocol", f"{count} rows of statement {statement.name}, which gives none")
    return [values(statement.returns, [reader.value() for _ in statement.returns]) for _ in range(count)]


def read_digests(answer: Answer, count: int) -> list[bytes]:
    if len(answer.body) != 32 * count:
        raise GatewayError("protocol", f"{len(answer.body)} bytes are not {count} hashes")
    return [bytes(answer.body[at : at + 32]) for at in range(0, 32 * count, 32)]


_SQL_ERRORS: Final = {kind.__name__: kind for kind in (SqlError, RetryableError, DiskFullError)}


def _error(content: Any) -> TarboxError:
    """The error that was told, as its class; another TarboxError for one that is not known here."""
    told = content if isinstance(content, dict) else {}
    kind, text = told.get("error"), str(told.get("message", "the gateway failed"))
    number = errno_of(str(told.get("errno")))
    if kind in _SQL_ERRORS:
        made = _SQL_ERRORS[kind](str(told.get("sqlstate", "XX000")), text, str(told.get("statement", "")))
        made.args = (text,)  # which has state and statement in it
        return made
    if kind == "FsError":
        return FsError(number)
    if kind == "LayerError":
        return LayerError(number, text)
    if kind == "ConnectionLost":
        return ConnectionLost(text, bool(told.get("committing")))
    if kind == "ConnectError":
        return ConnectError(text)
    if kind == "GatewayError":
        return GatewayError(str(told.get("code", "protocol")), text)
    return TarboxError(text)


# --- values


def _put(name: str, types: Sequence[str], given: Sequence[Any], parts: list[bytes], *, parameter: int = 0) -> None:
    """A row, or the parameters of a statement from that number on."""
    if len(given) != len(types):
        raise TypeError(f"statement {name}: {len(given)} values, not {len(types)}")
    if parameter:
        parts.append(_COUNT.pack(len(given)))
    for number, (kind, value) in enumerate(zip(types, given, strict=True), parameter or 1):
        if value is None:
            parts.append(NULL)
            continue
        try:
            ENCODERS[kind](value, parts.append)
        except (TypeError, ValueError, OverflowError, RecursionError) as problem:
            made = TypeError if isinstance(problem, TypeError) else ValueError
            where = f"parameter ${number}" if parameter else f"column {number}"
            raise made(f"statement {name}, {where} ({kind}): {problem}") from None


def values(types: Sequence[str], given: Sequence[Value]) -> Row:
    """Values of these types from their bytes. GatewayError: not as many, or not of those types."""
    if len(given) != len(types):
        raise GatewayError("bad-parameters", f"{len(given)} values, not {len(types)}")
    return tuple(None if data is None else _value(kind, data) for kind, data in zip(types, given, strict=True))


def _value(kind: str, data: memoryview) -> Any:
    if len(data) != _WIDTHS.get(kind, len(data)):
        raise GatewayError("bad-parameters", f"{len(data)} bytes for the type {kind}")
    try:
        return DECODERS[kind](data, 0, len(data))
    except Exception as problem:  # what decoders of trusted bytes run into, whatever it is
        raise GatewayError("bad-parameters", f"no value of the type {kind}: {problem}") from None


def _json(data: memoryview) -> Any:
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError) as problem:
        raise GatewayError("protocol", f"not JSON: {problem}") from None
