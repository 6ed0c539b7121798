"""A table of averages with bootstrap intervals, and the files that hold the results."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from surrogate.evaluation.metrics import METRICS
from surrogate.evaluation.statistics import interval
from surrogate.files import replacing

__all__ = ["ALL", "Row", "save", "save_dataset", "summary"]

ALL = "all"
PER_VARIABLE = ("nrmse", "rmse", "vrmse", "max_error")


@dataclass(frozen=True)
class Row:
    """One metric of one variable over all samples.

    Arguments:
        metric: `relative_l2` is over all times and variables of a sample; every other is averaged over time first.
        variable: Name of the variable, or "all".
        mean: Mean over samples; for `crmse` the root of the mean square.
        median: Median over samples.
        low: Lower end of the 90 % bootstrap interval of the mean.
        high: Upper end.
        largest: Largest value of one sample and time.
        samples: Number of samples that count.
        degenerate: Number of pairs of sample and time left out because the target is zero or constant.
    """

    metric: str
    variable: str
    mean: float
    median: float
    low: float
    high: float
    largest: float
    samples: int
    degenerate: int


def summary(metrics: xr.Dataset, *, seed: int = 0) -> list[Row]:
    """Mean, median and 90 % bootstrap interval over samples of every headline metric.

    Arguments:
        metrics: The result of `evaluate`.
        seed: Seed of the bootstrap.
    """
    scored = metrics["squared_target"].notnull()
    headline = metrics["relative_l2_sample"]
    zero = int(headline.isnull().sum())
    rows = [_row("relative_l2", ALL, headline, zero, seed)]
    for variable in metrics["variable"].values:
        chosen, there = metrics.sel(variable=variable), scored.sel(variable=variable)
        for name in PER_VARIABLE:
            lost = int((there & chosen[name].isnull()).sum())
            rows.append(_row(name, str(variable), chosen[name], lost, seed))
        rows.append(_crmse(str(variable), chosen["conserved_error"], seed))
    return rows


def _row(metric: str, variable: str, values: xr.DataArray, degenerate: int, seed: int) -> Row:
    frames = values.values[np.isfinite(values.values)]
    samples = values.mean("time") if "time" in values.dims else values
    samples = samples.values[np.isfinite(samples.values)]
    if len(samples) == 0:
        nan = float("nan")
        return Row(metric, variable, nan, nan, nan, nan, nan, 0, degenerate)
    low, high = interval(samples, seed=seed)
    mean, median = float(samples.mean()), float(np.median(samples))
    return Row(metric, variable, mean, median, low, high, float(frames.max()), len(samples), degenerate)


def _crmse(variable: str, errors: xr.DataArray, seed: int) -> Row:
    """cRMSE is a root of a mean square, so the interval is found on the squares."""
    squares = _row("crmse", variable, errors**2, 0, seed)
    roots: dict[str, Any] = {
        name: float(np.sqrt(getattr(squares, name))) for name in ("mean", "median", "low", "high", "largest")
    }
    return replace(squares, **roots)


def save(metrics: xr.Dataset, folder: Path, *, seed: int = 0) -> list[Row]:
    """Write `metrics.nc`, `metrics.csv` (a row per sample, time and variable) and `summary.csv`.

    Every row of the summary says which steps were given and scored, and on which split, where `metrics.attrs` knows it.

    Returns:
        The rows of the summary.

    Raises:
        ResourceError: The folder cannot be written; earlier files are intact.
    """
    rows = summary(metrics, seed=seed)
    save_dataset(metrics, folder / "metrics.nc")
    columns = ("sample", "simulation", "step", "time", "variable")
    frame = metrics[list(METRICS)].to_dataframe().reset_index()
    frame = frame[frame["squared_target"].notna()]
    header = [*columns, *METRICS]
    _write_csv(folder / "metrics.csv", header, frame[header].itertuples(index=False))
    stated = {name: metrics.attrs.get(name, "not stated") for name in ("split", "steps_given", "steps_scored")}
    names = [field.name for field in fields(Row)]
    _write_csv(folder / "summary.csv", [*names, *stated], ([*asdict(row).values(), *stated.values()] for row in rows))
    return rows


def save_dataset(dataset: xr.Dataset, path: Path) -> None:
    """Write a NetCDF file; it is laid out in memory first, since HDF5 ends the process when a disk fills."""
    content = dataset.to_netcdf(engine="h5netcdf")
    with replacing(path) as part:
        part.write_bytes(content)


def _write_csv(path: Path, header: Sequence[Hashable], rows: Iterable[Iterable[Any]]) -> None:
    with replacing(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
