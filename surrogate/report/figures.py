"""The figures of a report, written as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from surrogate.evaluation import BASELINE, RELATIVE, mean_relative_l2
from surrogate.experiment.loss import common_loss
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

__all__ = ["ComparisonFigures", "Picture", "draw_comparison", "save_picture"]

PARAMETERS = 4  # panels of errors against a parameter
CAPTIONS = {
    "intervals": "Mean {error} with its 90 % bootstrap interval over simulations.",
    "error_over_time": "Relative L2 error against the time of the first step given: median over samples, "
    "band from 10 to 90 %.",
    "error_over_lead": "Relative L2 error of roll-outs from the first step of each simulation against lead time, mean "
    "over variables: median over simulations, band from 10 to 90 %. Persistence keeps the last state given.",
    "error_histogram": "Number of samples by their {error}.",
    "training": "Loss per epoch ({loss}): solid on the validation data, dashed on the training data, where it is an "
    "average over the epoch, while the model still changes.",
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
        caption: Its caption.
    """

    path: Path
    caption: str


def draw_comparison(cases: Sequence[Case], folder: Path) -> list[Picture]:
    """Draw all cases in each figure: intervals, errors over time and samples, training, damping.

    Arguments:
        cases: The cases.
        folder: Folder of the pictures.
    """
    draw = ComparisonFigures(cases)
    figures = {
        "intervals": draw.intervals(),
        "error_over_time": draw.error_over_time(),
        "error_over_lead": draw.error_over_lead(),
        "error_histogram": draw.error_histogram(),
        "training": draw.training(),
        "damping": draw.steps("damping", plot_damping),
        "running_sum": draw.steps("running_sum", plot_running_sum),
        "effective_dof": draw.steps("effective_dof", plot_effective_dof),
        "parameters": draw.parameters(),
    }
    return [
        save_picture(figure, folder / f"{name}.png", CAPTIONS[name].format(error=draw.error.words, loss=draw.loss))
        for name, figure in figures.items()
        if figure is not None
    ]


def save_picture(figure: Figure, path: Path, caption: str) -> Picture:
    """Write a figure and return it with its caption."""
    save_figure(figure, path)
    return Picture(path, caption)


class ComparisonFigures:
    """Figures of several cases; each is None where the cases have nothing to draw.

    Arguments:
        cases: The cases.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases, self.error = cases, known_by(cases)
        self.loss = common_loss(case.loss for case in cases)

    def intervals(self) -> Figure | None:
        """Draw the mean headline error of every case with its interval."""
        columns = ("mean", "low", "high")
        estimates = {}
        for case in self.cases:
            mean, low, high = (case.number(self.error.metric, column) for column in columns)
            if np.isfinite(mean):
                estimates[case.name] = (mean, low, high)
        if len(estimates) < 2:
            return None
        figure, axes = new_figure(height=1.1 + 0.4 * len(estimates))
        plot_intervals(estimates, label=self.error.words, ax=axes[0, 0])
        return figure

    def error_over_time(self) -> Figure | None:
        """Draw the error against the time of the first step given."""
        errors = {case.name: mean_relative_l2(case.metrics) for case in self.cases}
        errors = {name: error for name, error in errors.items() if error.sizes["time"] > 1 and error.notnull().any()}
        if not errors:
            return None
        figure, axes = new_figure()
        plot_error_over_time({name: _relative(error) for name, error in errors.items()}, ax=axes[0, 0])
        return figure

    def error_over_lead(self) -> Figure | None:
        """Draw the error of roll-outs against lead time, with the persistence baseline."""
        rolled = {case.name: case.rollout for case in self.cases if case.rollout is not None}
        errors = {name: scores["relative_l2"].mean("variable") for name, scores in rolled.items()}
        errors = {name: error for name, error in errors.items() if error.sizes["lead"] > 1 and error.notnull().any()}
        if not errors:
            return None
        first = rolled[next(iter(errors))]
        kept = first[f"{BASELINE}relative_l2"].mean("variable")
        if kept.notnull().any():
            errors["persistence"] = kept
        figure, axes = new_figure(height=3.8)
        named = {name: _relative(error) for name, error in errors.items()}
        plot_error_over_lead(named, threshold=first.attrs.get("threshold"), ax=axes[0, 0])
        return figure

    def error_histogram(self) -> Figure | None:
        """Draw the number of samples by their headline error."""
        errors = {case.name: self._of_samples(case) for case in self.cases}
        if sum(int(error.notnull().sum()) for error in errors.values()) < 2:
            return None
        figure, axes = new_figure()
        plot_error_histogram(errors, ax=axes[0, 0])
        return figure

    def training(self) -> Figure | None:
        """Draw the losses per epoch."""
        curves = {case.name: case.epochs for case in self.cases if case.epochs.sizes["epoch"]}
        if not curves:
            return None
        figure, axes = new_figure(height=3.8)
        plot_training(curves, label=self.loss, ax=axes[0, 0])
        return figure

    def steps(self, key: str, plot: Callable[..., Axes]) -> Figure | None:
        """Draw a quantity of slimTrain at each logged step."""
        curves = {case.name: case.steps[key].dropna("step") for case in self.cases}
        curves = {name: curve for name, curve in curves.items() if curve.size}
        if not curves:
            return None
        figure, axes = new_figure()
        plot(curves, ax=axes[0, 0])
        return figure

    def parameters(self) -> Figure | None:
        """Draw the error against each parameter that varies over the test simulations, at most four."""
        first = self.cases[0].metrics
        names = [str(name) for name in first.coords if str(name).startswith("parameter_")]
        names = [name for name in names if len(np.unique(first[name])) > 2 and np.isfinite(first[name]).all()]
        names = [name for name in names[:PARAMETERS] if all(name in case.metrics.coords for case in self.cases)]
        if not names:
            return None
        figure, panels = new_panels(len(names), height=3.3)
        for name, panel in zip(names, panels, strict=True):
            errors = {}
            for case in self.cases:
                along = ("sample", case.metrics[name].values, case.metrics[name].attrs)
                errors[case.name] = self._of_samples(case).reset_coords(drop=True).assign_coords(sample=along)
            plot_error_against_parameter(errors, ax=panel)
        return figure

    def _of_samples(self, case: Case) -> xr.DataArray:
        return case.metrics[f"{self.error.metric}_sample"].assign_attrs(long_name=self.error.words)


def _relative(error: xr.DataArray) -> xr.DataArray:
    return error.assign_attrs(long_name=RELATIVE.words)
