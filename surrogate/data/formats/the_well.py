"""The Well: scalar, vector and tensor fields of trajectories, recognised and read.

Fields keep their names. Components of vectors lie along `channel` (x, y, ...), those of tensors along `tensor_channel`
(xx, xy, ... in C order). Dimensions that a field does not vary along are broadcast without being stored.

Ohana et al. 2024, The Well: a large-scale collection of diverse physics simulations for machine learning.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from surrogate.config import read_yaml
from surrogate.data.formats.join import MASK
from surrogate.data.formats.lazy import lazy_variable
from surrogate.data.formats.variables import FileVariable, attributes, variable_at
from surrogate.data.hdf5.storage import check_storage, dataset_at, describe_names, holds
from surrogate.errors import DataError

__all__ = [
    "BOUNDARIES",
    "CHANNELS",
    "SPLITS",
    "STATISTICS",
    "components",
    "is_well",
    "known_axes",
    "read_well",
    "split_of",
]

SPLITS = ("train", "valid", "test")
CHANNELS = (None, "channel", "tensor_channel")  # by the order of the field
STATISTICS = ("mean", "std", "rms", "mean_delta", "std_delta", "rms_delta")
BOUNDARIES = "boundary_conditions"
FLAGS = ("sample_varying", "time_varying", "dim_varying")


@dataclass(frozen=True)
class _Frame:
    """What the fields of a file have in common: axes, their lengths, and how the file is read."""

    handle: h5py.File
    external: bool
    space: tuple[str, ...]
    sizes: dict[str, int]

    @property
    def file(self) -> str:
        return str(self.handle.filename)


def is_well(handle: h5py.File) -> bool:
    """Whether a file has the groups of The Well."""
    groups = all(isinstance(handle.get(name, getlink=True), h5py.HardLink) for name in ("dimensions", "t0_fields"))
    return groups and "spatial_dims" in handle["dimensions"].attrs


def split_of(file: Path) -> str | None:
    """The split that a file belongs to by its folder: `{name}/data/{train|valid|test}/`."""
    return file.parent.name if file.parent.name in SPLITS and file.parents[1].name == "data" else None


def components(dims: Sequence[str], order: int) -> list[str]:
    """Names of the components of a vector (order 1) or tensor (order 2), in C order."""
    return ["".join(names) for names in itertools.product(dims, repeat=order)]


def known_axes(dataset: h5py.Dataset) -> tuple[str, ...] | None:
    """Axes of a dataset in the order of the file; None where the layout prescribes none."""
    group = dataset.name.split("/")[1]
    if group not in ("t0_fields", "t1_fields", "t2_fields", "scalars"):
        return None
    axes = ("sample",) * _flag(dataset, "sample_varying") + ("time",) * _flag(dataset, "time_varying")
    if group != "scalars":
        space = _names(dataset.file["dimensions"], "spatial_dims")
        varying = np.atleast_1d(dataset.attrs.get("dim_varying", [True] * len(space)))
        axes += tuple(axis for axis, varies in zip(space, varying, strict=False) if varies)
        axes += tuple(f"component{index}" for index in range(int(group[1])))
    return axes if len(axes) == dataset.ndim else None


def read_well(handle: h5py.File, *, external: bool = False) -> xr.Dataset:
    """A file of The Well.

    Raises:
        DataError: It deviates from the layout.
    """
    if not is_well(handle):
        raise DataError(
            f"{handle.filename}: is not in The Well's layout: no groups 'dimensions' (with spatial_dims) and "
            f"'t0_fields'; choose another layout or declare a mapping; {describe_names(handle)}"
        )
    space = tuple(_names(handle["dimensions"], "spatial_dims"))
    frame, coordinates = _frame(handle, space, external)
    found: dict[str, xr.Variable] = {}
    for order, group in enumerate(("t0_fields", "t1_fields", "t2_fields")):
        for name in _names(handle.get(group), "field_names"):
            found[name] = _field(frame, f"{group}/{name}", order)
    ds = xr.Dataset(found).assign_coords(coordinates)
    for order in (1, 2):
        axis = CHANNELS[order]
        if axis in ds.dims:
            ds = ds.assign_coords({str(axis): components(space, order)})
    ds = _with_scalars(ds, frame)
    ds = ds.assign_attrs(attributes(handle))
    boundaries = _boundaries(handle)
    ds = ds.assign_attrs({BOUNDARIES: json.dumps(boundaries)}) if boundaries else ds
    ds = ds.assign_coords(dict(_masks(frame)))
    return _with_statistics(ds, Path(handle.filename))


def _names(group: h5py.Group | None, key: str) -> list[str]:
    """A list of names in the attributes of a group, or all of its members."""
    if group is None:
        return []
    return _names_of(group, key) if key in group.attrs else list(group)


def _names_of(item: h5py.HLObject, key: str) -> list[str]:
    """A list of names in an attribute."""
    return [
        entry.decode() if isinstance(entry, bytes) else str(entry) for entry in np.atleast_1d(item.attrs.get(key, []))
    ]


def _frame(handle: h5py.File, space: tuple[str, ...], external: bool) -> tuple[_Frame, dict[str, xr.Variable]]:
    """Axes and coordinates; one that differs between samples is named `sample_time`, `sample_x`, ..."""
    coordinates: dict[str, xr.Variable] = {}
    sizes: dict[str, int] = {}
    for axis in ("time", *space):
        dataset = _required(handle, f"dimensions/{axis}")
        varies = _flag(dataset, "sample_varying")
        moves = axis != "time" and _flag(dataset, "time_varying")
        axes = ("sample",) * varies + ("time",) * moves + (axis,)
        variable = lazy_variable(variable_at(handle, f"dimensions/{axis}", axes, external=external)).compute()
        sizes |= {str(dim): size for dim, size in variable.sizes.items()}
        variable.attrs = _plain_attributes(variable.attrs)
        same = varies and not moves and bool((variable.values == variable.values[:1]).all())
        variable = variable[0] if same else variable
        coordinates[axis if variable.dims == (axis,) else f"sample_{axis}"] = variable
    samples = handle.attrs.get("n_trajectories")
    sizes["sample"] = int(samples) if samples is not None else _count(handle)
    return _Frame(handle, external, space, sizes), coordinates


def _required(handle: h5py.File, path: str) -> h5py.Dataset:
    if not holds(handle, path) or not isinstance(handle[path], h5py.Dataset):
        raise DataError(f"{handle.filename}: no dataset '{path}', which The Well prescribes; {describe_names(handle)}")
    return handle[path]


def _count(handle: h5py.File) -> int:
    """Trajectories of a file that does not state their number."""
    groups = [handle[name] for name in ("t0_fields", "t1_fields", "t2_fields", "scalars") if name in handle]
    found = [item.shape[0] for group in groups for item in group.values() if _flag(item, "sample_varying")]
    return found[0] if found else 1


def _flag(item: h5py.HLObject, key: str) -> bool:
    return bool(np.all(item.attrs.get(key, False)))


def _plain_attributes(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in FLAGS}


def _leading(frame: _Frame, path: str) -> tuple[str, ...]:
    return _leading_of(_required(frame.handle, path))


def _leading_of(item: h5py.HLObject) -> tuple[str, ...]:
    return ("sample",) * _flag(item, "sample_varying") + ("time",) * _flag(item, "time_varying")


def _field(frame: _Frame, path: str, order: int) -> xr.Variable:
    """A field with all of its spatial axes and its components flattened."""
    leading = _leading(frame, path)
    varying = np.atleast_1d(frame.handle[path].attrs.get("dim_varying", [True] * len(frame.space))).astype(bool)
    if len(varying) != len(frame.space):
        raise DataError(
            f"{frame.file}:{path}: dim_varying has {len(varying)} entries, but there are {len(frame.space)} spatial "
            f"dimensions {list(frame.space)}; mend the attribute"
        )
    own = tuple(axis for axis, varies in zip(frame.space, varying, strict=True) if varies)
    inner = tuple(f"component{index}" for index in range(order))
    found = variable_at(frame.handle, path, (*leading, *own, *inner), external=frame.external)
    _check_sizes(frame, path, found)
    variable = lazy_variable(found)
    variable.attrs = _plain_attributes(variable.attrs)
    if order:
        variable = variable.stack({str(CHANNELS[order]): inner})
    absent = {axis: frame.sizes[axis] for axis in frame.space if axis not in own}
    if absent:
        variable = variable.set_dims({**absent, **variable.sizes})
    axes = [*leading, *([CHANNELS[order]] if order else []), *frame.space]
    return variable.transpose(*axes)


def _check_sizes(frame: _Frame, path: str, found: FileVariable) -> None:
    for axis, size in zip(found.axes, found.values.shape, strict=True):
        expected = frame.sizes.get(axis, len(frame.space))
        if size != expected:
            raise DataError(
                f"{frame.file}:{path}: has {size} entries along '{axis}', the file says {expected} (shape "
                f"{found.values.shape}, axes {list(found.axes)}); mend its flags or the coordinates"
            )


def _with_scalars(ds: xr.Dataset, frame: _Frame) -> xr.Dataset:
    """Scalars: constants and those of a sample are parameters on `sample`, those that change in time are variables."""
    for name in _names(frame.handle.get("scalars"), "field_names"):
        if name in ds.variables:
            raise DataError(f"{frame.file}: '{name}' is a scalar and a field; rename one of them")
        path = f"scalars/{name}"
        found = variable_at(frame.handle, path, _leading(frame, path), external=frame.external)
        _check_sizes(frame, path, found)
        variable = lazy_variable(found)
        variable.attrs = _plain_attributes(variable.attrs)
        if "time" in variable.dims:
            ds = ds.assign({name: variable})
        else:
            values = np.broadcast_to(variable.values, frame.sizes["sample"]).copy()
            ds = ds.assign_coords({name: ("sample", values, variable.attrs)})
    return ds


def _masks(frame: _Frame) -> Iterator[tuple[str, xr.Variable]]:
    """Where each boundary lies, as coordinate `<name>_mask` over the axes it is on; a mask of another form is left."""
    group = frame.handle.get(BOUNDARIES)
    for name in group if isinstance(group, h5py.Group) else ():
        path = f"{BOUNDARIES}/{name}/mask"
        if not holds(frame.handle, path):
            continue
        flags = _leading_of(group[name])
        axes = (*flags, *_names_of(group[name], "associated_dims"))
        shape = tuple(frame.sizes.get(axis, 0) for axis in axes)
        with dataset_at(frame.handle, path, external=frame.external) as dataset:
            if dataset.shape == shape:
                check_storage(dataset, f"{frame.file}:{path}", external=frame.external)
                mask = xr.Variable(axes, dataset[()].astype(bool))
                yield f"{name}{MASK}", mask.transpose("sample", "time", ..., missing_dims="ignore")


def _boundaries(handle: h5py.File) -> dict[str, dict[str, Any]]:
    """Kind, dimensions and fields of every boundary condition."""
    group = handle.get("boundary_conditions")
    keys = ("bc_type", "associated_dims", "associated_fields")
    found = {name: attributes(group[name]) for name in group} if isinstance(group, h5py.Group) else {}
    return {name: {key: entry[key] for key in keys if key in entry} for name, entry in found.items()}


def _with_statistics(ds: xr.Dataset, file: Path) -> xr.Dataset:
    """The numbers of `stats.yaml` as attributes of the fields; the file and any of its keys may be missing."""
    path = file.parents[2] / "stats.yaml" if split_of(file) else None
    if path is None or not path.is_file():
        return ds
    for key, name, value in _statistics(read_yaml(path).tree):
        if name in ds.variables:
            ds[name].attrs[key] = value
    return ds


def _statistics(tree: dict[str, Any]) -> Iterator[tuple[str, str, float | list[float]]]:
    """Statistic, field and value of every entry, whichever of the two names comes first."""
    for outer, below in tree.items():
        for inner, value in below.items() if isinstance(below, dict) else ():
            key, name = (outer, inner) if outer in STATISTICS else (inner, outer)
            numbers = np.ravel(value) if isinstance(value, list | int | float) else np.array([])
            if key in STATISTICS and numbers.size and all(math.isfinite(float(number)) for number in numbers):
                yield key, name, [float(number) for number in numbers] if isinstance(value, list) else float(value)
