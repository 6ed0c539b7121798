"""Bootstrap confidence intervals over simulations, and over seeds where there are several."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from scipy.special import ndtr, stdtrit

__all__ = ["DRAWS", "LEVEL", "bootstrap_means", "cluster_codes", "cluster_means", "interval", "selected_error"]

LEVEL = 0.9
DRAWS = 2000
BLOCK = 1_000_000  # numbers drawn at a time


def cluster_codes(clusters: Any, count: int) -> np.ndarray:
    """Number the cluster of every value from 0; without clusters each value is its own cluster."""
    if clusters is None:
        return np.arange(count)
    labels = np.asarray(clusters)
    if labels.shape != (count,):
        raise ValueError(f"clusters: expected one label for each of {count} values, got shape {labels.shape}")
    return np.unique(labels, return_inverse=True)[1]


def cluster_means(values: np.ndarray, clusters: Any = None) -> np.ndarray:
    """Average the values of every cluster along the last axis, in the order of the sorted labels."""
    sums, counts = _cluster_sums(values, clusters)
    return sums / counts


def bootstrap_means(values: np.ndarray, *, clusters: Any = None, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return the means of `draws` resamples of whole clusters, drawn with replacement.

    Values of one simulation are not independent, so whole simulations are resampled, not values. With a leading axis of
    seeds, seeds and clusters are resampled independently of each other, since every seed is tested on the same
    simulations.

    Arguments:
        values: Finite numbers, with shape (B,), or (seeds, B).
        clusters: Label of the simulation of each of the B values; without it each is its own.
        draws: Number of resamples.
        seed: Seed of the draws.

    Source: Efron, Bootstrap methods: another look at the jackknife, 1979; Owen, The pigeonhole bootstrap, 2007.
    """
    sums, counts = _cluster_sums(np.asarray(values, dtype=np.float64), clusters)
    generator, n = np.random.default_rng(seed), len(counts)
    block = max(1, BLOCK // n)
    sizes = [int(size) for size in np.diff([*range(0, draws, block), draws])]
    if sums.ndim == 1:
        picks = (generator.integers(n, size=(size, n)) for size in sizes)
        return np.concatenate([sums[pick].sum(1) / counts[pick].sum(1) for pick in picks])
    seeds, means = len(sums), []
    for size in sizes:
        rows = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=size)
        columns = generator.multinomial(n, np.full(n, 1 / n), size=size)
        means.append(((rows @ sums) * columns).sum(1) / (seeds * (columns @ counts)))
    return np.concatenate(means)


def interval(values: np.ndarray, *, clusters: Any = None, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
    """Return the expanded percentile bootstrap interval of the mean; NaN for fewer than two clusters.

    A percentile bootstrap of n normal values is narrower than Student's t interval, so the percentiles are expanded by
    that ratio:

        tail = Phi(-sqrt(n / (n - 1)) t_{n-1}((1 + level) / 2))

    Arguments:
        values: Finite numbers, with shape (B,), or (seeds, B).
        clusters: Label of the simulation of each of the B values; without it each is its own.
        level: Nominal coverage of the interval.
        seed: Seed of the draws.

    Source: Hesterberg, What teachers should know about the bootstrap, 2015, section 4.3 (expanded percentiles).
    """
    values = np.asarray(values, dtype=np.float64)
    units = len(np.unique(cluster_codes(clusters, values.shape[-1])))
    units = min([units, *values.shape[:-1]])  # the scarcer of seeds and simulations
    if units < 2:
        return float("nan"), float("nan")
    tail = float(ndtr(-sqrt(units / (units - 1)) * stdtrit(units - 1, (1 + level) / 2)))
    low, high = np.quantile(bootstrap_means(values, clusters=clusters, seed=seed), [tail, 1 - tail])
    return float(low), float(high)


def selected_error(errors: np.ndarray, *, clusters: Any = None, draws: int = DRAWS, seed: int = 0) -> float:
    """Return the mean error of the method that is chosen for its mean error, on simulations that did not choose it.

    The lowest of several means is too low an estimate for the method that has it, since it was chosen for that. In each
    draw the best method on resampled simulations is scored on those that were not drawn.

    Arguments:
        errors: Error of every sample by each method, finite, with shape (methods, B).
        clusters: Label of the simulation of each of the B samples; without it each is its own.
        draws: Number of resamples.
        seed: Seed of the draws.

    Returns:
        The mean over draws; NaN for fewer than two simulations.

    Source: Tsamardinos, Greasidou, Borboudakis, Bootstrapping the out-of-sample predictions for efficient and accurate
    cross-validation, 2018.
    """
    sums, counts = _cluster_sums(np.asarray(errors, dtype=np.float64), clusters)
    n = len(counts)
    if n < 2:
        return float("nan")
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    drawn = drawn[(drawn == 0).any(1)]
    best = ((drawn @ sums.T) / (drawn @ counts)[:, None]).argmin(1)  # the method of each draw
    left = drawn == 0
    scores = (left @ sums.T)[np.arange(len(left)), best] / (left @ counts)
    return float(scores.mean())


def _cluster_sums(values: np.ndarray, clusters: Any) -> tuple[np.ndarray, np.ndarray]:
    """Sum and count the values of every cluster: shapes (..., clusters) and (clusters,)."""
    codes = cluster_codes(clusters, values.shape[-1])
    counts = np.bincount(codes)
    sums = np.zeros((len(counts), *values.shape[:-1]))
    np.add.at(sums, codes, np.moveaxis(values, -1, 0))
    return np.moveaxis(sums, 0, -1), counts
