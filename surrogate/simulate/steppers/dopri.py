"""Explicit Runge-Kutta integration of order 5 with error control, for equations that oscillate or are not stiff."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from surrogate.simulate.equation import Array
from surrogate.simulate.steppers.limits import Effort
from surrogate.simulate.steppers.members import Members, Rate, column
from surrogate.simulate.steppers.stencils import error_ratio

__all__ = ["DOPRI5"]

STAGES: tuple[tuple[float, ...], ...] = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
SMALLEST = 1e-12  # of the interval: a step below this is a blow-up
SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0
FIRST = 0.01  # of the interval, the first step that is tried


class DOPRI5:
    """The method of Dormand and Prince of order 5 with an embedded method of order 4, for du/dt = f(u).

    Every member has its own steps, chosen from its own error alone; what is computed for it does not depend on the
    other members of the batch. Steps are cut so that snapshots are hit exactly. It is stable for eigenvalues l of df/du
    with dt |l| below about 3.3 on the negative real axis and 1 on the imaginary one, and error control keeps it there.
    Source: Dormand and Prince, J. Comput. Appl. Math. 6 (1980).

    Called on the state it returned last, it goes on with that step size; on any other state it starts afresh.

    Arguments:
        rate: f(u, parameters) for fields (B, C, *S) and parameters (B, 1, 1...).
        parameters: Parameters of the members.
        interval: Time between snapshots.
        tolerance: Largest error of a step, relative to the largest value of the channel.
    """

    def __init__(
        self, rate: Rate, parameters: Mapping[str, Tensor], interval: float, *, tolerance: float = 1e-6
    ) -> None:
        self.rate, self.parameters, self.interval, self.tolerance = rate, parameters, interval, tolerance
        self.effort = Effort(interval)
        self._f = torch.empty(0)
        self._dt: Array = np.empty(0)

    def __call__(self, u: Tensor) -> Tensor:
        """Advance fields (B, C, *S) by one interval; a member that blows up becomes NaN."""
        members, effort = Members(self.parameters, len(u)), self.effort
        if effort.begin(u):
            self._f, self._dt = self.rate(u, self.parameters), np.full(len(u), FIRST * self.interval)
        f, left = self._f, np.full(len(u), self.interval)
        while (active := np.flatnonzero(left > 0)).size:
            part, rates = members.take(u, active), members.take(f, active)
            count = np.maximum(np.ceil(left[active] / self._dt[active] - 1e-9), 1.0)
            dt = left[active] / count
            part, rates, error = self._step(part, rates, members.parameters_of(active), dt)
            good = error <= 1
            self._dt[active] = dt * np.clip(SAFETY * np.maximum(error, 1e-9) ** -0.2, SHRINK, np.where(good, GROW, 1.0))
            over = effort.spent(active, 6, self._dt[active], left[active])
            left[active[good]] = np.where(count <= 1, 0.0, left[active] - dt)[good]
            vanished = self._dt[active] < SMALLEST * self.interval
            effort.blow_up(active[vanished])
            dead = vanished | over
            if dead.any():
                part = torch.where(column(dead, part) > 0, torch.full_like(part, torch.nan), part)
                left[active[dead]], good = 0.0, good | dead
            u, f = members.put(u, part, active, good), members.put(f, rates, active, good)
        self._f = f
        return effort.end(u)

    def _step(self, u: Tensor, f: Tensor, parameters: Mapping[str, Tensor], dt: Array) -> tuple[Tensor, Tensor, Array]:
        """Return the state after one step, f there, and the error of each member over the allowed one."""
        h, slopes, new = column(dt, u), [f], u
        for weights in STAGES:
            change = torch.zeros_like(u)
            for weight, slope in zip(weights, slopes, strict=True):
                if weight:
                    change.add_(slope, alpha=weight)
            new = change.mul_(h).add_(u)
            slopes.append(self.rate(new, parameters))
        estimate = torch.zeros_like(u)
        for weight, slope in zip(ERROR, slopes, strict=True):
            if weight:
                estimate.add_(slope, alpha=weight)
        return new, slopes[-1], error_ratio(estimate.mul_(h), new, self.tolerance)
