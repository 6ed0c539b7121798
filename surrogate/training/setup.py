"""The model, data, log and checkpoints that training and the passes after it share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from surrogate.data import Stream
from surrogate.experiment.checkpoint import CheckpointFolder
from surrogate.experiment.log import RunLog
from surrogate.experiment.settings import TrainingSettings
from surrogate.models.surrogate import Surrogate
from surrogate.training.objective import Objective
from surrogate.training.ranks import Ranks

__all__ = ["Callback", "Setup"]

Callback = Callable[[Any, dict[str, Any]], None]  # from the trainer, or the set-up of an ensemble, and a record


@dataclass(kw_only=True)
class Setup:
    """A model, its training and validation data, its log and its checkpoints.

    Arguments:
        surrogate: The model, on its device.
        objective: Loss and precision.
        unshuffled: Training samples in the order of the file.
        validation: Stream of validation samples.
        settings: Lengths and intervals.
        checkpoints: Folder of checkpoints.
        log: The log.
        device: Device of the model.
        ranks: The processes that share the run.
        callbacks: Called with this object and every record of the log.
    """

    surrogate: Surrogate
    objective: Objective
    unshuffled: Stream
    validation: Stream
    settings: TrainingSettings
    checkpoints: CheckpointFolder
    log: RunLog
    device: torch.device
    ranks: Ranks = field(default_factory=Ranks)
    callbacks: Sequence[Callback] = ()

    def record(self, event: str, **values: Any) -> None:
        """Write a record to the log and pass it to the callbacks; on the first rank alone."""
        if self.ranks.first:
            record = self.log.write(event, **values)
            for callback in self.callbacks:
                callback(self, record)

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Compute the loss over all validation samples and ranks, in evaluation mode."""
        surrogate = self.surrogate.eval()
        total, samples = torch.zeros((), dtype=torch.float64, device=self.device), 0
        for batch in filter(len, self.validation):
            batch = self.objective.batch(surrogate, batch.to(self.device))
            total += self.objective.of_batch(surrogate.network, batch) * len(batch)
            samples += len(batch)
        surrogate.train()
        loss, count = self.ranks.sum(torch.tensor([float(total), samples], dtype=torch.float64)).tolist()
        return float(loss / count)
