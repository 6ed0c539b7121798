r"""Sums over patches without the patches: the Gram matrix of a convolution from correlations of its features.

Column (c, t) of a design holds channel c of the features, read through tap t: :math:`A_{q,ct} = z_c(q + o_t)`, zero
outside the field. With :math:`p = q + o_t` an entry of the Gram matrix is a correlation over a window,

.. math:: (A^\top A)_{ct,c't'} = \sum_{p \in P_t} z_c(p) \, z_{c'}(p + o_{t'} - o_t), \qquad P_t = o_t + [0, N),

so pairs of taps at the same distance share it but for the edges: 13 distances serve the 45 pairs of a 3x3 kernel. The
interior that all windows have in common is summed once; the rest of the field is cut into cells, and a window adds up
those it holds. Targets take part as further channels, because A'C holds correlations over the same distances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from itertools import groupby, pairwise, product
from math import prod

import torch
from torch import Tensor

from surrogate.models.taps import Box, Layout, Phase, Position
from surrogate.slimtik import Statistics

__all__ = ["Plan", "cheaper_plan", "correlated", "plan_of"]

CALL = 10**5  # multiplications in the time of one call of torch


# Integers -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Plan:
    """Which correlations a layer needs on fields of one size.

    A distance is an outer shift, zero along the last axis, plus an inner shift along the last axis alone, so that one
    product of (outer shifts x channels) with (inner shifts x channels) has all distances.

    Arguments:
        layout: The layout planned for.
        windows: Window of each tap in use, by its number in the kernel.
        partners: Number of the distance between two taps of a phase; of two opposites only the one that is positive.
        distances: The distances in ascending order, zero first.
        interior: The positions that every window holds.
        cells: The rest of the field, the largest first.
    """

    layout: Layout
    windows: dict[int, Box]
    partners: dict[tuple[int, int], int]
    distances: tuple[Position, ...]
    interior: Box
    cells: tuple[Box, ...]

    @cached_property
    def outer(self) -> list[Position]:
        """Outer shifts, zero first."""
        return sorted({(*distance[:-1], 0) for distance in self.distances})

    @cached_property
    def inner(self) -> list[Position]:
        """Inner shifts."""
        zeros = (0,) * (len(self.layout.sizes) - 1)
        return sorted({(*zeros, distance[-1]) for distance in self.distances})

    @cached_property
    def bases(self) -> list[Box]:
        """Where the outputs of each phase lie, seen through the tap that reads first."""
        lows = (tuple(min(axis.starts, default=0) for axis in phase.axes) for phase in self.layout.phases)
        return [Box.at(low, phase.counts) for low, phase in zip(lows, self.layout.phases, strict=True)]

    @cached_property
    def reference(self) -> Box:
        """The positions that correlations of the interior and of the targets run over."""
        support = reduce(Box.hull, self.bases, self.interior)
        return reduce(Box.hull, map(support.moved, self.outer))

    @cached_property
    def frames(self) -> tuple[Box, Box]:
        """All positions read at a backward outer shift, and at a forward shift."""
        backward = (self.reference.moved(_negative(shift)) for shift in self.outer)
        forward = [*map(self.reference.moved, self.inner), *map(self.field.moved, self.distances)]
        return reduce(Box.hull, backward), reduce(Box.hull, forward)

    @cached_property
    def field(self) -> Box:
        """All positions of a field."""
        return Box.at((0,) * len(self.layout.sizes), self.layout.sizes)

    def widths(self, channels: int, outputs: int) -> tuple[int, int]:
        """Rows of the two factors of the product."""
        return len(self.outer) * (channels + len(self.bases) * outputs), len(self.inner) * channels + 1

    def multiplications(self, channels: int, outputs: int, samples: int) -> int:
        """About how many multiplications it takes, calls included."""
        edge = sum(prod(cell.sizes) for cell in self.cells) * len(self.distances) * channels**2
        calls = 50 + len(self.outer) + len(self.inner) + len(self.bases)
        return samples * (prod(self.reference.sizes) * prod(self.widths(channels, outputs)) + edge) + calls * CALL


@lru_cache(maxsize=128)
def plan_of(layout: Layout) -> Plan | None:
    """The plan for a layout; None where the windows of its taps have no position in common, or skip positions."""
    taps = {number: (phase, start) for phase in layout.phases for number, start in _taps(phase, layout.kernel)}
    if not layout.sizes or not taps or any(axis.step != 1 for phase in layout.phases for axis in phase.axes):
        return None
    windows = {number: Box.at(start, phase.counts) for number, (phase, start) in taps.items()}
    field = Box.at((0,) * len(layout.sizes), layout.sizes)
    interior = reduce(Box.common, windows.values(), field)
    if interior.empty:
        return None
    pairs = {
        (first, second): _difference(taps[second][1], taps[first][1])
        for first, second in product(taps, taps)
        if taps[first][0] is taps[second][0] and taps[second][1] >= taps[first][1]
    }
    distances = {distance: number for number, distance in enumerate(sorted(set(pairs.values())))}
    partners = {pair: distances[distance] for pair, distance in pairs.items()}
    cells = sorted(_cells(field, windows.values()), key=lambda cell: prod(cell.sizes), reverse=True)
    return Plan(layout, windows, partners, tuple(distances), interior, tuple(c for c in cells if c != interior))


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


def _difference(second: Position, first: Position) -> Position:
    return tuple(b - a for a, b in zip(first, second, strict=True))


def _negative(shift: Position) -> Position:
    return tuple(-x for x in shift)


def _cells(field: Box, windows: Iterable[Box]) -> list[Box]:
    """The field, cut wherever a window begins or ends."""
    clipped = [field, *(field.common(window) for window in windows)]
    cuts = [sorted({end[axis] for box in clipped for end in (box.low, box.high)}) for axis in range(len(field.low))]
    return [Box(*zip(*sides, strict=True)) for sides in product(*map(pairwise, cuts))]


# Sums -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """Fields (C, *S, B) with zeros around them; `low` is the position of the first element.

    Samples come last, so that even small fields are read in long runs.
    """

    values: Tensor
    low: Position

    @classmethod
    def over(cls, box: Box, channels: int, like: Tensor, dtype: torch.dtype) -> Frame:
        """Zeros over a box, for the samples of other fields."""
        return cls(like.new_zeros(channels, *box.sizes, like.shape[1], dtype=dtype), box.low)

    def __getitem__(self, box: Box) -> Tensor:
        index = (slice(a - low, b - low) for a, b, low in zip(box.low, box.high, self.low, strict=True))
        return self.values[(slice(None), *index)]


def correlated(
    plan: Plan, fields: Tensor, targets: Tensor, *, byte_budget: int, taps: Tensor | None = None
) -> Statistics:
    """The sums of a design with a last column of ones, its other columns by channel, then tap.

    Arguments:
        plan: The plan for fields of this size.
        fields: Features with shape (C, B, *S).
        targets: Targets with shape (M, B, *outputs).
        byte_budget: Most bytes of padded features, and of the factors of a product, at a time; at least those of one
            sample, and of one line.
        taps: The taps of each block, with shape (P, t), to get A'A packed, with shape (P, C t + 1, C t + 1).
    """
    (channels, samples), outputs = fields.shape[:2], len(targets)
    main = fields.new_zeros(plan.widths(channels, outputs), dtype=torch.float64)
    sums = main.new_zeros(1 + len(plan.cells), len(plan.distances) + 1, channels, channels + 1)
    bytes_each = fields.element_size() * sum(prod(box.sizes) * channels for box in plan.frames)
    step = max(1, byte_budget // bytes_each)
    for first in range(0, samples, step):
        part = slice(first, first + step)
        z = Frame.over(plan.frames[1], channels, fields[:, part], fields.dtype)
        z[plan.field].copy_(_samples_last(fields[:, part]))
        _add_products(main, plan, z, _sources(plan, z, targets[:, part]), byte_budget)
        _add_edges(sums[1:, :-1], plan, z, byte_budget)
    gram, cross = _assembled(plan, main, sums, outputs, taps)
    rows = samples * prod(plan.layout.outputs)
    gram[0, -1, -1], cross[-1] = rows, targets.sum(tuple(range(1, targets.ndim)), dtype=torch.float64)
    energy = torch.linalg.vector_norm(targets, dtype=torch.float64).square()
    return Statistics(gram[0] if taps is None else gram, cross, energy, rows, samples)


def _samples_last(fields: Tensor) -> Tensor:
    """Fields (C, B, *S) as (C, *S, B), by the transposition of a matrix, which torch does in tiles."""
    samples = fields.transpose(0, 1)
    return samples.flatten(1).T.contiguous().view(*samples.shape[1:], len(samples))


def _add_products(total: Tensor, plan: Plan, z: Frame, x: Frame, byte_budget: int) -> None:
    """Add, over all positions, x at every outer shift, backward, times features, and one, at every inner shift."""
    (rows, columns), C, samples = total.shape, len(z.values), z.values.shape[-1]
    positions = max(1, byte_budget // (8 * (rows + columns)))
    step = min(samples, max(1, positions // prod(plan.reference.sizes[1:])))  # as many as fit: they are read in one run
    slabs = list(product(plan.reference.slabs(max(1, positions // step)), range(0, samples, step)))
    buffer = total.new_empty((rows + columns) * step * prod(slabs[0][0].sizes))
    for slab, first in slabs:
        part, shape = slice(first, first + step), (*slab.sizes, min(step, samples - first))
        factors = buffer[: (rows + columns) * prod(shape)].view(rows + columns, *shape)
        X, Z = factors[:rows].view(len(plan.outer), len(x.values), *shape), factors[rows:]
        for index, shift in enumerate(plan.outer):
            X[index] = x[slab.moved(_negative(shift))][..., part]
        for index, shift in enumerate(plan.inner):
            Z[index * C : (index + 1) * C] = z[slab.moved(shift)][..., part]
        Z[-1] = 1.0
        total.addmm_(X.view(rows, -1), Z.view(columns, -1).mT)


def _sources(plan: Plan, z: Frame, targets: Tensor) -> Frame:
    """Features of the interior alone, then the targets of every phase, as fields."""
    C, M = len(z.values), len(targets)
    dtype = torch.promote_types(z.values.dtype, targets.dtype)
    x = Frame.over(plan.frames[0], C + len(plan.bases) * M, targets, dtype)
    x[plan.interior][:C] = z[plan.interior]
    for index, (box, phase) in enumerate(zip(plan.bases, plan.layout.phases, strict=True)):
        first = C + index * M
        x[box][first : first + M] = targets[(slice(None), slice(None), *phase.writes)].movedim(1, -1)
    return x


def _add_edges(total: Tensor, plan: Plan, z: Frame, byte_budget: int) -> None:
    """Add, over each cell, features times features, and one, at every distance."""
    C, B = len(z.values), z.values.shape[-1]
    flat = z.values.view(C, -1, B)
    for cells, reads in _edge_reads(plan, z.values.device):
        group, D, count = reads.shape
        step = max(1, byte_budget // (8 * group * D * B * C))
        for first in range(0, count, step):
            part = reads[:, :, first : first + step]
            read = flat.index_select(1, part.flatten()).view(C, *part.shape, B)
            read = read.permute(1, 2, 0, 3, 4).to(torch.float64, memory_format=torch.contiguous_format)
            read = read.reshape(group, D * C, -1)
            found = torch.bmm(read[:, :C], read.mT).view(group, C, D, C).transpose(1, 2)
            total[cells, :, :, :C] += found
            total[cells, 0, :, C] += read[:, :C].sum(2)


@lru_cache(maxsize=128)
def _edge_reads(plan: Plan, device: torch.device) -> list[tuple[slice, Tensor]]:
    """Cells of the same size, and where each position of them reads at each distance in a flat frame."""
    frame, found, first = plan.frames[1], [], 0
    strides = torch.tensor([prod(frame.sizes[axis + 1 :]) for axis in range(len(frame.sizes))])
    steps = (torch.tensor(plan.distances) * strides).sum(1)
    for _, same in groupby(plan.cells, key=lambda cell: prod(cell.sizes)):
        boxes = list(same)
        places = [torch.cartesian_prod(*map(torch.arange, box.low, box.high)).view(-1, len(strides)) for box in boxes]
        starts = ((torch.stack(places) - torch.tensor(frame.low)) * strides).sum(2)
        found.append((slice(first, first + len(boxes)), (starts[:, None, :] + steps[:, None]).to(device)))
        first += len(boxes)
    return found


# Assembly -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Where the entries of a Gram matrix are found among the correlations; tensors on a device.

    Arguments:
        member: One where a tap's window holds a cell, the interior first, with shape (T, 1 + cells).
        factors: Numbers of outer and inner shift of each distance, with shape (2, D).
        pairs: For each pair of taps, the first tap times D + 1 plus the number of the distance; D where there is none
            or where the opposite pair has it, with shape (T T,).
        cross: For each tap in use its number, then outer shift, phase and inner shift of its correlation with targets,
            with shape (4, .).
    """

    member: Tensor
    factors: Tensor
    pairs: Tensor
    cross: Tensor


@lru_cache(maxsize=128)
def _places(plan: Plan, device: torch.device) -> Places:
    T, D = prod(plan.layout.kernel), len(plan.distances)
    last = [shift[-1] for shift in plan.inner]
    factors = {d: (plan.outer.index((*d[:-1], 0)), last.index(d[-1])) for d in plan.distances}
    member = [
        [tap in plan.windows and box == box.common(plan.windows[tap]) for box in (plan.interior, *plan.cells)]
        for tap in range(T)
    ]
    pairs = [first * (D + 1) + plan.partners.get((first, second), D) for first, second in product(range(T), range(T))]
    cross = []
    for index, (base, phase) in enumerate(zip(plan.bases, plan.layout.phases, strict=True)):
        for tap, start in _taps(phase, plan.layout.kernel):
            outer, inner = factors[_difference(start, base.low)]
            cross.append((tap, outer, index, inner))
    return Places(
        member=torch.tensor(member, dtype=torch.float64, device=device),
        factors=torch.tensor(list(factors.values()), device=device).mT.contiguous(),
        pairs=torch.tensor(pairs, device=device),
        cross=torch.tensor(cross, device=device).mT.contiguous(),
    )


def _assembled(plan: Plan, main: Tensor, sums: Tensor, outputs: int, taps: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gram matrix by blocks of taps and cross products from the correlations; the bias has none of its own yet.

    Arguments:
        plan: The plan.
        main: Products over all positions.
        sums: Correlations and sums over the cells, with shape (1 + cells, D + 1, C, C + 1); the first is filled in.
        outputs: Number of outputs M.
        taps: The taps of each block, with shape (P, t); all in one block if None.
    """
    places = _places(plan, main.device)
    T, C = prod(plan.layout.kernel), sums.shape[2]
    outer, inner = places.factors
    main = main.view(len(plan.outer), -1, main.shape[1])
    shifts = main[:, :, :-1].unflatten(2, (len(plan.inner), C))
    sums[0, :-1, :, :C] = shifts[outer, :C, inner]
    sums[0, 0, :, C] = main[0, :C, -1]
    sums[:, 0, :, :C] *= 0.5  # the distance zero is its own opposite
    by_tap = (places.member @ sums.flatten(1)).view(-1, C, C + 1)
    taps = torch.arange(T, device=main.device)[None] if taps is None else taps
    blocks, t = taps.shape
    pairs = places.pairs.view(T, T)[taps[:, :, None], taps[:, None, :]].flatten()
    half = by_tap.index_select(0, pairs).view(blocks, t, t, C, C + 1)[..., :C]
    gram, cross = main.new_zeros(blocks, C * t + 1, C * t + 1), main.new_zeros(C * T + 1, outputs)
    inside = gram[:, :-1, :-1].unflatten(2, (C, t)).unflatten(1, (C, t))
    torch.add(half.permute(0, 3, 1, 4, 2), half.permute(0, 4, 2, 3, 1), out=inside)
    gram[:, -1, :-1] = gram[:, :-1, -1] = by_tap.view(T, -1, C, C + 1)[taps, 0, :, C].mT.flatten(1)
    used, outer, phase, inner = places.cross
    targets = shifts[:, C:].unflatten(1, (len(plan.bases), outputs))
    cross[:-1].view(C, T, outputs)[:, used] = targets[outer, phase, :, inner].permute(2, 0, 1)
    return gram, cross
