"""Multilayer perceptron from parameters to a vector or a field."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import nn

from surrogate.models.layers.building_blocks import Activation, activation
from surrogate.models.layers.field_head import dense_head
from surrogate.models.registry import ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["MlpSettings", "dense_layers", "mlp"]


class MlpSettings(ModelSettings):
    """Settings of the multilayer perceptron.

    Arguments:
        width: Size of every hidden layer.
        depth: Number of hidden layers.
        activation: Nonlinearity after each of them.
    """

    family: Literal["mlp"] = "mlp"
    width: int = Field(32, ge=1)
    depth: int = Field(2, ge=1)
    activation: Activation = "tanh"


@register(MlpSettings)
def mlp(settings: MlpSettings, shapes: Shapes) -> Separable:
    r"""Build dense layers, the last of which is the head.

    .. math:: z_0 = y, \qquad z_{j+1} = \sigma(K_j z_j + b_j), \qquad \text{output} = W z_\text{depth} + b

    (B, C, *input_grid) -> (B, C prod(input_grid)) -> (B, width) -> ... -> (B, M, *S)

    Arguments:
        settings: Width, depth and nonlinearity.
        shapes: Shapes of inputs and targets; fields are taken as vectors.

    Source: Rumelhart, Hinton, Williams, Nature 323, 1986.
    """
    widths = [shapes.input_size] + [settings.width] * settings.depth
    features = nn.Sequential(nn.Flatten(), *dense_layers(widths, settings.activation))
    return Separable(features, dense_head(settings.width, shapes))


def dense_layers(widths: list[int], name: Activation) -> list[nn.Module]:
    """Build dense layers from each width to the next, each followed by a nonlinearity."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation(name)]
    return layers
