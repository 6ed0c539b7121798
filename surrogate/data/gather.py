"""From blocks of a plan to tensors: one read per block, checked for non-finite values."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import dask
import numpy as np
import torch
import xarray as xr
from dask import threaded
from torch import Tensor

from surrogate.checks import DataError
from surrogate.data.columns import Side, canonical, pick
from surrogate.data.mapping import LEADING
from surrogate.data.plan import Plan

__all__ = ["Buffer", "Reader", "chunks_of"]


class Buffer:
    """The windows of some blocks of a plan, in memory.

    Arguments:
        plan: The plan.
        blocks: Its blocks that are held, in increasing order.
        inputs: Windows of the blocks one after another, with shape (windows, C, *S).
        targets: Likewise.
    """

    def __init__(self, plan: Plan, blocks: np.ndarray, inputs: Tensor, targets: Tensor) -> None:
        self.blocks, self.inputs, self.targets = blocks, inputs, targets
        self.first = plan.offsets[blocks]
        self.rows = np.concatenate([[0], np.cumsum(plan.sizes[blocks])]).astype(np.int64)

    def take(self, windows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets of windows by their number, copied."""
        slot = np.searchsorted(self.first, windows, side="right") - 1
        rows = torch.from_numpy(self.rows[slot] + windows - self.first[slot])
        return self.inputs.index_select(0, rows), self.targets.index_select(0, rows)


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
        self.origin = ds["origin"] if "origin" in ds.variables else None
        for name, array in self.arrays.items():
            if not set(array.dims) - set(LEADING) or not set(array.dims) & {"sample", "time"}:  # few: read once
                self.arrays[name] = array.compute(scheduler=threaded.get)

    def allocate(self, windows: int) -> list[Tensor]:
        """Room for inputs and targets; one and the same where they have the same channels."""
        inputs = torch.empty((windows, *self.sides[0].shape))
        same = self.sides[0].columns == self.sides[1].columns
        return [inputs, inputs if same else torch.empty((windows, *self.sides[1].shape))]

    def read(
        self, plan: Plan, blocks: np.ndarray, room: Sequence[Tensor], *, stop: threading.Event, pool: Executor
    ) -> Buffer:
        """The windows of some blocks, read into `room` by the threads of `pool`; gives up once `stop` is set."""
        row = 0
        for block, size in zip(plan.blocks[blocks], plan.sizes[blocks], strict=True):
            if stop.is_set():
                break
            self._fill([tensor[row : row + size] for tensor in room], block.tolist(), pool)
            row += size
        return Buffer(plan, blocks, *(tensor[:row] for tensor in room))

    def _fill(self, rows: Sequence[Tensor], block: Sequence[int], pool: Executor) -> None:
        first, last, start, end = block
        values = self._load(first, last, start, end + self.extent - 1, pool)
        filled = {}
        for side, tensor in zip(self.sides, rows, strict=True):
            filled[tensor.data_ptr()] = tensor.numpy().reshape(last - first, end - start, *side.shape), side
        for target, side in filled.values():
            for column in side.columns:
                part = canonical(values[column.variable], self.arrays[column.variable], side.dims)
                if "time" in self.arrays[column.variable].dims:
                    part = part[:, column.offset : column.offset + end - start]
                target[:, :, column.first : column.first + column.count] = part

    def _load(self, first: int, last: int, start: int, end: int, pool: Executor) -> dict[str, np.ndarray]:
        """Values of all variables in a box of simulations and time steps, finite and float32."""
        box = {"sample": slice(first, last), "time": slice(start, end)}
        lazy = [a.data[tuple(box.get(str(dim), slice(None)) for dim in a.dims)] for a in self.arrays.values()]
        loaded: Sequence[Any] = dask.compute(*lazy, scheduler=threaded.get, pool=pool)
        return {
            name: self._finite(name, values, {"sample": first, "time": start})
            for name, values in zip(self.arrays, loaded, strict=True)
        }

    def _finite(self, name: str, stored: np.ndarray, start: dict[str, int]) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.asarray(stored, np.float32)
            if np.isfinite(values.sum()):  # a sum is much cheaper than a test of every value
                return values
        bad = np.argwhere(~np.isfinite(values))
        if len(bad) == 0:
            return values
        index = [int(i) + start.get(str(dim), 0) for i, dim in zip(bad[0], self.arrays[name].dims, strict=True)]
        raise DataError(self._complaint(name, index, float(stored[tuple(bad[0])]), len(bad)))

    def _complaint(self, name: str, index: list[int], value: float, count: int) -> str:
        place = dict(zip(map(str, self.arrays[name].dims), index, strict=True))
        shown = ", ".join(f"{dim} {position}" for dim, position in place.items())
        origin = ""
        if self.origin is not None and "sample" in place:
            origin = f" of {self.origin.values[place['sample']]}"
        what = f"holds {value}" if not np.isfinite(value) else f"holds {value:g}, too large for float32,"
        more = f" and {count - 1} more in this block" if count > 1 else ""
        remedy = "rescale it" if np.isfinite(value) else "mend the file or leave that simulation out"
        return f"variable '{name}'{origin} {what} at [{shown}]{more}; {remedy}"


def chunks_of(array: xr.DataArray, dim: str) -> tuple[int, ...]:
    """Chunks of a variable along an axis; single entries where it is in memory."""
    if dim not in array.dims:
        return (1,)
    if array.chunks is None:
        return tuple(itertools.repeat(1, array.sizes[dim]))
    return array.chunks[array.dims.index(dim)]
