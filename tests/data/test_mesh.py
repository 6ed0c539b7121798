"""Points of a mesh: the axis that counts them, and volumes that integrate linear functions exactly."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from scipy.spatial import Delaunay

from surrogate.batch import Batch
from surrogate.data import Mapping, Stream, open_snapshots
from surrogate.data.mesh import geometry_of, point_axis, positions_of, volumes_of
from surrogate.data.missing import drop_incomplete
from surrogate.errors import DataError
from surrogate.evaluation.evaluate import evaluate
from surrogate.evaluation.metrics import METRICS, FieldErrors
from surrogate.evaluation.volumes import Volumes
from surrogate.normalize import fit_normalizers


def triangulated(dimensions: int, points: int = 40) -> xr.Dataset:
    """Points in the unit square or cube, its corners among them, with Delaunay's simplices."""
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * dimensions), -1).reshape(-1, dimensions)
    places = np.concatenate([corners, rng.random((points, dimensions))])
    coordinates = {name: ("point", places[:, axis]) for axis, name in enumerate("xyz"[:dimensions])}
    cells = ("element", "corner"), Delaunay(places).simplices
    u = rng.normal(size=(3, len(places)))
    return xr.Dataset({"u": (("sample", "point"), u)}, {**coordinates, "cells": cells})


@pytest.mark.parametrize("dimensions", [2, 3])
def test_volumes_integrate_linear_functions_exactly(dimensions: int) -> None:
    ds = triangulated(dimensions)
    weights = volumes_of(ds, "point")
    assert weights is not None
    linear = 2 + sum((axis + 1) * ds[name] for axis, name in enumerate(positions_of(ds, "point")))
    assert float((weights * linear).sum()) == pytest.approx(2 + sum(range(1, dimensions + 1)) / 2)
    assert float(weights.sum()) == pytest.approx(1)


def test_volumes_of_quadrilaterals_and_of_meshes_that_differ() -> None:
    x, y = np.array([0.0, 2, 2, 0]), np.array([0.0, 0, 1, 1])
    ds = xr.Dataset(
        {"u": (("sample", "point"), np.ones((2, 4)))},
        {"x": (("sample", "point"), np.stack([x, 3 * x])), "y": ("point", y)},
    ).assign_coords(cells=(("element", "corner"), [[0, 1, 2, 3]]))
    weights = volumes_of(ds, "point")
    assert weights is not None
    np.testing.assert_allclose(weights, np.array([[0.5] * 4, [1.5] * 4]))
    assert set(geometry_of(ds, "point")) == {"y", "cells"}
    np.testing.assert_array_equal(geometry_of(ds, "point", sample=1)["x"], 3 * x)


def test_points_are_told_from_a_grid() -> None:
    ds = triangulated(2)
    assert point_axis(ds, ("point",)) == "point"
    assert point_axis(ds.rename(point="n"), ("n",)) == "n"  # x and y along it
    assert point_axis(xr.Dataset({"u": (("sample", "node2"), np.ones((2, 3)))}), ("node2",)) == "node2"
    grid = xr.Dataset({"u": (("sample", "y", "x"), np.ones((2, 3, 4)))}, {"x": np.arange(4), "y": np.arange(3)})
    assert point_axis(grid, ("y", "x")) == ""
    curved = grid.drop_vars(["x", "y"]).rename(x="i", y="j").assign_coords(x=(("j", "i"), np.ones((3, 4))))
    assert point_axis(curved, ("j", "i")) == ""
    line = xr.Dataset({"u": (("sample", "i"), np.ones((2, 3)))}, {"x": ("i", np.arange(3.0))})
    assert point_axis(line, ("i",)) == ""


def test_weighted_metrics_are_those_of_numpy() -> None:
    ds = triangulated(2)
    volumes = Volumes.of(ds, "point")
    known = volumes_of(ds, "point")
    assert volumes is not None
    assert known is not None
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.randn(3, 2, ds.sizes["point"], generator=generator, dtype=torch.float64) for _ in "qp")
    w = known.values
    weights, e, n = volumes.at(torch.arange(3)), (p - q).numpy(), len(w)
    integral = (w * e**2).sum(-1)
    np.testing.assert_allclose(FieldErrors(p, q, weights).rmse, np.sqrt(integral / w.sum()))
    np.testing.assert_allclose(FieldErrors(p, q, weights).relative_l2, np.sqrt(integral / (w * q.numpy() ** 2).sum(-1)))
    np.testing.assert_allclose(FieldErrors(p, q, weights).squared_error, n * integral / w.sum())
    np.testing.assert_allclose(FieldErrors(p, q, weights).mae, (w * abs(e)).sum(-1) / w.sum())
    np.testing.assert_allclose(FieldErrors(p, q, weights).conserved_error, (w * e).sum(-1) / w.sum())
    np.testing.assert_allclose(FieldErrors(p, q, weights).target_mean, (w * q.numpy()).sum(-1) / w.sum())
    for name, metric in METRICS.items():  # equal weights are none
        torch.testing.assert_close(metric(p, q, torch.ones_like(weights)), metric(p, q), msg=name)


def test_on_points_there_are_neither_spectra_nor_boundary_errors() -> None:
    targets = torch.randn(4, 1, 9).double()
    batch = Batch(targets, targets, torch.arange(4), torch.zeros(4, dtype=torch.int64))
    scored = evaluate(lambda x: 2 * x, [batch], variables=["u"], on_points=True)
    assert scored.attrs["on_points"]
    assert not {"brmse", "frmse", "spectral_error"} & {*scored.data_vars}
    np.testing.assert_allclose(scored["relative_l2"], 1)


def test_volumes_below_zero_are_refused() -> None:
    ds = triangulated(2).assign_coords(volume=("point", np.linspace(-1, 1, 44)))
    with pytest.raises(DataError, match="'volume' along 'point' has values below zero"):
        Volumes.of(ds, "point")


POINTS = {"u": {"path": "u", "axes": ["point"]}, "k": {"path": "k", "axes": []}}
PLACES = {name: {"path": name, "axes": ["point"]} for name in ("x", "y")} | {
    "cells": {"path": "cells", "axes": ["element", "corner"]}
}
COUNTS = (6, 9, 4)


def ragged(folder: Path, missing: int | None = None) -> xr.Dataset:
    """Three files of meshes with different numbers of points."""
    rng = np.random.default_rng(0)
    for index, count in enumerate(COUNTS):
        places, u = rng.random((count, 2)), rng.normal(size=count) + 1
        if missing == index:
            u[0] = np.nan
        with h5py.File(folder / f"run_{index}.h5", "w") as file:
            file["u"], file["x"], file["y"], file["k"] = u, places[:, 0], places[:, 1], float(index)
            file["cells"] = Delaunay(places).simplices
    return open_snapshots(folder, Mapping.model_validate({"variables": POINTS, "coordinates": PLACES}))


def test_simulations_with_different_meshes_are_padded(tmp_path: Path) -> None:
    ds = ragged(tmp_path)
    assert dict(ds.sizes) | {"sample": 3, "point": 9} == dict(ds.sizes)
    for index, count in enumerate(COUNTS):
        with h5py.File(tmp_path / f"run_{index}.h5") as file:
            for name in ("u", "x", "y"):
                np.testing.assert_array_equal(ds[name][index, :count], file[name][()])
                assert np.isnan(ds[name][index, count:]).all()
            corners = ds["cells"].values[index]
            np.testing.assert_array_equal(corners[(corners >= 0).all(1)], file["cells"][()])
    places = geometry_of(ds, "point", sample=1)
    assert np.isfinite(places["x"]).all()


def test_statistics_and_errors_of_ragged_meshes_are_those_of_their_points(tmp_path: Path) -> None:
    ds = ragged(tmp_path)
    stream = Stream(ds, ["k", "x", "y"], ["u"], batch_size=2, shuffle=False)
    inputs, targets = fit_normalizers(stream, stream.input_names, stream.target_names)
    there = np.isfinite(ds["u"].values)
    for normalizer, channel, name in ((targets, 0, "u"), (inputs, 1, "x")):
        values = ds[name].values[there]
        assert float(normalizer.mean[channel]) == pytest.approx(values.mean(), rel=1e-6)
        assert float(normalizer.scale[channel]) == pytest.approx(values.std(), rel=0.05)
    scored = evaluate(lambda x: 2 * x[:, 1:2].nan_to_num(), stream, variables=["u"], on_points=True)
    for index, count in enumerate(COUNTS):
        u, x = ds["u"].values[index, :count], ds["x"].values[index, :count]
        expected = np.sqrt(((2 * x - u) ** 2).mean())
        assert float(scored["rmse"][index, 0, 0]) == pytest.approx(expected, rel=1e-5)
        assert int(scored["scored_points"][index, 0, 0]) == count


def test_a_point_that_does_not_exist_is_no_missing_value(tmp_path: Path) -> None:
    ds = ragged(tmp_path)
    assert drop_incomplete(ds, ["u"]).sizes["sample"] == 3
    (tmp_path / "gap").mkdir()
    with pytest.warns(UserWarning, match="1 of 3 simulations hold NaN"):
        assert drop_incomplete(ragged(tmp_path / "gap", missing=1), ["u"]).sizes["sample"] == 2
