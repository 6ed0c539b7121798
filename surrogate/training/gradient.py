"""The gradient of one step over all ranks, of which nothing stays where it is not finite."""

from __future__ import annotations

import hashlib
import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import NumericalError
from surrogate.models.separable import Separable
from surrogate.training.methods import Method
from surrogate.training.objective import samples_of
from surrogate.training.ranks import Ranks

__all__ = ["Found", "Gradient", "seed_step"]


def seed_step(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Let the random numbers of a step be a function of seed, step and rank alone, so that none need be kept."""
    place = f"{seed} {step} {rank}"
    number = int.from_bytes(hashlib.blake2b(place.encode(), digest_size=8).digest())  # quicker than a SeedSequence
    torch.default_generator.manual_seed(number)
    np.random.seed(number % 2**32)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


@dataclass(frozen=True)
class Found:
    """What a step came to, alike on all ranks.

    Arguments:
        loss: Mean over the samples.
        samples: Their number.
        signal: A signal that reached any rank; 0 where none did, or this is the only one.
        cause: Why the step cannot be taken; empty where it can.
    """

    loss: float
    samples: int
    signal: int
    cause: str


class Gradient:
    """Leaves the gradient of a step on the parameters of a network.

    Arguments:
        network: The network.
        method: What computes loss and gradient.
        ranks: The processes that share every batch.
        clip_norm: Largest norm of the gradient; a larger one is scaled down.
    """

    def __init__(self, network: Separable, method: Method, ranks: Ranks, clip_norm: float | None = None) -> None:
        self.network, self.method, self.ranks, self.clip_norm = network, method, ranks, clip_norm
        # listed once: walking through the modules takes longer than one may think
        self._parameters = list(network.parameters())
        self._owners = [module for module in network.modules() if any(True for _ in module.buffers(False))]

    def backward(self, batches: Sequence[Batch], signal_number: int = 0) -> Found:
        """Loss and gradient over all ranks; where they are not finite, buffers are as before.

        Arguments:
            batches: This rank's share of the batches of the step, in normalised units.
            signal_number: A signal that reached this rank, or 0.
        """
        buffers = self._buffers
        before = [buffer.clone() for buffer in buffers]  # BatchNorm averages even a batch that is skipped
        try:
            loss, cause = float(self.method.backward(self.network, batches)), ""
        except NumericalError as error:
            loss, cause = math.nan, str(error)
        loss, samples, signalled = self._averaged(loss, samples_of(batches), signal_number)
        if not cause and not math.isfinite(loss + self._clipped_norm()):
            cause = "loss or gradient not finite"
        if cause:
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        return Found(loss, samples, signalled, cause)

    @property
    def _buffers(self) -> list[Tensor]:
        return [buffer for module in self._owners for buffer in module.buffers(recurse=False)]

    def _averaged(self, loss: float, samples: int, signal_number: int) -> tuple[float, int, int]:
        """Loss, samples and signal over all ranks; gradients and BatchNorm's averages become their means."""
        if self.ranks.world == 1:
            return loss, samples, 0
        for parameter in self._parameters:
            if parameter.requires_grad and parameter.grad is None:  # a rank without a sample
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        averages = [buffer for buffer in self._buffers if buffer.is_floating_point()]
        loss_sum, total, signals = self.ranks.average(
            [*gradients, *averages], samples, [loss * samples if samples else 0.0, samples, signal_number]
        )
        return loss_sum / total, int(total), (signal_number or signal.SIGTERM) if signals else 0

    def _clipped_norm(self) -> float:
        """Norm of the gradient, which is scaled down to `clip_norm`."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if not gradients:
            return 0.0
        norm = float(torch.stack(torch._foreach_norm(gradients)).norm())
        if self.clip_norm is not None and norm > self.clip_norm:
            torch._foreach_mul_(gradients, self.clip_norm / norm)
        return norm
