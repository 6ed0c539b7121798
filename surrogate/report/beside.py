"""Sentences on what an evaluation compares a surrogate's inputs and targets with: range and modes of training data."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.stats import spearmanr

from surrogate.evaluation import floor_of
from surrogate.models.input_range import SCORE
from surrogate.numbers import number

__all__ = ["beside_lines", "floor_lines", "range_lines"]

FEW = 10  # samples, of which a rank correlation says nothing


def beside_lines(metrics: xr.Dataset) -> list[str]:
    """State the projection floor with the parts of the error, and how many inputs are out of the range of training."""
    return [*floor_lines(metrics), *range_lines(metrics)]


def floor_lines(metrics: xr.Dataset) -> list[str]:
    """State the projection floor and the parts of the error; nothing where there are no modes."""
    parts, modes = floor_of(metrics), int(metrics.attrs.get("modes", 0))
    if parts is None:
        return []
    total, floor, regression = (number(parts[name], 3) for name in ("total", "floor", "regression"))
    if not metrics.attrs.get("within_modes", 1):
        return [
            f"the projection onto {modes} POD modes of the training data, as many as the latent size, has an error of "
            f"{floor}, this network {regression}"
        ]
    advice = "more modes" if parts["share"] > 0.5 else "a better regression or more simulations, not more modes,"
    return [
        f"{modes} modes allow no error below {floor} (projection floor); of the error {total}, {floor} is "
        f"reconstruction and {regression} regression ({number(100 * parts['share'], 3)} % and "
        f"{number(100 - 100 * parts['share'], 3)} % of the squared error): {advice} would lower it most"
    ]


def range_lines(metrics: xr.Dataset) -> list[str]:
    """Count the inputs out of range, and state if the error grows with the score."""
    if SCORE not in metrics:
        return []
    scores = metrics[SCORE].max("time")
    if not bool(scores.notnull().any()):
        return []
    line = (
        f"{int((scores > 1).sum())} of {scores.size} inputs are out of the range of the training inputs (score above "
        f"1; largest {number(float(scores.max()), 3)})"
    )
    errors = metrics["relative_l2_sample"].values
    both = np.isfinite(errors) & np.isfinite(scores.values)
    if both.sum() >= FEW and np.ptp(errors[both]) > 0 and np.ptp(scores.values[both]) > 0:
        rank = float(spearmanr(scores.values[both], errors[both]).statistic)
        line += f"; rank correlation of score and error {number(rank, 2)}"
    return [line]
