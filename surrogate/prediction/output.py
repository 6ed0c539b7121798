"""The layout of predictions in a file: channels become variables again, with their axes, units and times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from surrogate.data.formats.text import encode_text
from surrogate.data.mesh import CELLS, POSITIONS, VOLUME, positions_of, volumes_of
from surrogate.models.input_range import SCORE
from surrogate.models.signature import Signature, variable_and_step
from surrogate.prediction.sources import Source

__all__ = ["HIGH", "LOW", "STD", "Output", "Predicted"]

STD, LOW, HIGH = "_std", "_low", "_high"
SCORED = "distance of the input from the training inputs; above 1 it is farther than 95 % of them are from each other"
MESH, CLOCKS = "mesh", ("time", "lead")
LONG_NAMES = {
    "": "predicted {}",
    STD: "standard deviation of {}",
    LOW: "lower end of the 90 % conformal interval of {}",
    HIGH: "upper end of the 90 % conformal interval of {}",
}


@dataclass(frozen=True)
class Predicted:
    """A predicted variable and the channels that hold it.

    Arguments:
        name: Its name.
        channels: Positions of its channels, steps first, then components.
        steps: Steps that it is predicted for, counted from the last input; () where it has no time.
        components: Labels on its channel axis; () where it has none.
    """

    name: str
    channels: tuple[int, ...]
    steps: tuple[int, ...]
    components: tuple[str, ...]

    @staticmethod
    def all_of(signature: Signature) -> list[Predicted]:
        """List the variables among the targets of a surrogate, in order."""
        channels_of: dict[str, list[int]] = {}
        for index, channel in enumerate(signature.targets):
            channels_of.setdefault(signature.component_of(channel)[0], []).append(index)
        return [Predicted._of(signature, name, channels) for name, channels in channels_of.items()]

    @staticmethod
    def _of(signature: Signature, name: str, channels: list[int]) -> Predicted:
        steps = [variable_and_step(signature.targets[index])[1] for index in channels]
        moving = tuple(dict.fromkeys(step for step in steps if step is not None))
        return Predicted(name, tuple(channels), moving, signature.components.get(name, ()))

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Select the variable from (B, R, M, *S), values of R network steps: (B, R * steps, components, *S)."""
        own = values[:, :, list(self.channels)]
        return own.reshape(len(own), -1, max(len(self.components), 1), *own.shape[3:])


@dataclass(frozen=True)
class Output:
    """Variables, axes and coordinates of the predictions of a source.

    If inputs change in time, every window is a row: axes `sample` and `time`, the time that is predicted; with several
    steps ahead `time` is that of the last input and `lead` the time since then. A roll-out starts at the
    first window of every simulation and has axes `sample` and `time`.

    Arguments:
        signature: Signature of the surrogate.
        source: Where the inputs come from.
        network_steps: Network steps of a roll-out; 0 for none.
        suffixes: What is written of every variable: the prediction (""), `STD`, `LOW`, `HIGH`.
        scored: Write `SCORE` too, a number for each row.
    """

    signature: Signature
    source: Source
    network_steps: int = 0
    suffixes: tuple[str, ...] = ("",)
    scored: bool = False

    @cached_property
    def variables(self) -> list[Predicted]:
        return Predicted.all_of(self.signature)

    @cached_property
    def grid(self) -> dict[str, int]:
        """Lengths of the spatial axes: of those that count points, of the source, whose points may be others."""
        grid, axis = self.signature.grid, self.signature.point_axis
        return grid | {axis: self.source.dataset.sizes[axis]} if self.signature.positions and axis else grid

    @property
    def names(self) -> list[str]:
        """Names of the predicted variables, of their standard deviations and intervals, and of the score."""
        scores = [SCORE] if self.scored else []
        return [variable.name + suffix for suffix in self.suffixes for variable in self.variables] + scores

    def template(self, attributes: Mapping[str, Any]) -> xr.Dataset:
        """Return the data set to fill: axes, coordinates and attributes, and variables without values."""
        ds, coordinates = xr.Dataset(attrs=dict(attributes)), self._coordinates
        for variable in self.variables:
            axes, units = self._axes(variable), self.signature.units.get(variable.name)
            about = {"units": units} if units else {}
            about |= {"mesh": MESH, "location": "node"} if MESH in coordinates else {}
            for suffix in self.suffixes:
                name = {"long_name": LONG_NAMES[suffix].format(variable.name)}
                ds[variable.name + suffix] = _blank(axes, about | name)
        if self.scored:
            rows = {"sample": self.source.samples} | ({"time": self.source.starts} if self._windows else {})
            ds[SCORE] = _blank(rows, {"long_name": SCORED, "units": "1"})
        axes_of = set(map(str, ds.dims))
        if MESH in coordinates:
            ds[MESH] = coordinates[MESH]
            ds.attrs["Conventions"] = "CF-1.11 UGRID-1.0"
        return encode_text(
            ds.assign_coords({n: v for n, v in coordinates.items() if n != MESH and (n not in CLOCKS or n in axes_of)})
        )

    @property
    def _windows(self) -> bool:
        """True if the windows of a simulation have an axis of their own."""
        return self.source.last_steps is not None and not self.network_steps

    def _step_axis(self, variable: Predicted) -> dict[str, int]:
        """Return the axis of the steps of one row and its length; empty if there is none."""
        count = max(self.network_steps, 1) * len(variable.steps)
        if self.network_steps or (count > 1 and not self._windows and self.signature.times):
            return {"time": count}
        return {"lead": count} if count > 1 else {}

    def _axes(self, variable: Predicted) -> dict[str, int]:
        axes = {"sample": self.source.samples}
        axes |= {"time": self.source.starts} if self._windows else {}
        axes |= self._step_axis(variable)
        axes |= {self._channel_axis(variable): len(variable.components)} if variable.components else {}
        return axes | self.grid

    def _channel_axis(self, variable: Predicted) -> str:
        sets = {other.components for other in self.variables if other.components}
        return "channel" if len(sets) == 1 else f"{variable.name}_channel"

    @cached_property
    def _coordinates(self) -> dict[str, Any]:
        signature, source = self.signature, self.source
        coordinates: dict[str, Any] = self._mesh() if signature.point_axis else {}
        for axis in signature.grid:
            if axis in signature.coordinates:
                coordinates[axis] = (axis, np.array(signature.coordinates[axis]), self._units(axis))
        for variable in self.variables:
            if variable.components:
                axis = self._channel_axis(variable)
                coordinates[axis] = (axis, list(variable.components))
        along_samples = {name: name for name in signature.variables(signature.inputs)} | {"predicted_from": "origin"}
        for name, own in along_samples.items():
            if own in source.dataset.variables and source.dataset[own].dims == ("sample",):
                coordinates[name] = source.dataset[own].variable.load()
        return coordinates | self._times()

    def _mesh(self) -> dict[str, Any]:
        """Return the places, volumes and cells of the points, of the source where it has them, with UGRID's names."""
        signature, axis, source = self.signature, self.signature.point_axis, self.source.dataset
        mesh: dict[str, Any] = {}
        if any(name in source.variables and axis in source[name].dims for name in POSITIONS):
            names = [name for name in positions_of(source, axis) if "time" not in source[name].dims]
            mesh = {name: source[name].variable.load() for name in names}
            volumes = volumes_of(source, axis)
            mesh |= {} if volumes is None else {VOLUME: volumes.variable}
            cells = source[CELLS].variable.load() if CELLS in source.variables else None
        else:
            names = [name for name in (*POSITIONS, VOLUME) if name in signature.coordinates]
            mesh = {name: (axis, np.array(signature.coordinates[name]), self._units(name)) for name in names}
            cells = xr.Variable(("element", "corner"), np.array(signature.cells)) if signature.cells else None
        if cells is None or axis not in ("point", "node", "vertex"):
            return mesh
        mesh[CELLS] = cells.astype(np.int64).copy()
        if cells.ndim == 2:  # UGRID has no word for meshes that differ between samples
            places = [name for name in POSITIONS if name in mesh]
            dimension = min(cells.shape[1], len(places) + 1) - 1
            part = ("", "edge", "face", "volume")[dimension]
            role = f"{part}_node_connectivity"
            mesh[CELLS].attrs |= {"cf_role": role, "start_index": 0}
            topology = {"cf_role": "mesh_topology", "topology_dimension": dimension, role: CELLS}
            mesh[MESH] = xr.Variable((), np.int64(0), topology | {"node_coordinates": " ".join(places)})
        return mesh

    def _units(self, name: str) -> dict[str, str]:
        return {"units": self.signature.units[name]} if name in self.signature.units else {}

    def _times(self) -> dict[str, Any]:
        """Return coordinates `time` and `lead`: times if they are known, otherwise steps."""
        steps = next((variable.steps for variable in self.variables if variable.steps), ())
        last = self.source.last_steps
        if last is None:
            about = self._units("time")
            lead = np.array(steps) * (self.signature.time_step or 1)
            return {"time": ("time", np.array(self.signature.times or ()), about), "lead": ("lead", lead, about)}
        if self.network_steps:
            advance = max(steps)
            ahead = np.array([advance * turn + step for turn in range(self.network_steps) for step in steps])
            return {"time": self._time(last[0] + ahead)}
        if len(steps) > 1:
            lead = np.array(steps) * (self.signature.time_step or 1)
            return {"time": self._time(last), "lead": ("lead", lead, self._units("time"))}
        return {"time": self._time(last + (steps[0] if steps else 0))}

    def _time(self, steps: np.ndarray) -> tuple[str, np.ndarray, dict[str, str]]:
        """Return the times of steps of the file, extrapolated beyond its end."""
        dataset, step = self.source.dataset, self.signature.time_step
        if "time" not in dataset.coords or dataset["time"].dtype.kind not in "fiu":
            return "time", steps, {}
        known = dataset["time"].values.astype(np.float64)
        within = np.minimum(steps, len(known) - 1)
        return "time", known[within] + (steps - within) * (step or np.nan), self._units("time")


def _blank(axes: Mapping[str, int], attributes: Mapping[str, Any]) -> xr.Variable:
    return xr.Variable(tuple(axes), da.zeros(tuple(axes.values()), np.float32), dict(attributes))
