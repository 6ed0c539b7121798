"""Fourier transforms and products whose bits do not depend on the size of the batch or the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogate.simulate.equation import Grid

__all__ = ["from_spectrum", "multiply", "to_spectrum", "wave_numbers"]


def wave_numbers(grid: Grid) -> list[NDArray[np.float64]]:
    """Return angular wave numbers along each axis in the order of a real transform; the last axis has half of them."""
    orders = [np.fft.fftfreq(points, 1 / points) for points in grid.shape[:-1]]
    orders.append(np.fft.rfftfreq(grid.shape[-1], 1 / grid.shape[-1]))
    return [np.asarray(m * (2 * np.pi / length), np.float64) for m, length in zip(orders, grid.lengths, strict=True)]


def to_spectrum(u: Tensor) -> Tensor:
    """Return the real transform over the space axes of (B, C, *S)."""
    axes = tuple(range(2, u.ndim))
    with _one_thread():
        return torch.cat([torch.fft.rfftn(part, dim=axes) for part in _parts(u)])


def from_spectrum(spectrum: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return real fields (B, C, *S) with space axes of the given shape; the inverse of `to_spectrum`."""
    axes = tuple(range(2, spectrum.ndim))
    with _one_thread():
        return torch.cat([torch.fft.irfftn(part, s=shape, dim=axes) for part in _parts(spectrum)])


def _parts(u: Tensor) -> tuple[Tensor, ...]:
    """Split a batch on the CPU, where the order of operations of a transform depends on the size of the batch."""
    return u.split(1) if u.device.type == "cpu" else (u,)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread inside: MKL orders the operations of a field in 3 dimensions by their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return the complex product from single real operations.

    A fused multiply-add rounds otherwise than the two operations, and whether an entry meets one depends on its place
    in memory.
    """
    return torch.complex(a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real)
