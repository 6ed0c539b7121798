"""Find a dataset in a file and refuse datasets that cannot or must not be read."""

from __future__ import annotations

import contextlib
import math
import posixpath
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from surrogate.data.hdf5.array import H5Array, open_file, stamp
from surrogate.data.hdf5.decoding import decoding_of
from surrogate.data.hdf5.faults import HDF5_ERRORS, short
from surrogate.data.hdf5.references import check_external, locate, unmapped_values, virtual_sources
from surrogate.errors import DataError, nearest

__all__ = [
    "dataset_at",
    "describe_names",
    "filter_names",
    "h5_array",
    "holds",
    "missing_chunks",
    "native_type",
    "object_at",
]

HOPS = 16
SHOWN = 12
FILTERS = {
    1: "gzip",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    307: "bzip2",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32026: "blosc2",
}


@contextlib.contextmanager
def dataset_at(handle: h5py.File, path: str, *, hops: int = HOPS, external: bool = False) -> Iterator[h5py.Dataset]:
    """Open the dataset at a path, through links that stay in the folder of the file, or all links if `external`.

    Raises:
        DataError: It is missing, a group, or a link leaves the folder; nothing outside of it is opened.
    """
    with object_at(handle, path, hops=hops, external=external) as item:
        if not isinstance(item, h5py.Dataset):
            held = ", ".join(map(str, item)) if isinstance(item, h5py.Group) else ""
            where = f"{item.file.filename}:{(item.name or '').strip('/') or '/'}"
            raise DataError(f"{where}: is a group, expected a dataset; it holds {held or 'nothing'}: name a dataset")
        yield item


@contextlib.contextmanager
def object_at(handle: h5py.File, path: str, *, hops: int = HOPS, external: bool = False) -> Iterator[h5py.HLObject]:
    """Open the object at a path, through links that stay in the folder of the file, or all links if `external`.

    Raises:
        DataError: It is missing, or a link leaves the folder; nothing outside of it is opened.
    """
    if hops == 0:
        raise DataError(f"{handle.filename}:{path}: more than {HOPS} links in a row; name the dataset itself")
    step = _first_link(handle, path, external)
    if step is None:
        yield handle[path or "/"]
        return
    file, path = step
    here = file == Path(handle.filename)
    opened = contextlib.nullcontext(handle) if here else open_file(file)
    with opened as other, object_at(other, path, hops=hops - 1, external=external) as item:
        yield item


def _first_link(handle: h5py.File, path: str, external: bool) -> tuple[Path, str] | None:
    """Return file and path to which the first link on the way to `path` leads; None where the way has no link."""
    file, parts = Path(handle.filename), [part for part in path.split("/") if part not in ("", ".")]
    node: h5py.Group = handle
    for depth, part in enumerate(parts):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        rest = parts[depth + 1 :]
        if isinstance(link, h5py.ExternalLink):
            target = locate(file, link.filename, f"{file}:{path}: an external link", external=external)
            return target, posixpath.join(link.path, *rest)
        if isinstance(link, h5py.SoftLink):
            return file, posixpath.join("/", *parts[:depth], link.path, *rest)
        if link is None:
            raise DataError(f"{file}: no dataset '{path}'; {describe_names(handle, path)}")
        node = node[part]
    return None


def holds(group: h5py.Group, path: str) -> bool:
    """Return True where an object or a link has this path; no link is followed."""
    name, _, rest = path.strip("/").partition("/")
    link = group.get(name, getlink=True)
    if link is None or not rest or not isinstance(link, h5py.HardLink):
        return link is not None
    return isinstance(group[name], h5py.Group) and holds(group[name], rest)


def h5_array(dataset: h5py.Dataset, *, hops: int = HOPS, external: bool = False) -> H5Array:
    """Return the lazy array of a dataset after checking that it can be read.

    Raises:
        DataError: It is empty, of an unusable type, compression or storage, or was never written.
    """
    file = Path(dataset.file.filename)
    where = f"{file}:{(dataset.name or '?').strip('/')}"
    try:
        if dataset.shape is None:
            raise DataError(f"{where}: is an empty (null) dataset, expected an array; leave it out")
        if dataset.size == 0:
            raise DataError(f"{where}: holds no values (shape {dataset.shape}); leave it out")
        stored = stored_type(dataset, where)
        native = native_type(stored, where)
        decoding = decoding_of(dataset, native, where)
        sources = check_storage(dataset, where, hops, external=external)
        check_filters(dataset, where)
        check_allocated(dataset, where)
        properties = dataset.id.get_create_plist()
        # Values are read at their offsets only where their type is exactly that of NumPy and they are in the file.
        exact = stored.kind in "fiu" and dataset.id.get_type().equal(h5py.h5t.py_create(stored))
        plain = exact and stored.itemsize <= 8 and not sources and not dataset.file.userblock_size
        contiguous = properties.get_layout() == h5py.h5d.CONTIGUOUS and not properties.get_nfilters()
        chunked = properties.get_layout() == h5py.h5d.CHUNKED
        return H5Array(
            file=file,
            path=dataset.name,
            shape=dataset.shape,
            dtype=native if decoding is None else decoding.dtype,
            stamp=stamp(file, *sources),
            stored=stored,
            chunks=dataset.chunks,
            offset=dataset.id.get_offset() if plain and contiguous else None,
            filters=tuple(code for code, _ in _filters(dataset)) if plain and chunked else None,
            sources=sources,
            decoding=decoding,
        )
    except DataError:
        raise
    except HDF5_ERRORS as error:
        raise DataError(f"{where}: cannot be read ({short(error)}); leave it out, or write it again") from error


def stored_type(dataset: h5py.Dataset, where: str) -> np.dtype:
    """Return the type as which h5py reads the values of a dataset.

    Raises:
        DataError: NumPy has no such type: times, integers of 3 bytes and the like.
    """
    try:
        return dataset.dtype
    except HDF5_ERRORS as error:
        raise DataError(
            f"{where}: has a type that cannot be read ({short(error)}); leave it out, or write it as plain numbers"
        ) from error


def describe_names(group: h5py.Group, wanted: str | None = None) -> str:
    """Describe on one line the nearest match of a name and the datasets of a file with their shapes."""
    names: list[str] = []
    shapes: list[str] = []

    def note(name: bytes, info: h5py.h5o.ObjInfo) -> None:
        if info.type == h5py.h5o.TYPE_DATASET:
            names.append(name.decode("utf-8", "replace"))
            if len(shapes) < SHOWN:
                shapes.append(str(h5py.h5d.open(group.id, name).shape))

    h5py.h5o.visit(group.id, note, info=True)
    datasets = [f"{name} {shape}" for name, shape in zip(names, shapes, strict=False)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    close = nearest(wanted.strip("/"), names) if wanted else None
    listed = ", ".join(datasets) or "no dataset"
    return (f"did you mean '{close}'? " if close else "") + f"the file holds {listed}{more}"


def check_storage(dataset: h5py.Dataset, where: str, hops: int = HOPS, *, external: bool = False) -> tuple[Path, ...]:
    """Return the further files that hold the values of a dataset: external storage, sources of a virtual dataset.

    Raises:
        DataError: A file is outside of the folder of the file, at any depth, and not `external`; one is missing or
            smaller than needed; or no source fills a part of a virtual dataset.
    """
    file = Path(dataset.file.filename)
    files = dict.fromkeys(check_external(dataset, where, external=external))
    if not dataset.is_virtual:
        return tuple(files)
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    for source in dict.fromkeys(virtual_sources(dataset)):
        here = source.file == "."
        target = file if here else locate(file, source.file, f"{where}: a virtual dataset", external=external)
        opened = contextlib.nullcontext(dataset.file) if here else open_file(target)
        with opened as handle, dataset_at(handle, source.path, hops=hops - 1, external=external) as part:
            array = h5_array(part, hops=hops - 1, external=external)
        if not source.fits(array.shape):
            raise DataError(
                f"{where}: a virtual dataset takes {source.extent or f'{source.count} values'} from {target.name}:"
                f"{source.path}, whose shape is {array.shape}; the rest would be {dataset.fillvalue}: make it again"
            )
        shapes[source.file, source.path] = array.shape
        files.update(dict.fromkeys([] if here and array.file == file else [array.file]))
        files.update(dict.fromkeys(array.sources))
    missing = unmapped_values(dataset, shapes)
    if missing:
        raise DataError(
            f"{where}: {missing} of {dataset.size} values of a virtual dataset come from no source and would read as "
            f"{dataset.fillvalue}; make it again from all of its sources"
        )
    return tuple(files)


def _filters(dataset: h5py.Dataset) -> list[tuple[int, str]]:
    """List code and name of the filters of a dataset, in the order of writing."""
    properties = dataset.id.get_create_plist()
    filters = []
    for index in range(properties.get_nfilters()):
        code, _, options, label = properties.get_filter(index)
        name = FILTERS.get(code) or label.decode(errors="replace").split(";")[0].strip() or f"filter {code}"
        filters.append((code, f"{name}-{options[0]}" if name == "gzip" and options else name))
    return filters


def filter_names(dataset: h5py.Dataset) -> list[str]:
    """List the names of the filters of a dataset, in the order of writing."""
    return [name for _, name in _filters(dataset)]


def check_filters(dataset: h5py.Dataset, where: str) -> None:
    """Refuse a dataset whose compression filter is not installed; name the filter and the package."""
    for code, name in _filters(dataset):
        if not h5py.h5z.filter_avail(code):
            raise DataError(
                f"{where}: compressed with filter {code} ({name}), which is not installed; pip install hdf5plugin"
            )


def missing_chunks(dataset: h5py.Dataset) -> tuple[int, int]:
    """Count chunks that were declared but never written, and all chunks; contiguous storage counts as one."""
    if dataset.is_virtual or dataset.external or not dataset.size:
        return 0, 0
    if dataset.chunks is None:
        return int(dataset.id.get_storage_size() == 0), 1
    total = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    return total - dataset.id.get_num_chunks(), total


def check_allocated(dataset: h5py.Dataset, where: str) -> None:
    """Refuse values that were declared but never written: HDF5 would read them as the fill value.

    Raises:
        DataError: Chunks are missing, or contiguous storage was never allocated.
    """
    missing, total = missing_chunks(dataset)
    if not missing:
        return
    if missing == total:
        raise DataError(
            f"{where}: declares {dataset.shape} ({dataset.nbytes / 1e6:,.1f} MB), but no value was ever written; "
            "run its writer again"
        )
    raise DataError(
        f"{where}: {missing} of {total} chunks were never written and would read as {dataset.fillvalue}; "
        "run its writer again, or copy the part that was written"
    )


def native_type(dtype: np.dtype, where: str) -> np.dtype:
    """Return the native type in which values of a stored type are read.

    Raises:
        DataError: Complex, compound, string or any other type that does not hold real numbers.
    """
    if dtype.kind == "f":
        return np.dtype(f"f{max(dtype.itemsize, 4)}") if dtype.itemsize <= 8 else np.dtype("f8")
    if dtype.kind in "iub":
        return dtype.newbyteorder("=")
    names = {"c": "complex", "V": "compound or opaque", "S": "string", "U": "string", "O": "string or variable-length"}
    remedy = "write real and imaginary parts as two variables" if dtype.kind == "c" else "write it as plain numbers"
    raise DataError(f"{where}: has {names.get(dtype.kind, dtype.str)} type ({dtype}), expected real numbers; {remedy}")
