"""Steady temperature around a hot obstacle of any place and shape, on a mesh of its own for every simulation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from surrogate.simulate.equation import Array, Coordinate, Description, Grid, Map, Member, Quantity
from surrogate.simulate.steppers.triangles import Ellipse, Triangles, mesh_around, solve_laplace

__all__ = ["obstacle", "obstacle_fields", "obstacle_mesh"]

HOT, COLD = 1.0, 0.0  # temperature of the obstacle, and of the walls on the left and the right
PARTS = 8  # of the rings and of the rays of a grid, of which each simulation takes some
INSIDE, ON_OBSTACLE, ON_COLD, ON_INSULATED = range(4)


def _largest(grid: Grid) -> tuple[int, int]:
    """Return the largest number of rings and of rays, rounded down to multiples of 8 and 32."""
    rings, rays = grid.shape
    return max(rings // PARTS, 1) * PARTS, max(rays // (4 * PARTS), 1) * 4 * PARTS


def obstacle_mesh(parameters: Mapping[str, float | Array], grid: Grid) -> Triangles:
    """Return the mesh of a member: the larger its obstacle the more rays, the farther from the middle the more rings.

    Raises:
        ConfigError: The obstacle reaches the walls.
    """
    ellipse = Ellipse(*(float(parameters[name]) for name in _RANGES))
    (length_y, length_x), (low_y, low_x) = grid.lengths, grid.origin or (0.0, 0.0)
    low, lengths = np.array([low_x, low_y]), np.array([length_x, length_y])
    size = (ellipse.a + ellipse.b) / lengths.mean()  # 0.15 to 0.4 in the recipe
    aside = float(abs((ellipse.centre - low) / lengths - 0.5).max())  # 0 to 0.2
    rings, rays = _largest(grid)
    more_rays, more_rings = int(np.clip(np.ceil(20 * size), 5, PARTS)), int(np.clip(np.ceil(10 * aside), 0, 2)) + 6
    return mesh_around(ellipse, rings // PARTS * more_rings, rays // PARTS * more_rays, low, low + lengths)


def _meshes(parameters: Mapping[str, Array], grid: Grid) -> list[Triangles]:
    columns = [parameters[name] for name in _RANGES]
    return [obstacle_mesh(dict(zip(_RANGES, own, strict=True)), grid) for own in zip(*columns, strict=True)]


def _draw(values: Mapping[str, float | Array], grid: Grid, rng: np.random.Generator) -> Member:
    obstacle_mesh(values, grid)  # refuses an obstacle that reaches the walls
    return Member(dict(values), np.empty(0))


def obstacle_fields(mesh: Triangles, ellipse: Ellipse) -> Array:
    """Return temperature, distance and mark of the boundary at the points of a mesh, with shape (3, N)."""
    x = mesh.points[:, 0]
    mark = np.full(len(x), INSIDE)
    wall = np.arange(len(x)) >= len(x) - mesh.rays
    mark[wall] = np.where(np.isin(x[wall], (x.min(), x.max())), ON_COLD, ON_INSULATED)
    mark[: mesh.rays] = ON_OBSTACLE
    fixed = np.flatnonzero((mark == ON_OBSTACLE) | (mark == ON_COLD))
    temperature = solve_laplace(mesh, fixed, np.where(mark[fixed] == ON_OBSTACLE, HOT, COLD))
    return np.stack([temperature, ellipse.distance(mesh.points), mark])


def _solve(parameters: Mapping[str, Array], grid: Grid) -> Array:
    """Return the fields of members, with shape (B, 3, points); NaN where a member has no such point."""
    meshes = _meshes(parameters, grid)
    data = np.full((len(meshes), 3, _points(grid)), np.nan)
    for number, mesh in enumerate(meshes):
        ellipse = Ellipse(*(float(parameters[name][number]) for name in _RANGES))
        data[number, :, : len(mesh.points)] = obstacle_fields(mesh, ellipse)
    return data


def _points(grid: Grid) -> int:
    rings, rays = _largest(grid)
    return (rings + 1) * rays


def _geometry(parameters: Mapping[str, Array], grid: Grid) -> dict[str, xr.Variable]:
    """Return places, volumes and cells of members; NaN and -1 where a member has none."""
    meshes, (rings, rays) = _meshes(parameters, grid), _largest(grid)
    points = np.full((3, len(meshes), _points(grid)), np.nan)
    cells = np.full((len(meshes), 2 * rings * rays, 3), -1, np.int32)
    for number, mesh in enumerate(meshes):
        points[:, number, : len(mesh.points)] = [*mesh.points.T, mesh.volumes]
        cells[number, : len(mesh.cells)] = mesh.cells
    about = {
        "x": {"units": "m", "long_name": "position along x"},
        "y": {"units": "m", "long_name": "position along y"},
        "volume": {"units": "m2", "long_name": "area that a point represents"},
    }
    corners = {"units": "1", "long_name": "points at the corners of every triangle, -1 for none"}
    places = {
        name: xr.Variable(("sample", "point"), values, own)
        for (name, own), values in zip(about.items(), points, strict=True)
    }
    return places | {"cells": xr.Variable(("sample", "element", "corner"), cells, corners)}


_RANGES = {
    "centre_x": Quantity("m", "position of the obstacle along x"),
    "centre_y": Quantity("m", "position of the obstacle along y"),
    "semi_axis_a": Quantity("m", "one semi-axis of the obstacle"),
    "semi_axis_b": Quantity("m", "the other semi-axis"),
    "angle": Quantity("rad", "angle of semi-axis a with the x axis"),
}

obstacle = Map(
    name="obstacle",
    description=Description(
        formula="-div(grad u) = 0 between an ellipse and the walls of a box",
        boundary=(
            f"u = {HOT:g} K on the obstacle, u = {COLD:g} K on the walls at the ends of x, no flux through those at "
            "the ends of y"
        ),
        initial="none, the problem is steady",
        scheme=(
            "Linear finite elements of scikit-fem on triangles, of order 2; sparse direct solution in double "
            "precision. Each simulation has its own mesh: rays from the centre of the obstacle to the walls, with "
            "intervals that grow outwards. `grid` is the largest number of intervals along a ray and of rays, rounded "
            "down to multiples of 8 and 32; a simulation has 6 to 8 eighths of the one and 5 to 8 eighths of the "
            "other, more where the obstacle is far from the middle or large. The rest of the axis `point` is NaN."
        ),
        invariants="u is between its values on the boundary; what flows out of the obstacle flows into the cold walls",
        constants=(
            f"`boundary` marks points: {ON_OBSTACLE} on the obstacle, {ON_COLD} on the cold walls, {ON_INSULATED} on "
            f"the insulated walls, {INSIDE} elsewhere"
        ),
        source=(
            "a standard problem; the elements are verified against harmonic functions around an ellipse in closed form"
        ),
    ),
    fields={
        "temperature": Quantity("K", "temperature"),
        "distance": Quantity("m", "distance from the obstacle"),
        "boundary": Quantity("1", "mark of the boundary"),
    },
    ranges=_RANGES,
    recorded=lambda axes: _RANGES,
    points=8,
    draw=_draw,
    solve=_solve,
    outputs=lambda grid: {"point": Coordinate(np.arange(_points(grid), dtype=float), "1", "number of the point")},
    geometry=_geometry,
    dimensions=(2,),
    boundaries=("heated",),
)
