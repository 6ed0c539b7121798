"""Interpolate fields on points to a uniform grid, and say how much of them is lost by it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from scipy.interpolate import NearestNDInterpolator, RegularGridInterpolator
from scipy.spatial import Delaunay, QhullError

from surrogate.data.mesh import CELLS, VOLUME, point_axis, positions_of
from surrogate.data.streaming.channels import MASKED
from surrogate.errors import ConfigError, DataError

__all__ = ["LOST", "on_grid"]

LOST = "interpolation_error"  # attribute of a variable: what the way to the grid and back changes
MEASURED = 8  # simulations, of a data set, that the error is measured on


def on_grid(ds: xr.Dataset, grid: dict[str, int]) -> xr.Dataset:
    """Interpolate all fields on points to a uniform grid over the box around all points, lazily.

    Values are linear on Delaunay's simplices; outside of their hull, and in holes of the mesh narrower than it, a grid
    point has what these give, else the value of the nearest point. `inside` is 1 where a grid point is in the hull.
    Each field has an attribute `interpolation_error`: the relative L2 norm, over the points of up to 8 simulations, of
    the difference between the field and what linear interpolation of the grid gives back at its points.

    Arguments:
        ds: Data with fields along an axis of points.
        grid: Number of grid points along `x`, `y` (and `z`), in the order of the axes of the fields.

    Raises:
        ConfigError: The grid names other axes than the coordinates of the points.
        DataError: The data have no points with coordinates, or all points are on one line or plane.
    """
    dims = list(dict.fromkeys(str(dim) for array in ds.data_vars.values() for dim in array.dims))
    axis = point_axis(ds, [dim for dim in dims if dim not in ("sample", "time", "channel")])
    names = positions_of(ds, axis) if axis else ()
    if not names or any("time" in ds[name].dims for name in names):
        raise DataError(f"data.interpolate: no field on points that do not move; the data have {dict(ds.sizes)}")
    if {*grid} != {*names}:
        raise ConfigError(f"data.interpolate: expected a number of points along {', '.join(names)}, got {grid}")
    order, count = list(grid), ds.sizes["sample"]
    places = [np.asarray(ds[name].transpose("sample", ..., missing_dims="ignore").values, float) for name in order]
    lines = [np.linspace(np.nanmin(v), np.nanmax(v), grid[name]) for name, v in zip(order, places, strict=True)]
    targets = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, len(order))
    meshes = count if any(v.ndim == 2 for v in places) else 1
    points = [np.stack([v[index] if v.ndim == 2 else v for v in places], -1) for index in range(meshes)]
    maps = [_Interpolation(own, targets, tuple(grid.values())) for own in points]
    coords = {name: (name, line, dict(ds[name].attrs)) for name, line in zip(order, lines, strict=True)}
    measured = np.unique(np.linspace(0, count - 1, MEASURED).round().astype(int)).tolist()
    result = ds.drop_vars([name for name, v in ds.variables.items() if axis in v.dims or name == CELLS])
    for name, field in {name: v for name, v in ds.data_vars.items() if axis in v.dims and name != VOLUME}.items():
        array = field.drop_vars([*names, VOLUME, axis], errors="ignore").transpose("sample", ..., axis)
        about: dict[str, Any] = {
            "input_core_dims": [[axis]],
            "output_core_dims": [order],
            "dask": "parallelized",
            "dask_gufunc_kwargs": {"output_sizes": grid, "allow_rechunk": True},
            "output_dtypes": [float],
            "keep_attrs": True,
        }
        parts = [xr.apply_ufunc(maps[s % meshes], array.isel(sample=s), **about) for s in range(count)]
        lost = whole = 0.0
        for sample in measured:
            truth, own, known = array[sample].values, points[sample % meshes], maps[sample % meshes].kept
            back = RegularGridInterpolator(
                lines, np.moveaxis(parts[sample].values, range(-len(order), 0), range(len(order)))
            )
            lost += float(((np.moveaxis(back(own[known]), 0, -1) - truth[..., known]) ** 2).sum())
            whole += float((truth[..., known] ** 2).sum())
        error = (lost / whole) ** 0.5 if whole > 0 else lost**0.5
        together = xr.concat(parts, "sample").assign_attrs(array.attrs | {LOST: error})
        together.attrs.pop(MASKED, None)
        result = result.assign({name: together.assign_coords(coords)})
        sizes = "x".join(map(str, grid.values()))
        warnings.warn(f"'{name}' is interpolated to a grid of {sizes}: relative L2 error {error:.2g} at its points")
    inside = np.stack([one.inside.reshape(one.shape) for one in maps]).astype(np.float32)
    return result.assign(inside=(order, inside[0]) if meshes == 1 else (["sample", *order], inside))


class _Interpolation:
    """Values on fixed points to fixed targets, as sparse weights of the corners of Delaunay's simplices."""

    def __init__(self, points: np.ndarray, targets: np.ndarray, shape: tuple[int, ...]) -> None:
        self.kept, self.shape = np.flatnonzero(np.isfinite(points).all(1)), shape
        points = points[self.kept]
        try:
            mesh = Delaunay(points)
        except (QhullError, ValueError) as error:
            raise DataError(f"data.interpolate: {len(points)} points span no volume; they are on a line") from error
        simplex = mesh.find_simplex(targets)
        self.inside = simplex >= 0
        transform = mesh.transform[simplex]
        first = np.einsum("nij,nj->ni", transform[:, :-1], targets - transform[:, -1])
        self.corners = mesh.simplices[simplex]
        self.weights = np.concatenate([first, 1 - first.sum(1, keepdims=True)], axis=1)
        nearest = NearestNDInterpolator(points, np.arange(len(points)))(targets[~self.inside])
        self.corners[~self.inside] = nearest[:, None]
        self.weights[~self.inside] = 1 / self.weights.shape[1]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values (..., points) to (..., *grid)."""
        result = (values[..., self.kept][..., self.corners] * self.weights).sum(-1)
        return result.reshape(*values.shape[:-1], *self.shape)
