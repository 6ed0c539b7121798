"""Refit the head to all data: one streaming pass, then the exact Tikhonov solution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from operator import add

import torch
from torch import Tensor, distributed, nn

from surrogate.batch import Batch
from surrogate.errors import NumericalError
from surrogate.models.separable import Separable
from surrogate.slimtik import NormalEquations, TikhonovFit, tikhonov
from surrogate.slimtik.ranks import added, broadcast, summed

__all__ = ["gather", "gather_groups", "refit"]


def refit(
    model: Separable,
    batches: Iterable[Batch],
    *,
    regularization: float | None = None,
    process_group: distributed.ProcessGroup | None = None,
) -> TikhonovFit:
    r"""Fit the head to all data with the features held fixed.

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
        NumericalError: There are no data, they are not finite, or the solve failed; the weights are unchanged.
    """
    sums, _ = gather(model, batches, process_group=process_group)
    fit = tikhonov(sums, regularization=regularization)
    broadcast(fit.weights, process_group)  # factorisations on different devices may differ in the last bit
    model.head.assign_(fit.weights)
    return fit


def gather(
    model: Separable, batches: Iterable[Batch], *, process_group: distributed.ProcessGroup | None = None
) -> tuple[NormalEquations, Tensor]:
    """Return the normal equations of the head over all data, and the sum of squares of each output (M,).

    Features are taken in evaluation mode. One pass serves both `tikhonov` and `Posterior.of`:

    .. code-block:: python

        sums, energies = gather(model, batches)
        model.head.assign_(tikhonov(sums).weights)
        posterior = Posterior.of(sums, energies)

    Arguments:
        model: The network; its training flags are restored.
        batches: One pass over the data, in the units in which the network is trained.
        process_group: Ranks that share the data; the default group unless given.

    Raises:
        DataError: Features or targets do not fit the head.
        NumericalError: There are no data, or they are not finite.
    """
    (sums,), energies = gather_groups(model, batches, 1, process_group=process_group)
    return sums, energies


@torch.no_grad()
def gather_groups(
    model: Separable, batches: Iterable[Batch], groups: int, *, process_group: distributed.ProcessGroup | None = None
) -> tuple[list[NormalEquations], Tensor]:
    """Return the same as `gather`, the normal equations apart for each of several groups of simulations.

    Simulation i belongs to group i modulo the number of groups, so `cross_validated` leaves out whole simulations. A
    group may be empty.

    Raises:
        DataError: Features or targets do not fit the head.
        NumericalError: There are no data, or they are not finite.
    """
    head, device = model.head, model.head.weight.device
    sums = [NormalEquations.zeros(*head.shape, device) for _ in range(groups)]
    energies = torch.zeros(head.shape[1], dtype=torch.float64, device=device)
    totals = []
    with _evaluating(model):
        for batch in batches:
            batch = batch.to(device)
            z, group = model.features(batch.inputs), (batch.sample % groups).to(device)
            total = energies.new_zeros(())
            present = group.unique().tolist()
            for number in present:
                own = group == number if len(present) > 1 else slice(None)
                part = head.normal_equations(z[own], batch.targets[own])
                sums[number] = sums[number] + part
                total = total + part.gram.sum() + part.cross.sum() + part.energy
            energies += head.rows(batch.targets).double().square().sum(0)
            totals.append(total)
    sums, energies = [summed(part, process_group) for part in sums], added(energies, process_group)
    _refuse_unusable(reduce(add, sums), totals)
    return sums, energies


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode inside the block; restore the flag of every module afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def _refuse_unusable(sums: NormalEquations, totals: list[Tensor]) -> None:
    """Refuse sums of no data, or that are not finite; after the reduction, so that all ranks refuse together."""
    if sums.samples == 0:
        raise NumericalError("refit: there are no samples; give it a stream with at least one batch")
    if torch.isfinite(sums.gram.sum() + sums.cross.sum() + sums.energy):
        return
    broken = [index for index, total in enumerate(totals) if not torch.isfinite(total)]
    where = f"batch {broken[0]}" if broken else "a batch of another rank"
    raise NumericalError(
        f"refit: features or targets of {where} are not finite, weights left as they are; "
        "look for NaN and Inf in the data, or go back to an earlier checkpoint"
    )
