"""Viscous Burgers equation in conservation form."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from surrogate.simulate.equation import Description, Evolution, Grid, Member, Quantity
from surrogate.simulate.initial import MODES, smooth_field
from surrogate.simulate.steppers.ssprk import SSPRK3
from surrogate.simulate.steppers.stencils import Laplacian, divergence, face_values, largest

__all__ = ["burgers", "viscous_burgers"]

COURANT = 0.6


def viscous_burgers(
    parameters: Mapping[str, Tensor], grid: Grid, interval: float, *, courant: float = COURANT
) -> SSPRK3:
    """Return a stepper of the viscous Burgers equation in 1, 2 or 3 dimensions.

        u_t + sum_d (u^2 / 2)_{x_d} = nu lap u

    Convection by WENO values on faces and the local Lax-Friedrichs flux, which makes no new extrema at shocks;
    diffusion by central differences.

    Arguments:
        parameters: `viscosity` nu, with shape (B, 1, 1...).
        grid: The grid of *S, periodic or zero on the walls.
        interval: Time between snapshots.
        courant: Share of the stable step.
    """
    laplacian = Laplacian(grid.spacing, grid.boundary)

    def rate(u: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        fluxes = []
        for axis in range(2, u.ndim):
            lower, upper = face_values(u, axis, grid.boundary)
            speed = torch.maximum(lower.abs(), upper.abs())
            central = (lower.square() + upper.square()).mul_(0.25)
            fluxes.append(central - (upper - lower).mul_(speed).mul_(0.5))
        return laplacian(u, p["viscosity"]).sub_(divergence(fluxes, grid.spacing))

    def limit(u: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        convection = largest(u) * sum(1.0 / h for h in grid.spacing)
        diffusion = p["viscosity"].flatten() * sum(2.0 / h**2 for h in grid.spacing)
        return courant / (convection + diffusion)

    return SSPRK3(rate, limit, parameters, interval)


_RANGES = {
    "viscosity": Quantity("m2 s-1", "viscosity nu"),
    "speed": Quantity("m s-1", "root mean square of the initial field"),
    "correlation_length": Quantity("m", "correlation length of the initial field"),
}

burgers = Evolution(
    name="burgers",
    description=Description(
        formula="u_t + sum_d (u^2 / 2)_{x_d} = nu lap u",
        boundary="periodic, or zero on the walls with `boundary: dirichlet`",
        initial=(
            "a random sum of waves below the 9th order, with Gaussian weights of the given correlation length and a "
            "given root mean square"
        ),
        scheme=(
            "Finite volumes: fifth-order WENO values on the faces with the local Lax-Friedrichs flux for convection, "
            "central differences of order 2 for diffusion; strong-stability-preserving Runge-Kutta of order 3 in time, "
            "each simulation with its own steps, which hit the snapshots exactly. Shocks stay free of oscillations at "
            "any cell Peclet number."
        ),
        invariants=(
            "on a periodic box the mean of u is conserved to rounding; the energy decays; no value leaves the range of "
            "the initial field"
        ),
        source="Burgers (1948); the scheme of Jiang and Shu (1996) and of Shu and Osher (1988)",
    ),
    fields={"u": Quantity("m s-1", "velocity")},
    ranges=_RANGES,
    recorded=lambda axes: _RANGES,
    points=2 * MODES + 2,
    draw=lambda values, grid, rng: Member(
        dict(values), float(values["speed"]) * smooth_field(grid, float(values["correlation_length"]), rng)[None]
    ),
    stepper=lambda parameters, grid, step, numerics: viscous_burgers(
        numerics.columns(parameters, grid), grid, step, courant=COURANT / numerics.refine
    ),
    boundaries=("periodic", "dirichlet"),
)
