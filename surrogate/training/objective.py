"""The objective of a step: the loss of the network on a batch, in a given precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.experiment.settings import TrainingSettings
from surrogate.models.rollout import pushed
from surrogate.models.separable import Separable
from surrogate.models.surrogate import Surrogate

__all__ = ["Objective", "samples_of"]

SMALLEST = 1e-6  # norm of a target below which its relative error is no longer relative


@dataclass(frozen=True, eq=False)
class Objective:
    """Loss, precision and roll-out of a run.

    Arguments:
        loss: `mse` or `relative_l2`.
        offset: Mean of the targets in units of their deviation, with shape (M,) or (M, *S).
        precision: `float32` or `bf16`.
        rollout: Network steps that are unrolled.
        every: Whether the loss is on all of them.
        masked: Whether targets may be NaN where there is no value.
        position: Input channel that is NaN at points that a sample does not have; None where all have the same ones.
    """

    loss: str
    offset: Tensor
    precision: str
    rollout: int
    every: bool
    masked: bool = False
    position: int | None = None

    @classmethod
    def of(cls, settings: TrainingSettings, surrogate: Surrogate) -> Objective:
        """Build the objective of the settings for a surrogate on its device."""
        offset = surrogate.targets.mean / surrogate.targets.scale
        masked = any(surrogate.signature.may_miss(surrogate.signature.targets))
        every = settings.rollout_loss != "last"
        shapes = surrogate.signature.shapes
        position = shapes.positions[0] if shapes.ragged else None
        return cls(settings.loss, offset, settings.precision, settings.rollout, every, masked, position)

    def batch(self, surrogate: Surrogate, batch: Batch) -> Batch:
        """Return the batch in the units of the network, its inputs rolled out where `rollout` is above one."""
        if self.rollout > 1 and len(batch):
            batch = pushed(surrogate, batch, self.rollout, every=self.every)
        return surrogate.normalized(batch)

    def features(self, network: Separable, inputs: Tensor) -> Tensor:
        """Compute features; they are returned in single precision whatever they were computed in."""
        if self.precision == "float32":
            return network.features(inputs)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            z = network.features(inputs)
        return z.float()

    def value(self, output: Tensor, targets: Tensor) -> Tensor:
        r"""Compute the loss of a batch, a mean over its samples.

        Mean squared error; or, with differences in units of each channel's deviation s and the targets' mean m added
        back, :math:`\frac1B \sum_b \|y_b - t_b\| / \|t_b + m / s\|`: for one channel the relative error in physical
        units. A missing target counts as met, and not at all in the norm of its sample.
        """
        truth, targets = targets, self.completed(output, targets)
        if self.loss == "mse":
            return nn.functional.mse_loss(output, targets)
        offset = self.offset.view(-1, *[1] * (targets.ndim - 2)) if self.offset.ndim == 1 else self.offset
        size = (truth + offset).nan_to_num(nan=0.0).flatten(1).norm(dim=1).clamp_min(SMALLEST)
        return ((output - targets).flatten(1).norm(dim=1) / size).mean()

    def completed(self, output: Tensor, targets: Tensor) -> Tensor:
        """Return targets in which the output of the network, as a constant, replaces missing ones."""
        return torch.where(targets.isnan(), output.detach(), targets) if self.masked else targets

    def whole(self, network: Separable, batch: Batch) -> Batch:
        """Return a batch with completed targets, for solving for the head.

        The least-squares problem with gaps is not one problem but one for each output; filled in with what the network
        predicts, it is one step of expectation maximisation towards the same solution, and never away from it.
        """
        if not self.masked:
            return batch
        with torch.no_grad():
            return replace(batch, targets=self.for_head(network(batch.inputs), batch))

    def for_head(self, output: Tensor, batch: Batch) -> Tensor:
        """Return what the head is solved for: missing targets are replaced by the present output of the network.

        At points that a sample does not have they stay NaN: a `PointHead` gives those no row.
        """
        targets = self.completed(output, batch.targets)
        if self.position is None:
            return targets
        return targets.masked_fill(batch.inputs[:, self.position].isnan()[:, None], torch.nan)

    def of_batch(self, network: Separable, batch: Batch) -> Tensor:
        """Compute the loss of the network on a batch."""
        if self.precision == "float32":
            return self.value(network(batch.inputs), batch.targets)
        return self.value(network.head(self.features(network, batch.inputs)), batch.targets)


def samples_of(batches: Sequence[Batch]) -> int:
    """Count the samples of several batches."""
    return sum(map(len, batches))
