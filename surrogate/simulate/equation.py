"""What an equation is: names and units, how a member is drawn, and how a batch of members is stepped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Equation", "Grid", "Member", "Quantity", "Stepper", "rollout"]

Array = NDArray[np.float64]
Stepper = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Quantity:
    """How a variable is described in a file."""

    units: str
    long_name: str


@dataclass(frozen=True)
class Grid:
    """A uniform grid on a periodic box; point i of an axis lies at i * length / points.

    Arguments:
        shape: Points along each axis of *S, slowest first: (z, y, x), (y, x) or (x,).
        lengths: Length of the box along the same axes.
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes, in the order of `shape`."""
        return ("z", "y", "x")[-len(self.shape) :]

    @property
    def coordinates(self) -> dict[str, Array]:
        """Positions of the points along each axis."""
        triples = zip(self.axes, self.shape, self.lengths, strict=True)
        return {axis: np.arange(points, dtype=np.float64) * (length / points) for axis, points, length in triples}


@dataclass(frozen=True)
class Member:
    """One simulation before it runs.

    Arguments:
        parameters: The numbers that its data record, by name.
        initial: Initial fields, with shape (C, *S).
    """

    parameters: Mapping[str, float]
    initial: Array


@dataclass(frozen=True)
class Equation:
    """A family of simulations that a recipe can name.

    Arguments:
        name: Its name in the registry.
        fields: Its C fields, in the order of the channels.
        ranges: The numbers that a recipe gives a range for.
        recorded: The parameters that a member's data record, from the names of the axes.
        points: The fewest grid points along an axis.
        draw: A member from one value for each of `ranges`, a grid and its own random generator.
        stepper: A stepper from the recorded parameters (each with shape (B,)), a grid, the step in time and a device.
    """

    name: str
    fields: Mapping[str, Quantity]
    ranges: Mapping[str, Quantity]
    recorded: Callable[[tuple[str, ...]], dict[str, Quantity]]
    points: int
    draw: Callable[[Mapping[str, float], Grid, np.random.Generator], Member]
    stepper: Callable[[Mapping[str, Array], Grid, float, torch.device], Stepper]


def rollout(stepper: Stepper, initial: Tensor, snapshots: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The first `snapshots` states of a batch, the initial one included.

    Arguments:
        stepper: Advances the batch by one snapshot.
        initial: Initial fields, with shape (B, C, *S).
        snapshots: Number of states T.
        dtype: Type of the result; the steps themselves keep the type of `initial`.

    Returns:
        States on the host, with shape (B, T, C, *S).
    """
    batch, *rest = initial.shape
    states = torch.empty((batch, snapshots, *rest), dtype=dtype)
    states[:, 0] = initial
    state = initial
    for index in range(1, snapshots):
        state = stepper(state)
        states[:, index] = state
    return states
