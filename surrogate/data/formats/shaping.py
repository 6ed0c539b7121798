"""Axes of declared variables: split, merged, dropped; times of several files on one clock."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from surrogate.data.formats.lazy import BLOCK_BYTES, lazy
from surrogate.data.mapping import NO_AXIS, Axis, in_order
from surrogate.errors import DataError

__all__ = ["SINCE", "reshaped", "with_one_clock"]

SINCE = re.compile(r"^\s*\w+\s+since\s+\S+", re.IGNORECASE)


def reshaped(
    values: Any,
    axes: Sequence[Axis],
    leading: Sequence[str],
    rename: Callable[[str], str],
    known: dict[str, Any],
    where: str,
) -> xr.Variable:
    """Split flat axes in C order, merge axes in blocks, drop axes of length 1."""
    dims, shape, chunks = list(leading), list(values.shape[: len(leading)]), [1] * len(leading)
    for axis, size in zip(axes, values.shape[len(leading) :], strict=True):
        parts = axis if isinstance(axis, dict) else {axis: size}
        if math.prod(parts.values()) != size or (axis == NO_AXIS and size != 1):
            product = " x ".join(map(str, parts.values())) if isinstance(axis, dict) else "1"
            raise DataError(f"{where}: an axis has {size} entries, but the layout declares {product}; correct its axes")
        inner = size // next(iter(parts.values()))
        leads = isinstance(axis, dict) and rename(next(iter(parts))) in ("sample", "time")
        chunks.append(inner * max(1, BLOCK_BYTES // (inner * values.dtype.itemsize)) if leads else size)
        dims += [f"{rename(name)}#{dims.count(name)}{len(dims)}" for name in parts]
        shape += list(parts.values())
    eager = isinstance(values, np.ndarray | da.Array)
    blocks = tuple(map(min, chunks, values.shape))
    data = values if eager else lazy(values, tuple(f"axis{i}" for i in range(values.ndim)), blocks)
    variable = xr.Variable(dims, data.reshape(shape), known)
    names = dict.fromkeys(dim.partition("#")[0] for dim in dims)
    for name in names:
        own = [str(dim) for dim in variable.dims if str(dim).partition("#")[0] == name]
        if name == NO_AXIS:
            variable = variable.isel(dict.fromkeys(own, 0))
        elif len(own) > 1:
            variable = _merged(variable, name, own)
        else:
            variable = xr.Variable([name if d == own[0] else d for d in variable.dims], variable.data, known)
    return variable.transpose(*in_order(variable.dims))


def _merged(variable: xr.Variable, name: str, blocks: Sequence[Any]) -> xr.Variable:
    """Merge the axes of blocks and of cells in a block into one."""
    place = variable.dims.index(blocks[-1])
    rest = [dim for dim in variable.dims if dim not in blocks]
    at = sum(dim not in blocks for dim in variable.dims[:place])
    variable = variable.transpose(*rest[:at], *blocks, *rest[at:])
    size = math.prod(variable.sizes[dim] for dim in blocks)
    shape = [*variable.shape[:at], size, *variable.shape[at + len(blocks) :]]
    return xr.Variable([*rest[:at], name, *rest[at:]], variable.data.reshape(shape), variable.attrs)


def with_one_clock(pieces: Sequence[xr.Variable]) -> Sequence[xr.Variable]:
    """Times in units of the first piece, where each counts from a date of its own."""
    units = [str(piece.attrs.get("units", "")) for piece in pieces]
    if len(set(units)) == 1 or not all(SINCE.match(text) for text in units):
        return pieces
    joined = []
    for piece in pieces:
        dates = xr.coding.times.decode_cf_datetime(piece.values, piece.attrs["units"], piece.attrs.get("calendar"))
        numbers, _, _ = xr.coding.times.encode_cf_datetime(dates, units[0], piece.attrs.get("calendar"))
        joined.append(xr.Variable(piece.dims, np.asarray(numbers, np.float64), pieces[0].attrs))
    return joined
