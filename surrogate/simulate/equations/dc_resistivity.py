"""Direct-current resistivity: surface voltages above a buried ellipsoid."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.interpolate import RectBivariateSpline
from scipy.special import erf

from surrogate.simulate.equation import Array, Coordinate, Description, Grid, Map, Member, Quantity
from surrogate.simulate.steppers.steady import diffusion_matrix, solve_sparse

__all__ = ["conductivity", "dc_resistivity"]

RECEIVERS = 21  # along each axis
SPREAD = (0.25, 0.75)  # of the receivers, in shares of the box
DIPOLE = 0.04  # length of a receiver
CONTRAST = np.log(10.0)
SEMI_AXES = (0.7, 1.0, 2.0)  # z, y, x before the turn, in units of the radius
EDGE = 0.15  # width of the rim of the ellipsoid, in units of the radius
ELECTRODES = ((0.5, 0.15, 1.0), (0.5, 0.85, -1.0))  # y, x, current in ampere
ELECTRODE_WIDTH = 0.05


def conductivity(depth: float, radius: float, angle: float, grid: Grid) -> Array:
    """Return the conductivity of the ground in S/m, with shape (*S).

        log m = log(10) / (1 + exp((rho(x; y) - 1) / 0.15))

    where rho is 1 on an ellipsoid with semi-axes radius * (0.7, 1, 2) along (z, y, x), turned about z by the angle,
    below the middle of the surface.
    """
    z, y, x = np.meshgrid(*grid.coordinates.values(), indexing="ij")
    y, x = y - 0.5 * grid.lengths[1], x - 0.5 * grid.lengths[2]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    scaled = [a / (radius * s) for a, s in zip((z - depth, across, along), SEMI_AXES, strict=True)]
    rho = np.sqrt(sum(a**2 for a in scaled))
    return np.asarray(np.exp(CONTRAST / (1.0 + np.exp(np.minimum((rho - 1.0) / EDGE, 50.0)))))


def _source(grid: Grid) -> Array:
    """Return cell averages of the current density of the electrodes, which are Gaussians at the surface."""
    width, density = ELECTRODE_WIDTH * np.sqrt(2.0), np.zeros(grid.shape)
    for place_y, place_x, current in ELECTRODES:
        z, y, x = (
            np.diff(erf((np.linspace(0.0, length, points + 1) - place) / width))
            for points, length, place in zip(grid.shape, grid.lengths, (0.0, place_y, place_x), strict=True)
        )
        share = np.einsum("z,y,x->zyx", z, y, x)
        density += current * share / (share.sum() * np.prod(grid.spacing))
    return density


def _positions(length: float) -> Array:
    return np.asarray(length * np.linspace(*SPREAD, RECEIVERS))


def _voltages(parameters: Mapping[str, Array], number: int, grid: Grid) -> Array:
    """Return the voltages of one member at the receivers, with shape (2, 21, 21).

    No flux passes the surface, so u = u_0 + a z^2 there, which the two uppermost cell centres determine; a cubic spline
    goes through these values.
    """
    depth, radius, angle = (float(parameters[name][number]) for name in _RANGES)
    ground = conductivity(depth, radius, angle, grid)
    walls = ((False, True), (True, True), (True, True))
    potential = solve_sparse(diffusion_matrix(ground, grid, walls), _source(grid).ravel()).reshape(grid.shape)
    y, x, half = _positions(grid.lengths[1]), _positions(grid.lengths[2]), 0.5 * DIPOLE
    _, centres_y, centres_x = grid.coordinates.values()
    surface = RectBivariateSpline(centres_y, centres_x, (9.0 * potential[0] - potential[1]) / 8.0, s=0)
    return np.stack([surface(y + half, x) - surface(y - half, x), surface(y, x + half) - surface(y, x - half)])


_RANGES = {
    "depth": Quantity("m", "depth of the centre of the ellipsoid"),
    "radius": Quantity("m", "radius of the ellipsoid"),
    "angle": Quantity("rad", "angle of its long axis with the x axis"),
}

dc_resistivity = Map(
    name="dc_resistivity",
    description=Description(
        formula="-div(m(x; y) grad u) = q        data: differences of u between neighbouring points of the surface",
        boundary="no flux through the surface z = 0; u = 0 on the other five walls",
        initial="none, the problem is steady",
        scheme=(
            "Cell-centred finite volumes of order 2 with harmonic means on the faces, exact cell averages of the "
            "electrodes; sparse direct factorisation, solved in double precision. Receivers read a cubic spline "
            "through the surface values above the uppermost cells."
        ),
        invariants="the current through the grounded walls is that of the electrodes, which add up to 0",
        constants=(
            "log m = log 10 / (1 + exp((rho - 1) / 0.15)), rho = 1 on an ellipsoid below (0.5, 0.5) with semi-axes "
            "radius "
            "* (2, 1, 0.7) along (x, y, z), turned about z by the angle; electrodes of +1 A at (x, y) = (0.15, 0.5) "
            "and -1 "
            f"A at (0.85, 0.5), Gaussians of width {ELECTRODE_WIDTH:g} m at the surface; {RECEIVERS} x {RECEIVERS} "
            f"receivers "
            f"on [0.25, 0.75]^2, each two dipoles of length {DIPOLE:g} m along y and x: {2 * RECEIVERS**2} data"
        ),
        source=(
            "like the DCR problem of *Train like a (Var)Pro* (Newman, Ruthotto, Hart, van Bloemen Waanders, 2020): 3 "
            "parameters of a buried ellipsoid to 882 surface data. The authors' file is not public; geometry and "
            "coefficients here are our own, so these are DCR-like data"
        ),
    ),
    fields={"voltage_y": Quantity("V", "voltage along y"), "voltage_x": Quantity("V", "voltage along x")},
    ranges=_RANGES,
    recorded=lambda axes: _RANGES,
    points=8,
    draw=lambda values, grid, rng: Member(dict(values), np.empty(0)),
    solve=lambda parameters, grid: np.stack(
        [_voltages(parameters, number, grid) for number in range(len(parameters["depth"]))]
    ),
    outputs=lambda grid: {
        axis: Coordinate(_positions(length), "m", f"position along {axis}")
        for axis, length in zip(("y", "x"), grid.lengths[1:], strict=True)
    },
    dimensions=(3,),
    boundaries=("no_flux",),
)
