"""The scripts of `benchmarks/`, which no test runs, import from one another what is there."""

import ast
from pathlib import Path

import pytest

SCRIPTS = {path.stem: path for path in (Path(__file__).resolve().parents[1] / "benchmarks").glob("*.py")}


def defined(tree: ast.Module) -> set[str]:
    """Return the names that a module assigns, defines or imports."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
    return names


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_names_that_a_script_takes_from_another_are_there(script: str) -> None:
    for node in ast.walk(ast.parse(SCRIPTS[script].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in SCRIPTS:
            other = defined(ast.parse(SCRIPTS[node.module].read_text(encoding="utf-8")))
            assert {alias.name for alias in node.names} <= other, f"{script}.py imports from {node.module}.py"
