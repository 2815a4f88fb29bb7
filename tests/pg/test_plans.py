"""The plans that are kept when nothing is known of the tables yet: a new connection to a new database makes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tarbox_core import compare_statements, packing_statements, statements
from tarbox_core.drivers.framing import PLANNING
from tarbox_core.effects import Statement
from tests.conftest import PgServer
from tests.tenants import Tenant, prepare

WHOLE = {"tenant.usage", "packing.all", "gc.extents", "text.stats", "text.stats_by_layer"}  # look at all a tenant has
TABLES = "(?:inode|dentry|extent|xattr|block|text_version)"
KEYED = {
    statement.name: statement for module in (statements, compare_statements, packing_statements) for statement in vars(module).values()
    if isinstance(statement, Statement) and statement.name not in WHOLE and re.search(rf"\b{TABLES} [a-z]\b", statement.sql)
}  # fmt: skip


@pytest.fixture(scope="module")
def connection(pg_server: PgServer) -> Iterator[Any]:
    """In a tenant's role, with the settings of a tenant's connection, to a database that was never analyzed."""
    with pg_server.database() as url:
        tenant = Tenant(prepare(url))
        tenant.owner.close()
        made = pg_server.connect(urlsplit(url).path[1:])
        for name, value in PLANNING.items():
            made.run(f"set {name} = '{value}'")
        made.run(f"set role {tenant.info.role}")
        yield made
        made.close()


def test_the_collection_is_whole() -> None:
    assert {"inode.get", "dentry.child", "dentry.walk", "tree.make", "extent.get", "xattr.list", "block.at", "compare.moved", "history.steps"} <= set(KEYED)


@pytest.mark.parametrize("name", KEYED)
def test_rows_are_found_by_more_than_their_tenant(connection: Any, name: str) -> None:
    """By inode, directory, hash, or the layers that were asked for: never by reading all that a layer sees."""
    statement = KEYED[name]
    connection.run(f"prepare planned ({', '.join(statement.params)}) as {statement.sql}")
    try:
        plan = "\n".join(line for (line,) in connection.run(f"explain execute planned ({', '.join('null' for _ in statement.params)})"))
    finally:
        connection.run("deallocate planned")
    scans = re.findall(rf"Scan .*on {TABLES} .*\n\s*(.*)", plan)
    assert scans, plan
    for condition in scans:
        assert re.match(r"Index Cond: .*(\bino =|\bparent =|\bhash =|\(layer (?:>=|= \$))", condition), plan


def test_packing_looks_at_no_more_of_a_large_layer_than_it_takes(pg_server: PgServer, schema_url: str) -> None:
    tenant = Tenant(schema_url)
    session = tenant.session()
    connection = pg_server.connect(urlsplit(schema_url).path[1:])
    for name, value in PLANNING.items():
        connection.run(f"set {name} = '{value}'")
    connection.run(f"set role {tenant.info.role}")
    statement = packing_statements.REPLACED
    connection.run(f"prepare planned ({', '.join(statement.params)}) as {statement.sql}")
    for change in (1, 2):
        connection.run(
            f"""insert into inode (tenant, ino, layer, mode, uid, gid, nlink, size, blocks, rdev, atime, mtime, ctime, parent, inline)
            select {tenant.info.id}, 1000 + n, {session.fs.session.layer}, 33188, 0, 0, 1, 600, 600, 0, 1, {change}, {change}, 0, repeat('x', 600)::bytea
            from generate_series(1, 1000) n"""
        )
        replaced = session.fs.session.layer
        session.run(lambda: session.fs.checkpoint(session.caller))
    ((plan,),) = connection.run(f"explain (analyze, format json) execute planned ({tenant.info.id}, 0, 0, 10, {replaced})")
    connection.close()
    looked = [node["Actual Loops"] for node in nodes(plan[0]["Plan"]) if node.get("Alias") == "n" and node["Node Type"] == "Index Scan"]
    assert looked
    assert max(looked) < 50
    session.driver.close()
    tenant.owner.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)
