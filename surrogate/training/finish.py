"""What is done with whole passes over the data: preparing the network, solving the head before and after training."""

from __future__ import annotations

from collections.abc import Iterator

from safetensors.torch import load_file

from surrogate.batch import Batch
from surrogate.models.registry import prepare
from surrogate.refit import gather, refit
from surrogate.slimtik import Posterior, tikhonov
from surrogate.training.log import Reporter
from surrogate.training.loop import Trainer, validation_loss

__all__ = ["prepare_network", "refit_end", "refit_start"]


def prepare_network(trainer: Trainer) -> None:
    """Give a new network what its family takes from the training data, such as modes."""
    prepare(trainer.surrogate.settings, trainer.surrogate.network, lambda: _training_batches(trainer))


def refit_start(trainer: Trainer) -> None:
    """Start from the head that is best for the initial features, as variable projection does."""
    fit = refit(trainer.surrogate.network, _training_batches(trainer))
    trainer.log.write("refit", step=0, regularization=fit.regularization, residual=fit.residual)


def refit_end(trainer: Trainer, reporter: Reporter) -> None:
    """Solve the head of the best checkpoint over all training data, and keep the solution where it is better.

    With `training.uncertainty` the mean of the posterior is taken in any case, since the intervals are about it.
    """
    surrogate, checkpoints = trainer.surrogate, trainer.checkpoints
    surrogate.load_state_dict(load_file(checkpoints.best_of_training() / "model.safetensors"))
    network = surrogate.network
    before = validation_loss(surrogate, trainer.validation, trainer.device)
    statistics, energies = gather(network, _training_batches(trainer))
    if trainer.settings.uncertainty:
        surrogate.posterior = Posterior.of(statistics, energies)
        network.head.assign_(surrogate.posterior.mean)
    else:
        network.head.assign_(tikhonov(statistics).weights)
    after = validation_loss(surrogate, trainer.validation, trainer.device)
    kept = after < before or trainer.settings.uncertainty
    if kept:
        checkpoints.save_final(surrogate)
    step = trainer.progressed.step
    trainer.log.write("refit", step=step, validation_loss_before=before, validation_loss_after=after, kept=kept)
    reporter.line(f"head refit: validation {before:.3e} -> {after:.3e}{'' if kept else ', not kept'}")


def _training_batches(trainer: Trainer) -> Iterator[Batch]:
    """One pass over the training data in the units of the network."""
    for batch in trainer.unshuffled:
        yield trainer.surrogate.normalized(batch.to(trainer.device))
