"""Files that hold arrays under names: HDF5, and what xarray or scipy reads (NetCDF-3, zarr, MATLAB v5, npz)."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import scipy.io
import xarray as xr

from surrogate.data.formats.variables import attributes, plain
from surrogate.data.hdf5.alike import Alike
from surrogate.data.hdf5.array import H5Array, open_file
from surrogate.data.hdf5.faults import HDF5_ERRORS
from surrogate.data.hdf5.preflight import alike_datasets
from surrogate.data.hdf5.storage import check_storage, dataset_at, h5_array, native_type, object_at
from surrogate.errors import DataError, did_you_mean

__all__ = ["ArrayFile", "Container", "Hdf5File", "Values", "kind_of_file", "open_arrays", "open_container"]

Values = Any  # H5Array, H5Stack, a numpy or dask array
HEAD = 16
HOPS = 16  # soft links in a row
NETCDF3 = (b"CDF\x01", b"CDF\x02", b"CDF\x05")


class Container(Protocol):
    """A file with arrays and attributes under names."""

    file: Path
    attrs: dict[str, Any]

    def children(self, group: str) -> Iterable[str]:
        """Names of the members of a group; none where it is not there."""
        ...

    def holds(self, path: str) -> bool:
        """Test whether something has this path."""
        ...

    def has_values(self, path: str) -> bool:
        """Test whether a dataset, or a link that may lead to one, has this path."""
        ...

    def values(self, path: str) -> Values:
        """Lazy values of a dataset."""
        ...

    def attributes(self, path: str) -> dict[str, Any]:
        """Attributes of a dataset."""
        ...

    def entry(self, path: str, name: str) -> np.ndarray:
        """A field of a compound dataset, or the row of that name in a table of names and values."""
        ...

    def attribute(self, path: str, name: str) -> Any:
        """Value of an attribute."""
        ...


class Hdf5File:
    """An open HDF5 file.

    Arguments:
        handle: The file.
        external: Whether links and storage that leave the folder of the file are followed.
    """

    def __init__(self, handle: h5py.File, *, external: bool = False) -> None:
        self.handle, self.external, self.file = handle, external, Path(handle.filename)
        self.attrs = attributes(handle)
        self.alike = Alike(external=external)
        self._alike = alike_datasets(self.file)
        self._examples: dict[str, H5Array | None] = {}
        self._names: tuple[str, ...] = ()
        self._nodes: list[Any] = [h5py.h5g.open(handle.id, b"/")]

    def children(self, group: str) -> Iterable[str]:
        """List the members of a group, but those whose name is not UTF-8; none where it is not there."""
        with self._opened(group) as item:
            return [name for name in item if isinstance(name, str)] if isinstance(item, h5py.Group) else []

    def holds(self, path: str) -> bool:
        """Test whether something, be it a link, has this path."""
        parent, _, name = path.strip("/").rpartition("/")
        with self._opened(parent) as item:
            return isinstance(item, h5py.Group) and item.get(name, getlink=True) is not None

    def has_values(self, path: str) -> bool:
        """Test whether a dataset, or a link that may lead to one, has this path."""
        if path.strip("/") in self._alike:
            return True
        node = self._node(path)
        return not isinstance(self._followed(path)[0] if node is None else node, h5py.h5g.GroupID | h5py.Group)

    def _node(self, path: str) -> h5py.h5g.GroupID | h5py.h5d.DatasetID | None:
        """Open an object that hard links alone lead to, else None; the last one and its parents stay open."""
        parts = tuple(path.strip("/").split("/")) if path.strip("/") else ()
        depth, known = 0, self._names
        while depth < min(len(parts), len(known)) and parts[depth] == known[depth]:
            depth += 1
        self._names, self._nodes = self._names[:depth], self._nodes[: depth + 1]
        for part in parts[depth:]:
            parent, name = self._nodes[-1], part.encode("utf-8", "surrogateescape")
            if not part or isinstance(parent, h5py.h5d.DatasetID) or not _is_hard(parent, name):
                return None
            node = h5py.h5o.open(parent, name)
            if not isinstance(node, h5py.h5g.GroupID | h5py.h5d.DatasetID):
                return None
            self._names, self._nodes = (*self._names, part), [*self._nodes, node]
        return self._nodes[-1]

    def _opened(self, path: str) -> contextlib.AbstractContextManager[h5py.HLObject | None]:
        """Open the object at a path, in this file or behind external links; None where there is none.

        Raises:
            DataError: An external link leads nowhere, or out of the folder where that is not allowed.
        """
        item, leaves = self._followed(path)
        return object_at(self.handle, path, external=self.external) if leaves else contextlib.nullcontext(item)

    def _followed(self, path: str) -> tuple[h5py.HLObject | None, bool]:
        """Follow hard and soft links to an object; True, and no object, where an external link is on the way.

        HDF5 itself would open the other file.
        """
        node: h5py.HLObject = self.handle
        parts, above, soft = _parts(path), list[str](), 0
        while parts:
            part = parts.pop(0)
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
            if isinstance(link, h5py.SoftLink) and soft < HOPS:
                absolute = link.path.startswith("/")
                parts = [*([] if absolute else above), *_parts(link.path), *parts]
                node, above, soft = self.handle, [], soft + 1
            elif isinstance(link, h5py.HardLink):
                node = node[part]
                above.append(part)
            else:
                return None, isinstance(link, h5py.ExternalLink)
        return node, False

    @contextlib.contextmanager
    def dataset(self, path: str) -> Iterator[h5py.Dataset]:
        """Open a dataset as `dataset_at` does, with a short way for thousands of datasets that no link leads to."""
        node = self._node(path)
        if isinstance(node, h5py.h5d.DatasetID):
            yield h5py.Dataset(node)
        else:
            with dataset_at(self.handle, path, external=self.external) as dataset:
                yield dataset

    def values(self, path: str) -> Values:
        """Describe a dataset: lazy numbers, or text."""
        name, place = self._alike.get(path.strip("/"), ("", 0))
        example = self._example(name) if name else None
        if example is not None:
            return replace(example, path="/" + path.strip("/"), offset=None if example.offset is None else place)
        node = self._node(path)
        if isinstance(node, h5py.h5d.DatasetID) and node.get_type().get_class() != h5py.h5t.STRING:
            return self.alike.array(node, "/" + path.strip("/"))
        with self.dataset(path) as dataset:
            if dataset.shape is not None and h5py.check_string_dtype(dataset.dtype) is not None:
                check_storage(dataset, f"{self.file}:{path}", external=self.external)
                return np.asarray(dataset.asstr(errors="replace")[()]).astype(str)
            return h5_array(dataset, external=self.external)

    def _example(self, path: str) -> H5Array | None:
        """Describe the dataset that others are alike; None where it cannot be used, so that each is checked itself."""
        if path not in self._examples:
            try:
                with self.dataset(path) as dataset:
                    array = h5_array(dataset, external=self.external)
                self._examples[path] = None if array.decoding else array
            except DataError:
                self._examples[path] = None
        return self._examples[path]

    def attributes(self, path: str) -> dict[str, Any]:
        """Read the attributes of a dataset."""
        with self.dataset(path) as dataset:
            return attributes(dataset)

    def entry(self, path: str, name: str) -> np.ndarray:
        """Read a field of a compound dataset, or the row of that name in a table of names and values."""
        with self.dataset(path) as dataset:
            check_storage(dataset, f"{self.file}:{path}", external=self.external)
            return _entry(dataset[()], name, f"{self.file}:{path}")

    def attribute(self, path: str, name: str) -> Any:
        """Read an attribute."""
        node = self._node(path)
        if node is not None and h5py.h5a.exists(node, name.encode()):
            with contextlib.suppress(*HDF5_ERRORS):
                return plain(
                    h5py.AttributeManager(
                        h5py.Group(node) if isinstance(node, h5py.h5g.GroupID) else h5py.Dataset(node)
                    )[name]
                )
        with self._opened(path) as item:
            if item is None:
                raise DataError(f"{self.file}: no object '{path}' that could have the attribute '{name}'")
            known = attributes(item)
        if name not in known:
            raise DataError(f"{self.file}:{path or '/'}: no attribute '{name}'; {did_you_mean(name, known)}")
        return known[name]


class ArrayFile:
    """Arrays by name, as a library has read them.

    Arguments:
        file: Where they come from.
        arrays: Arrays with the names of their axes; names of no meaning begin with `dim_`.
        attrs: Attributes of the file.
    """

    def __init__(self, file: Path, arrays: Mapping[str, xr.Variable], attrs: Mapping[str, Any]) -> None:
        self.file, self.arrays, self.attrs = file, dict(arrays), dict(attrs)

    def children(self, group: str) -> Iterable[str]:
        """List the names below a group."""
        start = f"{group.strip('/')}/".lstrip("/")
        return list(dict.fromkeys(n.removeprefix(start).split("/")[0] for n in self.arrays if n.startswith(start)))

    def holds(self, path: str) -> bool:
        """Test whether an array has this name."""
        return path.strip("/") in self.arrays

    has_values = holds

    def values(self, path: str) -> Values:
        """Return an array."""
        name = path.strip("/")
        if name not in self.arrays:
            raise DataError(f"{self.file}: no array '{name}'; {did_you_mean(name, self.arrays)}")
        variable = self.arrays[name]
        if variable.dtype.kind not in "USO":
            native_type(variable.dtype, f"{self.file}:{name}")
        return variable.data

    def attributes(self, path: str) -> dict[str, Any]:
        """Return the attributes of an array."""
        return dict(self.arrays[path.strip("/")].attrs)

    def entry(self, path: str, name: str) -> np.ndarray:
        """Read a field of an array of structures."""
        return _entry(np.asarray(self.arrays[path.strip("/")].values), name, f"{self.file}:{path}")

    def attribute(self, path: str, name: str) -> Any:
        """Return an attribute of the file or of an array."""
        known = self.arrays[path.strip("/")].attrs if path.strip("/") else self.attrs
        if name not in known:
            raise DataError(f"{self.file}:{path or '/'}: no attribute '{name}'; {did_you_mean(name, known)}")
        return known[name]

    def dataset(self) -> xr.Dataset:
        """Return the arrays whose axes are named as a data set."""
        return xr.Dataset(self.arrays, attrs=self.attrs)


def _is_hard(group: h5py.h5g.GroupID, name: bytes) -> bool:
    """Test whether a group holds an object of this name itself, not by a soft or external link."""
    try:
        return bool(group.links.get_info(name).type == h5py.h5l.TYPE_HARD)
    except (KeyError, RuntimeError):  # no such link, or one that is damaged
        return False


def _parts(path: str) -> list[str]:
    """Split a path at its slashes; `.` is the group itself."""
    return [part for part in path.split("/") if part not in ("", ".")]


def _entry(values: np.ndarray, name: str, where: str) -> np.ndarray:
    fields = values.dtype.names or ()
    if name in fields:
        return np.asarray(values[name])
    if len(fields) == 2 and values.ndim == 1 and values.dtype[0].kind == "S":
        rows = {row[0].decode(errors="replace").strip("\0 "): row[1] for row in values}
        if name in rows:
            return np.asarray(rows[name])
        raise DataError(f"{where}: the table has no row '{name}'; {did_you_mean(name, rows)}")
    held = did_you_mean(name, fields) if fields else "it is no compound dataset"
    raise DataError(f"{where}: no entry '{name}'; {held}")


def kind_of_file(file: Path) -> str:
    """Name the kind of a file by its content: `hdf5`, `netcdf3`, `matlab5`, `npz`, `zarr`, or empty for any other."""
    if file.is_dir():
        return "zarr" if any((file / name).exists() for name in (".zgroup", "zarr.json", ".zmetadata")) else ""
    if not file.is_file():  # opening a pipe would wait for a writer
        return ""
    try:
        with open(file, "rb") as stream:
            head = stream.read(HEAD)
    except OSError:
        return ""
    if head.startswith(NETCDF3):
        return "netcdf3"
    if head.startswith(b"MATLAB 5.0 MAT-"):
        return "matlab5"
    if head.startswith(b"PK\x03\x04"):
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
            return "npz" if archive.namelist() and all(n.endswith(".npy") for n in archive.namelist()) else ""
        return ""
    return "hdf5" if h5py.is_hdf5(file) else ""


def open_arrays(file: Path) -> ArrayFile | None:
    """Read a file that is not HDF5 by the library for its format; None if there is none.

    Raises:
        DataError: The file is damaged.
    """
    kind = kind_of_file(file)
    try:
        if kind in ("netcdf3", "zarr"):
            engine = "scipy" if kind == "netcdf3" else "zarr"
            ds = xr.open_dataset(file, engine=engine, chunks={}, decode_cf=False)
            return ArrayFile(file, {str(k): v for k, v in ds.variables.items()}, ds.attrs)
        if kind == "npz":
            with np.load(file, allow_pickle=False) as archive:
                return ArrayFile(file, {name: _nameless(archive[name]) for name in archive.files}, {})
        if kind == "matlab5":
            arrays = {k: v for k, v in scipy.io.loadmat(file).items() if not k.startswith("__")}
            return ArrayFile(file, {name: _nameless(value) for name, value in arrays.items()}, {})
    except (ImportError, ModuleNotFoundError) as error:
        raise DataError(f"{file}: reading {kind} needs a package that is not installed: {error}") from error
    except Exception as error:  # whatever a foreign reader raises on a damaged file
        line = " ".join(str(error).split())[:200]
        raise DataError(
            f"{file}: cannot be read as {kind} ({line}); it may be damaged: copy or write it again"
        ) from error
    return None


def _nameless(value: Any) -> xr.Variable:
    array = np.asarray(value)
    return xr.Variable([f"dim_{axis}" for axis in range(array.ndim)], array)


@contextlib.contextmanager
def open_container(file: Path, *, external: bool = False) -> Iterator[Container]:
    """Open a file of any kind that can be read.

    Raises:
        DataError: It is missing, damaged, or of a kind that cannot be read; the message names the kind.
    """
    arrays = open_arrays(file) if file.exists() else None
    if arrays is not None:
        yield arrays
        return
    with open_file(file) as handle:
        yield Hdf5File(handle, external=external)
