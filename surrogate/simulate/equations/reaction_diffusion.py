"""Reaction and diffusion of an activator and an inhibitor: the FitzHugh-Nagumo equations of PDEBench."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from surrogate.simulate.equation import Array, Description, Evolution, Grid, Member, Quantity
from surrogate.simulate.initial import MODES, smooth_field, white_noise
from surrogate.simulate.steppers.rkc import RKC2
from surrogate.simulate.steppers.stencils import Laplacian, largest

__all__ = ["fitzhugh_nagumo", "reaction_diffusion"]

TOLERANCE = 3e-5


def fitzhugh_nagumo(
    parameters: Mapping[str, Tensor], grid: Grid, interval: float, *, tolerance: float = TOLERANCE
) -> RKC2:
    """Return a stepper of the FitzHugh-Nagumo equations.

        u_t = Du lap u + u - u^3 - k - v,    v_t = Dv lap v + u - v

    Arguments:
        parameters: `activator_diffusivity`, `inhibitor_diffusivity` and `k`, each with shape (B, 1, 1...).
        grid: The grid of *S.
        interval: Time between snapshots.
        tolerance: Largest error of a step, relative to the largest value of the channel.
    """
    diffusivity = torch.cat([parameters["activator_diffusivity"], parameters["inhibitor_diffusivity"]], dim=1)
    columns = {"diffusivity": diffusivity, "k": parameters["k"]}
    stiffness = 4.0 * sum(1.0 / h**2 for h in grid.spacing)

    laplacian = Laplacian(grid.spacing, grid.boundary)

    def rate(w: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        result = laplacian(w, p["diffusivity"])
        (work,) = laplacian.work(w, 1)
        u, v, difference, square = w[:, :1], w[:, 1:], work[:, :1], work[:, 1:]
        torch.sub(u, v, out=difference)
        torch.mul(u, u, out=square)
        result.add_(difference)
        result[:, :1].addcmul_(square, u, value=-1.0).sub_(p["k"])
        return result

    def radius(w: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        """Bound diffusion, and |1 - 3 u^2| + 1 of the reaction."""
        return p["diffusivity"].flatten(1).amax(dim=1) * stiffness + 3.0 * largest(w[:, :1]).square() + 2.0

    return RKC2(rate, radius, columns, interval, tolerance=tolerance)


def _draw(values: Mapping[str, float | Array], grid: Grid, rng: np.random.Generator) -> Member:
    """Draw white noise in every cell, or a smooth field for each channel where the correlation length is above zero."""
    length = float(values["correlation_length"])
    if length == 0:
        return Member(dict(values), white_noise(grid, 2, rng))
    return Member(dict(values), np.stack([smooth_field(grid, length, rng) for _ in range(2)]))


_RANGES = {
    "activator_diffusivity": Quantity("1", "diffusivity Du of the activator"),
    "inhibitor_diffusivity": Quantity("1", "diffusivity Dv of the inhibitor"),
    "k": Quantity("1", "threshold k of the activator"),
    "correlation_length": Quantity("1", "correlation length of the initial fields; 0 is white noise"),
}

reaction_diffusion = Evolution(
    name="reaction_diffusion",
    description=Description(
        formula="u_t = Du lap u + u - u^3 - k - v\nv_t = Dv lap v + u - v",
        boundary="no flux through the walls (or periodic, with `boundary: periodic`)",
        initial=(
            "correlation length 0: independent normal numbers N(0, 1) in every cell for u and v, as in PDEBench; above "
            "0: random sums of cosines below the 9th order with a root mean square of 1"
        ),
        scheme=(
            "Cell-centred finite volumes of order 2. In time a stabilised explicit Runge-Kutta-Chebyshev method of "
            "order 2 (RKC2) with error control: each simulation has its own steps, which hit the snapshots exactly."
        ),
        invariants="without reaction the means of u and v are conserved to rounding",
        source=(
            "the 2D diffusion-reaction problem of PDEBench (Takamoto et al., NeurIPS 2022), made here anew; its files "
            "differ in the random numbers"
        ),
    ),
    fields={"u": Quantity("1", "activator"), "v": Quantity("1", "inhibitor")},
    ranges=_RANGES,
    recorded=lambda axes: _RANGES,
    points=2 * MODES + 2,
    draw=_draw,
    stepper=lambda parameters, grid, step, numerics: fitzhugh_nagumo(
        numerics.columns(parameters, grid), grid, step, tolerance=numerics.allowed(TOLERANCE)
    ),
    boundaries=("no_flux", "periodic"),
    length_units="1",
    time_units="1",
)
