"""Memory of batches, used again as soon as nothing refers to a batch any longer."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["BatchMemory"]

FLOAT = 4  # bytes
SMALL = 131_072  # bytes; smaller pieces of memory are kept and used again by the allocator of the system
KEPT = 4  # pieces without a batch: one is used, one is ready, one is filled


class BatchMemory:
    """Memory for the inputs or the targets of batches.

    A large piece of new memory is cleared page by page when it is first written, which takes as long as reading a batch
    from the page cache. A batch belongs to whoever holds it, for any time: its memory is used for another batch only
    after the last tensor or array that refers to it is gone.

    Arguments:
        shape: Shape (C, *S) of a sample.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._shape = tuple(shape)
        self._free: list[Tensor] = []

    def take(self, samples: int) -> Tensor:
        """Return a tensor (samples, C, *S) with any values."""
        if FLOAT * samples * math.prod(self._shape) < SMALL:
            return torch.empty((samples, *self._shape))
        piece = self._free.pop() if self._free else torch.empty(0)
        if len(piece) < samples:
            piece = torch.empty((samples, *self._shape))  # NumPy asks for huge pages, which are cleared first
        handed_out = piece.numpy()[:samples]
        weakref.finalize(handed_out, self._take_back, piece).atexit = False
        return torch.from_numpy(handed_out)  # all views of this tensor keep the array alive

    def _take_back(self, piece: Tensor) -> None:
        if len(self._free) < KEPT:
            self._free.append(piece)
