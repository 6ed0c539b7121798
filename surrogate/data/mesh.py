"""Points of a mesh: the axis that counts them, their coordinates, their volumes and the cells between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from surrogate.data.streaming.channels import MASKED

__all__ = [
    "CELLS",
    "POINT_AXES",
    "POSITIONS",
    "VOLUME",
    "absent_share",
    "geometry_of",
    "is_one_mesh",
    "point_axis",
    "positions_of",
    "volumes_of",
]

POSITIONS = ("x", "y", "z")
CELLS, VOLUME = "cells", "volume"
POINT_AXES = ("point", "cell", "node", "vertex", "dof", "element", "face")


def point_axis(ds: xr.Dataset, dims: Sequence[str]) -> str:
    """Return the axis that counts the points of a mesh, whose order has no meaning; "" where there is none.

    It is an axis with one of the names `POINT_AXES`, perhaps with a number, or one along which at least two of the
    coordinates `x`, `y` and `z` are given.

    Arguments:
        ds: The data.
        dims: Names of the spatial axes of a field.
    """
    for axis in dims:
        if axis not in POSITIONS and (axis.rstrip("0123456789") in POINT_AXES or len(positions_of(ds, axis)) > 1):
            return axis
    return ""


def positions_of(ds: xr.Dataset, axis: str) -> tuple[str, ...]:
    """Return the names among `x`, `y` and `z` of the coordinates of the points along an axis.

    They may differ between simulations and move in time, but depend on no other axis of space.
    """
    return tuple(
        name
        for name in POSITIONS
        if name in ds.variables and axis in ds[name].dims and {*ds[name].dims} <= {"sample", "time", axis}
    )


def is_one_mesh(ds: xr.Dataset, axis: str) -> bool:
    """Return True where points along an axis are the same in all simulations and do not move; also without an axis."""
    return not axis or not any({"sample", "time"} & {*ds[name].dims} for name in positions_of(ds, axis))


def absent_share(ds: xr.Dataset, axis: str) -> float:
    """Return the share of points along an axis that do not exist, since meshes differ; their coordinates are NaN."""
    names = positions_of(ds, axis) if axis else ()
    masked = names and MASKED in ds[names[0]].attrs
    return float(np.isnan(ds[names[0]].values).mean()) if masked else 0.0


def volumes_of(ds: xr.Dataset, axis: str) -> xr.DataArray | None:
    r"""Return the volume of space that each point represents, as weights of integrals; None where it is not known.

    It is the variable `volume` along the axis where there is one. Otherwise the `cells` (cell, corner) of a mesh that
    does not move give it: each simplex (line, triangle, tetrahedron) or plane polygon of volume :math:`|c|` with k
    corners adds :math:`|c| / k` to each of them, so that :math:`\sum_i w_i f_i` integrates functions that are linear
    on each simplex exactly. Corners of -1 stand for none.

    Arguments:
        ds: The data, with coordinates `x`, `y` and `z` along the axis.
        axis: The axis of the points.

    Returns:
        Weights with dimensions (axis,), or (sample, axis) where meshes differ.
    """
    given = ds.variables.get(VOLUME)
    if given is not None and axis in given.dims and {*given.dims} <= {"sample", axis}:
        return ds[VOLUME].transpose(..., axis)
    names, cells = positions_of(ds, axis), ds.variables.get(CELLS)
    moving = any("time" in ds[name].dims for name in names)
    if cells is None or cells.ndim != 2 or "sample" in cells.dims or not names or moving:
        return None
    corners = np.asarray(cells.values)[(np.asarray(cells.values) >= 0).all(1)]
    dims = tuple(dim for dim in ("sample", axis) if any(dim in ds[name].dims for name in names))
    points = np.stack([ds[name].broadcast_like(ds[list(names)].coords.to_dataset()).values for name in names], -1)
    at = points[..., corners, :]  # (..., cells, corners, d)
    count, space = corners.shape[1], len(names)
    if space == 2 and count > 2:
        x, y = at[..., 0], at[..., 1]
        sizes = abs((x * np.roll(y, -1, -1) - y * np.roll(x, -1, -1)).sum(-1)) / 2
    elif count <= space + 1:
        edges = at[..., 1:, :] - at[..., :1, :]
        gram = edges @ edges.swapaxes(-1, -2)
        sizes = np.sqrt(np.maximum(np.linalg.det(gram), 0)) / math.factorial(count - 1)
    else:
        return None
    weights = np.zeros(points.shape[:-1])
    shares = np.broadcast_to(sizes[..., None] / count, (*sizes.shape, count))
    np.add.at(np.moveaxis(weights, -1, 0), corners, np.moveaxis(shares, (-2, -1), (0, 1)))
    return xr.DataArray(weights, dims=dims, name=VOLUME)


def geometry_of(ds: xr.Dataset, axis: str, *, sample: int | None = None, time: int = 0) -> dict[str, xr.Variable]:
    """Return the coordinates of points, their volumes and their cells, as far as the data have them.

    Arguments:
        ds: The data.
        axis: The axis of the points.
        sample: Simulation to choose where meshes differ; None leaves out what differs between simulations or moves.
        time: Step to choose where the points move.
    """
    known = {name: ds[name].variable for name in (*positions_of(ds, axis), CELLS) if name in ds.variables}
    volumes = volumes_of(ds, axis)
    known |= {} if volumes is None else {VOLUME: volumes.variable}
    if sample is None:
        known = {name: values for name, values in known.items() if not {"sample", "time"} & {*values.dims}}
    chosen = {name: v.isel(sample=sample or 0, time=time, missing_dims="ignore") for name, v in known.items()}
    return {name: v.copy(data=np.asarray(v.values)) for name, v in chosen.items()}
