"""The step that goes with each optimizer, so that the loop need not tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from surrogate.batch import Batch
from surrogate.experiment.optimizers import (
    AdamSettings,
    AdamWSettings,
    ExtremeLearningSettings,
    GNvproSettings,
    LBFGSSettings,
    MuonSettings,
    SgdSettings,
    SlimTrainSettings,
)
from surrogate.models.separable import Separable
from surrogate.optim.combined import Combined
from surrogate.optim.gnvpro import GNvpro
from surrogate.optim.refit import refit
from surrogate.optim.slimtrain import SlimTrain
from surrogate.slimtik import rule_of
from surrogate.training.objective import Objective, samples_of

__all__ = ["Method", "build_method"]

Batches = Sequence[Batch]


def _nothing(*_: Any) -> None:
    """What a method without this part does."""


@dataclass(frozen=True)
class Method:
    """An optimizer and its step, for all batches of the step in normalised units.

    Arguments:
        optimizer: What the schedule drives and the checkpoint keeps.
        backward: From (network, batches) to the mean loss over their samples, leaving its gradient on the parameters.
        update: From (network, batches) to new parameters, after `backward`.
        diagnostics: Numbers of the last step for the log.
        prepare: Called with (network, one pass over the training data) before the first step.
        epochs: Number of epochs after which nothing changes any more; None where there is none.
    """

    optimizer: Optimizer
    backward: Callable[[Separable, Batches], Tensor]
    update: Callable[[Separable, Batches], None]
    diagnostics: Callable[[], dict[str, float]] = dict
    prepare: Callable[[Separable, Iterable[Batch]], None] = _nothing
    epochs: int | None = None


def build_method(settings: Any, network: Separable, objective: Objective) -> Method:
    """The method of the settings for a network and an objective.

    Arguments:
        settings: One of the classes of `surrogate.experiment.optimizers`.
        network: The network on its device.
        objective: Loss and precision.
    """
    match settings:
        case SlimTrainSettings():
            return _slimtrain(settings, network, objective)
        case AdamSettings() | AdamWSettings() | SgdSettings():
            momentum = settings.momentum if isinstance(settings, SgdSettings) else 0.0
            return _gradient(_first_order(settings.name, network.parameters(), settings, momentum), objective)
        case MuonSettings():
            return _gradient(_muon(settings, network), objective)
        case LBFGSSettings():
            return _lbfgs(settings, network, objective)
        case GNvproSettings():
            return _gnvpro(settings, network, objective)
        case ExtremeLearningSettings():
            return _extreme_learning(settings, network, objective)
    raise TypeError(f"no method for {type(settings).__name__}")


def _first_order(name: str, parameters: Iterable[nn.Parameter], settings: Any, momentum: float) -> Optimizer:
    parameters, rate, decay = list(parameters), settings.learning_rate, settings.weight_decay
    fused = all(weight.is_floating_point() and weight.device.type == "cpu" for weight in parameters) or None
    match name:
        case "adam":
            return torch.optim.Adam(parameters, rate, weight_decay=decay, fused=fused)
        case "adamw":
            return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=fused)
    return torch.optim.SGD(parameters, rate, momentum=momentum, weight_decay=decay, fused=fused)


def _muon(settings: MuonSettings, network: Separable) -> Optimizer:
    """Muon takes matrices alone; AdamW the rest."""
    matrices = [parameter for parameter in network.features.parameters() if parameter.ndim == 2]
    taken = {id(parameter) for parameter in matrices}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in taken]
    adamw = torch.optim.AdamW(rest, settings.learning_rate, weight_decay=settings.weight_decay)
    if not matrices:
        return adamw
    muon = torch.optim.Muon(
        matrices,
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        adjust_lr_fn="match_rms_adamw",
    )
    return Combined([muon, adamw])


def _gradient(optimizer: Optimizer, objective: Objective) -> Method:
    def backward(network: Separable, batches: Batches) -> Tensor:
        optimizer.zero_grad()
        return _descended(network, batches, objective)

    return Method(optimizer, backward, lambda *_: _discard(optimizer.step()))


def _descended(network: Separable, batches: Batches, objective: Objective) -> Tensor:
    """The mean loss over the samples of some batches, its gradient added to the parameters'."""
    if len(batches) == 1 and len(batches[0]):
        loss = objective.of_batch(network, batches[0])
        loss.backward()
        return loss.detach()
    samples, total = samples_of(batches), torch.zeros((), device=network.head.weight.device)
    for batch in filter(len, batches):
        loss = objective.of_batch(network, batch)
        if len(batch) != samples:
            loss = loss * (len(batch) / samples)
        loss.backward()
        total = total + loss.detach()
    return total


def _slimtrain(settings: SlimTrainSettings, network: Separable, objective: Objective) -> Method:
    optimizer = SlimTrain(
        _first_order(settings.base, network.features.parameters(), settings, momentum=0.9),
        network.head,
        memory_depth=settings.memory_depth,
        regularization=settings.regularization,
        rule=rule_of(settings.rule, noise_variance=settings.noise_variance, tau=settings.tau),
        search=settings.search,
        lower_bound=settings.lower_bound,
    )

    def backward(network: Separable, batches: Batches) -> Tensor:
        if len(batches) > 1 or not len(batches[0]):  # features twice, so that one batch at a time is in memory
            _solve(optimizer, network, batches, objective)
            optimizer.zero_grad()
            return _descended(network, batches, objective)
        z = objective.features(network, batches[0].inputs)
        optimizer.solve(z.detach(), _targets(network, z, batches[0], objective))
        loss = objective.value(network.head(z), batches[0].targets)
        optimizer.zero_grad()
        loss.backward()
        return loss.detach()

    return Method(optimizer, backward, lambda *_: _discard(optimizer.step()), lambda: dict(optimizer.diagnostics))


@torch.no_grad()
def _targets(network: Separable, z: Tensor, batch: Batch, objective: Objective) -> Tensor:
    """What the head is solved for: where there is no target, what it gives already."""
    return objective.completed(network.head(z), batch.targets) if objective.masked else batch.targets


@torch.no_grad()
def _solve(optimizer: SlimTrain, network: Separable, batches: Batches, objective: Objective) -> None:
    """Solve for the head over several batches, some of them maybe empty; a rank may have no sample at all."""
    none = torch.zeros(0, device=network.head.weight.device)
    with _undisturbed(network):
        for batch in filter(len, batches):
            z = objective.features(network, batch.inputs)
            optimizer.accumulate(z, _targets(network, z, batch, objective))
    optimizer.solve(none, none)


@contextmanager
def _undisturbed(network: nn.Module) -> Iterator[None]:
    """Afterwards BatchNorm's averages and the random numbers to come are as before."""
    buffers = [buffer.clone() for buffer in network.buffers()]
    with torch.random.fork_rng():
        yield
    for buffer, before in zip(network.buffers(), buffers, strict=True):
        buffer.copy_(before)


def _lbfgs(settings: LBFGSSettings, network: Separable, objective: Objective) -> Method:
    optimizer = torch.optim.LBFGS(
        network.parameters(),
        settings.learning_rate,
        max_iter=settings.inner_steps,
        history_size=settings.history,
        line_search_fn="strong_wolfe",
    )

    def backward(network: Separable, batches: Batches) -> Tensor:
        network.eval()
        optimizer.zero_grad()
        return _descended(network, batches, objective)

    def update(network: Separable, batches: Batches) -> None:
        optimizer.step(lambda: float(backward(network, batches)))

    return Method(optimizer, backward, update)


def _gnvpro(settings: GNvproSettings, network: Separable, objective: Objective) -> Method:
    optimizer = GNvpro(
        network.features,
        network.head,
        regularization=settings.regularization,
        weight_decay=settings.weight_decay,
        radius=settings.radius,
        krylov=settings.krylov,
    )

    def backward(network: Separable, batches: Batches) -> Tensor:
        network.eval()
        return optimizer.backward(pairs(network, batches))

    def update(network: Separable, batches: Batches) -> None:
        optimizer.step(pairs(network, batches))

    def pairs(network: Separable, batches: Batches) -> list[tuple[Tensor, Tensor]]:
        return [(batch.inputs, objective.whole(network, batch).targets) for batch in batches]

    return Method(optimizer, backward, update, lambda: dict(optimizer.diagnostics))


def _extreme_learning(settings: ExtremeLearningSettings, network: Separable, objective: Objective) -> Method:
    network.requires_grad_(False)
    idle = torch.optim.SGD([nn.Parameter(torch.zeros(0))], lr=0.0)  # there is nothing to descend

    def prepare(network: Separable, batches: Iterable[Batch]) -> None:
        refit(network, batches, regularization=settings.regularization)

    @torch.no_grad()
    def backward(network: Separable, batches: Batches) -> Tensor:
        network.eval()
        losses = [objective.of_batch(network, batch) * len(batch) for batch in filter(len, batches)]
        return sum(losses, torch.zeros((), device=network.head.weight.device)) / max(samples_of(batches), 1)

    return Method(idle, backward, lambda *_: _discard(idle.step()), dict, prepare, epochs=1)


def _discard(_: object) -> None:
    """For lambdas that are called for their effect."""
