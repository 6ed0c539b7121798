"""Multilayer perceptron from parameters to a vector or a field."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import nn

from surrogate.models.layers.building_blocks import Activation, activation
from surrogate.models.layers.field_head import dense_head
from surrogate.models.layers.linear_part import fit_linear_part, with_linear_part
from surrogate.models.registry import Batches, ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["MlpSettings", "dense_layers", "mlp"]


class MlpSettings(ModelSettings):
    """Settings of the multilayer perceptron.

    Arguments:
        width: Size of every hidden layer.
        depth: Number of hidden layers.
        activation: Nonlinearity after each of them.
        linear: Number q of leading modes of the inputs whose coefficients are in the head next to the learned features,
            which then contains ridge regression; zero for none. See `LinearPart`.
    """

    family: Literal["mlp"] = "mlp"
    width: int = Field(32, ge=1)
    depth: int = Field(2, ge=1)
    activation: Activation = "tanh"
    linear: int = Field(0, ge=0)


def fit_linear(settings: MlpSettings, network: Separable, batches: Batches) -> None:
    """Fit the linear part of a perceptron to the training data, where it has one."""
    fit_linear_part(network, batches)


@register(MlpSettings, prepare=fit_linear)
def mlp(settings: MlpSettings, shapes: Shapes) -> Separable:
    r"""Build dense layers, the last of which is the head.

    .. math:: z_0 = y, \qquad z_{j+1} = \sigma(K_j z_j + b_j), \qquad \text{output} = W z_\text{depth} + b

    (B, C, *input_grid) -> (B, C prod(input_grid)) -> (B, width) -> ... -> (B, M, *S)

    Arguments:
        settings: Width, depth, nonlinearity and the linear part.
        shapes: Shapes of inputs and targets; fields are taken as vectors.

    Raises:
        ConfigError: The linear part has more modes than an input has numbers.

    Source: Rumelhart, Hinton, Williams, Nature 323, 1986.
    """
    widths = [shapes.input_size] + [settings.width] * settings.depth
    features: nn.Module = nn.Sequential(nn.Flatten(), *dense_layers(widths, settings.activation))
    features = with_linear_part(features, settings.linear, shapes)
    return Separable(features, dense_head(settings.width + settings.linear, shapes))


def dense_layers(widths: list[int], name: Activation) -> list[nn.Module]:
    """Build dense layers from each width to the next, each followed by a nonlinearity."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation(name)]
    return layers
