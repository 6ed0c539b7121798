"""Baselines that any surrogate has to beat: the training mean, the nearest training sample, persistence."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from surrogate.errors import ConfigError, DataError
from surrogate.models.layers.fitted import FittedNetwork, FittedSettings, fit_network, gather_samples
from surrogate.models.registry import Batches, Shapes, register

__all__ = ["MeanSettings", "NearestSettings", "PersistenceSettings", "mean", "nearest", "persistence"]


class MeanSettings(FittedSettings):
    """Settings of the mean of the training targets."""

    family: Literal["mean"] = "mean"


class NearestSettings(FittedSettings):
    """Settings of the nearest training sample.

    Arguments:
        samples: Most training samples to keep. Of more, every second, third, ... is taken, in the order of the file.
        memory_mb: Most megabytes for them.
    """

    family: Literal["nearest"] = "nearest"
    samples: int = Field(10_000, ge=2)
    memory_mb: int = Field(1024, ge=1)


class PersistenceSettings(FittedSettings):
    """Settings of persistence, which has none."""

    family: Literal["persistence"] = "persistence"
    physical = True


class _Mean(FittedNetwork):
    """The mean of the training targets for every input."""

    mean: Tensor

    def __init__(self, shapes: Shapes) -> None:
        super().__init__(shapes, {"mean": "o"})

    def forward(self, inputs: Tensor) -> Tensor:
        field = self.mean.view(self.shapes.outputs, *self.shapes.grid).to(inputs.dtype)
        return field.expand(inputs.shape[0], *field.shape)

    def fit(self, batches: Batches) -> None:
        """Average the training targets, point by point, in one pass without holding them."""
        total, count = torch.zeros(self.sizes["o"], dtype=torch.float64), 0
        for batch in batches():
            total += batch.targets.flatten(1).double().sum(0).cpu()
            count += len(batch)
        if not count:
            raise DataError("there are no training samples to average")
        self.assign(count, mean=total / count)


class _Nearest(FittedNetwork):
    """The targets of the training sample with the nearest inputs, in normalised units."""

    inputs: Tensor
    targets: Tensor

    def __init__(self, settings: NearestSettings, shapes: Shapes) -> None:
        super().__init__(shapes, {"inputs": "ni", "targets": "no"})
        self.settings = settings

    def forward(self, inputs: Tensor) -> Tensor:
        y = inputs.flatten(1).double()
        distances = torch.cdist(y, self.inputs, compute_mode="donot_use_mm_for_euclid_dist")
        fields = self.targets[distances.argmin(1)]
        return fields.unflatten(1, (self.shapes.outputs, *self.shapes.grid)).to(inputs.dtype)

    def fit(self, batches: Batches) -> None:
        """Keep the training samples."""
        samples = gather_samples(batches(), self.settings.samples, self.settings.memory_mb, matrices=0)
        self.assign(len(samples), inputs=samples.inputs, targets=samples.targets)


class _Persistence(FittedNetwork):
    """The latest input of the same quantity."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__(shapes, {})
        self.latest = list(shapes.latest)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, self.latest]

    def fit(self, batches: Batches) -> None:
        """Do nothing: persistence has nothing to fit."""


@register(MeanSettings, prepare=fit_network)
def mean(settings: MeanSettings, shapes: Shapes) -> FittedNetwork:
    r"""Build the constant prediction :math:`u = \bar u`, the mean of the training targets.

    Arguments:
        settings: There are none.
        shapes: Shapes of inputs and targets.
    """
    return _Mean(shapes)


@register(NearestSettings, prepare=fit_network)
def nearest(settings: NearestSettings, shapes: Shapes) -> FittedNetwork:
    r"""Build the prediction :math:`u(y) = u_j`, :math:`j = \operatorname{argmin}_j \|y - y_j\|`, over training samples.

    Arguments:
        settings: Number of samples.
        shapes: Shapes of inputs and targets; fields are taken as vectors.
    """
    return _Nearest(settings, shapes)


@register(PersistenceSettings, prepare=fit_network)
def persistence(settings: PersistenceSettings, shapes: Shapes) -> FittedNetwork:
    r"""Build the prediction :math:`u(t + \Delta t) = u(t)`, in physical units.

    Arguments:
        settings: There are none.
        shapes: Shapes of inputs and targets.

    Raises:
        ConfigError: Not every target is an input at an earlier time.
    """
    if not shapes.latest:
        raise ConfigError(
            "the family persistence predicts time steppers: every target must be an input at an earlier time; choose "
            "mean or nearest for other data"
        )
    return _Persistence(shapes)
