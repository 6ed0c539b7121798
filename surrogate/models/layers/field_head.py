"""Dense heads that know the shape of their targets, for families that map parameters to vectors or fields."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from surrogate.errors import ConfigError
from surrogate.models.heads import DenseHead, refuse_shape
from surrogate.models.registry import Shapes

__all__ = ["FieldHead", "dense_head"]


class FieldHead(DenseHead):
    """A dense layer whose outputs are laid out as a field: (B, K) -> (B, M, *S), with W of shape (K, M prod(S)).

    Arguments:
        layer: The dense layer, with one output per number of a target.
        sizes: Shape (M, *S) of a target.

    Raises:
        ConfigError: The layer has another number of outputs.
    """

    def __init__(self, layer: nn.Linear, sizes: tuple[int, ...]) -> None:
        super().__init__(layer)
        if layer.out_features != prod(sizes):
            raise ConfigError(f"{layer} cannot make targets of shape {sizes}: they have {prod(sizes)} numbers")
        self.sizes = sizes

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(z).unflatten(-1, self.sizes)

    def rows(self, targets: Tensor) -> Tensor:
        return targets.reshape(-1, self.shape[1])

    def _targets(self, targets: Tensor, z: Tensor, outputs: tuple[int, ...]) -> Tensor:
        refuse_shape(targets, (*z.shape[:-1], *self.sizes), self.layer)
        return self.rows(targets.detach()).T


def dense_head(features: int, shapes: Shapes) -> FieldHead:
    """Build a freshly initialised dense head from K features (B, K) to targets (B, M, *S)."""
    return FieldHead(nn.Linear(features, shapes.outputs * shapes.points), (shapes.outputs, *shapes.grid))
