"""The `data:` section proposed for a file; whatever is not named in the file is a proposal to be checked."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from surrogate.data.formats.ragged import STEPS
from surrogate.data.mapping import LEADING, is_channel

__all__ = ["Candidate", "propose_axes", "suggest_config", "suggest_named"]

CHECK = "  # check the order"
COORDINATES = ("x", "y", "z", "r", "theta", "t", "time", "lat", "lon", "latitude", "longitude")
USUAL = {
    0: (),
    1: ("sample",),
    2: ("sample", "x"),
    3: ("sample", "y", "x"),
    4: ("sample", "time", "y", "x"),
    5: ("sample", "time", "y", "x", "channel"),
    6: ("sample", "time", "z", "y", "x", "channel"),
}


@dataclass(frozen=True)
class Candidate:
    """A dataset that could become a variable; `axes` is None where the file does not name them."""

    path: str
    shape: tuple[int, ...]
    axes: tuple[str, ...] | None = None
    units: str | None = None


def _coordinate_axis(candidate: Candidate) -> str | None:
    """The axis that a one-dimensional dataset seems to describe, by its name."""
    if len(candidate.shape) != 1:
        return None
    name = re.sub(r"[-_ ]?(coordinates?|coords?|grid|axis)$", "", posixpath.basename(candidate.path).lower())
    return {"t": "time"}.get(name, name) if name in COORDINATES else None


def propose_axes(shape: tuple[int, ...], lengths: Mapping[str, int]) -> tuple[str, ...]:
    """Axes that a dataset may have: by the lengths of coordinates, else the usual order for its rank.

    Arguments:
        shape: Shape of the dataset.
        lengths: Lengths of the axes that the file seems to have coordinates for.
    """
    axes: list[str] = []
    for entry in reversed(shape):  # from the right: of equal lengths the last is x, the one before y
        matches = [axis for axis in ("x", "y", "z", "time", *lengths) if lengths.get(axis) == entry]
        axes.insert(0, next((axis for axis in matches if axis not in axes), ""))
    if not any(axes):
        return USUAL.get(len(shape), tuple(f"axis{index}" for index in range(len(shape))))
    first = next(index for index, axis in enumerate(axes) if axis)
    before = [axis for axis in ("sample", "time") if axis not in axes]
    for index, axis in enumerate(axes):
        spare = before if index < first else ["channel"] if "channel" not in axes else []
        axes[index] = axis or (spare.pop(0) if spare else f"axis{index}")
    return tuple(axes)


def _groups(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Groups that hold datasets of the same names and ranks."""
    members: dict[str, set[tuple[str, int]]] = {}
    for candidate in candidates:
        group, name = posixpath.split(candidate.path)
        members.setdefault(group, set()).add((name, len(candidate.shape)))
    members.pop("", None)
    same = len({frozenset(names) for names in members.values()}) == 1
    return tuple(members) if len(members) > 1 and same else ()


def suggest_config(path: str, candidates: Sequence[Candidate]) -> str:
    """The `data:` section to paste; a layout is written out where the file does not name its axes.

    Arguments:
        path: The path as the user gave it.
        candidates: The usable datasets of the file.
    """
    named = all(candidate.axes is not None and "/" not in candidate.path for candidate in candidates)
    groups = () if named else _groups(candidates)
    if groups:
        inner = [c for c in candidates if posixpath.dirname(c.path) in ("", groups[0])]
        candidates = [Candidate(c.path.removeprefix(groups[0] + "/"), c.shape, c.axes, c.units) for c in inner]
    lengths = {axis: c.shape[0] for c in candidates if (axis := _coordinate_axis(c))}
    axes = {c.path: c.axes or _axes_of(c, lengths) for c in candidates}
    coordinates = [c for c in candidates if _coordinate_axis(c) or axes[c.path] == (c.path,)]
    variables = [c for c in candidates if c not in coordinates]
    lines = ["data:", f"  path: {_quoted(path)}"]
    if not named:
        lines += _layout(groups, variables, coordinates, axes)
    lines += _choice({_name(c): axes[c.path] for c in variables})
    test = "{group: test}" if "test" in groups else "0.1"
    return "\n".join([*lines, f"  split: {{validation: 0.1, test: {test}, seed: 0}}"]) + "\n"


def suggest_named(path: str, layout: str, opened: xr.Dataset) -> str:
    """The `data:` section for files whose layout has a name.

    Arguments:
        path: The path as the user gave it.
        layout: Name of the layout.
        opened: The files, opened in it.
    """
    own = {*opened.dims, "origin", "group", "seed", STEPS}
    names = [name for name, variable in opened.variables.items() if name not in own and variable.dtype.kind in "fiu"]
    names = [name for name in names if name in opened.data_vars or _differs(opened.variables[name])]
    lines = ["data:", f"  path: {_quoted(path)}", f"  layout: {layout}"]
    lines += _choice({str(name): tuple(map(str, opened.variables[name].dims)) for name in names})
    groups = set(opened["group"].values) if "group" in opened.coords else set()
    validation = "{group: valid}" if "valid" in groups else "0.1"
    test = "{group: test}" if "test" in groups else "0.1"
    return "\n".join([*lines, f"  split: {{validation: {validation}, test: {test}, seed: 0}}"]) + "\n"


def _differs(parameter: xr.Variable) -> bool:
    """Whether a coordinate is a parameter that tells simulations apart."""
    return parameter.dims == ("sample",) and bool((parameter.values != parameter.values[:1]).any())


def _axes_of(candidate: Candidate, lengths: Mapping[str, int]) -> tuple[str, ...]:
    axis = _coordinate_axis(candidate)
    return (axis,) if axis else propose_axes(candidate.shape, lengths)


def _layout(
    groups: Sequence[str],
    variables: Sequence[Candidate],
    coordinates: Sequence[Candidate],
    axes: Mapping[str, tuple[str, ...]],
) -> list[str]:
    lines = ["  layout:"]
    if groups:
        lines.append(f"    groups: [{', '.join(map(_quoted, groups))}]")
    for title, entries in (("variables", variables), ("coordinates", coordinates)):
        lines += [f"    {title}:"] if entries else []
        for entry in entries:
            name = axes[entry.path][0] if title == "coordinates" else _name(entry)
            units = f", units: {_quoted(entry.units)}" if entry.units else ""
            text = f"{{path: {_quoted(entry.path)}, axes: [{', '.join(axes[entry.path])}]{units}}}"
            lines.append(f"      {_quoted(name)}: {text}{'' if entry.axes else CHECK}")
    return lines


def _name(candidate: Candidate) -> str:
    return re.sub(r"\W", "_", posixpath.basename(candidate.path))


def _quoted(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_/.][\w/.*-]*", text) and text.lower() not in ("true", "false", "null")
    return text if plain else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _is_space(axis: str) -> bool:
    return axis not in LEADING and not is_channel(axis)


def _choice(axes: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Inputs, targets and window: parameters before fields, the first field before the others."""
    fields = [name for name, dims in axes.items() if any(_is_space(dim) for dim in dims)] or list(axes)
    parameters = [name for name in axes if name not in fields]
    moving = [name for name in fields if "time" in axes[name]]
    still = [name for name in fields if name not in moving]
    if moving:
        inputs, targets = [*moving, *still, *parameters], moving
    elif parameters:
        inputs, targets = parameters, still
    else:
        inputs, targets = still[:1], still[1:] or still[:1]
    chosen = {"inputs": inputs, "targets": targets}
    lines = [f"  {side}: [{', '.join(map(_quoted, names))}]  # choose" for side, names in chosen.items()]
    return lines + (["  window: {steps_in: 1, steps_out: 1, stride: 1}"] if moving else [])
