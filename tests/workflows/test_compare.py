"""A comparison ranks surrogates by simulations left out, says so in words, and trains nothing twice."""

import csv
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
import yaml

from surrogate.models import Shapes
from surrogate.report.leaderboard import Entry, Leaderboard
from surrogate.workflows.candidates import Candidate, candidates_for
from surrogate.workflows.compare import compare
from surrogate.workflows.execute import run_jobs
from surrogate.workflows.predict import predict_run
from surrogate.workflows.study import Spread

pytestmark = pytest.mark.usefixtures("blank_pictures")


def configuration(folder: Path) -> Path:
    """Fields that are linear in two parameters, in a file with its configuration."""
    rng, x = np.random.default_rng(0), np.linspace(0, 1, 8)
    a, b = rng.uniform(-1, 1, (2, 15))
    u = a[:, None] * np.sin(3 * x) + b[:, None] * x
    variables = {"a": ("sample", a), "b": ("sample", b), "u": (("sample", "x"), u)}
    xr.Dataset(variables, {"x": x}).to_netcdf(folder / "waves.nc", engine="h5netcdf")
    data = {"path": str(folder / "waves.nc"), "layout": "netcdf", "inputs": ["a", "b"], "targets": ["u"]}
    tree = {"name": "waves", "data": data, "model": {"family": "mlp", "width": 4}, "optimizer": {"name": "adam"}}
    (folder / "waves.yaml").write_text(yaml.safe_dump(tree))
    return folder / "waves.yaml"


def assert_covered(run: Path, folder: Path) -> None:
    """Check that the mean of folds predicts, with intervals that contain the exact values."""
    rng, x = np.random.default_rng(1), np.linspace(0, 1, 8)
    a, b = rng.uniform(-0.9, 0.9, (2, 50))
    np.savetxt(folder / "new.csv", np.stack([a, b], 1), delimiter=",", header="a,b", comments="")
    output = predict_run(run, str(folder / "new.csv"), folder / "out.nc", device="cpu", intervals=True)
    exact = a[:, None] * np.sin(3 * x) + b[:, None] * x
    with xr.open_dataset(output, engine="h5netcdf") as found:
        np.testing.assert_allclose(found["u"], exact, atol=2e-3)
        inside = (found["u_low"].values <= exact) & (exact <= found["u_high"].values)
        assert (found["out_of_range"].values < 3).all()
    assert inside.mean() > 0.75


def test_simulations_that_are_split_by_time_are_scored_on_their_last_steps_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no folds: every one would have the same parts."""
    monkeypatch.setattr(
        "surrogate.workflows.compare.candidates_for", lambda *_, **__: [Candidate("mean", {"family": "mean"})]
    )
    u = np.sin(np.arange(30)[:, None] * 0.1 + np.arange(8))
    xr.Dataset({"u": (("sample", "time", "x"), u[None])}).to_netcdf(tmp_path / "one.nc", engine="h5netcdf")
    data = {"path": str(tmp_path / "one.nc"), "layout": "netcdf", "inputs": ["u"], "targets": ["u"]}
    data |= {"split": {"by": "time", "validation": 4, "test": 4}}
    tree = {"name": "one", "data": data, "model": {"family": "mlp", "width": 4}, "optimizer": {"name": "adam"}}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(tree))
    lines: list[str] = []
    compare(tmp_path / "one.yaml", [], tmp_path / "run", lines.append, minutes=2.0, command="")
    assert "cross-validation" not in "\n".join(lines)
    assert len(list((tmp_path / "run" / "cases").iterdir())) == 1


def test_the_linear_map_wins_on_linear_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [Candidate("mean", {"family": "mean"}), Candidate("linear", {"family": "linear"})]
    own = Candidate("yours", {"family": "mlp", "width": 4}, {"name": "adam"})
    monkeypatch.setattr("surrogate.workflows.compare.candidates_for", lambda *_, **__: [*few, own])
    monkeypatch.setattr("surrogate.workflows.budget.MOST", 6)
    lines: list[str] = []
    folds, options = ["data.split.folds=3"], {"minutes": 2.0, "command": "surrogate compare waves.yaml"}
    report = compare(configuration(tmp_path), folds, tmp_path / "run", lines.append, **options)
    assert report.is_file()
    text = "\n".join(lines)
    assert "by 3-fold cross-validation within 2 minutes: mean, linear, yours" in text
    assert "training simulations a linear map is best" in text
    with open(tmp_path / "run" / "leaderboard.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [rows[0]["name"], {row["name"] for row in rows}] == ["linear", {"mean", "linear", "yours"}]
    assert float(rows[0]["error"]) < 1e-3
    assert f"the mean of its 3 folds predicts: surrogate predict {tmp_path / 'run'} NEW_DATA, with 90 %" in text
    assert_covered(tmp_path / "run", tmp_path)
    cases = {path.parents[1].name for path in (tmp_path / "run" / "cases").glob("*/evaluation/metrics.nc")}
    whole = {path.parents[1].name for path in (tmp_path / "run" / "cases").glob("*/evaluation/examples.nc")}
    assert whole == {name for name in cases if name.startswith("linear")}
    again: list[str] = []
    compare(tmp_path / "waves.yaml", folds, tmp_path / "run", again.append, resume=True, **options)
    assert not [line for line in again if line.startswith(("fit", "pilot", "train"))]


@pytest.mark.parametrize(
    ("shapes", "present", "absent"),
    [
        (
            Shapes(inputs=3, outputs=2, grid=(16,), input_grid=()),
            {"pod_gp", "mlp-adam", "mlp-linear-slimtrain", "elm"},
            {"persistence", "fno-adam"},
        ),
        (
            Shapes(inputs=2, outputs=1, grid=(16,), latest=(0,)),
            {"persistence", "fno-slimtrain", "mlp-linear-adam", "elm", "linear-increments"},
            {"mlp-adam"},
        ),
        (Shapes(inputs=4, outputs=1, grid=()), {"kernel_ridge", "mlp-slimtrain"}, {"convnet-adam"}),
        (Shapes(inputs=1, outputs=1, grid=(99, 99)), {"kernel_ridge", "fno-adam"}, {"mlp-linear-adam", "elm"}),
    ],
)
def test_candidates_fit_the_data(shapes: Shapes, present: set[str], absent: set[str], tmp_path: Path) -> None:
    from surrogate.config import read_yaml
    from surrogate.experiment.settings import read_experiment

    names = {
        candidate.name for candidate in candidates_for(shapes, read_experiment(read_yaml(configuration(tmp_path))))
    }
    assert present | {"mean", "nearest"} <= names
    assert not absent & names


def test_reductions_alone_are_compared_where_the_targets_are_the_inputs(tmp_path: Path) -> None:
    from surrogate.config import read_yaml
    from surrogate.experiment.settings import read_experiment

    base = read_experiment(read_yaml(configuration(tmp_path)))
    shapes = Shapes(inputs=1, outputs=1, grid=(16,), latest=(0,))
    found = candidates_for(shapes, base, reconstruct=True)
    names = ["mean", "pod_modes", "autoencoder-slimtrain", "autoencoder-adam"]
    assert [candidate.name for candidate in found if candidate.name != "yours"] == names
    sizes = {c.model.get("latent", c.model.get("modes")) for c in found if c.name != "yours"} - {None}
    assert sizes == {16}


@pytest.mark.parametrize(
    ("seconds", "said", "absent"),
    [
        ({"slow": 20.0}, "slow is left out: one fold takes 20 s, there is no time for 2 of them", {"slow"}),
        ({"first": 40.0}, "slow is left out: fits have 0.5 minutes", {"first", "slow"}),
    ],
)
def test_fits_leave_half_of_the_budget_to_networks(
    seconds: dict[str, float], said: str, absent: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that the fits put forward: what does not fit is left out, and the network is trained."""
    now = [0.0]
    monkeypatch.setattr(
        "surrogate.workflows.compare.time", SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter)
    )
    names = ["mean", "first", "slow"]
    fits = [Candidate(name, {"family": "mean" if name == "mean" else "linear"}) for name in names]
    own = Candidate("yours", {"family": "mlp", "width": 4}, {"name": "adam"})
    monkeypatch.setattr("surrogate.workflows.compare.candidates_for", lambda *_, **__: [*fits, own])
    monkeypatch.setattr("surrogate.workflows.budget.MOST", 6)

    def timed(jobs, *rest):
        for job in jobs:
            yield from run_jobs([job], *rest)
            now[0] += seconds.get(job.name.rsplit("-", 1)[0], 0.1)

    monkeypatch.setattr("surrogate.workflows.compare.run_jobs", timed)
    lines: list[str] = []
    folds = ["data.split.folds=2"]
    compare(configuration(tmp_path), folds, tmp_path / "run", lines.append, minutes=1.0, command="c")
    text = "\n".join(lines)
    assert said in text
    with open(tmp_path / "run" / "leaderboard.csv", encoding="utf-8") as file:
        found = {row["name"]: row["fitted"] for row in csv.DictReader(file)}
    assert found.keys() == {"mean", "first", "slow", "yours"} - absent
    assert found["yours"] == "False"


@pytest.mark.slow
def test_field_to_field_data_on_workers_with_convolutions_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All candidates that fit fields; a second call on the same folder trains nothing."""
    monkeypatch.setattr("surrogate.workflows.budget.MOST", 12)
    rng, x = np.random.default_rng(0), np.arange(16)
    k = np.stack([np.sin(2 * np.pi * (x / 16 + phase)) for phase in rng.uniform(0, 1, 20)])
    fields = {"k": (("sample", "x"), k), "u": (("sample", "x"), np.roll(k, 3, 1) ** 2)}
    xr.Dataset(fields, {"x": x}).to_netcdf(tmp_path / "fields.nc", engine="h5netcdf")
    data = {"path": str(tmp_path / "fields.nc"), "layout": "netcdf", "inputs": ["k"], "targets": ["u"]}
    tree = {"name": "fields", "data": data, "model": {"family": "convnet", "width": 4}, "optimizer": {"name": "adam"}}
    (tmp_path / "fields.yaml").write_text(yaml.safe_dump(tree))
    lines: list[str] = []
    options = {"minutes": 30.0, "command": "surrogate compare fields.yaml", "spread": Spread(workers=2)}
    folds = ["data.split.folds=2"]
    compare(tmp_path / "fields.yaml", folds, tmp_path / "run", lines.append, **options)
    with open(tmp_path / "run" / "leaderboard.csv", encoding="utf-8") as file:
        rows = {row["name"]: float(row["error"]) for row in csv.DictReader(file)}
    assert {"mean", "nearest", "linear", "kernel_ridge"} <= rows.keys()
    assert {"convnet-slimtrain", "convnet-adam", "fno-slimtrain", "fno-adam", "yours"} <= rows.keys(), lines
    again: list[str] = []
    compare(tmp_path / "fields.yaml", folds, tmp_path / "run", again.append, resume=True, **options)
    assert not [line for line in again if line.startswith(("fit", "pilot", "train"))]


def test_a_trivial_winner_is_called_that() -> None:
    entries = [
        Entry(name, error, error, error, 1.0, 1e-3, 10, 1, True) for name, error in (("mean", 0.5), ("linear", 0.6))
    ]
    board = Leaderboard("x", "relative L2 error", entries, {"mean", "linear"}, 0.52, {}, 1, {"train": 9, "test": 3}, "")
    text = " ".join(board.sentences())
    assert "With 9 training simulations the training mean is best" in text
    assert "Nothing is significantly better than the training mean" in text


def test_the_leaderboard_names_what_had_no_time_and_when_it_pays_back() -> None:
    entry = Entry("linear", 0.6, 0.5, 0.7, 10.0, 0.5, 10, 1, True)
    board = Leaderboard("x", "error", [entry], {"linear"}, 0.52, {}, 1, {"train": 9, "test": 3}, "", ["fno-adam"], 2.0)
    text = " ".join(board.sentences())
    assert "perhaps better: fno-adam; give --minutes more" in text
    assert "Its 9 simulations of 2 s and its training are paid back after 19 solves" in text
