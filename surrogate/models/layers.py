"""torch's layers by name, and by number of space dimensions: a family is written once for 1-, 2- and 3-d."""

from __future__ import annotations

from typing import Literal

from torch import nn

from surrogate.checks import ConfigError

__all__ = ["Activation", "activation", "batch_norm", "convolution", "transposed_convolution"]

Activation = Literal["tanh", "gelu", "silu", "relu"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU, "relu": nn.ReLU}

_CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_BATCH_NORMS: dict[int, type[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]] = {
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}


def activation(name: Activation) -> nn.Module:
    """The nonlinearity of that name, as a layer."""
    return _ACTIVATIONS[name]()


def convolution(dimensions: int) -> type[nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    """`nn.Conv{d}d`."""
    return _CONVOLUTIONS[_checked(dimensions)]


def transposed_convolution(dimensions: int) -> type[nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d]:
    """`nn.ConvTranspose{d}d`."""
    return _TRANSPOSED[_checked(dimensions)]


def batch_norm(dimensions: int) -> type[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """`nn.BatchNorm{d}d`."""
    return _BATCH_NORMS[_checked(dimensions)]


def _checked(dimensions: int) -> int:
    if dimensions not in _CONVOLUTIONS:
        raise ConfigError(f"this model family needs fields on 1 to 3 space axes; the data have {dimensions}")
    return dimensions
