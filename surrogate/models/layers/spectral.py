r"""Convolution over a whole field by its low Fourier modes.

Fields are real, so half of the modes of the last axis are enough: with :math:`\hat v(k)` for :math:`|k_i| \le m_i`,
:math:`k_d \ge 0`, the output is

.. math:: u(x) = \operatorname{Re} \sum_k h_k \, R(k) \hat v(k) \, e^{2 \pi i k \cdot x}, \qquad
          h_k = 1 \text{ for } k_d = 0, \; 2 \text{ otherwise,}

where :math:`h_k` accounts for the conjugate modes that are left out. Only a few modes are kept, so the transforms are
products with small matrices, which cost less than full fast Fourier transforms that are then truncated.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from surrogate.errors import DataError

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
        with torch.autocast(fields.device.type, enabled=False):  # sums over whole fields, in full precision
            grid = fields.shape[2:]
            modes = [min(m, (side - 1) // 2) for m, side in zip(self.modes, grid, strict=True)]
            v = fields.to(self.weight.dtype)
            z = (v @ _tensor(_analysis(grid[-1], modes[-1], real=True), v)).unflatten(-1, (-1, 2))
            for axis, m in enumerate(modes[:-1], start=2):
                z = _product(z, _tensor(_analysis(grid[axis - 2], m), v), axis)
            z = self._mixed(z, modes)  # (B, M, *modes, 2)
            for axis, m in enumerate(modes[:-1], start=2):
                z = _product(z, _tensor(_synthesis(grid[axis - 2], m), z), axis)
            return (z.flatten(-2) @ _tensor(_synthesis(grid[-1], modes[-1], real=True), z)).to(fields.dtype)

    def _mixed(self, z: Tensor, modes: Sequence[int]) -> Tensor:
        """Return R(k) v(k) for every mode that the grid has: (B, C, *modes, 2) -> (B, M, *modes, 2)."""
        weight = self._weight(modes)
        turned = torch.stack([-weight[..., 1], weight[..., 0]], dim=-1)  # i R
        matrices = torch.stack([weight, turned], dim=-3).reshape(prod(weight.shape[:-3]), 2 * z.shape[1], -1)
        by_mode = z.flatten(2, -2).permute(2, 0, 1, 3).flatten(-2)  # (modes, B, 2 C)
        mixed = torch.bmm(by_mode, matrices).unflatten(-1, (-1, 2))
        return mixed.permute(1, 2, 0, 3).unflatten(2, weight.shape[:-3])

    def _weight(self, modes: Sequence[int]) -> Tensor:
        """Return R at the modes that the grid has: (*modes, C, M, 2)."""
        weight: Tensor = self.weight
        for axis, (own, used) in enumerate(zip(self.modes[:-1], modes[:-1], strict=True)):
            weight = weight.narrow(axis, own - used, 2 * used + 1)
        return weight.narrow(len(modes) - 1, 0, modes[-1] + 1)


# Complex numbers are kept as pairs of real ones on a last axis: products with them are then real matrix products, whose
# gradients are too. torch's own gradients of batched complex products copy matrix by matrix.


def _product(z: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Multiply one axis by a complex matrix, given as a real one of pairs."""
    return (z.movedim(axis, -2).flatten(-2) @ matrix).unflatten(-1, (-1, 2)).movedim(-2, axis)


def _tensor(matrix: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(matrix).to(like.device, like.dtype)


# Matrices, in double precision ----------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _analysis(points: int, modes: int, *, real: bool = False) -> np.ndarray:
    """Return exp(-2 pi i k x) / points, from points to the modes -m..m, in pairs: (2 points, 2 (2 m + 1)).

    For real values only their rows and the modes 0..m: (points, 2 (m + 1)).
    """
    pairs = _pairs(_waves(points, np.arange(0 if real else -modes, modes + 1)).conj() / points)
    return pairs[::2].copy() if real else pairs


@lru_cache(maxsize=64)
def _synthesis(points: int, modes: int, *, real: bool = False) -> np.ndarray:
    """Return exp(2 pi i k x), from the modes -m..m to points, in pairs: (2 (2 m + 1), 2 points).

    For real values only their columns, from the modes 0..m, those above 0 counted twice: (2 (m + 1), points).
    """
    if not real:
        return _pairs(_waves(points, np.arange(-modes, modes + 1)).T)
    counts = np.where(np.arange(modes + 1) > 0, 2.0, 1.0)
    return _pairs((_waves(points, np.arange(modes + 1)) * counts).T)[:, ::2].copy()


def _waves(points: int, k: np.ndarray) -> np.ndarray:
    """Return exp(2 pi i k x): (points, modes)."""
    return np.exp(2j * np.pi * (np.outer(np.arange(points), k) % points) / points)


def _pairs(matrix: np.ndarray) -> np.ndarray:
    """Return the real matrix (2 n, 2 m) that acts on rows of pairs as a complex one (n, m) on rows."""
    n, m = matrix.shape
    pairs = np.empty((n, 2, m, 2))
    pairs[:, 0, :, 0] = pairs[:, 1, :, 1] = matrix.real
    pairs[:, 0, :, 1], pairs[:, 1, :, 0] = matrix.imag, -matrix.imag
    return pairs.reshape(2 * n, 2 * m)
