"""Read boxes of HDF5 datasets in the fastest way that their storage allows.

Contiguous values are read in place; chunks of gzip, shuffle and lzf are read at their offsets and decoded by the
calling thread, outside the lock of HDF5; the HDF5 library reads everything else.
"""

from __future__ import annotations

import itertools
import math
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from surrogate.data.hdf5.array import H5Array, Stamp, chunk_table
from surrogate.data.hdf5.filters import decodable, decode, scratch
from surrogate.data.hdf5.origin import Index, consecutive
from surrogate.errors import DataError

__all__ = [
    "SHORT_RUN",
    "Descriptor",
    "kind_of",
    "opened",
    "possible_ways",
    "pread",
    "read_box",
    "use_way",
    "way_of_reading",
]

FILES = 64  # files held open by a process
READ_BYTES = 4_000_000  # of neighbouring chunks that are read in one call
SHORT_RUN = 16_384  # bytes; a memory map gathers shorter runs faster than one call each
Selection = slice | np.ndarray
Kind = tuple[Any, ...]

_ways: dict[Kind, str] = {}


def possible_ways(array: H5Array) -> list[str]:
    """List the ways to read a dataset: `direct`, `threaded decoding`, `memory map`, `h5py`; best for streams first."""
    if array.offset is not None:
        return ["direct", "h5py"] if hasattr(os, "preadv") else ["memory map"]
    if array.filters is not None and decodable(array.filters) and hasattr(os, "preadv"):
        return ["threaded decoding", "h5py"]
    return ["h5py"]


def kind_of(array: H5Array) -> Kind:
    """Return the properties on which the speed of reading depends; datasets of one kind are read in one way."""
    return array.file.parent, array.stored, array.chunks, array.filters, array.offset is None


def use_way(kind: Kind, way: str) -> None:
    """Choose the way in which datasets of a kind are read in this process."""
    _ways[kind] = way


def way_of_reading(array: H5Array) -> str:
    """Return the way chosen by `use_way`, else the first possible one."""
    return _ways.get(kind_of(array)) or possible_ways(array)[0]


def read_box(
    array: H5Array, index: Sequence[Index], into: np.ndarray | None = None, *, way: str | None = None
) -> np.ndarray:
    """Read the values at the outer product of indices along the axes, in the type of the file.

    They are read to `into` where it is given and can be used, and it is returned. Other results are overwritten when
    the same thread reads again: fresh memory for each read would cost as much as reading.

    Arguments:
        array: The dataset.
        index: Indices to take along each axis.
        into: Memory of the type of the file.
        way: A possible way of reading; None takes that of the dataset.

    Raises:
        DataError: The file changed, is truncated or damaged.
    """
    way = way or way_of_reading(array)
    if way == "direct":
        array.check()
        return _read_direct(array, index, into)
    if way == "threaded decoding":
        array.check()
        return _read_chunks(array, index, into)
    # by slices, one for each run of neighbouring chunks
    sizes = array.chunks or (1,) * array.ndim
    segments = [_segments(i, size) for i, size in zip(index, sizes, strict=True)]
    out = np.empty([len(i) for i in index], array.stored)
    for place in itertools.product(*segments):
        key = tuple(slice(start, stop) for start, stop, _, _ in place)
        values = array.through_hdf5(key) if way == "h5py" else array.mapped()[key]
        out[tuple(target for _, _, target, _ in place)] = values[_outer([chosen for _, _, _, chosen in place])]
    return out


def _memory(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    return scratch("values", math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


# contiguous values


def _read_direct(array: H5Array, index: Sequence[Index], into: np.ndarray | None) -> np.ndarray:
    """Read contiguous values run by run, or by a memory map where runs are short."""
    inner = array.ndim  # from this axis on everything is wanted
    while inner > 1 and isinstance(index[inner - 1], range) and index[inner - 1] == range(array.shape[inner - 1]):
        inner -= 1
    row = math.prod(array.shape[inner:])
    runs = _segments(index[inner - 1], 1)
    calls = len(runs) * math.prod(len(i) for i in index[: inner - 1])
    lengths = [len(i) for i in index]
    out = into if into is not None and into.flags.c_contiguous else _memory(lengths, array.stored)
    if calls > 1 and out.nbytes < calls * SHORT_RUN:
        out[...] = array.mapped()[np.ix_(*map(np.asarray, index))]
        return out
    strides = [math.prod(array.shape[axis + 1 :]) for axis in range(inner - 1)]
    rows, file = out.reshape(-1, len(index[inner - 1]), row), opened(array)
    for position, outer in enumerate(itertools.product(*index[: inner - 1])):
        before = sum(int(i) * stride for i, stride in zip(outer, strides, strict=True))
        for start, _, target, _ in runs:
            first = (array.offset or 0) + (before + start * row) * array.stored.itemsize
            pread(array, file, rows[position, target], first)
    return out


def pread(array: H5Array, file: Descriptor, into: np.ndarray, offset: int) -> None:
    """Fill contiguous memory with the bytes of a file from an offset on."""
    view, done = into.data.cast("B"), 0
    while done < len(view):
        count = os.preadv(file.number, [view[done:]], offset + done)
        if count == 0:
            raise DataError(f"{array.file}: ends at byte {offset + done}: it is truncated; copy or write it again")
        done += count


class Descriptor:
    """An open file, closed with its last reference: another thread may still read from one that was evicted."""

    def __init__(self, array: H5Array) -> None:
        self.number = -1
        try:
            self.number = os.open(array.file, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{array.file}: cannot be read: {error.strerror}; check the path") from error

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class _Descriptors:
    """A cache of files that this process reads in place; the least recently used one is dropped first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.files: OrderedDict[tuple[str, Stamp], Descriptor] = OrderedDict()

    def get(self, array: H5Array) -> Descriptor:
        name = str(array.file), array.stamp
        with self.lock:
            if name not in self.files:
                self.files[name] = Descriptor(array)
            self.files.move_to_end(name)
            if len(self.files) > min(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4):
                self.files.popitem(last=False)
            return self.files[name]


_processes: dict[int, _Descriptors] = {}


def opened(array: H5Array) -> Descriptor:
    """Return the open file of a dataset; keep it as long as its number is used.

    A forked child opens files of its own, for a lock may be held while it forks.
    """
    return _processes.setdefault(os.getpid(), _Descriptors()).get(array)


# chunks


def _read_chunks(array: H5Array, index: Sequence[Index], into: np.ndarray | None) -> np.ndarray:
    """Read chunks at their offsets, neighbours in one call, and decode them."""
    sizes = array.chunks or array.shape
    pieces = [_pieces(i, size) for i, size in zip(index, sizes, strict=True)]
    table, lengths = chunk_table(array), tuple(len(i) for i in index)
    wanted = np.ix_(*[[number for number, _, _ in along] for along in pieces])
    offsets, stored, skipped = (part[wanted].ravel().tolist() for part in (table.offset, table.size, table.skipped))
    places, file = list(itertools.product(*pieces)), opened(array)
    runs: list[list[int]] = []  # of chunks that follow one another in the file, so that one call reads them
    first = end = -1
    for k in sorted(range(len(offsets)), key=offsets.__getitem__):
        if runs and offsets[k] == end >= 0 and end + stored[k] - first <= READ_BYTES:
            runs[-1].append(k)
        else:
            runs.append([k])
            first = offsets[k]
        end = offsets[k] + stored[k]
    for run in runs:
        start = offsets[run[0]]
        content = scratch("stored", offsets[run[-1]] + stored[run[-1]] - start)
        if start >= 0:
            pread(array, file, content, start)
        for k in run:
            held = content[offsets[k] - start : offsets[k] - start + stored[k]] if start >= 0 else None
            values = _decoded(array, held, skipped[k], [number for number, _, _ in places[k]])
            values = values[_outer([chosen for _, _, chosen in places[k]])]
            if into is None and len(places) == 1:
                return values
            into = _memory(lengths, array.stored) if into is None else into
            into[tuple([target for _, target, _ in places[k]])] = values
    return np.empty(lengths, array.stored) if into is None else into


def _decoded(array: H5Array, stored: np.ndarray | None, skipped: int, place: Sequence[int]) -> np.ndarray:
    """Decode a whole chunk, including the part beyond the edge of the dataset."""
    chunks, itemsize = array.chunks or array.shape, array.stored.itemsize
    size, place_and_size = math.prod(chunks) * itemsize, zip(place, chunks, array.shape, strict=True)
    key = tuple(slice(i * c, min((i + 1) * c, end)) for i, c, end in place_and_size)
    held = tuple(part.stop - part.start for part in key)
    if held != chunks and array.filters and stored is not None and len(stored) == size:
        # A file may keep chunks at the edge without filters (H5Pset_chunk_opts); the HDF5 library reads that option.
        whole = np.zeros(chunks, array.stored)
        whole[tuple(map(slice, held))] = array.through_hdf5(key)
        return whole
    try:
        if stored is None:
            raise ValueError("a chunk was never written")
        values = decode(stored, array.filters or (), skipped, itemsize, size)
    except ValueError as error:
        raise array.damaged(key, str(error)) from error
    return values.view(array.stored).reshape(chunks)


def _pieces(index: Index, size: int) -> list[tuple[int, slice, Selection]]:
    """List, for each chunk that an index touches, its number, the place in the result, and the selection in it."""
    values = np.asarray(index)
    edges = np.flatnonzero(np.diff(values // size)) + 1
    pieces = []
    for run in np.split(np.arange(len(values)), edges) if len(values) else []:
        chunk = int(values[run[0]]) // size
        chosen = _selection(values[run] - chunk * size)
        pieces.append((chunk, slice(int(run[0]), int(run[-1]) + 1), chosen))
    return pieces


# parts of an index


def _selection(index: np.ndarray) -> Selection:
    tidy = consecutive(index)
    return slice(tidy.start, tidy.stop) if isinstance(tidy, range) else tidy


def _outer(chosen: Sequence[Selection]) -> tuple[Selection, ...]:
    """Return a key that selects along each axis independently."""
    lists = [axis for axis, entry in enumerate(chosen) if isinstance(entry, np.ndarray)]
    if len(lists) < 2:
        return tuple(chosen)
    whole = [np.arange(e.start, e.stop) if isinstance(e, slice) else e for e in chosen]
    return np.ix_(*whole)


def _segments(index: Index, size: int) -> list[tuple[int, int, slice, Selection]]:
    """List runs of neighbouring chunks that an index touches: first and end, place in the result, selection in it."""
    if isinstance(index, range) and index.step == 1 and len(index):
        return [(index.start, index.stop, slice(0, len(index)), slice(0, len(index)))]
    values = np.asarray(index)
    steps = np.diff(values // size)
    edges = np.flatnonzero((steps < 0) | (steps > 1)) + 1
    segments = []
    for run in np.split(np.arange(len(values)), edges) if len(values) else []:
        held = values[run]
        first, last = int(held.min()), int(held.max())
        segments.append((first, last + 1, slice(int(run[0]), int(run[-1]) + 1), _selection(held - first)))
    return segments
