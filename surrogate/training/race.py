"""A race: several optimizers train the same network for a few epochs, the one of lowest validation loss goes on."""

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
from surrogate.training.job import Job

__all__ = ["candidates_of", "fit_race"]


def candidates_of(experiment: Experiment) -> list[Experiment]:
    """Return one experiment for each candidate of a race; the experiment itself where there is none.

    Each is as long as the chosen one will be, so that its schedule fits from the first step on.

    Raises:
        ConfigError: There are too few epochs for all trials.
    """
    optimizer, training = experiment.optimizer, experiment.training
    if not isinstance(optimizer, RaceSettings):
        return [experiment]
    trial, others = _trial(experiment), len(optimizer.candidates) - 1
    epochs = (training.epochs or 0) - others * trial
    if epochs <= trial:
        raise ConfigError(
            f"training.epochs: {training.epochs} are too few for a race of {others + 1} optimizers, which try {trial} "
            f"each; take more than {(others + 1) * trial}, or fewer candidates"
        )
    shared = training.model_copy(update={"epochs": epochs})
    return [
        experiment.model_copy(update={"optimizer": candidate, "training": shared}) for candidate in optimizer.candidates
    ]


def fit_race(job: Job, experiment: Experiment, run: RunFolder) -> None:
    """Train every candidate for its trial into a run folder of its own, then the best of them to the end.

    All start from the same weights and see the same batches. A candidate whose steps are not finite is out. With
    `job.resume` finished trials are kept and an unfinished one is continued.

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
    best = _finish(replace(job, resume=True), experiment, run, candidates, losses)
    facts = folders[best].begun()
    others = [number for number in range(len(losses)) if number != best]
    job.note(
        experiment,
        run,
        parameters=facts["parameters"],
        train_seconds=facts["train_seconds"] + sum(seconds[number] for number in others),
        steps=facts["steps"] + sum(steps[number] for number in others),
        validation_loss=facts["validation_loss"],
    )


def _finish(
    job: Job, experiment: Experiment, run: RunFolder, candidates: Sequence[Experiment], losses: Sequence[float]
) -> int:
    """Train the best candidate to the end and keep its model and epochs as those of the race; return its position."""
    best = min(range(len(losses)), key=losses.__getitem__)
    candidate, folder = candidates[best], run.candidate(best + 1)
    optimizers = [str(other.optimizer.name) for other in candidates]
    reporter = job.reporter(run.path.name)
    described = ", ".join(f"{name} {loss:.3e}" for name, loss in zip(optimizers, losses, strict=True))
    plain = type(candidate.optimizer)()
    changed = [f"{name}={value}" for name, value in candidate.optimizer if value != getattr(plain, name)]
    chosen = f"{optimizers[best]} ({', '.join(changed) or 'default settings'})"
    reporter.line(f"race: validation {described}; {chosen} goes on")
    trainer = job.trainer(candidate, folder)
    trainer.log.labels["candidate"] = best + 1
    job.fit(trainer, candidate, folder, title=f"{run.path.name}, {candidate.optimizer.name}")
    surrogate = Surrogate.load(folder.checkpoints.best())
    setup = setup_of(experiment, job.datasets, run, job.ranks, surrogate)
    setup.callbacks = job.callbacks

    def write_epochs() -> None:
        log = run.log()
        log.path.unlink(missing_ok=True)
        for record in folder.records():
            if record["event"] in ("epoch", "refit"):
                log.write(**record)

    job.ranks.alone(write_epochs)
    setup.record("race", chosen=best + 1, optimizers=optimizers, validation_losses=list(losses))
    job.ranks.alone(lambda: setup.checkpoints.save_final(surrogate))
    return best


def _trial(experiment: Experiment) -> int:
    """Return the epochs of a trial."""
    optimizer = experiment.optimizer
    share = optimizer.trial if isinstance(optimizer, RaceSettings) else 0.0
    return max(1, round(share * (experiment.training.epochs or 0)))
