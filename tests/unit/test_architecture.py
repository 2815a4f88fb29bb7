"""Rules that no tool's configuration can state: what the core proper imports, who yields, and that pages and CI agree.

Import directions among our own packages are stated in pyproject.toml (import-linter), and not again here.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "tarbox_core"
WORLDLY = (CORE / "drivers", CORE / "client")  # what waits and touches the world
# Clock, ids and randomness arrive as arguments; whatever waits or does I/O is a driver's or a frontend's.
FORBIDDEN = {
    *("os", "io", "pathlib", "shutil", "tempfile", "socket", "ssl", "select", "selectors", "subprocess", "signal", "ctypes", "logging"),
    *("time", "random", "secrets", "uuid", "threading", "_thread", "asyncio", "multiprocessing", "concurrent", "pg8000", "anyio"),
}
PROPER = sorted(path for path in CORE.rglob("*.py") if not set(WORLDLY) & set(path.parents))


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def is_iterator(node: ast.AST) -> bool:
    """A function that says it gives an Iterator: what it yields are values, not effects."""
    return isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Subscript) and ast.unparse(node.returns.value) == "Iterator"


def violations(source: str, may_yield: bool) -> list[str]:
    tree = ast.parse(source)
    found = [f"imports {name}" for name in sorted(imported(tree)) if name.partition(".")[0] in FORBIDDEN]
    plain = {inner for node in ast.walk(tree) if is_iterator(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Yield) and not may_yield and node not in plain:
            found.append(f"line {node.lineno}: a bare yield")
        if isinstance(node, ast.Try) and any(isinstance(n, ast.Yield | ast.YieldFrom) for part in node.finalbody for n in ast.walk(part)):
            found.append(f"line {node.lineno}: a yield inside finally")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "print", "input"}:
            found.append(f"line {node.lineno}: {node.func.id}()")
    return found


@pytest.mark.parametrize("path", PROPER, ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_proper_does_no_io_and_only_effects_yields(path: Path) -> None:
    assert violations(path.read_text(), may_yield=path == CORE / "effects.py") == []


def test_the_rules_find_what_they_forbid() -> None:
    bad = "import os.path\nfrom time import sleep\ndef f():\n    try:\n        x = yield 1\n    finally:\n        yield from g()\n    open('x')\n"
    assert violations(bad, may_yield=False) == ["imports os.path", "imports time", "line 4: a yield inside finally", "line 8: open()", "line 5: a bare yield"]
    good = "def values() -> Iterator[int]:\n    yield 1\n"
    assert violations(good, may_yield=False) == []
    assert violations(good.replace("Iterator", "Op"), may_yield=False) == ["line 2: a bare yield"]


def test_importing_the_core_loads_no_driver() -> None:
    """A function that starts cold pays for pg8000 only when it connects."""
    program = "import sys, tarbox_core, tarbox_core.filesystem; print([m for m in ('pg8000', 'anyio', 'asyncio', 'fuse') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"


def test_the_wheel_holds_every_package_and_the_schema(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("tarbox-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(path.relative_to(ROOT)) for path in [*CORE.rglob("*.py"), *CORE.rglob("*.sql")]}
    for package in (ROOT / "frontends").glob("*/tarbox_*"):
        found = (path.relative_to(package.parent) for path in package.rglob("*.py"))
        expected |= {str(path) for path in found if not any(part.startswith(".") for part in path.parts)}  # a build may be in work
    assert any(name.endswith(".sql") for name in expected)
    assert expected <= names


def test_ci_runs_the_line_that_the_readme_gives() -> None:
    line = (ROOT / ".ci/run").read_text().splitlines()[-1]
    assert "nox" in line
    assert line in (ROOT / "README.md").read_text().splitlines()
