"""Roll a surrogate out over the simulations of a data set: simulations in groups, time in pieces.

Memory is bounded by the pieces, not by the number of simulations or steps: only the state of a group is passed from one
piece to the next. Every roll-out starts at the first step of its simulation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.data.formats.ragged import lengths_of
from surrogate.errors import ConfigError
from surrogate.evaluation.rollout.scores import channels_of
from surrogate.evaluation.source import SampleSource
from surrogate.models.rollout import Feedback
from surrogate.models.signature import variable_and_step
from surrogate.models.surrogate import Surrogate

__all__ = ["Piece", "Stepping", "plan_stepping"]

PIECE_BYTES = 64_000_000
GROUP = 64  # simulations that are stepped together


@dataclass(frozen=True)
class Piece:
    """Successive steps of the roll-outs of `B` simulations.

    Arguments:
        prediction: With shape (B, k, M, *S).
        truth: With shape (B, k, M, *S).
        start: The last state given, with shape (B, M, *S); NaN for a variable that is no input.
        sample: Positions of the simulations, with shape (B,).
        offsets: Steps of the file from the last one given, k of them.
    """

    prediction: Tensor
    truth: Tensor
    start: Tensor
    sample: Tensor
    offsets: tuple[int, ...]


@dataclass(frozen=True)
class Stepping:
    """Plan of roll-outs.

    Arguments:
        surrogate: The time stepper.
        source: The simulations.
        feedback: Map from predictions to the next inputs.
        variables: Names of the M variables.
        steps: Network steps.
        samples: Positions of the simulations that are long enough.
        left_out: Number of simulations that are too short for a single step.
    """

    surrogate: Surrogate
    source: SampleSource
    feedback: Feedback
    variables: tuple[str, ...]
    steps: int
    samples: tuple[int, ...]
    left_out: int

    @property
    def offsets(self) -> tuple[int, ...]:
        """All scored steps, in steps of the file from the last one given."""
        _, within, _ = channels_of(self.surrogate.signature.targets)
        return tuple(self.feedback.advance * step + offset for step in range(self.steps) for offset in within)

    def groups(self, piece_bytes: int = PIECE_BYTES) -> list[tuple[int, ...]]:
        """Return the groups of simulations that are rolled out together."""
        size = min(GROUP, max(1, piece_bytes // self.source.bytes_of()))
        return [self.samples[first : first + size] for first in range(0, len(self.samples), size)]

    def pieces(self, samples: Sequence[int], piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        """Yield the roll-outs of a group, one piece of time after the other."""
        length = max(1, piece_bytes // (len(samples) * self.source.bytes_of()))
        state: Tensor | None = None
        start: Tensor | None = None
        for first in range(0, self.steps, length):
            steps = min(length, self.steps - first)
            batch, names = self.source.windows(samples, first * self.feedback.advance, steps=steps)
            order = torch.argsort(batch.sample)
            inputs, targets = batch.inputs[order], batch.targets[order]
            state = inputs if state is None else state
            start = self._start(inputs) if start is None else start
            prediction, state = self._advance(state, steps)
            truth, within = _steps_of(targets, names)
            offsets = tuple(first * self.feedback.advance + offset for offset in within)
            yield Piece(prediction, truth, start, batch.sample[order], offsets)

    @torch.no_grad()
    def _advance(self, state: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Take network steps: return predictions (B, k, M, *S) on the host, and the inputs of the next step."""
        device = next(self.surrogate.parameters()).device
        state = state.to(device)
        steps_made = []
        for _ in range(steps):
            prediction = self.surrogate(state)
            steps_made.append(_steps_of(prediction, self.surrogate.signature.targets)[0].cpu())
            state = self.feedback(state, prediction)
        return torch.cat(steps_made, dim=1), state

    def _start(self, inputs: Tensor) -> Tensor:
        names = self.surrogate.signature.inputs
        missing = torch.full_like(inputs[:, 0], torch.nan)
        last = [f"{name}[t+0]" for name in self.variables]
        return torch.stack([inputs[:, names.index(name)] if name in names else missing for name in last], dim=1)


def plan_stepping(surrogate: Surrogate, source: SampleSource, *, steps: int | None = None) -> Stepping | None:
    """Plan the roll-outs of a surrogate over simulations; None if it is no time stepper or none is long enough.

    Arguments:
        surrogate: The model, in evaluation mode.
        source: The simulations.
        steps: Most network steps; None takes as many as the shortest simulation that has any.
    """
    signature = surrogate.signature
    moving = [variable_and_step(name)[1] is not None for name in signature.targets]
    window = source.stream.window
    if window is None or not all(moving):
        return None
    try:
        feedback = Feedback.of(signature.inputs, signature.targets)
    except ConfigError:
        return None
    possible = (lengths_of(source.dataset) - window.extent) // feedback.advance + 1
    enough = np.flatnonzero(possible >= 1)
    if not len(enough) or steps == 0:
        return None
    most = int(possible[enough].min())
    return Stepping(
        surrogate=surrogate,
        source=source,
        feedback=feedback,
        variables=tuple(channels_of(signature.targets)[0]),
        steps=most if steps is None else min(steps, most),
        samples=tuple(enough.tolist()),
        left_out=len(possible) - len(enough),
    )


def _steps_of(channels: Tensor, names: Sequence[str]) -> tuple[Tensor, list[int]]:
    """Arrange channels (B, k M, *S) by step, (B, k, M, *S); return them and the offsets of the k steps."""
    variables, offsets, places = channels_of(names)
    flat = torch.from_numpy(places.ravel()).to(channels.device)
    return channels[:, flat].unflatten(1, (len(offsets), len(variables))), offsets
