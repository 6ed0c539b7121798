"""Intervals of a trained run: calibrated by its evaluation, written by the command, checked on new simulations."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from surrogate.errors import ConfigError
from surrogate.evaluation import conformal_width
from surrogate.report.findings import findings
from surrogate.report.runs import read_case
from surrogate.workflows import predict_run, run_file

pytestmark = pytest.mark.usefixtures("blank_pictures")

OPTIONS = {"device": "cpu"}


def snapshots(count: int, seed: int) -> xr.Dataset:
    """Fields that are linear in two parameters but for noise that differs from point to point."""
    rng, x = np.random.default_rng(seed), np.linspace(0, 1, 6)
    a, b = rng.uniform(-1, 1, (2, count))
    u = a[:, None] * np.sin(3 * x) + b[:, None] * x + (0.01 + 0.1 * x) * rng.standard_t(3, (count, 6))
    return xr.Dataset({"a": ("sample", a), "b": ("sample", b), "u": (("sample", "x"), u)}, {"x": x})


def trained(folder: Path, test: int) -> Path:
    snapshots(80, 0).to_netcdf(folder / "waves.nc", engine="h5netcdf")
    data = {"path": str(folder / "waves.nc"), "layout": "netcdf", "inputs": ["a", "b"], "targets": ["u"]}
    data["split"] = {"validation": 5, "test": test}
    tree = {"name": "waves", "data": data, "model": {"family": "linear"}}
    (folder / "waves.yaml").write_text(yaml.safe_dump(tree))
    options = {"command": "c", "resume": False, "overwrite": False}
    run_file(folder / "waves.yaml", [], folder / "run", lambda _: None, **options)
    return folder / "run"


def test_predictions_have_intervals_that_cover_new_simulations(tmp_path: Path) -> None:
    run = trained(tmp_path, test=40)
    new = snapshots(400, 1)
    new[["a", "b"]].to_dataframe().to_csv(tmp_path / "new.csv", index=False)
    output = predict_run(run, str(tmp_path / "new.csv"), tmp_path / "out.nc", intervals=True, **OPTIONS)
    with xr.open_dataset(output, engine="h5netcdf") as found:
        inside = (found["u_low"].values <= new["u"].values) & (new["u"].values <= found["u_high"].values)
        width = (found["u_high"] - found["u_low"]).isel(sample=0).values / 2
        assert "90 % conformal interval of u" in found["u_low"].attrs["long_name"]
    assert 0.83 < inside.mean() < 0.97
    case = read_case("main", next((run / "cases").iterdir()))
    with xr.open_dataset(case.folder / "evaluation" / "conformal.nc", engine="h5netcdf") as stored:
        np.testing.assert_allclose(stored["half_width"][0], width, rtol=1e-5)
        assert stored.attrs["simulations"] == 40
        assert 0.85 < float(stored["coverage"].mean()) < 0.96
    assert width[-1] > 3 * width[0]
    assert "have 90 % conformal intervals, calibrated on these simulations" in " ".join(findings([case], None))
    with pytest.raises(
        ConfigError, match=r"--intervals: no roll-out was evaluated; run `surrogate evaluate .* --rollout 2` first"
    ):
        predict_run(run, str(tmp_path / "new.csv"), tmp_path / "b.nc", intervals=True, rollout_steps=2, **OPTIONS)


def stepped(count: int, seed: int) -> xr.Dataset:
    """Noisy steps of a wave on six points, seven states a simulation."""
    rng = np.random.default_rng(seed)
    states = [rng.normal(size=(count, 6))]
    for _ in range(6):
        states.append(0.9 * np.roll(states[-1], 1, axis=1) + 0.1 * rng.standard_t(4, (count, 6)))
    u = np.stack(states, axis=1)
    return xr.Dataset({"u": (("sample", "time", "x"), u)}, {"x": np.arange(6.0), "time": np.arange(7.0)})


@pytest.mark.parametrize("ahead", [1, 2])
def test_intervals_of_roll_outs_cover_new_simulations(tmp_path: Path, ahead: int) -> None:
    """Network steps of one and of two time steps."""
    stepped(90, 0).to_netcdf(tmp_path / "steps.nc", engine="h5netcdf")
    data = {"path": str(tmp_path / "steps.nc"), "layout": "netcdf", "inputs": ["u"], "targets": ["u"]}
    data |= {"split": {"validation": 5, "test": 45}, "window": {"steps_in": 1, "steps_out": ahead}}
    tree = {"name": "steps", "data": data, "model": {"family": "linear"}}
    (tmp_path / "steps.yaml").write_text(yaml.safe_dump(tree))
    options = {"command": "c", "resume": False, "overwrite": False}
    run_file(tmp_path / "steps.yaml", [], tmp_path / "run", lambda _: None, **options)
    case = read_case("main", next((tmp_path / "run" / "cases").iterdir()))
    assert "So have roll-outs at 6 lead times, which contain 9" in " ".join(findings([case], None))
    new, steps = stepped(200, 1), 6 // ahead
    new.to_netcdf(tmp_path / "new.nc", engine="h5netcdf")
    options = {"intervals": True, "rollout_steps": steps, **OPTIONS}
    output = predict_run(tmp_path / "run", str(tmp_path / "new.nc"), tmp_path / "out.nc", **options)
    with xr.open_dataset(output, engine="h5netcdf", decode_times=False) as found:
        truth = new["u"].values[:, 1:]
        inside = (found["u_low"].values <= truth) & (truth <= found["u_high"].values)
        width = (found["u_high"] - found["u_low"]).isel(sample=0).mean("x").values
    assert inside.shape == (200, 6, 6)
    assert (inside.mean((0, 2)) > 0.84).all()
    assert (inside.mean((0, 2)) < 0.97).all()
    assert width[-1] > 1.3 * width[0]
    options |= {"rollout_steps": steps + 1, "overwrite": True}
    with pytest.raises(ConfigError, match=f"are for at most {steps} network steps"):
        predict_run(tmp_path / "run", str(tmp_path / "new.nc"), tmp_path / "out.nc", **options)


def test_too_few_simulations_held_out_are_refused_in_one_line(tmp_path: Path) -> None:
    run = trained(tmp_path, test=8)
    (tmp_path / "new.csv").write_text("a,b\n0.1,0.2\n")
    with pytest.raises(ConfigError, match="need 9 simulations held out, there are 8") as refusal:
        predict_run(run, str(tmp_path / "new.csv"), tmp_path / "out.nc", intervals=True, **OPTIONS)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out.nc").exists()
    predict_run(run, str(tmp_path / "new.csv"), tmp_path / "out.nc", **OPTIONS)


def test_widths_are_those_of_the_errors_of_the_evaluation() -> None:
    errors = np.abs(np.random.default_rng(0).normal(size=(19, 3)))
    np.testing.assert_allclose(conformal_width(errors), np.sort(errors, axis=0)[17])  # ceil(20 * 0.9) = 18th smallest
