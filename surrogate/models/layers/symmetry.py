"""Networks with the symmetries of a square or a cube: reflections, and exchanges of axes of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations, product
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Symmetrized", "Symmetry", "symmetrized"]

Symmetry = Literal["none", "cells", "nodes"]
Element = tuple[tuple[int, ...], tuple[int, ...]]  # the axes in their new order, then those reflected


class Symmetrized(nn.Module):
    r"""Features of fields, equivariant through an average over the group G of a grid's symmetries.

    .. math:: z(v) = \frac{1}{|G|} \sum_{g \in G} g^{-1} \phi(g v)

    in evaluation, so that z(g v) = g z(v) exactly. In training each batch takes one g at random, which costs no more
    than phi alone and is data augmentation by the group. G has 2, 8 or 48 elements on a line, a square or a cube.

    For scalar fields whose equation, domain and boundary have these symmetries: vectors are not transformed.

    Arguments:
        features: The features phi, (B, C, *S) -> (B, K, *S) on any grid.
        grid: Points along each axis.
        nodes: Reflect about the first point, which is periodic or on the boundary (i to -i modulo the length), rather
            than about the midpoint of the first and the last (cell centres).
    """

    def __init__(self, features: nn.Module, grid: Sequence[int], *, nodes: bool) -> None:
        super().__init__()
        self.features = features
        self.nodes = nodes
        axes = range(len(grid))
        orders = [order for order in permutations(axes) if all(grid[axis] == grid[order[axis]] for axis in axes)]
        reflections = [subset for size in range(len(grid) + 1) for subset in combinations(axes, size)]
        self.elements: list[Element] = list(product(orders, reflections))  # the identity first

    def forward(self, fields: Tensor) -> Tensor:
        if self.training:
            return self._seen(fields, self.elements[int(torch.randint(len(self.elements), ()))])
        total = self._seen(fields, self.elements[0])
        for element in self.elements[1:]:
            total = total + self._seen(fields, element)
        return total / len(self.elements)

    def moved(self, fields: Tensor, element: Element) -> Tensor:
        """Return g v."""
        order, reflected = element
        return self._reflected(fields.permute(0, 1, *(2 + axis for axis in order)), reflected)

    def moved_back(self, fields: Tensor, element: Element) -> Tensor:
        """Return the inverse of `moved`."""
        order, reflected = element
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return self._reflected(fields, reflected).permute(0, 1, *(2 + axis for axis in inverse))

    def _seen(self, fields: Tensor, element: Element) -> Tensor:
        return self.moved_back(self.features(self.moved(fields, element)), element)

    def _reflected(self, fields: Tensor, axes: tuple[int, ...]) -> Tensor:
        dims = [2 + axis for axis in axes]
        if not dims:
            return fields
        flipped = fields.flip(dims)
        return flipped.roll([1] * len(dims), dims) if self.nodes else flipped


def symmetrized(features: nn.Module, symmetry: Symmetry, grid: Sequence[int]) -> nn.Module:
    """Return features with the symmetries of a setting; the features themselves for `none`."""
    return features if symmetry == "none" else Symmetrized(features, grid, nodes=symmetry == "nodes")
