"""Conservative finite volumes on a uniform grid, in any number of dimensions.

Only single operations on whole tensors, so the bits of a member do not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Laplacian", "divergence", "error_ratio", "face_values", "largest", "pad", "wall_flux"]


def largest(u: Tensor) -> Tensor:
    """Return the largest absolute value in each member of (B, ...), with shape (B,)."""
    axes = tuple(range(1, u.ndim))
    return torch.maximum(u.amax(dim=axes), u.amin(dim=axes).neg())


def error_ratio(estimate: Tensor, new: Tensor, tolerance: float) -> NDArray[np.float64]:
    """Return the error of each member over the allowed one, with shape (B,); infinite where it is not finite.

    Arguments:
        estimate: Estimated error of a step, with shape (B, C, *S).
        new: The state after it.
        tolerance: Allowed error, relative to the largest value of the channel.
    """
    channels = (len(new) * new.shape[1], -1)
    size, scale = (largest(part.reshape(channels)).reshape(new.shape[:2]) for part in (estimate, new))
    floor = scale.amax(dim=1, keepdim=True) * 1e-3
    ratio = torch.where(size > 0, size / (torch.maximum(scale, floor) * tolerance), torch.zeros_like(size))
    error = torch.where(torch.isfinite(size + scale), ratio, torch.inf).amax(dim=1)
    numbers = error.to("cpu", torch.float64).numpy()
    return np.where(np.isnan(numbers), np.inf, numbers)


def pad(u: Tensor, axis: int, width: int, boundary: str) -> Tensor:
    """Add `width` ghost cells at both ends of an axis.

    Arguments:
        u: Cell values, with shape (B, C, *S).
        axis: Axis of the tensor.
        width: Number of ghost cells at each end.
        boundary: "periodic"; "no_flux": mirrored; "dirichlet": mirrored with the other sign, so zero on the wall;
            "open": continued along a straight line.
    """
    n = u.shape[axis]
    first, last = u.narrow(axis, 0, width), u.narrow(axis, n - width, width)
    if boundary == "periodic":
        return torch.cat([last, u, first], axis)
    if boundary == "open":
        return torch.cat([_beyond(u, axis, 0, 1, width).flip(axis), u, _beyond(u, axis, n - 1, n - 2, width)], axis)
    if boundary == "dirichlet":
        return torch.cat([first.flip(axis).neg(), u, last.flip(axis).neg()], axis)
    return torch.cat([first.flip(axis), u, last.flip(axis)], axis)


def _beyond(u: Tensor, axis: int, end: int, inner: int, width: int) -> Tensor:
    """Return values on the straight line through the two cells at an end, nearest first."""
    edge = u.narrow(axis, end, 1)
    slope = edge - u.narrow(axis, inner, 1)
    return torch.cat([edge + slope * float(step) for step in range(1, width + 1)], axis)


class Laplacian:
    """The Laplacian by second-order differences, as the divergence of fluxes through faces.

    It keeps its working memory: getting megabytes anew from the system at every call would take longer than the sums.

    Arguments:
        spacing: Distance of neighbouring cells along each axis of *S.
        boundary: "periodic", "no_flux" or "dirichlet".
    """

    def __init__(self, spacing: Sequence[float], boundary: str) -> None:
        self.spacing, self.boundary = spacing, boundary
        self._work: tuple[Tensor, ...] = ()

    def __call__(self, u: Tensor, factor: Tensor | float = 1.0) -> Tensor:
        """Return the Laplacian of cell values (B, C, *S), times a factor such as a diffusivity."""
        u = u.contiguous()
        weights = [(self.spacing[0] / h) ** 2 for h in self.spacing]
        result = torch.empty_like(u)
        self._neighbours(u, 2, result)
        for axis, weight in enumerate(weights[1:], start=3):
            (part,) = self.work(u, 1)
            self._neighbours(u, axis, part)
            result.add_(part, alpha=weight)
        return result.add_(u, alpha=-2.0 * sum(weights)).mul_(factor * (1.0 / self.spacing[0] ** 2))

    def work(self, u: Tensor, count: int) -> tuple[Tensor, ...]:
        """Return scratch tensors like `u`, valid until the next call."""
        fits = self._work and self._work[0].shape[1:] == u.shape[1:] and self._work[0].dtype == u.dtype
        if not fits or len(self._work) < count or len(self._work[0]) < len(u):
            self._work = tuple(torch.empty_like(u) for _ in range(count))
        return tuple(work[: len(u)] for work in self._work[:count])

    def _neighbours(self, u: Tensor, axis: int, out: Tensor) -> None:
        """Sum the two neighbours of each cell along an axis.

        Neighbours are `stride` apart in memory, so whole tensors are added in one go, which is several times faster
        than along short rows; the ends of the axis are overwritten afterwards.
        """
        stride, last = u.stride(axis), u.shape[axis] - 1
        flat = u.view(-1)
        torch.add(flat[2 * stride :], flat[: -2 * stride], out=out.view(-1)[stride:-stride])
        first_cell, last_cell = u.narrow(axis, 0, 1), u.narrow(axis, last, 1)
        before, after = last_cell, first_cell
        sign = 1.0
        if self.boundary != "periodic":
            before, after, sign = first_cell, last_cell, 1.0 if self.boundary == "no_flux" else -1.0
        torch.add(u.narrow(axis, 1, 1), before, alpha=sign, out=out.narrow(axis, 0, 1))
        torch.add(u.narrow(axis, last - 1, 1), after, alpha=sign, out=out.narrow(axis, last, 1))


def divergence(fluxes: Sequence[Tensor], spacing: Sequence[float]) -> Tensor:
    """Return the sum over the axes of the flux differences between the two faces of each cell, divided by h."""
    parts = []
    for axis, (flux, h) in enumerate(zip(fluxes, spacing, strict=True), start=2):
        n = flux.shape[axis] - 1
        parts.append((flux.narrow(axis, 1, n) - flux.narrow(axis, 0, n)).mul_(1.0 / h))
    for part in parts[1:]:
        parts[0].add_(part)
    return parts[0]


def face_values(u: Tensor, axis: int, boundary: str) -> tuple[Tensor, Tensor]:
    """Reconstruct values on both sides of the n + 1 faces of an axis (weighted essentially non-oscillating, WENO).

    Fifth order where u is smooth; at a jump the smooth side of the stencil is taken, so no new extrema appear.
    Source: Jiang and Shu, J. Comput. Phys. 126 (1996), equations 2.8 to 2.16.

    Arguments:
        u: Cell values, with shape (B, C, *S).
        axis: Axis of the tensor.
        boundary: As for `pad`.

    Returns:
        The value from the lower side and the one from the upper side, each with n + 1 faces.
    """
    padded = pad(u, axis, 3, boundary)
    faces = u.shape[axis] + 1
    cells = [padded.narrow(axis, start, faces) for start in range(6)]
    # the value between cells c and d, seen from c; for both sides of a face at once
    a, b, c, d, e = (torch.stack([cells[place], cells[5 - place]]) for place in range(5))
    candidates = (
        (2.0 * a - 7.0 * b + 11.0 * c) / 6.0,
        (5.0 * c - b + 2.0 * d) / 6.0,
        (2.0 * c + 5.0 * d - e) / 6.0,
    )
    roughness = (
        (13 / 12) * (a - 2.0 * b + c).square() + 0.25 * (a - 4.0 * b + 3.0 * c).square(),
        (13 / 12) * (b - 2.0 * c + d).square() + 0.25 * (b - d).square(),
        (13 / 12) * (c - 2.0 * d + e).square() + 0.25 * (3.0 * c - 4.0 * d + e).square(),
    )
    total = weighted = torch.zeros_like(c)
    for share, value, beta in zip((0.1, 0.6, 0.3), candidates, roughness, strict=True):
        weight = share / (beta + 1e-6).square()
        total = total + weight
        weighted = weighted + weight * value
    lower, upper = weighted / total
    return lower, upper


def wall_flux(u: Tensor, axis: int, velocity: Tensor, conductance: Tensor | float) -> Tensor:
    """Return the flux v u - D du/dx through the n + 1 faces of an axis between walls; it is zero on the walls.

    Arguments:
        u: Cell values, with shape (B, C, *S).
        axis: Axis of the tensor.
        velocity: v along the axis, on faces or for each member.
        conductance: D / h.
    """
    n = u.shape[axis]
    lower, upper = face_values(u, axis, "open")
    flux = velocity.clamp(min=0) * lower + velocity.clamp(max=0) * upper
    flux.narrow(axis, 1, n - 1).sub_((u.narrow(axis, 1, n - 1) - u.narrow(axis, 0, n - 1)) * conductance)
    flux.narrow(axis, 0, 1).zero_()
    flux.narrow(axis, n, 1).zero_()
    return flux
