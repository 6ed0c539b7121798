"""Centres and volumes of Fluent's cells, from the faces around them."""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial import Delaunay

from surrogate.data import Mapping, open_snapshots
from surrogate.data.formats.fluent import cells_of_faces
from surrogate.data.mesh import positions_of, volumes_of
from surrogate.errors import DataError

Faces = dict[tuple[int, ...], list[int]]


def faces_of(cells: np.ndarray, sides: list[list[int]]) -> Faces:
    """Collect the faces of cells by their nodes, each in the order of the first cell that has it."""
    faces: dict[frozenset[int], tuple[tuple[int, ...], list[int]]] = {}
    for number, cell in enumerate(cells):
        for side in sides:
            nodes = tuple(int(cell[i]) for i in side)
            faces.setdefault(frozenset(nodes), (nodes, []))[1].append(number)
    return dict(faces.values())


def written(path: Path, points: np.ndarray, faces: Faces, cells: int) -> None:
    """Write a case file: boundary faces first, c1 in sections where there is one, as Fluent does."""
    ordered = sorted(faces.items(), key=lambda item: len(item[1]))
    outer = sum(len(own) == 1 for _, own in ordered)
    with h5py.File(path, "w") as file:
        mesh = file.create_group("meshes/1")
        mesh.attrs["cellCount"] = np.array([cells], np.uint64)

        def section(name: str, values: np.ndarray | None, first: int, last: int) -> h5py.Group | h5py.Dataset:
            made = mesh.create_group(name) if values is None else mesh.create_dataset(name, data=values)
            made.attrs["minId"], made.attrs["maxId"] = np.array([first]), np.array([last])
            return made

        section("nodes/coords/1", points, 1, len(points))
        nodes = section("faces/nodes/1", None, 1, len(ordered))
        nodes["nnodes"] = np.array([len(n) for n, _ in ordered], np.int16)
        nodes["nodes"] = np.array([i + 1 for n, _ in ordered for i in n], np.uint32)
        section("faces/c0/1", np.array([own[0] + 1 for _, own in ordered], np.uint32), 1, len(ordered))
        inner = np.array([own[1] + 1 for _, own in ordered[outer:]], np.uint32)
        section("faces/c1/2", inner, outer + 1, len(ordered))


def triangles() -> tuple[np.ndarray, np.ndarray]:
    points = np.random.default_rng(0).random((30, 2))
    return points, Delaunay(points).simplices


LAYOUT = {"variables": {"T": {"path": "T", "axes": ["cell"], "file": "a.dat.h5"}}, "fluent_case": "a.cas.h5"}


def test_triangles_have_their_centroids_and_areas(tmp_path: Path) -> None:
    points, cells = triangles()
    written(tmp_path / "a.cas.h5", points, faces_of(cells, [[0, 1], [1, 2], [2, 0]]), len(cells))
    with h5py.File(tmp_path / "a.dat.h5", "w") as file:
        file["T"] = np.arange(len(cells), dtype=float)
    ds = open_snapshots(tmp_path, Mapping.model_validate(LAYOUT))
    assert positions_of(ds, "cell") == ("x", "y")
    corners = points[cells]
    np.testing.assert_allclose(np.stack([ds["x"], ds["y"]], -1), corners.mean(1), atol=1e-12)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    np.testing.assert_allclose(volumes_of(ds, "cell"), abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2)


def test_cells_may_be_the_samples(tmp_path: Path) -> None:
    points, cells = triangles()
    written(tmp_path / "a.cas.h5", points, faces_of(cells, [[0, 1], [1, 2], [2, 0]]), len(cells))
    with h5py.File(tmp_path / "a.dat.h5", "w") as file:
        file["T"] = np.arange(len(cells), dtype=float)
    ds = open_snapshots(tmp_path, Mapping.model_validate(LAYOUT | {"sample": "cell"}))
    assert ds["x"].dims == ds["y"].dims == ds["volume"].dims == ("sample",)


def test_boxes_in_space_have_their_middles_and_volumes() -> None:
    lines = [np.cumsum(np.random.default_rng(axis).random(4) + 0.1) for axis in range(3)]
    points = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, 3)
    number = np.arange(64).reshape(4, 4, 4)
    cells, boxes = [], []
    for i, j, k in itertools.product(range(3), repeat=3):
        cells.append(number[i : i + 2, j : j + 2, k : k + 2].ravel())
        boxes.append([(lines[axis][at], lines[axis][at + 1]) for axis, at in enumerate((i, j, k))])
    sides = [[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]]
    faces = faces_of(np.array(cells), sides)
    both = np.array([[own[0], own[1] if len(own) > 1 else -1] for own in faces.values()]).T
    corners = np.array([node for nodes in faces for node in nodes])
    centres, volumes = cells_of_faces(points, corners, np.full(len(faces), 4), both, len(cells))
    np.testing.assert_allclose(centres, np.array(boxes).mean(2), atol=1e-12)
    np.testing.assert_allclose(volumes, np.ptp(np.array(boxes), axis=2).prod(1))


def test_a_case_that_does_not_belong_to_the_data_is_refused(tmp_path: Path) -> None:
    points, cells = triangles()
    written(tmp_path / "a.cas.h5", points, faces_of(cells, [[0, 1], [1, 2], [2, 0]]), len(cells))
    with h5py.File(tmp_path / "a.dat.h5", "w") as file:
        file["T"] = np.arange(3.0)
    with pytest.raises(DataError, match=f"has {len(cells)} cells, the data have"):
        open_snapshots(tmp_path, Mapping.model_validate(LAYOUT))
    with pytest.raises(DataError, match=r"a\.dat\.h5: holds no mesh of Fluent"):
        open_snapshots(tmp_path, Mapping.model_validate(LAYOUT | {"fluent_case": "a.dat.h5"}))
