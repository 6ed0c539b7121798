"""Leading modes of snapshots that are streamed: a randomised singular value decomposition in few passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.errors import DataError

__all__ = ["Modes", "leading_modes"]

OVERSAMPLING = 10


@dataclass(frozen=True)
class Modes:
    r"""Orthonormal modes of snapshots c about their mean, in float64.

    Arguments:
        mean: Mean of the snapshots, (d,).
        vectors: Modes Phi as columns, by falling energy, (d, r).
        energies: Variance of the coefficients :math:`\Phi^\top (c - \bar c)`, (r,).
        left_out: Variance of every entry that the modes do not hold, (d,).
    """

    mean: Tensor
    vectors: Tensor
    energies: Tensor
    left_out: Tensor


@torch.no_grad()
def leading_modes(
    snapshots: Callable[[], Iterable[Tensor]],
    size: int,
    rank: int,
    *,
    passes: int = 2,
    device: torch.device | str = "cpu",
) -> Modes:
    r"""Compute the modes that hold most of the variance, without all snapshots in memory at once.

    With X (n, d) the snapshots less their mean, `passes` steps :math:`Q \leftarrow \operatorname{orth}(X^\top X Q)`
    from random Q, the same in every call, then the eigenvectors of :math:`Q^\top X^\top X Q` in one pass more. The
    error falls with the power `passes` of the ratio of the energies left out to those kept.

    Arguments:
        snapshots: Starts a pass over the snapshots, in parts of shape (b, d).
        size: Numbers d in a snapshot.
        rank: Number r of modes.
        passes: Passes for the subspace of the modes, at least one.
        device: Where the snapshots are.

    Raises:
        DataError: There are not more snapshots than modes, or fewer numbers in each.

    Source: Halko, Martinsson, Tropp, SIAM Review 53, 2011, doi 10.1137/090771806, algorithms 4.4 and 5.3.
    """
    numbers = torch.Generator().manual_seed(0)  # the modes are a function of the snapshots alone
    space = torch.randn(size, min(rank + OVERSAMPLING, size), dtype=torch.float64, generator=numbers).to(device)
    for _ in range(passes):
        sums = _Sums.over(snapshots(), space)
        if sums.count <= rank or size < rank:
            raise DataError(
                f"{rank} modes need more than {rank} training samples of at least {rank} numbers, the data have "
                f"{sums.count} of {size}; choose fewer modes"
            )
        space = torch.linalg.qr(sums.product - sums.count * torch.outer(sums.mean, sums.mean @ space)).Q
    gram = space.new_zeros(space.shape[1], space.shape[1])
    for part in snapshots():
        coefficients = (part.double() - sums.mean) @ space
        gram += coefficients.T @ coefficients
    energies, rotation = torch.linalg.eigh(gram / sums.count)
    vectors = space @ rotation.flip(1)[:, :rank]
    energies = energies.flip(0)[:rank].clamp(min=0.0)
    left_out = (sums.variance - vectors.square() @ energies).clamp(min=0.0)
    return Modes(sums.mean, vectors, energies, left_out)


@dataclass
class _Sums:
    """Sums over a pass: of snapshots (d,), of their squares (d,), and X'X Q without the mean subtracted (d, l)."""

    total: Tensor
    squares: Tensor
    product: Tensor
    count: int = 0

    @classmethod
    def over(cls, parts: Iterable[Tensor], space: Tensor) -> _Sums:
        """Sum over one pass."""
        zeros = space.new_zeros(len(space))
        sums = cls(zeros, zeros.clone(), torch.zeros_like(space))
        for part in parts:
            rows = part.double()
            sums.total += rows.sum(0)
            sums.squares += rows.square().sum(0)
            sums.product += rows.T @ (rows @ space)
            sums.count += len(rows)
        return sums

    @property
    def mean(self) -> Tensor:
        """Return the mean of the snapshots."""
        return self.total / self.count

    @property
    def variance(self) -> Tensor:
        """Return the variance of every entry."""
        return self.squares / self.count - self.mean.square()
