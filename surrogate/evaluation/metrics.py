r"""Errors of a prediction p against a target q, one number per sample and variable.

Every function takes tensors with shape (B, M, *S) and returns float64 with shape (B, M). Sums over space come from
numpy, which adds a row the same way however many rows there are: a sample's number does not depend on its batch.
`squared_error`, `squared_target` and `scored_points` are stored with the metrics, so that errors over several times,
variables or samples follow exactly. A target that is NaN is missing: its point is left out of sums and of counts. A
sample without any target has no metric.

On a mesh `weights` (B, *S) are the volumes of the points, divided by their mean: then every sum over the n points is n
times a mean over the volume, :math:`\sum_i w_i f_i = n \int f / \int 1`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "GRID_METRICS",
    "METRICS",
    "brmse",
    "conserved_error",
    "mae",
    "max_error",
    "nrmse",
    "points",
    "relative_l2",
    "rmse",
    "scored_points",
    "squared_error",
    "squared_target",
    "target_mean",
    "target_variance",
    "vrmse",
]


def points(target: Tensor) -> int:
    """Count the grid points of a sample: the product of *S."""
    return target[0, 0].numel()


def squared_error(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return sum (p - q)^2 over space."""
    return _where_any(_sum(_error(prediction, target) ** 2, weights), target)


def squared_target(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return sum q^2 over space; zero marks a degenerate target, for which no relative error exists."""
    return _where_any(_sum(_filled(target) ** 2, weights), target)


def scored_points(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Count the grid points that have a target."""
    return _sum((~target.isnan()).double(), weights)


def rmse(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return sqrt(mean (p - q)^2) over space."""
    return _mean(squared_error, prediction, target, weights).sqrt()


def nrmse(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return sqrt(mean (p - q)^2) / sqrt(mean q^2), NaN where the target is zero everywhere.

    Source: Takamoto et al., PDEBench, 2022. For one sample, variable and time it equals the relative L2 error.
    """
    return _ratio(rmse(prediction, target, weights), _mean(squared_target, prediction, target, weights).sqrt())


def relative_l2(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ||p - q|| / ||q||, NaN where the target is zero everywhere."""
    return _ratio(squared_error(prediction, target, weights).sqrt(), squared_target(prediction, target, weights).sqrt())


def mae(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return mean |p - q| over space."""
    return _ratio(_sum(_error(prediction, target).abs(), weights), scored_points(prediction, target, weights))


def max_error(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return max |p - q|."""
    return _where_any(_rows(_error(prediction, target).abs()).amax(-1), target)


def vrmse(prediction: Tensor, target: Tensor, weights: Tensor | None = None, *, epsilon: float = 0.0) -> Tensor:
    """Return sqrt(mean (p - q)^2 / (var(q) + epsilon)), var unbiased over space; predicting the mean gives about 1.

    NaN where the target is constant in space and epsilon is zero. The Well adds epsilon = 1e-7.

    Source: Ohana et al., The Well, 2024.
    """
    return _ratio(rmse(prediction, target, weights), (target_variance(prediction, target, weights) + epsilon).sqrt())


def target_mean(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of q over space."""
    return _ratio(_sum(_filled(target), weights), scored_points(prediction, target, weights))


def target_variance(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the unbiased variance of q over space, exactly zero where q is constant; the denominator of VRMSE."""
    rows, count = _rows(_double(target)), scored_points(prediction, target, weights)
    mean = _sum(_filled(target), weights) / count.clamp_min(1)
    deviations = (rows - mean[..., None]).nan_to_num(nan=0.0)
    lowest, highest = (rows.nan_to_num(nan=end).aminmax(dim=-1) for end in (torch.inf, -torch.inf))
    constant = lowest.min == highest.max  # rounding would leave a tiny variance
    return torch.where(constant, 0.0, _where_any(_sum(deviations**2, weights), target) / (count - 1).clamp_min(1))


def brmse(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the root mean square error over the boundary cells, each counted once; without space that is the point.

    Source: Takamoto et al., PDEBench, 2022, whose code sums over faces, so that an edge of the grid counts twice.
    """
    squares = _rows(_error(prediction, target) ** 2)
    inner = torch.zeros(target.shape[2:], dtype=torch.bool)
    if inner.ndim:
        inner[(slice(1, -1),) * inner.ndim] = True
    outer = ~inner.reshape(-1)
    return _ratio(_sum(squares[..., outer]), _sum((~_rows(target)[..., outer].isnan()).double())).sqrt()


def conserved_error(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return (sum p - sum q) / n over the n grid points; its root mean square over samples is the cRMSE of PDEBench."""
    return _ratio(_sum(_error(prediction, target), weights), scored_points(prediction, target, weights))


METRICS: dict[str, Callable[..., Tensor]] = {
    "relative_l2": relative_l2,
    "nrmse": nrmse,
    "rmse": rmse,
    "vrmse": vrmse,
    "mae": mae,
    "max_error": max_error,
    "conserved_error": conserved_error,
    "squared_error": squared_error,
    "squared_target": squared_target,
}

# These depend on the positions of the points, or on the target alone.
GRID_METRICS: dict[str, Callable[..., Tensor]] = {
    "brmse": brmse,
    "target_mean": target_mean,
    "target_variance": target_variance,
    "scored_points": scored_points,
}


def _double(values: Tensor) -> Tensor:
    return values.detach().to("cpu", torch.float64)


def _error(prediction: Tensor, target: Tensor) -> Tensor:
    """p - q, zero where there is no target."""
    q = _double(target)
    return torch.where(q.isnan(), 0.0, _double(prediction) - q)


def _filled(target: Tensor) -> Tensor:
    q = _double(target)
    return torch.where(q.isnan(), 0.0, q)


def _where_any(values: Tensor, target: Tensor) -> Tensor:
    """Values (B, M) of samples that have a target, NaN elsewhere."""
    return torch.where(_rows(target).isnan().all(-1).cpu(), torch.nan, values)


def _mean(total: Callable[..., Tensor], prediction: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """A sum over space divided by the number of its terms."""
    return _ratio(total(prediction, target, weights), scored_points(prediction, target, weights))


def _rows(values: Tensor) -> Tensor:
    """Shape (B, M, *S) to (B, M, points); space of no dimension is one point."""
    return values.reshape(*values.shape[:2], -1)


def _sum(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum over space, every point times its weight (B, *S)."""
    values = values if weights is None else values * _double(weights)[:, None]
    return torch.from_numpy(_rows(values).contiguous().numpy().sum(-1))


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator, torch.nan)
