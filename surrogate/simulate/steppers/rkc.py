"""Stabilised explicit integration of diffusion-dominated equations with error control."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogate.simulate.equation import Array
from surrogate.simulate.steppers.limits import Effort
from surrogate.simulate.steppers.members import Members, Rate, column
from surrogate.simulate.steppers.stencils import error_ratio

__all__ = ["RKC2"]

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
        refresh: Steps of a member after which its radius is computed again; a rejected step computes it at once.
    """

    def __init__(
        self,
        rate: Rate,
        radius: Radius,
        parameters: Mapping[str, Tensor],
        interval: float,
        *,
        tolerance: float = 1e-4,
        refresh: int = 1,
    ) -> None:
        self.rate, self.radius = rate, radius
        self.parameters, self.interval, self.tolerance = parameters, interval, tolerance
        self.refresh = refresh
        self.effort = Effort(interval)
        self._f = torch.empty(0)
        self._dt, self._radius, self._age = np.empty(0), np.empty(0), np.empty(0)

    def __call__(self, u: Tensor) -> Tensor:
        """Advance fields (B, C, *S) by one interval; a member that blows up becomes NaN."""
        members, effort = Members(self.parameters, len(u)), self.effort
        if effort.begin(u):
            self._radius, self._age = np.zeros(len(u)), np.full(len(u), self.refresh)
            self._f = self.rate(u, self.parameters)
            radius = np.nan_to_num(_numbers(self.radius(u, self.parameters)), nan=0.0, posinf=0.0)
            self._dt = 1.0 / np.maximum(radius, 1.0 / self.interval)
        left = np.full(len(u), self.interval)
        f = self._f
        while (active := np.flatnonzero(left > 0)).size:
            part, rates = members.take(u, active), members.take(f, active)
            parameters = members.parameters_of(active)
            radius = self._radii(part, parameters, active)
            dead = ~np.isfinite(radius) | (self._dt[active] < SMALLEST * self.interval)
            radius = np.where(dead, 1.0, radius)
            longest = 0.65 * (MAX_STAGES**2 - 1) / np.maximum(radius, 1e-300)
            count = np.maximum(np.ceil(left[active] / np.minimum(self._dt[active], longest) - 1e-9), 1.0)
            dt = left[active] / count
            stages = np.maximum(2, 1 + np.sqrt(1.0 + 1.54 * dt * radius)).astype(int)
            effort.blow_up(active[dead])
            dead |= effort.spent(active, stages, np.minimum(self._dt[active], longest), left[active])
            stages[dead] = 2
            part, rates, error = self._grouped(part, rates, parameters, dt, stages)
            self._dt[active] = dt * np.clip(SAFETY * np.maximum(error, 1e-9) ** (-1 / 3), SHRINK, GROW)
            good = error <= 1
            self._age[active] = np.where(good, self._age[active] + 1, self.refresh)
            left[active[good]] = np.where(count <= 1, 0.0, left[active] - dt)[good]
            if dead.any():
                part = torch.where(column(dead, part) > 0, torch.full_like(part, torch.nan), part)
                left[active[dead]], good = 0.0, good | dead
            u, f = members.put(u, part, active, good), members.put(f, rates, active, good)
        self._f = f
        return effort.end(u)

    def _radii(self, u: Tensor, parameters: Mapping[str, Tensor], active: NDArray[np.intp]) -> Array:
        """Return the spectral radius of active members, computed again where it is old."""
        old = self._age[active] >= self.refresh
        if old.any():
            members, group = Members(parameters, len(u)), np.flatnonzero(old)
            self._radius[active[old]] = _numbers(self.radius(members.take(u, group), members.parameters_of(group)))
            self._age[active[old]] = 0
        return self._radius[active]

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
        """Return the estimated error of each member over the allowed one."""
        estimate = (u - new).mul_(0.8).add_((f + fresh).mul_(h * 0.4))
        return error_ratio(estimate, new, self.tolerance)


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
