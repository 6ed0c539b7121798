"""Start from a trained surrogate: its network and its normalisation, on data of the same signature."""

from __future__ import annotations

from pathlib import Path

import torch

from surrogate.errors import ConfigError, DataError
from surrogate.experiment.folders import ProjectFolder
from surrogate.models.registry import ModelSettings
from surrogate.models.signature import Signature
from surrogate.models.surrogate import Surrogate

__all__ = ["FEATURES", "slow_features_", "trained_start"]

FEATURES = 0.1  # of the learning rate, for features that are only adjusted


def trained_start(folder: Path, settings: ModelSettings, signature: Signature) -> Surrogate:
    """Load a trained surrogate to train further; its normalisation stays, since its weights are in these units.

    Arguments:
        folder: A run folder, the folder of a pipeline with one case, or a checkpoint.
        settings: The model of the new configuration.
        signature: The signature of the new data.

    Raises:
        ConfigError: There is no surrogate, several cases, or another model; the message lists every difference.
        DataError: The data do not fit it; likewise.
    """
    runs = ProjectFolder(folder).runs
    if len(runs) > 1:
        names = ", ".join(run.name for run in runs)
        raise ConfigError(f"training.start_from: {folder} holds the cases {names}; name one: {runs[0]}")
    surrogate = Surrogate.load(runs[0])
    if surrogate.members > 1:
        raise ConfigError(f"training.start_from: {folder} is the mean of several networks; name one of them")
    mine, its = (each.model_dump(mode="json") for each in (settings, surrogate.settings))
    different = [
        f"{key}: there {its.get(key)}, here {mine.get(key)}" for key in mine | its if mine.get(key) != its.get(key)
    ]
    if different:
        raise ConfigError(f"training.start_from: {folder} has another model: {'; '.join(different)}")
    try:
        surrogate.signature.refuse_other(signature)
    except DataError as error:
        raise DataError(f"training.start_from: {folder}: {error}") from error
    surrogate.posterior = None
    return surrogate.train()


def slow_features_(optimizer: torch.optim.Optimizer, features: torch.nn.Module) -> None:
    """Give the features a tenth of the learning rate in an optimizer that has not stepped; the head keeps its own."""
    own = {id(parameter) for parameter in features.parameters()}
    for group in list(optimizer.param_groups):
        slow = [parameter for parameter in group["params"] if id(parameter) in own]
        rest = [parameter for parameter in group["params"] if id(parameter) not in own]
        rate = FEATURES * group["lr"]
        if not rest:
            group["lr"] = rate
        elif slow:
            group["params"] = rest
            optimizer.add_param_group({**group, "params": slow, "lr": rate})
