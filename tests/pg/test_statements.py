"""Every SQL text of the core against a real server: it prepares with the types it declares, and something uses it."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from tarbox_core.binary import OIDS
from tarbox_core.drivers.codec import accepts
from tarbox_core.effects import Statement
from tests.conftest import PgServer

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "tarbox_core"


def modules() -> list[ModuleType]:
    """The modules of the core that hold statements."""
    return [importlib.import_module(f"tarbox_core.{path.stem}") for path in sorted(CORE.glob("*statements*.py"))]


def held(value: object) -> list[Statement]:
    """The statements that a name stands for: one, several, or none."""
    return [each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, Statement)]


STATEMENTS = {
    f"{module.__name__.removeprefix('tarbox_core.')}.{name}" + f"[{number}]" * (number > 0): statement
    for module in modules() for name, value in vars(module).items() for number, statement in enumerate(held(value))
}  # fmt: skip


@pytest.fixture(scope="module")
def connection(pg_server: PgServer, schema_url: str) -> Any:
    """A superuser's connection to a database with the schema."""
    made = pg_server.connect(urlsplit(schema_url).path[1:])
    yield made
    made.close()


def test_the_collection_is_whole_and_its_names_are_unique() -> None:
    names = [statement.name for statement in STATEMENTS.values()]
    assert len(names) > 50 and len(set(names)) == len(names)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_prepares_with_the_types_it_declares(connection: Any, name: str) -> None:
    statement = STATEMENTS[name]
    types = f"({', '.join(statement.params)})" if statement.params else ""
    connection.run(f"prepare described {types} as {statement.sql}")
    try:
        ((parameters, results),) = connection.run(
            "select array(select t::oid::int8 from unnest(parameter_types) t), array(select t::oid::int8 from unnest(result_types) t)"
            " from pg_prepared_statements where name = 'described'"
        )
    finally:
        connection.run("deallocate described")
    assert parameters == [OIDS[declared] for declared in statement.params]
    assert len(results) == len(statement.returns)
    for declared, oid in zip(statement.returns, results, strict=True):
        assert accepts(declared, oid), f"declares {declared}, returns type {oid}"


def test_every_parameter_is_used(connection: Any) -> None:
    """The server takes a declared parameter that the text never mentions."""
    for name, statement in STATEMENTS.items():
        assert {int(number) for number in re.findall(r"\$(\d+)", statement.sql)} == set(range(1, len(statement.params) + 1)), name


def test_every_statement_is_used() -> None:
    used: set[str] = set()
    for path in [*ROOT.glob("tarbox_core/**/*.py"), *ROOT.glob("frontends/*/tarbox_*/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                used.add(node.attr)
            elif isinstance(node, ast.ImportFrom):
                used |= {alias.name for alias in node.names}
    assert [name for name in STATEMENTS if name.rpartition(".")[2].partition("[")[0] not in used] == []
