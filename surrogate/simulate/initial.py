"""Random initial fields."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from surrogate.errors import ConfigError
from surrogate.simulate.equation import Grid

__all__ = ["MODES", "smooth_field", "white_noise"]

MODES = 8
WAVES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {"no_flux": np.cos, "dirichlet": np.sin}


def smooth_field(grid: Grid, correlation_length: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a smooth random field with a root mean square of one that fits the boundary.

        u(x) = Re sum_m c_m exp(-|k_m|^2 l^2 / 2) exp(i k_m . x),   k_m = 2 pi m / L,   |m_axis| <= 8

    with independent complex normal c_m on a periodic box; between walls a sum of products of cosines (no flux) or
    sines (zero on the walls) with real normal c_m and k_m = pi m / L, 0 <= m_axis <= 8. The coefficients do not depend
    on the grid, so the same generator gives the same function on every grid.

    Arguments:
        grid: Where it is evaluated; at least 18 points along every axis, so that all modes are below the Nyquist mode.
        correlation_length: The length l, in the units of the box.
        rng: Random generator, advanced by the draw.

    Returns:
        The field, with shape (*S).

    Raises:
        ConfigError: The grid is too coarse.
    """
    if min(grid.shape) <= 2 * MODES + 1:
        raise ConfigError(f"grid {list(grid.shape)} is too coarse: smooth fields need {2 * MODES + 2} points per axis")
    if grid.boundary != "periodic":
        return _between_walls(grid, correlation_length, rng)
    orders = np.arange(-MODES, MODES + 1)
    waves = np.meshgrid(*[2 * np.pi * orders / length for length in grid.lengths], indexing="ij")
    weights = np.exp(-0.5 * correlation_length**2 * sum(k**2 for k in waves))
    normals = rng.standard_normal((2, *weights.shape))
    drawn = weights * (normals[0] + 1j * normals[1])
    hermitian = drawn + np.flip(drawn).conj()
    spectrum = np.zeros(grid.shape, dtype=np.complex128)
    spectrum[np.ix_(*[orders % points for points in grid.shape])] = hermitian / np.linalg.norm(hermitian)
    return np.fft.ifftn(spectrum, norm="forward").real


def _between_walls(grid: Grid, correlation_length: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a sum of cosines or sines with the same weights."""
    wave = WAVES[grid.boundary]
    first = 0 if grid.boundary == "no_flux" else 1
    numbers = [np.pi * np.arange(first, MODES + 1) / length for length in grid.lengths]
    weights = np.exp(-0.5 * correlation_length**2 * sum(k**2 for k in np.meshgrid(*numbers, indexing="ij")))
    coefficients = weights * rng.standard_normal(weights.shape)
    squares = coefficients**2
    for axis in range(squares.ndim):  # the mean square of a wave is 1/2, of the constant 1
        share = np.where(numbers[axis] > 0, 0.5, 1.0)
        squares = squares * share.reshape([-1 if other == axis else 1 for other in range(squares.ndim)])
    field = coefficients / np.sqrt(squares.sum())
    for k, points, h in zip(numbers, grid.shape, grid.spacing, strict=True):
        table = wave(np.outer(k, (np.arange(points) + 0.5) * h))
        field = np.einsum("a...,ax->...x", field, table)
    return field


def white_noise(grid: Grid, channels: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw independent normal numbers N(0, 1) in every cell and channel, with shape (C, *S)."""
    return rng.standard_normal((channels, *grid.shape))
