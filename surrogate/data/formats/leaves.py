"""Leaves of declared variables: the datasets and attributes that are put together, and how they are stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np

from surrogate.data.formats.containers import Values
from surrogate.data.formats.stack import H5Stack
from surrogate.data.hdf5.array import H5Array
from surrogate.data.mapping import MappedVariable
from surrogate.errors import DataError

__all__ = ["Entry", "Key", "Leaf", "check_alike", "stack", "stacked_leaves"]

Key = tuple[str, ...]


@dataclass
class Leaf:
    """One dataset or attribute of a variable: its values, attributes, and where it is."""

    values: Values
    attributes: dict[str, Any] = field(default_factory=dict)
    where: str = ""


@dataclass
class Entry:
    """A declared variable, and what was found of it, by the text in place of its names in braces."""

    name: str
    declared: MappedVariable
    keys: list[str]
    leaves: dict[Key, Leaf] = field(default_factory=dict)


def stacked_leaves(leaves: dict[Key, Leaf], labels: Sequence[Sequence[str]], before: Key = ()) -> Values:
    """Stack leaves along one new axis for each list of labels."""
    if len(before) == len(labels):
        return leaves[before].values
    return stack([stacked_leaves(leaves, labels, (*before, text)) for text in labels[len(before)]])


def stack(items: Sequence[Values]) -> Values:
    """Stack values along a new first axis, lazily where they are in files."""
    if all(isinstance(item, H5Array | H5Stack) for item in items):
        return H5Stack(tuple(items))
    if all(isinstance(item, np.ndarray) for item in items):
        return np.stack(items)
    return da.stack([item if isinstance(item, da.Array) else da.asarray(item[...]) for item in items])


def check_alike(parts: Sequence[dict[Key, Leaf]], name: str) -> None:
    """Refuse leaves of one variable that differ in shape or type."""
    leaves = [leaf for part in parts for leaf in part.values()]
    for leaf in leaves:
        if leaf.values.shape != leaves[0].values.shape:
            raise DataError(
                f"'{name}' has shape {leaves[0].values.shape} in {leaves[0].where}, but {leaf.values.shape} in "
                f"{leaf.where}; one variable has one shape: interpolate to one grid, or name fewer files"
            )
        if leaf.values.dtype != leaves[0].values.dtype and leaf.values.dtype.kind not in "US":
            raise DataError(
                f"'{name}' has type {leaves[0].values.dtype} in {leaves[0].where}, but {leaf.values.dtype} in "
                f"{leaf.where}; convert them to one type"
            )
