"""Which modules of the standard library a program needs: those that it imports anywhere, and what those import when they are loaded.

Run by the Python whose library it is, because no other need be able to read that.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def main(asked: str) -> str:
    """`asked` has {"library": {module: path below /sources}, "programs": [paths below it], "also": [modules]}; the names, one a line."""
    wanted = json.loads(asked)
    library = {name: Path("/sources", path).read_text() for name, path in wanted["library"].items()}
    programs = [Path("/sources", path).read_text() for path in wanted["programs"]]
    return "\n".join(sorted(needed(library, programs, wanted["also"])))


def needed(library: Mapping[str, str], programs: Iterable[str], also: Iterable[str]) -> set[str]:
    """The names of modules, out of `library` (sources by name). `programs`: sources whose imports count wherever they stand;
    `also`: modules to be there with all they import when loaded."""
    left = {name for source in programs for name in imported(source, deep=True)} | set(also)
    found: set[str] = set()
    while left:
        name = left.pop()
        parts = name.split(".")
        for module in (".".join(parts[:count]) for count in range(1, len(parts) + 1)):
            if module in library and module not in found:
                found.add(module)
                left |= imported(library[module], deep=False, package=module if _is_package(module, library) else module.rpartition(".")[0])
    return found


def _is_package(module: str, library: Mapping[str, str]) -> bool:
    return any(name.startswith(f"{module}.") for name in library)


def imported(source: str, *, deep: bool, package: str = "") -> set[str]:
    """What a source imports; names that it imports from a package may be modules of it or not. `deep`: in functions, too."""
    names: set[str] = set()
    for node in _nodes(ast.parse(source), deep):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def _nodes(tree: ast.AST, deep: bool) -> Iterator[ast.AST]:
    left = [tree]
    while left:
        node = left.pop()
        yield node
        if deep or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            left += ast.iter_child_nodes(node)
