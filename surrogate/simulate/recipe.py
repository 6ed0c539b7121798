"""Recipes: the complete definition of a data set, read from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from surrogate.catalogue import find
from surrogate.config import Settings, load
from surrogate.errors import did_you_mean
from surrogate.simulate.equation import Evolution
from surrogate.simulate.registry import EQUATIONS, load_installed
from surrogate.simulate.sampling import Sampling
from surrogate.simulate.steppers.limits import MOST_EVALUATIONS

__all__ = ["Range", "Recipe", "Size", "find_recipe", "load_recipe"]

MOST_SIMULATIONS, MOST_SNAPSHOTS = 10_000_000, 1_000_000  # the parameters and times of all are held in memory


class Range(Settings):
    """A random number between two bounds, uniform in itself or in its logarithm, or a choice of named options.

    Arguments:
        low: Lower bound.
        high: Upper bound; equal bounds fix the number.
        units: Units, which must be those of the equation.
        scale: Where the number is uniform.
        options: The options to choose from, instead of bounds.
    """

    low: float | None = None
    high: float | None = None
    units: str = "1"
    scale: Literal["linear", "log"] = "linear"
    options: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.options:
            if self.low is not None or self.high is not None:
                raise ValueError("give either bounds or options")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high")
        if self.high < self.low:
            raise ValueError("low is above high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("a log scale needs low above zero")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Return lower and upper bound; (0, 1) for options."""
        return (0.0 if self.low is None else self.low, 1.0 if self.high is None else self.high)

    def at(self, share: float) -> float:
        """Return the number at a share in [0, 1) of the way."""
        low, high = self.bounds
        if self.scale == "log":
            return float(low * (high / low) ** share)
        return low + (high - low) * share

    def option(self, share: float) -> str:
        """Return the option at a share in [0, 1) of the way."""
        return self.options[int(share * len(self.options))]


class Size(Settings):
    """The number of simulations, their grid and their snapshots.

    Arguments:
        simulations: Number of simulations.
        grid: Points along each axis, slowest axis first.
        snapshots: Number of snapshots, the initial one included; 1 for a problem without time.
        final_time: Time of the last snapshot.
        shard: Simulations in one file.
    """

    simulations: int = Field(gt=0, le=MOST_SIMULATIONS)
    grid: tuple[int, ...] = Field(default=(), max_length=3)
    snapshots: int = Field(default=1, ge=1, le=MOST_SNAPSHOTS)
    final_time: float = Field(default=0.0, ge=0)
    shard: int = Field(gt=0)


class Recipe(Settings):
    """The complete definition of a data set.

    Arguments:
        name: Name of the data set.
        equation: Name of the equation in the registry.
        about: What the data set is, for its card.
        seed: The one seed of the data set.
        lengths: Length of the box along each axis, slowest axis first.
        origin: Lower corner of the box; empty is zero.
        boundary: Boundary condition; None is the equation's usual one.
        precision: Type of the numbers that steps in time are computed with; data are stored in float32.
        tolerance: Largest error of a step in time where the method controls it, relative to the largest value of the
            field; None is the equation's usual one.
        sampling: How the parameters of the simulations are chosen.
        parameters: Range of each number that the equation draws.
        sizes: What each size simulates.
        max_failed: Largest share of simulations that may blow up.
        max_evaluations: Evaluations of the right-hand side after which a simulation is given up, and before that
            where it is expected to take more.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9_-]*$")
    equation: str
    about: str = ""
    seed: int = Field(ge=0)
    lengths: tuple[float, ...] = Field(default=(), max_length=3)
    origin: tuple[float, ...] = ()
    boundary: str | None = None
    precision: Literal["float32", "float64"] = "float64"
    tolerance: float | None = Field(default=None, gt=0, lt=1)
    sampling: Sampling = Sampling()
    parameters: dict[str, Range]
    sizes: dict[Literal["tiny", "default", "full"], Size] = Field(min_length=1)
    max_failed: float = Field(default=0.1, ge=0, le=1)
    max_evaluations: int = Field(
        default=MOST_EVALUATIONS, gt=0, exclude_if=lambda most: most == MOST_EVALUATIONS
    )  # left out of checksums where it is the usual one

    @property
    def reads(self) -> list[Path]:
        """The files that simulations are made from, besides the recipe: the table of their parameters."""
        return [] if self.sampling.table is None else [Path(self.sampling.table)]

    @field_validator("equation")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in EQUATIONS:
            load_installed()
        if name not in EQUATIONS:
            raise ValueError(f"unknown equation; {did_you_mean(name, EQUATIONS)}")
        return name

    @field_validator("lengths")
    @classmethod
    def _positive(cls, lengths: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if lengths and min(lengths) <= 0:
            raise ValueError("a length is not above zero")
        dimensions = EQUATIONS[info.data["equation"]].dimensions if "equation" in info.data else (len(lengths),)
        if len(lengths) not in dimensions:
            raise ValueError(
                f"{info.data['equation']} has {' or '.join(map(str, dimensions))} axes, got {len(lengths)} lengths"
            )
        return lengths

    @field_validator("origin")
    @classmethod
    def _placed(cls, origin: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if origin and len(origin) != len(info.data.get("lengths", origin)):
            raise ValueError(f"one number for each of the {len(info.data['lengths'])} lengths is needed")
        return origin

    @field_validator("boundary")
    @classmethod
    def _bounded(cls, boundary: str | None, info: ValidationInfo) -> str | None:
        known = EQUATIONS[info.data["equation"]].boundaries if "equation" in info.data else (boundary,)
        if boundary is not None and boundary not in known:
            raise ValueError(f"unknown boundary; {did_you_mean(boundary, [str(name) for name in known])}")
        return boundary

    @field_validator("parameters")
    @classmethod
    def _fitting(cls, parameters: dict[str, Range], info: ValidationInfo) -> dict[str, Range]:
        if "equation" not in info.data:
            return parameters
        expected = EQUATIONS[info.data["equation"]].ranges
        for name in parameters.keys() - expected.keys():
            raise ValueError(f"unknown parameter '{name}'; {did_you_mean(name, expected)}")
        for name, quantity in expected.items():
            if name not in parameters:
                raise ValueError(f"no range for {name} ({quantity.long_name}, {quantity.units})")
            if parameters[name].units != quantity.units:
                raise ValueError(f"{name} is in {quantity.units}, not in {parameters[name].units}")
            if bool(parameters[name].options) != bool(quantity.options):
                kind = "a choice of options" if quantity.options else "a number between two bounds"
                raise ValueError(f"{name} is {kind}")
            for option in parameters[name].options:
                if option not in quantity.options:
                    raise ValueError(f"{name} has no option '{option}'; {did_you_mean(option, quantity.options)}")
        return parameters

    @field_validator("sizes")
    @classmethod
    def _gridded(cls, sizes: dict[str, Size], info: ValidationInfo) -> dict[str, Size]:
        if not {"equation", "lengths"} <= info.data.keys():
            return sizes
        equation, axes = EQUATIONS[info.data["equation"]], len(info.data["lengths"])
        for name, size in sizes.items():
            if len(size.grid) != axes or any(points < equation.points for points in size.grid):
                raise ValueError(
                    f"{name}.grid needs {axes} axes of at least {equation.points} points, got {list(size.grid)}"
                )
            timed = (size.snapshots >= 2) + (size.final_time > 0)
            if timed != (2 if isinstance(equation, Evolution) else 0):
                need = "two snapshots or more and a final_time" if isinstance(equation, Evolution) else "no time"
                raise ValueError(f"{name}: {equation.name} needs {need}")
        return sizes


def find_recipe(recipe: str | Path) -> Path:
    """Return the recipe file of a data set of the catalogue, or of a path that ends in .yaml.

    Raises:
        ConfigError: There is none of that name.
    """
    return find("datasets", recipe)


def load_recipe(recipe: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by name or path."""
    return load(find_recipe(recipe), Recipe, overrides)
