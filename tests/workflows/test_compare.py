"""A comparison ranks surrogates by simulations left out, says so in words, and trains nothing twice."""

import csv
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from surrogate.models import Shapes
from surrogate.report.leaderboard import Entry, Leaderboard
from surrogate.workflows.candidates import Candidate, candidates_for
from surrogate.workflows.compare import compare


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


def test_the_linear_map_wins_on_linear_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [Candidate("mean", {"family": "mean"}), Candidate("linear", {"family": "linear"})]
    own = Candidate("yours", {"family": "mlp", "width": 4}, {"name": "adam"})
    monkeypatch.setattr("surrogate.workflows.compare.candidates_for", lambda *_: [*few, own])
    monkeypatch.setattr("surrogate.workflows.compare.MOST", 6)
    lines: list[str] = []
    options = {"minutes": 2.0, "command": "surrogate compare waves.yaml"}
    report = compare(configuration(tmp_path), [], tmp_path / "run", lines.append, **options)
    assert report.is_file()
    text = "\n".join(lines)
    assert "by 5-fold cross-validation within 2 minutes: mean, linear, yours" in text
    assert "training simulations a linear map is best" in text
    with open(tmp_path / "run" / "leaderboard.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [rows[0]["name"], {row["name"] for row in rows}] == ["linear", {"mean", "linear", "yours"}]
    assert float(rows[0]["error"]) < 1e-3
    again: list[str] = []
    compare(tmp_path / "waves.yaml", [], tmp_path / "run", again.append, resume=True, **options)
    assert not [line for line in again if line.startswith(("fit", "pilot", "train"))]


@pytest.mark.parametrize(
    ("shapes", "present", "absent"),
    [
        (Shapes(inputs=3, outputs=2, grid=(16,), input_grid=()), {"pod_gp", "mlp-adam"}, {"persistence", "fno-adam"}),
        (Shapes(inputs=2, outputs=1, grid=(16,), latest=(0,)), {"persistence", "fno-slimtrain"}, {"mlp-adam"}),
        (Shapes(inputs=4, outputs=1, grid=()), {"kernel_ridge", "mlp-slimtrain"}, {"convnet-adam"}),
    ],
)
def test_candidates_fit_the_data(shapes: Shapes, present: set[str], absent: set[str], tmp_path: Path) -> None:
    from surrogate.config import read_yaml
    from surrogate.experiment.settings import read_experiment

    names = {
        candidate.name for candidate in candidates_for(shapes, read_experiment(read_yaml(configuration(tmp_path))))
    }
    assert present | {"mean", "nearest", "linear"} <= names
    assert not absent & names


def test_a_trivial_winner_is_called_that() -> None:
    entries = [Entry(name, error, error, error, 1.0, 1e-3, 10, 1) for name, error in (("mean", 0.5), ("linear", 0.6))]
    board = Leaderboard("x", "relative L2 error", entries, {"mean", "linear"}, {}, 1, {"train": 9, "test": 3}, "")
    text = " ".join(board.sentences())
    assert "With 9 training simulations the training mean is best" in text
    assert "Nothing is significantly better than the training mean" in text
