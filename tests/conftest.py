"""Servers and databases for the tests. Not here: anything about a tenant or a tree; those fixtures live with their tests.

`pg_server` is one embedded PostgreSQL for the whole run, in a temporary directory, with fsync off; TARBOX_TEST_PG=16|18
picks its version. `pg_url` is a fresh, empty database for each test, `pg_url_module` one for each test file, both owned
by the role `tarbox`. `pg_server.template(...)` keeps a filled database to be copied. A test that needs a server of its
own (with fsync, or to kill it) starts one in `server_home`. `strict` is one for each test file that listens on TCP.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tarbox_core.drivers import embedded
from tarbox_core.drivers.dsn import Dsn, parse_url
from tarbox_core.drivers.wire import Wire

FAST = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "1GB", "shared_buffers": "128MB"}


class PgServer:
    """A running server: `url` connects as the role tarbox to an empty database that nobody else uses."""

    def __init__(self, home: Path, version: int | None = None) -> None:
        self.home = home
        self.url = embedded.start(home, version=version, settings=FAST)
        self.socket = parse_qs(urlsplit(self.url).query)["host"][0] + "/.s.PGSQL.5432"
        self._numbers = itertools.count(1)
        self._templates: set[str] = set()
        self._admin = self.connect()
        self._roles = self._role_names()

    def connect(self, database: str = "postgres", user: str = embedded.SUPERUSER) -> Any:
        """A pg8000 connection, as superuser unless told otherwise."""
        import pg8000.native

        return pg8000.native.Connection(user, unix_sock=self.socket, database=database)

    def url_of(self, database: str, role: str = embedded.ROLE) -> str:
        return urlsplit(self.url)._replace(netloc=f"{role}@", path=f"/{database}").geturl()

    def template(self, name: str, fill: Callable[[str], None]) -> str:
        """The name of a database that `fill(url)` filled once in this run, for `database(template=...)`."""
        if name not in self._templates:
            self._admin.run(f"create database {name} owner {embedded.ROLE} template template0")
            fill(self.url_of(name))
            self._templates.add(name)
            self._roles = self._role_names()
        return name

    @contextlib.contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """A fresh database, as a URL; dropped at the end together with the roles that were made meanwhile."""
        name = f"t{next(self._numbers)}"
        self._admin.run(f"create database {name} owner {embedded.ROLE} template {template} strategy file_copy")
        try:
            yield self.url_of(name)
        finally:
            self._admin.run(f"drop database {name} with (force)")
            self._drop_new_roles()

    def _role_names(self) -> set[str]:
        return {name for (name,) in self._admin.run("select rolname from pg_roles")}

    def _drop_new_roles(self) -> None:
        from pg8000.exceptions import DatabaseError

        for name in self._role_names() - self._roles:
            try:
                self._admin.run(f'drop role "{name}"')
            except DatabaseError as error:
                if error.args[0].get("C") != "2BP01":  # still owns something in another test's database
                    raise

    def close(self) -> None:
        self._admin.close()
        embedded.stop(self.home)


def enterable_directory() -> Path:
    """A temporary directory with a short path that the server's user can enter; pytest's own is closed to others."""
    path = Path(tempfile.mkdtemp(prefix="tarbox-test-", dir="/tmp"))
    path.chmod(0o711)
    return path


@pytest.fixture(scope="session")
def pg_server() -> Iterator[PgServer]:
    folder = enterable_directory()
    wanted = os.environ.get("TARBOX_TEST_PG")
    server = PgServer(folder / "pg", int(wanted) if wanted else None)
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(folder)


@pytest.fixture
def pg_url(pg_server: PgServer) -> Iterator[str]:
    with pg_server.database() as url:
        yield url


@pytest.fixture(scope="module")
def pg_url_module(pg_server: PgServer) -> Iterator[str]:
    with pg_server.database() as url:
        yield url


@pytest.fixture
def server_home() -> Iterator[Path]:
    """A home directory for a test's own embedded server, which is stopped afterwards."""
    folder = enterable_directory()
    home = folder / "pg"
    try:
        yield home
    finally:
        embedded.stop(home)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dsn]:
    """A server that listens on TCP, at a loopback address of its own, and wants passwords there."""
    home = Path(f"/tmp/tarbox-test-{os.getpid()}-strict")
    home.mkdir(mode=0o711)
    address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
    try:
        url = embedded.start(home / "pg", settings={"listen_addresses": address, "fsync": "off", "max_connections": "12"})
        hba = home / "pg/data/pg_hba.conf"
        hba.write_text(hba.read_text() + "host all nobody all reject\nhost all all all scram-sha-256\n")
        admin = Wire(parse_url(url.replace("tarbox@", "postgres@")))
        admin.script("alter role tarbox password 's3cret'; create role plain login; select pg_reload_conf()")
        admin.close()
        yield Dsn(host=address, database="tarbox", user="tarbox", password="s3cret")
    finally:
        embedded.stop(home / "pg")
        shutil.rmtree(home)
