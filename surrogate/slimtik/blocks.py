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

    def split(self, matrix: Tensor) -> Tensor:
        """Return the rows of a matrix (K, M) by blocks, the last one in each, with shape (P, w, M)."""
        rows = matrix.index_select(0, self._members.flatten()).view(*self._members.shape, -1)
        return rows if self._used is None else rows * self._used[:, :, None]

    def joined(self, rows: Tensor) -> Tensor:
        """Join rows to a matrix (K, M), the inverse of `split`."""
        return rows.flatten(0, 1)[self.places]
