"""Optimizers for separable networks: slimTrain, GNvpro, the exact refit of the head, several optimizers as one."""

from surrogate.optim.combined import Combined
from surrogate.optim.gnvpro import GNvpro
from surrogate.optim.refit import refit
from surrogate.optim.slimtrain import SlimTrain

__all__ = ["Combined", "GNvpro", "SlimTrain", "refit"]
