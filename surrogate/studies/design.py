"""Expand a study into its points: every method at every point of every grid, with every trial and seed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from surrogate.config import Source, assign
from surrogate.errors import ConfigError, did_you_mean
from surrogate.studies.settings import SEED_KEYS, STUDY, Grid, GridStudy, Value

__all__ = ["Point", "expand"]


@dataclass(frozen=True)
class Point:
    """One training run of a study.

    Arguments:
        method: Name of the method.
        grid: Number of the grid.
        values: Value of every axis of the grid; None if the method has no such setting.
        trial: Tuned values, by key.
        seed: The seed.
        source: Its complete configuration.
    """

    method: str
    grid: int
    values: dict[str, Value | None]
    trial: dict[str, Value]
    seed: int
    source: Source


def expand(study: GridStudy, methods: Mapping[str, Source], keys: Mapping[str, Collection[str]]) -> list[Point]:
    """List every point of a study, in an order that depends on the study alone.

    Arguments:
        study: The study.
        methods: Configuration of every method.
        keys: Dotted keys that the configuration of a method has, defaults included.

    Raises:
        ConfigError: An axis or a tuned key fits no method, or the methods would not get the same number of trials.
    """
    _check_keys(study, methods, keys)
    return [
        Point(
            name,
            number,
            values,
            _given(trial),
            seed,
            assign(source, _given(values | trial | dict.fromkeys(SEED_KEYS, seed))),
        )
        for number, grid in enumerate(study.grids)
        for name, source in methods.items()
        for values in _places(grid, keys[name])
        for trial in _places(study.tuning_of(name), keys[name])
        for seed in study.seeds
    ]


def _places(grid: Grid, known: Collection[str]) -> Iterator[dict[str, Value | None]]:
    """Yield every combination of the values; a key that the method lacks has the one value None."""
    columns = [values if key in known else [None] for key, values in grid.items()]
    for values in product(*columns):
        yield dict(zip(grid, values, strict=True))


def _given(values: Mapping[str, Value | None]) -> dict[str, Value]:
    return {key: value for key, value in values.items() if value is not None}


def _check_keys(study: GridStudy, methods: Mapping[str, Source], keys: Mapping[str, Collection[str]]) -> None:
    source = next(iter(methods.values()))
    everything = sorted({key for known in keys.values() for key in known})
    for key in study.keys:
        if key not in everything:
            where = source.where((STUDY, "axes", key))
            raise ConfigError(f"{where}: study.axes: no method has a setting {key}; {did_you_mean(key, everything)}")
    where = source.where((STUDY, "tuning"))
    by_method = [name for name, entry in study.tuning.items() if isinstance(entry, dict)]
    for name in by_method:
        if name not in methods:
            raise ConfigError(f"{where}: study.tuning: no case {name}; {did_you_mean(name, methods)}")
    for name in methods:
        for key in study.tuning_of(name):
            if key not in keys[name]:
                raise ConfigError(
                    f"{where}: study.tuning: {name} has no setting {key}; {did_you_mean(key, sorted(keys[name]))} "
                    "Or give each method a grid of its own, with the same number of trials"
                )
    trials = {name: study.trials_of(name) for name in methods}
    if len(set(trials.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in trials.items())
        raise ConfigError(
            f"{where}: study.tuning: the methods would not get the same number of trials ({counts}); "
            "equal tuning is what makes them comparable: give each as many"
        )
