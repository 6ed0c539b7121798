"""Write HDF5 files without HDF5 touching the disk: the library lays a file out in memory, plain calls write it.

HDF5 can abort the process when a disk fills, or leave half a file. Here it makes only the metadata; the bytes go by
plain file calls into a temporary file next to the target, which is flushed and renamed. Lazy variables are computed a
block at a time, each block of whole chunks of its source.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import xarray as xr

from surrogate.errors import ResourceError
from surrogate.files import replacing, sha256

__all__ = [
    "BLOCK_BYTES",
    "Room",
    "Skeleton",
    "Written",
    "blocks",
    "filling",
    "lay_out",
    "reserve",
    "set_attributes",
    "write_file",
]

BLOCK_BYTES = 32 * 2**20
ALIGNMENT = 64

Values = Mapping[str, xr.Variable]
Block = tuple[slice, ...]


@dataclass(frozen=True)
class Written:
    """Size and SHA-256 of a file."""

    bytes: int
    sha256: str


class Skeleton(io.RawIOBase):
    """A file in memory that keeps only the metadata that HDF5 writes, not the space reserved for data."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.position = self.size = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        return self.position

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.pieces.append((self.position, piece))
        self.position += len(piece)
        self.size = max(self.size, self.position)
        return len(piece)

    def readinto(self, buffer: Any) -> int:
        start, stop = self.position, self.position + len(buffer)
        content = bytearray(len(buffer))
        for offset, piece in self.pieces:
            low, high = max(start, offset), min(stop, offset + len(piece))
            if low < high:
                content[low - start : high - start] = piece[low - offset : high - offset]
        buffer[:] = content
        self.position = stop
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        self.size = self.position if size is None else size
        return self.size


def lay_out(declare: Callable[[h5py.File], Values]) -> tuple[Skeleton, dict[str, int], Values, int]:
    """Lay out a file: return its metadata, the first byte of each variable, their values, and the size of the file."""
    skeleton = Skeleton()
    with h5py.File(skeleton, "w", track_order=True, alignment_threshold=1, alignment_interval=ALIGNMENT) as file:
        values = declare(file)
        offsets = {path: file[path].id.get_offset() for path in values}
        file.flush()
        size = file.id.get_filesize()
    return skeleton, offsets, values, size


def reserve(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype) -> h5py.Dataset:
    """Create a contiguous, little-endian dataset whose space in the file is reserved and not filled."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)  # the same data give the same bytes
    kind = h5py.h5t.py_create(np.dtype(dtype).newbyteorder("<"))
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, plan))


def set_attributes(target: h5py.File | h5py.Dataset, attributes: Mapping[Any, Any]) -> None:
    """Write attributes: numbers as they are, everything else as text."""
    for name, value in attributes.items():
        number = np.asarray(value)
        if number.dtype.kind in "fiu":
            target.attrs[str(name)] = number
        else:
            text = str(value).encode()
            target.attrs.create(str(name), text, dtype=h5py.string_dtype("utf-8", max(len(text), 1)))


def write_file(
    path: Path,
    declare: Callable[[h5py.File], Values],
    *,
    block_bytes: int = BLOCK_BYTES,
    reread: bool = False,
    done: Callable[[int], None] | None = None,
) -> Written:
    """Write an HDF5 file completely, or leave the previous one unchanged.

    Arguments:
        path: The file; an older version stays until the new one is complete.
        declare: Makes the datasets in an empty file, with `reserve`, and returns their values by path.
        block_bytes: Bound of the values in memory at a time; a larger chunk of a lazy variable is read as a whole.
        reread: Read the file again through HDF5 and compare the SHA-256 of all values before it becomes visible.
        done: Called with the bytes of every block that was written.

    Raises:
        ResourceError: The disk is full, read-only or out of quota, or the values read back differently.
    """
    with filling(path, declare) as room:
        digests = {name: _fill(room, name, variable, block_bytes, done) for name, variable in room.values.items()}
        room.file.flush()
        again = {} if reread else digests
        if reread:
            with h5py.File(room.part, "r") as file:
                for name, variable in room.values.items():
                    digest = hashlib.sha256()
                    for block in blocks(variable, block_bytes):
                        digest.update(np.ascontiguousarray(file[name][block]).data)
                    again[name] = digest.hexdigest()
        different = [name for name in digests if again[name] != digests[name]]
        if different:
            raise ResourceError(
                f"cannot write {path}: '{different[0]}' reads back differently from what was written; check the disk "
                "and try again"
            )
        return Written(room.size, sha256(room.part))


@dataclass(frozen=True)
class Room:
    """A file whose metadata are written and whose values are still to come.

    Arguments:
        part: The temporary file next to the target.
        file: The same, open.
        offsets: First byte of each variable.
        values: The values that `declare` returned.
        size: Bytes of the whole file.
    """

    part: Path
    file: BinaryIO
    offsets: Mapping[str, int]
    values: Values
    size: int

    def put(self, name: str, start: int, values: np.ndarray) -> None:
        """Write contiguous values of a variable, from its value number `start` on."""
        values = np.ascontiguousarray(values, self.values[name].dtype.newbyteorder("<"))
        self.file.seek(self.offsets[name] + start * values.itemsize)
        self.file.write(values.data)


@contextmanager
def filling(path: Path, declare: Callable[[h5py.File], Values]) -> Iterator[Room]:
    """Open a file to fill in any order; it becomes visible when the block ends without an error.

    Raises:
        ResourceError: The disk is full, read-only or out of quota; an older version is intact.
    """
    skeleton, offsets, values, size = lay_out(declare)
    with replacing(path) as part, open(part, "wb") as file:
        # Claim the space on the disk first; where that is not supported, the writes themselves fail on a full disk.
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            file.truncate(size)
        for offset, piece in skeleton.pieces:
            file.seek(offset)
            file.write(piece)
        yield Room(part, file, offsets, values, size)


def blocks(variable: xr.Variable, block_bytes: int) -> Iterator[Block]:
    """Yield boxes that cover a variable, within `block_bytes`, of whole chunks (at least one) where it is lazy."""
    take = [max(axis) for axis in variable.chunks] if variable.chunks else [1] * variable.ndim
    for axis in reversed(range(variable.ndim)):  # grow along the last axes first: they are contiguous
        others = math.prod(take) // take[axis]
        take[axis] = min(variable.shape[axis], max(take[axis], block_bytes // (others * variable.dtype.itemsize)))
    runs: list[list[slice]] = []
    for axis, limit in enumerate(take):
        if not variable.chunks:
            size = variable.shape[axis]
            runs.append([slice(a, min(a + limit, size)) for a in range(0, size, limit)])
            continue
        joined, start, stop = [], 0, 0
        for size in variable.chunks[axis]:  # neighbouring chunks are joined up to the limit
            if stop > start and stop + size - start > limit:
                joined.append(slice(start, stop))
                start = stop
            stop += size
        runs.append([*joined, slice(start, stop)])
    yield from itertools.product(*runs)


def _fill(room: Room, name: str, variable: xr.Variable, block_bytes: int, done: Callable[[int], None] | None) -> str:
    """Compute and write all blocks of a variable; return the SHA-256 over them."""
    digest = hashlib.sha256()
    dtype = variable.dtype.newbyteorder("<")
    for block in blocks(variable, block_bytes):
        values = np.ascontiguousarray(variable[block].values, dtype=dtype)
        digest.update(values.data)
        whole = variable.ndim
        while whole and values.shape[whole - 1] == variable.shape[whole - 1]:
            whole -= 1
        fixed = max(whole - 1, 0)  # below the axes before this one, the block is contiguous in the variable
        for index in np.ndindex(values.shape[:fixed]):
            first = [part.start + step for part, step in zip(block, index, strict=False)]
            first += [part.start for part in block[fixed:]]
            start = 0  # number of the first value
            for position, length in zip(first, variable.shape, strict=True):
                start = start * length + position
            room.put(name, start, values[index])
        if done:
            done(values.nbytes)
    return digest.hexdigest()
