"""Windows read straight from the files, where each one is a few long runs of bytes.

Contiguous values need no buffer: the page cache of the system is one. It is asked for the next group of blocks while
the windows of one group are copied from it to batches, once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.data.hdf5.array import H5Array
from surrogate.data.hdf5.origin import Part
from surrogate.data.hdf5.reading import SHORT_RUN, opened, pread, way_of_reading
from surrogate.data.streaming.buffer import Reader
from surrogate.data.streaming.channels import Column, Side
from surrogate.data.streaming.read_plan import Plan
from surrogate.data.streaming.sources import FileSource, LoadedSource

__all__ = ["FileWindows", "file_windows"]

FLOAT = np.dtype(np.float32)


@dataclass(frozen=True, eq=False)
class Runs:
    """Where the steps of a variable lie: step t of simulation s are `count` values from `first[s] + t stride[s]` on.

    Arguments:
        arrays: Datasets.
        array: Which of them holds each simulation.
        first: First byte of its step 0.
        stride: Bytes from one step to the next.
        count: Values of a step.
        order: Axes (C, *S) in the order of the file.
    """

    arrays: tuple[H5Array, ...]
    array: np.ndarray
    first: np.ndarray
    stride: np.ndarray
    count: int
    order: tuple[int, ...]

    def offsets(self, sample: np.ndarray, time: np.ndarray) -> np.ndarray:
        """First byte of steps."""
        return self.first[sample] + time * self.stride[sample]


class FileWindows:
    """The windows of a plan, read when they are taken.

    Arguments:
        reader: What describes the variables.
        plan: The plan.
        runs: Where the variables in files lie; the others are in memory.
    """

    def __init__(self, reader: Reader, plan: Plan, runs: dict[str, Runs]) -> None:
        self.reader, self.plan, self.runs = reader, plan, runs
        self._found_finite = np.zeros(plan.windows, bool)

    def take(self, windows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets of windows by their number; one tensor where both have the same channels."""
        sample, time = self.plan.locate(windows)
        unknown = not self._found_finite[windows].all()
        inputs, targets = self.reader.sides
        taken = self._side(inputs, sample, time, check=unknown)
        other = taken if self.reader.shared else self._side(targets, sample, time, check=unknown)
        self._found_finite[windows] = True  # files do not change: `check` sees to it
        return taken, other

    def check(self) -> None:
        """Refuse files that changed."""
        for array in {array.file: array for runs in self.runs.values() for array in runs.arrays}.values():
            array.check()

    def fetch(self, blocks: np.ndarray) -> None:
        """Ask the system to bring what blocks need into memory, without waiting for it."""
        if not hasattr(os, "posix_fadvise"):
            return
        for runs in self.runs.values():
            for array, start, length in _stretches(runs, self.plan.blocks[blocks], self.reader.extent):
                os.posix_fadvise(opened(array).number, start, length, os.POSIX_FADV_WILLNEED)

    def _side(self, side: Side, sample: np.ndarray, time: np.ndarray, *, check: bool) -> Tensor:
        tensor = torch.empty((len(sample), *side.shape))  # NumPy asks for huge pages, which are cleared first
        out = tensor.numpy()
        for column in side.columns:
            target = out[:, column.first : column.first + column.count]
            moves = "time" in self.reader.arrays[column.variable].dims
            steps = time + column.offset if moves else np.zeros_like(time)
            if column.variable in self.runs:
                self._copy(column.variable, target, sample, steps, check=check)
            else:
                self._fill(column, target, sample, steps, len(side.dims))
        return tensor

    def _copy(self, name: str, target: np.ndarray, sample: np.ndarray, time: np.ndarray, *, check: bool) -> None:
        """Read steps to their channels; by way of a row in the order of the file where that is another one."""
        runs = self.runs[name]
        files = [opened(array) for array in runs.arrays] if len(runs.arrays) <= len(sample) else None
        as_stored = runs.order == tuple(range(target.ndim - 1))
        row = np.empty([target.shape[1 + axis] for axis in runs.order], np.float32)  # in the order of the file
        turned = row.transpose(np.argsort(runs.order))
        places = zip(target, runs.array[sample].tolist(), runs.offsets(sample, time).tolist(), strict=True)
        for k, (channels, number, offset) in enumerate(places):
            array = runs.arrays[number]
            pread(array, files[number] if files else opened(array), channels if as_stored else row, offset)
            if not as_stored:
                channels[...] = turned
            if check:
                self._check(name, channels, int(sample[k]), int(time[k]))

    def _fill(self, column: Column, target: np.ndarray, sample: np.ndarray, time: np.ndarray, space: int) -> None:
        """Channels that are constant in space, from memory."""
        dims = self.reader.arrays[column.variable].dims
        values = self.reader.arrays[column.variable].values
        at = tuple({"sample": sample, "time": time}[str(dim)] for dim in dims if dim != "channel")
        chosen = np.broadcast_to(values[at] if at else values, (len(sample), *values.shape[len(at) :]))
        target[...] = chosen.reshape(len(sample), column.count, *[1] * space)

    def _check(self, name: str, channels: np.ndarray, sample: int, time: int) -> None:
        """Refuse values that are not finite."""
        dims = self.reader.arrays[name].dims
        values = channels if "channel" in dims else channels[0]
        values = values[tuple(None for dim in dims if dim in ("sample", "time"))]
        self.reader.finite(name, values, {"sample": sample, "time": time})


def _stretches(runs: Runs, blocks: np.ndarray, extent: int) -> Iterator[tuple[H5Array, int, int]]:
    """Bytes of a dataset that blocks need, neighbours joined: (dataset, first byte, length)."""
    sample = np.concatenate([np.arange(first, last) for first, last, _, _ in blocks.tolist()])
    counts = blocks[:, 1] - blocks[:, 0]
    start = runs.offsets(sample, np.repeat(blocks[:, 2], counts))
    end = runs.offsets(sample, np.repeat(blocks[:, 3] + extent - 2, counts)) + runs.count * FLOAT.itemsize
    order = np.lexsort((start, runs.array[sample]))
    number, start, end = runs.array[sample][order], start[order], end[order]
    edges = np.flatnonzero((np.diff(number) != 0) | (start[1:] > end[:-1])) + 1
    for piece in np.split(np.arange(len(start)), edges):
        first = int(start[piece[0]])
        yield runs.arrays[int(number[piece[0]])], first, int(end[piece].max()) - first


def file_windows(reader: Reader, plan: Plan) -> FileWindows | None:
    """The windows of a plan straight from the files; None where they are not made of long runs of float32 values."""
    found: dict[str, Runs] = {}
    for side in reader.sides:
        for column in side.columns:
            source, array = reader.sources[column.variable], reader.arrays[column.variable]
            if isinstance(source, LoadedSource) and set(array.dims) <= {"sample", "time", "channel"}:
                continue
            runs = _runs(source, side) if isinstance(source, FileSource) and array.dims[0] == "sample" else None
            if runs is None or runs.count * FLOAT.itemsize < SHORT_RUN:
                return None
            found[column.variable] = runs
    return FileWindows(reader, plan, found) if found else None


def _runs(source: FileSource, side: Side) -> Runs | None:
    """Where the steps of a variable lie; None where one of them is not one run, or fills only a part of the grid."""
    inner = list(dict.fromkeys([*(axis for axis in source.layout if axis not in ("sample", "time")), "channel"]))
    names = ["channel", *side.dims]
    if sorted(inner) != sorted(names):
        return None
    array, first, stride = (np.full(source.shape[0], -1, np.int64) for _ in range(3))
    for number, part in enumerate(source.parts):
        found = _part(part, source)
        if found is None or part.axes != source.parts[0].axes:
            return None
        rows = slice(part.start[0], part.start[0] + part.shape[0])
        array[rows], first[rows], stride[rows] = number, *found
    if not (array >= 0).all():
        return None
    sizes = dict(zip(source.dims, source.shape, strict=True))
    count = math.prod(size for dim, size in sizes.items() if dim not in ("sample", "time"))
    order = tuple(names.index(axis) for axis in inner)
    return Runs(tuple(part.array for part in source.parts), array, first, stride, count, order)


def _part(part: Part, source: FileSource) -> tuple[np.ndarray, int] | None:
    """First bytes of the simulations of a part and the distance of its steps; None where a step is not one run."""
    array = part.array
    if way_of_reading(array) != "direct" or array.stored != FLOAT or not _is_whole(part, source):
        return None
    leading = [axis for dim, axis in zip(source.dims, part.axes, strict=True) if dim in ("sample", "time")]
    inner = sorted(axis for axis in part.axes if axis is not None and axis not in leading)
    whole = all(part.index[axis] == range(array.shape[axis]) for axis in inner if isinstance(part.index[axis], range))
    if not whole or inner != list(range(array.ndim - len(inner), array.ndim)):
        return None
    if not all(isinstance(part.index[axis], range) for axis in inner):
        return None
    strides = [math.prod(array.shape[axis + 1 :]) * FLOAT.itemsize for axis in range(array.ndim)]
    chosen = [axis for axis in range(array.ndim) if axis not in inner and axis not in leading]
    base = (array.offset or 0) + sum(int(part.index[axis][0]) * strides[axis] for axis in chosen)
    return _placed(part, source.dims, strides, base)


def _is_whole(part: Part, source: FileSource) -> bool:
    """Whether a part has all of its simulations but, at most, steps at the end that they lack."""
    lengths = zip(source.dims, part.shape, source.shape, strict=True)
    others = all(size == whole for dim, size, whole in lengths if dim not in ("sample", "time"))
    return others and not any(part.start[1:])


def _placed(part: Part, dims: Sequence[str], strides: Sequence[int], base: int) -> tuple[np.ndarray, int] | None:
    """First bytes and distance of steps, from the indices of the simulations and steps that a part takes."""
    first, stride = np.full(part.shape[0], base, np.int64), 0
    for dim, axis in zip(dims, part.axes, strict=True):
        if axis is None or dim not in ("sample", "time"):
            continue
        index = part.index[axis]
        if dim == "sample":
            first += np.asarray(index) * strides[axis]
        elif not isinstance(index, range):
            return None
        else:
            first += index.start * strides[axis]
            stride = index.step * strides[axis]
    return first, stride
