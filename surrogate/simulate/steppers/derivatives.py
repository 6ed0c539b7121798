"""Derivatives of any order on a uniform grid: spectral, or by finite differences with values or slopes on the walls.

Every function takes fields (B, C, *S), of which it computes each member by itself, so that bits do not depend on the
batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import factorial

import numpy as np
import torch
from torch import Tensor

from surrogate.errors import ConfigError, did_you_mean
from surrogate.simulate.equation import Array, Grid
from surrogate.simulate.steppers.spectral import from_spectrum, to_spectrum
from surrogate.simulate.steppers.stencils import pad

__all__ = ["Dirichlet", "Neumann", "Wall", "central_weights", "finite_difference", "laplacian", "spectral_derivative"]


@dataclass(frozen=True)
class Dirichlet:
    """u = value on a wall.

    Arguments:
        value: A number, one for each member and channel (B, C, 1...), or a field over the wall.
    """

    value: float | Tensor = 0.0
    derivative = 0


@dataclass(frozen=True)
class Neumann:
    """du/dn = value on a wall, n pointing out of the box. A diffusive flux F into the box has value = F / D.

    Arguments:
        value: A number, one for each member and channel (B, C, 1...), or a field over the wall.
    """

    value: float | Tensor = 0.0
    derivative = 1


Wall = Dirichlet | Neumann
Walls = tuple[Wall, Wall]  # at the lower and the upper end of an axis
NATURAL: dict[str, Wall] = {"no_flux": Neumann(), "dirichlet": Dirichlet()}


def spectral_derivative(u: Tensor, grid: Grid, order: int = 1, axis: str = "x", *, keep: float = 1.0) -> Tensor:
    """Differentiate fields along an axis by a discrete Fourier transform.

        d^n u / dx^n = F^-1 (i k)^n F u

    Between walls the field is continued as an even function (no_flux) or an odd one (dirichlet), so the error falls
    faster than any power of h only if u fits such walls. The Nyquist mode has no derivative of odd order.

    Arguments:
        u: Fields, with shape (B, C, *S).
        grid: Their grid.
        order: Order n of the derivative; 0 applies `keep` alone.
        axis: "x", "y" or "z".
        keep: Share of the wave numbers in the result. 2/3 removes the aliasing error of the product of two fields whose
            own higher modes are zero.

    Returns:
        The derivative, with shape (B, C, *S).

    Raises:
        ConfigError: The grid has no such axis, or `order` is below zero.
    """
    dim, length = _dimension(u, grid, axis, order)
    points = u.shape[dim]
    if grid.boundary != "periodic":
        sign = 1.0 if grid.boundary == "no_flux" else -1.0
        u, length = torch.cat([u, u.flip(dim) * sign], dim), 2.0 * length
    lines = u.movedim(dim, -1)
    factors = _spectral_factors(lines.shape[-1], length, order, keep)
    rest = lines.shape[1:-1]
    spectrum = torch.view_as_real(to_spectrum(lines.reshape(len(lines), -1, 1, lines.shape[-1])))
    real, imaginary = torch.from_numpy(factors).to(u.device, u.dtype).unbind(0)
    a, b = spectrum[..., 0], spectrum[..., 1]
    product = torch.complex(a * real - b * imaginary, a * imaginary + b * real)
    result = from_spectrum(product, (1, lines.shape[-1])).reshape(len(lines), *rest, lines.shape[-1])
    return result[..., :points].movedim(-1, dim).contiguous()


def finite_difference(
    u: Tensor, grid: Grid, order: int = 1, axis: str = "x", *, accuracy: int = 2, walls: Walls | None = None
) -> Tensor:
    """Differentiate fields along an axis by central differences.

    Ghost cells beyond a wall take the values of the polynomial of degree `accuracy` + `order` - 1 through the condition
    on the wall and the nearest cells, so the error is O(h^accuracy) up to the wall.

    Arguments:
        u: Fields, with shape (B, C, *S).
        grid: Their grid.
        order: Order of the derivative, 1 or more.
        axis: "x", "y" or "z".
        accuracy: Order of the error in h, an even number.
        walls: Conditions at the lower and upper end of the axis; None is zero flux on a no_flux grid and zero on a
            dirichlet grid, and a periodic grid has none.

    Returns:
        The derivative, with shape (B, C, *S).

    Raises:
        ConfigError: The grid has no such axis, is too coarse for the stencil, or is periodic and has walls.
    """
    dim, length = _dimension(u, grid, axis, order)
    if order < 1 or accuracy < 2 or accuracy % 2:
        raise ConfigError(
            f"derivative of order {order}, accuracy {accuracy}: give an order of 1 or more and an even accuracy"
        )
    points = u.shape[dim]
    weights = central_weights(order, accuracy) / (length / points) ** order
    width = len(weights) // 2
    degree = accuracy + order - 1
    if points < max(2 * width, degree) + 1:
        raise ConfigError(
            f"axis {axis} has {points} points; a derivative of order {order} with accuracy {accuracy} needs "
            f"{max(2 * width, degree) + 1}"
        )
    if grid.boundary == "periodic":
        if walls is not None:
            raise ConfigError(f"axis {axis} is periodic and has no walls; choose boundary no_flux or dirichlet")
        padded = pad(u, dim, width, "periodic")
    else:
        ends = walls or (NATURAL[grid.boundary],) * 2
        padded = _with_ghosts(u, dim, length / points, width, degree, ends)
    result = torch.zeros_like(u)
    for start, weight in enumerate(weights):
        if weight:
            result.add_(padded.narrow(dim, start, points), alpha=float(weight))
    return result


def laplacian(u: Tensor, grid: Grid, *, accuracy: int = 2, walls: Mapping[str, Walls] | None = None) -> Tensor:
    """Return the Laplacian of fields (B, C, *S) by finite differences.

    Arguments:
        u: Fields, with shape (B, C, *S).
        grid: Their grid.
        accuracy: Order of the error in h, an even number.
        walls: For axes by name, the conditions at their lower and upper end; others as for `finite_difference`.

    Raises:
        ConfigError: As for `finite_difference`, or `walls` names an axis that the grid does not have.
    """
    walls = walls or {}
    for axis in walls:
        _dimension(u, grid, axis, 2)
    first, *rest = (finite_difference(u, grid, 2, axis, accuracy=accuracy, walls=walls.get(axis)) for axis in grid.axes)
    for part in rest:
        first.add_(part)
    return first


@lru_cache(maxsize=64)
def central_weights(order: int, accuracy: int) -> Array:
    """Return the weights of a central difference for h = 1, exact for polynomials below degree `order` + `accuracy`.

    sum_j w_j j^m = m! [m = order] for m = 0 .. 2 p, over the offsets j = -p .. p.
    """
    width = (order + 1) // 2 - 1 + accuracy // 2
    offsets = np.arange(-width, width + 1, dtype=float)
    powers = offsets ** np.arange(len(offsets))[:, None]
    right = np.zeros(len(offsets))
    right[order] = factorial(order)
    weights = np.linalg.solve(powers, right)
    weights = 0.5 * (weights + (-1) ** order * weights[::-1])
    weights[np.abs(weights) < 1e-13] = 0.0
    return np.asarray(weights)


@lru_cache(maxsize=64)
def _ghost_weights(derivative: int, width: int, degree: int) -> tuple[Array, Array]:
    """Return the weights of the condition on a wall and of the `degree` nearest cells in each ghost cell, for h = 1.

    The wall is at 0, cells are at 1/2, 3/2, ..., ghosts at -1/2, -3/2, ...; shapes (width,) and (width, degree).
    """
    powers = np.arange(degree + 1)
    cells = (np.arange(degree) + 0.5)[:, None] ** powers
    condition = np.zeros(degree + 1)
    condition[derivative] = 1.0
    ghosts = (-np.arange(width) - 0.5)[:, None] ** powers
    weights = np.linalg.solve(np.vstack([condition, cells]).T, ghosts.T).T
    return weights[:, 0], weights[:, 1:]


def _with_ghosts(u: Tensor, dim: int, h: float, width: int, degree: int, walls: Sequence[Wall]) -> Tensor:
    """Add `width` ghost cells at both ends of an axis."""
    beyond = []
    for wall, inner in zip(walls, (u, u.flip(dim)), strict=True):
        of_wall, of_cells = _ghost_weights(wall.derivative, width, degree)
        value = torch.as_tensor(wall.value, dtype=u.dtype, device=u.device)
        ghosts = []
        for number in range(width):  # the polynomial runs inwards, against the normal
            scale = float(of_wall[number]) * (-h if wall.derivative else 1.0)
            ghost = (value * scale).expand_as(inner.narrow(dim, 0, 1)).clone()
            for cell, weight in enumerate(of_cells[number]):
                ghost.add_(inner.narrow(dim, cell, 1), alpha=float(weight))
            ghosts.append(ghost)
        beyond.append(ghosts)
    return torch.cat([*reversed(beyond[0]), u, *beyond[1]], dim)


@lru_cache(maxsize=64)
def _spectral_factors(points: int, length: float, order: int, keep: float) -> Array:
    """Return real and imaginary part of (i k)^order on the wave numbers of a real transform, as (2, n/2 + 1)."""
    modes = np.arange(points // 2 + 1)
    factors = (2j * np.pi * modes / length) ** order
    if order % 2 and points % 2 == 0:
        factors[-1] = 0.0
    factors[modes > keep * points / 2] = 0.0
    return np.stack([factors.real, factors.imag])


def _dimension(u: Tensor, grid: Grid, axis: str, order: int) -> tuple[int, float]:
    """Return the dimension of a tensor that belongs to an axis of its grid, and the length of the box along it."""
    if axis not in grid.axes:
        raise ConfigError(f"the grid has no axis '{axis}'; {did_you_mean(axis, grid.axes)}")
    if order < 0:
        raise ConfigError(f"derivative of order {order}; give an order of 0 or more")
    if tuple(u.shape[2:]) != grid.shape:
        raise ConfigError(f"fields have shape {tuple(u.shape)}, expected (members, channels, *{grid.shape})")
    index = grid.axes.index(axis)
    return index + 2, grid.lengths[index]
