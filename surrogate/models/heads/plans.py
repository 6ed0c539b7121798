"""Where the sums of a convolution are found among correlations of its features: integers only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from itertools import product
from math import prod

from surrogate.models.heads.taps import Box, Layout, Phase, Position

__all__ = ["Area", "Piece", "Plan", "cheaper_plan", "pieces_of", "plan_of"]

CALL = 10**5  # multiplications in the time of one call of torch


@dataclass(frozen=True, eq=False)
class Plan:
    """Which correlations a layer needs on fields of one size; fields of one axis get another of size one before it.

    Arguments:
        layout: The layout planned for.
        windows: Window of each tap in use, by its number in the kernel, as far as it lies in the field.
        partners: Number of the distance between two taps of a phase; of two opposites only the one that is positive.
        distances: The distances in ascending order, zero first.
        field: All positions of a field.
        bases: Where the outputs of each phase lie, seen through the tap that reads first.
        edges: The positions along each axis that some window leaves out.
    """

    layout: Layout
    windows: dict[int, Box]
    partners: dict[tuple[int, int], int]
    distances: tuple[Position, ...]
    field: Box
    bases: tuple[Box, ...]
    edges: tuple[tuple[int, ...], ...]

    @cached_property
    def runs(self) -> list[tuple[Position, int]]:
        """The distances as runs of neighbours along the last axis: the first one and their number."""
        found: list[tuple[Position, int]] = []
        for distance in self.distances:
            if found and distance == _last_moved(found[-1][0], found[-1][1]):
                found[-1] = (found[-1][0], found[-1][1] + 1)
            else:
                found.append((distance, 1))
        return found

    @cached_property
    def groups(self) -> int:
        """Number q of products that share the positions: at least the longest run, and even for the sake of threads."""
        longest = max(count for _, count in self.runs)
        return max(4, longest + longest % 2)

    @cached_property
    def frames(self) -> tuple[Box, Box]:
        """The positions of features and targets, and all that are read at a distance from them."""
        own = reduce(Box.hull, self.bases, self.field)
        return own, reduce(Box.hull, map(own.moved, self.distances))

    @cached_property
    def pitches(self) -> Position:
        """Positions along each axis but the first, with zeros such that no distance leads to a line beside."""
        (own, read), field = self.frames, self.field
        ends = zip(own.sizes, read.high, field.low, field.high, read.low, strict=True)
        *middle, last = [max(size, end - low, high - begin) for size, end, low, high, begin in ends][1:]
        return (*middle, -(-last // self.groups) * self.groups)

    @cached_property
    def sections(self) -> list[tuple[int | None, ...]]:
        """For each axis but the last a position of its edge, or None for all; none of them fixed first."""
        return list(product(*([None, *axis] for axis in self.edges[:-1])))

    @cached_property
    def counts(self) -> list[list[int]]:
        """What each total, one after the other, counts for in the window of each tap of the kernel."""
        totals = [(*section, at) for section in self.sections for at in (None, *self.edges[-1])]
        taps = range(prod(self.layout.kernel))
        return [[_counts(self.windows[tap], at) if tap in self.windows else 0 for at in totals] for tap in taps]

    @cached_property
    def targets(self) -> list[tuple[int, int, int]]:
        """For each tap in use its number, then phase and distance of its correlation with targets."""
        return [
            (tap, index, self.distances.index(_difference(_planar(start, 0), base.low)))
            for index, (base, phase) in enumerate(zip(self.bases, self.layout.phases, strict=True))
            for tap, start in _taps(phase, self.layout.kernel)
        ]

    def width(self, channels: int, outputs: int) -> int:
        """Number of channels, and one, and targets of all phases."""
        return channels + 1 + len(self.bases) * outputs

    def multiplications(self, channels: int, outputs: int, samples: int) -> int:
        """About how many multiplications it takes, calls included."""
        own = self.frames[0].sizes
        positions = prod(size + len(axis) for size, axis in zip(own, self.edges, strict=True))
        work = samples * positions * self.width(channels, outputs) * len(self.distances) * channels
        return work + (60 + 6 * len(self.sections) * len(self.runs)) * CALL


@dataclass(frozen=True)
class Area:
    """Positions of a frame as matrices: the first one, then numbers and steps of matrices and of axes of rows.

    Arguments:
        section: Number of the section.
        places: Which of its totals they add to: the groups come first, then the edge of the last axis.
    """

    section: int
    places: slice
    start: int
    sizes: Position
    strides: Position


@dataclass(frozen=True, eq=False)
class Piece:
    """Some lines of some samples, whose frames fit into a budget.

    The axes of a frame are lines, samples, the other axes of space, and channels.

    Arguments:
        plan: The plan.
        samples: Which samples.
        first: Position of the first line.
        last: Position behind the last line.
    """

    plan: Plan
    samples: range
    first: int
    last: int

    @cached_property
    def sizes(self) -> Position:
        """Sizes of the frame of features and targets, without channels."""
        return (self.last - self.first, len(self.samples), *self.plan.pitches)

    @cached_property
    def more(self) -> int:
        """Lines that features are read from at a distance, behind the last."""
        own, read = self.plan.frames
        return read.high[0] - own.high[0]

    @cached_property
    def strides(self) -> Position:
        """Positions from one to the next along each axis."""
        return tuple(prod(self.sizes[axis + 1 :]) for axis in range(len(self.sizes)))

    @cached_property
    def steps(self) -> list[int]:
        """Positions from one to the first of each run of distances."""
        line, _, *others = self.strides
        return [sum(map(int.__mul__, distance, (line, *others))) for distance, _ in self.plan.runs]

    @cached_property
    def margins(self) -> tuple[int, int]:
        """Positions that are read in front of the features, and behind them."""
        ends = (step + count - 1 for step, (_, count) in zip(self.steps, self.plan.runs, strict=True))
        return max(0, -min(self.steps)), max(0, max(ends) - self.more * self.strides[0])

    @cached_property
    def low(self) -> Position:
        """The first position of a frame."""
        return (self.first, *self.plan.frames[0].low[1:])

    def copy(self, box: Box, more: int = 0) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where the positions of a box lie in a frame with more lines, and in the box."""
        inside = box.common(Box(self.low, (self.last + more, *self.plan.frames[0].high[1:])))
        line, *others = _from(self.low, inside)
        return (line, slice(None), *others), _from(box.low, inside)

    @cached_property
    def areas(self) -> list[Area]:
        """The positions of each section, in groups, and those of its edge along the last axis."""
        groups, found = self.plan.groups, []
        last = self.sizes[-1] // groups
        for number, section in enumerate(self.plan.sections):
            if section[0] is not None and not self.first <= section[0] < self.last:
                continue
            at = [section[0], None, *section[1:]]
            lows = (self.low[0], 0, *self.low[1:])
            start = sum((x - lows[axis]) * self.strides[axis] for axis, x in enumerate(at) if x is not None)
            free = [axis for axis, x in enumerate(at) if x is None]
            sizes, strides = (tuple(values[axis] for axis in free) for values in (self.sizes, self.strides))
            found.append(Area(number, slice(groups), start, (groups, *sizes, last), (1, *strides, groups)))
            for place, first, count, step in _progressions(self.plan.edges[-1]):
                places = slice(groups + place, groups + place + count)
                found.append(Area(number, places, start + first - self.low[-1], (count, *sizes), (step, *strides)))
        return found


def _from(low: Position, box: Box) -> tuple[slice, ...]:
    """A box as an index, counted from a position; an empty one gives nothing."""
    return tuple(slice(max(0, a - x), max(0, b - x)) for x, a, b in zip(low, box.low, box.high, strict=True))


def _progressions(positions: Position) -> list[tuple[int, int, int, int]]:
    """Positions in even steps: the place of the first one among all, that one, their number and the step."""
    found, place = [], 0
    while place < len(positions):
        step = positions[place + 1] - positions[place] if place + 1 < len(positions) else 1
        end = place + 1
        while end < len(positions) and positions[end] - positions[end - 1] == step:
            end += 1
        found.append((place, positions[place], end - place, step))
        place = end
    return found


@lru_cache(maxsize=128)
def pieces_of(plan: Plan, samples: int, bytes_each: int, byte_budget: int) -> list[Piece]:
    """Pieces of fields whose frames take so many bytes for each position."""
    own, read = plan.frames
    line, more = bytes_each * prod(plan.pitches), read.high[0] - own.high[0]
    together = max(1, byte_budget // (line * (own.sizes[0] + more)))
    together = -(-samples // -(-samples // together))  # all of about one size
    lines = own.sizes[0] if together > 1 else max(1, min(own.sizes[0], byte_budget // line - more))
    return [
        Piece(plan, range(first, min(first + together, samples)), line, min(line + lines, own.high[0]))
        for first in range(0, samples, together)
        for line in range(own.low[0], own.high[0], lines)
    ]


@lru_cache(maxsize=128)
def plan_of(layout: Layout) -> Plan | None:
    """The plan for a layout; None where the windows of its taps have no position in common, or skip positions."""
    flat = [(number, phase, start) for phase in layout.phases for number, start in _taps(phase, layout.kernel)]
    taps = {number: (phase, _planar(start, 0)) for number, phase, start in flat}
    if not layout.sizes or not taps or any(axis.step != 1 for phase in layout.phases for axis in phase.axes):
        return None
    sizes = _planar(layout.sizes, 1)
    field = Box.at((0,) * len(sizes), sizes)
    windows = {number: Box.at(start, _planar(phase.counts, 1)).common(field) for number, (phase, start) in taps.items()}
    interior = reduce(Box.common, windows.values())
    if interior.empty:
        return None
    pairs = {
        (first, second): _difference(taps[second][1], taps[first][1])
        for first, second in product(taps, taps)
        if taps[first][0] is taps[second][0] and taps[second][1] >= taps[first][1]
    }
    distances = {distance: number for number, distance in enumerate(sorted(set(pairs.values())))}
    partners = {pair: distances[distance] for pair, distance in pairs.items()}
    sides = zip(sizes, interior.low, interior.high, strict=True)
    edges = tuple((*range(low), *range(high, size)) for size, low, high in sides)
    return Plan(layout, windows, partners, tuple(distances), field, tuple(map(_base, layout.phases)), edges)


@lru_cache(maxsize=128)
def cheaper_plan(layout: Layout, channels: int, outputs: int, samples: int) -> Plan | None:
    """The plan for a layout where it takes less time than gathering the rows of the design, phase by phase."""
    plan = plan_of(layout)
    work, calls = 0, 0
    for phase in layout.phases:
        taps = len(phase.starts)
        width = channels * taps + 1
        work += samples * prod(phase.counts) * width * (width + outputs)
        calls += taps + 10
    return plan if plan is not None and plan.multiplications(channels, outputs, samples) < work + calls * CALL else None


def _taps(phase: Phase, kernel: Position) -> Iterable[tuple[int, Position]]:
    return zip(phase.taps(kernel), phase.starts, strict=True)


def _base(phase: Phase) -> Box:
    low = tuple(min(axis.starts, default=0) for axis in phase.axes)
    return Box.at(_planar(low, 0), _planar(phase.counts, 1))


def _planar(position: Position, filled: int) -> Position:
    """A position or sizes along at least two axes."""
    return (filled, *position) if len(position) == 1 else position


def _difference(second: Position, first: Position) -> Position:
    return tuple(b - a for a, b in zip(first, second, strict=True))


def _last_moved(position: Position, steps: int) -> Position:
    return (*position[:-1], position[-1] + steps)


def _counts(window: Box, total: tuple[int | None, ...]) -> int:
    """One for the whole field; lines count against it that a window leaves out, by inclusion and exclusion."""
    sides = zip(total, window.low, window.high, strict=True)
    return prod(1 if at is None else 0 if low <= at < high else -1 for at, low, high in sides)
