"""The pointwise head on points of meshes, of which samples may have different numbers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from surrogate.models.heads.convolution import ConvHead
from surrogate.models.heads.head import BYTE_BUDGET
from surrogate.slimtik import NormalEquations

__all__ = ["PointHead"]


class PointHead(ConvHead):
    """A convolution of kernel 1, applied at every point by itself: A has the features of each point as a row.

    A point whose targets are all NaN is no point of the sample: it has no row, so that the normal equations of a padded
    batch are exactly those of its samples one by one.
    """

    @torch.no_grad()
    def normal_equations(self, z: Tensor, targets: Tensor, *, byte_budget: int = BYTE_BUDGET) -> NormalEquations:
        absent = targets.isnan().all(1)
        if z.shape[2:] != targets.shape[2:] or not bool(absent.any()):
            return super().normal_equations(z, targets, byte_budget=byte_budget)
        features, rows = (values.movedim(1, -1)[~absent].T[None] for values in (z, targets))
        shape = (1, -1, features.shape[-1], *[1] * (z.ndim - 3))
        sums = super().normal_equations(features.reshape(shape), rows.reshape(shape), byte_budget=byte_budget)
        return replace(sums, samples=len(z))

    def rows(self, targets: Tensor) -> Tensor:
        rows = super().rows(targets)
        return rows[~rows.isnan().all(1)]
