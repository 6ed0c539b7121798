"""Lazy arrays in HDF5 files: bounded handles, safe after a fork, one-line errors."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from surrogate.data.hdf5.decoding import Decoding
from surrogate.data.hdf5.faults import HDF5_ERRORS, of_hdf5, reason_of, short
from surrogate.data.hdf5.preflight import check_in_child
from surrogate.errors import DataError, SurrogateError

__all__ = ["ChunkTable", "H5Array", "Stamp", "chunk_table", "indexing", "open_file", "stamp"]

with contextlib.suppress(ImportError):
    importlib.import_module("hdf5plugin")  # registers compression filters where it is installed

HANDLES = 16  # files held open by a process

Stamp = tuple[int, ...]

# While the graph of a variable is traced, indexing a dataset returns this function's result instead of values.
indexing: ContextVar[Callable[[H5Array, Any], Any] | None] = ContextVar("indexing", default=None)


def stamp(*files: Path) -> Stamp:
    """Return size, modification time and inode of files, which change when one is written or replaced."""
    facts: list[int] = []
    for file in files:
        try:
            status = os.stat(file)
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}; check the path") from error
        facts += [status.st_size, status.st_mtime_ns, status.st_ino]
    return tuple(facts)


@contextlib.contextmanager
def open_file(file: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, as a context manager.

    Raises:
        DataError: The file is missing, a folder, refused, truncated, being written, or not HDF5; or h5py raised an
            error inside the block, which it does for damaged objects.
    """
    check_in_child(file)
    handle = _open(file)
    try:
        yield handle
    except Exception as error:
        if isinstance(error, SurrogateError) or not of_hdf5(error):
            raise
        raise DataError(
            f"{file}: cannot be read ({short(error)}); it may be damaged: copy or write it again"
        ) from error
    finally:
        handle.close()


def _open(file: Path) -> h5py.File:
    if file.is_dir():
        raise DataError(f"{file}: is a folder, expected a file; name a file in it or use a glob such as {file}/*.h5")
    try:
        if file.exists() and not file.is_file():
            raise DataError(f"{file}: is no regular file (a pipe, socket or device); write the data to a file first")
        return h5py.File(file, "r", locking="best-effort")
    except HDF5_ERRORS as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: {reason_of(file, error)}") from error


class _Handles:
    """A cache of open files of this process; the least recently used one is closed first."""

    def __init__(self, limit: int = HANDLES) -> None:
        self.limit = limit
        self.lock = threading.RLock()  # HDF5 serialises reads anyway; this one keeps eviction apart from reading
        self.files: OrderedDict[tuple[Path, Stamp], h5py.File] = OrderedDict()

    def read(self, array: H5Array, key: Any) -> np.ndarray:
        with self.lock:
            return self._dataset(array)[key]

    def visit_chunks(self, array: H5Array, note: Callable[[Any], None]) -> None:
        with self.lock:
            self._dataset(array).id.chunk_iter(note)

    def _dataset(self, array: H5Array) -> h5py.Dataset:
        """Open a dataset; relative names of external storage count from the folder of the file."""
        file, path = self._file(array), array.path.encode("utf-8", "surrogateescape")
        if not array.sources:
            return h5py.Dataset(h5py.h5d.open(file.id, path))
        dataset = h5py.h5d.open(file.id, path)
        if not dataset.get_create_plist().get_external_count():  # HDF5 refuses another prefix for an open dataset
            return h5py.Dataset(dataset)
        del dataset
        access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        access.set_efile_prefix(os.fsencode(array.file.absolute().parent))
        return h5py.Dataset(h5py.h5d.open(file.id, path, access))

    def _file(self, array: H5Array) -> h5py.File:
        name = array.file, array.stamp[:3]
        if name not in self.files:
            self.files[name] = _open(array.file)
            while len(self.files) > self.limit:
                self.files.popitem(last=False)[1].close()
        self.files.move_to_end(name)
        return self.files[name]


_processes: dict[int, _Handles] = {}


def _handles() -> _Handles:
    """Return the file cache of this process; a forked child opens files of its own."""
    return _processes.setdefault(os.getpid(), _Handles())


@dataclass(frozen=True)
class H5Array:
    """A lazy HDF5 dataset: its file is opened when it is indexed, by slices and integers only.

    Arguments:
        file: The HDF5 file.
        path: The dataset in it.
        shape: Shape of the dataset.
        dtype: Native type that indexing returns: big-endian and float16 values are converted, packed ones decoded.
        stamp: State of `file` and `sources` when this array was made; a file that changed since is refused.
        stored: Type of the stored values as h5py reads them.
        chunks: Shape of the chunks of the file; None without chunks.
        offset: First byte of the values where they are contiguous in the file, else None.
        filters: Codes of the filters of its chunks, in the order of writing; None where the chunks cannot be read at
            their offsets in the file.
        sources: Further files that hold its values: sources of a virtual dataset, external storage.
        decoding: Decodes stored values; None where they are stored as they are.
    """

    file: Path
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    stamp: Stamp
    stored: np.dtype
    chunks: tuple[int, ...] | None = None
    offset: int | None = None
    filters: tuple[int, ...] | None = None
    sources: tuple[Path, ...] = ()
    decoding: Decoding | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def check(self) -> None:
        """Raise DataError where the file changed since this array was made."""
        if stamp(self.file, *self.sources) != self.stamp:
            behind = f", or one of the {len(self.sources)} files behind it," if self.sources else ""
            raise DataError(f"{self.file}:{behind} was replaced or changed while in use; open the data again")

    def damaged(self, key: Any, reason: str) -> DataError:
        """Return the error to raise where a part of the dataset cannot be read."""
        keys = key if isinstance(key, tuple) else (key,)
        shown = ", ".join(f"{k.start}:{k.stop}" if isinstance(k, slice) else str(k) for k in keys)
        return DataError(
            f"{self.file}:{self.path}[{shown}]: cannot be read ({reason}); the file is damaged: copy it again"
        )

    def __getitem__(self, key: Any) -> np.ndarray:
        described = indexing.get()
        if described is not None:
            return described(self, key)
        if self.offset is None:
            return self.decoded(self.through_hdf5(key))
        return self.decoded(self.mapped()[key])

    def mapped(self) -> np.ndarray:
        """Map contiguous stored values into memory."""
        self.check()
        try:
            return np.memmap(self.file, self.stored, "r", self.offset or 0, self.shape)
        except (OSError, ValueError) as error:  # shorter than the values
            raise DataError(f"{self.file}:{self.path}: {error}; the file is truncated: copy it again") from error

    def through_hdf5(self, key: Any) -> np.ndarray:
        """Read the stored values at a key through the HDF5 library."""
        self.check()
        try:
            return np.asarray(_handles().read(self, key))
        except HDF5_ERRORS as error:
            raise self.damaged(key, short(error)) from error

    def decoded(self, stored: np.ndarray) -> np.ndarray:
        """Decode stored values to an array of its own of type `dtype`."""
        return np.array(stored, self.dtype) if self.decoding is None else self.decoding(stored)


@dataclass(frozen=True, eq=False)
class ChunkTable:
    """Offsets and sizes of the chunks of a dataset in its file, with the shape of the grid of chunks.

    Arguments:
        offset: First byte in the file; -1 where the chunk was never written.
        size: Stored bytes.
        skipped: Bit mask of the filters that the chunk did not go through.
    """

    offset: np.ndarray
    size: np.ndarray
    skipped: np.ndarray


@lru_cache(maxsize=4096)
def chunk_table(array: H5Array) -> ChunkTable:
    """Return the offsets and sizes of the chunks of a dataset; read once for each array."""
    chunks = array.chunks or array.shape
    grid = tuple(-(-size // chunk) for size, chunk in zip(array.shape, chunks, strict=True))
    table = ChunkTable(np.full(grid, -1, np.int64), np.zeros(grid, np.int64), np.zeros(grid, np.int64))

    def note(info: Any) -> None:
        place = tuple(at // chunk for at, chunk in zip(info.chunk_offset, chunks, strict=True))
        table.offset[place], table.size[place], table.skipped[place] = info.byte_offset, info.size, info.filter_mask

    try:
        _handles().visit_chunks(array, note)
    except HDF5_ERRORS as error:
        raise array.damaged(slice(None), short(error)) from error
    return table
