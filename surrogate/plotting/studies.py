"""Studies: error against the number of simulations, and against two settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FuncFormatter, NullLocator

from surrogate.plotting.canvas import (
    DECADES,
    SIZE_COLOURS,
    alone,
    figure_of,
    label_of,
    legend,
    plain,
    scale_axis,
    styles,
)

__all__ = ["plot_learning_curve", "plot_sensitivity"]


def plot_learning_curve(errors: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """Error against the number of training simulations (or epochs, or seconds): median over seeds and their range.

    Every seed is a dot; a seed that has no number is left out.

    Arguments:
        errors: Errors with dimensions (x, seed) by method, where x is any name; its attributes label the axis.
        ax: Where to draw.
    """
    ax = ax if ax is not None else alone()
    sizes: set[float] = set()
    for (name, error), style in zip(errors.items(), styles(len(errors)), strict=True):
        along = next(str(dim) for dim in error.dims if dim != "seed")
        error = error.transpose(along, "seed").dropna(along, how="all")
        x, values = error[along].values.astype(float), error.values
        ax.plot(x, np.nanmedian(values, axis=1), label=plain(name), **style)
        ax.fill_between(x, np.nanmin(values, 1), np.nanmax(values, 1), color=style["color"], alpha=0.15, linewidth=0)
        ax.plot(np.repeat(x, values.shape[1]), values.ravel(), "o", color=style["color"], markersize=3, alpha=0.6)
        sizes |= set(x.tolist())
    first = next(iter(errors.values()))
    along = next(str(dim) for dim in first.dims if dim != "seed")
    scale_axis(ax, "y", np.concatenate([error.values.ravel() for error in errors.values()]))
    if min(sizes) > 0 and max(sizes) >= 4 * min(sizes):
        ax.set_xscale("log")
    if len(sizes) <= 8:
        ax.set_xticks(sorted(sizes))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(label_of(first[along]))
    ax.set_ylabel(label_of(first))
    legend(ax)
    return ax


def plot_sensitivity(
    errors: xr.DataArray, *, limits: tuple[float, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Error over a grid of two settings, a number in every cell; cells without one are crossed out.

    Arguments:
        errors: With two dimensions, down and across, at least one number finite; attributes label values and axes.
        limits: Ends of the colour scale, so that several panels share it; without it those of the values.
        ax: Where to draw.
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
        text = f"{value:.3g}" if np.isfinite(value) else "×"
        ax.text(column, row, text, ha="center", va="center", fontsize="small", color="white" if dark else "black")
    ax.set_xticks(range(values.shape[1]), [_tick(value) for value in errors[across].values])
    ax.set_yticks(range(values.shape[0]), [_tick(value) for value in errors[down].values])
    ax.set_xlabel(label_of(errors[across]))
    ax.set_ylabel(label_of(errors[down]))
    return ax


def _tick(value: Any) -> str:
    return plain(str(value)) if isinstance(value, str) else f"{value:g}"
