"""Activations by name, layers by number of space dimensions and blocks of them: one code for 1-d, 2-d and 3-d."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surrogate.errors import ConfigError

__all__ = [
    "Activation",
    "BoundaryPadding",
    "Coordinates",
    "Padding",
    "ResidualBlock",
    "activation",
    "batch_norm",
    "convolution",
    "grid_points",
    "transposed_convolution",
]

Padding = Literal["zeros", "circular", "replicate"]

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
_DROPOUTS: dict[int, type[nn.Dropout1d | nn.Dropout2d | nn.Dropout3d]] = {
    1: nn.Dropout1d,
    2: nn.Dropout2d,
    3: nn.Dropout3d,
}


def activation(name: Activation) -> nn.Module:
    """Return the nonlinearity of that name, as a layer."""
    return _ACTIVATIONS[name]()


def convolution(dimensions: int) -> type[nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    """Return `nn.Conv{d}d`."""
    return _CONVOLUTIONS[_checked(dimensions)]


def transposed_convolution(dimensions: int) -> type[nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d]:
    """Return `nn.ConvTranspose{d}d`."""
    return _TRANSPOSED[_checked(dimensions)]


def batch_norm(dimensions: int) -> type[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """Return `nn.BatchNorm{d}d`."""
    return _BATCH_NORMS[_checked(dimensions)]


def grid_points(grid: Sequence[int], like: Tensor | None = None) -> Tensor:
    """Return the coordinates of the points of a grid, from -1 to 1 along every axis: (d, *S).

    Arguments:
        grid: Points along each axis.
        like: Tensor with the dtype and device of the coordinates.
    """
    options: dict[str, Any] = {} if like is None else {"dtype": like.dtype, "device": like.device}
    axes = [torch.linspace(-1.0, 1.0, side, **options) for side in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


class Coordinates(nn.Module):
    """Append one channel per space axis that runs from -1 to 1 along it: (B, C, *S) -> (B, C + d, *S)."""

    def forward(self, fields: Tensor) -> Tensor:
        points = grid_points(fields.shape[2:], fields)
        return torch.cat([fields, points.expand(fields.shape[0], *points.shape)], dim=1)


class BoundaryPadding(nn.Module):
    """Pad fields beyond the boundary: (B, C, *S) -> (B, C, *(S + 2 reach)).

    Arguments:
        reach: Points on every side.
        mode: A `mode` of `torch.nn.functional.pad`.
    """

    def __init__(self, reach: int, mode: str) -> None:
        super().__init__()
        self.reach, self.mode = reach, mode

    def forward(self, fields: Tensor) -> Tensor:
        return nn.functional.pad(fields, [self.reach] * (2 * (fields.ndim - 2)), mode=self.mode)


class ResidualBlock(nn.Module):
    """z + conv(gelu(conv(gelu(norm(z))))): (B, width, *S) -> (B, width, *S).

    Arguments:
        dimensions: Number of space axes.
        width: Channels.
        dilation: Distance of neighbouring taps of the kernels of side 3.
        padding: How fields continue beyond the boundary, a `padding_mode` of torch.
        dropout: Probability of dropping a channel between the convolutions in training.
    """

    def __init__(
        self, dimensions: int, width: int, *, dilation: int = 1, padding: str = "zeros", dropout: float = 0.0
    ) -> None:
        super().__init__()
        conv = convolution(dimensions)
        options: dict[str, Any] = {"kernel_size": 3, "dilation": dilation, "padding": dilation, "padding_mode": padding}
        first, second = conv(width, width, **options), conv(width, width, **options)
        left_out = [_DROPOUTS[dimensions](dropout)] if dropout else []
        self.body = nn.Sequential(nn.GroupNorm(1, width), nn.GELU(), first, nn.GELU(), *left_out, second)

    def forward(self, z: Tensor) -> Tensor:
        return z + self.body(z)


def _checked(dimensions: int) -> int:
    if dimensions not in _CONVOLUTIONS:
        raise ConfigError(f"this model family needs fields on 1 to 3 space axes; the data have {dimensions}")
    return dimensions
