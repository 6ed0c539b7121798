"""Geometry-informed neural operator: from the points of any mesh to a latent grid, Fourier layers, and back."""

from __future__ import annotations

import itertools
from math import prod
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from surrogate.errors import ConfigError
from surrogate.models.families.fno import FourierLayer, Padded
from surrogate.models.heads.point import PointHead
from surrogate.models.layers.building_blocks import convolution
from surrogate.models.registry import Batches, ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["GinoSettings", "fit_box", "gino"]

SMALLEST = 1e-6  # sum of weights below which a neighbourhood is empty
USUAL = 2.0  # half the side of the box of coordinates in units of their deviation, until training fits it


class GinoSettings(ModelSettings):
    """Settings of the geometry-informed neural operator.

    Arguments:
        width: Features of every point, and channels on the latent grid.
        depth: Number of Fourier layers on the latent grid.
        modes: Highest wave number kept along each axis of the latent grid.
        side: Points of the latent grid along each axis.
        reach: Radius of the neighbourhoods, in spacings of the latent grid; each has up to (2 reach)^d grid points.
        padding: Zeros appended to every axis of the latent grid, for fields that are not periodic.
    """

    at_points: ClassVar[Literal["never", "meshes", "always"]] = "meshes"
    family: Literal["gino"] = "gino"
    width: int = Field(32, ge=1)
    depth: int = Field(3, ge=1)
    modes: int = Field(6, ge=1)
    side: int = Field(16, ge=2, le=256)
    reach: int = Field(2, ge=1, le=8)
    padding: int = Field(4, ge=0)

    @model_validator(mode="after")
    def _resolved(self) -> Self:
        if self.modes > (self.side + self.padding - 1) // 2:
            raise ValueError(
                f"modes: wave number {self.modes} needs side + padding of {2 * self.modes + 1} or more, got "
                f"{self.side + self.padding}"
            )
        return self


class _Operator(nn.Module):
    """Features of every point: (B, C, N) -> (B, width, N); a point whose coordinate is NaN does not exist."""

    low: Tensor
    high: Tensor
    steps: Tensor
    strides: Tensor

    def __init__(self, settings: GinoSettings, shapes: Shapes) -> None:
        super().__init__()
        width, dimensions = settings.width, len(shapes.positions)
        self.positions, self.reach = list(shapes.positions), settings.reach
        self.sides = (settings.side,) * dimensions
        self.register_buffer("low", torch.full((dimensions,), -USUAL))
        self.register_buffer("high", torch.full((dimensions,), USUAL))
        steps = list(itertools.product(range(1 - settings.reach, settings.reach + 1), repeat=dimensions))
        self.register_buffer("steps", torch.tensor(steps), persistent=False)
        strides = [settings.side ** (dimensions - 1 - axis) for axis in range(dimensions)]
        self.register_buffer("strides", torch.tensor(strides), persistent=False)
        self.lift = nn.Sequential(nn.Linear(shapes.inputs, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.encode, self.decode = (
            nn.Sequential(nn.Linear(dimensions, width), nn.GELU(), nn.Linear(width, width)) for _ in range(2)
        )
        layers = [FourierLayer(width, (settings.modes,) * dimensions, activated=True) for _ in range(settings.depth)]
        inward = convolution(dimensions)(width + 1, width, kernel_size=1)
        self.latent = Padded(nn.Sequential(inward, *layers), dimensions, settings.padding)
        self.out = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm = nn.LayerNorm(width)

    def neighbours(self, places: Tensor, there: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Find the grid points around points, by rounding, since the grid is regular.

        Arguments:
            places: Coordinates, with shape (B, N, d).
            there: True where a point exists, with shape (B, N).

        Returns:
            Numbers of K grid points, with shape (B, N, K); what leads from each to the point over the reach, with shape
            (B, N, K, d); and weights :math:`(1 - \rho^2)_+^2` of that distance :math:`\rho`, with shape (B, N, K).
        """
        last = torch.tensor([side - 1 for side in self.sides], device=places.device)
        scaled = (places - self.low) / (self.high - self.low) * last
        node = scaled.floor().long()[:, :, None] + self.steps
        offset = (scaled[:, :, None] - node) / self.reach
        within = ((node >= 0) & (node <= last)).all(-1) & there[..., None]
        weight = (1 - offset.square().sum(-1)).clamp_min(0).square() * within
        return (node.clamp_min(0).minimum(last) * self.strides).sum(-1), offset, weight

    def forward(self, fields: Tensor) -> Tensor:
        x = fields.transpose(1, 2)
        there = ~x[..., self.positions].isnan().any(-1)
        x = torch.where(there[..., None], x, 0.0)
        node, offset, weight = self.neighbours(x[..., self.positions], there)
        z = self.lift(x)
        index = node.flatten(1)[..., None].expand(-1, -1, z.shape[-1])
        messages = (weight[..., None] * self.encode(offset) * z[:, :, None]).flatten(1, 2)
        empty = z.new_zeros(len(z), prod(self.sides), z.shape[-1])
        total = empty[..., :1].scatter_add(1, index[..., :1], weight.flatten(1)[..., None])
        v = empty.scatter_add(1, index, messages) / (total + SMALLEST)
        v = torch.cat([v, (total > SMALLEST).to(v.dtype)], dim=-1).transpose(1, 2).unflatten(2, self.sides)
        v = self.latent(v).flatten(2).transpose(1, 2)
        around = v.gather(1, index).unflatten(1, node.shape[1:])
        u = (weight[..., None] * self.decode(offset) * around).sum(2) / (weight.sum(2)[..., None] + SMALLEST)
        return self.norm(self.out(torch.cat([u, z], dim=-1))).transpose(1, 2)


def fit_box(settings: GinoSettings, network: Separable, batches: Batches) -> None:
    """Set the box of the latent grid to that around all points of the training data."""
    operator = network.features
    if not isinstance(operator, _Operator):
        return
    ends: list[tuple[Tensor, Tensor]] = []
    for batch in batches():
        places = batch.inputs[:, operator.positions].transpose(0, 1).flatten(1)
        known = places[:, ~places.isnan().any(0)]
        ends.append((known.amin(1), known.amax(1)))
    low, high = torch.stack([a for a, _ in ends]).amin(0), torch.stack([b for _, b in ends]).amax(0)
    operator.low.copy_(low)
    operator.high.copy_(torch.where(high > low, high, low + 1))  # all points are on a line or plane


@register(GinoSettings, prepare=fit_box)
def gino(settings: GinoSettings, shapes: Shapes) -> Separable:
    r"""Build kernel integrals to a latent grid and back, Fourier layers in between, and a pointwise head.

    .. math:: v(y) = \frac{\sum_{|x - y| < r} w \, \kappa(x - y) \odot z(x)}{\sum_{|x - y| < r} w}, \qquad
              u(x) = \frac{\sum_{|x - y| < r} w \, \kappa'(x - y) \odot F(v)(y)}{\sum_{|x - y| < r} w}

    with features z of every point x, points y of the grid, perceptrons :math:`\kappa, \kappa'`, Fourier layers F and
    weights :math:`w = (1 - |x - y|^2 / r^2)^2`, so that the result is continuous in x. F also gets 1 where y has a
    neighbour and 0 where it has none: the shape of the domain.

    (B, C, N) -> (B, width, *side) -> ... -> (B, width, N) -> (B, M, N)

    The cost grows linearly with the number of points. The network can be applied to other points; beyond the box around
    those of the training it has their own features alone.

    Arguments:
        settings: Width, depth, modes and latent grid.
        shapes: Channels, and which of them are coordinates.

    Raises:
        ConfigError: Targets are not fields on points with coordinates.

    Source: Li, Kovachki, Choy, Li, Kossaifi, Otta, Nabian, Stadler, Hundt, Azizzadenesheli, Anandkumar, NeurIPS 2023,
    arXiv 2309.00583; written anew, with the neighbours found by rounding and with weights that vanish at the radius.
    """
    if not shapes.point_axis:
        raise ConfigError(
            "data.targets are not on the points of a mesh: the family gino needs one; choose fno on a grid"
        )
    if not shapes.positions:
        raise ConfigError(
            f"data.inputs have no coordinates of the points along '{shapes.point_axis}': the family gino needs x, y "
            "(and z) among the inputs"
        )
    shapes.refuse_other_grids("gino")
    return Separable(_Operator(settings, shapes), PointHead(nn.Conv1d(settings.width, shapes.outputs, 1)))
