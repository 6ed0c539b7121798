"""A race ends as the run of the optimizer it chose, takes the epochs of one run, and is stopped and resumed as one."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from surrogate.config import Source, dump
from surrogate.errors import ConfigError, Interrupted, NumericalError
from surrogate.experiment.optimizers import RaceSettings
from surrogate.experiment.settings import Experiment
from surrogate.models import Surrogate
from surrogate.training import RunFolder, read_experiment, train
from surrogate.workflows import run_pipeline

pytestmark = pytest.mark.usefixtures("blank_pictures")

SLIMTRAIN = {"name": "slimtrain", "learning_rate": 1e-2}
SLOW = {"name": "adam", "learning_rate": 1e-6}
DIVERGING = {"name": "sgd", "learning_rate": 1e30}
BASE: dict[str, Any] = {
    "name": "race",
    "data": {"inputs": ["a"], "targets": ["u"], "split": {"validation": 4, "test": 4, "seed": 1}},
    "model": {"family": "convnet", "width": 4, "depth": 1, "dropout": 0.2},
    "training": {"epochs": 8, "batch_size": 5, "log_every": 1, "device": "cpu", "refit": "end", "schedule": "cosine"},
}


def experiment(data: Path, optimizer: dict[str, Any], **training: Any) -> Experiment:
    tree = BASE | {"data": BASE["data"] | {"path": str(data)}, "training": BASE["training"] | training}
    return read_experiment(Source("race.yaml", tree | {"optimizer": optimizer}))


def race(*candidates: dict[str, Any], trial: float = 0.25, keep: str = "best") -> dict[str, Any]:
    return {"name": "race", "candidates": list(candidates), "trial": trial, "keep": keep}


def fit(settings: Experiment, output: Path, **options: Any) -> RunFolder:
    return train(settings, output, command="", quiet=True, **options)


def assert_same_bits(first: RunFolder, second: RunFolder) -> None:
    found, expected = (Surrogate.load(run.path).state_dict() for run in (first, second))
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return fit(experiment(data, race(SLOW, SLIMTRAIN)), tmp_path_factory.mktemp("runs") / "race")


def test_it_ends_as_the_run_of_the_chosen_optimizer(data: Path, run: RunFolder, tmp_path: Path) -> None:
    """Eight epochs for both, trials of two: the chosen one has six, and its schedule is for six."""
    alone = fit(experiment(data, SLIMTRAIN, epochs=6), tmp_path / "alone")
    assert_same_bits(run, alone)
    *_, last = run.records()
    assert (last["event"], last["chosen"], last["optimizers"]) == ("race", [2], ["adam", "slimtrain"])
    assert last["validation_losses"][1] < last["validation_losses"][0]
    losses = [[r["validation_loss"] for r in one.records() if r["event"] == "epoch"] for one in (run, alone)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


def test_all_of_it_takes_the_steps_of_one_run(data: Path, run: RunFolder, tmp_path: Path) -> None:
    alone = fit(experiment(data, SLOW), tmp_path / "alone").begun()
    facts = run.begun()
    assert facts["steps"] == alone["steps"]
    assert facts["parameters"] == alone["parameters"]
    assert facts["validation_loss"] == run.candidate(2).begun()["validation_loss"]
    assert facts["train_seconds"] > run.candidate(2).begun()["train_seconds"]


@pytest.mark.parametrize("stop", [(1, 3), (2, 5), (2, 15)], ids=str)
def test_stopped_anywhere_it_resumes_to_the_same_bits(
    data: Path, run: RunFolder, tmp_path: Path, stop: tuple[int, int]
) -> None:
    def stopping(_trainer: Any, record: dict[str, Any]) -> None:
        if record["event"] == "step" and (record["candidate"], record["step"]) == stop:
            signal.raise_signal(signal.SIGTERM)

    settings = experiment(data, race(SLOW, SLIMTRAIN))
    with pytest.raises(Interrupted, match=f"stopped by SIGTERM at step {stop[1]}"):
        fit(settings, tmp_path / "run", callbacks=[stopping])
    torch.manual_seed(999)
    assert_same_bits(fit(settings, tmp_path / "run", resume=True), run)


def test_an_optimizer_that_diverges_is_out(data: Path, tmp_path: Path) -> None:
    run = fit(experiment(data, race(DIVERGING, SLOW)), tmp_path / "one")
    *_, last = run.records()
    assert last["chosen"] == [2]
    with pytest.raises(NumericalError, match="no optimizer of the race had a finite validation loss"):
        fit(experiment(data, race(DIVERGING, DIVERGING)), tmp_path / "none")


def test_the_best_of_each_method_goes_on_and_the_model_is_their_weighted_mean(data: Path, tmp_path: Path) -> None:
    """Nine epochs for three, trials of two, two that go on: each of these has (9 - 2) // 2 = 3."""
    adam = {"name": "adam", "learning_rate": 1e-2}
    run = fit(experiment(data, race(SLOW, SLIMTRAIN, adam, trial=0.25, keep="each"), epochs=9), tmp_path / "race")
    alone = [fit(experiment(data, one, epochs=3), tmp_path / str(one["name"])) for one in (SLIMTRAIN, adam)]
    *_, last = run.records()
    assert sorted(last["chosen"]) == [2, 3]
    for number, single in zip((2, 3), alone, strict=True):
        assert_same_bits(run.candidate(number), single)
    weights = [last["weights"][last["chosen"].index(number)] for number in (2, 3)]
    assert sum(weights) == pytest.approx(1)
    used = [number for number, weight in enumerate(weights) if weight > 0]
    surrogates = [Surrogate.load(alone[number].path) for number in used]
    x = torch.randn(3, 1, *surrogates[0].signature.shapes.grid)
    with torch.no_grad():
        expected = sum(weights[number] * one(x) for number, one in zip(used, surrogates, strict=True))
        torch.testing.assert_close(Surrogate.load(run.path)(x), expected, rtol=1e-4, atol=1e-5)
    facts = run.begun()
    assert facts["validation_loss"] == last["validation_loss"] <= min(one.begun()["validation_loss"] for one in alone)
    assert facts["steps"] == sum(one.begun()["steps"] for one in alone) + run.candidate(1).records()[-1]["step"]


def test_the_posterior_of_several_is_that_of_the_whole(data: Path, tmp_path: Path) -> None:
    settings = experiment(data, race(SLIMTRAIN, SLIMTRAIN | {"head_warmup": 0.5}, keep="each"), uncertainty=True)
    run = fit(settings, tmp_path / "race")
    surrogate = Surrogate.load(run.path)
    assert surrogate.posterior is not None
    torch.testing.assert_close(surrogate.network.head.matrix(), surrogate.posterior.mean.float())
    assert [record["event"] for record in run.records()][-2:] == ["race", "refit"]


def test_candidates_that_differ_in_the_learning_rate_alone_are_one_method() -> None:
    assert RaceSettings().methods == [[0, 1], [2, 3]]
    assert RaceSettings(keep="best").methods == [[0, 1, 2, 3]]


def test_a_race_is_a_case_like_others(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "race.yaml"
    path.write_text(dump(experiment(data, SLIMTRAIN)) + "cases:\n  one: {}\n  race: {optimizer: {name: race}}\n")
    said: list[str] = []
    report = run_pipeline(path, [], tmp_path / "run", said.append, command="", resume=False, overwrite=False)
    assert "training race: race, 8 epochs" in said
    assert "race" in report.read_text()
    assert (tmp_path / "run" / "cases" / "race" / "evaluation" / "metrics.nc").is_file()


@pytest.mark.parametrize(
    ("optimizer", "training", "message"),
    [
        (race(SLOW, SLIMTRAIN, trial=0.5), {}, "2 candidates with 0.5 of the epochs each leave none"),
        (race(SLOW), {}, "at least 2"),
        (race(SLOW, SLIMTRAIN), {"steps": 10, "epochs": None}, "training.steps has no effect with optimizer race"),
        (race(SLOW, SLIMTRAIN), {"members": 2}, "training.members has no effect with optimizer race"),
    ],
)
def test_races_that_cannot_be_run(
    data: Path, optimizer: dict[str, Any], training: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment(data, optimizer, **training)


def test_too_few_epochs_are_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.epochs: 2 are too few for a race of 2 optimizers"):
        fit(experiment(data, race(SLOW, SLIMTRAIN), epochs=2), tmp_path / "run")
    assert not (tmp_path / "run").exists()
