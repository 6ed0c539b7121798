"""The curve against dense linear algebra; what each rule and search minimises."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogate.errors import ConfigError
from surrogate.slimtik import (
    RULES,
    SEARCHES,
    Bounded,
    Bounds,
    Constant,
    Curve,
    HalfSum,
    NormalEquations,
    Rule,
    Search,
    Spectrum,
    rule_of,
    sdp,
    search_of,
    sgcv,
    supre,
)


class Case:
    """A random batch with memory, and the quantities of the paper by dense algebra on A and C themselves."""

    def __init__(self, seed: int = 0, *, n: int = 12, K: int = 5, M: int = 3, b: int = 4, L: float = 0.7) -> None:
        random = torch.Generator().manual_seed(seed)
        self.A, self.C, self.W, old = (
            torch.randn(*shape, dtype=torch.float64, generator=random) for shape in [(n, K), (n, M), (K, M), (2 * n, K)]
        )
        self.H = (self.A.T @ self.A + old.T @ old) / b
        self.b, self.L = b, torch.tensor(L, dtype=torch.float64)
        self.batch = NormalEquations.of(self.A, self.C, b)
        self.curve = Curve.of(Spectrum.of(self.H), self.W, self.batch, self.L)

    def inverse(self, damping: float) -> torch.Tensor:
        return torch.linalg.inv(self.H + (self.L + damping) * torch.eye(len(self.H), dtype=torch.float64))

    def rho(self, damping: float) -> torch.Tensor:
        gradient = self.A.T @ (self.A @ self.W - self.C) / self.b
        after = self.W - self.inverse(damping) @ (gradient + damping * self.W)
        return (self.A @ after - self.C).square().sum() / self.b

    def trace(self, damping: float) -> torch.Tensor:
        return self.C.shape[1] * torch.trace(self.A @ self.inverse(damping) @ self.A.T) / self.b


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 20),
    K=st.integers(1, 8),
    M=st.integers(1, 4),
    dampings=st.lists(st.floats(-0.6, 1e3), min_size=1, max_size=4),
)
def test_curve_is_residual_and_trace_of_the_dense_step(
    seed: int, n: int, K: int, M: int, dampings: list[float]
) -> None:
    case = Case(seed, n=n, K=K, M=M)
    rho, trace = case.curve(torch.tensor(dampings, dtype=torch.float64))
    torch.testing.assert_close(rho, torch.stack([case.rho(x) for x in dampings]), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(trace, torch.stack([case.trace(x) for x in dampings]), rtol=1e-8, atol=1e-10)


def test_rules_are_the_published_formulas() -> None:
    rho, trace, m = torch.tensor([2.0, 3.0]), torch.tensor([1.0, 4.0]), 10
    assert torch.equal(sgcv(rho, trace, m), rho / (m - trace) ** 2)
    assert torch.equal(sdp(0.5)(rho, trace, m), (rho - 2 * m * 0.5) ** 2)
    assert torch.equal(sdp(0.5, tau=1.5)(rho, trace, m), (rho - 1.5 * m * 0.5) ** 2)
    assert torch.equal(supre(0.5)(rho, trace, m), rho + 2 * 0.5 * trace)


@pytest.mark.parametrize("L", [1e-10, 0.05, 1.0, 100.0])
def test_half_sum_tries_thirty_points_of_each_sign(L: float) -> None:
    seen = []

    def record(rho: torch.Tensor, trace: torch.Tensor, equations: int) -> torch.Tensor:
        seen.append(rho.shape)
        return rho

    chosen = HalfSum()(Case(L=L).curve, record)
    assert seen == [(60,)]
    assert abs(float(chosen)) * (1 + 1e-12) >= 1e-16
    assert abs(float(chosen)) <= L / 2 * (1 + 1e-12)


def published_points(search: object, L: float) -> list[float]:
    """The trial points as the two codes write them."""
    if isinstance(search, HalfSum):
        size = [10**x for x in np.linspace(*sorted([-16.0, math.log10(L / 2)]), 30)]
        return [-x for x in reversed(size)] + size
    least = math.log10(np.finfo(float).eps)
    return [-(10**x) for x in np.linspace(least, math.log10(L), 30)] + [10**x for x in np.linspace(least, 3, 30)]


@pytest.mark.parametrize("search", [HalfSum(), Bounds()])
@pytest.mark.parametrize("rule", [sgcv, sdp(1e-2), sdp(1.0), supre(1e-2), supre(1.0)])
@pytest.mark.parametrize("L", [0.05, 0.7, 20.0])
def test_the_point_chosen_is_the_best_by_dense_algebra(search: Search, rule: Rule, L: float) -> None:
    case = Case(n=30, L=L)
    chosen = float(search(case.curve, rule))
    points = published_points(search, L)
    assert min(abs(chosen - point) for point in points) <= 1e-10 * abs(chosen)
    rho, trace = (torch.stack([value(point) for point in points]) for value in (case.rho, case.trace))
    values = rule(rho, trace, case.batch.equations)
    best = rule(case.rho(chosen)[None], case.trace(chosen)[None], case.batch.equations)
    torch.testing.assert_close(best[0], values.min(), rtol=1e-9, atol=1e-12)


def test_bounded_search_finds_the_minimum_of_a_dense_scan() -> None:
    case, rule = Case(), supre(0.3)
    chosen = Bounded(1e-7, 10.0)(case.curve, rule)
    grid = torch.linspace(1e-7, 10.0, 2001, dtype=torch.float64)
    values = rule(*case.curve(grid), case.batch.equations)
    assert abs(float(chosen - grid[values.argmin()])) < 0.006


def test_counting_samples_changes_the_choice_of_bounds_only_through_m() -> None:
    case, seen = Case(), []

    def record(rho: torch.Tensor, trace: torch.Tensor, equations: int) -> torch.Tensor:
        seen.append(equations)
        return rho

    Bounds()(case.curve, record)
    Bounds(equations="samples")(case.curve, record)
    assert seen == [case.batch.equations, case.batch.samples]
    with pytest.raises(ConfigError, match="choose 'scalars' or 'samples'"):
        Bounds(equations="images")


def test_constant_search_ignores_the_rule() -> None:
    assert float(Constant(0.25)(Case().curve, sgcv)) == 0.25


def test_a_pole_of_the_criterion_is_never_chosen() -> None:
    def pole(rho: torch.Tensor, trace: torch.Tensor, equations: int) -> torch.Tensor:
        value = torch.linspace(1.0, 2.0, len(rho), dtype=torch.float64)
        value[0], value[1] = -math.inf, math.nan
        return value

    case = Case()
    points = -torch.logspace(math.log10(0.35), -16, 30, dtype=torch.float64)
    torch.testing.assert_close(HalfSum()(case.curve, pole), points[2])


def test_without_any_finite_criterion_the_sum_stays() -> None:
    def hopeless(rho: torch.Tensor, trace: torch.Tensor, equations: int) -> torch.Tensor:
        return torch.full_like(rho, math.nan)

    assert float(HalfSum()(Case().curve, hopeless)) == 0.0


def test_rules_and_searches_by_name() -> None:
    assert [rule_of(name, noise_variance=0.1) for name in RULES] == [sgcv, sdp(0.1), supre(0.1)]
    assert search_of("half-sum") == HalfSum()
    assert [search_of(name, damping=0.2, lower_bound=1e-3, upper_bound=5.0) for name in SEARCHES[1:]] == [
        Bounds(5.0),
        Bounded(1e-3, 5.0),
        Constant(0.2),
    ]


def test_unknown_names_and_missing_noise_are_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match="rule 'sgcw' of slimTrain is unknown; did you mean 'sgcv'"):
        rule_of("sgcw")
    with pytest.raises(ConfigError, match="search 'halfsum' of slimTrain is unknown; did you mean 'half-sum'"):
        search_of("halfsum")
    for noise in (None, 0.0, -1.0, math.nan):
        with pytest.raises(ConfigError, match="rule 'sdp' needs a noise variance above zero"):
            rule_of("sdp", noise_variance=noise)
