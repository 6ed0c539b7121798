"""One step against a stacked least-squares problem that never forms a Gram matrix."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from surrogate.errors import NumericalError
from surrogate.slimtik import Constant, NormalEquations, Solution, step


def stacked_step(W: Tensor, designs: list[Tensor], C: Tensor, L: float, damping: float, b: int) -> Tensor:
    """W - s with s = argmin |[A_old; A; sqrt(b L) I] s - [0; A W - C; damping sqrt(b / L) W]|, L the new sum."""
    K, A = len(W), designs[-1]
    system = torch.cat([*designs, math.sqrt(b * L) * torch.eye(K, dtype=torch.float64)])
    old = W.new_zeros(sum(map(len, designs[:-1])), W.shape[1])
    rhs = torch.cat([old, A @ W - C, damping * math.sqrt(b / L) * W])
    return W - torch.from_numpy(np.linalg.lstsq(system.numpy(), rhs.numpy(), rcond=None)[0])


def solve(W: Tensor, designs: list[Tensor], C: Tensor, L: float, b: int, **options: object) -> Solution:
    memory = sum(A.mT.double() @ A.double() for A in designs) / b
    return step(W, NormalEquations.of(designs[-1], C, b), memory, L, **options)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 20),
    K=st.integers(1, 8),
    M=st.integers(1, 3),
    depth=st.integers(0, 3),
    L=st.sampled_from([1e-4, 0.05, 1.0, 50.0]),
)
def test_step_is_the_stacked_least_squares_step(seed: int, n: int, K: int, M: int, depth: int, L: float) -> None:
    designs = list(random(depth + 1, n, K, seed=seed))
    W, C = random(K, M, seed=seed + 1), random(n, M, seed=seed + 2)
    found = solve(W, designs, C, L, 2)
    expected = stacked_step(W, designs, C, float(found.running_sum), float(found.damping), 2)
    torch.testing.assert_close(found.weights, expected, rtol=1e-7, atol=1e-8)
    assert float(found.running_sum) == pytest.approx(L + float(found.damping))


def test_weights_that_solve_the_regularised_problem_stay() -> None:
    A, C, L = random(20, 4), random(20, 2, seed=1), 0.3
    W = torch.linalg.solve(A.T @ A / 5 + L * torch.eye(4, dtype=torch.float64), A.T @ C / 5)
    found = solve(W, [A], C, 1e-9, 5, search=Constant(L - 1e-9))
    torch.testing.assert_close(found.weights, W)


@pytest.mark.parametrize("L", [1e-7, 1e-3, 0.05])
def test_single_precision_features_of_condition_a_million(L: float) -> None:
    left, right = torch.linalg.qr(random(400, 30))[0], torch.linalg.qr(random(30, 30, seed=1))[0]
    A = (20 * left * torch.logspace(0, -6, 30, dtype=torch.float64)) @ right
    A, C = A.float(), random(400, 2, seed=2)
    assert torch.linalg.cond(A.double()) == pytest.approx(1e6, rel=0.1)
    W = random(30, 2, seed=3)
    found = solve(W, [A], C, L, 400)
    expected = stacked_step(W, [A.double()], C, float(found.running_sum), float(found.damping), 400)
    norms = [torch.linalg.norm(A.double() @ weights - C) for weights in (found.weights, expected)]
    assert abs(norms[0] / norms[1] - 1) < 1e-4


def test_running_sum_stops_at_its_lower_bound() -> None:
    A, C = random(20, 4), random(20, 2, seed=1)
    found = solve(random(4, 2), [A], C, 0.5, 5, search=Constant(-2.0), lower_bound=1e-3)
    assert float(found.running_sum) == pytest.approx(1e-3)
    assert float(found.damping) == pytest.approx(1e-3 - 0.5)


def test_diagnostics_are_those_of_the_new_weights() -> None:
    A, C = random(20, 4), random(20, 2, seed=1)
    found = solve(random(4, 2), [A], C, 0.5, 5)
    system = A.T @ A / 5 + found.running_sum * torch.eye(4, dtype=torch.float64)
    numbers = found.diagnostics()
    assert list(numbers) == ["damping", "running_sum", "residual", "effective_dof", "condition"]
    assert numbers["residual"] == pytest.approx(float((A @ found.weights - C).square().mean()))
    assert numbers["condition"] == pytest.approx(float(torch.linalg.cond(system)))
    assert numbers["effective_dof"] == pytest.approx(float(torch.trace(A @ torch.linalg.inv(system) @ A.T) / 5))


def test_fewer_samples_than_features_and_equal_targets_are_solved() -> None:
    A, C = random(2, 9), torch.ones(2, 1, dtype=torch.float64)
    W, L = torch.zeros(9, 1, dtype=torch.float64), 0.05
    for _ in range(60):
        found = solve(W, [A], C, L, 2)
        W, L = found.weights, float(found.running_sum)
        assert L >= 1e-7 * (1 - 1e-12)
    torch.testing.assert_close(A @ W, C, rtol=1e-3, atol=0)


def test_singular_system_without_regularisation_is_an_error() -> None:
    A, C = torch.zeros(3, 2, dtype=torch.float64), random(3, 1)
    with pytest.raises(NumericalError, match="the system is singular; raise the lower bound"):
        solve(random(2, 1), [A], C, 0.1, 3, search=Constant(-0.1), lower_bound=0.0)
