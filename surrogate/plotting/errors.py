"""Errors of several methods: over time, over samples, as estimates with intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from surrogate.plotting.canvas import DECADES, PALETTE, alone, label_of, legend, plain, scale_axis, styles

__all__ = ["plot_error_histogram", "plot_error_over_time", "plot_intervals"]


def plot_error_over_time(errors: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """Median error against time with the band from the 10 to the 90 % quantile over samples.

    Arguments:
        errors: Errors with dimensions (sample, time) by method; attributes label the axis.
        ax: Where to draw.
    """
    ax = ax if ax is not None else alone()
    for (name, error), style in zip(errors.items(), styles(len(errors)), strict=True):
        error = error.transpose("sample", "time").dropna("time", how="all")
        low, middle, high = np.nanquantile(error.values, [0.1, 0.5, 0.9], axis=0)
        marker = "o" if error.sizes["time"] < 30 else None
        ax.plot(error["time"], middle, label=plain(name), marker=marker, markersize=3.5, **style)
        ax.fill_between(error["time"], low, high, color=style["color"], alpha=0.18, linewidth=0)
    first = next(iter(errors.values()))
    scale_axis(ax, "y", np.concatenate([error.values.ravel() for error in errors.values()]))
    ax.set_xlabel(label_of(first["time"]))
    ax.set_ylabel(label_of(first))
    legend(ax)
    return ax


def plot_error_histogram(errors: Mapping[str, xr.DataArray], *, ax: Axes | None = None, bins: int = 20) -> Axes:
    """How many samples have which error.

    Arguments:
        errors: One error per sample by method, with shape (B,); NaN is left out.
        ax: Where to draw.
        bins: Number of bins, the same for every method.
    """
    ax = ax if ax is not None else alone()
    finite = {name: error.values[np.isfinite(error.values)] for name, error in errors.items()}
    everything = np.concatenate(list(finite.values()))
    edges = _edges(everything, bins)
    for (name, values), style in zip(finite.items(), styles(len(finite)), strict=True):
        counts = np.histogram(values, edges)[0]
        ax.stairs(counts, edges, fill=True, color=style["color"], alpha=0.18)
        ax.stairs(counts, edges, label=plain(name), linewidth=1.6, **style)
    scale_axis(ax, "x", everything)
    ax.set_xlabel(label_of(next(iter(errors.values()))))
    ax.set_ylabel("number of samples")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax)
    return ax


def plot_intervals(estimates: Mapping[str, tuple[float, float, float]], *, label: str, ax: Axes | None = None) -> Axes:
    """Estimate and interval of every method, the first on top.

    Arguments:
        estimates: Value, lower and upper end by method; an end that is NaN is not drawn.
        label: What the estimate is.
        ax: Where to draw.
    """
    ax = ax if ax is not None else alone()
    for index, (value, low, high) in enumerate(estimates.values()):
        colour = PALETTE[index % len(PALETTE)]
        ax.plot([low, high], [index, index], color=colour, linewidth=3, alpha=0.5, solid_capstyle="butt")
        ax.plot(value, index, "o", color=colour)
    ax.set_yticks(range(len(estimates)), [plain(name) for name in estimates])
    ax.set_ylim(len(estimates) - 0.5, -0.5)
    ax.set_xlim(0, 1.05 * max(np.nanmax(numbers) for numbers in estimates.values()))
    ax.set_xlabel(plain(label))
    return ax


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    if len(values) and values.min() > 0 and values.max() > DECADES * values.min():
        return np.geomspace(values.min(), values.max(), bins + 1)
    return np.histogram_bin_edges(values, bins)
