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
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["GRID_METRICS", "METRICS", "FieldErrors", "points"]

T = TypeVar("T")
Metric = Callable[..., Tensor]
ROUNDING = 1e-12  # of a squared mean: a variance above it is that of a target that is not constant


def points(target: Tensor) -> int:
    """Count the grid points of a sample: the product of *S."""
    return target[0, 0].numel()


class once(Generic[T]):  # noqa: N801
    """A property that is computed once; threads compute those of different objects at the same time.

    `functools.cached_property` holds a lock meanwhile, up to Python 3.11.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self.__doc__ = compute, compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        value = instance.__dict__[self._name] = self._compute(instance)
        return value


class FieldErrors:
    """Metrics of a batch of fields; what several of them need is computed once.

    Every metric is an array (B, M) in float64. `error` p - q, `target` q and the mask `missing` are (B, M, points);
    errors and targets are zero where a target is missing, and the mask is None where none is.

    Arguments:
        prediction: The prediction p, with shape (B, M, *S).
        target: The target q, with the same shape; NaN where it is missing.
        weights: Weights (B, *S) of the points; all are one unless given.
    """

    def __init__(self, prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> None:
        self.space = tuple(target.shape[2:])
        p, q = _rows(prediction), _rows(target)
        self.missing = np.isnan(q) if np.isnan(q.sum()) else None  # a sum is much cheaper than a test of every value
        self._weights = None if weights is None else _rows(weights[:, None])
        self.error = self._where_known(p - q)
        self.target = self._where_known(q)

    @once
    def squared_error(self) -> np.ndarray:
        """sum (p - q)^2 over space."""
        return self._or_nan(self._sum(self.squares))

    @once
    def squared_target(self) -> np.ndarray:
        """sum q^2 over space; zero marks a degenerate target, for which no relative error exists."""
        return self._or_nan(self._sum(self.target**2))

    @once
    def scored_points(self) -> np.ndarray:
        """Number of grid points that have a target."""
        if self.missing is None and self._weights is None:
            return np.full(self.target.shape[:2], float(self.target.shape[-1]))
        known = np.ones_like(self.target) if self.missing is None else (~self.missing).astype(np.float64)
        return self._sum(known)

    @once
    def rmse(self) -> np.ndarray:
        """sqrt(mean (p - q)^2) over space."""
        return np.sqrt(_ratio(self.squared_error, self.scored_points))

    @once
    def nrmse(self) -> np.ndarray:
        """sqrt(mean (p - q)^2) / sqrt(mean q^2), NaN where the target is zero everywhere.

        Source: Takamoto et al., PDEBench, 2022. For one sample, variable and time it equals the relative L2 error.
        """
        return _ratio(self.rmse, np.sqrt(_ratio(self.squared_target, self.scored_points)))

    @once
    def relative_l2(self) -> np.ndarray:
        """||p - q|| / ||q||, NaN where the target is zero everywhere."""
        return _ratio(np.sqrt(self.squared_error), np.sqrt(self.squared_target))

    @once
    def mae(self) -> np.ndarray:
        """mean |p - q| over space."""
        return _ratio(self._sum(self.absolute), self.scored_points)

    @once
    def max_error(self) -> np.ndarray:
        """max |p - q|."""
        return self._or_nan(self.absolute.max(-1))

    @once
    def vrmse(self) -> np.ndarray:
        """sqrt(mean (p - q)^2 / var(q)), var unbiased over space; predicting the mean gives about 1.

        NaN where the target is constant in space. The Well adds 1e-7 to the variance.

        Source: Ohana et al., The Well, 2024.
        """
        return _ratio(self.rmse, np.sqrt(self.target_variance))

    @once
    def target_mean(self) -> np.ndarray:
        """The mean of q over space."""
        return _ratio(self._target_sum, self.scored_points)

    @once
    def target_variance(self) -> np.ndarray:
        """The unbiased variance of q over space, exactly zero where q is constant; the denominator of VRMSE."""
        mean = self._target_sum / self.scored_points.clip(1)
        deviations = self.target - mean[..., None]
        if self.missing is not None:
            deviations[self.missing] = 0.0
        variance = self._or_nan(self._sum(np.square(deviations, out=deviations))) / (self.scored_points - 1).clip(1)
        tiny = np.nonzero(variance <= ROUNDING * mean**2)  # perhaps constant: rounding leaves a tiny variance
        lowest = highest = self.target[tiny]
        if self.missing is not None:
            lowest, highest = (np.where(self.missing[tiny], end, lowest) for end in (np.inf, -np.inf))
        variance[tiny] = np.where(lowest.min(-1) == highest.max(-1), 0.0, variance[tiny])
        return variance

    @once
    def brmse(self) -> np.ndarray:
        """The root mean square error over the boundary cells, each counted once; without space that is the point.

        Source: Takamoto et al., PDEBench, 2022, whose code sums over faces, so that an edge of the grid counts twice.
        """
        outer = np.ones(self.space, dtype=bool)
        if self.space:
            outer[(slice(1, -1),) * len(self.space)] = False
        cells = np.flatnonzero(outer)
        squares = np.ascontiguousarray(self.squares[..., cells])
        known = cells.size if self.missing is None else (~self.missing[..., cells]).sum(-1)
        return np.sqrt(_ratio(squares.sum(-1), np.broadcast_to(known, squares.shape[:2])))

    @once
    def conserved_error(self) -> np.ndarray:
        """(sum p - sum q) / n over the n grid points; its root mean square over samples is the cRMSE of PDEBench."""
        return _ratio(self._sum(self.error), self.scored_points)

    @once
    def _target_sum(self) -> np.ndarray:
        return self._sum(self.target)

    @once
    def squares(self) -> np.ndarray:
        """(p - q)^2 at every point, with shape (B, M, points)."""
        return self.error**2

    @once
    def absolute(self) -> np.ndarray:
        """|p - q| at every point, with shape (B, M, points)."""
        return np.abs(self.error)

    def _where_known(self, values: np.ndarray) -> np.ndarray:
        """Zero where there is no target."""
        return values if self.missing is None else np.where(self.missing, 0.0, values)

    def _or_nan(self, values: np.ndarray) -> np.ndarray:
        """Values (B, M) of samples that have a target, NaN elsewhere."""
        return values if self.missing is None else np.where(self.missing.all(-1), np.nan, values)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Sum over space, every point times its weight."""
        return (values if self._weights is None else values * self._weights).sum(-1)


def _metric(name: str) -> Metric:
    """Return a metric as a function of prediction, target and weights."""

    def metric(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        return torch.from_numpy(getattr(FieldErrors(prediction, target, weights), name))

    metric.__name__, metric.__doc__ = name, vars(FieldErrors)[name].__doc__
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
