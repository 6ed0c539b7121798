"""Ensembles: several networks of one configuration, trained from different seeds, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from surrogate.errors import Interrupted, NumericalError
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import Experiment
from surrogate.models.surrogate import Surrogate
from surrogate.training.build import setup_of
from surrogate.training.finish import refit_end
from surrogate.training.job import Job

__all__ = ["fit_members", "members_of"]


def members_of(experiment: Experiment) -> list[Experiment]:
    """Return one experiment for each network of an ensemble; the experiment itself where it has one network.

    Data, split and normalisation are those of the whole. Ensembles of different seeds have no network in common. The
    posterior of `training.uncertainty` is that of the whole.
    """
    training = experiment.training
    if training.members == 1:
        return [experiment]
    single = training.model_copy(update={"members": 1, "uncertainty": False})
    first = training.seed * training.members
    return [
        experiment.model_copy(update={"training": single.model_copy(update={"seed": seed})})
        for seed in range(first, first + training.members)
    ]


def fit_members(job: Job, experiment: Experiment, run: RunFolder) -> None:
    """Train every member into a run folder of its own inside that of the ensemble, then write their mean.

    With `job.resume`, finished members are kept and an unfinished one is continued.

    Raises:
        Interrupted: A signal came; a checkpoint of the member is written.
    """
    job.open(experiment, run)
    folders = [run.member(number) for number in range(1, experiment.training.members + 1)]
    for number, (member, folder) in enumerate(zip(members_of(experiment), folders, strict=True), 1):
        if job.resume and job.ranks.all(folder.begun().get("train_seconds") is not None):
            continue
        name = f"member {number} of {len(folders)}"
        try:
            trainer = job.trainer(member, folder)
            trainer.log.labels["member"] = number
            job.fit(trainer, member, folder, title=f"{run.path.name}, {name}")
        except (Interrupted, NumericalError) as error:
            raise type(error)(f"{name}: {error}") from error
    mean = Surrogate.mean_of([Surrogate.load(folder.checkpoints.best()) for folder in folders])
    setup = setup_of(experiment, job.datasets, run, job.ranks, mean)
    setup.callbacks = job.callbacks
    members = [folder.begun() for folder in folders]
    steps = sum(member["steps"] for member in members)
    reporter = job.reporter(run.path.name)
    job.ranks.alone(lambda: _write_epochs(run, folders))
    losses = [member["validation_loss"] for member in members]
    loss = setup.validation_loss()
    setup.record("ensemble", step=steps, validation_loss=loss, members=losses)
    reporter.line(f"mean of {len(folders)}: validation {loss:.3e}, alone {min(losses):.3e} to {max(losses):.3e}")
    if experiment.training.uncertainty:
        loss = refit_end(setup, reporter, step=steps) or loss
    job.ranks.alone(lambda: setup.checkpoints.save_final(mean))
    job.note(
        experiment,
        run,
        parameters=sum(parameter.numel() for parameter in mean.network.parameters()),
        train_seconds=sum(member["train_seconds"] for member in members),
        steps=steps,
        validation_loss=loss,
    )


def _write_epochs(run: RunFolder, folders: Sequence[RunFolder]) -> None:
    """Write a new log with a record per epoch: mean losses and summed times of the members that trained so long."""
    log = run.log()
    log.path.unlink(missing_ok=True)
    epochs = [[record for record in folder.records() if record["event"] == "epoch"] for folder in folders]
    for number, records in enumerate(zip_longest(*epochs), 1):
        present: list[dict[str, Any]] = [record for record in records if record is not None]
        log.write(
            "epoch",
            epoch=number,
            step=sum(record["step"] for record in present),
            seconds=sum(record["seconds"] for record in present),
            members=len(present),
            **{
                key: float(np.mean([np.nan if record[key] is None else record[key] for record in present]))
                for key in ("train_loss", "validation_loss")
            },
        )
