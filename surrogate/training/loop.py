"""The one training loop: epochs of steps, validation after each, checkpoints that resume at the exact batch."""

from __future__ import annotations

import math
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from surrogate.batch import Batch
from surrogate.data import Stream
from surrogate.errors import ConfigError, DataError, Interrupted, NumericalError
from surrogate.experiment.checkpoint import load_state
from surrogate.experiment.clock import Clock
from surrogate.experiment.log import Reporter
from surrogate.runtime.signals import StopRequest
from surrogate.training.ema import MeanWeights, recompute_averages
from surrogate.training.gradient import Gradient, seed_step
from surrogate.training.methods import Method
from surrogate.training.setup import Setup

__all__ = ["TrainState", "Trainer"]


@dataclass
class TrainState:
    """Counters of a run; all of them are in the checkpoint.

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
    """A run: model, data, optimizer and state.

    Arguments:
        method: Optimizer and step.
        scheduler: Learning rate over the steps.
        train: Shuffled stream of training samples.
        per_step: Batches of a step.
        total: Steps of the whole run.
        until: Steps after which to pause, at the end of an epoch; None for the whole run.
        state: Counters.
        stop: Set by a signal that reached this process.
        mean: Running mean of the weights, with `settings.average`.
        stop_signal: The signal that reached any rank, as of the last reduction.
        kept: The step of the newest checkpoint.
    """

    method: Method
    scheduler: LRScheduler
    train: Stream
    per_step: int
    total: int
    until: int | None = None
    state: TrainState = field(default_factory=TrainState)
    stop: StopRequest = field(default_factory=StopRequest)
    mean: MeanWeights | None = None
    stop_signal: int | None = None
    kept: int | None = None

    def fit(self, reporter: Reporter) -> TrainState:
        """Train to the last epoch, or to the pause.

        Raises:
            Interrupted: A signal came; a checkpoint is written.
            NumericalError: Too many steps in a row were not finite.
        """
        self._begin_mean()
        with self.stop.listening(), reporter:
            try:
                while not self._finished:
                    self._epoch(reporter)
                    self._raise_on_signal()
            except NumericalError:  # on every rank
                self.ranks.alone(self.checkpoints.write_held)
                raise
            self._save_last()
        if not math.isfinite(self.state.best):
            raise NumericalError("the validation loss was never finite; lower optimizer.learning_rate")
        return self.state

    def resume(self) -> bool:
        """Continue from the newest intact checkpoint; return False where there is no checkpoint at all.

        Raises:
            DataError: There are checkpoints, and all of them are damaged.
        """
        for folder in self.checkpoints.intact():
            try:
                self._restore(load_state(folder, self.surrogate))
                return True
            except (ConfigError, KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
                reason = f"{error}" if isinstance(error, DataError) else f"{folder} holds no state of this run: {error}"
                warnings.warn(f"{reason}; falling back to an earlier checkpoint", stacklevel=2)
        if self.checkpoints.steps:
            raise DataError(
                f"every checkpoint in {self.checkpoints.path} is damaged, so there is nothing to resume from; train "
                "anew into another --output, or with --overwrite"
            )
        return False

    def _restore(self, saved: dict[str, Any]) -> None:
        """Load optimizer, schedule, position in the data and counters."""
        if self.settings.average is not None:  # the checkpoint's model is the mean
            self.mean = MeanWeights(self.surrogate.network, self.settings.average, saved["averaged"])
            self.surrogate.network.load_state_dict(saved["weights"])
        self.method.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.load_state_dict(saved["scheduler"])
        self.train.load_state_dict(saved["stream"])
        self.state = TrainState(**(saved.get("train_state") or saved["progressed"]))  # the latter in version 0.1
        self.kept = self.state.step
        if self.ranks.first:
            self.log.truncate(saved["log_bytes"])
            self.checkpoints.point_best(self.state.best_step)

    def keep_start(self) -> None:
        """Let the network as it is before the first step be the best so far; training has to improve on it."""
        state, loss = self.state, self.validation_loss()
        self.record("start", step=state.step, validation_loss=loss)
        if loss < state.best:
            state.best, state.best_step = loss, state.step
            self._begin_mean()
            self.save()

    def _begin_mean(self) -> None:
        """Start the running mean of the weights at the present ones, where one is asked for and there is none."""
        if self.settings.average is not None and self.mean is None:
            self.mean = MeanWeights(self.surrogate.network, self.settings.average)

    def save(self, *, in_memory: bool = False) -> None:
        """Write a checkpoint on the first rank alone, or keep it in memory, as the best, until the next is written."""
        step, state = self.state.step, self._progress()
        with self._mean_weights():
            if in_memory:
                self.ranks.alone(lambda: self.checkpoints.hold(step, self.surrogate, state))
            else:
                best = math.isfinite(self.state.best) and self.state.best_step == step
                self.ranks.alone(lambda: self.checkpoints.save(step, self.surrogate, state, best=best))
                self.kept = step

    def _save_last(self) -> None:
        """Write a checkpoint of the present step unless there is one."""
        if self.kept != self.state.step:
            self.save()

    def _progress(self) -> dict[str, Any]:
        """Return what a checkpoint holds beside the surrogate."""
        state: dict[str, Any] = {
            "optimizer": self.method.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "stream": self.train.state_dict(),
            "train_state": vars(self.state),
            "log_bytes": self.log.size,
        }
        return state if self.mean is None else state | self.mean.state(self.surrogate.network)

    @property
    def _finished(self) -> bool:
        patience = self.settings.patience
        stale = patience is not None and self.state.stale >= patience
        paused = self.until is not None and self.state.step >= self.until
        return stale or paused or self.state.step >= self.total

    @cached_property
    def _gradient(self) -> Gradient:
        return Gradient(self.surrogate.network, self.method, self.ranks, self.settings.clip_norm)

    def _epoch(self, reporter: Reporter) -> None:
        """Train on one pass over the data, or what is left of it, then validate and keep what is best."""
        state, clock = self.state, Clock(self.state.seconds)
        self.surrogate.train()
        for batches in grouped(clock.waiting(self.train), self.per_step):
            self._step(batches, reporter)
            state.seconds = clock.seconds
            reporter.step(clock, state.samples)
            if state.step >= self.total:
                break  # validate first, then stop if a signal came
            if (self.stop_signal if self.ranks.world > 1 else self.stop.signal) is not None:
                self._raise_on_signal()
            if self.settings.checkpoint_every and state.step % self.settings.checkpoint_every == 0:
                self.save()
        with self._mean_weights():
            if self.mean is not None:
                recompute_averages(self)
            loss = self.validation_loss()
        state.seconds = clock.seconds
        self._close_epoch(loss, clock, reporter)

    def _step(self, batches: Sequence[Batch], reporter: Reporter) -> None:
        """Take one step: gradient, new parameters, running mean, learning rate; skip it where it is not finite."""
        state = self.state
        seed_step(self.settings.seed, state.step, self.ranks.rank, self.device)
        batches = [self.objective.batch(self.surrogate, batch.to(self.device, non_blocking=True)) for batch in batches]
        result = self._gradient.backward(batches, self.stop.signal or 0)
        self.stop_signal = result.signal or self.stop_signal
        state.step += 1
        if result.cause:
            self._skip(result.cause)
        else:
            self.method.update(self.surrogate.network, batches)
            if self.mean is not None:
                self.mean.update(self.surrogate.network)
            self.scheduler.step()
            state.failures = 0
            state.loss_sum += result.loss * result.samples
            state.samples += result.samples
        if state.step % self.settings.log_every == 0:
            loss = math.nan if result.cause else result.loss
            self.record("step", step=state.step, epoch=state.epoch, loss=loss, **self.method.diagnostics())

    def _skip(self, cause: str) -> None:
        """Count a skipped step; give up after too many in a row."""
        state = self.state
        state.failures += 1
        state.skipped += 1
        self.record("skipped", step=state.step, epoch=state.epoch, cause=cause)
        if state.failures > self.settings.tolerated_failures:
            raise NumericalError(
                f"{state.failures} steps in a row had to be skipped, the last at step {state.step}: "
                f"{cause}; lower optimizer.learning_rate or check the data with `surrogate inspect`"
            )

    def _close_epoch(self, loss: float, clock: Clock, reporter: Reporter) -> None:
        """Update the counters after validation, log the epoch, and write its checkpoint where one is due."""
        state = self.state
        train_loss = state.loss_sum / max(state.samples, 1)
        rate = state.samples / clock.elapsed
        state.epoch += 1
        state.loss_sum, state.samples = 0.0, 0
        best = loss < state.best
        state.stale = 0 if best else state.stale + 1
        if best:
            state.best, state.best_step = loss, state.step
        self.record(
            "epoch",
            step=state.step,
            epoch=state.epoch,
            train_loss=train_loss,
            validation_loss=loss,
            seconds=clock.elapsed,
            samples_per_second=rate,
            data_wait=clock.waited / clock.elapsed,
            skipped=state.skipped,
        )
        due = self.checkpoints.due or self.settings.checkpoint_every is not None
        if self.ranks.largest(int(self.ranks.first and due)):
            self.save()
        elif best:
            self.save(in_memory=True)
        of = f"/{self.settings.epochs}" if self.settings.epochs else ""
        reporter.line(
            f"epoch {state.epoch}{of}  train {train_loss:.3e}  validation {loss:.3e}  {rate:.0f} samples/s"
            f"  data wait {clock.waited / clock.elapsed:.0%}{reporter.left()}{'  best' if best else ''}"
        )

    def _raise_on_signal(self) -> None:
        """Share a stop signal with all ranks; if there was one, write a checkpoint and raise `Interrupted`."""
        self.stop_signal = self.ranks.largest(self.stop.signal or 0) or None
        if self.stop_signal is not None:
            self._save_last()
            name, step = signal.Signals(self.stop_signal).name, self.state.step
            raise Interrupted(f"stopped by {name} at step {step}; a checkpoint is written: continue with --resume")

    def _mean_weights(self) -> AbstractContextManager[None]:
        """Give the surrogate the mean weights inside the block, where there is a mean."""
        return nullcontext() if self.mean is None else self.mean.in_use(self.surrogate)


def grouped(batches: Iterator[Batch], count: int) -> Iterator[list[Batch]]:
    """Yield lists of so many batches; the last may be shorter."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == count:
            yield group
            group = []
    if group:
        yield group
