r"""Errors of a prediction p against a target q, one number per sample and variable.

Sums over space come from numpy, which adds a row the same way however many rows there are: a sample's number does not
depend on its batch. `squared_error`, `squared_target` and `scored_points` are stored with the metrics, so that errors
over several times, variables or samples follow exactly. A target that is NaN is missing: its point is left out of sums
and of counts. A sample without any target has no metric.

On a mesh `weights` (B, *S) are the volumes of the points, divided by their mean: then every sum over the n points is n
times a mean over the volume, :math:`\sum_i w_i f_i = n \int f / \int 1`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

__all__ = ["GRID_METRICS", "METRICS", "FieldErrors", "points"]

Metric = Callable[..., Tensor]


def points(target: Tensor) -> int:
    """Count the grid points of a sample: the product of *S."""
    return target[0, 0].numel()


class FieldErrors:
    """Metrics of a batch of fields; what several of them need is computed once.

    Every metric is an array (B, M) in float64.

    Arguments:
        prediction: The prediction p, with shape (B, M, *S).
        target: The target q, with the same shape; NaN where it is missing.
        weights: Weights (B, *S) of the points; all are one unless given.
    """

    def __init__(self, prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> None:
        self.space = tuple(target.shape[2:])
        p, q = _rows(prediction), _rows(target)
        missing = np.isnan(q)
        self._missing = missing if missing.any() else None
        self._weights = None if weights is None else _rows(weights[:, None])
        self._error = self._where_known(p - q)
        self._target = self._where_known(q)

    @cached_property
    def squared_error(self) -> np.ndarray:
        """sum (p - q)^2 over space."""
        return self._or_nan(self._sum(self._squares))

    @cached_property
    def squared_target(self) -> np.ndarray:
        """sum q^2 over space; zero marks a degenerate target, for which no relative error exists."""
        return self._or_nan(self._sum(self._target**2))

    @cached_property
    def scored_points(self) -> np.ndarray:
        """Number of grid points that have a target."""
        if self._missing is None and self._weights is None:
            return np.full(self._target.shape[:2], float(self._target.shape[-1]))
        known = np.ones_like(self._target) if self._missing is None else (~self._missing).astype(np.float64)
        return self._sum(known)

    @cached_property
    def rmse(self) -> np.ndarray:
        """sqrt(mean (p - q)^2) over space."""
        return np.sqrt(_ratio(self.squared_error, self.scored_points))

    @cached_property
    def nrmse(self) -> np.ndarray:
        """sqrt(mean (p - q)^2) / sqrt(mean q^2), NaN where the target is zero everywhere.

        Source: Takamoto et al., PDEBench, 2022. For one sample, variable and time it equals the relative L2 error.
        """
        return _ratio(self.rmse, np.sqrt(_ratio(self.squared_target, self.scored_points)))

    @cached_property
    def relative_l2(self) -> np.ndarray:
        """||p - q|| / ||q||, NaN where the target is zero everywhere."""
        return _ratio(np.sqrt(self.squared_error), np.sqrt(self.squared_target))

    @cached_property
    def mae(self) -> np.ndarray:
        """mean |p - q| over space."""
        return _ratio(self._sum(self._absolute), self.scored_points)

    @cached_property
    def max_error(self) -> np.ndarray:
        """max |p - q|."""
        return self._or_nan(self._absolute.max(-1))

    @cached_property
    def vrmse(self) -> np.ndarray:
        """sqrt(mean (p - q)^2 / var(q)), var unbiased over space; predicting the mean gives about 1.

        NaN where the target is constant in space. The Well adds 1e-7 to the variance.

        Source: Ohana et al., The Well, 2024.
        """
        return _ratio(self.rmse, np.sqrt(self.target_variance))

    @cached_property
    def target_mean(self) -> np.ndarray:
        """The mean of q over space."""
        return _ratio(self._sum(self._target), self.scored_points)

    @cached_property
    def target_variance(self) -> np.ndarray:
        """The unbiased variance of q over space, exactly zero where q is constant; the denominator of VRMSE."""
        mean = self._sum(self._target) / self.scored_points.clip(1)
        deviations = self._target - mean[..., None]
        lowest = highest = self._target
        if self._missing is not None:
            deviations[self._missing] = 0.0
            lowest, highest = (np.where(self._missing, end, self._target) for end in (np.inf, -np.inf))
        constant = lowest.min(-1) == highest.max(-1)  # rounding would leave a tiny variance
        variance = self._or_nan(self._sum(np.square(deviations, out=deviations))) / (self.scored_points - 1).clip(1)
        return np.where(constant, 0.0, variance)

    @cached_property
    def brmse(self) -> np.ndarray:
        """The root mean square error over the boundary cells, each counted once; without space that is the point.

        Source: Takamoto et al., PDEBench, 2022, whose code sums over faces, so that an edge of the grid counts twice.
        """
        outer = np.ones(self.space, dtype=bool)
        if self.space:
            outer[(slice(1, -1),) * len(self.space)] = False
        cells = np.flatnonzero(outer)
        squares = np.ascontiguousarray(self._squares[..., cells])
        known = cells.size if self._missing is None else (~self._missing[..., cells]).sum(-1)
        return np.sqrt(_ratio(squares.sum(-1), np.broadcast_to(known, squares.shape[:2])))

    @cached_property
    def conserved_error(self) -> np.ndarray:
        """(sum p - sum q) / n over the n grid points; its root mean square over samples is the cRMSE of PDEBench."""
        return _ratio(self._sum(self._error), self.scored_points)

    @cached_property
    def _squares(self) -> np.ndarray:
        return self._error**2

    @cached_property
    def _absolute(self) -> np.ndarray:
        return np.abs(self._error)

    def _where_known(self, values: np.ndarray) -> np.ndarray:
        """Zero where there is no target."""
        return values if self._missing is None else np.where(self._missing, 0.0, values)

    def _or_nan(self, values: np.ndarray) -> np.ndarray:
        """Values (B, M) of samples that have a target, NaN elsewhere."""
        return values if self._missing is None else np.where(self._missing.all(-1), np.nan, values)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Sum over space, every point times its weight."""
        return (values if self._weights is None else values * self._weights).sum(-1)


def _metric(name: str) -> Metric:
    """Return a metric as a function of prediction, target and weights."""

    def metric(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        return torch.from_numpy(getattr(FieldErrors(prediction, target, weights), name))

    metric.__name__, metric.__doc__ = name, getattr(FieldErrors, name).__doc__
    return metric


# These follow from the values of the points alone.
METRICS: dict[str, Metric] = {
    name: _metric(name)
    for name in (
        "relative_l2",
        "nrmse",
        "rmse",
        "vrmse",
        "mae",
        "max_error",
        "conserved_error",
        "squared_error",
        "squared_target",
    )
}

# These depend on the positions of the points, or on the target alone.
GRID_METRICS: dict[str, Metric] = {
    name: _metric(name) for name in ("brmse", "target_mean", "target_variance", "scored_points")
}


def _rows(values: Tensor) -> np.ndarray:
    """Shape (B, M, *S) to (B, M, points) in float64 on the host; space of no dimension is one point."""
    rows = values.detach().to("cpu", torch.float64).reshape(*values.shape[:2], -1)
    return rows.contiguous().numpy()


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, NaN where the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)
