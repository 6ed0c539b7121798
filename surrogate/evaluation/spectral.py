"""Errors by wave number: power of a field in bands of the isotropic wave number |k|, in cycles per box.

With c_k the Fourier coefficients of a field, divided by the number n of points, the power of a band is the sum of
|c_k|^2 over its coefficients, and by Parseval the bands add up to the mean square of the field. The transform takes the
grid as periodic; a field that is not has power in high bands from the jump at its boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from scipy import fft
from torch import Tensor

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
    return np.array([int(weight.sum()) for _, weight in _members(tuple(shape), tuple(edges))])


def band_power(values: Tensor, edges: Sequence[float]) -> Tensor:
    r"""Return the power per band, \sum_{e_i <= |k| < e_{i+1}} |c_k|^2.

    Arguments:
        values: Fields, with shape (B, M, *S), real.
        edges: Band edges e in cycles per box, ascending.

    Returns:
        Shape (B, M, bands), in squared units of the field; a field's numbers do not depend on its batch.
    """
    return torch.from_numpy(_in_bands(_power(values), tuple(values.shape[2:]), edges))


def frmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the root mean square Fourier coefficient of the error in each of `BANDS`, with shape (B, M, 3).

    NaN where the grid has no such wave number.

    Source: after Takamoto et al., PDEBench, 2022, whose code keeps the quadrant of positive wave numbers and
    averages shells; this is the mean over all coefficients, so that coefficients times squares add up to the MSE.
    """
    error = prediction.detach().double() - target.detach().double()
    return torch.from_numpy(_root_mean(_power(error), tuple(error.shape[2:])))


def spectral_columns(prediction: Tensor, target: Tensor) -> dict[str, np.ndarray]:
    """Return `frmse`, and the power of error, target and prediction in the bands of `log_edges`; one transform of each.

    A field with gaps has no spectrum: NaN.
    """
    shape = tuple(target.shape[2:])
    edges = log_edges(shape)
    p, q = prediction.detach().double(), target.detach().double()
    power = {"spectral_error": _power(p - q), "spectral_target": _power(q)}
    power["spectral_prediction"] = _power(torch.where(q.isnan(), torch.nan, p))
    columns = {name: _in_bands(values, shape, edges) for name, values in power.items()}
    return columns | {"frmse": _root_mean(power["spectral_error"], shape)}


def spectrum(values: Tensor) -> Tensor:
    """Return the power in shells of width one, [0, 1), [1, 2), ..., until all are covered, shape (B, M, shells)."""
    return band_power(values, range(int(kmax(values.shape[2:])) + 2))


def _power(values: Tensor) -> np.ndarray:
    """Return |c_k|^2 of the half spectrum of every field, flattened."""
    fields = values.detach().to("cpu", torch.float64).numpy()
    transformed = fft.rfftn(fields, axes=range(2, fields.ndim), norm="forward").reshape(*fields.shape[:2], -1)
    return np.square(transformed.real) + np.square(transformed.imag)


def _in_bands(power: np.ndarray, shape: tuple[int, ...], edges: Sequence[float]) -> np.ndarray:
    """Sum the power of every field over bands, with shape (B, M, bands)."""
    bands = _members(shape, tuple(edges))
    return np.stack([(np.ascontiguousarray(power[..., index]) * weight).sum(-1) for index, weight in bands], -1)


def _root_mean(power: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the root mean square coefficient in each of `BANDS`, with shape (B, M, 3); NaN where there is none."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(_in_bands(power, shape, BAND_EDGES) / coefficients(shape, BAND_EDGES))  # 0 / 0 is NaN


@cache
def _members(shape: tuple[int, ...], edges: tuple[float, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, per band, positions in the flattened half spectrum and the multiplicity of each in the full one."""
    axes = [np.round(np.fft.fftfreq(n) * n) for n in shape[:-1]] + [np.arange(shape[-1] // 2 + 1.0)]
    squares = np.sum([np.square(k).ravel() for k in np.meshgrid(*axes, indexing="ij")], axis=0)
    twice = np.full(len(axes[-1]), 2.0)
    twice[0] = 1.0
    if shape[-1] % 2 == 0:
        twice[-1] = 1.0
    weights = np.broadcast_to(twice, [len(axis) for axis in axes]).ravel()
    inside = [(squares >= low**2) & (squares < high**2) for low, high in pairwise(edges)]
    return [(np.flatnonzero(band), weights[band]) for band in inside]
