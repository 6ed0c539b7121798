"""Equations of the user, from a right-hand side."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from surrogate.simulate.equation import Array, Description, Evolution, Grid, Member, Numerics, Quantity, Stepper
from surrogate.simulate.steppers.rkc import RKC2, power_radius

__all__ = ["own_equation"]

RightHandSide = Callable[[Tensor, Mapping[str, Tensor], Grid], Tensor]
Initial = Callable[[Grid, Mapping[str, float | Array], np.random.Generator], Array]
TOLERANCE = 1e-4


def own_equation(
    name: str,
    right_hand_side: RightHandSide,
    initial: Initial,
    *,
    fields: Mapping[str, Quantity],
    parameters: Mapping[str, Quantity],
    description: Description,
    boundary: str = "periodic",
    tolerance: float = TOLERANCE,
) -> Evolution:
    """Make an equation du/dt = f(u) that recipes can name once it is registered.

    It is integrated by a stabilised explicit method with error control, which suits diffusion and mild reaction; the
    stiffness is estimated with the right-hand side itself.

    Arguments:
        name: Its name.
        right_hand_side: f(u, parameters, grid) for fields (B, C, *S) and parameters of shape (B, 1, 1...). Members must
            not influence one another.
        initial: Initial fields (C, *S) of one member from the grid, its parameters and its random generator.
        fields: The C fields.
        parameters: The parameters, for each of which a recipe gives a range.
        description: What the card says.
        boundary: "periodic", "no_flux" or "dirichlet": where the grid points lie.
        tolerance: Largest error of a step, relative to the largest value of the channel.
    """

    def draw(values: Mapping[str, float | Array], grid: Grid, rng: np.random.Generator) -> Member:
        return Member(dict(values), np.asarray(initial(grid, values, rng), dtype=np.float64))

    def stepper(values: Mapping[str, Array], grid: Grid, step: float, numerics: Numerics) -> Stepper:
        def rate(u: Tensor, p: Mapping[str, Tensor]) -> Tensor:
            return right_hand_side(u, p, grid)

        columns = numerics.columns(values, grid)
        return RKC2(rate, power_radius(rate), columns, step, tolerance=numerics.allowed(tolerance))

    return Evolution(
        name=name,
        description=description,
        fields=fields,
        ranges=parameters,
        recorded=lambda axes: dict(parameters),
        points=4,
        draw=draw,
        stepper=stepper,
        boundaries=(boundary,),
    )
