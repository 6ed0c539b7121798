"""Lazy, named variables from the datasets of a file, in blocks that follow its chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from surrogate.data.formats.stack import H5Stack
from surrogate.data.formats.variables import FileVariable
from surrogate.data.hdf5.array import H5Array
from surrogate.data.mapping import in_order
from surrogate.errors import DataError

__all__ = ["BLOCK_BYTES", "assemble", "block_shape", "lazy", "lazy_variable"]

BLOCK_BYTES = 8_000_000
BLOCK_OBJECTS = 512  # datasets of a file that are read together
EAGER_BYTES = 16_000_000  # coordinates and static variables up to this size are read at once


def assemble(variables: Sequence[FileVariable], file: Path) -> xr.Dataset:
    """Assemble the variables of a file into a data set.

    Raises:
        DataError: An axis has another length in one variable than in another.
    """
    _check_lengths(variables, file)
    ds = xr.Dataset({v.name: lazy_variable(v) for v in variables if not v.is_coordinate})
    return ds.assign_coords({v.name: lazy_variable(v) for v in variables if v.is_coordinate})


def _check_lengths(variables: Sequence[FileVariable], file: Path) -> None:
    seen: dict[str, tuple[int, str]] = {}
    for variable in variables:
        for axis, size in zip(variable.axes, variable.values.shape, strict=True):
            known, name = seen.setdefault(axis, (size, variable.name))
            if known != size:
                raise DataError(
                    f"{file}: axis '{axis}' has {known} entries in '{name}' but {size} in '{variable.name}'; "
                    "check the order of the declared axes, or give the second axis another name"
                )


def lazy_variable(variable: FileVariable) -> xr.Variable:
    """Return a variable with axes sample, time, channel, space; coordinates and small ones are read at once."""
    values = variable.values
    small = math.prod(values.shape) * values.dtype.itemsize <= EAGER_BYTES
    if isinstance(values, np.ndarray | da.Array):
        data: Any = values
    elif small and (variable.is_coordinate or len(variable.axes) <= 1):
        data = values[...]
    else:
        data = lazy(values, variable.axes)
    return xr.Variable(variable.axes, data, variable.attributes).transpose(*in_order(variable.axes))


def lazy(array: H5Array | H5Stack, axes: tuple[str, ...], blocks: tuple[int, ...] | None = None) -> da.Array:
    """Make a dask array that reads a dataset in blocks: these, or whole chunks and whole snapshots."""
    first = array.first if isinstance(array, H5Stack) else array
    last = array.arrays[-1] if isinstance(array, H5Stack) else array
    name = f"read-{first.path.strip('/')}-{tokenize(str(first.file), first.path, first.stamp, array.shape, str(last))}"
    chunks = blocks or block_shape(array.shape, axes, array.chunks, array.dtype.itemsize)
    if isinstance(array, H5Stack):  # one simulation of thousands is read without the others
        chunks = (min(chunks[0], max(1, BLOCK_OBJECTS // array.objects)), *chunks[1:])
    meta = np.empty((0,) * array.ndim, array.dtype)
    return da.from_array(array, chunks, name=name, lock=False, fancy=False, meta=meta)


def block_shape(
    shape: Sequence[int], axes: Sequence[str], chunks: Sequence[int] | None, itemsize: int
) -> tuple[int, ...]:
    """Choose the blocks in which a variable is read: whole chunks, whole snapshots, about 8 MB.

    Arguments:
        shape: Shape of the variable.
        axes: Names of its axes.
        chunks: Chunks of the file; None where there are none.
        itemsize: Bytes of a value.
    """
    block = [
        min(chunks[axis] if chunks else 1, size) if name in ("sample", "time") else size
        for axis, (name, size) in enumerate(zip(axes, shape, strict=True))
    ]
    for name in ("time", "sample"):  # a simulation as a whole first: its steps are contiguous
        if name in axes:
            axis = list(axes).index(name)
            fits = max(1, BLOCK_BYTES // (math.prod(block) * itemsize))
            block[axis] = min(shape[axis], block[axis] * fits)
    return tuple(block)
