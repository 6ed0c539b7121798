"""Ensembles: simulations with one seed each, stepped in batches, with names and units.

On the CPU a simulation is the same bit for bit whatever the batch it is stepped in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from surrogate.data.streaming.channels import MASKED
from surrogate.errors import ConfigError, NumericalError, ResourceError, did_you_mean
from surrogate.runtime.resources import check_memory, memory_limit
from surrogate.simulate.equation import Array, Evolution, Grid, Map, Member, Numerics, rollout
from surrogate.simulate.recipe import Recipe
from surrogate.simulate.registry import EQUATIONS
from surrogate.simulate.sampling import design, read_table
from surrogate.simulate.steppers.limits import Effort

__all__ = ["Ensemble", "Results", "describe_parameters", "simulate_members"]


@dataclass(frozen=True)
class Results:
    """The data of simulations that have run.

    Arguments:
        numbers: Their numbers in the recipe, n of them.
        parameters: Their recorded parameters, each with shape (n,), vectors with shape (n, size).
        states: Their data, with shape (n, T, C, *outputs), or (n, C, *outputs) without time.
        finite: False for those that blew up, with shape (n,).
        reasons: The reason of an integrator for giving a simulation up, by number.
        geometry: Places, volumes and cells of meshes that differ, each with the axis `sample` of length n.
    """

    numbers: Sequence[int]
    parameters: dict[str, Array]
    states: Tensor
    finite: Tensor
    reasons: Mapping[int, str] = field(default_factory=dict)
    geometry: Mapping[str, xr.Variable] = field(default_factory=dict)

    @property
    def failed(self) -> dict[int, dict[str, float]]:
        """Return the parameters of the simulations that blew up, by number."""
        positions = torch.nonzero(~self.finite).flatten().tolist()
        return {self.numbers[position]: self._parameters(position) for position in positions}

    def _parameters(self, position: int) -> dict[str, float]:
        """Return the parameters of a simulation, with numbered entries of vectors."""
        named: dict[str, float] = {}
        for name, values in self.parameters.items():
            if values.ndim > 1:
                named |= {f"{name}_{index}": float(value) for index, value in enumerate(values[position])}
            else:
                named[name] = float(values[position])
        return named

    def check(self, limit: float = 0.0) -> None:
        """Check that at most `limit` simulations failed.

        Raises:
            NumericalError: More blew up.
        """
        if len(self.failed) > limit:
            number, parameters = next(iter(self.failed.items()))
            values = describe_parameters(parameters)
            reason = f": {self.reasons[number]}" if number in self.reasons else ""
            raise NumericalError(
                f"{len(self.failed)} of {len(self.numbers)} simulations blew up, first number {number} "
                f"({values}){reason}; narrow the ranges of the recipe or refine its grid"
            )


def describe_parameters(parameters: Mapping[str, float]) -> str:
    """Format the first eight parameters for a message."""
    shown = [f"{name}={value:.6g}" for name, value in parameters.items()]
    return ", ".join(shown[:8] + ["..."] * (len(shown) > 8))


class Ensemble:
    """The simulations of a recipe at one size.

    Arguments:
        recipe: The recipe.
        size: Name of one of its sizes.
        device: Where to compute.

    Raises:
        ConfigError: The recipe has no such size, or its table of parameters cannot be used.
        ResourceError: The device cannot be used.
    """

    def __init__(self, recipe: Recipe, size: str, device: str = "cpu", *, refine: int = 1) -> None:
        sizes = {str(name): value for name, value in recipe.sizes.items()}
        if size not in sizes:
            raise ConfigError(f"recipe {recipe.name} has no size '{size}'; {did_you_mean(size, sizes)}")
        self.size, self.size_name = sizes[size], size
        self.equation = EQUATIONS[recipe.equation]
        boundary = recipe.boundary or self.equation.boundaries[0]
        self.grid = Grid(self.size.grid, recipe.lengths, boundary, recipe.origin)
        self.times = np.linspace(0.0, self.size.final_time, self.size.snapshots)
        try:
            place = torch.device(device)
            torch.empty(0, device=place)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ResourceError(f"device {device} cannot be used: {reason}; use --device cpu") from error
        self.numerics = Numerics(place, getattr(torch, recipe.precision), refine, recipe.tolerance)
        self._most = recipe.max_evaluations * refine
        self._numbers = sum(quantity.size for quantity in self.equation.ranges.values())
        self._design = design(recipe.sampling.method, recipe.seed, self.size.simulations, self._numbers)
        self._table, checksum = self._read_table(recipe)
        changed = {"sampling": recipe.sampling.model_copy(update={"sha256": checksum})} if checksum else {}
        self.recipe = recipe.model_copy(update=changed)

    def member(self, number: int) -> Member:
        """Draw one simulation from its own seed.

        A design or a table changes its parameters and leaves all other random numbers as they are.
        """
        seed = np.random.SeedSequence(self.recipe.seed, spawn_key=(number,))
        rng = np.random.Generator(np.random.PCG64(seed))
        shares = rng.random(self._numbers)
        if self._design is not None:
            shares = self._design[number]
        values: dict[str, float | Array] = {}
        for name, quantity in self.equation.ranges.items():
            own, shares = shares[: quantity.size], shares[quantity.size :]
            values[name] = self._value(name, own, number)
        return self.equation.draw(values, self.grid, rng)

    def _value(self, name: str, shares: Array, number: int) -> float | Array:
        if name in self._table:
            return self._table[name][number] if self._table[name].ndim > 1 else float(self._table[name][number])
        bounds, quantity = self.recipe.parameters[name], self.equation.ranges[name]
        if bounds.options:
            return float(quantity.options.index(bounds.option(float(shares[0]))))
        if quantity.dim:
            return np.array([bounds.at(float(share)) for share in shares])
        return bounds.at(float(shares[0]))

    def _read_table(self, recipe: Recipe) -> tuple[dict[str, Array], str | None]:
        """Read the parameters of every simulation; all must be within the ranges of the recipe."""
        if recipe.sampling.method != "table":
            return {}, None
        sizes = {name: quantity.size for name, quantity in self.equation.ranges.items()}
        table, checksum = read_table(recipe.sampling, sizes, self.size.simulations)
        for name, values in table.items():
            low, high = recipe.parameters[name].bounds
            if recipe.parameters[name].options:
                low, high = 0.0, len(self.equation.ranges[name].options) - 1.0
            rows = np.flatnonzero(((values < low) | (values > high)).reshape(len(values), -1).any(axis=1))
            if len(rows):
                raise ConfigError(
                    f"table {recipe.sampling.table}: {name} in row {rows[0]} is outside {low:g} to {high:g}; "
                    f"correct the table or widen parameters.{name}"
                )
        return table, checksum

    def candidates(self, numbers: Sequence[int]) -> xr.Dataset:
        """Return parameters over (sample,) or (sample, axis) with their units; the simulations need not have run."""
        members = [self.member(number) for number in numbers]
        data: dict[str, Any] = {}
        for name, quantity in self.equation.recorded(self.grid.axes).items():
            values = np.array([member.parameters[name] for member in members])
            data[name] = (("sample", quantity.dim) if quantity.dim else ("sample",), values, quantity.attributes)
        return xr.Dataset(data, {"sample": np.arange(len(numbers))})

    def run(
        self,
        numbers: Sequence[int],
        *,
        batch: int,
        done: Callable[[int], None] | None = None,
        allowed: float = math.inf,
    ) -> Results:
        """Run simulations in batches; parameters that make no finite field or no finite values fail alone.

        Arguments:
            numbers: Their numbers in the recipe.
            batch: Simulations that are stepped together.
            done: Called with the number that have run.
            allowed: After more failures than that no further batch is run, and the results are those of the others.
        """
        geometry = self.equation.geometry if isinstance(self.equation, Map) else None
        with np.errstate(all="ignore"):  # values that are not finite are looked for below
            members = [self.member(number) for number in numbers]
            names = self.equation.recorded(self.grid.axes)
            parameters = {name: np.array([member.parameters[name] for member in members]) for name in names}
            shape = (len(numbers), *self._data_shape)
            check_memory(4 * math.prod(shape), f"sizes.{self.size_name}: shard x snapshots x grid", memory_limit())
            states = torch.empty(shape)
            finite = torch.zeros(len(numbers), dtype=torch.bool)
            reasons: dict[int, str] = {}
            for start in range(0, len(numbers), batch):
                part, ran = slice(start, start + batch), min(start + batch, len(numbers))
                chosen = {name: values[part] for name, values in parameters.items()}
                given_up = self._simulate(chosen, np.stack([member.initial for member in members[part]]), states[part])
                reasons |= {numbers[start + position]: reason for position, reason in given_up.items()}
                finite[part] = _finite(states[part])
                if done is not None:
                    done(ran)
                if geometry is None and ran - int(finite.sum()) > allowed:
                    parameters = {name: values[:ran] for name, values in parameters.items()}
                    numbers, states, finite = numbers[:ran], states[:ran], finite[:ran]
                    break
        if isinstance(self.equation, Evolution) and not self.equation.from_start:
            states = states[:, 1:]
        meshes = geometry(parameters, self.grid) if geometry else {}
        if meshes:
            absent = np.isnan(meshes["x"].values)[:, None]
            finite = _finite(states.masked_fill(torch.from_numpy(absent), 0.0))
        return Results(numbers, parameters, states, finite, reasons, meshes)

    @property
    def _data_shape(self) -> tuple[int, ...]:
        """Return the shape (T, C, *outputs) of the data of a simulation; (C, *outputs) without time."""
        outputs = [len(along.values) for along in self.equation.outputs(self.grid).values()]
        times = (self.size.snapshots,) if isinstance(self.equation, Evolution) else ()
        return (*times, len(self.equation.fields), *outputs)

    def _simulate(self, parameters: Mapping[str, Array], initial: Array, out: Tensor) -> dict[int, str]:
        """Write the data of a batch into `out`; return why its integrator gave up members, by position."""
        equation = self.equation
        if isinstance(equation, Map):
            out.copy_(torch.from_numpy(equation.solve(parameters, self.grid)))
            return {}
        start = torch.from_numpy(initial).to(self.numerics.device, self.numerics.dtype)
        stepper = equation.stepper(parameters, self.grid, float(self.times[1]), self.numerics)
        effort = getattr(stepper, "effort", None)  # of integrators that choose their steps
        if isinstance(effort, Effort):
            effort.bound(self.size.snapshots - 1, self._most)
        rollout(stepper, start, self.size.snapshots, observe=self._observe, out=out)
        return dict(effort.failures) if isinstance(effort, Effort) else {}

    def _observe(self, states: Tensor) -> Tensor:
        """Apply the equation's `observe` to states (B, C, *S)."""
        observe = self.equation.observe if isinstance(self.equation, Evolution) else None
        return observe(states, self.grid) if observe else states

    @property
    def _timed(self) -> tuple[str, ...]:
        return ("time",) if isinstance(self.equation, Evolution) else ()

    def dataset(self, results: Results) -> xr.Dataset:
        """Return the simulations that did not blow up, over (sample, time, *axes), with units and their numbers."""
        kept = np.flatnonzero(results.finite.numpy())
        states = (results.states if len(kept) == len(results.numbers) else results.states[kept]).numpy()
        axes = ("sample", *self._timed, *self.equation.outputs(self.grid))
        channel_axis = 1 + len(self._timed)
        data: dict[str, Any] = {}
        for channel, (name, quantity) in enumerate(self.equation.fields.items()):
            about = quantity.attributes | ({MASKED: 1} if results.geometry else {})
            data[name] = (axes, states.take(channel, channel_axis), about)
        for name, quantity in self.equation.recorded(self.grid.axes).items():
            dims = ("sample", quantity.dim) if quantity.dim else ("sample",)
            data[name] = (dims, results.parameters[name][kept], quantity.attributes)
        numbers = np.array(results.numbers, dtype=np.int64)[kept]
        attributes = {"Conventions": "CF-1.11", "title": self.recipe.name, "equation": self.equation.name}
        attributes["boundary_conditions"] = json.dumps(self._boundary_conditions)
        coordinates = self._coordinates(numbers)
        for name, variable in results.geometry.items():
            coordinates[name] = variable.isel(sample=kept)
            coordinates[name].attrs |= {MASKED: 1} if "point" in variable.dims else {}
        return xr.Dataset(data, coordinates, attributes | {"seed": self.recipe.seed})

    @property
    def _boundary_conditions(self) -> dict[str, dict[str, Any]]:
        """Return the boundary condition of each axis of the data, named as in The Well."""
        on_grid = isinstance(self.equation, Evolution) and self.equation.axes is None
        kind = "periodic" if self.grid.boundary == "periodic" else "wall"
        axes = self.grid.axes if on_grid else ()
        return {f"{axis}_{kind}": {"bc_type": kind, "associated_dims": [axis]} for axis in axes}

    def _coordinates(self, numbers: NDArray[np.int64]) -> dict[str, Any]:
        number_of = {"units": "1", "long_name": "number of the simulation in its recipe"}
        coordinates: dict[str, Any] = {"simulation": (("sample",), numbers, number_of)}
        if isinstance(self.equation, Evolution):
            times = self.times if self.equation.from_start else self.times[1:]
            attributes = {"units": self.equation.time_units, "long_name": "time", "axis": "T"}
            coordinates["time"] = (("time",), times, attributes)
        free = isinstance(self.equation, Map) and self.equation.geometry is not None  # points without an order
        for axis, along in () if free else self.equation.outputs(self.grid).items():
            attributes = {"units": along.units, "long_name": along.long_name}
            letter = {"axis": axis.upper()} if axis in self.grid.axes else {}
            coordinates[axis] = ((axis,), along.values, attributes | letter)
        return coordinates


def _finite(states: Tensor) -> Tensor:
    """Return True for members of (B, ...) all of whose values are finite, with shape (B,)."""
    flat = states.flatten(1)  # the extremes are finite where all values are, and need no mask
    return torch.isfinite(flat.amax(dim=1)) & torch.isfinite(flat.amin(dim=1))


def simulate_members(recipe: Recipe, size: str, numbers: Sequence[int], *, device: str = "cpu") -> xr.Dataset:
    """Run chosen simulations in one batch, without writing a file.

    Raises:
        ConfigError: A number is not one of the size's simulations.
        NumericalError: One of them blows up.
    """
    ensemble = Ensemble(recipe, size, device)
    last = ensemble.size.simulations - 1
    if not numbers or not all(0 <= number <= last for number in numbers):
        raise ConfigError(f"simulations {list(numbers)}: give numbers from 0 to {last}, the {size} size's simulations")
    results = ensemble.run(numbers, batch=len(numbers))
    results.check()
    return ensemble.dataset(results)
