"""The table of what a gateway passes on: whole, and true of the statements it names."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tarbox_core.effects import Statement
from tarbox_core.gateway_rules import READ_ONLY, RULES, STATEMENTS, UPKEEP, WRITER, Class
from tarbox_core.trail import OPERATIONS

CORE = Path(__file__).resolve().parents[2] / "tarbox_core"
ALL = {
    each.name: each
    for path in CORE.glob("*statements.py")
    for value in vars(importlib.import_module(f"tarbox_core.{path.stem}")).values()
    for each in (value if isinstance(value, tuple) else (value,))
    if isinstance(each, Statement)
}
CHANGES_ROWS = re.compile(
    r"\b(insert\s+into|update\s+\w+\s+(?:\w\s+)?set|delete\s+from|nextval|pg_notify|pg_(?:try_)?advisory\w*|truncate|alter|drop|create|copy)\b"
)

ROWS = re.compile(r"\b(?:from|update|into|join)\s+(?:inode|dentry|extent|xattr|block|text_version|layer|head|line|audit_logs|audit_seal|tenant)\b")


def of(*kinds: Class) -> list[Statement]:
    found = [statement for statement, rule in RULES.items() if rule.kind in kinds]
    assert found
    return found


def test_each_statement_of_the_core_is_in_exactly_one_class() -> None:
    assert len(ALL) > 100
    assert dict(STATEMENTS) == ALL
    assert len(RULES) == len(ALL)  # two of one name would be one in the mapping above


def test_statements_that_read_change_nothing() -> None:
    changing = {statement.name for statement in of(Class.READ) if CHANGES_ROWS.search(statement.sql)}
    assert changing == set()
    settings = {statement.name for statement in of(Class.READ) if "set_config" in statement.sql}
    assert settings == {"check.whole", "check.joining"}
    assert all(re.search(r"set_config\([^()]*, true\)", ALL[name].sql) for name in settings)  # of the transaction


def test_what_changes_something_is_found() -> None:
    """Else the test before this one could not fail."""
    silent = {statement.name for statement in of(Class.RECORD, Class.STEP, Class.CHANGE, Class.MOVE, Class.UPKEEP) if not CHANGES_ROWS.search(statement.sql)}
    assert silent == {"layer.patience"}


def test_what_runs_without_a_tenant_is_known() -> None:
    """The server's rules of rows hold there too, but no parameter of theirs says whose rows are meant: each has its reason."""
    free = {statement.name for statement in of(*UPKEEP) if not statement.tenant}
    assert free == {
        "lock", "presence.count", "presence.tell", "trail.sealing",  # their keys and channels are checked
        "inode.numbers", "layer.patience", "check.whole", "check.joining", "trail.snapshot",  # of nobody's rows
    }  # fmt: skip
    for statement in of(Class.READ, Class.CHANGE, Class.MOVE, Class.UPKEEP, Class.RECORD):
        assert not statement.tenant or statement.params[0] == "int8"
        assert statement.tenant or not ROWS.search(statement.sql), statement.name


def test_changes_of_a_tree_name_their_layer_where_the_gateway_looks_for_it() -> None:
    for statement in of(Class.CHANGE):
        assert statement.params[:2] == ("int8", "int8"), statement.name
        assert re.search(r"layer = \$2|\$1, \$2|\(tenant, layer.*\) values \(\$1, \$2", statement.sql.replace("\n", " ")), statement.name
        assert RULES[statement].check is not None


def test_classes_and_marks_agree() -> None:
    for statement, rule in RULES.items():
        assert statement.safe == (rule.kind in WRITER), statement.name
    assert READ_ONLY < WRITER < UPKEEP and Class.HOST not in UPKEEP


@pytest.mark.parametrize("name", ["presence.enter", "presence.quiet", "presence.pids", "tenant.list", "tenant.get", "tenant.create", "tenant.delete",
                                  "audit.ahead", "trail.prune", "gateway.blocks"])  # fmt: skip
def test_what_is_the_hosts_is_nobodys_else(name: str) -> None:
    assert RULES[STATEMENTS[name]].kind is Class.HOST


def test_what_may_explain_a_change_is_something_that_is_recorded() -> None:
    assert {operation for rule in RULES.values() for operation in rule.may_explain} <= set(OPERATIONS)
