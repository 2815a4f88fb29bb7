"""One tenant's role, with plain SQL, gets nothing of another tenant and leaves nothing there, in no table and through no function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from pg8000.exceptions import DatabaseError

from tarbox_core.delta.codec import pack_whole
from tarbox_core.hashing import digests
from tests.conftest import PgServer
from tests.tenants import ROOT, Tenant

REFUSED = {"42501", "428C9"}  # insufficient privilege, violated row-level security; a generated column
# What every tenant may read: no row of them is a tenant's.
COMMON = {"schema_version": True, "install": False}  # whether at all


@pytest.fixture
def superuser(pg_server: PgServer, schema_url: str) -> Iterator[Any]:
    made = pg_server.connect(urlsplit(schema_url).path[1:])
    yield made
    made.close()


# What no session writes by itself: it is made behind a checkpoint, or now and then.
TEXT = b"a text\n"
BEHIND = (
    "insert into text_version (tenant, hash, size, lines, depth, weight, data) values (:t, :hash, 7, 1, 0, 0, :data)",
    "insert into audit_seal (tenant, n, floor, lo, hi, week, records, last, digest, chain) values (:t, 1, 0, 1, 2, now(), 1, 1, sha256(''), sha256(''))",
)


@pytest.fixture
def pair(make_tenant: Callable[..., Tenant], superuser: Any) -> tuple[Tenant, Tenant]:
    """Two tenants with rows in every table: names, blocks, attributes, records."""
    made = make_tenant(), make_tenant()
    for tenant in made:
        session = tenant.session()
        session.mkdir(b"/dir")
        ino = session.write(b"/dir/file", b"secret of " + tenant.info.name.encode() + b"x" * 20_000)
        session.symlink(b"file", b"/dir/link")
        session.run(lambda: session.fs.setxattr(ROOT, ino, b"user.x", b"y"))  # noqa: B023
        session.read(b"/dir/file")
        session.flush_records()
        for insert in BEHIND:
            superuser.run(insert, t=tenant.info.id, hash=digests([TEXT])[0], data=pack_whole(TEXT))
    return made


@contextmanager
def acting_as(connection: Any, role: str) -> Iterator[Any]:
    connection.run(f'set session authorization "{role}"')
    try:
        yield connection
    finally:
        connection.run("rollback")
        connection.run("reset session authorization")


def refused(connection: Any, sql: str, **values: object) -> bool:
    """Whether the server refuses; what it does not refuse is rolled back."""
    connection.run("begin")
    try:
        connection.run(sql, **values)
    except DatabaseError as error:
        if error.args[0]["C"] not in REFUSED:
            raise
        return True
    finally:
        connection.run("rollback")
    return False


def tables(superuser: Any) -> list[tuple[str, bool]]:
    """Every table and view of ours, and whether it has rows of tenants."""
    rows = superuser.run(
        "select c.relname, exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant') from pg_class c"
        " join pg_namespace n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')"
    )
    return [(name, of_tenants) for name, of_tenants in rows]


def columns(superuser: Any, table: str) -> list[str]:
    rows = superuser.run("select attname from pg_attribute where attrelid = cast(:t as regclass) and attnum > 0 and attidentity = ''", t=table)
    return [name for (name,) in rows]


def test_row_level_security_is_forced_on_every_table_of_tenants(superuser: Any) -> None:
    """A new table without it fails here, and so does one that is common without being listed."""
    found = tables(superuser)
    assert {name for name, of_tenants in found if not of_tenants} == set(COMMON)
    assert len(found) > 12
    for name, _ in found:
        if name not in COMMON:
            ((enabled, forced),) = superuser.run("select relrowsecurity, relforcerowsecurity from pg_class where oid = cast(:t as regclass)", t=name)
            assert enabled and forced, name


def test_every_policy_of_a_tenant_compares_the_tenant(superuser: Any) -> None:
    for name, roles, using, check in superuser.run("select tablename, roles, qual, with_check from pg_policies where schemaname = 'public'"):
        if roles == ["tarbox"]:
            continue  # the owner administers
        assert using == check and "tarbox_tenant()" in using and using.startswith("(tenant = "), name


def test_a_tenant_reads_its_own_rows_alone(pair: tuple[Tenant, Tenant], superuser: Any) -> None:
    mine, other = pair
    seen = 0
    with acting_as(superuser, mine.info.role):
        for table, of_tenants in tables(superuser):
            if not of_tenants:
                assert refused(superuser, f'select * from "{table}"') != COMMON[table]
            elif not refused(superuser, f'select * from "{table}"'):
                owners = {tenant for (tenant,) in superuser.run(f'select tenant from "{table}"')}
                assert owners <= {mine.info.id}, table
                assert superuser.run(f'select count(*) from "{table}" where tenant = :t', t=other.info.id) == [[0]], table
                seen += mine.info.id in owners
    assert seen >= 10, "the tenant ought to have rows in each of its tables"


def test_a_tenant_changes_no_row_of_another(pair: tuple[Tenant, Tenant], superuser: Any) -> None:
    mine, other = pair
    with acting_as(superuser, mine.info.role):
        for table, of_tenants in tables(superuser):
            if not of_tenants:
                for sql in (f'delete from "{table}"', f'insert into "{table}" default values', f'truncate "{table}"', f'drop table "{table}"'):
                    assert refused(superuser, sql), sql
                continue
            for verb in (f'update "{table}" set tenant = tenant where tenant = :t', f'delete from "{table}" where tenant = :t'):
                if not refused(superuser, verb, t=other.info.id):
                    superuser.run(verb, t=other.info.id)
                    assert superuser.row_count in (0, -1), verb
            for verb in ("truncate", "drop table", "create policy p on"):
                assert refused(superuser, f'{verb} "{table}"'), verb
            assert refused(superuser, f'alter table "{table}" disable row level security')


def test_a_tenant_gives_no_row_to_another(pair: tuple[Tenant, Tenant], superuser: Any) -> None:
    """Neither by inserting one, its own copied under the other's number, nor by updating its own."""
    mine, other = pair
    tried = 0
    for table, of_tenants in tables(superuser):
        if not of_tenants:
            continue
        names = columns(superuser, table)
        values = ", ".join(":t" if name == "tenant" else f'"{name}"' for name in names)
        quoted = ", ".join(f'"{name}"' for name in names)
        with acting_as(superuser, mine.info.role):
            insert = f'insert into "{table}" ({quoted}) overriding system value select {values} from "{table}" where tenant = :m'
            assert refused(superuser, insert, t=other.info.id, m=mine.info.id), table
            if not refused(superuser, f'select * from "{table}"'):
                assert refused(superuser, f'update "{table}" set tenant = :t where tenant = :m', t=other.info.id, m=mine.info.id), table
                tried += 1
    assert tried >= 10


def test_a_tenant_cannot_make_or_remove_tenants(pair: tuple[Tenant, Tenant], superuser: Any) -> None:
    mine, other = pair
    with acting_as(superuser, mine.info.role):
        for sql in (
            "select tarbox_tenant_create('evil', '', 4096, 1, 0, 0, 0)", f"select tarbox_tenant_delete('{other.info.name}')",
            f"select tarbox_tenant_delete('{mine.info.name}')", "select tarbox_audit_ahead(1)",
            "insert into tenant (name, role, block_size, max_file_size) values ('evil', '', 4096, 1)", "update tenant set role = 'tarbox'",
            "delete from tenant", "select setval('inode_number', 2)",
        ):  # fmt: skip
            assert refused(superuser, sql), sql


def test_no_function_runs_with_more_rights_than_its_caller(superuser: Any) -> None:
    ours = superuser.run("select proname, prosecdef from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'public'")
    assert {name for name, _ in ours} >= {"tarbox_tenant", "tarbox_tenant_create", "tarbox_tenant_delete"}
    assert [name for name, definer in ours if definer] == []


def test_a_tenant_cannot_become_another_role(pair: tuple[Tenant, Tenant], superuser: Any) -> None:
    mine, other = pair
    ((group,),) = superuser.run("select 'tarbox_' || id from install")
    with acting_as(superuser, mine.info.role):
        for role in (other.info.role, "tarbox", "postgres"):
            assert refused(superuser, f'set role "{role}"'), role
        # It is a member of the group, which sees nothing.
        superuser.run(f'set role "{group}"')
        for table in ("tenant", "dentry", "inode", "block", "audit_logs"):
            assert superuser.run(f"select count(*) from {table}") == [[0]], table
        superuser.run("reset role")
        me = mine.info.role
        for sql in (f'grant "{other.info.role}" to "{me}"', "create role evil", f'alter role "{me}" bypassrls', "alter role tarbox nologin"):
            assert refused(superuser, sql), sql


def test_settings_of_the_session_change_nothing(pair: tuple[Tenant, Tenant], superuser: Any) -> None:
    mine, other = pair
    with acting_as(superuser, mine.info.role):
        superuser.run("set row_security = off")
        assert refused(superuser, "select * from inode") or superuser.run("select count(*) from inode where tenant = :t", t=other.info.id) == [[0]]
        superuser.run("set row_security = on")
        superuser.run("create temp table inode (tenant int8)")  # shadows its own view of the table alone
        superuser.run("drop table pg_temp.inode")
    assert superuser.run("select count(*) > 0 from inode where tenant = :t", t=other.info.id) == [[True]]


def test_a_tenant_leaves_no_trap_in_the_schema(pair: tuple[Tenant, Tenant], superuser: Any) -> None:
    """Whoever can create there could put a function in the way of the owner's next call."""
    mine, _ = pair
    with acting_as(superuser, mine.info.role):
        for sql in ("create table public.evil (x int)", "create function public.tarbox_tenant_delete(unknown) returns bool language sql as 'select true'"):
            assert refused(superuser, sql), sql


def test_records_of_the_audit_stay(pair: tuple[Tenant, Tenant], superuser: Any) -> None:
    mine, _ = pair
    partitions = [name for name, _ in tables(superuser) if name.startswith("audit_logs")]
    assert len(partitions) >= 3
    with acting_as(superuser, mine.info.role):
        assert superuser.run("select count(*) > 3 from audit_logs") == [[True]]
        for table in partitions:
            for sql in (f"update {table} set operation = 'nothing'", f"delete from {table}", f"truncate {table}"):
                assert refused(superuser, sql), sql


def test_the_owner_sees_no_tree(pair: tuple[Tenant, Tenant], superuser: Any) -> None:
    with acting_as(superuser, "tarbox"):
        for table in ("dentry", "inode", "extent", "block", "xattr", "head", "layer", "line"):
            assert superuser.run(f"select count(*) from {table}") == [[0]], table
        assert superuser.run("select count(*) >= 2 from tenant") == [[True]]


def test_a_deleted_tenant_leaves_nothing(pair: tuple[Tenant, Tenant], superuser: Any) -> None:
    from tarbox_core import tenant as tenants

    mine, other = pair
    mine.end_sessions()
    mine.owner.run(lambda: tenants.delete(mine.info.name))
    mine.damaged = True  # there is nothing to check any more
    for table, of_tenants in tables(superuser):
        if of_tenants:
            assert superuser.run(f'select count(*) from "{table}" where tenant = :t', t=mine.info.id) == [[0]], table
    assert superuser.run("select count(*) from pg_roles where rolname = :r", r=mine.info.role) == [[0]]
    assert superuser.run("select count(*) > 0 from inode where tenant = :t", t=other.info.id) == [[True]]
