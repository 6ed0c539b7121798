"""From files of differing meshes to a run, its evaluation and predictions at other points."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml

from surrogate.training import train
from surrogate.workflows import read_cases
from surrogate.workflows.pipeline import evaluate_run
from surrogate.workflows.predict import predict_run

COUNTS = (20, 26, 23, 20, 30, 25)
LAYOUT = {
    "variables": {"u": {"path": "u", "axes": ["point"]}, "k": {"path": "k", "axes": []}},
    "coordinates": {name: {"path": name, "axes": ["point"]} for name in ("x", "y")},
}


def write(folder: Path, counts: tuple[int, ...]) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(len(counts))
    for index, count in enumerate(counts):
        (x, y), k = rng.random((2, count)), float(index)
        with h5py.File(folder / f"run_{index}.h5", "w") as file:
            file["x"], file["y"], file["k"], file["u"] = x, y, k, np.sin(3 * x) + k * y
    return folder


@pytest.mark.filterwarnings("ignore:.*are NaN or Inf and left out", "ignore:.*least significant")
def test_meshes_that_differ_are_trained_on_scored_and_predicted(tmp_path: Path) -> None:
    data = {"path": str(write(tmp_path / "data", COUNTS)), "layout": LAYOUT, "inputs": ["k"], "targets": ["u"]}
    data["split"] = {"validation": 1, "test": 2, "seed": 0}
    model = {"family": "transolver", "width": 8, "depth": 1, "heads": 2, "slices": 4}
    training = {"epochs": 1, "batch_size": 3, "uncertainty": True}
    config = {"name": "mesh", "data": data, "model": model, "optimizer": {"name": "slimtrain"}, "training": training}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    (experiment,) = read_cases(tmp_path / "mine.yaml", []).values()
    run = tmp_path / "run"
    train(experiment, run, command="")
    metrics = evaluate_run(run, lambda line: None)
    assert np.isfinite(metrics["relative_l2"]).all()
    assert set(metrics["scored_points"].values.ravel()) <= {*COUNTS}
    assert not (run / "evaluation" / "maps.nc").exists()
    examples = xr.open_dataset(run / "evaluation" / "examples.nc")
    assert examples["x"].dims == ("example", "point")
    others = write(tmp_path / "others", (40, 7))
    predict_run(run, str(others), tmp_path / "out.nc", device="cpu")
    with xr.open_dataset(tmp_path / "out.nc") as out:
        assert out["u"].shape == out["u_std"].shape == (2, 40)
        assert np.isfinite(out["u"].values).sum(1).tolist() == [40, 7]
        assert np.isfinite(out["x"].values).sum(1).tolist() == [40, 7]
