"""Fields side by side: truth, prediction and error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable

from surrogate.plotting.canvas import ERROR_COLOURS, FIELD_COLOURS, PALETTE, label_of, new_figure, plain

__all__ = ["plot_comparison"]


def plot_comparison(fields: xr.Dataset, *, ax: Sequence[Axes] | None = None) -> list[Axes]:
    """Truth, prediction and error side by side.

    Truth and prediction share one scale; that of the error is symmetric about zero. One dimension is drawn as lines,
    two as images, more as the middle slice of the leading ones.

    Arguments:
        fields: `truth` and `prediction` over at least one dimension; the attributes `long_name` and `units` of `truth`
            label the values, the units of the coordinates the axes.
        ax: Three axes, from left to right.
    """
    panels = list(ax) if ax is not None else list(new_figure(1, 3, width=10.5, height=3.2)[1][0])
    fields, note = _middle_slice(fields)
    truth, prediction = fields["truth"], fields["prediction"].assign_attrs(fields["truth"].attrs)
    error = (prediction - truth).assign_attrs(truth.attrs | {"long_name": "error"})
    draw = _compare_lines if truth.ndim == 1 else _compare_images
    draw(panels, truth, prediction, error)
    for panel, title in zip(panels, ("truth", "prediction", "prediction less truth"), strict=True):
        panel.set_title(title + note, fontsize="medium")
    return panels


def _compare_lines(panels: Sequence[Axes], truth: xr.DataArray, prediction: xr.DataArray, error: xr.DataArray) -> None:
    names = truth[truth.dims[0]].dtype.kind in "US"  # a line between names would mean nothing
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


def _compare_images(panels: Sequence[Axes], truth: xr.DataArray, prediction: xr.DataArray, error: xr.DataArray) -> None:
    low, high = float(min(truth.min(), prediction.min())), float(max(truth.max(), prediction.max()))
    largest = float(abs(error).max()) or 1.0
    scales = [(FIELD_COLOURS, low, high), (FIELD_COLOURS, low, high), (ERROR_COLOURS, -largest, largest)]
    for panel, field, (colours, bottom, top) in zip(panels, (truth, prediction, error), scales, strict=True):
        mesh = _image(panel, field, cmap=colours, vmin=bottom, vmax=top)
        panel.figure.colorbar(mesh, ax=panel).set_label(label_of(field))


def _image(ax: Axes, field: xr.DataArray, **colours: Any) -> ScalarMappable:
    """Cells centred on the coordinates; `x` runs to the right where there is one, else the last dimension does."""
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
