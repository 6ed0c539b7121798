"""Errors of a data set, measured against finer steps in time and a finer grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from surrogate.simulate.ensemble import Ensemble, Results
from surrogate.simulate.equation import Array, Evolution, Grid, Map
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
        space: Against a grid with twice as many points along every axis; on meshes at the points that both have.
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
    if isinstance(plain.equation, Map) and plain.equation.geometry:
        return Errors(count, time, relative_error(*_at_common_points(*(_checked(e, count) for e in (plain, fine)))))
    return Errors(count, time, relative_error(base, _run(fine, count)))


def _checked(ensemble: Ensemble, count: int) -> Results:
    results = ensemble.run(range(count), batch=count)
    results.check()
    return results


def _run(ensemble: Ensemble, count: int) -> Array:
    return _checked(ensemble, count).states.double().numpy()


def _at_common_points(coarse: Results, fine: Results) -> tuple[Array, Array]:
    """Return the first field of all members at the points of their coarse meshes, which are among those of the fine."""
    pairs = []
    for number in range(len(coarse.numbers)):
        meshes = [np.stack([r.geometry[name].values[number] for name in ("x", "y")], -1) for r in (coarse, fine)]
        places = [mesh[np.isfinite(mesh).all(1)] for mesh in meshes]
        own, finer = (r.states[number, 0].double().numpy() for r in (coarse, fine))
        pairs.append((own[: len(places[0])], finer[cKDTree(places[1]).query(places[0])[1]]))
    values, truth = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return values, truth


def restrict(values: Array, grid: Grid) -> Array:
    """Restrict values on a grid of twice the points to `grid`: common points, or means over the cells."""
    for axis in range(values.ndim - len(grid.shape), values.ndim):
        even, odd = (values.take(range(start, values.shape[axis], 2), axis) for start in (0, 1))
        values = even if grid.boundary == "periodic" else 0.5 * (even + odd)
    return values


def relative_error(values: Array, truth: Array) -> float:
    """Return ||values - truth|| / ||truth||."""
    return float(np.linalg.norm(values - truth) / np.linalg.norm(truth))
