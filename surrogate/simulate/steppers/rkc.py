"""Stabilised explicit integration of diffusion-dominated equations with error control."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from surrogate.simulate.equation import Array
from surrogate.simulate.steppers.members import Members, Rate, column
from surrogate.simulate.steppers.stencils import largest

__all__ = ["RKC2", "power_radius"]

Radius = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
MAX_STAGES = 150
SMALLEST = 1e-9  # of the interval: a step below this is a blow-up
SAFETY, SHRINK, GROW = 0.8, 0.1, 5.0


class RKC2:
    """Runge-Kutta-Chebyshev of order 2 for du/dt = f(u), with an embedded error estimate.

        Y_0 = u,  Y_1 = Y_0 + mt_1 dt F_0
        Y_j = (1 - m_j - n_j) Y_0 + m_j Y_{j-1} + n_j Y_{j-2} + mt_j dt F_{j-1} + gt_j dt F_0,   j = 2..s
        estimate = 0.8 (Y_0 - Y_s) + 0.4 dt (F_0 + F_s)

    s stages are stable up to dt * radius = 0.65 (s^2 - 1), so s grows with the square root of the stiffness. Every
    member has its own step and its own s, chosen from its own error alone: what is computed for it does not depend on
    the other members of the batch. Members with equal s are stepped together. Steps are cut so that snapshots are hit
    exactly.
    Source: Sommeijer, Shampine and Verwer, J. Comput. Appl. Math. 88 (1998).

    Called on the state it returned last, it goes on with that step size; on any other state it starts afresh.

    Arguments:
        rate: f(u, parameters) for fields (B, C, *S) and parameters (B, 1, 1...).
        radius: A bound of the spectral radius of df/du of each member, with shape (B,).
        parameters: Parameters of the members.
        interval: Time between snapshots.
        tolerance: Largest error of a step, relative to the largest value of the channel.
    """

    def __init__(
        self,
        rate: Rate,
        radius: Radius,
        parameters: Mapping[str, Tensor],
        interval: float,
        *,
        tolerance: float = 1e-4,
    ) -> None:
        self.rate, self.radius = rate, radius
        self.parameters, self.interval, self.tolerance = parameters, interval, tolerance
        self._u: Tensor | None = None
        self._f = torch.empty(0)
        self._dt: Array = np.empty(0)

    def __call__(self, u: Tensor) -> Tensor:
        """Advance fields (B, C, *S) by one interval; a member that blows up becomes NaN."""
        members = Members(self.parameters, len(u))
        if u is not self._u:
            self._f = self.rate(u, self.parameters)
            radius = np.nan_to_num(_numbers(self.radius(u, self.parameters)), nan=0.0, posinf=0.0)
            self._dt = 1.0 / np.maximum(radius, 1.0 / self.interval)
        left = np.full(len(u), self.interval)
        f = self._f
        while (active := np.flatnonzero(left > 0)).size:
            part, rates = members.take(u, active), members.take(f, active)
            parameters = members.parameters_of(active)
            radius = _numbers(self.radius(part, parameters))
            dead = ~np.isfinite(radius) | (self._dt[active] < SMALLEST * self.interval)
            radius = np.where(dead, 1.0, radius)
            longest = 0.65 * (MAX_STAGES**2 - 1) / np.maximum(radius, 1e-300)
            count = np.maximum(np.ceil(left[active] / np.minimum(self._dt[active], longest) - 1e-9), 1.0)
            dt = left[active] / count
            stages = np.maximum(2, 1 + np.sqrt(1.0 + 1.54 * dt * radius)).astype(int)
            part, rates, error = self._grouped(part, rates, parameters, dt, stages)
            self._dt[active] = dt * np.clip(SAFETY * np.maximum(error, 1e-9) ** (-1 / 3), SHRINK, GROW)
            good = error <= 1
            left[active[good]] = np.where(count <= 1, 0.0, left[active] - dt)[good]
            if dead.any():
                part = torch.where(column(dead, part) > 0, torch.full_like(part, torch.nan), part)
                left[active[dead]], good = 0.0, good | dead
            u, f = members.put(u, part, active, good), members.put(f, rates, active, good)
        self._u, self._f = u, f
        return u

    def _grouped(
        self, u: Tensor, f: Tensor, parameters: Mapping[str, Tensor], dt: Array, stages: Array
    ) -> tuple[Tensor, Tensor, Array]:
        """Step every member once, those with the same number of stages together."""
        members = Members(parameters, len(u))
        result, rates, error = u, f, np.empty(len(u))
        everyone = np.ones(len(u), dtype=bool)
        for number in np.unique(stages):
            group = np.flatnonzero(stages == number)
            part, old = members.take(u, group), members.take(f, group)
            chosen = members.parameters_of(group)
            h = column(dt[group], part)
            new = self._stages(part, old, chosen, h, int(number))
            fresh = self.rate(new, chosen)
            error[group] = self._error(part, new, old, fresh, h)
            result = members.put(result, new, group, everyone[group])
            rates = members.put(rates, fresh, group, everyone[group])
        return result, rates, error

    def _stages(self, u: Tensor, f: Tensor, parameters: Mapping[str, Tensor], h: Tensor, number: int) -> Tensor:
        first, rest = coefficients(number)
        before, now = u, u + (h * first) * f
        for m, n, mt, gt in rest:
            rate = self.rate(now, parameters)
            following = u * (1.0 - m - n)
            following.add_(now, alpha=m).add_(before, alpha=n)
            following.addcmul_(rate, h * mt).addcmul_(f, h * gt)
            before, now = now, following
        return now

    def _error(self, u: Tensor, new: Tensor, f: Tensor, fresh: Tensor, h: Tensor) -> Array:
        """Return the estimated error of each member over the allowed one; infinite where it is not finite."""
        estimate = (u - new).mul_(0.8).add_((f + fresh).mul_(h * 0.4))
        channels = (len(u) * u.shape[1], -1)
        size, scale = (largest(part.reshape(channels)).reshape(u.shape[:2]) for part in (estimate, new))
        floor = scale.amax(dim=1, keepdim=True) * 1e-3
        ratio = torch.where(size > 0, size / (torch.maximum(scale, floor) * self.tolerance), torch.zeros_like(size))
        error = _numbers(torch.where(torch.isfinite(size + scale), ratio, torch.inf).amax(dim=1))
        return np.where(np.isnan(error), np.inf, error)


def _chequered(u: Tensor) -> Tensor:
    """Return a field of alternating 1 and -1 along every axis, close to the one that diffusion damps fastest."""
    signs = torch.ones_like(u)
    for axis in range(2, u.ndim):
        turns = 1.0 - 2.0 * (torch.arange(u.shape[axis], device=u.device) % 2).to(u.dtype)
        signs = signs * turns.reshape([-1 if other == axis else 1 for other in range(u.ndim)])
    return signs


def _numbers(values: Tensor) -> Array:
    return values.to("cpu", torch.float64).numpy()


@lru_cache(maxsize=MAX_STAGES)
def coefficients(stages: int) -> tuple[float, tuple[tuple[float, float, float, float], ...]]:
    """Return mt_1, and (m_j, n_j, mt_j, gt_j) for j = 2..s, from Chebyshev polynomials and their derivatives at w0."""
    w0 = 1.0 + (2.0 / 13.0) / stages**2
    T, dT, ddT = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for j in range(2, stages + 1):
        T.append(2 * w0 * T[j - 1] - T[j - 2])
        dT.append(2 * T[j - 1] + 2 * w0 * dT[j - 1] - dT[j - 2])
        ddT.append(4 * dT[j - 1] + 2 * w0 * ddT[j - 1] - ddT[j - 2])
    w1 = dT[stages] / ddT[stages]
    b = [0.0, 1.0 / w0] + [ddT[j] / dT[j] ** 2 for j in range(2, stages + 1)]
    b[0] = b[2]
    rest = []
    for j in range(2, stages + 1):
        mt = 2 * w1 * b[j] / b[j - 1]
        rest.append((2 * w0 * b[j] / b[j - 1], -b[j] / b[j - 2], mt, -(1 - b[j - 1] * T[j - 1]) * mt))
    return w1 * b[1], tuple(rest)


def power_radius(rate: Rate, *, iterations: int = 20, safety: float = 1.25) -> Radius:
    """Return a function that estimates the spectral radius of df/du by power iterations with finite differences.

    Arguments:
        rate: f(u, parameters).
        iterations: Evaluations of the rate for an estimate.
        safety: Factor on the estimate, which approaches the radius from below.
    """

    def radius(u: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        base = rate(u, parameters)
        direction = _chequered(u)
        step = (largest(u) + 1.0) * torch.finfo(u.dtype).eps ** 0.5
        growth = torch.zeros_like(step)
        for _ in range(iterations):
            scale = column(step, u)
            change = (rate(u + direction * scale, parameters) - base) / scale
            growth = largest(change)
            direction = change / column(torch.clamp(growth, min=torch.finfo(u.dtype).tiny), u)
        return growth * safety

    return radius
