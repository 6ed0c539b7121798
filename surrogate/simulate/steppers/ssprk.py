"""Strong-stability-preserving integration of convection-dominated equations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from surrogate.simulate.steppers.members import Members, Rate, column

__all__ = ["SSPRK3"]

MOST_STEPS = 1e7  # in an interval; a state that needs more has blown up


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
    """

    def __init__(
        self,
        rate: Rate,
        limit: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
        parameters: Mapping[str, Tensor],
        interval: float,
    ) -> None:
        self.rate, self.limit, self.parameters, self.interval = rate, limit, parameters, interval

    def __call__(self, u: Tensor) -> Tensor:
        """Advance fields (B, C, *S) by one interval; a member that blows up becomes NaN."""
        members = Members(self.parameters, len(u))
        left = np.full(len(u), self.interval)
        while (active := np.flatnonzero(left > 0)).size:
            part, parameters = members.take(u, active), members.parameters_of(active)
            limit = self.limit(part, parameters).to("cpu", torch.float64).numpy()
            steps = np.maximum(np.ceil(left[active] / limit - 1e-9), 1.0)
            dead = ~np.isfinite(limit) | (self.interval / MOST_STEPS > limit)
            steps[dead] = 1.0
            dt = left[active] / steps
            dt[dead] = np.nan
            part = self._step(part, parameters, column(dt, part))
            u = members.put(u, part, active, np.ones(len(active), dtype=bool))
            left[active] = np.where(steps <= 1, 0.0, left[active] - dt)
        return u

    def _step(self, u: Tensor, parameters: Mapping[str, Tensor], dt: Tensor) -> Tensor:
        first = u + self.rate(u, parameters).mul_(dt)
        second = (first + self.rate(first, parameters).mul_(dt)).mul_(0.25).add_(u * 0.75)
        return (second + self.rate(second, parameters).mul_(dt)).mul_(2.0 / 3.0).add_(u * (1.0 / 3.0))
