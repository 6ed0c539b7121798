"""One picture of a data set."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from surrogate.data.mesh import geometry_of, point_axis
from surrogate.files import replacing
from surrogate.plotting import FIELD_COLOURS, new_figure
from surrogate.plotting.points import draw_points

__all__ = ["draw_dataset", "write_picture"]

PANELS, LINE_PANELS = 4, 2
WIDTH, HEIGHT = 8.0, 2.2  # inches
EARLY, LATE = np.array([0.75, 0.75, 0.8]), np.array([0.0, 0.27, 0.7])  # colours of the first and the last time


def write_picture(ds: xr.Dataset, fields: list[str], path: Path) -> None:
    """Draw a data set into a PNG file with a palette of 256 colours, a third of the size of one in full colour."""
    drawn = io.BytesIO()
    draw_dataset(ds, fields).savefig(drawn, format="png", bbox_inches="tight", pad_inches=0.06)
    with Image.open(drawn) as picture, replacing(path) as part:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(part, format="PNG", optimize=True)


def draw_dataset(ds: xr.Dataset, fields: list[str]) -> Figure:
    """Draw simulations of a data set: images or lines at several times, curves of sensors, or points of a function.

    Arguments:
        ds: Simulations over (sample, [time,] *axes).
        fields: The variables that are data and not parameters.
    """
    first = ds[fields[0]]
    space = [str(dim) for dim in first.dims if dim not in ("sample", "time")]
    if not space:
        figure, axes = new_figure(width=0.5 * WIDTH, height=1.3 * HEIGHT)
        parameters = [str(key) for key in ds.data_vars if key != fields[0] and ds[key].dims == ("sample",)]
        across, up = parameters[0], parameters[-1]
        points = axes[0][0].scatter(ds[across], ds[up], c=first, s=9, cmap=FIELD_COLOURS)
        figure.colorbar(points, ax=axes[0][0]).set_label(_label(first), fontsize="x-small")
        axes[0][0].set_ylabel(_label(ds[up]), fontsize="x-small")
        _finish(axes[0][0], _label(ds[across]))
        return figure
    if point_axis(ds, space):
        return _meshes(ds, first)
    if len(space) == 1:
        return _lines(first, space[0])
    if "time" in first.dims:
        last = first.sizes["time"] - 1
        times = [(s, t) for s in sorted({0, first.sizes["sample"] - 1}) for t in (max(1, last // 5), last)]
        panels = [
            (first.isel(sample=s, time=t), f"{_title(first, s)}, t = {float(first['time'][t]):.3g}") for s, t in times
        ]
        return _images(panels)
    simulations = range(min(PANELS // len(fields), ds.sizes["sample"]))
    return _images([(ds[name].isel(sample=s), f"{name}, simulation {s}") for s in simulations for name in fields])


def _images(panels: list[tuple[xr.DataArray, str]]) -> Figure:
    figure, axes = new_figure(1, len(panels), width=WIDTH, height=HEIGHT)
    for ax, (field, title) in zip(axes[0], panels, strict=True):
        field = field.isel({dim: field.sizes[dim] // 2 for dim in field.dims[:-2]})
        up, across = field.dims
        mesh = ax.pcolormesh(field[across], field[up], field, cmap=FIELD_COLOURS, shading="nearest", rasterized=True)
        bar = figure.colorbar(mesh, ax=ax, shrink=0.7)
        bar.ax.tick_params(labelsize="x-small")
        bar.set_label(_label(field), fontsize="x-small")
        ax.set_aspect("equal")
        ax.set_title(title, fontsize="x-small")
        _finish(ax, _label(field[across]))
    axes[0][0].set_ylabel(_label(panels[0][0][panels[0][0].dims[-2]]), fontsize="x-small")
    return figure


def _meshes(ds: xr.Dataset, field: xr.DataArray) -> Figure:
    """Draw a field on the mesh of several simulations, with the edges of the cells."""
    count = min(PANELS, field.sizes["sample"])
    figure, axes = new_figure(1, count, width=WIDTH, height=HEIGHT)
    for sample, ax in enumerate(axes[0]):
        mesh = geometry_of(ds, str(field.dims[-1]), sample=sample)
        own = field[sample].assign_coords({name: v for name, v in mesh.items() if v.dims == field.dims[1:]})
        cells = xr.DataArray(mesh["cells"])
        colours = draw_points(ax, own, cells, cmap=FIELD_COLOURS)
        corners = cells.values[(cells.values >= 0).all(1)]
        ax.triplot(own["x"], own["y"], corners, color="white", linewidth=0.2)
        figure.colorbar(colours, ax=ax, shrink=0.7).ax.tick_params(labelsize="x-small")
        ax.set_title(_title(field, sample), fontsize="x-small")
        _finish(ax, _label(own["x"]))
        ax.set_ylabel("")
    axes[0][0].set_ylabel(_label(field["y"]), fontsize="x-small")
    return figure


def _lines(field: xr.DataArray, axis: str) -> Figure:
    """Draw lines over an axis at several times, or over time for several sensors."""
    count = min(LINE_PANELS, field.sizes["sample"])
    figure, axes = new_figure(1, count, width=WIDTH, height=HEIGHT)
    across, steps = field[axis], np.unique(np.linspace(0, field.sizes["time"] - 1, 5).astype(int))
    for sample, ax in enumerate(axes[0]):
        if axis == "sensor":
            across = field["time"]
            for sensor in range(field.sizes[axis]):
                ax.plot(across, field.isel(sample=sample, sensor=sensor), linewidth=1, label=f"sensor {sensor}")
        else:
            for share, step in zip(np.linspace(0, 1, len(steps)), steps, strict=True):
                line, colour = field.isel(sample=sample, time=int(step)), (1 - share) * EARLY + share * LATE
                ax.plot(across, line, linewidth=1, label=f"t = {float(line['time']):.3g}", color=tuple(colour))
        ax.set_title(_title(field, sample), fontsize="x-small")
        _finish(ax, _label(across))
    axes[0][0].set_ylabel(_label(field), fontsize="x-small")
    axes[0][-1].legend(fontsize="xx-small", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _title(field: xr.DataArray, sample: int) -> str:
    return f"simulation {int(field['simulation'][sample])}"


def _finish(ax: Any, label: str) -> None:
    ax.tick_params(labelsize="x-small")
    ax.set_xlabel(label, fontsize="x-small")


def _label(data: xr.DataArray) -> str:
    units = data.attrs.get("units", "1")
    return str(data.name) + (f" [{units}]" if units != "1" else "")
