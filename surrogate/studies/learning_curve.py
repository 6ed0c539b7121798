r"""Answers from a learning curve: the error with more simulations, and how many fewer a better method needs.

With :math:`N` the largest number of simulations, the error follows a power law with a floor,

.. math:: \log e(n) = \alpha + \log\bigl((1 - f) (n / N)^{-b} + f\bigr), \qquad 0 \le b \le 2, \quad 0 \le f < 1 ,

where f is the floor's share of the error at N. The mean over seeds of log e at each size is taken as normal about it
with variance :math:`s^2 = \sigma^2 / S + 0.1^2`, :math:`\sigma` the spread over S seeds and 10 % for what no power
law describes. With uniform priors of b and f on their ranges and a flat one of :math:`\alpha`, the prediction is the
posterior predictive distribution, summed over a grid of b and f. Few sizes leave b and f open, which the interval
shows. Beyond N the rate itself may change, as where a smooth map becomes resolved: to the standard deviation of the
prediction :math:`0.4 \log(n / N)` is added in squares. That number was chosen on five studies of fitted families.

Source: Viering, Loog, The shape of learning curves: a review, IEEE TPAMI 45, 2023, doi 10.1109/TPAMI.2022.3220744
(power laws with a floor); Gelman et al., Bayesian data analysis, 2013, chapter 3 (prediction on a grid).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

__all__ = ["Efficiency", "Forecast", "break_even", "data_efficiency", "forecast"]

LEVEL = 0.9
MISFIT = 0.1  # relative deviation of a learning curve from a power law
DRIFT = 0.4  # standard deviation of the rate beyond the sizes that were run
RATES, SHARES = np.linspace(0, 2, 41), np.linspace(0, 1, 41)[:-1]
FEWEST = 3  # sizes of a curve that is extrapolated
DRAWS = 2000
LEAST = 1e-6  # weight relative to the largest, below which a curve does not count


@dataclass(frozen=True)
class Forecast:
    """Error of a method with more simulations than were run.

    Arguments:
        simulations: Their number.
        error: Median of the prediction.
        low: Lower end of its 90 % interval.
        high: Upper end.
        last: Geometric mean over seeds of the error at the largest number that was run.
    """

    simulations: int
    error: float
    low: float
    high: float
    last: float


@dataclass(frozen=True)
class Efficiency:
    """Ratio of the simulations that two methods need for the same error.

    Arguments:
        error: The error: that of the method that needs more, with all of its simulations.
        factor: The ratio; where the other is below that error with the fewest simulations, the least that it can be.
        low: Lower end of its 90 % interval.
        high: Upper end; infinite where more than 5 % of the resamples are below that error with the fewest simulations.
        at_least: The factor is only bounded from below.
    """

    error: float
    factor: float
    low: float
    high: float
    at_least: bool


def forecast(sizes: np.ndarray, errors: np.ndarray, simulations: int) -> Forecast | None:
    """Extrapolate a learning curve to more simulations.

    Arguments:
        sizes: Numbers of simulations, ascending, with shape (m,).
        errors: Positive errors, NaN where a training failed, with shape (m, seeds).
        simulations: The number to predict for.

    Returns:
        None with fewer than three sizes that have an error.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(np.isfinite(errors) & (errors > 0), np.log(errors), np.nan)
    kept = np.isfinite(logs).any(1)
    if kept.sum() < FEWEST:
        return None
    n, logs = np.asarray(sizes, dtype=float)[kept], logs[kept]
    y, counts = np.nanmean(logs, 1), np.isfinite(logs).sum(1)
    freedom = int((counts - 1).sum())
    spread = float(np.nansum((logs - y[:, None]) ** 2)) / freedom if freedom else MISFIT**2
    variance = spread / counts.mean() + MISFIT**2
    b, f = RATES[:, None, None], SHARES[None, :, None]

    def shape(at: np.ndarray) -> np.ndarray:
        """Return log e - alpha on the grid of b and f."""
        return np.asarray(np.log((1 - f) * (at / n[-1]) ** -b + f))

    residuals = y - shape(n)
    alpha = residuals.mean(-1)
    misfit = ((residuals - alpha[..., None]) ** 2).sum(-1)
    weights = np.exp(-0.5 * (misfit - misfit.min()) / variance)
    centre = alpha + shape(np.array([float(simulations)]))[..., 0]
    deviation = math.hypot(math.sqrt(variance * (1 + 1 / len(n))), DRIFT * math.log(simulations / n[-1]))
    tail = (1 - LEVEL) / 2
    low, middle, high = np.exp(_quantiles(centre.ravel(), weights.ravel(), deviation, (tail, 0.5, 1 - tail)))
    return Forecast(simulations, float(middle), float(low), float(high), float(np.exp(y[-1])))


def _quantiles(centres: np.ndarray, weights: np.ndarray, deviation: float, shares: tuple[float, ...]) -> np.ndarray:
    """Return quantiles of a mixture of normal distributions of one deviation."""
    centres, weights = (part[weights > LEAST] for part in (centres, weights))
    points = np.linspace(centres.min() - 5 * deviation, centres.max() + 5 * deviation, 401)
    below = ndtr((points[:, None] - centres) / deviation) @ (weights / weights.sum())
    return np.interp(shares, below, points)


def data_efficiency(
    sizes: np.ndarray, errors: np.ndarray, others: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> Efficiency | None:
    """Return how many times the simulations of a better method the other one needs for the same error.

    The error is that of the other method with all simulations; where the curve of medians of the better method first
    crosses it, log n is interpolated linearly in log error. The interval is the percentile bootstrap over seeds, the
    same for both methods.

    Arguments:
        sizes: Numbers of simulations, ascending, with shape (m,).
        errors: Positive errors of the better method, with shape (m, seeds), finite.
        others: Those of the other method.
        draws: Resamples of the seeds.
        seed: Seed of the draws.

    Returns:
        None where the better method has no lower error with all simulations, or a single size.
    """
    n = np.log(np.asarray(sizes, dtype=float))
    if len(n) < 2 or not np.median(errors[-1]) < np.median(others[-1]):
        return None
    picks = np.random.default_rng(seed).integers(errors.shape[1], size=(draws, errors.shape[1]))
    found = [crossing(n, np.median(errors[:, pick], 1), float(np.median(others[-1, pick]))) for pick in picks]
    point = crossing(n, np.median(errors, 1), float(np.median(others[-1])))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found, [tail, 1 - tail], method="nearest")
    return Efficiency(
        error=float(np.median(others[-1])),
        factor=float(np.exp(min(point, n[-1] - n[0]))),
        low=float(np.exp(min(low, n[-1] - n[0]))),
        high=float(np.exp(high)),
        at_least=math.isinf(point),
    )


def crossing(n: np.ndarray, errors: np.ndarray, level: float) -> float:
    """Return log of the largest size less log of that at which the errors cross a level; inf if all are below."""
    if errors[0] <= level:
        return math.inf
    below = np.flatnonzero(errors <= level)
    if not len(below):
        return 0.0  # of a resample in which it is not better
    k = int(below[0])
    share = math.log(errors[k - 1] / level) / math.log(errors[k - 1] / errors[k])
    return float(n[-1] - (n[k - 1] + share * (n[k] - n[k - 1])))


def break_even(simulations: int, solve_seconds: float, train_seconds: float, predict_seconds: float) -> float:
    """Return the number of solves after which simulating, training and predicting took less time than solving.

    The least k with n s + t + k p <= k s, for n training simulations of s seconds, a training of t and a prediction of
    p seconds: (n s + t) / (s - p), rounded up; infinite where a prediction takes as long as a solve.
    """
    saved = solve_seconds - predict_seconds
    return math.inf if saved <= 0 else float(math.ceil((simulations * solve_seconds + train_seconds) / saved))
