"""Lazy arrays in HDF5 files: bounded handles, safe after a fork, one-line errors."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
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

from surrogate.data.hdf5.file_type import looks_like
from surrogate.errors import DataError

__all__ = ["ChunkTable", "H5Array", "Stamp", "chunk_table", "indexing", "open_file", "stamp"]

with contextlib.suppress(ImportError):
    importlib.import_module("hdf5plugin")  # registers compression filters where it is installed

HANDLES = 16  # files held open by a process

Stamp = tuple[int, int, int]

# While the graph of a variable is traced, indexing a dataset returns this function's result instead of values.
indexing: ContextVar[Callable[[H5Array, Any], Any] | None] = ContextVar("indexing", default=None)


def stamp(file: Path) -> Stamp:
    """Return size, modification time and inode of a file, which change when it is written or replaced."""
    try:
        status = os.stat(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}; check the path") from error
    return status.st_size, status.st_mtime_ns, status.st_ino


@contextlib.contextmanager
def open_file(file: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, as a context manager.

    Raises:
        DataError: The file is missing, a folder, refused, truncated, being written, or not HDF5.
    """
    handle = _open(file)
    try:
        yield handle
    finally:
        handle.close()


def _open(file: Path) -> h5py.File:
    if file.is_dir():
        raise DataError(f"{file}: is a folder, expected a file; name a file in it or use a glob such as {file}/*.h5")
    try:
        return h5py.File(file, "r", locking="best-effort")
    except OSError as error:
        raise DataError(f"{file}: {_reason(file, error)}") from error


def _reason(file: Path, error: OSError) -> str:
    """Explain why HDF5 cannot open a file, and what to do."""
    text = str(error)
    if error.errno == errno.ENOENT:
        return "no such file; check the path"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "permission denied; ask its owner for read access (chmod a+r)"
    if "unable to lock" in text:
        return "is open for writing in another program; wait until it has closed the file"
    if "already open for write" in text or "consistency flags" in text:
        return "was not closed by its writer; run h5clear -s on a copy, or write it again"
    truncated = re.search(r"eof = (\d+), .*stored_eof = (\d+)", text)
    if truncated:
        return f"truncated: holds {truncated[1]} of {truncated[2]} bytes; copy or write it again"
    if "signature not found" in text:
        return f"is not HDF5: it looks like {looks_like(file)}"
    return f"cannot be opened as HDF5 ({_inner(text)}); it may be damaged: copy or write it again"


def _inner(text: str) -> str:
    """Extract the reason in brackets from an HDF5 message, on one line."""
    match = re.search(r"\((.*)\)", text, re.DOTALL)
    return " ".join((match[1] if match else text).split())[:200]


class _Handles:
    """A cache of open files of this process; the least recently used one is closed first."""

    def __init__(self, limit: int = HANDLES) -> None:
        self.limit = limit
        self.lock = threading.RLock()  # HDF5 serialises reads anyway; this one keeps eviction apart from reading
        self.files: OrderedDict[tuple[Path, Stamp], h5py.File] = OrderedDict()

    def read(self, array: H5Array, key: Any) -> np.ndarray:
        with self.lock:
            return self._file(array)[array.path][key]

    def visit_chunks(self, array: H5Array, note: Callable[[Any], None]) -> None:
        with self.lock:
            self._file(array)[array.path].id.chunk_iter(note)

    def _file(self, array: H5Array) -> h5py.File:
        name = array.file, array.stamp
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
        dtype: Native type that reading returns; big-endian and float16 values are converted.
        stamp: State of the file when this array was made; a file that changed since is refused.
        stored: Type in the file.
        chunks: Shape of the chunks of the file; None without chunks.
        offset: First byte of the values where they are contiguous in the file, else None.
        filters: Codes of the filters of its chunks, in the order of writing; None where the chunks cannot be read at
            their offsets in the file.
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

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def check(self) -> None:
        """Raise DataError where the file changed since this array was made."""
        if stamp(self.file) != self.stamp:
            raise DataError(f"{self.file}: was replaced or changed while in use; open the data again")

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
            return self.through_hdf5(key)
        self.check()
        mapped = np.memmap(self.file, self.stored, "r", self.offset, self.shape)
        return np.array(mapped[key], self.dtype)

    def through_hdf5(self, key: Any) -> np.ndarray:
        """Read the values at a key through the HDF5 library."""
        self.check()
        try:
            return np.asarray(_handles().read(self, key)).astype(self.dtype, copy=False)
        except OSError as error:
            raise self.damaged(key, _inner(str(error))) from error


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

    _handles().visit_chunks(array, note)
    return table
