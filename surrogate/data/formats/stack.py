"""Many datasets of one shape as one lazy array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surrogate.data.hdf5.array import H5Array

__all__ = ["H5Stack"]


@dataclass(frozen=True)
class H5Stack:
    """Datasets, or stacks of them, of one shape and type as one array with a new first axis."""

    arrays: tuple[H5Array | H5Stack, ...]

    @property
    def first(self) -> H5Array:
        """The first dataset."""
        first = self.arrays[0]
        return first.first if isinstance(first, H5Stack) else first

    @property
    def objects(self) -> int:
        """Number of datasets in an entry of the first axis."""
        first = self.arrays[0]
        return first.objects * len(first.arrays) if isinstance(first, H5Stack) else 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.arrays), *self.arrays[0].shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.arrays[0].dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        inner = self.arrays[0].chunks
        return (1, *inner) if inner else None

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [...]
        if isinstance(first, slice):
            return np.stack([array[tuple(rest)] for array in self.arrays[first]])
        return self.arrays[int(first)][tuple(rest)]
