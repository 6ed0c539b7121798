"""Read windows straight from the files, where each one is a few long runs of bytes.

Contiguous values need no buffer of our own: the page cache of the system is one. It is asked to fetch the next group of
blocks while the windows of one group are copied from it to batches.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from surrogate.data.hdf5.array import H5Array
from surrogate.data.hdf5.origin import Part
from surrogate.data.hdf5.reading import SHORT_RUN, opened, pread, way_of_reading
from surrogate.data.streaming.buffer import Reader
from surrogate.data.streaming.channels import Column, Side
from surrogate.data.streaming.read_plan import ReadPlan
from surrogate.data.streaming.sources import FileSource, LoadedSource

__all__ = ["FileWindows", "file_windows"]

FLOAT = np.dtype(np.float32)
PORTION_BYTES = 1_000_000


@dataclass(frozen=True, eq=False)
class Runs:
    """Byte offsets of the steps of a variable: step t of simulation s is `count` values at `first[s] + t stride[s]`.

    Arguments:
        arrays: Datasets.
        array: Number of the dataset of each simulation.
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
        """Return the first byte of steps."""
        return self.first[sample] + time * self.stride[sample]


class FileWindows:
    """The windows of a plan, read from the files when they are taken.

    Arguments:
        reader: Reader of the variables.
        plan: The plan.
        runs: Byte offsets of the variables in files; the others are in memory.
    """

    def __init__(self, reader: Reader, plan: ReadPlan, runs: dict[str, Runs]) -> None:
        self.reader, self.plan, self.runs = reader, plan, runs
        self._checked = np.zeros(plan.windows, bool)
        self._holes = False  # True once a value was decoded as missing; until then checked windows have none

    def fill(self, windows: np.ndarray, tensors: Sequence[Tensor]) -> None:
        """Read windows by their number to inputs and targets; to one tensor where both have the same channels."""
        sample, time = self.plan.locate(windows)
        unchecked = not self._checked[windows].all()
        for tensor, side in zip(tensors, self.reader.sides, strict=False):
            self._fill_side(tensor.numpy(), side, sample, time, check=unchecked)
        self._checked[windows] = True  # files do not change: `check` ensures it

    def check(self) -> None:
        """Raise DataError where a file changed."""
        for array in {array.file: array for runs in self.runs.values() for array in runs.arrays}.values():
            array.check()

    def fetch(self, blocks: np.ndarray) -> None:
        """Ask the system to read blocks into its page cache, without waiting for it."""
        if not hasattr(os, "posix_fadvise"):
            return
        for runs in self.runs.values():
            for array, start, length in _byte_ranges(runs, self.plan.blocks[blocks], self.reader.extent):
                os.posix_fadvise(opened(array).number, start, length, os.POSIX_FADV_WILLNEED)

    def _fill_side(self, out: np.ndarray, side: Side, sample: np.ndarray, time: np.ndarray, *, check: bool) -> None:
        for column in side.columns:
            target = out[:, column.first : column.first + column.count]
            moves = "time" in self.reader.arrays[column.variable].dims
            steps = time + column.offset if moves else np.zeros_like(time)
            if column.variable in self.runs:
                self._copy(column.variable, target, sample, steps, check=check)
            else:
                self._fill(column, target, sample, steps, len(side.dims))

    def _copy(self, name: str, target: np.ndarray, sample: np.ndarray, time: np.ndarray, *, check: bool) -> None:
        """Read steps to their channels, in portions that stay in the cache while they are checked and their axes moved.

        Raises:
            DataError: A value is not finite.
        """
        runs, axes = self.runs[name], target.ndim - 1
        moved = runs.order != tuple(range(axes))
        to_channels = (0, *(1 + np.argsort(runs.order)))
        portion = max(1, PORTION_BYTES // (runs.count * FLOAT.itemsize) if moved or check else len(sample))
        held = np.empty((portion, *(target.shape[1 + axis] for axis in runs.order)), np.float32) if moved else target
        for first in range(0, len(sample), portion):
            here = slice(first, first + portion)
            out, which, when = target[here], sample[here], time[here]
            part = held[: len(out)] if moved else out
            self._read(runs, runs.array[which], runs.offsets(which, when), part, check=check)
            if moved:
                out[...] = part.transpose(to_channels)
            if check:
                self._refuse_non_finite(name, out, which, when)

    def _read(self, runs: Runs, number: np.ndarray, offsets: np.ndarray, into: np.ndarray, *, check: bool) -> None:
        """Read one step to each row, in one call where rows follow one another in a file, and mark missing values."""
        follows = (number[1:] == number[:-1]) & (np.diff(offsets) == runs.count * FLOAT.itemsize)
        if not into.flags.c_contiguous:
            follows[:] = False
        starts = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(into)]
        held = -1
        for (first, end), of_rows, offset in zip(
            itertools.pairwise(starts), number[starts[:-1]].tolist(), offsets[starts[:-1]].tolist(), strict=True
        ):
            if of_rows != held:
                held, array = of_rows, runs.arrays[of_rows]
                file = opened(array)
            rows = into[first:end]
            pread(array, file, rows, offset)
            if array.decoding is not None and (check or self._holes):
                self._holes = array.decoding.mask(rows) or self._holes

    def _refuse_non_finite(self, name: str, values: np.ndarray, sample: np.ndarray, time: np.ndarray) -> None:
        """Raise DataError where a step (C, *S) of a variable has a value that is not finite, and is not masked."""
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(values.sum()):  # a sum is much cheaper than a test of every value
                return
        dims = self.reader.arrays[name].dims
        for step, which, when in zip(values, sample.tolist(), time.tolist(), strict=True):
            stored = step if "channel" in dims else step[0]
            stored = stored[tuple(None for dim in dims if dim in ("sample", "time"))]
            self.reader.finite(name, stored, {"sample": which, "time": when})

    def _fill(self, column: Column, target: np.ndarray, sample: np.ndarray, time: np.ndarray, space: int) -> None:
        """Fill channels that are constant in space, from memory."""
        dims = self.reader.arrays[column.variable].dims
        values = self.reader.arrays[column.variable].values
        at = tuple({"sample": sample, "time": time}[str(dim)] for dim in dims if dim != "channel")
        chosen = np.broadcast_to(values[at] if at else values, (len(sample), *values.shape[len(at) :]))
        target[...] = chosen.reshape(len(sample), column.count, *[1] * space)


def _byte_ranges(runs: Runs, blocks: np.ndarray, extent: int) -> Iterator[tuple[H5Array, int, int]]:
    """Yield the bytes that blocks need, neighbours joined: (dataset, first byte, length)."""
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


def file_windows(reader: Reader, plan: ReadPlan) -> FileWindows | None:
    """Return the windows of a plan from the files; None where they are not made of long runs of float32 values."""
    in_files: dict[str, Runs] = {}
    for side in reader.sides:
        for column in side.columns:
            source, array = reader.sources[column.variable], reader.arrays[column.variable]
            if isinstance(source, LoadedSource) and set(array.dims) <= {"sample", "time", "channel"}:
                continue
            if not isinstance(source, FileSource) or array.dims[0] != "sample":
                return None
            names = ["channel", *side.dims]
            inner = dict.fromkeys([*(axis for axis in source.layout if axis not in ("sample", "time")), "channel"])
            if sorted(inner) != sorted(names):
                return None
            held, first, stride = (np.full(source.shape[0], -1, np.int64) for _ in range(3))
            for number, part in enumerate(source.parts):
                placed = _place(part, source)
                if placed is None or part.axes != source.parts[0].axes:
                    return None
                rows = slice(part.start[0], part.start[0] + part.shape[0])
                held[rows], first[rows], stride[rows] = number, *placed
            sizes = zip(source.dims, source.shape, strict=True)
            count = math.prod(size for dim, size in sizes if dim not in ("sample", "time"))
            if not (held >= 0).all() or count * FLOAT.itemsize < SHORT_RUN:
                return None
            arrays, order = tuple(part.array for part in source.parts), tuple(names.index(axis) for axis in inner)
            in_files[column.variable] = Runs(arrays, held, first, stride, count, order)
    return FileWindows(reader, plan, in_files) if in_files else None


def _place(part: Part, source: FileSource) -> tuple[np.ndarray, int] | None:
    """Return first bytes of the simulations of a part and the distance of its steps; None if a step is not one run."""
    array = part.array
    lengths = zip(source.dims, part.shape, source.shape, strict=True)
    complete = all(size == full for dim, size, full in lengths if dim not in ("sample", "time"))
    if array.decoding is not None and not array.decoding.masks_only:
        return None
    if way_of_reading(array) != "direct" or array.stored != FLOAT or not complete or any(part.start[1:]):
        return None  # a part may lack steps at the end that its simulations do not have
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
    first, stride = np.full(part.shape[0], base, np.int64), 0
    for dim, axis in zip(source.dims, part.axes, strict=True):
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
