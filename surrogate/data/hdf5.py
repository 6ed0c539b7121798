"""Lazy arrays in HDF5 files: bounded handles, safe after a fork, one-line errors."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from surrogate.checks import DataError
from surrogate.data.sniff import looks_like

__all__ = ["H5Array", "Stamp", "open_file", "stamp"]

with contextlib.suppress(ImportError):
    importlib.import_module("hdf5plugin")  # registers compression filters where it is installed

HANDLES = 16  # files held open by a process

Stamp = tuple[int, int, int]


def stamp(file: Path) -> Stamp:
    """Size, time of the last change and inode: what tells that a file was replaced."""
    try:
        status = os.stat(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}; check the path") from error
    return status.st_size, status.st_mtime_ns, status.st_ino


@contextlib.contextmanager
def open_file(file: Path) -> Iterator[h5py.File]:
    """An open HDF5 file, for reading.

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
        raise DataError(f"{file}: {_why(file, error)}") from error


def _why(file: Path, error: OSError) -> str:
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
    """The reason in brackets of an HDF5 message, on one line."""
    match = re.search(r"\((.*)\)", text, re.DOTALL)
    return " ".join((match[1] if match else text).split())[:200]


class _Handles:
    """The files that this process holds open: the least recently used one is closed first."""

    def __init__(self, limit: int = HANDLES) -> None:
        self.limit = limit
        self.lock = threading.RLock()  # HDF5 serialises reads anyway; this one keeps eviction apart from reading
        self.files: OrderedDict[tuple[Path, Stamp], h5py.File] = OrderedDict()

    def read(self, array: H5Array, key: Any) -> np.ndarray:
        with self.lock:
            return self._file(array)[array.path][key]

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
    """Handles of this process: a forked child opens its own."""
    return _processes.setdefault(os.getpid(), _Handles())


@dataclass(frozen=True)
class H5Array:
    """A dataset in a file that is opened when it is indexed; slices and integers only.

    Arguments:
        file: The HDF5 file.
        path: The dataset in it.
        shape: Shape of the dataset.
        dtype: Native type that reading returns; big-endian and float16 values are converted.
        stamp: State of the file when it was described; a changed file is refused.
        stored: Type in the file.
        chunks: Chunks of the file; None where it has none.
        offset: First byte of the values where they lie contiguously in the file, else None.
    """

    file: Path
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    stamp: Stamp
    stored: np.dtype
    chunks: tuple[int, ...] | None = None
    offset: int | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        if stamp(self.file) != self.stamp:
            raise DataError(f"{self.file}: was replaced or changed while in use; open the data again")
        if self.offset is not None:
            mapped = np.memmap(self.file, self.stored, "r", self.offset, self.shape)
            return np.array(mapped[key], self.dtype)
        try:
            return np.asarray(_handles().read(self, key)).astype(self.dtype, copy=False)
        except OSError as error:
            reason = _inner(str(error))
            raise DataError(
                f"{self.file}:{self.path}{_shown(key)}: cannot be read ({reason}); the file is damaged: copy it again"
            ) from error


def _shown(key: Any) -> str:
    parts = key if isinstance(key, tuple) else (key,)
    return "[" + ", ".join(f"{p.start}:{p.stop}" if isinstance(p, slice) else str(p) for p in parts) + "]"
