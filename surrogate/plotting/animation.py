"""Animations of roll-outs: truth, prediction and error over lead time as one GIF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from surrogate.files import replacing
from surrogate.plotting.canvas import ERROR_COLOURS, FIELD_COLOURS, label_of, new_figure
from surrogate.plotting.fields import plot_comparison
from surrogate.plotting.points import places_of, plane_of, with_cells

__all__ = ["save_animation"]

FRAMES = 40  # more make a file too large for a report
FRAME_DPI = 72
SHADES, GREYS = 112, 32  # of each colour map, and of text and lines: 256 colours in all


def save_animation(fields: xr.Dataset, path: Path, *, seconds: float = 0.15, figure: Figure | None = None) -> None:
    """Write truth, prediction and error over lead time as a GIF that repeats; every frame has the same scales.

    Predictions further from the truth's range than its width are drawn in the end colour of the scale.

    Arguments:
        fields: `truth` and `prediction` with dimensions (lead, *space), as for `plot_comparison` at one lead time;
            more than 40 steps are thinned evenly, first and last kept.
        path: The GIF file.
        seconds: Duration of a frame.
        figure: Empty figure for the frames; a new one unless given.

    Raises:
        ResourceError: It cannot be written.
    """
    chosen = np.unique(np.linspace(0, fields.sizes["lead"] - 1, FRAMES).round().astype(int))
    fields = with_cells(fields[["truth", "prediction"]], fields).transpose("lead", ...).isel(lead=chosen)
    leading = [str(dim) for dim in fields["truth"].dims[1:-2]]
    fields = fields.isel({dim: fields.sizes[dim] // 2 for dim in leading}).drop_vars(leading, errors="ignore")
    images = [Image.fromarray(pixels) for pixels in _frames(fields, figure)]
    if fields["truth"].ndim > 2 or places_of(
        fields["truth"][0]
    ):  # one palette of both colour maps and of text, so that a colour means one value
        shades = np.linspace(0, 1, SHADES)
        maps = [colormaps[name](shades)[:, :3] for name in (FIELD_COLOURS, ERROR_COLOURS)]
        greys = np.linspace(0, 1, GREYS)[:, None].repeat(3, axis=1)
        palette = Image.new("P", (1, 1))
        palette.putpalette((255 * np.concatenate([*maps, greys])).round().astype(np.uint8).ravel().tolist())
    else:
        palette = images[-1].quantize(256, method=Image.Quantize.MEDIANCUT)  # keeps white white
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    with replacing(path) as part:
        frames[0].save(
            part, format="GIF", save_all=True, append_images=frames[1:], duration=int(1000 * seconds), loop=0
        )


def _frames(fields: xr.Dataset, figure: Figure | None) -> list[np.ndarray]:
    """Draw the pixels of every frame; the artists are made once and updated."""
    if figure is None:
        figure, axes = new_figure(1, 3, width=10.5, height=3.4)
        figure.set_dpi(FRAME_DPI)
    else:
        axes = figure.subplots(1, 3, squeeze=False)
    canvas = FigureCanvasAgg(figure)
    panels = plot_comparison(fields.isel(lead=0), ax=axes[0])
    error = fields["prediction"] - fields["truth"]
    both = [fields["truth"], fields["prediction"]]
    low, high = min(float(f.min()) for f in both), max(float(f.max()) for f in both)
    truth = float(fields["truth"].min()), float(fields["truth"].max())
    span = truth[1] - truth[0]
    if span > 0:  # cut off where a prediction explodes
        low, high = max(low, truth[0] - span), min(high, truth[1] + span)
    limits, largest = (low, high if high > low else low + 1.0), float(abs(error).max()) or 1.0
    for panel, (bottom, top) in zip(panels, [limits, limits, (-largest, largest)], strict=True):
        if panel.collections:
            panel.collections[0].set_clim(bottom, top)
        else:
            panel.set_ylim(bottom - 0.05 * (limits[1] - limits[0]), top + 0.05 * (limits[1] - limits[0]))
    title = figure.suptitle(_caption(fields["lead"].isel(lead=0)), fontsize="medium")
    images = []
    for index in range(fields.sizes["lead"]):
        shown = [fields["truth"][index], fields["prediction"][index], error[index]]
        for panel, field in zip(panels, shown, strict=True):
            if panel.collections:
                across = "x" if "x" in field.dims else str(field.dims[-1])
                drawn = field.values[plane_of(field)[1]] if field.ndim == 1 else field.transpose(..., across).values
                panel.collections[0].set_array(drawn)
                continue
            panel.lines[0].set_ydata(field.values)
            if panel.get_legend() is not None:  # the panel of the prediction shows the truth too
                panel.lines[1].set_ydata(shown[0].values)
        title.set_text(_caption(fields["lead"].isel(lead=index)))
        canvas.draw()
        images.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return images


def _caption(lead: xr.DataArray) -> str:
    name, _, unit = label_of(lead).replace("\n", " ").partition(" [")
    return f"{name} {float(lead):.3g} {unit.removesuffix(']')}".rstrip()
