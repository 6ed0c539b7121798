r"""Sums over patches without the patches: the Gram matrix of a convolution from correlations of its features.

Column (c, t) of a design holds channel c of the features, read through tap t: :math:`A_{q,ct} = z_c(q + o_t)`, zero
outside the field. With :math:`p = q + o_t` an entry of the Gram matrix is a correlation over a window,

.. math:: (A^\top A)_{ct,c't'} = \sum_{p \in P_t} z_c(p) \, z_{c'}(p + o_{t'} - o_t), \qquad P_t = o_t + [0, N),

so pairs of taps at the same distance share it but for the edges: 13 distances serve the 45 pairs of a 3x3 kernel.
Correlations are taken line by line, so that a window adds up its own lines, and along each edge of the other axes that
some window leaves out; there a window is all positions less its edges, by inclusion and exclusion. Targets take part as
further channels, because A'C holds correlations over the same distances.

Fields are laid out in frames, each channel one row with so many zeros that a distance is the same step everywhere: then
the features at a distance are the same rows read from further on, and nothing is copied for a product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from surrogate.models.heads.correlation_plan import Plan, cheaper_plan, plan_of
from surrogate.models.heads.tiling import Area, Copy, Piece, pieces_of
from surrogate.slimtik import NormalEquations

__all__ = ["Taps", "cheaper_plan", "correlated", "plan_of"]

Taps = tuple[tuple[int, ...], ...]


def correlated(
    plan: Plan, fields: Tensor, targets: Tensor, *, byte_budget: int, taps: Taps | None = None
) -> NormalEquations:
    """The sums of a design with a last column of ones, its other columns by channel, then tap.

    Arguments:
        plan: The plan for fields of this size.
        fields: Features with shape (C, B, *S).
        targets: Targets with shape (M, B, *outputs).
        byte_budget: Most bytes of frames at a time; at least those of one line.
        taps: The t taps of each block, to get A'A packed, with shape (P, C t + 1, C t + 1).
    """
    (C, samples), M = fields.shape[:2], len(targets)
    width = plan.width(C, M)
    sums = fields.new_zeros(len(plan.distances) + 1, len(plan.spans), width, C, dtype=torch.float64)
    edges = sums.new_zeros(len(plan.shapes) + 1, C + 1, prod(plan.grid.sizes), C)
    for piece in pieces_of(plan, samples, 8 * width, byte_budget):
        part = slice(piece.samples.start, piece.samples.stop)
        frame = _frame(piece, fields[:, part], targets[:, part])
        _add_lines(sums[:-1], piece, frame)
        _add_edges(edges[:-1], piece, frame)
    places, rows = _places(plan, taps, C, M, sums.device), samples * prod(plan.layout.outputs)
    gram, cross = sums.take(places.gram).add_(edges.take(places.edges)), sums.take(places.cross)
    gram[0, -1, -1], cross[-1] = rows, targets.sum(tuple(range(1, targets.ndim)), dtype=torch.float64)
    energy = torch.linalg.vector_norm(targets, dtype=torch.float64).square()
    return NormalEquations(gram[0] if taps is None else gram, cross, energy, rows, samples)


def _frame(piece: Piece, fields: Tensor, targets: Tensor) -> Tensor:
    """Features, one, and the targets of every phase as rows, with margins, with shape (width, positions)."""
    C, M, (lines, *sizes), (before, after) = len(fields), len(targets), piece.sizes, piece.margins
    inner = (lines + piece.plan.more) * prod(sizes)
    frame = fields.new_zeros(piece.plan.width(C, M), _apart(before + inner + after), dtype=torch.float64)
    inside = frame[:, before : before + inner].view(-1, lines + piece.plan.more, *sizes)
    features, one, goals = inside.split([C, 1, len(frame) - C - 1])
    _assign(features, piece.features, fields)
    one.fill_(1.0)
    for goal, where in zip(goals.split(M), piece.targets, strict=True):
        _assign(goal, where, targets)
    return frame


def _assign(rows: Tensor, copy: Copy, fields: Tensor) -> None:
    """Write fields (C, B, *S) into rows (C, *S, B) over at least two axes."""
    fields = fields if fields.ndim > 3 else fields[:, :, None]
    rows[(slice(None), *copy.there)] = fields.movedim(1, -1)[(slice(None), *copy.here)]


def _apart(positions: int) -> int:
    """A length of rows that no power of two divides, lest they share the same lines of caches."""
    return positions + (64 - positions) % 512


def _add_lines(sums: Tensor, piece: Piece, frame: Tensor) -> None:
    """Add to the correlations over the lines of each span, with shape (D, spans, width, C)."""
    D, _, width, C = sums.shape
    X = _rows(frame, width, piece, piece.areas[0], 0)
    products = frame.new_empty(D, *X.shape[:2], C)
    for step, out in zip(piece.steps, products.unbind(), strict=True):
        torch.bmm(X, _rows(frame, C, piece, piece.areas[0], step).mT, out=out)
    counts = _counts(piece.plan, frame.device)[0][:, piece.lines]
    sums.flatten(2).baddbmm_(counts.expand(D, -1, -1), products.flatten(2))


def _add_edges(edges: Tensor, piece: Piece, frame: Tensor) -> None:
    """Add what counts against each window, at a grid of N distances, with shape (windows, C + 1, N, C)."""
    _, rows, N, C = edges.shape
    lines, grid, length = piece.sizes[0], piece.plan.grid.sizes, frame.shape[1]
    for area, count in zip(piece.areas[1:], _counts(piece.plan, frame.device)[1], strict=True):
        X = _rows(frame, rows, piece, area, 0)
        sizes, strides = (lines, *grid, C, *area.sizes), (piece.strides[0], *piece.spread, length, *area.strides)
        Z = frame.as_strided(sizes, strides, piece.margins[0] + area.start + piece.lowest)
        products = torch.bmm(X, Z.reshape(lines, N * C, -1).mT)
        edges.flatten(1).addmm_(count[:, piece.lines], products.flatten(1))


def _rows(frame: Tensor, count: int, piece: Piece, area: Area, step: int) -> Tensor:
    """The first rows at the positions of an area moved by a step, with shape (lines, rows, positions)."""
    sizes, strides = (piece.sizes[0], count, *area.sizes), (piece.strides[0], frame.shape[1], *area.strides)
    return frame.as_strided(sizes, strides, piece.margins[0] + area.start + step).flatten(2)


@lru_cache(maxsize=128)
def _counts(plan: Plan, device: torch.device) -> tuple[Tensor, Tensor]:
    """What lines count for in each span, (spans, lines), and those of edges in each window, (edges, windows, lines)."""
    spans, edges = (torch.tensor(counts, dtype=torch.float64) for counts in (plan.span_counts, plan.edge_counts))
    return spans.to(device), edges.to(device)


# Assembly -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Where entries are found in sums (D + 1, spans, width, C) and edges (windows + 1, C + 1, N, C), both last zero.

    Arguments:
        gram: Those of A'A in the sums, with shape (P, C t + 1, C t + 1).
        edges: Those of A'A in the edges, with the same shape.
        cross: Those of A'C in the sums, with shape (K, M).
    """

    gram: Tensor
    edges: Tensor
    cross: Tensor


@lru_cache(maxsize=32)
def _places(plan: Plan, taps: Taps | None, C: int, M: int, device: torch.device) -> Places:
    T, D, width = prod(plan.layout.kernel), len(plan.distances), plan.width(C, M)
    distance, tap, row, column = _entries(plan, torch.tensor(taps or (tuple(range(T)),)), C)
    spans, shapes = [0] * T, [0] * T
    for number, window in plan.windows.items():
        spans[number], shapes[number] = (
            plan.spans.index(range(window.low[0], window.high[0])),
            plan.shapes.index(window),
        )
    gram = ((distance * len(plan.spans) + torch.tensor(spans)[tap]) * width + row) * C + column
    shape = torch.tensor(shapes)[tap].where(distance < D, len(plan.shapes))
    place = torch.tensor([*plan.grid.places, 0])[distance]
    edges = ((shape * (C + 1) + row) * prod(plan.grid.sizes) + place) * C + column
    cross = torch.full((C * T + 1, M), D * len(plan.spans) * width * C)
    for number, phase, apart in plan.targets:
        rows = C + 1 + phase * M + torch.arange(M)
        cross[:-1].view(C, T, M)[:, number] = (apart * len(plan.spans) * width + rows) * C + torch.arange(C)[:, None]
    return Places(gram.to(device), edges.to(device), cross.to(device))


def _entries(plan: Plan, blocks: Tensor, C: int) -> list[Tensor]:
    """Distance, tap, row and column of the correlation that is each entry of A'A, with shape (P, C t + 1, C t + 1).

    Where there is none, the distance is D. Entries below the diagonal take those above it, so that both are equal.
    """
    (P, t), D, T = blocks.shape, len(plan.distances), prod(plan.layout.kernel)
    numbers = torch.full((T, T), D)
    for pair, number in plan.partners.items():
        numbers[pair] = number
    column, tap = torch.arange(C).repeat_interleave(t), blocks.repeat(1, C)  # by channel, then tap
    first, second = tap[:, :, None].expand(P, C * t, C * t), tap[:, None].expand(P, C * t, C * t)
    row, other = column[:, None].expand_as(first), column.expand_as(first)
    swap = (numbers[first, second] == D) | ((first == second) & (row > other))
    above, below = (numbers[first, second], first, row, other), (numbers[second, first], second, other, row)
    border = numbers.diagonal()[tap], tap, torch.tensor(C), column
    found = []
    for a, b, ones in zip(above, below, border, strict=True):
        entries = torch.zeros(P, C * t + 1, C * t + 1, dtype=torch.long)
        entries[:, :-1, :-1] = torch.where(swap, b, a)
        entries[:, -1, :-1] = entries[:, :-1, -1] = ones
        found.append(entries)
    found[0][:, -1, -1] = D
    return found
