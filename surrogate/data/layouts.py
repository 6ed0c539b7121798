"""Any HDF5 file as one lazy, named, dask-backed data set."""

from __future__ import annotations

import glob
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import xarray as xr
from dask.base import tokenize

from surrogate.checks import DataError
from surrogate.data.hdf5 import H5Array, open_file, stamp
from surrogate.data.join import Part, join_parts
from surrogate.data.mapping import LEADING, Mapping
from surrogate.data.store import MANIFEST, read_manifest
from surrogate.data.variables import FileVariable, attributes, mapped_variables, named_variables

__all__ = ["BLOCK_BYTES", "Paths", "block_shape", "find_files", "open_snapshots"]

Paths = str | Path | Sequence[str | Path]

BLOCK_BYTES = 8_000_000
EAGER_BYTES = 16_000_000  # coordinates and static variables up to this size are read at once
SUFFIXES = (".h5", ".hdf5", ".nc", ".nc4", ".he5", ".mat")
CF = ("_FillValue", "missing_value", "scale_factor", "add_offset")


def open_snapshots(paths: Paths, layout: Mapping | None = None) -> xr.Dataset:
    """Open simulation output lazily, with named axes.

    Arguments:
        paths: A file, a folder, a glob or a list of files.
        layout: The declared mapping; None for our shards and for files whose dimensions are named (NetCDF-4).

    Returns:
        Variables with dimensions `sample`, `time`, `channel`, then space by name, in dask chunks that follow the
        chunks of the file; coordinate `origin` (sample) says where a simulation came from, `group` its group.

    Raises:
        DataError: A file cannot be used, does not fit its declaration, or differs from the others.
    """
    parts = []
    for file in find_files(paths):
        with open_file(file) as handle:
            parts += [_read_part(handle, layout, group) for group in (layout.groups if layout else ()) or ("",)]
    return join_parts(parts)


def find_files(paths: Paths) -> list[Path]:
    """The files behind a path, a folder, a glob or a list, in sorted order; of our shards those in the manifest.

    Raises:
        DataError: There is none, a folder holds none that is HDF5 by its name, or a shard is missing or cut short.
    """
    if not isinstance(paths, str | Path):
        files = [file for path in paths for file in find_files(path)]
        if not files:
            raise DataError("no file was given; name a file, a folder or a glob")
        return list(dict.fromkeys(files))
    path = Path(paths).expanduser().absolute()
    if (path / MANIFEST).exists():
        return [_complete(path / shard.file, shard.bytes) for shard in read_manifest(path).shards]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))
        if not files:
            raise DataError(f"{path}: holds no HDF5 file ({', '.join(SUFFIXES)}); choose another folder or use a glob")
        return files
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    files = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not files:
        raise DataError(f"{path}: no file matches; check the pattern")
    return files


def _complete(file: Path, size: int) -> Path:
    """A shard whose size is that in the manifest."""
    found = stamp(file)[0]
    if found != size:
        raise DataError(f"{file}: has {found} bytes, its manifest says {size}; copy or make it again")
    return file


def _read_part(handle: h5py.File, layout: Mapping | None, group: str) -> Part:
    """One file, or one group of it, as a data set with a sample axis."""
    file = Path(handle.filename)
    found = mapped_variables(handle, layout, group) if layout else named_variables(handle)
    _check_lengths(found, file)
    ds = xr.Dataset({v.name: _variable(v) for v in found if not v.is_coordinate})
    ds = ds.assign_coords({v.name: _variable(v) for v in found if v.is_coordinate})
    ds = _decoded(ds).assign_attrs(attributes(handle))
    where = f"{file.name}:{group}" if group else file.name
    return Part(where, _with_sample(ds, where, group))


def _check_lengths(found: Sequence[FileVariable], file: Path) -> None:
    """Refuse an axis whose length differs between variables."""
    seen: dict[str, tuple[int, str]] = {}
    for variable in found:
        for axis, size in zip(variable.axes, variable.values.shape, strict=True):
            known, name = seen.setdefault(axis, (size, variable.name))
            if known != size:
                raise DataError(
                    f"{file}: axis '{axis}' has {known} entries in '{name}' but {size} in '{variable.name}'; "
                    "check the order of the declared axes, or give the second axis another name"
                )


def _variable(variable: FileVariable) -> xr.Variable:
    values = variable.values
    small = math.prod(values.shape) * values.dtype.itemsize <= EAGER_BYTES
    if isinstance(values, np.ndarray):
        data: Any = values
    elif small and (variable.is_coordinate or len(variable.axes) <= 1):
        data = values[...]
    else:
        data = _lazy(values, variable.axes)
    order = [axis for axis in LEADING if axis in variable.axes]
    order += [axis for axis in variable.axes if axis not in LEADING]
    return xr.Variable(variable.axes, data, variable.attributes).transpose(*order)


def _lazy(array: H5Array, axes: tuple[str, ...]) -> da.Array:
    name = f"read-{array.path.strip('/')}-{tokenize(str(array.file), array.path, array.stamp)}"
    chunks = block_shape(array.shape, axes, array.chunks, array.dtype.itemsize)
    meta = np.empty((0,) * array.ndim, array.dtype)
    return da.from_array(array, chunks, name=name, lock=False, fancy=False, meta=meta)


def block_shape(
    shape: Sequence[int], axes: Sequence[str], chunks: Sequence[int] | None, itemsize: int
) -> tuple[int, ...]:
    """Shape of the blocks in which a variable is read: whole chunks, whole snapshots, about 8 MB.

    Arguments:
        shape: Shape of the variable.
        axes: Names of its axes.
        chunks: Chunks of the file; None where there are none.
        itemsize: Bytes of a value.
    """
    block = [
        min(chunks[axis] if chunks else 1, size) if name in ("sample", "time") else size
        for axis, (name, size) in enumerate(zip(axes, shape, strict=True))
    ]
    for name in ("time", "sample"):  # a simulation as a whole first: its steps lie side by side
        if name in axes:
            axis = list(axes).index(name)
            fits = max(1, BLOCK_BYTES // (math.prod(block) * itemsize))
            block[axis] = min(shape[axis], block[axis] * fits)
    return tuple(block)


def _decoded(ds: xr.Dataset) -> xr.Dataset:
    """Missing values and packed numbers after the CF conventions, lazily; times stay numbers."""
    if any(key in variable.attrs for variable in ds.variables.values() for key in CF):
        ds = xr.decode_cf(ds, decode_times=False, decode_coords=False)
    listed = {name for v in ds.data_vars.values() for name in str(v.attrs.get("coordinates", "")).split()}
    return ds.set_coords(sorted(listed & set(ds.data_vars)))


def _with_sample(ds: xr.Dataset, where: str, group: str) -> xr.Dataset:
    """The data set with a sample axis and the origin of every sample; a file without one is one simulation."""
    if "sample" not in ds.dims:
        constants = [name for name, variable in ds.coords.items() if not variable.dims]
        ds = ds.reset_coords(constants).expand_dims("sample").set_coords(constants)
        origin = [where]
    else:
        origin = [f"{where}[{index}]" for index in range(ds.sizes["sample"])]
    ds = ds.assign_coords(origin=("sample", np.array(origin)))
    return ds.assign_coords(group=("sample", np.array([group] * len(origin)))) if group else ds
