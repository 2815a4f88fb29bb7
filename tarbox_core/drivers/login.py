"""Entering a server: pg8000 greets it and proves who we are; from then on the socket is ours.

All that touches pg8000 is here, and it is loaded only when a connection is made. It leans on private names of it, so its
version is pinned.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import NamedTuple

from tarbox_core.drivers import sockets
from tarbox_core.drivers.dsn import Dsn
from tarbox_core.drivers.refusals import refusal
from tarbox_core.errors import ConnectError


class Login(NamedTuple):
    """A session that waits for its first request."""

    stream: socket.socket  # without a timeout
    key: bytes  # what a request to cancel says: the server's process, and its secret
    parameters: Mapping[str, str]  # as the server told them


def log_in(dsn: Dsn, tls: sockets.Tls, settings: Mapping[str, str]) -> Login:
    """A new session with these settings. Raises ConnectError, of which LoginRefused, ParameterRefused and Starting are kinds."""
    from pg8000.core import CoreConnection
    from pg8000.exceptions import DatabaseError

    user = dsn.user or sockets.system_user()
    stream = sockets.connect(dsn, tls)
    try:
        connection = CoreConnection(
            user, database=dsn.database or user, password=dsn.password or "", sock=stream, ssl_context=False,
            application_name=dsn.application_name, startup_params=settings,
        )
    except BaseException as error:
        stream.close()
        if not isinstance(error, Exception):
            raise
        # pg8000 says farewell on a connection the server may have closed: the refusal is then the context.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, DatabaseError):
            cause = cause.__context__
        if cause is not None and cause.args and isinstance(cause.args[0], dict):
            raise refusal(dsn, user, cause.args[0]) from None
        if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
            raise ConnectError(f"{dsn.redacted()}: the server did not answer within {dsn.connect_timeout:g} s") from None
        raise ConnectError(f"{dsn.redacted()}: no PostgreSQL greeted us there: {type(error).__name__}: {error}") from error
    # The server says nothing after its first ReadyForQuery until it is asked, so pg8000's reader holds nothing back.
    assert connection._usock is stream and connection._backend_key_data is not None
    connection._sock.close()
    stream.settimeout(None)
    return Login(stream, bytes(connection._backend_key_data), connection.parameter_statuses)
