"""Strong-stability-preserving integration of convection-dominated equations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from surrogate.simulate.steppers.limits import Effort
from surrogate.simulate.steppers.members import Members, Rate, column

__all__ = ["SSPRK3"]

SMALLEST = 1e-12  # of the interval: a stable step below this is a blow-up


class SSPRK3:
    """The three-stage strong-stability-preserving Runge-Kutta method of order 3.

        u1 = u + dt f(u),   u2 = 3/4 u + 1/4 (u1 + dt f(u1)),   u <- 1/3 u + 2/3 (u2 + dt f(u2))

    Every member has its own steps, cut so that snapshots are hit exactly; what is computed for it does not depend on
    the other members of the batch. Source: Shu and Osher, J. Comput. Phys. 77 (1988).

    Arguments:
        rate: f(u, parameters) for fields (B, C, *S) and parameters (B, 1, 1...).
        limit: The longest step of each member that is stable, with shape (B,).
        parameters: Parameters of the members.
        interval: Time between snapshots.
        refresh: Steps of a member after which its limit is computed again.
    """

    def __init__(
        self,
        rate: Rate,
        limit: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
        parameters: Mapping[str, Tensor],
        interval: float,
        *,
        refresh: int = 1,
    ) -> None:
        self.rate, self.limit, self.parameters, self.interval = rate, limit, parameters, interval
        self.refresh = refresh
        self.effort = Effort(interval, patience=0)

    def __call__(self, u: Tensor) -> Tensor:
        """Advance fields (B, C, *S) by one interval; a member that blows up becomes NaN."""
        members, effort = Members(self.parameters, len(u)), self.effort
        effort.begin(u)
        taken, limits = 0, np.empty(0)
        left = np.full(len(u), self.interval)
        while (active := np.flatnonzero(left > 0)).size:
            part, parameters = members.take(u, active), members.parameters_of(active)
            if taken % self.refresh == 0:  # active members have taken equally many steps
                limits = np.empty(len(u))
                limits[active] = self.limit(part, parameters).to("cpu", torch.float64).numpy()
            taken, limit = taken + 1, limits[active]
            steps = np.maximum(np.ceil(left[active] / limit - 1e-9), 1.0)
            dead = np.isnan(limit) | (limit < SMALLEST * self.interval)  # infinite: nothing changes
            effort.blow_up(active[dead])
            dead |= effort.spent(active, 3, limit, left[active])
            steps[dead] = 1.0
            dt = left[active] / steps
            dt[dead] = np.nan
            part = self._step(part, parameters, column(dt, part))
            u = members.put(u, part, active, np.ones(len(active), dtype=bool))
            left[active] = np.where(steps <= 1, 0.0, left[active] - dt)
        return effort.end(u)

    def _step(self, u: Tensor, parameters: Mapping[str, Tensor], dt: Tensor) -> Tensor:
        first = u + self.rate(u, parameters).mul_(dt)
        second = (first + self.rate(first, parameters).mul_(dt)).mul_(0.25).add_(u * 0.75)
        return (second + self.rate(second, parameters).mul_(dt)).mul_(2.0 / 3.0).add_(u * (1.0 / 3.0))
