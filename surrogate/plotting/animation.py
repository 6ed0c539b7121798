"""Roll-outs in motion: truth, prediction and error over lead time as one GIF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from surrogate.files import replacing
from surrogate.plotting.canvas import label_of, new_figure
from surrogate.plotting.fields import plot_comparison

__all__ = ["save_animation"]

FRAMES = 60  # more make a file that no report can hold
FRAME_DPI = 72


def save_animation(fields: xr.Dataset, path: Path, *, seconds: float = 0.15) -> None:
    """Write truth, prediction and error over lead time as a GIF that repeats; every frame has the same scales.

    Arguments:
        fields: `truth` and `prediction` with dimensions (lead, *space), as for `plot_comparison` at one lead time;
            more than 60 steps are thinned evenly, first and last kept.
        path: The GIF file.
        seconds: How long a frame stays.

    Raises:
        ResourceError: It cannot be written.
    """
    chosen = np.unique(np.linspace(0, fields.sizes["lead"] - 1, FRAMES).round().astype(int))
    fields = fields[["truth", "prediction"]].transpose("lead", ...).isel(lead=chosen)
    leading = [str(dim) for dim in fields["truth"].dims[1:-2]]
    fields = fields.isel({dim: fields.sizes[dim] // 2 for dim in leading}).drop_vars(leading, errors="ignore")
    frames = [_picture(image) for image in _frames(fields)]
    with replacing(path) as part:
        frames[0].save(
            part, format="GIF", save_all=True, append_images=frames[1:], duration=int(1000 * seconds), loop=0
        )


def _frames(fields: xr.Dataset) -> list[np.ndarray]:
    """Pixels of every frame; the artists are made once and given new values."""
    figure, axes = new_figure(1, 3, width=10.5, height=3.4)
    figure.set_dpi(FRAME_DPI)
    canvas = FigureCanvasAgg(figure)
    panels = plot_comparison(fields.isel(lead=0), ax=axes[0])
    error = fields["prediction"] - fields["truth"]
    _share_scales(panels, fields, float(abs(error).max()) or 1.0)
    title = figure.suptitle(_caption(fields["lead"].isel(lead=0)), fontsize="medium")
    images = []
    for index in range(fields.sizes["lead"]):
        shown = [fields["truth"][index], fields["prediction"][index], error[index]]
        for panel, field in zip(panels, shown, strict=True):
            _show(panel, field, shown[0])
        title.set_text(_caption(fields["lead"].isel(lead=index)))
        canvas.draw()
        images.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return images


def _share_scales(panels: list[Axes], fields: xr.Dataset, largest: float) -> None:
    both = [fields["truth"], fields["prediction"]]
    low, high = min(float(f.min()) for f in both), max(float(f.max()) for f in both)
    if high == low:
        high = low + 1.0
    margin = 0.05 * (high - low)
    for panel, (bottom, top) in zip(panels, [(low, high), (low, high), (-largest, largest)], strict=True):
        if panel.collections:
            panel.collections[0].set_clim(bottom, top)
        else:
            panel.set_ylim(bottom - margin, top + margin)


def _show(panel: Axes, field: xr.DataArray, truth: xr.DataArray) -> None:
    if panel.collections:
        across = "x" if "x" in field.dims else str(field.dims[-1])
        panel.collections[0].set_array(field.transpose(..., across).values)
        return
    panel.lines[0].set_ydata(field.values)
    if panel.get_legend() is not None:  # the prediction has the truth beside it
        panel.lines[1].set_ydata(truth.values)


def _caption(lead: xr.DataArray) -> str:
    name, _, unit = label_of(lead).replace("\n", " ").partition(" [")
    return f"{name} {float(lead):.3g} {unit.removesuffix(']')}".rstrip()


def _picture(pixels: np.ndarray) -> Any:
    return Image.fromarray(pixels).quantize(colors=128, method=Image.Quantize.MEDIANCUT)
