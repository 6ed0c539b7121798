"""Full passes over the training data: prepare the network, refit the head before and after training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

from surrogate.batch import Batch
from surrogate.data import Stream
from surrogate.experiment.log import Reporter
from surrogate.models.registry import prepare
from surrogate.optim.refit import gather_groups, refit
from surrogate.slimtik import Posterior, TikhonovFit, cross_validated, tikhonov
from surrogate.training.loop import Trainer
from surrogate.training.setup import Setup

__all__ = ["prepare_network", "refit_end", "refit_start"]

GROUPS = 8  # of simulations, left out one after the other


def prepare_network(trainer: Trainer, whole: Stream) -> None:
    """Prepare a new network from the training data, as its family and its optimizer ask for, such as modes.

    Arguments:
        trainer: The run.
        whole: The training data in the order of the file, all of them on every rank.
    """
    surrogate = trainer.surrogate

    def batches() -> Iterator[Batch]:
        """Yield the data in the units of the network, missing targets at the mean."""
        for batch in _normalized(trainer, whole):
            yield replace(batch, targets=batch.targets.nan_to_num(nan=0.0))

    if trainer.settings.start_from is None:  # a trained network has been prepared
        prepare(surrogate.settings, surrogate.network, batches)
    trainer.ranks.share(surrogate.state_dict().values())
    trainer.method.prepare(surrogate.network, _whole(trainer, trainer.unshuffled))


def refit_start(trainer: Trainer) -> None:
    """Fit the head to the initial features, as variable projection does."""
    fit = refit(trainer.surrogate.network, _whole(trainer, trainer.unshuffled))
    trainer.record("refit", step=0, regularization=fit.regularization, residual=fit.residual)


def refit_end(setup: Setup, reporter: Reporter, *, step: int) -> float | None:
    """Solve for the head over all training data.

    The regularization is that of generalised cross-validation over all equations or that of cross-validation by
    simulations, whichever has the lower validation loss.

    Returns:
        The validation loss with the solution where it is lower than before, else None. With `training.uncertainty` the
        mean of the posterior is taken in any case, since the intervals are around it.
    """
    surrogate, network = setup.surrogate, setup.surrogate.network
    before = setup.validation_loss()
    groups, energies = gather_groups(network, _whole(setup, setup.unshuffled), GROUPS)
    statistics = reduce(add, groups)
    chosen: dict[str, Any] = {}
    if setup.settings.uncertainty:
        surrogate.posterior = Posterior.of(statistics, energies)
        network.head.assign_(surrogate.posterior.mean)
        after = setup.validation_loss()
    else:
        fits = {"equations": tikhonov(statistics)}
        if sum(part.samples > 0 for part in groups) > 1:
            fits["simulations"] = cross_validated(groups)
        after, rule = min((_validated(setup, fit), rule) for rule, fit in fits.items())
        network.head.assign_(fits[rule].weights)
        chosen = {"regularization": fits[rule].regularization, "cross_validation": rule}
    kept = after < before or setup.settings.uncertainty
    setup.record("refit", step=step, validation_loss_before=before, validation_loss_after=after, kept=kept, **chosen)
    reporter.line(f"head refit: validation {before:.3e} -> {after:.3e}{'' if kept else ', not kept'}")
    return after if kept else None


def _validated(setup: Setup, fit: TikhonovFit) -> float:
    """Return the validation loss with the weights of a fit in the head."""
    setup.surrogate.network.head.assign_(fit.weights)
    return setup.validation_loss()


def _normalized(setup: Setup, stream: Stream) -> Iterator[Batch]:
    """Yield the batches of a stream in the units of the network."""
    for batch in stream:
        yield setup.surrogate.normalized(batch.to(setup.device))


def _whole(setup: Setup, stream: Stream) -> Iterator[Batch]:
    """Yield the same with missing targets completed."""
    network = setup.surrogate.network
    return (setup.objective.whole(network, batch) for batch in _normalized(setup, stream))
