"""Trace a lazy variable back to the parts of HDF5 datasets that it is made of.

The dask graph of a variable is run once on descriptions of values instead of values. Selecting, transposing, adding
axes and joining only move values, so their result describes the position of each value in its dataset; anything else
(arithmetic, filling, regridding) fails on a description, and the variable is left to dask.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from dask.callbacks import Callback
from dask.local import get_sync

from surrogate.data.hdf5.array import H5Array, indexing

__all__ = ["Absent", "Index", "Part", "consecutive", "trace"]

Index = range | np.ndarray
FEW = 4096  # values of an intermediate result that is no description: indices, but no data


@dataclass(frozen=True, eq=False)
class Part:
    """A box of a traced array whose values come from one dataset.

    Arguments:
        start: First index along each axis of the traced array.
        array: The dataset.
        index: Indices taken along each axis of the dataset.
        axes: For each axis of the traced array the axis of the dataset; None for a new one of length 1.
    """

    start: tuple[int, ...]
    array: H5Array
    index: tuple[Index, ...]
    axes: tuple[int | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(1 if axis is None else len(self.index[axis]) for axis in self.axes)

    def moved(self, offset: Sequence[int]) -> Part:
        """Return the same part at another place of the traced array."""
        return replace(self, start=tuple(a + b for a, b in zip(self.start, offset, strict=True)))


def consecutive(index: np.ndarray) -> Index:
    """Return a range where the indices are consecutive, else the indices themselves."""
    if len(index) and index[-1] - index[0] == len(index) - 1 and bool(np.all(np.diff(index) == 1)):
        return range(int(index[0]), int(index[-1]) + 1)
    return index


def trace(array: Any) -> list[Part] | None:
    """Return the parts of files that make up a dask array; None where its values are computed, not only selected.

    Arguments:
        array: A dask array.
    """
    if not isinstance(array, da.Array) or math.isnan(sum(array.shape)):
        return None
    token = indexing.set(_Described.of)
    try:
        with _NoData():
            keys: Any = array.__dask_keys__()
            blocks: Any = get_sync(dict(array.__dask_graph__()), keys)
    except Exception:  # whatever a foreign function raises on a description, dask will run it on values
        return None
    finally:
        indexing.reset(token)
    offsets = [list(itertools.accumulate(chunks, initial=0)) for chunks in array.chunks]
    for _ in range(array.ndim - 1):
        blocks = list(itertools.chain.from_iterable(blocks))
    parts: list[Part] = []
    for position, block in zip(np.ndindex(array.numblocks), list(blocks), strict=True):
        expected = tuple(chunks[i] for chunks, i in zip(array.chunks, position, strict=True))
        if not isinstance(block, _Described) or block.shape != expected or block.dtype != array.dtype:
            return None
        parts += [part.moved([edges[i] for edges, i in zip(offsets, position, strict=True)]) for part in block.parts]
    for axis in range(array.ndim):
        parts = _merge_neighbours(parts, axis)
    return parts


def _merge_neighbours(parts: list[Part], axis: int) -> list[Part]:
    """Merge parts that follow one another along an axis, in the traced array and in the same dataset."""
    groups: dict[tuple[Any, ...], list[Part]] = {}
    for part in parts:
        start, shape = list(part.start), list(part.shape)
        start[axis] = shape[axis] = 0
        groups.setdefault((part.array, part.axes, tuple(start), tuple(shape)), []).append(part)
    merged: list[Part] = []
    for group in groups.values():
        group.sort(key=lambda part: part.start[axis])
        runs = [group[:1]]
        for before, part in itertools.pairwise(group):
            source, end = part.axes[axis], before.start[axis] + before.shape[axis]
            pairs = enumerate(zip(before.index, part.index, strict=True))
            others = all(i == source or np.array_equal(a, b) for i, (a, b) in pairs)
            if source is not None and end == part.start[axis] and others:
                runs[-1].append(part)
            else:
                runs.append([part])
        for run in runs:
            first, source = run[0], run[0].axes[axis]
            if len(run) > 1 and source is not None:
                index = consecutive(np.concatenate([np.asarray(part.index[source]) for part in run]))
                first = replace(first, index=(*first.index[:source], index, *first.index[source + 1 :]))
            merged.append(first)
    return merged


@dataclass(frozen=True)
class Absent:
    """Values that no file holds: NaN, and nothing to read while a graph is traced."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> Any:
        if indexing.get() is not None:
            return _Described(self.shape, self.dtype, [])[key]
        return np.broadcast_to(np.array(np.nan, self.dtype), self.shape)[key]


class _NoData(Callback):
    """Stop a trace as soon as a task returns values."""

    def _posttask(self, key: Any, value: Any, dsk: Any, state: Any, worker: Any) -> None:
        if isinstance(value, np.ndarray) and value.size > FEW:
            raise TypeError("values in the graph")


class _Described:
    """A stand-in for an array in a dask graph: its shape and the parts of datasets that hold its values."""

    __array_ufunc__ = None

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, parts: list[Part]) -> None:
        self.shape, self.dtype, self.parts = shape, dtype, parts

    @classmethod
    def of(cls, array: H5Array, key: Any) -> _Described:
        """Describe a selection of a dataset."""
        whole = tuple(range(size) for size in array.shape)
        start, axes = (0,) * array.ndim, tuple(range(array.ndim))
        return cls(array.shape, array.dtype, [Part(start, array, whole, axes)])[key]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("a description has no values")

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> _Described:
        if function not in _MOVES:
            raise TypeError(f"{function.__name__} needs values")
        return _MOVES[function](*args, **kwargs)

    def astype(self, dtype: Any, **kwargs: Any) -> _Described:
        if np.dtype(dtype) != self.dtype:
            raise TypeError("another type needs values")
        return self

    def transpose(self, *axes: Any) -> _Described:
        return _transpose(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None)

    def __getitem__(self, key: Any) -> _Described:
        keys = list(key) if isinstance(key, tuple) else [key]
        used = sum(entry is not None and entry is not Ellipsis for entry in keys)
        at = next((i for i, entry in enumerate(keys) if entry is Ellipsis), len(keys))
        keys[at : at + 1] = [slice(None)] * (self.ndim - used)
        if sum(isinstance(entry, list | np.ndarray) for entry in keys) > 1:
            raise TypeError("one list of indices at most")
        described, axis = self, 0
        for entry in keys:
            described = described._added(axis) if entry is None else described._taken(axis, entry)
            axis += not isinstance(entry, int | np.integer)
        return described

    def _added(self, axis: int) -> _Described:
        """Insert a new axis of length 1."""
        shape = (*self.shape[:axis], 1, *self.shape[axis:])
        parts = [
            replace(
                part,
                start=(*part.start[:axis], 0, *part.start[axis:]),
                axes=(*part.axes[:axis], None, *part.axes[axis:]),
            )
            for part in self.parts
        ]
        return _Described(shape, self.dtype, parts)

    def _taken(self, axis: int, key: Any) -> _Described:
        """Select along an axis by an integer, slice or list."""
        whole = range(self.shape[axis])
        if isinstance(key, slice) and whole[key] == whole:
            return self
        if isinstance(key, slice):
            index: Index = whole[key]
        elif isinstance(key, int | np.integer):
            index = range(whole[int(key)], whole[int(key)] + 1)
        else:
            index = np.asarray(key)
            if index.dtype.kind not in "iu" or index.ndim != 1 or (index < 0).any():
                raise TypeError("indices only")
            index = consecutive(index.astype(np.int64))
        if isinstance(index, range) and index.step < 1:
            raise TypeError("increasing steps only")
        parts: list[Part] = []
        for part in self.parts:  # its pieces, at their place in the selection
            first, end = part.start[axis], part.start[axis] + part.shape[axis]
            if isinstance(index, range):
                a = max(0, -(-(first - index.start) // index.step))
                b = min(len(index), -(-(end - index.start) // index.step))
                if a < b:
                    chosen = range(index[a] - first, index[b - 1] - first + 1, index.step)
                    parts.append(_narrowed(part, axis, chosen, a))
                continue
            inside = np.flatnonzero((index >= first) & (index < end))
            for run in np.split(inside, np.flatnonzero(np.diff(inside) != 1) + 1):
                if len(run):
                    parts.append(_narrowed(part, axis, consecutive(index[run] - first), int(run[0])))
        shape = (*self.shape[:axis], len(index), *self.shape[axis + 1 :])
        if isinstance(key, int | np.integer):  # the axis disappears

            def others(values: tuple[Any, ...]) -> tuple[Any, ...]:
                return (*values[:axis], *values[axis + 1 :])

            parts = [replace(part, start=others(part.start), axes=others(part.axes)) for part in parts]
            shape = others(shape)
        return _Described(shape, self.dtype, parts)


def _narrowed(part: Part, axis: int, chosen: Index, start: int) -> Part:
    """Restrict a part to chosen entries along an axis and place it at `start`."""
    starts = (*part.start[:axis], start, *part.start[axis + 1 :])
    source = part.axes[axis]
    if source is None:
        if len(chosen) != 1:
            raise TypeError("repeated values")
        return replace(part, start=starts)
    held = part.index[source]
    if isinstance(chosen, range):
        taken: Index = held[chosen.start : chosen.stop : chosen.step]
    else:
        taken = consecutive(np.asarray(held)[chosen])
    return replace(part, start=starts, index=(*part.index[:source], taken, *part.index[source + 1 :]))


def _same_kind(arrays: Sequence[Any]) -> Sequence[_Described]:
    """Refuse to join values, or descriptions of several types."""
    if any(not isinstance(array, _Described) or array.dtype != arrays[0].dtype for array in arrays):
        raise TypeError("descriptions of one type only")
    return arrays


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> _Described:
    parts: list[Part] = []
    length = 0
    for array in _same_kind(arrays):
        offset = [0] * array.ndim
        offset[axis] = length
        parts += [part.moved(offset) for part in array.parts]
        length += array.shape[axis]
    shape = list(arrays[0].shape)
    shape[axis] = length
    return _Described(tuple(shape), arrays[0].dtype, parts)


def _transpose(array: _Described, axes: Sequence[int] | None = None) -> _Described:
    order = tuple(reversed(range(array.ndim))) if axes is None else tuple(axis % array.ndim for axis in axes)

    def turned(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[axis] for axis in order)

    parts = [replace(part, start=turned(part.start), axes=turned(part.axes)) for part in array.parts]
    return _Described(turned(array.shape), array.dtype, parts)


_MOVES: dict[Callable[..., Any], Callable[..., _Described]] = {
    np.concatenate: _concatenate,
    np.stack: lambda arrays, axis=0: _concatenate([array._added(axis) for array in _same_kind(arrays)], axis),
    np.take: lambda array, indices, axis=0: array._taken(axis, np.asarray(indices)),
    np.transpose: _transpose,
}
