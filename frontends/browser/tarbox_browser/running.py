"""The server's life: where it listens, under which names it is known, and how it ends."""

from __future__ import annotations

import errno
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple, NoReturn
from urllib.parse import urlsplit

import uvicorn

from tarbox_browser.app import Explorer
from tarbox_browser.assets import FOLDER, Assets
from tarbox_browser.connections import Connection, SocketConnection
from tarbox_browser.desk import Desk
from tarbox_browser.desk import House as House
from tarbox_browser.guard import Names
from tarbox_core.errors import TarboxError
from tarbox_core.frames import REQUEST_MAX

PORT: Final = 7860
TRIED: Final = 20  # ports from that one on, where none is asked for
KEY_MIN: Final = 16  # characters of the servers' secret
ENDING: Final = 10  # seconds that requests in work have at the end
PING: Final = 20.0  # seconds


class Started(NamedTuple):
    """`link` leads to the page and lets one browser in, once. `port`: where the server listens itself."""

    origin: str
    link: str
    port: int


def serve(
    house: House, *, ready: Callable[[Started], None], host: str = "127.0.0.1", port: int | None = None, origins: Sequence[str] = (),
    read_only: bool = False, folder: Path = FOLDER,
) -> None:
    """Serve until SIGTERM or SIGINT. `origins`: under which else browsers know this server, as https://files.example.org, where a
    proxy stands before it; the first is the one of the link. TarboxError: it cannot, or should not, listen there.
    """
    assets = Assets(folder)
    known = [_origin(each) for each in origins]
    _require_key(house, host, known)
    with listening(host, port) as listener:
        bound = listener.getsockname()[1]
        own = [] if _anywhere(host) else [f"http://{_bracketed(each)}:{bound}" for each in _spellings(host)]
        desk = Desk(house)
        try:
            origin = [*known, *own][0]
            started = Started(origin, f"{origin}/#token={desk.link(house.caller, read_only=read_only)}", bound)
            app = Explorer(desk, assets, Names.of(*known, *map(_short, own)), f"tarbox_{bound}")
            config = uvicorn.Config(
                app, http=Connection, ws=SocketConnection, ws_max_size=REQUEST_MAX, ws_per_message_deflate=False, ws_ping_interval=PING,
                ws_ping_timeout=PING, log_config=None, access_log=False, proxy_headers=False, server_header=False, timeout_graceful_shutdown=ENDING,
            )  # fmt: skip
            _run(uvicorn.Server(config), listener, lambda: ready(started))
        finally:
            desk.close()


class _Ended(Exception):
    """A signal asked for the end."""


def _run(server: uvicorn.Server, listener: socket.socket, ready: Callable[[], None]) -> None:
    """uvicorn takes the signals while it runs, and raises them once more when it has ended: then they are ours."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise _Ended

    logging.getLogger("uvicorn.error").addFilter(_worth_saying)
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with suppress(_Ended):
            ready()
            server.run([listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _worth_saying(record: logging.LogRecord) -> bool:
    """uvicorn takes a handshake that is answered with a refusal for one that was forgotten, and what is no text for an error of its own."""
    return record.msg not in ("ASGI callable returned without completing handshake.", "Invalid UTF-8 sequence received from client.")


def listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens on a port, or on the first that is free of some. TarboxError."""
    try:
        family, *_ = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise TarboxError(f"cannot listen on {host}: {error.strerror if isinstance(error, OSError) else error}") from None
    ports = range(PORT, PORT + TRIED) if port is None else (port,)
    for each in ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, each))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or each == ports[-1]:
                where = f"{host}, port {each}" if port is not None else f"{host}, port {PORT} or the {TRIED - 1} after it"
                other = "--host names an address of this machine" if error.errno == errno.EADDRNOTAVAIL else "--port names another"
                raise TarboxError(f"cannot listen on {where}: {(error.strerror or str(error)).lower()}; {other}") from None
    raise AssertionError("there is a port to try")


def _require_key(house: House, host: str, origins: Sequence[str]) -> None:
    """Others than this machine's users are let near only where tokens cannot be made by who writes the database alone."""
    if house.key and len(house.key) < KEY_MIN:
        raise TarboxError(f"the token secret (TARBOX_TOKEN_SECRET) has fewer than {KEY_MIN} characters: `openssl rand -hex 32` makes a good one")
    if not _loopback(host) and not house.key:
        raise TarboxError(
            f"{host} can be reached from other machines: set TARBOX_TOKEN_SECRET, or secret in [token] of the configuration, to a long random text"
            " (`openssl rand -hex 32` makes one) for this command and for `tarbox token create`; or listen on 127.0.0.1"
        )
    if _anywhere(host) and not origins:
        raise TarboxError(f"{host} is no name that a browser could use: say with --origin which it will, as in --origin https://files.example.org")


def _origin(given: str) -> str:
    """An origin as browsers write it."""
    parts = urlsplit(given.strip().rstrip("/").lower())
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.path or parts.query or parts.fragment or {"@", "*"} & {*parts.netloc}:
        raise TarboxError(f"{given!r} is no origin: write it as https://files.example.org or http://192.168.1.5:7860")
    return _short(f"{parts.scheme}://{parts.netloc}")


def _short(origin: str) -> str:
    """Without the port that its scheme has anyway."""
    parts = urlsplit(origin)
    return origin.removesuffix({"http": ":80", "https": ":443"}[parts.scheme]) if parts.port in (80, 443) else origin


def _spellings(host: str) -> list[str]:
    """Under which names a browser reaches it. Other loopback addresses are not what localhost is."""
    return [host, "localhost"] if host in ("127.0.0.1", "::1") else [host]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host.lower()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _anywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host
