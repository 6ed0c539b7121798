"""Base classes of all methods: an optimizer, how it obtains a gradient, how it changes the parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from surrogate.batch import Batch
from surrogate.models.separable import Separable
from surrogate.training.objective import Objective, samples_of

__all__ = ["GradientMethod", "Method", "descend"]


class Method(ABC):
    """An optimizer and its step. All batches of one step are passed at once, in normalised units.

    .. code-block:: python

        loss = method.backward(network, batches)  # the gradient is on the parameters
        method.update(network, batches)           # new parameters

    Arguments:
        optimizer: The learning-rate schedule changes its groups; checkpoints keep its state.
        objective: Loss and precision.

    Attributes:
        epochs: Number of epochs after which nothing changes any more; None where there is no such number.
    """

    epochs: int | None = None

    def __init__(self, optimizer: Optimizer, objective: Objective) -> None:
        self.optimizer, self.objective = optimizer, objective

    def prepare(self, network: Separable, batches: Iterable[Batch]) -> None:  # noqa: B027 (most need nothing)
        """Take what the method needs from one pass over the training data, before the first step."""

    def begin(self, steps: int) -> None:  # noqa: B027 (most need nothing)
        """Set what depends on the number of steps of the whole run."""

    @abstractmethod
    def backward(self, network: Separable, batches: Sequence[Batch]) -> Tensor:
        """Return the mean loss over the samples, with shape (), and leave its gradient on the parameters.

        There is one backward pass for each batch that has samples, since gradients are averaged over the ranks while
        the last one runs.

        Raises:
            NumericalError: The step cannot be taken; parameters are unchanged.
        """

    def update(self, network: Separable, batches: Sequence[Batch]) -> None:
        """Change the parameters, after `backward` with the same batches."""
        self.optimizer.step()

    def diagnostics(self) -> dict[str, float]:
        """Return numbers of the last step for the log."""
        return {}


class GradientMethod(Method):
    """A gradient step: one backward pass for each batch, then a step of the optimizer."""

    def backward(self, network: Separable, batches: Sequence[Batch]) -> Tensor:
        """Return the mean loss and leave its gradient on the parameters."""
        self.optimizer.zero_grad()
        return descend(network, batches, self.objective)


def descend(network: Separable, batches: Sequence[Batch], objective: Objective) -> Tensor:
    """Return the mean loss over the samples of all batches and add its gradient to that of the parameters."""
    if len(batches) == 1 and len(batches[0]):
        loss = objective.of_batch(network, batches[0])
        loss.backward()
        return loss.detach()
    samples, total = samples_of(batches), torch.zeros((), device=network.head.weight.device)
    for batch in filter(len, batches):
        loss = objective.of_batch(network, batch)
        if len(batch) != samples:
            loss = loss * (len(batch) / samples)
        loss.backward()
        total = total + loss.detach()
    return total
