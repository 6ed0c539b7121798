"""Parameters to numbers, sensors or fields: from a recipe of the catalogue to the report, with one command."""

from pathlib import Path

import pytest
import torch

from surrogate.errors import ConfigError
from surrogate.models import Surrogate
from surrogate.workflows import run_pipeline

pytestmark = pytest.mark.usefixtures("blank_pictures")

HEAD = "name: small\nsimulate: {{recipe: {recipe}, size: tiny}}\n"
TAIL = """
optimizer: {name: slimtrain, learning_rate: 1e-2}
training: {epochs: 2, batch_size: 10, uncertainty: true}
"""
PEAKS = (
    HEAD.format(recipe="peaks") + "data: {inputs: [y1, y2], targets: [c], split: {validation: 20, test: 20, seed: 0}}"
)
SENSORS = HEAD.format(recipe="convection_diffusion_reaction") + (
    "data: {inputs: [y], targets: [u], window: {steps_in: 12, steps_out: 0}, split: {validation: 4, test: 4, seed: 0}}"
)
INSTANT = HEAD.format(recipe="convection_diffusion_reaction") + (
    "data: {inputs: [y, time], targets: [u], window: {steps_in: 1, steps_out: 0}, "
    "split: {validation: 4, test: 4, seed: 0}}"
)


def ran(config: str, folder: Path, model: str = "{family: mlp, width: 8}") -> Surrogate:
    path = folder / "config.yaml"
    path.write_text(f"{config}\nmodel: {model}{TAIL}")
    report = run_pipeline(path, [], folder / "run", print, command="", resume=False, overwrite=False)
    assert report.is_file()
    return Surrogate.load(folder / "run" / "cases" / "main")


@pytest.mark.parametrize(
    ("config", "inputs", "targets"),
    [(PEAKS, (2,), (1,)), (SENSORS, (1, 55), (12, 6)), (INSTANT, (2, 55), (1, 6))],
    ids=["peaks", "sensors", "time among the inputs"],
)
def test_recipe_to_report(config: str, inputs: tuple[int, ...], targets: tuple[int, ...], tmp_path: Path) -> None:
    surrogate = ran(config, tmp_path)
    prediction, std = surrogate.predict_with_std(torch.randn(3, *inputs))
    assert prediction.shape == std.shape == (3, *targets)
    assert (std > 0).all()


def test_a_family_of_fields_refuses_parameters(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"inputs have the grid \(55,\), data\.targets \(6,\): the family convnet"):
        ran(SENSORS, tmp_path, "{family: convnet, width: 4}")
