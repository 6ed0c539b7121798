r"""The Gram matrix of a convolution from correlations of its features, without forming patches.

Column (c, t) of a design holds channel c of the features, read through tap t: :math:`A_{q,ct} = z_c(q + o_t)`, zero
outside the field. With :math:`p = q + o_t` an entry of the Gram matrix is a correlation over a window,

.. math:: (A^\top A)_{ct,c't'} = \sum_{p \in P_t} z_c(p) \, z_{c'}(p + o_{t'} - o_t), \qquad P_t = o_t + [0, N),

so pairs of taps at the same distance share it except at the edges: 13 distances serve the 45 pairs of a 3x3 kernel.
Correlations are taken line by line, so that a window sums its own lines, and along each edge of the other axes that
some window excludes; there a window is all positions minus its edges, by inclusion and exclusion. Targets are further
channels, because A'C holds correlations over the same distances. For kernels with many taps correlations over whole
fields come from Fourier transforms, see `transforms`, and the lines that a window excludes are subtracted.

Fields are laid out in frames, each channel one row padded with zeros so that a distance is the same offset everywhere:
the features at a distance are then a view of the same rows, and no product copies them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from surrogate.models.heads.correlation_plan import CorrelationPlan, cheaper_plan, plan_of
from surrogate.models.heads.tiling import Area, Copy, Piece, pieces_of
from surrogate.models.heads.transforms import faster_by_transforms, whole_correlations
from surrogate.slimtik import NormalEquations

__all__ = ["Taps", "cheaper_plan", "correlated", "plan_of"]

Taps = tuple[tuple[int, ...], ...]


def correlated(
    plan: CorrelationPlan,
    fields: Tensor,
    targets: Tensor,
    *,
    byte_budget: int,
    taps: Taps | None = None,
    by_transforms: bool | None = None,
) -> NormalEquations:
    """Return the normal equations of a design with a last column of ones, its other columns by channel, then tap.

    Arguments:
        plan: The plan for fields of this size.
        fields: Features with shape (C, B, *S).
        targets: Targets with shape (M, B, *outputs).
        byte_budget: Most bytes of frames at a time; at least those of one line.
        taps: The t taps of each block, to return A'A packed, with shape (P, C t + 1, C t + 1).
        by_transforms: Whether to transform whole fields; where that is faster unless given.
    """
    (C, samples), M = fields.shape[:2], len(targets)
    width = plan.width(C, M)
    sums = fields.new_zeros(len(plan.distances) + 1, len(plan.spans), width, C, dtype=torch.float64)
    sections = sums.new_zeros(len(plan.sections) - 1, len(plan.spans) - 1, C + 1, prod(plan.grid.sizes), C)
    if by_transforms is None:
        by_transforms = faster_by_transforms(plan, C, M, samples)
    for piece in pieces_of(plan, samples, 8 * width, byte_budget):
        part = slice(piece.samples.start, piece.samples.stop)
        frame = _frame(piece, fields[:, part], targets[:, part])
        for lines in piece.edge_lines if by_transforms else [range(piece.first, piece.last)]:
            _add_lines(sums[:-1], piece, frame, lines, float(by_transforms))
        _add_edges(sections, piece, frame, by_runs=by_transforms)
    if by_transforms:
        sums[:-1] += whole_correlations(plan, fields, targets, byte_budget)[:, None]
    edges = sums.new_zeros(len(plan.shapes) + 1, *sections.shape[2:])
    torch.mm(_weights(plan, sums.device)[1], sections.flatten(2).flatten(0, 1), out=edges[:-1].flatten(1))
    places, rows = Places.of(plan, taps, C, M, sums.device), samples * prod(plan.layout.outputs)
    gram, cross = sums.take(places.gram).add_(edges.take(places.edges)), sums.take(places.cross)
    gram[0, -1, -1], cross[-1] = rows, targets.sum(tuple(range(1, targets.ndim)), dtype=torch.float64)
    energy = torch.linalg.vector_norm(targets, dtype=torch.float64).square()
    return NormalEquations(gram[0] if taps is None else gram, cross, energy, rows, samples)


def _frame(piece: Piece, fields: Tensor, targets: Tensor) -> Tensor:
    """Return features, one, and the targets of every phase as rows with margins: (width, positions)."""
    C, M, (lines, *sizes), (before, after) = len(fields), len(targets), piece.sizes, piece.margins
    inner = (lines + piece.plan.more) * prod(sizes)
    length = before + inner + after
    length += (64 - length) % 512  # no power of two, so that rows do not share the same lines of caches
    frame = fields.new_zeros(piece.plan.width(C, M), length, dtype=torch.float64)
    inside = frame[:, before : before + inner].view(-1, lines + piece.plan.more, *sizes)
    features, one, goals = inside.split([C, 1, len(frame) - C - 1])
    _assign(features, piece.features, fields)
    one.fill_(1.0)
    for goal, where in zip(goals.split(M), piece.targets, strict=True):
        _assign(goal, where, targets)
    return frame


def _assign(rows: Tensor, copy: Copy, fields: Tensor) -> None:
    """Write fields (C, B, *S) into rows (C, *S, B)."""
    rows[(slice(None), *copy.there)] = fields.movedim(1, -1)[(slice(None), *copy.here)]


def _add_lines(sums: Tensor, piece: Piece, frame: Tensor, lines: range, less: float) -> None:
    """Add lines to the correlations over each span, (D, spans, width, C), their weights in it less a number."""
    D, _, width, C = sums.shape
    X = _rows(frame, width, piece, piece.areas[0], 0, lines)
    products = frame.new_empty(D, *X.shape[:2], C)
    for step, out in zip(piece.steps, products.unbind(), strict=True):
        torch.bmm(X, _rows(frame, C, piece, piece.areas[0], step, lines).mT, out=out)
    low = piece.plan.frame.low[0]
    counts = _weights(piece.plan, frame.device)[0][:, lines.start - low : lines.stop - low] - less
    sums.flatten(2).baddbmm_(counts.expand(D, -1, -1), products.flatten(2))


def _add_edges(sections: Tensor, piece: Piece, frame: Tensor, *, by_runs: bool) -> None:
    """Add edges over the lines of each span, at a grid of N distances, with shape (sections, spans, C + 1, N, C).

    Lines are taken one by one, as a batch, or in runs that no span divides, which is faster where they are many.
    """
    rows, N, C = sections.shape[2:]
    length, (line, *_) = frame.shape[1], piece.strides
    low = piece.plan.frame.low[0]
    counts = _weights(piece.plan, frame.device)[0][1:, piece.first - low : piece.last - low]
    for area, section in zip(piece.areas[1:], sections.flatten(2), strict=True):
        at, strides = piece.margins[0] + area.start, (*piece.spread, length)
        for run in piece.runs if by_runs else []:
            of_run, steps, first = (len(run), *area.sizes), (line, *area.strides), at + (run.start - piece.first) * line
            X = frame.as_strided((rows, *of_run), (length, *steps), first).flatten(1)
            Z = frame.as_strided((*piece.plan.grid.sizes, C, *of_run), (*strides, *steps), first + piece.lowest)
            section.addr_(counts[:, run.start - piece.first], torch.mm(X, Z.reshape(N * C, -1).T).flatten())
        if not by_runs:
            sizes = (piece.sizes[0], *piece.plan.grid.sizes, C, *area.sizes)
            Z = frame.as_strided(sizes, (line, *strides, *area.strides), at + piece.lowest)
            products = torch.bmm(_rows(frame, rows, piece, area, 0), Z.reshape(len(Z), N * C, -1).mT)
            section.addmm_(counts, products.flatten(1))


def _rows(frame: Tensor, count: int, piece: Piece, area: Area, step: int, lines: range | None = None) -> Tensor:
    """Return the first rows at the positions of an area moved by a step: (lines, rows, positions)."""
    lines = lines or range(piece.first, piece.last)
    sizes, strides = (len(lines), count, *area.sizes), (piece.strides[0], frame.shape[1], *area.strides)
    start = piece.margins[0] + area.start + step + (lines.start - piece.first) * piece.strides[0]
    return frame.as_strided(sizes, strides, start).flatten(2)


@lru_cache(maxsize=128)
def _weights(plan: CorrelationPlan, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the weights of lines in each span, (spans, lines), and in each window of sections over spans, (., .)."""
    lines, sections = (torch.tensor(counts, dtype=torch.float64) for counts in (plan.span_counts, plan.edge_weights))
    return lines.to(device), sections.flatten(1).to(device)


# Assembly -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Indices of entries in sums (D + 1, spans, width, C) and edges (windows + 1, C + 1, N, C), both last zero.

    Arguments:
        gram: Those of A'A in the sums, with shape (P, C t + 1, C t + 1).
        edges: Those of A'A in the edges, with the same shape.
        cross: Those of A'C in the sums, with shape (K, M).
    """

    gram: Tensor
    edges: Tensor
    cross: Tensor

    @classmethod
    @lru_cache(maxsize=32)
    def of(cls, plan: CorrelationPlan, taps: Taps | None, C: int, M: int, device: torch.device) -> Places:
        """Compute the indices for C channels and M outputs, once for each plan."""
        T, D, width = prod(plan.layout.kernel), len(plan.distances), plan.width(C, M)
        distance, tap, row, column = _entries(plan, torch.tensor(taps or (tuple(range(T)),)), C)
        spans, shapes = [0] * T, [0] * T
        for number, window in plan.windows.items():
            spans[number] = plan.spans.index(range(window.low[0], window.high[0]))
            shapes[number] = plan.shapes.index(window)
        gram = ((distance * len(plan.spans) + torch.tensor(spans)[tap]) * width + row) * C + column
        shape = torch.tensor(shapes)[tap].where(distance < D, len(plan.shapes))
        place = torch.tensor([*plan.grid.places, 0])[distance]
        edges = ((shape * (C + 1) + row) * prod(plan.grid.sizes) + place) * C + column
        cross = torch.full((C * T + 1, M), D * len(plan.spans) * width * C)
        for number, phase, apart in plan.targets:
            rows = (apart * len(plan.spans) * width + C + 1 + phase * M + torch.arange(M)) * C
            cross[:-1].view(C, T, M)[:, number] = rows + torch.arange(C)[:, None]
        return cls(gram.to(device), edges.to(device), cross.to(device))


def _entries(plan: CorrelationPlan, blocks: Tensor, C: int) -> list[Tensor]:
    """Return distance, tap, row and column of the correlation for each entry of A'A: (P, C t + 1, C t + 1).

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
    indices = []
    for a, b, ones in zip(above, below, border, strict=True):
        entries = torch.zeros(P, C * t + 1, C * t + 1, dtype=torch.long)
        entries[:, :-1, :-1] = torch.where(swap, b, a)
        entries[:, -1, :-1] = entries[:, :-1, -1] = ones
        indices.append(entries)
    indices[0][:, -1, -1] = D
    return indices
