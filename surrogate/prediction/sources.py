"""Inputs to predict from: data in any layout, or a table of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from torch import Tensor

from surrogate.data import Stream, Window
from surrogate.data.streaming.channels import MASKED
from surrogate.errors import DataError, did_you_mean
from surrogate.models.signature import Signature, signature_of, variable_and_step

__all__ = ["Source", "source_of_data", "source_of_table"]

BUFFER_BYTES = 256_000_000


@dataclass(frozen=True)
class Source:
    """Inputs in the order of the rows of the output: simulations, and within each the first steps of windows.

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
        """Number of windows of a simulation; 1 where inputs have no time axis."""
        return self.stream.samples // self.samples

    @property
    def last_steps(self) -> np.ndarray | None:
        """Step of the last input of each window of a simulation; None where inputs have no time axis."""
        window = self.stream.window
        return None if window is None else np.arange(self.starts) + window.input_offsets[-1]

    def batches(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Numbers of rows (B,), and their inputs (B, C, *S)."""
        for batch in self.stream:
            yield (batch.sample * self.starts + batch.time).numpy(), batch.inputs


def source_of_data(signature: Signature, dataset: xr.Dataset, *, batch_size: int, first_window: bool = False) -> Source:
    """The inputs that a surrogate takes from a data set.

    Arguments:
        signature: Signature of the surrogate.
        dataset: Lazy data with axis `sample`; targets need not be in it.
        batch_size: Samples of a batch.
        first_window: Take the first window of every simulation alone.

    Raises:
        DataError: A variable is missing, or the data do not fit the surrogate.
    """
    window = _window(signature)
    stream = _stream(signature, dataset, window, batch_size)
    signature.refuse_other(signature_of(stream, dataset), inputs_only=True)
    if first_window and window is not None:
        first = dataset.isel(time=slice(0, window.extent))
        return Source(first, _stream(signature, first, window, batch_size))
    return Source(dataset, stream)


def _stream(signature: Signature, dataset: xr.Dataset, window: Window | None, batch_size: int) -> Stream:
    names = signature.variables(signature.inputs)
    return Stream(dataset, names, names, batch_size=batch_size, window=window, shuffle=False, buffer_bytes=BUFFER_BYTES)


def _window(signature: Signature) -> Window | None:
    """The window of the inputs alone; None where they do not change in time."""
    steps = sorted({step for _, step in map(variable_and_step, signature.inputs) if step is not None})
    if not steps:
        return None
    stride = steps[1] - steps[0] if len(steps) > 1 else 1
    return Window(steps_in=len(steps), steps_out=0, stride=stride)


def source_of_table(signature: Signature, path: Path, *, batch_size: int) -> Source:
    """The inputs that a surrogate takes from a table with a header: one row per prediction.

    A column is named as the input, or `name.0`, `name.1` ... for the numbers of a vector. Other columns are left out.

    A time among the inputs is a column like any other.

    Raises:
        DataError: The surrogate takes fields, or the file is no such table; the message names column and row.
    """
    moving = [name for name in signature.inputs if variable_and_step(name)[1] is not None]
    if moving not in ([], ["time[t+0]"]):
        raise DataError(f"{path}: the surrogate takes {', '.join(signature.inputs)}; give it an HDF5 file with fields")
    table = _read_table(path)
    dataset = xr.Dataset(coords={"sample": np.arange(len(table))})
    for name in signature.variables(signature.inputs):
        dataset[name] = _variable(signature, table, name, path)
    return Source(dataset, _stream(signature, dataset, None, batch_size))


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: no table of comma-separated values with a header: {reason}") from error
    if table.empty:
        raise DataError(f"{path}: the table has no row; give one row per prediction")
    return table


def _variable(signature: Signature, table: pd.DataFrame, name: str, path: Path) -> xr.Variable:
    """One input of every row: a number, or a vector along the one axis of the inputs."""
    axes, masked = list(signature.input_grid.items()), name in signature.masked
    dims: tuple[str, ...] = ("sample",)
    if name in table.columns or not axes:
        values = _columns(table, [name], path, masked)[:, 0]
    elif len(axes) == 1:
        ((axis, length),) = axes
        columns = [f"{name}.{index}" for index in range(length)]
        values, dims = _columns(table, columns, path, masked), ("sample", axis)
    else:
        raise DataError(f"{path}: input '{name}' is a field on the axes {', '.join(signature.input_grid)}, no column")
    units = {"units": signature.units[name]} if name in signature.units else {}
    return xr.Variable(dims, values, units | ({MASKED: 1} if masked else {}))


def _columns(table: pd.DataFrame, names: list[str], path: Path, masked: bool) -> np.ndarray:
    """Numbers of some columns; of masked variables a cell may be empty."""
    for name in names:
        if name not in table.columns:
            raise DataError(f"{path}: no column '{name}'; {did_you_mean(name, map(str, table.columns))}")
    values = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    unusable = ~np.isfinite(values) & ~(table[names].isna().to_numpy() & masked)
    if unusable.any():
        row, column = np.argwhere(unusable)[0]
        raise DataError(
            f"{path}: column '{names[column]}', line {row + 2}: '{table[names[column]].iloc[row]}' is no finite number"
        )
    return values
