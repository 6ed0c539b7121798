"""Any HDF5 file as one lazy, named, dask-backed data set."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from surrogate.data.formats.detect import Detection, detect
from surrogate.data.formats.idx import idx_files, is_idx, pairs_of, read_pair
from surrogate.data.formats.join import Part, join_parts
from surrogate.data.formats.lazy import BLOCK_BYTES, assemble, block_shape
from surrogate.data.formats.pdebench import read_pdebench
from surrogate.data.formats.text import decode_text
from surrogate.data.formats.the_well import SPLITS, read_well, split_of
from surrogate.data.formats.variables import attributes, mapped_variables, named_variables
from surrogate.data.hdf5.array import open_file, stamp
from surrogate.data.mapping import Layout, Mapping
from surrogate.data.store import MANIFEST, read_manifest
from surrogate.errors import DataError

__all__ = ["BLOCK_BYTES", "Paths", "block_shape", "chosen_layout", "find_files", "open_snapshots"]

Paths = str | Path | Sequence[str | Path]

SUFFIXES = (".h5", ".hdf5", ".nc", ".nc4", ".he5", ".mat")
CF = ("_FillValue", "missing_value", "scale_factor", "add_offset")


def open_snapshots(paths: Paths, layout: Layout | None = "auto", *, allow_external: bool = False) -> xr.Dataset:
    """Open simulation output lazily, with named axes.

    Arguments:
        paths: A file, a folder, a glob or a list of files.
        layout: `auto` or None recognises the layout of each file; `shards`, `netcdf`, `pdebench`, `the_well` or
            `idx` prescribes it; a `Mapping` declares the datasets and axes of any other file.
        allow_external: Follow links and external storage that leave the folder of a file.

    Returns:
        Variables with dimensions `sample`, `time`, `channel`, then space by name, in dask chunks that follow the
        chunks of the file; parameters of PDEBench and The Well are coordinates on `sample`. Coordinate `origin`
        (sample) says where a simulation came from, `group` its declared group, its split in The Well, or what the names
        of IDX files begin with.

    Raises:
        DataError: A file cannot be used, does not fit its declaration, or differs from the others.
    """
    files = find_files(paths)
    names = _labels(files)
    parts: list[Part] = []
    if layout == "idx" or (layout in (None, "auto") and all(map(is_idx, files))):
        pairs = pairs_of(files)
        return join_parts([Part(p.split, _with_sample(read_pair(p), p.split, p.split)) for p in pairs])
    for file in files:
        with open_file(file) as handle:
            parts += _read_parts(handle, names[file], layout, allow_external)
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
    splits = [path / "data" / split for split in SPLITS if (path / "data" / split).is_dir()]
    if splits:  # a data set of The Well
        return [file for folder in splits for file in find_files(folder)]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))
        files = files or idx_files(path)
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


def _labels(files: Sequence[Path]) -> dict[Path, str]:
    """Names of files in messages and identities: as short as tells them apart."""
    if len({file.name for file in files}) == len(files):
        return {file: file.name for file in files}
    common = os.path.commonpath([file.parent for file in files])
    return {file: file.relative_to(common).as_posix() for file in files}


def _read_parts(handle: h5py.File, where: str, layout: Layout | None, external: bool) -> list[Part]:
    """A file as data sets with a sample axis: one, or one for each declared group."""
    if isinstance(layout, Mapping):
        layout = layout.model_copy(update={"allow_external": layout.allow_external or external})
        names = [(group, f"{where}:{group}" if group else where) for group in layout.groups or ("",)]
        return [Part(name, _with_sample(_mapped(handle, layout, group), name, group)) for group, name in names]
    name = chosen_layout(handle, layout).name
    if name == "pdebench":
        return [Part(where, _with_sample(read_pdebench(handle, external=external), where))]
    if name == "the_well":
        split = split_of(Path(handle.filename)) or ""
        return [Part(where, _with_sample(read_well(handle, external=external), where, split), own_fields=True)]
    ds = assemble(named_variables(handle, external=external), Path(handle.filename))
    ds = _decoded(decode_text(ds)).assign_attrs(attributes(handle))
    return [Part(where, _with_sample(ds, where))]


def chosen_layout(handle: h5py.File, layout: Layout | None) -> Detection:
    """The layout in which a file is read, and why.

    Raises:
        DataError: Shards were asked for, but no manifest lies beside the file.
    """
    if isinstance(layout, Mapping):
        return Detection("mapping", "a mapping is declared")
    if layout in (None, "auto"):
        return detect(handle)
    folder = Path(handle.filename).parent
    if layout == "shards" and not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} has no {MANIFEST}: these are no shards; choose another layout, or 'auto'")
    return Detection(str(layout), "it was asked for")


def _mapped(handle: h5py.File, layout: Mapping, group: str) -> xr.Dataset:
    ds = assemble(mapped_variables(handle, layout, group), Path(handle.filename))
    return _decoded(ds).assign_attrs(attributes(handle))


def _decoded(ds: xr.Dataset) -> xr.Dataset:
    """Missing values and packed numbers after the CF conventions, lazily; times stay numbers."""
    if any(key in variable.attrs for variable in ds.variables.values() for key in CF):
        ds = xr.decode_cf(ds, decode_times=False, decode_coords=False)
    listed = {name for v in ds.data_vars.values() for name in str(v.attrs.get("coordinates", "")).split()}
    return ds.set_coords(sorted(listed & set(ds.data_vars)))


def _with_sample(ds: xr.Dataset, where: str, group: str = "") -> xr.Dataset:
    """The data set with a sample axis and the origin of every sample; a file without one is one simulation."""
    if "sample" not in ds.dims:
        constants = [name for name, variable in ds.coords.items() if not variable.dims]
        ds = ds.reset_coords(constants).expand_dims("sample").set_coords(constants)
        origin = [where]
    else:
        origin = [f"{where}[{index}]" for index in range(ds.sizes["sample"])]
    ds = ds.assign_coords(origin=("sample", np.array(origin)))
    return ds.assign_coords(group=("sample", np.array([group] * len(origin)))) if group else ds
