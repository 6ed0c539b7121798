r"""Conformal intervals: prediction intervals that cover at a stated level whatever the distribution of the errors.

For simulations that are exchangeable with those held out, the interval :math:`p \pm w` contains the target of a new
sample with a probability of at least the level, on average over samples and over the simulations held out. With m
simulations held out, simulation j with :math:`n_j` samples,

.. math:: w = \text{quantile at the level of} \;
          \sum_{j=1}^m \sum_{i=1}^{n_j} \frac{1}{(m + 1) n_j} \, \delta_{|q_{ji} - p_{ji}|} +
          \frac{1}{m + 1} \, \delta_\infty ,

at every grid point by itself, and of a roll-out at every lead time by itself. For one sample a simulation it is the
ceil((m + 1) level)-th smallest error. At 90 % at least 9 simulations are needed, else the quantile is infinite.

Source: Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, Distribution-free predictive inference for regression, 2018; for
several samples a simulation Lee, Barber, Willett, Distribution-free inference with hierarchical data, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import DataError
from surrogate.evaluation.bootstrap import LEVEL, cluster_codes
from surrogate.evaluation.maps import Axis, space_of
from surrogate.evaluation.rollout.stepping import Piece
from surrogate.evaluation.table import Labels

__all__ = [
    "Residuals",
    "RolloutResiduals",
    "conformal_coverage",
    "conformal_width",
    "cross_conformal_interval",
    "simulations_needed",
]

ROUNDING = 1e-9  # of sums of weights
MOST_BYTES = 2**29  # of errors held in memory
BLOCK = 2**22  # errors that are sorted at a time


def simulations_needed(level: float = LEVEL) -> int:
    """Return the least number of simulations held out that give a finite interval: level / (1 - level), rounded up."""
    return math.ceil(level / (1 - level) - ROUNDING)


def conformal_width(errors: np.ndarray, *, clusters: Any = None, level: float = LEVEL) -> np.ndarray:
    """Return half the width of a split-conformal interval at every point.

    Arguments:
        errors: Absolute errors on samples that were not trained on, with shape (B, ...), finite.
        clusters: Label of the simulation of each of the B samples; without it each is its own.
        level: Probability that the interval contains the target of a new sample.

    Returns:
        With shape (...).

    Raises:
        DataError: There are too few simulations.
    """
    codes = cluster_codes(clusters, len(errors))
    counts = np.bincount(codes)
    if len(counts) < simulations_needed(level):
        raise DataError(
            f"conformal intervals at {100 * level:g} % need {simulations_needed(level)} simulations held out, there "
            f"are {len(counts)}; hold out more, or use cross-validation"
        )
    return _weighted_quantile(errors, 1.0 / ((len(counts) + 1) * counts[codes]), level)


def cross_conformal_interval(
    predictions: np.ndarray, errors: np.ndarray, folds: np.ndarray, *, clusters: Any = None, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper ends of the CV+ interval, which uses every simulation for training and for calibration.

    They are quantiles of p_k(i) - |e_i| and of p_k(i) + |e_i| over all samples i, where p_k(i) is the prediction for
    the new input by the surrogate of the fold that left i out, and e_i its error on i; samples of one simulation share
    its weight. Coverage is about the level, and for one sample a simulation proven to be at least 2 level - 1.

    Arguments:
        predictions: For the new input by the surrogate of each fold, with shape (K, ...).
        errors: Absolute errors of every sample by the surrogate that left it out, with shape (B, ...).
        folds: Number of the fold of each of the B samples.
        clusters: Label of the simulation of each of the B samples; without it each is its own.
        level: Nominal coverage.

    Raises:
        DataError: There are too few simulations.

    Source: Barber, Candes, Ramdas, Tibshirani, Predictive inference with the jackknife+, 2021.
    """
    codes = cluster_codes(clusters, len(errors))
    counts = np.bincount(codes)
    if len(counts) < simulations_needed(level):
        raise DataError(
            f"conformal intervals at {100 * level:g} % need {simulations_needed(level)} simulations, there are "
            f"{len(counts)}"
        )
    weights = 1.0 / ((len(counts) + 1) * counts[codes])
    centre = predictions[folds]
    return -_weighted_quantile(errors - centre, weights, level), _weighted_quantile(errors + centre, weights, level)


def conformal_coverage(errors: np.ndarray, *, clusters: Any = None, level: float = LEVEL) -> np.ndarray:
    """Return the share of each simulation's points inside intervals that the other simulations give.

    Arguments:
        errors: As for `conformal_width`.
        clusters: Likewise.
        level: Likewise.

    Returns:
        With shape (simulations,), in the order of the sorted labels.

    Raises:
        DataError: There are too few simulations without one of them.
    """
    codes = cluster_codes(clusters, len(errors))
    counts = np.bincount(codes)
    if len(counts) - 1 < simulations_needed(level):
        raise DataError(
            f"the coverage of conformal intervals at {100 * level:g} % needs {simulations_needed(level) + 1} "
            f"simulations, there are {len(counts)}"
        )
    shares = 1.0 / (len(counts) * counts[codes])  # a sample's weight in an interval without another simulation
    members = [np.flatnonzero(codes == one) for one in range(len(counts))]
    inside = np.zeros(len(counts))
    flat = errors.reshape(len(errors), -1)
    for block in _blocks(flat):
        below = _weight_below(block, shares)
        for own in members:  # which take no part in their own interval
            below[own] -= _weight_below(block[own], shares[own])
        inside += [(below[own] < level - ROUNDING).mean(0).sum() for own in members]
    return inside / flat.shape[1]


class Residuals:
    """Absolute errors of all samples of an evaluation, held in memory in single precision, added batch by batch."""

    def __init__(self) -> None:
        self.why = ""  # reason why there are no intervals
        self._errors: list[np.ndarray] = []
        self._sample: list[np.ndarray] = []

    def add(self, batch: Batch, prediction: Tensor) -> None:
        """Add a batch and its prediction (B, M, *S)."""
        error = (prediction - batch.targets.to(prediction)).abs().float().cpu().numpy()
        self._errors.append(error)
        self._sample.append(batch.sample.cpu().numpy())
        self.why = _reason(self._errors, batch.masked)
        if self.why:
            self._errors.clear()

    def errors(self, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
        """Return the errors (B, M, *S), and the label of the simulation of each of the B samples.

        Raises:
            DataError: They are not known, or too large.
        """
        if self.why:
            raise DataError(f"conformal intervals: {self.why}")
        return np.concatenate(self._errors), _simulations(labels, np.concatenate(self._sample))

    def dataset(self, labels: Labels, coordinates: Mapping[str, Axis] | None = None) -> xr.Dataset:
        """Return half the width of 90 % intervals at every point, and their coverage.

        Returns:
            `half_width` (variable, *space), and `coverage` (simulation,): the share of each simulation's points inside
            intervals that the others give, NaN where there are too few of them.

        Raises:
            DataError: There are too few simulations, or no intervals for another reason.
        """
        errors, clusters = self.errors(labels)
        space = space_of(errors.shape[2:], coordinates)
        units = list(labels.units) if labels.units is not None else [""] * errors.shape[1]
        coords = {**space, "variable": list(labels.variables), "units": ("variable", units)}
        return _intervals(errors, clusters, ("variable", *space), coords)


class RolloutResiduals:
    """Absolute errors of roll-outs at every lead time, held in memory in single precision, added piece by piece."""

    def __init__(self) -> None:
        self.why = ""  # reason why there are no intervals
        self._errors: dict[tuple[int, ...], list[np.ndarray]] = {}  # by the simulations of a group, pieces in time

    def add(self, piece: Piece) -> None:
        """Add successive steps of a group of roll-outs."""
        error = (piece.prediction - piece.truth).abs().float().numpy()
        if not self.why:
            self._errors.setdefault(tuple(piece.sample.tolist()), []).append(error)
            parts = [part for group in self._errors.values() for part in group]
            self.why = _reason(parts, bool(piece.truth.isnan().any()))
        if self.why:
            self._errors.clear()

    def dataset(self, scores: xr.Dataset, labels: Labels, coordinates: Mapping[str, Axis] | None = None) -> xr.Dataset:
        """Return half the width of 90 % intervals at every lead time and point, and their coverage.

        A roll-out that has diverged has an infinite error. Lead times from the first one on at which an interval is
        infinite somewhere are left out.

        Arguments:
            scores: Scores of the same roll-outs, whose leads, variables and units count.
            labels: Labels of the simulations.
            coordinates: Coordinates of the spatial axes by name.

        Returns:
            `half_width` (lead, variable, *space), and `coverage` (simulation,) over all of these lead times.

        Raises:
            DataError: There are too few simulations, or no intervals for another reason.
        """
        if self.why:
            raise DataError(f"conformal intervals of roll-outs: {self.why}")
        errors = np.concatenate([np.concatenate(pieces, axis=1) for pieces in self._errors.values()])
        errors = np.where(np.isfinite(errors), errors, np.inf)
        sample = np.concatenate([np.array(group) for group in self._errors])
        space = space_of(errors.shape[3:], coordinates)
        clusters = _simulations(labels, sample)
        width = conformal_width(errors, clusters=clusters)
        kept = int(np.isfinite(width.reshape(len(width), -1)).all(1).cumprod().sum())
        if not kept:
            raise DataError("conformal intervals of roll-outs: too many of them diverge within the first step")
        about = scores.isel(lead=slice(kept))
        coords = {**space, **{name: about[name].variable for name in ("lead", "variable", "units")}}
        return _intervals(errors[:, :kept], clusters, ("lead", "variable", *space), coords)


def _reason(parts: Sequence[np.ndarray], masked: bool) -> str:
    """Say why errors give no intervals; an empty text where they do."""
    if masked and np.isnan(parts[-1]).any():
        return "some targets are missing"
    if sum(part.nbytes for part in parts) > MOST_BYTES:
        return f"the errors of all samples take more than {MOST_BYTES >> 20} MB"
    return ""


def _simulations(labels: Labels, sample: np.ndarray) -> np.ndarray:
    return sample if labels.simulations is None else np.asarray(labels.simulations)[sample]


def _intervals(errors: np.ndarray, clusters: np.ndarray, dims: Sequence[str], coords: Mapping[str, Any]) -> xr.Dataset:
    """Return half the width of 90 % intervals (*dims) from errors (B, *dims), and their coverage (simulation,)."""
    width, names = conformal_width(errors, clusters=clusters), np.unique(clusters)
    enough = len(names) > simulations_needed()
    coverage = conformal_coverage(errors, clusters=clusters) if enough else np.full(len(names), np.nan)
    fields = {"half_width": (dims, width), "coverage": ("simulation", coverage)}
    return xr.Dataset(fields, {**coords, "simulation": names}, {"level": LEVEL, "simulations": len(names)})


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    """Return the smallest value at every point up to which the weights add up to the level; (B, ...) to (...)."""
    parts = []
    for block in _blocks(values.reshape(len(values), -1)):
        order = np.argsort(block, axis=0, kind="stable")
        reached = np.cumsum(weights[order], axis=0) >= level - ROUNDING
        first = np.take_along_axis(order, reached.argmax(0)[None], axis=0)
        parts.append(np.take_along_axis(block, first, axis=0)[0])
    return np.concatenate(parts).reshape(values.shape[1:])


def _weight_below(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weight of the values that are smaller than each, at every point; both have shape (B, points)."""
    order = np.argsort(values, axis=0, kind="stable")
    ranked, weight = np.take_along_axis(values, order, axis=0), weights[order]
    place = np.arange(len(values))[:, None]
    first = np.zeros(values.shape, dtype=np.int64)  # place of the first of equal values
    first[1:] = np.where(ranked[1:] > ranked[:-1], place[1:], 0)
    before = np.take_along_axis(np.cumsum(weight, axis=0) - weight, np.maximum.accumulate(first, axis=0), axis=0)
    result = np.empty_like(before)
    np.put_along_axis(result, order, before, axis=0)
    return result


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the columns of rows (B, points) in blocks of bounded size."""
    size = max(1, BLOCK // len(rows))
    for start in range(0, max(1, rows.shape[1]), size):
        yield rows[:, start : start + size]
