"""Positions that the taps of a convolution read and write: integers only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import prod

__all__ = ["Axis", "Box", "Layout", "Phase", "Position", "as_lines", "conv_layout", "transposed_layout"]

Position = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """Evenly spaced output positions of one axis that use the same kernel taps.

    Output position `offset + i * stride` reads input position `starts[j] + i * step` through tap `taps[j]`; input
    positions outside the field read zero.

    Arguments:
        taps: Kernel taps in use, ascending; there may be none.
        starts: Input position that each tap reads for the first output.
        step: Distance between the inputs of neighbouring outputs.
        offset: First output position.
        stride: Distance between neighbouring outputs.
        count: Number of outputs.
    """

    taps: tuple[int, ...]
    starts: tuple[int, ...]
    step: int
    offset: int
    stride: int
    count: int

    def narrowed(self, first: int, count: int) -> Axis:
        """Return the same taps at no more than `count` outputs, from number `first` on."""
        return replace(
            self,
            starts=tuple(start + first * self.step for start in self.starts),
            offset=self.offset + first * self.stride,
            count=min(count, self.count - first),
        )

    def margins(self, size: int) -> tuple[int, int]:
        """Return the zeros needed before and after an input of `size` positions."""
        last = max(self.starts, default=0) + (self.count - 1) * self.step
        return max(0, -min(self.starts, default=0)), max(0, last + 1 - size)

    def reads(self, before: int) -> list[slice]:
        """Return for each tap the slice of an input that is padded by `before` zeros at its start."""
        extent = (self.count - 1) * self.step + 1
        return [slice(start + before, start + before + extent, self.step) for start in self.starts]

    @property
    def writes(self) -> slice:
        """Return the slice of the output."""
        return slice(self.offset, self.offset + (self.count - 1) * self.stride + 1, self.stride)


@dataclass(frozen=True)
class Phase:
    """Output positions of a field that use the same kernel taps: one `Axis` for each axis of space."""

    axes: tuple[Axis, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Return the number of outputs along each axis."""
        return tuple(axis.count for axis in self.axes)

    @property
    def writes(self) -> tuple[slice, ...]:
        """Return the outputs as an index."""
        return tuple(axis.writes for axis in self.axes)

    def reads(self, before: Sequence[int]) -> list[tuple[slice, ...]]:
        """Return for each tap the index of the inputs it reads, in a field padded by `before` zeros at the start."""
        return list(product(*(axis.reads(zeros) for axis, zeros in zip(self.axes, before, strict=True))))

    @property
    def starts(self) -> list[Position]:
        """Return for each tap the input position that it reads for the first output."""
        return list(product(*(axis.starts for axis in self.axes)))

    def taps(self, kernel: Sequence[int]) -> list[int]:
        """Return the taps as positions in a flattened kernel of this shape."""
        strides = [prod(kernel[axis + 1 :]) for axis in range(len(kernel))]
        return [
            sum(tap * stride for tap, stride in zip(taps, strides, strict=True))
            for taps in product(*(axis.taps for axis in self.axes))
        ]

    def slices(self, positions: int) -> Iterator[Phase]:
        """Yield parts of at most `positions` outputs, cut along the first axis; a part has at least one line."""
        if not self.axes:
            yield self
            return
        first, *rest = self.axes
        lines = max(1, positions // prod(axis.count for axis in rest))
        for line in range(0, first.count, lines):
            yield Phase((first.narrowed(line, lines), *rest))


@dataclass(frozen=True, eq=False)
class Layout:
    """All phases of a layer on fields of one size; cached, so that equal layouts are the same object.

    Arguments:
        sizes: Input positions along each axis.
        kernel: Kernel taps along each axis.
        outputs: Output positions along each axis; below one where the kernel does not fit.
        phases: The phases, disjoint and together all outputs.
    """

    sizes: Position
    kernel: Position
    outputs: Position
    phases: tuple[Phase, ...]


@lru_cache(maxsize=128)
def conv_layout(
    sizes: Position, kernel: Position, *, stride: Position, padding: tuple[Position, Position], dilation: Position
) -> Layout:
    """Return the layout of a convolution: one phase.

    Arguments:
        sizes: Input positions along each axis.
        kernel: Kernel taps along each axis.
        stride: Distance between the inputs of neighbouring outputs.
        padding: Zeros before and after each axis.
        dilation: Distance between the inputs of neighbouring taps.
    """
    axes = []
    for size, taps, step, before, after, apart in zip(sizes, kernel, stride, *padding, dilation, strict=True):
        count = (size + before + after - apart * (taps - 1) - 1) // step + 1
        starts = tuple(tap * apart - before for tap in range(taps))
        axes.append(Axis(tuple(range(taps)), starts, step=step, offset=0, stride=1, count=count))
    return Layout(sizes, kernel, tuple(axis.count for axis in axes), (Phase(tuple(axes)),))


@lru_cache(maxsize=128)
def transposed_layout(
    sizes: Position,
    kernel: Position,
    *,
    stride: Position,
    padding: Position,
    output_padding: Position,
    dilation: Position,
) -> Layout:
    """Return the layout of a transposed convolution: a phase for each residue of the outputs modulo the stride.

    Arguments:
        sizes: Input positions along each axis.
        kernel: Kernel taps along each axis.
        stride: Distance between the outputs that neighbouring inputs reach through a tap.
        padding: Outputs cropped at both ends of each axis.
        output_padding: Outputs appended to each axis.
        dilation: Distance between the outputs that neighbouring taps reach.
    """
    outputs = tuple(
        (size - 1) * s - 2 * zeros + d * (taps - 1) + extra + 1
        for size, taps, s, zeros, extra, d in zip(sizes, kernel, stride, padding, output_padding, dilation, strict=True)
    )
    axes = map(_transposed_axes, outputs, kernel, stride, padding, dilation)
    return Layout(sizes, kernel, outputs, tuple(map(Phase, product(*axes))))


def _transposed_axes(outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> list[Axis]:
    """Return the phases along one axis.

    Output position o reads input i through tap k when o + padding = stride * i + dilation * k, so the residue of o
    modulo the stride decides which taps reach it. A phase without taps has the bias alone.
    """
    axes = []
    for phase in range(min(stride, outputs)):
        shifts = [phase + padding - dilation * tap for tap in range(kernel)]
        taps = tuple(tap for tap in range(kernel) if shifts[tap] % stride == 0)
        starts = tuple(shifts[tap] // stride for tap in taps)
        count = (outputs - phase - 1) // stride + 1
        axes.append(Axis(taps, starts, step=1, offset=phase, stride=stride, count=count))
    return axes


@lru_cache(maxsize=128)
def as_lines(layout: Layout, lines: int) -> Layout:
    """Return the layout of one field of two axes, each line of which is a field of one axis."""
    each = Axis((0,), (0,), step=1, offset=0, stride=1, count=lines)
    phases = tuple(Phase((each, *phase.axes)) for phase in layout.phases)
    return Layout((lines, *layout.sizes), (1, *layout.kernel), (lines, *layout.outputs), phases)


@dataclass(frozen=True)
class Box:
    """The positions from `low` (included) to `high` (excluded) along each axis."""

    low: Position
    high: Position

    @classmethod
    def at(cls, low: Position, sizes: Position) -> Box:
        """Return the box of these sizes at a position."""
        return cls(low, tuple(map(int.__add__, low, sizes)))

    @property
    def sizes(self) -> Position:
        """Return the number of positions along each axis."""
        return tuple(map(int.__sub__, self.high, self.low))

    @property
    def empty(self) -> bool:
        """Return True if the box has no positions."""
        return any(map(int.__ge__, self.low, self.high))

    def moved(self, shift: Position) -> Box:
        """Return the box moved by a shift."""
        return Box(tuple(map(int.__add__, self.low, shift)), tuple(map(int.__add__, self.high, shift)))

    def common(self, other: Box) -> Box:
        """Return the intersection of two boxes."""
        return Box(tuple(map(max, self.low, other.low)), tuple(map(min, self.high, other.high)))

    def hull(self, other: Box) -> Box:
        """Return the smallest box around both."""
        return Box(tuple(map(min, self.low, other.low)), tuple(map(max, self.high, other.high)))

    def slabs(self, positions: int) -> Iterator[Box]:
        """Yield parts of at most `positions`, cut along the first axis; a part has at least one line."""
        lines = max(1, positions // prod(self.sizes[1:]))
        for first in range(self.low[0], self.high[0], lines):
            yield Box((first, *self.low[1:]), (min(first + lines, self.high[0]), *self.high[1:]))
