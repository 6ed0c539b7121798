"""Roll-out of a time stepper: predictions become inputs again, steered by the names of the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import ConfigError, DataError
from surrogate.models.signature import variable_and_step
from surrogate.models.surrogate import Surrogate

__all__ = ["Feedback", "pushed", "rollout"]


@dataclass(frozen=True)
class Feedback:
    """Where each input channel of the next step comes from.

    Arguments:
        sources: For each input channel its position among the channels of (inputs, prediction) put side by side.
        advance: Time steps of the file that a network step goes forward.
    """

    sources: tuple[int, ...]
    advance: int

    @classmethod
    def of(cls, inputs: Sequence[str], targets: Sequence[str]) -> Feedback:
        """The feedback between named channels such as `u[t+0]`; channels without a time stay as they are.

        Raises:
            ConfigError: An input that changes in time is not predicted at the times needed.
        """
        predicted = [_moving(name) for name in targets]
        advance = max((offset for _, offset in filter(None, predicted)), default=0)
        known = {found: index for index, found in enumerate(map(_moving, inputs)) if found}
        known |= {found: len(inputs) + index for index, found in enumerate(predicted) if found}
        sources = []
        for index, name in enumerate(inputs):
            found = _moving(name)
            wanted = found and (found[0], found[1] + advance)
            if wanted is not None and (advance < 1 or wanted not in known):
                raise ConfigError(
                    f"no roll-out: input '{name}' needs {wanted[0]}[t{wanted[1]:+d}] next, the targets are "
                    f"{', '.join(targets)}; inputs that change in time must be the targets at later times"
                )
            sources.append(index if wanted is None else known[wanted])
        if advance < 1 or not any(map(_moving, inputs)):
            raise ConfigError(
                f"no roll-out: inputs {', '.join(inputs)} and targets {', '.join(targets)} make no step in time; "
                "choose a variable with a time axis as input and target, and data.window.steps_out of 1 or more"
            )
        return cls(tuple(sources), advance)

    def __call__(self, inputs: Tensor, prediction: Tensor) -> Tensor:
        """The inputs of the next step, with shape (B, C, *S).

        Arguments:
            inputs: Inputs of this step, with shape (B, C, *S).
            prediction: Prediction of this step, with shape (B, M, *S), in the same units.
        """
        return torch.cat([inputs, prediction], dim=1)[:, list(self.sources)]


def _moving(channel: str) -> tuple[str, int] | None:
    """Variable and time of a channel; None where it does not change in time."""
    name, step = variable_and_step(channel)
    return None if step is None else (name, step)


def rollout(surrogate: Surrogate, inputs: Tensor, steps: int) -> Tensor:
    """Predictions of successive network steps, each from those before, in physical units.

    Arguments:
        surrogate: A time stepper; as it is, in training or evaluation mode.
        inputs: First inputs, with shape (B, C, *S).
        steps: Number of network steps; each goes forward by `data.window.steps_out` time steps.

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
    """A batch of one network step whose inputs are the surrogate's own predictions, as the push-forward trick has it.

    The network is rolled out without gradient and in evaluation mode; what is left to train on is the step from its own
    prediction to the truth.

    Arguments:
        surrogate: A time stepper.
        batch: Inputs (B, C, *S) and targets of all steps (B, steps M, *S), in physical units.
        steps: Network steps in all.
        every: Give all steps, as a batch of B * steps samples, instead of the last one.

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
