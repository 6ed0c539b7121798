"""The step of each optimizer, as a class with `backward` and `update`; the loop depends on no optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from surrogate.experiment.optimizers import (
    AdamSettings,
    AdamWSettings,
    ExtremeLearningSettings,
    FitSettings,
    GNvproSettings,
    LBFGSSettings,
    MuonSettings,
    OptimizerBase,
    SgdSettings,
    SlimTrainSettings,
)
from surrogate.models.separable import Separable
from surrogate.training.methods.first_order import AdamMethod, AdamWMethod, MuonMethod, SgdMethod
from surrogate.training.methods.full_batch import ExtremeLearningMethod, FitMethod, GNvproMethod, LBFGSMethod
from surrogate.training.methods.method import Method
from surrogate.training.methods.slimtrain import SlimTrainMethod
from surrogate.training.objective import Objective

__all__ = ["METHODS", "Method", "build_method"]

METHODS: dict[type[OptimizerBase], Callable[[Any, Separable, Objective], Method]] = {
    AdamSettings: AdamMethod,
    AdamWSettings: AdamWMethod,
    SgdSettings: SgdMethod,
    MuonSettings: MuonMethod,
    SlimTrainSettings: SlimTrainMethod,
    LBFGSSettings: LBFGSMethod,
    GNvproSettings: GNvproMethod,
    ExtremeLearningSettings: ExtremeLearningMethod,
    FitSettings: FitMethod,
}


def build_method(settings: OptimizerBase, network: Separable, objective: Objective) -> Method:
    """Build the method of the settings for a network and an objective.

    Arguments:
        settings: An instance of a key of `METHODS`.
        network: The network on its device.
        objective: Loss and precision.
    """
    return METHODS[type(settings)](settings, network, objective)
