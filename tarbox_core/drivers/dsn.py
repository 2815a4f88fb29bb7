"""Where a database is and as whom to enter it: a frozen Dsn, and the URL people write for it.

Not here: connecting. The environment arrives as a mapping, so that parsing stays a pure function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tarbox_core.errors import ConnectError

SSLMODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SCHEMES: Final = ("postgresql", "postgres")
DEFAULT_PORT: Final = 5432
DEFAULT_CONNECT_TIMEOUT: Final = 10.0

# Parameters of libpq that change nothing here: connections are always kept alive and speak UTF-8, and a channel is
# bound wherever SCRAM runs over TLS.
_ACCEPTED: Final = frozenset({
    "channel_binding", "client_encoding", "fallback_application_name", "gssencmode", "keepalives", "keepalives_count",
    "keepalives_idle", "keepalives_interval", "sslcompression", "sslnegotiation", "target_session_attrs", "tcp_user_timeout",
})
_IGNORABLE_ONLY_AS: Final = {"sslnegotiation": ("postgres",), "target_session_attrs": ("any", "read-write", "primary", "prefer-standby")}


@dataclass(frozen=True, slots=True)
class Dsn:
    """A database and a login.

    `host` is a name or address for TCP; `unix_sock` is the directory that holds the server's socket, and wins. When
    both are empty the usual socket directories are tried, then localhost. An empty `user` is the operating system's
    user, an empty `database` is called like the user. `connect_timeout` is in seconds. `options` are settings for the
    session, as for the server's command line: "-c work_mem=64MB".
    """

    host: str = ""
    port: int = DEFAULT_PORT
    database: str = ""
    user: str = ""
    password: str | None = field(default=None, repr=False)
    unix_sock: str = ""
    sslmode: str = "prefer"
    sslrootcert: str = ""
    application_name: str = "tarbox"
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    options: str = ""

    def redacted(self) -> str:
        """As a URL for messages, with *** in place of the password."""
        login = quote(self.user, safe="") + (":***" if self.password is not None else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = f"?host={quote(self.unix_sock)}" if self.unix_sock else ""
        port = f":{self.port}" if self.port != DEFAULT_PORT else ""
        return f"postgresql://{login + '@' if login else ''}{'' if self.unix_sock else host}{port}/{quote(self.database, safe='')}{query}"


def parse_url(url: str, env: Mapping[str, str] | None = None) -> Dsn:
    """The Dsn of a postgresql:// URL, as libpq reads it: percent-encoding, ?host=/socket/directory, ?sslmode=...

    `env` gives defaults under libpq's names (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE, ...) for what
    the URL leaves out. Raises ConnectError that says what is wrong with the URL, without its password.
    """
    env = env or {}
    if "://" not in url:
        raise ConnectError("database URL: expected something like postgresql://user:password@host/database")
    if "#" in url:
        raise ConnectError("database URL: a '#' in it must be written %23")
    try:
        parts = urlsplit(url)
        port_in_url = parts.port
    except ValueError as error:
        raise ConnectError(f"database URL: {_clean(str(error))}") from None
    if parts.scheme not in SCHEMES:
        raise ConnectError(f"database URL: the scheme is {parts.scheme!r}; only postgresql:// is known")
    given = _parameters(parts.query)
    netloc_host = _hostname(parts.netloc)
    if "," in netloc_host or "," in given.get("host", ""):
        raise ConnectError("database URL: several hosts in one URL are not supported")

    def pick(parameter: str, in_url: str | None, variable: str, default: str = "") -> str:
        if parameter in given:
            return given[parameter]
        return in_url if in_url else env.get(variable, "") or default

    host = pick("host", _decoded(netloc_host, "host"), "PGHOST")
    if "hostaddr" in given:
        host = given["hostaddr"]
    is_socket = host.startswith("/")
    password = given.get("password", _decoded(parts.password, "password") if parts.password is not None else env.get("PGPASSWORD"))
    sslmode = pick("sslmode", None, "PGSSLMODE", "prefer")
    if sslmode not in SSLMODES:
        raise ConnectError(f"database URL: sslmode={sslmode!r} is none of {', '.join(SSLMODES)}")
    dsn = Dsn(
        host="" if is_socket else host,
        port=_port(pick("port", str(port_in_url) if port_in_url is not None else None, "PGPORT", str(DEFAULT_PORT))),
        database=pick("dbname", _decoded(parts.path[1:], "database name"), "PGDATABASE"),
        user=pick("user", _decoded(parts.username or "", "user name"), "PGUSER"),
        password=password,
        unix_sock=host if is_socket else "",
        sslmode=sslmode,
        sslrootcert=pick("sslrootcert", None, "PGSSLROOTCERT"),
        application_name=pick("application_name", None, "PGAPPNAME", "tarbox"),
        connect_timeout=_seconds(pick("connect_timeout", None, "PGCONNECT_TIMEOUT", str(DEFAULT_CONNECT_TIMEOUT))),
        options=pick("options", None, "PGOPTIONS"),
    )
    for what, text in (("host", host), ("user name", dsn.user), ("database name", dsn.database), ("password", password or ""),
                       ("application_name", dsn.application_name), ("options", dsn.options)):
        if "\0" in text:
            raise ConnectError(f"database URL: the {what} holds a NUL")
    return dsn


def _clean(message: str) -> str:
    """urllib quotes the offending piece, which may be part of a password with a stray '@' or ':'."""
    return "the port is not a number between 0 and 65535 (a ':', '@', '/' or '%' inside a user name or password must be percent-encoded)" \
        if "ort" in message else "the host is not a valid name or address (write an IPv6 address in brackets)"


def _hostname(netloc: str) -> str:
    """The host of a netloc in its own letter case (urlsplit's lower-cases, which harms socket directories)."""
    host = netloc.rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _parameters(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict") if query else []
    except ValueError:
        raise ConnectError("database URL: the part after '?' is not of the form name=value&name=value") from None
    known = {"host", "hostaddr", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "application_name", "connect_timeout", "options"}
    for name, value in pairs:
        if name not in known and name not in _ACCEPTED:
            raise ConnectError(f"database URL: unknown parameter {name!r}")
        if value not in _IGNORABLE_ONLY_AS.get(name, (value,)):
            raise ConnectError(f"database URL: {name}={value} is not supported")
    # An '+' in a URL of libpq is a plus, not a space.
    return {name: unquote(raw) for name, raw in (pair.partition("=")[::2] for pair in query.split("&")) if name in known} if query else {}


def _decoded(text: str, what: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ConnectError(f"database URL: the {what} is not UTF-8 after percent-decoding") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 65536:
        raise ConnectError(f"database URL: port {text!r} is not a number between 1 and 65535")
    return int(text)


def _seconds(text: str) -> float:
    """libpq's connect_timeout: 0 and below wait without end, which is a day here."""
    try:
        value = float(text)
    except ValueError:
        raise ConnectError(f"database URL: connect_timeout={text!r} is not a number of seconds") from None
    if value != value:
        raise ConnectError("database URL: connect_timeout is not a number of seconds")
    return min(value, 86400.0) if value > 0 else 86400.0
