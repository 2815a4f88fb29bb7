"""The settings in force: one TOML file, environment variables over it, options over both; and where each value came from.

The names of the settings are fixed. Every wrong name, type or value is a ConfigError that says where it stands. Not here: what
the settings do, and the spelling of a database URL (tarbox_core/drivers/dsn.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from tarbox_core.errors import TarboxError

T = TypeVar("T")


class ConfigError(TarboxError):
    """A setting that cannot be used: which, and the file and line, variable or option it stands in."""


# --- values: each parser takes what TOML, a variable or an option gives, and raises ValueError("expected ...")


def text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text in quotes")
    if "\0" in value:
        raise ValueError("expected text without NUL")
    return value


def flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if not isinstance(value, _FromOutside) or value.lower() not in words:
        raise ValueError("expected true or false")
    return words[value.lower()]


def whole(value: object, least: int = 1) -> int:
    if isinstance(value, _FromOutside) and re.fullmatch(r"[+-]?[0-9]{1,18}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"expected a whole number, {least} or more")
    return value


def integer(value: object) -> int:
    return whole(value, -(1 << 31))


_SIZE_UNITS: Final = {"": 1, "b": 1} | {f"{c}b": 1000**n for n, c in enumerate("kmgtp", 1)} | {f"{c}ib": 1024**n for n, c in enumerate("kmgtp", 1)}
_SECONDS: Final = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001), **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0), **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0), **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}


def _measure(value: object, units: Mapping[str, float], expected: str) -> float:
    """A number and a unit, above zero."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([a-z]*)", value.strip().lower()) if isinstance(value, str) else None
    if match is None or match[2] not in units or not float(match[1]) > 0:
        raise ValueError(expected)
    number = float(match[1]) if "." in match[1] else int(match[1])
    return number * units[match[2]]


def size(value: object) -> int:
    """Bytes of 65536, "64MB" (million) or "64MiB" (2**20)."""
    found = _measure(value, _SIZE_UNITS, 'expected a size such as 65536, "64MB" or "64MiB"')
    if found != int(found) or found >= 1 << 63:
        raise ValueError("expected a whole number of bytes below 2**63")
    return int(found)


def duration(value: object) -> float:
    """Seconds of 30, "30s", "1h" or "90 days"."""
    return _measure(value, _SECONDS, 'expected a duration such as "30s", "1h" or "90 days"')


def days(value: object) -> int:
    """Days of 90 or "90 days"."""
    if isinstance(value, str) and not value.strip().isdigit():
        found = duration(value) / 86400
        if found != int(found):
            raise ValueError("expected whole days")
        return int(found)
    return whole(int(value) if isinstance(value, str) else value)


def tree_block(value: object) -> int:
    found = size(value)
    if not 4096 <= found <= 1 << 20 or found & (found - 1):
        raise ValueError("expected a power of two from 4096 to 1048576")
    return found


def host_dir(value: object) -> str:
    if not text(value).startswith("/"):
        raise ValueError("expected an absolute path")
    return text(value)


def database_url(value: object) -> str:
    """Empty: the embedded PostgreSQL, whatever a file or a variable of less weight says."""
    if text(value) and not text(value).startswith(("postgresql://", "postgres://")):
        raise ValueError("expected something like postgresql://user:password@host/database")
    return text(value)


def one_of(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in words:
            raise ValueError("expected " + " or ".join(f'"{word}"' for word in words))
        return str(value)

    return parse


class _FromOutside(str):
    """A value from the environment or an option: all of these are text, so numbers and truth values are read from it."""


# --- the settings


def _key(parse: Callable[[object], T], default: T) -> T:
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, slots=True)
class Database:
    """`url` is None for the embedded PostgreSQL. In files and variables, host, port, database, user and password are written over it."""

    url: str | None = field(default=None, repr=False, metadata={"parse": database_url})
    pool_size: int = _key(whole, 20)
    connection_timeout: float = _key(duration, 30.0)  # seconds
    durability: str = _key(one_of("default", "always"), "default")


@dataclass(frozen=True, slots=True)
class Files:
    """The section [filesystem]. Sizes are bytes; `block_size` is for tenants that are created."""

    mount_point: str = _key(host_dir, "/mnt/tarbox")
    block_size: int = _key(tree_block, 65536)
    max_file_size: int = _key(size, 10_000_000_000)


@dataclass(frozen=True, slots=True)
class Cache:
    """Bytes of metadata and of blocks that a door may keep in memory."""

    metadata_size: int = _key(size, 64_000_000)
    block_size: int = _key(size, 256_000_000)
    policy: str = _key(one_of("lru"), "lru")


@dataclass(frozen=True, slots=True)
class Audit:
    """`batch_size` is for reads: the records of mutations are written with them."""

    enabled: bool = _key(flag, True)
    retention_days: int = _key(days, 90)
    batch_size: int = _key(whole, 100)


@dataclass(frozen=True, slots=True)
class Layer:
    auto_checkpoint: bool = _key(flag, False)
    checkpoint_interval: float = _key(duration, 3600.0)  # seconds


@dataclass(frozen=True, slots=True)
class Token:
    """`secret` is the servers' own: what is stored of a token depends on it."""

    secret: str = field(default="", repr=False, metadata={"parse": text})


@dataclass(frozen=True, slots=True)
class NativeMount:
    """A host directory at a path of the tree. `source` may contain {tenant_id}."""

    path: str = _key(host_dir, "")  # required, as is source
    source: str = _key(host_dir, "")
    mode: str = _key(one_of("rw", "ro"), "rw")
    shared: bool = _key(flag, False)
    priority: int = _key(integer, 20)


class Source(NamedTuple):
    """One setting as `tarbox config show` tells it: the value (no password in it), and where it came from."""

    key: str  # "database.pool_size", "native_mounts[0].path"
    value: str | int | float | bool | None
    origin: str  # "default", "TARBOX_AUDIT_ENABLED", "/etc/tarbox/config.toml, line 3", "--database-url"


@dataclass(frozen=True, slots=True)
class Config:
    tenant: str | None = None
    branch: str = "main"
    database: Database = Database()
    filesystem: Files = Files()
    cache: Cache = Cache()
    audit: Audit = Audit()
    layer: Layer = Layer()
    token: Token = Token()
    native_mounts: tuple[NativeMount, ...] = ()
    file: str | None = None  # the configuration file that was read
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)  # of what is not a default

    def sources(self) -> Iterator[Source]:
        """Every setting with its origin, in the order of the documentation."""
        for name in _TOP:
            yield Source(name, getattr(self, name), self.origins.get(name, "default"))
        parts: list[tuple[str, object]] = [(name, getattr(self, name)) for name in _SECTIONS]
        parts += [(f"native_mounts[{i}]", mount) for i, mount in enumerate(self.native_mounts)]
        for name, part in parts:
            for item in fields(part):  # type: ignore[arg-type]
                key = f"{name}.{item.name}"
                value = getattr(part, item.name)
                yield Source(key, _HIDING[key](value) if key in _HIDING and value else value, self.origins.get(key, "default"))


_TOP: Final = ("tenant", "branch")  # settings outside of sections
_SECTIONS: Final[Mapping[str, type[Any]]] = {"database": Database, "filesystem": Files, "cache": Cache, "audit": Audit, "layer": Layer, "token": Token}
_LOGIN: Final[dict[str, Callable[[object], Any]]] = {"host": text, "port": whole, "database": text, "user": text, "password": text}


def _parsers(kind: type[Any]) -> dict[str, Callable[[object], Any]]:
    own = {item.name: item.metadata["parse"] for item in fields(kind)}
    return own | _LOGIN if kind is Database else own


# --- where settings come from


class _Given(NamedTuple):
    section: str
    key: str
    value: object
    origin: str


def load(path: str | bytes | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None) -> Config:
    """The settings in force.

    `path`: the file of --config, which must exist; without it, TARBOX_CONFIG, then ./tarbox.toml,
    $XDG_CONFIG_HOME/tarbox/config.toml and /etc/tarbox/config.toml, the first that is there. `overrides`: values of
    options by key ("database.url", "tenant", "branch"); None means not given. Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    file = _find(os.fsdecode(path) if path is not None else None, environ)
    given: list[_Given] = []
    mounts: list[NativeMount] = []
    origins: dict[str, str] = {}
    if file is not None:
        given, mounts, origins = _read(file)
    given += _environment(environ)
    for name, value in (overrides or {}).items():
        if value is not None:
            section, _, key = name.rpartition(".")
            option = "--" + re.sub("[._]", "-", name)
            given.append(_Given(section, key, _FromOutside(value) if isinstance(value, str) else value, option))
    top: dict[str, Any] = {}
    values: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
    url, url_origins = "", list[str]()
    for section, key, raw, origin in given:
        if not section:
            top[key] = _parsed(text, key, raw, origin)
            origins[key] = origin
            continue
        value = _parsed(_parsers(_SECTIONS[section])[key], f"{section}.{key}", raw, origin)
        if section == "database" and (key == "url" or key in _LOGIN):
            try:
                url = value if key == "url" else _with(url, key, value)
            except ValueError as error:
                raise ConfigError(f"{origin}: {section}.{key}: {error}") from None
            url_origins = [origin] if key == "url" else [*url_origins, origin]
            continue
        values[section][key] = value
        origins[f"{section}.{key}"] = origin
    if url_origins:
        values["database"]["url"] = url or None
        origins["database.url"] = ", ".join(dict.fromkeys(url_origins))
    parts = {name: kind(**values[name]) for name, kind in _SECTIONS.items()}
    named = {name: value for name, value in top.items() if value}
    return Config(**named, **parts, native_mounts=tuple(mounts), file=str(file) if file is not None else None, origins=origins)


def _parsed(parse: Callable[[object], T], key: str, raw: object, origin: str) -> T:
    try:
        return parse(raw)
    except ValueError as error:
        secret = key == "database.password" or key in _HIDING
        raise ConfigError(f"{origin}: {key}: {error}" + ("" if secret else f", not {_shown(raw)}")) from None


def _shown(raw: object) -> str:
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, list):
        return "an array"
    if isinstance(raw, dict):
        return "a table"
    shown = repr(str(raw)) if isinstance(raw, str) else str(raw)
    return shown if len(shown) < 60 else shown[:56] + " ..."


def _find(named: str | None, environ: Mapping[str, str]) -> Path | None:
    named = named or environ.get("TARBOX_CONFIG") or None
    if named is not None:
        return Path(named)
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    usual = (Path("tarbox.toml"), Path(home, "tarbox", "config.toml"), Path("/etc/tarbox/config.toml"))
    return next((path for path in usual if os.path.lexists(path)), None)


def _environment(environ: Mapping[str, str]) -> list[_Given]:
    """Settings of the environment. A variable that is empty is as one that is not set."""
    given = []
    if environ.get("DATABASE_URL"):
        given.append(_Given("database", "url", _FromOutside(environ["DATABASE_URL"]), "DATABASE_URL"))
    for key in _TOP:
        name = f"TARBOX_{key.upper()}"
        if environ.get(name):
            given.append(_Given("", key, _FromOutside(environ[name]), name))
    for section, kind in _SECTIONS.items():
        prefix = f"TARBOX_{section.upper()}_"
        known = {prefix + key.upper(): key for key in _parsers(kind)}
        for name in environ:
            if name.startswith(prefix) and name not in known:
                raise ConfigError(f"{name}: there is no such setting{_nearest(name, known)}")
        # In the order of the settings, so that TARBOX_DATABASE_HOST changes what TARBOX_DATABASE_URL says.
        given += [_Given(section, key, _FromOutside(environ[name]), name) for name, key in known.items() if environ.get(name)]
    return given


def _nearest(word: str, words: Mapping[str, object] | Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, list(words), 1)
    return f"; did you mean {close[0]}?" if close else ""


# --- the file


def _read(path: Path) -> tuple[list[_Given], list[NativeMount], dict[str, str]]:
    import tomllib

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration file: {error.strerror}") from error
    try:
        content = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text") from None
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        at = re.search(r"\s*\(at line (\d+), column (\d+)\)", message)
        line = int(at[1]) if at else len(content.splitlines()) or 1
        reason = re.sub(r"\s*\(at (?:line \d+, column \d+|end of document)\)", "", message)
        raise ConfigError(f"{path}, line {line}: not valid TOML: {reason}{'' if at else ' at the end of the file'}") from None
    lines = _Lines(str(path), content)
    given: list[_Given] = []
    mounts: list[NativeMount] = []
    origins: dict[str, str] = {}
    for name, value in document.items():
        where = lines.origin(name)
        if name in _TOP:
            given.append(_Given("", name, value, where))
        elif name == "native_mounts":
            if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
                raise ConfigError(f"{where}: native_mounts: expected tables, each under [[native_mounts]]")
            for i, item in enumerate(value):
                mounts.append(_native_mount(item, i, lines, origins))
        elif name not in _SECTIONS:
            raise ConfigError(f"{where}: there is no section or setting {name!r}{_nearest(name, [*_SECTIONS, 'native_mounts', *_TOP])}")
        elif not isinstance(value, dict):
            raise ConfigError(f"{where}: {name}: expected a section [{name}]")
        else:
            known = _parsers(_SECTIONS[name])
            for key in value:
                if key not in known:
                    raise ConfigError(f"{lines.origin(name, key)}: {name}.{key}: there is no such setting{_nearest(key, known)}")
            # In the order of the settings, so that host, port, ... change what url says, wherever they stand.
            given += [_Given(name, key, value[key], lines.origin(name, key)) for key in known if key in value]
    return given, mounts, origins


def _native_mount(item: Mapping[str, object], i: int, lines: _Lines, origins: dict[str, str]) -> NativeMount:
    known = _parsers(NativeMount)
    values: dict[str, Any] = {}
    for key, raw in item.items():
        where = lines.origin("native_mounts", key, i)
        if key not in known:
            raise ConfigError(f"{where}: native_mounts.{key}: there is no such setting{_nearest(key, known)}")
        values[key] = _parsed(known[key], f"native_mounts.{key}", raw, where)
        origins[f"native_mounts[{i}].{key}"] = where
    for key in ("path", "source"):
        if key not in values:
            raise ConfigError(f"{lines.origin('native_mounts', None, i)}: native_mounts: {key} is missing")
    return NativeMount(**values)


class _Lines:
    """Finds the lines of keys in a TOML text that is known to be valid, for messages; no parser, so it may miss odd spellings."""

    def __init__(self, path: str, content: str) -> None:
        self.path = path
        self.found: dict[tuple[str, str | None, int], int] = {}
        section, index = "", 0
        counts: dict[str, int] = {}
        for number, line in enumerate(content.split("\n"), 1):
            header = re.match(r"\s*(\[\[?)\s*[\"']?([\w-]+)[\"']?\s*\]", line)
            key = re.match(r"\s*[\"']?([\w-]+)[\"']?\s*(?:\.\s*[\"']?([\w-]+)[\"']?\s*)?=", line)
            if header:
                section, index = header[2], counts.get(header[2], 0)
                counts[section] = index + 1
                self.found.setdefault((section, None, index), number)
            elif key:
                name = (section, key[1], index) if section else (key[1], key[2], 0)
                self.found.setdefault(name, number)
                self.found.setdefault((name[0], None, 0), number)

    def origin(self, section: str, key: str | None = None, index: int = 0) -> str:
        """The line of the key; failing that, of its section; failing that, of the file alone."""
        line = self.found.get((section, key, index)) or self.found.get((section, None, index)) or self.found.get((section, None, 0))
        return f"{self.path}, line {line}" if line else self.path


# --- database URLs


def _with(url: str, key: str, value: object) -> str:
    """The URL with one of host, port, database, user, password replaced. ValueError where that cannot be written."""
    parts = urlsplit(url or "postgresql:///")
    login, _, place = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(.*))?", place)
    if match is None:
        raise ValueError("the URL that it should change is not understood")
    host, port = match[1], match[2] or ""
    replaced = {"host": ("host", "hostaddr"), "database": ("dbname",)}.get(key, (key,))
    query = [pair for pair in parts.query.split("&") if pair and pair.partition("=")[0] not in replaced]
    path = parts.path
    written = quote(str(value), safe="")
    if key == "host" and str(value).startswith("/"):  # the directory of a socket
        host = ""
        query.append(f"host={quote(str(value))}")
    elif key == "host":
        host = f"[{value}]" if ":" in str(value) else written
    elif key == "port":
        if not isinstance(value, int) or value > 65535:
            raise ValueError("expected a port from 1 to 65535")
        port = written
    elif key == "database":
        path = f"/{written}"
    elif key == "user":
        user = written
    else:
        colon, password = ":", written
    login = user + colon + password
    netloc = (f"{login}@" if login else "") + host + (f":{port}" if port else "")
    return urlunsplit((parts.scheme, netloc, path, "&".join(query), parts.fragment)) if netloc else _unsplit_local(parts.scheme, path, query)


def _unsplit_local(scheme: str, path: str, query: list[str]) -> str:
    """urlunsplit drops the two slashes of an empty host, which a URL of PostgreSQL keeps."""
    return f"{scheme}://{path or '/'}" + (f"?{'&'.join(query)}" if query else "")


def redacted(url: str) -> str:
    """The URL with *** for its password, however it is written; for people's eyes only."""
    # Up to the last "@": a password in which one was forgotten to be encoded stays hidden, too.
    shown = re.sub(r"://([^:@/]*):.*@", r"://\1:***@", url, count=1)
    return re.sub(r"([?&](?:ssl)?password)=[^&]*", r"\1=***", shown)


_HIDING: Final[Mapping[str, Callable[[str], str]]] = {"database.url": redacted, "token.secret": lambda _: "***"}  # settings as they may be shown
