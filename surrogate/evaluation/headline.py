"""The headline error of a model: the one that ranks and compares models and is named first."""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr

__all__ = ["NORMALIZED", "RELATIVE", "Headline", "headline", "normalized_errors"]


@dataclass(frozen=True)
class Headline:
    """An error with one number per sample; its mean over samples is the headline.

    Arguments:
        metric: Its name in tables of numbers; `<metric>_sample` in the metrics.
        short: Its name as the head of a column.
        words: Its name in a sentence.
        taken: How it is computed, a sentence without its full stop.
    """

    metric: str
    short: str
    words: str
    taken: str


RELATIVE = Headline(
    "relative_l2", "relative L2", "relative L2 error", "The error is taken over all points and times of a sample"
)
NORMALIZED = Headline(
    "normalized_error",
    "normalised error",
    "normalised error",
    "The error is that of one number, over the root mean square of the true numbers of all samples",
)


def headline(*metrics: xr.Dataset) -> Headline:
    """Return the headline: the relative L2 error, or the normalised error where all targets are single numbers.

    A number near zero has a large relative error however well it is predicted, and one such sample decides the mean.

    Arguments:
        metrics: Results of `evaluate`, at least one.
    """
    return NORMALIZED if all("normalized_error_sample" in each for each in metrics) else RELATIVE


def normalized_errors(metrics: xr.Dataset) -> xr.DataArray | None:
    r"""Normalise the errors of single numbers by all of them: :math:`|p_i - q_i| / (\frac1n \sum_j q_j^2)^{1/2}`.

    Arguments:
        metrics: `squared_error` and `squared_target` (sample, time, variable), and `points` among the attributes.

    Returns:
        Dimensions (sample, variable), NaN where there is no target or all are zero; None where a sample has several
        points or times, over which its relative error is taken.
    """
    if metrics.attrs["points"] > 1 or metrics.sizes["time"] > 1:
        return None
    error, target = (metrics[name].isel(time=0, drop=True) for name in ("squared_error", "squared_target"))
    mean = target.mean("sample")
    return ((error / mean.where(mean > 0)) ** 0.5).transpose("sample", "variable")
