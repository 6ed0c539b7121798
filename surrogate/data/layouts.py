"""Files of any layout as one lazy, named, dask-backed data set."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import xarray as xr

from surrogate.data.formats.containers import ArrayFile, kind_of_file, open_arrays
from surrogate.data.formats.detect import Detection, detect
from surrogate.data.formats.fluent import add_cells
from surrogate.data.formats.idx import idx_files, is_idx, pairs_of, read_pair
from surrogate.data.formats.join import Part, join_parts
from surrogate.data.formats.lazy import BLOCK_BYTES, assemble, block_shape
from surrogate.data.formats.mapped import mapped_parts
from surrogate.data.formats.patterns import matching_files
from surrogate.data.formats.pdebench import read_pdebench
from surrogate.data.formats.ragged import OF_USER, STEPS
from surrogate.data.formats.shaping import SINCE
from surrogate.data.formats.simulations import with_sample
from surrogate.data.formats.split_names import groups_of_files
from surrogate.data.formats.table import add_table
from surrogate.data.formats.text import decode_text
from surrogate.data.formats.the_well import SPLITS, read_well, split_of
from surrogate.data.formats.variables import attributes, named_variables
from surrogate.data.hdf5.array import open_file
from surrogate.data.hdf5.file_type import looks_like
from surrogate.data.hdf5.references import referenced_files, shown_elsewhere
from surrogate.data.mapping import Layout, Mapping
from surrogate.data.store import MANIFEST
from surrogate.data.verified import verified, verified_shards
from surrogate.errors import DataError
from surrogate.files import regular

__all__ = [
    "BLOCK_BYTES",
    "Paths",
    "block_shape",
    "chosen_layout",
    "data_folder",
    "files_behind",
    "find_files",
    "open_snapshots",
]

Paths = str | Path | Sequence[str | Path]

CF = ("_FillValue", "missing_value", "scale_factor", "add_offset")


def open_snapshots(
    paths: Paths | xr.Dataset, layout: Layout | None = "auto", *, allow_external: bool = False
) -> xr.Dataset:
    """Open simulation output lazily, with named axes.

    Arguments:
        paths: A file, a folder, a glob or a list of files: HDF5, NetCDF, zarr, MATLAB, npz, IDX; or an opened
            `xr.Dataset` whose axes are named.
        layout: `auto` or None recognises the layout of each file; `shards`, `netcdf`, `pdebench`, `the_well` or
            `idx` prescribes it; a `Mapping` declares the variables and axes of any other file.
        allow_external: Follow links and external storage that leave the folder of a file.

    Returns:
        Variables with dimensions `sample`, `time`, `channel`, then space by name, in dask chunks that follow the
        chunks of the file; parameters of PDEBench and The Well are coordinates on `sample`. Coordinate `origin`
        (sample) says where a simulation came from, `group` its declared group, its split in The Well, or the part that
        the name of its file has: `train.h5` and `test.h5`.

    Raises:
        DataError: A file cannot be used, does not fit its declaration, or differs from the others.
    """
    if isinstance(paths, xr.Dataset):
        return with_sample(_decoded(paths), "dataset")
    if isinstance(layout, Mapping):
        layout = layout.model_copy(update={"allow_external": layout.allow_external or allow_external})
        folder = data_folder(paths)
        parts = [
            Part(part.where, _decoded(part.ds))
            for part in mapped_parts(layout, lambda: find_files(paths), folder, _labels)
        ]
        return add_cells(add_table(join_parts(parts), layout, folder), layout, folder)
    files = find_files(paths)
    names = _labels(files)
    if layout == "idx" or (layout in (None, "auto") and all(map(is_idx, files))):
        pairs = pairs_of(files)
        return join_parts([Part(p.split, with_sample(read_pair(p), p.split, p.split)) for p in pairs])
    parts, groups = [], {file: group for file, (group, _) in groups_of_files(files).items()}
    for file in files:
        arrays = open_arrays(file) if layout in (None, "auto", "netcdf") else None
        if arrays is not None:
            parts.append(Part(names[file], with_sample(_named_arrays(arrays), names[file], groups.get(file, ""))))
            continue
        with open_file(file) as handle:
            parts.append(_read_part(handle, names[file], layout, allow_external, groups.get(file, "")))
    return join_parts(parts)


def data_folder(paths: Paths) -> Path:
    """Return the folder that names of files are relative to: of a glob the last one without a wildcard."""
    if not isinstance(paths, str | Path):
        return data_folder(next(iter(paths), "."))
    path = Path(paths).expanduser().absolute()
    if path.is_dir() and kind_of_file(path) != "zarr":
        return path
    if path.exists() or not glob.has_magic(str(path)):
        return path.parent
    return next(parent for parent in path.parents if not glob.has_magic(str(parent)))


def find_files(paths: Paths, layout: Layout | None = None) -> list[Path]:
    """List the files behind a path, a folder, a glob or a list, in sorted order; of our shards those in the manifest.

    Shards are compared with their manifest, those that are named one by one too.

    Where a layout names its files, these are taken from the folder of the data.

    A file that is reached twice, by a link or under two names, counts once.

    Raises:
        DataError: There is none, a folder holds none that can be read, or a shard is missing or damaged.
    """
    patterns = list(layout.file_patterns()) if isinstance(layout, Mapping) else []
    if patterns:
        folder = data_folder(paths)
        files = [located.file for pattern in patterns for located in matching_files(folder, pattern)]
        whole = isinstance(layout, Mapping) and any(not (e.file or layout.files) for e in layout.entries.values())
        return _each_once(verified([*(find_files(paths) if whole else []), *files]))
    if not isinstance(paths, str | Path):
        files = [file for path in paths for file in find_files(path)]
        if not files:
            raise DataError("no file was given; name a file, a folder or a glob")
        return _each_once(files)
    path = Path(paths).expanduser().absolute()
    if (path / MANIFEST).exists():
        return verified_shards(path)
    splits = [path / "data" / split for split in SPLITS if (path / "data" / split).is_dir()]
    if splits:  # a data set of The Well
        return [file for folder in splits for file in find_files(folder)]
    if path.is_dir() and kind_of_file(path) != "zarr":
        files = sorted(file for file in path.iterdir() if not file.name.startswith(".") and kind_of_file(file))
        files = files or idx_files(path)
        if not files:
            others = [file.name for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
            raise DataError(
                f"{path}: holds no file that can be read (HDF5, NetCDF, zarr, MATLAB, npz; it contains "
                f"{_kinds(path, others[:3])}); choose another folder or use a glob such as {path}/*/*.h5"
            )
        return _without_sources(_each_once(files))
    if path.exists() or not glob.has_magic(str(path)):
        return list(verified([regular(path)]))
    files = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    files = [file for file in files if file.is_file() or kind_of_file(file)]
    if not files:
        raise DataError(f"{path}: no file matches; check the pattern")
    return _without_sources(_each_once(verified(files)))


def files_behind(paths: Paths, layout: Layout | None = None) -> Iterator[Path]:
    """Yield the files that reading data involves: their own, those they refer to, and the table of a layout."""
    with contextlib.suppress(DataError, OSError):
        files = find_files(paths, layout)
        yield from files
        yield from referenced_files(files)
    if isinstance(layout, Mapping) and layout.table is not None:
        yield data_folder(paths) / layout.table.file
    if isinstance(layout, Mapping) and layout.fluent_case is not None:
        yield data_folder(paths) / layout.fluent_case


def _without_sources(files: list[Path]) -> list[Path]:
    """Leave out the files whose values another file shows by virtual datasets or links, with a warning."""
    behind = shown_elsewhere([file for file in files if kind_of_file(file) == "hdf5"]) if len(files) > 1 else {}
    if behind:
        source, file = next(iter(behind.items()))
        more = f" and {len(behind) - 1} more" if len(behind) > 1 else ""
        warnings.warn(
            f"{source.name}{more} left out: virtual datasets or links of {file.name} show the same values; name the "
            "files to use if that is not meant"
        )
    return [file for file in files if file not in behind]


def _kinds(folder: Path, names: Sequence[str]) -> str:
    """Say what files that cannot be read look like."""
    return ", ".join(f"{name}: {looks_like(folder / name)}" for name in names) or "none"


def _each_once(files: Sequence[Path]) -> list[Path]:
    """Drop files that are others under a second name; a link gives way to what it leads to."""
    kept: dict[tuple[object, ...], Path] = {}
    for file in sorted(files, key=lambda file: (file.is_symlink(), not re.search(r"\d", file.stem))):
        status = file.stat() if file.exists() else None
        kept.setdefault((status.st_dev, status.st_ino) if status else (str(file),), file)
    chosen = set(kept.values())
    return [file for file in dict.fromkeys(files) if file in chosen]


def _labels(files: Sequence[Path]) -> dict[Path, str]:
    """Name files in messages and identities: the shortest distinct names."""
    if len({file.name for file in files}) == len(files):
        return {file: file.name for file in files}
    common = os.path.commonpath([file.parent for file in files])
    return {file: file.relative_to(common).as_posix() for file in files}


def _read_part(handle: h5py.File, where: str, layout: Layout | None, external: bool, group: str) -> Part:
    """Read a file as a data set with a sample axis."""
    name = chosen_layout(handle, layout).name
    if name == "pdebench":
        return Part(where, with_sample(read_pdebench(handle, external=external), where, group))
    if name == "the_well":
        split = split_of(Path(handle.filename)) or ""
        return Part(where, with_sample(read_well(handle, external=external), where, split), own_fields=True)
    ds = assemble(named_variables(handle, external=external), Path(handle.filename))
    if name != "shards" and STEPS in ds.variables:
        ds[STEPS].attrs[OF_USER] = 1
    group = "" if name == "shards" else group
    return Part(where, with_sample(_decoded(decode_text(ds)).assign_attrs(attributes(handle)), where, group))


def _named_arrays(arrays: ArrayFile) -> xr.Dataset:
    """Return the arrays of a file that is not HDF5 and names its axes."""
    unnamed = [name for name, v in arrays.arrays.items() if any(str(dim).startswith("dim_") for dim in v.dims)]
    if unnamed:
        shapes = ", ".join(f"{name} {v.shape}" for name, v in arrays.arrays.items())
        raise DataError(
            f"{arrays.file}: does not name the axes of '{unnamed[0]}'; declare a layout (data.layout.variables: name: "
            f"{{path, axes}}), which `surrogate inspect {arrays.file}` proposes; the file has {shapes}"
        )
    text = [name for name, v in arrays.arrays.items() if v.dtype.kind not in "fiub"]
    return _decoded(arrays.dataset().drop_vars(text))


def chosen_layout(handle: h5py.File, layout: Layout | None) -> Detection:
    """The layout in which a file is read, and why.

    Raises:
        DataError: Shards were asked for, but there is no manifest next to the file.
    """
    if isinstance(layout, Mapping):
        return Detection("mapping", "a mapping is declared")
    if layout in (None, "auto"):
        return detect(handle)
    folder = Path(handle.filename).parent
    if layout == "shards" and not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} has no {MANIFEST}: these are no shards; choose another layout, or 'auto'")
    return Detection(str(layout), "it was asked for")


def _decoded(ds: xr.Dataset) -> xr.Dataset:
    """Decode missing values and packed numbers after the CF conventions, lazily; times stay numbers."""
    if any(key in variable.attrs for variable in ds.variables.values() for key in CF):
        ds = xr.decode_cf(ds, decode_times=False, decode_coords=False)
    listed = {name for v in ds.data_vars.values() for name in str(v.attrs.get("coordinates", "")).split()}
    listed |= {str(v.attrs["bounds"]) for v in ds.variables.values() if "bounds" in v.attrs}
    ds = ds.set_coords(sorted(listed & set(map(str, ds.data_vars))))
    clocks = [name for name, v in ds.coords.items() if v.dims == (name,) and SINCE.match(str(v.attrs.get("units", "")))]
    return ds.rename({clocks[0]: "time"}) if len(clocks) == 1 and "time" not in {*ds.dims, *ds.variables} else ds
