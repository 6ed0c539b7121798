"""The one factorisation of a slimTik step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from surrogate.errors import NumericalError
from surrogate.slimtik.blocks import Blocks

__all__ = ["Border", "Spectrum"]


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

    With blocks, V is block diagonal and a border is kept apart; it is eliminated wherever a system is solved. With
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
        """Factorise a symmetric positive semidefinite matrix in float64.

        A matrix that is not finite has eigenvalues NaN, so that the host need not wait for the device to refuse it.

        Arguments:
            matrix: The matrix H, with shape (K, K), or packed, (P, w, w).
            blocks: Columns between which H is zero.

        Raises:
            NumericalError: The factorisation did not converge.
        """
        matrix = matrix.double()
        spoiled = matrix.sum() * 0.0  # NaN where an entry is not finite
        matrix = matrix.nan_to_num(0.0, 0.0, 0.0)  # LAPACK may not end on NaN
        if blocks is None:
            values, vectors = _factorised(matrix)
            return cls(values.clamp_(min=0.0).add_(spoiled), vectors)  # rounding alone makes them negative
        matrix, k = blocks.packed(matrix), blocks.columns.shape[1]
        inner = matrix[:, :k, :k]
        if blocks.used is not None:  # filled up with a diagonal entry, which is between the eigenvalues
            inner = inner + torch.diag_embed((1.0 - blocks.used) * matrix[:, :1, 0])
        values, vectors = _factorised(inner)
        border = None
        if blocks.border:
            border = Border(torch.bmm(vectors.mT, matrix[:, :k, k:])[..., 0], matrix[0, k, k])
        return cls(values.clamp_(min=0.0).add_(spoiled), vectors, blocks, border)

    @cached_property
    def basis(self) -> Tensor:
        """The eigenvectors by blocks, and the border as it is, with shape (P, w, w)."""
        vectors = self.vectors.view(-1, *self.vectors.shape[-2:])
        if self.border is None:
            return vectors
        P, k, _ = vectors.shape
        basis = vectors.new_zeros(P, k + 1, k + 1).mT  # laid out like eigenvectors
        basis[:, :k, :k] = vectors
        basis[:, k, k] = 1.0
        return basis

    def split(self, matrix: Tensor) -> Tensor:
        """Return the rows of a matrix (K, M) by blocks, a border in each, with shape (P, w, M)."""
        return matrix[None] if self.blocks is None else self.blocks.split(matrix)

    def joined(self, rows: Tensor) -> Tensor:
        """Return the matrix (K, M) whose rows in this basis are given, with shape (P, w, M)."""
        rows = torch.bmm(self.basis, rows)
        return rows[0] if self.blocks is None else self.blocks.joined(rows)

    def shrunk(self, rows: Tensor, shift: Tensor | float, last: Tensor | None = None) -> Tensor:
        r"""Solve :math:`(H + \tau I) X = R` in this basis, by blocks and a border in each.

        Arguments:
            rows: V'R by blocks, with shape (P, w, M); the row of a border is the sum of those of all blocks.
            shift: tau.
            last: The row of the border itself, with shape (M,), if not the sum.
        """
        shifted = (self.values + shift).view(len(rows), -1, 1)
        if self.border is None:
            return rows / shifted
        inner, h = rows[:, :-1] / shifted, self.border.coupling[..., None]
        last = rows[:, -1].sum(0) if last is None else last
        Dh = h / shifted
        complement = torch.clamp(self.border.corner + shift - torch.dot(Dh.flatten(), h.flatten()), min=shift)
        x = (last - torch.mv(inner.flatten(0, 1).T, h.flatten())) / complement
        return torch.cat([inner.addcmul_(Dh, x, value=-1), x.expand(len(rows), 1, -1)], 1)

    def solve(self, rhs: Tensor, shift: Tensor | float) -> Tensor:
        r"""Solve :math:`(H + \tau I) X = R` for a right-hand side of shape (K, M)."""
        return self.joined(self.shrunk(torch.bmm(self.basis.mT, self.split(rhs)), shift, rhs[-1]))

    def condition(self, shift: Tensor | float) -> Tensor:
        r"""Return the condition number of :math:`H + \tau I`, with shape ()."""
        values = self.values.flatten()
        if self.border is not None:
            arrow = torch.diag(torch.cat([values, self.border.corner[None]]))
            arrow[-1, :-1] = self.border.coupling.flatten()
            values = torch.linalg.eigvalsh(arrow).clamp(min=0.0)
        return (values.max() + shift) / (values.min() + shift)


def _factorised(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of one symmetric matrix or of several, (P, k, k)."""
    try:
        values, vectors = torch.linalg.eigh(matrices)
    except torch.linalg.LinAlgError as error:
        reason = " ".join(str(error).split())
        raise NumericalError(
            f"the factorisation of the Gram matrix failed ({reason}); "
            "normalise the features or raise the regularization"
        ) from error
    return values, vectors
