"""Names, units, grids and times of the inputs and outputs of a surrogate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from surrogate.config import Settings
from surrogate.data import Stream
from surrogate.data.mesh import CELLS, POSITIONS, geometry_of, point_axis, positions_of
from surrogate.data.streaming.channels import MASKED, Side, pick
from surrogate.errors import DataError
from surrogate.models.registry import Shapes

__all__ = ["Signature", "signature_of", "variable_and_step"]

MOVING = re.compile(r"(.*)\[t([+-]\d+)\]")
LONGEST = 100_000  # points of an axis whose positions are written into a signature
CLOSE = 1e-5  # of the span of an axis: coordinates are often float32


def variable_and_step(channel: str) -> tuple[str, int | None]:
    """Return the name before `[t+1]`, and the step; None where the channel does not change in time."""
    match = MOVING.fullmatch(channel)
    return (match[1], int(match[2])) if match else (channel, None)


class Signature(Settings):
    """Inputs and outputs of a surrogate, so that data that do not fit are refused.

    Arguments:
        inputs: Names of the input channels: variable, its component after a dot, `[t+1]` where it changes in time.
        targets: Names of the output channels.
        units: Unit of every variable and axis by name, where known.
        components: Labels on the channel axis of every variable that has one.
        grid: Length of every axis of the targets by name, in order.
        input_grid: The same of the inputs, empty for plain parameters; that of the targets unless given.
        coordinates: Positions along every axis, where known.
        time_step: Time between neighbouring steps of the file, where it is constant.
        times: Times of the targets, where every sample has the same ones.
        masked: Variables with possibly missing values, given as NaN.
        point_axis: Name of the axis of the targets that counts the points of a mesh, in no order; "" for a grid.
        positions: Coordinates of the points, by name, among the inputs; then a prediction may be at other points.
        parameters: Variables among the inputs that are constant over the points.
        cells: Corners of every cell of the mesh, where it is one.
    """

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    units: dict[str, str] = Field(default_factory=dict)
    components: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    grid: dict[str, int] = Field(default_factory=dict)
    input_grid: dict[str, int] = Field(default_factory=dict)
    coordinates: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    time_step: float | None = None
    times: tuple[float, ...] | None = None
    masked: tuple[str, ...] = ()
    point_axis: str = ""
    positions: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    cells: tuple[tuple[int, ...], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _same_grid(cls, values: Any) -> Any:
        if isinstance(values, dict) and "input_grid" not in values:
            return {**values, "input_grid": values.get("grid", {})}
        return values

    @property
    def shapes(self) -> Shapes:
        """Return channels and grids for the builder of the network."""
        grid, input_grid = tuple(self.grid.values()), tuple(self.input_grid.values())
        last = {self.component_of(channel)[0]: index for index, channel in enumerate(self.inputs)}
        constant = [index for index, name in enumerate(self.inputs) if self.component_of(name)[0] in self.parameters]
        return Shapes(
            inputs=len(self.inputs),
            outputs=len(self.targets),
            grid=grid,
            input_grid=input_grid,
            latest=self._latest(),
            point_axis=self.point_axis,
            positions=tuple(last[name] for name in self.positions),
            parameters=tuple(constant),
            ragged=any(name in self.masked for name in self.positions),
        )

    def _latest(self) -> tuple[int, ...]:
        """Return for each target the input with the same quantity at the latest time; empty where one has none."""
        last: dict[str, tuple[int, int]] = {}
        for index, channel in enumerate(self.inputs):
            name, step = variable_and_step(channel)
            if step is not None:
                last[name] = max((step, index), last.get(name, (step, index)))
        names = [variable_and_step(channel)[0] for channel in self.targets]
        return tuple(last[name][1] for name in names) if all(name in last for name in names) else ()

    def component_of(self, channel: str) -> tuple[str, str | None]:
        """Return the variable of a channel and its component; None where the variable has no channel axis."""
        name, _ = variable_and_step(channel)
        labelled = {f"{v}.{label}": (v, label) for v, labels in self.components.items() for label in labels}
        return labelled.get(name, (name, None))

    def variables(self, channels: Iterable[str]) -> list[str]:
        """List the distinct variables of channels, in order."""
        return list(dict.fromkeys(self.component_of(channel)[0] for channel in channels))

    def may_miss(self, channels: Iterable[str]) -> list[bool]:
        """Return for each channel True if values may be missing."""
        return [self.component_of(channel)[0] in self.masked for channel in channels]

    def refuse_other(self, data: Signature, *, inputs_only: bool = False) -> None:
        """Check that data fit; facts that only one of the two has (units, coordinates, times) are not compared.

        Arguments:
            data: The signature of the data.
            inputs_only: The data need not contain targets.

        Raises:
            DataError: They differ; the message lists every difference.
        """
        mine, theirs = (signature._facts(inputs_only) for signature in (self, data))
        different = [
            f"{key}: trained on {_short(mine[key])}, given {_short(theirs[key])}"
            for key in mine
            if key in theirs and not _agree(mine[key], theirs[key])
        ]
        if different:
            raise DataError("the data do not fit the surrogate: " + "; ".join(different))

    def _facts(self, inputs_only: bool) -> dict[str, Any]:
        """Collect everything that has to agree; the order of axes separately, since dictionaries ignore it."""
        channels = self.inputs if inputs_only else self.inputs + self.targets
        axis = self.point_axis if self.positions else ""  # along which other points will do
        input_grid, grid = ({k: n for k, n in sizes.items() if k != axis} for sizes in (self.input_grid, self.grid))
        facts: dict[str, Any] = {"inputs": self.inputs, "input_grid": input_grid}
        axes = {"input_axes": list(self.input_grid)}
        if not inputs_only:
            facts |= {"targets": self.targets, "grid": grid}
            axes |= {"axes": list(self.grid)}
        used = [*self.variables(channels), *axes["input_axes"], *axes.get("axes", [])]
        facts |= axes | {f"units of {name}": self.units[name] for name in used if name in self.units}
        if self.point_axis:  # a mesh is compared by its places, unless other points will do
            used = [*(name for name in used if name not in POSITIONS), *(() if self.positions else POSITIONS)]
        facts |= {f"coordinate {axis}": self.coordinates[axis] for axis in used if axis in self.coordinates}
        return facts if self.time_step is None else facts | {"time step": (self.time_step,)}


def _agree(mine: Any, theirs: Any) -> bool:
    """Compare two facts; numbers within CLOSE of their span."""
    if not _numbers(mine) or not _numbers(theirs):
        return bool(mine == theirs)
    if len(mine) != len(theirs):
        return False
    return bool(np.abs(np.subtract(mine, theirs)).max() <= CLOSE * max(np.ptp(mine), np.abs(mine).max() / len(mine)))


def _numbers(values: Any) -> bool:
    return isinstance(values, tuple) and bool(values) and isinstance(values[0], float)


def _short(fact: Any) -> str:
    """Format a fact for a message; of the points of an axis only their number and ends."""
    if not _numbers(fact):
        return str(fact)
    return f"{fact[0]:g}" if len(fact) == 1 else f"{len(fact)} points from {fact[0]:g} to {fact[-1]:g}"


def signature_of(stream: Stream, dataset: xr.Dataset) -> Signature:
    """Return the signature of a surrogate trained on a stream of a data set."""
    sides = (stream.inputs, stream.targets)
    variables = list(dict.fromkeys(column.variable for side in sides for column in side.columns))
    axes = list(dict.fromkeys(dim for side in sides for dim in side.dims))
    named = [
        name for name in [*variables, *axes, *POSITIONS, "time"] if "units" in getattr(dataset.get(name), "attrs", {})
    ]
    window, times = stream.window, _positions(dataset, "time", {})
    steps = np.diff(times)
    constant = window is not None and len(steps) and np.allclose(steps, steps[0], rtol=1e-3)
    # the times of the targets where inputs without time are mapped to the one window of every simulation
    moving = any(variable_and_step(name)[1] is not None for name in stream.input_names)
    offsets = window.target_offsets if window is not None and window.extent == len(times) and not moving else None
    axis = point_axis(dataset, stream.targets.dims)
    mesh = geometry_of(dataset, axis) if axis and dataset.sizes[axis] <= LONGEST else {}
    inputs = dict.fromkeys(column.variable for column in stream.inputs.columns)
    along = positions_of(dataset, axis) if axis else stream.targets.dims
    positions = tuple(name for name in along if name in inputs) if {*along} <= {*inputs} else ()
    return Signature(
        inputs=stream.input_names,
        targets=stream.target_names,
        units={name: str(dataset[name].attrs["units"]) for name in named},
        components={
            name: tuple(str(label) for label in pick(dataset, name)["channel"].values)
            for name in variables
            if "channel" in pick(dataset, name).dims
        },
        grid=_grid(stream.targets),
        input_grid=_grid(stream.inputs),
        coordinates={axis: tuple(places) for axis in [*axes, *mesh] if (places := _positions(dataset, axis, mesh))},
        time_step=float(steps.mean()) if constant else None,
        times=None if offsets is None else tuple(times[offset] for offset in offsets),
        masked=tuple(name for name in variables if MASKED in pick(dataset, name).attrs),
        point_axis=axis,
        positions=positions,
        parameters=tuple(name for name in inputs if not {*stream.inputs.dims} & {*dataset[name].dims} and positions),
        cells=tuple(map(tuple, mesh[CELLS].values.tolist())) if CELLS in mesh else (),
    )


def _grid(side: Side) -> dict[str, int]:
    return dict(zip(side.dims, side.shape[1:], strict=True))


def _positions(dataset: xr.Dataset, axis: str, mesh: Mapping[str, xr.Variable]) -> list[float]:
    """Return positions along an axis or of the points; empty where they are unknown, not numbers, or over LONGEST."""
    if axis in mesh:
        places: list[float] = mesh[axis].values.astype(np.float64).tolist() if mesh[axis].ndim == 1 else []
        return places
    if axis not in dataset.coords or dataset[axis].dtype.kind not in "fiu" or dataset.sizes[axis] > LONGEST:
        return []
    positions: list[float] = dataset[axis].values.astype(np.float64).tolist()
    return positions
