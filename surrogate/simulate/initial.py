"""Random initial fields."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from surrogate.checks import ConfigError
from surrogate.simulate.equation import Grid

__all__ = ["MODES", "smooth_field"]

MODES = 8


def smooth_field(grid: Grid, correlation_length: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth periodic random field with a root mean square of one.

        u(x) = Re sum_m c_m exp(-|k_m|^2 l^2 / 2) exp(i k_m . x),   k_m = 2 pi m / L,   |m_axis| <= 8

    with independent complex normal c_m. The coefficients do not depend on the grid, so the same generator gives the
    same function on every grid.

    Arguments:
        grid: Where it is evaluated; at least 18 points along every axis, so that all modes lie below the Nyquist mode.
        correlation_length: The length l, in the units of the box.
        rng: Random generator, advanced by the draw.

    Returns:
        The field, with shape (*S).

    Raises:
        ConfigError: The grid is too coarse.
    """
    if min(grid.shape) <= 2 * MODES + 1:
        raise ConfigError(f"grid {list(grid.shape)} is too coarse: smooth fields need {2 * MODES + 2} points per axis")
    orders = np.arange(-MODES, MODES + 1)
    waves = np.meshgrid(*[2 * np.pi * orders / length for length in grid.lengths], indexing="ij")
    weights = np.exp(-0.5 * correlation_length**2 * sum(k**2 for k in waves))
    normals = rng.standard_normal((2, *weights.shape))
    drawn = weights * (normals[0] + 1j * normals[1])
    hermitian = drawn + np.flip(drawn).conj()
    spectrum = np.zeros(grid.shape, dtype=np.complex128)
    spectrum[np.ix_(*[orders % points for points in grid.shape])] = hermitian / np.linalg.norm(hermitian)
    return np.fft.ifftn(spectrum, norm="forward").real
