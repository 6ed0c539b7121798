"""A race: several optimizers train the same network for a few epochs, those of lowest validation loss go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from surrogate.errors import ConfigError, Interrupted, NumericalError
from surrogate.experiment.optimizers import RaceSettings
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import Experiment
from surrogate.models.surrogate import Surrogate
from surrogate.training.build import setup_of
from surrogate.training.finish import refit_end
from surrogate.training.job import Job
from surrogate.training.stacking import stacked

__all__ = ["candidates_of", "fit_race"]


def candidates_of(experiment: Experiment) -> list[Experiment]:
    """Return one experiment for each candidate of a race; the experiment itself where there is none.

    Each is as long as a finalist will be, so that its schedule fits from the first step on.

    Raises:
        ConfigError: There are too few epochs for all trials.
    """
    optimizer, training = experiment.optimizer, experiment.training
    if not isinstance(optimizer, RaceSettings):
        return [experiment]
    trial, count, finalists = _trial(experiment), len(optimizer.candidates), optimizer.finalists
    epochs = ((training.epochs or 0) - (count - finalists) * trial) // finalists
    if epochs < trial + (count > finalists):
        raise ConfigError(
            f"training.epochs: {training.epochs} are too few for a race of {count} optimizers, which try {trial} each; "
            f"take at least {count * trial + (count > finalists) * finalists}, or fewer candidates"
        )
    uncertainty = training.uncertainty and finalists == 1  # of several finalists the posterior is that of the whole
    shared = training.model_copy(update={"epochs": epochs, "uncertainty": uncertainty})
    return [
        experiment.model_copy(update={"optimizer": candidate, "training": shared}) for candidate in optimizer.candidates
    ]


def fit_race(job: Job, experiment: Experiment, run: RunFolder) -> None:
    """Train every candidate for its trial into a run folder of its own, then the finalists to the end.

    All start from the same weights and see the same batches. A candidate whose steps are not finite is out. The model
    is the weighted mean of the finalists. With `job.resume` what is finished is kept, what is not is continued.

    Raises:
        Interrupted: A signal came; a checkpoint of the candidate is written.
        NumericalError: No candidate had a finite validation loss.
    """
    job.open(experiment, run)
    candidates = candidates_of(experiment)
    folders = [run.candidate(number) for number in range(1, len(candidates) + 1)]
    losses, seconds, steps = [], [], []
    for number, (candidate, folder) in enumerate(zip(candidates, folders, strict=True), 1):
        title = f"{run.path.name}, trial {number} of {len(folders)}"
        trainer = job.trainer(candidate, folder)
        trainer.log.labels["candidate"] = number
        trainer.until = _trial(experiment) * (trainer.total // (candidate.training.epochs or 1))
        job.begin(trainer, candidate, folder)
        try:
            state = trainer.fit(job.reporter(title, trainer.until, done=min(trainer.state.step, trainer.until)))
        except Interrupted as error:
            raise Interrupted(f"trial {number} of {len(folders)}: {error}") from error
        except NumericalError:
            state = replace(trainer.state, best=math.inf)
        losses.append(state.best)
        seconds.append(state.seconds)
        steps.append(state.step)
    if not math.isfinite(min(losses)):
        raise NumericalError("no optimizer of the race had a finite validation loss; lower their learning rates")
    order = [number for number in sorted(range(len(losses)), key=losses.__getitem__) if math.isfinite(losses[number])]
    finalists = order[: experiment.optimizer.finalists if isinstance(experiment.optimizer, RaceSettings) else 1]
    finish = replace(job, resume=True)
    for number in finalists:
        _finish(finish, run, candidates, number, losses)
    for number in finalists:
        facts = folders[number].begun()
        seconds[number], steps[number] = facts["train_seconds"], facts["steps"]
    loss, size = _combine(job, experiment, run, finalists, losses, step=sum(steps))
    totals = {"train_seconds": sum(seconds), "steps": sum(steps), "validation_loss": loss}
    job.note(experiment, run, parameters=size, **totals)


def _finish(job: Job, run: RunFolder, candidates: Sequence[Experiment], number: int, losses: Sequence[float]) -> None:
    """Train a finalist to the end, from its newest checkpoint."""
    candidate, folder = candidates[number], run.candidate(number + 1)
    optimizers = [str(other.optimizer.name) for other in candidates]
    described = ", ".join(f"{name} {loss:.3e}" for name, loss in zip(optimizers, losses, strict=True))
    plain = type(candidate.optimizer)()
    changed = [f"{name}={value}" for name, value in candidate.optimizer if value != getattr(plain, name)]
    chosen = f"{optimizers[number]} ({', '.join(changed) or 'default settings'})"
    job.reporter(run.path.name).line(f"race: validation {described}; {chosen} goes on")
    trainer = job.trainer(candidate, folder)
    trainer.log.labels["candidate"] = number + 1
    job.fit(trainer, candidate, folder, title=f"{run.path.name}, {candidate.optimizer.name}")


def _combine(
    job: Job, experiment: Experiment, run: RunFolder, finalists: Sequence[int], losses: Sequence[float], *, step: int
) -> tuple[float, int]:
    """Keep the weighted mean of the finalists as the model of the race, with the epochs of the best of them.

    Returns:
        Its validation loss and its number of parameters.
    """
    folders = [run.candidate(number + 1) for number in finalists]
    optimizers = [str(candidate.optimizer.name) for candidate in candidates_of(experiment)]
    ends = [folder.begun()["validation_loss"] for folder in folders]
    best = min(range(len(finalists)), key=ends.__getitem__)
    surrogates = [Surrogate.load(folder.checkpoints.best()) for folder in folders]
    setup, loss = setup_of(experiment, job.datasets, run, job.ranks, surrogates[best]), ends[best]
    weights = [float(number == best) for number in range(len(finalists))]
    reporter = job.reporter(run.path.name)
    if len(finalists) > 1:
        mean, shares = stacked(setup, surrogates)
        of_mean = setup_of(experiment, job.datasets, run, job.ranks, mean)
        mean_loss = of_mean.validation_loss()
        parts = ", ".join(f"{optimizers[i]} {share:.2f}" for i, share in zip(finalists, shares, strict=True))
        reporter.line(f"weighted mean ({parts}): validation {mean_loss:.3e}, best alone {loss:.3e}")
        if mean_loss < loss:  # not always so: the weights minimise the squared error, whatever the loss
            setup, loss, weights = of_mean, mean_loss, shares
    setup.callbacks = job.callbacks

    def write_epochs() -> None:
        log = run.log()
        log.path.unlink(missing_ok=True)
        for record in folders[best].records():
            if record["event"] in ("epoch", "refit"):
                log.write(**record)

    job.ranks.alone(write_epochs)
    chosen = [number + 1 for number in finalists]
    setup.record(
        "race",
        chosen=chosen,
        weights=weights,
        optimizers=optimizers,
        validation_losses=list(losses),
        validation_loss=loss,
    )
    if experiment.training.uncertainty and len(finalists) > 1:
        loss = refit_end(setup, reporter, step=step) or loss
    job.ranks.alone(lambda: setup.checkpoints.save_final(setup.surrogate))
    return loss, sum(parameter.numel() for parameter in setup.surrogate.network.parameters())


def _trial(experiment: Experiment) -> int:
    """Return the epochs of a trial."""
    optimizer = experiment.optimizer
    share = optimizer.trial if isinstance(optimizer, RaceSettings) else 0.0
    return max(1, round(share * (experiment.training.epochs or 0)))
