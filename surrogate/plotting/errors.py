"""Figures of errors of several methods: over time, over samples, as estimates with intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from surrogate.plotting.canvas import DECADES, alone, label_of, legend, plain, scale_axis, styles
from surrogate.quantiles import quantiles

__all__ = [
    "plot_error_against_parameter",
    "plot_error_histogram",
    "plot_error_over_lead",
    "plot_error_over_time",
    "plot_intervals",
]


def plot_error_over_time(errors: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """Plot the median error against time with the band from the 10 to the 90 % quantile over samples.

    Arguments:
        errors: Errors with dimensions (sample, time) by method; attributes label the axis.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    _bands(ax, errors, "time")
    legend(ax)
    return ax


def _bands(ax: Axes, errors: Mapping[str, xr.DataArray], along: str) -> None:
    """Plot a median with its band for every method, and label the axes; nothing is drawn where half are infinite."""
    for (name, error), style in zip(errors.items(), styles(len(errors)), strict=True):
        error = error.transpose(..., along).dropna(along, how="all")
        bands = quantiles(error.values.reshape(-1, error.sizes[along]), [0.1, 0.5, 0.9])
        low, middle, high = np.where(np.isinf(bands), np.nan, bands)
        marker = "o" if error.sizes[along] < 30 else None
        ax.plot(error[along], middle, label=plain(name), marker=marker, markersize=3.5, **style)
        ax.fill_between(error[along], low, high, color=style["color"], alpha=0.18, linewidth=0)
    first = next(iter(errors.values()))
    scale_axis(ax, "y", np.concatenate([error.values.ravel() for error in errors.values()]))
    ax.set_xlabel(label_of(first[along]))
    ax.set_ylabel(label_of(first))


def plot_error_histogram(errors: Mapping[str, xr.DataArray], *, ax: Axes | None = None, bins: int = 20) -> Axes:
    """Plot the histogram of the errors of samples.

    Arguments:
        errors: One error per sample by method, with shape (B,); NaN is left out.
        ax: Panel; a new figure unless given.
        bins: Number of bins, the same for every method.
    """
    ax = ax if ax is not None else alone()
    finite = {name: error.values[np.isfinite(error.values)] for name, error in errors.items()}
    everything = np.concatenate(list(finite.values()))
    edges = np.histogram_bin_edges(everything, bins)
    if len(everything) and everything.min() > 0 and everything.max() > DECADES * everything.min():
        edges = np.geomspace(everything.min(), everything.max(), bins + 1)
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


def plot_error_over_lead(
    errors: Mapping[str, xr.DataArray], *, threshold: float | None = None, ax: Axes | None = None
) -> Axes:
    """Plot the median error of roll-outs against lead time with the band from the 10 to the 90 % quantile over starts.

    A curve ends where half of the roll-outs have diverged.

    Arguments:
        errors: Errors with dimensions (sample, time, lead) by method, infinite where a roll-out has diverged.
        threshold: Value of a horizontal line.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    _bands(ax, errors, "lead")
    if threshold is not None:
        ax.axhline(threshold, color="0.4", linewidth=1, linestyle=":", label=f"threshold {threshold:g}")
    legend(ax)
    return ax


def plot_error_against_parameter(errors: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """Plot the error of every simulation against a parameter, with the median of neighbouring ones as a line.

    Arguments:
        errors: One error per sample by method, with shape (B,) along the parameter: `error.assign_coords(sample=p)`
            with the name and unit of the parameter among the attributes of the coordinate.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    for (name, error), style in zip(errors.items(), styles(len(errors)), strict=True):
        along = error[error.dims[0]]
        kept = np.isfinite(error.values) & np.isfinite(along.values)
        x, y = along.values[kept], error.values[kept]
        order = np.argsort(x, kind="stable")
        groups = np.array_split(order, max(1, min(8, len(order) // 5)))
        ax.plot(x, y, "o", color=style["color"], markersize=4, alpha=0.5, markeredgewidth=0)
        middle = [(np.median(x[group]), np.median(y[group])) for group in groups if len(group)]
        ax.plot(*np.array(middle).T, label=plain(name), marker="s" if len(middle) == 1 else None, **style)
    first = next(iter(errors.values()))
    scale_axis(ax, "y", np.concatenate([error.values for error in errors.values()]))
    positions = np.concatenate([error[error.dims[0]].values for error in errors.values()])
    if np.nanmin(positions) > 0:
        scale_axis(ax, "x", positions, zero=False)
    ax.set_xlabel(label_of(first[first.dims[0]]))
    ax.set_ylabel(label_of(first))
    legend(ax)
    return ax


def plot_intervals(estimates: Mapping[str, tuple[float, float, float]], *, label: str, ax: Axes | None = None) -> Axes:
    """Plot estimate and interval of every method, the first on top.

    Arguments:
        estimates: Value, lower and upper end by method; an end that is NaN is not drawn.
        label: Name of the estimate.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    for index, ((value, low, high), style) in enumerate(zip(estimates.values(), styles(len(estimates)), strict=True)):
        colour = style["color"]
        ax.plot([low, high], [index, index], color=colour, linewidth=3, alpha=0.5, solid_capstyle="butt")
        ax.plot(value, index, "o", color=colour)
    ax.set_yticks(range(len(estimates)), [plain(name) for name in estimates])
    ax.set_ylim(len(estimates) - 0.5, -0.5)
    ax.set_xlim(0, 1.05 * max(np.nanmax(numbers) for numbers in estimates.values()))
    ax.set_xlabel(plain(label))
    return ax
