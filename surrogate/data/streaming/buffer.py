"""Read blocks of a plan into tensors: every block once, checked for non-finite values."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import dask
import numpy as np
import torch
import xarray as xr
from dask import threaded
from dask.base import tokenize
from torch import Tensor

from surrogate.data.mapping import LEADING
from surrogate.data.streaming.channels import MASKED, Side, canonical, pick
from surrogate.data.streaming.read_plan import ReadPlan, merge_chunks
from surrogate.data.streaming.sources import LazySource, Source, make_source
from surrogate.errors import DataError

__all__ = ["Buffer", "Reader"]

PORTION_BYTES = 4_000_000  # read at a time: it stays in the cache while it is checked and copied to its channels
LARGE_ROW = 16_384  # bytes of a sample from which on samples are copied one by one
TOGETHER = 4  # blocks that dask computes at a time

Values = dict[str, np.ndarray]


class Buffer:
    """The windows of some blocks of a plan, in memory.

    Arguments:
        plan: The plan.
        blocks: Numbers of its blocks in this buffer, in increasing order.
        inputs: Windows of the blocks one after another, with shape (windows, C, *S), in any layout in memory.
        targets: Likewise.
    """

    def __init__(self, plan: ReadPlan, blocks: np.ndarray, inputs: Tensor, targets: Tensor) -> None:
        self.blocks, self.inputs, self.targets = blocks, inputs, targets
        self.first = plan.offsets[blocks]
        self.rows = np.concatenate([[0], np.cumsum(plan.sizes[blocks])]).astype(np.int64)

    def fill(self, windows: np.ndarray, tensors: Sequence[Tensor]) -> None:
        """Copy windows by their number to inputs and targets; to one tensor where both have the same channels."""
        if len(self.blocks) == 1:
            rows = windows - self.first[0]
        else:
            slot = np.searchsorted(self.first, windows, side="right") - 1
            rows = self.rows[slot] + windows - self.first[slot]
        for tensor, values in zip(tensors, (self.inputs, self.targets), strict=False):
            _gather(values, rows, tensor)


def _gather(values: Tensor, rows: np.ndarray, into: Tensor) -> None:
    """Copy rows of a tensor to a contiguous one."""
    if values.is_contiguous():
        torch.index_select(values, 0, torch.from_numpy(rows), out=into)
        return
    source, out = values.numpy(), into.numpy()
    if source[:1].nbytes < LARGE_ROW:
        inner = sorted(range(source.ndim), key=lambda axis: -source.strides[axis])  # axes in the order of memory
        out[...] = source.transpose(inner)[rows].transpose(np.argsort(inner))
    else:
        for target, row in zip(out, rows.tolist(), strict=True):  # gathers and transposes in one pass
            target[...] = source[row]


class Reader:
    """Reads blocks of windows from a data set.

    Arguments:
        ds: The data.
        inputs: Channels of the inputs.
        targets: Channels of the targets.
        extent: Time steps that a window spans.
    """

    def __init__(self, ds: xr.Dataset, inputs: Side, targets: Side, extent: int) -> None:
        self.sides, self.extent = (inputs, targets), extent
        names = dict.fromkeys(column.variable for side in self.sides for column in side.columns)
        self.arrays = {name: pick(ds, name) for name in names}
        self.ds = ds[list(names)]
        self.origin = ds["origin"] if "origin" in ds.variables else None
        for name, array in self.arrays.items():
            if not set(array.dims) - set(LEADING) or not set(array.dims) & {"sample", "time"}:  # small: read once
                self.arrays[name] = array.compute(scheduler=threaded.get)
        self.sources: dict[str, Source] = {name: make_source(array) for name, array in self.arrays.items()}
        main = max(self.arrays.values(), key=lambda array: ("sample" in array.dims, array.nbytes))
        chunks = self.sources[str(main.name)].chunks("sample")
        sample_bytes = sum(array.nbytes for array in self.arrays.values()) // ds.sizes["sample"]
        joined = merge_chunks(chunks, max(1, PORTION_BYTES // max(1, sample_bytes)))
        self._edges = np.cumsum([0, *joined])
        self.masked = any(MASKED in self.arrays[column.variable].attrs for column in targets.columns)
        self._boxes_checked: set[tuple[str | int, ...]] = set()

    @property
    def reading(self) -> dict[str, str]:
        """Way of reading of each variable."""
        return {name: source.reading for name, source in self.sources.items()}

    def content(self) -> str:
        """Return a hash that changes with the values of the variables, their channels and the window.

        Values enter by the names of their dask arrays, which are made of path, size, modification time and inode of a
        file and of all operations on its values.
        """
        total = hashlib.sha256(repr((self.extent, self.sides)).encode())
        for name in self.sources:
            data = self.ds[name].variable
            total.update((data.data.name if data.chunks else tokenize(data.values)).encode())
        return total.hexdigest()[:16]

    def allocate(self, windows: int) -> list[Tensor]:
        """Allocate inputs and targets of windows; one tensor where both have the same channels."""
        inputs = self._allocate(self.sides[0], windows)
        return [inputs, inputs if self.shared else self._allocate(self.sides[1], windows)]

    @property
    def shared(self) -> bool:
        """True where inputs and targets have the same channels, so that one tensor is both."""
        return self.sides[0].columns == self.sides[1].columns

    def _allocate(self, side: Side, windows: int) -> Tensor:
        """Allocate windows of a side; in the layout of the file where it is one variable, to read straight into it."""
        order = tuple(range(len(side.shape)))
        if len(side.columns) == 1:
            name = side.columns[0].variable
            axes = [axis for axis in self.sources[name].layout if axis not in ("sample", "time")]
            if set(axes) | {"channel"} == {"channel", *side.dims}:
                own = ["channel", *side.dims]
                order = tuple(own.index(axis) for axis in dict.fromkeys([*axes, "channel"]))
        memory = torch.empty((windows, *(side.shape[axis] for axis in order)))
        return memory.permute(0, *(1 + order.index(axis) for axis in range(len(order))))

    def read(
        self, plan: ReadPlan, blocks: np.ndarray, memory: Sequence[Tensor], *, stop: threading.Event, pool: Executor
    ) -> Buffer:
        """Read the windows of some blocks into `memory` with the threads of `pool`; give up once `stop` is set."""
        ends = np.cumsum(plan.sizes[blocks]).tolist()
        rows = [slice(a, b) for a, b in itertools.pairwise([0, *ends])]
        for first in range(0, len(blocks), TOGETHER if self._lazy else max(1, len(blocks))):
            some = blocks[first : first + TOGETHER] if self._lazy else blocks
            computed = self._compute(plan.blocks[some], pool)
            parts = zip(rows[first : first + len(some)], plan.blocks[some].tolist(), computed, strict=True)
            jobs = [
                pool.submit(self._fill, [tensor[at] for tensor in memory], block, values, stop)
                for at, block, values in parts
            ]
            try:
                for job in jobs:
                    job.result()
            finally:
                for job in jobs:
                    job.cancel()
        inputs = memory[0][: ends[-1] if ends else 0]
        return Buffer(plan, blocks, inputs, inputs if memory[1] is memory[0] else memory[1][: len(inputs)])

    @property
    def _lazy(self) -> dict[str, LazySource]:
        return {name: source for name, source in self.sources.items() if isinstance(source, LazySource)}

    def _compute(self, blocks: np.ndarray, pool: Executor) -> list[Values]:
        """Compute the lazy variables of each block with dask."""
        if not self._lazy:
            return [{} for _ in blocks]
        wanted = [
            {name: source.lazy[self._box(name, block)] for name, source in self._lazy.items()}
            for block in blocks.tolist()
        ]
        (computed,) = dask.compute(wanted, scheduler=threaded.get, pool=pool)
        return computed

    def _box(self, name: str, block: Sequence[int]) -> tuple[slice, ...]:
        """Return the box of a variable for a block of windows, including the later steps of its last windows."""
        first, last, start, end = block
        box = {"sample": slice(first, last), "time": slice(start, end + self.extent - 1)}
        array = self.arrays[name]
        return tuple(box.get(str(dim), slice(0, size)) for dim, size in array.sizes.items())

    def _fill(self, rows: Sequence[Tensor], block: Sequence[int], computed: Values, stop: threading.Event) -> None:
        """Read a block portion by portion and copy each to the channels of its windows."""
        first, last, start, end = block
        targets = {
            tensor.data_ptr(): (tensor.unflatten(0, (last - first, end - start)).numpy(), side)
            for side, tensor in zip(self.sides, rows, strict=True)
        }
        for (low, high), name in itertools.product(self._portions(first, last), self.sources):
            if stop.is_set():
                return
            box = self._box(name, [low, high, start, end])
            into = self._place(name, targets, low - first, high - first)
            if name in computed:
                moved = [
                    slice(low - first, high - first) if d == "sample" else slice(None) for d in self.arrays[name].dims
                ]
                values = computed[name][tuple(moved)]
            else:
                values = self.sources[name].read(box, into)
            values = self._checked(name, values, (low, high, start, end))
            for target, side in targets.values():
                if values is not into:
                    self._spread(name, values, target[low - first : high - first], side)

    def _place(self, name: str, targets: dict[int, tuple[np.ndarray, Side]], low: int, high: int) -> np.ndarray | None:
        """Return memory to read a variable into: it alone fills the channels, and every step starts a window."""
        array = self.arrays[name]
        if self.extent > 1 or len(targets) > 1 or "sample" not in array.dims:
            return None
        ((target, side),) = targets.values()
        if len(side.columns) > 1 or not set(side.dims) <= set(array.dims):
            return None
        own = ["sample", "time", "channel", *side.dims]
        return target[low:high][tuple(slice(None) if axis in array.dims else 0 for axis in own)]

    def _spread(self, name: str, values: np.ndarray, target: np.ndarray, side: Side) -> None:
        """Copy a variable to its channels of the windows (simulation, start, C, *S)."""
        array = self.arrays[name]
        for column in side.columns:
            if column.variable == name:
                part = canonical(values, array, side.dims)
                offset = column.offset if "time" in array.dims else 0
                channels = slice(column.first, column.first + column.count)
                target[:, :, channels] = part[:, offset : offset + target.shape[1]]

    def _portions(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Cut a run of simulations at the edges of chunks."""
        inner = self._edges[(self._edges > first) & (self._edges < last)].tolist()
        return itertools.pairwise([first, *inner, last])

    def _checked(self, name: str, stored: np.ndarray, box: tuple[int, ...]) -> np.ndarray:
        """Convert to float32; the values of a box are checked once, for a file that changes is refused."""
        if (name, *box) in self._boxes_checked:
            return np.asarray(stored, np.float32)
        values = self.finite(name, stored, {"sample": box[0], "time": box[2]})
        self._boxes_checked.add((name, *box))
        return values

    def finite(self, name: str, stored: np.ndarray, start: dict[str, int]) -> np.ndarray:
        """Convert the values of a box that begins at `start` to float32; refuse values that are not finite there."""
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.asarray(stored, np.float32)
            if np.isfinite(values.sum()):  # a sum is much cheaper than a test of every value
                return values
        bad = np.argwhere(np.isinf(values) if MASKED in self.arrays[name].attrs else ~np.isfinite(values))
        if len(bad) == 0:
            return values
        index = [int(i) + start.get(str(dim), 0) for i, dim in zip(bad[0], self.arrays[name].dims, strict=True)]
        raise DataError(self._complaint(name, index, float(stored[tuple(bad[0])]), len(bad)))

    def _complaint(self, name: str, index: list[int], value: float, count: int) -> str:
        """Say which value cannot be used, where it is, and what to do."""
        place = dict(zip(map(str, self.arrays[name].dims), index, strict=True))
        shown = ", ".join(f"{dim} {position}" for dim, position in place.items())
        origin = ""
        if self.origin is not None and "sample" in place:
            origin = f" of {self.origin.values[place['sample']]}"
        what = f"holds {value}" if not np.isfinite(value) else f"holds {value:g}, too large for float32,"
        more = f" and {count - 1} more in this block" if count > 1 else ""
        leave = "correct the file, or choose data.nonfinite: drop (without such simulations) or mask (such values)"
        remedy = "rescale it" if np.isfinite(value) else leave
        return f"variable '{name}'{origin} {what} at [{shown}]{more}; {remedy}"
