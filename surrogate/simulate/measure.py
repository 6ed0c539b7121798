"""Errors of a data set, measured against finer steps in time and a finer grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surrogate.simulate.ensemble import Ensemble
from surrogate.simulate.equation import Array, Evolution, Grid
from surrogate.simulate.recipe import Recipe

__all__ = ["Errors", "measure_errors", "restrict"]

FINER = 4  # in time
MEMBERS = 3


@dataclass(frozen=True)
class Errors:
    """Relative L2 errors over all data of a few simulations; None where there is no reference.

    Arguments:
        members: Simulations that were compared.
        time: Against steps in time a quarter as long (tolerances smaller by 4^3).
        space: Against a grid with twice as many points along every axis.
    """

    members: int
    time: float | None
    space: float | None


def measure_errors(recipe: Recipe, size: str) -> Errors:
    """Measure the errors of the first simulations of a recipe against finer steps in time and a finer grid.

    The error in space stays None where the initial field has no counterpart on the finer grid, as with white noise.
    """
    plain = Ensemble(recipe, size)
    count = min(MEMBERS, plain.size.simulations)
    base = _run(plain, count)
    evolution = isinstance(plain.equation, Evolution)
    time = relative_error(base, _run(Ensemble(recipe, size, refine=FINER), count)) if evolution else None
    if not plain.grid.shape:
        return Errors(count, time, None)
    doubled = plain.size.model_copy(update={"grid": tuple(2 * points for points in plain.grid.shape)})
    fine = Ensemble(recipe.model_copy(update={"sizes": {size: doubled}}), size)
    if isinstance(plain.equation, Evolution) and plain.equation.observe is None:
        start = restrict(fine.member(0).initial, plain.grid)
        if relative_error(plain.member(0).initial, start) >= 0.5:
            return Errors(count, time, None)
        return Errors(count, time, relative_error(base, restrict(_run(fine, count), plain.grid)))
    return Errors(count, time, relative_error(base, _run(fine, count)))


def _run(ensemble: Ensemble, count: int) -> Array:
    results = ensemble.run(range(count), batch=count)
    results.check()
    return results.states.double().numpy()


def restrict(values: Array, grid: Grid) -> Array:
    """Restrict values on a grid of twice the points to `grid`: common points, or means over the cells."""
    for axis in range(values.ndim - len(grid.shape), values.ndim):
        even, odd = (values.take(range(start, values.shape[axis], 2), axis) for start in (0, 1))
        values = even if grid.boundary == "periodic" else 0.5 * (even + odd)
    return values


def relative_error(values: Array, truth: Array) -> float:
    """Return ||values - truth|| / ||truth||."""
    return float(np.linalg.norm(values - truth) / np.linalg.norm(truth))
