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


def test_few_private_functions_are_used_once() -> None:
    figures = house.measure()
    assert len(figures.used_once) <= 0.1 * figures.functions, (
        "inline helpers that only split a body: python tests/house.py --list"
    )


def test_docstrings_do_not_open_with_a_question() -> None:
    figures = house.measure()
    assert len(figures.questions) <= 0.01 * figures.docstrings, figures.questions


def test_no_modules_import_each_other_in_a_circle() -> None:
    dotted = {
        path: path.relative_to(house.ROOT).with_suffix("").as_posix().replace("/", ".") for path in house.modules()
    }
    names = {path: name.removesuffix(".__init__") for path, name in dotted.items()}
    needs = {name: set(house.imports(path)) & set(names.values()) - {name} for path, name in names.items()}
    while ready := [name for name, others in needs.items() if not others & needs.keys()]:
        for name in ready:
            del needs[name]
    assert not needs
