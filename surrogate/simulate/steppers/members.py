"""Subsets of the members of a batch, without a copy where a subset is the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Members", "Rate", "column"]

Rate = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
Index = NDArray[np.intp]


class Members:
    """A batch of members with different steps.

    Arguments:
        parameters: Their parameters, with the members along the first axis.
        count: Number of members B.
    """

    def __init__(self, parameters: Mapping[str, Tensor], count: int) -> None:
        self.parameters, self.count = parameters, count

    def take(self, u: Tensor, chosen: Index) -> Tensor:
        """Return the chosen members; the tensor itself where all are chosen."""
        return u if len(chosen) == self.count else u[self._on(u, chosen)]

    def parameters_of(self, chosen: Index) -> Mapping[str, Tensor]:
        """Return the parameters of the chosen members."""
        if len(chosen) == self.count:
            return self.parameters
        return {name: self.take(values, chosen) for name, values in self.parameters.items()}

    def put(self, u: Tensor, part: Tensor, chosen: Index, good: NDArray[np.bool_]) -> Tensor:
        """Return a copy of `u` in which those of the chosen members are replaced that are good."""
        if len(chosen) == self.count and good.all():
            return part
        return u.index_copy(0, self._on(u, chosen[good]), part[self._on(u, np.flatnonzero(good))])

    @staticmethod
    def _on(u: Tensor, chosen: Index) -> Tensor:
        return torch.from_numpy(chosen).to(u.device)


def column(values: NDArray[np.float64] | NDArray[np.bool_] | Tensor, like: Tensor) -> Tensor:
    """Reshape one number per member to (B, 1, 1...), so that it multiplies fields."""
    numbers = torch.as_tensor(values, dtype=like.dtype, device=like.device)
    return numbers.reshape(-1, *(1,) * (like.ndim - 1))
