"""What becomes of values that are not finite: an error while streaming, or handled when the data are opened."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import dask
import numpy as np
import xarray as xr
from dask import threaded

from surrogate.data.formats.ragged import present
from surrogate.data.layouts import open_snapshots
from surrogate.data.settings import DataSettings
from surrogate.data.streaming.channels import MASKED, pick
from surrogate.errors import DataError

__all__ = ["VALID", "drop_incomplete", "mask_missing", "open_data"]

VALID = "_valid"  # ending of the variable that tells where values were finite
SHOWN = 5


def open_data(settings: DataSettings) -> xr.Dataset:
    """The data of a configuration, values that are not finite handled as it says.

    Raises:
        DataError: The files cannot be used, or nothing finite is left.
    """
    ds = open_snapshots(settings.path, settings.layout)
    names = list(dict.fromkeys([*settings.inputs, *settings.targets]))
    if settings.nonfinite == "drop":
        return drop_incomplete(ds, names)
    return mask_missing(ds, names) if settings.nonfinite == "mask" else ds


def _finite(ds: xr.Dataset, array: xr.DataArray) -> xr.DataArray:
    """Where an array is finite, or its simulation has no such time step."""
    found, steps = xr.apply_ufunc(np.isfinite, array, dask="allowed"), present(ds, array)
    return found if steps is None else (found | ~steps).transpose(*array.dims)


def drop_incomplete(ds: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """The simulations of which all values are finite, in one pass over the data; the others are named in a warning.

    Arguments:
        ds: Data with the axis `sample`.
        names: Variables that count.

    Raises:
        DataError: None is left, or a variable that all simulations share is not finite.
    """
    finite = {name: _finite(ds, pick(ds, name)) for name in names}
    whole = [array.all([dim for dim in array.dims if dim != "sample"]) for array in finite.values()]
    found = [np.asarray(flags) for flags in dask.compute(*(array.data for array in whole), scheduler=threaded.get)]
    shared = [name for name, flags in zip(names, found, strict=True) if flags.ndim == 0 and not flags]
    if shared:
        raise DataError(f"variable '{shared[0]}' is shared by all simulations and not finite; mend it, or mask it")
    keep = np.logical_and.reduce([np.ones(ds.sizes["sample"], bool), *(flags for flags in found if flags.ndim)])
    if not keep.any():
        raise DataError(
            f"none of {len(keep)} simulations has finite values alone in {', '.join(names)}; mend the files, or "
            "choose data.nonfinite: mask"
        )
    lost = np.flatnonzero(~keep)
    if len(lost):
        origins = ds["origin"].values[lost] if "origin" in ds.variables else lost
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        shown = ", ".join(map(str, origins[:SHOWN]))
        warnings.warn(f"{len(lost)} of {len(keep)} simulations hold NaN or Inf and are left out: {shown}{more}")
    return ds.isel(sample=np.flatnonzero(keep)) if len(lost) else ds


def mask_missing(ds: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """Values that are not finite marked, lazily, as values that are not there.

    A stream hands them out as NaN. Statistics leave them out; among the inputs of a network they become the mean of the
    training data, among its targets they count for nothing. `<name>_valid` is 1 where a variable has a value, 0
    elsewhere, for networks that are to know.

    Arguments:
        ds: The data.
        names: Variables to mark; those the data do not have are left to whoever asks for them.
    """
    for name in names:
        if name in ds.variables:
            array = pick(ds, name)
            there = _finite(ds, array)
            ds = ds.assign({f"{name}{VALID}": there.astype(np.float32)})
            if array.dtype.kind == "f":
                ds = ds.assign({name: array.where(there).assign_attrs(array.attrs | {MASKED: 1})})
    return ds
