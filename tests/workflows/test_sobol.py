"""Sobol indices of a trained run are those of the map that it learned, in files and in words."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from typer.testing import CliRunner

from surrogate.cli import app
from surrogate.errors import ConfigError
from surrogate.workflows import run_file, sobol_run

pytestmark = pytest.mark.usefixtures("blank_pictures")


def run_of(folder: Path, fields: xr.Dataset, inputs: list[str], **data) -> Path:
    fields.to_netcdf(folder / "waves.nc", engine="h5netcdf")
    split = {"validation": 5, "test": 10}
    section = {"path": str(folder / "waves.nc"), "layout": "netcdf", "inputs": inputs, "targets": ["u"], "split": split}
    tree = {"name": "waves", "data": section | data, "model": {"family": "linear"}}
    (folder / "waves.yaml").write_text(yaml.safe_dump(tree))
    options = {"command": "c", "resume": False, "overwrite": False}
    run_file(folder / "waves.yaml", [], folder / "run", lambda _: None, **options)
    return folder / "run"


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """u(x) = a x + b (1 - x)."""
    rng, x = np.random.default_rng(0), np.linspace(0, 1, 5)
    a, b = rng.uniform(0, 1, (2, 40))
    u = a[:, None] * x + b[:, None] * (1 - x)
    fields = xr.Dataset({"a": ("sample", a), "b": ("sample", b), "u": (("sample", "x"), u)}, {"x": x})
    return run_of(tmp_path_factory.mktemp("linear"), fields, ["a", "b"])


def test_indices_are_those_of_the_map_with_the_ranges_of_the_training_data(linear: Path) -> None:
    lines: list[str] = []
    indices = sobol_run(linear, lines.append, samples=500)
    x, spread = indices["x"].values, (indices["high"] - indices["low"]).values ** 2
    share = spread[0] * x**2 / (spread[0] * x**2 + spread[1] * (1 - x) ** 2)
    np.testing.assert_allclose(indices["total_map"].sel(parameter="a").isel(output=0), share, atol=0.03)
    mean = indices["first"].sel(parameter="a", summary="mean").item()
    assert mean == pytest.approx(spread[0] / spread.sum(), abs=0.03)
    assert indices.attrs["base_samples"] == 512
    folder = next((linear / "cases").iterdir()) / "sobol"
    table = pd.read_csv(folder / "sobol.csv")
    assert table.columns.tolist()[:3] == ["output", "summary", "parameter"]
    assert len(table) == 4
    assert {path.name for path in folder.iterdir()} >= {"sobol.nc", "sobol.png", "sobol_maps.png"}
    text = "\n".join(lines)
    assert "parameters, independent and uniform: a 0.0" in text
    assert "u, mean: total indices" in text
    assert "whose R2 on unseen simulations is: u 1" in text


def test_ranges_of_the_user_decide_and_those_that_fit_nothing_are_refused(linear: Path) -> None:
    result = CliRunner().invoke(app, ["sobol", str(linear), "--samples", "64", "--range", "b=0:0.001"])
    assert result.exit_code == 0, result.output
    case = next((linear / "cases").iterdir())
    with xr.open_dataset(case / "sobol" / "sobol.nc", engine="h5netcdf") as indices:
        assert indices["total"].sel(parameter="a", summary="mean").item() > 0.99
    with pytest.raises(ConfigError, match="--range: no parameter 'c'"):
        sobol_run(linear, print, ranges={"c": (0, 1)})
    for text in ("b", "b=1", "b=2:1", "b=0:inf", "b=x:1"):
        result = CliRunner().invoke(app, ["sobol", str(linear), "--range", text])
        assert isinstance(result.exception, ConfigError)
        assert f"--range {text}: " in str(result.exception)


def test_fields_as_inputs_are_refused_in_one_line(tmp_path: Path) -> None:
    rng, x = np.random.default_rng(0), np.linspace(0, 1, 5)
    k = rng.uniform(0, 1, (30, 5))
    fields = xr.Dataset({"k": (("sample", "x"), k), "u": (("sample", "x"), 2 * k)}, {"x": x})
    run = run_of(tmp_path, fields, ["k"])
    with pytest.raises(ConfigError, match=r"the input k of this surrogate is a field: .*describe the field") as refusal:
        sobol_run(run, print)
    assert "\n" not in str(refusal.value)


def test_numbers_of_a_vector_are_parameters(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    v = np.concatenate([rng.uniform(0, 1, (40, 3)), np.full((40, 1), 2.0)], axis=1)  # the last one is constant
    u = v[:, :2] @ np.array([[3.0, 0.0], [0.0, 1.0]])
    fields = xr.Dataset({"v": (("sample", "kind"), v), "u": (("sample", "sensor"), u)})
    run = run_of(tmp_path, fields, ["v"])
    indices = sobol_run(run, lambda _: None, samples=64, ranges={f"v.{i}": (0.0, 1.0) for i in range(3)})
    assert indices["parameter"].values.tolist() == ["v.0", "v.1", "v.2"]
    at_sensors = indices["total_map"].isel(output=0).transpose("sensor", "parameter")
    np.testing.assert_allclose(at_sensors, [[1, 0, 0], [0, 1, 0]], atol=0.05)
