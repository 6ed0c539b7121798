"""The step of slimTrain: solve for the head, then descend with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from surrogate.batch import Batch
from surrogate.experiment.optimizers import SlimTrainSettings
from surrogate.models.separable import Separable
from surrogate.optim.slimtrain import SlimTrain
from surrogate.slimtik import rule_of
from surrogate.training.methods.first_order import first_order
from surrogate.training.methods.method import Method, descend
from surrogate.training.objective import Objective

__all__ = ["SlimTrainMethod"]


class SlimTrainMethod(Method):
    """slimTrain: a damped least-squares solve for the head, a gradient step for the features."""

    optimizer: SlimTrain

    def __init__(self, settings: SlimTrainSettings, network: Separable, objective: Objective) -> None:
        rate, decay = settings.learning_rate, settings.weight_decay
        optimizer = SlimTrain(
            first_order(settings.base, network.features.parameters(), rate, decay),
            network.head,
            memory_depth=settings.memory_depth,
            regularization=settings.regularization,
            rule=rule_of(settings.rule, noise_variance=settings.noise_variance, tau=settings.tau),
            search=settings.search,
            lower_bound=settings.lower_bound,
            memory_rows=settings.memory_rows,
            proximal=settings.proximal,
            ridge=settings.ridge,
        )
        super().__init__(optimizer, objective)
        self._warmup = settings.head_warmup

    def begin(self, steps: int) -> None:
        """Let the head reach full speed after its share of the steps."""
        self.optimizer.warmup = round(self._warmup * steps)

    def backward(self, network: Separable, batches: Sequence[Batch]) -> Tensor:
        """Solve for the head, return the mean loss with it, and leave its gradient on the features' parameters."""
        if len(batches) > 1 or not len(batches[0]):
            return self._backward_in_parts(network, batches)
        (batch,) = batches
        z = self.objective.features(network, batch.inputs)
        self.optimizer.solve(z.detach(), self._targets(network, z, batch))  # head weights, in place, no graph
        loss = self.objective.value(network.head(z), batch.targets)
        self.optimizer.zero_grad()
        loss.backward()
        return loss.detach()

    def diagnostics(self) -> dict[str, float]:
        """Return damping, running sum, residual and more of the last solve."""
        return dict(self.optimizer.diagnostics)

    def _backward_in_parts(self, network: Separable, batches: Sequence[Batch]) -> Tensor:
        """Do the same for several batches, or for none where this rank has no sample.

        Features are computed twice, once to solve and once to descend, so that the graph of one batch at a time is in
        memory. The first time leaves the averages of BatchNorm and the random numbers of dropout as they were.
        """
        none = torch.zeros(0, device=network.head.weight.device)
        buffers = [buffer.clone() for buffer in network.buffers()]
        with torch.no_grad(), torch.random.fork_rng():
            for batch in filter(len, batches):
                z = self.objective.features(network, batch.inputs)
                self.optimizer.accumulate(z, self._targets(network, z, batch))
        for buffer, before in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(before)
        self.optimizer.solve(none, none)
        self.optimizer.zero_grad()
        return descend(network, batches, self.objective)

    @torch.no_grad()
    def _targets(self, network: Separable, z: Tensor, batch: Batch) -> Tensor:
        """Return what the head is solved for: missing targets are replaced by the present output of the network."""
        objective = self.objective
        return objective.for_head(network.head(z), batch) if objective.masked else batch.targets
