"""The mean of the weights with all that goes beside it: BatchNorm's averages, compiled features, several ranks."""

import shutil
import signal
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import xarray as xr
from forked import run_ranks
from torch import Tensor, nn

from surrogate.config import Source, dump
from surrogate.errors import Interrupted
from surrogate.experiment.settings import Experiment
from surrogate.models import ModelSettings, Separable, Shapes, Surrogate, head_of, register, registry
from surrogate.training import RunFolder, evaluation_stream, read_experiment, split_datasets, train


class NormedSettings(ModelSettings):
    """A convolution, then BatchNorm."""

    family: Literal["normed"] = "normed"
    dropout: float = 0.3


def normed(settings: NormedSettings, shapes: Shapes) -> Separable:
    layers = [nn.Conv1d(shapes.inputs, 4, 3, padding=1), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(settings.dropout)]
    return Separable(nn.Sequential(*layers), head_of(nn.Conv1d(4, shapes.outputs, 1)))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family is there for the tests of this file alone."""
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    register(NormedSettings)(normed)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    a = np.random.default_rng(0).normal(size=(28, 16)).astype("f4")  # 20 to train, in 5 batches
    u = (np.roll(a, 1, axis=1) ** 2 + a).astype("f4")
    path = tmp_path_factory.mktemp("data") / "data.nc"
    xr.Dataset({"a": (("sample", "x"), a), "u": (("sample", "x"), u)}).to_netcdf(path, engine="h5netcdf")
    return path


def experiment(data: Path, *, model: dict[str, Any] | None = None, **training: Any) -> Experiment:
    tree = {
        "name": "average",
        "data": {
            "path": str(data),
            "inputs": ["a"],
            "targets": ["u"],
            "split": {"validation": 4, "test": 4, "seed": 1},
        },
        "model": model or {"family": "normed"},
        "optimizer": {"name": "adam", "learning_rate": 1e-2},
        "training": {"epochs": 3, "batch_size": 4, "device": "cpu", "average": 0.9, "log_every": 1} | training,
    }
    return read_experiment(Source("average.yaml", tree))


def newest(run: RunFolder) -> Surrogate:
    folder = run.checkpoints.latest()
    assert folder is not None
    return Surrogate.load(folder)


def convolved(surrogate: Surrogate, settings: Experiment) -> list[Tensor]:
    """What goes into BatchNorm, for every batch of the training data."""
    stream = evaluation_stream(settings, split_datasets(settings)["train"])
    convolution = surrogate.network.get_submodule("features.0")
    with torch.no_grad():
        return [convolution(surrogate.inputs(batch.inputs)) for batch in stream]


def test_averages_of_batchnorm_are_those_of_the_mean_weights(data: Path, tmp_path: Path) -> None:
    settings = experiment(data)
    surrogate = newest(train(settings, tmp_path / "run", command=""))
    batches = convolved(surrogate, settings)
    norm = surrogate.network.get_submodule("features.1")
    means = torch.stack([z.mean((0, 2)) for z in batches])
    variances = torch.stack([z.transpose(0, 1).flatten(1).var(1) for z in batches])
    torch.testing.assert_close(norm.get_buffer("running_mean"), means.mean(0))
    torch.testing.assert_close(norm.get_buffer("running_var"), variances.mean(0))


def test_training_goes_on_with_its_own_averages(data: Path, tmp_path: Path) -> None:
    """With the mean or without, the weights of every step are the same."""
    losses = []
    for name, average in (("with", 0.9), ("without", None)):
        run = train(experiment(data, average=average), tmp_path / name, command="")
        losses.append([record["loss"] for record in run.records() if record["event"] == "step"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("stop_at", [3, 7])
def test_stopped_and_resumed_it_has_the_same_bits(data: Path, tmp_path: Path, stop_at: int) -> None:
    def stopping(_trainer: Any, record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["step"] == stop_at:
            signal.raise_signal(signal.SIGTERM)

    settings = experiment(data)
    whole = train(settings, tmp_path / "whole", command="")
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "run", command="", callbacks=[stopping])
    resumed = train(settings, tmp_path / "run", command="", resume=True)
    expected = newest(whole).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in newest(resumed).state_dict().items())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_compiled_features_have_the_same_mean(data: Path, tmp_path: Path) -> None:
    model = {"family": "normed", "dropout": 0.0}  # compiled dropout draws other numbers
    plain, compiled = (
        newest(train(experiment(data, model=model, compile=flag), tmp_path / str(flag), command="")).state_dict()
        for flag in (False, True)
    )
    for name, value in compiled.items():
        torch.testing.assert_close(value, plain[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_ranks_keep_the_mean_of_one_process(data: Path, tmp_path: Path) -> None:
    settings = experiment(data, model={"family": "convnet", "width": 4, "depth": 1})
    found, expected = newest(on_two_ranks(settings, tmp_path)), newest(train(settings, tmp_path / "one", command=""))
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_ranks_agree_on_the_averages_of_batchnorm(data: Path, tmp_path: Path) -> None:
    settings = experiment(
        data, model={"family": "autoencoder", "width": 2, "latent": 4, "levels": 1, "batch_norm": True}
    )
    surrogate = newest(on_two_ranks(settings, tmp_path))
    first = next(name for name, m in surrogate.network.named_modules() if isinstance(m, nn.BatchNorm1d))
    seen: list[Tensor] = []
    norm = surrogate.network.get_submodule(first)
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for batch in evaluation_stream(settings, split_datasets(settings)["train"]):
            surrogate(batch.inputs)
    torch.testing.assert_close(  # shares of equal size, so that it does not matter how batches were shared out
        norm.get_buffer("running_mean"), torch.cat(seen).mean((0, 2)), rtol=1e-4, atol=1e-5
    )


def on_two_ranks(settings: Experiment, folder: Path) -> RunFolder:
    (folder / "average.yaml").write_text(dump(settings))
    words = ["-m", "surrogate", "train", str(folder / "average.yaml"), "--output", str(folder / "two")]
    for ended in run_ranks(2, *words, folder=folder):
        assert ended.returncode == 0, ended.stderr
    return RunFolder(folder / "two")
