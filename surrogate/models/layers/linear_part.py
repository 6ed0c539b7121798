"""Leading modes of the inputs next to the learned features, so that the head contains ridge regression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from surrogate.errors import ConfigError, DataError
from surrogate.models.layers.modes import leading_modes
from surrogate.models.registry import Batches, Shapes
from surrogate.models.separable import Separable
from surrogate.slimtik import NormalEquations, tikhonov

__all__ = ["LinearPart", "fit_linear_part", "with_linear_part"]

NOISE = 1e-6  # inputs that vary by less than this share of their mean are all alike, but for rounding


class LinearPart(nn.Module):
    r"""Learned features and coefficients of the inputs' leading modes: (B, C, *input_grid) -> (B, K + q).

    .. math:: z(y) = [\phi(y), \; P^\top (y - \bar y) / d]

    P are the q leading modes of the training inputs y as vectors, d the largest standard deviation of a coefficient. A
    head that is linear in its weights then holds every linear map of these coefficients, and its least-squares problem
    ridge regression: on the inputs themselves where q is their rank, since all coefficients are divided by one number.
    (Divided by the standard deviation of each, modes of small energy would be penalised too little: on Burgers the
    error was higher by 40 %.) Mean and modes are buffers, zero until `fit_linear_part` sets them.

    Arguments:
        features: The learned features phi, (B, C, *input_grid) -> (B, K).
        size: Numbers in one input.
        rank: Number q of modes.
    """

    mean: Tensor
    modes: Tensor

    def __init__(self, features: nn.Module, size: int, rank: int) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("modes", torch.zeros(size, rank))  # P / d

    def forward(self, y: Tensor) -> Tensor:
        return torch.cat([self.features(y), (y.flatten(1) - self.mean) @ self.modes], dim=1)


def with_linear_part(features: nn.Module, rank: int, shapes: Shapes) -> nn.Module:
    """Return features with coefficients of `rank` modes of the inputs behind them; for none the features themselves.

    Raises:
        ConfigError: An input has fewer numbers than that.
    """
    if rank > shapes.input_size:
        raise ConfigError(
            f"model.linear: {rank} modes of inputs with {shapes.input_size} numbers; choose at most {shapes.input_size}"
        )
    return LinearPart(features, shapes.input_size, rank) if rank else features


@torch.no_grad()
def fit_linear_part(network: Separable, batches: Batches) -> None:
    r"""Set the modes of a linear part, and the head to ridge regression on their coefficients.

    .. math:: W = \begin{bmatrix} 0 \\ V \end{bmatrix}, \qquad
              V = \operatorname{argmin} \|[x, 1] V - C\|^2 / b + \alpha \|V\|^2

    with the coefficients x and alpha by generalised cross-validation, so that training begins at the best linear map
    and adds to it. A network without a linear part is left as it is.

    Arguments:
        network: The network; its head is a dense one.
        batches: Starts a pass over the training data, in the units in which the network is trained.

    Raises:
        DataError: There are not more training samples than modes.
        NumericalError: Inputs or targets are not finite.
    """
    part = network.features
    if not isinstance(part, LinearPart):
        return
    size, rank = part.modes.shape

    def inputs() -> Iterator[Tensor]:
        return (batch.inputs.flatten(1) for batch in batches())

    try:
        modes = leading_modes(inputs, size, rank, device=part.modes.device)
    except DataError as error:
        raise DataError(f"model.linear: {error}") from error
    largest = modes.energies[0].sqrt()
    part.mean.copy_(modes.mean)
    alike = largest <= NOISE * (1.0 + modes.mean.abs().max())
    part.modes.copy_(torch.zeros_like(modes.vectors) if alike else modes.vectors / largest)
    head = network.head
    learned = head.channels - rank
    sums = NormalEquations.zeros(*head.shape, device=part.modes.device)
    for batch in batches():
        sums = sums + head.normal_equations(part(batch.inputs), batch.targets)
    linear = replace(sums, packed=sums.packed[learned:, learned:], cross=sums.cross[learned:])
    weights = torch.zeros_like(sums.cross)
    weights[learned:] = tikhonov(linear).weights
    head.assign_(weights)
