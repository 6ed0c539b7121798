"""The spectrum of the Jacobian of a right-hand side, from finite differences of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogate.simulate.equation import Array
from surrogate.simulate.steppers.members import Rate, column
from surrogate.simulate.steppers.stencils import largest

__all__ = ["Spectrum", "jacobian_spectrum", "power_radius", "rough_field"]

KRYLOV = 24


@dataclass(frozen=True)
class Spectrum:
    """Extremes of the eigenvalues l of df/du, with shape (B,) each, in 1 / time.

    Arguments:
        radius: Largest |l|.
        imaginary: Largest |Im l|.
        growth: Largest Re l.
    """

    radius: Array
    imaginary: Array
    growth: Array


def jacobian_spectrum(rate: Rate, u: Tensor, parameters: Mapping[str, Tensor], *, size: int = KRYLOV) -> Spectrum:
    """Estimate the extreme eigenvalues of df/du at fields u by the Arnoldi method.

    The eigenvalues of the projection of df/du on the Krylov space of a rough field approach the outermost ones of df/du
    first. Products with df/du are differences (f(u + e v) - f(u)) / e.

    Arguments:
        rate: f(u, parameters).
        u: Fields, with shape (B, C, *S).
        parameters: Parameters of the members.
        size: Dimension of the Krylov space; f is evaluated once more than that.
    """
    base, count = rate(u, parameters), min(size, u[0].numel())
    step = (largest(u) + 1.0) * torch.finfo(u.dtype).eps ** 0.5
    start = rough_field(u)
    basis = [start / column(_norms(start), u)]
    projected = np.zeros((len(u), count + 1, count))
    for index in range(count):
        scale = column(step / torch.clamp(largest(basis[index]), min=1e-30), u)
        image = (rate(u + basis[index] * scale, parameters) - base) / scale
        for _ in range(2):  # orthogonal to rounding
            for row, vector in enumerate(basis):
                share = _dots(vector, image)
                projected[:, row, index] += share.to("cpu", torch.float64).numpy()
                image = image - vector * column(share, u)
        norm = _norms(image)
        projected[:, index + 1, index] = norm.to("cpu", torch.float64).numpy()
        basis.append(image / column(torch.clamp(norm, min=1e-300 if u.dtype == torch.float64 else 1e-37), u))
    return _extremes(projected)


def _extremes(projected: NDArray[np.float64]) -> Spectrum:
    """Return the extremes of the eigenvalues of Hessenberg matrices (B, m + 1, m), each up to its first zero."""
    rows = []
    for matrix in projected:
        size = matrix.shape[1]
        below = np.diagonal(matrix, -1)
        scale = np.abs(matrix[:size]).max()
        small = np.flatnonzero(below <= 1e-12 * scale)
        if small.size:
            size = int(small[0]) + 1
        block = matrix[:size, :size]
        if not np.isfinite(block).all():
            rows.append((np.nan, np.nan, np.nan))
            continue
        values = np.linalg.eigvals(block)
        rows.append((np.abs(values).max(), np.abs(values.imag).max(), values.real.max()))
    return Spectrum(*np.array(rows).T)


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Return the scalar products of the members of two batches, each summed by itself."""
    return torch.stack([torch.dot(x.flatten(), y.flatten()) for x, y in zip(a, b, strict=True)])


def _norms(a: Tensor) -> Tensor:
    return _dots(a, a).sqrt()


def rough_field(u: Tensor) -> Tensor:
    """Return a field like `u` with all wave numbers, mostly the highest: alternating signs along every axis plus noise.

    The noise is the same for every member, so that nothing depends on the batch.
    """
    noise = np.random.default_rng(0).standard_normal(u.shape[1:])
    signs = np.ones(u.shape[2:])
    for axis, points in enumerate(u.shape[2:]):
        turns = 1.0 - 2.0 * (np.arange(points) % 2)
        signs = signs * turns.reshape([-1 if other == axis else 1 for other in range(signs.ndim)])
    return torch.from_numpy(signs + 0.3 * noise).to(u).expand_as(u)


def power_radius(
    rate: Rate, *, iterations: int = 20, safety: float = 1.25
) -> Callable[[Tensor, Mapping[str, Tensor]], Tensor]:
    """Return a function that estimates the spectral radius of df/du by power iterations with finite differences.

    Arguments:
        rate: f(u, parameters).
        iterations: Evaluations of the rate for an estimate.
        safety: Factor on the estimate, which approaches the radius from below.
    """

    def radius(u: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        base = rate(u, parameters)
        direction = rough_field(u)
        step = (largest(u) + 1.0) * torch.finfo(u.dtype).eps ** 0.5
        growth = last = torch.zeros_like(step)
        for _ in range(iterations):
            scale = column(step, u)
            change = (rate(u + direction * scale, parameters) - base) / scale
            last, growth = growth, largest(change)
            direction = change / column(torch.clamp(growth, min=torch.finfo(u.dtype).tiny), u)
        return torch.maximum(growth, last) * safety  # the size of a pair of complex eigenvalues swings

    return radius
