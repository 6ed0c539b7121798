"""Cross-conformal intervals of a comparison cover new simulations, and are refused in one line where they cannot."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from surrogate.errors import ConfigError
from surrogate.workflows.candidates import Candidate
from surrogate.workflows.compare import compare
from surrogate.workflows.predict import predict_run

pytestmark = pytest.mark.usefixtures("blank_pictures")


def snapshots(count: int, seed: int) -> xr.Dataset:
    """Fields that are linear in two parameters but for noise that differs from point to point."""
    rng, x = np.random.default_rng(seed), np.linspace(0, 1, 6)
    a, b = rng.uniform(-1, 1, (2, count))
    u = a[:, None] * np.sin(3 * x) + b[:, None] * x + (0.01 + 0.1 * x) * rng.standard_t(4, (count, 6))
    return xr.Dataset({"a": ("sample", a), "b": ("sample", b), "u": (("sample", "x"), u)}, {"x": x})


def compared(folder: Path, simulations: int, monkeypatch: pytest.MonkeyPatch, **split) -> list[str]:
    features = {"family": "mlp", "width": 8, "depth": 1, "linear": 2}
    two = [Candidate("elm", features, {"name": "elm"}), Candidate("linear", {"family": "linear"})]
    monkeypatch.setattr("surrogate.workflows.compare.candidates_for", lambda *_, **__: two)
    snapshots(simulations, 0).to_netcdf(folder / "waves.nc", engine="h5netcdf")
    data = {"path": str(folder / "waves.nc"), "layout": "netcdf", "inputs": ["a", "b"], "targets": ["u"]}
    tree = {"name": "waves", "data": data | {"split": split}, "model": {"family": "linear"}}
    (folder / "waves.yaml").write_text(yaml.safe_dump(tree))
    lines: list[str] = []
    compare(folder / "waves.yaml", [], folder / "run", lines.append, minutes=5.0, command="c")
    return lines


def coverage(folder: Path, **options) -> tuple[float, xr.Dataset]:
    new = snapshots(400, 1)
    new[["a", "b"]].to_dataframe().to_csv(folder / "new.csv", index=False)
    options = {"device": "cpu", "intervals": True} | options
    output = predict_run(folder / "run", str(folder / "new.csv"), folder / "out.nc", **options)
    found = xr.load_dataset(output, engine="h5netcdf")
    return float(
        ((found["u_low"].values <= new["u"].values) & (new["u"].values <= found["u_high"].values)).mean()
    ), found


@pytest.mark.slow
def test_the_mean_of_folds_predicts_with_intervals_that_cover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = compared(tmp_path, 40, monkeypatch, folds=4, validation=4)
    assert "the mean of its 4 folds predicts: " in lines[-2]
    inside, found = coverage(tmp_path)
    assert 0.85 < inside < 0.96
    width = (found["u_high"] - found["u_low"]).mean("sample").values
    assert width[-1] > 3 * width[0]


def test_a_winner_on_the_test_part_predicts_with_the_intervals_of_its_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = compared(tmp_path, 80, monkeypatch, test=40, validation=5)
    assert "it predicts: " in lines[-2]
    inside, found = coverage(tmp_path)
    assert 0.83 < inside < 0.97
    assert "out_of_range" in found


def test_too_few_simulations_predict_without_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = compared(tmp_path, 8, monkeypatch, folds=2, validation=1)
    assert "without intervals (90 % intervals need 9 simulations, there are 8)" in lines[-2]
    with pytest.raises(ConfigError, match="--intervals: 90 % intervals need 9 simulations, there are 8") as refusal:
        coverage(tmp_path)
    assert "\n" not in str(refusal.value)
    predict_run(tmp_path / "run", str(tmp_path / "new.csv"), tmp_path / "out.nc", device="cpu")


def trajectories(count: int, seed: int) -> xr.Dataset:
    """Rotations of two modes by one angle a step, with noise in every state: windows of one simulation are alike."""
    rng, x, steps = np.random.default_rng(seed), np.linspace(0, 1, 6), np.arange(8)
    amplitude, phase = rng.uniform(0.5, 1.5, (count, 1, 1)), rng.uniform(0, 6, (count, 1, 1))
    angle = phase + 0.7 * steps[:, None]
    u = amplitude * (np.cos(angle) * np.sin(3 * x) + np.sin(angle) * x)
    offset = 0.05 * rng.standard_t(4, (count, 1, 1))  # the same in all states of a simulation
    u += offset * np.where(steps[:, None] % 2, 1.0, -1.0) + 0.01 * rng.standard_normal(u.shape)
    return xr.Dataset({"u": (("sample", "time", "x"), u)}, {"x": x, "time": 0.1 * steps})


@pytest.mark.slow
def test_intervals_of_windows_cover_whole_simulations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of the windows of one simulation are alike, so the simulations count, not the windows."""
    one = [Candidate("linear", {"family": "linear"})]
    monkeypatch.setattr("surrogate.workflows.compare.candidates_for", lambda *_, **__: one)
    trajectories(40, 0).to_netcdf(tmp_path / "waves.nc", engine="h5netcdf")
    data = {"path": str(tmp_path / "waves.nc"), "layout": "netcdf", "inputs": ["u"], "targets": ["u"]}
    data |= {"window": {"steps_in": 1, "steps_out": 1}, "split": {"folds": 5}}
    (tmp_path / "waves.yaml").write_text(yaml.safe_dump({"name": "waves", "data": data, "model": {"family": "linear"}}))
    compare(tmp_path / "waves.yaml", [], tmp_path / "run", lambda _: None, minutes=5.0, command="c")
    new = trajectories(300, 1)
    states = new.isel(time=[3])  # the latest state of every simulation
    states.to_netcdf(tmp_path / "new.nc", engine="h5netcdf")
    output = predict_run(tmp_path / "run", str(tmp_path / "new.nc"), tmp_path / "out.nc", device="cpu", intervals=True)
    predicted, true = xr.load_dataset(output, engine="h5netcdf"), new["u"].isel(time=4).values
    low, high = (predicted[name].values.reshape(true.shape) for name in ("u_low", "u_high"))
    assert 0.85 < ((low <= true) & (true <= high)).mean() < 0.95
