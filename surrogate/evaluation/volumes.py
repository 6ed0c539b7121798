"""Weights of the points of meshes, by which sums over points become integrals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from surrogate.data.mesh import volumes_of
from surrogate.errors import DataError

__all__ = ["Volumes"]


@dataclass(frozen=True)
class Volumes:
    """Volumes of the points of every simulation, divided by their mean over its points.

    Arguments:
        values: With shape (1, N), or (simulations, N) where meshes differ; NaN where a simulation has no such point.
    """

    values: np.ndarray

    @classmethod
    def of(cls, dataset: xr.Dataset, axis: str) -> Volumes | None:
        """Return the weights of a data set along an axis of points; None where volumes are not known.

        Raises:
            DataError: A volume is negative, or all are zero.
        """
        known = volumes_of(dataset, axis) if axis else None
        if known is None:
            return None
        values = np.atleast_2d(np.asarray(known.values, np.float64))
        if (values < 0).any() or not (np.nansum(values, 1) > 0).all():
            raise DataError(f"variable 'volume' along '{axis}' has values below zero, or only zeros; correct the data")
        return cls(values / np.nanmean(values, 1, keepdims=True))

    def at(self, sample: Tensor) -> Tensor:
        """Return weights (B, N) of the points of some simulations, zero where there is no point."""
        rows = self.values[sample.cpu().numpy()] if len(self.values) > 1 else self.values.repeat(len(sample), 0)
        return torch.from_numpy(np.nan_to_num(rows))
