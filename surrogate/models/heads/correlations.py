r"""Sums over patches without the patches: the Gram matrix of a convolution from correlations of its features.

Column (c, t) of a design holds channel c of the features, read through tap t: :math:`A_{q,ct} = z_c(q + o_t)`, zero
outside the field. With :math:`p = q + o_t` an entry of the Gram matrix is a correlation over a window,

.. math:: (A^\top A)_{ct,c't'} = \sum_{p \in P_t} z_c(p) \, z_{c'}(p + o_{t'} - o_t), \qquad P_t = o_t + [0, N),

so pairs of taps at the same distance share it but for the edges: 13 distances serve the 45 pairs of a 3x3 kernel.
Correlations are taken over the whole field, and over each line of it along an edge that some window leaves out; a
window is the field less its lines, by inclusion and exclusion over the axes. Targets take part as further channels,
because A'C holds correlations over the same distances.

Fields are laid out in frames with the channels last and so many zeros that a distance is the same step everywhere.
Then the channels of neighbours along the last axis follow one another, and every q-th position with its next r - 1
neighbours is a matrix without a copy: q products of such matrices give r distances over all positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from surrogate.models.heads.plans import Area, Piece, Plan, cheaper_plan, pieces_of, plan_of
from surrogate.slimtik import Statistics

__all__ = ["cheaper_plan", "correlated", "plan_of"]


def correlated(
    plan: Plan, fields: Tensor, targets: Tensor, *, byte_budget: int, taps: Tensor | None = None
) -> Statistics:
    """The sums of a design with a last column of ones, its other columns by channel, then tap.

    Arguments:
        plan: The plan for fields of this size.
        fields: Features with shape (C, B, *S).
        targets: Targets with shape (M, B, *outputs).
        byte_budget: Most bytes of frames at a time; at least those of one line.
        taps: The taps of each block, with shape (P, t), to get A'A packed, with shape (P, C t + 1, C t + 1).
    """
    (C, samples), width = fields.shape[:2], plan.width(len(fields), len(targets))
    shape = len(plan.sections), plan.groups + len(plan.edges[-1]), width
    totals = [fields.new_zeros(*shape, count * C, dtype=torch.float64) for _, count in plan.runs]
    for piece in pieces_of(plan, samples, 8 * (width + C), byte_budget):
        part = slice(piece.samples.start, piece.samples.stop)
        _add_products(totals, piece, *_frames(piece, fields[:, part], targets[:, part]))
    gram, cross = _assembled(plan, totals, C, taps)
    rows = samples * prod(plan.layout.outputs)
    gram[0, -1, -1], cross[-1] = rows, targets.sum(tuple(range(1, targets.ndim)), dtype=torch.float64)
    energy = torch.linalg.vector_norm(targets, dtype=torch.float64).square()
    return Statistics(gram[0] if taps is None else gram, cross, energy, rows, samples)


def _frames(piece: Piece, fields: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Features, one, and the targets of every phase, with shape (positions, width); features with margins."""
    plan, C, M = piece.plan, len(fields), len(targets)
    (lines, *sizes), (before, after) = piece.sizes, piece.margins
    positions = prod(sizes)
    z = fields.new_zeros(before + (lines + piece.more) * positions + after, C, dtype=torch.float64)
    features = z[before : before + (lines + piece.more) * positions].view(-1, *sizes, C)
    where, part = piece.copy(plan.field, piece.more)
    features[where].movedim((-1, 1), (0, 1)).copy_(_planar_fields(fields)[(slice(None), slice(None), *part)])
    x = z.new_zeros(lines * positions, plan.width(C, M))
    x[:, :C], x[:, C] = features[:lines].view(-1, C), 1.0
    channels = x.view(lines, *sizes, -1)[..., C + 1 :].unflatten(-1, (-1, M))
    for index, (base, phase) in enumerate(zip(plan.bases, plan.layout.phases, strict=True)):
        where, part = piece.copy(base)
        values = _planar_fields(targets[(slice(None), slice(None), *phase.writes)])
        channels[(*where, index)].movedim((-1, 1), (0, 1)).copy_(values[(slice(None), slice(None), *part)])
    return x, z


def _planar_fields(fields: Tensor) -> Tensor:
    """Fields (C, B, *S) over at least two axes."""
    return fields if fields.ndim > 3 else fields[:, :, None]


def _add_products(totals: list[Tensor], piece: Piece, x: Tensor, z: Tensor) -> None:
    """Add, over the positions of each area, the products of x with features at every distance."""
    before, runs = piece.margins[0], piece.plan.runs
    for area in piece.areas:
        X = _matrices(x, area, area.start, 1).mT
        for total, step, (_, count) in zip(totals, piece.steps, runs, strict=True):
            Z = _matrices(z, area, before + area.start + step, count)
            total[area.section, area.places].baddbmm_(X, Z)


def _matrices(frame: Tensor, area: Area, start: int, count: int) -> Tensor:
    """The positions of an area, each with those behind it, `count` in all, as rows; a view where they lie evenly."""
    C = frame.shape[1]
    strides = (*(C * stride for stride in area.strides), 1)
    return frame.as_strided((*area.sizes, count * C), strides, start * C).flatten(1, -2)


# Assembly -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Where the entries of a Gram matrix are found among the correlations; tensors on a device.

    Arguments:
        member: What each total, one after the other, counts for in a tap's window, with shape (T, totals).
        pairs: For each pair of taps, the first tap times D + 1 plus the number of the distance; D where there is none
            or where the opposite pair has it, with shape (T, T).
        cross: For each tap in use its number, then phase and distance of its correlation with targets, with shape
            (3, .).
    """

    member: Tensor
    pairs: Tensor
    cross: Tensor


@lru_cache(maxsize=128)
def _places(plan: Plan, device: torch.device) -> Places:
    T, D = prod(plan.layout.kernel), len(plan.distances)
    pairs = [[first * (D + 1) + plan.partners.get((first, second), D) for second in range(T)] for first in range(T)]
    return Places(
        member=torch.tensor(plan.counts, dtype=torch.float64, device=device),
        pairs=torch.tensor(pairs, device=device),
        cross=torch.tensor(plan.targets, device=device).mT.contiguous(),
    )


def _assembled(plan: Plan, totals: list[Tensor], C: int, taps: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gram matrix by blocks of taps and cross products from the correlations; the bias has none of its own yet.

    Arguments:
        plan: The plan.
        totals: Products over each section, for each run of r distances, with shape (sections, ., width, r C).
        C: Number of channels.
        taps: The taps of each block, with shape (P, t); all in one block if None.
    """
    places, T, D = _places(plan, totals[0].device), prod(plan.layout.kernel), len(plan.distances)
    sums, products = _by_distance(plan, totals, C)
    sums[:, :, 0, :C] *= 0.5  # the distance zero is its own opposite
    by_tap = (places.member @ sums.view(places.member.shape[1], -1)).view(-1, C + 1, C)
    taps = torch.arange(T, device=sums.device)[None] if taps is None else taps
    blocks, t = taps.shape
    pairs = places.pairs[taps[:, :, None], taps[:, None, :]].flatten()
    half = by_tap.index_select(0, pairs).view(blocks, t, t, C + 1, C)[..., :C, :]
    gram = sums.new_zeros(blocks, C * t + 1, C * t + 1)
    inside = gram[:, :-1, :-1].unflatten(2, (C, t)).unflatten(1, (C, t))
    torch.add(half.permute(0, 3, 1, 4, 2), half.permute(0, 4, 2, 3, 1), out=inside)
    gram[:, -1, :-1] = gram[:, :-1, -1] = by_tap.view(T, D + 1, C + 1, C)[taps, 0, C].mT.flatten(1)
    used, phase, distance = places.cross
    products = products.unflatten(1, (len(plan.bases), -1))
    cross = sums.new_zeros(C * T + 1, products.shape[2])
    cross[:-1].view(C, T, -1)[:, used] = products[distance, phase].permute(2, 0, 1)
    return gram, cross


def _by_distance(plan: Plan, totals: list[Tensor], C: int) -> tuple[Tensor, Tensor]:
    """Correlations by section and edge, with zeros as a last distance, and products with targets over all positions.

    They have shapes (sections, 1 + edge, D + 1, C + 1, C) and (D, P M, C).
    """
    sections, places, width = totals[0].shape[:3]
    sums = totals[0].new_zeros(sections, 1 + places - plan.groups, len(plan.distances) + 1, C + 1, C)
    products = totals[0].new_empty(len(plan.distances), width - C - 1, C)
    first = 0
    for total, (_, count) in zip(totals, plan.runs, strict=True):
        total, run = total.unflatten(3, (count, C)).transpose(2, 3), slice(first, first + count)
        whole = total[:, : plan.groups].sum(1)
        sums[:, 0, run], sums[:, 1:, run] = whole[..., : C + 1, :], total[:, plan.groups :, :, : C + 1]
        products[run] = whole[0, :, C + 1 :]
        first += count
    return sums, products
