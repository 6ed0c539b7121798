"""Proposals for files of no known program: what the file names is taken, what it does not say becomes a question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import xarray as xr

from surrogate.data.formats.containers import Container, Hdf5File
from surrogate.data.formats.ragged import STEPS
from surrogate.data.formats.variables import attributes
from surrogate.data.mapping import NO_AXIS, NONE, is_channel, placeholders
from surrogate.data.proposal import Proposal, Question, few_steps, time_split
from surrogate.data.survey import Item, Survey, number_name

__all__ = ["name_folders", "propose", "propose_axes", "suggest_named"]

USUAL = {
    0: (),
    1: ("sample",),
    2: ("sample", "x"),
    3: ("sample", "y", "x"),
    4: ("sample", "time", "y", "x"),
    5: ("sample", "time", "y", "x", "channel"),
    6: ("sample", "time", "z", "y", "x", "channel"),
}
NEUTRAL = {0: (), 1: ("n",), 2: ("n", "x"), 3: ("n", "y", "x"), 4: ("n", "m", "y", "x"), 5: ("n", "m", "z", "y", "x")}
TRAIN, VALID, TEST = r"^train(ing)?$", r"^val(id|idation)?$", r"^test(ing)?$"
INPUT = r"^(inputs?|in|features?|source|x)$"
TARGET = r"^(targets?|outputs?|out|labels?|y)$"
CLOCKS = ("ocean_time", "t", "Time", "TIME", "time_step", "Times", "tt")
COMPONENTS = 3  # of a vector: as many entries along a last axis that is the only short one
FEW = 10  # simulations of which a tenth would be none


def propose_axes(shape: Sequence[int], lengths: Mapping[str, int]) -> tuple[str, ...]:
    """Name axes as they usually are for a rank, or by the lengths of coordinates, to estimate the cost of reading.

    Arguments:
        shape: Shape of the dataset.
        lengths: Lengths of the axes that the file seems to have coordinates for.
    """
    axes = _by_length(shape, lengths)
    if not any(axes):
        return USUAL.get(len(shape), tuple(f"axis{index}" for index in range(len(shape))))
    first = next(index for index, axis in enumerate(axes) if axis)
    before = [axis for axis in ("sample", "time") if axis not in axes]
    for index, axis in enumerate(axes):
        spare = before if index < first else ["channel"] if "channel" not in axes else []
        axes[index] = axis or (spare.pop(0) if spare else f"axis{index}")
    return tuple(axes)


def _by_length(shape: Sequence[int], lengths: Mapping[str, int]) -> list[str]:
    """Match axes to coordinates by length, from the right: of equal lengths the last is x, the one before y."""
    axes: list[str] = []
    for entry in reversed(shape):
        matches = [axis for axis in ("x", "y", "z", "time", *lengths) if lengths.get(axis) == entry]
        axes.insert(0, next((axis for axis in matches if axis not in axes), ""))
    return axes


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
    proposal.split = _group_split(groups) or _split(opened.sizes["sample"], opened.sizes.get("time", 0), proposal)
    return proposal


def _differs(parameter: xr.Variable) -> bool:
    """Test whether a coordinate is a parameter in which simulations differ."""
    return parameter.dims == ("sample",) and bool((parameter.values != parameter.values[:1]).any())


def _group_split(groups: set[str]) -> dict[str, object] | None:
    """Divide by groups with the usual names."""
    named = {
        part: [g for g in groups if re.match(form, g, re.I)] for part, form in (("validation", VALID), ("test", TEST))
    }
    if not any(named.values()):
        return None
    parts = {part: {"group": groups_of[0]} if groups_of else 0.1 for part, groups_of in named.items()}
    return {**parts, "seed": 0}


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


@dataclass
class _Draft:
    """What is known while a proposal is made."""

    survey: Survey
    lengths: dict[str, int]
    sizes: dict[str, int]

    def axes(self, item: Item) -> tuple[str, ...]:
        """Name the axes of a dataset: as the file does, by coordinates, else neutrally."""
        if item.axes is not None:
            names = [re.sub(r"[{}]", "", axis) or f"axis{i}" for i, axis in enumerate(item.axes)]
        else:
            inner = [size for size in item.shape if size != 1]
            matched = _by_length(inner, self.lengths)
            written = inner[::-1] if self.survey.reversed else inner  # in the order of their program
            last = ["channel"] if len(inner) > 1 and written[-1] <= COMPONENTS < min(written[:-1]) else []
            rank = len(inner) - len(last)
            neutral = [*NEUTRAL.get(rank, tuple(f"axis{i}" for i in range(rank))), *last]
            neutral = neutral[::-1] if self.survey.reversed else neutral
            if any(matched):
                first = next(i for i, axis in enumerate(matched) if axis)
                spare = iter(["n", "m", "m2", "m3"])
                neutral = [next(spare) if i < first or "channel" in matched else "channel" for i in range(len(inner))]
                neutral = [n if i < first else "channel" if i == len(inner) - 1 else n for i, n in enumerate(neutral)]
            picked = iter(name or spare_name for name, spare_name in zip(matched, neutral, strict=True))
            names = [NO_AXIS if size == 1 else next(picked) for size in item.shape]
        return tuple(self.consistent(n, s, item) if n != NO_AXIS else n for n, s in zip(names, item.shape, strict=True))

    def consistent(self, name: str, size: int, item: Item) -> str:
        """Give another name where one is taken for another length."""
        if self.sizes.setdefault(name, size) == size:
            return name
        if is_channel(name):
            return self.consistent(f"{_plain(item.name)}_channel", size, item)
        same = [
            other
            for other, length in self.sizes.items()
            if length == size and re.match(rf"{re.escape(name)}\d+$", other)
        ]
        return same[0] if same else self.consistent(f"{name}{len(self.sizes)}", size, item)

    def add_scales(self, proposal: Proposal, item: Item, axes: Sequence[str], start: str) -> None:
        """Add the dimension scales of a dataset as coordinates of its axes."""
        known = {scale.first: scale.shape for scale in self.survey.of("coordinate") if not scale.numbers}
        for axis, size, path in zip(axes, item.shape, item.scales, strict=False):
            if known.get(path) == (size,) and axis not in (NO_AXIS, "channel"):
                proposal.coordinates.setdefault(axis, {"path": path.removeprefix(start), "axes": [axis]})


def propose(path: str, survey: Survey, container: Container, files: Sequence[Path]) -> Proposal | None:
    """Propose a declared layout for files that no program or layout is recognised in; None where there is no field.

    Arguments:
        path: The path as the user gave it.
        survey: What the first file holds.
        container: The first file.
        files: All files.
    """
    fields = survey.of("field")
    if not fields:
        return None
    proposal = Proposal(path)
    groups = _split_groups(fields)
    differ = False
    if groups:
        proposal.options["groups"] = groups
        differ = len({i.shape[:1] for i in fields if i.path.startswith(tuple(f"{g}/" for g in groups))}) > 1
        proposal.split = _group_split(set(groups)) or proposal.split
        start = f"{groups[0]}/"
        fields = [_below(item, start) for item in fields if item.path.startswith(start) or "/" not in item.path]
    wide = [size for item in fields for size in item.shape if len([s for s in item.shape if s > 1]) > 1]
    coordinates: dict[str, Item] = {}
    for item in survey.of("coordinate"):
        if item.axes is None and max(item.shape) in wide:
            coordinates.setdefault(_axis_of(item), _below(item, f"{groups[0]}/" if groups else ""))
    draft = _Draft(survey, {axis: max(item.shape) for axis, item in coordinates.items()}, {})
    names = _distinct(fields)
    fields.sort(key=lambda item: -len(item.shape))  # the widest name the axes of the others
    axes = {item.first: draft.axes(item) for item in fields}
    order = {item.first: i for i, item in enumerate(survey.items)}
    for item in sorted(fields, key=lambda item: order.get(item.first, 0)):
        known = axes[item.first]
        units = {"units": item.units} if item.units else {}
        name = names[item.first]
        proposal.variables[name] = {"path": item.path, "axes": list(known), **units}
        proposal.axes[name] = (
            *[k for k in item.numbers if k in ("sample", "time")],
            *[a for a in known if a != NO_AXIS],
        )
        if item.axes is None and len(item.shape) > 1:
            proposal.remarks[name] = (
                "MATLAB stores axes reversed; check the order" if survey.reversed else "check the order"
            )
    for item in fields:
        draft.add_scales(proposal, item, axes[item.first], f"{groups[0]}/" if groups else "")
    for axis, item in coordinates.items():
        shape = [axis if size == max(item.shape) else NO_AXIS for size in item.shape]
        if axis in draft.sizes:
            proposal.coordinates[axis] = {"path": item.path, "axes": shape}
    _add_parameters(proposal, survey, container)
    _choose_sides(proposal, fields, names)
    _files(proposal, files)
    _ask(proposal, draft, fields, differ)
    clash = {*proposal.variables} & ({*draft.sizes, "origin", "group"} | {*proposal.coordinates})
    for name in clash:
        _rename(proposal, name, f"{name}_value")
    return proposal


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


def _plain(text: str) -> str:
    name = re.sub(r"\W+", "_", re.sub(r"\{(\w+)\}", r"\1", text)).strip("_")
    return name if name and not name[0].isdigit() else f"v_{name}".rstrip("_")


def _axis_of(item: Item) -> str:
    """Name the axis that a coordinate describes."""
    name = re.sub(r"[-_ ]?(coordinates?|coords?|grid|axis)$", "", item.name)
    return {"t": "time", "tt": "time", "xx": "x", "yy": "y"}.get(name, name)


def _split_groups(fields: Sequence[Item]) -> list[str]:
    """List groups that are parts of a split by their names and hold datasets of the same names and ranks."""
    members: dict[str, set[tuple[str, int]]] = {}
    for item in fields:
        group, _, name = item.path.partition("/")
        if name:
            members.setdefault(group, set()).add((name, len(item.shape)))
    parts = [g for g in members if any(re.match(form, g, re.IGNORECASE) for form in (TRAIN, VALID, TEST))]
    parts.sort(key=lambda g: [bool(re.match(f, g, re.IGNORECASE)) for f in (TRAIN, VALID, TEST)], reverse=True)
    return parts if len(parts) > 1 and len({frozenset(members[g]) for g in parts}) == 1 else []


def _distinct(fields: Sequence[Item]) -> dict[str, str]:
    """Name datasets by the last part of their path that is no number, with parents where names repeat."""
    parts = {}
    for item in fields:
        pieces = [p for p in item.path.split("/") if not re.fullmatch(r"[\d.]+|\{\w+\}", p)] or ["data"]
        parts[item.first] = pieces
    depth = dict.fromkeys(parts, 1)
    for _ in range(8):
        names = {first: _plain("_".join(pieces[-depth[first] :])) for first, pieces in parts.items()}
        repeated = [f for f, name in names.items() if list(names.values()).count(name) > 1]
        if not repeated:
            return names
        for first in repeated:
            depth[first] += 1
    return {first: f"{name}_{i}" for i, (first, name) in enumerate(names.items())}


def _add_parameters(proposal: Proposal, survey: Survey, container: Container) -> None:
    """Add numbers and attributes that numbered objects have, as parameters."""
    for item in survey.of("number"):
        if item.numbers and _plain(item.name) not in proposal.variables and len(item.shape) == 0:
            name = _plain(item.name)
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
            if type(value) in (int, float) and _plain(name) not in proposal.variables:
                axis = "time" if "time" in numbered.numbers and _plain(name) in ("time", "t") else ""
                target = proposal.coordinates if axis else proposal.variables
                target[axis or _plain(name)] = {"path": pattern, "attribute": name}
                if not axis:
                    proposal.axes[_plain(name)] = ("n",)


def _choose_sides(proposal: Proposal, fields: Sequence[Item], names: Mapping[str, str]) -> None:
    """Keep inputs and targets apart where groups or datasets are named so."""
    sides: dict[str, list[str]] = {}
    for item in fields:
        parts = item.path.split("/")
        for side, form in (("inputs", INPUT), ("targets", TARGET)):
            if any(re.match(form, part, re.IGNORECASE) for part in (parts[:-1] or parts)):
                sides.setdefault(side, []).append(names[item.first])
    if len(sides) == 2 and not {*sides["inputs"]} & {*sides["targets"]}:
        proposal.inputs, proposal.targets = sides["inputs"], sides["targets"]


def _files(proposal: Proposal, files: Sequence[Path]) -> None:
    """State the pattern of many files, where their names differ in one number."""
    if len(files) < 2 or len({file.parent for file in files}) > 1:
        return
    pieces = [re.split(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)", file.name) for file in files]
    if len({len(piece) for piece in pieces}) > 1:
        return
    varying = [i for i, column in enumerate(zip(*pieces, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return
    before = "".join(pieces[0][: varying[0]])
    name = number_name(before, [])
    proposal.options["files"] = before + f"{{{name}}}" + "".join(pieces[0][varying[0] + 1 :])


def _ask(proposal: Proposal, draft: _Draft, fields: Sequence[Item], differ: bool) -> None:
    """Ask for the axes of simulations and time where the file does not tell."""
    counts = {name: count for item in fields for name, count in item.numbers.items()}
    counts |= dict.fromkeys(placeholders(proposal.options.get("files")), 2)
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
    if "sample" not in axes and neutral:
        answers = {a: f"each of its {sizes[a]} entries is a simulation" for a in names if a in neutral}
        others = [a for a in names if a not in neutral and a not in told]
        answers |= {a: f"each of its {sizes[a]} entries is a simulation; unusual for space" for a in others}
        answers = {a: ("each object of that number is a simulation" if a in counts else t) for a, t in answers.items()}
        rest = "the data are one simulation; then also set split: {by: time, validation: 0.1, test: 0.1}"
        proposal.questions["sample"] = Question("Which axis counts the simulations?", answers | {NONE: rest})
    elif "sample" not in axes and steps < 3 and "files" not in proposal.options:
        _ask_for_states(proposal, sizes, names, steps)
    elif "sample" not in axes and "groups" not in proposal.options:
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


def name_folders(proposal: Proposal, path: Path, files: Sequence[Path]) -> None:
    """State the pattern of files in folders, one for every simulation: a number in their names is a parameter."""
    pieces = [re.split(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)", file.parent.name) for file in files]
    names = {file.name for file in files}
    if len({len(piece) for piece in pieces}) > 1 or len(names) > 1:
        return
    varying = [i for i, column in enumerate(zip(*pieces, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return
    before, after = "".join(pieces[0][: varying[0]]), "".join(pieces[0][varying[0] + 1 :])
    texts = [piece[varying[0]] for piece in pieces]
    whole = all(text.isdigit() for text in texts)
    name = number_name(before, []) if whole else "parameter"
    name = "sample" if name.startswith("number") or name == "time" else name
    proposal.options["files"] = f"{before}{{{name}}}{after}/{files[0].name}"
    proposal.questions.pop("sample", None)
    if name == "parameter":
        proposal.axes["parameter"] = ("sample",)
    proposal.axes = {n: tuple(a for a in axes if a != "time") for n, axes in proposal.axes.items()}
    for entry in proposal.variables.values():
        if entry.get("path", "").endswith("/{time}"):
            entry["path"] = entry["path"].removesuffix("{time}") + "0"
    small = {"validation": 1, "test": 1, "seed": 0}
    proposal.split = small if len(files) < FEW else {"validation": 0.1, "test": 0.1, "seed": 0}
