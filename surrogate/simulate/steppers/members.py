"""Some members of a batch at a time, without a copy where they are all of them."""

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
    """A batch of members that do not step together.

    Arguments:
        parameters: Their parameters, with the members along the first axis.
        count: How many they are.
    """

    def __init__(self, parameters: Mapping[str, Tensor], count: int) -> None:
        self.parameters, self.count = parameters, count

    def take(self, u: Tensor, chosen: Index) -> Tensor:
        """The chosen members; the tensor itself where they are all."""
        return u if len(chosen) == self.count else u[self._on(u, chosen)]

    def parameters_of(self, chosen: Index) -> Mapping[str, Tensor]:
        """Parameters of the chosen members."""
        if len(chosen) == self.count:
            return self.parameters
        return {name: self.take(values, chosen) for name, values in self.parameters.items()}

    def put(self, u: Tensor, part: Tensor, chosen: Index, good: NDArray[np.bool_]) -> Tensor:
        """`u` with those of the chosen members replaced that are good; `u` itself is left as it is."""
        if len(chosen) == self.count and good.all():
            return part
        return u.index_copy(0, self._on(u, chosen[good]), part[self._on(u, np.flatnonzero(good))])

    @staticmethod
    def _on(u: Tensor, chosen: Index) -> Tensor:
        return torch.from_numpy(chosen).to(u.device)


def column(values: NDArray[np.float64] | Tensor, like: Tensor) -> Tensor:
    """One number for each member, shaped so that it multiplies fields."""
    numbers = torch.as_tensor(values, dtype=like.dtype, device=like.device)
    return numbers.reshape(-1, *(1,) * (like.ndim - 1))
