"""How sure an average over few test samples is, and whether two cases differ on the same samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb

import numpy as np

__all__ = ["DRAWS", "LEVEL", "Comparison", "bootstrap_means", "compare_cases", "interval"]

LEVEL = 0.9
DRAWS = 2000
BLOCK = 1_000_000  # numbers drawn at a time


def bootstrap_means(values: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Means of `draws` samples of the same size, drawn with replacement.

    Source: Efron, Bootstrap methods: another look at the jackknife, 1979.
    """
    generator, n = np.random.default_rng(seed), len(values)
    block = max(1, BLOCK // n)
    sizes = np.diff([*range(0, draws, block), draws])
    return np.concatenate([values[generator.integers(n, size=(int(size), n))].mean(1) for size in sizes])


def interval(values: np.ndarray, *, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean; NaN for fewer than two values, which tell nothing about the spread.

    Arguments:
        values: One finite number per sample, with shape (B,).
        level: Probability that the interval stands for.
        seed: Seed of the draws.
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(bootstrap_means(values, seed=seed), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """A case against the best one, over the same samples.

    Arguments:
        verdict: "better", "worse" or "not told apart": the case against the best.
        difference: Mean over samples of its error less the best's.
        low: Lower end of the bootstrap interval of the difference.
        high: Upper end.
        level: Probability of the interval, corrected for the number of pairs.
        samples: Number of samples compared.
    """

    verdict: str
    difference: float
    low: float
    high: float
    level: float
    samples: int


def compare_cases(errors: Mapping[str, np.ndarray], *, level: float = LEVEL, seed: int = 0) -> dict[str, Comparison]:
    """Paired bootstrap of every case against the one with the lowest mean error.

    The level is corrected for all pairs of cases (Bonferroni), since the best is chosen after looking.

    Arguments:
        errors: Error of every sample by case, each with shape (B,), the same samples in the same order;
            a sample that is NaN anywhere is left out everywhere.
        level: Probability of a single comparison.
        seed: Seed of the draws.

    Returns:
        One comparison for every case but the best, in the order of their mean errors; none without common samples.
    """
    table = np.stack(list(errors.values()))
    table = table[:, np.isfinite(table).all(0)]
    if table.shape[1] == 0:
        return {}
    names, order = list(errors), np.argsort(table.mean(1), kind="stable")
    corrected = 1 - (1 - level) / max(comb(len(names), 2), 1)
    best = table[order[0]]
    return {names[i]: _compare(table[i] - best, corrected, seed) for i in order[1:]}


def _compare(differences: np.ndarray, level: float, seed: int) -> Comparison:
    low, high = interval(differences, level=level, seed=seed)
    verdict = "worse" if low > 0 else "better" if high < 0 else "not told apart"
    return Comparison(verdict, float(differences.mean()), low, high, level, len(differences))
