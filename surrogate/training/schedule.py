"""Learning-rate schedules as pure functions of the step, without state."""

from __future__ import annotations

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from surrogate.experiment.settings import TrainingSettings

__all__ = ["factor", "scheduler_of"]


def factor(step: int, *, schedule: str, warmup: int, total: int, decay_to: float) -> float:
    r"""Return the learning rate of a step as a multiple of the configured one.

    It rises linearly over the warm-up, (step + 1) / warmup; then, with x from 0 to 1 over the remaining steps,

    .. math:: d + (1 - d) (1 + \cos \pi x) / 2 \quad\text{or}\quad d + (1 - d) (1 - x) \quad\text{or}\quad 1.

    Arguments:
        step: Steps done before.
        schedule: `cosine`, `linear` or `constant`.
        warmup: Steps of the warm-up.
        total: Steps of the run.
        decay_to: d, the multiple at the end.
    """
    if step < warmup:
        return (step + 1) / warmup
    x = min((step - warmup) / max(total - warmup, 1), 1.0)
    match schedule:
        case "cosine":
            return decay_to + (1 - decay_to) * 0.5 * (1 + math.cos(math.pi * x))
        case "linear":
            return decay_to + (1 - decay_to) * (1 - x)
    return 1.0


def scheduler_of(optimizer: Optimizer, settings: TrainingSettings, total: int) -> LambdaLR:
    """Build the scheduler of a run of `total` steps."""
    schedule, warmup, decay_to = settings.schedule, settings.warmup, settings.decay_to
    return LambdaLR(optimizer, partial(factor, schedule=schedule, warmup=warmup, total=total, decay_to=decay_to))
