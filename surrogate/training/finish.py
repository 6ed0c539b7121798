"""What is done with whole passes over the data: preparing the network, solving the head before and after training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from safetensors.torch import load_file

from surrogate.batch import Batch
from surrogate.data import Stream
from surrogate.models.registry import prepare
from surrogate.refit import gather, refit
from surrogate.slimtik import Posterior, tikhonov
from surrogate.training.log import Reporter
from surrogate.training.loop import Trainer, validation_loss

__all__ = ["prepare_network", "refit_end", "refit_start"]


def prepare_network(trainer: Trainer, whole: Stream) -> None:
    """Give a new network what its family and its optimizer take from the training data, such as modes.

    Arguments:
        trainer: The run.
        whole: The training data in the order of the file, all of them on every rank.
    """
    surrogate = trainer.surrogate
    prepare(surrogate.settings, surrogate.network, lambda: map(_at_the_mean, _normalized(trainer, whole)))
    trainer.ranks.share(surrogate.state_dict().values())
    trainer.method.prepare(surrogate.network, _whole(trainer, trainer.unshuffled))


def refit_start(trainer: Trainer) -> None:
    """Start from the head that is best for the initial features, as variable projection does."""
    fit = refit(trainer.surrogate.network, _whole(trainer, trainer.unshuffled))
    trainer.tell("refit", step=0, regularization=fit.regularization, residual=fit.residual)


def refit_end(trainer: Trainer, reporter: Reporter) -> None:
    """Solve the head of the best checkpoint over all training data, and keep the solution where it is better.

    With `training.uncertainty` the mean of the posterior is taken in any case, since the intervals are about it.
    """
    surrogate, checkpoints = trainer.surrogate, trainer.checkpoints
    surrogate.load_state_dict(load_file(checkpoints.best_of_training() / "model.safetensors"))
    network = surrogate.network
    before = _validation_loss(trainer)
    statistics, energies = gather(network, _whole(trainer, trainer.unshuffled))
    if trainer.settings.uncertainty:
        surrogate.posterior = Posterior.of(statistics, energies)
        network.head.assign_(surrogate.posterior.mean)
    else:
        network.head.assign_(tikhonov(statistics).weights)
    after = _validation_loss(trainer)
    kept = after < before or trainer.settings.uncertainty
    if kept:
        trainer.ranks.alone(lambda: checkpoints.save_final(surrogate))
    step = trainer.progressed.step
    trainer.tell("refit", step=step, validation_loss_before=before, validation_loss_after=after, kept=kept)
    reporter.line(f"head refit: validation {before:.3e} -> {after:.3e}{'' if kept else ', not kept'}")


def _validation_loss(trainer: Trainer) -> float:
    return validation_loss(trainer.surrogate, trainer.validation, trainer.objective, trainer.device, trainer.ranks)


def _normalized(trainer: Trainer, stream: Stream) -> Iterator[Batch]:
    """One pass over a stream in the units of the network."""
    for batch in stream:
        yield trainer.surrogate.normalized(batch.to(trainer.device))


def _whole(trainer: Trainer, stream: Stream) -> Iterator[Batch]:
    """The same with no target missing."""
    network = trainer.surrogate.network
    return (trainer.objective.whole(network, batch) for batch in _normalized(trainer, stream))


def _at_the_mean(batch: Batch) -> Batch:
    """A batch in the units of the network whose missing targets are at the mean."""
    return replace(batch, targets=batch.targets.nan_to_num(nan=0.0))
