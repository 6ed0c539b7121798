"""The loss in words: what training minimises, and in which units validation losses are logged and shown."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["common_loss", "loss_words"]


def loss_words(loss: str | None, normalize: str | None) -> str:
    """Name a loss with its units.

    Arguments:
        loss: `training.loss` of a configuration; None is its default.
        normalize: `data.normalize` of a configuration; None is its default.
    """
    if loss == "relative_l2":
        return "relative L2 error"
    return f"mean squared error, {'physical' if normalize == 'none' else 'normalised'} units"


def common_loss(words: Iterable[str]) -> str:
    """Return the name that several losses share; where they differ, say that each case has its own."""
    distinct = set(words)
    return distinct.pop() if len(distinct) == 1 else "loss of each case"
