"""Inputs of a prediction: data in any layout, or a table of parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from torch import Tensor

from surrogate.data import Stream, Window
from surrogate.data.streaming.channels import MASKED
from surrogate.errors import DataError
from surrogate.models.signature import Signature, signature_of, variable_and_step
from surrogate.tables import Table, read_table

__all__ = ["Source", "source_of_data", "source_of_table", "source_of_values"]

BUFFER_BYTES = 256_000_000


@dataclass(frozen=True)
class Source:
    """Inputs in the order of the rows of the output: by simulation, then by first step of the window.

    Arguments:
        dataset: Where coordinates come from.
        stream: Batches of inputs.
    """

    dataset: xr.Dataset
    stream: Stream

    @property
    def samples(self) -> int:
        """Number of simulations."""
        return int(self.dataset.sizes["sample"])

    @property
    def starts(self) -> int:
        """Number of windows of a simulation; 1 if inputs have no time axis."""
        return self.stream.samples // self.samples

    @property
    def last_steps(self) -> np.ndarray | None:
        """Step of the last input of each window of a simulation; None if inputs have no time axis."""
        window = self.stream.window
        return None if window is None else np.arange(self.starts) + window.input_offsets[-1]

    def batches(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield numbers of rows (B,), and their inputs (B, C, *S)."""
        for batch in self.stream:
            yield (batch.sample * self.starts + batch.time).numpy(), batch.inputs


def source_of_data(signature: Signature, dataset: xr.Dataset, *, batch_size: int, first_window: bool = False) -> Source:
    """Return the inputs that a surrogate takes from a data set.

    Arguments:
        signature: Signature of the surrogate.
        dataset: Lazy data with axis `sample`; targets need not be in it.
        batch_size: Samples of a batch.
        first_window: Take the first window of every simulation alone.

    Raises:
        DataError: A variable is missing, or the data do not fit the surrogate.
    """
    steps = sorted({step for _, step in map(variable_and_step, signature.inputs) if step is not None})
    stride = steps[1] - steps[0] if len(steps) > 1 else 1
    window = Window(steps_in=len(steps), steps_out=0, stride=stride) if steps else None
    stream = _stream(signature, dataset, window, batch_size)
    signature.refuse_other(signature_of(stream, dataset), inputs_only=True)
    if first_window and window is not None:
        first = dataset.isel(time=slice(0, window.extent))
        return Source(first, _stream(signature, first, window, batch_size))
    return Source(dataset, stream)


def _stream(signature: Signature, dataset: xr.Dataset, window: Window | None, batch_size: int) -> Stream:
    names = signature.variables(signature.inputs)
    return Stream(dataset, names, names, batch_size=batch_size, window=window, shuffle=False, buffer_bytes=BUFFER_BYTES)


def source_of_table(signature: Signature, path: Path, *, batch_size: int) -> Source:
    """Return the inputs that a surrogate takes from a table with a header: one row per prediction.

    A column is named as the input, or `name.0`, `name.1` ... for the numbers of a vector. Columns with other names are
    ignored. If the surrogate takes a time, it is a column like any other.

    Raises:
        DataError: The surrogate takes fields, or the table does not have the inputs; the message names column and line.
    """
    moving = [name for name in signature.inputs if variable_and_step(name)[1] is not None]
    if moving not in ([], ["time[t+0]"]):
        raise DataError(f"{path}: the surrogate takes {', '.join(signature.inputs)}; give it an HDF5 file with fields")
    table = read_table(path)
    names = [name for name in signature.variables(signature.inputs) if not _is_place(signature, name, table)]
    return source_of_values(signature, {name: _values(signature, table, name) for name in names}, batch_size=batch_size)


def source_of_values(signature: Signature, values: Mapping[str, np.ndarray], *, batch_size: int) -> Source:
    """Return inputs of which every variable is a number or a vector of each sample.

    Arguments:
        signature: Signature of the surrogate.
        values: By name of the variable, with shape (n,) or (n, length); the places of points are those of the
            signature unless given.
        batch_size: Samples of a batch.
    """
    dataset = xr.Dataset(coords={"sample": np.arange(len(next(iter(values.values()))))})
    for name in signature.variables(signature.inputs):
        if name not in values:
            dataset[name] = xr.Variable((signature.point_axis,), np.array(signature.coordinates[name]))
            continue
        dims: tuple[str, ...] = ("sample",)
        if values[name].ndim > 1 and name in signature.components:
            dims = ("sample", f"{name}_channel")
            dataset = dataset.assign_coords({dims[1]: list(signature.components[name])})
        elif values[name].ndim > 1:
            dims = ("sample", *signature.input_grid)
        units = {"units": signature.units[name]} if name in signature.units else {}
        dataset[name] = xr.Variable(dims, values[name], units | ({MASKED: 1} if name in signature.masked else {}))
    return Source(dataset, _stream(signature, dataset, None, batch_size))


def _is_place(signature: Signature, name: str, table: Table) -> bool:
    """Return True for a coordinate of the points that the table does not give, but the training mesh does."""
    if name not in signature.positions or name in table.columns:
        return False
    if name not in signature.coordinates:
        raise DataError(
            f"{table.path}: the meshes of the training data differ, so points must be given; predict from an HDF5 "
            f"or NetCDF file with {', '.join(signature.positions)} along '{signature.point_axis}'"
        )
    return True


def _values(signature: Signature, table: Table, name: str) -> np.ndarray:
    """Return one input of every row: a number, or a vector along the one axis of the inputs."""
    axes, masked = list(signature.input_grid.items()), name in signature.masked
    numbered = [column for column in table.columns if re.fullmatch(rf"{re.escape(name)}\.\d+", column)]
    if name in table.columns and numbered:
        raise DataError(f"{table.path}: columns '{name}' and '{numbered[0]}' both give the input {name}; remove one")
    if name in table.columns or not axes or name in signature.parameters:
        return table.numbers([name], missing=masked)[:, 0]
    if len(axes) > 1:
        raise DataError(
            f"{table.path}: input '{name}' is a field on {', '.join(signature.input_grid)}; no table can hold it"
        )
    columns = [f"{name}.{index}" for index in range(axes[0][1])]
    if beyond := [column for column in numbered if column not in columns]:
        raise DataError(f"{table.path}: column '{beyond[0]}': input {name} has the columns {name}.0 to {columns[-1]}")
    return table.numbers(columns, missing=masked)
