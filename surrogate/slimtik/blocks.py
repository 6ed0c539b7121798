"""Block-diagonal matrices with a border, stored as their blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Blocks"]


@dataclass(frozen=True, eq=False)
class Blocks:
    r"""Columns that fall into P blocks without products between them, but for a last column, the border.

    A symmetric matrix is *packed* as its blocks, each with the border as a last row and column, so that sums and
    multiples of packed matrices are packed. The last entry of the diagonal is shared out: that of a matrix is the sum
    of those of its blocks. Blocks with fewer columns than others are filled up with columns that are zero.

    Arguments:
        columns: The columns of each block, with shape (P, k).
        used: One where a column is not filled up, with shape (P, k); None where none is.
        places: Position of each column among all of the blocks, one after the other, with shape (K,).
        border: Whether there is a last column in none of the blocks; each block then has w = k + 1 columns, else k.
    """

    columns: Tensor
    used: Tensor | None
    places: Tensor
    border: bool

    @classmethod
    def of(cls, columns: Sequence[Sequence[int]], *, border: bool, device: torch.device | None = None) -> Blocks:
        """Return blocks of the columns given for each; together they are 0 to the number of columns."""
        width = max(map(len, columns))
        padded = torch.tensor([[*block, *[block[0]] * (width - len(block))] for block in columns], device=device)
        used = torch.tensor([[float(i < len(block)) for i in range(width)] for block in columns], device=device)
        stride = width + border
        flat = {column: p * stride + i for p, block in enumerate(columns) for i, column in enumerate(block)}
        places = torch.tensor([flat[column] for column in range(len(flat))] + [width] * border, device=device)
        return cls(padded, None if bool(used.all()) else used.double(), places, border)

    @cached_property
    def _members(self) -> Tensor:
        """The columns of each block and the border, with shape (P, w)."""
        return functional.pad(self.columns, (0, 1), value=len(self.places) - 1) if self.border else self.columns

    @cached_property
    def _used(self) -> Tensor | None:
        """`used` with the border, with shape (P, w)."""
        return functional.pad(self.used, (0, 1), value=1.0) if self.border and self.used is not None else self.used

    def packed(self, matrix: Tensor) -> Tensor:
        """Return a matrix (K, K) packed, with shape (P, w, w); unchanged if it is packed already."""
        if matrix.ndim == 3:
            return matrix
        blocks = matrix[self._members[:, :, None], self._members[:, None, :]]
        if self._used is not None:
            blocks = blocks * (self._used[:, :, None] * self._used[:, None, :])
        if self.border:
            blocks[1:, -1, -1] = 0.0
        return blocks

    def whole(self, packed: Tensor) -> Tensor:
        """Unpack a matrix to shape (K, K), the inverse of `packed`."""
        K = len(self.places)
        entries = (self._members[:, :, None] * K + self._members[:, None, :]).flatten()
        return packed.new_zeros(K * K).index_add_(0, entries, packed.flatten()).view(K, K)

    def product(self, packed: Tensor, matrix: Tensor) -> Tensor:
        """Return the product of a packed matrix with a matrix (K, M)."""
        rows = torch.bmm(packed, self.split(matrix))
        if self.border:
            rows[:, -1] = rows[:, -1].sum(0)
        return self.joined(rows)

    def solve(self, packed: Tensor, shift: Tensor, rhs: Tensor) -> tuple[Tensor, Tensor]:
        """Solve with a packed positive definite matrix plus a multiple of the identity, by Cholesky factors of blocks.

        The border is eliminated: with its column h, its last entry e and the inner matrix S, the last unknown is
        (r - h' S^-1 R) / (e - h' S^-1 h).

        Arguments:
            packed: The matrix, with shape (P, w, w).
            shift: The multiple, with shape ().
            rhs: The right-hand side, with shape (K, M).

        Returns:
            The solution (K, M), and for each block zero where its factorisation has succeeded.
        """
        k = self.columns.shape[1]
        inner, h, rows = packed[:, :k, :k].clone(), packed[:, :k, k:], self.split(rhs)
        inner.diagonal(dim1=1, dim2=2).add_(shift)
        factor, failed = torch.linalg.cholesky_ex(inner)
        X, Y = torch.cholesky_solve(torch.cat([rows[:, :k], h], 2), factor).split([rhs.shape[1], h.shape[2]], 2)
        if not self.border:
            return self.joined(X), failed
        corner = packed[:, k, k].sum() + shift - (h * Y).sum()
        x = (rhs[-1] - (h * X).sum((0, 1))) / corner
        return self.joined(torch.cat([X - Y * x, x.expand(len(X), 1, -1)], 1)), failed

    def split(self, matrix: Tensor) -> Tensor:
        """Return the rows of a matrix (K, M) by blocks, the last one in each, with shape (P, w, M)."""
        rows = matrix.index_select(0, self._members.flatten()).view(*self._members.shape, -1)
        return rows if self._used is None else rows * self._used[:, :, None]

    def joined(self, rows: Tensor) -> Tensor:
        """Join rows to a matrix (K, M), the inverse of `split`."""
        return rows.flatten(0, 1)[self.places]
