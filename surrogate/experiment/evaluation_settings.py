"""The `evaluation:` section of a configuration."""

from __future__ import annotations

from pydantic import Field

from surrogate.config import Settings

__all__ = ["EvaluationSettings"]


class EvaluationSettings(Settings):
    """Settings of roll-outs in an evaluation.

    Arguments:
        rollout_steps: Network steps that a time stepper is rolled out over each simulation; None takes as many as the
            data have, 0 none.
        threshold: Relative L2 error up to which a roll-out counts as useful.
    """

    rollout_steps: int | None = Field(None, ge=0)
    threshold: float = Field(0.5, gt=0)
