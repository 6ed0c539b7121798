"""The training loop: interrupted and resumed it gives the same run; failures are counted, never applied."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from surrogate.config import parse_yaml
from surrogate.errors import ConfigError, DataError, Interrupted, NumericalError
from surrogate.experiment.checkpoint import CheckpointFolder
from surrogate.experiment.settings import Experiment
from surrogate.models import Surrogate
from surrogate.training import RunFolder, case_sources, read_experiment, train
from surrogate.training.loop import Trainer

CONFIG = """
name: small
data:
  path: {path}
  inputs: [a]
  targets: [u]
  split: {{validation: 4, test: 4, seed: 1}}
model: {{family: convnet, width: 4, depth: 1}}
optimizer: {{name: {optimizer}, learning_rate: 1e-3}}
training: {{epochs: 3, batch_size: 5, schedule: cosine, log_every: 1}}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(24, 8)).astype("f4")
    u = (np.roll(a, 1, axis=1) ** 2 + a).astype("f4")
    coordinates = {"x": ("x", np.linspace(0, 1, 8), {"units": "m"})}
    path = tmp_path / "data.nc"
    xr.Dataset({"a": (("sample", "x"), a), "u": (("sample", "x"), u)}, coords=coordinates).to_netcdf(
        path, engine="h5netcdf"
    )
    return path


def experiment(data: Path, optimizer: str = "slimtrain") -> Experiment:
    return read_experiment(parse_yaml(CONFIG.format(path=data, optimizer=optimizer), "small.yaml"))


def with_training(settings: Experiment, **changes: object) -> Experiment:
    return settings.model_copy(update={"training": settings.training.model_copy(update=changes)})


def records(run: RunFolder) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in run.log().path.read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "samples_per_second", "data_wait")} for line in lines
    ]


def final_weights(run: RunFolder) -> dict[str, torch.Tensor]:
    newest = run.checkpoints.latest()
    assert newest is not None
    return Surrogate.load(newest).state_dict()


def train_until(stop_at: int, settings: Experiment, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until a signal comes in a step."""
    step = Trainer._step

    def stopping(self: Trainer, *args: object) -> None:
        step(self, *args)  # type: ignore[arg-type]
        if self.state.step == stop_at:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stopping)
        with pytest.raises(Interrupted, match=f"stopped by SIGTERM at step {stop_at}"):
            train(settings, output, command="")


@pytest.mark.parametrize("optimizer", ["slimtrain", "adam", "sgd"])
@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_resumed_run_is_the_undisturbed_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, stop_at: int
) -> None:
    whole = train(experiment(data, optimizer), tmp_path / "whole", command="")
    train_until(stop_at, experiment(data, optimizer), tmp_path / "halved", monkeypatch)
    torch.manual_seed(999)
    halved = train(experiment(data, optimizer), tmp_path / "halved", command="", resume=True)
    assert records(halved) == records(whole)
    for name, value in final_weights(whole).items():
        assert torch.equal(value, final_weights(halved)[name]), name


@pytest.mark.parametrize("average", [None, 0.5])
def test_checkpoints_between_are_left_out_and_nothing_else_changes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: float | None
) -> None:
    """With a checkpoint at every epoch, and with the least that has to be written."""
    settings = with_training(experiment(data, "adam"), epochs=6, average=average, schedule="constant")
    rate = settings.optimizer.model_copy(update={"learning_rate": 0.3})
    settings = settings.model_copy(update={"optimizer": rate})
    dense = train(with_training(settings, checkpoint_every=1000), tmp_path / "dense", command="")
    written = []
    write_step = CheckpointFolder._write_step
    monkeypatch.setattr(CheckpointFolder, "due", property(lambda self: not written))
    monkeypatch.setattr(
        CheckpointFolder,
        "_write_step",
        lambda self, snapshot, *, best: written.append(snapshot.step) or write_step(self, snapshot, best=best),
    )
    sparse = train(settings, tmp_path / "sparse", command="")
    best, last = dense.checkpoints.best(), dense.checkpoints.latest()
    assert best.name not in (last.name, "step-00000004")  # neither the last epoch nor the first
    assert [f"step-{step:08d}" for step in written] == ["step-00000004", best.name, last.name]
    for name, other in ((best, sparse.checkpoints.best()), (last, sparse.checkpoints.latest())):
        assert other.name == name.name
        theirs = Surrogate.load(name).state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in Surrogate.load(other).state_dict().items())
    assert records(sparse) == records(dense)


def test_a_run_that_fails_keeps_its_best_epoch(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_training(experiment(data, "adam"), tolerated_failures=0)
    monkeypatch.setattr(CheckpointFolder, "due", property(lambda self: not self.steps))
    step = Trainer._step

    def failing(self: Trainer, *args: object) -> None:
        if self.state.epoch == 2:
            self._skip("the loss is not finite")
        step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_step", failing)
    with pytest.raises(NumericalError, match="had to be skipped"):
        train(settings, tmp_path / "run", command="")
    assert RunFolder(tmp_path / "run").checkpoints.best().name == "step-00000008"


def test_training_lowers_the_loss_and_best_is_the_lowest(data: Path, tmp_path: Path) -> None:
    run = train(experiment(data), tmp_path / "run", command="")
    epochs = [record for record in records(run) if record["event"] == "epoch"]
    losses = [epoch["validation_loss"] for epoch in epochs]
    assert losses[-1] < losses[0]
    best = min(epochs, key=lambda epoch: epoch["validation_loss"])
    assert run.checkpoints.best().name == f"step-{best['step']:08d}"


def test_the_log_tells_lambda(data: Path, tmp_path: Path) -> None:
    steps = [
        record for record in records(train(experiment(data), tmp_path / "run", command="")) if record["event"] == "step"
    ]
    total = 0.05
    for record in steps:
        total += record["damping"]
        assert record["running_sum"] == pytest.approx(total)


def test_resume_refuses_another_configuration(data: Path, tmp_path: Path) -> None:
    train(experiment(data), tmp_path / "run", command="")
    other = experiment(data).model_copy(update={"name": "other"})
    with pytest.raises(ConfigError, match="name: small -> other"):
        train(other, tmp_path / "run", command="", resume=True)


def test_resume_refuses_other_data(data: Path, tmp_path: Path) -> None:
    train(experiment(data), tmp_path / "run", command="")
    with xr.open_dataset(data) as old:
        changed = old.load() + 1
    changed.to_netcdf(data, engine="h5netcdf")
    with pytest.raises(ConfigError, match="other data"):
        train(experiment(data), tmp_path / "run", command="", resume=True)


def test_existing_output_is_refused(data: Path, tmp_path: Path) -> None:
    train(experiment(data), tmp_path / "run", command="")
    with pytest.raises(ConfigError, match="exists already"):
        train(experiment(data), tmp_path / "run", command="")


def test_a_wrong_variable_fails_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    settings = experiment(data)
    wrong = settings.model_copy(update={"data": settings.data.model_copy(update={"inputs": ["aa"]})})
    with pytest.raises(DataError, match="aa"):
        train(wrong, tmp_path / "run", command="")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("optimizer", ["slimtrain", "adam"])
def test_non_finite_steps_are_skipped_then_the_run_ends(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    seen: list[torch.Tensor] = []
    normalized = Surrogate.normalized

    def broken(self: Surrogate, batch: object) -> object:
        seen.append(self.network.head.weight.detach().clone())
        good = normalized(self, batch)  # type: ignore[arg-type]
        good.inputs[:] = float("nan")
        return good

    monkeypatch.setattr(Surrogate, "normalized", broken)
    settings = experiment(data, optimizer)
    short = settings.training.model_copy(update={"tolerated_failures": 2})
    with pytest.raises(NumericalError, match="3 steps in a row had to be skipped, the last at step 3"):
        train(settings.model_copy(update={"training": short}), tmp_path / "run", command="")
    assert len(seen) == 3
    assert all(torch.equal(weights, seen[0]) for weights in seen)


def test_cases_replace_whole_sections() -> None:
    text = CONFIG.format(path="x", optimizer="slimtrain") + "cases:\n  one: {}\n  two:\n    optimizer: {name: sgd}\n"
    cases = {name: read_experiment(source) for name, source in case_sources(parse_yaml(text, "f.yaml")).items()}
    assert cases["one"].optimizer.name == "slimtrain"
    assert cases["two"].optimizer.name == "sgd"
    assert cases["two"].optimizer.learning_rate == 1e-2
    assert cases["two"].data == cases["one"].data


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ("cases: {two: {optimiser: {}}}", "f.yaml:11: cases.two.optimiser: unknown section; did you mean 'optimizer'?"),
        ("cases: {../two: {}}", "a case names a folder"),
        ("cases: 3", "cases: expected"),
        ("cases: {two: {optimizer: {name: adam, lr: 1}}}", "f.yaml:11: optimizer.lr: unknown key"),
    ],
)
def test_wrong_cases(cases: str, message: str) -> None:
    text = CONFIG.format(path="x", optimizer="slimtrain") + cases
    with pytest.raises(ConfigError) as caught:
        [read_experiment(source) for source in case_sources(parse_yaml(text, "f.yaml")).values()]
    assert message in str(caught.value)


@pytest.mark.parametrize("optimizer", ["slimtrain", "adam"])
def test_refit_at_the_end_is_kept_where_it_lowers_the_validation_loss(
    data: Path, tmp_path: Path, optimizer: str
) -> None:
    run = train(with_training(experiment(data, optimizer), refit="end"), tmp_path / "run", command="")
    (record,) = [record for record in records(run) if record["event"] == "refit"]
    assert record["kept"] == (record["validation_loss_after"] < record["validation_loss_before"])
    assert (run.checkpoints.best().name == "final") == record["kept"]


def test_refit_at_the_start_lowers_the_first_loss(data: Path, tmp_path: Path) -> None:
    plain = train(experiment(data, "adam"), tmp_path / "plain", command="")
    refitted = train(with_training(experiment(data, "adam"), refit="start"), tmp_path / "refitted", command="")
    first = [next(r for r in records(run) if r["event"] == "step")["loss"] for run in (refitted, plain)]
    assert first[0] < first[1]


def test_uncertainty_is_stored_and_scales_with_the_targets(data: Path, tmp_path: Path) -> None:
    run = train(with_training(experiment(data), uncertainty=True), tmp_path / "run", command="")
    surrogate = Surrogate.load(run.path)
    x = torch.randn(5, 1, 8)
    mean, std = surrogate.predict_with_std(x)
    torch.testing.assert_close(mean, surrogate(x))
    assert (std > 0).all()
    surrogate.targets.scale.mul_(10)
    torch.testing.assert_close(surrogate.predict_with_std(x)[1], 10 * std)
    assert surrogate.predict_with_std(50 * x)[1].mean() > 20 * std.mean()


def test_without_uncertainty_there_is_a_remedy(data: Path, tmp_path: Path) -> None:
    surrogate = Surrogate.load(train(experiment(data), tmp_path / "run", command="").path)
    with pytest.raises(ConfigError, match=r"training\.uncertainty: true"):
        surrogate.predict_with_std(torch.zeros(1, 1, 8))


def test_a_finished_run_may_be_resumed_again(data: Path, tmp_path: Path) -> None:
    settings = with_training(experiment(data), uncertainty=True, refit="both")
    before = Surrogate.load(train(settings, tmp_path / "run", command="").path).state_dict()
    after = Surrogate.load(train(settings, tmp_path / "run", command="", resume=True).path).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_kill_before_best_is_named_is_mended_by_resume(data: Path, tmp_path: Path) -> None:
    run = train(experiment(data), tmp_path / "run", command="")
    best = run.checkpoints.best()
    (tmp_path / "run" / "checkpoints" / "BEST").unlink()
    train(experiment(data), tmp_path / "run", command="", resume=True)
    assert run.checkpoints.best() == best


@pytest.mark.parametrize("stop_at", [4, 7])
def test_a_resumed_run_with_averaged_weights_is_the_undisturbed_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    settings = with_training(experiment(data), average=0.8)
    whole = train(settings, tmp_path / "whole", command="")
    train_until(stop_at, settings, tmp_path / "halved", monkeypatch)
    halved = train(settings, tmp_path / "halved", command="", resume=True)
    assert records(halved) == records(whole)
    for name, value in final_weights(whole).items():
        assert torch.equal(value, final_weights(halved)[name]), name


def test_what_is_kept_is_the_mean_of_the_weights_over_the_steps(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decay, seen = 0.7, []
    step = Trainer._step

    def noting(self: Trainer, *args: object) -> None:
        step(self, *args)  # type: ignore[arg-type]
        seen.append({name: value.clone() for name, value in self.surrogate.network.state_dict().items()})

    monkeypatch.setattr(Trainer, "_step", noting)
    run = train(with_training(experiment(data), average=decay), tmp_path / "run", command="")
    mean = seen[0]
    for weights in seen[1:]:
        mean = {name: decay * value + (1 - decay) * weights[name] for name, value in mean.items()}
    newest = run.checkpoints.latest()
    assert newest is not None
    kept = Surrogate.load(newest)
    for name, value in kept.network.state_dict().items():
        torch.testing.assert_close(value, mean[name])
    assert any(not torch.equal(value, seen[-1][name]) for name, value in kept.network.state_dict().items())
