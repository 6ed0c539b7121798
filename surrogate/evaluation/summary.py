"""Averages with bootstrap intervals, and the files of an evaluation."""

from __future__ import annotations

import csv
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from surrogate.data.hdf5.netcdf import netcdf_image
from surrogate.evaluation.bootstrap import interval
from surrogate.evaluation.compat import compat_table
from surrogate.evaluation.headline import RELATIVE, headline
from surrogate.evaluation.metrics import GRID_METRICS, METRICS
from surrogate.experiment.folders import EvaluationFolder
from surrogate.files import replacing
from surrogate.quantiles import ROOTS

__all__ = [
    "ALL",
    "STATED",
    "Row",
    "r_squared",
    "save",
    "save_dataset",
    "save_uncertainty",
    "summary",
    "write_csv",
    "write_table",
]

ALL = "all"
PER_VARIABLE = ("nrmse", "rmse", "vrmse", "mae", "max_error", "brmse")
UNCERTAINTY = ("crps", "nll", "sharpness", "spread", "rmse", "degenerate_std")
STATED = ("split", "steps_given", "steps_scored")


@dataclass(frozen=True)
class Row:
    """Statistics of one metric of one variable over all samples.

    Arguments:
        metric: `relative_l2` is over all times of a sample, `normalized_error` of its one number; every other is
            averaged over time first, root mean square errors by their squares.
        variable: Name of the variable, or "all" for the mean over variables.
        band: Band of the wave number, for metrics that have one.
        mean: Mean over samples; for `rmse`, `brmse`, `frmse` and `crmse` the root of the mean square; for `r2` the
            number of all samples together.
        median: Median over samples.
        low: Lower end of the 90 % bootstrap interval of the mean.
        high: Upper end.
        largest: Largest value of one sample and time; of one sample for `relative_l2`.
        samples: Number of samples that count.
        simulations: Number of independent simulations among them, over which the interval is taken.
        degenerate: Number of pairs of sample and time left out because the target is zero or constant; of samples (for
            "all", of pairs of sample and variable) for `relative_l2`.
    """

    metric: str
    variable: str
    band: str
    mean: float
    median: float
    low: float
    high: float
    largest: float
    samples: int
    simulations: int
    degenerate: int


def summary(metrics: xr.Dataset, *, seed: int = 0) -> list[Row]:
    """Compute mean, median and 90 % bootstrap interval over simulations of every metric of the tables.

    Arguments:
        metrics: The result of `evaluate`.
        seed: Seed of the bootstrap.
    """
    rows = [
        _row(name, ALL, metrics[f"{name}_sample"], int(metrics[f"{name}_variable"].isnull().sum()), seed)
        for name in _of_samples(metrics)
    ]
    for variable in map(str, metrics["variable"].values):
        chosen = metrics.sel(variable=variable)
        scored = chosen["squared_target"].notnull()
        for name in _of_samples(metrics):
            errors = chosen[f"{name}_variable"]
            rows.append(_row(name, variable, errors, int(errors.isnull().sum()), seed))
        for name in (name for name in PER_VARIABLE if name in metrics):  # points of a mesh have no boundary cells
            lost = int((scored & chosen[name].isnull()).sum())
            rows.append(_row(name, variable, chosen[name], lost, seed))
        for band in _bands(metrics):
            rows.append(replace(_row("frmse", variable, chosen["frmse"].sel(band=band), 0, seed), band=band))
        rows.append(_row("crmse", variable, abs(chosen["conserved_error"]), 0, seed))
        of_all, nan = r_squared(chosen), math.nan
        rows.append(replace(rows[-1], metric="r2", mean=of_all, median=nan, low=nan, high=nan, largest=nan))
    return rows


def r_squared(metrics: xr.Dataset) -> float:
    r"""Return the coefficient of determination :math:`1 - \sum e^2 / \sum (q - m)^2` over all samples and times.

    m is the mean of all targets; 1 is perfect, 0 is what predicting m gives. NaN where all targets are equal.

    Arguments:
        metrics: The result of `evaluate` for one variable.
    """
    count, mean = metrics["scored_points"], metrics["target_mean"]
    total = float((count * mean).sum() / count.sum())
    within = metrics["target_variance"] * (count - 1)
    spread = float((within + count * (mean - total) ** 2).sum())
    return 1 - float(metrics["squared_error"].sum()) / spread if spread > 0 else float("nan")


def _of_samples(metrics: xr.Dataset) -> list[str]:
    """Name the errors with one number per sample: relative L2, and the headline error where it is another."""
    return list(dict.fromkeys([RELATIVE.metric, headline(metrics).metric]))


def _row(metric: str, variable: str, errors: xr.DataArray, degenerate: int, seed: int) -> Row:
    """Average every sample over its times, then over samples; the interval resamples whole simulations."""
    squared = metric in (*ROOTS, "crmse")
    values = errors**2 if squared else errors
    samples = values.mean("time") if "time" in values.dims else values
    kept = np.isfinite(samples.values)
    samples, clusters = samples.values[kept], values["simulation"].values[kept]
    units = len(np.unique(clusters))
    if units == 0:
        nan = float("nan")
        return Row(metric, variable, "", nan, nan, nan, nan, nan, 0, 0, degenerate)
    low, high = interval(samples, clusters=clusters, seed=seed)
    numbers = [float(samples.mean()), float(np.median(samples)), low, high, float(np.nanmax(values.values))]
    mean, median, low, high, largest = (float(np.sqrt(number)) for number in numbers) if squared else numbers
    return Row(metric, variable, "", mean, median, low, high, largest, len(samples), units, degenerate)


def save(metrics: xr.Dataset, folder: Path, *, seed: int = 0) -> list[Row]:
    """Write `metrics.nc`, `metrics.csv`, `summary.csv` and `compat.csv`.

    `metrics.csv` has a row per sample, time and variable; the bands are in `metrics.nc` alone, except those of `frmse`.
    Every row of every table states the split and the steps given and scored, as far as `metrics.attrs` has them.

    Returns:
        The rows of the summary.

    Raises:
        ResourceError: The folder cannot be written; earlier files are intact.
    """
    rows = summary(metrics, seed=seed)
    files = EvaluationFolder(folder)
    save_dataset(metrics, files.metrics)
    stated = {name: metrics.attrs.get(name, "not stated") for name in STATED}
    flat = metrics[[name for name in (*METRICS, *GRID_METRICS) if name in metrics]]
    for band in _bands(metrics):
        flat[f"frmse_{band}"] = metrics["frmse"].sel(band=band, drop=True)
    columns = ("sample", "simulation", "step", "time", "variable", *map(str, flat.data_vars))
    frame = flat.to_dataframe().reset_index()
    frame = frame[frame["squared_target"].notna()].assign(**stated)
    header = [*columns, *STATED]
    write_csv(files.metrics_table, header, frame[header].itertuples(index=False))
    write_table(files.summary, rows, stated)
    write_table(files.compat, compat_table(metrics), stated)
    return rows


def save_uncertainty(scores: xr.Dataset, folder: Path, *, seed: int = 0) -> list[Row]:
    """Write `uncertainty.nc`, and `uncertainty.csv` with a row per score and variable.

    The `band` of a coverage is the level of its interval.

    Raises:
        ResourceError: The folder cannot be written; earlier files are intact.
    """
    rows = []
    for variable in map(str, scores["variable"].values):
        chosen = scores.sel(variable=variable)
        for name in UNCERTAINTY:
            lost = int((chosen["crps"].notnull() & chosen[name].isnull()).sum())
            rows.append(_row(name, variable, chosen[name], lost, seed))
        for level in chosen["level"].values:
            row = _row("coverage", variable, chosen["coverage"].sel(level=level), 0, seed)
            rows.append(replace(row, band=f"{level:g}"))
    files = EvaluationFolder(folder)
    save_dataset(scores, files.uncertainty)
    write_table(files.uncertainty_table, rows, {name: scores.attrs.get(name, "not stated") for name in STATED})
    return rows


def _bands(metrics: xr.Dataset) -> list[str]:
    """Name the bands of the wave number that the grid has."""
    return (
        [str(band) for band in metrics["frmse"].dropna("band", how="all")["band"].values] if "frmse" in metrics else []
    )


def write_table(path: Path, rows: Sequence[Any], stated: Mapping[str, Any] | None = None) -> None:
    """Write dataclass rows as CSV, each followed by the columns of `stated`, which are the same for all.

    Raises:
        ResourceError: It cannot be written; an earlier file is intact.
    """
    stated = stated or {}
    names = [field.name for field in fields(rows[0])] if rows else []
    write_csv(path, [*names, *stated], ([*asdict(row).values(), *stated.values()] for row in rows))


def save_dataset(dataset: xr.Dataset, path: Path) -> None:
    """Write a NetCDF file, built in memory first, since HDF5 crashes the process when a disk is full."""
    content = netcdf_image(dataset)
    with replacing(path) as part:
        part.write_bytes(content)


def write_csv(path: Path, header: Sequence[Hashable], rows: Iterable[Iterable[Any]]) -> None:
    """Write a header and rows as CSV.

    Raises:
        ResourceError: It cannot be written; an earlier file is intact.
    """
    with replacing(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
