"""Linear map from inputs to targets, fitted by regularised least squares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from surrogate.errors import ConfigError
from surrogate.models.layers.fitted import FittedNetwork, FittedSettings, fit_network
from surrogate.models.registry import Batches, Shapes, register
from surrogate.slimtik import NormalEquations, tikhonov

__all__ = ["LinearSettings", "linear"]


class LinearSettings(FittedSettings):
    """Settings of the linear map.

    Arguments:
        regularization: Penalty of the weights per sample; None chooses it by generalised cross-validation.
        memory_mb: Most megabytes for the weights and the sums that they are computed from.
        increments: Predict the change of every target from the latest input of the same quantity, for time steppers:
            the penalty then pulls towards persistence instead of the mean.
    """

    family: Literal["linear"] = "linear"
    regularization: float | None = Field(None, ge=0)
    memory_mb: int = Field(1024, ge=1)
    increments: bool = False


class _Linear(FittedNetwork):
    """u = W' y + b."""

    weights: Tensor
    bias: Tensor

    def __init__(self, settings: LinearSettings, shapes: Shapes) -> None:
        i, o = shapes.input_size, shapes.outputs * shapes.points
        megabytes = 8 * ((i + 1) * (3 * i + 4 * o)) / 2**20
        if megabytes > settings.memory_mb:
            raise ConfigError(
                f"model.memory_mb: to fit a linear map from {i} to {o} numbers needs {megabytes:.0f} MB, the limit "
                f"is {settings.memory_mb}; raise it, or choose kernel_ridge with modes and input_modes"
            )
        super().__init__(shapes, {"weights": "io", "bias": "o"})
        self.settings = settings
        self.starts = self.starts_from(settings.increments)

    def forward(self, inputs: Tensor) -> Tensor:
        u = torch.addmm(self.bias, inputs.flatten(1).double(), self.weights) + self.start_of(inputs, self.starts)
        return u.unflatten(1, (self.shapes.outputs, *self.shapes.grid)).to(inputs.dtype)

    @torch.no_grad()
    def fit(self, batches: Batches) -> None:
        """Sum the normal equations over one pass, without holding the samples, and solve them."""

        def parts() -> Iterator[NormalEquations]:
            for batch in batches():
                y = batch.inputs.flatten(1).double()
                A = torch.cat([y, torch.ones(len(y), 1, dtype=y.dtype, device=y.device)], dim=1)
                changes = batch.targets.flatten(1).double() - self.start_of(batch.inputs, self.starts)
                yield NormalEquations.of(A, changes, len(y))

        total = sum(parts(), NormalEquations.zeros(self.sizes["i"] + 1, self.sizes["o"], self.samples.device))
        weights = tikhonov(total, regularization=self.settings.regularization).weights
        self.assign(total.samples, weights=weights[:-1], bias=weights[-1])


@register(LinearSettings, prepare=fit_network)
def linear(settings: LinearSettings, shapes: Shapes) -> FittedNetwork:
    r"""Build a linear map, the solution of a regularised least-squares problem over all training samples.

    .. math:: u(y) = W^\top y + b, \qquad \min_{W, b} \sum_j \|W^\top y_j + b - u_j\|^2 + n \alpha \|(W, b)\|^2

    Arguments:
        settings: Penalty and memory.
        shapes: Shapes of inputs and targets; fields are taken as vectors.

    Raises:
        ConfigError: The map is too large for `memory_mb`.
    """
    return _Linear(settings, shapes)
