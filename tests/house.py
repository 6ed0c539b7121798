"""Measure the code: floors of imports, names, docstrings, sizes; write the module list of docs/design.md.

python tests/house.py            print the figures
python tests/house.py --write    write the module list into docs/design.md
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "surrogate"
DESIGN = ROOT / "docs" / "design.md"
BEGIN, END = "<!-- modules: python tests/house.py --write -->", "<!-- end of modules -->"

# From the ground up. A unit imports only from floors below its own.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "batch", "quantiles", "numbers", "progress", "moved"),
    ("runtime", "config", "files", "catalogue", "tables"),
    ("slimtik", "data", "normalize", "plotting"),
    ("models", "simulate"),
    ("optim",),
    ("experiment",),
    ("evaluation", "prediction", "studies"),
    ("training",),
    ("report",),
    ("workflows",),
    ("api",),
    ("cli",),
)
FACES = ("__init__.py", "__main__.py")  # of the package itself: names of all floors


@dataclass
class Figures:
    """What is counted over all modules."""

    functions: int = 0
    used_once: list[str] = field(default_factory=list)
    docstrings: int = 0
    questions: list[str] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)


def modules() -> list[Path]:
    """List all modules of the package, its own face apart."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.name not in FACES]


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Parse a module, once."""
    return ast.parse(path.read_text(encoding="utf-8"))


def unit_of(path: Path) -> str:
    """Name the unit of a module: a package or a single file at the top of `surrogate/`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Yield the names of all modules of this package that a module imports, wherever it does."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("surrogate."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if (node.module or "").startswith("surrogate."):
                yield str(node.module)


def first_line(path: Path) -> str:
    """Give the first line of the docstring of a module."""
    text = ast.get_docstring(parsed(path))
    assert text, f"{path} has no docstring"
    return text.splitlines()[0]


def module_list() -> str:
    """Render every module with the first line of its docstring, floor by floor from the top."""
    lines = []
    for floor, units in reversed(list(enumerate(FLOORS))):
        lines += [f"**Floor {floor}**", "", "| module | what it does |", "|---|---|"]
        for path in modules():
            if unit_of(path) in units:
                name = path.relative_to(PACKAGE).as_posix().removesuffix("__init__.py")
                lines.append(f"| `{name}` | {first_line(path).replace('|', chr(92) + '|')} |")
        lines.append("")
    return "\n".join(lines)


def design_with_modules() -> str:
    """Return docs/design.md with today's module list between its markers."""
    text = DESIGN.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{module_list()}{END}{tail}"


@functools.cache
def measure() -> Figures:
    """Count functions, private ones at module level that are used once, and docstrings that open with a question."""
    figures = Figures()
    for path in modules():
        text = path.read_text(encoding="utf-8")
        tree, name = parsed(path), path.relative_to(PACKAGE).as_posix()
        figures.lines[name] = text.count("\n")
        words = Counter(re.findall(r"\w+", text))
        names = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                _count_docstring(figures, node, name)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                figures.functions += 1
        for node in tree.body:
            private = isinstance(node, ast.FunctionDef) and node.name.startswith("_") and words[node.name] > 1
            if private and not node.name.startswith("__") and names[node.name] == 1:  # type: ignore[union-attr]
                figures.used_once.append(f"{name}:{node.lineno} {node.name}")  # type: ignore[union-attr]
    return figures


def _count_docstring(figures: Figures, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, name: str) -> None:
    text = ast.get_docstring(node)
    if text:
        figures.docstrings += 1
        if re.match(r"(What|Whether|Where|Which|How|Why|Who)\b", text):
            figures.questions.append(f"{name}:{node.lineno} {text.splitlines()[0]}")


def main() -> None:
    """Print the figures, or write the module list."""
    if "--write" in sys.argv:
        DESIGN.write_text(design_with_modules(), encoding="utf-8")
        return
    figures = measure()
    if "--list" in sys.argv:
        print("\n".join([*figures.used_once, *figures.questions]))
    longest = max(figures.lines, key=lambda name: figures.lines[name])
    print(f"functions {figures.functions}")
    print(f"private functions used once {len(figures.used_once)}: {len(figures.used_once) / figures.functions:.1%}")
    print(f"docstrings that open with a question {len(figures.questions)}: ", end="")
    print(f"{len(figures.questions) / figures.docstrings:.1%}")
    print(f"longest file {longest}: {figures.lines[longest]} lines")


if __name__ == "__main__":
    main()
