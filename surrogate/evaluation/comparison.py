"""Paired comparison of cases on the same test simulations, corrected for the number of comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import rankdata, wilcoxon

from surrogate.errors import ConfigError, did_you_mean
from surrogate.evaluation.bootstrap import LEVEL, cluster_means, interval

__all__ = ["BETTER", "UNDECIDED", "WORSE", "Comparison", "compare_cases", "holm", "rank_biserial", "signed_rank"]

BETTER, WORSE, UNDECIDED = "better", "worse", "no significant difference"


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of a case with another, over the same samples.

    Arguments:
        verdict: "better", "worse" or "no significant difference": the case against the other.
        difference: Mean over samples of its error less the other's.
        low: Lower end of the bootstrap interval of the difference.
        high: Upper end.
        level: Probability of the interval, corrected for the number of comparisons.
        samples: Number of samples compared.
        simulations: Number of independent simulations among them.
        p_value: Of Wilcoxon's signed rank test over simulations, corrected for the number of comparisons.
        relative: The difference over the mean error of the other.
        effect: Mean of the differences over their standard deviation, both over simulations (Cohen's d_z).
        rank_effect: Matched rank-biserial correlation, from -1 (better on all simulations) to 1 (worse on all).
    """

    verdict: str
    difference: float
    low: float
    high: float
    level: float
    samples: int
    simulations: int
    p_value: float
    relative: float
    effect: float
    rank_effect: float


def compare_cases(
    errors: Mapping[str, np.ndarray],
    *,
    reference: str | None = None,
    clusters: Any = None,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare every case with a reference, or with the one that has the lowest mean error.

    Two cases differ significantly where the paired bootstrap interval of the mean difference excludes zero *and*
    Wilcoxon's signed rank test over simulations rejects, so that neither a few large differences nor many tiny ones
    decide alone. Intervals have Bonferroni's correction and p-values Holm's: for the comparisons with a reference that
    is named beforehand, or for all pairs, since the best case is chosen after the fact.

    Arguments:
        errors: Error of every sample by case, each with shape (B,), or (seeds, B) with the same seeds; the same
            samples in the same order. A sample that is NaN anywhere is left out everywhere.
        reference: Name of the case to compare with; without it, the best.
        clusters: Label of the simulation of each of the B samples; without it each is its own.
        level: Probability of a single comparison.
        seed: Seed of the draws.

    Returns:
        One comparison for every other case, in the order of their mean errors; none without common samples.

    Raises:
        ConfigError: There is no such reference.
    """
    if reference is not None and reference not in errors:
        raise ConfigError(f"there is no case '{reference}' to compare with; {did_you_mean(reference, errors)}")
    names, table = list(errors), np.stack([np.asarray(values, dtype=np.float64) for values in errors.values()])
    kept = np.isfinite(table).all(tuple(range(table.ndim - 1)))
    table, labels = table[..., kept], None if clusters is None else np.asarray(clusters)[kept]
    if table.shape[-1] == 0:
        return {}
    means = table.reshape(len(names), -1).mean(1)
    order = np.argsort(means, kind="stable")
    against = int(order[0]) if reference is None else names.index(reference)
    others = [int(i) for i in order if i != against]
    pairs = list(combinations(range(len(names)), 2)) if reference is None else [(i, against) for i in others]
    differences = {frozenset(pair): _over_simulations(table[pair[0]] - table[pair[1]], labels) for pair in pairs}
    adjusted = dict(zip(differences, holm([signed_rank(d) for d in differences.values()]), strict=True))
    corrected = 1 - (1 - level) / max(len(pairs), 1)
    return {
        names[i]: _compare(
            table[i] - table[against],
            labels,
            p_value=adjusted[frozenset((i, against))],
            levels=(level, corrected),
            scale=float(means[against]),
            seed=seed,
        )
        for i in others
    }


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


def signed_rank(differences: np.ndarray) -> float:
    """Return the two-sided p-value of Wilcoxon's signed rank test; 1 where all differences are zero.

    Source: Wilcoxon, Individual comparisons by ranking methods, 1945; zeros are left out.
    """
    differences = differences[differences != 0]
    return float(wilcoxon(differences).pvalue) if len(differences) else 1.0


def rank_biserial(differences: np.ndarray) -> float:
    """Return (W+ - W-) / (W+ + W-) from the signed ranks; 0 where all differences are zero.

    Source: Kerby, The simple difference formula, 2014.
    """
    differences = differences[differences != 0]
    ranks = rankdata(np.abs(differences))
    return float((ranks * np.sign(differences)).sum() / ranks.sum()) if len(ranks) else 0.0


def _over_simulations(differences: np.ndarray, clusters: Any) -> np.ndarray:
    """Average differences over the samples of every simulation and over seeds, with shape (simulations,)."""
    means = cluster_means(differences, clusters)
    return means.reshape(-1, means.shape[-1]).mean(0)


def _compare(
    differences: np.ndarray, clusters: Any, *, p_value: float, levels: tuple[float, float], scale: float, seed: int
) -> Comparison:
    level, corrected = levels
    low, high = interval(differences, clusters=clusters, level=corrected, seed=seed)
    units = _over_simulations(differences, clusters)
    told = p_value < 1 - level
    verdict = WORSE if told and low > 0 else BETTER if told and high < 0 else UNDECIDED
    mean = float(differences.mean())
    return Comparison(
        verdict,
        mean,
        low,
        high,
        corrected,
        samples=differences.shape[-1],
        simulations=len(units),
        p_value=p_value,
        relative=mean / scale if scale else float("nan"),
        effect=_standardized(units),
        rank_effect=rank_biserial(units),
    )


def _standardized(differences: np.ndarray) -> float:
    if len(differences) < 2:
        return float("nan")
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread <= 1e-12 * abs(mean):  # equal but for rounding
        return float(np.sign(mean) * np.inf) if mean else 0.0
    return mean / spread
