"""One connection to PostgreSQL that runs batches of statements, each batch in one round trip.

Not here: opening sockets and TLS (sockets.py), who we are (login.py), the form of statements and values (codec.py), which
error a refusal is (refusals.py), what frames a transaction (framing.py), pools, retries, what a transaction is (the other files of this package).

The rules of the stream: a batch is one write that ends in one Sync, and is read up to its ReadyForQuery before anything
else is written; a Wire that cannot keep to that (socket error, interrupt, foreign message) closes and is never used again.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final, NamedTuple

from tarbox_core.drivers import sockets
from tarbox_core.drivers.codec import Plan, message, mismatch
from tarbox_core.drivers.dsn import Dsn
from tarbox_core.drivers.framing import BEGIN, COMMIT, HARDEN, PLANNING, ROLLBACK, opening, shared_name
from tarbox_core.drivers.login import log_in
from tarbox_core.drivers.refusals import AnswerTooLarge, LoginRefused, ParameterRefused, Starting, fields_of, sql_error
from tarbox_core.effects import Query, Rows, Statement
from tarbox_core.errors import ConnectError, ConnectionLost, RetryableError, SqlError

SMALL: Final = 64 << 10  # a write of this size fits the socket's buffer even when the server has stopped reading
BUFFER: Final = 256 << 10
BUFFER_KEPT: Final = 1 << 20  # a larger buffer is let go after the batch that needed it
STARTING_PAUSE: Final = 0.1  # seconds between attempts while the server starts
RESTED: Final = 10.0  # seconds without use after which the server of a pooled connection is asked whether it is there
ANSWER_WITHIN: Final = 5.0  # seconds

_HEADER: Final = Struct(">BI")
_SYNC: Final = message(b"S", b"")
_TERMINATE: Final = message(b"X", b"")

# Kinds of messages the server sends.
_AUTHENTICATION, _PARSED, _BOUND, _CLOSED, _DATA, _COMMAND_DONE, _EMPTY, _ERROR = b"R123DCIE"
_NOTICE, _NOTIFICATION, _PARAMETER, _READY, _ROW_TYPES, _NO_ROWS, _PARAMETER_TYPES = b"NASZTnt"

_ASK: Final = message(b"Q", b"\0")  # is answered, and does nothing

_NOT_PREPARED: Final = "26000"

# Of connections of one's own, and of pooled ones; statements are constants of the program, so this is bounded.
_plans: tuple[dict[Statement, Plan], dict[Statement, Plan]] = {}, {}


class Notification(NamedTuple):
    """What NOTIFY sent: by which server process, on which channel."""

    pid: int
    channel: str
    payload: str


class _Ended(Exception):
    """The stream is over. `undone`: it is certain that the batch at hand was not committed."""

    def __init__(self, text: str, undone: bool = False) -> None:
        self.undone = undone
        super().__init__(text)


class Wire:
    """A connection. Used by one thread at a time; only `cancel` and `abort` may come from another.

    `role` is the role the session works under. Sessions commit asynchronously (see docs/operations.md) unless
    `synchronous`. `settings` hold for the session as well. What a trip answers is at most `answer_max` bytes, or ends in
    AnswerTooLarge and the end of the connection. Raises ConnectError that says why there is no connection.
    `alone`: ParameterRefused where a pooler is between, whose server connections others may use after this one.

    `pooled`: the next transaction may run on another server connection, which others use as well (pgbouncer in transaction
    mode). So each transaction takes role and settings itself; a statement's name tells its text; and where the server knows
    no such name, RetryableError says so, and what was prepared is prepared anew. Such a connection may rest for long,
    frozen with its process: after that it is tried before it is used.

    `status` is "I" outside of a transaction, "T" inside, "E" inside one that failed. `notifications` holds what
    arrived while something else was read.
    """

    def __init__(
        self, dsn: Dsn, role: str | None = None, *, synchronous: bool = False, settings: Mapping[str, str] | None = None, pooled: bool = False,
        answer_max: int | None = None, alone: bool = False,
    ) -> None:
        self.dsn = dsn
        self.role = role
        self.pooled = pooled
        self.status = "I"
        self.closed = False
        self.notifications: deque[Notification] = deque(maxlen=10_000)
        self.notices: deque[str] = deque(maxlen=100)
        self.parameters: dict[str, str] = {}
        self._prepared: dict[Statement, Plan] = {}
        self._names: dict[str, Statement] = {}
        self._owed: tuple[list[Plan], list[Plan]] | None = None  # a rollback that was sent and whose reply was not read
        self._view = memoryview(bytearray(BUFFER))
        self._pos = self._end = 0
        self._answer_max = answer_max
        self._allowed: int | None = None  # bytes that the present trip may still answer
        fixed = {"client_encoding": "UTF8"} | ({"options": dsn.options} if dsn.options else {})
        self._settings = {"synchronous_commit": "on" if synchronous else "off", **(settings or {})}
        self._opening: tuple[Query, ...] = ()
        self._used = _clocks()
        self._process = os.getpid()
        if pooled:
            self.assume(role)
            self._connect(fixed)
            return
        wanted = self._wanted()
        try:
            self._connect(fixed | wanted)
        except ParameterRefused:  # a pooler that forwards no settings
            if alone:
                raise
            self._connect(fixed)
            quoted = {name: value.replace('"', '""') for name, value in wanted.items()}
            try:
                self.script(";".join(f'set {name} = "{value}"' for name, value in quoted.items()))
            except SqlError as error:
                self.close()
                raise ConnectError(f"{dsn.redacted()}: {error}") from None

    def _wanted(self) -> dict[str, str]:
        return self._settings if self.role is None else self._settings | PLANNING | {"role": self.role}

    def assume(self, role: str | None) -> None:
        """Of a pooled connection: what transactions from here on work under."""
        if self._opening and role == self.role:
            return
        self.role = role
        wanted = self._wanted()
        self._opening = (opening(tuple(wanted))(*wanted.values()),)

    # --- connecting

    def _connect(self, settings: dict[str, str]) -> None:
        deadline = time.monotonic() + self.dsn.connect_timeout
        while True:
            try:
                attempts = sockets.tls_attempts(self.dsn)
                for number, tls in enumerate(attempts, 1):
                    try:
                        self._log_in(tls, settings)
                        return
                    except LoginRefused:
                        if number == len(attempts):
                            raise
            except Starting:
                if time.monotonic() + STARTING_PAUSE > deadline:
                    raise
                time.sleep(STARTING_PAUSE)

    def _log_in(self, tls: sockets.Tls, settings: dict[str, str]) -> None:
        self._stream, self._key, parameters = log_in(self.dsn, tls, settings)
        self._tls = tls
        self._would_block = sockets.would_block(tls)
        self.pid = int.from_bytes(self._key[:4])
        self.parameters.update(parameters)

    # --- running statements

    def execute(self, queries: Sequence[Query], *, begin: bool = False, commit: bool = False, durable: bool = False) -> list[Rows]:
        """Run the queries in order in one round trip; the rows of each.

        `begin` opens a transaction before the first, `commit` ends it after the last. With `durable`, which counts
        where `begin` is given, the transaction's commit and all commits before it are on disk when it has returned.

        Raises TypeError or ValueError, with nothing sent, when a value does not fit its parameter. Raises SqlError or
        a kin when the server refuses a statement: those behind it did not run, and the transaction can only be rolled
        back. Raises ConnectionLost.
        """
        whole = begin and commit  # statements up to one Sync are a transaction by themselves
        lead: list[Query] = []
        if begin:
            lead += self._opening
            if durable:
                lead.append(HARDEN)
            if not whole:
                lead.insert(0, BEGIN)
        steps = [*lead, *queries]
        if commit and not whole:
            steps.append(COMMIT)
        if not steps:
            return []
        data, plans, parsing = self._messages(steps)
        results = self._trip(data, plans, parsing, commit, len(plans) if whole else len(plans) - 1)
        return results[len(lead):len(lead) + len(queries)] if len(results) != len(queries) else results

    def _messages(self, steps: Sequence[Query]) -> tuple[bytes, list[Plan], list[Plan]]:
        """What is to be sent for the steps up to a Sync, their plans, and the plans that are parsed for it."""
        parts: list[bytes] = []
        plans: list[Plan] = []
        parsing: list[Plan] = []
        prepared = self._prepared
        for statement, values in steps:
            plan = prepared.get(statement)
            if plan is None:
                plan = self._plan(statement)
                if plan not in parsing:
                    if self.pooled:
                        parts.append(plan.forget)  # what another client may have prepared
                    parts.append(plan.parse)
                    parsing.append(plan)
            plan.bind(values, parts)
            plans.append(plan)
        parts.append(_SYNC)
        return b"".join(parts), plans, parsing

    def script(self, sql: str) -> None:
        """Run several statements, without parameters or rows, as one transaction unless they say otherwise."""
        self._trip(message(b"Q", sql.encode() + b"\0"), [], [], True, 0, "script")

    def rollback(self) -> None:
        """End an open transaction. The reply is read when the connection is next used."""
        if self._gone() or self.status == "I":
            return
        data, plans, parsing = self._messages((ROLLBACK,))
        try:
            self._stream.sendall(data)
        except OSError:
            self.close()  # which rolls back as well
            return
        except BaseException:
            self.close()
            raise
        self._owed = (plans, parsing)
        self.status = "I"

    def alive(self) -> bool:
        """Whether the server is still there, as far as can be told without asking it, or, where a pooled connection rested for
        long, by asking. Closes the wire if not."""
        if self._gone():
            return False
        try:
            self._settle()
            self._absorb(0)
            if self.pooled and any(now - then > RESTED for now, then in zip(_clocks(), self._used, strict=True)):
                self._stream.settimeout(ANSWER_WITHIN)
                self._trip(_ASK, [], [], False, 0, "ask")
                self._stream.settimeout(None)
        except (ConnectionLost, SqlError):
            self.close()
        return not self.closed

    def wait_notification(self, timeout: float | None) -> Notification | None:
        """The next notification, waiting up to `timeout` seconds (None: without end). Raises ConnectionLost."""
        if self._gone():
            raise ConnectionLost("the connection is closed")
        self._settle()
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.notifications:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._absorb(left)
            if left == 0 and not self.notifications:
                return None
        return self.notifications.popleft()

    def cancel(self) -> None:
        """Ask the server, over a connection of its own, to stop what this one runs. May come too late to matter.

        Raises ConnectError when the server cannot be reached.
        """
        try:
            with sockets.connect(self.dsn, self._tls) as stream:
                stream.sendall(message(b"", b"\x04\xd2\x16\x2e" + self._key))  # 80877102
                while stream.recv(64):
                    pass
        except OSError as error:
            raise ConnectError(f"{self.dsn.redacted()}: cannot cancel: {error}") from None

    def abort(self) -> None:
        """Break the connection under a thread that waits for it; that thread gets ConnectionLost."""
        try:
            self._stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # already down, which is what was wanted

    def close(self) -> None:
        """Leave. An open transaction is rolled back by the server. May be called again."""
        if self._gone():
            return
        self.closed = True
        self.status = "I"
        try:
            self._stream.setblocking(False)
            self._stream.send(_TERMINATE)
        except OSError:
            pass  # a farewell; the server notices the end of the stream as well
        finally:
            self._stream.close()
            self._view = memoryview(b"")

    def _gone(self) -> bool:
        """Whether this process has it no longer. One that was forked off forgets what its parent goes on with, and says nothing there."""
        if not self.closed and self._process != os.getpid():
            self.closed = True
            self.status = "I"
            self._stream.close()
        return self.closed

    # --- the stream

    def _plan(self, statement: Statement) -> Plan:
        known = _plans[self.pooled]
        plan = known.get(statement)
        if plan is None:
            plan = known[statement] = Plan(statement, shared_name(statement) if self.pooled else None)
        if self._names.setdefault(statement.name, statement) is not statement:
            raise ValueError(f"two different statements are called {statement.name}")
        return plan

    def _trip(self, data: bytes, plans: list[Plan], parsing: list[Plan], commit: bool, commit_at: int, what: str = "") -> list[Rows]:
        if self._gone():
            raise ConnectionLost("the connection is closed")
        if self._owed is not None:
            self._settle()
        sent = False
        self._allowed = self._answer_max
        try:
            if len(data) <= SMALL:
                self._stream.sendall(data)
            else:
                self._send_large(data)
            sent = True
            results, failure = self._collect(plans, parsing, commit_at, what)
            self._allowed = None
        except _Ended as end:
            self.close()
            raise ConnectionLost(f"connection lost: {end}", commit and sent and not end.undone) from None
        except OSError as error:
            self.close()
            raise ConnectionLost(f"connection lost: {error}", commit and sent) from None
        except BaseException:
            self.close()
            raise
        if failure is not None:
            if isinstance(failure, TypeError):
                self.close()  # its statement is prepared, and would not be checked again
            elif self.pooled and failure.sqlstate == _NOT_PREPARED:
                self._prepared.clear()
                raise RetryableError(failure.sqlstate, "the pooler gave another server connection", failure.statement)
            raise failure
        if self.pooled:
            self._used = _clocks()
        return results

    def _settle(self) -> None:
        """Read the reply to a rollback that was sent before."""
        if self._owed is None:
            return
        (plans, parsing), self._owed = self._owed, None
        try:
            _, failure = self._collect(plans, parsing, 0, "rollback")
        except (_Ended, OSError) as error:
            self.close()
            raise ConnectionLost(f"connection lost: {error}") from None
        except BaseException:
            self.close()
            raise
        if failure is not None:
            self.close()
            raise failure

    def _send_large(self, data: bytes) -> None:
        """Write more than the sockets' buffers hold: the server may have to get rid of replies before it reads on."""
        left = memoryview(data)
        stream = self._stream
        stream.setblocking(False)
        try:
            while left:
                try:
                    left = left[stream.send(left[:BUFFER]):]
                except self._would_block:
                    if sockets.wait(stream, write=True, timeout=None):
                        self._receive()
        finally:
            stream.setblocking(True)

    def _receive(self) -> None:
        """One read of whatever has arrived into free room; on a stream that does not block, perhaps nothing."""
        if len(self._view) - self._end < SMALL:
            self._make_room(self._end - self._pos + SMALL)
        try:
            got = self._stream.recv_into(self._view[self._end:])
        except self._would_block:
            return
        if not got:
            raise _Ended("the server closed it")
        self._end += got
        self._count(got)

    def _make_room(self, need: int) -> None:
        """Room for `need` bytes from the first unread one on."""
        rest = self._end - self._pos
        if need > len(self._view):
            bigger = memoryview(bytearray(1 << (need + SMALL - 1).bit_length()))
            bigger[:rest] = self._view[self._pos:self._end]
            self._view = bigger
        else:
            self._view[:rest] = self._view[self._pos:self._end]
        self._pos, self._end = 0, rest

    def _fill(self, need: int) -> None:
        """Read until `need` unread bytes are here."""
        if self._pos == self._end:
            self._pos = self._end = 0
        if self._pos + need > len(self._view):
            if self._allowed is not None and need > self._allowed + BUFFER:
                self._count(need)
            self._make_room(need)
        stream = self._stream
        while self._end - self._pos < need:
            got = stream.recv_into(self._view[self._end:])
            if not got:
                raise _Ended("the server closed it")
            self._end += got
            self._count(got)

    def _count(self, got: int) -> None:
        if self._allowed is not None:
            self._allowed -= got
            if self._allowed < 0:
                raise AnswerTooLarge("54000", f"an answer of more than {self._answer_max} bytes")

    def _collect(self, plans: list[Plan], parsing: list[Plan], commit_at: int, what: str) -> tuple[list[Rows], SqlError | TypeError | None]:
        """Read replies up to ReadyForQuery: the rows of each plan, and the first failure.

        When `commit_at` statements are complete, the commit is under way. Raises _Ended, OSError.
        """
        results: list[Rows] = []
        rows: Rows = []
        failure: SqlError | TypeError | None = None
        done = parsed = 0
        last = len(plans)
        decode = plans[0].decode if plans else None
        view, pos, end = self._view, self._pos, self._end
        header = _HEADER.unpack_from
        while True:
            have = end - pos
            size = 5
            if have >= 5:
                kind, size = header(view, pos)
                size += 1
            if have < size:
                self._pos = pos
                self._fill(size)
                view, pos, end = self._view, self._pos, self._end
                continue
            if kind == _DATA:
                if decode is not None:
                    rows.append(decode(view, pos, size))
            elif kind == _COMMAND_DONE or kind == _EMPTY:
                results.append(rows)
                rows = []
                done += 1
                decode = plans[done].decode if done < last else None
            elif kind == _READY:
                self.status = chr(view[pos + 5])
                break
            elif kind == _PARSED:
                plan = parsing[parsed]
                if plan.name:
                    self._prepared[plan.statement] = plan
                parsed += 1
            elif kind == _ROW_TYPES or kind == _NO_ROWS:
                if parsed and failure is None:
                    failure = mismatch(parsing[parsed - 1].statement, bytes(view[pos + 5:pos + size]) if kind == _ROW_TYPES else b"\0\0")
                    if failure is not None:
                        plans, decode, last = [], None, 0
            elif kind == _ERROR:
                fields = fields_of(view[pos + 5:pos + size])
                if fields.get("V", fields.get("S")) in ("FATAL", "PANIC"):
                    raise _Ended(fields.get("M", "the server ended it"), undone=failure is not None or done < commit_at)
                if failure is None:
                    failure = sql_error(fields, plans[done].statement.name.lstrip("=") if done < last else what or "commit")
            elif kind != _BOUND and kind != _PARAMETER_TYPES and kind != _CLOSED:
                self._aside(kind, view[pos + 5:pos + size])
            pos += size
        self._pos = pos + size
        self._end = end
        if self._pos == end:
            self._pos = self._end = 0
            if len(view) > BUFFER_KEPT:
                self._view = memoryview(bytearray(BUFFER))
        return results, failure

    def _absorb(self, timeout: float | None) -> None:
        """Take in what the server sends unasked, waiting up to `timeout` seconds for it."""
        try:
            if self._end - self._pos < 5 and not sockets.wait(self._stream, write=False, timeout=timeout):
                return
            self._stream.setblocking(False)
            try:
                self._receive()
            finally:
                self._stream.setblocking(True)
            while self._end - self._pos >= 5:
                kind, size = _HEADER.unpack_from(self._view, self._pos)
                if self._end - self._pos <= size:
                    self._fill(size + 1)
                body = self._view[self._pos + 5:self._pos + 1 + size]
                if kind == _ERROR:
                    raise _Ended(fields_of(body).get("M", "the server ended it"))
                self._aside(kind, body)
                self._pos += size + 1
        except (_Ended, OSError) as error:
            self.close()
            raise ConnectionLost(f"connection lost: {error}") from None
        except BaseException:
            self.close()
            raise

    def _aside(self, kind: int, body: memoryview) -> None:
        """A message that may come at any time."""
        if kind == _NOTIFICATION:
            channel, payload = bytes(body[4:-1]).split(b"\0", 1)
            self.notifications.append(Notification(int.from_bytes(body[:4]), channel.decode(), payload.decode()))
        elif kind == _NOTICE:
            self.notices.append(fields_of(body).get("M", ""))
        elif kind == _PARAMETER:
            name, value = bytes(body[:-1]).split(b"\0", 1)
            self.parameters[name.decode()] = value.decode()
        else:
            raise _Ended(f"the server sent a message of kind {chr(kind)!r}, which was not asked for")


def _clocks() -> tuple[float, float]:
    """Seconds, by the clock that does not go back and by the one that goes on while a machine is frozen."""
    return time.monotonic(), time.time()
