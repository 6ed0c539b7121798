"""Proximal steps, memory by rows and the warm-up of the head against dense problems."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from surrogate.errors import ConfigError, NumericalError
from surrogate.models.heads import head_of
from surrogate.optim.slimtrain import SlimTrain
from surrogate.slimtik import Memory, NormalEquations, depth_for_rows, proximal_step, step, warmup_speed


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 20),
    K=st.integers(1, 8),
    M=st.integers(1, 3),
    depth=st.integers(0, 3),
    c=st.sampled_from([1e-3, 1.0, 1e3]),
    a=st.sampled_from([0.0, 1e-2, 1.0]),
)
def test_a_step_is_the_stacked_least_squares_step(
    seed: int, n: int, K: int, M: int, depth: int, c: float, a: float
) -> None:
    designs, b = list(random(depth + 1, n, K, seed=seed)), 2
    W, C, A = random(K, M, seed=seed + 1), random(n, M, seed=seed + 2), designs[-1]
    memory = sum(part.mT @ part for part in designs) / b
    solution = proximal_step(W, NormalEquations.of(A, C, b), memory, c, relative_ridge=a)
    size = float(A.square().sum()) / (b * K)
    mu, alpha = c * size + 1e-7, a * size
    assert float(solution.damping) == pytest.approx(mu)
    system = torch.cat([*designs, math.sqrt(b * (mu + alpha)) * torch.eye(K, dtype=torch.float64)])
    rhs = torch.cat([W.new_zeros(n * depth, M), A @ W - C, alpha * math.sqrt(b / (mu + alpha)) * W])
    expected = W - torch.from_numpy(np.linalg.lstsq(system.numpy(), rhs.numpy(), rcond=None)[0])
    torch.testing.assert_close(solution.weights, expected, rtol=1e-7, atol=1e-7)


def test_the_limits_are_the_exact_solution_and_a_gradient_step() -> None:
    A, C, W = random(20, 4), random(20, 2, seed=1), random(4, 2, seed=2)
    batch = NormalEquations.of(A, C, 20)
    exact = proximal_step(W, batch, batch.G, 0.0, lower_bound=1e-14).weights
    torch.testing.assert_close(exact, torch.linalg.lstsq(A, C).solution)
    ridge = proximal_step(W, batch, batch.G, 0.0, relative_ridge=0.5, lower_bound=1e-14).weights
    system = batch.G + 0.5 * batch.G.trace() / 4 * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(ridge, torch.linalg.solve(system, batch.B))
    small = proximal_step(W, batch, batch.G, 1e9)
    torch.testing.assert_close((small.weights - W) * small.damping, batch.B - batch.G @ W, rtol=1e-6, atol=1e-6)


def test_a_head_with_blocks_takes_the_step_of_the_whole_matrix() -> None:
    head = head_of(nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1).double())
    z, y = random(4, 3, 5, 5), random(4, 2, 10, 10, seed=1)
    batch = head.normal_equations(z, y)
    whole = NormalEquations.of(head.design(z).double(), head.rows(y), 4)
    packed = proximal_step(head.matrix(), batch, batch.packed_G, 0.1, blocks=head.blocks)
    torch.testing.assert_close(packed.weights, proximal_step(head.matrix(), whole, whole.G, 0.1).weights)


def test_a_system_that_is_not_finite_is_refused() -> None:
    batch = NormalEquations.of(torch.full((3, 2), torch.nan), torch.zeros(3, 1), 3)
    with pytest.raises(NumericalError, match="raise the relative damping"):
        proximal_step(torch.zeros(2, 1), batch, batch.G, 1.0)


@given(K=st.integers(1, 300), rows=st.integers(1, 500), multiple=st.floats(0.1, 50))
def test_the_depth_is_the_least_that_holds_the_rows(K: int, rows: int, multiple: float) -> None:
    depth = depth_for_rows(K, rows, multiple)
    assert 0 <= depth <= 200
    assert depth == 200 or (depth + 1) * rows >= multiple * K * (1 - 1e-12)
    assert depth == 0 or depth * rows < multiple * K


def test_the_speed_rises_by_equal_factors_to_one() -> None:
    speeds = [warmup_speed(k, 4, 0.0625) for k in range(6)]
    assert speeds == pytest.approx([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 1])
    assert warmup_speed(0, 0) == 1
    with pytest.raises(ConfigError, match="0 < speed"):
        warmup_speed(0, 3, 0.0)


@pytest.mark.parametrize("proximal", [None, 0.1])
def test_the_optimizer_takes_its_share_of_the_pure_step(proximal: float | None) -> None:
    features = nn.Linear(2, 3).double()
    head = head_of(nn.Linear(3, 2).double())
    base = torch.optim.SGD(features.parameters(), lr=0.1)
    optimizer = SlimTrain(base, head, memory_rows=5, proximal=proximal, warmup=2)
    memory, L = Memory(2), 0.05  # 4 features, 8 rows: three batches hold 24 rows, 5 times 4 and more
    for k, speed in enumerate([0.01, 0.1, 1.0, 1.0]):
        z, y, W = random(8, 3, seed=k), random(8, 2, seed=k + 9), head.matrix()
        batch = NormalEquations.of(head.design(z), y, 8)
        memory = memory.pushed(batch.G)
        if proximal is None:
            solution = step(W, batch, memory.total, L)
            expected, L = solution.weights, float(solution.running_sum)
        else:
            expected = proximal_step(W, batch, memory.total, [1e3, 10.0, 0.1, 0.1][k]).weights
        optimizer.solve(z, y)
        share = speed if proximal is None else 1.0
        torch.testing.assert_close(head.matrix(), W + share * (expected - W))
    assert optimizer.memory.depth == 2
    assert set(optimizer.diagnostics) >= {"damping", "running_sum", "residual"}


def test_a_state_brings_the_depth_that_its_first_batch_set() -> None:
    def made() -> SlimTrain:
        base = torch.optim.SGD(nn.Linear(2, 3).parameters(), lr=0.1)
        return SlimTrain(base, head_of(nn.Linear(3, 2)), memory_rows=5)

    first, second = made(), made()
    first.solve(random(8, 3).float(), random(8, 2).float())
    second.load_state_dict(first.state_dict())
    assert second.memory.depth == first.memory.depth == 2
    assert len(second.memory) == 1


@pytest.mark.parametrize("options", [{"proximal": -1.0}, {"memory_rows": 0.0}, {"warmup": -1}, {"ridge": 0.1}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        SlimTrain(torch.optim.SGD(nn.Linear(2, 3).parameters(), lr=0.1), head_of(nn.Linear(3, 2)), **options)
