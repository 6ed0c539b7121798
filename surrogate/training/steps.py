"""Optimizers by name, and the step that goes with each, so that the loop need not tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim import Optimizer

from surrogate.batch import Batch
from surrogate.config import Settings
from surrogate.models.separable import Separable
from surrogate.optim import SlimTrain
from surrogate.slimtik import rule_of

__all__ = ["AdamSettings", "Method", "OptimizerSettings", "SgdSettings", "SlimTrainSettings", "build_method"]


class AdamSettings(Settings):
    """Adam on features and head alike."""

    name: Literal["adam"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)


class SgdSettings(Settings):
    """Stochastic gradient descent with momentum on features and head alike."""

    name: Literal["sgd"] = "sgd"
    learning_rate: float = Field(1e-2, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)


class SlimTrainSettings(Settings):
    """Adam on the features, the regularised least-squares solve on the head.

    Arguments:
        learning_rate: Learning rate of Adam.
        weight_decay: Weight decay of Adam.
        memory_depth: Number r of earlier batches whose Gram matrices are remembered.
        regularization: Start L0 of the running sum of all lambda.
        rule: What lambda minimises; `sdp` and `supre` need `noise_variance`.
        search: Among which lambda; `constant` takes L0 at every step, whatever the rule.
        noise_variance: Variance of the noise in the normalised targets.
        tau: Safety factor of `sdp`.
        lower_bound: Smallest value of the running sum.
    """

    name: Literal["slimtrain"] = "slimtrain"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    memory_depth: int = Field(5, ge=0)
    regularization: float = Field(0.05, gt=0)
    rule: Literal["sgcv", "sdp", "supre"] = "sgcv"
    search: Literal["half-sum", "bounded", "bounds", "constant"] = "half-sum"
    noise_variance: float | None = Field(None, gt=0)
    tau: float = Field(2.0, gt=0)
    lower_bound: float = Field(1e-7, gt=0)

    @model_validator(mode="after")
    def _noise(self) -> Self:
        rule_of(self.rule, noise_variance=self.noise_variance)
        return self


OptimizerSettings = Annotated[AdamSettings | SgdSettings | SlimTrainSettings, Field(discriminator="name")]


@dataclass(frozen=True)
class Method:
    """An optimizer and its step.

    Arguments:
        optimizer: What the schedule drives and the checkpoint keeps.
        backward: From (network, batch in normalised units) to the loss, leaving gradients on the parameters.
        diagnostics: Numbers of the last step for the log.
    """

    optimizer: Optimizer
    backward: Callable[[Separable, Batch], Tensor]
    diagnostics: Callable[[], dict[str, float]]


def build_method(settings: AdamSettings | SgdSettings | SlimTrainSettings, network: Separable) -> Method:
    """The optimizer of the settings over the parameters of a network."""
    match settings:
        case SlimTrainSettings():
            return _slimtrain(settings, network)
        case AdamSettings():
            return _gradient(_adam(network.parameters(), settings))
        case SgdSettings():
            momentum, decay = settings.momentum, settings.weight_decay
            sgd = torch.optim.SGD(network.parameters(), settings.learning_rate, momentum=momentum, weight_decay=decay)
            return _gradient(sgd)


def _adam(parameters: Iterable[nn.Parameter], settings: AdamSettings | SlimTrainSettings) -> Optimizer:
    return torch.optim.Adam(parameters, settings.learning_rate, weight_decay=settings.weight_decay)


def _gradient(optimizer: Optimizer) -> Method:
    def backward(network: Separable, batch: Batch) -> Tensor:
        loss = nn.functional.mse_loss(network(batch.inputs), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        return loss.detach()

    return Method(optimizer, backward, dict)


def _slimtrain(settings: SlimTrainSettings, network: Separable) -> Method:
    optimizer = SlimTrain(
        _adam(network.features.parameters(), settings),
        network.head,
        memory_depth=settings.memory_depth,
        regularization=settings.regularization,
        rule=rule_of(settings.rule, noise_variance=settings.noise_variance, tau=settings.tau),
        search=settings.search,
        lower_bound=settings.lower_bound,
    )

    def backward(network: Separable, batch: Batch) -> Tensor:
        z = network.features(batch.inputs)
        optimizer.solve(z.detach(), batch.targets)
        loss = nn.functional.mse_loss(network.head(z), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        return loss.detach()

    return Method(optimizer, backward, lambda: dict(optimizer.diagnostics))
