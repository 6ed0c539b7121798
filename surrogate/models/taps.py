"""Where the taps of a convolution fall: integers only, one axis of space at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

__all__ = ["Axis", "Phase", "conv_axis", "transposed_axes"]


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
        """The same taps at no more than `count` outputs, from number `first` on."""
        return replace(
            self,
            starts=tuple(start + first * self.step for start in self.starts),
            offset=self.offset + first * self.stride,
            count=min(count, self.count - first),
        )

    def margins(self, size: int) -> tuple[int, int]:
        """Zeros needed before and after an input of `size` positions."""
        last = max(self.starts, default=0) + (self.count - 1) * self.step
        return max(0, -min(self.starts, default=0)), max(0, last + 1 - size)

    def reads(self, before: int) -> list[slice]:
        """For each tap the slice of an input that has `before` zeros in front."""
        extent = (self.count - 1) * self.step + 1
        return [slice(start + before, start + before + extent, self.step) for start in self.starts]

    @property
    def writes(self) -> slice:
        """The slice of the output."""
        return slice(self.offset, self.offset + (self.count - 1) * self.stride + 1, self.stride)


@dataclass(frozen=True)
class Phase:
    """Output positions of a field that use the same kernel taps: one `Axis` for each axis of space."""

    axes: tuple[Axis, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of outputs along each axis."""
        return tuple(axis.count for axis in self.axes)

    @property
    def writes(self) -> tuple[slice, ...]:
        """The outputs as an index."""
        return tuple(axis.writes for axis in self.axes)

    def reads(self, before: Sequence[int]) -> list[tuple[slice, ...]]:
        """For each tap the index of the inputs it reads, in a field with `before` zeros in front of each axis."""
        return list(product(*(axis.reads(zeros) for axis, zeros in zip(self.axes, before, strict=True))))

    def taps(self, kernel: Sequence[int]) -> list[int]:
        """The taps as positions in a flattened kernel of this shape."""
        strides = [prod(kernel[axis + 1 :]) for axis in range(len(kernel))]
        return [
            sum(tap * stride for tap, stride in zip(taps, strides, strict=True))
            for taps in product(*(axis.taps for axis in self.axes))
        ]

    def slices(self, positions: int) -> Iterator[Phase]:
        """Parts of at most `positions` outputs, cut along the first axis; a part has at least one line."""
        if not self.axes:
            yield self
            return
        first, *rest = self.axes
        lines = max(1, positions // prod(axis.count for axis in rest))
        for line in range(0, first.count, lines):
            yield Phase((first.narrowed(line, lines), *rest))


def conv_axis(size: int, kernel: int, *, stride: int, padding: tuple[int, int], dilation: int) -> Axis:
    """The outputs of a convolution along one axis of `size` inputs; a count below one where the kernel does not fit."""
    count = (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1
    starts = tuple(tap * dilation - padding[0] for tap in range(kernel))
    return Axis(tuple(range(kernel)), starts, step=stride, offset=0, stride=1, count=count)


def transposed_axes(outputs: int, kernel: int, *, stride: int, padding: int, dilation: int) -> list[Axis]:
    """The phases of a transposed convolution along one axis of `outputs` outputs.

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
