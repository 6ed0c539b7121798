"""What a step minimises: the loss of the network on a batch, in the precision asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.models.rollout import pushed
from surrogate.models.separable import Separable
from surrogate.models.surrogate import Surrogate
from surrogate.training.settings import TrainingSettings

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
    """

    loss: str
    offset: Tensor
    precision: str
    rollout: int
    every: bool

    @classmethod
    def of(cls, settings: TrainingSettings, surrogate: Surrogate) -> Objective:
        """The objective of the settings for a surrogate on its device."""
        offset = surrogate.targets.mean / surrogate.targets.scale
        return cls(settings.loss, offset, settings.precision, settings.rollout, settings.rollout_loss == "all")

    def batch(self, surrogate: Surrogate, batch: Batch) -> Batch:
        """The batch in the units of the network, its inputs rolled out where asked for."""
        if self.rollout > 1 and len(batch):
            batch = pushed(surrogate, batch, self.rollout, every=self.every)
        return surrogate.normalized(batch)

    def features(self, network: Separable, inputs: Tensor) -> Tensor:
        """Features in single precision, whatever precision they were computed in."""
        if self.precision == "float32":
            return network.features(inputs)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            z = network.features(inputs)
        return z.float()

    def value(self, output: Tensor, targets: Tensor) -> Tensor:
        r"""The loss of a batch, a mean over its samples.

        Mean squared error; or, with differences in units of each channel's deviation s and the targets' mean m added
        back, :math:`\frac1B \sum_b \|y_b - t_b\| / \|t_b + m / s\|`: for one channel the relative error in physical
        units.
        """
        if self.loss == "mse":
            return nn.functional.mse_loss(output, targets)
        offset = self.offset.view(-1, *[1] * (targets.ndim - 2)) if self.offset.ndim == 1 else self.offset
        size = (targets + offset).flatten(1).norm(dim=1).clamp_min(SMALLEST)
        return ((output - targets).flatten(1).norm(dim=1) / size).mean()

    def of_batch(self, network: Separable, batch: Batch) -> Tensor:
        """The loss of the network on a batch."""
        return self.value(network.head(self.features(network, batch.inputs)), batch.targets)


def samples_of(batches: Sequence[Batch]) -> int:
    """Number of samples in several batches."""
    return sum(map(len, batches))
