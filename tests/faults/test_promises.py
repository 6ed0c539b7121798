"""Every promise of docs/faults.md names tests, and all of them exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[^`]+)`")


def test_every_promise_names_tests_that_exist() -> None:
    rows = [line for line in (ROOT / "docs/faults.md").read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| promise")]
    assert len(rows) > 30
    for row in rows:
        named = NAMED.findall(row.split("|")[2])
        assert named, row
        for name in named:
            file, _, function = name.partition("::")
            tree = ast.parse((ROOT / file).read_text())
            known = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert function in known, name
