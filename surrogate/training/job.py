"""Train one network into a run folder, from the newest checkpoint on request."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import xarray as xr

from surrogate.config import dump
from surrogate.experiment.log import Reporter
from surrogate.experiment.run_folder import RunFolder, facts_of, write_text
from surrogate.experiment.settings import Experiment
from surrogate.models.layers.linear_part import LinearPart
from surrogate.training.build import evaluation_stream, trainer_of
from surrogate.training.finish import prepare_network, refit_end, refit_start
from surrogate.training.loop import Trainer
from surrogate.training.ranks import Ranks
from surrogate.training.setup import Callback
from surrogate.training.tensorboard import to_tensorboard

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """The data and options that all networks of a run share.

    Arguments:
        datasets: The data, split.
        fingerprint: Fingerprint of the data.
        command: The command line, for the report.
        ranks: The processes that share the run.
        resume: Continue from the newest checkpoint.
        callbacks: Called with the trainer and every record of the log, on the first rank.
        quiet: Show no progress.
    """

    datasets: dict[str, xr.Dataset]
    fingerprint: str
    command: str
    ranks: Ranks
    resume: bool = False
    callbacks: Sequence[Callback] = ()
    quiet: bool = False

    def trainer(self, experiment: Experiment, run: RunFolder) -> Trainer:
        """Build the trainer of an experiment; nothing is written yet."""
        torch.manual_seed(experiment.training.seed)
        trainer = trainer_of(experiment, self.datasets, run, self.ranks)
        trainer.callbacks = [
            *self.callbacks,
            *to_tensorboard(experiment.training.tensorboard and self.ranks.first, run.tensorboard),
        ]
        return trainer

    def reporter(self, title: str, total: int = 0, *, done: int = 0) -> Reporter:
        """Return what shows the progress, on the first rank."""
        return Reporter(title, total, done=done, quiet=self.quiet or not self.ranks.first)

    def open(self, experiment: Experiment, run: RunFolder, **known: float | None) -> None:
        """Write the configuration of a run, and its facts as `note` does."""
        self.ranks.alone(lambda: write_text(run.config, dump(experiment)))
        self.note(experiment, run, **known)

    def note(self, experiment: Experiment, run: RunFolder, **known: float | None) -> None:
        """Write the facts of a run.

        Arguments:
            experiment: The configuration.
            run: The folder.
            known: Further facts, such as the number of parameters.
        """
        facts = facts_of(experiment, self.datasets, self.fingerprint, self.command) | known
        self.ranks.alone(lambda: write_text(run.facts, json.dumps(facts, indent=2)))

    def begin(self, trainer: Trainer, experiment: Experiment, run: RunFolder) -> None:
        """Continue a run from its newest checkpoint where that is asked for, otherwise prepare its network."""
        training = experiment.training
        size = sum(parameter.numel() for parameter in trainer.surrogate.network.parameters())
        self.open(experiment, run, parameters=size)
        if self.resume and trainer.resume():
            return
        self.ranks.alone(lambda: trainer.log.path.unlink(missing_ok=True))
        began = time.monotonic()
        alone = self.ranks.world == 1
        whole = trainer.unshuffled if alone else evaluation_stream(experiment, self.datasets["train"])
        prepare_network(trainer, whole)
        if training.refit in ("start", "both"):
            refit_start(trainer)
        trainer.state.seconds = time.monotonic() - began
        # ridge regression, or a trained network, may be the best there is
        if isinstance(trainer.surrogate.network.features, LinearPart) or training.start_from is not None:
            trainer.keep_start()

    def fit(self, trainer: Trainer, experiment: Experiment, run: RunFolder, *, title: str) -> None:
        """Train one network and write the facts of the run.

        Raises:
            Interrupted: A signal came; a checkpoint is written.
        """
        training, ranks = experiment.training, self.ranks
        self.begin(trainer, experiment, run)
        reporter = self.reporter(title, trainer.total, done=trainer.state.step)
        state = trainer.fit(reporter)
        loss = state.best
        if training.uncertainty or training.refit in ("end", "both"):
            trainer.checkpoints.load_best_of_training(trainer.surrogate)
            refitted = refit_end(trainer, reporter, step=state.step)
            if refitted is not None:
                ranks.alone(lambda: trainer.checkpoints.save_final(trainer.surrogate))
                loss = refitted
        size = sum(parameter.numel() for parameter in trainer.surrogate.network.parameters())  # a fit decides it
        done = {"train_seconds": state.seconds, "steps": state.step, "validation_loss": loss}
        self.note(experiment, run, parameters=size, **done)
