"""The Gram matrices of the last batches and their sum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import ceil

import torch
from torch import Tensor

from surrogate.errors import ConfigError
from surrogate.slimtik.blocks import Blocks

__all__ = ["Memory", "depth_for_rows"]

DEEPEST = 200


def depth_for_rows(features: int, rows: int, multiple: float) -> int:
    """Return the least memory depth r with (r + 1) rows >= multiple * features, at most 200.

    Arguments:
        features: Number of features K.
        rows: Rows n of the design of one batch.
        multiple: Rows in memory for each feature.

    Raises:
        ConfigError: The multiple is not above zero.
    """
    if not multiple > 0:
        raise ConfigError(f"memory_rows is {multiple}; it must be above zero")
    return min(max(ceil(multiple * features / rows) - 1, 0), DEEPEST)


@dataclass(frozen=True)
class Memory:
    r"""A queue of the last r + 1 matrices :math:`G` and its sum :math:`H`.

    The queue is two stacks: `back` holds new matrices, `front` holds sums of each old matrix and all that are younger
    in it, so dropping the oldest takes no subtraction and the sum never drifts. A step costs two additions, however
    deep the memory; once in r + 1 steps the stacks turn over. A memory is never changed: `pushed` makes another.

    Arguments:
        depth: Memory depth r; zero keeps the current batch alone.
        front: Sums over the older matrices, the widest last, each with shape (K, K), or packed.
        back: The younger matrices, the youngest last, each of the same shape.
    """

    depth: int
    front: tuple[Tensor, ...] = ()
    back: tuple[Tensor, ...] = ()
    back_sum: Tensor | None = None

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise ConfigError(f"memory_depth is {self.depth}; it must be zero or more")
        if self.back and self.back_sum is None:
            *_, total = accumulate(self.back)
            object.__setattr__(self, "back_sum", total)

    def __len__(self) -> int:
        return len(self.front) + len(self.back)

    def pushed(self, gram: Tensor) -> Memory:
        """Return the memory with `gram` added and matrices older than its depth dropped."""
        memory = self._popped() if len(self) > self.depth else self
        total = gram if memory.back_sum is None else memory.back_sum + gram
        return Memory(self.depth, memory.front, (*memory.back, gram), total)

    def _popped(self) -> Memory:
        if self.front:
            return Memory(self.depth, self.front[:-1], self.back, self.back_sum)
        return Memory(self.depth, tuple(accumulate(reversed(self.back)))[:-1])

    @property
    def total(self) -> Tensor:
        """The sum H of all matrices held, in their shape."""
        parts = [*self.front[-1:], *([] if self.back_sum is None else [self.back_sum])]
        if not parts:
            raise ConfigError("the memory of slimTrain is empty; solve a batch first")
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def tensors(self, features: int, blocks: Blocks | None = None) -> dict[str, Tensor]:
        """Return both stacks as float64 tensors of shape (., K, K), for a checkpoint; packed ones as whole."""
        empty = torch.zeros(0, features, features, dtype=torch.float64)
        stacks = {}
        for name, stack in (("front", self.front), ("back", self.back)):
            whole = stack if blocks is None else [blocks.whole(matrix) for matrix in stack]
            stacks[name] = torch.stack(tuple(whole)) if stack else empty
        return stacks
