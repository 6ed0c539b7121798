r"""Paired comparison of cases on the same test simulations by the ratios of their errors.

Errors of simulations often span decades, so cases are compared by logarithms: with D the log ratio of two errors, over
S seeds and n simulations, the typical ratio is exp(mean D), whose variance comes from seeds and from simulations,

    V = max(s_r^2 / S, s_c^2 / n, s_r^2 / S + s_c^2 / n - s_e^2 / (S n)),

where s_r, s_c and s_e are the standard deviations of the means of seeds, of the means of simulations, and of what is
left. mean D / sqrt(V) is compared with Student's t, whose degrees of freedom follow Welch and Satterthwaite, at most
those of the larger of the two parts. A rank test cannot see a ratio of 10^5 over four simulations: its p-value is never
below 2 / 2^n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from surrogate.errors import ConfigError, did_you_mean
from surrogate.evaluation.bootstrap import LEVEL, cluster_means

__all__ = ["BETTER", "UNDECIDED", "WORSE", "Comparison", "RatioTest", "compare_cases", "holm", "ratio_test"]

BETTER, WORSE, UNDECIDED = "better", "worse", "no significant difference"
SMALLEST = 2.0**-52  # errors relative to the largest, below which they count as this
ROUNDING = 1e-6  # log ratio that single precision alone can make


@dataclass(frozen=True)
class RatioTest:
    """Typical ratio of two errors with its interval.

    Arguments:
        ratio: Geometric mean over seeds and simulations.
        low: Lower end of the interval; NaN for a single simulation.
        high: Upper end.
        p_value: Two-sided p-value of a ratio of 1; 1 for a single simulation.
    """

    ratio: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of a case with another, over the same samples.

    Arguments:
        verdict: "better", "worse" or "no significant difference": the case against the other.
        ratio: Score of the case over that of the other: the statistic of the tables.
        typical: Geometric mean over samples and seeds of its error over the other's.
        low: Lower end of the interval of the typical ratio.
        high: Upper end.
        level: Nominal coverage of the interval, for this comparison alone.
        p_value: Of a typical ratio of 1, with Holm's correction for the number of comparisons.
        samples: Number of samples compared.
        simulations: Number of independent simulations among them.
        seeds: Number of trainings of each case; with 1 the verdict is about two trained models, not about methods.
    """

    verdict: str
    ratio: float
    typical: float
    low: float
    high: float
    level: float
    p_value: float
    samples: int
    simulations: int
    seeds: int


def compare_cases(
    errors: Mapping[str, np.ndarray],
    *,
    reference: str | None = None,
    scores: Mapping[str, float] | None = None,
    clusters: Any = None,
    level: float = LEVEL,
) -> dict[str, Comparison]:
    """Compare every case with a reference, or with the one that has the lowest score.

    Two cases differ significantly where the test of the typical ratio rejects at `1 - level` and the scores differ in
    the same direction. p-values have Holm's correction: for the comparisons with a reference that is named beforehand,
    or for all pairs, since the best case is chosen after the fact.

    Arguments:
        errors: Error of every sample by case, not negative, each with shape (B,), or (seeds, B) with the same seeds;
            the same samples in the same order. A sample that is NaN anywhere is left out everywhere.
        reference: Name of the case to compare with; without it, the best.
        scores: The statistic of the tables by case; the median over seeds of the mean over samples unless given.
        clusters: Label of the simulation of each of the B samples; without it each is its own.
        level: Probability of no false verdict over all comparisons.

    Returns:
        One comparison for every other case, in the order of their scores; none without common samples.

    Raises:
        ConfigError: There is no such reference.
    """
    if reference is not None and reference not in errors:
        raise ConfigError(f"there is no case '{reference}' to compare with; {did_you_mean(reference, errors)}")
    table = np.stack([np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in errors.values()])
    kept = np.isfinite(table).all((0, 1))
    table, labels = table[..., kept], None if clusters is None else np.asarray(clusters)[kept]
    if not table.size:
        return {}
    score = dict(scores or zip(errors, np.median(table.mean(2), axis=1).tolist(), strict=True))
    order = sorted(errors, key=score.__getitem__)
    against = order[0] if reference is None else reference
    logs = np.log(np.maximum(table, max(SMALLEST * table.max(), np.finfo(float).tiny)))
    means = dict(zip(errors, cluster_means(logs, labels), strict=True))
    others = [name for name in order if name != against]
    pairs = list(combinations(order, 2)) if reference is None else [(against, name) for name in others]
    tests = {(a, b): ratio_test(means[b] - means[a], level=level) for a, b in pairs}
    corrected = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    result = {}
    for name in others:
        test, p_value = tests[against, name], corrected[against, name]
        ratio = score[name] / score[against] if score[against] else np.inf if score[name] else 1.0
        significant = p_value < 1 - level
        worse, better = test.ratio > 1 and ratio > 1, test.ratio < 1 and ratio < 1
        result[name] = Comparison(
            verdict=WORSE if significant and worse else BETTER if significant and better else UNDECIDED,
            ratio=ratio,
            typical=test.ratio,
            low=test.low,
            high=test.high,
            level=level,
            p_value=p_value,
            samples=table.shape[2],
            simulations=means[name].shape[1],
            seeds=table.shape[1],
        )
    return result


def ratio_test(logs: np.ndarray, *, level: float = LEVEL) -> RatioTest:
    """Test whether log ratios over seeds and simulations have the mean zero, as this module describes.

    Arguments:
        logs: With shape (seeds, simulations).
        level: Nominal coverage of the interval.

    Source: Welch, The generalization of Student's problem when several population variances are involved, 1947.
    """
    seeds, n = logs.shape
    mean = float(logs.mean())
    if n < 2:
        return RatioTest(float(np.exp(mean)), float("nan"), float("nan"), 1.0)
    parts, freedom = [logs.mean(0).var(ddof=1) / n], [n - 1]
    left = 0.0
    if seeds > 1:
        parts.append(logs.mean(1).var(ddof=1) / seeds)
        freedom.append(seeds - 1)
        rest = logs - logs.mean(0) - logs.mean(1, keepdims=True) + mean
        left = float((rest**2).sum() / ((seeds - 1) * (n - 1) * seeds * n))
    larger = int(np.argmax(parts))
    variance = max(parts[larger], sum(parts) - left)
    if abs(mean) <= ROUNDING or variance <= (ROUNDING * mean) ** 2 / n:  # equal, or one ratio everywhere
        p_value, half = float(abs(mean) <= ROUNDING), 0.0
    else:
        welch = variance**2 / sum(part**2 / free for part, free in zip(parts, freedom, strict=True))
        free = min(welch, freedom[larger])
        p_value = float(2 * stdtr(free, -abs(mean) / np.sqrt(variance)))
        half = float(stdtrit(free, (1 + level) / 2) * np.sqrt(variance))
    with np.errstate(over="ignore"):
        ratio, low, high = (float(np.exp(value)) for value in (mean, mean - half, mean + half))
        return RatioTest(ratio, low, high, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of several tests so that the chance of any false rejection is bounded.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]
