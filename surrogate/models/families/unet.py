"""Residual U-Net from fields to fields."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from surrogate.models.heads import head_of
from surrogate.models.layers.building_blocks import (
    Coordinates,
    Padding,
    ResidualBlock,
    convolution,
    transposed_convolution,
)
from surrogate.models.layers.symmetry import Symmetry, symmetrized
from surrogate.models.registry import ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["UNetSettings", "unet"]


class UNetSettings(ModelSettings):
    """Settings of the residual U-Net.

    Arguments:
        width: Channels on the grid of the data; doubled at every coarser level.
        levels: Number of halvings of the grid.
        blocks: Residual blocks at every level, on the way down and on the way up.
        padding: How fields continue beyond the boundary; `circular` for periodic boxes.
        coordinates: Give the network the position of every grid point as further channels.
        symmetry: For scalar fields in a square or cube: equivariance to reflections, about the middle of the grid
            (`cells`) or about its first point (`nodes`), and to exchanges of axes; see `Symmetrized`.
    """

    on_grid: ClassVar[bool] = True
    family: Literal["unet"] = "unet"
    width: int = Field(16, ge=1)
    levels: int = Field(2, ge=1)
    blocks: int = Field(1, ge=1)
    padding: Padding = "zeros"
    coordinates: bool = False
    symmetry: Symmetry = "none"


class _Level(nn.Module):
    """Blocks, then the coarser levels on half the grid, concatenated with the fields before them, then blocks again.

    (B, w, *S) -> (B, 2 w, *S/2) -> below -> (B, 2 w, *S/2) -> (B, w, *S)
    """

    def __init__(self, dimensions: int, width: int, below: nn.Module, settings: UNetSettings) -> None:
        super().__init__()
        conv = convolution(dimensions)
        self.before = _blocks(dimensions, width, settings)
        self.down = conv(width, 2 * width, kernel_size=2, stride=2)
        self.below = below
        self.up = transposed_convolution(dimensions)(2 * width, width, kernel_size=2, stride=2)
        self.join = conv(2 * width, width, kernel_size=1)
        self.after = _blocks(dimensions, width, settings)

    def forward(self, z: Tensor) -> Tensor:
        z = self.before(z)
        coarse = self.up(self.below(self.down(z)))
        return self.after(self.join(torch.cat([z, coarse], dim=1)))


@register(UNetSettings)
def unet(settings: UNetSettings, shapes: Shapes) -> Separable:
    """Build residual blocks on ever coarser grids and back, with skip connections, and a convolution head.

    (B, C, *S) -> (B, width, *S) -> (B, 2 width, *S/2) -> ... -> (B, width, *S) -> (B, M, *S)

    Arguments:
        settings: Width, levels, blocks and boundary treatment.
        shapes: Channels and grid; every side of the grid must be divisible by 2^levels.

    Raises:
        ConfigError: The grid cannot be halved that often, or inputs and targets are not fields on one grid.

    Source: Ronneberger, Fischer, Brox, MICCAI 2015; residual blocks after He, Zhang, Ren, Sun, ECCV 2016.
    """
    shapes.refuse_other_grids("unet")
    shapes.refuse_odd_grid(settings.levels)
    dimensions, width = shapes.dimensions, settings.width
    conv = convolution(dimensions)
    nested: nn.Module = _blocks(dimensions, width * 2**settings.levels, settings)
    for level in reversed(range(settings.levels)):
        nested = _Level(dimensions, width * 2**level, nested, settings)
    channels = shapes.inputs + (dimensions if settings.coordinates else 0)
    layers: list[nn.Module] = [Coordinates()] if settings.coordinates else []
    layers += [conv(channels, width, kernel_size=3, padding=1, padding_mode=settings.padding), nested, nn.GELU()]
    features = symmetrized(nn.Sequential(*layers), settings.symmetry, shapes.grid)
    return Separable(features, head_of(conv(width, shapes.outputs, kernel_size=1)))


def _blocks(dimensions: int, width: int, settings: UNetSettings) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(dimensions, width, padding=settings.padding) for _ in range(settings.blocks)))
