"""The same sums and the same weights on every rank of torch.distributed."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from surrogate.slimtik.normal_equations import NormalEquations

__all__ = ["added", "broadcast", "is_distributed", "summed"]


def is_distributed() -> bool:
    """Return True where torch.distributed is initialised, so that other ranks take part."""
    return distributed.is_available() and distributed.is_initialized()


def added(values: Tensor, group: distributed.ProcessGroup | None = None) -> Tensor:
    """Add up the values of all ranks, in place, on every rank."""
    if is_distributed():
        distributed.all_reduce(values, group=group)
    return values


def summed(sums: NormalEquations, group: distributed.ProcessGroup | None = None) -> NormalEquations:
    """Add up the normal equations of all ranks, in one reduction in float64.

    Arguments:
        sums: Normal equations of this rank, possibly of no samples; packed alike on all ranks.
        group: The ranks; the default group unless given.
    """
    if not is_distributed():
        return sums
    counts = sums.energy.new_tensor([sums.rows, sums.samples])  # exact in float64 up to 2^53
    parts = [sums.packed, sums.cross, sums.energy, counts]
    flat = added(torch.cat([part.flatten() for part in parts]), group)
    pieces = flat.split([part.numel() for part in parts])
    packed, cross, energy, counts = (piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True))
    rows, samples = counts.tolist()
    return NormalEquations(packed, cross, energy, int(rows), int(samples), sums.blocks)


def broadcast(values: Tensor, group: distributed.ProcessGroup | None = None) -> Tensor:
    """Copy the values of the first rank to every rank, in place."""
    if is_distributed():
        distributed.broadcast(values, src=0 if group is None else distributed.get_global_rank(group, 0), group=group)
    return values
