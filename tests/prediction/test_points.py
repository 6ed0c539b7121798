"""Predictions at the points of a mesh: at others than in training, from a table, and as UGRID describes meshes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.spatial import Delaunay

from surrogate.data import Stream
from surrogate.data.store import write_shard
from surrogate.errors import ConfigError, DataError
from surrogate.models import DeepONetSettings, MlpSettings, Surrogate, TransolverSettings
from surrogate.models.registry import ModelSettings
from surrogate.models.signature import Signature, signature_of
from surrogate.normalize import fit_normalizers
from surrogate.prediction import predict
from surrogate.prediction.predict import HalfWidth

POINTS = ["k", "x", "y"]


def mesh(points: int, seed: int = 0, samples: int = 4) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    places, k = rng.random((points, 2)), rng.normal(size=samples)
    u = k[:, None] * np.sin(3 * places[:, 0]) + places[:, 1]
    ds = xr.Dataset({"u": (("sample", "point"), u, {"units": "K"}), "k": ("sample", k)})
    cells = (("element", "corner"), Delaunay(places).simplices)
    return ds.assign_coords(x=("point", places[:, 0], {"units": "m"}), y=("point", places[:, 1]), cells=cells)


def surrogate_of(ds: xr.Dataset, settings: ModelSettings, inputs: list[str]) -> Surrogate:
    torch.manual_seed(0)
    stream = Stream(ds, inputs, ["u"], batch_size=2, shuffle=False)
    return Surrogate(
        settings, signature_of(stream, ds), *fit_normalizers(stream, stream.input_names, stream.target_names)
    ).eval()


def written(ds: xr.Dataset, path: Path) -> Path:
    write_shard(path, ds)
    return path


@pytest.mark.parametrize(
    "settings", [TransolverSettings(width=8, depth=1, heads=2, slices=4), DeepONetSettings(width=8, products=4)]
)
def test_points_may_be_others_than_in_training(settings: ModelSettings, tmp_path: Path) -> None:
    surrogate, other = surrogate_of(mesh(40), settings, POINTS), mesh(65, seed=1)
    saved = Signature.model_validate_json(surrogate.signature.model_dump_json())
    assert saved == surrogate.signature
    assert (saved.point_axis, saved.positions, saved.parameters) == ("point", ("x", "y"), ("k",))
    predict(surrogate, written(other, tmp_path / "other.h5"), tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc") as out:
        fields = [np.broadcast_to(other[name], (4, 65)) for name in ("x", "y")]
        inputs = np.stack([np.broadcast_to(other["k"].values[:, None], (4, 65)), *fields], axis=1)
        expected = surrogate(torch.tensor(inputs, dtype=torch.float32)).detach()[:, 0]
        np.testing.assert_allclose(out["u"], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(out["x"], other["x"])
        np.testing.assert_array_equal(out["cells"], other["cells"])
        assert out["x"].attrs["units"] == "m"


def test_the_mesh_is_written_with_the_names_of_ugrid(tmp_path: Path) -> None:
    ds = mesh(40)
    predict(surrogate_of(ds, DeepONetSettings(width=8), POINTS), written(ds, tmp_path / "in.h5"), tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc") as out:
        assert "UGRID" in out.attrs["Conventions"]
        topology = out[out["u"].attrs["mesh"]].attrs
        assert topology["cf_role"] == "mesh_topology"
        assert topology["topology_dimension"] == 2
        assert topology["node_coordinates"] == "x y"
        assert out[topology["face_node_connectivity"]].attrs["start_index"] == 0
        assert out["u"].attrs["location"] == "node"


def test_a_table_is_predicted_at_the_points_of_the_training(tmp_path: Path) -> None:
    ds = mesh(40)
    surrogate = surrogate_of(ds, DeepONetSettings(width=8), POINTS)
    (tmp_path / "k.csv").write_text("k\n" + "\n".join(map(str, ds["k"].values)))
    by_table = predict(surrogate, tmp_path / "k.csv", tmp_path / "table.nc")
    by_file = predict(surrogate, written(ds, tmp_path / "in.h5"), tmp_path / "file.nc")
    with xr.open_dataset(by_table) as one, xr.open_dataset(by_file) as two:
        np.testing.assert_allclose(one["u"], two["u"], rtol=1e-5)
        np.testing.assert_allclose(one["x"], two["x"])
    differing = ds.assign_coords(x=(("sample", "point"), np.broadcast_to(ds["x"], (4, 40)).copy()))
    surrogate = surrogate_of(differing, DeepONetSettings(width=8), POINTS)
    with pytest.raises(DataError, match="meshes of the training data differ"):
        predict(surrogate, tmp_path / "k.csv", tmp_path / "none.nc")


def test_a_family_of_one_mesh_says_that_points_differ(tmp_path: Path) -> None:
    ds, fields = mesh(40), ["u"]
    surrogate = surrogate_of(ds, MlpSettings(width=4), fields)
    with pytest.raises(DataError, match=r"do not fit the surrogate: .*40.*65"):
        predict(surrogate, written(mesh(65), tmp_path / "other.h5"), tmp_path / "out.nc")
    moved = mesh(40, seed=3)
    with pytest.raises(DataError, match=r"coordinate x: trained on 40 points from"):
        predict(surrogate, written(moved, tmp_path / "moved.h5"), tmp_path / "out.nc")


def test_intervals_hold_at_the_points_of_the_training(tmp_path: Path) -> None:
    surrogate, path = surrogate_of(mesh(40), DeepONetSettings(width=8), POINTS), written(mesh(65), tmp_path / "in.h5")
    with pytest.raises(ConfigError, match="at the points of the training data"):
        predict(surrogate, path, tmp_path / "out.nc", interval=HalfWidth(torch.ones(1, 40)))
