"""The integrator of an equation of the user, chosen or checked by the spectrum of its right-hand side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from surrogate.simulate.equation import Numerics
from surrogate.simulate.steppers.dopri import DOPRI5
from surrogate.simulate.steppers.limits import MOST_EVALUATIONS, Effort
from surrogate.simulate.steppers.members import Members, Rate
from surrogate.simulate.steppers.rkc import MAX_STAGES, RKC2
from surrogate.simulate.steppers.ssprk import SSPRK3
from surrogate.simulate.steppers.stiffness import Spectrum, jacobian_spectrum, power_radius

__all__ = ["ChosenIntegrator", "Explicit", "choose_integrator"]

Explicit = Literal["auto", "rkc2", "ssprk3", "dopri5"]
REAL = 0.1  # largest |Im l| over the radius at which rkc2 is stable with long steps
STIFF = 500.0  # radius times interval from which stability and not accuracy limits the steps of dopri5
STABLE = {"dopri5": (3.3, 1.0), "ssprk3": (2.5, 1.7)}  # largest dt |l| on the negative real and the imaginary axis
STAGES = {"dopri5": 6, "ssprk3": 3}
TOLERANCES = {"dopri5": 1e-6, "rkc2": 1e-7}  # largest error of a step; rkc2 has order 2 and takes more of them
COURANT = 0.8  # share of the stable step that ssprk3 takes
REFRESH = 20  # steps after which a spectral radius is estimated again
REMEDY = (
    "or state the linear part of the equation with `linear` for etdrk4, or use a coarser grid or a shorter final_time"
)


def choose_integrator(
    asked: Explicit,
    spectrum: Spectrum,
    member: int,
    interval: float,
    *,
    intervals: int = 1,
    most: int = MOST_EVALUATIONS,
) -> tuple[str, str]:
    """Return the integrator of a member, or the reason why there is none.

    `rkc2` is stable for eigenvalues near the negative real axis, with a number of evaluations that grows as the square
    root of their size; for `dopri5` and `ssprk3` it grows as their size, wherever they are. "auto" is `dopri5` where
    accuracy limits its steps; else `rkc2` near the real axis, and off it `ssprk3`, which damps eigenvalues on the
    imaginary axis up to 1.7 / dt where dopri5 lets them grow.

    Arguments:
        asked: The integrator that was asked for.
        spectrum: Extreme eigenvalues of all members.
        member: The member.
        interval: Time between snapshots.
        intervals: Number of intervals.
        most: Evaluations of the right-hand side that a simulation may take.

    Returns:
        The name of the integrator and "", or "" and a sentence.
    """
    radius, imaginary = float(spectrum.radius[member]), float(spectrum.imaginary[member])
    if not np.isfinite(radius):
        return "", "its right-hand side is not finite at the initial fields"
    real = imaginary <= REAL * radius
    name = asked
    if asked == "auto":
        name = "dopri5"
        if radius * interval > STIFF:
            name = "rkc2" if real else "ssprk3"
    where = f"the eigenvalues of its right-hand side reach {radius:.2g}, {imaginary:.2g} along the imaginary axis"
    if name == "rkc2":
        if not real and radius * interval > STIFF:
            return "", f"{where}, and rkc2 is stable near the negative real axis only; choose ssprk3, {REMEDY}"
        needed = interval * intervals * radius / (0.65 * MAX_STAGES)
    else:
        needed = STAGES[name] * interval * intervals * radius / STABLE[name][0 if real else 1]
    if needed > most:
        better = "choose rkc2, " if real and name != "rkc2" else ""
        return "", (
            f"{where}, so that {name} takes {needed:.1g} evaluations of it and max_evaluations is {most}; "
            f"{better}{REMEDY}"
        )
    return name, ""


class ChosenIntegrator:
    """Explicit integration of du/dt = f(u) by the method that fits the Jacobian of each member at the start.

    The choice is made when it is called on a state that it did not return last, for every member by itself. A member
    without an integrator becomes NaN, and `effort.failures` says why.

    Arguments:
        rate: f(u, parameters) for fields (B, C, *S) and parameters (B, 1, 1...).
        parameters: Parameters of the members.
        interval: Time between snapshots.
        numerics: Refinement of the steps, and the tolerance of a recipe.
        tolerance: Largest error of a step where no recipe gives it, relative to the largest value of the channel; None
            takes 1e-6, for rkc2 1e-7.
        integrator: "rkc2", "ssprk3" or "dopri5", or "auto" for the one that fits.
    """

    def __init__(
        self,
        rate: Rate,
        parameters: Mapping[str, Tensor],
        interval: float,
        *,
        numerics: Numerics,
        tolerance: float | None = None,
        integrator: Explicit = "auto",
    ) -> None:
        self.rate, self.parameters, self.interval = rate, parameters, interval
        self.numerics, self.tolerance, self.integrator = numerics, tolerance, integrator
        self.effort = Effort(interval)
        self.names: list[str] = []
        self._groups: list[tuple[Tensor, DOPRI5 | RKC2 | SSPRK3, Tensor]] = []

    def __call__(self, u: Tensor) -> Tensor:
        """Advance fields (B, C, *S) by one interval; a member that blows up or has no integrator becomes NaN."""
        if self.effort.begin(u):
            self._start(u)
        result = torch.full_like(u, torch.nan)
        for number, (index, stepper, state) in enumerate(self._groups):
            state = stepper(state)
            self._groups[number] = (index, stepper, state)
            result = result.index_copy(0, index, state)
            for position, reason in stepper.effort.failures.items():
                self.effort.failures.setdefault(int(index[position]), reason)
        return self.effort.end(result)

    def _start(self, u: Tensor) -> None:
        self._groups = []
        members = Members(self.parameters, len(u))
        spectrum = jacobian_spectrum(self.rate, u, self.parameters)
        bounds: dict[str, int] = {"intervals": self.effort.intervals, "most": self.effort.most}
        choices = [
            choose_integrator(self.integrator, spectrum, member, self.interval, **bounds) for member in range(len(u))
        ]
        self.names = [name for name, _ in choices]
        self.effort.failures |= {member: reason for member, (_, reason) in enumerate(choices) if reason}
        for name in sorted(set(self.names) - {""}):
            group = np.array([member for member, chosen in enumerate(self.names) if chosen == name])
            stepper = self._stepper(name, members.parameters_of(group))
            stepper.effort.bound(**bounds)
            self._groups.append((torch.from_numpy(group).to(u.device), stepper, members.take(u, group)))

    def _stepper(self, name: str, parameters: Mapping[str, Tensor]) -> DOPRI5 | RKC2 | SSPRK3:
        if name == "dopri5":
            tolerance = self.numerics.allowed(self.tolerance or TOLERANCES[name], order=4)
            return DOPRI5(self.rate, parameters, self.interval, tolerance=tolerance)
        radius = power_radius(self.rate)
        if name == "rkc2":
            tolerance = self.numerics.allowed(self.tolerance or TOLERANCES[name])
            return RKC2(self.rate, radius, parameters, self.interval, tolerance=tolerance, refresh=REFRESH)
        stable = COURANT * STABLE[name][1] / self.numerics.refine

        def limit(u: Tensor, p: Mapping[str, Tensor]) -> Tensor:
            finite = u.flatten(1).isfinite().all(dim=1)
            return torch.where(finite, stable / torch.clamp(radius(u, p), min=1e-3 * stable / self.interval), torch.nan)

        return SSPRK3(self.rate, limit, parameters, self.interval, refresh=REFRESH)
