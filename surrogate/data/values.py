"""Summarise the values of a variable: all of them, or blocks of a large one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from surrogate.data.formats.lazy import BLOCK_BYTES, block_shape
from surrogate.data.hdf5.array import H5Array

__all__ = ["ValueReport", "look"]

ALL_BYTES = 64_000_000  # values of a variable up to this size are all looked at
SAMPLED_BLOCKS = 3


@dataclass(frozen=True)
class ValueReport:
    """Summary of the values of a variable.

    Arguments:
        looked_at: Number of values that were read.
        all: Whether these are all values; otherwise blocks at the start, in the middle and at the end.
        nan: NaN among them.
        inf: Infinities among them.
        minimum: Smallest finite value; None where there is none.
        maximum: Largest finite value.
    """

    looked_at: int
    all: bool
    nan: int
    inf: int
    minimum: float | None
    maximum: float | None

    @property
    def constant(self) -> bool:
        return self.minimum is not None and self.minimum == self.maximum


def look(array: H5Array) -> ValueReport:
    """Count and bound the values: all of them, or blocks at the start, in the middle and at the end."""
    everything = math.prod(array.shape) * array.dtype.itemsize <= ALL_BYTES or not array.ndim
    blocks = [np.asarray(values, np.float64) for values in _blocks(array, everything)]
    finite = [block[np.isfinite(block)] for block in blocks]
    finite = [block for block in finite if block.size]
    return ValueReport(
        looked_at=sum(block.size for block in blocks),
        all=everything,
        nan=sum(int(np.isnan(block).sum()) for block in blocks),
        inf=sum(int(np.isinf(block).sum()) for block in blocks),
        minimum=min((float(block.min()) for block in finite), default=None),
        maximum=max((float(block.max()) for block in finite), default=None),
    )


def _blocks(array: H5Array, everything: bool) -> Iterator[np.ndarray]:
    if everything:
        yield array[...]
        return
    axes = ("sample", *("time" if array.ndim > 3 else "x",) * (array.ndim > 1), *"x" * (array.ndim - 2))
    block = block_shape(array.shape, axes, array.chunks, array.dtype.itemsize)
    limit = max(1, BLOCK_BYTES * 4 // max(1, math.prod(block) // block[0] * array.dtype.itemsize))
    last = array.shape[0] - 1
    for position in np.unique(np.linspace(0, last, SAMPLED_BLOCKS).astype(int)).tolist():
        yield array[position : position + min(block[0], limit)]
