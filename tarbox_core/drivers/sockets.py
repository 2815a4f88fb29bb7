"""Sockets to a PostgreSQL server: where to, with or without TLS, and waiting on them. Not here: the protocol on top."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from tarbox_core.drivers.dsn import Dsn
from tarbox_core.errors import ConnectError

if TYPE_CHECKING:
    import ssl

SOCKET_DIRECTORIES: Final = ("/var/run/postgresql", "/run/postgresql", "/tmp")
_SSL_REQUEST: Final = b"\0\0\0\x08\x04\xd2\x16\x2f"
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}  # a dead peer is known after two minutes

Tls = str  # "no", "try", "must", or "verify-ca" or "verify-full"
_contexts: dict[tuple[Tls, str], ssl.SSLContext] = {}


def system_user() -> str:
    """The name of the operating system's user, who is the database user when none is named."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise ConnectError("the database URL names no user, and this process's user has no name") from None


def socket_path(dsn: Dsn) -> str:
    """The path of the server's socket; "" when it is to be reached over TCP."""
    name = f".s.PGSQL.{dsn.port}"
    if dsn.unix_sock:
        return f"{dsn.unix_sock}/{name}"
    if not dsn.host:
        for directory in SOCKET_DIRECTORIES:
            if os.path.exists(f"{directory}/{name}"):
                return f"{directory}/{name}"
    return ""


def tls_attempts(dsn: Dsn) -> list[Tls]:
    """How to try to connect, in turn, as sslmode says; the next only if the server's rules refused the one before.

    A Python without TLS (WebAssembly's) connects without where sslmode lets it; ConnectError where it does not.
    """
    if socket_path(dsn):
        return ["no"]
    if find_spec("_ssl") is None:
        if dsn.sslmode not in ("disable", "allow", "prefer"):
            raise ConnectError(f"{dsn.redacted()}: this Python has no TLS, which sslmode={dsn.sslmode} asks for")
        return ["no"]
    return {"disable": ["no"], "allow": ["no", "must"], "prefer": ["try", "no"], "require": ["must"]}.get(dsn.sslmode, [dsn.sslmode])


def connect(dsn: Dsn, tls: Tls) -> socket.socket:
    """A connected socket, encrypted where `tls` asks for it, whose timeout is the Dsn's. Raises ConnectError."""
    where = dsn.redacted()
    path = socket_path(dsn)
    host = dsn.host or "localhost"
    deadline = time.monotonic() + dsn.connect_timeout
    stream: socket.socket | None = None
    try:
        if path:
            if not hasattr(socket, "AF_UNIX"):
                raise ConnectError(f"{where}: there are no Unix sockets here: name the server's host")
            stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            stream.settimeout(dsn.connect_timeout)
            stream.connect(path)
            return stream
        stream = socket.create_connection((host, dsn.port), dsn.connect_timeout)
        stream.settimeout(max(0.1, deadline - time.monotonic()))
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if tls != "no":
            return _encrypted(dsn, stream, tls, host)
        return stream
    except BaseException as error:
        if stream is not None:
            stream.close()
        if isinstance(error, TimeoutError):
            raise ConnectError(f"{where}: no answer within {dsn.connect_timeout:g} s") from None
        if isinstance(error, FileNotFoundError):
            raise ConnectError(f"{where}: there is no socket {path}: is the server running?") from None
        if isinstance(error, ConnectionRefusedError):
            raise ConnectError(f"{where}: connection refused by {path or f'{host}:{dsn.port}'}: is the server running there?") from None
        if sys.platform == "wasi" and (isinstance(error, PermissionError) or (isinstance(error, socket.gaierror) and error.errno == socket.EAI_FAIL)):
            raise ConnectError(f"{where}: the WebAssembly host does not let this program connect: it must grant TCP and name lookups") from None
        if isinstance(error, socket.gaierror):
            raise ConnectError(f"{where}: no host is called {host}: {error.strerror}") from None
        if isinstance(error, (OSError, UnicodeError)):
            raise ConnectError(f"{where}: cannot connect: {error}") from None
        raise


def _encrypted(dsn: Dsn, stream: socket.socket, tls: Tls, host: str) -> socket.socket:
    where = dsn.redacted()
    stream.sendall(_SSL_REQUEST)
    answer = stream.recv(1)
    if answer == b"N" and tls == "try":
        return stream
    if answer == b"N":
        raise ConnectError(f"{where}: the server offers no TLS, which sslmode={dsn.sslmode} asks for")
    if answer != b"S":
        raise ConnectError(f"{where}: what answers there is not PostgreSQL")
    import ssl

    try:
        return _context(dsn, tls).wrap_socket(stream, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise ConnectError(f"{where}: the server's certificate is not to be trusted: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise ConnectError(f"{where}: no TLS with the server: {error}") from None


def _context(dsn: Dsn, tls: Tls) -> ssl.SSLContext:
    import ssl

    key = (tls, dsn.sslrootcert)
    if key not in _contexts:
        if tls.startswith("verify"):
            roots = dsn.sslrootcert
            try:
                context = ssl.create_default_context(cafile=None if roots in ("", "system") else roots)
            except (OSError, ssl.SSLError) as error:
                raise ConnectError(f"sslrootcert {roots}: {error}") from None
            context.check_hostname = tls == "verify-full"
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        _contexts[key] = context
    return _contexts[key]


def would_block(tls: Tls) -> tuple[type[BaseException], ...]:
    """What a stream that does not block raises when it would have to."""
    if tls == "no":
        return (BlockingIOError,)
    import ssl

    return (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def wait(stream: socket.socket, *, write: bool, timeout: float | None) -> bool:
    """Wait until the stream can be read (or, with `write`, be written), at most `timeout` seconds; whether it can be read."""
    pending = getattr(stream, "pending", None)
    if pending is not None and pending():
        return True
    if not hasattr(select, "poll"):
        readable, _, _ = select.select([stream], [stream] if write else [], [], timeout)
        return bool(readable)
    poll = select.poll()
    poll.register(stream, select.POLLIN | select.POLLOUT if write else select.POLLIN)
    events = poll.poll(None if timeout is None else max(0, int(timeout * 1000 + 0.999)))
    return any(event & ~select.POLLOUT for _, event in events)
