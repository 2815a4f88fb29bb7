"""Migrations: forward, once, whole, by one at a time, and a clear line when that cannot be."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tarbox_core.drivers import migrate
from tarbox_core.drivers.dsn import parse_url
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Statement, many
from tarbox_core.errors import SchemaError

FIRST = """
create table schema_version (version int4 primary key, applied_at timestamptz not null default now());
create table a (n int8);
insert into a values (1);
"""
SECOND = "create table b (n int8);\ncreate function f() returns int4 language plpgsql as $$ begin return 1; end $$;\n"
TABLES = Statement("tables", "select relname::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1", (), ("text",))
VERSIONS = Statement("versions", "select version from schema_version order by 1", (), ("int4",))


@pytest.fixture
def driver(pg_url: str) -> Iterator[SyncDriver]:
    with SyncDriver(pg_url) as driver:
        yield driver


def folder(path: Path, *files: str, names: tuple[str, ...] = ("0001_first.sql", "0002_second.sql", "0003_third.sql")) -> Path:
    path.mkdir()
    (path / "__init__.py").write_text("")
    for name, sql in zip(names, files, strict=False):
        (path / name).write_text(sql)
    return path


def tables(driver: SyncDriver) -> list[str]:
    return [name for (name,) in driver.run(lambda: many(TABLES()))]


def test_the_schema_of_this_program(driver: SyncDriver) -> None:
    newest = migrate.migrations()[-1].number
    with pytest.raises(SchemaError, match="holds no Tarbox schema: run tarbox init"):
        migrate.check(driver)
    assert migrate.init(driver) == (0, newest)
    assert migrate.check(driver) == newest
    assert driver.run(lambda: many(VERSIONS())) == [(n,) for n in range(1, newest + 1)]
    assert {"tenant", "inode", "dentry"} <= set(tables(driver))
    assert migrate.init(driver) == (newest, newest)


def test_on_a_wire(pg_url: str, tmp_path: Path) -> None:
    wire = Wire(parse_url(pg_url))
    assert migrate.init(wire, folder(tmp_path / "m", FIRST)) == (0, 1)
    assert wire.status == "I"
    assert migrate.check(wire, tmp_path / "m") == 1
    wire.close()


def test_step_by_step(driver: SyncDriver, tmp_path: Path) -> None:
    assert migrate.init(driver, folder(tmp_path / "one", FIRST)) == (0, 1)
    newer = folder(tmp_path / "two", FIRST, SECOND, "alter table b add m int8;")
    with pytest.raises(SchemaError, match="has schema 1, this tarbox needs 3: run tarbox init"):
        migrate.check(driver, newer)
    assert migrate.init(driver, newer) == (1, 3)
    assert migrate.check(driver, newer) == 3
    assert tables(driver) == ["a", "b", "schema_version"]
    for older in (migrate.init, migrate.check):
        with pytest.raises(SchemaError, match="the database has schema 3, this tarbox knows up to 1: upgrade tarbox"):
            older(driver, tmp_path / "one")


def test_a_migration_that_fails_leaves_nothing_and_those_before_it_stay(driver: SyncDriver, tmp_path: Path) -> None:
    broken = folder(tmp_path / "m", FIRST, SECOND + "create table a (n int8);")
    with pytest.raises(SchemaError, match=r"migration 0002_second: .*already exists"):
        migrate.init(driver, broken)
    assert tables(driver) == ["a", "schema_version"]
    assert driver.run(lambda: many(VERSIONS())) == [(1,)]
    (broken / "0002_second.sql").write_text(SECOND)
    assert migrate.init(driver, broken) == (1, 2)


def test_a_migration_that_commits_by_itself_is_refused(driver: SyncDriver, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="0001_first ends its own transaction"):
        migrate.init(driver, folder(tmp_path / "m", FIRST + "commit;"))


def test_many_start_at_once(pg_url: str, tmp_path: Path) -> None:
    files = folder(tmp_path / "m", FIRST, "select pg_sleep(0.1);" + SECOND, "insert into a values (2);")
    results: list[Any] = []
    start = threading.Barrier(6)

    def work() -> None:
        with SyncDriver(pg_url) as driver:
            start.wait(20)
            try:
                results.append(migrate.init(driver, files)[1])
            except BaseException as error:
                results.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [3] * 6
    with SyncDriver(pg_url) as driver:
        assert driver.run(lambda: many(Statement("a", "select n from a order by n", (), ("int8",))())) == [(1,), (2,)]


def test_the_real_schema_when_two_start_at_once(pg_url: str) -> None:
    results: list[Any] = []

    def work() -> None:
        with SyncDriver(pg_url) as driver:
            try:
                results.append(migrate.init(driver)[1])
            except BaseException as error:
                results.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [migrate.migrations()[-1].number] * 2


def test_from_a_zip(driver: SyncDriver, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("schema/0001_first.sql", FIRST)
        archive.writestr("schema/__init__.py", "")
    with zipfile.ZipFile(tmp_path / "z.zip") as archive:
        assert migrate.init(driver, zipfile.Path(archive, "schema/")) == (0, 1)


@pytest.mark.parametrize("names", [("0002_first.sql",), ("0001_a.sql", "0003_b.sql"), ("0001_a.sql", "0001_b.sql"), ()])
def test_a_damaged_installation(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(SchemaError, match="damaged"):
        migrate.migrations(folder(tmp_path / "m", *[FIRST] * len(names), names=names))


def test_missing_privileges(driver: SyncDriver, pg_url: str, tmp_path: Path) -> None:
    files = folder(tmp_path / "m", FIRST)
    driver.script("create role guest login; create role maker login createrole")
    with SyncDriver(pg_url.replace("tarbox@", "maker@")) as maker, pytest.raises(SchemaError, match="maker may not make tables: grant create on schema public"):
        migrate.init(maker, files)
    driver.script("grant create on schema public to guest")
    with SyncDriver(pg_url.replace("tarbox@", "guest@")) as guest:
        with pytest.raises(SchemaError, match="guest may not make the tenants' roles: alter role guest createrole"):
            migrate.init(guest, files)
        migrate.init(driver, files)
        with pytest.raises(SchemaError, match="may not read"):
            migrate.check(guest, files)
    driver.script("revoke create on schema public from guest")


def test_a_migration_without_the_privilege_it_needs(driver: SyncDriver, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"migration 0001_first: a privilege is missing: permission denied"):
        migrate.init(driver, folder(tmp_path / "m", FIRST + "select pg_read_file('PG_VERSION');"))


def test_a_table_of_that_name_that_is_not_ours(driver: SyncDriver) -> None:
    driver.script("create table schema_version (id text)")
    with pytest.raises(SchemaError, match="not Tarbox's"):
        migrate.init(driver)


def test_no_schema_to_work_in(driver: SyncDriver, pg_url: str) -> None:
    with SyncDriver(pg_url + "&options=-c%20search_path%3Dnowhere") as lost, pytest.raises(SchemaError, match="no schema of the search_path exists"):
        migrate.init(lost)


def test_a_schema_of_its_own(driver: SyncDriver, pg_url: str, tmp_path: Path) -> None:
    driver.script("create schema mine")
    files = folder(tmp_path / "m", FIRST)
    with SyncDriver(pg_url + "&options=-c%20search_path%3Dmine") as mine:
        assert migrate.init(mine, files) == (0, 1)
        assert migrate.check(mine, files) == 1
    with pytest.raises(SchemaError, match="no Tarbox schema"):
        migrate.check(driver, files)


def test_an_old_server_is_refused(driver: SyncDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "OLDEST_SERVER", 99)
    with pytest.raises(SchemaError, match=r"the server is PostgreSQL \d+\.\d.*; tarbox needs 99 or later"):
        migrate.init(driver)


def test_a_database_in_another_encoding_is_refused(pg_server: Any, driver: SyncDriver) -> None:
    pg_server._admin.run("create database latin owner tarbox template template0 encoding 'LATIN1' locale 'C'")
    try:
        with SyncDriver(pg_server.url_of("latin")) as latin, pytest.raises(SchemaError, match="encoded in LATIN1"):
            migrate.init(latin)
    finally:
        pg_server._admin.run("drop database latin with (force)")
