"""Common parts of all figures: sizes, a colour-blind safe palette, labels with units, scales."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from PIL import Image

from surrogate.files import replacing

__all__ = [
    "DECADES",
    "ERROR_COLOURS",
    "FIELD_COLOURS",
    "PALETTE",
    "SIZE_COLOURS",
    "alone",
    "figure_of",
    "label_of",
    "legend",
    "log_axis",
    "new_figure",
    "new_panels",
    "plain",
    "save_figure",
    "scale_axis",
    "styles",
]

# Okabe and Ito's palette, safe for every kind of colour vision; yellow last, since it is faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
MANY_COLOURS = tuple(to_hex(colour) for colour in colormaps["tab20"].colors)  # type: ignore[attr-defined]
LINE_STYLES = ("-", "--", "-.", ":")
FIELD_COLOURS, ERROR_COLOURS, SIZE_COLOURS = "viridis", "RdBu_r", "cividis"
WIDTH, HEIGHT = 5.4, 3.4  # inches
DPI = 120
CROPPED = 7  # blank pixels that are left around a figure
LABEL = 20  # characters in a line, so that a label fits its axis
ROWS = 3  # of a legend above a panel
ENTRIES = 22  # in a column of a legend to the right
DECADES = 30.0  # a range wider than this factor is drawn on a log axis
FEW_DECADES = 1000.0  # a log axis of at most this factor has ticks at 1, 2 and 5
MARGIN = 1.05  # of the largest value on an axis that starts at zero


def new_figure(rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Any]:
    """Make a figure and its panels, an array with shape (rows, columns); pyplot and a display are not needed.

    Arguments:
        rows: Panels down.
        columns: Panels across.
        width: Inches in all.
        height: Inches in all.
    """
    layout = ConstrainedLayoutEngine(
        w_pad=0.08, h_pad=0.08, compress=True
    )  # room between the labels of neighbouring panels
    figure = Figure(figsize=(width, height), layout=layout, dpi=DPI)
    return figure, figure.subplots(rows, columns, squeeze=False)


def new_panels(count: int, *, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """Make a figure of `count` panels of one size, `height` inches high, two in a row."""
    columns = min(count, 2)
    rows = -(-count // columns)
    figure, panels = new_figure(rows, columns, width=5.2 * columns, height=height * rows)
    for panel in panels.ravel()[count:]:
        panel.set_axis_off()
    return figure, list(panels.ravel()[:count])


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG without its blank margins; an earlier file is replaced only when the new one is complete.

    The figure is drawn once: matplotlib's own cropping (`bbox_inches="tight"`) lays it out and draws it twice.

    Raises:
        ResourceError: It cannot be written.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    drawn = (pixels != pixels[0, 0]).any(-1)
    used = [np.flatnonzero(drawn.any(axis)) if drawn.any() else np.array([0]) for axis in (1, 0)]
    rows, columns = (slice(max(0, at[0] - CROPPED), at[-1] + 1 + CROPPED) for at in used)
    with replacing(path) as part:
        Image.fromarray(pixels[rows, columns]).save(part, format="PNG", dpi=(figure.dpi, figure.dpi))


def alone() -> Axes:
    """Make the single panel of a new figure."""
    return new_figure()[1][0, 0]


def figure_of(ax: Axes) -> Figure:
    """Return the figure of a panel, also of one in a subfigure."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure; make them with new_figure()")
    return figure


def styles(count: int) -> list[dict[str, Any]]:
    """Choose a line for each method: up to 8 colours of the safe palette, up to 20 others, then other line styles."""
    colours = PALETTE if count <= len(PALETTE) else MANY_COLOURS
    cycle = len(colours)
    return [{"color": colours[i % cycle], "linestyle": LINE_STYLES[i // cycle % 4]} for i in range(count)]


def scale_axis(ax: Axes, axis: str, values: np.ndarray, *, zero: bool = True) -> None:
    """Set a log axis for positive values over more than a decade and a half, else one that starts at zero if `zero`."""
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > DECADES * values.min():
        ax.set(**{f"{axis}scale": "log"})
        if values.max() < FEW_DECADES * values.min():  # default ticks read `2 x 10^-2` and overlap
            ticks = ax.xaxis if axis == "x" else ax.yaxis
            ticks.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
            ticks.set_minor_formatter(NullFormatter())
    elif zero and len(values) and values.min() >= 0:
        drawn = ax.dataLim.x1 if axis == "x" else ax.dataLim.y1
        ax.set(**{f"{axis}lim": (0, MARGIN * drawn if drawn > 0 else None)})


def log_axis(ax: Axes, values: np.ndarray) -> None:
    """Set a log axis; within one decade its ticks are plain numbers, since each would read `1.02 x 10^0`."""
    ax.set_yscale("log")
    values = values[np.isfinite(values) & (values > 0)]
    if len(values) and values.max() < 10 * values.min():
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
        ax.yaxis.set_minor_locator(NullLocator())


def legend(ax: Axes) -> None:
    """Put the legend above the panel, or many entries once to the right of the figure, where it hides no data."""
    handles, labels = ax.get_legend_handles_labels()
    longest = max(map(len, labels))
    columns = max(1, min(len(labels), 64 // (6 + longest)))
    if len(labels) > ROWS * columns or len(labels) > len(PALETTE):
        figure = figure_of(ax)
        if not figure.legends:
            columns = -(-len(labels) // ENTRIES)
            figure.set_figwidth(figure.get_figwidth() + columns * (0.5 + 0.075 * longest))
            figure.legend(handles, labels, loc="outside right upper", ncols=columns, frameon=False, fontsize="small")
        return
    ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize="small")


def label_of(data: xr.DataArray) -> str:
    """Return name and unit of values or of a coordinate."""
    name = str(data.attrs.get("long_name", data.name if data.name is not None else "value"))
    text = f"{name} [{data.attrs['units']}]" if data.attrs.get("units") else name
    return plain(textwrap.fill(text, LABEL))


def plain(text: str) -> str:
    """Escape text for matplotlib, to which `$` and a leading underscore have a meaning."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
