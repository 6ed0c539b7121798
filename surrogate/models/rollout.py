"""Roll-out of a time stepper: predictions become inputs again, steered by the names of the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import ConfigError, DataError
from surrogate.models.folds import FoldMean
from surrogate.models.signature import variable_and_step
from surrogate.models.surrogate import Surrogate

__all__ = ["Feedback", "pushed", "rollout"]


@dataclass(frozen=True)
class Feedback:
    """Map from inputs and predictions of one step to the inputs of the next.

    Arguments:
        sources: For each input channel its position among the concatenated channels of (inputs, prediction).
        advance: Time steps of the file in one network step.
    """

    sources: tuple[int, ...]
    advance: int

    @classmethod
    def of(cls, inputs: Sequence[str], targets: Sequence[str]) -> Feedback:
        """Derive the feedback from the names of channels such as `u[t+0]`; channels without a time stay constant.

        Raises:
            ConfigError: An input that changes in time is not predicted at the times needed.
        """
        predicted = [_moving(name) for name in targets]
        advance = max((offset for _, offset in filter(None, predicted)), default=0)
        available = {key: index for index, key in enumerate(map(_moving, inputs)) if key}
        available |= {key: len(inputs) + index for index, key in enumerate(predicted) if key}
        sources = []
        for index, name in enumerate(inputs):
            current = _moving(name)
            wanted = current and (current[0], current[1] + advance)
            if wanted is not None and (advance < 1 or wanted not in available):
                raise ConfigError(
                    f"no roll-out: input '{name}' needs {wanted[0]}[t{wanted[1]:+d}] next, the targets are "
                    f"{', '.join(targets)}; inputs that change in time must be the targets at later times"
                )
            sources.append(index if wanted is None else available[wanted])
        if advance < 1 or not any(map(_moving, inputs)):
            raise ConfigError(
                f"no roll-out: inputs {', '.join(inputs)} and targets {', '.join(targets)} are no step in time; "
                "choose a variable with a time axis as input and target, and data.window.steps_out of 1 or more"
            )
        return cls(tuple(sources), advance)

    def __call__(self, inputs: Tensor, prediction: Tensor) -> Tensor:
        """Return the inputs of the next step, with shape (B, C, *S).

        Arguments:
            inputs: Inputs of this step, with shape (B, C, *S).
            prediction: Prediction of this step, with shape (B, M, *S), in the same units.
        """
        return torch.cat([inputs, prediction], dim=1)[:, list(self.sources)]


def _moving(channel: str) -> tuple[str, int] | None:
    """Return variable and time of a channel; None where it does not change in time."""
    name, step = variable_and_step(channel)
    return None if step is None else (name, step)


def rollout(surrogate: Surrogate | FoldMean, inputs: Tensor, steps: int) -> Tensor:
    """Return the predictions of successive network steps, each from those before, in physical units.

    Arguments:
        surrogate: A time stepper; its training or evaluation mode is not changed.
        inputs: First inputs, with shape (B, C, *S).
        steps: Number of network steps; each advances by `data.window.steps_out` time steps.

    Returns:
        Predictions with shape (B, steps, M, *S).

    Raises:
        ConfigError: The surrogate is no time stepper.
    """
    feedback = Feedback.of(surrogate.signature.inputs, surrogate.signature.targets)
    predictions = []
    for _ in range(steps):
        predictions.append(surrogate(inputs))
        inputs = feedback(inputs, predictions[-1])
    return torch.stack(predictions, dim=1)


@torch.no_grad()
def pushed(surrogate: Surrogate, batch: Batch, steps: int, *, every: bool = False) -> Batch:
    """Return a batch of one network step whose inputs are the surrogate's own predictions: the push-forward trick.

    The network is rolled out without gradient and in evaluation mode; the remaining step, which is trained on, goes
    from its own prediction to the true targets.

    Arguments:
        surrogate: A time stepper.
        batch: Inputs (B, C, *S) and targets of all steps (B, steps M, *S), in physical units.
        steps: Total number of network steps.
        every: Return all steps, as a batch of B * steps samples, instead of the last one.

    Raises:
        ConfigError: The surrogate is no time stepper.
        DataError: The targets do not have that many steps.

    Source: Brandstetter, Worrall, Welling, *Message passing neural PDE solvers*, ICLR 2022, arXiv 2202.03376.
    """
    signature = surrogate.signature
    feedback, M = Feedback.of(signature.inputs, signature.targets), len(signature.targets)
    if batch.targets.shape[1] != steps * M:
        raise DataError(f"targets have {batch.targets.shape[1]} channels, {steps} steps of {M} channels are needed")
    inputs = [batch.inputs]
    modes = [(module, module.training) for module in surrogate.modules()]
    surrogate.eval()
    try:
        for _ in range(steps - 1):
            inputs.append(feedback(inputs[-1], surrogate(inputs[-1])))
    finally:
        for module, mode in modes:
            module.training = mode
    targets = batch.targets.unflatten(1, (steps, M))
    if not every:
        return replace(batch, inputs=inputs[-1], targets=targets[:, -1])
    return Batch(
        torch.cat(inputs),
        targets.transpose(0, 1).flatten(0, 1),
        batch.sample.repeat(steps),
        batch.time.repeat(steps),
        batch.masked,
    )
