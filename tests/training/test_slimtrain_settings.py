"""Settings of slimTrain in a configuration reach the optimizer."""

import torch
from torch import nn

from surrogate.experiment.optimizers import SlimTrainSettings
from surrogate.models import Separable, head_of
from surrogate.optim.slimtrain import SlimTrain
from surrogate.slimtik import Bounded, sdp
from surrogate.training.methods import build_method
from surrogate.training.objective import Objective


def test_rule_noise_tau_and_search_are_taken_over() -> None:
    settings = SlimTrainSettings(rule="sdp", noise_variance=0.1, tau=1.5, search="bounded", lower_bound=1e-3)
    objective = Objective("mse", torch.zeros(1), "float32", rollout=1, every=False)
    optimizer = build_method(settings, Separable(nn.Linear(2, 3), head_of(nn.Linear(3, 1))), objective).optimizer
    assert isinstance(optimizer, SlimTrain)
    assert optimizer.rule == sdp(0.1, tau=1.5)
    assert optimizer.search == Bounded(1e-3)
    assert optimizer.lower_bound == 1e-3
