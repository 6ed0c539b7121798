"""Plan of the correlations from which the normal equations of a convolution are assembled: integers only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from itertools import product
from math import gcd, prod
from typing import NamedTuple

from surrogate.models.heads.geometry import Box, Layout, Phase, Position

__all__ = ["CorrelationPlan", "Grid", "cheaper_plan", "plan_of"]

CALL = 10**5  # multiplications that take as long as one call of torch


class Grid(NamedTuple):
    """Evenly spaced distances: the lowest, numbers and steps along the axes, and the indices that a plan uses."""

    low: Position
    sizes: Position
    steps: Position
    places: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CorrelationPlan:
    """The correlations that a layer needs on fields of one size, of two axes or more.

    Arguments:
        layout: The layout planned for.
        windows: Window of each tap in use, by its number in the kernel, cut to the field.
        partners: Number of the distance between two taps of a phase; of two opposite distances only the positive one.
        distances: The distances in ascending order, zero first.
        field: All positions of a field.
        bases: Positions of the outputs of each phase, read through the first tap.
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
    def frame(self) -> Box:
        """Return the positions of features and targets."""
        return reduce(Box.hull, self.bases, self.field)

    @cached_property
    def pitches(self) -> Position:
        """Return the padded length of each axis but the first, so that no distance reaches into a neighbouring line."""
        targets = [self.bases[phase].moved(self.distances[number]) for _, phase, number in self.targets]
        read = reduce(Box.hull, (*targets, *map(self.field.moved, self.distances)))
        ends = zip(self.frame.sizes, read.high, self.field.low, self.field.high, read.low, strict=True)
        return tuple(max(size, end - low, high - begin) for size, end, low, high, begin in ends)[1:]

    @cached_property
    def more(self) -> int:
        """Return the number of lines after the last that features are read from at a distance."""
        return max(line for line, *_ in self.distances)

    @cached_property
    def sections(self) -> list[tuple[int | None, ...]]:
        """List for each axis but the first a position of its edge, or None for all; the section without edges first."""
        return list(product(*([None, *axis] for axis in self.edges[1:])))

    @cached_property
    def grid(self) -> Grid:
        """Return the smallest grid of all distances."""
        axes = list(zip(*self.distances, strict=True))
        steps = tuple(max(1, gcd(*axis)) for axis in axes)
        low, high = tuple(map(min, axes)), tuple(map(max, axes))
        sizes = tuple((b - a) // step + 1 for a, b, step in zip(low, high, steps, strict=True))
        places = [tuple((x - a) // step for x, a, step in zip(d, low, steps, strict=True)) for d in self.distances]
        strides = [prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
        return Grid(low, sizes, steps, tuple(sum(map(int.__mul__, place, strides)) for place in places))

    @cached_property
    def spans(self) -> list[range]:
        """List all lines of a frame, then the lines of each distinct window."""
        own = {range(window.low[0], window.high[0]): None for window in self.windows.values()}
        return [range(self.frame.low[0], self.frame.high[0]), *own]

    @cached_property
    def shapes(self) -> list[Box]:
        """List the distinct windows."""
        return list(dict.fromkeys(self.windows.values()))

    @cached_property
    def span_counts(self) -> list[list[int]]:
        """Return the weight (0 or 1) of each line in each span."""
        return [[int(line in span) for line in self.spans[0]] for span in self.spans]

    @cached_property
    def edge_weights(self) -> list[list[list[int]]]:
        """Return the weight in each window of each section but the first over the lines of each span.

        A window has the lines of one span; in it, sections count by inclusion and exclusion.
        """
        spans = self.spans[1:]
        return [
            [
                [_edge_weight(window, section) * (range(window.low[0], window.high[0]) == span) for span in spans]
                for section in self.sections[1:]
            ]
            for window in self.shapes
        ]

    @cached_property
    def targets(self) -> list[tuple[int, int, int]]:
        """List for each tap in use its number, then phase and distance of its correlation with targets."""
        return [
            (tap, index, self.distances.index(_difference(start, base.low)))
            for index, (base, phase) in enumerate(zip(self.bases, self.layout.phases, strict=True))
            for tap, start in _taps(phase, self.layout.kernel)
        ]

    def width(self, channels: int, outputs: int) -> int:
        """Return the number of rows of a frame: channels, one, and targets of all phases."""
        return channels + 1 + len(self.bases) * outputs

    def multiplications(self, channels: int, outputs: int, samples: int) -> int:
        """Estimate the cost in multiplications, calls of torch included."""
        lines, *others = self.frame.sizes
        positions = lines * prod(size + len(axis) for size, axis in zip(others, self.edges[1:], strict=True))
        work = samples * positions * self.width(channels, outputs) * len(self.distances) * channels
        return work + (25 + 4 * len(self.distances) + 6 * len(self.sections)) * CALL


@lru_cache(maxsize=128)
def plan_of(layout: Layout) -> CorrelationPlan | None:
    """Return the plan for a layout of two axes or more, see `as_lines` for one.

    There is none where the windows of its taps have no position in common, or skip positions.
    """
    sizes = layout.sizes
    taps = {number: (phase, start) for phase in layout.phases for number, start in _taps(phase, layout.kernel)}
    if len(sizes) < 2 or not taps or any(axis.step != 1 for phase in layout.phases for axis in phase.axes):
        return None
    field = Box.at((0,) * len(sizes), sizes)
    windows = {number: Box.at(start, phase.counts).common(field) for number, (phase, start) in taps.items()}
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
    bases = []
    for phase in layout.phases:
        low = tuple(min(axis.starts, default=0) for axis in phase.axes)
        bases.append(Box.at(low, phase.counts))
    return CorrelationPlan(layout, windows, partners, tuple(distances), field, tuple(bases), edges)


@lru_cache(maxsize=128)
def cheaper_plan(layout: Layout, channels: int, outputs: int, samples: int) -> CorrelationPlan | None:
    """Return the plan for a layout where it is faster than gathering the rows of the design phase by phase, or None."""
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


def _difference(second: Position, first: Position) -> Position:
    return tuple(b - a for a, b in zip(first, second, strict=True))


def _edge_weight(window: Box, section: tuple[int | None, ...]) -> int:
    """Return the weight of a section in a window by inclusion and exclusion."""
    sides = zip(section, window.low[1:], window.high[1:], strict=True)
    return prod(1 if at is None else 0 if low <= at < high else -1 for at, low, high in sides)
