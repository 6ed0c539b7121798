"""Simulations with different numbers of time steps in one data set.

The time axis is as long as the longest; what a shorter simulation lacks is NaN that no file holds and no stream reads.
Coordinate `time_steps` (sample) has the number of steps of each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import dask.array as da
import numpy as np
import xarray as xr

from surrogate.data.hdf5.origin import Absent

__all__ = ["OF_USER", "STEPS", "lengths_of", "of_equal_length", "padded", "present", "same_length"]

STEPS = "time_steps"
OF_USER = "of_user"  # attribute of a coordinate of the data that has this name by chance


def padded(datasets: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """Extend the time axis of all data sets to the longest one, and add the number of steps of every simulation."""
    longest = max(datasets, key=lambda ds: ds.sizes["time"])
    total = longest.sizes["time"]
    clock = longest["time"].values if "time" in longest.coords else None
    shared = all(
        clock is None if times is None else clock is not None and np.array_equal(times.values, clock[: times.size])
        for times in (ds.coords.get("time") for ds in datasets)
    )
    result = []
    for ds in datasets:
        steps = np.full(ds.sizes["sample"], ds.sizes["time"])
        if not shared and "time" in ds.coords:
            times = ds["time"].variable.set_dims({"sample": len(steps), "time": ds.sizes["time"]})
            ds = ds.drop_vars("time").assign_coords(sample_time=times)
        longer = ds.drop_vars("time", errors="ignore")
        longer = longer.map(lambda array: _longer(array, total), keep_attrs=True)
        moving = {
            name: _longer(array, total) for name, array in ds.coords.items() if "time" in array.dims and name != "time"
        }
        others = {name: array for name, array in ds.coords.items() if "time" not in array.dims}
        longer = longer.drop_vars(list(moving), errors="ignore").assign_coords(others | moving)
        longer = longer.assign_coords({"time": longest["time"]}) if shared and "time" in longest.coords else longer
        result.append(longer.assign_coords({STEPS: ("sample", steps)}))
    return result


def _longer(array: xr.DataArray, total: int) -> xr.DataArray:
    """Extend an array with absent steps at the end of its time axis."""
    if "time" not in array.dims or array.sizes["time"] == total:
        return array
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    axis = array.dims.index("time")
    missing = (*array.shape[:axis], total - array.shape[axis], *array.shape[axis + 1 :])
    absent = Absent(missing, array.dtype)
    if array.chunks is None:
        data = np.concatenate([array.values, absent[...]], axis)
    else:
        chunks = (*array.chunks[:axis], (missing[axis],), *array.chunks[axis + 1 :])
        meta = np.empty((0,) * array.ndim, array.dtype)
        tail = da.from_array(absent, chunks, name=f"absent-{array.dtype}-{missing}-{chunks}", fancy=False, meta=meta)
        data = da.concatenate([array.data, tail], axis)
    return xr.DataArray(xr.Variable(array.dims, data, array.attrs), name=array.name)


def lengths_of(ds: xr.Dataset) -> np.ndarray:
    """Count the time steps of every simulation."""
    steps = ds.sizes.get("time", 1)
    steps_of = ds.coords.get(STEPS)
    if steps_of is None or steps_of.dims != ("sample",) or steps_of.dtype.kind not in "iu" or OF_USER in steps_of.attrs:
        return np.full(ds.sizes["sample"], steps)
    return np.minimum(steps_of.values, steps)


def of_equal_length(lengths: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield runs of neighbouring simulations with as many steps: (first, end, steps)."""
    edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
    return ((a, b, int(lengths[a])) for a, b in itertools.pairwise(edges))


def same_length(ds: xr.Dataset) -> bool:
    """Test whether all simulations have the steps of the time axis."""
    return bool((lengths_of(ds) == ds.sizes.get("time", 1)).all())


def present(ds: xr.Dataset, array: xr.DataArray) -> xr.DataArray | None:
    """Mark the steps (sample, time) of an array that the simulations have; None where they have all."""
    if same_length(ds) or not {"sample", "time"} <= set(array.dims):
        return None
    return xr.DataArray(np.arange(ds.sizes["time"]) < lengths_of(ds)[:, None], dims=("sample", "time"))
