"""The `study:` section of a configuration."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from surrogate.config import Settings, Source, validate

__all__ = ["SEED_KEYS", "STUDY", "Grid", "GridStudy", "Proposing", "StudySettings", "Value", "read_study"]

STUDY = "study"
SEED_KEYS = ("training.seed", "data.split.train_seed")
TRAIN_SIZE = "data.split.train"
EPOCHS = "training.epochs"

Value = bool | int | float | str
Values = Annotated[list[Value], Field(min_length=1)]
Grid = dict[str, Values]


class Proposing(Settings):
    """Settings of a closed loop: train, choose the next simulations, run them, train again.

    Arguments:
        initial: Simulations to start with, the same for every way of choosing.
        batch: Simulations that are added in a round.
        rounds: Rounds of choosing.
        ways: How the next are chosen: by the largest predictive `variance`, or at `random`.
    """

    initial: int = Field(10, ge=2)
    batch: int = Field(10, ge=1)
    rounds: int = Field(4, ge=1)
    ways: list[Literal["variance", "random"]] = Field(default=["variance", "random"], min_length=1)

    @property
    def sizes(self) -> list[int]:
        """Number of training simulations after every round."""
        return [self.initial + self.batch * number for number in range(self.rounds + 1)]


class GridStudy(Settings):
    """Every method at every point of one grid or several, with several seeds.

    Arguments:
        kind: The question. `learning_curve`: error against the number of training simulations; `sensitivity`: error
            against settings of the method; `budget`: error against epochs, seconds and simulations; `propose`: error
            against the number of simulations, by the way in which the next are chosen.
        axes: Values of dotted keys, each set as `--set` would; a mapping is one grid (every value with every other), a
            list of mappings is one grid each around the base configuration. A key that a method does not have leaves
            that method as it is.
        seeds: Each seeds the initial weights and the order of the data (`training.seed`) and draws its own training
            simulations (`data.split.train_seed`); validation and test simulations are the same for all.
        tuning: Values of dotted keys that every method may choose from, or such a grid by method, all with the same
            number of trials. Chosen for every point and seed by the lowest validation loss.
        metric: What is compared on the test simulations.
        epochs: Epochs at which a budget study reports the validation loss.
        propose: The loop of a study that proposes; such a study has no axes and no tuning.
    """

    kind: Literal["learning_curve", "sensitivity", "budget", "propose"]
    axes: Grid | list[Grid] = Field(default_factory=dict)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    tuning: Grid | dict[str, Grid] = Field(default_factory=dict)
    metric: str = "relative_l2"
    epochs: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    propose: Proposing | None = None

    @property
    def grids(self) -> list[Grid]:
        """The grids; without axes one of a single point."""
        return (self.axes if isinstance(self.axes, list) else [self.axes]) or [{}]

    @property
    def keys(self) -> list[str]:
        """Keys of all axes, in order."""
        return list(dict.fromkeys(key for grid in self.grids for key in grid))

    def tuning_of(self, method: str) -> Grid:
        """Return the values that a method may choose from, by key."""
        grids = {name: grid for name, grid in self.tuning.items() if isinstance(grid, dict)}
        return grids.get(method, {}) if grids else {k: v for k, v in self.tuning.items() if isinstance(v, list)}

    def trials_of(self, method: str) -> int:
        """Return the number of trials of a method at every point and seed."""
        return math.prod(len(values) for values in self.tuning_of(method).values())

    @model_validator(mode="after")
    def _loop(self) -> Self:
        if (self.kind == "propose") != (self.propose is not None):
            raise ValueError("a section `propose` goes with kind propose, and with no other")
        if self.propose is not None and (self.tuning or set(self.keys) - {TRAIN_SIZE}):
            raise ValueError("a study that proposes has no axes and no tuning; its axis is the number of simulations")
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed appears twice in seeds; list each once")
        tuned = {key for name, entry in self.tuning.items() for key in (entry if isinstance(entry, dict) else [name])}
        for key in [*self.keys, *tuned]:
            if key in SEED_KEYS:
                raise ValueError(f"{key} is set by `seeds`; name the seeds there")
        if both := sorted(tuned & set(self.keys)):
            raise ValueError(f"{both[0]} is both an axis and tuned; choose one of the two")
        for key, values in [item for grid in self.grids for item in grid.items()]:
            if len({repr(value) for value in values}) < len(values):
                raise ValueError(f"axes: {key} has a value twice; list each once")
        return self


StudySettings = GridStudy


class _File(Settings):
    study: StudySettings


def read_study(source: Source) -> StudySettings:
    """Validate the `study:` section of a file.

    Raises:
        ConfigError: One line for every mistake.
    """
    return validate(Source(source.name, {STUDY: source.tree[STUDY]}, source.lines), _File).study
