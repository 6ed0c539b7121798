"""Files in The Well's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from surrogate.data.formats.join import MASK
from surrogate.data.formats.ragged import STEPS, same_length
from surrogate.data.formats.the_well import BOUNDARIES, CHANNELS, SPLITS, STATISTICS, components
from surrogate.data.hdf5.writer import reserve, set_attributes, write_file
from surrogate.data.mapping import is_channel
from surrogate.data.store import Shard
from surrogate.errors import DataError

__all__ = ["FieldMeans", "by_split", "field_means", "field_statistics", "fields_of", "write_well"]

OWN = ("sample", "time", "origin", "group", STEPS)
HEAD = ("dataset_name", "grid_type", "n_spatial_dims", "n_trajectories", "simulation_parameters", BOUNDARIES)
ALIASES = {"validation": "valid"}


def by_split(ds: xr.Dataset) -> dict[str, xr.Dataset]:
    """The data of each split, by coordinate `group`; all of them are `train` where there is none.

    Raises:
        DataError: A group is no split of The Well.
    """
    if "group" not in ds.coords:
        return {"train": ds}
    groups = np.array([ALIASES.get(str(name), str(name)) for name in ds["group"].values])
    foreign = sorted(set(groups) - set(SPLITS))
    if foreign:
        raise DataError(
            f"The Well has the splits {', '.join(SPLITS)}, but the data have the group '{foreign[0]}'; convert to "
            "shards, or drop the coordinate: ds.drop_vars('group')"
        )
    return {split: ds.isel(sample=np.flatnonzero(groups == split)) for split in SPLITS if split in groups}


def fields_of(ds: xr.Dataset) -> tuple[tuple[str, ...], list[dict[str, xr.Variable]], dict[str, xr.Variable]]:
    """Return spatial axes, the fields of order 0, 1 and 2, and the scalars of a data set.

    Channels that are not the components of a vector or tensor become fields of their own.

    Raises:
        DataError: No variable has a spatial axis, fields have different grids, or a variable holds no numbers.
    """
    if not same_length(ds):
        raise DataError(
            "simulations differ in their number of time steps, and a file of The Well has one number for all; convert "
            "files of one length at a time, or to shards"
        )
    variables = {
        str(name): v
        for name, v in ds.variables.items()
        if name not in (*ds.dims, *OWN) and v.dtype.kind != "U" and not is_mask(ds, str(name))
    }
    for name, variable in variables.items():
        if variable.dtype.kind not in "fiub":
            raise DataError(f"'{name}' holds {variable.dtype}, only real numbers can be stored; leave it out")
    spatial = {
        name: tuple(str(d) for d in v.dims if d not in OWN and not is_channel(d)) for name, v in variables.items()
    }
    space = max(spatial.values(), key=len, default=())
    if not space:
        raise DataError("no variable has a spatial axis, so there is no field for The Well; convert to shards")
    orders: list[dict[str, xr.Variable]] = [{}, {}, {}]
    scalars: dict[str, xr.Variable] = {}
    for name, variable in variables.items():
        if not set(spatial[name]) <= set(space):
            raise DataError(f"'{name}' has the axes {variable.dims}, other fields {space}; convert them separately")
        channel = next((str(dim) for dim in variable.dims if is_channel(dim)), None)
        if not spatial[name] and channel is None:
            scalars[name] = variable
            continue
        order, parts = _by_order(ds, name, channel, space)
        orders[order] |= parts
    return space, orders, scalars


def is_mask(ds: xr.Dataset, name: str) -> bool:
    """Test whether a coordinate is the mask of a boundary of The Well."""
    return name in ds.coords and name.endswith(MASK) and name.removesuffix(MASK) in _known_boundaries(ds)


def _known_boundaries(ds: xr.Dataset) -> dict[str, dict[str, Any]]:
    return json.loads(ds.attrs.get(BOUNDARIES, "{}"))


def _space(variable: xr.Variable) -> tuple[str, ...]:
    return tuple(str(dim) for dim in variable.dims if dim not in OWN and not is_channel(dim))


def _by_order(
    ds: xr.Dataset, name: str, channel: str | None, space: tuple[str, ...]
) -> tuple[int, dict[str, xr.Variable]]:
    variable = ds.variables[name]
    if channel is None:
        return 0, {name: variable}
    labels = [str(label) for label in ds[channel].values] if channel in ds.coords else []
    for order in (1, 2):
        if labels == components(space, order) and channel == CHANNELS[order]:
            return order, {name: variable}
    labels = labels or [str(index) for index in range(variable.sizes[channel])]
    return 0, {f"{name}_{label}": variable.isel({channel: index}) for index, label in enumerate(labels)}


def write_well(
    path: Path, ds: xr.Dataset, *, block_bytes: int, done: Callable[[int], None] | None = None, name: str = ""
) -> Shard:
    """Write a data set as one file of The Well, or leave what was there; values become float32.

    Arguments:
        path: The file.
        ds: Fields over `sample`, `time` and space.
        block_bytes: Bound of the values in memory at a time.
        done: Called with the bytes of every block that was written.
        name: Name of the data set.

    Raises:
        DataError: The data do not fit the layout.
        ResourceError: The disk is full, read-only or out of quota.
    """
    written = write_file(path, partial(_declare, ds, name), block_bytes=block_bytes, reread=True, done=done)
    return Shard(file=path.name, samples=ds.sizes["sample"], bytes=written.bytes, sha256=written.sha256)


def _declare(ds: xr.Dataset, name: str, file: h5py.File) -> dict[str, xr.Variable]:
    space, orders, scalars = fields_of(ds)
    parameters = [key for key, variable in scalars.items() if "time" not in variable.dims]
    set_attributes(file, {key: value for key, value in ds.attrs.items() if key not in HEAD})
    file.attrs["dataset_name"] = str(ds.attrs.get("dataset_name", name))
    file.attrs["grid_type"] = str(ds.attrs.get("grid_type", "cartesian"))
    file.attrs["n_spatial_dims"], file.attrs["n_trajectories"] = len(space), ds.sizes["sample"]
    file.attrs["simulation_parameters"] = np.array(parameters, h5py.string_dtype())
    values = _dimensions(file, ds, space)
    _boundaries(file, ds, space)
    file.create_group("scalars").attrs["field_names"] = np.array(list(scalars), h5py.string_dtype())
    for key, variable in scalars.items():
        _put(values, file["scalars"], key, variable.transpose("sample", "time", missing_dims="ignore"))
    for order, fields in enumerate(orders):
        group = file.create_group(f"t{order}_fields")
        group.attrs["field_names"] = np.array(list(fields), h5py.string_dtype())
        for key, variable in fields.items():
            target = _put(values, group, key, _components_last(variable, space, order))
            target.attrs["dim_varying"] = np.array([axis in variable.dims for axis in space])
    return values


def _put(values: dict[str, xr.Variable], group: h5py.Group, name: str, variable: xr.Variable) -> h5py.Dataset:
    """Reserve room for a variable in float32 and state what it varies with."""
    variable = variable.astype(np.float32)
    target = reserve(group, name, variable.shape, variable.dtype)
    set_attributes(target, {key: value for key, value in variable.attrs.items() if key not in STATISTICS})
    target.attrs["sample_varying"] = np.bool_("sample" in variable.dims)
    target.attrs["time_varying"] = np.bool_("time" in variable.dims)
    values[str(target.name)] = variable
    return target


def _dimensions(file: h5py.File, ds: xr.Dataset, space: tuple[str, ...]) -> dict[str, xr.Variable]:
    """Write coordinates; an axis without one counts from 0, and data without time have the single time 0."""
    group = file.create_group("dimensions")
    group.attrs["spatial_dims"] = np.array(space, h5py.string_dtype())
    values: dict[str, xr.Variable] = {}
    for axis in ("time", *space):
        known = ds.variables.get(axis)
        _put(values, group, axis, xr.Variable((axis,), np.arange(ds.sizes.get(axis, 1))) if known is None else known)
        group[axis].attrs["time_varying"] = np.bool_(axis == "time")
    return values


def _boundaries(file: h5py.File, ds: xr.Dataset, space: tuple[str, ...]) -> None:
    group = file.create_group("boundary_conditions")
    for name, entry in _known_boundaries(ds).items():
        target = group.create_group(name)
        target.attrs["bc_type"] = str(entry.get("bc_type", "open"))
        for key in ("associated_dims", "associated_fields"):
            target.attrs[key] = np.array(np.atleast_1d(entry.get(key, [])), h5py.string_dtype())
        axes = [str(axis) for axis in np.atleast_1d(entry.get("associated_dims", [])) if axis in space]
        if f"{name}{MASK}" in ds.coords:
            mask = ds.variables[f"{name}{MASK}"].transpose("sample", "time", *axes, missing_dims="ignore").astype(bool)
        else:
            mask = xr.Variable(axes, np.zeros([ds.sizes[axis] for axis in axes], bool))
            for axis in axes:
                mask[{axis: [0, -1]}] = True  # both ends of its axes
        target.attrs["sample_varying"] = np.bool_("sample" in mask.dims)
        target.attrs["time_varying"] = np.bool_("time" in mask.dims)
        target.create_dataset("mask", data=mask.values)


def _components_last(variable: xr.Variable, space: tuple[str, ...], order: int) -> xr.Variable:
    """Order the axes: sample, time, space, and one axis of components for every order."""
    channel = next((dim for dim in variable.dims if is_channel(dim)), None)
    leading = [axis for axis in ("sample", "time", *space) if axis in variable.dims]
    if channel is None:
        return variable.transpose(*leading)
    variable = variable.transpose(*leading, channel)
    inner = tuple(f"component{index}" for index in range(order))
    shape = variable.shape[:-1] + (len(space),) * order
    return xr.Variable((*leading, *inner), variable.data.reshape(shape), variable.attrs)


@dataclass(frozen=True)
class FieldMeans:
    """Means over some simulations of every field, its square, its change in a time step and the square of that.

    Arguments:
        samples: Number of the simulations.
        of: By field and suffix, which is empty or `_delta`: mean and mean square of every component.
    """

    samples: int
    of: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]

    def __add__(self, other: FieldMeans) -> FieldMeans:
        share = other.samples / (self.samples + other.samples)
        of = {
            key: tuple(mine + share * (theirs - mine) for mine, theirs in zip(means, other.of[key], strict=True))
            for key, means in self.of.items()
        }
        return FieldMeans(self.samples + other.samples, of)


def field_means(ds: xr.Dataset) -> FieldMeans:
    """Compute the means that `stats.yaml` is made of, over all simulations of a data set."""
    _, orders, _ = fields_of(ds)
    means: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
    for name, variable in [item for fields in orders for item in fields.items()]:
        axes = [dim for dim in variable.dims if not is_channel(dim)]
        values = variable.astype(np.float64)
        pairs = [("", values)]
        if "time" in axes and variable.sizes["time"] > 1:
            pairs.append(("_delta", values.isel(time=slice(1, None)) - values.isel(time=slice(None, -1))))
        for suffix, of in pairs:
            numbers = xr.Dataset({"mean": of.mean(axes), "square": (of**2).mean(axes)}).compute()
            means[name, suffix] = numbers["mean"].values, numbers["square"].values
    return FieldMeans(ds.sizes["sample"], means)


def field_statistics(means: FieldMeans) -> dict[str, dict[str, Any]]:
    """Return `mean, std, rms` of fields and of their changes in a time step, ordered as in `stats.yaml`."""
    statistics: dict[str, dict[str, Any]] = {key: {} for key in STATISTICS}
    for (name, suffix), (mean, square) in means.of.items():
        statistics[f"mean{suffix}"][name] = mean.tolist()
        statistics[f"std{suffix}"][name] = np.sqrt(np.maximum(square - mean**2, 0)).tolist()
        statistics[f"rms{suffix}"][name] = np.sqrt(square).tolist()
    return statistics
