"""The head around a dense layer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial, reduce

import torch
from torch import Tensor
from torch.nn import functional

from surrogate.errors import DataError
from surrogate.models.heads.geometry import Layout, Phase, Position
from surrogate.models.heads.head import BYTE_BUDGET, Head, refuse_shape
from surrogate.slimtik import NormalEquations

__all__ = ["DenseHead"]


class DenseHead(Head):
    """`nn.Linear`, over the last axis of features of shape (B, *, K): A is the features themselves."""

    _in_name = "in_features"
    channel_axis = -1

    @torch.no_grad()
    def normal_equations(self, z: Tensor, targets: Tensor, *, byte_budget: int = BYTE_BUDGET) -> NormalEquations:
        A, C = self._features(z).T, self._targets(targets, z, ()).T
        if self.bias is not None:
            A = functional.pad(A, (0, 1), value=1.0)
        positions = max(1, byte_budget // (8 * self.shape[0]))
        if len(A) <= positions:
            return NormalEquations.of(A, C, len(z))
        parts = map(partial(NormalEquations.of, samples=0), A.split(positions), C.split(positions))
        return replace(reduce(NormalEquations.__add__, parts), samples=len(z))

    def _features(self, z: Tensor) -> Tensor:
        if z.ndim < 2 or z.shape[-1] != self.channels:
            raise DataError(f"features have shape {tuple(z.shape)}, but {self.layer} takes (B, *, {self.channels})")
        return z.detach().reshape(-1, z.shape[-1]).T

    def _targets(self, targets: Tensor, z: Tensor, outputs: tuple[int, ...]) -> Tensor:
        refuse_shape(targets, (*z.shape[:-1], self.shape[1]), self.layer)
        return targets.detach().reshape(-1, self.shape[1]).T

    def _layout(self, sizes: Position) -> Layout:
        return Layout((), (), (), (Phase(()),))
