"""The configuration that `inspect --write-config` writes: a family that fits what it maps, and that trains."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from surrogate.config import read_yaml
from surrogate.data.inspect import describe
from surrogate.training import train
from surrogate.workflows import read_cases, write_starter
from surrogate.workflows.starter import proposed_model

RNG = np.random.default_rng(0)
FIELD, SERIES, NUMBER = ("sample", "y", "x"), ("sample", "time", "y", "x"), ("sample",)
CASES = {
    "parameters to fields": ({"k": NUMBER, "u": FIELD}, "pod"),
    "a vector of parameters to fields": ({"u": FIELD, "k": ("sample", "part")}, "pod"),
    "fields to fields": ({"a": FIELD, "u": FIELD}, "convnet"),
    "fields alone": ({"u": FIELD}, "autoencoder"),
    "a series of fields": ({"u": SERIES}, "convnet"),
    "a series of numbers": ({"s": ("sample", "time")}, "mlp"),
}


def file_with(path: Path, variables: dict[str, tuple[str, ...]], side: int = 8) -> Path:
    sizes = {"sample": 20, "time": 4, "y": side, "x": side, "part": 3}
    arrays = {name: (axes, RNG.normal(size=[sizes[axis] for axis in axes])) for name, axes in variables.items()}
    xr.Dataset(arrays).to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.parametrize("case", CASES)
def test_the_family_fits_the_data_and_trains(case: str, tmp_path: Path) -> None:
    variables, family = CASES[case]
    data = file_with(tmp_path / "data.nc", variables)
    write_starter(tmp_path / "mine.yaml", "data", describe(str(data)).suggested_config)
    assert read_yaml(tmp_path / "mine.yaml").tree["model"]["family"] == family
    (experiment,) = read_cases(tmp_path / "mine.yaml", ["training.epochs=1"]).values()
    run = train(experiment, tmp_path / "run", command="")
    assert run.checkpoints.latest() is not None


def test_an_autoencoder_halves_the_grid_only_as_often_as_it_can(tmp_path: Path) -> None:
    for side, beginning in ((10, "{family: autoencoder, width: 16, latent: 50, levels: 1}"), (9, "{family: convnet")):
        data = file_with(tmp_path / f"{side}.nc", {"u": FIELD}, side)
        assert proposed_model(describe(str(data)).suggested_config).startswith(beginning)


def test_what_cannot_be_read_yet_gets_a_family_of_fields() -> None:
    data = "data:\n  path: nowhere.h5\n  inputs: [a]\n  targets: [u]\n"
    assert proposed_model(data).startswith("{family: convnet")
