"""Deep operator network: parameters through a branch, coordinates through a trunk."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from surrogate.errors import ConfigError
from surrogate.models.families.mlp import dense_layers
from surrogate.models.heads import head_of
from surrogate.models.heads.point import PointHead
from surrogate.models.layers.building_blocks import Activation, convolution, grid_points
from surrogate.models.registry import ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["DeepONetSettings", "deeponet"]


class DeepONetSettings(ModelSettings):
    """Settings of the deep operator network.

    Arguments:
        width: Size of the hidden layers of branch and trunk.
        depth: Number of hidden layers of each.
        products: Number K of products of branch and trunk.
        activation: Nonlinearity.
    """

    at_points: ClassVar[Literal["never", "meshes", "always"]] = "meshes"
    family: Literal["deeponet"] = "deeponet"
    width: int = Field(64, ge=1)
    depth: int = Field(3, ge=1)
    products: int = Field(64, ge=1)
    activation: Activation = "gelu"


class _Products(nn.Module):
    """branch_k(y) trunk_k(x): (B, C, *input_grid) -> (B, K, *S)."""

    coordinates: Tensor

    def __init__(self, settings: DeepONetSettings, shapes: Shapes) -> None:
        super().__init__()
        hidden = [settings.width] * settings.depth
        self.branch = nn.Sequential(
            nn.Flatten(),
            *dense_layers([shapes.input_size, *hidden], settings.activation),
            nn.Linear(settings.width, settings.products),
        )
        self.trunk = nn.Sequential(*dense_layers([shapes.dimensions, *hidden, settings.products], settings.activation))
        self.register_buffer("coordinates", grid_points(shapes.grid).flatten(1).T, persistent=False)  # (points, d)
        self.grid = shapes.grid

    def forward(self, y: Tensor) -> Tensor:
        products = self.branch(y)[:, :, None] * self.trunk(self.coordinates).T
        return products.unflatten(2, self.grid)


class _PointProducts(nn.Module):
    """branch_k(parameters) trunk_k(coordinates of the point): (B, C, N) -> (B, K, N) for any points."""

    def __init__(self, settings: DeepONetSettings, shapes: Shapes) -> None:
        super().__init__()
        hidden, places = [settings.width] * settings.depth, len(shapes.positions)
        sizes = [shapes.inputs - places, *hidden]
        self.branch = nn.Sequential(
            *dense_layers(sizes, settings.activation), nn.Linear(settings.width, settings.products)
        )
        self.trunk = nn.Sequential(*dense_layers([places, *hidden, settings.products], settings.activation))
        self.places, self.constants = list(shapes.positions), list(shapes.parameters)

    def forward(self, fields: Tensor) -> Tensor:
        places = fields[:, self.places].transpose(1, 2)  # NaN where a sample has no point
        return self.branch(fields[:, self.constants, 0])[:, :, None] * self.trunk(places.nan_to_num()).transpose(1, 2)


@register(DeepONetSettings)
def deeponet(settings: DeepONetSettings, shapes: Shapes) -> Separable:
    r"""Build a branch for the parameters, a trunk for the coordinates and a head that weights their products.

    .. math:: u_m(y)(x) = \sum_k W_{km} \, \operatorname{branch}_k(y) \, \operatorname{trunk}_k(x) + b_m

    (B, C, *input_grid) -> (B, K) times (points, K) -> (B, K, *S) -> (B, M, *S). Coordinates run from -1 to 1 along
    each axis of the grid, whatever its length. On the points of a mesh they are the coordinates x, y (and z) of the
    data, and the network can be applied to other points.

    Arguments:
        settings: Width, depth and number of products.
        shapes: Shapes of inputs and targets; fields are taken as vectors. Targets are fields on 1 to 3 axes.

    Raises:
        ConfigError: Targets are plain numbers, or on a mesh inputs are fields or points have no coordinates.

    Source: Lu, Jin, Pang, Zhang, Karniadakis, Nature Machine Intelligence 3, 2021, doi 10.1038/s42256-021-00302-5.
    """
    if not shapes.grid:
        raise ConfigError(
            "data.targets have no grid: the family deeponet maps parameters to fields; choose mlp or resnet for numbers"
        )
    if shapes.point_axis:
        if not shapes.positions or len(shapes.positions) + len(shapes.parameters) != shapes.inputs:
            raise ConfigError(
                f"data.inputs: on the points of a mesh (axis '{shapes.point_axis}') the family deeponet maps "
                "parameters and coordinates x, y (and z) to fields; choose transolver for input fields on points"
            )
        return Separable(_PointProducts(settings, shapes), PointHead(nn.Conv1d(settings.products, shapes.outputs, 1)))
    head = convolution(shapes.dimensions)(settings.products, shapes.outputs, kernel_size=1)
    return Separable(_Products(settings, shapes), head_of(head))
