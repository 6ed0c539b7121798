"""Choosing the damping of a step: a rule is the criterion to minimise, a search the set of trial points.

Any rule works with any search, and both see the batch only through a `Curve`.
Sources: Newman et al. 2022, doi 10.1137/21M1452512; Chung et al., arXiv 1812.06165.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from surrogate.errors import ConfigError, did_you_mean
from surrogate.slimtik.curve import Curve

__all__ = [
    "RULES",
    "SEARCHES",
    "Bounded",
    "Bounds",
    "Constant",
    "HalfSum",
    "Rule",
    "Search",
    "rule_of",
    "sdp",
    "search_of",
    "sgcv",
    "supre",
]


# Rules ----------------------------------------------------------------------------------------------------------------

Rule = Callable[[Tensor, Tensor, int], Tensor]
"""The criterion at each point from the residual rho (T,), the trace t (T,) and the number of equations m."""


def sgcv(rho: Tensor, trace: Tensor, equations: int) -> Tensor:
    r"""Sampled generalised cross-validation, :math:`\rho / (m - t)^2`."""
    return rho / (equations - trace).square()


@dataclass(frozen=True)
class sdp:  # noqa: N801 (a rule with arguments reads like the rule without)
    r"""Sampled discrepancy principle, :math:`(\rho - \tau m s^2)^2`, for the noise variance :math:`s^2`."""

    noise_variance: float
    tau: float = 2.0

    def __call__(self, rho: Tensor, trace: Tensor, equations: int) -> Tensor:
        return (rho - self.tau * equations * self.noise_variance).square()


@dataclass(frozen=True)
class supre:  # noqa: N801
    r"""Sampled unbiased predictive risk, :math:`\rho + 2 s^2 t`, for the noise variance :math:`s^2`."""

    noise_variance: float

    def __call__(self, rho: Tensor, trace: Tensor, equations: int) -> Tensor:
        return rho + 2 * self.noise_variance * trace


LEAST = 1e-16  # size of the trial points next to zero

# Searches -------------------------------------------------------------------------------------------------------------


class Search(Protocol):
    """Chooses the damping of a step, with shape (), from a curve and a rule."""

    def __call__(self, curve: Curve, rule: Rule) -> Tensor: ...


@dataclass(frozen=True)
class HalfSum:
    r"""Trial points :math:`\pm\operatorname{logspace}(-16, \log_{10}(\Lambda / 2), T)`, the published default.

    A step changes the running sum by at most half of it.
    """

    points: int = 30

    def __call__(self, curve: Curve, rule: Rule) -> Tensor:
        least, fraction = _mirrored(self.points, curve.running_sum.device)
        points = least * (curve.running_sum / (2 * LEAST)) ** fraction
        return _best(curve, rule, points, curve.equations)


@dataclass(frozen=True)
class Bounds:
    r"""Trial points from :math:`-\Lambda` to an upper bound, as in the authors' Python code; for parity only.

    The points are :math:`-\operatorname{logspace}(\log_{10} \epsilon, \log_{10} \Lambda, T)` and
    :math:`\operatorname{logspace}(\log_{10} \epsilon, \log_{10} u, T)`. With `equations="samples"` the rule counts
    images instead of scalar equations, which puts a pole inside the range of the trace.
    """

    upper_bound: float = 1e3
    equations: str = "scalars"
    points: int = 30

    def __post_init__(self) -> None:
        if self.equations not in ("scalars", "samples"):
            raise ConfigError(f"equations of the search: {self.equations!r}; choose 'scalars' or 'samples'")

    def __call__(self, curve: Curve, rule: Rule) -> Tensor:
        L = curve.running_sum
        least = torch.log10(torch.full_like(L, torch.finfo(L.dtype).eps))
        down = _logspace(least, torch.log10(L), self.points)
        up = _logspace(least, torch.log10(torch.full_like(L, self.upper_bound)), self.points)
        count = curve.samples if self.equations == "samples" else curve.equations
        return _best(curve, rule, torch.cat([-down, up]), count)


@dataclass(frozen=True)
class Bounded:
    """Bounded scalar minimisation of the rule over [lower_bound, upper_bound]; the damping is positive."""

    lower_bound: float = 1e-7
    upper_bound: float = 1e3
    tolerance: float = 1e-4

    def __call__(self, curve: Curve, rule: Rule) -> Tensor:
        def criterion(point: float) -> float:
            return _criterion(curve, rule, curve.running_sum.new_tensor([point]), curve.equations).item()

        bounds, options = (self.lower_bound, self.upper_bound), {"xatol": self.tolerance}
        result = minimize_scalar(criterion, bounds=bounds, method="bounded", options=options)
        return curve.running_sum.new_tensor(float(result.x))


@dataclass(frozen=True)
class Constant:
    """The same damping at every step, whatever the rule."""

    damping: float

    def __call__(self, curve: Curve, rule: Rule) -> Tensor:
        return torch.full_like(curve.running_sum, self.damping)


@lru_cache(maxsize=16)
def _mirrored(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return least points and exponents, as fractions of their range, of the negative points, then of the positive."""
    fraction = torch.arange(count, dtype=torch.float64, device=device) / (count - 1)
    least = torch.full_like(fraction, LEAST)
    return torch.cat([-least, least]), torch.cat([fraction.flip(0), fraction])


def _logspace(first: Tensor, last: Tensor, count: int) -> Tensor:
    """Return logarithmic points as `torch.logspace` does; the end points stay on their device."""
    fraction = torch.arange(count, dtype=first.dtype, device=first.device) / (count - 1)
    return 10.0 ** (first + (last - first) * fraction)


def _criterion(curve: Curve, rule: Rule, points: Tensor, equations: int) -> Tensor:
    """Return the rule at `points`, infinite where it is not finite, as at a pole."""
    inf = torch.inf
    return torch.nan_to_num(rule(*curve(points), equations), nan=inf, posinf=inf, neginf=inf)


def _best(curve: Curve, rule: Rule, points: Tensor, equations: int) -> Tensor:
    """Return the first point of least criterion; zero (the running sum stays) where none is finite."""
    least, best = _criterion(curve, rule, points, equations).min(0)
    return points.take(best) * (least < torch.inf)  # an index would be read by the host


# Names, for configurations --------------------------------------------------------------------------------------------

RULES = ("sgcv", "sdp", "supre")
SEARCHES = ("half-sum", "bounds", "bounded", "constant")


def rule_of(name: str, *, noise_variance: float | None = None, tau: float = 2.0) -> Rule:
    """Return the rule of this name.

    Raises:
        ConfigError: There is no such rule, or it needs a noise variance above zero.
    """
    if name not in RULES:
        raise ConfigError(f"rule '{name}' of slimTrain is unknown; {did_you_mean(name, RULES)}")
    if name == "sgcv":
        return sgcv
    if noise_variance is None or not noise_variance > 0:
        raise ConfigError(f"rule '{name}' needs a noise variance above zero, got {noise_variance}; or choose 'sgcv'")
    return sdp(noise_variance, tau) if name == "sdp" else supre(noise_variance)


def search_of(name: str, *, damping: float = 0.05, lower_bound: float = 1e-7, upper_bound: float = 1e3) -> Search:
    """Return the search of this name.

    Raises:
        ConfigError: There is no such search.
    """
    searches: dict[str, Search] = {
        "half-sum": HalfSum(),
        "bounds": Bounds(upper_bound),
        "bounded": Bounded(lower_bound, upper_bound),
        "constant": Constant(damping),
    }
    if name not in searches:
        raise ConfigError(f"search '{name}' of slimTrain is unknown; {did_you_mean(name, searches)}")
    return searches[name]
