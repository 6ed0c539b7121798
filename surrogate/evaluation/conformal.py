r"""Conformal intervals: prediction intervals that cover at a stated level whatever the distribution of the errors.

For simulations that are exchangeable with those held out, the interval :math:`p \pm w` contains the target of a new
sample with a probability of at least the level, on average over samples and over the simulations held out. With m
simulations held out, simulation j with :math:`n_j` samples,

.. math:: w = \text{quantile at the level of} \;
          \sum_{j=1}^m \sum_{i=1}^{n_j} \frac{1}{(m + 1) n_j} \, \delta_{|q_{ji} - p_{ji}|} +
          \frac{1}{m + 1} \, \delta_\infty ,

at every grid point by itself. For one sample a simulation it is the ceil((m + 1) level)-th smallest error. At 90 % at
least 9 simulations are needed, else the quantile is infinite.

Source: Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, Distribution-free predictive inference for regression, 2018; for
several samples a simulation Lee, Barber, Willett, Distribution-free inference with hierarchical data, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import DataError
from surrogate.evaluation.bootstrap import LEVEL, cluster_codes
from surrogate.evaluation.maps import Axis, space_of
from surrogate.evaluation.table import Labels

__all__ = ["Residuals", "conformal_coverage", "conformal_width", "cross_conformal_interval", "simulations_needed"]

ROUNDING = 1e-9  # of sums of weights
MOST_BYTES = 2**29  # of errors held in memory


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
    predictions: np.ndarray, errors: np.ndarray, folds: np.ndarray, *, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper ends of the CV+ interval, which uses every simulation for training and for calibration.

    They are quantiles of p_k(i) - |e_i| and of p_k(i) + |e_i| over all samples i, where p_k(i) is the prediction for
    the new input by the surrogate of the fold that left i out, and e_i its error on i. Coverage is about the level,
    and proven to be at least 2 level - 1.

    Arguments:
        predictions: For the new input by the surrogate of each fold, with shape (K, ...).
        errors: Absolute errors of every sample by the surrogate that left it out, with shape (B, ...).
        folds: Number of the fold of each of the B samples.
        level: Nominal coverage.

    Raises:
        DataError: There are too few samples.

    Source: Barber, Candes, Ramdas, Tibshirani, Predictive inference with the jackknife+, 2021.
    """
    count = len(errors)
    if count < simulations_needed(level):
        raise DataError(
            f"conformal intervals at {100 * level:g} % need {simulations_needed(level)} simulations, there are {count}"
        )
    weights = np.full(count, 1.0 / (count + 1))
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
    return np.array(
        [
            (
                errors[codes == one] <= conformal_width(errors[codes != one], clusters=codes[codes != one], level=level)
            ).mean()
            for one in range(codes.max() + 1)
        ]
    )


class Residuals:
    """Absolute errors of all samples of an evaluation, held in memory in single precision, added batch by batch."""

    def __init__(self) -> None:
        self.why = ""  # reason why there are no intervals
        self._errors: list[np.ndarray] = []
        self._sample: list[np.ndarray] = []

    def add(self, batch: Batch, prediction: Tensor) -> None:
        """Add a batch and its prediction (B, M, *S)."""
        error = (prediction - batch.targets.to(prediction)).abs().float().numpy()
        self._errors.append(error)
        self._sample.append(batch.sample.cpu().numpy())
        if batch.masked and np.isnan(error).any():
            self.why = "some targets are missing"
        elif sum(part.nbytes for part in self._errors) > MOST_BYTES:
            self.why = f"the errors of all samples take more than {MOST_BYTES >> 20} MB"
        if self.why:
            self._errors.clear()

    def dataset(self, labels: Labels, coordinates: Mapping[str, Axis] | None = None) -> xr.Dataset:
        """Return half the width of 90 % intervals at every point, and their coverage.

        Returns:
            `half_width` (variable, *space), and `coverage` (simulation,): the share of each simulation's points inside
            intervals that the others give, NaN where there are too few of them.

        Raises:
            DataError: There are too few simulations, or no intervals for another reason.
        """
        if self.why:
            raise DataError(f"conformal intervals: {self.why}")
        errors, sample = np.concatenate(self._errors), np.concatenate(self._sample)
        clusters = sample if labels.simulations is None else np.asarray(labels.simulations)[sample]
        width = conformal_width(errors, clusters=clusters)
        names = np.unique(clusters)
        enough = len(names) > simulations_needed()
        coverage = conformal_coverage(errors, clusters=clusters) if enough else np.full(len(names), np.nan)
        space = space_of(width.shape[1:], coordinates)
        fields = {"half_width": (("variable", *space), width), "coverage": ("simulation", coverage)}
        units = ("variable", list(labels.units) if labels.units is not None else [""] * len(width))
        coords = {**space, "variable": list(labels.variables), "units": units, "simulation": names}
        return xr.Dataset(fields, coords, {"level": LEVEL, "simulations": len(names)})


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    """Return the smallest value at every point up to which the weights add up to the level; (B, ...) to (...)."""
    order = np.argsort(values, axis=0, kind="stable")
    reached = np.cumsum(weights[order], axis=0) >= level - ROUNDING
    first = np.take_along_axis(order, reached.argmax(0)[None], axis=0)
    return np.take_along_axis(values, first, axis=0)[0]
