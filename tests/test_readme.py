"""What the README tells a new user to type, from one's own HDF5 file to jobs on Slurm."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from command_tree import command_lines

from surrogate.catalogue import shipped
from surrogate.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.usefixtures("blank_pictures")


def test_it_is_read_in_two_minutes() -> None:
    assert len(README.splitlines()) <= 150
    assert "examples/" in README
    assert README.index("![") < README.index("```python")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: a file whose axes are labelled, new inputs, the facts of a cluster, and its `sbatch`."""
    k = np.random.default_rng(0).normal(size=(40, 8, 8)).astype("f4")
    for name in ("simulations.h5", "new.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["conductivity"], file["temperature"] = k, k + np.roll(k, 1, axis=2) ** 2
            for field in file.values():
                for position, axis in enumerate(("sample", "y", "x")):
                    field.dims[position].label = axis
    shutil.copy(shipped("pipelines/slurm/cluster.yaml"), tmp_path / "cluster.yaml")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho 7\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["surrogate", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, words


@pytest.mark.slow
def test_the_commands_for_ones_own_file_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [text for text in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "surrogate new" in text]
    calls = list(command_lines(block))
    assert [words[0] for words in calls] == ["new", "run", "compare", "predict", "slurm"]
    for words in calls:
        given = ["0.1" if before == "--minutes" else word for before, word in zip(["", *words], words, strict=False)]
        run(monkeypatch, *given)
    assert (folder / "runs" / "mine" / "report.html").is_file()
    assert (folder / "runs" / "mine-compare" / "leaderboard.csv").is_file()
    with xr.open_dataset("predictions.nc", engine="h5netcdf") as predictions:
        assert predictions["temperature"].dims == ("sample", "y", "x")


def test_error_bars_come_with_a_gaussian_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "new", "simulations.h5", "--family", "pod_gp", "--output", "mine.yaml")
    run(monkeypatch, "train", "mine.yaml", "--set", "model.modes=2", "--set", "data.split.test=16", "--output", "mine")
    run(monkeypatch, "evaluate", "mine")
    run(monkeypatch, "predict", "mine", "new.h5", "--intervals", "--output", "predictions.nc")
    with xr.open_dataset("predictions.nc", engine="h5netcdf") as predictions:
        assert (predictions["temperature_std"] > 0).all()
        assert {"temperature_low", "temperature_high"} <= set(predictions)
