"""A network with a linear part starts as ridge regression, and ends as it where training finds nothing better."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from surrogate.config import Source
from surrogate.errors import Interrupted
from surrogate.experiment.settings import Experiment
from surrogate.models import Surrogate
from surrogate.training import RunFolder, read_experiment, train

BASE: dict[str, Any] = {
    "name": "linear",
    "data": {"inputs": ["a"], "targets": ["u"], "split": {"validation": 6, "test": 4, "seed": 1}},
    "model": {"family": "mlp", "width": 4, "linear": 8},
    "training": {"epochs": 2, "batch_size": 5, "log_every": 1, "device": "cpu"},
}
SLIMTRAIN, WILD = {"name": "slimtrain", "learning_rate": 1e-2}, {"name": "adam", "learning_rate": 1.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear map with a little noise."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(40, 8))
    u = a @ rng.normal(size=(8, 6)) + 0.01 * rng.normal(size=(40, 6))
    path = tmp_path_factory.mktemp("data") / "data.nc"
    variables = {"a": (("sample", "x"), a.astype("f4")), "u": (("sample", "y"), u.astype("f4"))}
    xr.Dataset(variables).to_netcdf(path, engine="h5netcdf")
    return path


def experiment(data: Path, optimizer: dict[str, Any], **training: Any) -> Experiment:
    sections = {"data": BASE["data"] | {"path": str(data)}, "training": BASE["training"] | training}
    return read_experiment(Source("linear.yaml", BASE | sections | {"optimizer": optimizer}))


def fit(settings: Experiment, output: Path, **options: Any) -> RunFolder:
    return train(settings, output, command="", quiet=True, **options)


@pytest.mark.parametrize("refit", ["none", "end"])
@pytest.mark.parametrize("optimizer", [SLIMTRAIN, WILD], ids=lambda optimizer: optimizer["name"])
def test_it_ends_no_worse_than_it_starts(data: Path, optimizer: dict[str, Any], refit: str, tmp_path: Path) -> None:
    run = fit(experiment(data, optimizer, refit=refit), tmp_path / "run")
    start, *_ = run.records()
    assert start["event"] == "start"
    assert start["validation_loss"] < 1e-3  # of targets with variance 1
    assert run.begun()["validation_loss"] <= start["validation_loss"]


def test_a_training_that_only_does_harm_ends_as_ridge_regression(data: Path, tmp_path: Path) -> None:
    run = fit(experiment(data, WILD), tmp_path / "run")
    epochs = [record["validation_loss"] for record in run.records() if record["event"] == "epoch"]
    assert min(epochs) > 1e-2
    assert not Surrogate.load(run.path).network.head.matrix()[:4].any()  # nothing of the learned features


@pytest.mark.parametrize("average", [None, 0.9])
def test_stopped_in_its_first_epoch_it_resumes_to_the_same_bits(
    data: Path, average: float | None, tmp_path: Path
) -> None:
    def stopping(_trainer: Any, record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["step"] == 1:
            signal.raise_signal(signal.SIGTERM)

    settings = experiment(data, SLIMTRAIN, average=average)
    calm = fit(settings, tmp_path / "calm")
    with pytest.raises(Interrupted):
        fit(settings, tmp_path / "run", callbacks=[stopping])
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    for file in newest.iterdir():  # as after a power cut: the start alone is left
        file.unlink()
    newest.rmdir()
    torch.manual_seed(999)
    resumed = fit(settings, tmp_path / "run", resume=True)
    found, expected = (Surrogate.load(run.path).state_dict() for run in (resumed, calm))
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert [r.get("validation_loss") for r in resumed.records()] == [r.get("validation_loss") for r in calm.records()]
