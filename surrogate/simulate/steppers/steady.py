"""Steady diffusion problems: sparse matrices and their direct solution."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from surrogate.errors import NumericalError
from surrogate.simulate.equation import Array, Grid

__all__ = ["diffusion_matrix", "solve_sparse"]


def diffusion_matrix(conductivity: Array, grid: Grid, grounded: tuple[tuple[bool, bool], ...]) -> sparse.csc_matrix:
    """Return the matrix of -div(m grad u) on cell centres, of order 2 where m is smooth.

    The conductivity of a face is the harmonic mean of its cells, so the flux is exact for layers.

    Arguments:
        conductivity: m in every cell, with shape (*S).
        grid: The grid.
        grounded: For the two ends of every axis, True where u = 0 on the wall, False where no flux passes it.

    Raises:
        NumericalError: No wall is grounded, so solutions are not unique.
    """
    if not any(any(ends) for ends in grounded):
        raise NumericalError(
            "a steady problem without a grounded wall has no unique solution; ground at least one wall"
        )
    size = conductivity.size
    numbers = np.arange(size).reshape(grid.shape)
    diagonal = np.zeros(grid.shape)
    rows, columns, values = [], [], []
    for axis, (h, ends) in enumerate(zip(grid.spacing, grounded, strict=True)):
        n = grid.shape[axis]
        below, above = (np.take(conductivity, range(start, start + n - 1), axis) for start in (0, 1))
        face = 2.0 / (1.0 / below + 1.0 / above) / h**2
        lower, upper = (np.take(numbers, range(start, start + n - 1), axis).ravel() for start in (0, 1))
        rows += [lower, upper]
        columns += [upper, lower]
        values += [-face.ravel(), -face.ravel()]
        padded = np.pad(face, [(1, 1) if other == axis else (0, 0) for other in range(len(grid.shape))])
        diagonal += np.take(padded, range(1, n + 1), axis) + np.take(padded, range(n), axis)
        for place, wall in zip((0, n - 1), ends, strict=True):
            index = tuple(place if other == axis else slice(None) for other in range(len(grid.shape)))
            diagonal[index] += 2.0 * conductivity[index] / h**2 if wall else 0.0
    rows, columns = [*rows, numbers.ravel()], [*columns, numbers.ravel()]
    entries = np.concatenate([*values, diagonal.ravel()])
    return sparse.csc_matrix((entries, (np.concatenate(rows), np.concatenate(columns))), shape=(size, size))


def solve_sparse(matrix: sparse.csc_matrix, right: Array) -> Array:
    """Solve a symmetric positive definite system by sparse factorisation.

    Raises:
        NumericalError: The matrix is singular.
    """
    try:
        factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    except RuntimeError as error:
        raise NumericalError(f"a steady problem has no unique solution ({error}); check its coefficients") from error
    return np.asarray(factors.solve(right))
