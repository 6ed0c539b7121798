"""Layout of frames of bounded size for the correlations of a convolution: integers only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import NamedTuple

from surrogate.models.heads.correlation_plan import CorrelationPlan
from surrogate.models.heads.geometry import Box, Position

__all__ = ["Area", "Copy", "Piece", "pieces_of"]

TOGETHER = 8  # samples in a piece from which on products are fast


class Copy(NamedTuple):
    """The same positions as an index into a frame and into fields, without channels and samples."""

    there: tuple[slice, ...]
    here: tuple[slice, ...]


@dataclass(frozen=True)
class Area:
    """Positions of a frame, the same in every line: the first one, then numbers and steps along axes."""

    start: int
    sizes: Position
    strides: Position


@dataclass(frozen=True, eq=False)
class Piece:
    """Some lines of some samples, whose frames fit into a memory budget.

    The axes of a frame are channels, lines, the other axes of space, and samples.

    Arguments:
        plan: The plan.
        samples: Range of samples.
        first: Position of the first line.
        last: Position after the last line.
    """

    plan: CorrelationPlan
    samples: range
    first: int
    last: int

    @cached_property
    def sizes(self) -> Position:
        """Return the sizes of the frame without channels."""
        return (self.last - self.first, *self.plan.pitches, len(self.samples))

    @cached_property
    def strides(self) -> Position:
        """Return the stride of each axis."""
        return tuple(prod(self.sizes[axis + 1 :]) for axis in range(len(self.sizes)))

    @cached_property
    def steps(self) -> list[int]:
        """Return the offset of each distance."""
        return [sum(map(int.__mul__, distance, self.strides)) for distance in self.plan.distances]

    @cached_property
    def spread(self) -> Position:
        """Return the stride of each axis of the grid of distances."""
        return tuple(map(int.__mul__, self.plan.grid.steps, self.strides))

    @cached_property
    def lowest(self) -> int:
        """Return the offset of the lowest distance of the grid."""
        return sum(map(int.__mul__, self.plan.grid.low, self.strides))

    @cached_property
    def edge_lines(self) -> list[range]:
        """Return the lines that some window leaves out, and those beyond the field, as ranges."""
        edges, field = self.plan.edges[0], range(self.plan.field.low[0], self.plan.field.high[0])
        inner = [line for line in field if line not in edges]
        sides = range(self.first, min(self.last, inner[0])), range(max(self.first, inner[-1] + 1), self.last)
        return [side for side in sides if side]

    @cached_property
    def runs(self) -> list[range]:
        """Return the lines in runs that the spans of windows do not divide."""
        ends = {end for span in self.plan.spans[1:] for end in (span.start, span.stop)}
        cuts = [self.first, *sorted(end for end in ends if self.first < end < self.last), self.last]
        return list(map(range, cuts[:-1], cuts[1:]))

    @cached_property
    def margins(self) -> tuple[int, int]:
        """Return the number of positions that are read before and after the features."""
        _, sizes, _, _ = self.plan.grid
        highest = self.lowest + sum((size - 1) * stride for size, stride in zip(sizes, self.spread, strict=True))
        return max(0, -self.lowest), max(0, highest - self.plan.more * self.strides[0])

    @cached_property
    def low(self) -> Position:
        """Return the first position of a frame."""
        return (self.first, *self.plan.frame.low[1:])

    @cached_property
    def features(self) -> Copy:
        """Return the positions of the features."""
        return self._copy(self.plan.field, self.plan.more)

    @cached_property
    def targets(self) -> list[Copy]:
        """Return the positions of the targets of each phase."""
        return [
            Copy(there, tuple(map(_within, phase.writes, here)))
            for base, phase in zip(self.plan.bases, self.plan.layout.phases, strict=True)
            for there, here in [self._copy(base)]
        ]

    def _copy(self, box: Box, more: int = 0) -> Copy:
        inside = box.common(Box(self.low, (self.last + more, *self.plan.frame.high[1:])))
        return Copy(_from(self.low, inside), _from(box.low, inside))

    @cached_property
    def areas(self) -> list[Area]:
        """Return the positions of each section."""
        areas = []
        for section in self.plan.sections:
            fixed = zip(section, self.low[1:], self.strides[1:-1], strict=True)
            start = sum((at - low) * stride for at, low, stride in fixed if at is not None)
            axes = zip((*section, None), self.sizes[1:], self.strides[1:], strict=True)
            free = [(size, stride) for at, size, stride in axes if at is None]
            merged = free[:1]  # contiguous axes are merged
            for size, stride in free[1:]:
                more, step = merged[-1]
                merged[-1:] = [(more * size, stride)] if step == size * stride else [(more, step), (size, stride)]
            sizes, strides = zip(*merged, strict=True)
            areas.append(Area(start, sizes, strides))
        return areas


def _within(positions: slice, part: slice) -> slice:
    """Slice a slice."""
    inside = range(positions.start, positions.stop, positions.step or 1)[part]
    return slice(inside.start, inside.stop, inside.step)


def _from(low: Position, box: Box) -> tuple[slice, ...]:
    """Return a box as an index relative to a position; empty for an empty box."""
    return tuple(slice(max(0, a - x), max(0, b - x)) for x, a, b in zip(low, box.low, box.high, strict=True))


@lru_cache(maxsize=128)
def pieces_of(plan: CorrelationPlan, samples: int, bytes_each: int, byte_budget: int) -> list[Piece]:
    """Return pieces of fields whose frames take `bytes_each` per position and fit into the budget."""
    own, more, line = plan.frame, plan.more, bytes_each * prod(plan.pitches)
    together, lines = byte_budget // (line * (own.sizes[0] + more)), own.sizes[0]
    if together < min(samples, TOGETHER):
        together = max(1, min(samples, TOGETHER, byte_budget // (line * (8 * more + 1))))
        lines = max(1, min(lines, byte_budget // (line * together) - more))
    together = -(-samples // -(-samples // together))  # pieces of about equal size
    return [
        Piece(plan, range(first, min(first + together, samples)), line, min(line + lines, own.high[0]))
        for first in range(0, samples, together)
        for line in range(own.low[0], own.high[0], lines)
    ]
