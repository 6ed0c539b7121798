"""Figures: `plot_x(data, *, ax=None) -> Axes`, from arrays and xarray objects; no global state, no display needed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from surrogate.files import replacing

__all__ = [
    "PALETTE",
    "new_figure",
    "plot_comparison",
    "plot_damping",
    "plot_error_histogram",
    "plot_error_over_time",
    "plot_intervals",
    "plot_running_sum",
    "plot_training",
    "save_figure",
]

# Okabe and Ito's palette, told apart with every kind of colour vision; yellow last, since it is faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
LINE_STYLES = ("-", "--", "-.", ":")
FIELD_COLOURS, ERROR_COLOURS = "viridis", "RdBu_r"
WIDTH, HEIGHT = 5.4, 3.4  # inches
DPI = 120
LABEL = 20  # letters in a line, so that a label is no longer than its axis
DECADES = 30.0  # a range wider than this factor is drawn on a log axis


def new_figure(rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Any]:
    """A figure and its panels, an array with shape (rows, columns); pyplot and a display are not needed.

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


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, replacing an earlier one only when it is complete.

    Raises:
        ResourceError: It cannot be written.
    """
    with replacing(path) as part:
        figure.savefig(part, format="png", bbox_inches="tight", pad_inches=0.06)


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


def plot_error_over_time(errors: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """Median error against time with the band from the 10 to the 90 % quantile over samples.

    Arguments:
        errors: Errors with dimensions (sample, time) by method; attributes label the axis.
        ax: Where to draw.
    """
    ax = ax if ax is not None else _alone()
    for (name, error), style in zip(errors.items(), _styles(len(errors)), strict=True):
        error = error.transpose("sample", "time").dropna("time", how="all")
        low, middle, high = np.nanquantile(error.values, [0.1, 0.5, 0.9], axis=0)
        marker = "o" if error.sizes["time"] < 30 else None
        ax.plot(error["time"], middle, label=_plain(name), marker=marker, markersize=3.5, **style)
        ax.fill_between(error["time"], low, high, color=style["color"], alpha=0.18, linewidth=0)
    first = next(iter(errors.values()))
    _scale(ax, "y", np.concatenate([error.values.ravel() for error in errors.values()]))
    ax.set_xlabel(_label(first["time"]))
    ax.set_ylabel(_label(first))
    _legend(ax)
    return ax


def plot_error_histogram(errors: Mapping[str, xr.DataArray], *, ax: Axes | None = None, bins: int = 20) -> Axes:
    """How many samples have which error.

    Arguments:
        errors: One error per sample by method, with shape (B,); NaN is left out.
        ax: Where to draw.
        bins: Number of bins, the same for every method.
    """
    ax = ax if ax is not None else _alone()
    finite = {name: error.values[np.isfinite(error.values)] for name, error in errors.items()}
    everything = np.concatenate(list(finite.values()))
    edges = _edges(everything, bins)
    for (name, values), style in zip(finite.items(), _styles(len(finite)), strict=True):
        counts = np.histogram(values, edges)[0]
        ax.stairs(counts, edges, fill=True, color=style["color"], alpha=0.18)
        ax.stairs(counts, edges, label=_plain(name), linewidth=1.6, **style)
    _scale(ax, "x", everything)
    ax.set_xlabel(_label(next(iter(errors.values()))))
    ax.set_ylabel("number of samples")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(ax)
    return ax


def plot_training(curves: Mapping[str, xr.Dataset], *, ax: Axes | None = None) -> Axes:
    """Training and validation loss per epoch.

    Arguments:
        curves: `train_loss` and `validation_loss` with dimension (epoch,) by method.
        ax: Where to draw.
    """
    ax = ax if ax is not None else _alone()
    for index, (name, curve) in enumerate(curves.items()):
        colour = PALETTE[index % len(PALETTE)]
        marker = "o" if curve.sizes["epoch"] < 30 else None
        label = _plain(name)
        line: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3.5}
        ax.plot(curve["epoch"], curve["validation_loss"], "-", label=f"{label}, validation", **line)
        ax.plot(curve["epoch"], curve["train_loss"], "--", label=f"{label}, training", **line, mfc="white", alpha=0.7)
    _log(
        ax,
        np.concatenate([curve[key].values for curve in curves.values() for key in ("train_loss", "validation_loss")]),
    )
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss [normalised units]")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(ax)
    return ax


def plot_damping(curves: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """The damping that slimTrain chose at every step; it may be negative, so the axis is linear about zero.

    Arguments:
        curves: Damping with dimension (step,) by method.
        ax: Where to draw.
    """
    ax = ax if ax is not None else _alone()
    _plot_steps(curves, ax)
    sizes = np.abs(np.concatenate([curve.values for curve in curves.values()]))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    low, high = np.floor(np.log10(np.quantile(sizes, [0.1, 1]))) if len(sizes) else (-1.0, 0.0)
    exponents = np.unique(np.round(np.linspace(high, low + (high - low) / 4, 3)))  # far enough from the zero between
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set_yscale("symlog", linthresh=10**low)
    ax.set_yticks([*-(10**exponents), 0, *10**exponents])
    ax.set_ylabel("damping λ")
    return ax


def plot_running_sum(curves: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """The running sum Λ of the damping.

    Arguments:
        curves: Running sum with dimension (step,) by method.
        ax: Where to draw.
    """
    ax = ax if ax is not None else _alone()
    _plot_steps(curves, ax)
    _log(ax, np.concatenate([curve.values for curve in curves.values()]))
    ax.set_ylabel("running sum Λ")
    return ax


def plot_intervals(estimates: Mapping[str, tuple[float, float, float]], *, label: str, ax: Axes | None = None) -> Axes:
    """Estimate and interval of every method, the first on top.

    Arguments:
        estimates: Value, lower and upper end by method; an end that is NaN is not drawn.
        label: What the estimate is.
        ax: Where to draw.
    """
    ax = ax if ax is not None else _alone()
    for index, (value, low, high) in enumerate(estimates.values()):
        colour = PALETTE[index % len(PALETTE)]
        ax.plot([low, high], [index, index], color=colour, linewidth=3, alpha=0.5, solid_capstyle="butt")
        ax.plot(value, index, "o", color=colour)
    ax.set_yticks(range(len(estimates)), [_plain(name) for name in estimates])
    ax.set_ylim(len(estimates) - 0.5, -0.5)
    ax.set_xlim(0, 1.05 * max(np.nanmax(numbers) for numbers in estimates.values()))
    ax.set_xlabel(_plain(label))
    return ax


def _alone() -> Axes:
    return new_figure()[1][0, 0]


def _plot_steps(curves: Mapping[str, xr.DataArray], ax: Axes) -> None:
    for (name, curve), style in zip(curves.items(), _styles(len(curves)), strict=True):
        ax.plot(curve["step"], curve, label=_plain(name), linewidth=1.1, **style)
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(ax)


def _compare_lines(panels: Sequence[Axes], truth: xr.DataArray, prediction: xr.DataArray, error: xr.DataArray) -> None:
    names = truth[truth.dims[0]].dtype.kind in "US"  # a line between names would mean nothing
    style: dict[str, Any] = {"marker": "o" if names or truth.size < 30 else None, "markersize": 3.5}
    style["linestyle"] = "none" if names else "-"
    for panel, field, colour in zip(panels, (truth, prediction, error), PALETTE, strict=False):
        along = field[field.dims[0]]
        panel.plot(along, field, color=colour, **style)
        panel.set_xlabel(_label(along))
        panel.set_ylabel(_label(field))
        if names:
            ticks = [_plain(str(name)) for name in along.values]
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
        panel.figure.colorbar(mesh, ax=panel).set_label(_label(field))


def _image(ax: Axes, field: xr.DataArray, **colours: Any) -> ScalarMappable:
    """Cells centred on the coordinates; `x` runs to the right where there is one, else the last dimension does."""
    across = "x" if "x" in field.dims else str(field.dims[-1])
    field = field.transpose(..., across)
    up = str(field.dims[0])
    mesh = ax.pcolormesh(field[across], field[up], field, shading="nearest", rasterized=True, **colours)
    wide, tall = np.ptp(field[across].values), np.ptp(field[up].values)
    if tall > 0 and 0.2 < wide / tall < 5:
        ax.set_aspect("equal")
    ax.set_xlabel(_label(field[across]))
    ax.set_ylabel(_label(field[up]))
    return mesh


def _middle_slice(fields: xr.Dataset) -> tuple[xr.Dataset, str]:
    leading = [str(dim) for dim in fields["truth"].dims[:-2]]
    fields = fields.isel({dim: fields.sizes[dim] // 2 for dim in leading})
    return fields, "".join(f", {dim} = {float(fields[dim]):.3g}" for dim in leading)


def _styles(count: int) -> list[dict[str, Any]]:
    """A colour for each method; line styles change where the colours are used up."""
    cycles = len(PALETTE)
    return [{"color": PALETTE[i % cycles], "linestyle": LINE_STYLES[i // cycles % 4]} for i in range(count)]


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    if len(values) and values.min() > 0 and values.max() > DECADES * values.min():
        return np.geomspace(values.min(), values.max(), bins + 1)
    return np.histogram_bin_edges(values, bins)


def _scale(ax: Axes, axis: str, values: np.ndarray) -> None:
    """A log axis for positive values over more than a decade and a half, else one that starts at zero."""
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > DECADES * values.min():
        ax.set(**{f"{axis}scale": "log"})
    elif len(values) and values.min() >= 0:
        ax.set(**{f"{axis}lim": (0, None)})


def _log(ax: Axes, values: np.ndarray) -> None:
    """A log axis; within one decade its ticks are plain numbers, since every one would read `1.02 x 10^0`."""
    ax.set_yscale("log")
    values = values[np.isfinite(values) & (values > 0)]
    if len(values) and values.max() < 10 * values.min():
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
        ax.yaxis.set_minor_locator(NullLocator())


def _legend(ax: Axes) -> None:
    """Above the panel, where it hides no data."""
    handles, labels = ax.get_legend_handles_labels()
    columns = max(1, min(len(labels), 64 // (6 + max(map(len, labels)))))
    ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize="small")


def _label(data: xr.DataArray) -> str:
    """Name and unit of values or of a coordinate."""
    name = str(data.attrs.get("long_name", data.name if data.name is not None else "value"))
    text = f"{name} [{data.attrs['units']}]" if data.attrs.get("units") else name
    return _plain(textwrap.fill(text, LABEL))


def _plain(text: str) -> str:
    """Text without mathematics or hidden labels: `$` and a leading underscore mean something to matplotlib."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
