"""Convolutional autoencoder whose last layer is a transposed convolution."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from surrogate.models.heads import head_of
from surrogate.models.layers.building_blocks import batch_norm, convolution, transposed_convolution
from surrogate.models.registry import ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["AutoencoderSettings", "autoencoder"]


class AutoencoderSettings(ModelSettings):
    """Settings of the convolutional autoencoder.

    Arguments:
        width: Channels after the first convolution; doubled at every further level.
        latent: Size of the dense bottleneck.
        levels: Number of halvings of the grid.
        batch_norm: Normalise the decoder's fields over the batch, as the paper's MNIST network does.
    """

    on_grid: ClassVar[bool] = True
    family: Literal["autoencoder"] = "autoencoder"
    width: int = Field(16, ge=1)
    latent: int = Field(50, ge=1)
    levels: int = Field(2, ge=1)
    batch_norm: bool = False


@register(AutoencoderSettings)
def autoencoder(settings: AutoencoderSettings, shapes: Shapes) -> Separable:
    """Build an encoder of strided convolutions, a dense bottleneck and a decoder of transposed convolutions.

    (B, C, *S) -> (B, width 2^(levels-1), *S / 2^levels) -> (B, latent) -> ... -> (B, M, *S); every convolution has
    kernel 4, stride 2 and padding 1.

    Arguments:
        settings: Width, latent size and number of levels.
        shapes: Channels and grid; every side of the grid must be divisible by 2^levels.

    Raises:
        ConfigError: The grid cannot be halved that often, or inputs and targets are not on one grid.

    The paper's MNIST network is `{levels: 2, width: 16, latent: 50, batch_norm: true}` on one channel of 28x28 points,
    layer by layer that of the authors' code.

    Source: Newman, Chung, Chung, Ruthotto, slimTrain (2022), section 4.3.
    """
    shapes.refuse_other_grids("autoencoder")
    shapes.refuse_odd_grid(settings.levels)
    widths = [settings.width * 2**level for level in range(settings.levels)]
    coarse = tuple(side // 2**settings.levels for side in shapes.grid)
    size = widths[-1] * prod(coarse)
    bottleneck = [nn.Flatten(), nn.Linear(size, settings.latent), nn.Linear(settings.latent, size)]
    kernel: dict[str, Any] = {"kernel_size": 4, "stride": 2, "padding": 1}
    conv, transposed = convolution(shapes.dimensions), transposed_convolution(shapes.dimensions)
    encoder: list[nn.Module] = []
    for channels, width in zip([shapes.inputs, *widths], widths, strict=False):
        encoder += [conv(channels, width, **kernel), nn.ReLU()]
    norm = batch_norm(shapes.dimensions)
    decoder: list[nn.Module] = [norm(widths[-1])] if settings.batch_norm else []
    for channels, width in zip(widths[:0:-1], widths[-2::-1], strict=True):
        decoder += [transposed(channels, width, **kernel), nn.ReLU()]
        decoder += [norm(width)] if settings.batch_norm else []
    features = nn.Sequential(
        nn.Sequential(*encoder), *bottleneck, nn.Unflatten(1, (widths[-1], *coarse)), nn.Sequential(*decoder)
    )
    return Separable(features, head_of(transposed(widths[0], shapes.outputs, **kernel)))
