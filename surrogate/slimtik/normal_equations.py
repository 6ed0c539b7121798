"""Normal equations of a linear head: sums that merge over slices, batches and ranks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from surrogate.errors import DataError
from surrogate.slimtik.blocks import Blocks

__all__ = ["NormalEquations"]


@dataclass(frozen=True)
class NormalEquations:
    r"""Sums over the rows of a least-squares problem `A W = C`, in float64 on the device of their data.

    Normal equations of different rows merge by addition.

    Arguments:
        packed: The sum :math:`A^\top A`, with shape (K, K); with blocks packed, (P, w, w).
        cross: The sum :math:`A^\top C`, with shape (K, M).
        energy: The sum :math:`\|C\|^2`, with shape ().
        rows: Number of rows n.
        samples: Number of samples b that the rows come from.
        blocks: Columns between which the sum is zero, if it is packed.
    """

    packed: Tensor
    cross: Tensor
    energy: Tensor
    rows: int
    samples: int
    blocks: Blocks | None = None

    @classmethod
    def of(cls, design: Tensor, targets: Tensor, samples: int) -> NormalEquations:
        """Return the normal equations of a whole design (n, K) and its targets (n, M).

        Raises:
            DataError: The two disagree in their number of rows.
        """
        if design.ndim != 2 or targets.ndim != 2 or len(design) != len(targets):
            raise DataError(
                f"design {tuple(design.shape)} and targets {tuple(targets.shape)} do not match; "
                "both need one row per equation: (n, K) and (n, M)"
            )
        A, C = design.double(), targets.double()
        return cls(A.T.mm(A), A.T.mm(C), C.square().sum(), len(A), samples)

    @classmethod
    def zeros(cls, features: int, outputs: int, device: torch.device | None = None) -> NormalEquations:
        """Return the normal equations of no rows at all, for K features and M outputs."""
        gram = torch.zeros(features, features, dtype=torch.float64, device=device)
        return cls(gram, gram.new_zeros(features, outputs), gram.new_zeros(()), 0, 0)

    def __add__(self, other: NormalEquations) -> NormalEquations:
        blocks = self.blocks if self.blocks is other.blocks else None
        return NormalEquations(
            self.arranged(blocks).packed + other.arranged(blocks).packed,
            self.cross + other.cross,
            self.energy + other.energy,
            self.rows + other.rows,
            self.samples + other.samples,
            blocks,
        )

    def arranged(self, blocks: Blocks | None) -> NormalEquations:
        """Return the same normal equations packed in other blocks; unpacked if None."""
        if blocks is self.blocks:
            return self
        return replace(self, packed=self.gram if blocks is None else blocks.packed(self.gram), blocks=blocks)

    @cached_property
    def gram(self) -> Tensor:
        r"""The sum :math:`A^\top A`, with shape (K, K)."""
        return self.packed if self.blocks is None else self.blocks.whole(self.packed)

    @cached_property
    def packed_G(self) -> Tensor:  # noqa: N802
        """Gram matrix per sample, packed like the sum."""
        return self.packed / self.samples

    @cached_property
    def G(self) -> Tensor:  # noqa: N802
        r"""Gram matrix per sample, :math:`G = A^\top A / b`, with shape (K, K)."""
        return self.packed_G if self.blocks is None else self.gram / self.samples

    @cached_property
    def B(self) -> Tensor:  # noqa: N802
        r"""Cross products per sample, :math:`B = A^\top C / b`, with shape (K, M)."""
        return self.cross / self.samples

    @cached_property
    def e(self) -> Tensor:
        r"""Energy of the targets per sample, :math:`e = \|C\|^2 / b`, with shape ()."""
        return self.energy / self.samples

    def residual(self, weights: Tensor) -> Tensor:
        r"""Return the squared residual norm per sample of weights (K, M), :math:`\|A W - C\|^2 / b`, with shape ()."""
        return ((self.G @ weights - 2 * self.B) * weights).sum() + self.e

    @property
    def equations(self) -> int:
        """Number of scalar equations, m = n M."""
        return self.rows * self.cross.shape[1]
