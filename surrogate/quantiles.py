"""Quantiles of errors, some of which are infinite because a roll-out has diverged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["quantiles"]


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
