"""Write a first configuration for new data."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import xarray as xr

from surrogate.config import Settings, parse_yaml, validate
from surrogate.data import DataSettings, Stream, open_data
from surrogate.data.mapping import BLANK, NONE, is_channel, placeholders
from surrogate.data.mesh import point_axis, positions_of
from surrogate.data.proposal import quoted
from surrogate.errors import ConfigError, DataError
from surrogate.files import replacing

__all__ = ["name_from", "open_section", "proposed_model", "write_starter"]

REST = """\
optimizer: {name: slimtrain, learning_rate: 1e-3}
training: {epochs: 20, batch_size: 16, seed: 0, refit: end}
"""
CONVNET = "{family: convnet, width: 32, depth: 4}"
UNKNOWN = f"{CONVNET}  # fields to fields on one grid; choose another family for other data"
MLP = "{family: mlp, width: 32, depth: 3}"
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
    with replacing(path) as part:
        part.write_text(f"name: {name_from(name)}\n{data.rstrip()}\n{_model_lines(data)}\n{REST}", encoding="utf-8")


def name_from(text: str) -> str:
    """Return a name that a configuration may have, from that of a file."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text).lstrip("_.-") or "mine"


def open_section(data: str) -> tuple[xr.Dataset, Stream]:
    """Open the data of a `data:` section, with the stream of all of them.

    Raises:
        ConfigError, DataError: The section is wrong, or its data cannot be opened.
    """
    settings = validate(parse_yaml(data, "data"), _Section).data
    ds = open_data(settings)
    return ds, Stream(ds, settings.inputs, settings.targets, batch_size=1, window=settings.window, shuffle=False)


def _model_lines(data: str) -> str:
    """Write the `model:` entry; where the data section asks a question, one for each answer that needs another."""
    tree = parse_yaml(data, "data").tree.get("data", {}).get("layout")
    blanks = [key for key, value in tree.items() if value == BLANK] if isinstance(tree, dict) else []
    if not blanks:
        return f"model: {proposed_model(data)}"
    answers: dict[str, list[str]] = {}
    for answer in [*_axes(tree), NONE]:
        filled = data.replace(f"sample: {quoted(BLANK)}", f"sample: {answer}").replace(quoted(BLANK), NONE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers.setdefault(proposed_model(filled, ""), []).append(answer)
    families = [(model, of) for model, of in answers.items() if model] or [(proposed_model(data), [])]
    others = [f"# model: {model}; where {blanks[0]} is {' or '.join(of)}" for model, of in families[1:]]
    remark = f"; where {blanks[0]} is {' or '.join(families[0][1])}" if others else ""
    return "\n".join([f"model: {families[0][0]}{remark}", *others])


def _axes(layout: dict[str, Any]) -> list[str]:
    """List the axes that a declared layout names, which can answer what a sample is."""
    entries = [*layout.get("variables", {}).values(), *layout.get("coordinates", {}).values()]
    names = [axis for entry in entries for axis in entry.get("axes", []) if isinstance(axis, str)]
    names += [name for entry in entries for name in placeholders(entry.get("path"))]
    names += placeholders(layout.get("files"))
    return [name for name in dict.fromkeys(names) if name not in ("_", "sample", "time") and not is_channel(name)]


def proposed_model(data: str, otherwise: str = UNKNOWN) -> str:
    """Propose a `model:` entry for a data section: a family that maps its inputs to its targets, and the reason.

    Arguments:
        data: A `data:` section.
        otherwise: What is returned where it cannot be read yet, its axes being a guess: fields are supposed.
    """
    try:
        ds, stream = open_section(data)
    except (ConfigError, DataError):
        return otherwise
    inputs, targets = stream.inputs, stream.targets
    if not targets.dims:
        return f"{MLP}  # to numbers"
    axis = point_axis(ds, targets.dims)
    if axis and any("sample" in ds[name].dims for name in positions_of(ds, axis)):
        return "{family: transolver, width: 32, depth: 2}  # meshes that differ between simulations"
    if (inputs.dims, inputs.shape[1:]) != (targets.dims, targets.shape[1:]):
        modes = max(1, min(MODES, ds.sizes["sample"] // 2 - 1, math.prod(targets.shape)))
        return f"{{family: pod, modes: {modes}, width: 32, depth: 2}}  # parameters to fields"
    if len(targets.dims) > MOST_AXES:
        return f"{MLP}  # more than three axes of space"
    if axis:
        return f"{MLP}  # points of a mesh, in no order that a convolution could use"
    grid = targets.shape[1:]  # halved at most as often as an autoencoder needs
    levels = max(level for level in range(LEVELS + 1) if all(side % 2**level == 0 for side in grid))
    if inputs.columns == targets.columns and levels:
        return f"{{family: autoencoder, width: 16, latent: {LATENT}, levels: {levels}}}  # fields to themselves"
    return f"{CONVNET}  # {'time steps to the next ones' if stream.window else 'fields to fields on one grid'}"
