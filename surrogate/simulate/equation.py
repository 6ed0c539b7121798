"""The interface of an equation: names and units, drawing of a member, stepping of a batch of members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Array",
    "Coordinate",
    "Description",
    "Equation",
    "Evolution",
    "Grid",
    "Map",
    "Member",
    "Numerics",
    "Quantity",
    "Stepper",
    "grid_axes",
    "rollout",
]

Array = NDArray[np.float64]
Stepper = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Quantity:
    """Units and long name of a variable.

    Arguments:
        units: Its units; "1" for a pure number.
        long_name: Its meaning in words.
        dim: Name of the axis of a parameter that is a vector.
        size: Length of that axis.
        options: Names of the values 0, 1, ... of a parameter that is a choice.
    """

    units: str
    long_name: str
    dim: str = ""
    size: int = 1
    options: tuple[str, ...] = ()

    @property
    def attributes(self) -> dict[str, str]:
        """Return the attributes of the variable in a file."""
        meanings = {"flag_meanings": " ".join(self.options)} if self.options else {}
        return {"units": self.units, "long_name": self.long_name} | meanings


@dataclass(frozen=True)
class Coordinate:
    """Positions along an axis of the data."""

    values: Array
    units: str
    long_name: str


@dataclass(frozen=True)
class Grid:
    """A uniform grid of a box.

    Point i of an axis is at origin + i h on a periodic box, else at the centre of cell i, origin + (i + 1/2) h.

    Arguments:
        shape: Points along each axis of *S, slowest first: (z, y, x), (y, x) or (x,).
        lengths: Length of the box along the same axes.
        boundary: "periodic", "no_flux" or "dirichlet" (zero on the walls).
        origin: Lower corner of the box; () is zero.
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...]
    boundary: str = "periodic"
    origin: tuple[float, ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """Return the names of the axes, in the order of `shape`."""
        return ("z", "y", "x")[3 - len(self.shape) :]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Return the distance h of neighbouring points along each axis."""
        return tuple(length / points for length, points in zip(self.lengths, self.shape, strict=True))

    @property
    def coordinates(self) -> dict[str, Array]:
        """Return the positions of the points along each axis."""
        origin = self.origin or (0.0,) * len(self.shape)
        shift = 0.0 if self.boundary == "periodic" else 0.5
        return {
            axis: corner + (np.arange(points, dtype=np.float64) + shift) * h
            for axis, points, h, corner in zip(self.axes, self.shape, self.spacing, origin, strict=True)
        }


@dataclass(frozen=True)
class Numerics:
    """Device, precision and accuracy of a computation.

    Arguments:
        device: Device of the fields.
        dtype: Type of the fields.
        refine: Steps in time are this many times smaller than usual; used to measure the error.
        tolerance: Largest error of a step of a method with error control, relative to the largest value of the channel;
            None is the equation's usual one.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float64
    refine: int = 1
    tolerance: float | None = None

    def allowed(self, usual: float, order: int = 2) -> float:
        """Return the tolerance of a step; steps of order p that are r times finer need one smaller by r^(p + 1)."""
        return (self.tolerance or usual) / self.refine ** (order + 1)

    def columns(self, parameters: Mapping[str, Array], grid: Grid) -> dict[str, Tensor]:
        """Reshape parameters (B,) to tensors (B, 1, 1...) that broadcast over fields; keep vectors (B, n)."""
        ones = (1,) * (1 + len(grid.shape))
        return {
            name: torch.as_tensor(values, device=self.device, dtype=self.dtype).reshape(
                values.shape if values.ndim > 1 else (-1, *ones)
            )
            for name, values in parameters.items()
        }


@dataclass(frozen=True)
class Member:
    """Parameters and initial field of one simulation.

    Arguments:
        parameters: The parameters that are stored with its data, by name.
        initial: Initial fields, with shape (C, *S); empty for a map.
    """

    parameters: Mapping[str, float | Array]
    initial: Array


@dataclass(frozen=True)
class Description:
    """The sentences of a card, in Markdown.

    Arguments:
        formula: The equation in plain text.
        boundary: What holds on the boundary.
        initial: The initial field.
        scheme: Discretisation in space and time.
        invariants: What is conserved or decays.
        constants: Every coefficient that is not a parameter.
        source: Origin of the problem.
        licence: Terms under which the data may be used; the card of an equation of the user names no others.
    """

    formula: str
    boundary: str
    initial: str
    scheme: str
    invariants: str = ""
    constants: str = ""
    source: str = ""
    licence: str = ""


def grid_axes(grid: Grid, units: str = "m") -> dict[str, Coordinate]:
    """Return the axes of fields that are stored on the grid itself."""
    return {axis: Coordinate(values, units, f"position along {axis}") for axis, values in grid.coordinates.items()}


@dataclass(frozen=True, kw_only=True)
class Equation:
    """A family of simulations that a recipe can name.

    Arguments:
        name: Its name in the registry.
        description: What its card says.
        fields: Its C fields, in the order of the channels.
        ranges: The numbers that a recipe gives a range for.
        recorded: The parameters that are stored with a member's data, from the names of the axes.
        points: Smallest number of grid points along an axis.
        draw: A member from one value for each of `ranges`, a grid and its own random generator.
        dimensions: The numbers of axes it can have.
        boundaries: The boundary conditions it can have, the usual one first.
        length_units: Units of positions.
        time_units: Units of time.
    """

    name: str
    description: Description
    fields: Mapping[str, Quantity]
    ranges: Mapping[str, Quantity]
    recorded: Callable[[tuple[str, ...]], dict[str, Quantity]]
    points: int
    draw: Callable[[Mapping[str, float | Array], Grid, np.random.Generator], Member]
    dimensions: tuple[int, ...] = (1, 2, 3)
    boundaries: tuple[str, ...] = ("periodic",)
    length_units: str = "m"
    time_units: str = "s"


@dataclass(frozen=True, kw_only=True)
class Evolution(Equation):
    """An equation in time.

    Arguments:
        stepper: A stepper from the recorded parameters (each with shape (B,)), a grid, the time between snapshots
            and the numerics.
        observe: The part of states (B, C, *S) that is stored; None stores them whole.
        axes: The axes of what `observe` returns; None are those of the grid.
        from_start: The initial state is the first snapshot.
    """

    stepper: Callable[[Mapping[str, Array], Grid, float, Numerics], Stepper]
    observe: Callable[[Tensor, Grid], Tensor] | None = None
    axes: Callable[[Grid], dict[str, Coordinate]] | None = None
    from_start: bool = True

    def outputs(self, grid: Grid) -> dict[str, Coordinate]:
        """Return the axes of the data after time."""
        return self.axes(grid) if self.axes else grid_axes(grid, self.length_units)


@dataclass(frozen=True, kw_only=True)
class Map(Equation):
    """A steady problem, or a function: parameters in, data out.

    Arguments:
        solve: Data (B, C, *outputs) from the recorded parameters (each with shape (B,)) and a grid.
        outputs: The axes of the data.
        geometry: For data on an axis `point` whose points differ between members: places `x`, `y` (and `z`), volumes
            (sample, point) and cells (sample, element, corner), from what `solve` takes. The axes are as long as the
            longest of any member; the rest is NaN, of cells -1.
    """

    solve: Callable[[Mapping[str, Array], Grid], Array]
    outputs: Callable[[Grid], dict[str, Coordinate]]
    geometry: Callable[[Mapping[str, Array], Grid], dict[str, xr.Variable]] | None = None


def rollout(
    stepper: Stepper,
    initial: Tensor,
    snapshots: int,
    dtype: torch.dtype = torch.float32,
    observe: Callable[[Tensor], Tensor] | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return the first `snapshots` states of a batch, the initial one included.

    A batch without finite values is stepped no further; what would follow is NaN.

    Arguments:
        stepper: Advances the batch by one snapshot.
        initial: Initial fields, with shape (B, C, *S).
        snapshots: Number of states T.
        dtype: Type of the result; the steps themselves keep the type of `initial`.
        observe: The part of a state that is kept; None keeps it whole.
        out: The tensor to write to; None makes one.

    Returns:
        States on the host, with shape (B, T, C, *S), or the shape that `observe` returns in place of (C, *S).
    """
    state, kept = initial, observe(initial) if observe else initial
    states = torch.empty((len(kept), snapshots, *kept.shape[1:]), dtype=dtype) if out is None else out
    states[:, 0] = kept
    for index in range(1, snapshots):
        state = stepper(state)
        states[:, index] = observe(state) if observe else state
        if not bool(state.flatten(1)[:, 0].isfinite().any()) and not bool(state.isfinite().any()):
            states[:, index:] = torch.nan
            break
    return states
