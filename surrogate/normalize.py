"""Mergeable moments, and normalisation per channel or per pixel."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.errors import DataError, ResourceError
from surrogate.files import read_json, write_json

__all__ = [
    "Moments",
    "Normalizer",
    "cached_normalizers",
    "fit_normalizers",
    "keep_moments",
    "stream_moments",
]

BLOCK = 131_072  # values in float64 at a time
VERSION = 2  # of the files of cached statistics
TENSORS = ("count", "mean", "m2")
PREFIX = ".statistics-"
LARGEST_FILE = 2**34  # bytes
KEPT = 64  # files of statistics in a folder
ROUNDING = 1e-6  # of a share of values
CONSTANT = 1e-7  # deviation over the size of a channel, below which float32 values are constant but for rounding


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations per channel or per pixel, in float64; `a + b` merges.

    With d = mean_b - mean_a and n = n_a + n_b (Chan, Golub, LeVeque 1983):

        mean = mean_a + d n_b / n,    M2 = M2_a + M2_b + d^2 n_a n_b / n

    Arguments:
        seen: Number of values per channel or pixel, including NaN (missing values).
        count: Number of values that are not NaN, with shape (C,) or (C, *S).
        mean: Means, with the shape of `count`; zero where there is no value.
        m2: Sums of squared deviations from the mean, with the shape of `count`.
    """

    seen: int
    count: Tensor
    mean: Tensor
    m2: Tensor

    @classmethod
    def of(cls, values: Tensor, *, per_pixel: bool = False) -> Moments:
        """Compute the moments of values with shape (B, C, *S) or (B, C), in blocks that stay in the cache."""
        values = values.detach()
        if per_pixel:
            columns = values.flatten(1)[..., None]
            blocks = [cls._of_block(block) for block in columns.split(max(1, BLOCK // max(1, len(values))), dim=1)]
            merged = (torch.cat([getattr(block, name) for block in blocks]) for name in TENSORS)
            return cls(len(values), *(of_pixels.view(values.shape[1:]) for of_pixels in merged))
        fields = values.flatten(2) if values.ndim > 2 else values[..., None]
        channels, points = fields.shape[1:]
        whole = channels * points <= BLOCK  # samples
        step = BLOCK // max(1, channels * points if whole else channels)
        runs = fields.split(max(1, step), 0 if whole else 2)
        return reduce(Moments.__add__, map(cls._of_block, runs))

    @classmethod
    def _of_block(cls, values: Tensor) -> Moments:
        """Compute the moments of values (B, C, points) over samples and points."""
        values = values.to(torch.float64, copy=True)
        total = values.sum((0, 2))
        count = torch.full_like(total, len(values) * values.shape[2])
        missing = bool(total.isnan().any())
        if missing:
            count, total = (~values.isnan()).double().sum((0, 2)), values.nansum((0, 2))
        mean = total / count.clamp_min(1)
        squares = values.sub_(mean[:, None]).square_()
        m2 = squares.nansum((0, 2)) if missing else squares.sum((0, 2))
        return cls(len(values) * values.shape[2], count, mean, m2)

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        share = other.count / count.clamp_min(1)
        shift = other.mean - self.mean
        m2 = self.m2 + other.m2 + shift.square() * (self.count * share)
        return Moments(self.seen + other.seen, count, self.mean + shift * share, m2)

    @property
    def std(self) -> Tensor:
        """Standard deviations (of the population), with the shape of the means."""
        return (self.m2 / self.count.clamp_min(1)).sqrt()


class Normalizer(nn.Module):
    """Transform physical values to zero mean and unit deviation per channel or per pixel, and back.

        forward(x) = (x - mean) / scale,    inverse(y) = y scale + mean

    Arguments:
        mean: Means, with shape (C,) or (C, *S).
        scale: Positive scales, with the shape of `mean`.

    Example:
        >>> normalizer = Normalizer(torch.tensor([20.0]), torch.tensor([5.0]))
        >>> normalizer(torch.tensor([[20.0], [30.0]])).tolist()
        [[0.0], [2.0]]
        >>> normalizer.inverse(torch.tensor([[2.0]])).tolist()
        [[30.0]]
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

    @property
    def scale_per_channel(self) -> list[float]:
        """Scale of each channel, of pixels their mean."""
        return self.scale.double().reshape(len(self.scale), -1).mean(1).tolist()

    @classmethod
    def from_moments(cls, moments: Moments, names: Sequence[str], *, absent: float = 0.0) -> Self:
        """Make a normalizer of mean and standard deviation; a constant channel keeps scale 1, and a warning names it.

        What varies by no more than rounding of its channel's root mean square (over all pixels) is constant. A constant
        pixel of a channel that varies is scaled by the channel's root mean square deviation, so that an error of the
        network there stays in proportion to the data.

        Arguments:
            moments: Of every channel.
            names: Names of the channels.
            absent: Share of the values that belong to points that a simulation does not have; NaN there needs no
                warning.

        Raises:
            DataError: There is no sample, or a channel has no value.
        """
        if moments.seen == 0:
            raise DataError("no sample to normalise by; the training set is empty")
        counts = moments.count.flatten(1) if moments.count.ndim > 1 else moments.count
        for name, count in zip(names, counts, strict=True):
            share = 1 - float(count.mean()) / moments.seen
            if share == 1:
                raise DataError(f"variable '{name}' has no finite value in the training data; leave it out")
            if share > absent + ROUNDING:
                warnings.warn(
                    f"{share:.2g} of the values of '{name}' are NaN or Inf and left out; <variable>_valid is 0 there"
                )
        mean, std = (values.reshape(len(values), -1) for values in (moments.mean, moments.std))
        deviation, size = (values.square().mean(1, keepdim=True).sqrt() for values in (std, std.hypot(mean)))
        constant = std <= CONSTANT * size
        for index in constant.all(dim=1).nonzero().flatten().tolist():
            warnings.warn(f"channel '{names[index]}' is constant ({mean[index, 0]:g}): it is shifted, not scaled")
        scale = torch.where(constant, torch.where(constant.all(1, keepdim=True), 1.0, deviation), std)
        return cls(moments.mean, scale.reshape(moments.std.shape))

    @classmethod
    def identity(cls, channels: int) -> Self:
        """Make a normalizer that leaves values unchanged."""
        return cls(torch.zeros(channels), torch.ones(channels))

    def forward(self, values: Tensor) -> Tensor:
        """Normalise values with shape (B, C, *S)."""
        return (values - self._like(self.mean, values)).div_(self._like(self.scale, values))

    def inverse(self, values: Tensor) -> Tensor:
        """Return the physical values of normalised ones with shape (B, C, *S)."""
        return values * self._like(self.scale, values) + self._like(self.mean, values)

    def deviation(self, values: Tensor) -> Tensor:
        """Return the physical standard deviations of normalised ones with shape (B, C, *S)."""
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
) -> tuple[Normalizer, Normalizer]:
    """Fit the normalizers of inputs and targets in one pass over batches.

    Arguments:
        batches: Training data, such as one epoch of a stream.
        input_names: Names of the input channels, for warnings.
        target_names: Names of the target channels.
        per_pixel: One mean and scale for each point of the grid, instead of each channel.

    Raises:
        DataError: There is no sample, or a channel has no value.
    """
    inputs, targets = stream_moments(batches, per_pixel=per_pixel)
    return Normalizer.from_moments(inputs, input_names), Normalizer.from_moments(targets, target_names)


def stream_moments(batches: Iterable[Batch], *, per_pixel: bool = False) -> tuple[Moments, Moments]:
    """Compute the moments of inputs and targets in one pass over batches, which may be a part of the training data.

    Raises:
        DataError: There is no sample.
    """
    inputs: Moments | None = None
    targets: Moments | None = None
    for batch in batches:
        same = batch.targets is batch.inputs
        new_inputs = Moments.of(batch.inputs, per_pixel=per_pixel)
        new_targets = new_inputs if same else Moments.of(batch.targets, per_pixel=per_pixel)
        inputs = new_inputs if inputs is None else inputs + new_inputs
        targets = new_targets if targets is None else targets + new_targets
    if inputs is None or targets is None:
        raise DataError("no sample to normalise by; the training set is empty")
    return inputs, targets


class Peers(Protocol):
    """The processes among which the data are shared."""

    @property
    def first(self) -> bool:
        """True in the process that writes."""
        ...

    def all(self, condition: bool) -> bool:
        """Return True where the condition holds on all processes."""
        ...

    def merged(self, moments: Moments) -> Moments:
        """Return the moments of the data of all processes."""
        ...


class Described(Protocol):
    """Batches with the names of their channels and a hash of their content, such as a `Stream`."""

    def __iter__(self) -> Iterator[Batch]: ...

    @property
    def content(self) -> str:
        """A hash that changes with the files, the selection, the variables and the window."""
        ...

    @property
    def input_names(self) -> tuple[str, ...]: ...

    @property
    def target_names(self) -> tuple[str, ...]: ...


def cached_normalizers(
    stream: Described,
    folder: Path | None,
    *,
    per_pixel: bool = False,
    peers: Peers | None = None,
    absent: float = 0.0,
) -> tuple[Normalizer, Normalizer]:
    """Return the result of `fit_normalizers`, from the file of an earlier pass over the same data where there is one.

    Arguments:
        stream: The training data.
        folder: Folder of the files `.statistics-<content>.json`; nothing is kept where it is None or not writable.
        per_pixel: One mean and scale for each point of the grid, instead of each channel.
        peers: The processes that share the training data; None where this is the only one.
        absent: Share of the values that belong to points that a simulation does not have, for warnings.

    Raises:
        DataError: There is no sample, or a channel has no value.
    """
    path = None if folder is None else _place(stream, folder, per_pixel)
    moments = None if path is None else _read(path)
    if peers is not None and not peers.all(moments is not None):  # a file system may show it to some of them only
        moments = None
    if moments is None:
        inputs, targets = stream_moments(stream, per_pixel=per_pixel)
        moments = (inputs, targets) if peers is None else (peers.merged(inputs), peers.merged(targets))
        if path is not None and (peers is None or peers.first):
            try:
                _write(path, moments)
            except (ResourceError, OSError) as error:
                warnings.warn(f"statistics are not kept for the next run: {error}")
    names = stream.input_names, stream.target_names
    of_inputs, of_targets = (Normalizer.from_moments(m, n, absent=absent) for m, n in zip(moments, names, strict=True))
    return of_inputs, of_targets


def keep_moments(stream: Described, folder: Path, moments: Sequence[Moments], *, per_pixel: bool = False) -> Path:
    """Write moments of inputs and targets that were computed elsewhere for `cached_normalizers`."""
    path = _place(stream, folder, per_pixel)
    _write(path, moments)
    return path


def _place(stream: Described, folder: Path, per_pixel: bool) -> Path:
    return folder / f"{PREFIX}{stream.content}{'-pixels' if per_pixel else ''}.json"


def _write(path: Path, moments: Sequence[Moments]) -> None:
    """Write statistics; delete the oldest files of statistics in the folder beyond a number."""
    entries = [{"seen": m.seen, **{name: getattr(m, name).tolist() for name in TENSORS}} for m in moments]
    write_json(path, {"version": VERSION, "moments": entries}, indent=None)
    for old in sorted(path.parent.glob(f"{PREFIX}*.json"), key=_written)[:-KEPT]:
        old.unlink(missing_ok=True)


def _written(path: Path) -> float:
    """Return when a file was last written, 0 if another process has deleted it meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read(path: Path) -> tuple[Moments, Moments] | None:
    """Read moments; None where the file is missing, damaged or of another version."""
    try:
        document = read_json(path, limit=LARGEST_FILE)
        if document["version"] != VERSION:
            return None
        inputs, targets = map(_moments_of, document["moments"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return inputs, targets


def _moments_of(entry: dict[str, Any]) -> Moments:
    """Check and convert an entry of a file of statistics."""
    count, mean, m2 = (torch.tensor(entry[name], dtype=torch.float64) for name in TENSORS)
    alike = count.shape == mean.shape == m2.shape and mean.ndim > 0
    if not alike or not isinstance(entry["seen"], int) or entry["seen"] < 1:
        raise ValueError("not moments")
    return Moments(entry["seen"], count, mean, m2)
