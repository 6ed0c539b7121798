"""Errors of several methods: over time, over samples, as estimates with intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from surrogate.plotting.canvas import DECADES, PALETTE, alone, label_of, legend, plain, scale_axis, styles

__all__ = [
    "plot_error_against_parameter",
    "plot_error_histogram",
    "plot_error_over_lead",
    "plot_error_over_time",
    "plot_intervals",
]


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


def plot_error_over_lead(
    errors: Mapping[str, xr.DataArray], *, threshold: float | None = None, ax: Axes | None = None
) -> Axes:
    """Median error of roll-outs against lead time with the band from the 10 to the 90 % quantile over starts.

    A curve ends where half of the roll-outs have diverged.

    Arguments:
        errors: Errors with dimensions (sample, time, lead) by method, infinite where a roll-out has diverged.
        threshold: Drawn as a line.
        ax: Where to draw.
    """
    ax = ax if ax is not None else alone()
    for (name, error), style in zip(errors.items(), styles(len(errors)), strict=True):
        flat = error.transpose("sample", "time", "lead").values.reshape(-1, error.sizes["lead"])
        low, middle, high = _quantiles(flat)
        marker = "o" if error.sizes["lead"] < 30 else None
        ax.plot(error["lead"], middle, label=plain(name), marker=marker, markersize=3.5, **style)
        ax.fill_between(error["lead"], low, high, color=style["color"], alpha=0.18, linewidth=0)
    if threshold is not None:
        ax.axhline(threshold, color="0.4", linewidth=1, linestyle=":", label=f"threshold {threshold:g}")
    first = next(iter(errors.values()))
    scale_axis(ax, "y", np.concatenate([error.values.ravel() for error in errors.values()]))
    ax.set_xlabel(label_of(first["lead"]))
    ax.set_ylabel(label_of(first))
    legend(ax)
    return ax


def _quantiles(values: np.ndarray) -> np.ndarray:
    """10, 50 and 90 % along the first axis, NaN where they are infinite or there is nothing; NaN is left out."""
    there = ~np.isnan(values).all(0)
    result = np.full((3, values.shape[1]), np.nan)
    finite = np.where(np.isinf(values[:, there]), np.finfo(float).max, values[:, there])  # inf - inf is no number
    result[:, there] = np.nanquantile(finite, [0.1, 0.5, 0.9], axis=0)
    return np.where(result < np.sqrt(np.finfo(float).max), result, np.nan)


def plot_error_against_parameter(errors: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """The error of every simulation against a parameter, with the median of neighbouring ones as a line.

    Arguments:
        errors: One error per sample by method, with shape (B,) along the parameter: `error.assign_coords(sample=p)`
            with the name and unit of the parameter among the attributes of the coordinate.
        ax: Where to draw.
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
