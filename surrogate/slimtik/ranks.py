"""The same sums and the same weights on every rank of torch.distributed."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from surrogate.slimtik.normal_equations import NormalEquations

__all__ = ["added", "broadcast", "is_distributed", "summed", "summed_and_compared"]


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
    return summed_and_compared(sums, sums.energy.new_empty(0), group)[0]


def summed_and_compared(
    sums: NormalEquations, state: Tensor, group: distributed.ProcessGroup | None = None
) -> tuple[NormalEquations, bool]:
    r"""Add up the normal equations of all ranks and compare a state that all should have, in the same reduction.

    Each rank contributes a checksum c of the bits of its state, and its square: all are equal if and only if
    :math:`N \sum c^2 = (\sum c)^2`, which is exact for integers. States that differ have the same checksum with a
    probability of 1 in 65521.

    Arguments:
        sums: Normal equations of this rank, possibly of no samples; packed alike on all ranks.
        state: float64 numbers of this rank.
        group: The ranks; the default group unless given.
    """
    if not is_distributed():
        return sums, True
    checksum = (state.view(torch.int64).sum() % 65521).double()
    counts = sums.energy.new_tensor([sums.rows, sums.samples])  # exact in float64 up to 2^53
    parts = [sums.packed, sums.cross, sums.energy, counts, checksum, checksum.square()]
    flat = added(torch.cat([part.flatten() for part in parts]), group)
    packed, cross, energy, *_ = (
        piece.view(part.shape) for piece, part in zip(flat.split([part.numel() for part in parts]), parts, strict=True)
    )
    rows, samples, total, squares = map(int, flat[-4:].tolist())
    same = squares * distributed.get_world_size(group) == total * total
    return NormalEquations(packed, cross, energy, rows, samples, sums.blocks), same


def broadcast(values: Tensor, group: distributed.ProcessGroup | None = None) -> Tensor:
    """Copy the values of the first rank to every rank, in place."""
    if is_distributed():
        distributed.broadcast(values, src=0 if group is None else distributed.get_global_rank(group, 0), group=group)
    return values
