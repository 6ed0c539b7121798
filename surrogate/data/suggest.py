"""Proposals for files of no known program: what the file names is taken, what it does not say becomes a question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import xarray as xr

from surrogate.data.axis_names import AxisNames, plain_name
from surrogate.data.file_patterns import state_files
from surrogate.data.formats.containers import Container, Hdf5File
from surrogate.data.formats.ragged import STEPS
from surrogate.data.formats.split_names import GROUP, without_group
from surrogate.data.formats.variables import attributes
from surrogate.data.mapping import NO_AXIS, NONE, is_channel, placeholders
from surrogate.data.proposal import Proposal, Question, few_steps, time_split
from surrogate.data.split_parts import group_split, parts_together, split_groups
from surrogate.data.survey import NUMBER, Item, Survey
from surrogate.errors import DataError

__all__ = ["propose", "suggest_named"]

INPUT = r"^(inputs?|in|features?|source|x)$"
TARGET = r"^(targets?|outputs?|out|labels?|y)$"
CLOCKS = ("ocean_time", "t", "Time", "TIME", "time_step", "Times", "tt")
SERIES = 3  # numbered datasets that are simulations
FEW = 10  # simulations of which a tenth would be none


def suggest_named(path: str, layout: str | None, opened: xr.Dataset) -> Proposal:
    """Propose the `data:` section for files whose layout has a name.

    Arguments:
        path: The path as the user gave it.
        layout: Name of the layout; None where it is recognised anyway.
        opened: The files, opened in it.
    """
    own = {*opened.dims, "origin", "group", "seed", STEPS}
    names = [name for name, variable in opened.variables.items() if name not in own and variable.dtype.kind in "fiu"]
    names = [name for name in names if name in opened.data_vars or _differs(opened.variables[name])]
    proposal = Proposal(path, layout, axes={str(n): tuple(map(str, opened.variables[n].dims)) for n in names})
    groups = set(opened["group"].values) if "group" in opened.coords else set()
    proposal.split = group_split(groups) or _split(opened.sizes["sample"], opened.sizes.get("time", 0), proposal)
    return proposal


def _differs(parameter: xr.Variable) -> bool:
    """Test whether a coordinate is a parameter in which simulations differ."""
    return parameter.dims == ("sample",) and bool((parameter.values != parameter.values[:1]).any())


def _split(samples: int, steps: int, proposal: Proposal) -> dict[str, object]:
    """Divide simulations, or the time steps of one or two."""
    if samples >= 3 or not steps:
        return (
            {"validation": 0.1, "test": 0.1, "seed": 0}
            if samples >= FEW or not samples
            else {"validation": 1, "test": 1, "seed": 0}
        )
    if few_steps(steps):
        proposal.few_steps = True
    return time_split(steps)


def propose(path: str, survey: Survey, container: Container, files: Sequence[Path]) -> Proposal | None:
    """Propose a declared layout for files that no program or layout is recognised in; None where there is no field.

    Arguments:
        path: The path as the user gave it.
        survey: What the first file holds.
        container: The first file.
        files: All files.

    Raises:
        DataError: Datasets for training and test differ in more than their number of simulations, or numbered datasets
            in their number of steps.
    """
    fields = survey.of("field")
    if not fields:
        return None
    _check_lengths(fields)
    proposal = Proposal(path)
    groups = split_groups(fields)
    differ = False
    start = f"{groups[0]}/" if groups else ""
    if groups:
        proposal.options["groups"] = groups
        differ = len({i.shape[:1] for i in fields if i.path.startswith(tuple(f"{g}/" for g in groups))}) > 1
        proposal.split = group_split(set(groups)) or proposal.split
        shared = [replace(item, path=f"/{item.path}") for item in fields if "/" not in item.path]
        fields = [*(_below(item, start) for item in fields if item.path.startswith(start)), *shared]
    else:
        fields, words, differ = parts_together(fields, survey.reversed)
        proposal.split = group_split(words) or proposal.split
    wide = [size for item in fields for size in item.shape if len([s for s in item.shape if s > 1]) > 1]
    coordinates: dict[str, Item] = {}
    for item in survey.of("coordinate"):
        if item.axes is None and max(item.shape) in wide:
            coordinates.setdefault(_axis_of(item), _below(item, start))
    draft = AxisNames(survey, {axis: max(item.shape) for axis, item in coordinates.items()})
    names = _distinct(fields)
    _declare(proposal, draft, fields, names)
    scales = {scale.first: scale.shape for scale in survey.of("coordinate") if not scale.numbers}
    for item in fields:
        for axis, size, scale in zip(
            proposal.variables[names[item.first]]["axes"], item.shape, item.scales, strict=False
        ):
            if scales.get(scale) == (size,) and axis not in (NO_AXIS, "channel"):
                proposal.coordinates.setdefault(axis, {"path": scale.removeprefix(start), "axes": [axis]})
    for axis, item in coordinates.items():
        shape = [axis if size == max(item.shape) else NO_AXIS for size in item.shape]
        if axis in draft.sizes:
            proposal.coordinates[axis] = {"path": item.path, "axes": shape}
    _add_parameters(proposal, survey, container)
    _choose_sides(proposal, fields, names)
    state_files(proposal, files)
    _ask(proposal, draft, fields, differ)
    clash = {*proposal.variables} & ({*draft.sizes, "origin", "group"} | {*proposal.coordinates})
    for name in clash:
        _rename(proposal, name, f"{name}_value")
    return proposal


def _check_lengths(fields: Sequence[Item]) -> None:
    """Refuse numbered datasets that differ in the length of their first axis alone: simulations of unequal length.

    Raises:
        DataError: There are such; the message names the shortest and the longest.
    """
    numbered: dict[tuple[str, tuple[int, ...]], list[Item]] = {}
    for item in fields:
        pattern = NUMBER.sub("*", item.path)
        if pattern != item.path and item.shape and item.axes is None:
            numbered.setdefault((pattern, item.shape[1:]), []).append(item)
    unequal = [items for items in numbered.values() if len(items) >= SERIES and len({i.shape for i in items}) > 1]
    if unequal and 2 * sum(map(len, unequal)) >= len(fields):  # else the file holds more than such a series
        items = sorted(unequal[0], key=lambda item: item.shape[0])
        short, long, pattern = items[0], items[-1], NUMBER.sub("*", items[0].path)
        raise DataError(
            f"{pattern}: {len(items)} datasets differ in length, from {short.shape} ({short.path}) to {long.shape} "
            f"({long.path}); write as many steps of each, or files of The Well, which may differ in length"
        )


def _declare(proposal: Proposal, draft: AxisNames, fields: Sequence[Item], names: Mapping[str, str]) -> None:
    """Declare the datasets as variables, in the order of the file; the widest name the axes of the others."""
    axes = {item.first: draft.axes(item) for item in sorted(fields, key=lambda item: -len(item.shape))}
    order = {item.first: i for i, item in enumerate(draft.survey.items)}
    for item in sorted(fields, key=lambda item: order.get(item.first, 0)):
        known, name = axes[item.first], names[item.first]
        units = {"units": item.units} if item.units else {}
        proposal.variables[name] = {"path": item.path, "axes": list(known), **units}
        proposal.axes[name] = (
            *[k for k in item.numbers if k in ("sample", "time")],
            *[a for a in known if a != NO_AXIS],
        )
        if item.axes is None and len(item.shape) > 1:
            order_of_matlab = "MATLAB stores axes reversed; " if draft.survey.reversed else ""
            proposal.remarks[name] = f"{order_of_matlab}check the order"


def _rename_axis(proposal: Proposal, old: str, new: str) -> None:
    """Rename an axis of all datasets; parameters keep theirs, which counts simulations."""
    for entries in (proposal.variables, proposal.coordinates):
        for name, entry in entries.items():
            if "axes" in entry:
                entry["axes"] = [new if axis == old else axis for axis in entry["axes"]]
                proposal.axes[name] = tuple(new if axis == old else axis for axis in proposal.axes.get(name, ()))


def _rename(proposal: Proposal, old: str, new: str) -> None:
    """Rename a variable whose name an axis has."""
    for mapping in (proposal.variables, proposal.axes, proposal.remarks):
        if old in mapping:
            mapping[new] = mapping.pop(old)  # type: ignore[assignment]
    for side in ("inputs", "targets"):
        names = getattr(proposal, side)
        setattr(proposal, side, [new if name == old else name for name in names] if names else names)


def _below(item: Item, start: str) -> Item:
    return replace(item, path=item.path.removeprefix(start))


def _axis_of(item: Item) -> str:
    """Name the axis that a coordinate describes."""
    name = re.sub(r"[-_ ]?(coordinates?|coords?|grid|axis)$", "", item.name)
    return {"t": "time", "tt": "time", "xx": "x", "yy": "y"}.get(name, name)


def _distinct(fields: Sequence[Item]) -> dict[str, str]:
    """Name datasets by the last part of their path that is no number, with parents where names repeat."""
    parts = {}
    for item in fields:
        pieces = [p for p in map(without_group, item.path.split("/")) if not re.fullmatch(r"[\d.]*|\{\w+\}", p)]
        parts[item.first] = pieces or ["data"]
    depth = dict.fromkeys(parts, 1)
    for _ in range(8):
        names = {first: plain_name("_".join(pieces[-depth[first] :])) for first, pieces in parts.items()}
        repeated = [f for f, name in names.items() if list(names.values()).count(name) > 1]
        if not repeated:
            return names
        for first in repeated:
            depth[first] += 1
    return {first: f"{name}_{i}" for i, (first, name) in enumerate(names.items())}


def _add_parameters(proposal: Proposal, survey: Survey, container: Container) -> None:
    """Add numbers and attributes that numbered objects have, as parameters."""
    for item in survey.of("number"):
        if item.numbers and plain_name(item.name) not in proposal.variables and len(item.shape) == 0:
            name = plain_name(item.name)
            proposal.variables[name] = {"path": item.path}
            proposal.axes[name] = tuple(k if k in ("sample", "time") else "n" for k in item.numbers)
    numbered = next((item for item in survey.of("field") if item.numbers), None)
    if numbered is None or not isinstance(container, Hdf5File):
        return
    parents = list(zip(numbered.path.split("/")[:-1], numbered.first.split("/")[:-1], strict=True))
    for depth in range(len(parts := parents), 0, -1):
        pattern, first = "/".join(p for p, _ in parts[:depth]), "/".join(f for _, f in parts[:depth])
        if not placeholders(pattern):
            break
        item = container.handle.get(first)
        attrs = attributes(item) if isinstance(item, h5py.Group) else {}
        for name, value in attrs.items():
            if type(value) in (int, float) and plain_name(name) not in proposal.variables:
                axis = "time" if "time" in numbered.numbers and plain_name(name) in ("time", "t") else ""
                target = proposal.coordinates if axis else proposal.variables
                target[axis or plain_name(name)] = {"path": pattern, "attribute": name}
                if not axis:
                    proposal.axes[plain_name(name)] = ("n",)


def _choose_sides(proposal: Proposal, fields: Sequence[Item], names: Mapping[str, str]) -> None:
    """Keep inputs and targets apart where groups or datasets are named so."""
    sides: dict[str, list[str]] = {}
    for item in fields:
        parts = [without_group(part) for part in item.path.split("/")]
        for side, form in (("inputs", INPUT), ("targets", TARGET)):
            if any(re.match(form, part, re.IGNORECASE) for part in (parts[:-1] or parts)):
                sides.setdefault(side, []).append(names[item.first])
    if len(sides) == 2 and not {*sides["inputs"]} & {*sides["targets"]}:
        proposal.inputs, proposal.targets = sides["inputs"], sides["targets"]


def _ask(proposal: Proposal, draft: AxisNames, fields: Sequence[Item], differ: bool) -> None:
    """Ask for the axes of simulations and time where the file does not tell."""
    counts = {name: count for item in fields for name, count in item.numbers.items()}
    counts |= {name: 2 for name in placeholders(proposal.options.get("files")) if f"{{{name}}}" != GROUP}
    axes = {axis for item in proposal.axes.values() for axis in item} | set(counts)
    neutral = [a for a in draft.sizes if re.fullmatch(r"n\d*|m\d*|axis\d+", a)]
    neutral += [name for name in counts if name.startswith("number")]
    sizes = draft.sizes | counts
    clocks = [axis for axis in draft.sizes if axis in CLOCKS]
    if clocks and "time" not in axes:
        proposal.options["time"] = clocks[0]
        proposal.axes = {n: tuple("time" if a == clocks[0] else a for a in d) for n, d in proposal.axes.items()}
    asked = "time" not in axes and not clocks and neutral
    if "sample" in axes and "n" in draft.sizes and max(len(item.shape) for item in fields) < 3:
        _rename_axis(proposal, "n", "y" if "y" not in draft.sizes else "n")
        asked = []
    parameters = [n for n, dims in proposal.axes.items() if dims == ("n",) and "n" in draft.sizes]
    explained = draft.lengths and neutral == ["n"] and parameters
    if "sample" not in axes and (differ or explained) and "n" in draft.sizes:
        proposal.options["sample"] = "n"
        proposal.axes = {n: tuple("sample" if a == "n" else a for a in d) for n, d in proposal.axes.items()}
        return
    told = {axis for item in fields if item.axes for axis in item.axes} - {*neutral}
    names = [a for a in sizes if not is_channel(a) and a not in ("time", *clocks)]
    steps = sizes.get("time", sizes[clocks[0]] if clocks else 0)
    proposal.few_steps = proposal.few_steps or 0 < steps < 6
    single = "sample" not in axes and not any(isinstance(size, dict) for size in proposal.split.values())
    if "sample" not in axes and neutral:
        answers = {a: f"each of its {sizes[a]} entries is a simulation" for a in names if a in neutral}
        others = [a for a in names if a not in neutral and a not in told]
        answers |= {a: f"each of its {sizes[a]} entries is a simulation; unusual for space" for a in others}
        answers = {a: ("each object of that number is a simulation" if a in counts else t) for a, t in answers.items()}
        rest = "the data are one simulation; then also set split: {by: time, validation: 0.1, test: 0.1}"
        proposal.questions["sample"] = Question("Which axis counts the simulations?", answers | {NONE: rest})
    elif single and steps < 3 and "files" not in proposal.options:
        _ask_for_states(proposal, sizes, names, steps)
    elif single:
        proposal.split = _split(1, steps, proposal)
    if asked:
        answers = dict.fromkeys(neutral, "each of its entries is a time step")
        proposal.questions["time"] = Question("Which axis counts the time steps?", {NONE: "there is no time"} | answers)


def _ask_for_states(proposal: Proposal, sizes: Mapping[str, int], names: Sequence[str], steps: int) -> None:
    """Ask what a sample is, where there is one simulation of one or two states."""
    warning = "its entries are samples; neighbours are in training and test, so errors are too good"
    used = {axis for dims in proposal.axes.values() for axis in dims}
    answers = {axis: f"{warning} ({sizes[axis]})" for axis in names if axis in used}
    rest = (
        f"one simulation of {max(steps, 1)} state{'s' if steps > 1 else ''}, which cannot be divided: name more files"
    )
    proposal.questions["sample"] = Question(
        f"The data are one simulation of {max(steps, 1)} state{'s' if steps > 1 else ''}. What is a sample?",
        answers | {NONE: rest},
    )
