"""A race: several optimizers train the same network for a few epochs; those of lowest validation loss go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from surrogate.errors import ConfigError, Interrupted, NumericalError
from surrogate.experiment.optimizers import OptimizerBase, RaceSettings
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import Experiment, TrainingSettings
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
    trial, count, kept = _trial(optimizer, training), len(optimizer.candidates), len(optimizer.methods)
    epochs = ((training.epochs or 0) - (count - kept) * trial) // kept
    if epochs < trial + (count > kept):
        raise ConfigError(
            f"training.epochs: {training.epochs} are too few for a race of {count} optimizers, which try {trial} each; "
            f"take at least {count * trial + (count > kept) * kept}, or fewer candidates"
        )
    uncertainty = training.uncertainty and kept == 1  # of several networks it is that of their mean
    shared = training.model_copy(update={"epochs": epochs, "uncertainty": uncertainty})
    return [
        experiment.model_copy(update={"optimizer": candidate, "training": shared}) for candidate in optimizer.candidates
    ]


def fit_race(job: Job, experiment: Experiment, race: RaceSettings, run: RunFolder) -> None:
    """Train every candidate for its trial into a run folder of its own, then the best of each method to the end.

    All start from the same weights and see the same batches. A candidate whose steps are not finite is out. The model
    is the weighted mean of those that went on. With `job.resume` finished parts are kept, an unfinished one continued.

    Arguments:
        job: Data and options.
        experiment: The configuration.
        race: Its optimizer.
        run: The run folder.

    Raises:
        Interrupted: A signal came; a checkpoint of the candidate is written.
        NumericalError: No candidate had a finite validation loss.
    """
    job.open(experiment, run)
    candidates = candidates_of(experiment)
    folders = [run.candidate(number) for number in range(1, len(candidates) + 1)]
    losses, seconds, steps, epochs = [], [], [], _trial(race, experiment.training)
    for number, (candidate, folder) in enumerate(zip(candidates, folders, strict=True), 1):
        title = f"{run.path.name}, trial {number} of {len(folders)}"
        trainer = job.trainer(candidate, folder)
        trainer.log.labels["candidate"] = number
        trainer.until = epochs * (trainer.total // (candidate.training.epochs or 1))
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
    best = [min(method, key=losses.__getitem__) for method in race.methods]
    finalists = [number for number in best if math.isfinite(losses[number])]
    names = [_described(candidate.optimizer) for candidate in candidates]
    tried = ", ".join(f"{name} {loss:.3e}" for name, loss in zip(names, losses, strict=True))
    going = ", ".join(names[number] for number in finalists)
    job.reporter(run.path.name).line(f"race: validation loss of {tried}; on: {going}")
    for number in finalists:
        candidate, folder = candidates[number], folders[number]
        trainer = job.trainer(candidate, folder)
        trainer.log.labels["candidate"] = number + 1
        replace(job, resume=True).fit(trainer, candidate, folder, title=f"{run.path.name}, {names[number]}")
    for number in finalists:
        facts = folders[number].begun()
        seconds[number], steps[number] = facts["train_seconds"], facts["steps"]
    loss, size = _combine(job, experiment, run, finalists, losses, step=sum(steps))
    totals = {"train_seconds": sum(seconds), "steps": sum(steps), "validation_loss": loss}
    job.note(experiment, run, parameters=size, **totals)


def _combine(
    job: Job, experiment: Experiment, run: RunFolder, finalists: Sequence[int], losses: Sequence[float], *, step: int
) -> tuple[float, int]:
    """Keep the weighted mean of the finalists as the model of the race, with the epochs of the best of them.

    Returns:
        Its validation loss and its number of parameters.
    """
    folders = [run.candidate(number + 1) for number in finalists]
    candidates = candidates_of(experiment)
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
        names = [_described(candidates[number].optimizer) for number in finalists]
        parts = " + ".join(f"{share:.2f} {name}" for name, share in zip(names, shares, strict=True))
        reporter.line(f"{parts}: validation {mean_loss:.3e}, best alone {loss:.3e}")
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
    setup.record(
        "race",
        chosen=[number + 1 for number in finalists],
        weights=weights,
        optimizers=[str(candidate.optimizer.name) for candidate in candidates],
        validation_losses=list(losses),
        validation_loss=loss,
    )
    if experiment.training.uncertainty and len(finalists) > 1:
        loss = refit_end(setup, reporter, step=step) or loss
    job.ranks.alone(lambda: setup.checkpoints.save_final(setup.surrogate))
    return loss, sum(parameter.numel() for parameter in setup.surrogate.network.parameters())


def _described(optimizer: OptimizerBase) -> str:
    """Return the name of an optimizer with the settings that are not the defaults."""
    plain = type(optimizer)()
    changed = [f"{name}={value}" for name, value in optimizer if value != getattr(plain, name)]
    name = str(plain.model_dump()["name"])
    return f"{name} ({', '.join(changed)})" if changed else name


def _trial(race: RaceSettings, training: TrainingSettings) -> int:
    """Return the epochs of a trial."""
    return max(1, round(race.trial * (training.epochs or 0)))
