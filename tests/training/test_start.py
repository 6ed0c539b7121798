"""Training that starts from a trained run: the same function at first, what may change of it, differences by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from pydantic import ValidationError

from surrogate.config import Source
from surrogate.errors import ConfigError, DataError
from surrogate.experiment.settings import Experiment
from surrogate.models import Surrogate
from surrogate.training import RunFolder, read_experiment, train

ADAM, SLIMTRAIN, ELM = ({"name": "adam", "learning_rate": 3e-3}, {"name": "slimtrain"}, {"name": "elm"})


def write(path: Path, count: int, shift: float, units: str = "m") -> Path:
    """Write a nonlinear map whose frequency is shifted."""
    a = np.random.default_rng(int(10 * shift)).uniform(-1, 1, (count, 2))
    u = np.sin((2 + shift) * a @ np.array([[1.0, 0.5, 0.2], [0.3, 1.0, -1.0]]))
    variables = {"a": (("sample", "x"), a.astype("f4"), {"units": units}), "u": (("sample", "y"), u.astype("f4"))}
    xr.Dataset(variables).to_netcdf(path, engine="h5netcdf")
    return path


def experiment(data: Path, optimizer: dict[str, Any], width: int = 8, **training: Any) -> Experiment:
    split = {"validation": 4, "test": 4, "seed": 1}
    tree = {
        "name": "start",
        "data": {"inputs": ["a"], "targets": ["u"], "path": str(data), "split": split},
        "model": {"family": "mlp", "width": width},
        "optimizer": optimizer,
        "training": {"epochs": 1, "batch_size": 5, "device": "cpu"} | training,
    }
    return read_experiment(Source("start.yaml", tree))


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on many simulations."""
    folder = tmp_path_factory.mktemp("big")
    chosen = experiment(write(folder / "many.nc", 60, 0.0), ADAM, epochs=15)
    return train(chosen, folder / "run", command="c", quiet=True).path


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few simulations of a neighbouring problem."""
    return write(tmp_path_factory.mktemp("few") / "few.nc", 14, 0.2)


def trained(few: Path, folder: Path, optimizer: dict[str, Any], **training: Any) -> RunFolder:
    return train(experiment(few, optimizer, **training), folder, command="c", quiet=True)


def test_the_start_is_the_trained_network_and_is_kept_where_nothing_is_better(
    big: Path, few: Path, tmp_path: Path
) -> None:
    wild = {"name": "adam", "learning_rate": 10.0}
    run = trained(few, tmp_path / "run", wild, start_from=str(big))
    inputs = torch.randn(5, 1, 2)
    torch.testing.assert_close(Surrogate.load(run.path)(inputs), Surrogate.load(big)(inputs))
    assert run.records()[0]["event"] == "start"


def test_head_is_the_exact_refit_of_the_last_layer_alone(big: Path, few: Path, tmp_path: Path) -> None:
    run = trained(few, tmp_path / "run", ELM, start_from=str(big), start_what="head")
    before, after = Surrogate.load(big).network, Surrogate.load(run.path).network
    for one, other in zip(before.features.parameters(), after.features.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(before.head.weight, after.head.weight)
    losses = [record["validation_loss"] for record in run.records() if "validation_loss" in record]
    assert min(losses) <= losses[0]


@pytest.mark.parametrize("optimizer", [ADAM, SLIMTRAIN], ids=["adam", "slimtrain"])
def test_features_move_at_a_tenth_of_the_rate(big: Path, few: Path, tmp_path: Path, optimizer: dict[str, Any]) -> None:
    from surrogate.training.build import split_datasets, trainer_of
    from surrogate.training.ranks import Ranks

    rates = {}
    for what in ("all", "features"):
        chosen = experiment(few, optimizer, start_from=str(big), start_what=what)
        trainer = trainer_of(chosen, split_datasets(chosen), RunFolder(tmp_path / what), Ranks())
        network = trainer.surrogate.network
        rates[what] = {
            part: {g["lr"] for g in trainer.method.optimizer.param_groups for p in g["params"] if id(p) in own}
            for part, own in (
                ("features", set(map(id, network.features.parameters()))),
                ("head", set(map(id, network.head.parameters()))),
            )
        }
    assert {0.1 * rate for rate in rates["all"]["features"]} == rates["features"]["features"]
    assert rates["all"]["head"] == rates["features"]["head"]


def test_differences_are_named(big: Path, few: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another model: width: there 8, here 9"):
        train(experiment(few, ADAM, 9, start_from=str(big)), tmp_path / "a", command="c", quiet=True)
    other = write(tmp_path / "other.nc", 14, 0.2, units="km")
    with pytest.raises(DataError, match="units of a: trained on m, given km"):
        trained(other, tmp_path / "b", ADAM, start_from=str(big))
    with pytest.raises(ConfigError, match="no readable surrogate"):
        trained(few, tmp_path / "c", ADAM, start_from=str(tmp_path / "nowhere"))
    assert not any((tmp_path / name).exists() for name in "abc")


@pytest.mark.parametrize(
    ("optimizer", "training", "message"),
    [
        (ADAM, {"start_what": "features"}, "needs start_from"),
        (ADAM, {"start_from": "runs/big", "start_what": "head"}, "the two go together"),
        (ELM, {"start_from": "runs/big"}, "the two go together"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, optimizer: dict[str, Any], training: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, ValidationError), match=message):
        experiment(tmp_path / "few.nc", optimizer, **training)
