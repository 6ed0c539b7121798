"""Average gradients over the ranks in buckets, while the backward pass still runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, distributed, nn

from surrogate.training.ranks import Ranks

__all__ = ["Buckets"]

BUCKET_BYTES = 2**20


class Buckets:
    r"""Mean gradient over the samples of all ranks, :math:`\sum_r n_r g_r / \sum_r n_r`.

    As in torch's DistributedDataParallel, the reduction of a bucket of parameters starts as soon as the backward pass
    has computed all of its gradients. Unlike there, ranks may have different numbers of samples, or none, a parameter
    need not be used, and the last bucket carries numbers whose sums are needed as well: gradients of less than a
    bucket take one reduction in all.

    .. code-block:: python

        buckets.begin(samples, passes)  # then call `backward` this many times
        total, *sums = buckets.end(averages, numbers)

    Arguments:
        parameters: Parameters of the network, in the order of their use.
        ranks: The processes.
        bucket_bytes: Size from which on a bucket is full.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: Ranks, bucket_bytes: int = BUCKET_BYTES) -> None:
        self._ranks = ranks
        self._buckets: list[list[nn.Parameter]] = [[]]
        self._weight = 0.0
        self._missing: list[int] = []  # gradients of each bucket; empty outside of a step
        self._running: list[tuple[Tensor, distributed.Work]] = []
        for parameter in reversed([parameter for parameter in parameters if parameter.requires_grad]):
            bucket = self._buckets[-1]
            full = sum(other.nbytes for other in bucket) >= bucket_bytes
            if full or (bucket and (bucket[0].dtype, bucket[0].device) != (parameter.dtype, parameter.device)):
                self._buckets.append([])
            self._buckets[-1].append(parameter)
        for number, bucket in enumerate(self._buckets[:-1]):
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(partial(self._computed, number))

    def begin(self, weight: float, passes: int) -> None:
        """Expect the gradient of this rank, of a weight such as its number of samples, as the sum of several passes."""
        self._weight, self._running = weight, []
        self._missing = [len(bucket) * passes for bucket in self._buckets]

    def end(self, averages: Sequence[Tensor], numbers: Sequence[float]) -> list[float]:
        """Leave the mean gradient on the parameters of every rank; return the sums of the weight and of numbers.

        Arguments:
            averages: Further tensors, which become their weighted means, in place.
            numbers: Further numbers of this rank.
        """
        *buckets, last = self._buckets
        while len(self._running) < len(buckets):  # parameters without gradient, or a rank without samples
            self._start()
        self._missing = []
        sums = self._ranks.average([*_gradients(last), *averages], self._weight, numbers)
        for bucket, (flat, work) in zip(buckets, self._running, strict=True):
            work.wait()
            means = flat.div_(sums[0]).split([parameter.numel() for parameter in bucket])
            for parameter, mean in zip(bucket, means, strict=True):
                parameter.grad = mean.view_as(parameter).to(parameter.device)
        return sums

    def _computed(self, number: int, parameter: nn.Parameter) -> None:
        """Count a gradient; start all reductions that are due, in the order of the buckets, the same on every rank."""
        if not self._missing:
            return
        if number < len(self._running):
            raise RuntimeError("a gradient has changed after its reduction: more backward passes than announced")
        self._missing[number] -= 1
        while len(self._running) < len(self._buckets) - 1 and not self._missing[len(self._running)]:
            self._start()

    def _start(self) -> None:
        """Start the reduction of the next bucket."""
        gradients = _gradients(self._buckets[len(self._running)])
        flat = torch.cat([gradient.flatten() for gradient in gradients]).mul_(self._weight).to(self._ranks.device)
        self._running.append((flat, distributed.all_reduce(flat, async_op=True)))


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return the gradients of parameters, zeros where there is none."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
