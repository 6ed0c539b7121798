"""Figures of Sobol indices: bars with intervals, and curves or maps over the field."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from surrogate.plotting.canvas import PALETTE, label_of, legend, new_figure, new_panels, plain, styles
from surrogate.plotting.fields import plot_error_map

__all__ = ["plot_sobol_bars", "plot_sobol_maps"]

OUTPUTS, PARAMETERS = 4, 12  # panels of a figure, and bars of a panel
MAPS = 4  # parameters of a figure with maps


def plot_sobol_bars(indices: xr.Dataset) -> Figure:
    """Plot first-order and total indices with their 90 % intervals, a panel for each output and summary.

    Arguments:
        indices: `first`, `total`, `first_half_width` and `total_half_width` with dimensions (parameter, output,
            summary). Of more than 12 parameters those with the largest total indices are drawn.
    """
    shown = np.unique(np.linspace(0, indices.sizes["output"] - 1, OUTPUTS).round().astype(int))
    stacked = indices.isel(output=shown).stack(panel=("output", "summary"))
    figure, panels = new_panels(stacked.sizes["panel"], height=1.2 + 0.3 * min(PARAMETERS, indices.sizes["parameter"]))
    for ax, position in zip(panels, range(stacked.sizes["panel"]), strict=True):
        one = stacked.isel(panel=position)
        order = np.argsort(np.nan_to_num(one["total"].values))[-PARAMETERS:]  # the largest on top
        rows = np.arange(len(order))
        for name, shift, colour, label in (
            ("total", -0.18, PALETTE[0], "total"),
            ("first", 0.18, PALETTE[4], "first order"),
        ):
            widths = one[f"{name}_half_width"].values[order]
            ax.barh(rows - shift, one[name].values[order], 0.34, xerr=widths, color=colour, label=label, capsize=2)
        ax.set_yticks(rows, [plain(str(text)) for text in one["parameter"].values[order]])
        ax.set_xlim(0, 1.05 * max(1.0, float(np.nan_to_num(one["total"].values).max())))
        summary = str(one["summary"].item())
        ax.set_xlabel(plain(f"{one['output'].item()}{'' if summary == 'value' else f', {summary} over the points'}"))
        legend(ax)
    return figure


def plot_sobol_maps(indices: xr.Dataset) -> Figure:
    """Plot the indices at every point: curves over one axis, maps over more, a row for each order.

    Arguments:
        indices: `first_map` and `total_map` with dimensions (parameter, output, *space). Drawn are the first output,
            and of more than 4 parameters those with the largest mean total index.
    """
    one = indices[["first_map", "total_map"]].isel(output=0).clip(0, 1)
    mean = one["total_map"].mean([dim for dim in one["total_map"].dims if dim != "parameter"])
    order = np.argsort(-np.nan_to_num(mean.values), kind="stable")[:MAPS]
    one = one.isel(parameter=order)
    name, rows = str(indices["output"].values[0]), (("total_map", "total"), ("first_map", "first-order"))
    on_line = one["total_map"].ndim == 2 and not {"x", "y"} & {*one.coords} - {*one.dims}
    if on_line:
        figure, panels = new_panels(2)
        for ax, (key, word) in zip(panels, rows, strict=True):
            along = one[one[key].dims[-1]]
            for curve, style in zip(one[key], styles(len(order)), strict=True):
                ax.plot(along, curve, label=plain(str(curve["parameter"].item())), **style)
            ax.set_xlabel(label_of(along))
            ax.set_ylim(-0.02, 1.05)
            legend(ax)
            ax.set_ylabel(plain(f"{word} index of {name}"))
        return figure
    figure, grid = new_figure(2, len(order), width=3.6 * len(order), height=6.0)
    for row, (key, word) in zip(grid, rows, strict=True):
        for ax, position in zip(row, range(len(order)), strict=True):
            field = one[key].isel(parameter=position)
            parameter = str(field["parameter"].item())
            plot_error_map(field.assign_attrs(long_name=f"{word} index of {parameter}", units=""), largest=1.0, ax=ax)
    figure.suptitle(plain(name), fontsize="medium")
    return figure
