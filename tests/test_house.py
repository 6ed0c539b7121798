"""The order of floors, the module list of docs/design.md and the measures of readable code; see tests/house.py."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", Path(__file__).with_name("house.py"))
    module = importlib.util.module_from_spec(spec)
    importlib.sys.modules["house"] = module
    spec.loader.exec_module(module)
    return module


house = _house()
FLOOR = {unit: number for number, units in enumerate(house.FLOORS) for unit in units}


@pytest.mark.parametrize("path", house.modules(), ids=lambda path: path.relative_to(house.PACKAGE).as_posix())
def test_imports_only_from_floors_below(path: Path) -> None:
    unit = house.unit_of(path)
    assert unit in FLOOR, f"{unit} has no floor; give it one in tests/house.py"
    for name in house.imports(path):
        other = name.split(".")[1]
        assert other == unit or FLOOR[other] < FLOOR[unit], f"{unit} may not import {other}"


def test_design_page_lists_every_module() -> None:
    assert house.DESIGN.read_text(encoding="utf-8") == house.design_with_modules(), (
        "run `python tests/house.py --write`"
    )


def test_no_module_is_longer_than_420_lines() -> None:
    assert not {name: lines for name, lines in house.measure().lines.items() if lines > 420}
