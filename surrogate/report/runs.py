"""Read the files of a run folder for a report."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from surrogate.config import read_yaml
from surrogate.data.hdf5.netcdf import load_netcdf
from surrogate.errors import ConfigError, DataError
from surrogate.experiment.loss import loss_words
from surrogate.experiment.run_folder import RunFolder

__all__ = ["Case", "read_case"]

EPOCH_KEYS = ("train_loss", "validation_loss", "seconds")
STEP_KEYS = ("loss", "damping", "running_sum", "effective_dof")


@dataclass(frozen=True)
class Case:
    """Trained and evaluated run.

    Arguments:
        name: Name in tables and legends.
        folder: The run folder.
        facts: Content of `run.json`.
        config: Text of the resolved configuration.
        planned_epochs: Epochs of the configuration; None where it gives none.
        loss: Name and units of the loss.
        rows: `summary.csv`, by metric and variable.
        metrics: `metrics.nc`.
        examples: `examples.nc`, None where it was not written; the next three likewise.
        maps: `maps.nc`, errors at every grid point.
        latent: `latent.nc`, principal components of the latent space.
        uncertainty: `uncertainty.nc`, scores of predicted standard deviations.
        uncertainty_rows: `uncertainty.csv`, by score and variable.
        rollout: `rollout.nc`, errors of roll-outs at every lead time.
        rollout_rows: `rollout_summary.csv`, a row per variable and lead time.
        rollout_growth: `rollout_growth.csv`, a row per variable.
        rollout_example: `rollout_example.nc`, the fields of one roll-out.
        epochs: The log by epoch.
        steps: The log by step; NaN where the optimizer logged nothing.
    """

    name: str
    folder: Path
    facts: dict[str, Any]
    config: str
    planned_epochs: int | None
    loss: str
    rows: dict[tuple[str, str], dict[str, str]]
    metrics: xr.Dataset
    examples: xr.Dataset | None
    maps: xr.Dataset | None
    latent: xr.Dataset | None
    uncertainty: xr.Dataset | None
    uncertainty_rows: dict[tuple[str, str], dict[str, str]]
    rollout: xr.Dataset | None
    rollout_rows: list[dict[str, str]]
    rollout_growth: list[dict[str, str]]
    rollout_example: xr.Dataset | None
    epochs: xr.Dataset
    steps: xr.Dataset

    def number(self, metric: str, column: str, variable: str = "all") -> float:
        """Return an entry of `summary.csv`; NaN where an evaluation of an earlier version has none."""
        row = self.rows.get((metric, variable))
        return float("nan") if row is None else float(row[column])

    @property
    def variables(self) -> list[str]:
        """Names of the target variables."""
        return [str(name) for name in self.metrics["variable"].values]

    @property
    def lead_unit(self) -> str:
        """Unit of the lead times of roll-outs; "" where unknown."""
        return "" if self.rollout is None else str(self.rollout["lead"].attrs.get("units", ""))

    @property
    def units(self) -> dict[str, str]:
        """Unit of every target variable; "" where unknown."""
        return dict(zip(self.variables, map(str, self.metrics["units"].values), strict=True))


def read_case(name: str, folder: Path) -> Case:
    """Read a run folder.

    Raises:
        ConfigError: It is no run folder, or the run was not evaluated.
        DataError: One of its files cannot be read.
    """
    run, evaluation = RunFolder(folder), RunFolder(folder).evaluation
    for file in (run.config, run.facts, run.log_file):
        if not file.is_file():
            raise ConfigError(
                f"{folder} is no run folder: {file.name} is missing; name a folder made by `surrogate train`"
            )
    for file in (evaluation.metrics, evaluation.summary):
        if not file.is_file():
            raise ConfigError(f"{file} is missing; run `surrogate evaluate {folder}` first")
    evaluation.verify()
    records = run.records()
    sections = {name: values for name, values in read_yaml(run.config).tree.items() if isinstance(values, dict)}
    training, data = sections.get("training", {}), sections.get("data", {})
    epochs = training.get("epochs")
    return Case(
        name=name,
        folder=folder,
        facts=run.begun(),
        config=(run.config).read_text(encoding="utf-8"),
        planned_epochs=epochs if isinstance(epochs, int) else None,
        loss=loss_words(training.get("loss"), data.get("normalize")),
        rows=_read_summary(evaluation.summary),
        metrics=_read_netcdf(evaluation.metrics),
        examples=_read_if_there(evaluation.examples),
        maps=_read_if_there(evaluation.maps),
        latent=_read_if_there(evaluation.latent),
        uncertainty=_read_if_there(evaluation.uncertainty),
        uncertainty_rows=_read_summary(evaluation.uncertainty_table),
        rollout=_read_if_there(evaluation.rollout),
        rollout_rows=_read_rows(evaluation.rollout_summary, {"variable", "lead", "median", "persistence"}),
        rollout_growth=_read_rows(evaluation.rollout_growth, {"variable", "threshold", "time", "passed"}),
        rollout_example=_read_if_there(evaluation.rollout_example),
        epochs=_table(records, "epoch", EPOCH_KEYS),
        steps=_table(records, "step", STEP_KEYS),
    )


def _read_summary(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    rows = _read_rows(path, {"metric", "variable", "mean", "low", "high", "simulations"})
    return {("_".join(filter(None, (row["metric"], row.get("band")))), row["variable"]): row for row in rows}


def _read_rows(path: Path, columns: set[str]) -> list[dict[str, str]]:
    """Read the rows of a table, which must have these columns; none where there is no file."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not columns <= set(rows[0]):
        raise DataError(f"{path}: no table of metrics; run `surrogate evaluate {path.parents[1]}` again")
    return rows


def _read_if_there(path: Path) -> xr.Dataset | None:
    return _read_netcdf(path) if path.is_file() else None


def _read_netcdf(path: Path) -> xr.Dataset:
    try:
        return load_netcdf(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: cannot be read ({reason}); run `surrogate evaluate {path.parents[1]}` again"
        ) from error


def _table(records: Sequence[dict[str, Any]], event: str, keys: Sequence[str]) -> xr.Dataset:
    """Arrange the records of one event along their number; a value that is absent or null becomes NaN."""
    chosen = [record for record in records if record.get("event") == event]
    columns = {key: np.full(len(chosen), np.nan) for key in keys}
    for index, record in enumerate(chosen):
        for key in keys:
            if isinstance(record.get(key), int | float):
                columns[key][index] = record[key]
    return xr.Dataset(
        {key: (event, column) for key, column in columns.items()},
        coords={event: np.array([record.get(event, 0) for record in chosen], dtype=np.int64)},
    )
