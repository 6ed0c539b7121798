"""Exponential moving average of the weights of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from surrogate.models.separable import Separable
from surrogate.models.surrogate import Surrogate
from surrogate.training.setup import Setup

__all__ = ["MeanWeights", "recompute_averages"]


class MeanWeights:
    r"""The exponential moving average of weights over the steps.

    .. math:: \bar w_1 = w_1, \qquad \bar w_k = d \bar w_{k-1} + (1 - d) w_k

    Buffers are those of the last step; see `recompute_averages` for BatchNorm.

    Arguments:
        network: The network that is trained; its present weights are taken for a mean of `steps` steps.
        decay: d.
        steps: Number of steps in that mean.

    Source: Polyak, Juditsky (1992) for the mean; `torch.optim.swa_utils` does it.
    """

    def __init__(self, network: Separable, decay: float, steps: int = 0) -> None:
        self._model = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._model.n_averaged.fill_(steps)

    def update(self, network: Separable) -> None:
        """Add the weights after a step to the mean."""
        self._model.update_parameters(network)

    def state(self, network: Separable) -> dict[str, Any]:
        """Return the weights that training continues from and the number of steps; the model saved is the mean."""
        return {"weights": dict(network.state_dict()), "averaged": int(self._model.n_averaged)}

    @contextmanager
    def in_use(self, surrogate: Surrogate) -> Iterator[None]:
        """Give the surrogate the mean weights inside the block."""
        network = surrogate.network
        surrogate.network = cast(Separable, self._model.module)
        try:
            yield
        finally:
            surrogate.network = network


@torch.no_grad()
def recompute_averages(setup: Setup) -> None:
    """Recompute the running statistics of every BatchNorm for the present weights, in one pass over the training data.

    They are not linear in the weights, so for mean weights they are neither the mean nor the last of those of training.
    All other layers are in evaluation mode; a network without BatchNorm is left unchanged.

    Arguments:
        setup: The model, which may have the mean weights in use, and its training data.
    """
    surrogate, network = setup.surrogate, setup.surrogate.network
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        return
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # torch then takes the plain mean over batches
    count = 0
    for batch in filter(len, setup.unshuffled):
        setup.objective.features(network, surrogate.normalized_inputs(batch.inputs.to(setup.device)))
        count += 1
    averages = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
    setup.ranks.average(averages, count)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
