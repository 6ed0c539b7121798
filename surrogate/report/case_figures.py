"""The figures of one case: examples, where and at which scales it errs, its uncertainty, its latent space."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from surrogate.evaluation import RELATIVE, calibration
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
from surrogate.report.figures import Picture, save_picture
from surrogate.report.runs import Case
from surrogate.report.tables import number

__all__ = ["draw_case"]

SHOWN = 4  # variables of a figure
SPECTRA = {"target": "spectral_target", "prediction": "spectral_prediction", "error": "spectral_error"}


def draw_case(case: Case, position: int, folder: Path) -> list[Picture]:
    """Everything that the files of a case allow.

    Arguments:
        case: The case.
        position: Its place in the report, which keeps the names of files apart.
        folder: Where the files go.
    """
    stem = f"case{position + 1}_" + re.sub(r"[^A-Za-z0-9-]+", "_", case.name)[:40]
    figures = {
        "maps": (_maps(case), "Error at every grid point: mean over test samples of its size, and its mean."),
        "spectra": (_spectra(case), "Power by wave number, mean over test samples; the mean over space is left out."),
        "reliability": (
            _reliability(case),
            "Calibration of the predicted standard deviations: share of points inside the interval of each level, with "
            "90 % bootstrap bands over simulations, and the probability integral transform, flat where they are right.",
        ),
        "latent": (_latent(case), _latent_caption(case)),
    }
    drawn = [
        save_picture(f, folder / f"{stem}_{name}.png", text) for name, (f, text) in figures.items() if f is not None
    ]
    return _draw_examples(case, stem, folder) + _draw_rollout(case, stem, folder) + drawn


def _draw_rollout(case: Case, stem: str, folder: Path) -> list[Picture]:
    """One roll-out in motion, a picture per variable; none without space."""
    fields = case.rollout_example
    if fields is None or fields["truth"].ndim < 3 or fields.sizes["lead"] < 2:
        return []
    pictures = []
    for index, name in enumerate(map(str, fields["variable"].values)):
        path = folder / f"{stem}_rollout{index + 1}.gif"
        chosen = fields.isel(variable=index)
        save_animation(_labelled(chosen, name, str(chosen["units"].item())), path)
        pictures.append(Picture(path, _rollout_caption(name, fields)))
    return pictures


def _rollout_caption(name: str, fields: xr.Dataset) -> str:
    place = [f"{axis} = {number(float(fields[axis]))}" for axis in fields.coords if _is_slice(fields, str(axis))]
    where = f", slice at {', '.join(place)}" if place else ""
    return (
        f"Roll-out of {name}{where}: simulation {fields.attrs['simulation']}, that with the median error, from its "
        f"first step; steps given {fields.attrs['steps_given']}."
    )


def _is_slice(fields: xr.Dataset, axis: str) -> bool:
    return fields[axis].ndim == 0 and axis not in ("variable", "units")


def _draw_examples(case: Case, stem: str, folder: Path) -> list[Picture]:
    """The worst, the median and the best example of a case."""
    if case.examples is None:
        return []
    pictures = []
    for name in map(str, case.examples["example"].values):
        example = case.examples.sel(example=name)
        pictures.append(save_picture(_example(example), folder / f"{stem}_{name}.png", _caption(name, example)))
    return pictures


def _shown(data: xr.Dataset) -> list[int]:
    """Positions of the variables that are drawn."""
    return [int(i) for i in np.unique(np.linspace(0, data.sizes["variable"] - 1, SHOWN).round())]


def _maps(case: Case) -> Figure | None:
    """A row per variable: mean size of the error, and its bias."""
    if case.maps is None or case.maps["mean_error"].ndim == 1:
        return None
    shown = _shown(case.maps)
    figure, axes = new_figure(len(shown), 2, width=8.6, height=3.3 * len(shown))
    for row, index in zip(axes, shown, strict=True):
        fields = case.maps.isel(variable=index)
        units = {"units": str(fields["units"].item())}
        name = str(fields["variable"].item())
        plot_error_map(fields["mean_error"].assign_attrs(long_name=f"mean |error| of {name}", **units), ax=row[0])
        plot_error_map(fields["bias"].assign_attrs(long_name=f"mean error of {name}", **units), ax=row[1])
    return figure


def _spectra(case: Case) -> Figure | None:
    metrics = case.metrics
    if "spectral_error" not in metrics or metrics.sizes["wave_number"] < 3:
        return None
    metrics = metrics.isel(variable=metrics["spectral_error"].notnull().any(("sample", "time", "wave_number")).values)
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


def _reliability(case: Case) -> Figure | None:
    if case.uncertainty is None:
        return None
    found = calibration(case.uncertainty).isel(variable=_shown(case.uncertainty))
    names = list(map(str, found["variable"].values))
    figure, axes = new_figure(1, 2, width=9, height=3.8)
    plot_reliability({name: found.sel(variable=name) for name in names}, ax=axes[0, 0])
    plot_pit({name: found["pit"].sel(variable=name) for name in names}, ax=axes[0, 1])
    return figure


def _latent(case: Case) -> Figure | None:
    if case.latent is None:
        return None
    codes = case.latent["latent"].transpose("sample", "time", "component").values
    time = np.broadcast_to(case.latent["time"].values, codes.shape[:2])
    kept = np.isfinite(codes).all(-1)
    points = xr.DataArray(codes[kept], {"explained": case.latent["explained"]}, ("sample", "component"))
    colour = xr.DataArray(time[kept], dims="sample", attrs={"long_name": "time", **case.latent["time"].attrs})
    figure, axes = new_figure(height=3.8)
    plot_latent(points, colour=colour if case.latent.sizes["time"] > 1 else None, ax=axes[0, 0])
    return figure


def _latent_caption(case: Case) -> str:
    if case.latent is None:
        return ""
    return f"Latent space: the first two principal components of {case.latent.attrs['latent_size']} latent numbers."


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


def _caption(name: str, example: xr.Dataset) -> str:
    variables = example.sizes["variable"]
    left_out = f" {SHOWN} of {variables} variables." if example["truth"].ndim > 1 and variables > SHOWN else ""
    error = number(float(example["error_of_pair"]))
    simulation = example["simulation"].item()
    words = example["error_of_pair"].attrs.get("long_name", RELATIVE.words)
    return f"{name.capitalize()}: simulation {simulation}{_time(example)}, {words} {error}.{left_out}"


def _time(example: xr.Dataset) -> str:
    if example.attrs.get("times", 1) == 1:
        return ""
    return f", time {number(float(example['time']))} {example['time'].attrs.get('units', '')}".rstrip()
