"""Splits by simulation or time: seeded, nested, never overlapping."""

from __future__ import annotations

import operator
import re
import warnings

import numpy as np
import xarray as xr

from surrogate.data.formats.ragged import same_length
from surrogate.data.settings import NamedGroup, SplitSettings, Window
from surrogate.errors import DataError, did_you_mean

__all__ = ["split", "split_ids"]

PARTS = ("train", "validation", "test")
COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
STEPS_OF_PART = "time_steps_of_part"


def split(
    ds: xr.Dataset, settings: SplitSettings, *, by: str | None = None, window: Window | None = None
) -> dict[str, xr.Dataset]:
    """Divide data into training, validation and test, by whole simulations, or every simulation by time.

    The draw depends on the seeds and the simulations alone; smaller training sets are subsets of larger ones.

    Arguments:
        ds: The data.
        settings: Sizes, named groups and seed.
        by: Coordinate on `sample` that names the simulation; None makes every sample one of its own.
        window: Steps of a sample; the gap between parts in time is as long, unless the settings say otherwise.

    Returns:
        Data sets under `train`, `validation` and `test`; a part of size 0 is left out.

    Raises:
        DataError: There are too few simulations, a group does not exist, or two parts share a simulation.

    Example:
        >>> ds = xr.Dataset({"u": (("sample", "x"), np.zeros((20, 3)))})
        >>> {part: data.sizes["sample"] for part, data in split(ds, SplitSettings(validation=4, test=0.1)).items()}
        {'train': 14, 'validation': 4, 'test': 2}
    """
    if ds.sizes.get("sample", 0) == 0:
        raise DataError(f"the data have no sample to split (sizes {dict(ds.sizes)}); check the selection")
    if settings.by == "time":
        ranges = _time_ranges(ds, settings, window)
        return {
            name: ds.isel(time=steps).assign_attrs({STEPS_OF_PART: f"steps {steps.start} to {steps.stop - 1}"})
            for name, steps in ranges.items()
        }
    simulations = _simulations(ds, by)
    parts = _draw(ds, simulations, settings)
    chosen = {name: np.flatnonzero(np.isin(simulations, parts[name])) for name in PARTS}
    return {name: ds.isel(sample=index) for name, index in chosen.items() if len(index)}


def split_ids(parts: dict[str, xr.Dataset], *, by: str | None = None) -> dict[str, list[str]]:
    """List the simulations of each part, by coordinate `by`, or by their origin."""
    ids = {}
    for name, ds in parts.items():
        key = by or ("origin" if "origin" in ds.variables else "sample")
        steps = f" {ds.attrs[STEPS_OF_PART]}" if STEPS_OF_PART in ds.attrs else ""
        ids[name] = [f"{value}{steps}" for value in dict.fromkeys(ds[key].values.tolist())]
    return ids


def _time_ranges(ds: xr.Dataset, settings: SplitSettings, window: Window | None) -> dict[str, slice]:
    """Divide the time steps: the first train, the last test, a gap before validation and test.

    Raises:
        DataError: There is no time axis, simulations differ in length, or there are too few steps.
    """
    total = ds.sizes.get("time", 0)
    if not total:
        raise DataError("data.split: by: time, but the data have no axis 'time'; split by simulation")
    if not same_length(ds):
        raise DataError("data.split: by: time, but simulations differ in their number of steps; split by simulation")
    extent = window.extent if window else 1
    gap = extent if settings.gap is None else settings.gap
    ranges, end = {}, total
    for name, size in (("test", settings.test), ("validation", settings.validation)):
        count = max(extent, round(size * total)) if isinstance(size, float) and size else int(size)  # type: ignore[arg-type]
        if count:
            ranges[name] = slice(end - count, end)
            end -= count + gap
    ranges["train"] = slice(0, min(end, settings.train or end))
    short = [name for name in PARTS if name in ranges and (ranges[name].start < 0 or _length(ranges[name]) < extent)]
    if short or end < (settings.train or 1):
        raise DataError(
            f"data.split: {total} time steps are too few for train, validation and test of at least {extent} and gaps "
            f"of {gap} (a window has {extent} steps); ask for fewer, set validation: 0 or gap: 0, or bring more steps"
        )
    shown = ", ".join(f"{name} {ranges[name].start} to {ranges[name].stop - 1}" for name in PARTS if name in ranges)
    warnings.warn(
        f"split by time: of {total} steps {shown}, with gaps of {gap}; the errors tell how the model continues these "
        "simulations, not how it does on new ones"
    )
    return {name: ranges[name] for name in PARTS if name in ranges}


def _length(steps: slice) -> int:
    return max(0, steps.stop - steps.start)


def _simulations(ds: xr.Dataset, by: str | None) -> np.ndarray:
    """Number the simulation of every sample, in order of first appearance."""
    if by is None:
        return np.arange(ds.sizes["sample"])
    names = _labels(ds, by, "data.by")
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _labels(ds: xr.Dataset, name: str, key: str) -> np.ndarray:
    known = [str(key) for key, variable in ds.variables.items() if variable.dims == ("sample",)]
    if name not in known:
        raise DataError(f"{key}: no coordinate '{name}' on the samples; {did_you_mean(name, known)}")
    return np.asarray(ds[name].values)


def _draw(ds: xr.Dataset, simulations: np.ndarray, settings: SplitSettings) -> dict[str, np.ndarray]:
    """Draw the simulations of each part, by number."""
    parts: dict[str, np.ndarray] = {}
    taken = np.zeros(0, np.int64)
    if settings.folds is not None:
        parts["test"] = _fold(simulations, settings)
    elif settings.extrapolate:
        parts["test"] = _outside(ds, simulations, settings)
    taken = parts.get("test", taken)
    sizes = [("validation", settings.validation)]
    if "test" not in parts:
        sizes.insert(0, ("test", settings.test))
    for name, size in sizes:
        if isinstance(size, NamedGroup):
            parts[name] = _group(ds, simulations, size.group, name)
            taken = np.union1d(taken, parts[name])
    left = np.setdiff1d(simulations, taken)
    left = np.random.default_rng(settings.seed).permutation(left)
    total = len(left)
    for name, size in sizes:
        if not isinstance(size, NamedGroup):
            count = max(1, round(size * total)) if 0 < size < 1 else int(size)
            parts[name], left = left[:count], left[count:]
            _check_count(name, count, len(parts[name]), total)
    if settings.train_seed is not None:
        left = np.random.default_rng([settings.seed, settings.train_seed]).permutation(left)
    parts["train"] = left if settings.train is None else left[: settings.train]
    for one, two in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = np.intersect1d(parts[one], parts[two])
        if len(shared):
            raise DataError(
                f"data.split: {one} and {two} share {len(shared)} simulations; choose groups that do not overlap"
            )
    _check_count("train", settings.train or 1, len(parts["train"]), total)
    return parts


def _fold(simulations: np.ndarray, settings: SplitSettings) -> np.ndarray:
    """Return the simulations of one of k parts of about equal size, drawn by the seed alone."""
    order = np.random.default_rng(settings.seed).permutation(np.unique(simulations))
    folds = len(order) if settings.folds == "leave_one_out" else int(settings.folds or 0)
    if folds > len(order) or settings.fold >= folds:
        raise DataError(
            f"data.split.folds: {max(folds, settings.fold + 1)} folds of {len(order)} simulations; choose at most as "
            "many folds as there are simulations, and a fold below their number"
        )
    return np.array_split(order, folds)[settings.fold]


def _outside(ds: xr.Dataset, simulations: np.ndarray, settings: SplitSettings) -> np.ndarray:
    """Return the simulations that meet any of the conditions."""
    chosen = np.zeros(len(simulations), bool)
    for name, condition in settings.extrapolate.items():
        values = _labels(ds, name, "data.split.extrapolate")
        sign, number = re.findall(r"[<>]=?|[^<>=\s]+", condition)
        chosen |= COMPARISONS[sign](values, float(number))
    if not 0 < chosen.sum() < len(chosen):
        raise DataError(
            f"data.split.extrapolate: {chosen.sum()} of {len(chosen)} samples meet {settings.extrapolate}; choose a "
            "condition that leaves simulations on both sides"
        )
    return np.unique(simulations[chosen])


def _check_count(name: str, wanted: int, left: int, total: int) -> None:
    if left < wanted:
        raise DataError(
            f"data.split: {name} takes {wanted} simulations, but {left} of {total} are left for it; "
            "ask for fewer, or bring more simulations"
        )


def _group(ds: xr.Dataset, simulations: np.ndarray, group: str, part: str) -> np.ndarray:
    labels = _labels(ds, "group", f"data.split.{part}.group")
    members = np.unique(simulations[labels == group])
    if len(members) == 0:
        names = sorted({str(label) for label in labels})
        raise DataError(f"data.split.{part}.group: no simulation in group '{group}'; {did_you_mean(group, names)}")
    return members
