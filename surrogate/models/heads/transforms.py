r"""Correlations over whole fields by Fourier transforms, for kernels with many taps.

With the discrete Fourier transform of fields that are padded with zeros, all distances follow from one product,

.. math:: \sum_p x_r(p) \, z_c(p + d) = F^{-1}\Bigl(\sum_b \hat x_{rb} \, \overline{\hat z_{cb}}\Bigr)(-d),

in float64, so that rounding is that of sums of squares. Memory is that of all products at once, so large fields of many
channels are not for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import log2, pi, prod

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from surrogate.models.heads.correlation_plan import CorrelationPlan
from surrogate.models.heads.geometry import Position

__all__ = ["faster_by_transforms", "whole_correlations"]

LARGEST = 2**25  # bytes of the products in the frequency domain


@lru_cache(maxsize=128)
def faster_by_transforms(plan: CorrelationPlan, channels: int, outputs: int, samples: int) -> bool:
    """Return True if the products of whole fields take longer than transforms, and these do not take much memory.

    A point of a transform, times the logarithm of their number, takes as long as five multiplications in a product of
    matrices, a complex product of one sample and frequency as sixteen.
    """
    sizes, rows = _sizes(plan), channels + len(plan.bases) * outputs
    points, frequencies, pairs = prod(sizes), prod(sizes[:-1]) * (sizes[-1] // 2 + 1), rows * channels
    transforms = 5 * rows * samples * points * log2(points) + 16 * pairs * frequencies * samples
    products = samples * prod(plan.frame.sizes) * plan.width(channels, outputs) * len(plan.distances) * channels
    return 16 * pairs * frequencies <= LARGEST and transforms < products


def whole_correlations(plan: CorrelationPlan, fields: Tensor, targets: Tensor, byte_budget: int) -> Tensor:
    """Return the correlations of features, one, and the targets of every phase with features: (D, width, C).

    Those of one are right at distance zero alone; no others are in a Gram matrix.

    Arguments:
        plan: The plan for fields of this size.
        fields: Features with shape (C, B, *S).
        targets: Targets with shape (M, B, *outputs).
        byte_budget: Most bytes of transforms at a time; at least those of one sample.
    """
    sizes, (C, samples), M = _sizes(plan), fields.shape[:2], len(targets)
    axes, half = tuple(range(-len(sizes), 0)), (*sizes[:-1], sizes[-1] // 2 + 1)
    rows = C + len(plan.bases) * M
    products = fields.new_zeros(prod(half), rows, C, dtype=torch.complex128)
    together = min(samples, max(1, max(byte_budget, products.nbytes) // (16 * rows * prod(half))))
    boxes, ends = [plan.field, *plan.bases], [C, *(C + (phase + 1) * M for phase in range(len(plan.bases)))]
    padded = fields.new_zeros(rows, together, *sizes, dtype=torch.float64)
    inside = [
        padded[(slice(first, end), slice(None), *map(slice, box.sizes))]
        for box, first, end in zip(boxes, [0, *ends], ends, strict=False)
    ]
    for first in range(0, samples, together):
        part = slice(first, first + together)
        phases = (targets[(slice(None), part, *phase.writes)] for phase in plan.layout.phases)
        for where, values in zip(inside, (fields[:, part], *phases), strict=True):
            where[:, : values.shape[1]] = values
        count = min(together, samples - first)
        transforms = torch.fft.rfftn(padded[:, :count], dim=axes).flatten(2).permute(2, 0, 1).contiguous()
        products.baddbmm_(transforms, transforms[:, :C].mH)
    apart = [[_sum(distance, box.low) for distance in plan.distances] for box in boxes]
    wanted = [sorted({distance[axis] for of_box in apart for distance in of_box}) for axis in range(len(sizes))]
    found = products.unflatten(0, half)
    for axis, (distances, size) in enumerate(zip(wanted, sizes, strict=True)):
        found = torch.tensordot(_inverse(distances, size, half[axis]).to(found.device), found, ([1], [axis]))
    found = found.real.permute(*reversed(range(len(sizes))), -2, -1).flatten(0, -3)
    result = found.new_zeros(len(plan.distances), plan.width(C, M), C)
    for of_box, first, end in zip(apart, [0, *ends], ends, strict=False):
        places = [_place(distance, wanted) for distance in of_box]
        after = int(first > 0)  # the row of one
        result[:, first + after : end + after] = found[places, first:end]
    result[0, C] = fields.sum(tuple(range(1, fields.ndim)), dtype=torch.float64)
    return result


@lru_cache(maxsize=128)
def _sizes(plan: CorrelationPlan) -> Position:
    """Return sizes of transforms at which no two correlations that differ from zero share an entry."""
    boxes = [plan.field, *plan.bases]
    return tuple(
        next_fast_len(
            max(box.sizes[axis] for box in boxes)
            + max(abs(box.low[axis]) for box in boxes)
            + max(abs(distance[axis]) for distance in plan.distances),
            real=True,
        )
        for axis in range(len(plan.field.sizes))
    )


def _inverse(distances: Sequence[int], size: int, half: int) -> Tensor:
    """Return the inverse transform of one axis at -d alone, with shape (D, frequencies).

    Where half of the frequencies are given, the others are their conjugates: the real part counts those twice.
    """
    frequencies = torch.arange(half, dtype=torch.float64)
    angles = torch.tensor(distances, dtype=torch.float64)[:, None] * frequencies * (-2 * pi / size)
    twice = 1.0 + ((half < size) & (frequencies > 0) & (2 * frequencies != size)).double()
    return torch.polar(twice / size * torch.ones_like(angles), angles)


def _sum(first: Position, second: Position) -> Position:
    return tuple(map(int.__add__, first, second))


def _place(distance: Position, axes: Sequence[Sequence[int]]) -> int:
    """Return the entry of a distance in a flattened grid of distances along each axis."""
    place = 0
    for at, distances in zip(distance, axes, strict=True):
        place = place * len(distances) + distances.index(at)
    return place
