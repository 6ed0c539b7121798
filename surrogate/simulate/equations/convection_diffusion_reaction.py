"""Convection, diffusion and reaction with 55 reaction parameters, seen by six sensors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from surrogate.simulate.equation import (
    Array,
    Coordinate,
    Description,
    Evolution,
    Grid,
    Member,
    Numerics,
    Quantity,
)
from surrogate.simulate.steppers.ssprk import SSPRK3
from surrogate.simulate.steppers.stencils import divergence, wall_flux

__all__ = ["PARAMETERS", "SENSORS", "convection_diffusion_reaction", "face_velocities", "reacting_flow"]

COURANT = 0.6
ORDER = 9
MODES = tuple((i, j) for i in range(ORDER + 1) for j in range(ORDER + 1 - i))
PARAMETERS = len(MODES)  # 55
DIFFUSIVITY = 0.02
SPEED = 1.0
SOURCE_PLACE, SOURCE_WIDTH, SOURCE_STRENGTH = (0.3, 0.25), 0.08, 4.0  # (y, x)
SENSORS = ((0.5, 0.5), (0.2, 0.7), (0.7, 0.2), (0.8, 0.8), (0.35, 0.35), (0.6, 0.85))  # (y, x)


@lru_cache(maxsize=8)
def face_velocities(grid: Grid) -> tuple[Array, Array]:
    """Return the velocity through the faces of both axes, from a stream function that is zero on the walls.

        psi = SPEED / pi sin(pi x)^2 sin(pi y)^2,   v_x = d psi / dy,   v_y = -d psi / dx

    Differences of psi between corners: nothing passes the walls, and what enters a cell leaves it, to rounding.
    """
    (ny, nx), (dy, dx) = grid.shape, grid.spacing
    y, x = np.arange(ny + 1)[:, None] / ny, np.arange(nx + 1)[None] / nx
    psi = SPEED / np.pi * np.sin(np.pi * x) ** 2 * np.sin(np.pi * y) ** 2
    return -np.diff(psi, axis=1) / dx, np.diff(psi, axis=0) / dy


def _source(grid: Grid) -> Array:
    """Return the Gaussian source f at the cell centres."""
    y, x = grid.coordinates.values()
    distance = np.add.outer((y - SOURCE_PLACE[0]) ** 2, (x - SOURCE_PLACE[1]) ** 2)
    return SOURCE_STRENGTH * np.exp(-0.5 * distance / SOURCE_WIDTH**2)


def reacting_flow(parameters: Mapping[str, Array], grid: Grid, interval: float, numerics: Numerics) -> SSPRK3:
    """Return a stepper of the convection-diffusion-reaction equation on the unit square.

        u_t = div(D grad u) - v . grad u + f + y' r(u),    r_k(u) = phi_k(x) u / (1 + u^2),
        phi_k = cos(pi i x) cos(pi j y) / (1 + i + j)

    Arguments:
        parameters: `y`, with shape (B, 55).
        grid: The grid of *S.
        interval: Time between snapshots.
        numerics: Type and device of the fields.
    """

    def tensor(values: Array) -> Tensor:
        return torch.from_numpy(values).to(numerics.device, numerics.dtype)

    flow = face_velocities(grid)
    velocities = [tensor(values) for values in flow]
    source = tensor(_source(grid))
    y, x = grid.coordinates.values()
    modes = np.stack([np.multiply.outer(np.cos(np.pi * j * y), np.cos(np.pi * i * x)) / (1 + i + j) for i, j in MODES])
    strengths = [np.einsum("k,kyx->yx", row, modes)[None] for row in parameters["y"]]  # one by one: same bits
    columns = {"reaction": tensor(np.stack(strengths))}
    fastest = sum(float(np.abs(v).max()) / h for v, h in zip(flow, grid.spacing, strict=True))
    slowest = fastest + sum(2.0 * DIFFUSIVITY / h**2 for h in grid.spacing)

    def rate(u: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        fluxes = [
            wall_flux(u, axis, velocity, DIFFUSIVITY / h)
            for axis, (velocity, h) in enumerate(zip(velocities, grid.spacing, strict=True), start=2)
        ]
        reaction = p["reaction"] * u / (u.square() + 1.0)
        return reaction.add_(source).sub_(divergence(fluxes, grid.spacing))

    def limit(u: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        longest = COURANT / numerics.refine / (slowest + p["reaction"].abs().amax(dim=(1, 2, 3)))
        return torch.where(u.flatten(1).isfinite().all(dim=1), longest, torch.nan)

    return SSPRK3(rate, limit, columns, interval)


def _observe(u: Tensor, grid: Grid) -> Tensor:
    """Read the sensors by bilinear interpolation between cell centres, with shape (B, 1, 6)."""
    values = []
    for place in SENSORS:
        below = []  # the cell centre below the sensor along each axis, and the share of the way to the next one
        for position, length, points in zip(place, grid.lengths, grid.shape, strict=True):
            cells = position / length * points - 0.5
            index = min(max(int(cells), 0), points - 2)
            below.append((index, cells - index))
        (j, t), (i, s) = below
        low = u[..., j, i] * (1 - s) + u[..., j, i + 1] * s
        high = u[..., j + 1, i] * (1 - s) + u[..., j + 1, i + 1] * s
        values.append(low * (1 - t) + high * t)
    return torch.stack(values, dim=-1)


_RANGES = {"y": Quantity("s-1", "reaction parameters", dim="parameter", size=PARAMETERS)}

convection_diffusion_reaction = Evolution(
    name="convection_diffusion_reaction",
    description=Description(
        formula="u_t = div(D grad u) - v . grad u + f + sum_k y_k r_k(u)        on (0, 1 m)^2",
        boundary="no flux through the walls",
        initial="u = 0; the first of the 12 times is one twelfth of the final time",
        scheme=(
            "Cell-centred finite volumes: upwind fifth-order WENO values on the faces for convection by a velocity "
            "that "
            "is free of divergence to rounding, central differences of order 2 for diffusion; "
            "strong-stability-preserving Runge-Kutta of order 3. Sensors by bilinear interpolation between cell "
            "centres."
        ),
        invariants="without source and reaction the mean of u is conserved to rounding",
        constants=(
            f"D = {DIFFUSIVITY:g} m2 s-1; v = (d psi/dy, -d psi/dx) with psi = {SPEED:g}/pi sin(pi x)^2 sin(pi y)^2 m2 "
            f"s-1; f = {SOURCE_STRENGTH:g} exp(-|x - x_f|^2 / (2 {SOURCE_WIDTH:g}^2)) s-1 with x_f = "
            f"({SOURCE_PLACE[1]:g}, {SOURCE_PLACE[0]:g}); r_k(u) = cos(pi i x) cos(pi j y) / (1 + i + j) u / (1 + "
            f"u^2), "
            f"k counting the pairs i + j <= {ORDER} with i outermost, which are {PARAMETERS}; sensors at (x, y) = "
            + ", ".join(f"({x:g}, {y:g})" for y, x in SENSORS)
        ),
        source=(
            "like the CDR problem of slimTrain (Newman, Chung, Chung, Ruthotto, SIAM J. Sci. Comput. 44, 2022) and of "
            "*Train like a (Var)Pro* (2020): 55 parameters to 6 sensors at 12 times. The authors' file is not public; "
            "the "
            "coefficients here are our own, so these are CDR-like data and numbers are not comparable with the papers'"
        ),
    ),
    fields={"u": Quantity("1", "concentration at the sensors")},
    ranges=_RANGES,
    recorded=lambda axes: _RANGES,
    points=16,
    draw=lambda values, grid, rng: Member(dict(values), np.zeros((1, *grid.shape))),
    stepper=reacting_flow,
    observe=_observe,
    axes=lambda grid: {"sensor": Coordinate(np.arange(float(len(SENSORS))), "1", "number of the sensor")},
    from_start=False,
    dimensions=(2,),
    boundaries=("no_flux",),
)
