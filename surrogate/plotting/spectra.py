"""Figure of the power by wave number, which shows the scales that a surrogate resolves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from surrogate.plotting.canvas import alone, label_of, legend, plain, styles

__all__ = ["plot_spectra"]


def plot_spectra(spectra: Mapping[str, xr.DataArray], *, ax: Axes | None = None) -> Axes:
    """Plot power per wave number against wave number, both logarithmic, without the mean, wave number zero.

    Arguments:
        spectra: Power per band by name (target, prediction, error), with dimension (wave_number,), the lower edge of a
            band, and the coordinate `wave_number_to`, its upper edge.
        ax: Panel; a new figure unless given.
    """
    ax = ax if ax is not None else alone()
    for (name, power), style in zip(spectra.items(), styles(len(spectra)), strict=True):
        low, high = power["wave_number"].values, power["wave_number_to"].values
        kept = (low > 0) & (power.values > 0)
        middle = np.sqrt(low[kept] * np.maximum(high[kept] - 1, low[kept]))  # of whole wave numbers
        ax.plot(middle, (power.values / (high - low))[kept], label=plain(name), marker="o", markersize=3.5, **style)
    ax.set(xscale="log", yscale="log")
    first = next(iter(spectra.values()))
    ax.set_xlabel("wave number\n[cycles per box]")
    ax.set_ylabel(label_of(first))
    legend(ax)
    return ax
