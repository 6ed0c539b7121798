"""Centres and volumes of cells from the mesh in a case file of Ansys Fluent (CFF, `.cas.h5`).

The file has the positions of nodes, the nodes of each face, and the cells on both sides of each face, `c0` and `c1`,
numbered from 1, 0 for none.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from surrogate.data.hdf5.array import open_file
from surrogate.data.mapping import Mapping
from surrogate.data.mesh import POSITIONS, VOLUME
from surrogate.errors import DataError

__all__ = ["MESH", "add_cells", "cells_of_faces"]

MESH = "meshes/1"


def cells_of_faces(points: np.ndarray, corners: np.ndarray, counts: np.ndarray, sides: np.ndarray, cells: int) -> tuple:
    r"""Return centres (cells, d) and volumes (cells,) of polygons or polyhedra from the faces around them.

    A cell is cut into pyramids from the mean m of the centres of its faces, which is inside of a convex cell. With the
    area vector n of a face and its centre f, :math:`V = \sum |(f - m) \cdot n| / d`, and the centre is the mean of
    those of the pyramids, :math:`(d f + m) / (d + 1)`, weighted by volume.

    Arguments:
        points: Positions of the nodes, with shape (nodes, d), d = 2 or 3.
        corners: Numbers from 0 of the nodes of all faces, one face after the other.
        counts: Number of nodes of each face.
        sides: Number from 0 of the cell on either side of each face, -1 for none, with shape (2, faces).
        cells: Number of cells.
    """
    dimension, face = points.shape[1], np.repeat(np.arange(len(counts)), counts)
    mean = _sums(face, points[corners], len(counts)) / counts[:, None]
    first = np.cumsum(counts) - counts
    following = np.arange(len(corners)) + 1
    following[first + counts - 1] = first
    a, b = points[corners], points[corners[following]]
    if dimension == 2:
        edge = points[corners[first + 1]] - points[corners[first]]
        centres, areas = mean, np.stack([edge[:, 1], -edge[:, 0]], -1)
    else:
        triangles = np.cross(a - mean[face], b - mean[face]) / 2
        areas = _sums(face, triangles, len(counts))
        sizes = np.linalg.norm(triangles, axis=1, keepdims=True)
        centres = _sums(face, sizes * (a + b + mean[face]) / 3, len(counts)) / _sums(face, sizes, len(counts))
    cell = sides.ravel()
    there = cell >= 0
    cell, f, n = cell[there], np.concatenate([centres] * 2)[there], np.concatenate([areas] * 2)[there]
    m = _sums(cell, f, cells) / np.bincount(cell, minlength=cells)[:, None]
    parts = abs(((f - m[cell]) * n).sum(1, keepdims=True)) / dimension
    volumes = _sums(cell, parts, cells)
    return _sums(cell, parts * (dimension * f + m[cell]) / (dimension + 1), cells) / volumes, volumes[:, 0]


def _sums(group: np.ndarray, values: np.ndarray, groups: int) -> np.ndarray:
    """Sum rows (n, d) by group."""
    return np.stack([np.bincount(group, column, groups) for column in values.T], -1)


def add_cells(ds: xr.Dataset, layout: Mapping, folder: Path) -> xr.Dataset:
    """Add the centres `x`, `y` (and `z`) of cells and their `volume` from the case file of a layout, if it names one.

    Raises:
        DataError: The file has no such mesh, or another number of cells than the data.
    """
    if layout.fluent_case is None:
        return ds
    file, axis = folder / layout.fluent_case, layout.axis("cell")
    with open_file(file) as handle:
        try:
            centres, volumes = _read(handle)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise DataError(
                f"{file}: holds no mesh of Fluent in {MESH} ({error}); leave out layout.fluent_case"
            ) from error
    if ds.sizes.get(axis) != len(volumes):
        raise DataError(
            f"{file}: has {len(volumes)} cells, the data have {dict(ds.sizes)}; name the case of these data"
        )
    about = {"units": "m"}
    places = {name: (axis, column, about) for name, column in zip(POSITIONS, centres.T, strict=False)}
    return ds.assign_coords(places | {VOLUME: (axis, volumes)})


def _read(handle: h5py.File) -> tuple[np.ndarray, np.ndarray]:
    mesh = handle[MESH]
    points = np.concatenate([section[()] for section in _in_order(mesh["nodes/coords"])])
    counts = np.concatenate([section["nnodes"][()] for section in _in_order(mesh["faces/nodes"])]).astype(np.int64)
    corners = np.concatenate([section["nodes"][()] for section in _in_order(mesh["faces/nodes"])]).astype(np.int64) - 1
    sides, cells = np.full((2, len(counts)), -1), int(mesh.attrs["cellCount"][0])
    for side, name in enumerate(("c0", "c1")):
        for section in _in_order(mesh[f"faces/{name}"]):
            numbers = slice(int(section.attrs["minId"][0]) - 1, int(section.attrs["maxId"][0]))
            sides[side, numbers] = section[()].astype(np.int64) - 1
    known = np.unique(sides[sides >= 0])
    if counts.sum() != len(corners) or corners.max() >= len(points) or not np.array_equal(known, np.arange(cells)):
        raise ValueError("the numbers of its faces, nodes and cells disagree")
    return cells_of_faces(points, corners, counts, sides, cells)


def _in_order(group: h5py.Group) -> list[h5py.Group | h5py.Dataset]:
    """Return the sections of a group by their first number."""
    return sorted(group.values(), key=lambda section: int(section.attrs["minId"][0]))
