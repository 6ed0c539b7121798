"""Dense residual network from parameters to a vector or a field."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from surrogate.models.layers.building_blocks import Activation, activation
from surrogate.models.layers.field_head import dense_head
from surrogate.models.registry import ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["ResNetSettings", "resnet"]


class ResNetSettings(ModelSettings):
    """Settings of the residual network.

    Arguments:
        width: Size of the state z.
        depth: Number of steps.
        final_time: Time T that the steps cover; a step has the size h = T / depth.
        activation: Nonlinearity.
    """

    family: Literal["resnet"] = "resnet"
    width: int = Field(32, ge=1)
    depth: int = Field(8, ge=1)
    final_time: float = Field(4.0, gt=0)
    activation: Activation = "tanh"


class _ResidualSteps(nn.Module):
    """z + h sigma(K_j z + b_j) for every j in turn: (B, width) -> (B, width)."""

    def __init__(self, settings: ResNetSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(settings.width, settings.width) for _ in range(settings.depth))
        self.activation = activation(settings.activation)
        self.step = settings.final_time / settings.depth

    def forward(self, z: Tensor) -> Tensor:
        for layer in self.layers:
            z = z + self.step * self.activation(layer(z))
        return z


@register(ResNetSettings)
def resnet(settings: ResNetSettings, shapes: Shapes) -> Separable:
    r"""Build steps of forward Euler for :math:`z' = \sigma(K(t) z + b(t))` on [0, T].

    .. math:: z_0 = \sigma(K_\text{in} y + b_\text{in}), \qquad z_{j+1} = z_j + h \, \sigma(K_j z_j + b_j), \qquad
              \text{output} = W z_\text{depth} + b

    (B, C, *input_grid) -> (B, width) -> ... -> (B, M, *S)

    Arguments:
        settings: Width, depth, final time and nonlinearity.
        shapes: Shapes of inputs and targets; fields are taken as vectors.

    Source: He, Zhang, Ren, Sun, CVPR 2016; as an ordinary differential equation E, Commun. Math. Stat. 5, 2017.
    """
    lift = [nn.Flatten(), nn.Linear(shapes.input_size, settings.width), activation(settings.activation)]
    return Separable(nn.Sequential(*lift, _ResidualSteps(settings)), dense_head(settings.width, shapes))
