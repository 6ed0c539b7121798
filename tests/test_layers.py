"""The layer rule of docs/design.md: a unit imports only from layers below its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "surrogate"

LAYERS = {
    "checks": 0, "launch": 0, "machine": 0, "batch": 0, "config": 0, "files": 0, "plotting": 0, "executors": 0,
    "scratch": 0, "quantiles": 0,
    "slimtik": 1, "data": 1, "simulate": 1, "normalize": 1,
    "models": 2, "generate": 2, "convert": 2,
    "optim": 3, "refit": 3, "varpro": 3, "prediction": 3, "evaluation": 3, "studies": 3,
    "training": 4, "report": 4, "pipelines": 4, "slurm": 4,
    "cli": 5,
}  # fmt: skip

# Inside a layer: the bottom, where errors are defined, and the top of the stack of commands.
ALLOWED = {
    ("launch", "checks"), ("launch", "machine"), ("launch", "scratch"), ("machine", "checks"),
    ("slurm", "pipelines"), ("slurm", "training"),
    ("config", "checks"), ("files", "checks"), ("plotting", "checks"), ("plotting", "files"), ("executors", "checks"),
    ("plotting", "quantiles"),
    ("pipelines", "training"), ("pipelines", "report"),
}  # fmt: skip


def unit_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imported_units(path: Path) -> set[str]:
    units = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
        else:
            continue
        units |= {name.split(".")[1] for name in names if name.startswith("surrogate.")}
    return units


def modules() -> list[Path]:
    return [
        path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py" and path.name != "__main__.py"
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_layers_below(path: Path) -> None:
    unit = unit_of(path)
    assert unit in LAYERS, f"{unit} has no layer; give it one here and in docs/design.md"
    for other in imported_units(path) - {unit}:
        assert LAYERS[other] < LAYERS[unit] or (unit, other) in ALLOWED, f"{unit} may not import {other}"


def test_design_page_names_every_unit() -> None:
    text = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
    missing = [unit for unit in LAYERS if unit not in text]
    assert not missing
