"""An evaluation is one unit: whatever happens to `evaluate`, a report shows one evaluation or refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import forked
import numpy as np
import pytest
import xarray as xr

from surrogate.config import parse_yaml
from surrogate.errors import DataError
from surrogate.experiment.run_folder import RunFolder
from surrogate.training import read_experiment, train
from surrogate.workflows import evaluate_run, report_folders

pytestmark = pytest.mark.usefixtures("blank_pictures")
SCRIPT = Path(__file__).with_name("evaluate_killed.py")
CONFIG = """
name: unit
data: {{path: {path}, inputs: [a], targets: [u], split: {{validation: 4, test: 4, seed: 1}}}}
model: {{family: convnet, width: 4, depth: 1}}
optimizer: {{name: slimtrain}}
training: {{epochs: 1, batch_size: 5, seed: {seed}, device: cpu}}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of `run`, whose model is newer than its evaluation, and of `other`, another evaluated run."""
    folder = tmp_path_factory.mktemp("unit")
    a = np.random.default_rng(0).normal(size=(28, 8)).astype("f4")
    u = (np.roll(a, 1, axis=1) ** 2 + a).astype("f4")
    xr.Dataset({"a": (("sample", "x"), a), "u": (("sample", "x"), u)}).to_netcdf(folder / "data.nc", engine="h5netcdf")
    for seed, name in enumerate(("run", "other")):
        experiment = read_experiment(parse_yaml(CONFIG.format(path=folder / "data.nc", seed=seed), "unit.yaml"))
        train(experiment, folder / name, command="", quiet=True)
        evaluate_run(folder / name, lambda line: None)
    shutil.rmtree(folder / "run" / "checkpoints")
    shutil.copytree(folder / "other" / "checkpoints", folder / "run" / "checkpoints")
    return folder


def error_of(folder: Path) -> float:
    return float(xr.load_dataset(RunFolder(folder).evaluation.metrics, engine="h5netcdf")["relative_l2"].mean())


@pytest.mark.parametrize("numbers", [[30], pytest.param(range(1, 60), marks=pytest.mark.slow)], ids=["some", "all"])
def test_a_killed_evaluate_leaves_the_older_evaluation_or_none(runs: Path, tmp_path: Path, numbers: list[int]) -> None:
    old, new = error_of(runs / "run"), error_of(runs / "other")
    assert old != new
    done = forked.run(str(SCRIPT), str(runs), *map(str, numbers), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    states = json.loads(done.stdout.splitlines()[-1])
    assert states[0]["killed"]
    for state in states:
        after = state["after"]  # to rounding, which depends on the number of threads
        assert after is None or after in (pytest.approx(old, rel=1e-6), pytest.approx(new, rel=1e-6)), state
        assert (state["again"], state["left"]) == (pytest.approx(new, rel=1e-6), []), state
        assert state["killed"] or after == state["again"], state


def test_files_of_two_evaluations_are_not_reported(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs / "other", folder)
    evaluation = RunFolder(folder).evaluation
    shutil.copy(RunFolder(runs / "run").evaluation.metrics, evaluation.metrics)
    with pytest.raises(DataError, match=r"metrics\.nc differs from its checksum; run `surrogate evaluate"):
        report_folders([folder], None, command="")
    evaluate_run(folder, lambda line: None)
    report_folders([folder], None, command="")
    evaluation.rollout.write_bytes(b"of another evaluation")
    with pytest.raises(DataError, match=r"rollout\.nc is of another evaluation"):
        report_folders([folder], None, command="")


def test_an_evaluation_without_its_manifest_is_not_reported(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs / "other", folder)
    (RunFolder(folder).evaluation.path / "MANIFEST.json").unlink()
    with pytest.raises(DataError, match=r"has no MANIFEST\.json.*run `surrogate evaluate"):
        report_folders([folder], None, command="")
