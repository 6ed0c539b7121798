"""The alpha of least error on groups left out, against dense solutions without each group."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from surrogate.errors import ConfigError, NumericalError
from surrogate.slimtik import NormalEquations, cross_validated, tikhonov

Groups = Sequence[tuple[Tensor, Tensor]]


def fields(seed: int, *, count: int = 6, points: int = 12, K: int = 5, M: int = 2, shared: float = 1.0) -> Groups:
    """Groups of rows whose noise has a part that is smooth over a group, as errors of a field are."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    W, scales = random(K, M), torch.logspace(0, -2, K, dtype=torch.float64)
    groups = []
    for _ in range(count):
        A = random(points, K) * scales + random(1, K) * scales
        groups.append((A, A @ W + 0.1 * random(points, M) + shared * random(1, M)))
    return groups


def dense_error(groups: Groups, samples: Sequence[int], alpha: float) -> float:
    """Sum of squared errors on every group, of the ridge solution of all others."""
    total = 0.0
    for number, (A, C) in enumerate(groups):
        others = [pair for index, pair in enumerate(groups) if index != number]
        rows, targets = (torch.cat(part) for part in zip(*others, strict=True))
        penalty = alpha * (sum(samples) - samples[number]) * torch.eye(A.shape[1], dtype=A.dtype)
        W = torch.linalg.solve(rows.mT @ rows + penalty, rows.mT @ targets)
        total += float((A @ W - C).square().sum())
    return total


def sums(groups: Groups, samples: Sequence[int]) -> list[NormalEquations]:
    return [NormalEquations.of(A, C, count) for (A, C), count in zip(groups, samples, strict=True)]


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 999), count=st.integers(2, 6), shared=st.sampled_from([0.0, 1.0]))
def test_alpha_minimises_the_dense_error_on_groups_left_out(seed: int, count: int, shared: float) -> None:
    groups, samples = fields(seed, count=count, shared=shared), [1 + number % 3 for number in range(count)]
    found = cross_validated(sums(groups, samples))
    grid = np.logspace(-10, 5, 120)
    best = min(dense_error(groups, samples, float(alpha)) for alpha in grid)
    assert dense_error(groups, samples, found.regularization) <= best * (1 + 1e-9)
    whole = [torch.cat(part) for part in zip(*groups, strict=True)]
    expected = tikhonov(NormalEquations.of(*whole, sum(samples)), regularization=found.regularization)
    torch.testing.assert_close(found.weights, expected.weights)


def test_it_takes_more_than_generalised_cross_validation_where_errors_are_smooth_over_a_sample() -> None:
    """GCV takes every equation for an independent one."""
    ratios = []
    for seed in range(8):
        parts = sums(fields(seed, points=60, shared=3.0), [1] * 6)
        whole = parts[0]
        for part in parts[1:]:
            whole = whole + part
        ratios.append(cross_validated(parts).regularization / tikhonov(whole).regularization)
    assert np.median(ratios) > 3


def test_groups_without_samples_count_for_nothing() -> None:
    groups = fields(3)
    parts = sums(groups, [1] * len(groups))
    found = cross_validated([NormalEquations.zeros(5, 2), *parts])
    torch.testing.assert_close(found.weights, cross_validated(parts).weights)


def test_one_group_and_values_that_are_not_finite_are_refused() -> None:
    (A, C), *_ = fields(0)
    with pytest.raises(ConfigError, match="at least two groups of samples, got 1"):
        cross_validated([NormalEquations.of(A, C, 4), NormalEquations.zeros(5, 2)])
    with pytest.raises(NumericalError, match="not finite"):
        cross_validated([NormalEquations.of(A, C, 4), NormalEquations.of(A * torch.nan, C, 4)])
