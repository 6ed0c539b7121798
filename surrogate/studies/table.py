"""Collect the results of cases in one table: a row per point, then one value per method, point of a grid and seed."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from surrogate.data.hdf5.netcdf import netcdf_image
from surrogate.errors import ConfigError, did_you_mean
from surrogate.experiment.folders import ProjectFolder
from surrogate.experiment.run_folder import RunFolder
from surrogate.files import replacing
from surrogate.quantiles import ROOTS
from surrogate.studies.settings import Value
from surrogate.studies.study_plan import Result, StudyPlan, read_failure, read_result

__all__ = ["DONE", "FAILED", "MISSING", "choose", "on_grid", "per_sample", "save_table", "study_table"]

DONE, FAILED, MISSING = "done", "failed", "missing"
WITH_UNITS = ("rmse", "max_error", "conserved_error")  # those of the targets
NUMBERS = ("error", "validation_loss", "seconds", "epochs", "steps", "parameters", "train")


def study_table(plan: StudyPlan, cases: Path) -> xr.Dataset:
    """Collect the results of all points.

    Arguments:
        plan: The plan.
        cases: Folder of the cases.

    Returns:
        Dimension `point`, with coordinates `number` (in the plan), `method`, `grid`, `seed`, `case`, one for every axis
        and one `tuned.<key>` for every tuned key. Variables: `status` (done, failed, missing), `why` (of a failure),
        `error` (mean over the test samples of the study's metric), `validation_loss`, `seconds`, `epochs`, `steps`,
        `parameters`, `train` (training simulations); `sample_error` (point, sample); `curve_loss` and `curve_seconds`
        (point, epoch).

    Raises:
        ConfigError: The study's metric is none that was scored.
        DataError: A file of a case cannot be read.
    """
    results = {case: read_result(cases / case) for case in plan.cases}
    rows = [_row(results[point.case], plan.study.metric) for point in plan.points]
    data: dict[str, Any] = {name: ("point", np.array([row[name] for row in rows], float)) for name in NUMBERS}
    failures = {case: None if results[case] else read_failure(cases / case) for case in plan.cases}
    status = {case: DONE if results[case] else FAILED if failures[case] else MISSING for case in plan.cases}
    data["status"] = ("point", [status[point.case] for point in plan.points])
    data["why"] = ("point", [failure.error if (failure := failures[p.case]) else "" for p in plan.points])
    data |= _per_sample(plan, cases, results) | _curves(plan, results)
    columns: dict[str, np.ndarray] = {
        name: np.array([getattr(point, name) for point in plan.points]) for name in ("method", "grid", "seed", "case")
    }
    columns["number"] = np.arange(len(plan.points))
    for key in plan.study.keys:
        # in a grid that does not vary it, an axis has the value of the base configuration
        columns[key] = as_column([{**plan.base[p.method], **p.values}.get(key) for p in plan.points])
    for key in dict.fromkeys(key for point in plan.points for key in point.trial):
        columns[f"tuned.{key}"] = as_column([point.trial.get(key) for point in plan.points])
    table = xr.Dataset(data, {name: ("point", column) for name, column in columns.items()})
    table["error"].attrs |= table["sample_error"].attrs | {"long_name": plan.study.metric}
    table["seconds"].attrs["units"] = "s"
    return table.assign_attrs(study=plan.name, kind=plan.study.kind, metric=plan.study.metric)


def as_column(values: Sequence[Value | None]) -> np.ndarray:
    """Return numbers, with NaN for None, or text."""
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        return np.array([np.nan if value is None else value for value in values], float)
    return np.array(["" if value is None else str(value) for value in values])


def _row(result: Result | None, metric: str) -> dict[str, float]:
    if result is None:
        return dict.fromkeys(NUMBERS, np.nan)
    if metric not in result.test:
        raise ConfigError(f"study.metric: no metric '{metric}' was scored; {did_you_mean(metric, result.test)}")
    error = result.test[metric]
    return {
        "error": np.nan if error is None else error,
        "validation_loss": result.validation_loss,
        "seconds": result.seconds,
        "epochs": result.epochs,
        "steps": result.steps,
        "parameters": result.parameters,
        "train": result.simulations["train"],
    }


def per_sample(metrics: xr.Dataset, metric: str) -> xr.DataArray:
    """Return a metric with one number per sample: over all times and variables if so defined, else their mean."""
    if f"{metric}_sample" in metrics:
        return metrics[f"{metric}_sample"]
    dims = [dim for dim in metrics[metric].dims if dim != "sample"]
    return (metrics[metric] ** 2).mean(dims) ** 0.5 if metric in ROOTS else metrics[metric].mean(dims)


def _per_sample(plan: StudyPlan, cases: Path, results: dict[str, Result | None]) -> dict[str, Any]:
    """Return the error of every sample, for paired comparisons."""
    errors_of, units = {}, set()
    for case in (case for case, result in results.items() if result):
        metrics = RunFolder(cases / case).evaluation.read("metrics")
        errors = per_sample(metrics, plan.study.metric)
        units |= set(metrics["units"].values.tolist()) if plan.study.metric in WITH_UNITS else set()
        errors_of[case] = dict(zip(errors["sample"].values.tolist(), errors.values.tolist(), strict=True))
    samples = sorted({sample for errors in errors_of.values() for sample in errors})
    values = [[errors_of.get(point.case, {}).get(sample, np.nan) for sample in samples] for point in plan.points]
    array = np.array(values, float).reshape(len(plan.points), len(samples))
    of_all = {"units": units.pop()} if len(units) == 1 else {}  # a mean over variables of different units has no unit
    return {"sample_error": (("point", "sample"), array, of_all), "sample": ("sample", np.array(samples, int))}


def _curves(plan: StudyPlan, results: dict[str, Result | None]) -> dict[str, Any]:
    epochs = sorted({entry[0] for result in results.values() if result for entry in result.curve})
    losses, seconds = (np.full((len(plan.points), len(epochs)), np.nan) for _ in range(2))
    for row, point in enumerate(plan.points):
        result = results[point.case]
        for epoch, second, loss in result.curve if result else ():
            column = epochs.index(epoch)
            losses[row, column] = np.nan if loss is None else loss
            seconds[row, column] = second
    dims = ("point", "epoch")
    return {"curve_loss": (dims, losses), "curve_seconds": (dims, seconds), "epoch": ("epoch", np.array(epochs, int))}


def choose(table: xr.Dataset, plan: StudyPlan) -> xr.Dataset:
    """Keep one row per method, point of a grid and seed: the trial with the lowest validation loss.

    Failed trials are skipped; if all failed, the first is kept.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, point in enumerate(plan.points):
        key = (point.grid, point.method, tuple(point.values.items()), point.seed)
        groups.setdefault(key, []).append(row)
    losses = np.where(np.isnan(table["validation_loss"].values), np.inf, table["validation_loss"].values)
    return table.isel(point=[min(rows, key=lambda row: losses[row]) for rows in groups.values()])


def on_grid(table: xr.Dataset, plan: StudyPlan, grid: int) -> xr.Dataset:
    """Arrange chosen rows over (method, *axes, seed).

    A method without the setting of an axis has the same value all along it.

    Arguments:
        table: The result of `choose`.
        plan: The plan.
        grid: Number of the grid.
    """
    axes = plan.study.grids[grid]
    labels: dict[str, Sequence[Value]] = {"method": plan.methods, **axes, "seed": plan.study.seeds}
    table = table.isel(point=np.flatnonzero(table["grid"].values == grid))
    index = np.zeros([len(values) for values in labels.values()], int)
    for row, point in enumerate(plan.points[number] for number in table["number"].values):
        place: list[Any] = [plan.methods.index(point.method)]
        place += [slice(None) if (v := point.values[key]) is None else all_.index(v) for key, all_ in axes.items()]
        index[(*place, plan.study.seeds.index(point.seed))] = row
    coords = {name: (name, as_column(values)) if name in axes else np.array(values) for name, values in labels.items()}
    picked = table.drop_vars([name for name in table.coords if name not in ("sample", "epoch", "case")])
    return picked.isel(point=xr.DataArray(index, dims=tuple(labels), coords=coords))


def save_table(table: xr.Dataset, folder: Path) -> None:
    """Write `table.nc` with all values and `table.csv` with one row per point."""
    content = netcdf_image(table)
    files = ProjectFolder(folder)
    with replacing(files.table) as part:
        part.write_bytes(content)
    columns = [name for name in (*table.coords, *table.data_vars) if table[name].dims == ("point",)]
    rows = zip(*(table[name].values.tolist() for name in columns), strict=True)
    with replacing(files.table_csv) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
