"""The exact Tikhonov solution against a dense singular value decomposition that never forms a Gram matrix."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import Tensor

from surrogate.errors import ConfigError, NumericalError
from surrogate.slimtik import NormalEquations, TikhonovFit, tikhonov


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def fit(A: Tensor, C: Tensor, *, samples: int | None = None, alpha: float | None = None) -> TikhonovFit:
    return tikhonov(NormalEquations.of(A, C, samples or len(A)), regularization=alpha)


def dense(A: Tensor, C: Tensor, alpha: float, b: int) -> Tensor:
    """The stacked least-squares problem [A; sqrt(alpha b) I] W = [C; 0]."""
    K = A.shape[1]
    system = np.concatenate([A.numpy(), math.sqrt(alpha * b) * np.eye(K)])
    return torch.from_numpy(np.linalg.lstsq(system, np.concatenate([C.numpy(), np.zeros((K, C.shape[1]))]))[0])


def dense_gcv(A: Tensor, C: Tensor, log_ratio: float) -> float:
    """GCV from the singular value decomposition of A."""
    U, S, _ = np.linalg.svd(A.numpy(), full_matrices=True)
    s = np.zeros(len(A))
    s[: len(S)] = S**2
    kept = math.exp(log_ratio) / (s + math.exp(log_ratio))
    residual = ((kept[:, None] * (U.T @ C.numpy())) ** 2).sum()
    return float(residual / kept.sum() ** 2)


def noisy(n: int, K: int, M: int = 2, *, noise: float = 0.3, decay: float = 2.0) -> tuple[Tensor, Tensor]:
    """Features of falling variance, weights of order one, white noise."""
    A = random(n, K) * torch.logspace(0, -decay, K, dtype=torch.float64)
    return A, A @ random(K, M, seed=1) + noise * random(n, M, seed=2)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 20),
    K=st.integers(1, 9),
    M=st.integers(1, 3),
    alpha=st.sampled_from([1e-6, 0.01, 3.0]),
    samples=st.sampled_from([1, 4]),
)
def test_given_regularization_solves_the_stacked_problem(
    seed: int, n: int, K: int, M: int, alpha: float, samples: int
) -> None:
    A, C = random(n, K, seed=seed), random(n, M, seed=seed + 1)
    found = fit(A, C, samples=samples, alpha=alpha)
    torch.testing.assert_close(found.weights, dense(A, C, alpha, samples), rtol=1e-6, atol=1e-7)
    assert found.residual == pytest.approx(float((A @ found.weights - C).square().mean()), rel=1e-6, abs=1e-12)
    gram = A.T @ A / samples
    shifted = gram + alpha * torch.eye(K, dtype=torch.float64)
    assert found.effective_dof == pytest.approx(float(torch.trace(gram @ torch.linalg.inv(shifted))))
    assert found.condition == pytest.approx(float(torch.linalg.cond(shifted)), rel=1e-5)
    assert found.regularization == pytest.approx(alpha)


@pytest.mark.parametrize(("n", "K"), [(60, 8), (40, 40), (15, 40)])
@pytest.mark.parametrize("noise", [0.05, 1.0])
def test_chosen_regularization_minimises_dense_gcv(n: int, K: int, noise: float) -> None:
    A, C = noisy(n, K, noise=noise)
    found = fit(A, C, samples=5)
    at = math.log(found.regularization * 5)
    logs = np.linspace(-33, 12, 400)
    best = min(logs, key=lambda log: dense_gcv(A, C, log))
    best = minimize_scalar(lambda log: dense_gcv(A, C, log), bounds=(best - 0.2, best + 0.2), method="bounded").x
    assert dense_gcv(A, C, at) <= dense_gcv(A, C, best) * (1 + 1e-8)
    expected = dense(A, C, math.exp(best) / 5, 5)
    torch.testing.assert_close(found.weights, expected, rtol=1e-3, atol=1e-3)


def test_without_regularization_it_is_the_least_norm_solution() -> None:
    for A in (random(20, 5), random(5, 20), random(20, 3) @ random(3, 8, seed=3)):
        C = random(len(A), 2, seed=1)
        expected = torch.from_numpy(np.linalg.lstsq(A.numpy(), C.numpy())[0])
        torch.testing.assert_close(fit(A, C, alpha=0.0).weights, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e5])
def test_scales_of_features_and_targets_go_through(scale: float) -> None:
    A, C = noisy(60, 8)
    plain, wide, loud = fit(A, C), fit(scale * A, C), fit(A, scale * C)
    torch.testing.assert_close(wide.weights * scale, plain.weights, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(loud.weights / scale, plain.weights, rtol=1e-5, atol=1e-8)
    assert wide.regularization == pytest.approx(plain.regularization * scale**2, rel=1e-4)
    assert loud.regularization == pytest.approx(plain.regularization, rel=1e-4)
    assert loud.residual == pytest.approx(plain.residual * scale**2)


def test_repeated_rows_count_as_samples_do() -> None:
    A, C = noisy(60, 8)
    once, twice = fit(A, C, alpha=0.1), fit(A.repeat(2, 1), C.repeat(2, 1), alpha=0.1)
    torch.testing.assert_close(once.weights, twice.weights)


def test_repeated_features_share_their_weight() -> None:
    A, C = noisy(60, 4, decay=0.5)
    single, double = fit(math.sqrt(2) * A, C), fit(torch.cat([A, A], 1), C)
    torch.testing.assert_close(double.weights[:4], double.weights[4:], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(double.weights[:4] * math.sqrt(2), single.weights, rtol=1e-4, atol=1e-7)
    assert double.effective_dof == pytest.approx(single.effective_dof, rel=1e-4)


def test_noise_alone_is_regularised_more_than_a_signal() -> None:
    A, signal = noisy(60, 8, noise=0.01, decay=0.5)
    noise = random(60, 2, seed=7)
    assert fit(A, noise).effective_dof < 0.5 * fit(A, signal).effective_dof


def test_targets_without_noise_are_met() -> None:
    A, C = noisy(60, 8, noise=0.0)
    torch.testing.assert_close(A @ fit(A, C).weights, C, rtol=1e-6, atol=1e-6)


def test_zero_targets_and_zero_features_give_zero_weights() -> None:
    A, C = noisy(20, 4)
    for found in (fit(A, torch.zeros_like(C)), fit(torch.zeros_like(A), C)):
        assert torch.equal(found.weights, torch.zeros(4, 2, dtype=torch.float64))
        assert all(math.isfinite(value) for value in vars(found).values() if isinstance(value, float))


def test_single_precision_features_of_condition_a_million() -> None:
    left, right = torch.linalg.qr(random(400, 30))[0], torch.linalg.qr(random(30, 30, seed=1))[0]
    A = ((20 * left * torch.logspace(0, -6, 30, dtype=torch.float64)) @ right).float()
    C = random(400, 2, seed=2)
    norms = [
        torch.linalg.norm(A.double() @ weights - C)
        for weights in (fit(A, C, alpha=1e-12).weights, dense(A.double(), C, 1e-12, 400))
    ]
    assert abs(norms[0] / norms[1] - 1) < 1e-4


def test_what_cannot_be_fitted_is_an_error() -> None:
    A, C = noisy(20, 4)
    with pytest.raises(ConfigError, match="regularization=-1: it must be zero or more"):
        fit(A, C, alpha=-1)
    with pytest.raises(NumericalError, match="there are no samples to fit the head to"):
        tikhonov(NormalEquations.zeros(4, 2))
    with pytest.raises(NumericalError, match="not finite"):
        fit(A, C * math.nan)
    with pytest.raises(NumericalError, match="not finite"):
        fit(A * math.inf, C)
