"""Joining files along `sample`, exactly or not at all."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from surrogate.data.formats.ragged import padded
from surrogate.data.mapping import LEADING
from surrogate.data.mesh import CELLS, VOLUME, point_axis, positions_of
from surrogate.data.streaming.channels import MASKED
from surrogate.errors import DataError

__all__ = ["MASK", "Part", "difference", "join_parts"]

MASK = "_mask"  # suffix of the coordinate that marks a boundary of The Well


@dataclass(frozen=True)
class Part:
    """A file, or a group of a file, and its name in messages.

    Arguments:
        where: The name.
        ds: Its variables.
        own_fields: Variables without a sample axis are fields that all samples of the part share, not of all parts.
    """

    where: str
    ds: xr.Dataset
    own_fields: bool = False


def join_parts(parts: Sequence[Part]) -> xr.Dataset:
    """Join all parts into one data set, in their order.

    Raises:
        DataError: Two parts differ in their variables, axes, types, sizes or coordinates.
    """
    parts = _with_own_meshes(parts)
    if all(part.own_fields for part in parts):
        parts = _spread(_with_all_masks(_of_one_length(parts)))
    first = parts[0]
    for other in parts[1:]:
        apart = _difference(first.ds, other.ds)
        if apart:
            raise DataError(
                f"{first.where} and {other.where} cannot be joined: {apart}; convert them to one form, or open "
                "them separately"
            )
    if len(parts) == 1:
        return first.ds
    datasets = [part.ds for part in parts]
    return xr.concat(
        datasets,
        "sample",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="drop_conflicts",
    )


def _with_own_meshes(parts: Sequence[Part]) -> Sequence[Part]:
    """Give every simulation its own places and cells where meshes differ; points that one does not have are NaN."""
    first = parts[0].ds
    axis = point_axis(first, [str(dim) for dim in first.dims if dim not in LEADING])
    names = [name for name in (*positions_of(first, axis), CELLS, VOLUME) if axis and name in first.variables]
    if len(parts) == 1 or not names or any({axis, *names} - {*part.ds.variables, axis} for part in parts):
        return parts
    if all(np.array_equal(part.ds[n].values, first[n].values) for part in parts[1:] for n in names):
        return parts
    sizes = {dim: max(part.ds.sizes[dim] for part in parts) for dim in (axis, *first.get(CELLS, first[names[0]]).dims)}
    ragged = len({part.ds.sizes[axis] for part in parts}) > 1
    own = []
    for part in parts:
        ds = part.ds.drop_vars(axis, errors="ignore")
        cells = {}
        if CELLS in names and ds[CELLS].ndim == 2:
            more = [(0, sizes[dim] - ds.sizes[dim]) for dim in ds[CELLS].dims]
            padded_cells = np.pad(ds[CELLS].values, more, constant_values=-1)[None].repeat(ds.sizes["sample"], 0)
            cells = {CELLS: (("sample", *ds[CELLS].dims), padded_cells)}
            ds = ds.drop_vars(CELLS)
        ds = ds.pad({axis: (0, sizes[axis] - ds.sizes[axis])}) if ragged else ds
        for name in [name for name, variable in ds.variables.items() if axis in variable.dims]:
            ds = _on_samples(ds, name)
            ds[name].attrs |= {MASKED: 1} if ragged else {}
        own.append(Part(part.where, ds.assign_coords(cells), part.own_fields))
    return own


def _of_one_length(parts: Sequence[Part]) -> Sequence[Part]:
    """Extend the time axis of all parts to that of the longest."""
    if len({part.ds.sizes.get("time") for part in parts}) == 1 or any("time" not in part.ds.sizes for part in parts):
        return parts
    longer = padded([part.ds for part in parts])
    return [Part(part.where, ds, own_fields=True) for part, ds in zip(parts, longer, strict=True)]


def _with_all_masks(parts: Sequence[Part]) -> list[Part]:
    """Give all parts the masks of each other's boundaries; a boundary that a part does not have is empty there."""
    masks = {name: v for part in parts for name, v in part.ds.coords.variables.items() if str(name).endswith(MASK)}
    filled = []
    for part in parts:
        lacking = {
            name: xr.Variable(dims, np.zeros([part.ds.sizes[dim] for dim in dims], bool), mask.attrs)
            for name, mask in masks.items()
            if name not in part.ds.coords
            for dims in [tuple(dim for dim in mask.dims if dim != "sample")]
        }
        filled.append(Part(part.where, part.ds.assign_coords(lacking), own_fields=True))
    return filled


def _spread(parts: Sequence[Part]) -> list[Part]:
    """Broadcast variables without a sample axis along it, lazily, where they differ between parts."""
    shared = set.intersection(*({*part.ds.variables} for part in parts)) - {*parts[0].ds.dims}
    for name in [name for name in parts[0].ds.variables if name in shared]:
        first, *others = [part.ds.variables[name].isel(sample=0, missing_dims="ignore") for part in parts]
        on_samples = ["sample" in part.ds.variables[name].dims for part in parts]
        alike = all(v.dims == first.dims and v.shape == first.shape for v in others)
        if all(on_samples) or not alike:
            continue
        if not any(on_samples) and all(np.array_equal(v.values, first.values) for v in others):
            continue
        parts = [Part(part.where, _on_samples(part.ds, name), own_fields=True) for part in parts]
    return list(parts)


def _on_samples(ds: xr.Dataset, name: Hashable) -> xr.Dataset:
    variable = ds.variables[name]
    if "sample" in variable.dims:
        return ds
    spread = variable.set_dims({"sample": ds.sizes["sample"], **variable.sizes})
    return ds.assign_coords({name: spread}) if name in ds.coords else ds.assign({name: spread})


def _difference(a: xr.Dataset, b: xr.Dataset) -> str | None:
    """Describe the first difference that keeps two parts from being joined."""
    lone = sorted(set(map(str, a.variables)) ^ set(map(str, b.variables)))
    if lone:
        return f"only one of them has {', '.join(lone)}"
    for name, one in a.variables.items():
        apart = difference(one, b.variables[name])
        if apart:
            return f"'{name}' {apart}"
    return None


def difference(one: xr.Variable, two: xr.Variable) -> str | None:
    """Describe the first difference that keeps two variables from being joined; None where there is none."""
    if one.dims != two.dims:
        return f"has axes {one.dims} and {two.dims}"
    if one.dtype != two.dtype and {one.dtype.kind, two.dtype.kind} != {"U"}:
        return f"has type {one.dtype} and {two.dtype}"
    if one.attrs.get("units") != two.attrs.get("units"):
        return f"has units '{one.attrs.get('units')}' and '{two.attrs.get('units')}'"
    for axis in one.dims:
        if axis != "sample" and one.sizes[axis] != two.sizes[axis]:
            return f"has {one.sizes[axis]} and {two.sizes[axis]} entries along {axis}"
    if "sample" in one.dims or np.array_equal(one.values, two.values, equal_nan=one.dtype.kind == "f"):
        return None
    if one.dtype.kind != "f" or not one.size:
        return "has other values and no sample axis"
    scale, apart = float(np.nanmax(np.abs(one.values))), float(np.nanmax(np.abs(one.values - two.values)))
    rounding = 8 * float(np.finfo(one.dtype).eps)
    if not (apart <= rounding * scale and np.array_equal(np.isnan(one.values), np.isnan(two.values))):
        return f"has other values (they differ by up to {apart:.2g}) and no sample axis"
    return None
