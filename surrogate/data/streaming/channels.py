"""Channels of a batch: the variable and the time step of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from surrogate.data.mapping import LEADING, is_channel
from surrogate.errors import DataError, did_you_mean

__all__ = ["MASKED", "Column", "Side", "canonical", "make_side", "pick"]

MASKED = "masked"  # attribute of a variable whose NaN stand for missing values


@dataclass(frozen=True)
class Column:
    """Channels `first` to `first + count` of a batch: a variable, `offset` time steps after the start of the window."""

    variable: str
    offset: int
    first: int
    count: int


@dataclass(frozen=True)
class Side:
    """Inputs or targets.

    Arguments:
        columns: Variables and time steps that fill the channels.
        names: Names of the channels.
        units: Units of the channels; "" where unknown.
        dims: Names of the spatial axes; () where there are only parameters.
        shape: Shape of a sample: (C, *S).
    """

    columns: tuple[Column, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    dims: tuple[str, ...]
    shape: tuple[int, ...]


def pick(ds: xr.Dataset, name: str) -> xr.DataArray:
    """Return a numeric variable or coordinate, its axes in the order sample, time, channel, space.

    Raises:
        DataError: There is no such variable, or it does not hold real numbers.
    """
    if name not in ds.variables:
        shapes = ", ".join(f"{key} {tuple(variable.sizes.items())}" for key, variable in ds.data_vars.items())
        hint = did_you_mean(name, map(str, ds.variables))
        raise DataError(f"no variable '{name}' in the data; {hint}; the data hold {shapes or 'no variable'}")
    array = ds[name]
    channels = [dim for dim in array.dims if is_channel(dim)]
    if len(channels) > 1:
        raise DataError(f"variable '{name}' has the channel axes {channels}; stack them into one")
    if channels != ["channel"] and channels:  # axes with names of their own, where variables differ in components
        array = array.drop_vars("channel", errors="ignore").rename({channels[0]: "channel"})
    if array.dtype.kind not in "fiub":
        raise DataError(f"variable '{name}' has type {array.dtype}, expected real numbers; choose another variable")
    return array.transpose(*LEADING, ..., missing_dims="ignore")


def make_side(ds: xr.Dataset, names: Sequence[str], offsets: Sequence[int], present: int) -> Side:
    """Assign channels: for each step each variable that changes in time, then the others once.

    Arguments:
        ds: The data.
        names: Variables in the order of their channels.
        offsets: Distances of the steps from the start of a window.
        present: Distance of the last input step; names of channels count from it.

    Raises:
        DataError: A variable is missing, not numeric, or its spatial axes are not among those of the others.
    """
    if not names:
        raise DataError("no variable was chosen; name at least one input and one target")
    arrays = {name: pick(ds, name) for name in names}
    spatial = {name: tuple(str(dim) for dim in a.dims if dim not in LEADING) for name, a in arrays.items()}
    widest = max(spatial, key=lambda name: len(spatial[name]))
    dims = spatial[widest]  # to which the other variables are broadcast
    for name, own in spatial.items():
        if own != tuple(dim for dim in dims if dim in own):
            raise DataError(
                f"variables '{widest}' {dict(arrays[widest].sizes)} and '{name}' {dict(arrays[name].sizes)} are on "
                "different grids; interpolate them to one grid, or leave one out"
            )
    moving = [name for name in names if "time" in arrays[name].dims]
    wanted = [(name, offset, True) for offset in offsets for name in moving]
    wanted += [(name, 0, False) for name in names if name not in moving]
    columns: list[Column] = []
    channels: list[str] = []
    units: list[str] = []
    for name, offset, moves in wanted:
        suffix, components = f"[t{offset - present:+d}]" if moves else "", [name]
        if "channel" in arrays[name].dims:
            components = [f"{name}.{label}" for label in arrays[name]["channel"].values]
        labels = [component + suffix for component in components]
        columns.append(Column(name, offset, len(channels), len(labels)))
        channels += labels
        units += [str(arrays[name].attrs.get("units", ""))] * len(labels)
    shape = (len(channels), *(ds.sizes[dim] for dim in dims))
    return Side(tuple(columns), tuple(channels), tuple(units), dims, shape)


def canonical(values: np.ndarray, array: xr.DataArray, dims: tuple[str, ...]) -> np.ndarray:
    """Reshape values of a part of `array` to the axes (sample, time, channel, *dims); missing axes have length 1."""
    lengths = dict(zip(array.dims, values.shape, strict=True))
    return values.reshape([lengths.get(dim, 1) for dim in (*LEADING, *dims)])
