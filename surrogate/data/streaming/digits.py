"""Refuse variables whose variation is lost in float32, in which networks compute."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from surrogate.data.mapping import is_channel
from surrogate.data.streaming.channels import Side, pick
from surrogate.errors import DataError

__all__ = ["refuse_lost_digits"]

STEPS = 32  # of float32 that a standard deviation has at least
NOISE = 16 * float(np.finfo(np.float64).eps)  # deviation over mean of values that are constant but for rounding
SOME = 16  # simulations that are read where no statistics are known


def refuse_lost_digits(
    ds: xr.Dataset, side: Side, mean: Sequence[float] | None = None, scale: Sequence[float] | None = None
) -> None:
    """Refuse a variable of a wider type than float32 whose deviation is a few steps of float32 at its mean.

    101325 Pa with a deviation of 0.01 Pa would become ten distinct values. With the mean of the data given, the exact
    deviation is computed only where that of the float32 values is suspiciously small; else of some simulations.

    Arguments:
        ds: The data.
        side: Inputs or targets.
        mean: Mean of each channel, of all of these data; None where it is not known.
        scale: Standard deviation of each channel in the training data, 1 where it is constant in float32; None without
            normalization.

    Raises:
        DataError: The variable, its mean and deviation, and what to do.
    """
    step = float(np.finfo(np.float32).eps)
    count = ds.sizes["sample"]
    some = ds.isel(sample=np.unique(np.linspace(0, count - 1, SOME).astype(int))) if mean is None and count else ds
    scale = [1.0] * len(side.names) if scale is None else scale
    for name in dict.fromkeys(column.variable for column in side.columns):
        array = pick(some, name)
        wide = array.dtype.itemsize > 4 if array.dtype.kind == "f" else array.dtype.itemsize >= 4
        columns = [column for column in side.columns if column.variable == name]
        places = [column.first + i for column in columns for i in range(column.count)]
        if not wide or not (
            mean is None or any(scale[i] == 1 or scale[i] <= STEPS * step * abs(mean[i]) for i in places)
        ):
            continue
        values, others = array.astype(np.float64), [dim for dim in array.dims if not is_channel(dim)]
        means, deviations = (np.ravel(getattr(values, kind)(others).values) for kind in ("mean", "std"))
        for i, (centre, deviation) in enumerate(zip(np.abs(means).tolist(), deviations.tolist(), strict=True)):
            trained = min(scale[column.first + i] for column in columns) if mean is None else 1.0
            needed = deviation if trained == 1 else trained  # what the network tells apart
            if NOISE * centre < deviation and needed < STEPS * step * centre:
                raise DataError(
                    f"variable '{name}' varies by {deviation:.3g} around {centre:.8g}, where float32 has steps of "
                    f"{step * centre:.2g}: networks compute in float32 and its values would be lost; write it minus a "
                    "reference value, such as its mean"
                )
