"""The figures of one case: examples, error maps, spectra, calibration, latent space, roll-out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from surrogate.evaluation import RELATIVE, calibration
from surrogate.numbers import number
from surrogate.plotting import (
    new_figure,
    plot_comparison,
    plot_error_map,
    plot_latent,
    plot_pit,
    plot_reliability,
    plot_spectra,
    save_animation,
)
from surrogate.plotting.points import with_cells
from surrogate.report.figures import Picture, save_picture
from surrogate.report.runs import Case

__all__ = ["CaseFigures", "draw_case"]

SHOWN = 4  # variables of a figure
SPECTRA = {"target": "spectral_target", "prediction": "spectral_prediction", "error": "spectral_error"}
CALIBRATION = (
    "Calibration of the predicted standard deviations: share of points inside the interval of each level, with "
    "90 % bootstrap bands over simulations, and the probability integral transform, flat where they are right."
)


def draw_case(case: Case, position: int, folder: Path) -> list[Picture]:
    """Draw all figures that the files of a case allow.

    Arguments:
        case: The case.
        position: Its place in the report, which makes the names of files unique.
        folder: Folder of the pictures.
    """
    figures = CaseFigures(case, folder / (f"case{position + 1}_" + re.sub(r"[^A-Za-z0-9-]+", "_", case.name)[:40]))
    return [*figures.examples(), *figures.rollout(), *figures.statistics()]


class CaseFigures:
    """Figures of one case, written as they are drawn.

    Arguments:
        case: The case.
        stem: Path of the pictures without `_name.png`.
    """

    def __init__(self, case: Case, stem: Path) -> None:
        self.case, self.stem = case, stem

    def examples(self) -> Iterator[Picture]:
        """Draw the worst, the median and the best example, a row of panels per variable."""
        if self.case.examples is None:
            return
        for name in map(str, self.case.examples["example"].values):
            example = self.case.examples.sel(example=name)
            fields, variables = example["truth"].ndim > 1, example.sizes["variable"]
            if fields:
                shown = _shown(example)
                figure, axes = new_figure(len(shown), 3, width=10.5, height=3.1 * len(shown))
                for row, index in zip(axes, shown, strict=True):
                    one = example.isel(variable=index)
                    plot_comparison(_labelled(one, str(one["variable"].item()), str(one["units"].item())), ax=row)
            else:  # without space, the variables themselves are the axis
                figure, axes = new_figure(1, 3, width=10.5, height=3.2)
                plot_comparison(_labelled(example, "value", ""), ax=axes[0])
            left_out = f" {SHOWN} of {variables} variables." if fields and variables > SHOWN else ""
            error = number(float(example["error_of_pair"]))
            time = f", time {number(float(example['time']))} {example['time'].attrs.get('units', '')}".rstrip()
            when = "" if example.attrs.get("times", 1) == 1 else time
            words = example["error_of_pair"].attrs.get("long_name", RELATIVE.words)
            simulation = example["simulation"].item()
            caption = f"{name.capitalize()}: simulation {simulation}{when}, {words} {error}.{left_out}"
            yield save_picture(figure, self._path(name), caption)

    def rollout(self) -> Iterator[Picture]:
        """Animate one roll-out, a picture per variable; none without space."""
        fields = self.case.rollout_example
        if fields is None or fields["truth"].ndim < 3 or fields.sizes["lead"] < 2:
            return
        axes = [str(axis) for axis in fields.coords if fields[axis].ndim == 0 and axis not in ("variable", "units")]
        place = ", ".join(f"{axis} = {number(float(fields[axis]))}" for axis in axes)
        for index, name in enumerate(map(str, fields["variable"].values)):
            path = self._path(f"rollout{index + 1}", "gif")
            chosen = fields.isel(variable=index)
            save_animation(_labelled(chosen, name, str(chosen["units"].item())), path)
            yield Picture(
                path,
                f"Roll-out of {name}{f', slice at {place}' if place else ''}: simulation "
                f"{fields.attrs['simulation']}, the one with the median error, from its first step; steps given "
                f"{fields.attrs['steps_given']}.",
            )

    def statistics(self) -> Iterator[Picture]:
        """Draw error maps, spectra, calibration and latent space, as far as the case has them."""
        size = 0 if self.case.latent is None else self.case.latent.attrs["latent_size"]
        drawn = {
            "maps": (self.maps(), "Error at every grid point: mean over test samples of its size, and its mean."),
            "spectra": (
                self.spectra(),
                "Power by wave number, mean over test samples; the mean over space is left out.",
            ),
            "reliability": (self.reliability(), CALIBRATION),
            "latent": (
                self.latent(),
                f"Latent space: the first two principal components of {size} latent numbers.",
            ),
        }
        for name, (figure, caption) in drawn.items():
            if figure is not None:
                yield save_picture(figure, self._path(name), caption)

    def maps(self) -> Figure | None:
        """Draw a row per variable: mean size of the error, and its bias."""
        maps = self.case.maps
        if maps is None or maps["mean_error"].ndim == 1:
            return None
        shown = _shown(maps)
        figure, axes = new_figure(len(shown), 2, width=8.6, height=3.3 * len(shown))
        for row, index in zip(axes, shown, strict=True):
            fields = maps.isel(variable=index)
            units = {"units": str(fields["units"].item())}
            name = str(fields["variable"].item())
            cells = fields["cells"] if "cells" in fields.variables else None
            for ax, key, label in (
                (row[0], "mean_error", f"mean |error| of {name}"),
                (row[1], "bias", f"mean error of {name}"),
            ):
                plot_error_map(fields[key].assign_attrs(long_name=label, **units), cells=cells, ax=ax)
        return figure

    def spectra(self) -> Figure | None:
        """Draw the power of target, prediction and error by wave number, a panel per variable."""
        metrics = self.case.metrics
        if "spectral_error" not in metrics or metrics.sizes["wave_number"] < 3:
            return None
        scored = metrics["spectral_error"].notnull().any(("sample", "time", "wave_number"))
        metrics = metrics.isel(variable=scored.values)
        if not metrics.sizes["variable"]:
            return None
        shown = _shown(metrics)
        figure, axes = new_figure(1, len(shown), width=max(5.4, 3.6 * len(shown)))
        for ax, index in zip(axes[0], shown, strict=True):
            fields = metrics.isel(variable=index)
            name, units = str(fields["variable"].item()), str(fields["units"].item())
            squared = {"units": f"({units})²" if units not in ("", "1") else units}
            power = {key: fields[column].mean(("sample", "time")) for key, column in SPECTRA.items()}
            label = f"power of {name} per wave number"
            plot_spectra({key: value.assign_attrs(long_name=label, **squared) for key, value in power.items()}, ax=ax)
        return figure

    def reliability(self) -> Figure | None:
        """Draw the reliability diagram and the probability integral transform."""
        if self.case.uncertainty is None:
            return None
        curves = calibration(self.case.uncertainty).isel(variable=_shown(self.case.uncertainty))
        names = list(map(str, curves["variable"].values))
        figure, axes = new_figure(1, 2, width=9, height=3.8)
        plot_reliability({name: curves.sel(variable=name) for name in names}, ax=axes[0, 0])
        plot_pit({name: curves["pit"].sel(variable=name) for name in names}, ax=axes[0, 1])
        return figure

    def latent(self) -> Figure | None:
        """Draw samples along the principal components of their latent vectors."""
        latent = self.case.latent
        if latent is None:
            return None
        codes = latent["latent"].transpose("sample", "time", "component").values
        time = np.broadcast_to(latent["time"].values, codes.shape[:2])
        kept = np.isfinite(codes).all(-1)
        points = xr.DataArray(codes[kept], {"explained": latent["explained"]}, ("sample", "component"))
        colour = xr.DataArray(time[kept], dims="sample", attrs={"long_name": "time", **latent["time"].attrs})
        figure, axes = new_figure(height=3.8)
        plot_latent(points, colour=colour if latent.sizes["time"] > 1 else None, ax=axes[0, 0])
        return figure

    def _path(self, name: str, suffix: str = "png") -> Path:
        return self.stem.with_name(f"{self.stem.name}_{name}.{suffix}")


def _shown(data: xr.Dataset) -> list[int]:
    """Return the positions of the variables that are drawn."""
    return [int(i) for i in np.unique(np.linspace(0, data.sizes["variable"] - 1, SHOWN).round())]


def _labelled(fields: xr.Dataset, name: str, units: str) -> xr.Dataset:
    """Return truth and prediction with name and units for labels."""
    chosen = with_cells(fields[["truth", "prediction"]], fields)
    chosen["truth"] = chosen["truth"].assign_attrs(long_name=name, units=units)
    return chosen
