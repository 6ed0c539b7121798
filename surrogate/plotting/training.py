"""Figures of a training run: losses, and the regularisation of slimTrain."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from surrogate.plotting.canvas import alone, legend, log_axis, plain, scale_axis, styles

__all__ = ["plot_damping", "plot_effective_dof", "plot_running_sum", "plot_training"]


def plot_training(curves: Mapping[str, xr.Dataset], *, label: str = "loss", ax: Axes | None = None) -> Axes:
    """Plot validation loss (solid) and training loss (dashed) per epoch.

    Arguments:
        curves: `train_loss` and `validation_loss` with dimension (epoch,) by method.
        label: Name and units of the loss.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    for (name, curve), style in zip(curves.items(), styles(len(curves)), strict=True):
        mark: dict[str, Any] = {"marker": style.get("marker", "o") if curve.sizes["epoch"] < 30 else None}
        line: dict[str, Any] = mark | {"color": style["color"], "markersize": 3.5}
        ax.plot(curve["epoch"], curve["validation_loss"], "-", label=plain(name), **line)
        ax.plot(curve["epoch"], curve["train_loss"], "--", linewidth=1, alpha=0.5, color=style["color"])
    log_axis(
        ax,
        np.concatenate([curve[key].values for curve in curves.values() for key in ("train_loss", "validation_loss")]),
    )
    ax.set_xlabel("epoch")
    ax.set_ylabel(plain(textwrap.fill(label, 32)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax)
    return ax


def plot_damping(curves: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """Plot the damping that slimTrain chose at every step; it may be negative, so the axis is linear about zero.

    Arguments:
        curves: Damping with dimension (step,) by method.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    _plot_steps(curves, ax)
    sizes = np.abs(np.concatenate([curve.values for curve in curves.values()]))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    low, high = np.floor(np.log10(np.quantile(sizes, [0.1, 1]))) if len(sizes) else (-1.0, 0.0)
    exponents = np.unique(np.round(np.linspace(high, low + (high - low) / 4, 3)))  # far enough from the tick at zero
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set_yscale("symlog", linthresh=10**low)
    ax.set_yticks([*-(10**exponents), 0, *10**exponents])
    ax.set_ylabel("damping λ")
    return ax


def plot_running_sum(curves: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """Plot the running sum Λ of the damping.

    Arguments:
        curves: Running sum with dimension (step,) by method.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    _plot_steps(curves, ax)
    log_axis(ax, np.concatenate([curve.values for curve in curves.values()]))
    ax.set_ylabel("running sum Λ")
    return ax


def plot_effective_dof(curves: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """Plot the effective degrees of freedom of the head per output, trace of G (H + Λ I)^-1, at every step.

    Arguments:
        curves: Degrees of freedom with dimension (step,) by method.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    _plot_steps(curves, ax)
    scale_axis(ax, "y", np.concatenate([curve.values for curve in curves.values()]))
    ax.set_ylabel("effective degrees\nof freedom")
    return ax


def _plot_steps(curves: Mapping[str, xr.DataArray], ax: Axes) -> None:
    for (name, curve), style in zip(curves.items(), styles(len(curves)), strict=True):
        ax.plot(curve["step"], curve, label=plain(name), linewidth=1.1, **style)
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax)
