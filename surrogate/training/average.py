"""A running mean of a network's weights: less noisy than the weights of any one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from surrogate.models.separable import Separable
from surrogate.models.surrogate import Surrogate

__all__ = ["MeanWeights"]


class MeanWeights:
    r"""The exponential mean of weights, and of BatchNorm's averages, over the steps.

    .. math:: \bar w_1 = w_1, \qquad \bar w_k = d \bar w_{k-1} + (1 - d) w_k

    Arguments:
        network: The network that is trained; its weights as they are now begin a mean of `steps` steps.
        decay: d.
        steps: Steps that are in the mean already.

    Source: Polyak, Juditsky (1992) for the mean; `torch.optim.swa_utils` does it.
    """

    def __init__(self, network: Separable, decay: float, steps: int = 0) -> None:
        self._model = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
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
