"""Choosing the damping of a step: a rule says what is minimised, a search says over which points.

Any rule works with any search. Both see the batch only through a `Curve`, the residual and the trace after a step as
functions of the damping. Sources: Newman et al. 2022, doi 10.1137/21M1452512; Chung et al., arXiv 1812.06165.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from surrogate.checks import ConfigError, did_you_mean
from surrogate.slimtik.spectrum import Spectrum
from surrogate.slimtik.statistics import Statistics

__all__ = [
    "RULES",
    "SEARCHES",
    "Bounded",
    "Bounds",
    "Constant",
    "Curve",
    "HalfSum",
    "Rule",
    "Search",
    "rule_of",
    "sdp",
    "search_of",
    "sgcv",
    "supre",
]


@dataclass(frozen=True)
class Curve:
    r"""Residual and trace of a batch after a step, as functions of the damping.

    With :math:`H = V \operatorname{diag}(\sigma) V^\top`, :math:`P = V^\top (G W - B)`, :math:`Q = V^\top W` and
    :math:`D(\lambda) = 1 / (\sigma + \Lambda + \lambda)`, the step in the eigenbasis is
    :math:`S = D (P + \lambda Q)`, and

    .. math:: \rho = \rho_0 - 2 \langle S, P \rangle + \langle S, V^\top G V S \rangle, \qquad
              t = M \sum_j (V^\top G V)_{jj} D_j,

    a quadratic polynomial in lambda whose coefficients are quadratic forms in D: O(K^2) per point after
    O(K^2 (K + M)) once.

    Arguments:
        shifted: Eigenvalues plus the running sum, with shape (K,).
        start: Squared residual norm per sample before the step, with shape ().
        linear: Coefficients of D in <S, P> for powers 0 and 1 of lambda, with shape (2, K).
        quadratic: Coefficients of D D' in <S, V'GV S> for powers 0, 1 and 2 of lambda, with shape (3, K, K).
        weighting: M times the diagonal of V'GV, with shape (K,).
        running_sum: Sum of all dampings so far, with shape ().
        equations: Number of scalar equations m = n M.
        samples: Number of samples b.
    """

    shifted: Tensor
    start: Tensor
    linear: Tensor
    quadratic: Tensor
    weighting: Tensor
    running_sum: Tensor
    equations: int
    samples: int

    @classmethod
    def of(cls, spectrum: Spectrum, weights: Tensor, batch: Statistics, running_sum: Tensor) -> Curve:
        """The curve of a batch about the weights (K, M)."""
        V, G, gradient = spectrum.vectors, batch.G, batch.G @ weights - batch.B
        P, Q, rotated = V.mT @ gradient, V.mT @ weights, V.mT @ G @ V
        PQ = P @ Q.mT
        return cls(
            shifted=spectrum.values + running_sum,
            start=residual(weights, batch),
            linear=torch.stack([P.square().sum(1), (P * Q).sum(1)]),
            quadratic=rotated * torch.stack([P @ P.mT, PQ + PQ.mT, Q @ Q.mT]),
            weighting=weights.shape[1] * rotated.diagonal(),
            running_sum=running_sum,
            equations=batch.equations,
            samples=batch.samples,
        )

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Squared residual norm per sample and trace at the dampings `points`, all of shape (T,)."""
        D = 1.0 / (self.shifted + points[:, None])
        power = torch.stack([torch.ones_like(points), points, points.square()])
        step = (power[:2] * (self.linear @ D.mT)).sum(0)
        norm = (power * ((D @ self.quadratic) * D).sum(-1)).sum(0)
        rounding = torch.finfo(D.dtype).eps * self.start  # a residual below it carries no information
        return torch.maximum(self.start - 2 * step + norm, rounding), D @ self.weighting


def residual(weights: Tensor, batch: Statistics) -> Tensor:
    r"""Squared residual norm per sample, :math:`\|A W - C\|^2 / b`, from the statistics alone."""
    return ((batch.G @ weights - 2 * batch.B) * weights).sum() + batch.e


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
        half = torch.log10(curve.running_sum / 2)
        least = torch.full_like(half, -16.0)
        size = _logspace(torch.minimum(half, least), torch.maximum(half, least), self.points)
        return _best(curve, rule, torch.cat([-size.flip(0), size]), curve.equations)


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
        found = minimize_scalar(criterion, bounds=bounds, method="bounded", options=options)
        return curve.running_sum.new_tensor(float(found.x))


@dataclass(frozen=True)
class Constant:
    """The same damping at every step, whatever the rule."""

    damping: float

    def __call__(self, curve: Curve, rule: Rule) -> Tensor:
        return torch.full_like(curve.running_sum, self.damping)


def _logspace(first: Tensor, last: Tensor, count: int) -> Tensor:
    """torch.logspace with end points that stay on their device."""
    fraction = torch.arange(count, dtype=first.dtype, device=first.device) / (count - 1)
    return 10.0 ** (first + (last - first) * fraction)


def _criterion(curve: Curve, rule: Rule, points: Tensor, equations: int) -> Tensor:
    """The rule at `points`; a pole or any other non-finite value loses against every other point."""
    value = rule(*curve(points), equations)
    return torch.where(torch.isfinite(value), value, torch.inf)


def _best(curve: Curve, rule: Rule, points: Tensor, equations: int) -> Tensor:
    """The first point of least criterion; zero (the running sum stays) when no point has a finite criterion."""
    value = _criterion(curve, rule, points, equations)
    best = torch.argmin(value)
    return torch.where(torch.isfinite(value[best]), points[best], 0.0)


# Names, for configurations --------------------------------------------------------------------------------------------

RULES = ("sgcv", "sdp", "supre")
SEARCHES = ("half-sum", "bounds", "bounded", "constant")


def rule_of(name: str, *, noise_variance: float | None = None, tau: float = 2.0) -> Rule:
    """The rule of this name.

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
    """The search of this name.

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
