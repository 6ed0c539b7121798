r"""Calibration, sharpness and scores of predicted standard deviations, with the error taken as Gaussian.

With z = (q - p) / s for a target q, a prediction p and its standard deviation s. A point with s = 0 claims to be exact:
it is covered if it is, its CRPS is |q - p|, its PIT is 0, 1/2 or 1, and it has no likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.special import ndtr, ndtri
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import DataError, NumericalError
from surrogate.evaluation.bootstrap import interval
from surrogate.evaluation.evaluate import checked_prediction
from surrogate.evaluation.metrics import points
from surrogate.evaluation.table import Columns, Labels, Rows, grid, join_tables

__all__ = [
    "LEVELS",
    "PIT_BINS",
    "UncertaintyScores",
    "calibration",
    "coverage",
    "crps",
    "evaluate_uncertainty",
    "merge_uncertainty",
    "negative_log_likelihood",
    "pit",
]

PredictWithStd = Callable[[Tensor], tuple[Tensor, Tensor]]
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
PIT_BINS = 10

DESCRIPTIONS = {
    "coverage": "share of points inside the central interval of each level",
    "sharpness": "mean standard deviation",
    "spread": "root mean square standard deviation",
    "rmse": "root mean square error",
    "crps": "continuous ranked probability score",
    "nll": "negative log likelihood per point, where the standard deviation is positive",
    "pit": "share of points by probability integral transform",
    "degenerate_std": "share of points with a standard deviation of zero",
}
AXES = {"coverage": ("variable", "level"), "pit": ("variable", "pit_bin")}


def crps(target: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    r"""Return the continuous ranked probability score of a Gaussian, s (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)).

    Source: Gneiting and Raftery, Strictly proper scoring rules, 2007, equation 21.
    """
    z = _standardized(target, mean, std)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    score = std * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return np.where(std > 0, score, np.abs(target - mean))


def negative_log_likelihood(target: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return log(2 pi s^2) / 2 + z^2 / 2; NaN where s is zero."""
    safe = np.where(std > 0, std, np.nan)
    return 0.5 * np.log(2 * np.pi * safe**2) + 0.5 * ((target - mean) / safe) ** 2


def pit(target: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return the probability integral transform Phi(z): uniform on [0, 1] where the standard deviations are right."""
    exact = np.where(target > mean, 1.0, np.where(target < mean, 0.0, 0.5))
    return np.where(std > 0, ndtr(_standardized(target, mean, std)), exact)


def coverage(target: np.ndarray, mean: np.ndarray, std: np.ndarray, level: float) -> np.ndarray:
    """Return true where a target is within the central interval p +- s Phi^-1((1 + level) / 2)."""
    return np.abs(target - mean) <= ndtri((1 + level) / 2) * std


def evaluate_uncertainty(
    predict: PredictWithStd,
    batches: Iterable[Batch],
    *,
    variables: Sequence[str],
    levels: Sequence[float] = LEVELS,
    **labels: Any,
) -> xr.Dataset:
    """Score predicted standard deviations on every sample of a stream.

    Arguments:
        predict: Inputs (B, C, *S) to predictions and standard deviations (B, M, *S), in physical units.
        batches: The samples, in any order and any grouping; the result does not depend on it.
        variables: Names of the M target variables.
        levels: Probabilities of the central intervals.
        labels: `units`, `times`, `simulations`, `given` and `scored`, as `Labels` explains them.

    Returns:
        Dimensions (sample, time, variable): `crps`, `nll`, `sharpness`, `spread`, `rmse` and `degenerate_std`;
        `coverage` with a dimension `level` and `pit` with `pit_bin`. The attribute `degenerate_points` counts points
        without a likelihood.

    Raises:
        NumericalError: A prediction is not finite, or a standard deviation is not finite or negative.
        DataError: Shapes do not fit, a target is not finite, a sample appears twice, or there are none.
    """
    scores = UncertaintyScores(variables, levels)
    for batch in batches:
        with torch.no_grad():
            mean, std = predict(batch.inputs)
        scores.add(batch, checked_prediction(mean, batch, variables), std)
    return scores.dataset(Labels(variables, **labels))


class UncertaintyScores:
    """Scores of predicted standard deviations, added batch by batch.

    Arguments:
        variables: Names of the M target variables.
        levels: Probabilities of the central intervals.
    """

    def __init__(self, variables: Sequence[str], levels: Sequence[float] = LEVELS) -> None:
        self.variables, self.levels = variables, levels
        self._scores = Rows()
        self._size = 0

    def add(self, batch: Batch, prediction: Tensor, std: Tensor) -> None:
        """Score a batch.

        Arguments:
            batch: The batch.
            prediction: Its checked prediction, with shape (B, M, *S), in float64 on the host.
            std: Predicted standard deviations, with the same shape.

        Raises:
            NumericalError: A standard deviation is not finite or negative.
            DataError: The shapes differ.
        """
        if std.shape != prediction.shape:
            raise DataError(
                f"uncertainty: standard deviations of shape {tuple(std.shape)}, predictions {tuple(prediction.shape)}"
            )
        spread = std.detach().to("cpu", torch.float64)
        bad = ~(torch.isfinite(spread) & (spread >= 0))
        if bool(bad.any()):
            row, channel = torch.nonzero(bad)[0, :2].tolist()
            raise NumericalError(
                f"uncertainty: the standard deviation of '{self.variables[channel]}' is negative or not finite for "
                f"sample {int(batch.sample[row])} at step {int(batch.time[row])}; train with more regularisation"
            )
        self._scores.add(_score(_rows(prediction.numpy()), _rows(spread.numpy()), batch, self.levels))
        self._size = points(batch.targets)

    def dataset(self, labels: Labels) -> xr.Dataset:
        """Return all scores, as `evaluate_uncertainty` does."""
        edges = np.linspace(0, 1, PIT_BINS + 1)
        coords = {
            "variable": list(self.variables),
            "level": list(self.levels),
            "pit_bin": ("pit_bin", (edges[:-1] + edges[1:]) / 2, {"long_name": "probability integral transform"}),
        }
        dims = {name: AXES.get(name, ("variable",)) for name in DESCRIPTIONS}
        result = grid(self._scores.columns(), dims, coords)
        for name, text in DESCRIPTIONS.items():
            result[name].attrs["long_name"] = text
        return _count(labels.put_on(result).assign_attrs(points=self._size))


def merge_uncertainty(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Merge evaluations of disjoint chunks or ranks into one, bit for bit that of all samples together.

    Raises:
        DataError: There are none, a pair of sample and time is in two of them, or they were scored in different ways.
    """
    return _count(join_tables(parts))


def calibration(scores: xr.Dataset, *, seed: int = 0) -> xr.Dataset:
    """Compute a reliability diagram: coverage against level, with 90 % intervals over simulations.

    Arguments:
        scores: The result of `evaluate_uncertainty`.
        seed: Seed of the bootstrap.

    Returns:
        `coverage`, `low` and `high` with dimensions (variable, level), and `pit` (variable, pit_bin).
    """
    samples = scores["coverage"].mean("time").transpose("variable", "level", "sample")
    clusters = scores["simulation"].values
    bounds = [[interval(row, clusters=clusters, seed=seed) for row in variable] for variable in samples.values]
    dims = ("variable", "level")
    return xr.Dataset(
        {
            "coverage": samples.mean("sample"),
            "low": (dims, np.array(bounds)[..., 0]),
            "high": (dims, np.array(bounds)[..., 1]),
            "pit": scores["pit"].mean("time").mean("sample"),
        }
    )


def _standardized(target: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    return (target - mean) / np.where(std > 0, std, 1.0)


def _score(mean: np.ndarray, std: np.ndarray, batch: Batch, levels: Sequence[float]) -> Columns:
    """Compute every score with shape (B, M, ...), each mean over points that have a target by numpy, row by row."""
    target = _rows(batch.targets.detach().cpu().double().numpy())
    there = ~np.isnan(target)
    count = np.where(there.any(-1), there.sum(-1), np.nan)

    def mean_of(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.where(there, values, 0).sum(-1) / count)

    places = np.minimum((np.where(there, pit(target, mean, std), 0.0) * PIT_BINS).astype(np.int64), PIT_BINS - 1)
    exact = (there & (std == 0)).sum(-1)
    likelihood = negative_log_likelihood(target, mean, std)
    usable = there.sum(-1) - exact
    with np.errstate(invalid="ignore"):
        nll = np.where(np.isnan(likelihood), 0.0, likelihood).sum(-1) / np.where(usable > 0, usable, np.nan)
    return {
        "coverage": np.stack([mean_of(coverage(target, mean, std, level)) for level in levels], -1),
        "sharpness": mean_of(std),
        "spread": np.sqrt(mean_of(std**2)),
        "rmse": np.sqrt(mean_of((mean - target) ** 2)),
        "crps": mean_of(crps(target, mean, std)),
        "nll": nll,
        "pit": np.stack([mean_of(places == place) for place in range(PIT_BINS)], -1),
        "degenerate_std": exact / count,
        "sample": batch.sample.cpu().numpy(),
        "step": batch.time.cpu().numpy(),
    }


def _rows(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values.reshape(*values.shape[:2], -1))


def _count(result: xr.Dataset) -> xr.Dataset:
    degenerate = float(result["degenerate_std"].sum()) * int(result.attrs["points"])
    return result.assign_attrs(degenerate_points=round(degenerate))
