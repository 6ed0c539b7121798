r"""Networks that are fitted in one pass over the training data instead of trained by steps.

Inputs and targets are reduced to a few numbers, a regression maps the one to the other, and its result is expanded:

.. math:: x = P^\top (y - \bar y), \qquad c = f(x), \qquad u = \Phi c + \bar u,

with orthonormal modes P of the inputs and :math:`\Phi` of the targets (proper orthogonal decomposition), each of which
may be left out. Without modes of the inputs, those that are constant over the training samples get weight 0, so that
they count in no distance. A subclass is the regression f. What is fitted is a parameter without gradient, in float64.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.errors import ConfigError, DataError
from surrogate.models.registry import Batches, ModelSettings, Shapes
from surrogate.models.separable import Separable

__all__ = [
    "FittedNetwork",
    "FittedSettings",
    "ReducedNetwork",
    "ReducedSettings",
    "Samples",
    "fit_network",
    "gather_samples",
]

CONSTANT = 1e-6  # deviations of inputs below this share of the largest are rounding of float32 data
NOISE = 1e-7  # singular values below this share of the largest are rounding of float32 data


class FittedSettings(ModelSettings):
    """Base of the settings of families that are fitted in one pass; they go with `optimizer: {name: fit}`."""

    fitted: ClassVar[bool] = True


class ReducedSettings(FittedSettings):
    """Settings of regressions between reduced inputs and reduced targets.

    Arguments:
        modes: Number r of modes of the targets, at most one less than training samples; None keeps the targets as they
            are.
        input_modes: The same for the inputs.
        samples: Most training samples to fit to. Of more, every second, third, ... is taken, in the order of the file.
        memory_mb: Most megabytes for training samples and the matrices between them.
        increments: Predict the change of every target from the latest input of the same quantity, for time steppers:
            where little is learned, the prediction is then persistence instead of the mean.
    """

    modes: int | None = Field(None, ge=1)
    input_modes: int | None = Field(None, ge=1)
    samples: int = Field(2000, ge=2)
    memory_mb: int = Field(1024, ge=1)
    increments: bool = False


class FittedNetwork(Separable):
    """Base of fitted networks: (B, C, *input_grid) -> (B, M, *S). They have no head to solve for.

    Arguments:
        shapes: Shapes of inputs and targets.
        arrays: Name of every fitted array and one letter per axis. Arrays that share a letter share that size, `i` is
            the size of an input, `o` that of a target; all other sizes follow from the data.
    """

    def __init__(self, shapes: Shapes, arrays: Mapping[str, str]) -> None:
        super().__init__(nn.Identity(), cast(Any, nn.Identity()))
        self.shapes, self.arrays = shapes, dict(arrays)
        self.sizes = {"i": shapes.input_size, "o": shapes.outputs * shapes.points}
        self.samples = nn.Parameter(torch.zeros((), dtype=torch.float64), requires_grad=False)
        for name, axes in arrays.items():
            shape = [self.sizes.get(axis, 0) for axis in axes]
            self.register_parameter(name, nn.Parameter(torch.zeros(shape, dtype=torch.float64), requires_grad=False))

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Predict targets (B, M, *S) from inputs (B, C, *input_grid)."""

    @abstractmethod
    def fit(self, batches: Batches) -> None:
        """Fit the arrays to the training data, in one or a few passes over them."""

    def starts_from(self, increments: bool) -> list[int]:
        """Return the input channels that predictions start from: the latest ones of the targets, or none.

        Raises:
            ConfigError: Increments are asked for, and there are none.
        """
        if increments and not (self.shapes.latest and self.shapes.input_grid == self.shapes.grid):
            raise ConfigError(
                "model.increments is for time steppers: every target must be an input at an earlier time; leave it out"
            )
        return list(self.shapes.latest) if increments else []

    def start_of(self, inputs: Tensor, channels: Sequence[int]) -> Tensor | float:
        """Return the channels that predictions start from as vectors (B, o); zero where there are none.

        Arguments:
            inputs: With shape (B, C, *input_grid), or as vectors (B, i).
            channels: Their positions.
        """
        if not channels:
            return 0.0
        fields = inputs.flatten(1).unflatten(1, (self.shapes.inputs, -1))
        return fields[:, list(channels)].flatten(1).double()

    @torch.no_grad()
    def assign(self, samples: int, **arrays: Any) -> None:
        """Set the number of training samples and fitted arrays."""
        for name, array in {"samples": samples, **arrays}.items():
            value = torch.as_tensor(array, dtype=torch.float64).to(self.samples.device)
            setattr(self, name, nn.Parameter(value.contiguous(), requires_grad=False))

    def data_shapes(self, given: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return the shapes that arrays must have next to those given, where the first with a letter decides."""
        sizes = dict(self.sizes)
        for name, axes in self.arrays.items():
            if len(given.get(name, ())) == len(axes):
                sizes = dict(zip(axes, given[name], strict=True)) | sizes
        return {name: tuple(sizes.get(axis, 0) for axis in axes) for name, axes in self.arrays.items()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take the sizes of fitted arrays from a checkpoint before it is loaded."""
        for name in self.arrays:
            if prefix + name in state_dict:
                self.assign(0, **{name: torch.empty_like(state_dict[prefix + name])})
        super()._load_from_state_dict(state_dict, prefix, *args)


def fit_network(settings: FittedSettings, network: FittedNetwork, batches: Batches) -> None:
    """Fit a network to the training data: what fitted families register as `prepare`."""
    network.fit(batches)


@dataclass(frozen=True)
class Samples:
    """Training samples in normalised units, in float64 on the CPU.

    Arguments:
        inputs: Inputs as vectors, with shape (n, i).
        targets: Targets as vectors, with shape (n, o).
        simulation: Number of the simulation of each sample, with shape (n,).
    """

    inputs: Tensor
    targets: Tensor
    simulation: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


def gather_samples(batches: Iterable[Batch], most: int, memory_mb: int, matrices: int = 2) -> Samples:
    """Hold at most `most` samples of a pass in memory: all of them, or every second, third, ... in order.

    Arguments:
        batches: One pass over the training data.
        most: Most samples; where there are more, at least half as many are kept.
        memory_mb: Most megabytes for the samples and for matrices between them.
        matrices: Number of matrices of n x n numbers that the fit will hold.

    Raises:
        ConfigError: They need more memory.
        DataError: There are fewer than two samples.
    """
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    simulations: list[Tensor] = []
    position, stride = 0, 1
    for batch in batches:
        kept = torch.arange(-position % stride, len(batch), stride)
        inputs += map(Tensor.double, batch.inputs.flatten(1).cpu()[kept].unbind())
        targets += map(Tensor.double, batch.targets.flatten(1).cpu()[kept].unbind())
        simulations += batch.sample[kept].unbind()
        position += len(batch)
        while len(inputs) > most:
            inputs, targets, simulations, stride = inputs[::2], targets[::2], simulations[::2], 2 * stride
        if inputs:
            numbers = len(inputs) * (len(inputs[0]) + len(targets[0]) + matrices * len(inputs))
            if 8 * numbers > memory_mb * 2**20:
                raise ConfigError(
                    f"model.memory_mb: {len(inputs)} training samples of {len(inputs[0])} inputs and {len(targets[0])} "
                    f"targets need {8 * numbers / 2**20:.0f} MB, the limit is {memory_mb}; raise it, or lower "
                    "model.samples"
                )
    if len(inputs) < 2:
        raise DataError(f"a fit needs at least 2 training samples, the data have {len(inputs)}")
    return Samples(torch.stack(inputs), torch.stack(targets), torch.stack(simulations))


class ReducedNetwork(FittedNetwork):
    """A regression between reduced inputs (B, d) and coefficients of targets (B, r).

    Arguments:
        settings: Numbers of modes.
        shapes: Shapes of inputs and targets; fields are taken as vectors.
    """

    own: ClassVar[Mapping[str, str]]  # arrays of the regression; d and r are the reduced sizes
    input_mean: Tensor
    input_modes: Tensor
    input_weight: Tensor
    mean: Tensor
    modes: Tensor
    left_out: Tensor

    def __init__(self, settings: ReducedSettings, shapes: Shapes) -> None:
        of_inputs = {"input_weight": "i"}
        if settings.input_modes is not None:
            of_inputs = {"input_mean": "i", "input_modes": "id"}
        of_targets = {"mean": "o"} if settings.modes is None else {"mean": "o", "modes": "or", "left_out": "o"}
        super().__init__(shapes, {**of_inputs, **of_targets, **self.own})
        self.settings = settings
        self.starts = self.starts_from(settings.increments)
        self.reduces_inputs, self.reduces_targets = settings.input_modes is not None, settings.modes is not None
        self.sizes |= {} if self.reduces_inputs else {"d": self.sizes["i"]}
        self.sizes |= {} if self.reduces_targets else {"r": self.sizes["o"]}

    @abstractmethod
    def regression(self, x: Tensor) -> Tensor:
        """Map reduced inputs (B, d) to coefficients (B, r), in float64."""

    def reduced(self, inputs: Tensor) -> Tensor:
        """Reduce inputs (B, C, *input_grid) to (B, d), in float64."""
        x = inputs.flatten(1).double()
        return (x - self.input_mean) @ self.input_modes if self.reduces_inputs else x * self.input_weight

    def forward(self, inputs: Tensor) -> Tensor:
        c = self.regression(self.reduced(inputs))
        u = c @ self.modes.mT + self.mean if self.reduces_targets else c + self.mean
        u = u + self.start_of(inputs, self.starts)
        return u.unflatten(1, (self.shapes.outputs, *self.shapes.grid)).to(inputs.dtype)

    @torch.no_grad()
    def reduce(self, batches: Batches, matrices: int = 2) -> tuple[Tensor, Tensor, Tensor]:
        """Find the modes of the training samples.

        Arguments:
            batches: Starts a pass over the training data.
            matrices: Number of matrices of n x n numbers that the regression will hold.

        Returns:
            Reduced inputs (n, d), coefficients (n, r) and the number of each sample's simulation (n,).

        Raises:
            ConfigError: They need more memory than `memory_mb`.
            DataError: There are fewer than two samples.
        """
        settings = self.settings
        samples = gather_samples(batches(), settings.samples, settings.memory_mb, matrices)
        n, targets = len(samples), samples.targets - self.start_of(samples.inputs, self.starts)
        if settings.input_modes is not None:
            mean, vectors, _ = _modes(samples.inputs, settings.input_modes)
            self.assign(n, input_mean=mean, input_modes=vectors)
        else:
            deviation = samples.inputs.std(0, correction=0)
            self.assign(n, input_weight=(deviation >= CONSTANT * deviation.max()) & (deviation > 0))
        x = self.reduced(samples.inputs.to(self.samples.device)).cpu()
        if settings.modes is None:
            mean = targets.mean(0)
            self.assign(n, mean=mean)
            return x, targets - mean, samples.simulation
        mean, vectors, left_out = _modes(targets, settings.modes)
        self.assign(n, mean=mean, modes=vectors, left_out=left_out)
        return x, (targets - mean) @ vectors, samples.simulation


def _modes(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (m,), leading modes (m, r) of rows (n, m), and the variance outside them (m,).

    There are fewer modes than asked for where the rows have a smaller rank.
    """
    mean = rows.mean(0)
    U, S, V = torch.linalg.svd(rows - mean, full_matrices=False)
    rank = max(1, min(count, int((NOISE * S[0] < S).sum())))
    rest = (U[:, rank:] * S[rank:]) @ V[rank:]
    return mean, V[:rank].mT, rest.square().mean(0)
