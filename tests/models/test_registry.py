"""Families of other packages: named by entry points, told apart from broken ones, and refused where they do not fit."""

from pathlib import Path

import forked
import numpy as np
import pytest
import xarray as xr

from surrogate.errors import ConfigError
from surrogate.models import ModelSettings, Separable, Shapes, register

MODULE = """
from typing import Literal
from torch import nn
from surrogate.models import ModelSettings, Separable, Shapes, register, separate


class LineSettings(ModelSettings):
    family: Literal["line"] = "line"
    width: int = 4


@register(LineSettings)
def line(settings: LineSettings, shapes: Shapes) -> Separable:
    layers = [nn.Linear(shapes.inputs, settings.width), nn.Tanh(), nn.Linear(settings.width, shapes.outputs)]
    return separate(nn.Sequential(*layers))
"""
CONFIG = """
name: line
data: {path: data.nc, inputs: [a], targets: [u], split: {validation: 4, test: 4}}
model: {family: FAMILY}
optimizer: {name: adam}
training: {epochs: 1}
"""


def install(folder: Path, name: str, module: str) -> None:
    """What pip leaves behind of a package with an entry point."""
    (folder / f"{name}.py").write_text(module)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[surrogate.models]\n{name} = {name}\n")


def command(folder: Path, family: str, *words: str) -> forked.Ended:
    (folder / "config.yaml").write_text(CONFIG.replace("FAMILY", family))
    return forked.run("-m", "surrogate", *words, folder=folder, PYTHONPATH=str(folder))


def test_a_family_of_an_installed_package_trains_by_its_name(tmp_path: Path) -> None:
    install(tmp_path, "lines", MODULE)
    a = np.linspace(0, 1, 20)
    data = xr.Dataset({"a": ("sample", a), "u": ("sample", a**2)})
    data.to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    done = command(tmp_path, "line", "train", "config.yaml", "--output", "run")
    assert done.returncode == 0, done.stderr
    again = command(tmp_path, "line", "evaluate", "run")
    assert again.returncode == 0, again.stderr


def test_a_package_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    install(tmp_path, "broken", "import no_such_thing\n")
    done = command(tmp_path, "brocken", "train", "config.yaml", "--set", "data.path=x")
    assert done.returncode == 2
    warning, error = done.stderr.splitlines()
    assert warning == (
        "warning: the model families of entry point 'broken' (broken) cannot be used: ModuleNotFoundError: "
        "No module named 'no_such_thing'; fix or remove that package"
    )
    assert error.startswith("error: config.yaml:4: model.family: unknown name 'brocken'")


def test_a_name_that_is_no_literal_is_refused() -> None:
    class Loose(ModelSettings):
        family: str = "loose"

    def builder(settings: Loose, shapes: Shapes) -> Separable:
        raise NotImplementedError

    with pytest.raises(ConfigError, match=r'Loose: declare its name as `family: Literal\["name"\] = "name"`'):
        register(Loose)(builder)
