"""Figures of studies: error against the number of simulations, and against two settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, LogLocator, NullLocator

from surrogate.numbers import number
from surrogate.plotting.canvas import (
    DECADES,
    SIZE_COLOURS,
    alone,
    figure_of,
    label_of,
    legend,
    new_panels,
    plain,
    scale_axis,
    styles,
)

__all__ = ["TOGETHER", "plot_learning_curve", "plot_learning_curves", "plot_sensitivity"]

TOGETHER = 2  # methods in one panel; more bands hide one another
TICKED = 8  # places that all have a tick, and a dot for every seed
WIDE = 4.0  # a factor that is drawn on a log axis


def plot_learning_curve(
    errors: Mapping[str, xr.DataArray], *, others: Mapping[str, xr.DataArray] | None = None, ax: Axes | None = None
) -> Axes:
    """Plot error against the number of training simulations (or epochs, or seconds): median over seeds and range.

    With at most eight places every seed is a dot; a seed without a number is left out.

    Arguments:
        errors: Errors with dimensions (x, seed) by method, where x is any name; its attributes label the axis. Bands
            of more than two hide one another.
        others: Methods of which only the medians are drawn, in grey, for comparison; scales are those of all methods.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    grey = {name: _along_x(error) for name, error in (others or {}).items()}
    shown = {name: _along_x(error) for name, error in errors.items()}
    curves = [*shown.values(), *grey.values()]
    sizes = {float(x) for curve in curves for x in curve[curve.dims[0]].values}
    for (name, curve), style in zip(shown.items(), styles(len(shown)), strict=True):
        x, values = curve[curve.dims[0]].values.astype(float), curve.values
        ax.plot(x, np.nanmedian(values, axis=1), label=plain(name), **style)
        ax.fill_between(x, np.nanmin(values, 1), np.nanmax(values, 1), color=style["color"], alpha=0.15, linewidth=0)
        if len(x) <= TICKED:
            ax.plot(np.repeat(x, values.shape[1]), values.ravel(), "o", color=style["color"], markersize=3, alpha=0.6)
    for curve, label in zip(grey.values(), ["other methods", *[None] * len(grey)], strict=False):
        ax.plot(curve[curve.dims[0]], np.nanmedian(curve, axis=1), color="0.65", linewidth=1, zorder=1.5, label=label)
    numbers = np.concatenate([curve.values.ravel() for curve in curves])
    numbers = numbers[np.isfinite(numbers)]
    if _wide(numbers):
        ax.set_yscale("log")
        _name(ax.yaxis, LogLocator(subs=(1, 2, 5)))
    else:
        scale_axis(ax, "y", numbers)
    if _wide(np.array(list(sizes))):
        ax.set_xscale("log")
        _name(ax.xaxis, LogLocator(subs=(1, 2, 5)))
    if len(sizes) <= TICKED:
        _name(ax.xaxis, FixedLocator(sorted(sizes)))
    ax.set_xlabel(label_of(curves[0][curves[0].dims[0]]))
    ax.set_ylabel(label_of(curves[0]))
    legend(ax)
    return ax


def plot_learning_curves(errors: Mapping[str, xr.DataArray]) -> list[Axes]:
    """Plot learning curves of many methods: two in a panel, in their order, with the medians of all others in grey.

    Arguments:
        errors: As for `plot_learning_curve`.

    Returns:
        The panels, which share their scales.
    """
    names = list(errors)
    groups = [names[start : start + TOGETHER] for start in range(0, len(names), TOGETHER)]
    panels = new_panels(len(groups))[1]
    for group, panel in zip(groups, panels, strict=True):
        others = {name: error for name, error in errors.items() if name not in group}
        plot_learning_curve({name: errors[name] for name in group}, others=others, ax=panel)
    lows, highs = zip(*(panel.get_ylim() for panel in panels), strict=True)
    for panel in panels:
        panel.set_ylim(min(lows), max(highs))
    return panels


def _along_x(error: xr.DataArray) -> xr.DataArray:
    """Arrange an error as (x, seed), without places that have no number."""
    return error.transpose(..., "seed").dropna(next(str(dim) for dim in error.dims if dim != "seed"), how="all")


def _wide(values: np.ndarray) -> bool:
    """Return true for positive numbers that span a factor of four or more, which need a log axis."""
    return bool(len(values) and values.min() > 0 and values.max() >= WIDE * values.min())


def _name(axis: Axis, locator: Locator) -> None:
    """Label these places with plain numbers, without minor ticks."""
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def plot_sensitivity(
    errors: xr.DataArray, *, limits: tuple[float, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Plot error over a grid of two settings, a number in every cell; cells without one are crossed out.

    Arguments:
        errors: With two dimensions, down and across, at least one number finite; attributes label values and axes.
        limits: Ends of the colour scale, for several panels with one scale; those of the values unless given.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    down, across = map(str, errors.dims)
    values = np.asarray(errors.values, dtype=float)
    finite = values[np.isfinite(values)]
    low, high = limits or (float(finite.min()), float(finite.max()))
    wide = low > 0 and high > DECADES * low
    norm = LogNorm(low, high) if wide else Normalize(low, high if high > low else low + (abs(low) or 1.0))
    mesh = ax.imshow(np.ma.masked_invalid(values), cmap=SIZE_COLOURS, norm=norm, aspect="auto")
    figure_of(ax).colorbar(mesh, ax=ax).set_label(label_of(errors))
    colours = colormaps[SIZE_COLOURS]
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        dark = np.isfinite(value) and np.dot(colours(norm(value))[:3], (0.3, 0.59, 0.11)) < 0.5
        text = number(value, 3) if np.isfinite(value) else "×"
        ax.text(column, row, text, ha="center", va="center", fontsize="small", color="white" if dark else "black")
    ax.set_xticks(range(values.shape[1]), [_tick(value) for value in errors[across].values])
    ax.set_yticks(range(values.shape[0]), [_tick(value) for value in errors[down].values])
    ax.set_xlabel(label_of(errors[across]))
    ax.set_ylabel(label_of(errors[down]))
    return ax


def _tick(value: Any) -> str:
    return plain(str(value)) if isinstance(value, str) else f"{value:g}"
