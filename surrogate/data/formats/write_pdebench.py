"""Files in the layouts of PDEBench: the family follows from the variables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from surrogate.data.formats.join import MASK
from surrogate.data.formats.pdebench import COORDINATES, FLOW, TIME
from surrogate.data.formats.ragged import same_length
from surrogate.data.hdf5.writer import reserve, set_attributes, write_file
from surrogate.data.mapping import is_channel
from surrogate.data.store import Shard
from surrogate.errors import DataError

__all__ = ["choose_family", "write_pdebench"]

SPACES = (("x",), ("y", "x"), ("z", "y", "x"))
OWN = ("sample", "time", "origin", "group")
NO_ATTRIBUTES = ("config", "pdebench_family")


def choose_family(ds: xr.Dataset) -> str:
    """Choose the family that holds these data: `flow`, `scalar`, or `per seed`, where parameters may differ.

    Raises:
        DataError: None of them does; the message says why.
    """
    if not same_length(ds):
        raise _refusal("simulations differ in their number of time steps, a file has one number for all")
    fields = _fields(ds)
    space = _space(ds, fields)
    differing = [name for name, values in _parameters(ds).items() if (values != values[0]).any()]
    plain = all(set(v.dims) == {"sample", "time", *space} for v in fields.values())
    if set(fields) == {"tensor", "nu"} and all(set(v.dims) == {"sample", *space} for v in fields.values()):
        if differing:
            raise _refusal(f"parameter '{differing[0]}' differs between simulations, a Darcy file has one for all")
        return "scalar"
    if plain and not differing and "density" in fields and set(fields) <= set(FLOW):
        return "flow"
    if plain and not differing and len(fields) == 1:
        return "scalar"
    for name, variable in fields.items():
        axes = {str(dim) for dim in variable.dims if not is_channel(dim)}
        if axes != {"sample", "time", *space}:
            raise _refusal(
                f"'{name}' has the axes {tuple(variable.dims)}, every variable needs sample, time and {space}"
            )
    return "per seed"


def _refusal(reason: str) -> DataError:
    return DataError(f"cannot be written in a layout of PDEBench: {reason}; convert to shards or the_well")


def _fields(ds: xr.Dataset) -> dict[str, xr.Variable]:
    """Select all variables but coordinates of axes, parameters and text."""
    fields = {}
    for name, variable in ds.variables.items():
        if name in (*ds.dims, *OWN) or variable.dims == ("sample",) or variable.dtype.kind == "U":
            continue
        if name in ds.coords and str(name).endswith(MASK):
            continue
        if variable.dtype.kind not in "fiub":
            raise _refusal(f"'{name}' holds {variable.dtype}")
        fields[str(name)] = variable
    if not fields:
        raise _refusal("there is no field")
    return fields


def _space(ds: xr.Dataset, fields: dict[str, xr.Variable]) -> tuple[str, ...]:
    dims = {str(dim) for v in fields.values() for dim in v.dims if dim not in OWN and not is_channel(dim)}
    for space in SPACES:
        if set(space) == dims:
            return space
    raise _refusal(f"the spatial axes are {sorted(dims)}, PDEBench has x, then y, then z")


def _parameters(ds: xr.Dataset) -> dict[str, np.ndarray]:
    coordinates = {}
    for name, variable in ds.variables.items():
        if variable.dims == ("sample",) and variable.dtype.kind in "fiub" and name not in (*OWN, "seed"):
            values = np.asarray(variable.values, np.float64)
            if not np.isfinite(values).all():
                raise _refusal(f"parameter '{name}' is not finite everywhere")
            coordinates[str(name)] = values
    return coordinates


def write_pdebench(
    path: Path, ds: xr.Dataset, *, first: int, block_bytes: int, done: Callable[[int], None] | None = None
) -> Shard:
    """Write a data set as one file of PDEBench, or leave what was there; values become float32.

    Arguments:
        path: The file.
        ds: Fields over `sample`, `time` and space.
        first: Number of the first simulation, for the names of groups.
        block_bytes: Bound of the values in memory at a time.
        done: Called with the bytes of every block that was written.

    Raises:
        DataError: No family holds these data.
        ResourceError: The disk is full, read-only or out of quota.
    """
    declare: Callable[[h5py.File], dict[str, xr.Variable]]
    declare = partial(_seeds, ds, first) if choose_family(ds) == "per seed" else partial(_arrays, ds)
    written = write_file(path, declare, block_bytes=block_bytes, reread=True, done=done)
    return Shard(file=path.name, samples=ds.sizes["sample"], bytes=written.bytes, sha256=written.sha256)


def _arrays(ds: xr.Dataset, file: h5py.File) -> dict[str, xr.Variable]:
    """Declare a scalar or flow file: arrays at the root, parameters as attributes, T + 1 times."""
    fields = _fields(ds)
    space = _space(ds, fields)[::-1]  # x first
    values: dict[str, xr.Variable] = {}
    darcy = set(fields) == {"tensor", "nu"}
    for name, variable in fields.items():
        variable = variable.transpose("sample", "time", *space, missing_dims="ignore")
        if darcy and name == "tensor":
            variable = variable.set_dims({"step": 1, **variable.sizes}).transpose("sample", "step", ...)
        _put(values, file, name if darcy or name in FLOW else "tensor", variable)
    for axis in space:
        _put(values, file, COORDINATES[axis], _coordinate(ds, axis))
    _put(values, file, TIME, _times(ds))
    set_attributes(file, {key: value for key, value in ds.attrs.items() if key not in NO_ATTRIBUTES})
    set_attributes(file, {name: parameter[0] for name, parameter in _parameters(ds).items()})
    return values


def _seeds(ds: xr.Dataset, first: int, file: h5py.File) -> dict[str, xr.Variable]:
    """Declare a per-seed file: a group for every simulation, whose parameters stand in its `config`."""
    fields = _fields(ds)
    space = _space(ds, fields)
    data, labels = _stacked(ds, fields, space)
    parameters, values = _parameters(ds), dict[str, xr.Variable]()
    grid = {"t": _times(ds)[:-1]} | {axis: _coordinate(ds, axis) for axis in space}
    numbers = list(range(first, first + ds.sizes["sample"]))
    seeds = ds.variables.get("seed")
    if seeds is not None and seeds.dtype.kind in "iu" and len(np.unique(seeds.values)) == ds.sizes["sample"]:
        numbers = [int(seed) for seed in seeds.values]  # of their own, where they have some
    for index, seed in enumerate(numbers):
        group = file.create_group(f"{seed:04d}")
        _put(values, group, "data", data[index])
        for axis, coordinate in grid.items():
            _put(values, group.require_group("grid"), axis, coordinate)
        lines = [f"channels: [{', '.join(labels)}]"]
        lines += [f"{name}: {float(parameter[index])!r}" for name, parameter in parameters.items()]
        group.attrs["config"] = "\n".join(lines) + "\n"
    set_attributes(file, {key: value for key, value in ds.attrs.items() if key not in NO_ATTRIBUTES})
    return values


def _stacked(ds: xr.Dataset, fields: dict[str, xr.Variable], space: tuple[str, ...]) -> tuple[xr.Variable, list[str]]:
    """Stack all fields along one last axis, and the names of its entries."""
    parts, labels = [], []
    for name, variable in fields.items():
        channel = next((str(dim) for dim in variable.dims if is_channel(dim)), "channel")
        if channel not in variable.dims:
            variable, names = variable.set_dims({channel: 1, **variable.sizes}), [name]
        else:
            known = ds[channel].values if channel in ds.coords else range(variable.sizes[channel])
            names = [str(label) if len(fields) == 1 else f"{name}_{label}" for label in known]
        labels += names
        variable = variable.transpose("sample", "time", *space, channel).astype(np.float32)
        parts.append(xr.Variable(("sample", "time", *space, "channel"), variable.data))
    return xr.Variable.concat(parts, "channel"), labels


def _coordinate(ds: xr.Dataset, axis: str) -> xr.Variable:
    known = ds.variables.get(axis)
    return xr.Variable((axis,), np.arange(ds.sizes[axis])) if known is None else known.to_base_variable()


def _times(ds: xr.Dataset) -> xr.Variable:
    """Return the times and, as in PDEBench's files, the one after the last."""
    known = _coordinate(ds, "time") if "time" in ds.dims else xr.Variable(("time",), np.zeros(1))
    values = np.asarray(known.values, np.float64)
    step = values[-1] - values[-2] if len(values) > 1 else 1.0
    return xr.Variable(("time",), np.append(values, values[-1] + step), known.attrs)


def _put(values: dict[str, xr.Variable], group: h5py.Group, name: str, variable: xr.Variable) -> None:
    variable = variable.astype(np.float32)
    target = reserve(group, name, variable.shape, variable.dtype)
    set_attributes(target, variable.attrs)
    values[str(target.name)] = variable
