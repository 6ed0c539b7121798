"""Mergeable moments and normalisation per channel."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.checks import DataError

__all__ = ["Moments", "Normalizer", "fit_normalizers"]

CONSTANT = 1e-7  # relative deviation below which a float32 channel is constant but for rounding


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations per channel, in float64; `a + b` merges.

    With d = mean_b - mean_a and n = n_a + n_b (Chan, Golub, LeVeque 1983):

        mean = mean_a + d n_b / n,    M2 = M2_a + M2_b + d^2 n_a n_b / n

    Arguments:
        count: Values per channel.
        mean: Means, with shape (C,).
        m2: Sums of squared deviations from the mean, with shape (C,).
    """

    count: int
    mean: Tensor
    m2: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Self:
        """Moments of values with shape (B, C, *S) or (B, C)."""
        rows = values.detach().double().transpose(0, 1).flatten(1)
        if rows.shape[1] == 0:
            zeros = rows.new_zeros(rows.shape[0])
            return cls(0, zeros, zeros.clone())
        mean = rows.mean(dim=1)
        return cls(rows.shape[1], mean, (rows - mean[:, None]).square().sum(dim=1))

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        if count == 0:
            return self
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        m2 = self.m2 + other.m2 + shift.square() * (self.count * other.count / count)
        return Moments(count, mean, m2)

    @property
    def std(self) -> Tensor:
        """Standard deviations (of the population), with shape (C,)."""
        return (self.m2 / max(self.count, 1)).sqrt()


class Normalizer(nn.Module):
    """Physical units to zero mean and unit deviation per channel, and back.

        forward(x) = (x - mean) / scale,    inverse(y) = y scale + mean

    Arguments:
        mean: Means, with shape (C,).
        scale: Positive scales, with shape (C,).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        if mean.ndim != 1 or mean.shape != scale.shape:
            raise DataError(f"mean {tuple(mean.shape)} and scale {tuple(scale.shape)}: both need one entry per channel")
        if not (torch.isfinite(mean).all() and torch.isfinite(scale).all() and (scale > 0).all()):
            raise DataError("mean and scale must be finite and scale positive; look for non-finite values in the data")
        self.register_buffer("mean", mean.detach().float().clone())
        self.register_buffer("scale", scale.detach().float().clone())

    @classmethod
    def from_moments(cls, moments: Moments, names: Sequence[str]) -> Self:
        """Normalise by mean and standard deviation; a constant channel keeps scale 1 and is warned about."""
        std = moments.std
        constant = std <= CONSTANT * moments.mean.abs()
        for index in constant.nonzero().flatten().tolist():
            warnings.warn(f"channel '{names[index]}' is constant ({moments.mean[index]:g}): it is shifted, not scaled")
        return cls(moments.mean, torch.where(constant, torch.ones_like(std), std))

    def forward(self, values: Tensor) -> Tensor:
        """Normalised values of the shape given, (B, C, *S)."""
        return (values - self._like(self.mean, values)) / self._like(self.scale, values)

    def inverse(self, values: Tensor) -> Tensor:
        """Physical values of normalised ones, (B, C, *S)."""
        return values * self._like(self.scale, values) + self._like(self.mean, values)

    def _like(self, buffer: Tensor, values: Tensor) -> Tensor:
        if values.ndim < 2 or values.shape[1] != len(buffer):
            raise DataError(f"values have shape {tuple(values.shape)}, expected {len(buffer)} channels on axis 1")
        return buffer.view(-1, *[1] * (values.ndim - 2))


def fit_normalizers(
    batches: Iterable[Batch], input_names: Sequence[str], target_names: Sequence[str]
) -> tuple[Normalizer, Normalizer]:
    """Normalizers of inputs and targets from one pass over batches.

    Arguments:
        batches: Training data, such as one epoch of a stream.
        input_names: Names of the input channels, for warnings.
        target_names: Names of the target channels.

    Raises:
        DataError: There is no sample.
    """
    inputs: Moments | None = None
    targets: Moments | None = None
    for batch in batches:
        new_inputs, new_targets = Moments.of(batch.inputs), Moments.of(batch.targets)
        inputs = new_inputs if inputs is None else inputs + new_inputs
        targets = new_targets if targets is None else targets + new_targets
    if inputs is None or targets is None or inputs.count == 0:
        raise DataError("no sample to normalise by; the training set is empty")
    return Normalizer.from_moments(inputs, input_names), Normalizer.from_moments(targets, target_names)
