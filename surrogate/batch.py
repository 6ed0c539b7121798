"""A batch of samples, as streams yield it and training steps take it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Batch"]


@dataclass(frozen=True)
class Batch:
    """`B` samples of a stream.

    Arguments:
        inputs: Inputs, with shape (B, C, *S), or (B, C) for parameters alone.
        targets: Targets, with shape (B, M, *S) or (B, M).
        sample: Position of each sample's simulation in the data set of the stream, with shape (B,).
        time: Position of each sample's first input step, with shape (B,); zero where there is no time axis.
        masked: Targets that are missing are NaN.
    """

    inputs: Tensor
    targets: Tensor
    sample: Tensor
    time: Tensor
    masked: bool = False

    def __len__(self) -> int:
        return self.inputs.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Copy inputs and targets to `device`; the two position vectors stay on the host."""
        inputs = self.inputs.to(device, non_blocking=non_blocking)
        targets = self.targets.to(device, non_blocking=non_blocking)
        return Batch(inputs, targets, self.sample, self.time, self.masked)
