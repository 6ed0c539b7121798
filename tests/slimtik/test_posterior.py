"""The Bayesian head against dense Gaussian algebra, a brute-force evidence, and coverage on held-out data."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm, t
from torch import Tensor, nn

from surrogate.errors import ConfigError, DataError
from surrogate.models.heads import head_of
from surrogate.slimtik import NormalEquations, Posterior, predictive_leverage, predictive_std, tikhonov


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def problem(n: int = 40, K: int = 6, *, noise: tuple[float, ...] = (0.1, 0.5), seed: int = 0) -> tuple[Tensor, Tensor]:
    """A well-specified problem, one noise level per output."""
    A = random(n, K, seed=seed)
    M = len(noise)
    return A, A @ random(K, M, seed=seed + 1) + random(n, M, seed=seed + 2) * torch.tensor(noise).double()


def posterior_of(A: Tensor, C: Tensor, *, rule: str = "evidence") -> Posterior:
    return Posterior.of(NormalEquations.of(A, C, len(A)), C.square().sum(0), rule=rule)


@pytest.mark.parametrize("rule", ["evidence", "gcv"])
def test_covariance_and_predictive_variance_are_those_of_dense_algebra(rule: str) -> None:
    A, C = problem()
    posterior, rows = posterior_of(A, C, rule=rule), random(7, 6, seed=9)
    for output in range(2):
        beta = 1 / posterior.noise[output]
        alpha = posterior.ratio[output] * beta
        covariance = torch.linalg.inv(beta * A.T @ A + alpha * torch.eye(6, dtype=torch.float64))
        torch.testing.assert_close(posterior.covariance(output), covariance)
        variance = 1 / beta + ((rows @ covariance) * rows).sum(1)
        torch.testing.assert_close(posterior.std(rows)[:, output], variance.sqrt())
        torch.testing.assert_close(posterior.leverage(rows)[:, output] / beta, variance - 1 / beta)


@pytest.mark.parametrize(("n", "K"), [(25, 4), (8, 12)])
def test_precisions_maximise_the_brute_force_evidence(n: int, K: int) -> None:
    A, C = problem(n, K, noise=(0.3, 0.8))
    posterior = posterior_of(A, C)
    for output in range(2):

        def brute(logs: np.ndarray, output: int = output) -> float:
            """Minus log p(c) for log alpha and log beta, c normal with covariance I / beta + A A' / alpha."""
            covariance = np.eye(n) / math.exp(logs[1]) + (A @ A.T).numpy() / math.exp(logs[0])
            return -float(multivariate_normal(np.zeros(n), covariance).logpdf(C[:, output].numpy()))

        noise = float(posterior.noise[output])
        found = np.log([float(posterior.ratio[output]) / noise, 1 / noise])
        best = minimize(brute, found + 0.3, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10})
        assert brute(found) <= best.fun + 1e-6
        if n > K:  # else there may be no noise at all, and the evidence has no maximum
            assert found == pytest.approx(best.x, abs=1e-3)


def test_one_evidence_for_all_outputs_without_their_energies() -> None:
    A, C = problem(n=25, K=4, noise=(0.3, 0.3, 0.3))
    pooled = Posterior.of(NormalEquations.of(A, C, len(A)))
    assert len(pooled.noise) == 3
    assert pooled.noise.unique().numel() == pooled.ratio.unique().numel() == 1
    repeated = posterior_of(A, C[:, :1].expand(-1, 3))
    single = Posterior.of(NormalEquations.of(A, C[:, :1].expand(-1, 3), len(A)))
    torch.testing.assert_close(single.noise, repeated.noise)
    torch.testing.assert_close(single.ratio, repeated.ratio, rtol=1e-5, atol=0)


@pytest.mark.parametrize("rule", ["evidence", "gcv"])
def test_noise_of_each_output_is_found(rule: str) -> None:
    A, C = problem(2000, 6, noise=(0.1, 0.5, 3.0))
    expected = torch.tensor([0.1, 0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(posterior_of(A, C, rule=rule).noise.sqrt(), expected, rtol=0.06, atol=0)


def test_gcv_takes_the_regularization_of_the_refit() -> None:
    A, C = problem(noise=(0.4,))
    fit, posterior = tikhonov(NormalEquations.of(A, C, len(A))), posterior_of(A, C, rule="gcv")
    assert float(posterior.ratio) == pytest.approx(fit.regularization * len(A), rel=1e-6)
    assert float(posterior.noise) == pytest.approx(fit.residual * 40 / (40 - fit.effective_dof))


def coverage(n: int, rule: str, seed: int) -> Tensor:
    """Share of held-out data in their 90 % intervals: fixed random features, Gaussian noise, n samples."""
    torch.manual_seed(seed)
    features = nn.Sequential(nn.Linear(2, 10), nn.Tanh()).double().requires_grad_(False)
    x = 4 * torch.rand(n + 200, 2, dtype=torch.float64) - 2
    A = torch.cat([features(x), torch.ones(len(x), 1)], 1)
    noise = torch.tensor([0.1, 0.5], dtype=torch.float64)
    C = A @ torch.randn(11, 2, dtype=torch.float64) + noise * torch.randn(len(x), 2, dtype=torch.float64)
    posterior = posterior_of(A[:n], C[:n], rule=rule)
    error = (C[n:] - A[n:] @ posterior.mean).abs()
    return (error <= posterior.quantile(0.9) * posterior.std(A[n:])).double().mean()


@pytest.mark.parametrize(("n", "rule"), [(15, "evidence"), (40, "evidence"), (200, "evidence"), (60, "gcv")])
def test_ninety_percent_intervals_cover_ninety_percent_of_held_out_data(n: int, rule: str) -> None:
    found = torch.stack([coverage(n, rule, seed) for seed in range(25)])
    assert 0.85 <= float(found.mean()) <= 0.95


def test_quantiles_are_those_of_student_and_tend_to_the_normal() -> None:
    posterior = posterior_of(*problem())
    degrees = 40 - posterior.effective_dof
    torch.testing.assert_close(posterior.quantile(0.5), torch.from_numpy(t.ppf(0.75, degrees.numpy())))
    assert float(posterior_of(*problem(20000)).quantile(0.9)[0]) == pytest.approx(norm.ppf(0.95), rel=1e-3)
    assert torch.isfinite(posterior_of(*problem(3, 9)).quantile(0.9)).all()
    with pytest.raises(ConfigError, match=r"level=90.0 of an interval: it must be between 0 and 1"):
        posterior.quantile(90.0)


@pytest.mark.parametrize("rule", ["evidence", "gcv"])
def test_mean_solves_the_ridge_problem_of_each_output(rule: str) -> None:
    A, C = problem()
    posterior = posterior_of(A, C, rule=rule)
    for output in range(2):
        shifted = A.T @ A + posterior.ratio[output] * torch.eye(6, dtype=torch.float64)
        torch.testing.assert_close(shifted @ posterior.mean[:, output], A.T @ C[:, output])


def test_leverages_of_the_rows_fitted_sum_to_the_degrees_of_freedom() -> None:
    A, C = problem()
    posterior = posterior_of(A, C)
    leverage = posterior.leverage(A)
    torch.testing.assert_close(leverage.sum(0), posterior.effective_dof)
    assert leverage.max() < 1
    assert int(posterior.rows) == 40


def test_leverage_grows_outside_the_range_of_training() -> None:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Linear(1, 20), nn.Tanh()).double().requires_grad_(False)
    x = torch.linspace(-1, 1, 80, dtype=torch.float64)[:, None]
    posterior = posterior_of(features(x), torch.sin(3 * x) + 0.05 * random(80, 1))
    points = torch.tensor([[0.0], [1.0], [1.5], [2.0], [3.0]], dtype=torch.float64)
    leverage = posterior.leverage(features(points)).squeeze()
    assert (leverage.diff() > 0).all()
    assert leverage[-1] > 10 * posterior.leverage(features(x)).max()


def test_a_direction_never_seen_keeps_the_variance_of_the_prior() -> None:
    A, C = problem(40, 3, noise=(0.2,))
    posterior = posterior_of(torch.cat([A, torch.zeros(40, 1)], 1), C)
    unseen = torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)
    prior = posterior.noise / posterior.ratio
    torch.testing.assert_close(posterior.std(unseen).square()[0], posterior.noise + prior)


def test_zero_targets_are_certain() -> None:
    A = random(20, 4)
    posterior = posterior_of(A, torch.zeros(20, 2, dtype=torch.float64))
    assert torch.isfinite(posterior.std(A)).all()
    assert posterior.std(A).max() < 1e-100


HEADS = {
    "dense": (nn.Linear(3, 2), (5, 3)),
    "dense over points": (nn.Linear(3, 2, bias=False), (5, 4, 3)),
    "convolution": (nn.Conv2d(2, 2, 3, padding=1), (3, 2, 6, 5)),
    "transposed convolution": (nn.ConvTranspose1d(2, 2, 4, stride=2, padding=1), (3, 2, 5)),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("byte_budget", [1, 2000, 10**9])
def test_deviation_of_a_field_is_that_of_its_rows(name: str, byte_budget: int) -> None:
    layer, shape = HEADS[name]
    head, z = head_of(layer), random(*shape).float()
    targets = random(*head(z).shape, seed=1)
    posterior = Posterior.of(head.normal_equations(z, targets), head.rows(targets).square().sum(0))
    for function, rows in ((predictive_std, posterior.std), (predictive_leverage, posterior.leverage)):
        found = function(head, posterior, z, byte_budget=byte_budget)
        assert found.shape == targets.shape
        torch.testing.assert_close(head.rows(found), rows(head.design(z)))


def test_a_posterior_that_belongs_to_a_model_is_saved_and_loaded_with_it() -> None:
    A, C = problem()
    model, twin = nn.Module(), nn.Module()
    model.posterior, twin.posterior = posterior_of(A, C), Posterior(6, 2)
    state = load(save(model.state_dict()))
    assert state["posterior.vectors"].dtype == torch.float64
    twin.load_state_dict(state)
    assert torch.equal(twin.posterior.std(A), model.posterior.std(A))
    assert int(twin.posterior.rows) == 40


def test_without_data_it_is_the_prior() -> None:
    posterior, rows = Posterior(3, 2), random(4, 3)
    torch.testing.assert_close(posterior.covariance(), torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(posterior.std(rows)[:, 1], (1 + rows.square().sum(1)).sqrt())


def test_what_does_not_fit_is_refused() -> None:
    A, C = problem()
    posterior = posterior_of(A, C)
    with pytest.raises(ConfigError, match="rule 'evidense' of the posterior is unknown; did you mean 'evidence'"):
        posterior_of(A, C, rule="evidense")
    with pytest.raises(DataError, match=r"energies have shape \(3,\); give one number for each of 2 outputs"):
        Posterior.of(NormalEquations.of(A, C, len(A)), torch.ones(3))
    with pytest.raises(DataError, match=r"design has shape \(4, 5\); the posterior needs \(n, 6\)"):
        posterior.std(random(4, 5))
    with pytest.raises(DataError, match="the posterior has 2 outputs, the head 3; fit it to this head"):
        predictive_std(head_of(nn.Linear(5, 3)), posterior, random(4, 5).float())
