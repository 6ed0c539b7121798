"""The figures of a report, written as PNG files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from surrogate.evaluation import mean_relative_l2
from surrogate.plotting import (
    new_figure,
    plot_comparison,
    plot_damping,
    plot_error_histogram,
    plot_error_over_time,
    plot_intervals,
    plot_running_sum,
    plot_training,
    save_figure,
)
from surrogate.report.runs import Case
from surrogate.report.words import number

__all__ = ["Picture", "draw_comparison", "draw_examples"]

SHOWN = 4  # variables of an example
CAPTIONS = {
    "intervals": "Mean relative L2 error with its 90 % bootstrap interval over samples.",
    "error_over_time": "Relative L2 error against the time of the first step given: median over samples, "
    "band from 10 to 90 %.",
    "error_histogram": "Relative L2 error of every sample.",
    "training": "Loss per epoch. The training loss is an average over the epoch, while the model still changes.",
    "damping": "Damping λ that slimTrain chose, at each logged step; linear about zero, logarithmic beyond.",
    "running_sum": "Running sum Λ of the damping, at each logged step.",
}


@dataclass(frozen=True)
class Picture:
    """A figure on disk.

    Arguments:
        path: The PNG file.
        caption: What it shows.
    """

    path: Path
    caption: str


def draw_comparison(cases: Sequence[Case], folder: Path) -> list[Picture]:
    """Every case in one panel each: intervals, errors over time and samples, training, damping."""
    figures = {
        "intervals": _intervals(cases),
        "error_over_time": _over_time(cases),
        "error_histogram": _histogram(cases),
        "training": _training(cases),
        "damping": _steps(cases, "damping"),
        "running_sum": _steps(cases, "running_sum"),
    }
    return [_save(it, folder / f"{name}.png", CAPTIONS[name]) for name, it in figures.items() if it is not None]


def draw_examples(case: Case, position: int, folder: Path) -> list[Picture]:
    """The worst, the median and the best example of a case.

    Arguments:
        case: The case.
        position: Its place in the report, which keeps the names of files apart.
        folder: Where the files go.
    """
    if case.examples is None:
        return []
    pictures = []
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", case.name)[:40]
    for name in map(str, case.examples["example"].values):
        example = case.examples.sel(example=name)
        path = folder / f"case{position + 1}_{stem}_{name}.png"
        pictures.append(_save(_example(example), path, _caption(name, example)))
    return pictures


def _save(figure: Figure, path: Path, caption: str) -> Picture:
    save_figure(figure, path)
    return Picture(path, caption)


def _intervals(cases: Sequence[Case]) -> Figure | None:
    estimates = {case.name: _estimate(case) for case in cases}
    estimates = {name: estimate for name, estimate in estimates.items() if np.isfinite(estimate[0])}
    if len(estimates) < 2:
        return None
    figure, axes = new_figure(height=1.1 + 0.4 * len(estimates))
    plot_intervals(estimates, label="relative L2 error", ax=axes[0, 0])
    return figure


def _estimate(case: Case) -> tuple[float, float, float]:
    mean, low, high = (case.number("relative_l2", key) for key in ("mean", "low", "high"))
    return mean, low, high


def _over_time(cases: Sequence[Case]) -> Figure | None:
    errors = {case.name: mean_relative_l2(case.metrics) for case in cases}
    errors = {name: error for name, error in errors.items() if error.sizes["time"] > 1 and error.notnull().any()}
    if not errors:
        return None
    figure, axes = new_figure()
    plot_error_over_time({name: _named(error) for name, error in errors.items()}, ax=axes[0, 0])
    return figure


def _histogram(cases: Sequence[Case]) -> Figure | None:
    errors = {case.name: _named(case.metrics["relative_l2_sample"]) for case in cases}
    if sum(int(error.notnull().sum()) for error in errors.values()) < 2:
        return None
    figure, axes = new_figure()
    plot_error_histogram(errors, ax=axes[0, 0])
    return figure


def _training(cases: Sequence[Case]) -> Figure | None:
    curves = {case.name: case.epochs for case in cases if case.epochs.sizes["epoch"]}
    if not curves:
        return None
    figure, axes = new_figure(height=3.8)
    plot_training(curves, ax=axes[0, 0])
    return figure


def _steps(cases: Sequence[Case], key: str) -> Figure | None:
    curves = {case.name: case.steps[key].dropna("step") for case in cases}
    curves = {name: curve for name, curve in curves.items() if curve.size}
    if not curves:
        return None
    figure, axes = new_figure()
    plot = {"damping": plot_damping, "running_sum": plot_running_sum}[key]
    plot(curves, ax=axes[0, 0])
    return figure


def _example(example: xr.Dataset) -> Figure:
    """A row of panels per variable; without space, the variables themselves are the axis."""
    if example["truth"].ndim == 1:
        figure, axes = new_figure(1, 3, width=10.5, height=3.2)
        plot_comparison(_labelled(example, "value", ""), ax=axes[0])
        return figure
    shown = np.unique(np.linspace(0, example.sizes["variable"] - 1, SHOWN).round().astype(int))
    figure, axes = new_figure(len(shown), 3, width=10.5, height=3.1 * len(shown))
    for row, index in zip(axes, shown, strict=True):
        fields = example.isel(variable=int(index))
        plot_comparison(_labelled(fields, str(fields["variable"].item()), str(fields["units"].item())), ax=row)
    return figure


def _labelled(fields: xr.Dataset, name: str, units: str) -> xr.Dataset:
    chosen = fields[["truth", "prediction"]]
    chosen["truth"] = chosen["truth"].assign_attrs(long_name=name, units=units)
    return chosen


def _named(error: xr.DataArray) -> xr.DataArray:
    return error.assign_attrs(long_name="relative L2 error")


def _caption(name: str, example: xr.Dataset) -> str:
    variables = example.sizes["variable"]
    left_out = f" {SHOWN} of {variables} variables." if example["truth"].ndim > 1 and variables > SHOWN else ""
    error = number(float(example["error_of_pair"]))
    simulation = example["simulation"].item()
    return f"{name.capitalize()}: simulation {simulation}{_time(example)}, relative L2 error {error}.{left_out}"


def _time(example: xr.Dataset) -> str:
    if example.attrs.get("times", 1) == 1:
        return ""
    return f", time {number(float(example['time']))} {example['time'].attrs.get('units', '')}".rstrip()
