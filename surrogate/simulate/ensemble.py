"""Ensembles: simulations that each have their own seed, stepped in batches, with names and units.

On the CPU a simulation is the same bit for bit whatever the batch it is stepped in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from surrogate.checks import ConfigError, NumericalError, ResourceError, did_you_mean
from surrogate.simulate.equation import Grid, Member, rollout
from surrogate.simulate.recipe import Recipe
from surrogate.simulate.registry import EQUATIONS

__all__ = ["Ensemble", "Results", "simulate_members"]


@dataclass(frozen=True)
class Results:
    """Simulations that have run.

    Arguments:
        numbers: Their numbers in the recipe, n of them.
        parameters: Their recorded parameters, each with shape (n,).
        states: Their fields, with shape (n, T, C, *S).
        finite: False for those that blew up, with shape (n,).
    """

    numbers: Sequence[int]
    parameters: dict[str, NDArray[np.float64]]
    states: Tensor
    finite: Tensor

    @property
    def failed(self) -> dict[int, dict[str, float]]:
        """Parameters of the simulations that blew up, by number."""
        return {
            self.numbers[position]: {name: float(values[position]) for name, values in self.parameters.items()}
            for position in torch.nonzero(~self.finite).flatten().tolist()
        }

    def check(self, limit: float = 0.0) -> None:
        """Accept up to `limit` failed simulations.

        Raises:
            NumericalError: More blew up.
        """
        if len(self.failed) > limit:
            number, parameters = next(iter(self.failed.items()))
            values = ", ".join(f"{name}={value:.6g}" for name, value in parameters.items())
            raise NumericalError(
                f"{len(self.failed)} of {len(self.numbers)} simulations blew up, first number {number} ({values}); "
                "narrow the ranges of the recipe or refine its grid"
            )


class Ensemble:
    """The simulations of a recipe at one size.

    Arguments:
        recipe: The recipe.
        size: Name of one of its sizes.
        device: Where to compute.

    Raises:
        ConfigError: The recipe has no such size.
        ResourceError: The device cannot be used.
    """

    def __init__(self, recipe: Recipe, size: str, device: str = "cpu") -> None:
        sizes = {str(name): value for name, value in recipe.sizes.items()}
        if size not in sizes:
            raise ConfigError(f"recipe {recipe.name} has no size '{size}'; {did_you_mean(size, sizes)}")
        self.recipe = recipe
        self.size = sizes[size]
        self.equation = EQUATIONS[recipe.equation]
        self.grid = Grid(self.size.grid, recipe.lengths)
        self.times = np.linspace(0.0, self.size.final_time, self.size.snapshots)
        self.device = _device(device)

    def member(self, number: int) -> Member:
        """One simulation before it runs, from its own seed."""
        seed = np.random.SeedSequence(self.recipe.seed, spawn_key=(number,))
        rng = np.random.Generator(np.random.PCG64(seed))
        values = {name: self.recipe.parameters[name].at(rng.random()) for name in self.equation.ranges}
        return self.equation.draw(values, self.grid, rng)

    def run(self, numbers: Sequence[int], *, batch: int, done: Callable[[int], None] | None = None) -> Results:
        """Run simulations, `batch` of them at a time; `done` is told how many have run."""
        members = [self.member(number) for number in numbers]
        names = self.equation.recorded(self.grid.axes)
        parameters = {name: np.array([member.parameters[name] for member in members]) for name in names}
        states = torch.empty((len(numbers), self.size.snapshots, len(self.equation.fields), *self.grid.shape))
        for start in range(0, len(numbers), batch):
            part = slice(start, start + batch)
            initial = torch.from_numpy(np.stack([member.initial for member in members[part]])).to(self.device)
            chosen = {name: values[part] for name, values in parameters.items()}
            stepper = self.equation.stepper(chosen, self.grid, float(self.times[1]), self.device)
            states[part] = rollout(stepper, initial, self.size.snapshots)
            if done is not None:
                done(min(start + batch, len(numbers)))
        return Results(numbers, parameters, states, torch.isfinite(states).flatten(1).all(dim=1))

    def dataset(self, results: Results) -> xr.Dataset:
        """The simulations that did not blow up, over (sample, time, *axes), with units and the number of each."""
        kept = np.flatnonzero(results.finite.numpy())
        states = (results.states if len(kept) == len(results.numbers) else results.states[kept]).numpy()
        axes = ("sample", "time", *self.grid.axes)
        data: dict[str, Any] = {}
        for channel, (name, quantity) in enumerate(self.equation.fields.items()):
            data[name] = (axes, states[:, :, channel], vars(quantity))
        for name, quantity in self.equation.recorded(self.grid.axes).items():
            data[name] = (("sample",), results.parameters[name][kept], vars(quantity))
        numbers = np.array(results.numbers, dtype=np.int64)[kept]
        attributes = {"Conventions": "CF-1.11", "title": self.recipe.name, "equation": self.equation.name}
        return xr.Dataset(data, self._coordinates(numbers), attributes | {"seed": self.recipe.seed})

    def _coordinates(self, numbers: NDArray[np.int64]) -> dict[str, Any]:
        number_of = {"units": "1", "long_name": "number of the simulation in its recipe"}
        time = {"units": "s", "long_name": "time", "axis": "T"}
        space = {
            axis: ((axis,), values, {"units": "m", "long_name": f"position along {axis}", "axis": axis.upper()})
            for axis, values in self.grid.coordinates.items()
        }
        return {"simulation": (("sample",), numbers, number_of), "time": (("time",), self.times, time)} | space


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ResourceError(f"device {name} cannot be used: {reason}; use --device cpu") from error
    return device


def simulate_members(recipe: Recipe, size: str, numbers: Sequence[int], *, device: str = "cpu") -> xr.Dataset:
    """Make chosen simulations again in one batch, without a file.

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
