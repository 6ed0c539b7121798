"""Interpolation of meshes to a grid: exact for linear fields, lazy, with its own error, refused where it cannot be."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from surrogate.data import DataSettings, Stream, open_data
from surrogate.data.interpolate import LOST, on_grid
from surrogate.data.store import write_shard
from surrogate.errors import ConfigError, DataError

GRID = {"y": 9, "x": 7}
pytestmark = pytest.mark.filterwarnings("ignore:.*is interpolated to a grid")


def mesh(*, differing: bool = False, power: int = 1) -> xr.Dataset:
    rng = np.random.default_rng(0)
    corners = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    places = np.stack([np.concatenate([corners, rng.random((60, 2))]) for _ in range(3 if differing else 1)])
    x, y = places[..., 0], places[..., 1]
    slope = np.arange(1.0, 4)[:, None]
    u = slope * x**power + 2 * y + np.zeros((3, 64))
    ds = xr.Dataset({"u": (("sample", "time", "point"), da.from_array(np.stack([u, 2 * u], 1)), {"units": "K"})})
    ds["k"] = ("sample", slope[:, 0])
    dims = ("sample", "point") if differing else ("point",)
    return ds.assign_coords({"x": (dims, x if differing else x[0]), "y": (dims, y if differing else y[0])})


@pytest.mark.parametrize("differing", [False, True])
def test_linear_fields_are_exact(differing: bool) -> None:
    ds = on_grid(mesh(differing=differing), GRID)
    assert dict(ds.sizes) == {"sample": 3, "time": 2, **GRID}
    assert ds["u"].chunks is not None
    expected = ds["k"] * ds["x"] + 2 * ds["y"]
    np.testing.assert_allclose(ds["u"].isel(time=1), 2 * expected.transpose("sample", "y", "x"), atol=1e-12)
    assert ds["u"].attrs[LOST] < 1e-12
    assert ds["u"].attrs["units"] == "K"
    assert (ds["inside"] == 1).all()


def test_the_error_of_the_way_to_the_grid_is_stated() -> None:
    with pytest.warns(UserWarning, match=r"'u' is interpolated to a grid of 9x7: relative L2 error 0\."):
        coarse = on_grid(mesh(power=6), GRID)
    fine = on_grid(mesh(power=6), {"y": 90, "x": 70})
    assert 1e-3 < coarse["u"].attrs[LOST] < 0.5
    assert fine["u"].attrs[LOST] < coarse["u"].attrs[LOST]


def test_a_configuration_interpolates(tmp_path: Path) -> None:
    write_shard(tmp_path / "mesh.h5", mesh())
    settings = {"path": str(tmp_path), "inputs": ["k", "inside"], "targets": ["u"], "interpolate": GRID}
    ds = open_data(DataSettings.model_validate(settings))
    batch = next(iter(Stream(ds, ["k", "inside"], ["u"], batch_size=3, shuffle=False)))
    assert batch.inputs.shape[-2:] == batch.targets.shape[-2:] == (9, 7)


def test_what_cannot_be_interpolated_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a number of points along x, y"):
        on_grid(mesh(), {"x": 5})
    with pytest.raises(DataError, match="no field on points"):
        on_grid(xr.Dataset({"u": (("sample", "i"), np.ones((2, 5)))}), GRID)
    line = mesh().assign_coords(y=("point", np.ones(64)))
    with pytest.raises(DataError, match="span no volume"):
        on_grid(line, GRID)
