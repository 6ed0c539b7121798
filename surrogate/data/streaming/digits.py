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


def refuse_lost_digits(ds: xr.Dataset, side: Side, mean: Sequence[float], scale: Sequence[float]) -> None:
    """Refuse a variable of a wider type than float32 whose deviation is a few steps of float32 at its mean.

    101325 Pa with a deviation of 0.01 Pa would become ten distinct values. The exact deviation is computed only where
    the one of the float32 values is suspiciously small.

    Arguments:
        ds: The training data.
        side: Inputs or targets.
        mean: Mean of each channel.
        scale: Standard deviation of each channel; 1 where it is constant in float32.

    Raises:
        DataError: The variable, its mean and deviation, and what to do.
    """
    step = float(np.finfo(np.float32).eps)
    for name in dict.fromkeys(column.variable for column in side.columns):
        array = pick(ds, name)
        wide = array.dtype.itemsize > 4 if array.dtype.kind == "f" else array.dtype.itemsize >= 4
        places = [c.first + i for c in side.columns if c.variable == name for i in range(c.count)]
        small = [scale[i] == 1 or scale[i] <= STEPS * step * abs(mean[i]) for i in places]
        if not wide or not any(small):
            continue
        values, others = array.astype(np.float64), [dim for dim in array.dims if not is_channel(dim)]
        means, deviations = (np.ravel(getattr(values, kind)(others).values) for kind in ("mean", "std"))
        for centre, deviation in zip(np.abs(means).tolist(), deviations.tolist(), strict=True):
            if NOISE * centre < deviation < STEPS * step * centre:
                raise DataError(
                    f"variable '{name}' varies by {deviation:.3g} around {centre:.8g}, where float32 has steps of "
                    f"{step * centre:.2g}: networks compute in float32 and its values would be lost; write it minus a "
                    "reference value, such as its mean"
                )
