"""Errors by wave number: power of a field in bands of the isotropic wave number |k|, in cycles per box.

With c_k the Fourier coefficients of a field, divided by the number n of points, the power of a band is the sum of
|c_k|^2 over its coefficients, and by Parseval the bands add up to the mean square of the field. The transform takes the
grid as periodic; a field that is not has power in high bands from the jump at its boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from surrogate.evaluation.metrics import FieldErrors

__all__ = [
    "BANDS",
    "band_power",
    "coefficients",
    "frmse",
    "kmax",
    "log_edges",
    "spectral_columns",
    "spectrum",
]

# The bands of PDEBench, [0, 4), [4, 12) and [12, ...).
BANDS = {"low": (0.0, 4.0), "middle": (4.0, 12.0), "high": (12.0, float("inf"))}
BAND_EDGES = (0.0, 4.0, 12.0, float("inf"))


def kmax(shape: Sequence[int]) -> float:
    """Return the largest isotropic wave number on a grid."""
    return float(np.sqrt(sum((n // 2) ** 2 for n in shape)))


def log_edges(shape: Sequence[int]) -> tuple[float, ...]:
    """Return integers about a factor sqrt(2) apart, 0, 1, 2, 3, 4, 6, 8, 11, ..., that cover all wave numbers."""
    edges = [0.0, 1.0]
    exponent = 2
    while edges[-1] <= kmax(shape):
        edges.append(float(round(2 ** (exponent / 2))))
        exponent += 1
    return tuple(edges)


def coefficients(shape: Sequence[int], edges: Sequence[float]) -> np.ndarray:
    """Count the Fourier coefficients in each band, with shape (bands,)."""
    order = _ByWaveNumber.of(tuple(shape))
    return order.in_bands(order.weights / 2, edges).astype(int)


def band_power(values: Tensor, edges: Sequence[float]) -> Tensor:
    r"""Return the power per band, \sum_{e_i <= |k| < e_{i+1}} |c_k|^2.

    Arguments:
        values: Fields, with shape (B, M, *S), real.
        edges: Band edges e in cycles per box, ascending.

    Returns:
        Shape (B, M, bands), in squared units of the field; a field's numbers do not depend on its batch.
    """
    fields = values.detach().to("cpu", torch.float64).numpy()
    order = _ByWaveNumber.of(fields.shape[2:])
    return torch.from_numpy(order.in_bands(order.squares(_transformed(fields)), edges))


def frmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the root mean square Fourier coefficient of the error in each of `BANDS`, with shape (B, M, 3).

    NaN where the grid has no such wave number.

    Source: after Takamoto et al., PDEBench, 2022, whose code keeps the quadrant of positive wave numbers and
    averages shells; this is the mean over all coefficients, so that coefficients times squares add up to the MSE.
    """
    squares = band_power(prediction.detach().double() - target.detach().double(), BAND_EDGES)
    return torch.from_numpy(_root_mean(squares.numpy(), tuple(target.shape[2:])))


def spectral_columns(errors: FieldErrors) -> dict[str, np.ndarray]:
    """Return `frmse`, and the power of error, target and prediction in the bands of `log_edges`.

    The transform is linear: that of the prediction is the sum of those of error and target. A field with gaps has no
    spectrum: NaN.
    """
    order = _ByWaveNumber.of(errors.space)
    edges = log_edges(errors.space)
    error, target = (
        _transformed(values.reshape(*values.shape[:2], *errors.space)) for values in (errors.error, errors.target)
    )
    of_error = order.squares(error)
    columns = {
        "spectral_error": order.in_bands(of_error, edges),
        "spectral_target": order.in_bands(order.squares(target), edges),
        "spectral_prediction": order.in_bands(order.squares(np.add(error, target, out=error)), edges),
        "frmse": _root_mean(order.in_bands(of_error, BAND_EDGES), errors.space),
    }
    if errors.missing is not None:
        for values in columns.values():
            values[errors.missing.any(-1)] = np.nan
    return columns


def spectrum(values: Tensor) -> Tensor:
    """Return the power in shells of width one, [0, 1), [1, 2), ..., until all are covered, shape (B, M, shells)."""
    return band_power(values, range(int(kmax(values.shape[2:])) + 2))


@dataclass(frozen=True, eq=False)
class _ByWaveNumber:
    """The coefficients of the half spectrum of a real field, in the order of their wave numbers.

    Arguments:
        positions: Position of each in the flattened half spectrum.
        lengths: Their |k|^2, ascending.
        weights: How often each is in the full spectrum, once or twice; for its real and for its imaginary part.
    """

    positions: np.ndarray
    lengths: np.ndarray
    weights: np.ndarray

    @classmethod
    @cache
    def of(cls, shape: tuple[int, ...]) -> _ByWaveNumber:
        """Return the order for a grid."""
        axes = [np.round(np.fft.fftfreq(n) * n) for n in shape[:-1]] + [np.arange(shape[-1] // 2 + 1.0)]
        lengths = np.sum([np.square(k).ravel() for k in np.meshgrid(*axes, indexing="ij")], axis=0)
        twice = np.full(len(axes[-1]), 2.0)
        twice[0] = 1.0
        if shape[-1] % 2 == 0:
            twice[-1] = 1.0
        weights = np.broadcast_to(twice, [len(axis) for axis in axes]).ravel()
        positions = np.argsort(lengths, kind="stable")
        return cls(positions, lengths[positions], weights[positions].repeat(2))

    def squares(self, transformed: np.ndarray) -> np.ndarray:
        """Return the squares of real and imaginary parts in turns, times weights; their sum is a sum of |c_k|^2.

        Arguments:
            transformed: Half spectra (B, M, ...).
        """
        flat = transformed.reshape(*transformed.shape[:2], -1)
        parts = flat.take(self.positions, axis=-1).view(np.float64)
        np.square(parts, out=parts)
        return np.multiply(parts, self.weights, out=parts)

    def in_bands(self, squares: np.ndarray, edges: Sequence[float]) -> np.ndarray:
        """Sum over bands, with shape (B, M, bands); zero where a band has no coefficient."""
        ends = 2 * np.searchsorted(self.lengths, np.square(edges))
        some = np.flatnonzero(np.diff(ends))
        sums = np.zeros((*squares.shape[:-1], len(ends) - 1))
        if len(some):
            sums[..., some] = np.add.reduceat(squares[..., : ends[-1]], ends[some], axis=-1)
        return sums


def _transformed(fields: np.ndarray) -> np.ndarray:
    """Return the coefficients c_k of the half spectrum of fields (B, M, *S)."""
    return fft.rfftn(fields, axes=range(2, fields.ndim), norm="forward")


def _root_mean(power: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the root mean square coefficient in each of `BANDS`, with shape (B, M, 3); NaN where there is none."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(power / coefficients(shape, BAND_EDGES))  # 0 / 0 is NaN
