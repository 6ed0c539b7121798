"""Bounds on the work of an adaptive integrator, so that no simulation runs on without an end."""

from __future__ import annotations

import time
import warnings

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_EVALUATIONS", "Effort"]

MOST_EVALUATIONS = 300_000  # of the right-hand side for one member between two snapshots
SLOW = 60.0  # seconds between two snapshots after which a warning is given

SPENT = (
    "it needs more than {most} evaluations of the right-hand side between two snapshots; choose another integrator, a "
    "larger tolerance, a coarser grid or closer snapshots"
)
BLEW_UP = "its values grow without bound, or it needs steps far below the time between two snapshots"


class Effort:
    """Evaluations of the right-hand side in one interval, member by member.

    Arguments:
        members: Number of members B.
        failures: Gets a sentence for every member that is given up, by its position.
    """

    def __init__(self, members: int, failures: dict[int, str]) -> None:
        self.count = np.zeros(members)
        self.failures = failures
        self._begin, self._warned = time.monotonic(), False

    def spent(self, group: NDArray[np.intp], evaluations: NDArray[np.float64] | float) -> NDArray[np.bool_]:
        """Count evaluations of a group of members; return True for those that have no more to spend."""
        self.count[group] += evaluations
        over = self.count[group] > MOST_EVALUATIONS
        for member in group[over]:
            self.failures.setdefault(int(member), SPENT.format(most=MOST_EVALUATIONS))
        if not self._warned and time.monotonic() - self._begin > SLOW:
            self._warned = True
            warnings.warn(
                f"{SLOW:g} seconds between two snapshots so far, {self.count.max():.0f} evaluations of the right-hand "
                f"side; a simulation is given up after {MOST_EVALUATIONS}"
            )
        return np.asarray(over)

    def blow_up(self, group: NDArray[np.intp]) -> None:
        """Note that members have no finite values any more."""
        for member in group:
            self.failures.setdefault(int(member), BLEW_UP)
