"""Equations of the user, from a right-hand side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from surrogate.errors import ConfigError, did_you_mean
from surrogate.simulate.equation import Array, Description, Evolution, Grid, Member, Numerics, Quantity, Stepper
from surrogate.simulate.steppers.basis import Symbols
from surrogate.simulate.steppers.choice import ChosenIntegrator
from surrogate.simulate.steppers.etdrk4 import AdaptiveETDRK4, Linear

__all__ = ["own_equation", "semilinear_stepper"]

RightHandSide = Callable[[Tensor, Mapping[str, Tensor], Grid], Tensor]
Initial = Callable[[Grid, Mapping[str, float | Array], np.random.Generator], Array]
Symbol = NDArray[Any]
LinearPart = Callable[[Symbols, Mapping[str, Array]], Symbol | Sequence[Symbol]]
Integrator = Literal["auto", "rkc2", "ssprk3", "dopri5", "etdrk4"]
INTEGRATORS = ("auto", "rkc2", "ssprk3", "dopri5", "etdrk4")
TOLERANCE = 1e-6


def own_equation(
    name: str,
    right_hand_side: RightHandSide,
    initial: Initial,
    *,
    fields: Mapping[str, Quantity],
    parameters: Mapping[str, Quantity],
    description: Description,
    boundary: str = "periodic",
    integrator: Integrator = "auto",
    linear: LinearPart | None = None,
    tolerance: float | None = None,
    points: int = 4,
    length_units: str = "m",
    time_units: str = "s",
) -> Evolution:
    """Make an equation du/dt = f(u), or du/dt = L u + N(u), that recipes can name once it is registered.

    Steps in time adapt to each simulation by itself. The integrators:

    - "auto": etdrk4 where `linear` is given; else dopri5, rkc2 or ssprk3, by the eigenvalues of df/du at the start.
    - "rkc2": stabilised explicit method of order 2 with error control, for eigenvalues near the negative real axis:
      diffusion and mild reaction.
    - "dopri5": explicit method of order 5 with error control, for equations that oscillate or are not stiff.
    - "ssprk3": explicit method of order 3 without error control, 0.8 of the longest stable step: shocks and waves.
    - "etdrk4": exponential method of order 4 with error control, exact in the linear part L: stiff linear parts of any
      kind, on a periodic box or between walls without flux.

    A simulation whose integrator would be unstable or take too many steps is given up with a sentence.

    Arguments:
        name: Its name.
        right_hand_side: f(u, parameters, grid), or N(u) where `linear` is given, for fields (B, C, *S) and parameters
            of shape (B, 1, 1...). Members must not influence one another.
        initial: Initial fields (C, *S) of one member from the grid, its parameters and its random generator.
        fields: The C fields.
        parameters: The parameters, for each of which a recipe gives a range.
        description: The sentences of the card.
        boundary: "periodic", "no_flux" or "dirichlet": the place of the grid points, and the walls of derivatives that
            are given none.
        integrator: One of those above.
        linear: The symbol of L from the symbols d of derivatives and the parameters (B, 1, 1...), for example
            `lambda d, p: -d(2) - p["nu"] * d(4)`; a sequence of C symbols where the fields differ.
        tolerance: Largest error of a step, relative to the largest value of the channel; without it 1e-6, for rkc2,
            which takes more steps, 1e-7. The error of a snapshot is the sum of those of the steps before it, as far as
            the equation lets them grow.
        points: Smallest number of grid points along an axis.
        length_units: Units of positions.
        time_units: Units of time.

    Raises:
        ConfigError: There is no such integrator, or `linear` does not go with it.
    """
    if integrator not in INTEGRATORS:
        raise ConfigError(f"equation {name}: no integrator '{integrator}'; {did_you_mean(integrator, INTEGRATORS)}")
    if integrator == "etdrk4" and linear is None:
        raise ConfigError(f"equation {name}: etdrk4 needs the symbol of the linear part; give `linear`")
    if linear is not None and integrator not in ("auto", "etdrk4"):
        raise ConfigError(
            f"equation {name}: {integrator} takes no separate linear part; put it into the right-hand side, or "
            "choose etdrk4"
        )

    def draw(values: Mapping[str, float | Array], grid: Grid, rng: np.random.Generator) -> Member:
        fields_at_start = np.asarray(initial(grid, values, rng), dtype=np.float64)
        if fields_at_start.shape != (len(fields), *grid.shape):
            raise ConfigError(
                f"equation {name}: the initial fields have shape {fields_at_start.shape}, expected "
                f"{(len(fields), *grid.shape)}: (fields, *grid)"
            )
        return Member(dict(values), fields_at_start)

    def stepper(values: Mapping[str, Array], grid: Grid, step: float, numerics: Numerics) -> Stepper:
        def rate(u: Tensor, p: Mapping[str, Tensor]) -> Tensor:
            result = right_hand_side(u, p, grid)
            if result.shape != u.shape:
                raise ConfigError(
                    f"equation {name}: the right-hand side of fields {tuple(u.shape)} has shape {tuple(result.shape)}; "
                    "it must have that of the fields"
                )
            return result

        if linear is not None:
            return semilinear_stepper(rate, linear, values, grid, step, numerics, tolerance or TOLERANCE)
        columns = numerics.columns(values, grid)
        return ChosenIntegrator(
            rate,
            columns,
            step,
            numerics=numerics,
            tolerance=tolerance,
            integrator=integrator,  # type: ignore[arg-type]
        )

    return Evolution(
        name=name,
        description=description,
        fields=fields,
        ranges=parameters,
        recorded=lambda axes: dict(parameters),
        points=points,
        draw=draw,
        stepper=stepper,
        boundaries=(boundary,),
        length_units=length_units,
        time_units=time_units,
    )


def semilinear_stepper(
    nonlinear: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
    linear: LinearPart,
    values: Mapping[str, Array],
    grid: Grid,
    interval: float,
    numerics: Numerics,
    tolerance: float,
) -> AdaptiveETDRK4:
    """Return a stepper of du/dt = L u + N(u) by exponential integration with error control.

    Arguments:
        nonlinear: N(u, parameters) for fields (B, C, *S) and parameters (B, 1, 1...).
        linear: The symbol of L, as for `own_equation`.
        values: Parameters of the members, each with shape (B,).
        grid: The grid of *S, periodic or without flux.
        interval: Time between snapshots.
        numerics: Type and device of the fields, refinement of the steps, and the tolerance of a recipe.
        tolerance: Largest error of a step where no recipe gives it, relative to the largest value of the channel.
    """
    columns = {key: column.reshape(-1, *(1,) * (1 + len(grid.shape))) for key, column in values.items()}
    symbol = linear(Symbols(grid), columns)
    symbols = [symbol] if isinstance(symbol, np.ndarray) else list(symbol)
    symbols = [part if part.ndim > len(grid.shape) else part[None, None] for part in symbols]
    members = max(len(part) for part in symbols)
    shapes = np.broadcast_shapes(*(part.shape[2:] for part in symbols))
    stacked = np.concatenate([np.broadcast_to(part, (members, 1, *shapes)) for part in symbols], axis=1)
    return AdaptiveETDRK4(
        nonlinear,
        Linear(stacked, grid, numerics),
        numerics.columns(values, grid),
        interval,
        tolerance=numerics.allowed(tolerance, order=4),
    )
