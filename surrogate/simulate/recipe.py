"""Recipes: everything that a data set follows from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from surrogate.checks import ConfigError, did_you_mean
from surrogate.config import Settings, load
from surrogate.simulate.registry import EQUATIONS

__all__ = ["Range", "Recipe", "Size", "find_recipe", "load_recipe"]

FILE = "recipe.yaml"
PACKAGE = Path(__file__).parents[1]
CATALOGUES = (PACKAGE / "share" / "datasets", PACKAGE.parent / "datasets")


class Range(Settings):
    """A random number between two bounds, uniform in itself or in its logarithm."""

    low: float
    high: float
    units: str
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.high < self.low:
            raise ValueError("low is above high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("a log scale needs low above zero")
        return self

    def at(self, share: float) -> float:
        """The number at a share in [0, 1) of the way."""
        if self.scale == "log":
            return float(self.low * (self.high / self.low) ** share)
        return self.low + (self.high - self.low) * share


class Size(Settings):
    """How much is simulated.

    Arguments:
        simulations: Number of simulations.
        grid: Points along each axis, slowest axis first.
        snapshots: Number of snapshots, the initial one included.
        final_time: Time of the last snapshot in seconds.
        shard: Simulations in one file.
    """

    simulations: int = Field(gt=0)
    grid: tuple[int, ...] = Field(min_length=1, max_length=3)
    snapshots: int = Field(ge=2)
    final_time: float = Field(gt=0)
    shard: int = Field(gt=0)


class Recipe(Settings):
    """Everything a data set follows from.

    Arguments:
        name: Name of the data set.
        equation: Name of the equation in the registry.
        seed: The one seed of the data set.
        lengths: Length of the box along each axis in metres, slowest axis first.
        parameters: Range of each number that the equation draws.
        sizes: What each size simulates.
        max_failed: Largest share of simulations that may blow up.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9_-]*$")
    equation: str
    seed: int = Field(ge=0)
    lengths: tuple[float, ...] = Field(min_length=1, max_length=3)
    parameters: dict[str, Range]
    sizes: dict[Literal["tiny", "default", "full"], Size] = Field(min_length=1)
    max_failed: float = Field(default=0.1, ge=0, le=1)

    @field_validator("equation")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in EQUATIONS:
            raise ValueError(f"unknown equation; {did_you_mean(name, EQUATIONS)}")
        return name

    @field_validator("lengths")
    @classmethod
    def _positive(cls, lengths: tuple[float, ...]) -> tuple[float, ...]:
        if min(lengths) <= 0:
            raise ValueError("a length is not above zero")
        return lengths

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
        return parameters

    @field_validator("sizes")
    @classmethod
    def _gridded(cls, sizes: dict[str, Size], info: ValidationInfo) -> dict[str, Size]:
        if not {"equation", "lengths"} <= info.data.keys():
            return sizes
        axes, points = len(info.data["lengths"]), EQUATIONS[info.data["equation"]].points
        for name, size in sizes.items():
            if len(size.grid) != axes or min(size.grid) < points:
                raise ValueError(f"{name}.grid needs {axes} axes of at least {points} points, got {list(size.grid)}")
        return sizes


def find_recipe(recipe: str | Path) -> Path:
    """The recipe file of a data set of the catalogue, or a recipe file given by its path.

    Raises:
        ConfigError: There is none of that name.
    """
    text = str(recipe)
    if text.endswith((".yaml", ".yml")):
        return Path(recipe)
    if re.fullmatch(r"[A-Za-z0-9_-]+", text):
        for catalogue in CATALOGUES:
            if (catalogue / text / FILE).is_file():
                return catalogue / text / FILE
    names = sorted({path.parent.name for catalogue in CATALOGUES for path in catalogue.glob(f"*/{FILE}")})
    raise ConfigError(f"no data set '{text}' in the catalogue; {did_you_mean(text, names)}, or give a .yaml file")


def load_recipe(recipe: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by name or path."""
    return load(find_recipe(recipe), Recipe, overrides)
