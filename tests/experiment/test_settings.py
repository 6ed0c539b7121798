"""The settings of a run, read with the families that are registered."""

from typing import Any, Literal

import pytest
from torch import nn

from surrogate.config import Source
from surrogate.experiment.settings import read_experiment
from surrogate.models import ModelSettings, Separable, Shapes, head_of, register, registry

TREE = {
    "name": "small",
    "data": {"path": "u.nc", "inputs": ["a"], "targets": ["u"]},
    "optimizer": {"name": "adam"},
    "training": {"epochs": 1, "batch_size": 2},
}


def read(model: dict[str, Any]) -> Any:
    return read_experiment(Source("small.yaml", TREE | {"model": model}))


def test_reading_many_configurations_makes_one_class() -> None:
    """With a class for each reading the memory of a process grew."""
    first = read({"family": "mlp", "width": 4})
    assert {type(read({"family": "mlp", "width": width})) for width in range(1, 20)} == {type(first)}


def test_a_family_that_is_registered_later_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    before = type(read({"family": "mlp"}))

    class LateSettings(ModelSettings):
        family: Literal["late"] = "late"
        size: int = 3

    @register(LateSettings)
    def late(settings: LateSettings, shapes: Shapes) -> Separable:
        return Separable(nn.Identity(), head_of(nn.Linear(shapes.inputs, shapes.outputs)))

    found = read({"family": "late", "size": 5})
    assert isinstance(found.model, LateSettings)
    assert found.model.size == 5
    assert type(found) is not before
