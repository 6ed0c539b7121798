"""The one factorisation of a slimTik step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.checks import NumericalError

__all__ = ["Spectrum"]


@dataclass(frozen=True)
class Spectrum:
    r"""Eigendecomposition :math:`H = V \operatorname{diag}(\sigma) V^\top` of a positive semidefinite matrix.

    Arguments:
        values: Eigenvalues in ascending order, none below zero, with shape (K,).
        vectors: Orthonormal eigenvectors as columns, with shape (K, K).
    """

    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> Spectrum:
        """Factorise a symmetric positive semidefinite matrix of shape (K, K) in float64.

        Raises:
            NumericalError: The matrix is not finite, or the factorisation did not converge.
        """
        matrix = matrix.double()
        if not torch.isfinite(matrix).all():
            raise NumericalError("the Gram matrix is not finite; look for NaN, Inf or overflow in the features")
        try:
            values, vectors = torch.linalg.eigh(matrix)
        except torch.linalg.LinAlgError as error:
            reason = " ".join(str(error).split())
            raise NumericalError(
                f"the factorisation of the Gram matrix failed ({reason}); "
                "normalise the features or raise the regularization"
            ) from error
        return cls(values.clamp(min=0.0), vectors)  # rounding alone makes them negative

    def solve(self, rhs: Tensor, shift: Tensor | float) -> Tensor:
        r"""The solution of :math:`(H + \tau I) X = R` for a right-hand side of shape (K, M)."""
        return self.vectors @ ((self.vectors.mT @ rhs) / (self.values + shift)[:, None])

    def condition(self, shift: Tensor | float) -> Tensor:
        r"""Condition number of :math:`H + \tau I`, with shape ()."""
        return (self.values[-1] + shift) / (self.values[0] + shift)
