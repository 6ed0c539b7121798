"""First-order methods: Adam, AdamW, SGD, and Muon with AdamW."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from surrogate.experiment.optimizers import AdamSettings, AdamWSettings, MuonSettings, SgdSettings
from surrogate.models.separable import Separable
from surrogate.optim.combined import Combined
from surrogate.training.methods.method import GradientMethod
from surrogate.training.objective import Objective

__all__ = ["AdamMethod", "AdamWMethod", "MuonMethod", "SgdMethod", "first_order"]


class AdamMethod(GradientMethod):
    """Adam on all parameters."""

    def __init__(self, settings: AdamSettings, network: Separable, objective: Objective) -> None:
        rate, decay = settings.learning_rate, settings.weight_decay
        super().__init__(first_order("adam", network.parameters(), rate, decay), objective)


class AdamWMethod(GradientMethod):
    """Adam with decoupled weight decay on all parameters."""

    def __init__(self, settings: AdamWSettings, network: Separable, objective: Objective) -> None:
        rate, decay = settings.learning_rate, settings.weight_decay
        super().__init__(first_order("adamw", network.parameters(), rate, decay), objective)


class SgdMethod(GradientMethod):
    """Stochastic gradient descent with momentum on all parameters."""

    def __init__(self, settings: SgdSettings, network: Separable, objective: Objective) -> None:
        rate, decay = settings.learning_rate, settings.weight_decay
        super().__init__(first_order("sgd", network.parameters(), rate, decay, settings.momentum), objective)


class MuonMethod(GradientMethod):
    """Muon on the matrices of the features, AdamW on all other parameters, since Muon takes matrices only."""

    def __init__(self, settings: MuonSettings, network: Separable, objective: Objective) -> None:
        matrices = [parameter for parameter in network.features.parameters() if parameter.ndim == 2]
        taken = {id(parameter) for parameter in matrices}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in taken]
        optimizer: Optimizer = torch.optim.AdamW(rest, settings.learning_rate, weight_decay=settings.weight_decay)
        if matrices:
            muon = torch.optim.Muon(
                matrices,
                settings.learning_rate,
                weight_decay=settings.weight_decay,
                momentum=settings.momentum,
                adjust_lr_fn="match_rms_adamw",
            )
            optimizer = Combined([muon, optimizer])
        super().__init__(optimizer, objective)


def first_order(
    name: str, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float, momentum: float = 0.9
) -> Optimizer:
    """Build one of torch's first-order optimizers; on the CPU its fused form, where the parameters allow it.

    Arguments:
        name: `adam`, `adamw` or `sgd`.
        parameters: What it changes.
        learning_rate: Its learning rate.
        weight_decay: Its weight decay.
        momentum: Of `sgd`.
    """
    parameters = list(parameters)
    fused = all(weight.is_floating_point() and weight.device.type == "cpu" for weight in parameters) or None
    match name:
        case "adam":
            return torch.optim.Adam(parameters, learning_rate, weight_decay=weight_decay, fused=fused)
        case "adamw":
            return torch.optim.AdamW(parameters, learning_rate, weight_decay=weight_decay, fused=fused)
        case "sgd":
            return torch.optim.SGD(parameters, learning_rate, momentum=momentum, weight_decay=weight_decay, fused=fused)
    raise ValueError(f"no first-order optimizer '{name}'; there are adam, adamw and sgd")
