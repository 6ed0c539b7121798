"""Methods that use all training data at once: L-BFGS, GNvpro, extreme learning machine, one fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.experiment.optimizers import ExtremeLearningSettings, GNvproSettings, LBFGSSettings, OptimizerBase
from surrogate.models.separable import Separable
from surrogate.optim.gnvpro import GNvpro
from surrogate.optim.refit import refit
from surrogate.training.methods.method import GradientMethod, Method
from surrogate.training.objective import Objective, samples_of

__all__ = ["ExtremeLearningMethod", "FitMethod", "GNvproMethod", "LBFGSMethod"]


class LBFGSMethod(GradientMethod):
    """L-BFGS with a strong-Wolfe line search on all parameters, the network in evaluation mode."""

    def __init__(self, settings: LBFGSSettings, network: Separable, objective: Objective) -> None:
        optimizer = torch.optim.LBFGS(
            network.parameters(),
            settings.learning_rate,
            max_iter=settings.inner_steps,
            history_size=settings.history,
            line_search_fn="strong_wolfe",
        )
        super().__init__(optimizer, objective)

    def backward(self, network: Separable, batches: Sequence[Batch]) -> Tensor:
        """Return the mean loss in evaluation mode and leave its gradient on the parameters."""
        network.eval()
        return super().backward(network, batches)

    def update(self, network: Separable, batches: Sequence[Batch]) -> None:
        """Take several steps; the line search of torch evaluates loss and gradient again at every trial point."""
        self.optimizer.step(partial(self.backward, network, batches))  # type: ignore[arg-type]


class GNvproMethod(Method):
    """GNvpro: the head is eliminated exactly, the features take a trust-region step in evaluation mode."""

    optimizer: GNvpro

    def __init__(self, settings: GNvproSettings, network: Separable, objective: Objective) -> None:
        optimizer = GNvpro(
            network.features,
            network.head,
            regularization=settings.regularization,
            weight_decay=settings.weight_decay,
            radius=settings.radius,
            krylov=settings.krylov,
        )
        super().__init__(optimizer, objective)

    def backward(self, network: Separable, batches: Sequence[Batch]) -> Tensor:
        """Solve for the head, return the mean loss, and leave the gradient of the reduced objective."""
        network.eval()
        return self.optimizer.backward(self._pairs(network, batches))

    def update(self, network: Separable, batches: Sequence[Batch]) -> None:
        """Take one trust-region step."""
        self.optimizer.step(self._pairs(network, batches))

    def diagnostics(self) -> dict[str, float]:
        """Return radius, number of Krylov steps and length of the last step."""
        return dict(self.optimizer.diagnostics)

    def _pairs(self, network: Separable, batches: Sequence[Batch]) -> list[tuple[Tensor, Tensor]]:
        return [(batch.inputs, self.objective.whole(network, batch).targets) for batch in batches]


class FitMethod(Method):
    """Families that are fitted before the first step, when the network is prepared: one epoch evaluates the loss."""

    epochs = 1

    def __init__(self, settings: OptimizerBase, network: Separable, objective: Objective) -> None:
        network.requires_grad_(False)
        idle = torch.optim.SGD([nn.Parameter(torch.zeros(0))], lr=0.0)  # nothing descends; the schedule needs a group
        super().__init__(idle, objective)

    @torch.no_grad()
    def backward(self, network: Separable, batches: Sequence[Batch]) -> Tensor:
        """Return the mean loss in evaluation mode; there is no gradient."""
        network.eval()
        losses = [self.objective.of_batch(network, batch) * len(batch) for batch in filter(len, batches)]
        device = next(network.parameters()).device
        return sum(losses, torch.zeros((), device=device)) / max(samples_of(batches), 1)


class ExtremeLearningMethod(FitMethod):
    """Extreme learning machine: the features stay as they are, the head is solved for once before the first step."""

    def __init__(self, settings: ExtremeLearningSettings, network: Separable, objective: Objective) -> None:
        super().__init__(settings, network, objective)
        self._regularization = settings.regularization

    def prepare(self, network: Separable, batches: Iterable[Batch]) -> None:
        """Solve for the head over all training data."""
        refit(network, batches, regularization=self._regularization)
