"""Handle values that are not finite: an error while streaming, or dropped or masked when the data are opened."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import dask
import numpy as np
import xarray as xr
from dask import threaded

from surrogate.data.formats.ragged import present
from surrogate.data.interpolate import on_grid
from surrogate.data.mapping import LEADING
from surrogate.data.mesh import point_axis, positions_of
from surrogate.data.reopen import reopen_snapshots
from surrogate.data.settings import DataSettings
from surrogate.data.streaming.channels import MASKED, pick
from surrogate.errors import DataError

__all__ = ["VALID", "drop_incomplete", "mask_missing", "open_data"]

VALID = "_valid"  # ending of the variable that is 1 where values are finite
SHOWN = 5


def open_data(settings: DataSettings) -> xr.Dataset:
    """Open the data of a configuration and handle values that are not finite as it says.

    Raises:
        DataError: The files cannot be used, or nothing finite is left.
    """
    ds = reopen_snapshots(settings.path, settings.layout)
    if settings.interpolate:
        ds = on_grid(ds, {str(axis): points for axis, points in settings.interpolate.items()})
    names = list(dict.fromkeys([*settings.inputs, *settings.targets]))
    if settings.nonfinite == "drop":
        return drop_incomplete(ds, names)
    return mask_missing(ds, names) if settings.nonfinite == "mask" else ds


def _finite(ds: xr.Dataset, array: xr.DataArray) -> xr.DataArray:
    """Return True where an array is finite, or its simulation has no such time step or point."""
    finite, steps = xr.apply_ufunc(np.isfinite, array, dask="allowed"), present(ds, array)
    axis = point_axis(ds, [str(dim) for dim in array.dims if dim not in LEADING])
    places = [name for name in positions_of(ds, axis) if MASKED in ds[name].attrs] if axis else []
    if places:  # simulations with fewer points than others
        finite = (finite | ds[places[0]].variable.isnull()).transpose(*array.dims)
    return finite if steps is None else (finite | ~steps).transpose(*array.dims)


def drop_incomplete(ds: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """Keep the simulations whose values are all finite, in one pass over the data; a warning names the others.

    Arguments:
        ds: Data with the axis `sample`.
        names: Variables to check.

    Raises:
        DataError: None is left, or a variable that all simulations share is not finite.
    """
    finite = {name: _finite(ds, pick(ds, name)) for name in names}
    whole = [array.all([dim for dim in array.dims if dim != "sample"]) for array in finite.values()]
    computed = dask.compute(*(array.data for array in whole), scheduler=threaded.get)
    flags = {name: np.asarray(values) for name, values in zip(names, computed, strict=True)}
    shared = [name for name, values in flags.items() if values.ndim == 0 and not values]
    if shared:
        raise DataError(
            f"variable '{shared[0]}' is shared by all simulations and not finite; correct it in the file, or choose "
            "data.nonfinite: mask"
        )
    keep = np.logical_and.reduce([np.ones(ds.sizes["sample"], bool), *(v for v in flags.values() if v.ndim)])
    if not keep.any():
        raise DataError(
            f"each of {len(keep)} simulations has values that are not finite in {', '.join(names)}; correct the files, "
            "or choose data.nonfinite: mask"
        )
    lost = np.flatnonzero(~keep)
    if len(lost):
        origins = ds["origin"].values[lost] if "origin" in ds.variables else lost
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        shown = ", ".join(map(str, origins[:SHOWN]))
        warnings.warn(f"{len(lost)} of {len(keep)} simulations hold NaN or Inf and are left out: {shown}{more}")
    return ds.isel(sample=np.flatnonzero(keep)) if len(lost) else ds


def mask_missing(ds: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """Mark values that are not finite, lazily, as missing values.

    A stream returns them as NaN. Statistics leave them out; in the inputs of a network they become the mean of the
    training data, in its targets they do not count in the loss. `<name>_valid` is 1 where a variable has a value and 0
    elsewhere, and may be used as a further input.

    Arguments:
        ds: The data.
        names: Variables to mark; names that the data do not have are ignored here.

    Raises:
        DataError: The data have a variable `<name>_valid` of their own.
    """
    for name in names:
        if name in ds.variables:
            array = pick(ds, name)
            if f"{name}{VALID}" in ds.variables and MASKED not in array.attrs:
                raise DataError(
                    f"variable '{name}{VALID}' has the name that data.nonfinite: mask gives to the places where "
                    f"'{name}' has values; rename it in the file or in data.layout"
                )
            there = _finite(ds, array)
            ds = ds.assign({f"{name}{VALID}": there.astype(np.float32)})
            if array.dtype.kind == "f":
                ds = ds.assign({name: array.where(there).assign_attrs(array.attrs | {MASKED: 1})})
    return ds
