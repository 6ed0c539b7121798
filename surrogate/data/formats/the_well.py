"""The Well: scalar, vector and tensor fields of trajectories, recognised and read.

Fields keep their names. Components of vectors are along `channel` (x, y, ...), those of tensors along `tensor_channel`
(xx, xy, ... in C order). Dimensions that a field does not vary along are broadcast without being stored.

Ohana et al. 2024, The Well: a large-scale collection of diverse physics simulations for machine learning.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from surrogate.config import read_yaml
from surrogate.data.formats.join import MASK
from surrogate.data.formats.lazy import lazy_variable
from surrogate.data.formats.variables import attributes, variable_at
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


def is_well(handle: h5py.File) -> bool:
    """Test for the groups of The Well."""
    groups = all(isinstance(handle.get(name, getlink=True), h5py.HardLink) for name in ("dimensions", "t0_fields"))
    return groups and "spatial_dims" in handle["dimensions"].attrs


def split_of(file: Path) -> str | None:
    """Name the split that a file belongs to by its folder: `{name}/data/{train|valid|test}/`."""
    return file.parent.name if file.parent.name in SPLITS and file.parents[1].name == "data" else None


def components(dims: Sequence[str], order: int) -> list[str]:
    """Name the components of a vector (order 1) or tensor (order 2), in C order."""
    return ["".join(names) for names in itertools.product(dims, repeat=order)]


def known_axes(dataset: h5py.Dataset) -> tuple[str, ...] | None:
    """Name the axes of a dataset in the order of the file; None where the layout prescribes none."""
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
    """Read a file of The Well.

    Raises:
        DataError: It deviates from the layout.
    """
    if not is_well(handle):
        raise DataError(
            f"{handle.filename}: is not in The Well's layout: no groups 'dimensions' (with spatial_dims) and "
            f"'t0_fields'; choose another layout or declare a mapping; {describe_names(handle)}"
        )
    reader = _Reader(handle, external, tuple(_names(handle["dimensions"], "spatial_dims")))
    coordinates = reader.coordinates()
    fields: dict[str, xr.Variable] = {}
    for order, group in enumerate(("t0_fields", "t1_fields", "t2_fields")):
        for name in _names(handle.get(group), "field_names"):
            fields[name] = reader.field(f"{group}/{name}", order)
    ds = xr.Dataset(fields).assign_coords(coordinates)
    for order in (1, 2):
        axis = CHANNELS[order]
        if axis in ds.dims:
            ds = ds.assign_coords({str(axis): components(reader.space, order)})
    ds = reader.with_scalars(ds).assign_attrs(attributes(handle))
    boundaries = reader.boundaries()
    ds = ds.assign_attrs({BOUNDARIES: json.dumps(boundaries)}) if boundaries else ds
    ds = ds.assign_coords(dict(reader.masks()))
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


def _flag(item: h5py.HLObject, key: str) -> bool:
    return bool(np.all(item.attrs.get(key, False)))


def _plain_attributes(attrs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attrs.items() if name not in FLAGS}


def _leading_of(item: h5py.HLObject) -> tuple[str, ...]:
    return ("sample",) * _flag(item, "sample_varying") + ("time",) * _flag(item, "time_varying")


@dataclass
class _Reader:
    """Reads the fields of a file, which share axes; their lengths are known once the coordinates are read."""

    handle: h5py.File
    external: bool
    space: tuple[str, ...]
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return str(self.handle.filename)

    def required(self, path: str) -> h5py.Dataset:
        if not holds(self.handle, path) or not isinstance(self.handle[path], h5py.Dataset):
            raise DataError(
                f"{self.file}: no dataset '{path}', which The Well prescribes; {describe_names(self.handle)}"
            )
        return self.handle[path]

    def coordinates(self) -> dict[str, xr.Variable]:
        """Read the coordinates; one that differs between samples is named `sample_time`, `sample_x`, ..."""
        coordinates: dict[str, xr.Variable] = {}
        for axis in ("time", *self.space):
            dataset = self.required(f"dimensions/{axis}")
            varies = _flag(dataset, "sample_varying")
            moves = axis != "time" and _flag(dataset, "time_varying")
            axes = ("sample",) * varies + ("time",) * moves + (axis,)
            variable = lazy_variable(variable_at(self.handle, f"dimensions/{axis}", axes, external=self.external))
            variable = variable.compute()
            self.sizes |= {str(dim): size for dim, size in variable.sizes.items()}
            variable.attrs = _plain_attributes(variable.attrs)
            same = varies and not moves and bool((variable.values == variable.values[:1]).all())
            variable = variable[0] if same else variable
            coordinates[axis if variable.dims == (axis,) else f"sample_{axis}"] = variable
        samples = self.handle.attrs.get("n_trajectories")
        if samples is None:
            names = ("t0_fields", "t1_fields", "t2_fields", "scalars")
            items = [item for name in names if name in self.handle for item in self.handle[name].values()]
            samples = next((item.shape[0] for item in items if _flag(item, "sample_varying")), 1)
        self.sizes["sample"] = int(samples)
        return coordinates

    def field(self, path: str, order: int) -> xr.Variable:
        """Read a field lazily, with all of its spatial axes and its components flattened."""
        leading = _leading_of(self.required(path))
        varying = np.atleast_1d(self.handle[path].attrs.get("dim_varying", [True] * len(self.space))).astype(bool)
        if len(varying) != len(self.space):
            raise DataError(
                f"{self.file}:{path}: dim_varying has {len(varying)} entries, but there are {len(self.space)} spatial "
                f"dimensions {list(self.space)}; correct the attribute"
            )
        own = tuple(axis for axis, varies in zip(self.space, varying, strict=True) if varies)
        inner = tuple(f"component{index}" for index in range(order))
        variable = self.checked(path, (*leading, *own, *inner))
        if order:
            variable = variable.stack({str(CHANNELS[order]): inner})
        absent = {axis: self.sizes[axis] for axis in self.space if axis not in own}
        if absent:
            variable = variable.set_dims({**absent, **variable.sizes})
        axes = [*leading, *([CHANNELS[order]] if order else []), *self.space]
        return variable.transpose(*axes)

    def checked(self, path: str, axes: tuple[str, ...]) -> xr.Variable:
        """Read a dataset lazily whose sizes are those of the file."""
        stored = variable_at(self.handle, path, axes, external=self.external)
        for axis, size in zip(stored.axes, stored.values.shape, strict=True):
            expected = self.sizes.get(axis, len(self.space))
            if size != expected:
                raise DataError(
                    f"{self.file}:{path}: has {size} entries along '{axis}', the file says {expected} (shape "
                    f"{stored.values.shape}, axes {list(stored.axes)}); correct its flags or the coordinates"
                )
        variable = lazy_variable(stored)
        variable.attrs = _plain_attributes(variable.attrs)
        return variable

    def with_scalars(self, ds: xr.Dataset) -> xr.Dataset:
        """Add scalars: constants and those of a sample as parameters, those that change in time as variables."""
        for name in _names(self.handle.get("scalars"), "field_names"):
            if name in ds.variables:
                raise DataError(f"{self.file}: '{name}' is a scalar and a field; rename one of them")
            path = f"scalars/{name}"
            variable = self.checked(path, _leading_of(self.required(path)))
            if "time" in variable.dims:
                ds = ds.assign({name: variable})
            else:
                values = np.broadcast_to(variable.values, self.sizes["sample"]).copy()
                ds = ds.assign_coords({name: ("sample", values, variable.attrs)})
        return ds

    def masks(self) -> Iterator[tuple[str, xr.Variable]]:
        """Yield masks of boundaries, `<name>_mask` over the axes they are on; a mask of another form is left out."""
        group = self.handle.get(BOUNDARIES)
        for name in group if isinstance(group, h5py.Group) else ():
            path = f"{BOUNDARIES}/{name}/mask"
            if not holds(self.handle, path):
                continue
            axes = (*_leading_of(group[name]), *_names_of(group[name], "associated_dims"))
            shape = tuple(self.sizes.get(axis, 0) for axis in axes)
            with dataset_at(self.handle, path, external=self.external) as dataset:
                if dataset.shape == shape:
                    check_storage(dataset, f"{self.file}:{path}", external=self.external)
                    mask = xr.Variable(axes, dataset[()].astype(bool))
                    yield f"{name}{MASK}", mask.transpose("sample", "time", ..., missing_dims="ignore")

    def boundaries(self) -> dict[str, dict[str, Any]]:
        """Read kind, dimensions and fields of every boundary condition."""
        group = self.handle.get(BOUNDARIES)
        keys = ("bc_type", "associated_dims", "associated_fields")
        groups = {name: attributes(group[name]) for name in group} if isinstance(group, h5py.Group) else {}
        return {name: {key: entry[key] for key in keys if key in entry} for name, entry in groups.items()}


def _with_statistics(ds: xr.Dataset, file: Path) -> xr.Dataset:
    """Attach the numbers of `stats.yaml` to the fields; the file and any of its keys may be missing.

    Statistic and field may stand in either order: `mean: {density: 1}` or `density: {mean: 1}`.
    """
    path = file.parents[2] / "stats.yaml" if split_of(file) else None
    if path is None or not path.is_file():
        return ds
    tree = read_yaml(path).tree
    pairs = [
        (outer, inner, value)
        for outer, below in tree.items()
        if isinstance(below, dict)
        for inner, value in below.items()
    ]
    for outer, inner, value in pairs:
        key, name = (outer, inner) if outer in STATISTICS else (inner, outer)
        numbers = np.ravel(value) if isinstance(value, list | int | float) else np.array([])
        finite = numbers.size and all(math.isfinite(float(number)) for number in numbers)
        if key in STATISTICS and finite and name in ds.variables:
            plain = [float(number) for number in numbers]
            ds[name].attrs[key] = plain if isinstance(value, list) else plain[0]
    return ds
