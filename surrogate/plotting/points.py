"""Fields on the points of a mesh: triangulations of the plane, and slices through points in space."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.tri import Triangulation

from surrogate.plotting.canvas import label_of

__all__ = ["draw_points", "places_of", "plane_of", "with_cells"]

LONG = 4.0  # an edge of a Delaunay triangle longer than this times those at its ends bridges a gap of the mesh
FLAT = 0.02  # least ratio of the radii of the circles in and about a triangle, below which it is left out
LARGE = 2000  # points that are drawn as small dots


def places_of(field: xr.DataArray) -> list[str]:
    """Return the names among `x`, `y` and `z` of the coordinates of a field on points; none for one that is on a grid.

    Arguments:
        field: A field, on points with dimensions (point,).
    """
    names = [name for name in ("x", "y", "z") if name in field.coords and field[name].dims == field.dims]
    return names if field.ndim == 1 and len(names) > 1 else []


def plane_of(field: xr.DataArray) -> tuple[list[str], np.ndarray, str]:
    """Return the two coordinates to draw along, the positions of points to draw, and what a slice is called."""
    names = places_of(field)
    places = np.stack([field[name].values for name in names])
    kept = np.flatnonzero(np.isfinite(places).all(0))
    extents = np.ptp(places[:, kept], axis=1)
    if len(names) == 2 or extents.min() == 0:
        drawn = [name for index, name in enumerate(names) if index != extents.argmin() or len(names) == 2]
        return drawn, kept, ""
    depth = int(extents.argmin())
    middle = places[depth, kept].min() + extents[depth] / 2
    distance = abs(places[depth, kept] - middle)
    nearest = np.partition(distance, count := min(len(kept) - 1, int(len(kept) ** (2 / 3))))[count]
    slab = kept[distance <= nearest * (1 + 1e-9)]
    return [name for name in names if name != names[depth]], slab, f"\npoints near {names[depth]} = {middle:.3g}"


def with_cells(fields: xr.Dataset, source: xr.Dataset) -> xr.Dataset:
    """Return fields with the cells of the data set that they were selected from, which a selection loses."""
    return fields.assign_coords({"cells": source["cells"]}) if "cells" in source.variables else fields


def draw_points(ax: Axes, field: xr.DataArray, cells: xr.DataArray | None = None, **colours: Any) -> ScalarMappable:
    """Draw a field on points: interpolated on triangles in the plane, as coloured dots of a slice in space.

    The triangles are those of the cells, polygons being cut into fans, else Delaunay's without those that bridge a gap.

    Arguments:
        ax: Panel.
        field: With dimensions (point,) and coordinates x, y (and z); points whose coordinates are NaN do not exist.
        cells: Corners of every cell, with shape (cells, corners), -1 for none.
        colours: Colour map and its limits.
    """
    (across, up), kept, note = plane_of(field)
    x, y, values = field[across].values[kept], field[up].values[kept], field.values[kept]
    triangles = None
    names = places_of(field)
    flat_slice = all(np.ptp(field[name].values[kept]) == 0 for name in names if name not in (across, up))
    if not note and cells is not None and cells.sizes[cells.dims[1]] > 2 and len(names) == 2:
        corners = np.asarray(cells.values)
        fans = np.concatenate([corners[:, [0, i, i + 1]] for i in range(1, corners.shape[1] - 1)])
        new = np.full(field.size + 1, -1)  # the last entry is that of corner -1
        new[kept] = np.arange(len(kept))
        fans = new[fans]
        triangles = Triangulation(x, y, fans[(fans >= 0).all(1)])
    elif flat_slice and len(x) > 3:
        try:
            triangles = Triangulation(x, y)
        except (RuntimeError, ValueError):  # all points are on one line
            triangles = None
        else:
            at = np.stack([x, y], -1)[triangles.triangles]
            edges = np.linalg.norm(at - np.roll(at, 1, axis=1), axis=2)
            near = np.full(len(x), np.inf)
            np.minimum.at(near, triangles.triangles.ravel(), np.repeat(np.sort(edges, 1)[:, 1], 3))
            half, sides = edges.sum(1) / 2, edges.prod(1)
            area = np.sqrt(np.maximum(half * (half[:, None] - edges).prod(1), 0))
            flat = 4 * area**2 <= FLAT * half * sides
            triangles.set_mask((edges.max(1) > LONG * near[triangles.triangles].max(1)) | flat)
    if triangles is not None:
        gone = ~np.isfinite(values)[triangles.triangles].all(1)
        triangles.set_mask(gone if triangles.mask is None else triangles.mask | gone)
        mesh: ScalarMappable = ax.tripcolor(triangles, values, shading="gouraud", rasterized=True, **colours)
    else:
        size = 4.0 if len(x) > LARGE else 14.0
        mesh = ax.scatter(x, y, c=values, s=size, linewidths=0, rasterized=True, **colours)
    wide, tall = np.ptp(x), np.ptp(y)
    if tall > 0 and 0.2 < wide / tall < 5:
        ax.set_aspect("equal")
    ax.set_xlabel(label_of(field[across]))
    ax.set_ylabel(label_of(field[up]))
    return mesh
