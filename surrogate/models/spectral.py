r"""Convolution over a whole field by its low Fourier modes.

Fields are real, so half of the modes of the last axis are enough: with :math:`\hat v(k)` for :math:`|k_i| \le m_i`,
:math:`k_d \ge 0`, the output is

.. math:: u(x) = \operatorname{Re} \sum_k h_k \, R(k) \hat v(k) \, e^{2 \pi i k \cdot x}, \qquad
          h_k = 1 \text{ for } k_d = 0, \; 2 \text{ otherwise,}

where :math:`h_k` counts the conjugate modes that are left out. Only a few modes are kept, so the transforms are
products with small matrices, which costs less than whole fast Fourier transforms that are then cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from surrogate.checks import DataError

__all__ = ["SpectralConvolution"]


class SpectralConvolution(nn.Module):
    """Periodic convolution with a kernel of low Fourier modes: (B, C, *S) -> (B, M, *S), on any grid.

    Arguments:
        inputs: Channels C.
        outputs: Channels M.
        modes: Highest wave number kept along each axis; those at or above half of a grid's points are left out there.
    """

    def __init__(self, inputs: int, outputs: int, modes: Sequence[int]) -> None:
        super().__init__()
        self.modes = tuple(modes)
        kept = [*(2 * m + 1 for m in self.modes[:-1]), self.modes[-1] + 1]
        scale = (2 / (inputs + outputs)) ** 0.5
        # real and imaginary part of R(k), by wave number, for axes -m..m and for the last 0..m
        self.weight = nn.Parameter(scale * torch.randn(*kept, inputs, outputs, 2) / 2**0.5)

    def forward(self, fields: Tensor) -> Tensor:
        if fields.ndim != len(self.modes) + 2:
            raise DataError(
                f"fields have shape {tuple(fields.shape)}, expected (B, C) and {len(self.modes)} space axes"
            )
        with torch.autocast(fields.device.type, enabled=False):  # there are no complex numbers of half precision
            values = fields.to(self.weight.dtype)
            grid = fields.shape[2:]
            modes = [min(m, (side - 1) // 2) for m, side in zip(self.modes, grid, strict=True)]
            mixed = _mixed(_analysed(values, modes), self._weight(modes))
            return _synthesised(mixed, grid, modes).to(fields.dtype)

    def _weight(self, modes: Sequence[int]) -> Tensor:
        """R at the modes that the grid has, complex: (*modes, C, M)."""
        weight = torch.view_as_complex(self.weight)
        for axis, (own, used) in enumerate(zip(self.modes[:-1], modes[:-1], strict=True)):
            weight = weight.narrow(axis, own - used, 2 * used + 1)
        return weight.narrow(len(modes) - 1, 0, modes[-1] + 1)


def _analysed(fields: Tensor, modes: Sequence[int]) -> Tensor:
    """Fourier coefficients of real fields: (B, C, *S) -> (B, C, *modes), complex."""
    last = _tensor(_real_analysis(fields.shape[-1], modes[-1]), fields)
    z = torch.view_as_complex((fields @ last).unflatten(-1, (-1, 2)))
    for axis, m in enumerate(modes[:-1], start=2):
        z = _product(z, _tensor(_analysis(fields.shape[axis], m), z), axis)
    return z


def _mixed(z: Tensor, weight: Tensor) -> Tensor:
    """R(k) v(k) for every mode: (B, C, *modes) and (*modes, C, M) -> (B, M, *modes)."""
    modes = z.shape[2:]
    by_mode = z.flatten(2).permute(2, 0, 1)  # (modes, B, C)
    mixed = torch.bmm(by_mode, weight.reshape(prod(modes), *weight.shape[-2:]))
    return mixed.permute(1, 2, 0).unflatten(2, modes)


def _synthesised(z: Tensor, grid: Sequence[int], modes: Sequence[int]) -> Tensor:
    """Real fields of Fourier coefficients: (B, M, *modes) -> (B, M, *S)."""
    for axis, m in enumerate(modes[:-1], start=2):
        z = _product(z, _tensor(_synthesis(grid[axis - 2], m), z), axis)
    last = _tensor(_real_synthesis(grid[-1], modes[-1]), torch.view_as_real(z))
    return torch.view_as_real(z.contiguous()).flatten(-2) @ last


def _product(z: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """A matrix on one axis."""
    return (z.movedim(axis, -1) @ matrix).movedim(-1, axis)


def _tensor(matrix: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(matrix).to(like.device, like.dtype)


# Matrices, in double precision -------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _analysis(points: int, modes: int) -> np.ndarray:
    """exp(-2 pi i k x) / points, from points to the modes -m..m: (points, 2 m + 1)."""
    phases = np.outer(np.arange(points), np.arange(-modes, modes + 1)) % points
    return np.exp(-2j * np.pi * phases / points) / points


@lru_cache(maxsize=64)
def _real_analysis(points: int, modes: int) -> np.ndarray:
    """The same for real values and the modes 0..m, real and imaginary parts in turns: (points, 2 (m + 1))."""
    kept = np.ascontiguousarray(_analysis(points, modes)[:, modes:])
    return kept.view(np.float64)


@lru_cache(maxsize=64)
def _synthesis(points: int, modes: int) -> np.ndarray:
    """exp(2 pi i k x), from the modes -m..m to points: (2 m + 1, points)."""
    return np.ascontiguousarray(_analysis(points, modes).conj().T) * points


@lru_cache(maxsize=64)
def _real_synthesis(points: int, modes: int) -> np.ndarray:
    """From the modes 0..m of the last axis to real values, conjugate modes counted: (2 (m + 1), points)."""
    weights = np.where(np.arange(modes + 1) > 0, 2.0, 1.0) * points
    kept = np.ascontiguousarray(_analysis(points, modes)[:, modes:] * weights)
    return kept.view(np.float64).T.copy()
