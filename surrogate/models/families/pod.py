"""POD network: parameters to the coefficients of proper orthogonal modes of the training data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from surrogate.errors import ConfigError
from surrogate.models.families.mlp import dense_layers
from surrogate.models.heads import DenseHead, refuse_shape
from surrogate.models.layers.building_blocks import Activation
from surrogate.models.layers.linear_part import fit_linear_part, with_linear_part
from surrogate.models.layers.modes import Modes, leading_modes
from surrogate.models.registry import Batches, ModelSettings, Shapes, register
from surrogate.models.separable import Separable
from surrogate.slimtik import NormalEquations, Posterior

__all__ = ["ModesHead", "PodSettings", "fit_modes", "pod"]


class PodSettings(ModelSettings):
    """Settings of the POD network.

    Arguments:
        modes: Number r of modes.
        width: Size of every hidden layer of the network for the coefficients.
        depth: Number of hidden layers.
        activation: Nonlinearity.
        passes: Passes over the training data for the subspace of the modes; one more pass finds them in it.
        linear: Number q of leading modes of the inputs whose coefficients are in the head next to the learned features,
            which then contains ridge regression; zero for none. See `LinearPart`.
    """

    family: Literal["pod"] = "pod"
    modes: int = Field(16, ge=1)
    width: int = Field(32, ge=1)
    depth: int = Field(2, ge=1)
    activation: Activation = "tanh"
    passes: int = Field(2, ge=1)
    linear: int = Field(0, ge=0)


class ModesHead(DenseHead):
    r"""A dense layer for coefficients of orthonormal modes: (B, K) -> (B, M, *S), with W of shape (K, r).

    .. math:: u = \Phi (W^\top z + b) + \bar u, \qquad
              \|u - c\|^2 = \|W^\top z + b - \Phi^\top (c - \bar u)\|^2 + \text{what no W changes,}

    so the least-squares problem for W is that of the coefficients alone. Modes and mean are buffers, zero until
    `assign_modes_` sets them.

    Arguments:
        layer: The dense layer from K features to r coefficients.
        sizes: Shape (M, *S) of a target.
    """

    modes: Tensor
    mean: Tensor
    left_out: Tensor

    def __init__(self, layer: nn.Linear, sizes: tuple[int, ...]) -> None:
        super().__init__(layer)
        self.sizes = sizes
        self.register_buffer("modes", torch.zeros(prod(sizes), layer.out_features))  # Phi
        self.register_buffer("mean", torch.zeros(prod(sizes)))
        self.register_buffer("left_out", torch.zeros(prod(sizes)))  # variance outside the modes

    def forward(self, z: Tensor) -> Tensor:
        return torch.addmm(self.mean, self.layer(z), self.modes.T).unflatten(-1, self.sizes)

    def assign_modes_(self, modes: Modes) -> None:
        """Write modes into the buffers, in place."""
        self.modes.copy_(modes.vectors)
        self.mean.copy_(modes.mean)
        self.left_out.copy_(modes.left_out)

    def rows(self, targets: Tensor) -> Tensor:
        """Return the coefficients of targets: (n, r)."""
        return (targets.flatten(1) - self.mean) @ self.modes

    @torch.no_grad()
    def normal_equations(self, z: Tensor, targets: Tensor, **options: int) -> NormalEquations:
        """Return the sums for the coefficients, with the energy of whole targets: residuals are those of fields."""
        sums = super().normal_equations(z, targets, **options)
        return replace(sums, energy=(targets.flatten(1) - self.mean).double().square().sum())

    @torch.no_grad()
    def std(self, posterior: Posterior, z: Tensor) -> Tensor:
        """Return the standard deviation of the field: of the coefficients, and of the variance outside the modes."""
        variances = posterior.std(self.design(z)).square()
        return (variances @ self.modes.double().square().T + self.left_out).sqrt().unflatten(-1, self.sizes)

    def _targets(self, targets: Tensor, z: Tensor, outputs: tuple[int, ...]) -> Tensor:
        refuse_shape(targets, (len(z), *self.sizes), self.layer)
        return self.rows(targets.detach()).T


def fit_modes(settings: PodSettings, network: Separable, batches: Batches) -> None:
    """Set modes and mean of a POD network from its training data, in normalised units; fit its linear part, if any.

    Raises:
        DataError: There are not more training samples than modes, of targets or of inputs.
    """

    def snapshots() -> Iterator[Tensor]:
        return (batch.targets.flatten(1) for batch in batches())

    head = network.head
    if isinstance(head, ModesHead):
        size, rank = head.modes.shape
        modes = leading_modes(snapshots, size, rank, passes=settings.passes, device=head.modes.device)
        head.assign_modes_(modes)
    fit_linear_part(network, batches)


@register(PodSettings, prepare=fit_modes)
def pod(settings: PodSettings, shapes: Shapes) -> Separable:
    r"""Build a perceptron for the coefficients of the modes that hold most of the training targets' variance.

    .. math:: u(y) = \Phi (W^\top z(y) + b) + \bar u

    (B, C, *input_grid) -> (B, width) -> ... -> coefficients (B, r) -> (B, M, *S). Modes and mean come from the
    training data before the first step.

    Arguments:
        settings: Number of modes, width, depth and the linear part.
        shapes: Shapes of inputs and targets; fields are taken as vectors.

    Raises:
        ConfigError: There are more modes than numbers in a target, or in an input for the linear part.

    Source: Hesthaven, Ubbiali, J. Comput. Phys. 363, 2018, doi 10.1016/j.jcp.2018.02.037.
    """
    size = shapes.outputs * shapes.points
    if settings.modes > size:
        raise ConfigError(f"model.modes: {settings.modes} modes of targets with {size} numbers; choose at most {size}")
    widths = [shapes.input_size] + [settings.width] * settings.depth
    features: nn.Module = nn.Sequential(nn.Flatten(), *dense_layers(widths, settings.activation))
    features = with_linear_part(features, settings.linear, shapes)
    layer = nn.Linear(settings.width + settings.linear, settings.modes)
    return Separable(features, ModesHead(layer, (shapes.outputs, *shapes.grid)))
