"""The one training loop: epochs of steps, validation after each, checkpoints that resume at the exact batch."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from surrogate.batch import Batch
from surrogate.checks import Interrupted, NumericalError
from surrogate.data import Stream
from surrogate.models.surrogate import Surrogate
from surrogate.training.checkpoint import CheckpointFolder, load_state
from surrogate.training.log import Reporter, RunLog
from surrogate.training.settings import TrainingSettings
from surrogate.training.steps import Method

__all__ = ["Progressed", "Trainer", "validation_loss"]


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
    seconds: float = 0.0


class StopRequest:
    """Set by SIGTERM, SIGUSR1 or SIGINT; a second signal ends at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the block runs."""
        numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


@dataclass
class Trainer:
    """Everything one run is made of.

    Arguments:
        surrogate: The model, on its device.
        method: Optimizer and step.
        scheduler: Learning rate over the steps.
        train: Shuffled stream of training samples.
        unshuffled: The same samples in the order of the file.
        validation: Stream of validation samples.
        settings: Lengths and intervals.
        checkpoints: Where checkpoints go.
        log: Where records go.
        device: Where the model is.
    """

    surrogate: Surrogate
    method: Method
    scheduler: LRScheduler
    train: Stream
    unshuffled: Stream
    validation: Stream
    settings: TrainingSettings
    checkpoints: CheckpointFolder
    log: RunLog
    device: torch.device
    progressed: Progressed = field(default_factory=Progressed)
    stop: StopRequest = field(default_factory=StopRequest)

    def fit(self, reporter: Reporter) -> Progressed:
        """Train to the last epoch.

        Raises:
            Interrupted: A signal came; a checkpoint is written.
            NumericalError: Too many steps in a row were not finite.
        """
        with self.stop.listening(), reporter:
            while self.progressed.epoch < self.settings.epochs:
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
        self.method.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.train.load_state_dict(state["stream"])
        torch.set_rng_state(state["rng"])
        self.progressed = Progressed(**state["progressed"])
        self.log.truncate(self.progressed.step)
        self.checkpoints.point_best(self.progressed.best_step)
        return True

    def _epoch(self, reporter: Reporter) -> None:
        started, before = time.perf_counter(), self.progressed.seconds
        self.surrogate.train()
        for batch in self.train:
            self._step(batch, reporter)
            self.progressed.seconds = before + time.perf_counter() - started
            if self.stop.signal is not None:
                self._save(best=False)
                self._leave_on_signal()
        loss = validation_loss(self.surrogate, self.validation, self.device)
        self.progressed.seconds = before + time.perf_counter() - started
        self._close_epoch(loss, time.perf_counter() - started, reporter)

    def _leave_on_signal(self) -> None:
        """End the run after a signal; a checkpoint has just been written."""
        if self.stop.signal is not None:
            name, step = signal.Signals(self.stop.signal).name, self.progressed.step
            raise Interrupted(f"stopped by {name} at step {step}; a checkpoint is written: continue with --resume")

    def _step(self, batch: Batch, reporter: Reporter) -> None:
        progressed = self.progressed
        loss = self._backward(self.surrogate.normalized(batch.to(self.device, non_blocking=True)))
        progressed.step += 1
        if math.isfinite(loss):
            self.method.optimizer.step()
            self.scheduler.step()
            progressed.failures = 0
            progressed.loss_sum += loss * len(batch)
            progressed.samples += len(batch)
        if progressed.step % self.settings.log_every == 0:
            self.log.write("step", step=progressed.step, epoch=progressed.epoch, loss=loss, **self.method.diagnostics())
        reporter.step()

    def _backward(self, batch: Batch) -> float:
        """The loss of a batch, with gradients on the parameters; NaN when anything is not finite."""
        network = self.surrogate.network
        buffers = [buffer.clone() for buffer in network.buffers()]  # BatchNorm averages even a batch that is skipped
        try:
            loss = self.method.backward(network, batch)
            cause = "" if _finite(loss, self.surrogate) else "loss or gradient not finite"
        except NumericalError as error:
            cause = str(error)
        if cause:
            for buffer, before in zip(network.buffers(), buffers, strict=True):
                buffer.copy_(before)
            self._skipped(cause)
            return math.nan
        return float(loss)

    def _skipped(self, cause: str) -> None:
        progressed = self.progressed
        progressed.failures += 1
        progressed.skipped += 1
        self.log.write("skipped", step=progressed.step + 1, epoch=progressed.epoch, cause=cause)
        if progressed.failures > self.settings.tolerated_failures:
            raise NumericalError(
                f"{progressed.failures} steps in a row had to be skipped, the last at step {progressed.step + 1}: "
                f"{cause}; lower optimizer.learning_rate or look at the data with `surrogate inspect`"
            )

    def _close_epoch(self, loss: float, seconds: float, reporter: Reporter) -> None:
        progressed = self.progressed
        train_loss = progressed.loss_sum / max(progressed.samples, 1)
        rate = progressed.samples / seconds
        progressed.epoch += 1
        progressed.loss_sum, progressed.samples = 0.0, 0
        best = loss < progressed.best
        if best:
            progressed.best, progressed.best_step = loss, progressed.step
        record = {"step": progressed.step, "epoch": progressed.epoch, "train_loss": train_loss, "validation_loss": loss}
        self.log.write("epoch", **record, seconds=seconds, samples_per_second=rate, skipped=progressed.skipped)
        self._save(best=best)
        reporter.line(
            f"epoch {progressed.epoch}/{self.settings.epochs}  train {train_loss:.3e}  validation {loss:.3e}"
            f"  {rate:.0f} samples/s{'  best' if best else ''}"
        )

    def _save(self, *, best: bool) -> None:
        state: dict[str, Any] = {
            "optimizer": self.method.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "stream": self.train.state_dict(),
            "rng": torch.get_rng_state(),
            "progressed": vars(self.progressed),
        }
        self.checkpoints.save(self.progressed.step, self.surrogate, state, best=best)


@torch.no_grad()
def validation_loss(surrogate: Surrogate, stream: Stream, device: torch.device) -> float:
    """Mean squared error over all samples of a stream, in normalised units, in evaluation mode."""
    surrogate.eval()
    total, samples = 0.0, 0
    for batch in stream:
        batch = surrogate.normalized(batch.to(device))
        loss = nn.functional.mse_loss(surrogate.network(batch.inputs), batch.targets)
        total += float(loss) * len(batch)
        samples += len(batch)
    surrogate.train()
    return total / samples


def _finite(loss: Tensor, model: nn.Module) -> bool:
    """Whether the loss and the sum of all gradients are finite."""
    total = loss
    for parameter in model.parameters():
        if parameter.grad is not None:
            total = total + parameter.grad.sum()
    return bool(torch.isfinite(total))
