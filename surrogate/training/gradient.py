"""Compute the gradient of one step over all ranks; a step that is not finite leaves no trace."""

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
from surrogate.training.buckets import Buckets
from surrogate.training.methods import Method
from surrogate.training.objective import samples_of
from surrogate.training.ranks import Ranks

__all__ = ["Gradient", "StepResult", "seed_step"]


def seed_step(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seed all generators from (seed, step, rank), so that checkpoints need no generator state."""
    digest = hashlib.blake2b(f"{seed} {step} {rank}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest)  # faster than numpy's SeedSequence
    torch.default_generator.manual_seed(number)
    np.random.seed(number % 2**32)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


@dataclass(frozen=True)
class StepResult:
    """Loss of one step over all ranks, and whether the step can be taken; the same on every rank.

    Arguments:
        loss: Mean over the samples.
        samples: Their number.
        signal: A stop signal that reached any rank; 0 where there was none, or there is one rank only.
        cause: Why the step cannot be taken; empty where it can.
    """

    loss: float
    samples: int
    signal: int
    cause: str


class Gradient:
    """Loss and gradient of a step over all ranks; the gradient is left on the parameters of the network.

    Arguments:
        network: The network.
        method: Computes loss and gradient of this rank.
        ranks: The processes that share every batch.
        clip_norm: Largest norm of the gradient; a larger one is scaled down.
    """

    def __init__(self, network: Separable, method: Method, ranks: Ranks, clip_norm: float | None = None) -> None:
        self.network, self.method, self.clip_norm = network, method, clip_norm
        # listed once: a walk through all modules at every step is slow
        self._parameters = list(network.parameters())
        self._owners = [module for module in network.modules() if any(True for _ in module.buffers(False))]
        self._buckets = Buckets(self._parameters, ranks) if ranks.world > 1 else None

    def backward(self, batches: Sequence[Batch], stop_signal: int = 0) -> StepResult:
        """Compute loss and gradient over all ranks; where they are not finite, restore the buffers.

        Arguments:
            batches: This rank's share of the batches of the step, in normalised units.
            stop_signal: A signal that reached this rank, or 0.
        """
        buffers = self._buffers
        before = [buffer.clone() for buffer in buffers]  # BatchNorm averages even a batch that is skipped
        samples = samples_of(batches)
        if self._buckets is not None:
            self._buckets.begin(samples, sum(1 for batch in batches if len(batch)))
        try:
            value, cause = self.method.backward(self.network, batches), ""
        except NumericalError as error:
            value, cause = torch.tensor(math.nan), str(error)
        value, samples, stop_signal = self._reduced(value, samples, stop_signal)
        loss, norm = torch.stack([value, self._norm().to(value.device)]).tolist()  # the host waits once for both
        if not cause and not math.isfinite(loss + norm):
            cause = "loss or gradient not finite"
        if self.clip_norm is not None and self.clip_norm < norm < math.inf:
            torch._foreach_mul_(self._gradients, self.clip_norm / norm)
        if cause:
            for buffer, saved in zip(buffers, before, strict=True):
                buffer.copy_(saved)
        return StepResult(loss, samples, stop_signal, cause)

    @property
    def _buffers(self) -> list[Tensor]:
        return [buffer for module in self._owners for buffer in module.buffers(recurse=False)]

    @property
    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def _reduced(self, loss: Tensor, samples: int, stop_signal: int) -> tuple[Tensor, int, int]:
        """Return loss, samples and signal over all ranks; average gradients and BatchNorm's statistics in place."""
        if self._buckets is None:
            return loss, samples, 0
        averages = [buffer for buffer in self._buffers if buffer.is_floating_point()]
        loss_sum = float(loss) * samples if samples else 0.0
        total, loss_sum, signals = self._buckets.end(averages, [loss_sum, stop_signal])
        mean = torch.tensor(loss_sum / total, dtype=torch.float64)
        return mean, int(total), (stop_signal or signal.SIGTERM) if signals else 0

    def _norm(self) -> Tensor:
        """Return the norm of the whole gradient, with shape ()."""
        gradients = self._gradients
        return torch.stack(torch._foreach_norm(gradients)).norm() if gradients else torch.zeros(())
