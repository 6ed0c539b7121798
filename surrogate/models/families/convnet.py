"""Dilated residual convolution network from fields to fields, with a convolution as its last layer."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from surrogate.errors import ConfigError
from surrogate.models.heads import head_of
from surrogate.models.layers.building_blocks import BoundaryPadding, Coordinates, Padding, ResidualBlock, convolution
from surrogate.models.layers.symmetry import Symmetry, symmetrized
from surrogate.models.registry import ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["ConvNetSettings", "convnet"]


class ConvNetSettings(ModelSettings):
    """Settings of the residual convolution network.

    Arguments:
        width: Channels of every hidden field.
        depth: Number of residual blocks.
        dilations: Dilation of the convolutions, repeated over the blocks; their sum is the reach in grid points.
        padding: How fields continue beyond the boundary; `circular` for periodic boxes.
        coordinates: Give the network the position of every grid point as further channels.
        dropout: Probability of dropping a channel inside a block in training.
        symmetry: For scalar fields in a square or cube: equivariance to reflections, about the middle of the grid
            (`cells`) or about its first point (`nodes`), and to exchanges of axes; see `Symmetrized`.
        head_kernel: Side of the last convolution's kernel; odd.
    """

    on_grid: ClassVar[bool] = True
    family: Literal["convnet"] = "convnet"
    width: int = Field(32, ge=1)
    depth: int = Field(6, ge=1)
    dilations: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 2, 4), min_length=1)
    padding: Padding = "zeros"
    coordinates: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)
    symmetry: Symmetry = "none"
    head_kernel: Literal[1, 3, 5] = 1

    @model_validator(mode="after")
    def _pointwise(self) -> Self:
        if self.symmetry != "none" and self.head_kernel != 1:
            raise ValueError(f"symmetry: {self.symmetry} needs head_kernel: 1, a wider kernel has no symmetry")
        return self


@register(ConvNetSettings)
def convnet(settings: ConvNetSettings, shapes: Shapes) -> Separable:
    """Build a lifting convolution, residual blocks with growing dilation and a convolution head.

    (B, C, *S) -> (B, width, *S) -> ... -> (B, M, *S)

    Arguments:
        settings: Width, depth, dilations and boundary treatment.
        shapes: Channels and grid.

    Raises:
        ConfigError: Inputs and targets are not fields on one grid.

    Source: Yu, Koltun, Funkhouser, *Dilated residual networks*, CVPR 2017, without strides.
    """
    shapes.refuse_other_grids("convnet")
    conv = convolution(shapes.dimensions)
    channels = shapes.inputs + (shapes.dimensions if settings.coordinates else 0)
    layers: list[nn.Module] = [Coordinates()] if settings.coordinates else []
    layers.append(conv(channels, settings.width, kernel_size=3, padding=1, padding_mode=settings.padding))
    for block in range(settings.depth):
        dilation = settings.dilations[block % len(settings.dilations)]
        layers.append(
            ResidualBlock(
                shapes.dimensions,
                settings.width,
                dilation=dilation,
                padding=settings.padding,
                dropout=settings.dropout,
            )
        )
    reach = settings.head_kernel // 2
    widest = max(*settings.dilations[: settings.depth], 1, reach)
    if settings.padding == "circular" and widest > min(shapes.grid):
        raise ConfigError(
            f"model.dilations: circular padding by {widest} points would go around a grid of "
            f"{'x'.join(map(str, shapes.grid))} more than once; choose smaller dilations"
        )
    padded = reach > 0 and settings.padding != "zeros"  # by a layer of the features: heads pad with zeros alone
    layers += [nn.GELU(), *([BoundaryPadding(reach, settings.padding)] if padded else [])]
    head = conv(settings.width, shapes.outputs, settings.head_kernel, padding=0 if padded else reach)
    features = symmetrized(nn.Sequential(*layers), settings.symmetry, shapes.grid)
    return Separable(features, head_of(head))
