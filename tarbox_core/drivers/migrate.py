"""Brings a database's schema to the newest that this program knows, or tells why it cannot be used as it is.

The migrations are the files NNNN_name.sql of tarbox_core/schema, numbered from 1, each one transaction that also
records its number. Forward only. Here is only how they are applied; what they make, they say themselves.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Op, Statement, one
from tarbox_core.errors import SchemaError, SqlError

OLDEST_SERVER: Final = 14
LOCK: Final = 0x746172626F78  # the advisory lock of whoever migrates a database

_FILE: Final = re.compile(r"(\d{4})_\w+\.sql")
_SERVER: Final = Statement(
    "migrate.server",
    "select current_setting('server_version_num')::int4, current_setting('server_version'), getdatabaseencoding()::text, current_user::text, "
    "current_schema()::text, coalesce(has_schema_privilege(current_schema(), 'create'), false), rolcreaterole or rolsuper "
    "from pg_roles where rolname = current_user",
    returns=("int4", "text", "text", "text", "text", "bool", "bool"),
)
_HAS_TABLE: Final = Statement("migrate.has_table", "select to_regclass('schema_version') is not null", returns=("bool",))
_VERSION: Final = Statement("migrate.version", "select coalesce(max(version), 0)::int4 from schema_version", returns=("int4",))
_RECORD: Final = Statement("migrate.record", "insert into schema_version (version) values ($1) on conflict do nothing", ("int4",))


class Migration(NamedTuple):
    number: int
    name: str
    sql: str


def migrations(folder: Traversable | None = None) -> list[Migration]:
    """Those this program knows, in order. Raises SchemaError when their numbers are not 1, 2, 3, ..."""
    if folder is None:
        return _ours()
    found = sorted((item.name, item) for item in folder.iterdir() if _FILE.fullmatch(item.name))
    listed = [Migration(int(name[:4]), name.removesuffix(".sql"), item.read_text("utf-8")) for name, item in found]
    if [migration.number for migration in listed] != list(range(1, len(listed) + 1)) or not listed:
        raise SchemaError(f"this installation of tarbox is damaged: its migrations are {', '.join(name for name, _ in found) or 'missing'}")
    return listed


@cache  # also since a WebAssembly component has its files only while it is built
def _ours() -> list[Migration]:
    return migrations(resources.files("tarbox_core.schema"))


def init(target: SyncDriver | Wire, folder: Traversable | None = None) -> tuple[int, int]:
    """Apply what is missing; the schema's version before (0: none) and after. Any number may start this at once.

    Raises SchemaError: the server is too old, the database is newer than this program, a privilege is missing, a
    migration fails (which then left nothing behind).
    """
    known = migrations(folder)
    newest = known[-1].number
    with _one_wire(target) as wire:
        number, version, encoding, user, schema, may_create, may_create_roles = wire.execute((_SERVER(),), begin=True, commit=True)[0][0]
        if number < OLDEST_SERVER * 10000:
            raise SchemaError(f"the server is PostgreSQL {version}; tarbox needs {OLDEST_SERVER} or later")
        before = current = _version(wire)
        _refuse_newer(current, newest)
        if current < newest:
            if encoding != "UTF8":
                raise SchemaError(f"the database is encoded in {encoding}; tarbox needs one in UTF8")
            if schema is None:
                raise SchemaError(f"no schema of the search_path exists for {user} to make tables in")
            if not may_create:
                raise SchemaError(f"{user} may not make tables: grant create on schema {schema} to {user}")
            if not may_create_roles:
                raise SchemaError(f"{user} may not make the tenants' roles: alter role {user} createrole")
            # Held by the session, not by a transaction: only a transaction that starts after the lock was had is sure
            # to see the tables that another has made meanwhile.
            wire.script(f"select pg_advisory_lock({LOCK})")
            try:
                while current < newest:
                    current = _step(wire, known)
            finally:
                wire.rollback()
                if not wire.closed:
                    wire.script(f"select pg_advisory_unlock({LOCK})")
        return before, current


def check(target: SyncDriver | Wire, folder: Traversable | None = None) -> int:
    """The schema's version, if this program can use it. Raises SchemaError that says what to do if not."""
    newest = migrations(folder)[-1].number
    with _one_wire(target) as wire:
        return _usable(_version(wire), newest)


def usable() -> Op[int]:
    """The same as an operation."""
    try:
        (current,) = yield from one(_VERSION())
    except SqlError as error:
        if error.sqlstate != "42P01":
            raise
        current = 0
    return _usable(current, migrations()[-1].number)


def _usable(current: int, newest: int) -> int:
    _refuse_newer(current, newest)
    if not current:
        raise SchemaError("this database holds no Tarbox schema: run tarbox init")
    if current < newest:
        raise SchemaError(f"the database has schema {current}, this tarbox needs {newest}: run tarbox init")
    return current


@contextlib.contextmanager
def _one_wire(target: SyncDriver | Wire) -> Iterator[Wire]:
    if isinstance(target, Wire):
        try:
            yield target
        finally:
            target.rollback()
    else:
        with target.wire() as wire:
            yield wire


def _refuse_newer(current: int, newest: int) -> None:
    if current > newest:
        raise SchemaError(f"the database has schema {current}, this tarbox knows up to {newest}: upgrade tarbox")


def _version(wire: Wire) -> int:
    """As recorded; 0 when nothing is. Joins an open transaction, or is one."""
    alone = wire.status == "I"
    try:
        if not wire.execute((_HAS_TABLE(),), begin=alone, commit=alone)[0][0][0]:
            return 0
        version: int = wire.execute((_VERSION(),), begin=alone, commit=alone)[0][0][0]
        return version
    except SqlError as error:
        if error.sqlstate == "42501":
            raise SchemaError(f"this role may not read the database's schema version: {error}") from None
        if error.sqlstate == "42703":
            raise SchemaError("the database has a table schema_version that is not Tarbox's: give tarbox a database or a schema of its own") from None
        raise


def _step(wire: Wire, known: list[Migration]) -> int:
    """Apply the next migration, unless another has meanwhile; the version after that."""
    wire.script("begin isolation level read committed; set local synchronous_commit = on")
    current = _version(wire)
    _refuse_newer(current, known[-1].number)
    if current == known[-1].number:
        return current
    migration = known[current]
    try:
        wire.script(migration.sql)
        if wire.status != "T":
            raise SchemaError(f"migration {migration.name} ends its own transaction")
        wire.execute((_RECORD(migration.number),), commit=True)
    except SqlError as error:
        if error.sqlstate == "42501":
            raise SchemaError(f"migration {migration.name}: a privilege is missing: {error}") from None
        raise SchemaError(f"migration {migration.name}: {error}") from None
    return migration.number
