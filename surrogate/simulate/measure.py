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
    """Relative L2 errors over all data of a few simulations; None where there is nothing to compare with.

    Arguments:
        members: Simulations that were compared.
        time: Against steps in time a quarter as long (tolerances smaller by 4^3).
        space: Against a grid with twice as many points along every axis.
    """

    members: int
    time: float | None
    space: float | None


def measure_errors(recipe: Recipe, size: str) -> Errors:
    """Errors of the first simulations of a recipe."""
    plain = Ensemble(recipe, size)
    count = min(MEMBERS, plain.size.simulations)
    base = _run(plain, count)
    moving = isinstance(plain.equation, Evolution)
    time = relative_error(base, _run(Ensemble(recipe, size, refine=FINER), count)) if moving else None
    return Errors(count, time, _space_error(recipe, size, base, count))


def _space_error(recipe: Recipe, size: str, base: Array, count: int) -> float | None:
    plain = Ensemble(recipe, size)
    if not plain.grid.shape:
        return None
    doubled = plain.size.model_copy(update={"grid": tuple(2 * points for points in plain.grid.shape)})
    fine = Ensemble(recipe.model_copy(update={"sizes": {size: doubled}}), size)
    whole = isinstance(plain.equation, Evolution) and plain.equation.observe is None
    if whole and not _same_start(plain, fine):
        return None
    finer = _run(fine, count)
    return relative_error(base, restrict(finer, plain.grid) if whole else finer)


def _same_start(coarse: Ensemble, fine: Ensemble) -> bool:
    """White noise is no function: on another grid it is another field."""
    start = restrict(fine.member(0).initial, coarse.grid)
    return relative_error(coarse.member(0).initial, start) < 0.5


def _run(ensemble: Ensemble, count: int) -> Array:
    results = ensemble.run(range(count), batch=count)
    results.check()
    return results.states.double().numpy()


def restrict(values: Array, grid: Grid) -> Array:
    """Values on a grid of twice the points brought to `grid`: common points, or means over the cells."""
    for axis in range(values.ndim - len(grid.shape), values.ndim):
        even, odd = (values.take(range(start, values.shape[axis], 2), axis) for start in (0, 1))
        values = even if grid.boundary == "periodic" else 0.5 * (even + odd)
    return values


def relative_error(values: Array, truth: Array) -> float:
    """||values - truth|| / ||truth||."""
    return float(np.linalg.norm(values - truth) / np.linalg.norm(truth))
