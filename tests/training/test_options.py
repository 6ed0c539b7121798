"""Every option of `training` keeps its law."""

import importlib.util
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from surrogate.config import Source, parse_yaml
from surrogate.errors import ConfigError
from surrogate.experiment.settings import Experiment
from surrogate.models import Surrogate
from surrogate.models.rollout import rollout
from surrogate.training import RunFolder, read_experiment, split_datasets, train
from surrogate.training.loop import Trainer
from surrogate.training.schedule import factor

BASE = {
    "name": "options",
    "data": {"inputs": ["u"], "targets": ["u"], "split": {"validation": 4, "test": 4, "seed": 1}},
    "model": {"family": "convnet", "width": 4, "depth": 1, "padding": "circular"},
    "optimizer": {"name": "adam", "learning_rate": 1e-2},
    "training": {"epochs": 2, "batch_size": 8, "log_every": 1, "device": "cpu"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Waves that travel one grid point in a time step."""
    first = np.random.default_rng(0).normal(size=(24, 8)).astype("f4")
    u = np.stack([np.roll(first, step, axis=1) for step in range(4)], axis=1)
    path = tmp_path_factory.mktemp("data") / "data.nc"
    xr.Dataset({"u": (("sample", "time", "x"), u)}).to_netcdf(path, engine="h5netcdf")
    return path


def experiment(data: Path, optimizer: dict[str, Any] | None = None, **training: Any) -> Experiment:
    tree = BASE | {"data": BASE["data"] | {"path": str(data)}, "training": BASE["training"] | training}  # type: ignore
    return read_experiment(Source("options.yaml", tree | ({"optimizer": optimizer} if optimizer else {})))


def events(run: RunFolder, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in run.log().path.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def fit(settings: Experiment, folder: Path, **options: Any) -> RunFolder:
    return train(settings, folder, command="", **options)


def weights(run: RunFolder) -> list[torch.Tensor]:
    newest = run.checkpoints.latest()
    assert newest is not None
    return list(Surrogate.load(newest).state_dict().values())


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedules_rise_then_fall_to_their_end(schedule: str) -> None:
    found = [factor(step, schedule=schedule, warmup=4, total=24, decay_to=0.1) for step in range(25)]
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1.0
    assert all(b <= a for a, b in itertools.pairwise(found[3:]))
    assert found[24] == pytest.approx(1.0 if schedule == "constant" else 0.1)
    assert found[14] == pytest.approx(1.0 if schedule == "constant" else 0.55)


def test_steps_end_inside_an_epoch_and_are_validated(data: Path, tmp_path: Path) -> None:
    run = fit(experiment(data, epochs=None, steps=8), tmp_path / "run")  # an epoch has 6
    assert [record["step"] for record in events(run, "epoch")] == [6, 8]


def test_accumulation_is_the_large_batch(data: Path, tmp_path: Path) -> None:
    for optimizer in ({"name": "sgd"}, {"name": "slimtrain"}):
        several = fit(experiment(data, optimizer, batch_size=8, accumulate=2), tmp_path / f"{optimizer['name']}-2")
        large = fit(experiment(data, optimizer, batch_size=16), tmp_path / f"{optimizer['name']}-1")
        for first, second in zip(weights(several), weights(large), strict=True):
            torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_clipping_bounds_the_step_of_gradient_descent(data: Path, tmp_path: Path) -> None:
    optimizer = {"name": "sgd", "learning_rate": 1.0, "momentum": 0.0}
    moved = []
    for name, clip in (("clipped", 1e-3), ("free", None)):
        before: list[list[torch.Tensor]] = []

        def note(trainer: Trainer, _record: dict[str, Any], seen: list[list[torch.Tensor]] = before) -> None:
            seen.append([parameter.detach().clone() for parameter in trainer.surrogate.network.parameters()])

        fit(experiment(data, optimizer, epochs=None, steps=2, clip_norm=clip), tmp_path / name, callbacks=[note])
        first, second = before[:2]
        moved.append(math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(first, second, strict=True))))
    assert moved[0] == pytest.approx(1e-3, rel=1e-3)
    assert moved[1] > 2e-3


def test_patience_ends_training_where_validation_no_longer_falls(data: Path, tmp_path: Path) -> None:
    optimizer = {"name": "sgd", "learning_rate": 1e-12, "momentum": 0.0}  # nothing moves in single precision
    run = fit(experiment(data, optimizer, epochs=9, patience=2), tmp_path / "run")
    assert len(events(run, "epoch")) == 3
    again = fit(experiment(data, optimizer, epochs=9, patience=2), tmp_path / "run", resume=True)
    assert len(events(again, "epoch")) == 3


@pytest.mark.parametrize("every", ["last", "all"])
def test_validation_is_the_error_of_the_rollout(data: Path, tmp_path: Path, every: str) -> None:
    settings = experiment(data, epochs=1, rollout=3, rollout_loss=every)
    run = fit(settings, tmp_path / "run")
    surrogate = Surrogate.load(run.path)
    u = torch.from_numpy(split_datasets(settings)["validation"]["u"].values)  # four steps: one window a simulation
    with torch.no_grad():
        errors = (rollout(surrogate, u[:, :1], 3)[:, :, 0] - u[:, 1:]) / surrogate.targets.scale
    expected = errors.square().mean() if every == "all" else errors[:, -1].square().mean()
    assert events(run, "epoch")[0]["validation_loss"] == pytest.approx(float(expected), rel=1e-5)
    assert events(run, "step")[0]["loss"] > 0


def test_rollout_of_what_is_no_stepper_is_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    settings = experiment(data, rollout=2)
    window = parse_yaml("steps_in: 1\nsteps_out: 0", "w").tree
    wrong = settings.model_copy(update={"data": type(settings.data)(**settings.data.model_dump() | {"window": window})})
    with pytest.raises(ConfigError, match="no roll-out"):
        fit(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_relative_loss_and_half_precision_learn(data: Path, tmp_path: Path) -> None:
    for name, options in (("relative", {"loss": "relative_l2"}), ("half", {"precision": "bf16"})):
        for optimizer in ("slimtrain", "adam"):
            chosen = {"name": optimizer, "learning_rate": 1e-2}
            run = fit(experiment(data, chosen, epochs=8, **options), tmp_path / f"{name}-{optimizer}")
            losses = [record["validation_loss"] for record in events(run, "epoch")]
            assert losses[-1] < 0.7 * losses[0]


def test_deterministic_mode_is_on_while_training_alone(data: Path, tmp_path: Path) -> None:
    seen = []
    fit(
        experiment(data, deterministic=True, epochs=1),
        tmp_path / "run",
        callbacks=[lambda *_: seen.append(torch.are_deterministic_algorithms_enabled())],
    )
    assert all(seen)
    assert not torch.are_deterministic_algorithms_enabled()


def test_callbacks_see_every_record(data: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    run = fit(experiment(data), tmp_path / "run", callbacks=[lambda _trainer, record: seen.append(record)])
    assert [json.dumps(record) for record in seen] == run.log().path.read_text().splitlines()


def test_checkpoints_inside_an_epoch(data: Path, tmp_path: Path) -> None:
    saved = []
    callbacks = [lambda trainer, record: saved.append(sorted(p.name for p in trainer.checkpoints.path.glob("step-*")))]
    fit(experiment(data, epochs=1, checkpoint_every=2), tmp_path / "run", callbacks=callbacks)
    assert saved[4] == ["step-00000002", "step-00000004"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
@pytest.mark.slow
def test_compiled_features_learn_the_same(data: Path, tmp_path: Path) -> None:
    plain, compiled = (fit(experiment(data, compile=flag), tmp_path / str(flag)) for flag in (False, True))
    for first, second in zip(weights(plain), weights(compiled), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="TensorBoard is installed")
def test_missing_tensorboard_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pip install 'slim-surrogate\[tensorboard\]'"):
        fit(experiment(data, tensorboard=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="TensorBoard is not installed")
def test_tensorboard_has_the_log(data: Path, tmp_path: Path) -> None:
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    run = fit(experiment(data, tensorboard=True), tmp_path / "run")
    found = accumulator(str(run.path / "tensorboard")).Reload().Scalars("epoch/validation_loss")
    expected = [record["validation_loss"] for record in events(run, "epoch")]
    assert [scalar.value for scalar in found] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("optimizer", "training", "message"),
    [
        (None, {"epochs": 3, "steps": 5}, "epochs: 3 and steps: 5 both say how long"),
        (None, {"decay_to": 0.1}, "decay_to needs schedule"),
        (None, {"rollout_loss": "all"}, "rollout_loss: all needs rollout"),
        ({"name": "elm"}, {"schedule": "cosine"}, "training.schedule has no effect with optimizer elm"),
        ({"name": "gnvpro"}, {"clip_norm": 1.0}, "training.clip_norm has no effect with optimizer gnvpro"),
    ],
)
def test_contradictions_are_refused(data: Path, optimizer: Any, training: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment(data, optimizer, **training)


def test_too_much_data_for_a_full_batch_is_refused_with_the_numbers(data: Path, tmp_path: Path) -> None:
    settings = experiment(data, {"name": "lbfgs", "memory_mb": 1})
    big = settings.model_copy(update={"optimizer": settings.optimizer.model_copy(update={"memory_mb": 0})})
    with pytest.raises(ConfigError, match=r"samples of 16 numbers are 0 MB, optimizer\.memory_mb is 0"):
        fit(big, tmp_path / "run")
