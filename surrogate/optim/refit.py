"""Refit the head to all data: one streaming pass, then the exact Tikhonov solution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from surrogate.batch import Batch
from surrogate.errors import NumericalError
from surrogate.models.separable import Separable
from surrogate.slimtik import Statistics, TikhonovFit, tikhonov
from surrogate.slimtik.ranks import added, broadcast, summed

__all__ = ["gather", "refit"]


def refit(
    model: Separable,
    batches: Iterable[Batch],
    *,
    regularization: float | None = None,
    process_group: distributed.ProcessGroup | None = None,
) -> TikhonovFit:
    r"""Give the head the weights that are best for all data with the features as they are.

    .. math:: W = \operatorname{argmin} \|A W - C\|^2 / b + \alpha \|W\|^2

    The features are taken in evaluation mode, without dropout and with the running statistics of BatchNorm. slimTrain
    fits W to features in training mode; with BatchNorm those differ from what the trained model sees, and this is what
    repairs W. Useful before training, as the start of variable projection, after it, and after a change of the data.

    Where torch.distributed is initialised every rank must call it, each with its own share of the data; all get the
    same weights.

    Arguments:
        model: The network; only the weights of its head change.
        batches: One pass over the data, in the units in which the network is trained.
        regularization: alpha; unless given it minimises generalised cross-validation over all data.
        process_group: Ranks that share the data; the default group unless given.

    Raises:
        ConfigError: The regularization is negative.
        DataError: Features or targets do not fit the head.
        NumericalError: There are no data, they are not finite, or the solve failed; the weights are as before.
    """
    statistics, _ = gather(model, batches, process_group=process_group)
    fit = tikhonov(statistics, regularization=regularization)
    broadcast(fit.weights, process_group)  # factorisations on different devices may differ in the last bit
    model.head.assign_(fit.weights)
    return fit


@torch.no_grad()
def gather(
    model: Separable, batches: Iterable[Batch], *, process_group: distributed.ProcessGroup | None = None
) -> tuple[Statistics, Tensor]:
    """The sums of the head over all data, with features in evaluation mode, and the sum of squares of each output (M,).

    They are what `tikhonov` and `Posterior.of` need, so that one pass serves both:

    .. code-block:: python

        statistics, energies = gather(model, batches)
        model.head.assign_(tikhonov(statistics).weights)
        posterior = Posterior.of(statistics, energies)

    Arguments:
        model: The network; its training flags are left as found.
        batches: One pass over the data, in the units in which the network is trained.
        process_group: Ranks that share the data; the default group unless given.

    Raises:
        DataError: Features or targets do not fit the head.
        NumericalError: There are no data, or they are not finite.
    """
    head, device = model.head, model.head.weight.device
    statistics = Statistics.zeros(*head.shape, device)
    energies = torch.zeros(head.shape[1], dtype=torch.float64, device=device)
    totals = []
    with _evaluating(model):
        for batch in batches:
            batch = batch.to(device)
            found = head.statistics(model.features(batch.inputs), batch.targets)
            statistics = statistics + found
            energies += head.rows(batch.targets).double().square().sum(0)
            totals.append(found.gram.sum() + found.cross.sum() + found.energy)
    statistics, energies = summed(statistics, process_group), added(energies, process_group)
    _refuse_unusable(statistics, totals)
    return statistics, energies


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards every module has its own flag again."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def _refuse_unusable(statistics: Statistics, totals: list[Tensor]) -> None:
    """Refuse sums of no data, or that are not finite; after the reduction, so that all ranks refuse together."""
    if statistics.samples == 0:
        raise NumericalError("refit: there are no samples; give it a stream with at least one batch")
    if torch.isfinite(statistics.gram.sum() + statistics.cross.sum() + statistics.energy):
        return
    broken = [index for index, total in enumerate(totals) if not torch.isfinite(total)]
    where = f"batch {broken[0]}" if broken else "a batch of another rank"
    raise NumericalError(
        f"refit: features or targets of {where} are not finite, weights left as they are; "
        "look for NaN and Inf in the data, or go back to an earlier checkpoint"
    )
