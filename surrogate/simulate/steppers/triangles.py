"""Steady problems on triangles: meshes between an obstacle and a box, and linear finite elements by scikit-fem."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surrogate.errors import ConfigError
from surrogate.simulate.equation import Array

__all__ = ["Ellipse", "Triangles", "mesh_around", "solve_laplace"]

GROWTH = 1.5  # logarithm of the ratio of the widths of the outermost and the innermost ring
STEPS = 60  # of Newton's method for distances, which converges from one side


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in the plane.

    Arguments:
        x: Its centre along x.
        y: Its centre along y.
        a: One semi-axis.
        b: The other one.
        angle: Angle of the semi-axis `a` with the x axis.
    """

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0

    @property
    def centre(self) -> Array:
        return np.array([self.x, self.y])

    def radius(self, direction: Array) -> Array:
        r"""Return the distance of the ellipse from its centre along directions :math:`\theta` from the x axis.

        .. math:: \rho(\theta) = a b / \sqrt{b^2 \cos^2(\theta - \phi) + a^2 \sin^2(\theta - \phi)}
        """
        turned = direction - self.angle
        return np.asarray(self.a * self.b / np.hypot(self.b * np.cos(turned), self.a * np.sin(turned)))

    def distance(self, points: Array) -> Array:
        r"""Return the distances (N,) of points (N, 2) on or outside of the ellipse.

        The nearest point to (p, q), in the frame of the ellipse, is :math:`(a^2 p / (t + a^2), b^2 q / (t + b^2))`
        with the root :math:`t \ge 0` of :math:`(a p / (t + a^2))^2 + (b q / (t + b^2))^2 = 1`, to which Newton's method
        rises from 0, the left side being convex and decreasing.

        Source: D. Eberly, *Distance from a Point to an Ellipse, an Ellipsoid, or a Hyperellipsoid*, 2013, section 2.
        """
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        own = (points - self.centre) @ np.array([[cos, -sin], [sin, cos]])
        squares = np.array([self.a, self.b]) ** 2
        t = np.zeros((len(points), 1))
        for _ in range(STEPS):
            terms = squares * own**2 / (t + squares) ** 2
            excess, slope = terms.sum(1, keepdims=True) - 1, (-2 * terms / (t + squares)).sum(1, keepdims=True)
            t = np.maximum(t - excess / slope, 0.0)
        return np.asarray(np.linalg.norm(own * t / (t + squares), axis=1))


@dataclass(frozen=True)
class Triangles:
    """A mesh of the plane between a closed curve and the walls of a box.

    Arguments:
        points: Positions (x, y), with shape (N, 2); those on the curve first, those on the walls last.
        cells: Corners of the triangles, counterclockwise, with shape (E, 3).
        rays: Number of points on the curve, and on the walls.
    """

    points: Array
    cells: NDArray[np.int64]
    rays: int

    @property
    def volumes(self) -> Array:
        """Return a third of the areas of the triangles at each point: weights (N,) that integrate linear functions."""
        (ax, ay), (bx, by), (cx, cy) = np.moveaxis(self.points[self.cells], (1, 2), (0, 1))
        areas = ((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2
        return np.asarray(np.bincount(self.cells.ravel(), areas.repeat(3) / 3, len(self.points)), dtype=np.float64)


def mesh_around(hole: Ellipse, rings: int, rays: int, low: Array, high: Array) -> Triangles:
    """Return triangles between an ellipse and the box around it, on rays from the centre of the ellipse to the walls.

    The rays end at equal distances along each wall, corners included, and have `rings` intervals that grow outwards.
    Meshes of twice as many rings and rays have all of these points among theirs.

    Arguments:
        hole: The ellipse, within the box.
        rings: Number of intervals along each ray.
        rays: Number of rays, divisible by 4.
        low: Lower corner (x, y) of the box.
        high: Upper corner of the box.

    Raises:
        ConfigError: The ellipse is not within the box.
    """
    t = np.linspace(-1.0, 1.0, rays // 4, endpoint=False)
    one = np.ones_like(t)
    square = np.concatenate([np.stack(side, -1) for side in ((one, t), (-t, one), (-one, -t), (t, -one))])
    walls = np.where(square < 0, low, high) * abs(square) + (low + high) / 2 * (1 - abs(square))
    arms = walls - hole.centre
    far, direction = np.hypot(*arms.T), np.arctan2(arms[:, 1], arms[:, 0])
    near = hole.radius(direction)
    if (hole.centre <= low).any() or (hole.centre >= high).any() or (near >= far).any():
        raise ConfigError(
            f"the obstacle at ({hole.x:.3g}, {hole.y:.3g}) with semi-axes {hole.a:.3g} and {hole.b:.3g} reaches the "
            "walls; narrow the ranges of centre_x, centre_y, semi_axis_a and semi_axis_b"
        )
    share = np.expm1(GROWTH * np.linspace(0.0, 1.0, rings + 1)) / np.expm1(GROWTH)
    points = hole.centre + ((1 - share[:, None]) * near / far + share[:, None])[..., None] * arms
    points[-1] = walls
    first = np.arange(rings * rays).reshape(rings, rays)
    a, b, c, d = first, first + rays, np.roll(first, -1, 1) + rays, np.roll(first, -1, 1)
    even = ((np.arange(rings)[:, None] + np.arange(rays)) % 2 == 0)[..., None]
    triangles = ((a, b, c), (a, b, d)), ((a, c, d), (b, c, d))
    halves = [np.where(even, np.stack(one, -1), np.stack(other, -1)) for one, other in triangles]
    return Triangles(points.reshape(-1, 2), np.concatenate(halves).reshape(-1, 3), rays)


def solve_laplace(mesh: Triangles, fixed: NDArray[np.int64], values: Array) -> Array:
    r"""Solve :math:`-\Delta u = 0` by linear finite elements, of order 2; no flux passes the rest of the boundary.

    Arguments:
        mesh: The triangles.
        fixed: Numbers of the points where u is given, n of them.
        values: u there, with shape (n,).

    Returns:
        u at all points, with shape (N,).

    Raises:
        ConfigError: scikit-fem is not installed.
    """
    if importlib.util.find_spec("skfem") is None:
        raise ConfigError(
            "problems on triangles need the package scikit-fem, which is not installed; "
            "pip install 'slim-surrogate[mesh]'"
        )
    fem: Any = importlib.import_module("skfem")
    basis = fem.Basis(fem.MeshTri(*map(np.ascontiguousarray, (mesh.points.T, mesh.cells.T))), fem.ElementTriP1())
    given = np.zeros(len(mesh.points))
    given[fixed] = values
    stiffness = fem.asm(importlib.import_module("skfem.models.poisson").laplace, basis)
    return np.asarray(fem.solve(*fem.condense(stiffness, x=given, D=fixed)))
