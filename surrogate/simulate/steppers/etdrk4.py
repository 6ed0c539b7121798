"""Exponential integration of semilinear equations on a Fourier or cosine basis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from surrogate.errors import ConfigError
from surrogate.simulate.equation import Array, Grid, Numerics
from surrogate.simulate.steppers.spectral import from_spectrum, to_spectrum, wave_numbers

__all__ = ["ETDRK4", "Cosine", "Fourier", "basis_of"]

POINTS = 32  # on the contour of the phi functions


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


class ETDRK4:
    """Exponential time differencing of order 4 for du/dt = D lap u + N(u), exact in its linear part.

    Source: Cox and Matthews, J. Comput. Phys. 176 (2002), equations 26 to 29; coefficients by contour integrals as in
    Kassam and Trefethen, SIAM J. Sci. Comput. 26 (2005).

    Arguments:
        nonlinear: N(u) for fields (B, C, *S).
        diffusivity: D of every member and channel, with shape (B, C).
        grid: The grid, periodic or without flux.
        interval: Time between snapshots.
        steps: Steps in an interval.
        numerics: Type and device of the fields.
    """

    def __init__(
        self,
        nonlinear: Callable[[Tensor], Tensor],
        diffusivity: Array,
        grid: Grid,
        interval: float,
        steps: int,
        numerics: Numerics,
    ) -> None:
        self.nonlinear, self.basis, self.steps = nonlinear, basis_of(grid), steps
        decay = diffusivity.reshape(*diffusivity.shape, *(1,) * self.basis.eigenvalues.ndim) * self.basis.eigenvalues
        tables = _coefficients(decay * (interval / steps), interval / steps)
        self.tables = [torch.from_numpy(table).to(numerics.device, numerics.dtype) for table in tables]

    def __call__(self, u: Tensor) -> Tensor:
        """Advance fields (B, C, *S) by one interval; a member that blows up is not finite."""
        whole, half, q, first, middle, last = self.tables
        v = self.basis.forward(u)
        for _ in range(self.steps):
            rate = self._rate(v)
            halved = half * v
            a = halved + q * rate
            rate_a = self._rate(a)
            rate_b = self._rate(halved + q * rate_a)
            rate_c = self._rate(half * a + q * (2.0 * rate_b - rate))
            v = whole * v + first * rate + middle * (rate_a + rate_b) + last * rate_c
        return self.basis.backward(v)

    def _rate(self, spectrum: Tensor) -> Tensor:
        return self.basis.forward(self.nonlinear(self.basis.backward(spectrum)))


def _coefficients(z: Array, dt: float) -> tuple[Array, ...]:
    """Return exp(z), exp(z/2) and the four weights of the method for z = dt times the linear part."""
    roots = np.exp(1j * np.pi * (np.arange(POINTS) + 0.5) / POINTS)
    sums = [np.zeros_like(z) for _ in range(4)]
    for root in roots:
        w = z + root
        e = np.exp(w)
        sums[0] += ((np.exp(w / 2) - 1) / w).real
        sums[1] += ((-4 - w + e * (4 - 3 * w + w**2)) / w**3).real
        sums[2] += (2 * (2 + w + e * (w - 2)) / w**3).real
        sums[3] += ((-4 - 3 * w - w**2 + e * (4 - w)) / w**3).real
    return (np.exp(z), np.exp(z / 2), *[dt * total / POINTS for total in sums])
