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


@pytest.mark.filterwarnings("error:.*are NaN or Inf and left out", "ignore:.*least significant")
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


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same fields on a regular grid, its points in rows, shuffled, and shuffled for each simulation by itself."""
    folder, rng, count = tmp_path_factory.mktemp("orders"), np.random.default_rng(0), 36
    x, y = (axis.ravel() for axis in np.meshgrid(*[np.linspace(0, 1, 6)] * 2))
    k = rng.normal(size=10)
    u = np.sin(3 * x) + k[:, None] * y * (1 - x)
    one = rng.permutation(count)[None].repeat(10, 0)
    own = np.stack([rng.permutation(count) for _ in k])
    files = {}
    for name, order in {"rows": np.arange(count)[None].repeat(10, 0), "shuffled": one, "own": own}.items():
        places = {"x": x[order], "y": y[order]} if name == "own" else {"x": x[order[0]], "y": y[order[0]]}
        dims = ("sample", "point") if name == "own" else ("point",)
        ds = xr.Dataset({"k": ("sample", k), "u": (("sample", "point"), np.take_along_axis(u, order, 1))})
        files[name] = folder / f"{name}.nc"
        ds.assign_coords({axis: (dims, v) for axis, v in places.items()}).to_netcdf(files[name], engine="h5netcdf")
    return files


@pytest.mark.filterwarnings("ignore:.*least significant")
def test_a_trained_surrogate_has_the_same_error_for_any_order_of_the_points(
    orders: dict[str, Path], tmp_path: Path
) -> None:
    """Two epochs each on points in rows, shuffled, and shuffled for every simulation by itself."""
    errors = {}
    for name, file in orders.items():
        data = {"path": str(file), "layout": "netcdf", "inputs": ["k"], "targets": ["u"]}
        data["split"] = {"validation": 2, "test": 3, "seed": 0}
        model = {"family": "transolver", "width": 8, "depth": 1, "heads": 2, "slices": 4}
        training = {"epochs": 2, "batch_size": 2}
        config = {"name": "m", "data": data, "model": model, "optimizer": {"name": "slimtrain"}, "training": training}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
        (experiment,) = read_cases(tmp_path / f"{name}.yaml", []).values()
        train(experiment, tmp_path / name, command="")
        errors[name] = evaluate_run(tmp_path / name, lambda line: None)["relative_l2"].values
    for name in ("shuffled", "own"):
        np.testing.assert_allclose(errors[name], errors["rows"], rtol=1e-3)
    assert errors["rows"].max() < 1
