"""Transolver: attention between learned slices of physical states, for fields on the points of any mesh."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from surrogate.errors import ConfigError
from surrogate.models.heads.point import PointHead
from surrogate.models.layers.building_blocks import convolution, grid_points
from surrogate.models.registry import ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["TransolverSettings", "transolver"]

COLDEST, HOTTEST = 0.1, 5.0  # temperature of the softmax that assigns points to slices
SMALLEST = 1e-5  # weight of a slice below which its state is damped


class TransolverSettings(ModelSettings):
    """Settings of Transolver.

    Arguments:
        width: Features of every point; divisible by `heads`.
        depth: Number of blocks of attention and perceptron.
        heads: Number of attention heads.
        slices: Number of slices, the physical states among which attention acts.
        ratio: Width of the hidden layer of the perceptrons over `width`.
    """

    at_points: ClassVar[Literal["never", "meshes", "always"]] = "always"
    family: Literal["transolver"] = "transolver"
    width: int = Field(64, ge=1)
    depth: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    slices: int = Field(32, ge=1)
    ratio: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} is not divisible by heads: {self.heads}")
        return self


class _PhysicsAttention(nn.Module):
    r"""Gather points into slices, attend among the slices, spread the result back to the points.

    With weights :math:`w_{ng} = \operatorname{softmax}_g(x_n P / \tau)` of point n in slice g, the states
    :math:`s_g = \sum_n w_{ng} f_n / \sum_n w_{ng}` attend to each other, and :math:`y_n = \sum_g w_{ng} s'_g`: the cost
    grows linearly with the number of points. (B, N, width) -> (B, N, width), for every head by itself.
    """

    def __init__(self, width: int, heads: int, slices: int) -> None:
        super().__init__()
        size = width // heads
        self.heads = heads
        self.values, self.keys = nn.Linear(width, width), nn.Linear(width, width)
        self.assign = nn.Linear(size, slices)
        self.temperature = nn.Parameter(torch.full((heads, 1, 1), 0.5))
        self.states = nn.Linear(size, 3 * size, bias=False)
        self.out = nn.Linear(width, width)
        nn.init.orthogonal_(self.assign.weight)  # slices that differ from the start

    def forward(self, x: Tensor, there: Tensor | None) -> Tensor:
        values, keys = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.values, self.keys))
        weights = (self.assign(keys) / self.temperature.clamp(COLDEST, HOTTEST)).softmax(-1)
        weights = weights if there is None else weights * there[:, None, :, None]
        states = weights.transpose(-1, -2) @ values / (weights.sum(2)[..., None] + SMALLEST)
        query, key, value = self.states(states).chunk(3, dim=-1)
        states = functional.scaled_dot_product_attention(query, key, value)
        return self.out((weights @ states).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """x + attention(norm(x)), then y + perceptron(norm(y)): (B, N, width) -> (B, N, width)."""

    def __init__(self, settings: TransolverSettings) -> None:
        super().__init__()
        width, hidden = settings.width, settings.ratio * settings.width
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _PhysicsAttention(width, settings.heads, settings.slices)
        self.perceptron = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, there: Tensor | None) -> Tensor:
        x = x + self.attention(self.before(x), there)
        return x + self.perceptron(self.after(x))


class _Points(nn.Module):
    """Features of every point: (B, C, *S) -> (B, width, *S); a point whose coordinate is NaN does not exist."""

    def __init__(self, settings: TransolverSettings, shapes: Shapes) -> None:
        super().__init__()
        hidden = settings.ratio * settings.width
        self.position, self.ragged = shapes.positions[0] if shapes.positions else None, shapes.ragged
        channels = shapes.inputs + (0 if shapes.positions else shapes.dimensions)
        self.lift = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, settings.width))
        self.blocks = nn.ModuleList(_Block(settings) for _ in range(settings.depth))
        self.norm = nn.LayerNorm(settings.width)

    def forward(self, fields: Tensor) -> Tensor:
        if self.position is None:
            grid = grid_points(fields.shape[2:], fields)
            fields = torch.cat([fields, grid.expand(len(fields), *grid.shape)], dim=1)
        x = fields.flatten(2).transpose(1, 2)
        there: Tensor | None = None
        if self.position is not None:
            known = ~x[..., self.position].isnan()
            if self.ragged or (not torch.compiler.is_compiling() and not bool(known.all())):
                there, x = known.to(x.dtype), torch.where(known[..., None], x, 0.0)
        x = self.lift(x)
        for block in self.blocks:
            x = block(x, there)
        return self.norm(x).transpose(1, 2).unflatten(2, fields.shape[2:])


@register(TransolverSettings)
def transolver(settings: TransolverSettings, shapes: Shapes) -> Separable:
    """Build a lifting of every point, blocks of physics attention, and a pointwise head.

    (B, C, *S) -> (B, N, width) -> ... -> (B, width, *S) -> (B, M, *S)

    Inputs are fields on the points, parameters as constant channels, and the coordinates of the points, which training
    adds. The order of the points does not matter, and the network can be applied to other points, another number of
    them, and samples of different numbers.

    Arguments:
        settings: Width, depth, heads and slices.
        shapes: Channels, and which of them are coordinates; on a grid without coordinates positions run from -1 to 1.

    Raises:
        ConfigError: Targets are plain numbers, or the inputs have no value at every point of a mesh.

    Source: Wu, Luo, Wang, Wang, Long, *Transolver*, ICML 2024, arXiv 2402.02366; written anew.
    """
    if not shapes.grid:
        raise ConfigError(
            "data.targets are numbers: the family transolver maps to fields on points; choose mlp or resnet for numbers"
        )
    if shapes.point_axis and not shapes.positions:
        raise ConfigError(
            f"data.inputs have no coordinates of the points along '{shapes.point_axis}': the family transolver needs "
            "x, y (and z) among the inputs"
        )
    shapes.refuse_other_grids("transolver")
    return Separable(
        _Points(settings, shapes), PointHead(convolution(shapes.dimensions)(settings.width, shapes.outputs, 1))
    )
