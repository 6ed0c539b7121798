"""An ensemble is its members: each a run of its own seed, stopped and resumed as such, and their mean at the end."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from forked import run_ranks

from surrogate.config import Source, dump
from surrogate.errors import ConfigError, Interrupted
from surrogate.experiment.settings import Experiment
from surrogate.models import Surrogate
from surrogate.models.export import export_surrogate
from surrogate.prediction import predict
from surrogate.training import RunFolder, read_experiment, split_datasets, train
from surrogate.workflows import evaluate_run, load_surrogate, run_pipeline

pytestmark = pytest.mark.usefixtures("blank_pictures")

BASE: dict[str, Any] = {
    "name": "members",
    "data": {"inputs": ["a"], "targets": ["u"], "split": {"validation": 4, "test": 4, "seed": 1}},
    "model": {"family": "convnet", "width": 4, "depth": 1, "dropout": 0.2},
    "optimizer": {"name": "slimtrain", "learning_rate": 1e-3},
    "training": {"epochs": 2, "batch_size": 5, "log_every": 1, "device": "cpu", "refit": "end"},
}


def experiment(data: Path, **training: Any) -> Experiment:
    tree = BASE | {"data": BASE["data"] | {"path": str(data)}, "training": BASE["training"] | training}
    return read_experiment(Source("members.yaml", tree))


def fit(settings: Experiment, output: Path, **options: Any) -> RunFolder:
    return train(settings, output, command="", quiet=True, **options)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return Surrogate.load(folder).state_dict()


def assert_same_bits(first: Path, second: Path) -> None:
    found, expected = weights(first), weights(second)
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return fit(experiment(data, members=2, seed=3), tmp_path_factory.mktemp("runs") / "two")


def test_members_are_the_runs_of_their_seeds_and_the_whole_their_mean(
    data: Path, run: RunFolder, tmp_path: Path
) -> None:
    singles = [fit(experiment(data, seed=seed), tmp_path / str(seed)) for seed in (6, 7)]
    for number, single in enumerate(singles, 1):
        assert_same_bits(run.member(number).path, single.path)
    expected = Surrogate.mean_of([Surrogate.load(single.path) for single in singles]).state_dict()
    found = weights(run.path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_mean_is_validated_and_the_log_tells_of_all_members(data: Path, run: RunFolder) -> None:
    surrogate, part = Surrogate.load(run.path), split_datasets(experiment(data))["validation"]
    a, u = (torch.from_numpy(part[name].values)[:, None] for name in ("a", "u"))
    with torch.no_grad():
        loss = float(((surrogate(a) - u) / surrogate.targets.scale).square().mean())
    *epochs, last = run.records()
    members = [run.member(number) for number in (1, 2)]
    assert last["event"] == "ensemble"
    assert last["validation_loss"] == pytest.approx(loss, rel=1e-5)
    assert last["members"] == [member.begun()["validation_loss"] for member in members]
    for key in ("train_loss", "validation_loss"):
        alone = [[r[key] for r in member.records() if r["event"] == "epoch"] for member in members]
        assert [epoch[key] for epoch in epochs] == pytest.approx(np.mean(alone, axis=0).tolist())
    assert {record["member"] for record in members[1].records()} == {2}
    facts, parts = run.begun(), [member.begun() for member in members]
    assert facts["validation_loss"] == last["validation_loss"]
    for key in ("train_seconds", "steps"):
        assert facts[key] == pytest.approx(sum(part[key] for part in parts))
    assert facts["parameters"] == sum(p.numel() for p in surrogate.network.parameters())


@pytest.mark.parametrize("stop", [(1, 2), (2, 1), (2, 5)], ids=str)
def test_stopped_in_any_member_it_resumes_to_the_same_bits(
    data: Path, run: RunFolder, tmp_path: Path, stop: tuple[int, int]
) -> None:
    def stopping(_trainer: Any, record: dict[str, Any]) -> None:
        if record["event"] == "step" and (record["member"], record["step"]) == stop:
            signal.raise_signal(signal.SIGTERM)

    settings = experiment(data, members=2, seed=3)
    with pytest.raises(Interrupted, match=rf"member {stop[0]} of 2: stopped by SIGTERM at step {stop[1]}"):
        fit(settings, tmp_path / "run", callbacks=[stopping])
    seen: list[dict[str, Any]] = []
    torch.manual_seed(999)
    resumed = fit(settings, tmp_path / "run", resume=True, callbacks=[lambda _, record: seen.append(record)])
    assert_same_bits(resumed.path, run.path)
    trained = {record["member"] for record in seen if record["event"] == "step"}
    assert trained == set(range(stop[0], 3))  # what was finished is not trained again
    assert [record.get("validation_loss") for record in resumed.records()] == [
        record.get("validation_loss") for record in run.records()
    ]


def test_a_finished_ensemble_is_only_put_together_again(data: Path, run: RunFolder) -> None:
    before = weights(run.path)
    seen: list[dict[str, Any]] = []
    fit(experiment(data, members=2, seed=3), run.path, resume=True, callbacks=[lambda _, record: seen.append(record)])
    assert [record["event"] for record in seen] == ["ensemble"]
    assert all(torch.equal(value, before[name]) for name, value in weights(run.path).items())


def test_everything_after_training_takes_an_ensemble_for_a_model(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "compare.yaml"
    tree = experiment(data).model_dump(mode="json")
    cases = "cases:\n  one: {}\n  two: {training.members: 2}\n"
    path.write_text(dump(Experiment(**tree)) + cases)
    said: list[str] = []
    report = run_pipeline(path, [], tmp_path / "run", said.append, command="", resume=False, overwrite=False)
    assert "training two: slimtrain, 2 networks, 2 epochs each" in said
    assert "interrupted" not in report.read_text()
    folder = tmp_path / "run" / "cases" / "two"
    surrogate, _ = load_surrogate(folder, "cpu")
    file = predict(surrogate, str(data), tmp_path / "predictions.nc")
    a = torch.from_numpy(xr.load_dataset(data, engine="h5netcdf")["a"].values)[:, None]
    with torch.no_grad():
        expected = surrogate(a)[:, 0].numpy()
        np.testing.assert_allclose(xr.load_dataset(file, engine="h5netcdf")["u"].values, expected, rtol=1e-5, atol=1e-6)
        program = torch.export.load(export_surrogate(surrogate, tmp_path / "model.pt2")).module()
        np.testing.assert_allclose(program(a)[:, 0].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert float(evaluate_run(folder / "members" / "2", said.append)["relative_l2_sample"].mean()) > 0


def test_the_posterior_is_that_of_the_whole(data: Path, tmp_path: Path) -> None:
    run = fit(experiment(data, members=2, uncertainty=True, refit="none"), tmp_path / "run")
    surrogate = Surrogate.load(run.path)
    posterior = surrogate.posterior
    assert posterior is not None
    torch.testing.assert_close(surrogate.network.head.matrix(), posterior.mean.float())
    assert Surrogate.load(run.member(1).path).posterior is None
    assert [record["event"] for record in run.records()][-2:] == ["ensemble", "refit"]
    assert run.begun()["validation_loss"] == run.records()[-1]["validation_loss_after"]
    metrics = evaluate_run(run.path, lambda _: None)
    assert (run.evaluation.uncertainty).is_file()
    assert metrics.sizes["sample"] == 4


def test_resume_refuses_another_number_of_members(data: Path, run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"training\.members: 2 -> 3"):
        fit(experiment(data, members=3, seed=3), run.path, resume=True)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"members": 0}, r"training\.members: input should be greater than or equal to 1"),
        ({"members": 101}, r"training\.members: input should be less than or equal to 100"),
        ({"members": 2, "seed": 2**62}, "is too large for 2 members"),
    ],
)
def test_impossible_members_are_refused(data: Path, training: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment(data, **training)


@pytest.mark.slow
def test_two_ranks_train_the_members_of_one_process(data: Path, tmp_path: Path) -> None:
    settings = experiment(data, members=2).model_copy(
        update={"model": experiment(data).model.model_copy(update={"dropout": 0.0})}  # ranks draw other numbers
    )
    config = tmp_path / "members.yaml"
    config.write_text(dump(settings))
    one = fit(settings, tmp_path / "one")
    words = ["-m", "surrogate", "train", str(config), "--output", str(tmp_path / "two")]
    for ended in run_ranks(2, *words, folder=tmp_path):
        assert ended.returncode == 0, ended.stderr
    found, expected = (json.loads((run / "run.json").read_text()) for run in (tmp_path / "two", one.path))
    assert found["validation_loss"] == pytest.approx(expected["validation_loss"], rel=1e-4)
    for name, value in weights(one.path).items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], value, rtol=1e-3, atol=1e-4)
