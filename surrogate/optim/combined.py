"""Combine several optimizers into one, for parameters of different kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer

from surrogate.errors import ConfigError

__all__ = ["Combined"]


class Combined(Optimizer):
    """Optimizers over disjoint parameters; schedulers see the groups of all.

    Arguments:
        parts: The optimizers, at least one.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        groups = [group for part in parts for group in part.param_groups]
        super().__init__(groups, parts[0].defaults)
        self.parts = list(parts)
        self.param_groups = groups  # the parts' own, so that a learning rate set here is theirs

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step of each optimizer."""
        loss = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the states of the parts.

        Raises:
            ConfigError: The state belongs to another optimizer.
        """
        states = state_dict.get("parts", [])
        if len(states) != len(self.parts):
            raise ConfigError(f"the state is not of {len(self.parts)} optimizers; load it into the same optimizer")
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
