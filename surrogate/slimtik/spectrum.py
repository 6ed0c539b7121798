"""The one factorisation of a slimTik step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from surrogate.checks import NumericalError

__all__ = ["Blocks", "Border", "Spectrum"]


@dataclass(frozen=True)
class Blocks:
    """Columns that fall into P blocks without products between them, but for a last column, the border.

    Blocks with fewer columns than others are filled up with columns that are zero.

    Arguments:
        columns: The columns of each block, with shape (P, k).
        used: One where a column is not filled up, with shape (P, k); None where none is.
        places: Position in a block of each column but the border, with shape (K,) or (K - 1,).
        border: Whether there is a last column in none of the blocks.
    """

    columns: Tensor
    used: Tensor | None
    places: Tensor
    border: bool

    @classmethod
    def of(cls, columns: Sequence[Sequence[int]], *, border: bool, device: torch.device | None = None) -> Blocks:
        """Blocks from the columns of each, together 0 to the number of all columns."""
        width = max(map(len, columns))
        padded = torch.tensor([[*block, *[block[0]] * (width - len(block))] for block in columns], device=device)
        used = torch.tensor([[float(i < len(block)) for i in range(width)] for block in columns], device=device)
        flat = {column: p * width + i for p, block in enumerate(columns) for i, column in enumerate(block)}
        places = torch.tensor([flat[column] for column in range(len(flat))], device=device)
        return cls(padded, None if bool(used.all()) else used.double(), places, border)

    def diagonal(self, matrix: Tensor) -> Tensor:
        """The blocks of a matrix (K, K), with shape (P, k, k)."""
        blocks = matrix[self.columns[:, :, None], self.columns[:, None, :]]
        return blocks if self.used is None else blocks * (self.used[:, :, None] * self.used[:, None, :])

    def filled(self, matrix: Tensor) -> Tensor:
        """The same, filled up with diagonal entries of each block, which lie between its eigenvalues."""
        blocks = self.diagonal(matrix)
        if self.used is None:
            return blocks
        return blocks + torch.diag_embed((1.0 - self.used) * matrix.diagonal()[self.columns])

    def split(self, matrix: Tensor) -> Tensor:
        """The rows of a matrix (K, M) by blocks, with shape (P, k, M)."""
        rows = matrix[self.columns]
        return rows if self.used is None else rows * self.used[:, :, None]

    def joined(self, rows: Tensor) -> Tensor:
        """The opposite of `split`, without the row of the border."""
        return rows.flatten(0, 1)[self.places]


@dataclass(frozen=True)
class Border:
    """The last row and column of a matrix, in the eigenbasis of its blocks.

    Arguments:
        coupling: Products of the border with the eigenvectors, with shape (P, k).
        corner: The last entry of the diagonal, with shape ().
    """

    coupling: Tensor
    corner: Tensor


@dataclass(frozen=True)
class Spectrum:
    r"""Eigendecomposition :math:`H = V \operatorname{diag}(\sigma) V^\top` of a positive semidefinite matrix.

    With blocks, V is block diagonal and a border is kept beside it; it is eliminated wherever a system is solved. With
    :math:`D = 1 / (\sigma + \tau)`, coupling h and corner eta, the last unknown of :math:`(H + \tau I) x = r` is

    .. math:: x_b = (r_b - h^\top D r) / s, \qquad s = \eta + \tau - h^\top D h \ge \tau.

    Arguments:
        values: Eigenvalues in ascending order, none below zero, with shape (K,); with blocks of each, (P, k).
        vectors: Orthonormal eigenvectors as columns, with shape (K, K); with blocks of each, (P, k, k).
        blocks: The blocks, if there are any.
        border: The border, if there is one.
    """

    values: Tensor
    vectors: Tensor
    blocks: Blocks | None = None
    border: Border | None = None

    @classmethod
    def of(cls, matrix: Tensor, blocks: Blocks | None = None) -> Spectrum:
        """Factorise a symmetric positive semidefinite matrix of shape (K, K) in float64.

        Arguments:
            matrix: The matrix H.
            blocks: Columns between which H is zero.

        Raises:
            NumericalError: The matrix is not finite, or the factorisation did not converge.
        """
        matrix = matrix.double()
        if not torch.isfinite(matrix.sum()):
            raise NumericalError("the Gram matrix is not finite; look for NaN, Inf or overflow in the features")
        try:
            values, vectors = torch.linalg.eigh(matrix if blocks is None else blocks.filled(matrix))
        except torch.linalg.LinAlgError as error:
            reason = " ".join(str(error).split())
            raise NumericalError(
                f"the factorisation of the Gram matrix failed ({reason}); "
                "normalise the features or raise the regularization"
            ) from error
        found = cls(values.clamp(min=0.0), vectors, blocks)  # rounding alone makes them negative
        return replace(found, border=found.bordered(matrix))

    def bordered(self, matrix: Tensor) -> Border | None:
        """The border of a matrix (K, K) in this basis."""
        if self.blocks is None or not self.blocks.border:
            return None
        return Border(self.rotated(matrix[:, -1:])[..., 0], matrix[-1, -1])

    def rotated(self, matrix: Tensor) -> Tensor:
        """V'X for X of shape (K, M), without the row of a border, with shape (P, k, M)."""
        return self.vectors.mT @ (matrix[None] if self.blocks is None else self.blocks.split(matrix))

    def transformed(self, matrix: Tensor) -> Tensor:
        """V'XV for X of shape (K, K), without a border, with shape (P, k, k)."""
        blocks = matrix[None] if self.blocks is None else self.blocks.diagonal(matrix)
        return self.vectors.mT @ blocks @ self.vectors

    def solve(self, rhs: Tensor, shift: Tensor | float) -> Tensor:
        r"""The solution of :math:`(H + \tau I) X = R` for a right-hand side of shape (K, M)."""
        D = (1.0 / (self.values + shift)).reshape(-1, self.values.shape[-1], 1)
        inner = D * self.rotated(rhs)
        if self.blocks is None:
            return (self.vectors @ inner)[0]
        if self.border is None:
            return self.blocks.joined(self.vectors @ inner)
        h = self.border.coupling[..., None]
        complement = torch.clamp(self.border.corner + shift - (D * h * h).sum(), min=shift)
        last = (rhs[-1] - (h * inner).sum((0, 1))) / complement
        return torch.cat([self.blocks.joined(self.vectors @ (inner - D * h * last)), last[None]])

    def condition(self, shift: Tensor | float) -> Tensor:
        r"""Condition number of :math:`H + \tau I`, with shape ()."""
        values = self.values.flatten()
        if self.border is not None:
            arrow = torch.diag(torch.cat([values, self.border.corner[None]]))
            arrow[-1, :-1] = self.border.coupling.flatten()
            values = torch.linalg.eigvalsh(arrow).clamp(min=0.0)
        return (values.max() + shift) / (values.min() + shift)
