"""Bases in which derivatives are diagonal: Fourier on a periodic box, cosines between walls without flux."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogate.errors import ConfigError, did_you_mean
from surrogate.simulate.equation import Array, Grid
from surrogate.simulate.steppers.spectral import from_spectrum, to_spectrum, wave_numbers

__all__ = ["Cosine", "Fourier", "Symbols", "basis_of"]


class Fourier:
    """Waves of a periodic box. A spectrum is a real tensor, with real and imaginary parts along a last axis."""

    def __init__(self, grid: Grid) -> None:
        self.shape = grid.shape
        squares = np.meshgrid(*[k**2 for k in wave_numbers(grid)], indexing="ij")
        self.eigenvalues: Array = -np.asarray(sum(squares))[..., None]  # of the Laplacian

    def forward(self, u: Tensor) -> Tensor:
        """Return the spectrum of fields (B, C, *S)."""
        return torch.view_as_real(to_spectrum(u))

    def backward(self, spectrum: Tensor) -> Tensor:
        """Return the fields of a spectrum."""
        return from_spectrum(torch.view_as_complex(spectrum), self.shape)


class Cosine:
    """Cosines of a box without flux through its walls, on cell centres: the discrete cosine transform of type 2.

    Each axis is one complex transform of the cells in the order 0, 2, 4, ..., 5, 3, 1.
    Source: Makhoul, IEEE Trans. Acoust. Speech Signal Process. 28 (1980).
    """

    def __init__(self, grid: Grid) -> None:
        self.shape = grid.shape
        waves = [np.pi * np.arange(n) / length for n, length in zip(grid.shape, grid.lengths, strict=True)]
        self.eigenvalues: Array = -np.asarray(sum(np.meshgrid(*[k**2 for k in waves], indexing="ij")))

    def forward(self, u: Tensor) -> Tensor:
        """Return the spectrum of fields (B, C, *S)."""
        for axis in range(2, u.ndim):
            u = torch.cat([self._transform(part, axis) for part in _parts(u)])
        return u

    def backward(self, spectrum: Tensor) -> Tensor:
        """Return the fields of a spectrum."""
        for axis in range(2, spectrum.ndim):
            spectrum = torch.cat([self._inverse(part, axis) for part in _parts(spectrum)])
        return spectrum

    def _transform(self, u: Tensor, axis: int) -> Tensor:
        u = u.movedim(axis, -1)
        z = torch.fft.fft(torch.cat([u[..., ::2], u[..., 1::2].flip(-1)], dim=-1))
        cos, sin = _quarter_waves(u.shape[-1], u)
        return (z.real * cos + z.imag * sin).movedim(-1, axis).contiguous()

    def _inverse(self, spectrum: Tensor, axis: int) -> Tensor:
        s = spectrum.movedim(axis, -1)
        n = s.shape[-1]
        cos, sin = _quarter_waves(n, s)
        mirrored = torch.cat([torch.zeros_like(s[..., :1]), s[..., 1:].flip(-1)], dim=-1)
        z = torch.fft.ifft(torch.complex(s * cos + mirrored * sin, s * sin - mirrored * cos)).real
        u = torch.empty_like(z)
        u[..., ::2], u[..., 1::2] = z[..., : (n + 1) // 2], z[..., (n + 1) // 2 :].flip(-1)
        return u.movedim(-1, axis).contiguous()


def _parts(u: Tensor) -> tuple[Tensor, ...]:
    """Split a batch into single members on the CPU, where the bits of a transform depend on the batch."""
    return u.split(1) if u.device.type == "cpu" else (u,)


def _quarter_waves(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    angles = np.pi * np.arange(n) / (2 * n)
    return torch.from_numpy(np.cos(angles)).to(like), torch.from_numpy(np.sin(angles)).to(like)


def basis_of(grid: Grid) -> Fourier | Cosine:
    """Return the basis that fits the boundary of a grid.

    Raises:
        ConfigError: There is none.
    """
    if grid.boundary == "periodic":
        return Fourier(grid)
    if grid.boundary == "no_flux":
        return Cosine(grid)
    raise ConfigError(f"boundary {grid.boundary} has no spectral basis here; choose periodic or no_flux")


class Symbols:
    """The symbols of derivatives in the basis of a grid, from which the symbol of a linear operator is built.

    The symbol of the operator L is the number l(k) with L e_k = l(k) e_k for each wave e_k of the basis. With d a
    `Symbols`, d(3) is that of d^3/dx^3, d.laplacian**2 the biharmonic one, and sums and products of them are others.

    Arguments:
        grid: A grid that is periodic or without flux.

    Raises:
        ConfigError: The grid has no such basis.
    """

    def __init__(self, grid: Grid) -> None:
        basis_of(grid)
        self.grid = grid
        self.periodic = grid.boundary == "periodic"

    def __call__(self, order: int, axis: str = "x") -> Array:
        """Return (i k)^order on the wave numbers k of an axis, shaped to broadcast over a spectrum.

        Odd orders are imaginary, and zero at the Nyquist mode, which has no direction.

        Raises:
            ConfigError: The grid has no such axis, or walls and an odd order, which takes cosines to sines.
        """
        grid = self.grid
        if axis not in grid.axes:
            raise ConfigError(f"the grid has no axis '{axis}'; {did_you_mean(axis, grid.axes)}")
        index = grid.axes.index(axis)
        points, length = grid.shape[index], grid.lengths[index]
        if self.periodic:
            k: NDArray[Any] = wave_numbers(grid)[index]
            if order % 2 and points % 2 == 0:
                k = k * (np.arange(len(k)) != points // 2)
        elif order % 2:
            raise ConfigError(
                f"a derivative of order {order} is not diagonal between walls: put it into the right-hand side"
            )
        else:
            k = np.pi * np.arange(points) / length
        symbol = (1j**order) * k**order
        shape = [-1 if other == index else 1 for other in range(len(grid.shape))]
        return np.asarray((symbol if order % 2 else symbol.real).reshape(shape))

    @property
    def laplacian(self) -> Array:
        """Return -|k|^2, the symbol of the Laplacian."""
        return np.asarray(sum(np.asarray(self(2, axis)) for axis in self.grid.axes))
