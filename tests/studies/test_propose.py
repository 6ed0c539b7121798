"""Choosing simulations: the largest variance of a dense oracle, each given those chosen before."""

import torch

from surrogate.slimtik import NormalEquations, Posterior
from surrogate.studies import greedy_batch


def posterior_of(A: torch.Tensor, C: torch.Tensor) -> Posterior:
    sums = NormalEquations(A.mT @ A, A.mT @ C, (C * C).sum(), rows=len(A), samples=len(A))
    return Posterior.of(sums, (C * C).sum(0))


def problem(seed: int = 0) -> tuple[Posterior, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    A, C = (torch.randn(30, size, generator=generator, dtype=torch.float64) for size in (6, 2))
    return posterior_of(A, C), torch.randn(12, 6, generator=generator, dtype=torch.float64)


def test_the_first_has_the_largest_predictive_variance() -> None:
    posterior, rows = problem()
    variance = (posterior.std(rows) ** 2 - posterior.noise).mean(1)
    chosen = greedy_batch(rows[:, :, None] * rows[:, None, :], posterior, 1)
    assert chosen == [int(variance.argmax())]


def test_each_is_chosen_given_those_before_it() -> None:
    posterior, rows = problem(1)
    chosen = greedy_batch(rows[:, :, None] * rows[:, None, :], posterior, 5)
    for count in range(1, 5):
        scores = torch.zeros(len(rows), dtype=torch.float64)
        for m in range(2):
            precision = torch.linalg.inv(posterior.covariance(m)) / (1 / posterior.noise[m])
            taken = rows[chosen[:count]]
            covariance = torch.linalg.inv(precision + taken.mT @ taken)
            scores += posterior.noise[m] * torch.einsum("ik,kl,il->i", rows, covariance, rows)
        scores[chosen[:count]] = -torch.inf
        assert chosen[count] == int(scores.argmax())


def test_twins_are_not_both_chosen() -> None:
    posterior = posterior_of(torch.eye(6, dtype=torch.float64), torch.ones(6, 2, dtype=torch.float64))
    rows = torch.eye(6, dtype=torch.float64)[[0, 0, 0, 1]] * torch.tensor([[1.2], [1.2], [1.2], [1.0]])
    assert greedy_batch(rows[:, :, None] * rows[:, None, :], posterior, 2) == [0, 3]


def test_no_more_than_there_are_and_none_twice() -> None:
    posterior, rows = problem(3)
    assert sorted(greedy_batch(rows[:, :, None] * rows[:, None, :], posterior, 50)) == list(range(12))
