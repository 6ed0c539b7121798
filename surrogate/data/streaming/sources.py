"""Sources of the variables of a stream: in memory, computed by dask, or read from files."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from surrogate.data.hdf5.autotune import choose
from surrogate.data.hdf5.origin import Index, Part, trace
from surrogate.data.hdf5.reading import kind_of, read_box

__all__ = ["FileSource", "LazySource", "LoadedSource", "Source", "make_source"]


class LoadedSource:
    """A variable in memory."""

    reading = "in memory"

    def __init__(self, array: xr.DataArray) -> None:
        self.dims, self._values = tuple(map(str, array.dims)), array.values
        self.layout = self.dims

    def chunks(self, dim: str) -> tuple[int, ...]:
        """Return chunks of single entries: they may be read in any portion."""
        return tuple(itertools.repeat(1, self._values.shape[self.dims.index(dim)])) if dim in self.dims else (1,)

    def read(self, box: Sequence[slice], into: np.ndarray | None = None) -> np.ndarray:
        """Return the values in a box; `into` is not used."""
        return self._values[tuple(box)]


class LazySource:
    """A variable that dask computes from the values in the files."""

    reading = "dask"

    def __init__(self, array: xr.DataArray) -> None:
        self.dims, self.lazy = tuple(map(str, array.dims)), array.data
        self.layout = self.dims

    def chunks(self, dim: str) -> tuple[int, ...]:
        """Return the chunks of dask along an axis."""
        return self.lazy.chunks[self.dims.index(dim)] if dim in self.dims else (1,)

    def read(self, box: Sequence[slice], into: np.ndarray | None = None) -> np.ndarray:
        """Compute the values in a box; `into` is not used."""
        return self.lazy[tuple(box)].compute(scheduler="synchronous")


class FileSource:
    """A variable that is a selection of datasets in files.

    Arguments:
        array: The variable.
        parts: Boxes that cover it.
    """

    def __init__(self, array: xr.DataArray, parts: Sequence[Part]) -> None:
        self.dims, self.shape = tuple(map(str, array.dims)), array.shape
        self._dtype, self.parts = array.dtype, parts
        self._start = np.array([part.start for part in parts])
        # The axes as in the file: new ones first, then those cut into chunks of one entry.
        chunks = parts[0].array.chunks or (2,) * parts[0].array.ndim
        places = [(-1, 0) if source is None else (min(chunks[source], 2), source) for source in parts[0].axes]
        self.layout = tuple(self.dims[axis] for axis in sorted(range(len(places)), key=places.__getitem__))
        self._end = self._start + np.array([part.shape for part in parts])
        kinds = {kind_of(part.array): part.array for part in parts}
        self.reading = ", ".join(sorted({choose(array).way for array in kinds.values()}))

    def chunks(self, dim: str) -> tuple[int, ...]:
        """Return the lengths of runs of entries in one chunk of a file, at the first entries of all other axes."""
        if dim not in self.dims:
            return (1,)
        axis = self.dims.index(dim)
        others = np.delete(self._start, axis, axis=1)
        first = np.flatnonzero((others == others.min(axis=0)).all(axis=1))
        rows = first[np.argsort(self._start[first, axis])].tolist()
        merged: list[int] = []
        last: object = None
        for part in (self.parts[row] for row in rows):
            source, name = part.axes[axis], (part.array.file, part.array.path)
            ends: list[object] = [name, name]  # identity of the first chunk and of the last one
            lengths = [1]
            if source is not None:
                size = (part.array.chunks or (1,) * part.array.ndim)[source]
                chunks, counts = np.unique(np.asarray(part.index[source]) // size, return_counts=True)
                if not len(chunks):
                    continue
                ends, lengths = [(name, int(chunks[0])), (name, int(chunks[-1]))], counts.tolist()
            if ends[0] == last:  # neighbouring parts may share a chunk
                lengths[0] += merged.pop()
            merged += lengths
            last = ends[-1]
        return tuple(merged)

    def read(self, box: Sequence[slice], into: np.ndarray | None = None) -> np.ndarray:
        """Read the values in a box; return `into` where they could be read straight to it."""
        first, end = (np.array([getattr(side, name) for side in box]) for name in ("start", "stop"))
        hits = np.flatnonzero(((self._start < end) & (self._end > first)).all(axis=1)).tolist()
        if len(hits) == 1:
            (hit,) = hits
            return _read_part(self.parts[hit], first - self._start[hit], end - self._start[hit], into)
        out = np.empty(end - first, self._dtype) if into is None else into
        for part, start, stop in ((self.parts[i], self._start[i], self._end[i]) for i in hits):
            low, high = np.maximum(start, first), np.minimum(stop, end)
            target = out[tuple(map(slice, low - first, high - first))]
            values = _read_part(part, low - start, high - start, target)
            if values is not target:
                target[...] = values
        return out


Source = FileSource | LazySource | LoadedSource


def _read_part(part: Part, low: np.ndarray, high: np.ndarray, into: np.ndarray | None) -> np.ndarray:
    """Read a part from `low` to `high`, axes in the order of the traced array; return `into` if it was read to."""
    index: list[Index] = list(part.index)
    for axis, source in enumerate(part.axes):
        if source is not None:
            index[source] = index[source][int(low[axis]) : int(high[axis])]
    kept = [source for source in part.axes if source is not None]
    dropped = [source for source in range(part.array.ndim) if source not in kept]
    memory = None
    if into is not None and into.dtype == part.array.stored and part.array.decoding is None:
        # a view of it with the axes of the dataset
        view = into[tuple(0 if source is None else slice(None) for source in part.axes)].transpose(np.argsort(kept))
        memory = view[tuple(slice(None) if source in kept else None for source in range(part.array.ndim))]
    values = read_box(part.array, index, memory)
    if into is not None and values is memory:
        return into
    if part.array.decoding is not None:
        values = part.array.decoding(values)
    values = values.transpose(*kept, *dropped).reshape([values.shape[source] for source in kept])
    return values[tuple(slice(None) if source is not None else None for source in part.axes)]


def make_source(array: xr.DataArray) -> Source:
    """Choose the fastest source for a variable."""
    data: Any = array.variable._data if array.chunks is None else array.data
    if isinstance(data, np.ndarray) or array.chunks is None:
        return LoadedSource(array)
    parts = trace(data)
    return LazySource(array) if parts is None else FileSource(array, parts)
