"""Evaluation of a run: one pass over the data, and roll-outs of time steppers in files, tables and the report."""

import csv
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from surrogate.data import Stream
from surrogate.workflows import evaluate_run, run_file

pytestmark = pytest.mark.usefixtures("blank_pictures")

CONFIG = """
name: waves
data:
  path: {path}
  inputs: [u]
  targets: [u]
  window: {{steps_in: 1, steps_out: {steps_out}}}
  split: {{validation: 3, test: 4, seed: 1}}
model: {model}
optimizer: {{name: slimtrain}}
training: {{epochs: 1, batch_size: 8, uncertainty: true}}
evaluation: {{threshold: 0.25}}
"""


def pipeline(folder: Path, *, steps_out: int = 1, model: str = "{family: convnet, width: 4, depth: 1}") -> Path:
    """Run waves that go round a circle, and return the run folder."""
    rng = np.random.default_rng(0)
    x, t = np.arange(16) / 16, np.arange(8) / 8
    phase, size = rng.uniform(size=(12, 1, 1)), rng.uniform(1, 2, size=(12, 1, 1))
    u = size * np.sin(2 * np.pi * (x - t[:, None] - phase)) + 0.1
    fields = {"u": (("sample", "time", "x"), u.astype("f4"), {"units": "m"})}
    coords = {"time": ("time", t, {"units": "s"}), "x": ("x", x, {"units": "m"})}
    xr.Dataset(fields, coords).to_netcdf(folder / "waves.nc", engine="h5netcdf")
    text = CONFIG.format(path=folder / "waves.nc", steps_out=steps_out, model=model)
    (folder / "waves.yaml").write_text(text)
    options: dict[str, Any] = {"command": "surrogate run waves.yaml", "resume": False, "overwrite": False}
    run_file(folder / "waves.yaml", [], folder / "out", lambda line: None, **options)
    return folder / "out" / "cases" / "main"


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a time stepper."""
    return pipeline(tmp_path_factory.mktemp("stepper"))


def test_single_numbers_are_known_by_their_normalised_error(tmp_path: Path) -> None:
    y = np.linspace(-1, 1, 24).astype("f4")
    values = {"y": ("sample", y), "c": ("sample", y**3)}
    xr.Dataset(values).to_netcdf(tmp_path / "numbers.nc", engine="h5netcdf")
    text = f"""
name: numbers
data: {{path: {tmp_path}/numbers.nc, inputs: [y], targets: [c], split: {{validation: 4, test: 6, seed: 1}}}}
model: {{family: mlp, width: 4}}
optimizer: {{name: slimtrain}}
training: {{epochs: 1, batch_size: 8}}
"""
    (tmp_path / "numbers.yaml").write_text(text)
    said: list[str] = []
    options: dict[str, Any] = {"command": "", "resume": False, "overwrite": False}
    run_file(tmp_path / "numbers.yaml", [], tmp_path / "out", said.append, **options)
    metrics = xr.load_dataset(tmp_path / "out" / "cases" / "main" / "evaluation" / "metrics.nc", engine="h5netcdf")
    error, target = (metrics[f"squared_{name}"].values.ravel() for name in ("error", "target"))
    expected = np.sqrt(error / target.mean()).mean()
    assert f"main: mean normalised error on test {expected:.4f}" in said
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"main has a normalised error of {expected:.4g} on average over 6 samples" in page
    assert re.search(r"<th[^>]*>\s*RMSE\b", page)
    summary = rows_of(tmp_path / "out" / "cases" / "main" / "evaluation" / "summary.csv")
    means = {row["metric"]: float(row["mean"]) for row in summary}
    assert means["rmse"] == pytest.approx(np.sqrt(error.mean()), rel=1e-5)
    assert means["mae"] == pytest.approx(np.sqrt(error).mean(), rel=1e-5)
    assert "VRMSE, median" not in page


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_time_stepper_is_rolled_out_into_files_and_report(stepper: Path) -> None:
    evaluation = stepper / "evaluation"
    growth, leads = rows_of(evaluation / "rollout_growth.csv"), rows_of(evaluation / "rollout_summary.csv")
    assert len(leads) == 7
    assert {(row["split"], row["steps_given"], row["steps_scored"]) for row in [*growth, *leads]} == {
        ("test", "t+0", "t+1, t+2, t+3, t+4, t+5, t+6, t+7")
    }
    assert growth[0]["threshold"] == "0.25"
    page = (stepper.parents[1] / "report.html").read_text(encoding="utf-8")
    assert "Roll-outs from the first step of each simulation (split test, steps given t+0, scored t+1, t+2" in page
    assert f"{float(leads[-1]['median']):.4g}" in page
    assert f"{float(leads[-1]['persistence']):.4g}" in page
    assert "data:image/gif;base64," in page
    assert "time to 0.25" in page
    one, many = (xr.load_dataset(evaluation / f"{name}.nc", engine="h5netcdf") for name in ("metrics", "rollout"))
    first = one["relative_l2"].isel(time=0).transpose("sample", "variable")
    np.testing.assert_allclose(many["relative_l2"][:, 0, 0], first, rtol=1e-5)


def test_steps_can_be_chosen_when_a_run_is_evaluated_again(stepper: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stepper, tmp_path / "run")
    lines: list[str] = []
    evaluate_run(folder, lines.append, rollout_steps=2)
    assert len(rows_of(folder / "evaluation" / "rollout_summary.csv")) == 2
    assert "rolled out over 2 steps from the first of 4 simulations" in lines[-1]
    evaluate_run(folder, lines.append, rollout_steps=0)
    assert not list((folder / "evaluation").glob("rollout*"))


def test_all_statistics_come_from_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pipeline(tmp_path, steps_out=0, model="{family: autoencoder, width: 4, latent: 2, levels: 2}")
    before = {path.name: path.read_bytes() for path in (folder / "evaluation").glob("*.csv")}
    seen: Counter[int] = Counter()
    read = Stream.__iter__

    def counted(stream: Stream) -> Iterator[Any]:
        seen[stream.samples] += 1
        return read(stream)

    monkeypatch.setattr(Stream, "__iter__", counted)
    evaluate_run(folder, lambda line: None)
    # all windows once, the worst, the median and the best, and three passes over the training data for their modes
    assert seen == {32: 1, 1: 3, 40: 3}
    names = {path.name for path in (folder / "evaluation").iterdir()}
    assert {"metrics.nc", "examples.nc", "maps.nc", "latent.nc", "uncertainty.nc"} <= names
    assert before == {path.name: path.read_bytes() for path in (folder / "evaluation").glob("*.csv")}
