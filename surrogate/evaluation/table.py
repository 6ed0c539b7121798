"""Labelled data sets of numbers per scored pair of sample and time, and merging them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from surrogate.errors import DataError

__all__ = ["PAIR", "Columns", "Labels", "Rows", "collect", "gather", "grid", "join_tables"]

PAIR = ("sample", "time")
FIRST_ROWS = 1024  # that there is memory for from the start
MANY = 8  # steps that are listed one by one
Columns = dict[str, np.ndarray]
Axis = Sequence[Any] | np.ndarray | xr.DataArray


@dataclass(frozen=True)
class Labels:
    """Labels of the positions of an evaluation: variables, units, times, simulations.

    Arguments:
        variables: Names of the M target variables.
        units: Unit of every target variable; "" where unknown.
        times: Physical time of every step of the data; the index of the step without it; a `DataArray` keeps its units.
        simulations: Identity of every position along the sample axis of the data, the same for samples of one
            simulation; without it, the position.
        given: Positions in the window of the steps that are input to the predictor; recorded, not used.
        scored: Positions of the steps that it is scored on; recorded, not used.
    """

    variables: Sequence[str]
    units: Sequence[str] | None = None
    times: Axis | None = None
    simulations: Axis | None = None
    given: Sequence[int] = ()
    scored: Sequence[int] = ()

    def put_on(self, result: xr.Dataset) -> xr.Dataset:
        """Add time, simulation and units as coordinates, and the steps as attributes.

        Raises:
            DataError: A position has no label.
        """
        present = max(self.given, default=0)
        steps = {"steps_given": _steps(self.given, present), "steps_scored": _steps(self.scored, present)}
        return result.assign_coords(
            time=("time", _pick(self.times, result["step"].values), dict(getattr(self.times, "attrs", {}))),
            simulation=("sample", _pick(self.simulations, result["sample"].values)),
            units=("variable", list(self.units) if self.units is not None else [""] * len(self.variables)),
        ).assign_attrs(steps)


class Rows:
    """Rows of numbers that are added batch by batch.

    They are copied into arrays that double in length: small arrays kept from every batch, between the large temporary
    ones of that batch, would keep the memory of these from being used again.
    """

    def __init__(self) -> None:
        self._columns: Columns = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, columns: Columns) -> None:
        """Add the rows of a batch; every batch has the same columns."""
        count = self._count + len(next(iter(columns.values())))
        for name, values in columns.items():
            kept = self._columns.get(name, values[:0])
            if count > len(kept):
                longer = np.empty((max(count, 2 * len(kept), FIRST_ROWS), *values.shape[1:]), values.dtype)
                longer[: self._count] = kept[: self._count]
                self._columns[name] = kept = longer
            kept[self._count : count] = values
        self._count = count

    def columns(self) -> Columns:
        """Return all rows, in the order in which they came.

        Raises:
            DataError: There are none.
        """
        if not self._count:
            raise DataError("evaluation: the stream has no samples; check the split and the window")
        return {name: values[: self._count] for name, values in self._columns.items()}


def collect(parts: Sequence[Columns]) -> Columns:
    """Concatenate the rows of several parts, of which there is at least one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def grid(columns: Columns, dims: Mapping[str, Sequence[str]], coords: Mapping[str, Any]) -> xr.Dataset:
    """Arrange rows on dimensions (sample, time, ...), NaN where a pair of sample and time was not scored.

    Arguments:
        columns: `sample` and `step` with shape (rows,), and numbers with shape (rows, ...).
        dims: Names of the axes that follow the rows, by column.
        coords: Coordinates of those axes.

    Raises:
        DataError: A pair appears twice.
    """
    samples, row_sample = np.unique(columns["sample"], return_inverse=True)
    steps, row_step = np.unique(columns["step"], return_inverse=True)
    scored = np.zeros((len(samples), len(steps)), dtype=np.int64)
    np.add.at(scored, (row_sample, row_step), 1)
    if scored.max() > 1:
        sample, step = (int(index[0]) for index in np.nonzero(scored > 1))
        raise DataError(
            f"evaluation: sample {samples[sample]} at step {steps[step]} appears {scored[sample, step]} times; "
            "give a stream of one epoch"
        )
    fields = {}
    for name, axes in dims.items():
        values = np.full((*scored.shape, *columns[name].shape[1:]), np.nan)
        values[row_sample, row_step] = columns[name]
        fields[name] = ((*PAIR, *axes), values)
    places = {"sample": samples, "step": ("time", steps)}
    attributes = {"samples": len(samples), "times": len(steps), "scored": int(scored.sum())}
    return xr.Dataset(fields, {**places, **coords}, attributes)


def gather(result: xr.Dataset) -> tuple[Columns, dict[str, tuple[str, ...]]]:
    """Undo `grid`: return the rows, and the names of the axes that follow them."""
    names = [str(name) for name, values in result.data_vars.items() if set(PAIR) <= set(values.dims)]
    ordered = {name: result[name].transpose(*PAIR, ...) for name in names}
    present = np.zeros((result.sizes["sample"], result.sizes["time"]), dtype=bool)
    for values in ordered.values():
        present |= np.isfinite(values.values).reshape(*present.shape, -1).any(-1)
    sample, time = np.nonzero(present)
    columns: Columns = {name: values.values[sample, time] for name, values in ordered.items()}
    columns |= {"sample": result["sample"].values[sample], "step": result["step"].values[time]}
    return columns, {name: tuple(map(str, values.dims[2:])) for name, values in ordered.items()}


def join_tables(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Merge data sets of disjoint parts into one, bit for bit that of all samples together.

    Raises:
        DataError: There are none, a pair of sample and time is in two of them, or they were scored in different ways.
    """
    if not parts:
        raise DataError("evaluation: there is nothing to merge; give at least one evaluation")
    first = parts[0]
    for key in ("split", "steps_given", "steps_scored", "points", "weighted", "on_points"):
        stated = sorted({str(part.attrs.get(key)) for part in parts})
        if len(stated) > 1:
            raise DataError(f"evaluation: the parts differ in {key} ({', '.join(stated)}); they cannot be merged")
    variables = {tuple(map(str, part["variable"].values)) for part in parts}
    if len(variables) > 1:
        raise DataError(f"evaluation: the parts have different variables {sorted(variables)}; they cannot be merged")
    rows, dims = zip(*(gather(part) for part in parts), strict=True)
    kept = {str(n): c for n, c in first.coords.items() if n not in ("time", "step") and not set(c.dims) & set(PAIR)}
    result = grid(collect(rows), dims[0], kept)
    for name in map(str, first.coords):
        if name not in result.coords or name == "time":
            axis = str(first[name].dims[0])
            key = "sample" if axis == "sample" else "step"
            labels: dict[int, Any] = {}
            for part in parts:
                for position, value in zip(part[key].values.tolist(), part[name].values.tolist(), strict=True):
                    if labels.setdefault(position, value) != value:
                        raise DataError(
                            f"evaluation: {name} of {key} {position} differs between the parts; they cannot be merged"
                        )
            values = np.array([labels[position] for position in result[key].values.tolist()])
            result = result.assign_coords({name: (axis, values, first[name].attrs)})
    for field in result.data_vars:
        result[field].attrs = first[field].attrs
    return result.assign_attrs({**first.attrs, **result.attrs})


def _pick(labels: Axis | None, positions: np.ndarray) -> np.ndarray:
    if labels is None:
        return positions
    labels = np.asarray(labels)
    if labels.ndim != 1 or positions.max() >= len(labels):
        raise DataError(
            f"evaluation: position {positions.max()} needs a label, but labels of shape {labels.shape} were given; "
            "pass one time per step and one simulation per sample of the data that are streamed"
        )
    return labels[positions]


def _steps(offsets: Sequence[int], present: int) -> str:
    """Name steps by their distance from the last one given, as `t+1, t+2`; a long regular list is abbreviated."""
    names = [f"t{offset - present:+d}" for offset in offsets]
    if len(names) > MANY and len({b - a for a, b in itertools.pairwise(offsets)}) == 1:
        names[2:-1] = ["…"]
    return ", ".join(names) or "not stated"
