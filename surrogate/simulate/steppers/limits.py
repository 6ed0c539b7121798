"""A bound on the work of an integrator, so that no simulation runs on without an end."""

from __future__ import annotations

import time
import warnings

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MOST_EVALUATIONS", "Effort"]

MOST_EVALUATIONS = 1_000_000  # of the right-hand side for one simulation
FIRST = 1000  # evaluations after which the rest of a simulation is estimated from its present steps
MARGIN = 10  # the first estimate has to be above the bound by this factor: states may decay, and steps grow
SLOW = 60.0  # seconds between two snapshots after which a warning is given

SPENT = (
    "it takes about {expected:.1e} evaluations of the right-hand side and max_evaluations is {most}: its values grow "
    "without bound, or its steps are far too short for its final time; choose another integrator, a larger tolerance, "
    "a coarser grid or a shorter final_time"
)
BLEW_UP = "its values grow without bound, or it needs steps far below the time between two snapshots"

Values = NDArray[np.float64]


class Effort:
    """Evaluations of the right-hand side by an integrator, member by member, and a bound on them.

    With n evaluations so far and m for a step dt, a simulation is expected to take n + m (time left) / dt. It is given
    up where n is above the bound; where it is expected to take ten times as many after the first thousand; and where it
    is expected to take more than the bound after each doubling of n, unless the expectation has halved since, as it
    does where states decay and steps grow.

    Arguments:
        interval: Time between snapshots.
        patience: Evaluations before the first estimate; 0 where steps are limited by stability from the start.
    """

    def __init__(self, interval: float, *, patience: int = FIRST) -> None:
        self.interval, self.patience = interval, patience
        self.intervals, self.most = 1, MOST_EVALUATIONS
        self.failures: dict[int, str] = {}
        self._state: Tensor | None = None
        self._calls, self._later = 0, 0.0
        self._count = self._due = self._expected = np.empty(0)
        self._began, self._warned = 0.0, False

    def bound(self, intervals: int, most: int) -> None:
        """Bound the evaluations of a simulation of so many intervals."""
        self.intervals, self.most = intervals, most

    def begin(self, u: Tensor) -> bool:
        """Begin an interval from states; return True where it is the first of its simulations.

        States other than those that `end` was given last begin new simulations.
        """
        new = u is not self._state
        if new:
            self.failures.clear()
            self._calls, self._count = 0, np.zeros(len(u))
            self._due = np.full(len(u), float(self.patience))
            self._expected = np.full(len(u), 2.0 * MARGIN * self.most)
        self._calls += 1
        self._later = max(self.intervals - self._calls, 0) * self.interval
        self._began, self._warned = time.monotonic(), False
        return new

    def end(self, u: Tensor) -> Tensor:
        """Note and return the states at the end of an interval."""
        self._state = u
        return u

    def affords(self, evaluations: int) -> bool:
        """Count evaluations of all members in this interval; give all up where as many in each are too many."""
        self._count += evaluations
        expected = self._count + evaluations * self._later / self.interval
        for member in np.flatnonzero(expected > self.most):
            self.failures.setdefault(int(member), SPENT.format(expected=expected[member], most=self.most))
        return not (expected > self.most).any()

    def spent(
        self, group: NDArray[np.intp], evaluations: Values | float, dt: Values, left: Values
    ) -> NDArray[np.bool_]:
        """Count the evaluations of a step of a group of members; return True for those that are given up.

        Arguments:
            group: The members.
            evaluations: Evaluations of the step.
            dt: The step that their states allow.
            left: Time left in the interval.
        """
        self._count[group] += evaluations
        count = self._count[group]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            expected = count + evaluations * (left + self._later) / dt
        due = count >= self._due[group]
        over = (count > self.most) | (due & (expected > self.most) & (expected > 0.5 * self._expected[group]))
        self._expected[group[due]], self._due[group[due]] = expected[due], np.maximum(2.0 * count[due], FIRST)
        for member, number in zip(group[over], expected[over], strict=True):
            self.failures.setdefault(int(member), SPENT.format(expected=number, most=self.most))
        if not self._warned and time.monotonic() - self._began > SLOW:
            self._warned = True
            warnings.warn(
                f"{SLOW:g} seconds between two snapshots so far, {self._count.max():.0f} evaluations of the right-hand "
                f"side; a simulation is given up after {self.most}"
            )
        return np.asarray(over)

    def blow_up(self, group: NDArray[np.intp]) -> None:
        """Note that members have no finite values any more."""
        for member in group:
            self.failures.setdefault(int(member), BLEW_UP)
