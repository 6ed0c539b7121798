"""The one training loop: epochs of steps, validation after each, checkpoints that resume at the exact batch."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from safetensors.torch import load_file
from torch.optim.lr_scheduler import LRScheduler

from surrogate.batch import Batch
from surrogate.data import Stream
from surrogate.errors import Interrupted, NumericalError
from surrogate.experiment.checkpoint import load_state
from surrogate.experiment.clock import Clock
from surrogate.experiment.log import Reporter
from surrogate.runtime.signals import StopRequest
from surrogate.training.ema import MeanWeights, recompute_averages
from surrogate.training.gradient import Gradient, seed_step
from surrogate.training.methods import Method
from surrogate.training.setup import Setup

__all__ = ["Progressed", "Trainer"]


@dataclass
class Progressed:
    """How far a run has come; all of it is in the checkpoint.

    Arguments:
        step: Steps done.
        epoch: Epochs finished.
        loss_sum: Sum of loss times batch size over the running epoch.
        samples: Samples seen in the running epoch.
        failures: Steps in a row that were skipped as non-finite.
        skipped: Steps skipped in all.
        best: Lowest validation loss so far.
        best_step: The step at which it was reached.
        stale: Epochs since then.
        seconds: Time spent training.
    """

    step: int = 0
    epoch: int = 0
    loss_sum: float = 0.0
    samples: int = 0
    failures: int = 0
    skipped: int = 0
    best: float = math.inf
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0


@dataclass(kw_only=True)
class Trainer(Setup):
    """Everything one run is made of.

    Arguments:
        method: Optimizer and step.
        scheduler: Learning rate over the steps.
        train: Shuffled stream of training samples.
        per_step: Batches of a step.
        total: Steps of the whole run.
    """

    method: Method
    scheduler: LRScheduler
    train: Stream
    per_step: int
    total: int
    progressed: Progressed = field(default_factory=Progressed)
    stop: StopRequest = field(default_factory=StopRequest)
    mean: MeanWeights | None = None  # with `settings.average`
    agreed: int | None = None  # the signal that all ranks know of since the last reduction

    def fit(self, reporter: Reporter) -> Progressed:
        """Train to the last epoch.

        Raises:
            Interrupted: A signal came; a checkpoint is written.
            NumericalError: Too many steps in a row were not finite.
        """
        if self.settings.average is not None and self.mean is None:
            self.mean = MeanWeights(self.surrogate.network, self.settings.average)
        with self.stop.listening(), reporter:
            while not self._finished:
                self._epoch(reporter)
                self._leave_on_signal()
        if not math.isfinite(self.progressed.best):
            raise NumericalError("the validation loss was never finite; lower optimizer.learning_rate")
        return self.progressed

    def resume(self) -> bool:
        """Continue from the newest checkpoint that is whole; False when there is none."""
        folder = self.checkpoints.latest()
        if folder is None:
            return False
        state = load_state(folder, self.surrogate)
        if self.settings.average is not None:  # the checkpoint's model is the mean
            self.mean = MeanWeights(self.surrogate.network, self.settings.average, state["averaged"])
            self.surrogate.network.load_state_dict(state["weights"])
        self.method.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.train.load_state_dict(state["stream"])
        self.progressed = Progressed(**state["progressed"])
        if self.ranks.first:
            self.log.truncate(state["log_bytes"])
            self.checkpoints.point_best(self.progressed.best_step)
        return True

    def go_back_to_best(self) -> None:
        """Give the model the weights of the checkpoint with the lowest validation loss."""
        self.surrogate.load_state_dict(load_file(self.checkpoints.best_of_training() / "model.safetensors"))

    @property
    def _finished(self) -> bool:
        patience = self.settings.patience
        stale = patience is not None and self.progressed.stale >= patience
        return stale or self.progressed.step >= self.total

    @cached_property
    def _gradient(self) -> Gradient:
        return Gradient(self.surrogate.network, self.method, self.ranks, self.settings.clip_norm)

    def _epoch(self, reporter: Reporter) -> None:
        clock = Clock(self.progressed.seconds)
        self.surrogate.train()
        for batches in grouped(clock.waiting(self.train), self.per_step):
            self._step(batches, reporter)
            self.progressed.seconds = clock.seconds
            reporter.step(clock, self.progressed.samples)
            if self.progressed.step >= self.total:
                break  # validated first, then a signal is heeded
            if (self.agreed if self.ranks.world > 1 else self.stop.signal) is not None:
                self.save(best=False)
                self._leave_on_signal()
            if self.settings.checkpoint_every and self.progressed.step % self.settings.checkpoint_every == 0:
                self.save(best=False)
        with self._mean_weights():
            if self.mean is not None:
                recompute_averages(self)
            loss = self.validation_loss()
        self.progressed.seconds = clock.seconds
        self._close_epoch(loss, clock, reporter)

    def _leave_on_signal(self) -> None:
        """End the run after a signal; a checkpoint has just been written."""
        self._agree_on_signal()
        if self.agreed is not None:
            name, step = signal.Signals(self.agreed).name, self.progressed.step
            raise Interrupted(f"stopped by {name} at step {step}; a checkpoint is written: continue with --resume")

    def _agree_on_signal(self) -> None:
        """Let a signal that reached any rank have reached all of them."""
        self.agreed = self.ranks.largest(self.stop.signal or 0) or None

    def _step(self, batches: Sequence[Batch], reporter: Reporter) -> None:
        progressed = self.progressed
        seed_step(self.settings.seed, progressed.step, self.ranks.rank, self.device)
        batches = [self.objective.batch(self.surrogate, batch.to(self.device, non_blocking=True)) for batch in batches]
        found = self._gradient.backward(batches, self.stop.signal or 0)
        self.agreed = found.signal or self.agreed
        progressed.step += 1
        if found.cause:
            self._skipped(found.cause)
        else:
            self.method.update(self.surrogate.network, batches)
            if self.mean is not None:
                self.mean.update(self.surrogate.network)
            self.scheduler.step()
            progressed.failures = 0
            progressed.loss_sum += found.loss * found.samples
            progressed.samples += found.samples
        if progressed.step % self.settings.log_every == 0:
            loss = math.nan if found.cause else found.loss
            self.tell("step", step=progressed.step, epoch=progressed.epoch, loss=loss, **self.method.diagnostics())

    def _skipped(self, cause: str) -> None:
        progressed = self.progressed
        progressed.failures += 1
        progressed.skipped += 1
        self.tell("skipped", step=progressed.step, epoch=progressed.epoch, cause=cause)
        if progressed.failures > self.settings.tolerated_failures:
            raise NumericalError(
                f"{progressed.failures} steps in a row had to be skipped, the last at step {progressed.step}: "
                f"{cause}; lower optimizer.learning_rate or look at the data with `surrogate inspect`"
            )

    def _close_epoch(self, loss: float, clock: Clock, reporter: Reporter) -> None:
        progressed = self.progressed
        train_loss = progressed.loss_sum / max(progressed.samples, 1)
        rate = progressed.samples / clock.elapsed
        progressed.epoch += 1
        progressed.loss_sum, progressed.samples = 0.0, 0
        best = loss < progressed.best
        progressed.stale = 0 if best else progressed.stale + 1
        if best:
            progressed.best, progressed.best_step = loss, progressed.step
        record = {"step": progressed.step, "epoch": progressed.epoch, "train_loss": train_loss, "validation_loss": loss}
        self.tell(
            "epoch",
            **record,
            seconds=clock.elapsed,
            samples_per_second=rate,
            data_wait=clock.waited / clock.elapsed,
            skipped=progressed.skipped,
        )
        self.save(best=best)
        of = f"/{self.settings.epochs}" if self.settings.epochs else ""
        reporter.line(
            f"epoch {progressed.epoch}{of}  train {train_loss:.3e}  validation {loss:.3e}  {rate:.0f} samples/s"
            f"  data wait {clock.waited / clock.elapsed:.0%}{reporter.left()}{'  best' if best else ''}"
        )

    def save(self, *, best: bool) -> None:
        """Write a checkpoint, on the first rank alone."""
        state: dict[str, Any] = {
            "optimizer": self.method.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "stream": self.train.state_dict(),
            "progressed": vars(self.progressed),
            "log_bytes": self.log.size,
        }
        if self.mean is not None:
            state |= self.mean.state(self.surrogate.network)
        with self._mean_weights():
            self.ranks.alone(lambda: self.checkpoints.save(self.progressed.step, self.surrogate, state, best=best))

    def _mean_weights(self) -> AbstractContextManager[None]:
        """Inside it the surrogate has the mean weights, where there is a mean."""
        return nullcontext() if self.mean is None else self.mean.in_use(self.surrogate)


def grouped(batches: Iterator[Batch], count: int) -> Iterator[list[Batch]]:
    """Lists of so many batches; the last may be shorter."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == count:
            yield group
            group = []
    if group:
        yield group
