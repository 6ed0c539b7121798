"""Fourier neural operator from fields to fields."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from surrogate.errors import ConfigError
from surrogate.models.heads import head_of
from surrogate.models.layers.building_blocks import Coordinates, convolution
from surrogate.models.layers.spectral import SpectralConvolution
from surrogate.models.layers.symmetry import Symmetry, symmetrized
from surrogate.models.registry import ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["FnoSettings", "FourierLayer", "Padded", "fno"]


class FnoSettings(ModelSettings):
    """Settings of the Fourier neural operator.

    Arguments:
        width: Channels of every hidden field.
        depth: Number of Fourier layers.
        modes: Highest wave number kept, one for all axes or one for each; below half of the points.
        projection: Channels of the features in front of the head.
        padding: Zeros appended to every axis inside the network, for fields that are not periodic.
        coordinates: Give the network the position of every grid point as further channels.
        symmetry: For scalar fields in a square or cube: equivariance to reflections, about the middle of the grid
            (`cells`) or about its first point (`nodes`), and to exchanges of axes; see `Symmetrized`.
    """

    on_grid: ClassVar[bool] = True
    family: Literal["fno"] = "fno"
    width: int = Field(32, ge=1)
    depth: int = Field(4, ge=1)
    modes: PositiveInt | tuple[PositiveInt, ...] = 6
    projection: int = Field(64, ge=1)
    padding: int = Field(0, ge=0)
    coordinates: bool = False
    symmetry: Symmetry = "none"

    def modes_of(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Return the highest wave number of every axis of a grid.

        Raises:
            ConfigError: The grid has too few points for them, or another number of axes.
        """
        modes = self.modes if isinstance(self.modes, tuple) else (self.modes,) * len(grid)
        if len(modes) != len(grid):
            raise ConfigError(f"model.modes: {list(modes)} are for {len(modes)} axes, the data have {len(grid)}")
        for mode, side in zip(modes, grid, strict=True):
            largest = (side + self.padding - 1) // 2
            if mode > largest:
                raise ConfigError(
                    f"model.modes: wave number {mode} on an axis of {side} points, which holds up to {largest}; "
                    "choose fewer modes or a finer grid"
                )
        return modes


class FourierLayer(nn.Module):
    """y = gelu(convolution by modes(z) + W z + b), then a pointwise perceptron plus a scaled skip connection.

    (B, width, *S) -> (B, width, *S)
    """

    def __init__(self, width: int, modes: tuple[int, ...], *, activated: bool) -> None:
        super().__init__()
        conv, hidden = convolution(len(modes)), max(1, width // 2)
        self.spectral = SpectralConvolution(width, width, modes)
        self.local = conv(width, width, kernel_size=1)
        self.mixing = nn.Sequential(conv(width, hidden, kernel_size=1), nn.GELU(), conv(hidden, width, kernel_size=1))
        self.shortcut = nn.Parameter(torch.ones(width, *[1] * len(modes)))
        self.activated = activated

    def forward(self, z: Tensor) -> Tensor:
        y = self.spectral(z) + self.local(z)
        y = functional.gelu(y) if self.activated else y
        y = self.mixing(y) + self.shortcut * z
        return functional.gelu(y) if self.activated else y


class Padded(nn.Module):
    """Apply layers to fields padded with zeros at the end of every axis, and crop the result."""

    def __init__(self, layers: nn.Module, dimensions: int, points: int) -> None:
        super().__init__()
        self.layers = layers
        self.dimensions, self.points = dimensions, points

    def forward(self, z: Tensor) -> Tensor:
        padded = self.layers(functional.pad(z, (0, self.points) * self.dimensions))
        return padded[(..., *(slice(side) for side in z.shape[2:]))]


@register(FnoSettings)
def fno(settings: FnoSettings, shapes: Shapes) -> Separable:
    r"""Build layers that add a convolution by low Fourier modes and a pointwise map; a pointwise head.

    .. math:: z_0 = P v, \qquad y_j = \sigma(F^{-1} R_j F z_j + W_j z_j + b_j), \qquad
              z_{j+1} = \sigma(N_j(y_j) + d_j z_j), \qquad u = W \sigma(Q z_\text{depth}) + b

    with pointwise perceptrons N_j, which mix channels, and one factor d_j for each channel; no outer nonlinearities in
    the last layer.

    (B, C, *S) -> (B, width, *S) -> ... -> (B, projection, *S) -> (B, M, *S)

    The network can be applied to fields on other grids than it was trained on.

    Arguments:
        settings: Width, depth, modes and boundary treatment.
        shapes: Channels and grid of 1 to 3 axes.

    Raises:
        ConfigError: Inputs and targets are not fields on one grid, or the grid is too coarse for the modes.

    Source: Li, Kovachki, Azizzadenesheli, Liu, Bhattacharya, Stuart, Anandkumar, ICLR 2021, arXiv 2010.08895; the
    perceptrons after Kossaifi, Kovachki, Azizzadenesheli, Anandkumar, arXiv 2310.00120.
    """
    shapes.refuse_other_grids("fno")
    dimensions, width = shapes.dimensions, settings.width
    conv = convolution(dimensions)
    modes = settings.modes_of(shapes.grid)
    channels = shapes.inputs + (dimensions if settings.coordinates else 0)
    layers: nn.Module = nn.Sequential(
        *(FourierLayer(width, modes, activated=index < settings.depth - 1) for index in range(settings.depth))
    )
    if settings.padding:
        layers = Padded(layers, dimensions, settings.padding)
    lift: list[nn.Module] = [Coordinates()] if settings.coordinates else []
    lift.append(conv(channels, width, kernel_size=1))
    features: nn.Module = nn.Sequential(*lift, layers, conv(width, settings.projection, kernel_size=1), nn.GELU())
    features = symmetrized(features, settings.symmetry, shapes.grid)
    return Separable(features, head_of(conv(settings.projection, shapes.outputs, kernel_size=1)))
