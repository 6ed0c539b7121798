"""The figures of a report, written as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from surrogate.evaluation import BASELINE, RELATIVE, Headline, mean_relative_l2
from surrogate.plotting import (
    new_figure,
    new_panels,
    plot_damping,
    plot_effective_dof,
    plot_error_against_parameter,
    plot_error_histogram,
    plot_error_over_lead,
    plot_error_over_time,
    plot_intervals,
    plot_running_sum,
    plot_training,
    save_figure,
)
from surrogate.report.runs import Case
from surrogate.report.tables import known_by

__all__ = ["Picture", "draw_comparison", "save_picture"]

PARAMETERS = 4  # panels of errors against a parameter
CAPTIONS = {
    "intervals": "Mean {error} with its 90 % bootstrap interval over simulations.",
    "error_over_time": "Relative L2 error against the time of the first step given: median over samples, "
    "band from 10 to 90 %.",
    "error_over_lead": "Relative L2 error of roll-outs from the first step of each simulation against lead time, mean "
    "over variables: median over simulations, band from 10 to 90 %. Persistence keeps the last state given.",
    "error_histogram": "Number of samples by their {error}.",
    "training": "Loss per epoch. The training loss is an average over the epoch, while the model still changes.",
    "damping": "Damping λ that slimTrain chose, at each logged step; linear about zero, logarithmic beyond.",
    "running_sum": "Running sum Λ of the damping, at each logged step.",
    "effective_dof": "Effective degrees of freedom of the head per output, at each logged step.",
    "parameters": "The {error} of every simulation against its parameters; lines are medians of neighbours.",
}


@dataclass(frozen=True)
class Picture:
    """A figure on disk.

    Arguments:
        path: The PNG or GIF file.
        caption: What it shows.
    """

    path: Path
    caption: str


def draw_comparison(cases: Sequence[Case], folder: Path) -> list[Picture]:
    """Every case in one panel each: intervals, errors over time and samples, training, damping."""
    figures = {
        "intervals": _intervals(cases),
        "error_over_time": _over_time(cases),
        "error_over_lead": _over_lead(cases),
        "error_histogram": _histogram(cases),
        "training": _training(cases),
        "damping": _steps(cases, "damping"),
        "running_sum": _steps(cases, "running_sum"),
        "effective_dof": _steps(cases, "effective_dof"),
        "parameters": _parameters(cases),
    }
    error = known_by(cases).words
    return [
        save_picture(figure, folder / f"{name}.png", CAPTIONS[name].format(error=error))
        for name, figure in figures.items()
        if figure is not None
    ]


def save_picture(figure: Figure, path: Path, caption: str) -> Picture:
    """Write a figure and keep its caption."""
    save_figure(figure, path)
    return Picture(path, caption)


def _intervals(cases: Sequence[Case]) -> Figure | None:
    error = known_by(cases)
    estimates = {case.name: _estimate(case, error.metric) for case in cases}
    estimates = {name: estimate for name, estimate in estimates.items() if np.isfinite(estimate[0])}
    if len(estimates) < 2:
        return None
    figure, axes = new_figure(height=1.1 + 0.4 * len(estimates))
    plot_intervals(estimates, label=error.words, ax=axes[0, 0])
    return figure


def _estimate(case: Case, metric: str) -> tuple[float, float, float]:
    mean, low, high = (case.number(metric, key) for key in ("mean", "low", "high"))
    return mean, low, high


def _over_time(cases: Sequence[Case]) -> Figure | None:
    errors = {case.name: mean_relative_l2(case.metrics) for case in cases}
    errors = {name: error for name, error in errors.items() if error.sizes["time"] > 1 and error.notnull().any()}
    if not errors:
        return None
    figure, axes = new_figure()
    plot_error_over_time({name: _named(error) for name, error in errors.items()}, ax=axes[0, 0])
    return figure


def _over_lead(cases: Sequence[Case]) -> Figure | None:
    rolled = {case.name: case.rollout for case in cases if case.rollout is not None}
    errors = {name: scores["relative_l2"].mean("variable") for name, scores in rolled.items()}
    errors = {name: error for name, error in errors.items() if error.sizes["lead"] > 1 and error.notnull().any()}
    if not errors:
        return None
    first = rolled[next(iter(errors))]
    kept = first[f"{BASELINE}relative_l2"].mean("variable")
    if kept.notnull().any():
        errors["persistence"] = kept
    figure, axes = new_figure(height=3.8)
    named = {name: _named(error) for name, error in errors.items()}
    plot_error_over_lead(named, threshold=first.attrs.get("threshold"), ax=axes[0, 0])
    return figure


def _histogram(cases: Sequence[Case]) -> Figure | None:
    error = known_by(cases)
    errors = {case.name: _of_samples(case, error) for case in cases}
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
    plots = {"damping": plot_damping, "running_sum": plot_running_sum, "effective_dof": plot_effective_dof}
    plots[key](curves, ax=axes[0, 0])
    return figure


def _parameters(cases: Sequence[Case]) -> Figure | None:
    """A panel for each parameter that varies over the test simulations, at most four."""
    first = cases[0].metrics
    names = [str(name) for name in first.coords if str(name).startswith("parameter_")]
    names = [name for name in names if len(np.unique(first[name])) > 2 and np.isfinite(first[name]).all()][:PARAMETERS]
    names = [name for name in names if all(name in case.metrics.coords for case in cases)]
    if not names:
        return None
    error = known_by(cases)
    figure, panels = new_panels(len(names), height=3.3)
    for name, panel in zip(names, panels, strict=True):
        plot_error_against_parameter({case.name: _along(case, name, error) for case in cases}, ax=panel)
    return figure


def _along(case: Case, name: str, error: Headline) -> xr.DataArray:
    parameter = case.metrics[name]
    errors = _of_samples(case, error)
    return errors.reset_coords(drop=True).assign_coords(sample=("sample", parameter.values, parameter.attrs))


def _of_samples(case: Case, error: Headline) -> xr.DataArray:
    return case.metrics[f"{error.metric}_sample"].assign_attrs(long_name=error.words)


def _named(error: xr.DataArray) -> xr.DataArray:
    return error.assign_attrs(long_name=RELATIVE.words)
