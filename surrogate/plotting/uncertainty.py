"""Figures of the calibration of predicted standard deviations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from surrogate.plotting.canvas import alone, legend, plain, styles

__all__ = ["plot_pit", "plot_reliability"]


def plot_reliability(curves: Mapping[str, xr.Dataset], *, ax: Axes | None = None) -> Axes:
    """Plot the share of points inside the central interval of each level against the level.

    Below the diagonal the standard deviations are too small, above it too large.

    Arguments:
        curves: `coverage`, `low` and `high` with dimension (level,) by variable or method; NaN ends are not drawn.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, zorder=0, label="calibrated")
    for (name, curve), style in zip(curves.items(), styles(len(curves)), strict=True):
        ax.plot(curve["level"], curve["coverage"], marker="o", markersize=3.5, label=plain(name), **style)
        ax.fill_between(curve["level"], curve["low"], curve["high"], color=style["color"], alpha=0.18, linewidth=0)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.set_xlabel("level of the interval")
    ax.set_ylabel("share of points inside")
    legend(ax)
    return ax


def plot_pit(shares: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """Plot the histogram of the probability integral transform; flat where the predicted distributions are right.

    Arguments:
        shares: Share of points with dimension (pit_bin,) by variable or method.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    for (name, share), style in zip(shares.items(), styles(len(shares)), strict=True):
        edges = np.linspace(0, 1, share.size + 1)
        ax.stairs(share.values * share.size, edges, label=plain(name), linewidth=1.6, **style)
    ax.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.set(xlim=(0, 1), ylim=(0, None))
    ax.set_xlabel("probability integral transform")
    ax.set_ylabel("density of points")
    legend(ax)
    return ax
