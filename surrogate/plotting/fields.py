"""Figures of fields: truth, prediction and error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable

from surrogate.plotting.canvas import (
    ERROR_COLOURS,
    FIELD_COLOURS,
    PALETTE,
    SIZE_COLOURS,
    alone,
    figure_of,
    label_of,
    new_figure,
    plain,
)
from surrogate.plotting.points import draw_points, places_of, plane_of

__all__ = ["plot_cases", "plot_comparison", "plot_error_map"]


def plot_comparison(fields: xr.Dataset, *, ax: Sequence[Axes] | None = None) -> list[Axes]:
    """Plot truth, prediction and error side by side.

    Truth and prediction share one scale; that of the error is symmetric about zero. Fields on one axis are lines, on
    two images, on more the middle slice of the leading axes. Fields on points with coordinates `x` and `y` are drawn on
    triangles, those of the coordinate `cells` where there is one; of points in space a slice.

    Arguments:
        fields: `truth` and `prediction` over at least one dimension; the attributes `long_name` and `units` of `truth`
            label the values, the units of the coordinates the axes.
        ax: Three axes, from left to right.
    """
    panels = list(ax) if ax is not None else list(new_figure(1, 3, width=10.5, height=3.2)[1][0])
    fields, note = _middle_slice(fields)
    truth, prediction = fields["truth"], fields["prediction"].assign_attrs(fields["truth"].attrs)
    error = (prediction - truth).assign_attrs(truth.attrs | {"long_name": "error"})
    at_points, cells = places_of(truth), fields["cells"] if "cells" in fields.variables else None
    note = plane_of(truth)[2] if at_points else note
    if truth.ndim == 1 and not at_points:
        _compare_lines(panels, truth, prediction, error)
    else:
        low, high = float(min(truth.min(), prediction.min())), float(max(truth.max(), prediction.max()))
        largest = float(abs(error).max()) or 1.0
        scales = [(FIELD_COLOURS, low, high), (FIELD_COLOURS, low, high), (ERROR_COLOURS, -largest, largest)]
        for panel, field, (colours, bottom, top) in zip(panels, (truth, prediction, error), scales, strict=True):
            mesh = _image(panel, field, cells, cmap=colours, vmin=bottom, vmax=top)
            panel.figure.colorbar(mesh, ax=panel).set_label(label_of(field))
    for panel, title in zip(panels, ("truth", "prediction", "prediction less truth"), strict=True):
        panel.set_title(title + note, fontsize="medium")
    return panels


def plot_cases(examples: xr.Dataset, *, ax: np.ndarray | None = None) -> np.ndarray:
    """Plot truth, prediction and error of several samples, a row each: the worst, the median, the best.

    Arguments:
        examples: `truth` and `prediction` with dimensions (example, *space), as for `plot_comparison`; the coordinate
            `example` names the rows.
        ax: Axes with shape (examples, 3).
    """
    count = examples.sizes["example"]
    panels = ax if ax is not None else new_figure(count, 3, width=10.5, height=3.1 * count)[1]
    for row, name in zip(panels, examples["example"].values, strict=True):
        plot_comparison(examples.sel(example=name), ax=row)
        for panel in row:
            panel.set_title(f"{plain(str(name))}: {panel.get_title()}", fontsize="medium")
    return np.asarray(panels)


def plot_error_map(
    error: xr.DataArray,
    *,
    cells: xr.DataArray | None = None,
    largest: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot an error at every grid point, such as the mean over the test set.

    Values of both signs have a scale that is symmetric about zero, others one that starts at zero. A field on one axis
    is a line, on more than two the middle slice of the leading axes.

    Arguments:
        error: With dimensions (*space); the attributes `long_name` and `units` label it.
        cells: Corners of every cell of the mesh, for errors on points.
        largest: Upper end of the scale, for several panels with one scale; the largest size of a value unless given.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    fields, note = _middle_slice(error.to_dataset(name="truth"))
    values = fields["truth"]
    largest, signed = largest or float(abs(values).max()) or 1.0, bool((values < 0).any())
    note = plane_of(values)[2] if places_of(values) else note
    if values.ndim == 1 and not places_of(values):
        ax.plot(
            values[values.dims[0]], values, color=PALETTE[0], marker="o" if values.size < 30 else None, markersize=3.5
        )
        ax.set_xlabel(label_of(values[values.dims[0]]))
        ax.set_ylabel(label_of(values))
        ax.set_ylim(-1.1 * largest if signed else 0, 1.1 * largest)
    else:
        colours = ERROR_COLOURS if signed else SIZE_COLOURS
        mesh = _image(ax, values, cells, cmap=colours, vmin=-largest if signed else 0, vmax=largest)
        figure_of(ax).colorbar(mesh, ax=ax).set_label(label_of(values))
    if note:
        ax.set_title(note.removeprefix(", ").strip(), fontsize="medium")
    return ax


def _compare_lines(panels: Sequence[Axes], truth: xr.DataArray, prediction: xr.DataArray, error: xr.DataArray) -> None:
    names = truth[truth.dims[0]].dtype.kind in "US"  # names have no order to join by a line
    style: dict[str, Any] = {"marker": "o" if names or truth.size < 30 else None, "markersize": 3.5}
    style["linestyle"] = "none" if names else "-"
    for panel, field, colour in zip(panels, (truth, prediction, error), PALETTE, strict=False):
        along = field[field.dims[0]]
        panel.plot(along, field, color=colour, **style)
        panel.set_xlabel(label_of(along))
        panel.set_ylabel(label_of(field))
        if names:
            ticks = [plain(str(name)) for name in along.values]
            panel.set_xticks(range(along.size), ticks, rotation=45, ha="right", rotation_mode="anchor")
    over: dict[str, Any] = {"linestyle": "none", "marker": "x"} if names else {"linestyle": ":"}
    panels[1].plot(truth[truth.dims[0]], truth, color=PALETTE[0], label="truth", **over)
    panels[1].legend(fontsize="small")
    limits = [*panels[0].get_ylim(), *panels[1].get_ylim()]
    panels[0].set_ylim(min(limits), max(limits))
    panels[1].set_ylim(min(limits), max(limits))
    largest = float(abs(error).max()) or 1.0
    panels[2].set_ylim(-1.1 * largest, 1.1 * largest)
    panels[2].axhline(0, color="0.6", linewidth=0.8, zorder=0)


def _image(ax: Axes, field: xr.DataArray, cells: xr.DataArray | None, **colours: Any) -> ScalarMappable:
    """Draw cells centred on the coordinates; `x` is horizontal if there is one, else the last axis is."""
    if field.ndim == 1:
        return draw_points(ax, field, cells, **colours)
    across = "x" if "x" in field.dims else str(field.dims[-1])
    field = field.transpose(..., across)
    up = str(field.dims[0])
    mesh = ax.pcolormesh(field[across], field[up], field, shading="nearest", rasterized=True, **colours)
    wide, tall = np.ptp(field[across].values), np.ptp(field[up].values)
    if tall > 0 and 0.2 < wide / tall < 5:
        ax.set_aspect("equal")
    ax.set_xlabel(label_of(field[across]))
    ax.set_ylabel(label_of(field[up]))
    return mesh


def _middle_slice(fields: xr.Dataset) -> tuple[xr.Dataset, str]:
    leading = [str(dim) for dim in fields["truth"].dims[:-2]]
    fields = fields.isel({dim: fields.sizes[dim] // 2 for dim in leading})
    return fields, "".join(f", {dim} = {float(fields[dim]):.3g}" for dim in leading)
