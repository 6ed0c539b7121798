"""Mergeable moments and normalisation per channel or per pixel."""

from __future__ import annotations

import glob
import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.checks import DataError, ResourceError
from surrogate.files import replacing

__all__ = ["Moments", "Normalizer", "cached_normalizers", "fit_normalizers", "statistics_folder"]

VERSION = 1  # of the files of cached statistics
PREFIX = ".statistics-"
KEPT = 64  # files of statistics in a folder
CONSTANT = 1e-7  # relative deviation below which a float32 channel is constant but for rounding


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations per channel or per pixel, in float64; `a + b` merges.

    With d = mean_b - mean_a and n = n_a + n_b (Chan, Golub, LeVeque 1983):

        mean = mean_a + d n_b / n,    M2 = M2_a + M2_b + d^2 n_a n_b / n

    Arguments:
        count: Values per channel or pixel.
        mean: Means, with shape (C,) or (C, *S).
        m2: Sums of squared deviations from the mean, with the shape of `mean`.
    """

    count: int
    mean: Tensor
    m2: Tensor

    @classmethod
    def of(cls, values: Tensor, *, per_pixel: bool = False) -> Self:
        """Moments of values with shape (B, C, *S) or (B, C)."""
        values = values.detach().double()
        rows = values.flatten(1).T if per_pixel else values.transpose(0, 1).flatten(1)
        shape = values.shape[1:] if per_pixel else values.shape[1:2]
        if rows.shape[1] == 0:
            return cls(0, rows.new_zeros(shape), rows.new_zeros(shape))
        mean = rows.mean(dim=1)
        return cls(rows.shape[1], mean.view(shape), (rows - mean[:, None]).square().sum(dim=1).view(shape))

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
        """Standard deviations (of the population), with the shape of the means."""
        return (self.m2 / max(self.count, 1)).sqrt()


class Normalizer(nn.Module):
    """Physical units to zero mean and unit deviation per channel or per pixel, and back.

        forward(x) = (x - mean) / scale,    inverse(y) = y scale + mean

    Arguments:
        mean: Means, with shape (C,) or (C, *S).
        scale: Positive scales, with the shape of `mean`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        if mean.ndim == 0 or mean.shape != scale.shape:
            raise DataError(f"mean {tuple(mean.shape)} and scale {tuple(scale.shape)}: both need one entry per channel")
        if not (torch.isfinite(mean).all() and torch.isfinite(scale).all() and (scale > 0).all()):
            raise DataError("mean and scale must be finite and scale positive; look for non-finite values in the data")
        self.register_buffer("mean", mean.detach().float().clone())
        self.register_buffer("scale", scale.detach().float().clone())

    @classmethod
    def from_moments(cls, moments: Moments, names: Sequence[str]) -> Self:
        """Normalise by mean and standard deviation; what is constant keeps scale 1, a constant channel is named."""
        std = moments.std
        constant = std <= CONSTANT * moments.mean.abs()
        for index in constant.reshape(len(std), -1).all(dim=1).nonzero().flatten().tolist():
            value = moments.mean[index].flatten()[0]
            warnings.warn(f"channel '{names[index]}' is constant ({value:g}): it is shifted, not scaled")
        return cls(moments.mean, torch.where(constant, torch.ones_like(std), std))

    @classmethod
    def identity(cls, channels: int) -> Self:
        """What leaves values as they are."""
        return cls(torch.zeros(channels), torch.ones(channels))

    def forward(self, values: Tensor) -> Tensor:
        """Normalised values of the shape given, (B, C, *S)."""
        return (values - self._like(self.mean, values)) / self._like(self.scale, values)

    def inverse(self, values: Tensor) -> Tensor:
        """Physical values of normalised ones, (B, C, *S)."""
        return values * self._like(self.scale, values) + self._like(self.mean, values)

    def deviation(self, values: Tensor) -> Tensor:
        """Physical standard deviations of normalised ones, (B, C, *S)."""
        return values * self._like(self.scale, values)

    def _like(self, buffer: Tensor, values: Tensor) -> Tensor:
        if values.ndim < 2 or values.shape[1] != len(buffer):
            raise DataError(f"values have shape {tuple(values.shape)}, expected {len(buffer)} channels on axis 1")
        if buffer.ndim == 1:
            return buffer.view(-1, *[1] * (values.ndim - 2))
        if buffer.shape != values.shape[1:]:
            raise DataError(
                f"values have shape {tuple(values.shape)}, expected (B, {', '.join(map(str, buffer.shape))}): they are "
                "normalised per pixel; use the grid of the training data, or normalise per channel"
            )
        return buffer


def fit_normalizers(
    batches: Iterable[Batch],
    input_names: Sequence[str],
    target_names: Sequence[str],
    *,
    per_pixel: bool = False,
    merge: Callable[[Moments], Moments] | None = None,
) -> tuple[Normalizer, Normalizer]:
    """Normalizers of inputs and targets from one pass over batches.

    Arguments:
        batches: Training data, such as one epoch of a stream.
        input_names: Names of the input channels, for warnings.
        target_names: Names of the target channels.
        per_pixel: One mean and scale for each point of the grid, instead of each channel.
        merge: Merges moments with those of other processes, which have other shares of the data.

    Raises:
        DataError: There is no sample.
    """
    inputs, targets = _moments(batches, per_pixel)
    if merge is not None:
        inputs, targets = merge(inputs), merge(targets)
    return Normalizer.from_moments(inputs, input_names), Normalizer.from_moments(targets, target_names)


def _moments(batches: Iterable[Batch], per_pixel: bool) -> tuple[Moments, Moments]:
    """Moments of inputs and targets."""
    inputs: Moments | None = None
    targets: Moments | None = None
    for batch in batches:
        same = batch.targets is batch.inputs
        new_inputs = Moments.of(batch.inputs, per_pixel=per_pixel)
        new_targets = new_inputs if same else Moments.of(batch.targets, per_pixel=per_pixel)
        inputs = new_inputs if inputs is None else inputs + new_inputs
        targets = new_targets if targets is None else targets + new_targets
    if inputs is None or targets is None or inputs.count == 0:
        raise DataError("no sample to normalise by; the training set is empty")
    return inputs, targets


class Described(Protocol):
    """Batches that know what they are made of; a `Stream` is one."""

    def __iter__(self) -> Iterator[Batch]: ...

    @property
    def content(self) -> str:
        """A name that changes with the files, the selection, the variables and the window."""
        ...

    @property
    def input_names(self) -> tuple[str, ...]: ...

    @property
    def target_names(self) -> tuple[str, ...]: ...


def cached_normalizers(
    stream: Described, folder: Path | None, *, per_pixel: bool = False
) -> tuple[Normalizer, Normalizer]:
    """`fit_normalizers`, read from a file of an earlier pass over the same data where there is one.

    Arguments:
        stream: The training data.
        folder: Where `.statistics-<content>.json` is kept; they are not kept where it is None or cannot be written.
        per_pixel: One mean and scale for each point of the grid, instead of each channel.

    Raises:
        DataError: There is no sample.
    """
    path = None if folder is None else folder / f"{PREFIX}{stream.content}{'-pixels' if per_pixel else ''}.json"
    moments = None if path is None else _read(path)
    if moments is None:
        moments = _moments(stream, per_pixel)
        if path is not None:
            _keep(path, moments)
    names = stream.input_names, stream.target_names
    inputs, targets = (Normalizer.from_moments(m, n) for m, n in zip(moments, names, strict=True))
    return inputs, targets


def statistics_folder(data: Path) -> Path | None:
    """Where statistics of data are kept: beside the data, or in the user's cache where that is read-only.

    Of a pattern, the folder before its first wildcard counts; None where there is no place.
    """
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), data.parts)
    place = data if data.exists() else Path(*fixed)
    beside = place if place.is_dir() else place.parent
    if beside.is_dir() and os.access(beside, os.W_OK):
        return beside
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return cache / "slim-surrogate" if cache.is_absolute() else None


def _keep(path: Path, moments: Sequence[Moments]) -> None:
    """Write statistics; of those in the folder the newest stay."""
    entries = [{"count": m.count, "mean": m.mean.tolist(), "m2": m.m2.tolist()} for m in moments]
    try:
        with replacing(path) as part:
            part.write_text(json.dumps({"version": VERSION, "moments": entries}))
        others = sorted(path.parent.glob(f"{PREFIX}*.json"), key=lambda other: other.stat().st_mtime)
        for old in others[:-KEPT]:
            old.unlink(missing_ok=True)
    except (ResourceError, OSError) as error:
        warnings.warn(f"statistics are not kept for the next run: {error}")


def _read(path: Path) -> tuple[Moments, Moments] | None:
    """Moments in a file; None where there is none, or it is damaged or of another version."""
    try:
        document = json.loads(path.read_text())
        if document["version"] != VERSION:
            return None
        inputs, targets = (_moments_of(entry) for entry in document["moments"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return inputs, targets


def _moments_of(entry: dict[str, Any]) -> Moments:
    mean, m2 = (torch.tensor(entry[name], dtype=torch.float64) for name in ("mean", "m2"))
    if mean.shape != m2.shape or mean.ndim == 0 or not isinstance(entry["count"], int) or entry["count"] < 1:
        raise ValueError("not moments")
    return Moments(entry["count"], mean, m2)
