"""Averages and quantiles of errors, some of which are infinite because a roll-out has diverged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["ROOTS", "mean_error", "quantiles"]

ROOTS = ("rmse", "brmse", "frmse")  # metrics that are averaged by their squares


def mean_error(metric: str, values: np.ndarray) -> float:
    """Average a metric along all axes: the mean, or the root of the mean square of a root mean square error.

    The root mean square error of a data set is the root of the mean over its samples, not the mean of their roots: of
    samples of one number each, that would be the mean absolute error.

    Arguments:
        metric: Name of the metric.
        values: Its values; NaN is left out.
    """
    kept = values[~np.isnan(values)]
    if not kept.size:
        return float("nan")
    return float(np.sqrt(np.mean(kept**2)) if metric in ROOTS else kept.mean())


def quantiles(values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return quantiles along the first axis, without NaN; one between a finite and an infinite value is infinite.

    Arguments:
        values: Numbers with shape (n, ...), none of them -inf.
        shares: Shares of the values below each quantile.

    Returns:
        With shape (shares, ...); NaN where there is nothing but NaN.
    """
    there = ~np.isnan(values).all(0)
    result = np.full((len(shares), *values.shape[1:]), np.nan)
    largest = np.finfo(float).max
    known = values[:, there]
    finite = np.where(np.isinf(known), largest, known)  # inf - inf is NaN
    result[:, there] = np.nanquantile(finite, shares, axis=0)
    return np.where(result > np.sqrt(largest), np.inf, result)
