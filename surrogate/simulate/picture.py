"""One picture of a data set."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from surrogate.files import replacing
from surrogate.plotting import FIELD_COLOURS, new_figure

__all__ = ["draw_dataset", "write_picture"]

PANELS, LINE_PANELS = 4, 2
WIDTH, HEIGHT = 8.0, 2.2  # inches


def write_picture(ds: xr.Dataset, fields: list[str], path: Path) -> None:
    """Draw a data set into a PNG file of few colours, which take a third of the room."""
    drawn = io.BytesIO()
    draw_dataset(ds, fields).savefig(drawn, format="png", bbox_inches="tight", pad_inches=0.06)
    with replacing(path) as part:
        _plain_colours(drawn).save(part, format="PNG", optimize=True)


def _plain_colours(drawn: BinaryIO) -> Image.Image:
    """The picture with at most 256 colours."""
    with Image.open(drawn) as picture:
        return picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)


def draw_dataset(ds: xr.Dataset, fields: list[str]) -> Figure:
    """Simulations of a data set: images or lines at several times, curves of sensors, or points of a function.

    Arguments:
        ds: Simulations over (sample, [time,] *axes).
        fields: The variables that are data and not parameters.
    """
    first = ds[fields[0]]
    space = [str(dim) for dim in first.dims if dim not in ("sample", "time")]
    if not space:
        return _scatter(ds, fields[0])
    if space == ["sensor"]:
        return _curves(first)
    if len(space) == 1:
        return _lines(first, space[0])
    if "time" in first.dims:
        return _images([(first.isel(sample=s, time=t), _moment(first, s, t)) for s, t in _moments(first)])
    simulations = range(min(PANELS // len(fields), ds.sizes["sample"]))
    return _images([(ds[name].isel(sample=s), f"{name}, simulation {s}") for s in simulations for name in fields])


def _moments(field: xr.DataArray) -> list[tuple[int, int]]:
    """Two simulations, each at an early and at the last time."""
    last = field.sizes["time"] - 1
    simulations = sorted({0, field.sizes["sample"] - 1})
    return [(s, t) for s in simulations for t in (max(1, last // 5), last)]


def _moment(field: xr.DataArray, sample: int, time: int) -> str:
    return f"simulation {int(field['simulation'][sample])}, t = {float(field['time'][time]):.3g}"


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
        ax.tick_params(labelsize="x-small")
        ax.set_xlabel(_label(field[across]), fontsize="x-small")
    axes[0][0].set_ylabel(_label(panels[0][0][panels[0][0].dims[-2]]), fontsize="x-small")
    return figure


def _lines(field: xr.DataArray, axis: str) -> Figure:
    count = min(LINE_PANELS, field.sizes["sample"])
    figure, axes = new_figure(1, count, width=WIDTH, height=HEIGHT)
    steps = np.unique(np.linspace(0, field.sizes["time"] - 1, 5).astype(int))
    for sample, ax in enumerate(axes[0]):
        for step in steps:
            line = field.isel(sample=sample, time=int(step))
            ax.plot(
                field[axis], line, linewidth=1, label=f"t = {float(line['time']):.3g}", color=_shade(int(step), steps)
            )
        ax.set_title(f"simulation {int(field['simulation'][sample])}", fontsize="x-small")
        _finish(ax, _label(field[axis]))
    axes[0][0].set_ylabel(_label(field), fontsize="x-small")
    axes[0][-1].legend(fontsize="xx-small", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _curves(field: xr.DataArray) -> Figure:
    count = min(LINE_PANELS, field.sizes["sample"])
    figure, axes = new_figure(1, count, width=WIDTH, height=HEIGHT)
    for sample, ax in enumerate(axes[0]):
        for sensor in range(field.sizes["sensor"]):
            ax.plot(field["time"], field.isel(sample=sample, sensor=sensor), linewidth=1, label=f"sensor {sensor}")
        ax.set_title(f"simulation {int(field['simulation'][sample])}", fontsize="x-small")
        _finish(ax, _label(field["time"]))
    axes[0][0].set_ylabel(_label(field), fontsize="x-small")
    axes[0][-1].legend(fontsize="xx-small", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _scatter(ds: xr.Dataset, name: str) -> Figure:
    figure, axes = new_figure(width=0.5 * WIDTH, height=1.3 * HEIGHT)
    parameters = [str(key) for key in ds.data_vars if key != name and ds[key].dims == ("sample",)]
    across, up = parameters[0], parameters[-1]
    points = axes[0][0].scatter(ds[across], ds[up], c=ds[name], s=9, cmap=FIELD_COLOURS)
    figure.colorbar(points, ax=axes[0][0]).set_label(_label(ds[name]), fontsize="x-small")
    axes[0][0].set_ylabel(_label(ds[up]), fontsize="x-small")
    _finish(axes[0][0], _label(ds[across]))
    return figure


def _shade(step: int, steps: np.ndarray) -> tuple[float, float, float]:
    share = float(np.searchsorted(steps, step)) / max(len(steps) - 1, 1)
    return (0.75 * (1 - share), 0.75 * (1 - share) + 0.27 * share, 0.8 * (1 - share) + 0.7 * share)


def _finish(ax: Any, label: str) -> None:
    ax.tick_params(labelsize="x-small")
    ax.set_xlabel(label, fontsize="x-small")


def _label(data: xr.DataArray) -> str:
    units = data.attrs.get("units", "1")
    return str(data.name) + (f" [{units}]" if units != "1" else "")
