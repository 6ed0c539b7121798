"""Figure of the latent space of an autoencoder."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from surrogate.plotting.canvas import FIELD_COLOURS, PALETTE, alone, figure_of, label_of

__all__ = ["plot_latent"]


def plot_latent(latent: xr.DataArray, *, colour: xr.DataArray | None = None, ax: Axes | None = None) -> Axes:
    """Plot samples along the first two principal components of their latent vectors.

    Arguments:
        latent: With dimensions (sample, component); the coordinate `explained` (component,) is the share of the
            variance. With a single component the second coordinate is zero.
        colour: A number per sample, such as the time, with shape (sample,); its attributes label the colour bar.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    latent = latent.transpose("sample", "component")
    x = latent.values[:, 0]
    y = latent.values[:, 1] if latent.sizes["component"] > 1 else 0 * x
    if colour is None:
        ax.plot(x, y, "o", markersize=3.5, alpha=0.7, color=PALETTE[0], markeredgewidth=0)
    else:
        dots = ax.scatter(x, y, c=colour.values, s=12, cmap=FIELD_COLOURS, linewidths=0)
        figure_of(ax).colorbar(dots, ax=ax).set_label(label_of(colour))
    ax.set_xlabel(_name(latent, 0))
    ax.set_ylabel(_name(latent, 1))
    return ax


def _name(latent: xr.DataArray, index: int) -> str:
    """Name a component, with its share of the variance where it is given."""
    name = f"component {index + 1}"
    if "explained" not in latent.coords or index >= latent.sizes["component"]:
        return name
    share = float(latent["explained"][index])
    return f"{name} ({100 * share:.0f} %)" if np.isfinite(share) else name
