"""Write a first configuration for new data."""

from __future__ import annotations

import re
from pathlib import Path

from surrogate.config import Settings, parse_yaml, validate
from surrogate.data import DataSettings, Stream, open_data
from surrogate.errors import ConfigError, DataError
from surrogate.files import replacing

__all__ = ["proposed_model", "write_starter"]

REST = """\
optimizer: {name: slimtrain, learning_rate: 1e-3}
training: {epochs: 20, batch_size: 16, seed: 0, refit: end}
"""
CONVNET = "{family: convnet, width: 32, depth: 4}"
MOST_AXES = 3  # of space, for convolutions
MODES, LEVELS, LATENT = 16, 2, 50


class _Section(Settings):
    """The `data:` section alone."""

    data: DataSettings


def write_starter(path: Path, name: str, data: str) -> None:
    """Write a configuration to start from: the data section that `inspect` proposes, a model that fits, plain settings.

    Raises:
        ConfigError: The file exists.
    """
    if path.exists():
        raise ConfigError(f"{path} exists already; choose another name for --write-config")
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip("_.-") or "mine"
    with replacing(path) as part:
        part.write_text(f"name: {name}\n{data.rstrip()}\nmodel: {proposed_model(data)}\n{REST}", encoding="utf-8")


def proposed_model(data: str) -> str:
    """Propose a `model:` entry for a data section: a family that maps its inputs to its targets, and the reason.

    Arguments:
        data: A `data:` section; where it cannot be read yet, its axes being a guess, fields are supposed.
    """
    try:
        settings = validate(parse_yaml(data, "data"), _Section).data
        ds = open_data(settings)
        stream = Stream(ds, settings.inputs, settings.targets, batch_size=1, window=settings.window, shuffle=False)
    except (ConfigError, DataError):
        return f"{CONVNET}  # fields to fields on one grid; choose another family for other data"
    inputs, targets = stream.inputs, stream.targets
    if not targets.dims:
        return "{family: mlp, width: 32, depth: 3}  # to numbers"
    if (inputs.dims, inputs.shape[1:]) != (targets.dims, targets.shape[1:]):
        modes = max(1, min(MODES, ds.sizes["sample"] // 2))
        return f"{{family: pod, modes: {modes}, width: 32, depth: 2}}  # parameters to fields"
    if len(targets.dims) > MOST_AXES:
        return "{family: mlp, width: 32, depth: 3}  # more than three axes of space"
    grid = targets.shape[1:]  # halved at most as often as an autoencoder needs
    levels = max(level for level in range(LEVELS + 1) if all(side % 2**level == 0 for side in grid))
    if inputs.columns == targets.columns and levels:
        return f"{{family: autoencoder, width: 16, latent: {LATENT}, levels: {levels}}}  # fields to themselves"
    return f"{CONVNET}  # {'time steps to the next ones' if stream.window else 'fields to fields on one grid'}"
