"""Names for the axes of datasets: those in the file, those of coordinates of their length, else neutral ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from surrogate.data.mapping import NO_AXIS, is_channel
from surrogate.data.survey import Item, Survey

__all__ = ["AxisNames", "plain_name", "propose_axes"]

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
SPACE = ("z", "y", "x")
COMPONENTS = 3  # of a vector: as many entries along a last axis that is the only short one


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


@dataclass
class AxisNames:
    """Names of axes of all datasets of a proposal, each with one length.

    Arguments:
        survey: What the file holds.
        lengths: Lengths of the axes that the file has coordinates for.
        sizes: Lengths by name, of the axes named so far.
    """

    survey: Survey
    lengths: dict[str, int]
    sizes: dict[str, int] = field(default_factory=dict)

    def axes(self, item: Item) -> tuple[str, ...]:
        """Name the axes of a dataset: as the file does, by coordinates, else neutrally."""
        if item.axes is not None:
            names = [re.sub(r"[{}]", "", axis) or f"axis{i}" for i, axis in enumerate(item.axes)]
        else:
            order = -1 if self.survey.reversed else 1  # from that of the file to that of the program
            named = iter(self.unnamed([size for size in item.shape if size != 1][::order])[::order])
            names = [NO_AXIS if size == 1 else next(named) for size in item.shape]
        return tuple(self.consistent(n, s, item) if n != NO_AXIS else n for n, s in zip(names, item.shape, strict=True))

    def unnamed(self, sizes: Sequence[int]) -> list[str]:
        """Name axes, in the order of the program, by coordinates of their length, and the others by their place.

        Next to a coordinate of time, the others are space, but for a first axis before time; next to one of space,
        those before it are neutral and the last one counts components.
        """
        names = _by_length(sizes, self.lengths)
        first = next((i for i, name in enumerate(names) if name), len(names))
        space = {*names} - {"", "time"}
        last = len(names) - 1
        short = last > 0 and sizes[-1] <= COMPONENTS < min(sizes[:-1])
        if names and not names[-1] and (short or (space and last > first)):
            names[-1] = "channel"
        free = [i for i, name in enumerate(names) if not name]
        if space:
            spare = ["n", "m", "m2", "m3", *(f"axis{i}" for i in free[4:])]
        elif "time" in names:
            lead = ["n"] if free and free[0] < first else []
            rest = len(free) - len(lead)
            spare = [*lead, *(SPACE[-rest:] if 0 < rest <= len(SPACE) else (f"axis{i}" for i in free))]
        else:
            spare = [*NEUTRAL.get(len(free), (f"axis{i}" for i in free))]
        for i, name in zip(free, spare, strict=False):
            names[i] = name
        return names

    def consistent(self, name: str, size: int, item: Item) -> str:
        """Give another name where one is taken for another length."""
        if self.sizes.setdefault(name, size) == size:
            return name
        if is_channel(name):
            return self.consistent(f"{plain_name(item.name)}_channel", size, item)
        same = [
            other
            for other, length in self.sizes.items()
            if length == size and re.match(rf"{re.escape(name)}\d+$", other)
        ]
        return same[0] if same else self.consistent(f"{name}{len(self.sizes)}", size, item)


def plain_name(text: str) -> str:
    """Turn a path into a name of letters, digits and underscores that does not begin with a digit."""
    name = re.sub(r"\W+", "_", re.sub(r"\{(\w+)\}", r"\1", text)).strip("_")
    return name if name and not name[0].isdigit() else f"v_{name}".rstrip("_")
