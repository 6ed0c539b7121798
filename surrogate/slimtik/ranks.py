"""The same sums and the same weights on every rank of torch.distributed."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from surrogate.slimtik.normal_equations import Statistics

__all__ = ["added", "broadcast", "is_distributed", "summed"]


def is_distributed() -> bool:
    """Whether torch.distributed is initialised, so that there are other ranks to agree with."""
    return distributed.is_available() and distributed.is_initialized()


def added(values: Tensor, group: distributed.ProcessGroup | None = None) -> Tensor:
    """The sum of the values of all ranks, in place, on every rank."""
    if is_distributed():
        distributed.all_reduce(values, group=group)
    return values


def summed(statistics: Statistics, group: distributed.ProcessGroup | None = None) -> Statistics:
    """The sums over the samples of all ranks, in one reduction in float64.

    Arguments:
        statistics: Sums over the samples of this rank, maybe of none; packed alike on all ranks.
        group: The ranks; the default group unless given.
    """
    if not is_distributed():
        return statistics
    counts = statistics.energy.new_tensor([statistics.rows, statistics.samples])  # exact in float64 up to 2^53
    parts = [statistics.packed, statistics.cross, statistics.energy, counts]
    flat = added(torch.cat([part.flatten() for part in parts]), group)
    pieces = flat.split([part.numel() for part in parts])
    packed, cross, energy, counts = (piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True))
    rows, samples = counts.tolist()
    return Statistics(packed, cross, energy, int(rows), int(samples), statistics.blocks)


def broadcast(values: Tensor, group: distributed.ProcessGroup | None = None) -> Tensor:
    """The values of the first rank, in place, on every rank."""
    if is_distributed():
        distributed.broadcast(values, src=0 if group is None else distributed.get_global_rank(group, 0), group=group)
    return values
