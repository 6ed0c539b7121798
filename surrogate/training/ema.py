"""A running mean of a network's weights: less noisy than the weights of any one step."""

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
    r"""The exponential mean of weights over the steps.

    .. math:: \bar w_1 = w_1, \qquad \bar w_k = d \bar w_{k-1} + (1 - d) w_k

    What is no weight is that of the last step; see `recompute_averages` for BatchNorm.

    Arguments:
        network: The network that is trained; its weights as they are now begin a mean of `steps` steps.
        decay: d.
        steps: Steps that are in the mean already.

    Source: Polyak, Juditsky (1992) for the mean; `torch.optim.swa_utils` does it.
    """

    def __init__(self, network: Separable, decay: float, steps: int = 0) -> None:
        self._model = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._model.n_averaged.fill_(steps)

    def update(self, network: Separable) -> None:
        """Take in the weights after a step."""
        self._model.update_parameters(network)

    def state(self, network: Separable) -> dict[str, Any]:
        """What a checkpoint of the mean lacks: the weights that training goes on from, and the number of steps."""
        return {"weights": dict(network.state_dict()), "averaged": int(self._model.n_averaged)}

    @contextmanager
    def in_use(self, surrogate: Surrogate) -> Iterator[None]:
        """Inside the block the surrogate has the mean weights."""
        network = surrogate.network
        surrogate.network = cast(Separable, self._model.module)
        try:
            yield
        finally:
            surrogate.network = network


@torch.no_grad()
def recompute_averages(setup: Setup) -> None:
    """Give every BatchNorm the averages that belong to the weights as they are: one pass over the training data.

    Averages of activations are not linear in the weights, so those of mean weights are neither the mean nor the last of
    those that training kept. All else is in evaluation mode; a network without BatchNorm is left alone.

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
    setup.ranks.average(averages, count, [])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
